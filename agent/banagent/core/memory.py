# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a jail remembers beside its counts: bounded, the stalest forgotten first, and saved as far as it changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from banagent.core.aging import Aging, Present

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


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


class Memory:
    """Rows of which at most `limit` are kept, and none for longer than `span` µs after its time.

    `time_of` gives the time of a value, in µs since the epoch, and raises ValueError if it is damaged.
    """

    def __init__(self, limit: int, span: int, time_of: Callable[[bytes], int]) -> None:
        self._limit = limit
        self._span = span
        self._time_of = time_of
        self._rows: dict[bytes, bytes] = {}  # in the order of the last change
        self._changed: set[bytes] = set()
        self._aging: Aging[bytes, bytes] = Aging()
        self.present = Present()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: bytes) -> bytes | None:
        """Give the value of a key, if there is one."""
        return self._rows.get(key)

    def put(self, key: bytes, value: bytes, time: int) -> None:
        """Remember a value that became so at `time`."""
        self._rows.pop(key, None)
        self._rows[key] = value
        self._changed.add(key)
        if self._aging.is_due(self._rows, self._limit):
            low = min(time, self.present.oldest) - self._span
            high = max(time, self.present.newest) + self._span
            for stale in self._aging.oldest(self._rows, self._limit, lambda row: not low < self._time_of(row) < high):
                self.forget(stale)

    def forget(self, key: bytes) -> None:
        """Forget a key."""
        if self._rows.pop(key, None) is not None:
            self._changed.add(key)

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """See Remembered."""
        return ((key, self._rows.get(key)) for key in self._changed)

    def saved(self) -> None:
        """See Remembered."""
        self._changed.clear()

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """See Remembered."""
        timed: list[tuple[int, bytes, bytes]] = []
        for key, value in rows:
            try:
                timed.append((self._time_of(value), key, value))
            except ValueError:
                continue
        self._rows = {key: value for _, key, value in sorted(timed)}
        self._changed.clear()

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """See Remembered."""
        return self._rows.items()
