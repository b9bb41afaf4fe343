# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a source gives: the entries that it read in one go, and how far that was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from banagent.core.events import Entry

SLICE: Final = 500  # entries read at a time, so that other things get their turn


class Suppressed(NamedTuple):
    """What journald says that it dropped, because a unit wrote too much (RateLimitBurst= in journald.conf(5))."""

    unit: str
    dropped: int  # entries
    time: int  # when it said so


class Batch(NamedTuple):
    """What was read in one go."""

    entries: list[tuple[Entry, Sequence[int]]]  # those that passed, with what `sift` made of the message
    read: int  # entries in all
    position: str | None  # of the last one; None: nothing was ever read
    time: int  # likewise
    all_read: bool  # there were no more
    damaged: int = 0  # of `read`, those that could not be read
    source: str = "journal"  # or the log file's path
    suppressed: tuple[Suppressed, ...] = ()  # of units that some filter reads
