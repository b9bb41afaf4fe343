# SPDX-License-Identifier: LGPL-2.1-or-later
"""No ban ever covers somebody who must never be banned, whatever offends and whatever an admin bans by hand."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banagent.core.address import Network, parse_network
from banagent.core.allowed import AllowList
from banagent.core.bans import Bans
from banagent.core.events import SECOND, Offence
from banagent.core.jail import Jail, Rule
from banagent.core.never import LOOPBACK, Allowed, Cover, Host, Never


# few bits, so that they meet: hosts, /64, /24 and what is around and between them
def _v4(low: int, prefix: int) -> Network:
    return parse_network(f"192.0.{low >> 8}.{low & 255}/{prefix}")


def _v6(subnet: int, low: int, prefix: int) -> Network:
    return parse_network(f"2001:db8:0:{subnet:x}::{low:x}/{prefix}")


_V4 = st.builds(_v4, st.integers(0, 0x1FF), st.sampled_from((*[32] * 12, 24, 24, 28, 22, 16, 0)))
_V6 = st.builds(_v6, st.integers(0, 2), st.integers(0, 3), st.sampled_from((*[128] * 12, 64, 64, 120, 56, 48, 0)))
_NETWORKS = st.one_of(_V4, _V6)
_HOSTS = _NETWORKS.filter(lambda net: net.is_host)
_SOME = st.frozensets(_HOSTS, max_size=4)
_LINKS = st.frozensets(_NETWORKS.filter(lambda net: not net.is_host and net.prefix), max_size=1)


@st.composite
def _hosts(draw: Any) -> Host:
    bridged = draw(_LINKS)
    return Host(draw(_SOME), draw(_LINKS) | bridged, draw(_SOME), bridged)


def overlap(one: Network, other: Network) -> bool:
    a, b = ip_network(str(one)), ip_network(str(other))
    if isinstance(a, IPv4Network):
        return isinstance(b, IPv4Network) and a.overlaps(b)
    return isinstance(b, IPv6Network) and a.overlaps(b)


@settings(max_examples=300)
@given(
    host=_hosts(),
    ignore=st.lists(_NETWORKS, max_size=2),
    listed=st.lists(_NETWORKS, max_size=2),
    allow=st.lists(st.tuples(_NETWORKS, st.one_of(st.none(), st.integers(1, 9))), max_size=3),
    offenders=st.lists(st.tuples(st.integers(0, 10), _NETWORKS), max_size=8),
    by_hand=st.lists(_NETWORKS, max_size=4),
)
def test_no_ban_covers_them(  # noqa: PLR0917 - what hypothesis gives
    host: Host,
    ignore: list[Network],
    listed: list[Network],
    allow: list[tuple[Network, int | None]],
    offenders: list[tuple[int, Network]],
    by_hand: list[Network],
) -> None:
    allowed = [Allowed(net, 0, None if end is None else end * SECOND, None) for net, end in allow]
    allowed = list({item.address: item for item in allowed}.values())
    never = Never(ignore, host, lists=[Cover(listed)], allowed=allowed)
    jail = Jail("jail", Rule(60, 1, None), never, Bans())
    always = {*ignore, *listed, *host.addresses, *host.gateways, *LOOPBACK}
    for second, offender in offenders:
        time = second * SECOND
        safe = always | {item.address for item in allowed if item.end is None or time < item.end}
        for ban in jail.consider(Offence(time, "p", offender, None, "f", "x")):
            assert [net for net in safe if overlap(net, ban.address)] == []
            if not ban.address.is_host:
                assert [net for net in host.bridged if overlap(net, ban.address)] == []
        # and nobody else gets off: the offender alone can be banned
        if offender.is_host:
            assert never.forbids(offender, time) == any(overlap(net, offender) for net in safe)
        assert (never.reason(offender, time) is None) == (not never.forbids(offender, time))
    for network in by_hand:
        assert never.forbids(network, 10 * SECOND) == (
            any(overlap(net, network) for net in always | {item.address for item in allowed if item.end is None})
            or (not network.is_host and any(overlap(net, network) for net in host.bridged))
        )


@given(st.lists(_NETWORKS, max_size=6), _NETWORKS)
def test_a_cover_is_as_the_naive_look(networks: list[Network], network: Network) -> None:
    cover = Cover(networks)
    assert (network in cover) == any(net.covers(network) for net in networks)
    assert cover.touches(network) == any(overlap(net, network) for net in networks)
    if cover.touches(network):
        assert overlap(cover.touched(network), network)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("192.0.2.254", "192.0.2.254 is a gateway of this host"),
        ("192.0.2.0/24", "192.0.2.254 is a gateway of this host"),
        ("192.0.2.11", None),
        ("192.0.3.0/24", None),
        ("203.0.113.9", "203.0.113.9 is an address of this host"),
        ("198.51.100.7", "198.51.100.0/24 is in ignoreip"),
        ("10.1.2.3", "10.1.0.0/16 is in a file of ignoreip"),
        ("172.18.0.9", None),
        ("172.18.0.8/30", "172.18.0.0/16 is on a bridge of this host, where only single addresses are banned"),
        ("10.9.9.9", "10.9.9.9 is allowed"),
        ("fe80::1", "fe80::1 is a gateway of this host"),
        ("127.1.1.1", "127.0.0.0/8 is loopback"),
        ("::", ":: is the address of nobody"),
    ],
)
def test_reasons(network: str, reason: str | None) -> None:
    def some(*texts: str) -> frozenset[Network]:
        return frozenset(map(parse_network, texts))

    host = Host(
        some("203.0.113.9"), some("172.18.0.0/16"), some("192.0.2.254", "fe80::1"), bridged=some("172.18.0.0/16")
    )
    lists = [Cover(some("10.1.0.0/16"))]
    allowed = [Allowed(parse_network("10.9.9.9"), 0, None, None)]
    never = Never(some("198.51.100.0/24"), host, lists=lists, allowed=allowed)
    assert never.reason(parse_network(network)) == reason


def test_who_was_allowed_is_so_for_the_entries_of_that_time() -> None:
    net = parse_network("192.0.2.1")
    known = AllowList()
    known.allow(Allowed(net, 0, 5 * SECOND, None))
    known.allow(Allowed(parse_network("192.0.2.2"), 0, None, "for ever"))
    assert known.next_end() == 5 * SECOND
    assert [item.address for item in known.expire(5 * SECOND)] == [net]
    assert known.expire(6 * SECOND) == []
    assert (len(known), known.next_end()) == (1, None)
    never = Never(allowed=known)
    assert never.forbids(net, 5 * SECOND - 1)
    assert not never.forbids(net, 5 * SECOND)
    assert known.disallow(net) is None
    # kept over a restart, and forgotten in the end
    again = AllowList([(item, item.address == net) for item in known])
    assert again.expire(9 * SECOND) == []
    assert again.forget_ended(5 * SECOND) == [net]
    assert [item.comment for item in again] == ["for ever"]


def test_who_is_allowed_keeps_the_time_that_is_left_when_the_clock_is_set() -> None:
    one, other, over = map(parse_network, ("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    known = AllowList([(Allowed(over, 1, 5, None), True)])
    known.allow(Allowed(one, 100, 160, "x"))
    known.allow(Allowed(other, 100, None, None))
    assert known.shift(1000) == [Allowed(one, 1100, 1160, "x"), Allowed(other, 1100, None, None)]
    assert known.next_end() == 1160
    assert known.rein(1100) == []
    assert known.rein(50) == [Allowed(one, 50, 110, "x"), Allowed(other, 50, None, None)]
    assert [item.address for item in known.expire(110)] == [one]
    assert known.row(over) == (Allowed(over, 1, 5, None), True)
