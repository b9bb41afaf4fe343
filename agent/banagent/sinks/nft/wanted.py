# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the sets are to hold: the bans by prefix length, jail and address."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

from banagent.core.address import Network
from banagent.core.bans import Standing

# An end that is later than all others: permanent. Inside of this package it stands for None, so that max() decides.
FOREVER: Final = 1 << 63


class Length(NamedTuple):
    """Networks of one size: each has sets of its own, in which they are looked up by their masked address."""

    version: int
    prefix: int

    @property
    def name(self) -> str:
        """As the sets are called: `ipv4.24`."""
        return f"ipv{self.version}.{self.prefix}"

    @property
    def bits(self) -> int:
        """The size of an address: 32 or 128."""
        return 32 if self.version == 4 else 128


def length_of(network: Network) -> Length:
    """Give the length that `network` is looked up by."""
    return Length(network.version, network.prefix)


class Wanted(Collection[Standing]):
    """All bans, at most one per jail and network; packed, because there may be a million."""

    def __init__(self, bans: Iterable[Standing] = ()) -> None:
        self._ends: dict[Length, dict[str, dict[bytes, int]]] = {}
        put: dict[tuple[str, int, int], dict[bytes, int]] = {}  # the same, found quicker
        for jail, (packed, prefix), end in bans:
            key = jail, prefix, len(packed)
            if (ends := put.get(key)) is None:
                ends = put[key] = self._of(jail, length_of(Network(packed, prefix)))
            ends[packed] = FOREVER if end is None else end

    def _of(self, jail: str, length: Length) -> dict[bytes, int]:
        return self._ends.setdefault(length, {}).setdefault(jail, {})

    def put(self, ban: Standing) -> None:
        """Add `ban`, in place of the one of the same jail and network."""
        ends = self._of(ban.jail, length_of(ban.address))
        ends[ban.address.packed] = FOREVER if ban.end is None else ban.end

    def put_all(self, jail: str, length: Length, ends: dict[bytes, int]) -> None:
        """Add bans of one jail and length: their ends by packed address."""
        self._of(jail, length).update(ends)

    def without(self, others: Wanted) -> list[Standing]:
        """Give those of which `others` has none of the same jail and network."""
        left = Wanted()
        for length, jails in self._ends.items():
            for jail, ends in jails.items():
                theirs = others._ends.get(length, {}).get(jail, {})
                left.put_all(jail, length, {packed: ends[packed] for packed in ends.keys() - theirs.keys()})
        return list(left)

    def remove(self, jail: str, network: Network) -> None:
        """Remove the ban of `network` in `jail`, if there is one."""
        self._ends.get(length_of(network), {}).get(jail, {}).pop(network.packed, None)

    def end(self, jail: str, network: Network) -> int:
        """Give the end of the ban of `network` in `jail`; 0 if there is none."""
        return self._ends.get(length_of(network), {}).get(jail, {}).get(network.packed, 0)

    def latest(self, network: Network) -> int:
        """Give the latest end of the bans of exactly `network` in any jail; 0 if there is none."""
        jails = self._ends.get(length_of(network), {})
        return max((ends.get(network.packed, 0) for ends in jails.values()), default=0)

    def by_length(self) -> Iterator[tuple[Length, dict[str, dict[bytes, int]]]]:
        """Give for each length the jails, and for each of them the ends by packed address; none of it is empty."""
        for length, jails in self._ends.items():
            if filled := {jail: ends for jail, ends in jails.items() if ends}:
                yield length, filled

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, Standing):
            return False
        return self.end(item.jail, item.address) == (FOREVER if item.end is None else item.end)

    def __iter__(self) -> Iterator[Standing]:
        for length, jails in self.by_length():
            for jail, ends in jails.items():
                for packed, end in ends.items():
                    yield Standing(jail, Network(packed, length.prefix), None if end == FOREVER else end)

    def __len__(self) -> int:
        return sum(len(ends) for jails in self._ends.values() for ends in jails.values())


def merge(jails: dict[str, dict[bytes, int]]) -> dict[bytes, int]:
    """Give the latest end of each address in any jail."""
    latest: dict[bytes, int] = {}
    for ends in jails.values():
        for packed, end in ends.items():
            if end > latest.get(packed, 0):
                latest[packed] = end
    return latest
