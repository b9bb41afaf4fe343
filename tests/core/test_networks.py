# SPDX-License-Identifier: LGPL-2.1-or-later
"""Attacks by many addresses: the network is banned of which enough of them failed, and nobody who must never be."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from banagent.core.address import Network, parse_address, parse_network
from banagent.core.bans import Bans
from banagent.core.events import SECOND, Ban, Offence
from banagent.core.guard import Guarding
from banagent.core.jail import Jail, Rule
from banagent.core.networks import PATTERN, TARGETS, TOLD_AT, Alone, Attack, Crowd, Networks, Targets, around
from banagent.core.never import Host, Never

LIMIT = 20


def failure(address: str, second: float = 0, user: str | None = None, **more: Any) -> Offence:
    time = int(second * SECOND)
    return Offence(time, f"p{time}", parse_network(address), user, "sshd", "failed", **more)


def court(never: Never | None = None, *, limit: int = LIMIT) -> Jail:
    return Jail("sshd", Rule(3600, 5, 600, networks=limit, credible=True), never or Never(), Bans())


def bans(jail: Jail, *offences: Offence) -> list[Ban]:
    return [ban for item in offences for ban in jail.consider(item)]


@pytest.mark.parametrize(
    ("subject", "networks"),
    [
        ("192.0.2.77", ["192.0.2.0/24"]),
        ("2001:db8:1:2345::/64", ["2001:db8:1:2300::/56", "2001:db8:1::/48"]),
        # told by a service, or the neighbour on a link
        ("192.0.2.0/25", []),
        ("2001:db8::1", []),
        ("2001:db8::/48", []),
    ],
)
def test_around(subject: str, networks: list[str]) -> None:
    assert [str(net) for net in around(parse_network(subject))] == networks


@pytest.mark.parametrize(
    ("addresses", "banned"),
    [
        # each address once
        ([f"192.0.2.{n}" for n in range(1, 41)], ["192.0.2.0/24"]),
        ([f"2001:db8:1:23{n:02x}::5" for n in range(40)], ["2001:db8:1:2300::/56"]),
        # a /64 of each /56
        ([f"2001:db8:1:{n:x}00::5" for n in range(40)], ["2001:db8:1::/48"]),
        # not enough of any
        ([f"192.0.2.{n}" for n in range(LIMIT - 1)], []),
        ([f"192.0.{n}.1" for n in range(40)], []),
        ([f"2001:db8:{n:x}::5" for n in range(40)], []),
        # few of them often: it is they who are banned
        ([f"192.0.2.{n % 3}" for n in range(15)], ["192.0.2.0", "192.0.2.1", "192.0.2.2"]),
        # one /64 is one
        ([f"2001:db8::{n:x}" for n in range(4)], []),
    ],
)
def test_who_is_banned(addresses: list[str], banned: list[str]) -> None:
    jail = court()
    decided = bans(jail, *(failure(address, n, "root") for n, address in enumerate(addresses)))
    assert [str(ban.address) for ban in decided] == banned
    for ban in decided:
        if not ban.address.is_host:
            assert (ban.failures, ban.pattern, ban.user, ban.start) == (LIMIT, PATTERN, "root", 19 * SECOND)
            assert not ban.credible


def test_those_of_a_banned_network_are_not_counted() -> None:
    jail = court()
    bans(jail, *(failure(f"192.0.2.{n}", n) for n in range(LIMIT)))
    counted = jail.failures
    assert bans(jail, *(failure("192.0.2.200", 30) for _ in range(10))) == []
    assert jail.failures == counted
    # and when it is over, as many are needed again
    assert bans(jail, *(failure(f"192.0.2.{n}", 700 + n) for n in range(LIMIT - 1))) == []
    assert [str(ban.address) for ban in bans(jail, failure("192.0.2.99", 730))] == ["192.0.2.0/24"]


def test_only_those_within_findtime() -> None:
    jail = court()
    assert bans(jail, *(failure(f"192.0.2.{n}", n * 200) for n in range(200))) == []


def test_off() -> None:
    assert bans(court(limit=0), *(failure(f"192.0.2.{n}") for n in range(256))) == []


FORBIDDEN = [
    (Never([parse_address("192.0.2.200")]), "192.0.2.200 is in ignoreip"),
    (Never([parse_network("192.0.0.0/16")]), None),  # nobody of it is counted
    (Never((), Host(frozenset({parse_address("192.0.2.200")}))), "192.0.2.200 is an address of this host"),
    (Never((), Host(gateways=frozenset({parse_address("192.0.2.254")}))), "192.0.2.254 is a gateway of this host"),
]


@pytest.mark.parametrize(("never", "reason"), FORBIDDEN)
def test_around_somebody_who_must_never_be_banned_each_is_banned_by_itself(never: Never, reason: str | None) -> None:
    jail = court(never)
    addresses = [f"192.0.2.{n}" for n in range(1, 41)]
    decided = bans(jail, *(failure(address, n) for n, address in enumerate(addresses)))
    assert [str(ban.address) for ban in decided] == ([] if reason is None else addresses)
    network = parse_network("192.0.2.0/24")
    assert jail.notices == ([] if reason is None else [Alone(network, reason, are_banned=True)])  # told once


def test_from_where_somebody_logged_in_nobody_is_banned_for_neighbours() -> None:
    rule = Rule(3600, 5, 600, networks=LIMIT, guard=Guarding(grace=3600))
    jail = Jail("sshd", rule, Never(), Bans())
    jail.consider(failure("192.0.2.77", 0, "dave", times=0, success=True))
    addresses = [f"192.0.2.{n}" for n in range(1, 41)]
    assert bans(jail, *(failure(address, n) for n, address in enumerate(addresses))) == []
    assert jail.notices == [Alone(parse_network("192.0.2.0/24"), "dave logged in from it", are_banned=False)]
    # but for what one does itself
    assert [str(ban.address) for ban in bans(jail, *(failure("192.0.2.1", 50 + n) for n in range(5)))] == ["192.0.2.1"]
    # and after the grace it is a network like any
    decided = bans(jail, *(failure(address, 4000 + n) for n, address in enumerate(addresses)))
    assert [str(ban.address) for ban in decided] == ["192.0.2.0/24"]


steps = st.lists(
    st.tuples(
        st.sampled_from(["192.0.2.", "192.0.3.", "2001:db8:0:", "2001:db8:0:1"]),
        st.integers(0, 9),
        st.integers(-60, 300),
    ),
    max_size=60,
)


def address_of(network: str, number: int) -> Network:
    return parse_network(f"{network}{number}" if "." in network else f"{network}{number:02x}::/64")


@given(steps, st.sets(st.integers(0, 60)))
@example([("192.0.2.", which, 0) for which in (1, 2, 3, 1, 4, 2)], {2})  # all at one time
def test_counts_as_a_model_that_keeps_everything(moves: list[tuple[str, int, int]], restarts: set[int]) -> None:
    networks = Networks(600, 4)
    last: dict[Network, dict[Network, int]] = {}
    now = 10_000
    for number, (prefix, which, gap) in enumerate(moves):
        now += gap
        subject = address_of(prefix, which)
        expected, member = None, subject
        for network in around(subject):
            seen = {other: at for other, at in last.get(network, {}).items() if abs(now - at) < 600}
            is_new = len(seen) < 4
            seen[member] = max(seen.pop(member, now), now)
            # of each the last four are enough to tell
            newest = sorted(seen.items(), key=lambda item: item[1])[-4:]
            last[network] = dict(newest)
            if len(newest) == 4:
                expected = Crowd(network, tuple(last[network]), is_new)
            member = network
        assert networks.add(subject, now * SECOND) == expected
        for network, members in last.items():
            assert networks.count(network, now * SECOND) == sum(at > now - 600 for at in members.values())
        if number in restarts:
            rows = [*networks.memory.items()]
            networks = Networks(600, 4)
            networks.memory.load(rows)


@given(st.lists(st.tuples(st.integers(0, 255), st.sampled_from([200, 201, 202]), st.booleans()), max_size=120))
def test_no_ban_reaches_whom_it_must_not(moves: list[tuple[int, int, bool]]) -> None:
    ignored = [parse_address("192.0.2.200"), parse_network("2001:db8:0:ff01::/64")]
    never = Never(ignored, Host(frozenset({parse_address("192.0.201.1")})))
    jail = Jail("sshd", Rule(3600, 3, 600, networks=4), never, Bans())
    for number, (last, third, is_6) in enumerate(moves):
        address = f"2001:db8:0:{third % 2 + 0xFE:x}{last:02x}::1" if is_6 else f"192.0.{third}.{last}"
        for ban in jail.consider(failure(address, number)):
            assert not never.forbids(ban.address)
            assert not any(ban.address.covers(net) for net in ignored)


# --- attacks at one user ---


def bots(count: int, seed: int = 1) -> list[Network]:
    chance = random.Random(seed)
    return [Network(chance.randbytes(4), 32) for _ in range(count)]


def test_it_is_told_each_time_that_they_have_doubled() -> None:
    targets = Targets(3600)
    told = [attack for n, bot in enumerate(bots(3000)) if (attack := targets.add("root", bot, n * SECOND))]
    assert [attack.user for attack in told] == ["root"] * len(told)
    assert told[0].addresses == TOLD_AT
    assert len(told) == 6
    assert all(later.addresses >= 2 * one.addresses for one, later in pairwise(told))
    # those of one network
    targets = Targets(3600)
    told = [attack for n in range(256) if (attack := targets.add("root", Network(bytes((192, 0, 2, n)), 32), n))]
    assert {attack.networks for attack in told} == {1}


@pytest.mark.parametrize(("count", "error"), [(50, 0.05), (412, 0.05), (3000, 0.05), (20_000, 0.1)])
def test_they_are_estimated_well(count: int, error: float) -> None:
    for seed in range(5):
        targets = Targets(10**6)
        seen = 0
        for number, bot in enumerate(bots(count, seed), 1):
            if attack := targets.add("root", bot, number):
                assert attack.addresses == pytest.approx(number, rel=error, abs=2)
                seen += 1
        assert seen


def test_an_attack_that_is_over_is_forgotten() -> None:
    targets = Targets(600)
    assert [targets.add("root", bot, n * 30 * SECOND) for n, bot in enumerate(bots(1000))] == [None] * 1000


def test_names_without_end_do_not_hide_an_attack() -> None:
    targets = Targets(3600)
    told: list[Attack] = []
    for number, bot in enumerate(bots(20_000)):
        targets.add(f"user{number}", bot, number * SECOND // 100)
        if number % 50 == 0 and (attack := targets.add("root", bot, number * SECOND // 100)):
            told.append(attack)
        assert len(targets) <= TARGETS
    assert [attack.user for attack in told] == ["root"] * len(told)
    assert len(told) == 3  # of 400 addresses


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 400)), max_size=300), st.sets(st.integers(0, 300)))
def test_a_restart_changes_nothing(moves: list[tuple[int, int]], restarts: set[int]) -> None:
    one, other = Targets(3600), Targets(3600)
    kept: dict[bytes, bytes] = {}
    for number, (user, bot) in enumerate(moves):
        subject = Network(bot.to_bytes(4, "big"), 32)
        assert one.add(f"u{user}", subject, number) == other.add(f"u{user}", subject, number)
        if number in restarts:
            for key, value in other.changes():
                kept.pop(key, None)
                if value is not None:
                    kept[key] = value
            other.saved()
            other = Targets(3600)
            other.load(kept.items())
            assert sorted(other.items()) == sorted(one.items())


def test_what_was_never_saved_need_not_be_removed() -> None:
    targets = Targets(3600)
    for number, bot in enumerate(bots(10_000)):
        targets.add(f"user{number}", bot, number)
    changes = [*targets.changes()]
    assert len(changes) <= TARGETS
    assert all(value is not None for _, value in changes)
    targets.saved()
    for number, bot in enumerate(bots(1000)):
        targets.add(f"other{number}", bot, 20_000 + number)
    gone = [key for key, value in targets.changes() if value is None]
    assert len(gone) == len(changes)


def test_damaged_rows_are_left_out() -> None:
    networks = Networks(600, 4)
    networks.memory.load([(b"k", b""), (b"l", b"12345678"), (b"m", b"\x01" + bytes(8))])
    assert [key for key, _ in networks.memory.items()] == [b"m"]
    targets = Targets(600)
    targets.load([(b"root", b"x")])
    assert len(targets) == 0
