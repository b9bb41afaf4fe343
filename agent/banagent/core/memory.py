# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a jail remembers: bounded, and saved as far as it changed.

Attackers decide how much there is to remember. Where it is more than the limit, those go first of whom the least is
known, and of these the stalest: who has failed four times stays while a million others come who fail once. But to those
of each number of failures a 32nd of the limit is left. Else a million who failed twice would leave no room for anybody
new, who could then fail as often as he likes.

Who goes follows from what is remembered: from the rows and their own times, and not from the order in which they came
or were loaded. So it is the same after a restart, but for what rows take up whose time is over, until the next look.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from banagent.core.aging import Aging, Present

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

V = TypeVar("V")

ROOM: Final = 16  # where there is none left, a 16th of the limit is made free at once
KEPT: Final = 32  # and a 32nd is left to those of each number of failures


class Remembered(Protocol):
    """Something of which a checkpoint keeps rows of a key and a value."""

    def changes(self) -> Iterable[tuple[bytes, bytes | None]]:
        """Give the rows that changed since `saved`; None: forgotten."""
        ...

    def saved(self) -> None:
        """Note that the changes are in the checkpoint."""
        ...

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over what a checkpoint holds; rows that can't be its own are left out."""
        ...

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """Give all that is remembered, as `load` takes it."""
        ...


class Rows(ABC, Generic[V]):
    """Rows of which at most `limit` are kept, and none for longer than `span` µs after its time."""

    def __init__(self, limit: int, span: int) -> None:
        self._limit = limit
        self._span = span
        self._rows: dict[bytes, V] = {}  # in the order of the last change
        self._changed: set[bytes] = set()
        self._aging: Aging[bytes, V] = Aging()
        self.present = Present()
        self.crowded = False  # whether rows were forgotten for want of room; for others to take back

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def unsaved(self) -> int:
        """How many rows changed since `saved`."""
        return len(self._changed)

    def get(self, key: bytes) -> V | None:
        """Give the value of a key, if there is one."""
        return self._rows.get(key)

    def put(self, key: bytes, value: V, time: int) -> None:
        """Remember a value that became so at `time`."""
        self._rows.pop(key, None)
        self._rows[key] = value
        self._changed.add(key)
        if self._aging.is_due(self._rows, self._limit):
            self._forget_some(time)

    def forget(self, key: bytes) -> None:
        """Forget a key."""
        if self._rows.pop(key, None) is not None:
            self._changed.add(key)

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """See Remembered. They are in the order of the keys, in which the checkpoint has them."""
        for key in sorted(self._changed):
            value = self._rows.get(key)
            yield key, None if value is None else self.packed(value)

    def saved(self) -> None:
        """See Remembered."""
        self._changed.clear()

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """See Remembered."""
        found: dict[bytes, V] = {}
        for key, packed in rows:
            try:
                found[key] = self._unpacked(key, packed)
            except ValueError:
                continue
        self._rows = {key: found[key] for key in sorted(found, key=lambda key: self._time(found[key]))}
        self._changed.clear()

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """See Remembered."""
        return ((key, self.packed(value)) for key, value in self._rows.items())

    def _forget_some(self, time: int) -> None:
        """Forget rows that are too far from `time`, and from where the sources are; and what there is no room for.

        Where one is later, the clock was set back: it would hold up the others until that time has come again.
        """
        is_full = len(self._rows) > self._limit
        low = min(time, self.present.oldest) - self._span
        high = max(time, self.present.newest) + self._span
        for key in self._aging.over(self._rows, lambda value: not low < self._time(value) < high):
            self.forget(key)
        # also where that has made some room: a look is long, and is not to be taken again for each row that comes
        if is_full and (count := len(self._rows) - self._limit + self._limit // ROOM) > 0:
            self.crowded = True
            for key in self._least(count):
                self.forget(key)

    @abstractmethod
    def _least(self, count: int) -> Iterable[bytes]:
        """Give the keys of as many rows that go first."""

    @abstractmethod
    def _time(self, value: V) -> int:
        """Give the time of a value, in µs since the epoch."""

    @abstractmethod
    def packed(self, value: V) -> bytes:
        """Give a value as the checkpoint has it."""

    @abstractmethod
    def _unpacked(self, key: bytes, packed: bytes) -> V:
        """Read what `packed` gave for a key. Raises ValueError: it is damaged."""


class Memory(Rows[bytes]):
    """Values of which it is known only when they became so; the stalest go first.

    `time_of` gives the time of a value, in µs since the epoch, and raises ValueError if it is damaged.
    """

    def __init__(self, limit: int, span: int, time_of: Callable[[bytes], int]) -> None:
        super().__init__(limit, span)
        self._time_of = time_of

    def _time(self, value: bytes) -> int:
        return self._time_of(value)

    def _least(self, count: int) -> Iterable[bytes]:
        return sorted(self._rows, key=lambda key: (self._time_of(self._rows[key]), key))[:count]

    def packed(self, value: bytes) -> bytes:
        """See Rows."""
        return value

    def _unpacked(self, key: bytes, packed: bytes) -> bytes:  # noqa: ARG002 - any will do
        self._time_of(packed)
        return packed


class Series(Rows[int | bytes]):
    """Values of one or more items of `width` bytes, the newest last; those with the fewest items go first.

    An item is a time in µs since the epoch as 8 bytes, little-endian, behind whatever else there is of it. One alone,
    as mostly, is kept as the number that its bytes are: that takes 32 bytes of memory, and `bytes` take 48.
    """

    def __init__(self, limit: int, span: int, width: int = 8) -> None:
        super().__init__(limit, span)
        self._width = width
        self._below = 8 * (width - 8)  # bits below the time

    def packed(self, value: int | bytes) -> bytes:
        """Give the items of a value one behind the other."""
        return value.to_bytes(self._width, "little", signed=True) if isinstance(value, int) else value

    def value(self, items: bytes) -> int | bytes:
        """Give the value that has these items."""
        return items if len(items) > self._width else _number(items)

    def _time(self, value: int | bytes) -> int:
        return (value if isinstance(value, int) else _number(value[-self._width :])) >> self._below

    def _least(self, count: int) -> Iterable[bytes]:
        sizes = Counter(1 if isinstance(value, int) else len(value) for value in self._rows.values())
        gone: Counter[int] = Counter()
        for kept in (self._limit // KEPT, 0):
            for size in sorted(sizes):
                gone[size] += min(max(sizes[size] - gone[size] - kept, 0), count - gone.total())
        return [key for size, some in gone.items() if some for key in self._stalest(size, some)]

    def _stalest(self, size: int, count: int) -> list[bytes]:
        """Give the keys of some of those with a size: of the earliest items."""
        # those at the front changed the longest ago, so that few others have an earlier item than the latest of them
        latest, _ = max(islice(self._of_size(size), count))
        found = sorted((newest, key) for newest, key in self._of_size(size) if newest <= latest)
        return [key for _, key in found[:count]]

    def _of_size(self, size: int) -> Iterator[tuple[int, bytes]]:
        """Give the newest item and the key of those with a size."""
        rows, width = self._rows.items(), self._width
        if size == 1:
            return ((value, key) for key, value in rows if isinstance(value, int))
        return (
            (_number(value[-width:]), key) for key, value in rows if isinstance(value, bytes) and len(value) == size
        )

    def _unpacked(self, key: bytes, packed: bytes) -> int | bytes:  # noqa: ARG002 - any will do
        if not packed or len(packed) % self._width:
            raise ValueError("these are no items")
        return self.value(packed)


def _number(item: bytes) -> int:
    return int.from_bytes(item, "little", signed=True)
