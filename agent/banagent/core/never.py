# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whom a ban must never reach, and what a ban of somebody else may cover."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.core.address import Network, parse_network

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOOPBACK: Final = (parse_network("127.0.0.0/8"), parse_network("::1"))
UNSPECIFIED: Final = (parse_network("0.0.0.0"), parse_network("::"))  # what a log says when it knows no address  # noqa: S104 - not bound to
LINK_LOCAL: Final = parse_network("fe80::/10")
# in a /64 of these all of the IPv4 internet may be: translated (RFC 6052, RFC 8215), and Teredo (RFC 4380)
TRANSLATED: Final = tuple(map(parse_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2001::/32")))
REMEMBERED: Final = 1024  # addresses that offended last, with who is banned for them


class Host(NamedTuple):
    """What is known of the host itself."""

    addresses: frozenset[Network] = frozenset()  # its own, those of its bridges among them
    on_link: frozenset[Network] = frozenset()  # the networks on its links
    gateways: frozenset[Network] = frozenset()  # the next hops of its routes, and the neighbours that are routers
    bridged: frozenset[Network] = frozenset()  # those on_link of its bridges, where containers and guests live


class Allowed(NamedTuple):
    """Somebody whom an admin has excepted from all bans; times in µs since the epoch."""

    address: Network
    start: int
    end: int | None  # of entries from then on it is over; None: never
    comment: str | None


class Cover:
    """Networks, as many as there may be, in which one is found at once."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self.networks = frozenset(networks)
        by_prefix: tuple[dict[int, set[int]], dict[int, set[int]]] = ({}, {})
        starts: tuple[list[int], list[int]] = ([], [])
        for net in self.networks:
            start = int.from_bytes(net.packed, "big")
            shift = len(net.packed) * 8 - net.prefix
            by_prefix[net.version == 6].setdefault(shift, set()).add(start >> shift)
            starts[net.version == 6].append(start)
        self._by_prefix = [list(of.items()) for of in by_prefix]  # (bits to shift away, the values that are left)
        self._starts = [sorted(of) for of in starts]

    def __contains__(self, network: Network) -> bool:
        """Whether an address, or the whole of a network, lies within one of them."""
        packed, prefix = network
        value = int.from_bytes(packed, "big")
        host_bits = len(packed) * 8 - prefix
        for shift, values in self._by_prefix[len(packed) == 16]:
            if shift >= host_bits and value >> shift in values:
                return True
        return False

    def touches(self, network: Network) -> bool:
        """Whether a network has an address in common with one of them: then one lies within the other."""
        if network in self:
            return True
        packed, prefix = network
        starts = self._starts[len(packed) == 16]
        first = int.from_bytes(packed, "big")
        index = bisect_left(starts, first)
        return index < len(starts) and starts[index] < first + (1 << (len(packed) * 8 - prefix))

    def touched(self, network: Network) -> Network:
        """Give one of them that `network` touches."""
        return next(net for net in self.networks if net.covers(network) or network.covers(net))


class Never:
    """The networks that no ban may cover, and those that a ban may only name one address of.

    `ignore` and `lists` are the admin's, the latter shared among the jails that have them. `allowed` counts for an
    entry by the entry's own time.
    """

    def __init__(
        self,
        ignore: Iterable[Network] = (),
        host: Host = Host(),  # noqa: B008 - frozen
        *,
        lists: Sequence[Cover] = (),
        allowed: Iterable[Allowed] = (),
    ) -> None:
        self._ignore = tuple(ignore)
        self._host = host
        self._always = Cover((*self._ignore, *LOOPBACK, *UNSPECIFIED, *host.addresses, *host.gateways))
        self._lists = tuple(lists)
        self._covers = (self._always, *self._lists)
        self._ends = {item.address: item.end for item in allowed}
        self._allowed = Cover(self._ends) if self._ends else None
        self._bridged = Cover(host.bridged) if host.bridged else None
        self._culprits: dict[Network, Network | None] = {}
        self._shared = tuple({LINK_LOCAL, *TRANSLATED, *(net for net in host.on_link if net.version == 6)})

    def __contains__(self, address: Network) -> bool:
        """Whether `address`, or the whole of a network, lies within one of them, whoever is allowed."""
        for cover in self._covers:  # noqa: SIM110 - hot
            if address in cover:
                return True
        return False

    def forbids(self, network: Network, time: int = 0) -> bool:
        """Whether a ban of `network` by an entry of `time` would reach one of them."""
        return (self._allowed is not None and self._is_allowed(network, time)) or self._forbids_always(network)

    def _forbids_always(self, network: Network) -> bool:
        if network.prefix == len(network.packed) * 8:
            return network in self
        if self._bridged is not None and self._bridged.touches(network):
            return True
        return any(cover.touches(network) for cover in self._covers)

    def reason(self, network: Network, time: int = 0) -> str | None:
        """Say why a ban of `network` is forbidden, as in `192.0.2.254 is a gateway of this host`; None: it is not."""
        if not self.forbids(network, time):
            return None
        named = (
            (self._ignore, "is in ignoreip"),
            (LOOPBACK, "is loopback"),
            (UNSPECIFIED, "is the address of nobody"),
            (self._host.addresses, "is an address of this host"),
            (self._host.gateways, "is a gateway of this host"),
            (self._allowed_at(time), "is allowed"),
        )
        for networks, words in named:
            for net in networks:
                if net.covers(network) or network.covers(net):
                    return f"{net} {words}"
        for cover in self._lists:
            if cover.touches(network):
                return f"{cover.touched(network)} is in a file of ignoreip"
        bridged = Cover(self._host.bridged).touched(network)
        return f"{bridged} is on a bridge of this host, where only single addresses are banned"

    def culprit(self, address: Network, time: int) -> Network | None:
        """Give the `subject` if `address` offends at `time`; None: a ban of the address is forbidden."""
        if self._allowed is not None and self._is_allowed(address, time):
            return None
        try:
            return self._culprits[address]  # an attacker comes again
        except KeyError:
            if len(self._culprits) >= REMEMBERED:
                self._culprits.clear()
            found = self._culprits[address] = None if self._forbids_always(address) else self.subject(address)
            return found

    def subject(self, address: Network) -> Network:
        """Give what is counted and banned when `address` offends: IPv4 itself, IPv6 its /64.

        Of IPv6 it is the address alone where the /64 is on a link of this host, where the neighbours and the router
        live, where it is shared by those who come from IPv4, and where it covers somebody who must never be banned.
        """
        if len(address.packed) == 4 or address.prefix <= 64:  # some services tell of whole networks
            return address
        prefix = address.widen(64)
        if self.forbids(prefix) or any(net.covers(address) or prefix.covers(net) for net in self._shared):
            return address
        return prefix

    def _is_allowed(self, network: Network, time: int) -> bool:
        assert self._allowed is not None
        return self._allowed.touches(network) and any(
            net.covers(network) or network.covers(net) for net in self._allowed_at(time)
        )

    def _allowed_at(self, time: int) -> list[Network]:
        return [net for net, end in self._ends.items() if end is None or time < end]
