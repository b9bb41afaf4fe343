# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from banagent.core.address import parse_address, parse_network
from banagent.core.aging import SOON
from banagent.core.events import SECOND
from banagent.core.window import Window, key_of

A, B = key_of(parse_address("192.0.2.1")), key_of(parse_address("2001:db8::1"))


def test_key_tells_network_from_host() -> None:
    assert key_of(parse_network("2001:db8::/64")) != key_of(parse_address("2001:db8::"))


def test_counts_within_findtime() -> None:
    window = Window(findtime=10, maxretry=3)
    assert [window.add(A, second * SECOND) for second in (0, 5, 9)] == [1, 2, 3]
    # the one at 0 is exactly findtime old at 10: out
    assert window.add(A, 10 * SECOND) == 3
    assert window.add(B, 10 * SECOND) == 1


def test_a_late_entry_counts_in_its_place() -> None:
    window = Window(findtime=10, maxretry=5)
    assert [window.add(A, second * SECOND) for second in (20, 19, 5)] == [1, 2, 1]
    assert window.add(A, 21 * SECOND) == 3


def test_many_at_once() -> None:
    window = Window(findtime=10, maxretry=3)
    assert window.add(A, 0, 1000) == 1000
    assert window.add(A, 1, 1) == 4  # no more than maxretry are remembered


def test_what_comes_late_counts_with_those_around_it_only() -> None:
    window = Window(findtime=10, maxretry=9)
    for second in (0, 30, 31, 32):
        window.add(A, second * SECOND)
    assert window.add(A, 5 * SECOND) == 1
    assert window.add(A, 28 * SECOND) == 4
    assert window.add(A, 22 * SECOND, 2) == 5  # with 28, 30 and 31


def test_stale_addresses_go() -> None:
    window = Window(findtime=10, maxretry=3)
    for number in range(1000):
        window.add(key_of(parse_address(f"192.0.{number // 250}.{number % 250}")), number * SECOND)
    assert len(window) <= 11 + SOON  # as many as come in between two looks


@given(
    st.integers(1, 20),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 5), st.integers(1, 3)), max_size=60),
)
def test_agrees_with_a_plain_model(findtime: int, maxretry: int, steps: list[tuple[bytes, int, int]]) -> None:
    """Up to maxretry the count is that of a list of all failures; a saved and loaded window goes on the same."""
    window, now = Window(findtime, maxretry), 0
    model: dict[bytes, list[int]] = {A: [], B: []}
    saved: dict[bytes, bytes] = {}
    for key, later, count in steps:
        now += later * SECOND
        model[key] += [now] * count
        expected = sum(time > now - findtime * SECOND for time in model[key])
        counted = window.add(key, now, count)
        assert min(counted, maxretry) == min(expected, maxretry)
        for changed, value in window.changes():
            if value is None:
                saved.pop(changed, None)
            else:
                saved[changed] = value
        window.saved()
        window = Window(findtime, maxretry)
        window.load(saved.items())


@given(
    st.integers(1, 20),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from([A, B]), st.integers(-25, 25), st.integers(1, 3)), max_size=60),
    st.sets(st.integers(0, 60)),
)
def test_counts_as_a_plain_list_of_times(
    findtime: int, maxretry: int, steps: list[tuple[bytes, int, int]], restarts: set[int]
) -> None:
    """Also of entries that are late, whatever was remembered before."""
    window, now = Window(findtime, maxretry), 1000
    model: dict[bytes, list[int]] = {}
    for number, (key, gap, count) in enumerate(steps):
        now += gap
        times = [time for time in model.get(key, []) if time > now - findtime]
        is_late = bool(times) and now < times[-1]
        expected = len(times) + count
        times = sorted([*times, *[now] * min(count, maxretry)])
        if is_late:
            spans = [range(first, first + findtime) for first in times if now in range(first, first + findtime)]
            expected = max(sum(time in span for time in times) for span in spans)
        model[key] = times[-maxretry:]
        assert window.add(key, now * SECOND, count) == expected
        assert window.count(key, now * SECOND) == sum(time > now - findtime for time in model[key])
        assert window.total(now * SECOND) == sum(time > now - findtime for times in model.values() for time in times)
        if number in restarts:
            window, former = Window(findtime, maxretry), window
            window.load(former.items())


def test_load_leaves_out_rubbish() -> None:
    window = Window(10, 3)
    window.load([(b"", b""), (A, b"123"), (A + b"x", bytes(8)), (B, bytes(8))])
    assert dict(window.items()) == {B: bytes(8)}


def test_after_the_clock_was_set_back_failures_count() -> None:
    window = Window(findtime=10, maxretry=3)
    window.add(A, 10_000 * SECOND)  # of a time to come
    window.add(B, 10_000 * SECOND)
    assert window.add(A, 1 * SECOND) <= 2
    assert window.add(A, 2 * SECOND) + window.add(A, 3 * SECOND) >= 3 + 2
    # and they don't keep others from being forgotten
    for number in range(100):
        window.add(key_of(parse_address(f"192.0.2.{100 + number}")), (100 + number) * SECOND)
    assert len(window) <= 11 + SOON  # as many as come in between two looks
