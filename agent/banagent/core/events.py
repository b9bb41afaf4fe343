# SPDX-License-Identifier: LGPL-2.1-or-later
"""The four nouns that flow through the program, each made once and never changed.

Times are whole microseconds since the epoch, UTC, as the journal has them. Entries and offences are tuples, because
making them is on the hot path.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from banagent.core.address import Network

SECOND = 1_000_000  # of the times below
JOURNAL: Final = "journal"  # the source that is no log file
FILES: Final = "files"  # the kind of the others
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def timestamp(time: int | None) -> str:
    """Give a time in RFC 3339, UTC, whole seconds; None is `permanent`."""
    return "permanent" if time is None else _timestamp(time // SECOND)


@lru_cache(128)  # much happens in the same seconds
def _timestamp(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Entry(NamedTuple):
    """One log entry, with what journald vouches for."""

    time: int
    message: bytes
    position: str  # where it stands in its source: the journal's cursor, or a file's inode and offset
    uid: int | None
    unit: str | None
    identifier: str | None  # None too where there is a unit: then nobody asks for it; "": a line of syslog has no tag
    pid: int | None
    continuation: bool = False  # a piece of a longer line: an enemy may have chosen where it begins
    source: str = JOURNAL  # or the path of the log file
    more: Mapping[str, str] = NOTHING  # further fields of the journal that a filter asks for


class Offence(NamedTuple):
    """What a filter recognised in an entry: who failed, and how it counts; or only whose the session is."""

    time: int
    position: str
    address: Network | None  # None: the line tells no address; another line of its session may
    user: str | None
    filter: str
    pattern: str
    session: str | None = None  # of the service, to which the line belongs
    times: int = 1  # that this one entry tells of it ("message repeated 3 times"); 0: it tells of no failure
    weight: int = 1
    once: bool = False  # however often its pattern is seen in a session, it tells of one attempt
    credible: bool = True  # nobody but the service can have written it, and no peer chose the address
    success: bool = False  # none at all: `user` logged in


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """The decision to ban an address. Its identity is (jail, address, position)."""

    jail: str
    address: Network
    position: str  # of the entry that decided it
    start: int
    end: int | None  # None: permanent
    failures: int
    user: str | None
    filter: str
    pattern: str
    comment: str | None = None  # the admin's
    earlier: int = 0  # bans of the address that made this one longer
    credible: bool = False  # whether other jails may hold it against the address

    @property
    def bantime(self) -> int | None:
        """How long it lasts, in seconds; None: for ever."""
        return None if self.end is None else (self.end - self.start) // SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Unban:
    """The end of a ban: it ran out, or somebody lifted it."""

    jail: str
    address: Network
    time: int
    reason: str  # "expired"
