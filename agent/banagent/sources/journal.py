# SPDX-License-Identifier: LGPL-2.1-or-later
"""The journal: one low-level reader for all jails, following live.

It uses `systemd._reader._Reader`, the C class below `journal.Reader`: entries are read field by field, the message
first, and nothing else of those that no pattern matches (`journal.Reader` makes a dictionary of each: eight times the
time).
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from systemd import _reader

from banagent.core.events import Entry
from banagent.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from banagent.core.filter import Filter

SLICE: Final = 500  # entries read at a time, so that other things get their turn
THRESHOLD: Final = 65_536  # bytes of a field that libsystemd hands over; also its own default
# journald coalesces its change notices by about 0.4 s. During an attack that is too long: poll for a while instead.
ALERT: Final = 5.0  # seconds
POLL: Final = 0.01  # seconds
_TRANSIENT_FILES: Final = Path("/run/log/journal")
_PERSISTENT_FILES: Final = Path("/var/log/journal")


class Batch(NamedTuple):
    """What was read in one go."""

    entries: list[tuple[Entry, Sequence[int]]]  # those that passed, with what `sift` made of the message
    read: int  # entries in all
    position: str | None  # of the last one; None: nothing was ever read
    time: int  # likewise
    all_read: bool  # there were no more
    damaged: int = 0  # of `read`, those that could not be read


class Journal:
    """A reader of all entries that one of `filters` may trust, in the journal's order.

    libsystemd can't match a glob; entries of such units are found by their identifier, and where a filter has none,
    all of the journal is read.
    """

    def __init__(self, filters: Collection[Filter], directory: Path | None = None) -> None:
        self._directory = directory
        self._reader = _open(directory)
        self._reader.data_threshold = THRESHOLD
        self._streams: _reader._Reader | None = None
        self.position: str | None = None
        self._time = 0
        self._since = 0
        if all(item.identifiers or not any(map(_is_glob, item.units)) for item in filters):
            for unit in sorted({unit for item in filters for unit in item.units if not _is_glob(unit)}):
                self._reader.add_match(f"_SYSTEMD_UNIT={unit}")
            self._reader.add_disjunction()
            for identifier in sorted({name for item in filters for name in item.identifiers}):
                self._reader.add_match(f"SYSLOG_IDENTIFIER={identifier}")

    def seek(self, position: str) -> bool:
        """Go on behind the entry at `position`; False if it is gone, and reading goes on with the next that is left.

        Raises JournalError.
        """
        try:
            self._reader.seek_cursor(position)
            if not self._reader._next():
                return False
            if self._reader.test_cursor(position):
                self.position, self._time = position, self._reader._get_realtime()
                return True
            self._reader.seek_cursor(position)  # to the one that is now next
        except ValueError:  # it is no cursor
            return False
        except OSError as error:
            raise _unreadable(error) from error
        return False

    def seek_time(self, since: int) -> None:
        """Begin with the first entry at or after `since`, in µs since the epoch."""
        self._since = since
        self._reader.seek_realtime(since)

    def read(self, sift: Callable[[bytes], Sequence[int]], limit: int = SLICE) -> Batch:
        """Read up to `limit` entries; those of whose message `sift` makes nothing are read no further."""
        reader = self._reader
        advance, get = reader._next, reader._get
        passed: list[tuple[Entry, Sequence[int]]] = []
        read = damaged = 0
        try:
            while read < limit and advance():
                read += 1
                try:
                    hits = sift(message := get("MESSAGE"))
                    if hits:
                        passed.append((self._entry(message), hits))
                except KeyError:  # it has no MESSAGE
                    continue
                except (OSError, ValueError):  # ValueError: a uid that is no number
                    damaged += 1
            all_read = read < limit
            if read:
                self.position, self._time = reader._get_cursor(), reader._get_realtime()
        except OSError as error:
            damaged, all_read = damaged + 1, False
            if not read:
                raise _unreadable(error) from error
            if passed:  # where the reader stands is not known; what passed must not be counted again
                self.position, self._time = passed[-1][0].position, passed[-1][0].time
        return Batch(passed, read, self.position, self._time, all_read, damaged)

    async def follow(self, sift: Callable[[bytes], Sequence[int]]) -> AsyncIterator[Batch]:
        """Read for ever; asleep while the journal is silent, watchful for some seconds after an entry that passed.

        A batch is empty only if it says what the one before could not: that all was read.
        """
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        alert_until = 0.0
        told = False  # that all was read

        def on_change() -> None:
            self._reader.process()
            changed.set()

        descriptor = self._reader.fileno()
        loop.add_reader(descriptor, on_change)
        try:
            while True:
                batch = self.read(sift)
                if not batch.read:
                    self._look_again()
                    batch = self.read(sift)
                if batch.entries:
                    alert_until = loop.time() + ALERT
                if batch.read or not told:
                    yield batch
                told = batch.all_read
                if not batch.all_read:
                    await asyncio.sleep(0)
                    continue
                pause = POLL if loop.time() < alert_until else self._timeout()
                try:
                    await asyncio.wait_for(changed.wait(), pause)
                except TimeoutError:
                    self._reader.process()
                changed.clear()
        finally:
            loop.remove_reader(descriptor)

    def close(self) -> None:
        """Close the journal's files."""
        self._reader.close()
        if self._streams is not None:
            self._streams.close()

    def _entry(self, message: bytes) -> Entry:
        """Read the rest of the entry at which the reader stands.

        Each field that is looked for costs a walk over the entry's, up to the field or, if it has none, to the end.
        """
        reader = self._reader
        get = reader._get
        position = reader._get_cursor()
        try:
            uid = int(get("_UID"))
        except KeyError:
            uid = None
        try:
            pid = int(get("_PID"))
        except KeyError:
            pid = None
        identifier = None
        try:
            unit = get("_SYSTEMD_UNIT").decode("utf-8", "replace")
        except KeyError:
            unit, identifier = None, self._get("SYSLOG_IDENTIFIER")  # it is asked for only then
        try:
            stdout = get("_TRANSPORT") == b"stdout"
        except KeyError:
            stdout = False
        stream = self._get("_STREAM_ID") if stdout else None
        return Entry(
            reader._get_realtime(),
            message,
            position,
            uid,
            unit,
            identifier,
            pid,
            stream is not None and self._is_continuation(stream, position),
        )

    def _get(self, field: str) -> str | None:
        try:
            return self._reader._get(field).decode("utf-8", "replace")
        except KeyError:
            return None

    def _is_continuation(self, stream: str, position: str) -> bool:
        """Whether the entry before the one at `position`, in the same stdout stream, was cut at journald's LineMax=."""
        if self._streams is None:
            self._streams = _open(self._directory)
            self._streams.fileno()  # from now on it hears of new files
        reader = self._streams
        reader.process()
        reader.flush_matches()
        reader.add_match(f"_STREAM_ID={stream}")
        reader.seek_cursor(position)
        if not reader._next() or not reader.test_cursor(position):
            return True  # what can't be looked at is not trusted
        if not reader._previous():
            return False
        try:
            return reader._get("_LINE_BREAK") == b"line-max"
        except KeyError:
            return False

    def _look_again(self) -> None:
        """Make libsystemd look at the end of the files again.

        It skips a file whose number of entries is what it was when the end was reached. But journald counts an entry
        before it links it to its fields, and who looks for matches in between would not see it until the next comes.
        """
        if self.position is None:
            self._reader.seek_realtime(self._since)
        else:
            self.seek(self.position)

    def _timeout(self) -> float | None:
        """Give the seconds after which libsystemd wants to look by itself; None: never (-1, inotify works)."""
        milliseconds = self._reader.get_timeout_ms()
        return None if milliseconds < 0 else milliseconds / 1000


def _unreadable(error: OSError) -> JournalError:
    return JournalError(f"cannot read the journal: {error.strerror}; see: journalctl --verify")


def _is_glob(unit: str) -> bool:
    return not {"*", "?", "["}.isdisjoint(unit)


def _open(directory: Path | None) -> _reader._Reader:
    """Open the journal. Raises JournalError, also where libsystemd would show an empty journal and no error."""
    folders = [directory] if directory is not None else [_PERSISTENT_FILES, _TRANSIENT_FILES]
    files = [file for folder in folders for file in (*folder.glob("*.journal"), *folder.glob("*/*.journal"))]
    places = " or ".join(map(str, folders))
    if not files:
        raise JournalError(f"no journal files in {places}; is systemd-journald running?")
    if not any(
        os.access(file, os.R_OK, effective_ids=True)
        for file in files
        if file.name.startswith("system") or directory is not None
    ):
        raise JournalError(
            f"not permitted to read the journal in {places}; the agent's user must be in group systemd-journal",
        )
    try:
        if directory is not None:
            return _reader._Reader(flags=0, path=str(directory))
        return _reader._Reader(flags=_reader.LOCAL_ONLY)
    except OSError as error:
        raise JournalError(f"cannot open the journal in {places}: {error.strerror}") from error
