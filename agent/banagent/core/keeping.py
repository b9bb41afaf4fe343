# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which bans of the past the history keeps."""

from __future__ import annotations

from typing import Final, NamedTuple

from banagent.core.duration import DAY, YEAR
from banagent.core.events import SECOND

LATE: Final = DAY * SECOND  # entries may come so late, and are judged by the bans of their time
ENOUGH: Final = 2  # times `most`: beyond that a ban goes even if it makes a next one longer


class Keeping(NamedTuple):
    """What the configuration says of it; durations in seconds."""

    keep: int | None = YEAR  # after the end of a ban; None: for ever
    most: int = 200_000  # bans


class Row(NamedTuple):
    """A ban as it is looked at; times in µs since the epoch."""

    id: int  # they grow with the time at which the bans were decided
    start: int
    over: int | None  # when it ended or will end; None: never
    counts: bool  # whether it makes the address's next ban longer


def believed(now: int, last: int | None) -> int:
    """Give the time by which the age of bans is judged, after a look at `last`.

    It goes ahead by no more than a day from look to look: a clock that is wrong for some hours must not cost all that
    is remembered.
    """
    return now if last is None else min(now, last + LATE)


class Purge:
    """A look through the history, from its oldest ban on. A second one is needed if the first leaves far too many.

    `forget` is for how many seconds after its end a ban makes the next one longer (None: for ever), `total` how many
    bans there are.
    """

    def __init__(self, keeping: Keeping, now: int, total: int, forget: int | None) -> None:
        self._spares = True  # what counts
        self._now = now
        self._before = None if keeping.keep is None else now - max(keeping.keep * SECOND, LATE)
        self._most = keeping.most
        self._total = total
        self._counts_since = None if forget is None else now - forget * SECOND

    def takes(self, row: Row) -> bool:
        """Whether a ban is to go: it is over, and too old or one too many."""
        if row.over is None or row.over > self._now - LATE:
            return False
        counts = row.counts and (self._counts_since is None or row.over > self._counts_since)
        old = self._before is not None and row.over < self._before
        goes = self._is_far_too_many() and not self._spares if counts else old or self._total > self._most
        self._total -= goes
        return goes

    def again(self) -> bool:
        """Begin a second look, that takes what counts as well; give whether it is needed."""
        needed = self._spares and self._is_far_too_many()
        self._spares = False
        return needed

    def is_done(self, row: Row) -> bool:
        """Whether there is nothing to be taken behind this one."""
        return self._total <= self._most and (self._before is None or row.start > self._before)

    def _is_far_too_many(self) -> bool:
        return self._total > ENOUGH * self._most
