# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who logged in lately may mistype more often, as himself; and nobody gains anything else by it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.core.address import parse_network
from banagent.core.bans import Bans
from banagent.core.events import SECOND, Ban, Offence
from banagent.core.guard import USERS, Guarding, Logins, Spared, named
from banagent.core.jail import Jail, Rule
from banagent.core.never import Never

HOME = "192.0.2.1"
GUARDING = Guarding(frozenset({"root", "carol"}), 3600, 4)
MAXRETRY = 5


def failure(user: str | None = "root", second: float = 0, address: str = HOME, **more: Any) -> Offence:
    time = int(second * SECOND)
    return Offence(time, f"p{time}", parse_network(address), user, "sshd", "failed", **more)


def login(user: str = "root", second: float = 0, address: str = HOME) -> Offence:
    return failure(user, second, address, times=0, success=True)


def court(guard: Guarding = GUARDING, maxretry: int = MAXRETRY) -> Jail:
    return Jail("sshd", Rule(600, maxretry, 600, guard=guard), Never(), Bans())


def banned_at(jail: Jail, *offences: Offence) -> int | None:
    """Give how many of the offences it takes to be banned."""
    return next((number for number, item in enumerate(offences, 1) if jail.consider(item)), None)


@pytest.mark.parametrize(
    ("logins", "users", "expected"),
    [
        # a stranger
        ([], ["root"] * 30, MAXRETRY),
        # who logged in, as himself
        ([login()], ["root"] * 30, 4 * MAXRETRY),
        # as somebody else, chosen or not, or as nobody
        ([login()], ["carol"] * 30, MAXRETRY),
        ([login()], ["admin"] * 30, MAXRETRY),
        ([login()], [None] * 30, MAXRETRY),
        ([login("carol")], ["root"] * 30, MAXRETRY),
        # nobody chose him
        ([login("dave")], ["dave"] * 30, MAXRETRY),
        # both logged in from there: they share it
        ([login(), login("carol")], ["root", "carol"] * 15, 4 * MAXRETRY),
        # as himself, and then as others: each of his own counts for a quarter
        ([login()], ["root"] * 8 + ["admin"] * 30, 8 + 3),
        ([login()], ["admin"] * 4 + ["root"] * 30, 4 + 4),
        # from elsewhere, long ago, or at a time to come when the clock was wrong
        ([login(address="192.0.2.2")], ["root"] * 30, MAXRETRY),
        ([login(second=-3601)], ["root"] * 30, MAXRETRY),
        ([login(second=3700)], ["root"] * 30, MAXRETRY),
        ([login(second=-3500)], ["root"] * 30, 4 * MAXRETRY),
    ],
)
def test_how_many_failures_it_takes(logins: list[Offence], users: list[str | None], expected: int) -> None:
    jail = court()
    for item in logins:
        assert jail.consider(item) == []
    assert banned_at(jail, *(failure(user, number) for number, user in enumerate(users))) == expected


def test_a_login_is_of_one_jail() -> None:
    jail, other = court(), court()
    jail.consider(login())
    assert banned_at(other, *(failure(second=n) for n in range(30))) == MAXRETRY


def test_it_is_told_once_when_it_mattered() -> None:
    jail = court()
    jail.consider(login())
    for number in range(MAXRETRY - 1):
        jail.consider(failure(second=number))
    assert jail.notices == []
    for number in range(MAXRETRY, 4 * MAXRETRY - 1):
        assert jail.consider(failure(second=number)) == []
    assert jail.notices == [Spared(parse_network(HOME), "root", MAXRETRY)]


def test_failures_are_forgotten_after_findtime_and_after_a_ban() -> None:
    jail = court()
    jail.consider(login())
    for number in range(50):  # one a minute: ten within findtime
        assert jail.consider(failure(second=number * 60)) == []
    jail.consider(login(second=3600))
    assert banned_at(jail, *(failure(second=4200 + n) for n in range(30))) == 4 * MAXRETRY
    assert jail.counted(parse_network(HOME), 4300 * SECOND) == 0
    jail.consider(failure(second=8000))
    assert jail.counted(parse_network(HOME), 8000 * SECOND) == jail.total(8000 * SECOND) == 1
    jail.forget(parse_network(HOME))
    assert jail.total(8000 * SECOND) == 0


def test_of_ipv6_the_64_is_guarded() -> None:
    jail = court()
    jail.consider(login(address="2001:db8::1"))
    assert banned_at(jail, *(failure(second=n, address=f"2001:db8::{n:x}") for n in range(30))) == 4 * MAXRETRY


def test_nobody_is_guarded_where_nobody_is_chosen() -> None:
    jail = court(Guarding(frozenset()))
    jail.consider(login())
    assert banned_at(jail, *(failure(second=n) for n in range(30))) == MAXRETRY


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["root", "carol", "admin"]),
            st.sampled_from(["192.0.2.1", "192.0.2.2"]),
            st.booleans(),
            st.integers(0, 900),
        ),
        max_size=80,
    ),
    st.sets(st.integers(0, 80)),
)
def test_it_decides_as_the_rule_says_and_also_after_a_restart(
    steps: list[tuple[str, str, bool, int]], restarts: set[int]
) -> None:
    """The model keeps all failures and logins, and adds up quarters."""
    maxretry, bans, now = 3, list[Ban](), 0
    kept = Bans()
    jail = Jail("sshd", Rule(600, maxretry, 600, guard=GUARDING), Never(), kept)
    logins: dict[tuple[str, str], int] = {}
    failures: dict[str, list[tuple[int, bool]]] = {}
    until: dict[str, int] = {}
    for number, (user, address, is_login, gap) in enumerate(steps):
        now += gap
        decided = jail.consider((login if is_login else failure)(user, now, address))
        expected = False
        if is_login:
            logins[address, user] = now
        elif now >= until.get(address, 0):
            last = logins.get((address, user))
            is_guarded = user in GUARDING.users and last is not None and now - last < GUARDING.grace
            mine = [item for item in failures.get(address, []) if item[0] > now - 600] + [(now, is_guarded)]
            guarded_now = any(
                who in GUARDING.users and where == address and now - at < GUARDING.grace
                for (where, who), at in logins.items()
            )
            # those of a guard that is over count no more
            counted = [quarter for _, quarter in mine if not quarter or guarded_now]
            expected = sum(1 if quarter else 4 for quarter in counted) >= 4 * maxretry
            failures[address] = [] if expected else mine
            if expected:
                until[address] = now + 600
        assert [str(ban.address) for ban in decided] == ([address] if expected else [])
        bans += decided
        if number in restarts:
            heir = Jail("sshd", jail.rule, Never(), kept)
            memory = {kind: [*item.items()] for kind, item in jail.memory.items()}
            heir.load(jail.window.items(), jail.sessions.items(), jail.links.items(), memory)
            jail = heir


def test_the_stalest_logins_go_first() -> None:
    logins = Logins(3600, limit=100)
    for number in range(200):
        logins.note(b"%d" % number, "root", number * SECOND)
        logins.note(b"kept", "root", number * SECOND)
    assert len(logins) <= 100
    assert logins.users(b"kept", 200 * SECOND) == {"root"}
    assert logins.users(b"199", 200 * SECOND) == {"root"}
    assert logins.users(b"0", 200 * SECOND) == set()


def test_of_an_address_the_last_users_are_known() -> None:
    logins = Logins(3600)
    for number in range(2 * USERS):
        logins.note(b"office", f"user{number}", number * SECOND)
    assert logins.users(b"office", 100 * SECOND) == {f"user{n}" for n in range(USERS, 2 * USERS)}


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"root": "x"}', b'{"root": true}', b"\xff", b"1"])
def test_damaged_rows_are_left_out(value: bytes) -> None:
    logins = Logins(3600)
    logins.memory.load([(b"a", value), (b"b", b'{"root": 5}')])
    assert list(logins.memory.items()) == [(b"b", b'{"root": 5}')]


def test_names_in_a_sentence() -> None:
    assert named(["b"]) == "b"
    assert named({"c", "a", "b"}) == "a, b and c"
