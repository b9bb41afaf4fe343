# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is held against an address: its earlier bans, in the history and on their way to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.core.address import parse_network
from banagent.core.duration import DAY, HOUR
from banagent.core.events import SECOND, Ban
from banagent.core.record import Record
from banagent.sinks.history import History, Lifted

if TYPE_CHECKING:
    from collections.abc import Iterator

A, B, NET = map(parse_network, ("192.0.2.1", "192.0.2.2", "2001:db8::/64"))


@pytest.fixture
def history() -> Iterator[History]:
    made = History(None)
    yield made
    made.close()


def ban(
    start: float, jail: str = "sshd", bantime: float | None = HOUR, *, credible: bool = True, failures: int = 5
) -> Ban:
    begin = int(start * SECOND)
    return Ban(
        jail=jail,
        address=A,
        position=f"p{start}",
        start=begin,
        end=None if bantime is None else begin + int(bantime * SECOND),
        failures=failures,
        user=None,
        filter=jail,
        pattern="failed",
        credible=credible,
    )


def earlier(record: Record, time: float, forget: int | None = 30 * DAY, *, overall: bool = False) -> int:
    return record.earlier(A, "sshd", int(time * SECOND), forget, overall=overall)


def test_bans_count_for_what_comes_after_them(history: History) -> None:
    history.commit(bans=[ban(10), ban(20 * HOUR)])
    record = Record(history)
    assert [earlier(record, time) for time in (5, 10, 11, 20 * HOUR, 21 * HOUR)] == [0, 0, 1, 1, 2]
    assert record.earlier(B, "sshd", DAY * SECOND, None) == 0


def test_on_their_way_and_in_the_history_they_count_once(history: History) -> None:
    record = Record(history)
    for item in (ban(10), ban(20 * HOUR)):
        record.add(item)
    assert earlier(record, 21 * HOUR) == 2
    history.commit(bans=[ban(10)])  # by somebody who does not tell the record
    assert earlier(record, 21 * HOUR) == 2
    history.commit(bans=[ban(20 * HOUR)])
    record.saved()
    assert earlier(record, 21 * HOUR) == 2


def test_a_later_run_finds_the_same(history: History) -> None:
    record = Record(history)
    record.add(ban(10))
    history.commit(bans=[ban(10)])
    later = Record(history)
    assert earlier(later, DAY) == earlier(record, DAY) == 1
    assert later.chance("sshd", A, "p") == record.chance("sshd", A, "p")


@pytest.mark.parametrize(
    ("jail", "credible", "own", "all_jails"),
    [("sshd", True, 1, 1), ("sshd", False, 1, 1), ("web", True, 0, 1), ("web", False, 0, 0)],
)
def test_of_other_jails_only_credible_bans_count(
    history: History, jail: str, own: int, all_jails: int, *, credible: bool
) -> None:
    history.commit(bans=[ban(10, jail, credible=credible)])
    record = Record(history)
    assert (earlier(record, DAY), earlier(record, DAY, overall=True)) == (own, all_jails)


@pytest.mark.parametrize(("reason", "counts"), [("expired", 1), ("off", 1), ("admin", 0), ("ignored", 0)])
def test_what_an_admin_lifted_counts_no_more(history: History, reason: str, counts: int) -> None:
    record = Record(history)
    record.add(ban(10))
    assert earlier(record, DAY) == 1
    history.commit(bans=[ban(10)], lifted=[Lifted("sshd", A, 20 * SECOND, reason)])
    assert earlier(record, DAY) == counts  # though it is still thought to be on its way


def test_bans_by_hand_count_for_nothing(history: History) -> None:
    history.commit(bans=[ban(10, failures=0)])
    assert earlier(Record(history), DAY) == 0


def test_a_clean_record(history: History) -> None:
    # an hour each; one of them ends at 2 h
    history.commit(bans=[ban(0), ban(HOUR), ban(2 * HOUR + 1 * DAY), ban(2 * HOUR + 3 * DAY)])
    record = Record(history)
    times = [2 * HOUR + DAY, 3 * HOUR + 2 * DAY, 4 * DAY, 3 * HOUR + 4 * DAY, 3 * HOUR + 4 * DAY + 1]
    # the third is within a day of the end of the second; the fourth comes later than that
    assert [earlier(record, time, DAY) for time in times] == [2, 3, 1, 1, 0]
    assert [earlier(record, time, None) for time in times] == [2, 3, 4, 4, 4]


def test_a_permanent_ban_that_was_lifted_counts_from_its_end(history: History) -> None:
    history.commit(bans=[ban(0, bantime=None)])
    assert earlier(Record(history), 900 * DAY, DAY) == 1
    history.commit(lifted=[Lifted("sshd", A, 10 * DAY * SECOND, "off")])
    assert earlier(Record(history), 11 * DAY, DAY) == 1
    assert earlier(Record(history), 11 * DAY + 1, DAY) == 0


def test_recidive_counts_since_its_own_last_ban(history: History) -> None:
    history.commit(bans=[ban(1), ban(2, "web"), ban(3, "mail", credible=False), ban(4, "recidive"), ban(5, "web")])
    record = Record(history)
    counts = [record.by_others(A, "recidive", second * SECOND, 100) for second in (0, 1, 2, 3, 4, 5)]
    assert counts == [0, 1, 2, 2, 2, 1]
    assert record.by_others(A, "recidive", 105 * SECOND, 100) == 0  # just out
    assert record.by_others(A, "other", 101 * SECOND, 100) == 3
    assert record.total_by_others("recidive", 101 * SECOND, 100) == 2


def test_chance_is_even_reproducible_and_secret(history: History) -> None:
    record = Record(history)
    chances = [record.chance("sshd", A, f"p{number}") for number in range(2000)]
    assert all(0 <= chance < 1 for chance in chances)
    assert 0.45 < sum(chances) / len(chances) < 0.55
    assert len(set(chances)) == len(chances)
    assert record.chance("sshd", A, "p1") != record.chance("sshd", B, "p1") != record.chance("web", B, "p1")
    stranger = History(None)
    assert Record(stranger).chance("sshd", A, "p1") != record.chance("sshd", A, "p1")
    stranger.close()


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=12, unique_by=lambda item: item[0]),
    st.integers(0, 100),
    st.integers(1, 40),
)
def test_agrees_with_a_plain_model(bans: list[tuple[int, int]], time: int, forget: int) -> None:
    """Going through time second by second: the record is wiped when nothing was for long enough."""
    count, over = 0, -1
    for second in range(time + 1):
        if second > over + forget:
            count = 0
        if second == time:
            break
        for begin, length in bans:
            if begin == second:
                count, over = count + 1, max(over, begin + length) if count else begin + length
    kept = History(None)
    kept.commit(bans=[ban(begin, bantime=length) for begin, length in bans])
    assert earlier(Record(kept), time, forget) == count
    kept.close()
