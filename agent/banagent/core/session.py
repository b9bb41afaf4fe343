# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions: several lines about one failed attempt count once.

A service writes three or four lines about one wrong password, and not the same ones for each way of failing. But each
pattern, by itself, tells of an attempt at most once. So within a session the attempts are the largest number that any
one pattern tells of; a line counts only as far as its pattern tells of more than was counted so far.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from banagent.core.aging import Aging, Present
from banagent.core.events import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LIFETIME = 600 * SECOND  # after the last line; sshd gives a login 2 minutes, and pids come round again
LIMIT = 5_000  # sessions remembered, of half a kilobyte each; beyond it the oldest go first


class Sessions:
    """How often each pattern told of an attempt, by session."""

    def __init__(self) -> None:
        self._told: dict[bytes, tuple[int, dict[str, int]]] = {}  # (time of the last line, times told by pattern)
        self._changed: set[bytes] = set()
        self._aging: Aging[bytes, tuple[int, dict[str, int]]] = Aging()
        self.present = Present()

    def attempts(self, key: bytes, time: int, pattern: str, count: int, *, once: bool) -> int:
        """Give how many new attempts a line tells of whose pattern reports `count`."""
        last, told = self._told.pop(key, (time, {}))
        if time - last > LIFETIME:
            told = {}
        before = max(told.values()) if told else 0
        now = told[pattern] = 1 if once else told.get(pattern, 0) + count
        self._told[key] = (max(last, time), told)
        self._changed.add(key)
        if self._aging.is_due(self._told, LIMIT):
            self._forget_stale(time)
        return max(now - before, 0)

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Give each session that changed since `saved`, in the checkpoint's form; None: forgotten."""
        for key in self._changed:
            state = self._told.get(key)
            yield key, None if state is None else json.dumps(state).encode()

    def saved(self) -> None:
        """Note that the changes are in the checkpoint."""
        self._changed.clear()

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over what a checkpoint holds; rows that can't be sessions are left out."""
        states = [(key, state) for key, value in rows if (state := _state(value)) is not None]
        states.sort(key=lambda row: row[1][0])
        self._told = dict(states)
        self._changed.clear()

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Give all that is remembered, as `load` takes it."""
        return ((key, json.dumps(state).encode()) for key, state in self._told.items())

    def _forget_stale(self, time: int) -> None:
        time = min(time, self.present.oldest)
        for key in self._aging.oldest(self._told, LIMIT, lambda state: time - state[0] > LIFETIME):
            del self._told[key]
            self._changed.add(key)


def _state(value: bytes) -> tuple[int, dict[str, int]] | None:
    """Read what `changes` wrote; None: it is damaged."""
    try:
        last, told = json.loads(value)
        return int(last), {str(pattern): int(times) for pattern, times in told.items()}
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None
