# SPDX-License-Identifier: LGPL-2.1-or-later
"""A jail that hits those whom the service is for stops; one that is attacked does not, however hard."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.core.address import Network, parse_address
from banagent.core.bans import Bans
from banagent.core.breaker import FLOOD, LOCKED_OUT, Breaker, Limits, Trip
from banagent.core.events import SECOND, Ban, Offence
from banagent.core.guard import Guarding
from banagent.core.jail import Jail, Rule
from banagent.core.never import Never

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = Limits(bans=100, users=5)
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
PROXY = parse_address("198.51.100.9")


def again(breaker: Breaker) -> Breaker:
    """Give what a later run has."""
    heir = Breaker(breaker.limits)
    heir.load(breaker.items())
    return heir


def test_more_bans_in_a_minute_than_ever() -> None:
    breaker = Breaker(LIMITS)
    assert all(breaker.allows(HOUR + n) for n in range(100))
    assert not breaker.allows(HOUR + 100)
    assert breaker.tripped == Trip(FLOOD, HOUR + 100, 101)
    # also in the next hour, and in the next run
    assert not breaker.allows(3 * HOUR)
    later = again(breaker)
    assert not later.allows(4 * HOUR)
    assert later.resume() == 3
    assert later.tripped is None
    assert later.withheld == 0
    assert later.allows(4 * HOUR)


def test_what_was_said_to_be_right_does_not_trip_it_again() -> None:
    breaker = Breaker(LIMITS)
    for number in range(200):
        breaker.allows(HOUR + number)
    breaker.resume()
    assert all(breaker.allows(2 * HOUR + n) for n in range(1900))
    assert not all(breaker.allows(2 * HOUR + n) for n in range(200))


def test_what_was_said_to_be_right_is_remembered_from_then_on() -> None:
    breaker = Breaker(LIMITS)
    now = 500_000 * HOUR
    for user in "abcdef":
        breaker.allows(now, [user])
    assert breaker.resume() == 2
    for hour in range(3):
        assert all(breaker.allows(now + hour * HOUR + n, [user]) for n, user in enumerate("abcdefghi"))


def test_what_is_usual_does_not_trip_it() -> None:
    breaker = Breaker(LIMITS)
    for hour in range(10):
        assert all(breaker.allows(hour * HOUR + n) for n in range(50))
    assert all(breaker.allows(10 * HOUR + n) for n in range(450))
    assert not all(breaker.allows(10 * HOUR + n) for n in range(60))


def test_what_was_usual_fades() -> None:
    breaker = Breaker(LIMITS)
    assert all(breaker.allows(HOUR + n) for n in range(100))
    assert all(breaker.allows(2 * HOUR) for _ in range(1))
    year = 365 * 24 * HOUR
    assert all(breaker.allows(year + n) for n in range(100))
    assert not breaker.allows(year + 100)


HITS: list[tuple[list[list[str]], bool]] = [
    # a proxy's address, from which all come
    ([["a", "b", "c", "d", "e"]], True),
    # several who are hit one by one
    ([["a"], ["b"], ["c"], ["d"], ["e"]], True),
    # one or few users, from however many addresses: anybody who has an account can do that
    ([["a"]] * 100, False),
    ([["a", "b", "c", "d"]] * 100, False),
    # among an attack
    ([[], [], [], [], [], [], ["a"], ["b"], ["c"], ["d"], ["e"]], False),
    ([[], [], [], [], ["a"], ["b"], ["c"], ["d"], ["e"]], True),
    ([[]] * 99, False),
]


@pytest.mark.parametrize(("bans", "tripped"), HITS)
def test_bans_of_those_who_logged_in(bans: list[list[str]], *, tripped: bool) -> None:
    breaker = Breaker(LIMITS)
    for number, users in enumerate(bans):
        breaker.allows(number, users)
    assert (breaker.tripped is not None) == tripped
    if tripped:
        assert breaker.tripped is not None
        assert breaker.tripped.cause == LOCKED_OUT
        # none of those any more; strangers as before
        assert not breaker.allows(HOUR, ["zoe"])
        assert breaker.allows(HOUR)


def test_not_in_different_hours() -> None:
    breaker = Breaker(LIMITS)
    for hour, user in enumerate("abcdefghijklm"):
        assert breaker.allows(hour * HOUR, [user])


def test_a_service_where_that_is_usual() -> None:
    """Phones with old passwords behind the same address as those who log in."""
    breaker = Breaker(LIMITS)
    chance = random.Random(1)
    for hour in range(48):
        for ban in range(60):
            is_hit = chance.random() < 0.3
            assert breaker.allows(hour * HOUR + ban * MINUTE, [f"u{chance.randrange(500)}"] if is_hit else [])
    # a quiet night in which most bans are of that kind
    assert all(breaker.allows(49 * HOUR + n, [f"u{n}"]) for n in range(20))


def test_off() -> None:
    breaker = Breaker(Limits())
    assert all(breaker.allows(0, ["a", "b", "c", "d", "e", "f"]) for _ in range(10_000))
    assert list(breaker.changes()) == []


@pytest.mark.parametrize("step", [-2 * HOUR, -MINUTE * 5, 1000 * HOUR])
def test_the_clock_is_set(step: int) -> None:
    breaker = Breaker(LIMITS)
    time = 10**6 * HOUR
    assert all(breaker.allows(time + n) for n in range(100))
    assert all(breaker.allows(time + step + n) for n in range(100))
    assert not all(breaker.allows(time + step + n) for n in range(1000))


@given(
    st.lists(st.tuples(st.integers(-120, 4000), st.sets(st.sampled_from("abcdefgh"), max_size=3)), max_size=100),
    st.sets(st.integers(0, 100)),
)
def test_a_restart_changes_nothing(moves: list[tuple[int, set[str]]], restarts: set[int]) -> None:
    one, other = Breaker(Limits(5, 3)), Breaker(Limits(5, 3))
    time = 10**6
    for number, (gap, users) in enumerate(moves):
        time += gap
        assert one.allows(time * SECOND, users) == other.allows(time * SECOND, users)
        if number in restarts:
            other = again(other)
        assert [*one.items()] == [*other.items()]


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"tripped": 5}', b'{"tripped": null, "x": 1}'])
def test_a_damaged_row_is_left_out(value: bytes) -> None:
    breaker = Breaker(LIMITS)
    breaker.load([(b"state", value), (b"other", b"{}")])
    assert breaker.allows(0)


# --- in a jail ---

SSHD = Rule(3600, 5, 3600, guard=Guarding(), networks=20, breaker=Limits(bans=0, users=5))
WEB = Rule(600, 10, 3600, breaker=Limits(bans=5000, users=5))


def offence(address: Network, time: int, user: str = "root", *, success: bool = False) -> Offence:
    return Offence(time, f"p{time}", address, user, "sshd", "failed", times=0 if success else 1, success=success)


def botnet(addresses: int, minutes: int, tries: float, seed: int = 1) -> Iterator[Offence]:
    """Give failures of so many addresses from all over the world, each with so many tries a minute."""
    chance = random.Random(seed)
    bots = [Network(chance.randbytes(4), 32) for _ in range(addresses)]
    span = minutes * MINUTE
    for time in sorted(chance.randrange(span) for _ in range(int(addresses * minutes * tries))):
        yield offence(chance.choice(bots), 10**6 * HOUR + time, chance.choice(["root", "admin", "test"]))


def banned(jail: Jail, offences: Iterator[Offence]) -> list[Ban]:
    return [ban for item in offences for ban in jail.consider(item)]


@pytest.mark.parametrize(
    ("rule", "addresses", "minutes", "tries"),
    [
        # each tries once a minute: most are banned within the same few minutes
        (SSHD, 5_000, 15, 1),
        (WEB, 5_000, 20, 1),
        # all at once
        (SSHD, 10_000, 1, 8),
        (WEB._replace(maxretry=1), 5_000, 2, 1),
    ],
)
def test_a_botnet_does_not_open_the_host(rule: Rule, addresses: int, minutes: int, tries: float) -> None:
    jail = Jail("sshd", rule, Never(), Bans())
    bans = banned(jail, botnet(addresses, minutes, tries))
    by_minute = [sum(ban.start // MINUTE == minute for ban in bans) for minute in {ban.start // MINUTE for ban in bans}]
    print(f"{addresses} addresses: {len(bans)} bans, at most {max(by_minute)} in a minute")
    assert jail.breaker.tripped is None
    assert len(bans) > addresses * 0.5


def test_a_proxys_own_address_is_not_banned() -> None:
    """All users come from it, and so do the attackers; who comes from elsewhere is banned nevertheless."""
    jail = Jail("sshd", SSHD, Never(), Bans())
    for number in range(6):
        assert banned(jail, iter([offence(PROXY, number * MINUTE, f"user{number}", success=True)])) == []
    assert banned(jail, (offence(PROXY, 10 * MINUTE + n, "admin") for n in range(50))) == []
    trip = jail.breaker.tripped
    assert trip is not None
    assert jail.notices == [trip]
    assert (trip.cause, trip.number) == (LOCKED_OUT, 6)
    assert jail.breaker.withheld == 10
    assert jail.failures == 50  # it goes on counting
    stranger = parse_address("192.0.2.1")
    assert [str(ban.address) for ban in banned(jail, (offence(stranger, HOUR + n) for n in range(5)))] == ["192.0.2.1"]
    # the admin says that it is as it should be
    jail.breaker.resume()
    assert [ban.address for ban in banned(jail, (offence(PROXY, 2 * HOUR + n) for n in range(5)))] == [PROXY]


def test_who_has_an_account_cannot_trip_it() -> None:
    """He logs in from as many networks as he likes, and fails from all of them."""
    jail = Jail("sshd", SSHD, Never(), Bans())
    for number in range(200):
        address = Network(bytes((10, number, 0, 1)), 32)
        jail.consider(offence(address, number * SECOND, "mallory", success=True))
        assert len(banned(jail, (offence(address, number * SECOND + n + 1) for n in range(5)))) == 1
    assert jail.breaker.tripped is None


def test_a_filter_that_takes_all_for_failures() -> None:
    jail = Jail("web", WEB._replace(maxretry=1), Never(), Bans())
    bans = banned(jail, botnet(40_000, 2, 0.5))
    assert jail.breaker.tripped is not None
    assert jail.breaker.tripped.cause == FLOOD
    assert len(bans) == WEB.breaker.bans
    assert jail.breaker.withheld > 20_000
