# SPDX-License-Identifier: LGPL-2.1-or-later
"""The journal: one low-level reader for all jails, following live.

Entries are read field by field, the message first, and nothing else of those that no pattern matches.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.core.events import JOURNAL, NOTHING, Entry
from banagent.core.filter import TRANSPORT, Trust, asked_for
from banagent.sources.batch import SLICE, Batch, Suppressed
from banagent.sources.lookup import Lookup
from banagent.sources.matches import IDENTIFIER, PID, UID, UNIT, terms
from banagent.sources.notices import Notices
from banagent.sources.pieces import CUTTING, is_piece
from banagent.sources.reader import open_reader, unreadable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from banagent.core.filter import Filter

# journald coalesces its change notices by about 0.4 s. During an attack that is too long: poll for a while instead.
ALERT: Final = 5.0  # seconds
POLL: Final = 0.01  # seconds
NEWS: Final = 60.0  # seconds after which it is told how far was read, though nothing passed
LONGEST: Final = 65_536  # bytes of a field that are kept; libsystemd's own limit is for compressed ones only
_SUPPRESSED: Final = b"Suppressed "
_SUPPRESSED_LINE: Final = re.compile(rb"Suppressed (\d{1,18}) messages from (.+)", re.DOTALL)  # journald-server.c


class Gap(NamedTuple):
    """Times, in µs, between which entries may have been missed."""

    since: int  # of the entry read last, which the journal no longer has
    until: int | None  # of the first that is left behind it; None: there is none


class Journal:
    """A reader of all entries that one of `filters` may trust, in the journal's order.

    libsystemd can't match a glob. Entries of units and slices that are globs are found by their identifier; where a
    filter has none, all of the journal is read.
    """

    def __init__(self, filters: Collection[Filter], directory: Path | None = None) -> None:
        self._reader = reader = open_reader(directory)
        # bound once: this is the hot path
        self._get, self._cursor, self._clock = reader.get, reader.cursor, reader.time
        self._lookup = Lookup(directory)
        self._asked = tuple(sorted({name for item in filters for name in asked_for(item)}))
        self._trusts = tuple(map(Trust, filters))
        self.position: str | None = None  # of the entry read last
        self._time = 0  # likewise
        self._from: str | int = 0  # the position behind which reading began, or the time
        reader.look_for({field: values} for field, values in (terms(filters) or {}).items())

    def resume(self, position: str, time: int) -> Gap | None:
        """Go on behind the entry at `position`, which is of `time`; None: it is still there.

        Where it is gone (vacuumed, rotated away, of another machine id) reading goes on with the next that is left. If
        there is none, what comes may never be behind it, because the clock was set back: see `seek_time`. Raises
        JournalError.
        """
        reader = self._reader
        try:
            if self._go_behind(position):
                return None
            if self._lookup.holds(position):  # nobody asks for it any more
                self.position, self._time = position, time
                return None
            first: int | None = reader.first_time()
            if not first or first <= time:
                first = reader.time() if reader.advance() else None
                reader.seek_cursor(position)
        except ValueError:  # it is no cursor
            return Gap(time, reader.first_time() or None)
        except OSError as error:
            raise unreadable(error) from error
        return Gap(time, first)

    def seek_time(self, since: int) -> None:
        """Begin with the first entry at or after `since`, in µs since the epoch."""
        self._from = since
        self._reader.seek_realtime(since)

    def read(self, sift: Callable[[bytes], Sequence[int]], limit: int = SLICE) -> Batch:
        """Read up to `limit` entries; those of whose message `sift` makes nothing are read no further.

        Raises JournalError.
        """
        reader = self._reader
        advance, get = reader.advance, reader.get
        passed: list[tuple[Entry, Sequence[int]]] = []
        suppressed: list[Suppressed] = []
        read = damaged = 0
        try:
            while read < limit and advance():
                read += 1
                try:
                    hits = sift(message := get("MESSAGE"))
                    if hits:
                        passed.append((self._entry(message), hits))
                    elif message.startswith(_SUPPRESSED):
                        suppressed += self._suppressed(message)
                except KeyError:  # it has no MESSAGE
                    continue
                except (OSError, ValueError):  # ValueError: a uid that is no number
                    damaged += 1
            all_read = read < limit
            if read:
                self._from = self.position = reader.cursor()
                self._time = reader.time()
        except OSError as error:
            damaged, all_read = damaged + 1, False
            if not read:
                raise unreadable(error) from error
            if passed:  # where the reader stands is not known; what passed must not be counted again
                self._from = self.position = passed[-1][0].position
                self._time = passed[-1][0].time
        return Batch(passed, read, self.position, self._time, all_read, damaged, suppressed=tuple(suppressed))

    async def follow(self, sift: Callable[[bytes], Sequence[int]]) -> AsyncIterator[Batch]:
        """Read for ever; asleep while the journal is silent, watchful for some seconds after an entry that passed.

        A batch without entries comes if it says what those before could not: that all was read, what was dropped or
        can't be read, or once in a while, how far was read.
        """
        loop = asyncio.get_running_loop()
        alert_until = news_at = 0.0
        told = False  # that all was read
        with closing(Notices(self._reader, self._has_more)) as notices:
            while True:
                batch = self.read(sift)
                if not batch.read:
                    self._look_again()
                    batch = self.read(sift)
                if batch.entries:
                    alert_until = loop.time() + ALERT
                news = batch.entries or batch.suppressed or batch.damaged or batch.all_read > told
                if news or (batch.read and loop.time() >= news_at):
                    news_at = loop.time() + NEWS
                    yield batch
                told = batch.all_read
                is_alert = loop.time() < alert_until
                if not batch.all_read:
                    await asyncio.sleep(0)
                    continue
                if batch.read and not is_alert:
                    notices.pause()
                await notices.wait(POLL if is_alert else self._timeout())

    def close(self) -> None:
        """Close the journal's files."""
        self._reader.close()
        self._lookup.close()

    def _entry(self, message: bytes) -> Entry:
        """Read the rest of the entry at which the reader stands."""
        get = self._get
        more: Mapping[str, str] = NOTHING
        if self._asked:
            fields = self._reader.all_fields()
            get = fields.__getitem__
            more = {name: fields[name][:LONGEST].decode("utf-8", "replace") for name in self._asked if name in fields}
        position = self._cursor()
        try:
            uid = int(get(UID))
        except KeyError:
            uid = None
        try:
            pid = int(get(PID))
        except KeyError:
            pid = None
        identifier = None
        try:
            unit = get(UNIT).decode("utf-8", "replace")
        except KeyError:
            unit, identifier = None, self._reader.word(IDENTIFIER)  # it is asked for only then
        try:
            transport = get(TRANSPORT)
        except KeyError:
            transport = b""
        piece = transport in CUTTING and is_piece(transport, self._reader.word, position, self._lookup)
        return Entry(self._clock(), message[:LONGEST], position, uid, unit, identifier, pid, piece, JOURNAL, more)

    def _suppressed(self, message: bytes) -> Iterator[Suppressed]:
        """Read what journald says of a unit that wrote too much, if it is journald and a filter reads the unit."""
        reader = self._reader
        said = _SUPPRESSED_LINE.fullmatch(message)
        if said and reader.raw(TRANSPORT) == b"driver":
            unit, in_slice = said[2].decode("utf-8", "replace"), reader.word("OBJECT_SYSTEMD_SLICE")
            if any(trust.watches(unit, in_slice) for trust in self._trusts):
                yield Suppressed(unit, int(said[1]), reader.time())

    def _go_behind(self, position: str) -> bool:
        """Stand at the entry at `position`, which was read; or if it isn't there, before the one that is now next."""
        reader = self._reader
        reader.seek_cursor(position)
        self._from = position
        if reader.advance() and reader.test_cursor(position):
            self.position, self._time = position, reader.time()
            return True
        reader.seek_cursor(position)
        return False

    def _has_more(self) -> bool:
        """Whether there is an entry to be read, or an error; the reader stands where it stood."""
        try:
            found = self._reader.advance()
            if found:
                self._look_again()
        except OSError:  # `read` will say it
            return True
        return found

    def _look_again(self) -> None:
        """Make libsystemd look at the end of the files again.

        It skips a file whose number of entries is what it was when the end was reached. But journald counts an entry
        before it links it to its fields, and who looks for matches in between would not see it until the next comes.
        """
        if isinstance(self._from, str):
            self._go_behind(self._from)
        else:
            self._reader.seek_realtime(self._from)

    def _timeout(self) -> float | None:
        """Give the seconds after which libsystemd wants to look by itself; None: never (-1, inotify works)."""
        milliseconds = self._reader.get_timeout_ms()
        return None if milliseconds < 0 else milliseconds / 1000
