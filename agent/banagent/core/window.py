# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sliding window: how many failures each address has within `findtime`.

Compact on purpose: a million addresses fit into memory, and a checkpoint costs what changed. What there is no room for
is told in core/memory.py.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from struct import Struct, pack, unpack
from sys import byteorder
from typing import TYPE_CHECKING, Final

from banagent.core.events import SECOND
from banagent.core.memory import Series

if TYPE_CHECKING:
    from banagent.core.address import Network

LIMIT: Final = 1_000_000  # addresses remembered, unless the configuration says otherwise
_KEYS: Final = (5, 17)  # their lengths
_TIME: Final = Struct("<q")


def key_of(address: Network) -> bytes:
    """Give the bytes under which an address is remembered: the packed address and the prefix length."""
    return address.packed + bytes((address.prefix,))


class Window(Series):
    """Failure times by address: at most `maxretry` of them each, none older than `findtime` seconds."""

    def __init__(self, findtime: int, maxretry: int, limit: int = LIMIT) -> None:
        super().__init__(limit, findtime * SECOND)
        self._maxretry = maxretry

    def add(self, key: bytes, time: int, count: int = 1) -> int:
        """Add `count` failures at `time`; give how many there are now within the window."""
        value = self._rows.get(key)
        if value is None and count == 1:  # as with most
            self.put(key, time, time)
            return 1
        known = b"" if value is None else self.packed(value)
        if known and (_TIME.unpack(known[-8:])[0] > time or _TIME.unpack(known[:8])[0] <= time - self._span):
            times, failures = self._placed(known, time, count)
        else:
            times, failures = known + _TIME.pack(time) * min(count, self._maxretry), len(known) // 8 + count
        self.put(key, self.value(times[-8 * self._maxretry :]), time)
        return failures

    def _placed(self, known: bytes, time: int, count: int) -> tuple[bytes, int]:
        """Add failures to those of which some are later, or too old; give them all, and how many count."""
        times = list(unpack(f"<{len(known) // 8}q", known))
        newest = times[-1]
        if times[0] <= time - self._span:
            times = [old for old in times if old > time - self._span]
        failures = len(times) + count
        times += [time] * min(count, self._maxretry)
        if time < newest:
            times.sort()  # an entry can be older than the one before it
            failures = _around(times, time, self._span)
        return pack(f"<{len(times)}q", *times), failures

    def count(self, key: bytes, now: int) -> int:
        """Give how many failures of an address are within the window that ends at `now`."""
        value = self._rows.get(key)
        return 0 if value is None else sum(time > now - self._span for (time,) in _TIME.iter_unpack(self.packed(value)))

    def total(self, now: int) -> int:
        """Give how many failures of all addresses are within the window that ends at `now`."""
        since = now - self._span
        alone = sum(value > since for value in self._rows.values() if isinstance(value, int))
        times = array("q", b"".join(value for value in self._rows.values() if isinstance(value, bytes)))
        if byteorder == "big":
            times.byteswap()
        return alone + sum(map(since.__lt__, times))

    def _unpacked(self, key: bytes, packed: bytes) -> int | bytes:
        if len(key) not in _KEYS:
            raise ValueError("this is no address")
        return super()._unpacked(key, packed[-8 * self._maxretry :] if len(packed) % 8 == 0 else packed)


def _around(times: list[int], time: int, span: int) -> int:
    """Give the largest number of sorted `times` within `span` of one another that has `time` among them."""
    firsts = [first for first in times if time - span < first <= time]
    return max(bisect_left(times, first + span) - bisect_left(times, first) for first in firsts)
