# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a jail remembers where there is too much of it: who goes, and that a restart does not change that."""

from __future__ import annotations

from struct import pack, unpack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.core.address import Network
from banagent.core.aging import SOON
from banagent.core.bans import Bans
from banagent.core.events import SECOND, Offence
from banagent.core.jail import Jail, Rule
from banagent.core.memory import KEPT, ROOM, Memory, Series
from banagent.core.networks import LIMIT, Networks
from banagent.core.never import Never
from banagent.core.window import Window, key_of

if TYPE_CHECKING:
    import random

LONG = 10**6  # seconds: nothing is ever over
CAP = 32


def address(number: int) -> Network:
    return Network(number.to_bytes(4, "big"), 32)


def key(number: int) -> bytes:
    return key_of(address(number))


def attack(window: Window, begin: int, count: int, time: int) -> None:
    """Let `count` addresses fail once each, a µs apart."""
    for number in range(count):
        window.add(key(begin + number), time + number)


@pytest.mark.parametrize("count", [3 * CAP, 40 * CAP])
def test_a_flood_of_addresses_pushes_out_nobody_who_is_about_to_be_banned(count: int) -> None:
    window = Window(LONG, 5, CAP)
    for who in (1, 2, 3, 4):
        window.add(key(who), 0, 4)
    attack(window, 1000, count, 60 * SECOND)
    assert CAP - CAP // ROOM <= len(window) <= CAP
    assert window.crowded
    assert [window.add(key(who), 120 * SECOND) for who in (1, 2, 3, 4)] == [5, 5, 5, 5]


def test_of_those_who_failed_as_often_the_stalest_go() -> None:
    window = Window(LONG, 5, CAP)
    attack(window, 0, CAP, 1000)
    had_room = not window.crowded
    # read late: he who came last failed first
    attack(window, 1000, 1, 0)
    assert (had_room, window.crowded) == (True, True)
    gone = CAP // ROOM + 1
    assert {key for key, _ in window.items()} == {key(number) for number in range(gone - 1, CAP)}


def test_many_who_failed_twice_leave_room_for_others() -> None:
    window = Window(LONG, 5, CAP)
    others = 0
    for failures in range(6):
        for _ in range(CAP // 2 if failures else 3 * CAP):
            others += 1
            window.add(key(1000 + others), others, 2)
        assert failures == 0 or window.add(key(1), others) == failures


rows = st.dictionaries(
    st.integers(0, 10_000),
    st.tuples(st.integers(1, 5), st.integers(0, 30)),
    min_size=CAP,
    max_size=CAP,
)


def least(given_rows: dict[int, tuple[int, int]], count: int) -> set[int]:
    """Give who has to go: the fewest failures, then the earliest, then the least key; but a 32nd of each kind stays."""
    gone: list[int] = []
    for kept in (CAP // KEPT, 0):
        for failures in range(1, 6):
            kind = sorted(number for number, row in given_rows.items() if row[0] == failures and number not in gone)
            kind.sort(key=lambda number: given_rows[number][1])
            gone += kind[: max(min(len(kind) - kept, count - len(gone)), 0)]
    return set(gone)


@given(rows, st.randoms(use_true_random=False))
def test_who_goes_follows_from_what_is_remembered(
    given_rows: dict[int, tuple[int, int]], chance: random.Random
) -> None:
    """The model sorts all; the order in which they came, or were loaded, makes no difference."""
    newest = (20_000, (1, 50))
    expected = dict([*given_rows.items(), newest]).keys() - least(dict([*given_rows.items(), newest]), CAP // ROOM + 1)
    order = list(given_rows.items())
    chance.shuffle(order)
    added, loaded = Window(LONG, 5, CAP), Window(LONG, 5, CAP)
    for number, (failures, time) in order:
        added.add(key(number), time, failures)
    loaded.load([(key(number), pack("<q", time) * failures) for number, (failures, time) in order])
    for window in (added, loaded):
        window.add(key(newest[0]), newest[1][1])
        assert {key for key, _ in window.items()} == {key(number) for number in expected}


moves = st.lists(st.tuples(st.integers(0, 40), st.integers(-3, 5), st.integers(1, 2)), min_size=40, max_size=200)


@given(moves, st.sets(st.integers(0, 200), max_size=20))
def test_a_restart_at_any_entry_changes_nothing(steps: list[tuple[int, int, int]], restarts: set[int]) -> None:
    one, other = Window(LONG, 5, 16), Window(LONG, 5, 16)
    kept: dict[bytes, bytes] = {}
    now = 100
    for number, (who, gap, count) in enumerate(steps):
        now += gap
        assert one.add(key(who), now, count) == other.add(key(who), now, count)
        for changed, value in other.changes():
            kept.pop(changed, None)
            if value is not None:
                kept[changed] = value
        other.saved()
        if number in restarts:
            other = Window(LONG, 5, 16)
            other.load(sorted(kept.items()))
        assert dict(one.items()) == dict(other.items()) == kept


def test_a_flood_of_networks_pushes_out_none_that_is_about_to_be_banned() -> None:
    networks = Networks(LONG, 20)
    for number in range(19):
        assert networks.add(Network(bytes((192, 0, 2, number)), 32), number) is None
    for number in range(LIMIT + LIMIT // ROOM):
        networks.add(address(number << 8), 60 * SECOND + number)
    assert len(networks.memory) <= LIMIT
    crowd = networks.add(Network(bytes((192, 0, 2, 200)), 32), 120 * SECOND)
    assert crowd is not None
    assert len(crowd.members) == 20


def test_rows_without_items_go_by_their_time() -> None:
    memory = Memory(16, LONG * SECOND, int)
    for number in range(17):
        memory.put(b"%d" % number, b"%d" % (100 - number), 100 - number)
    assert {key for key, _ in memory.items()} == {b"%d" % number for number in range(15)}


def test_what_is_over_goes_before_anything_else() -> None:
    window = Window(100, 5, 2 * SOON)
    for number in range(SOON):
        window.add(key(number), 0, 4)
    for number in range(SOON + SOON // 2):
        window.add(key(1000 + number), 1000 * SECOND + number)
    assert not window.crowded
    assert all(unpack("<q", value)[0] > 0 for _, value in window.items())


def test_looks_are_rare_where_as_many_are_over_as_come() -> None:
    window = Window(CAP, 5, CAP)
    count, looks = 100 * CAP, 0
    for number in range(count):
        before = len(window)
        window.add(key(number), number * SECOND)
        looks += len(window) <= before
    assert looks <= count / (CAP // ROOM) + count / SOON


def test_items_are_kept_as_they_were_saved() -> None:
    series = Series(CAP, LONG * SECOND, 9)
    for items in (b"\xff" * 9, b"\0" * 9, b"\x07" + pack("<q", -5), b"\x07" + pack("<q", 10**16), bytes(range(27))):
        series.put(b"k", series.value(items), 0)
        assert dict(series.items()) == {b"k": items}
        other = Series(CAP, LONG * SECOND, 9)
        other.load(series.items())
        assert dict(other.items()) == {b"k": items}


def test_a_jail_bans_him_who_had_four_failures_before_the_flood() -> None:
    jail = Jail("sshd", Rule(3600, 5, 600, networks=20), Never(), Bans())
    jail.window = Window(3600, 5, 500)

    def fail(who: Network, time: int) -> list[str]:
        return [str(ban.address) for ban in jail.consider(Offence(time, f"p{time}", who, None, "sshd", "failed"))]

    assert [fail(address(1), second * SECOND) for second in range(4)] == [[]] * 4
    for number in range(5000):
        assert fail(address((number + 1) << 8), 60 * SECOND + number) == []
    assert fail(address(1), 120 * SECOND) == ["0.0.0.1"]
