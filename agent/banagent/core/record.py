# SPDX-License-Identifier: LGPL-2.1-or-later
"""The record of an address: its earlier bans, which make the next one longer and its failures weigh more.

The history has them. Those that it does not have yet are kept here until it does; a ban that is in both is one. What
counts is what began before the entry that is judged, so an entry that is read again finds the record that it found.
"""

from __future__ import annotations

import math
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from banagent.core.events import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from banagent.core.address import Network
    from banagent.core.events import Ban

_SLOTS: Final = 1 << 20  # a byte each, for one in which addresses fall that have a record


class Past(NamedTuple):
    """A ban as the record has it; times in µs since the epoch."""

    jail: str
    position: str
    start: int
    end: int | None  # when it was over, as far as is known; None: permanent
    credible: bool  # whether it says something of the address to other jails
    counts: bool = True  # unless the admin lifted it, or it was forgotten


class Memory(Protocol):
    """What the history has."""

    def past(self, address: Network) -> Iterable[Past]:
        """Give the bans of exactly this address, at most `growth.MOST` of them, the newest."""
        ...

    def known(self) -> Iterable[str]:
        """Give the addresses that have ever been banned, in the usual notation."""
        ...

    def since(self, jail: str, start: int) -> int:
        """Give how many credible bans all jails but one decided later than `start`."""
        ...

    def secret(self) -> bytes:
        """Give the key of what must not be foreseen."""
        ...


class Record:
    """The earlier bans of all addresses."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._secret = memory.secret()
        self._pending: dict[Network, list[Past]] = {}
        # most who fail were never banned: the history is asked of those only who may have been
        self._slots = bytearray(_SLOTS)
        for text in memory.known():
            self._slots[hash(text) % _SLOTS] = 1

    def add(self, ban: Ban) -> None:
        """Take note of a ban that was decided."""
        item = Past(ban.jail, ban.position, ban.start, ban.end, ban.credible)
        self._pending.setdefault(ban.address, []).append(item)
        self._slots[_slot(ban.address)] = 1

    def saved(self) -> None:
        """Note that the history has all of them."""
        self._pending.clear()

    def earlier(self, address: Network, jail: str, time: int, forget: int | None, *, overall: bool = False) -> int:
        """Give how many bans of an address a jail had decided before `time`, since its record was last clean.

        It is clean `forget` seconds after the end of the last. With `overall` the credible bans of others count, too.
        """
        if not self._slots[_slot(address)]:  # as of most who fail
            return 0
        bans = [item for item in self._before(address, time) if item.jail == jail or (overall and item.credible)]
        if forget is None:
            return len(bans)
        count, clean = 0, math.inf
        for item in bans:
            if item.start > clean:
                count = 0
            until = math.inf if item.end is None else item.end + forget * SECOND
            count, clean = count + 1, max(until, clean) if count else until
        return 0 if time > clean else count

    def by_others(self, address: Network, jail: str, time: int, findtime: int) -> int:
        """Give how many credible bans of an address the others decided in the `findtime` seconds up to `time`.

        Those before the last ban by `jail` itself, but for one that is decided at `time`, count no more.
        """
        bans = self._before(address, time + 1)
        own = [item.start for item in bans if item.jail == jail and item.start < time]
        since = max([time - findtime * SECOND, *own])
        return sum(item.start > since for item in bans if item.jail != jail and item.credible)

    def total_by_others(self, jail: str, time: int, findtime: int) -> int:
        """Give how many credible bans the other jails have in the history that are within `findtime` seconds."""
        return self._memory.since(jail, time - findtime * SECOND)

    def chance(self, jail: str, address: Network, position: str) -> float:
        """Give a number from 0 to below 1: always the same for a ban, and unforeseeable without the secret."""
        identity = f"{jail}\0{address}\0{position}".encode()
        digest = blake2b(identity, digest_size=6, key=self._secret).digest()
        return int.from_bytes(digest, "big") / (1 << 48)

    def _before(self, address: Network, time: int) -> Sequence[Past]:
        """Give the bans that count and began before `time`, in the order in which they began."""
        if not self._slots[_slot(address)]:
            return ()
        found = {(item.jail, item.position): item for item in self._pending.get(address, ())}
        found |= {(item.jail, item.position): item for item in self._memory.past(address)}
        return sorted((item for item in found.values() if item.counts and item.start < time), key=_start)


class Nothing:
    """The memory of a run without a history."""

    def past(self, address: Network) -> Iterable[Past]:  # noqa: ARG002 - of the protocol
        """Give none."""
        return ()

    def known(self) -> Iterable[str]:
        """Give nobody."""
        return ()

    def since(self, jail: str, start: int) -> int:  # noqa: ARG002 - of the protocol
        """Give none."""
        return 0

    def secret(self) -> bytes:
        """Give what everybody knows."""
        return b""


@lru_cache(1024)  # an attacker comes again
def _slot(address: Network) -> int:
    return hash(str(address)) % _SLOTS


def _start(item: Past) -> int:
    return item.start
