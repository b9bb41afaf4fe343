# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whom a ban must never reach, and what a ban of somebody else may cover."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.core.address import Network, parse_network

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOPBACK: Final = (parse_network("127.0.0.0/8"), parse_network("::1"))
UNSPECIFIED: Final = (parse_network("0.0.0.0"), parse_network("::"))  # what a log says when it knows no address  # noqa: S104 - not bound to
LINK_LOCAL: Final = parse_network("fe80::/10")
# in a /64 of these all of the IPv4 internet may be: translated (RFC 6052, RFC 8215), and Teredo (RFC 4380)
TRANSLATED: Final = tuple(map(parse_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2001::/32")))


class Host(NamedTuple):
    """What is known of the host itself: its own addresses, and the IPv6 networks that are on its links."""

    addresses: frozenset[Network] = frozenset()
    on_link: frozenset[Network] = frozenset()


class Never:
    """The networks that no ban may cover: those ignored, loopback and the host's own addresses."""

    def __init__(self, ignore: Iterable[Network] = (), host: Host = Host()) -> None:  # noqa: B008 - frozen
        never = {*ignore, *LOOPBACK, *UNSPECIFIED, *host.addresses}
        self._networks = never
        self._by_prefix = _by_prefix(never)
        # a ban of /64 would cover these although the offender is not one of them
        self._held_64 = {net.widen(64).packed for net in never if net.version == 6 and net.prefix >= 64}
        self._shared = tuple({LINK_LOCAL, *TRANSLATED, *(net for net in host.on_link if net.version == 6)})

    def __contains__(self, address: Network) -> bool:
        """Whether `address`, or the whole of a network, lies within one of them."""
        packed, prefix = address
        value = int.from_bytes(packed, "big")
        host_bits = len(packed) * 8 - prefix
        for shift, values in self._by_prefix[len(packed) == 16]:
            if shift >= host_bits and value >> shift in values:
                return True
        return False

    def forbids(self, network: Network) -> bool:
        """Whether a ban of `network` would reach one of them."""
        if network.version == 6 and network.prefix == 64:  # most bans of networks; there may be many
            return network.packed in self._held_64 or network in self
        return network in self or (not network.is_host and any(network.covers(net) for net in self._networks))

    def subject(self, address: Network) -> Network:
        """Give what is counted and banned when `address` offends: IPv4 itself, IPv6 its /64.

        Of IPv6 it is the address alone where the /64 is on a link of this host, where the neighbours and the router
        live, where it is shared by those who come from IPv4, and where it covers somebody who must never be banned.
        """
        if len(address.packed) == 4 or address.prefix <= 64:  # some services tell of whole networks
            return address
        prefix = address.widen(64)
        if prefix.packed in self._held_64 or any(net.covers(address) or prefix.covers(net) for net in self._shared):
            return address
        return prefix


def _by_prefix(networks: Iterable[Network]) -> tuple[list[tuple[int, set[int]]], list[tuple[int, set[int]]]]:
    """Sort networks by family and prefix length: (bits to shift away, the values that are left)."""
    found: tuple[dict[int, set[int]], dict[int, set[int]]] = ({}, {})
    for net in networks:
        shift = len(net.packed) * 8 - net.prefix
        found[net.version == 6].setdefault(shift, set()).add(int.from_bytes(net.packed, "big") >> shift)
    return list(found[0].items()), list(found[1].items())
