# SPDX-License-Identifier: LGPL-2.1-or-later
"""Attacks by many addresses: of one network, which is banned as a whole, or at one user, of which is told.

An attacker who uses each address once is never banned for what a single address did. But his addresses are neighbours:
of IPv4 they are counted by /24. Of IPv6, where a /64 stands for an address, they are counted by /56, and the /56 by
/48: what providers give to a customer, and to a large one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from struct import Struct, pack, unpack_from
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from banagent.core.address import Network
from banagent.core.events import SECOND
from banagent.core.memory import Series
from banagent.core.window import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_IN_24: Final = b"\0" + b"\x18"  # the rest of the key of a network of that length, see key_of
_IN_56: Final = bytes(9) + b"\x38"
_IN_48: Final = bytes(10) + b"\x30"
# by bytes and prefix: where the byte is that tells the 256 of a network apart, and the rest of the network's key
_AROUND: Final[dict[tuple[int, int], tuple[tuple[int, bytes], ...]]] = {
    (4, 32): ((3, _IN_24),),
    (16, 64): ((7, _IN_56), (6, _IN_48)),
    (16, 56): ((6, _IN_48),),
}
PATTERN: Final = "many-addresses"  # in place of a failregex's name, of a ban of a network for what its addresses did
LIMIT: Final = 50_000  # networks remembered, of 150 bytes and more each
TOLD_AT: Final = 50  # addresses that fail at one user; told again each time that they have doubled
TARGETS: Final = 128  # users of whom is remembered by how many addresses they are attacked
BITS: Final = 4096  # of a bitmap, from which numbers up to 30,000 can be told, up to 3,000 to some percent
_ROW: Final = Struct("<Bq")  # which of the 256, and when it failed last
_HEAD: Final = Struct("<qI")


class Crowd(NamedTuple):
    """A network of which as many addresses failed as the limit is."""

    network: Network
    members: tuple[Network, ...]  # the addresses (of IPv6 the networks) that failed
    is_new: bool  # with the failure at hand they have become so many


class Alone(NamedTuple):
    """A network of which so many addresses failed, and that is not banned as a whole; why not."""

    network: Network
    reason: str
    are_banned: bool  # those who failed, each by itself


class Attack(NamedTuple):
    """An attack by many addresses at one user; how many they are is told to some percent."""

    user: str
    addresses: int
    networks: int


def around(subject: Network) -> tuple[Network, ...]:
    """Give the networks by which an address is counted, the smallest first; none where it is by no usual length."""
    packed, prefix = subject
    return tuple(_network(packed[:place] + rest) for place, rest in _AROUND.get((len(packed), prefix), ()))


class Networks:
    """Which addresses of each network failed within `findtime` seconds; of each the last `limit`."""

    def __init__(self, findtime: int, limit: int) -> None:
        self.limit = limit
        self._span = findtime * SECOND
        self.memory = Series(LIMIT, self._span, _ROW.size)

    def add(self, subject: Network, time: int) -> Crowd | None:
        """Count a failure of an address; give the largest network that has reached the limit."""
        packed, prefix = subject
        found = None
        for place, rest in _AROUND.get((len(packed), prefix), ()):
            found = self._add(packed[:place] + rest, packed[place], time) or found
        return found

    def count(self, network: Network, now: int) -> int:
        """Give how many addresses of a network failed within `findtime` before `now`, as far as the limit."""
        value = self.memory.get(key_of(network))
        rows = b"" if value is None else self.memory.packed(value)
        return sum(last > now - self._span for _, last in _ROW.iter_unpack(rows))

    def forget(self, network: Network) -> None:
        """Begin anew with a network."""
        self.memory.forget(key_of(network))

    def _add(self, key: bytes, which: int, time: int) -> Crowd | None:
        """Count a failure of one of the 256 in the network of a key."""
        memory, row = self.memory, time << 8 | which
        value = memory.get(key)
        is_alone = value is None or (isinstance(value, int) and value & 0xFF == which and value <= row)
        if is_alone and self.limit > 1:  # as mostly in an attack by many networks
            memory.put(key, row, time)
            return None
        known = b"" if value is None else memory.packed(value)
        if known and (_newest(known) > time or _ROW.unpack_from(known)[1] <= time - self._span):
            known, rows = self._placed(known, which, time)
        else:
            place = known[:: _ROW.size].find(which) * _ROW.size
            others = known if place < 0 else known[:place] + known[place + _ROW.size :]
            rows = others + _ROW.pack(which, time)
        rows = rows[-self.limit * _ROW.size :]
        memory.put(key, memory.value(rows), time)
        if len(rows) < self.limit * _ROW.size:
            return None
        members = tuple(_member(key, which) for which in rows[:: _ROW.size])
        return Crowd(_network(key), members, is_new=len(known) < len(rows))

    def _placed(self, known: bytes, which: int, time: int) -> tuple[bytes, bytes]:
        """Add a failure to rows of which some are later, or too old; give those that count, before and after."""
        members = {other: last for other, last in _ROW.iter_unpack(known) if abs(time - last) < self._span}
        before = b"".join(_ROW.pack(*item) for item in members.items())
        last = members.pop(which, time)
        members[which] = max(last, time)
        after = sorted(members.items(), key=lambda item: item[1])
        return before, b"".join(_ROW.pack(*item) for item in after)


def _newest(rows: bytes) -> int:
    time: int = _ROW.unpack_from(rows, len(rows) - _ROW.size)[1]
    return time


def _network(key: bytes) -> Network:
    return Network(key[:-1], key[-1])


def _member(key: bytes, which: int) -> Network:
    """Give one of the 256 in the network of a key."""
    length = key[-1] // 8
    return Network(key[:length] + bytes((which,)) + key[length + 1 : -1], key[-1] + 8)


@dataclass(slots=True)
class _Target:
    """Who tries to be one user: since when, how many addresses were told, and bitmaps of addresses and networks."""

    begin: int
    told: int = 0
    addresses: bytearray = field(default_factory=lambda: bytearray(BITS // 8))
    networks: bytearray = field(default_factory=lambda: bytearray(BITS // 8))
    seen: int = 0  # bits of `addresses` that are set


class Targets:
    """By how many addresses each user is attacked, in periods of `findtime` seconds.

    Names come from attackers, and there is no end of them: where there are too many, those that the fewest addresses
    try go first.
    """

    def __init__(self, findtime: int) -> None:
        self._span = findtime * SECOND
        self._targets: dict[str, _Target] = {}
        self._changed: set[str] = set()
        self._kept: set[str] = set()  # in the checkpoint

    def __len__(self) -> int:
        return len(self._targets)

    def add(self, user: str, subject: Network, time: int) -> Attack | None:
        """Count a failure of an address as a user; give the attack that is to be told."""
        target = self._targets.get(user)
        if target is None or abs(time - target.begin) >= self._span:
            if target is None and len(self._targets) >= TARGETS:
                self._make_room(time)
            target = self._targets[user] = _Target(time)
        self._changed.add(user)
        if not _set(target.addresses, subject.packed):
            return None
        target.seen += 1
        _set(target.networks, subject.packed[: 3 if subject.version == 4 else 6])
        if target.seen * 2 < TOLD_AT:  # the estimate is no more than a little above
            return None
        addresses = _estimate(target.seen)
        if addresses < max(TOLD_AT, 2 * target.told):
            return None
        target.told = addresses
        return Attack(user, addresses, _estimate(int.from_bytes(target.networks, "big").bit_count()))

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """See Remembered."""
        for user in self._changed:
            target = self._targets.get(user)
            if target is not None:
                yield user.encode(), _packed(target)
            elif user in self._kept:
                yield user.encode(), None

    def saved(self) -> None:
        """See Remembered."""
        self._kept = (self._kept - self._changed) | (self._changed & self._targets.keys())
        self._changed.clear()

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """See Remembered."""
        good = [(key, value) for key, value in rows if len(value) == _HEAD.size + BITS // 4]
        self._targets = {key.decode("utf-8", "replace"): _unpacked(value) for key, value in sorted(good)}
        self._kept = set(self._targets)
        self._changed.clear()

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """See Remembered."""
        return ((user.encode(), _packed(target)) for user, target in self._targets.items())

    def _make_room(self, time: int) -> None:
        """Forget half of the users: those whose time is over, and those whom the fewest addresses try."""
        order = sorted(
            self._targets.items(),
            key=lambda item: (abs(time - item[1].begin) < self._span, item[1].seen, item[1].begin, item[0]),
        )
        for user, _ in order[: TARGETS // 2]:
            del self._targets[user]
            self._changed.add(user)


def _set(bitmap: bytearray, value: bytes) -> bool:
    """Set the bit of a value; give whether it was not set."""
    place, bit = divmod(crc32(value) % BITS, 8)
    if bitmap[place] >> bit & 1:
        return False
    bitmap[place] |= 1 << bit
    return True


def _estimate(ones: int) -> int:
    """Tell how many different values have set so many bits: linear counting (Whang, Vander-Zanden and Taylor, 1990)."""
    return round(-BITS * math.log(max(BITS - ones, 1) / BITS))


def _packed(target: _Target) -> bytes:
    return pack(_HEAD.format, target.begin, target.told) + target.addresses + target.networks


def _unpacked(value: bytes) -> _Target:
    begin, told = unpack_from(_HEAD.format, value)
    middle = _HEAD.size + BITS // 8
    addresses, networks = bytearray(value[_HEAD.size : middle]), bytearray(value[middle:])
    return _Target(begin, told, addresses, networks, int.from_bytes(addresses, "big").bit_count())
