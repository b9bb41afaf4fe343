# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sliding window: how many failures each address has within `findtime`.

Compact on purpose: for each address one `bytes` key and one `bytes` value of packed times, so that a million addresses
fit into memory. What changed since the last checkpoint is known by key, so that a checkpoint costs what changed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from struct import pack, unpack
from sys import byteorder
from typing import TYPE_CHECKING

from banagent.core.aging import Aging, Present
from banagent.core.events import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from banagent.core.address import Network

LIMIT = 1_000_000  # addresses remembered; beyond it those whose last failure is the oldest go first


def key_of(address: Network) -> bytes:
    """Give the bytes under which an address is remembered: the packed address and the prefix length."""
    return address.packed + bytes((address.prefix,))


class Window:
    """Failure times by address: at most `maxretry` of them each, none older than `findtime` seconds."""

    def __init__(self, findtime: int, maxretry: int) -> None:
        self._span = findtime * SECOND
        self._maxretry = maxretry
        self._times: dict[bytes, bytes] = {}  # in the order of the last change, so that the stale ones come first
        self._changed: set[bytes] = set()
        self._aging: Aging[bytes, bytes] = Aging()
        self.present = Present()

    def __len__(self) -> int:
        return len(self._times)

    def add(self, key: bytes, time: int, count: int = 1) -> int:
        """Add `count` failures at `time`; give how many there are now within the window."""
        packed = self._times.pop(key, b"")
        if not packed:  # most have failed for the first time
            self._times[key] = pack("<q", time) * min(count, self._maxretry)
            self._changed.add(key)
            if self._aging.is_due(self._times, LIMIT):
                self._forget_stale(time)
            return count
        times = list(unpack(f"<{len(packed) // 8}q", packed))
        newest = times[-1]
        if times[0] <= time - self._span:
            times = [old for old in times if old > time - self._span]
        failures = len(times) + count
        times += [time] * min(count, self._maxretry)
        if time < newest:
            times.sort()  # an entry can be older than the one before it
            failures = _around(times, time, self._span)
        del times[: -self._maxretry]
        self._times[key] = pack(f"<{len(times)}q", *times)
        self._changed.add(key)
        if self._aging.is_due(self._times, LIMIT):
            self._forget_stale(time)
        return failures

    def forget(self, key: bytes) -> None:
        """Forget an address."""
        if self._times.pop(key, None) is not None:
            self._changed.add(key)

    def count(self, key: bytes, now: int) -> int:
        """Give how many failures of an address are within the window that ends at `now`."""
        packed = self._times.get(key, b"")
        return sum(time > now - self._span for time in unpack(f"<{len(packed) // 8}q", packed))

    def total(self, now: int) -> int:
        """Give how many failures of all addresses are within the window that ends at `now`."""
        times = array("q", b"".join(self._times.values()))
        if byteorder == "big":
            times.byteswap()
        return sum(map((now - self._span).__lt__, times))

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Give each address that changed since `saved`, with its packed times; None: forgotten."""
        return ((key, self._times.get(key)) for key in self._changed)

    def saved(self) -> None:
        """Note that the changes are in the checkpoint."""
        self._changed.clear()

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over what a checkpoint holds; rows that can't be this window's are left out."""
        good = [(key, times) for key, times in rows if len(key) in (5, 17) and times and len(times) % 8 == 0]
        good.sort(key=lambda row: unpack("<q", row[1][-8:]))
        self._times = {key: times[-8 * self._maxretry :] for key, times in good}
        self._changed.clear()

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """Give all that is remembered, as `load` takes it."""
        return self._times.items()

    def _forget_stale(self, time: int) -> None:
        """Forget those whose last failure is too far from `time`, and from where the other sources are.

        Where it is later, the clock was set back: they would hold up the others until that time has come again.
        """
        low = min(time, self.present.oldest) - self._span
        high = max(time, self.present.newest) + self._span
        for key in self._aging.oldest(self._times, LIMIT, lambda times: not low < unpack("<q", times[-8:])[0] < high):
            self.forget(key)


def _around(times: list[int], time: int, span: int) -> int:
    """Give the largest number of sorted `times` within `span` of one another that has `time` among them."""
    firsts = [first for first in times if time - span < first <= time]
    return max(bisect_left(times, first + span) - bisect_left(times, first) for first in firsts)
