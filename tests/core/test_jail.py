# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

from typing import Any

import pytest

from banagent.core.address import parse_address, parse_network
from banagent.core.bans import Bans, Standing
from banagent.core.events import SECOND, Ban, Offence
from banagent.core.jail import Jail, Rule
from banagent.core.never import Host, Never
from banagent.core.session import LIFETIME, Sessions


def offence(
    address: str, second: float = 0, pattern: str = "password", session: str | None = None, **more: Any
) -> Offence:
    return Offence(int(second * SECOND), f"p{second}", parse_network(address), "root", "sshd", pattern, session, **more)


def jail(never: Never | None = None, *, maxretry: int = 3, bantime: int | None = 600, sessions: bool = False) -> Jail:
    return Jail("sshd", Rule(60, maxretry, bantime, sessions), never or Never(), Bans())


def bans(of: Jail, *offences: Offence) -> list[Ban]:
    return [ban for item in offences for ban in of.consider(item)]


def test_bans_at_maxretry_by_the_entries_time() -> None:
    (ban,) = bans(jail(), *(offence("192.0.2.1", second) for second in (10, 20, 30)))
    assert (str(ban.address), ban.start, ban.end, ban.failures) == ("192.0.2.1", 30 * SECOND, 630 * SECOND, 3)
    assert ban.position == "p30"
    assert ban.bantime == 600


def test_permanent() -> None:
    (ban,) = bans(jail(bantime=None, maxretry=1), offence("192.0.2.1"))
    assert ban.end is None
    assert ban.bantime is None


def test_not_counted_while_banned_and_counted_again_after() -> None:
    court = jail()
    assert len(bans(court, *(offence("192.0.2.1", s) for s in (1, 2, 3, 4, 5, 602)))) == 1
    assert len(bans(court, *(offence("192.0.2.1", s) for s in (603, 604, 605)))) == 1


def test_a_slow_attacker_is_not_banned() -> None:
    assert not bans(jail(), *(offence("192.0.2.1", second * 31) for second in range(100)))


def test_times_and_weight() -> None:
    assert len(bans(jail(), offence("192.0.2.1", times=3))) == 1
    assert len(bans(jail(), offence("192.0.2.1", weight=3))) == 1


# whom a ban reaches
HOST = Host(
    frozenset({parse_address("203.0.113.9"), parse_address("2001:db8:1::9")}),
    frozenset({parse_network("2001:db8:1::/64"), parse_network("203.0.113.0/24")}),
)


@pytest.mark.parametrize(
    ("address", "subject"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        # IPv6 by its /64
        ("2001:db8:2::5", "2001:db8:2::/64"),
        # on-link: the address alone, for the router lives there too
        ("2001:db8:1::5", "2001:db8:1::5"),
        ("fe80::1234", "fe80::1234"),
        # all of IPv4 may be behind one /64
        ("64:ff9b::192.0.2.1", "64:ff9b::c000:201"),
        ("64:ff9b:1::192.0.2.1", "64:ff9b:1::c000:201"),
        ("2001:0:c000:201::5", "2001:0:c000:201::5"),
        # a /64 in which an ignored address lives
        ("2001:db8:3::5", "2001:db8:3::5"),
        # IPv4 neighbours are only themselves
        ("203.0.113.10", "203.0.113.10"),
        # never: loopback, the host itself, those ignored, no address at all
        ("127.0.0.1", None),
        ("127.8.9.10", None),
        ("::1", None),
        ("203.0.113.9", None),
        ("2001:db8:1::9", None),
        ("198.51.100.77", None),
        ("2001:db8:3::1", None),
        ("0.0.0.0", None),
        ("::", None),
    ],
)
def test_subject(address: str, subject: str | None) -> None:
    never = Never([parse_network("198.51.100.0/24"), parse_address("2001:db8:3::1")], HOST)
    court = jail(never, maxretry=1)
    assert [str(ban.address) for ban in bans(court, offence(address))] == ([] if subject is None else [subject])
    assert court.ignored == (subject is None)


@pytest.mark.parametrize(
    ("network", "subject"),
    [
        # some services tell of whole networks
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("2001:db8:2::/64", "2001:db8:2::/64"),
        ("2001:db8:2::/48", "2001:db8:2::/48"),
        ("2001:db8:2::/96", "2001:db8:2::/64"),
        ("2001:db8:1:0:5::/96", "2001:db8:1:0:5::/96"),  # on-link, where others live
        # never: within one, or around one of those whom it must not reach
        ("198.51.100.128/25", None),
        ("198.51.0.0/16", None),
        ("203.0.113.0/24", None),
        ("127.0.0.0/16", None),
        ("2001:db8:1::/64", None),
        ("2001:db8::/32", None),
        ("2001:db8:3::/64", None),
    ],
)
def test_subject_of_a_network(network: str, subject: str | None) -> None:
    never = Never([parse_network("198.51.100.0/24"), parse_address("2001:db8:3::1")], HOST)
    court = jail(never, maxretry=1)
    assert [str(ban.address) for ban in bans(court, offence(network))] == ([] if subject is None else [subject])
    assert court.ignored == (subject is None)


def test_a_network_is_counted_as_one() -> None:
    court = jail()
    assert not bans(court, offence("192.0.2.0/24"), offence("192.0.2.1", 1), offence("192.0.2.0/24", 2))
    assert [str(ban.address) for ban in bans(court, offence("192.0.2.0/24", 3))] == ["192.0.2.0/24"]


def test_a_failure_without_address_bans_nobody() -> None:
    court = jail(maxretry=1)
    assert bans(court, offence("192.0.2.1", times=3)._replace(address=None)) == []
    assert (court.failures, court.ignored, court.unaddressed) == (0, 0, 3)


def test_one_of_a_64_after_the_other() -> None:
    assert [str(ban.address) for ban in bans(jail(), *(offence(f"2001:db8:2::{n}", n) for n in range(3)))] == [
        "2001:db8:2::/64",
    ]


@pytest.mark.parametrize(
    ("network", "forbidden"),
    [
        ("203.0.113.9", True),
        ("203.0.113.0/24", True),  # would reach the host itself
        ("203.0.113.8", False),
        ("2001:db8:1::/64", True),
        ("2001:db8:2::/64", False),
        ("127.0.0.0/16", True),
        ("0.0.0.0/0", True),
    ],
)
def test_forbids(network: str, *, forbidden: bool) -> None:
    assert Never((), HOST).forbids(parse_network(network)) is forbidden


# several lines about one attempt
def attempts(*lines: tuple[str, bool], step: int = 1) -> int:
    sessions = Sessions()
    return sum(sessions.attempts(b"k", n * step, pattern, 1, once=once) for n, (pattern, once) in enumerate(lines))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("password", 1),
        ("password password password", 3),
        ("invalid password closed", 1),
        ("invalid password password closed", 2),
        ("pam password pam password", 2),
        ("closed", 1),
        ("key! key! key! closed", 1),
        ("key! password password", 2),
    ],
)
def test_attempts_of_a_session(lines: str, expected: int) -> None:
    assert attempts(*((word.rstrip("!"), word.endswith("!")) for word in lines.split())) == expected


def test_a_pid_that_comes_round_again_is_another_session() -> None:
    assert attempts(("closed", False), ("password", False), step=LIFETIME + 1) == 2


def test_sessions_are_per_address_and_session() -> None:
    court = jail(sessions=True)
    assert not bans(court, offence("192.0.2.1", session="1"), offence("192.0.2.1", 1, "closed", session="1"))
    assert not bans(court, offence("192.0.2.1", 2, session="2"))
    assert len(bans(court, offence("192.0.2.1", 3, session="3"))) == 1
    # where the session is not known each line counts
    assert len(bans(court, *(offence("192.0.2.2", second) for second in range(3)))) == 1


def test_saved_sessions_go_on() -> None:
    sessions = Sessions()
    sessions.attempts(b"k", 0, "password", 1, once=False)
    rows = [(key, value) for key, value in sessions.changes() if value is not None]
    later = Sessions()
    later.load(rows)
    assert later.attempts(b"k", 1, "closed", 1, once=False) == 0
    assert later.attempts(b"k", 2, "password", 1, once=False) == 1


def test_ended_bans_are_forgotten_and_no_others() -> None:
    standing = [Standing("a", parse_address("192.0.2.1"), 5), Standing("a", parse_address("192.0.2.2"), None)]
    kept = Bans()
    for item in standing:
        kept.stand(item)
    assert kept.at(4) == standing
    assert kept.counts() == {"a": 2}
    kept.forget_ended(5)
    assert list(kept) == standing  # nobody has said that one ended
    assert kept.expire(standing[0])
    assert not kept.expire(standing[0])
    assert kept.counts() == {"a": 1}
    assert kept.at(5) == standing[1:]
    # an entry of its time is still judged by it
    assert kept.is_banned("a", standing[0].address, 4)
    assert not kept.is_banned("a", standing[0].address, 5)
    kept.forget_ended(5)
    assert list(kept) == standing[1:]
