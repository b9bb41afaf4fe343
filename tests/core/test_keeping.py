# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from banagent.core.duration import DAY
from banagent.core.events import SECOND
from banagent.core.keeping import LATE, Keeping, Purge, Row, believed

NOW = 1_800_000_000 * SECOND


def row(number: int, days_over: float | None, *, counts: bool = False) -> Row:
    over = None if days_over is None else NOW - int(days_over * DAY) * SECOND
    return Row(number, NOW - 1000 * DAY * SECOND + number, over, counts)


def kept(keeping: Keeping, rows: list[Row], forget: int | None = 30 * DAY) -> list[int]:
    purge = Purge(keeping, NOW, len(rows), forget)
    left = [item for item in rows if not purge.takes(item)]
    if purge.again():
        left = [item for item in left if not purge.takes(item)]
    assert not purge.again()
    return [item.id for item in left]


def test_by_age() -> None:
    rows = [row(1, 400), row(2, 400, counts=True), row(3, 20), row(4, None), row(5, -1), row(6, 0.5)]
    assert kept(Keeping(365 * DAY, 100), rows) == [3, 4, 5, 6]
    assert kept(Keeping(10 * DAY, 100), rows) == [4, 5, 6]
    assert kept(Keeping(None, 100), rows) == [1, 2, 3, 4, 5, 6]


def test_what_counts_is_kept() -> None:
    rows = [row(1, 20, counts=True), row(2, 40, counts=True), row(3, 20)]
    assert kept(Keeping(10 * DAY, 100), rows) == [1]
    assert kept(Keeping(10 * DAY, 100), rows, None) == [1, 2]


def test_by_number_the_oldest_go_first() -> None:
    rows = [row(number, 10, counts=number % 2 == 0) for number in range(10)]
    assert kept(Keeping(None, 7), rows) == [0, 2, 4, 6, 7, 8, 9]
    # of what counts twice as many stay
    assert kept(Keeping(None, 4), rows) == [0, 2, 4, 6, 8]
    assert kept(Keeping(None, 1), [row(1, None), row(2, None), row(3, 0.1), row(4, 10)]) == [1, 2, 3]


def test_a_clock_that_is_far_ahead_is_believed_a_day_at_a_look() -> None:
    assert believed(NOW, None) == NOW
    assert believed(NOW, NOW - 1) == NOW
    assert believed(NOW, NOW + 400 * LATE) == NOW  # it was wrong before
    assert believed(NOW + 400 * LATE, NOW) == NOW + LATE


def test_it_ends_where_nothing_is_to_be_taken() -> None:
    purge = Purge(Keeping(365 * DAY, 100), NOW, 5, 0)
    assert not purge.is_done(Row(1, NOW - 400 * DAY * SECOND, None, counts=False))
    assert purge.is_done(Row(2, NOW - 300 * DAY * SECOND, None, counts=False))
    assert not Purge(Keeping(None, 4), NOW, 5, 0).is_done(Row(2, NOW, None, counts=False))


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(-5, 500)), st.booleans()), max_size=60),
    st.integers(1, 40),
    st.one_of(st.none(), st.integers(1, 400)),
    st.one_of(st.none(), st.integers(0, 400)),
)
def test_what_stands_stays_and_the_number_is_bounded(
    bans: list[tuple[int | None, bool]], most: int, keep: int | None, forget: int | None
) -> None:
    rows = [row(number, over, counts=counts) for number, (over, counts) in enumerate(bans)]
    left = kept(Keeping(None if keep is None else keep * DAY, most), rows, None if forget is None else forget * DAY)
    fixed = [item for item in rows if item.over is None or item.over > NOW - LATE]
    assert {item.id for item in fixed} <= set(left)
    assert len(left) <= max(2 * most, len(fixed) + 2 * most)
    if len(rows) <= most and keep is None:
        assert len(left) == len(rows)
