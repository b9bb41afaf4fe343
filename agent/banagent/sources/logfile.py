# SPDX-License-Identifier: LGPL-2.1-or-later
"""A log file: all that is written to one path, read once and only once, over rotations and restarts."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from banagent.core.events import SECOND
from banagent.sources.batch import Batch
from banagent.sources.decoder import YEAR, Decoder
from banagent.sources.lines import CHUNK, Part, Slice, Truncated
from banagent.sources.rotation import (
    LogFileError,
    PlainFile,
    Rotated,
    begins_with,
    rotated,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import tzinfo

    from banagent.sources.rotation import Source

LINGERING: Final = 3  # rotated files that are kept open, because a writer may not know yet
SILENT: Final = 60 * SECOND  # after which a deleted file is closed: until then its writer may not know yet
_TICK: Final = 20_000  # µs that a file's time of modification may be behind the clock
_PROBED: Final = 16 * CHUNK  # bytes in which a line with a stamp is looked for
_NEAR: Final = 4096  # bytes that are read line by line instead of bisected further


class _Saved(NamedTuple):
    """What a position says of a part."""

    name: str
    inode: int
    offset: int
    known: tuple[int, str]


class LogFile:
    """What is written to one path.

    Over time that is several files: the one at the path, and before it those that it was rotated to. Each is read to
    its end before the next, and some stay open for a writer that was not told yet. `path` should be absolute.
    """

    def __init__(self, path: str, formats: Sequence[str] = ("syslog",), zone: tzinfo | None = None) -> None:
        self.path = path
        self.missed: list[str] = []  # sentences that say what may have been missed; for the caller to take
        self._decoder = Decoder(path, formats, zone)
        self._parts: list[Part] = []  # the oldest first; the last is the newest that is known
        self._seen = 0  # when it was last read to its end: what came later is younger
        self._time = 0  # of the last line
        self._unreadable: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why it can't be read now, and what to do."""
        if self._unreadable is None and self._decoder.misfit:
            return f"the lines of {self.path} are in none of the filter's formats; see banagent-filter(5)"
        return self._unreadable

    @property
    def position(self) -> str | None:
        """How far it was read, for `resume`; None: nothing was ever found there."""
        if not self._parts:
            return None
        return json.dumps(
            {
                "seen": self._seen,
                "parts": [(part.name, part.file.inode, part.offset, *part.known) for part in self._parts],
                **({"going_on": streams} if (streams := self._decoder.going_on) else {}),
            },
            separators=(",", ":"),
        )

    @property
    def inodes(self) -> set[int]:
        """The files that are open."""
        return {part.file.inode for part in self._parts}

    @property
    def descriptors(self) -> list[int]:
        """The open files that somebody may write to."""
        return [part.file.fileno() for part in self._parts if isinstance(part.file, PlainFile)]

    def is_gone(self, now: int) -> bool:
        """Whether nothing is left of it, in any folder."""
        return not os.path.lexists(self.path) and all(_is_over(part, now) for part in self._parts)

    def resume(self, position: str) -> bool:
        """Go on behind a saved position; False: it is none. What can't be found any more is told in `missed`."""
        try:
            saved, self._seen, self._decoder.going_on = _load(position)
        except (ValueError, TypeError, KeyError):
            self.missed.append(f"{self.path}: its saved position can't be read: lines may be missed")
            return False
        siblings = rotated(self.path)
        at: Rotated | None = None
        for item in saved:
            part, at = self._locate(item, siblings)
            if part is not None:
                self._parts.append(part)
            elif item is saved[-1] and item.offset > 0:
                self._tell_missed(siblings)
        self._append(self._unread(siblings, at))
        return True

    def seek_time(self, since: int, now: int) -> None:
        """Begin with the first line at or after `since`, in µs since the epoch; without stamps, with what comes."""
        self._seen = since
        try:
            file = PlainFile(self.path)
            try:
                offset = self._bisect(file, since, now)
            except Truncated:
                offset = 0
            self._parts = [Part(file, offset)]
        except FileNotFoundError:
            return
        except LogFileError as error:
            self._unreadable = str(error)

    def read(self, sift: Callable[[bytes], Sequence[int]], now: int) -> Batch:
        """Read on, one slice; `now` is when lines arrive that say no time that can be believed."""
        taken, part = self._take(now)
        if part is None:
            if taken.at_end:
                self._seen = now
            return Batch([], 0, self.position, self._time, taken.at_end, source=self.path)
        entries = self._decoder.entries(taken, part.name, sift, self._seen, now)
        self._time = self._decoder.stamp(taken.lines[-1], self._seen, now) or now
        all_read = taken.at_end and part is self._parts[-1] and not self._is_rotated()
        if all_read:
            self._seen = now
        return Batch(entries, len(taken.lines), self.position, self._time, all_read, source=self.path)

    def close(self) -> None:
        """Close all its files."""
        for part in self._parts:
            part.file.close()
        self._parts = []

    def _take(self, now: int) -> tuple[Slice, Part | None]:
        """Give the next lines and where they stand; no part: there are none now."""
        if self._parts and self._has_unread_copies(self._parts[-1]):
            return Slice([], 0), None
        for number, part in enumerate(self._parts):
            try:
                taken = part.take()
            except Truncated:
                self._follow_truncated(part)
                return Slice([], 0), None
            except LogFileError as error:
                if isinstance(part.file, PlainFile):
                    self._unreadable = str(error)
                    continue
                self.missed.append(f"{self.path}: what was written to it earlier may be missed: {error}")
                self._parts.remove(part)
                return Slice([], 0), None
            if taken.lines:
                return taken, part
            if not taken.at_end:
                return taken, None
            if part.is_unfinished and any(_has_data(newer) for newer in self._parts[number + 1 :]):
                return part.finish(), part
        self._drop_old(now)
        return Slice([], 0, at_end=not self._follow_rotated()), None

    # what the path led to, and leads to now

    def _is_rotated(self) -> bool:
        """Whether the path does not lead to the newest file that is known."""
        try:
            return not self._parts or os.stat(self.path).st_ino != self._parts[-1].file.inode  # noqa: PTH116 - hot
        except OSError:
            return True

    def _follow_rotated(self) -> bool:
        """Open what is at the path now, and what was there since the newest file that is known."""
        if not self._is_rotated():
            return False
        siblings = rotated(self.path) if self._parts else []
        at = None
        if self._parts:
            newest = self._parts[-1]
            at = next((item for item in siblings if item.inode == newest.file.inode), None) or _same(siblings, newest)
        return self._append(self._unread(siblings, at))

    def _follow_truncated(self, part: Part) -> None:
        """Go on after a file was truncated: with the copy that was made of it, and then at its beginning."""
        if part is not self._parts[-1]:  # it was rotated away and read to its end
            self._parts.remove(part)
            part.file.close()
            return
        known, offset, name = part.known, part.offset, part.name
        part.restart()
        siblings = [item for item in rotated(self.path) if item.inode not in self.inodes]
        at = _copy(siblings, known, offset)
        self._parts.remove(part)
        if at is None:
            self.missed.append(
                f"{self.path} was truncated, and no copy of it was found: what was written to it last may be missed"
            )
        else:
            with suppress(FileNotFoundError, LogFileError):
                self._parts.append(Part(at.open(), offset, name, known))
            self._open_all([item for item in siblings if item.style and item.is_after(at)])
        self._parts.append(part)

    def _unread(self, siblings: Sequence[Rotated], at: Rotated | None) -> list[Rotated]:
        """Give those that were begun after the newest that is known, which is `at`, or else is not there any more."""
        if at is not None:
            newer = [item for item in siblings if item.is_after(at)]
        elif not self._parts:
            newer = [item for item in siblings if item.modified > (self._seen - _TICK) * 1000]
        elif self._is_rotated() and isinstance(last := self._parts[-1].file, PlainFile):  # it was deleted, or put away
            newer = [item for item in siblings if item.modified > last.modified()]
        else:
            newer = []
        return [item for item in newer if item.style and item.inode not in self.inodes]

    def _has_unread_copies(self, part: Part) -> bool:
        """Look for copies of a file of which nothing was read yet: it may have been written, copied and truncated."""
        since, file = part.unread_since, part.file
        if since is None or not isinstance(file, PlainFile) or file.modified() == since:
            return False
        part.unread_since = file.modified()
        siblings = rotated(self.path)
        at = next((item for item in siblings if item.inode == file.inode), None)
        if at is None and self._is_rotated():
            return False
        copies = [item for item in siblings if item.modified > since and (at is None or at.is_after(item))]
        before = len(self._parts)
        self._parts.remove(part)
        self._open_all([item for item in copies if item.style and item.inode not in {*self.inodes, file.inode}])
        self._parts.append(part)
        return len(self._parts) > before

    def _append(self, newer: Sequence[Rotated]) -> bool:
        """Add files to read, and then the one at the path; give whether there is any."""
        before = len(self._parts)
        self._open_all(newer)
        try:
            file = PlainFile(self.path)
        except FileNotFoundError:
            self._unreadable = None
        except LogFileError as error:
            self._unreadable = str(error)
        else:
            self._unreadable = None
            if file.inode in self.inodes:
                file.close()
            else:
                self._parts.append(Part(file))
        return len(self._parts) > before

    def _open_all(self, newer: Sequence[Rotated]) -> None:
        for item in newer:
            try:
                file = item.open()
                if any(_is_compressed(part, file) for part in self._parts):
                    file.close()
                else:
                    self._parts.append(Part(file))
            except FileNotFoundError:
                continue
            except LogFileError as error:
                self.missed.append(f"{self.path}: what was written to it earlier may be missed: {error}")

    def _drop_old(self, now: int) -> None:
        """Close files that were rotated away and read to their ends, but for the newest of them."""
        kept: list[Part] = []
        for number, part in enumerate(reversed(self._parts)):
            if number == 0 or (number <= LINGERING and not _is_over(part, now)):
                kept.insert(0, part)
            else:
                part.file.close()
        self._parts = kept

    def _locate(self, saved: _Saved, siblings: Sequence[Rotated]) -> tuple[Part | None, Rotated | None]:
        """Find the file of which a position tells, by inode or else by its first bytes; and which sibling it is."""
        here = Rotated(self.path, 0, 0)
        for by_inode in (True, False):
            for item in (here, *reversed(siblings)):
                if by_inode and item is not here and item.inode != saved.inode:
                    continue
                with suppress(FileNotFoundError, LogFileError):
                    file = item.open()
                    if file.inode not in self.inodes and _fits(file, saved, by_inode=by_inode):
                        return Part(file, saved.offset, saved.name, saved.known), None if item is here else item
                    file.close()
        return None, None

    def _tell_missed(self, siblings: Sequence[Rotated]) -> None:
        since = datetime.fromtimestamp(self._seen / SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        sentence = (
            f"{self.path} was rotated, and where it was read last is not found: lines since {since} may be missed"
        )
        for item in siblings:
            try:
                item.open().close()
            except LogFileError as error:
                sentence += f"; {error}"
            except FileNotFoundError:
                continue
        self.missed.append(sentence)

    # the first start

    def _bisect(self, file: PlainFile, since: int, now: int) -> int:
        """Give the offset of the first line at or after `since`; the last line's end if they say no times."""
        low, high = 0, file.size()
        if self._probe(file, 0, now) is None:
            return _last_end(file, high)
        while high - low > _NEAR:
            middle = (low + high) // 2
            found = self._probe(file, middle, now)
            if found is None or found >= since:
                high = middle
            else:
                low = middle
        for start, line in _lines(file, low):
            time = self._decoder.stamp(line, now - YEAR, now)
            if time is not None and time >= since:
                return start
        return _last_end(file, file.size())

    def _probe(self, file: PlainFile, offset: int, now: int) -> int | None:
        """Give the time of the first line behind `offset` that has one."""
        for start, line in _lines(file, offset):
            if start > offset + _PROBED:
                break
            time = self._decoder.stamp(line, now - YEAR, now)
            if time is not None:
                return time
        return None


def _load(position: str) -> tuple[list[_Saved], int, list[str]]:
    """Read what `LogFile.position` wrote. Raises ValueError, TypeError or KeyError for anything else."""
    found: dict[str, Any] = json.loads(position)
    saved = [
        _Saved(str(name), int(inode), max(int(offset), 0), (max(int(length), 0), str(known)))
        for name, inode, offset, length, known in found["parts"]
    ]
    return saved, int(found["seen"]), [str(stream) for stream in found.get("going_on", ())]


def _fits(file: Source, saved: _Saved, *, by_inode: bool) -> bool:
    """Whether a file is that of which a position tells. Raises LogFileError."""
    length, known = saved.known
    if by_inode and file.inode != saved.inode:
        return False
    if isinstance(file, PlainFile) and file.size() < saved.offset:
        return False
    return begins_with(file, length, known) if length else by_inode


def _same(siblings: Sequence[Rotated], part: Part) -> Rotated | None:
    """Give the newest sibling that is a copy of a part."""
    return _copy(siblings, part.known, part.offset)


def _copy(siblings: Sequence[Rotated], known: tuple[int, str], offset: int) -> Rotated | None:
    """Give the newest sibling that begins as is known, and is as long as it was read."""
    wanted = _Saved("", 0, offset, known)
    for item in reversed(siblings):
        with suppress(FileNotFoundError, LogFileError):
            file = item.open()
            fits = _fits(file, wanted, by_inode=False)
            file.close()
            if fits:
                return item
    return None


def _has_data(part: Part) -> bool:
    try:
        return part.offset > 0 or part.file.read_at(0, 1) != b""
    except LogFileError:
        return False


def _is_compressed(part: Part, file: Source) -> bool:
    """Whether a file is what a part, which is still open, was compressed to. Raises LogFileError."""
    plain = part.file
    if isinstance(file, PlainFile) or not isinstance(plain, PlainFile) or not plain.is_deleted():
        return False
    length, known = part.known
    return length > 0 and begins_with(file, length, known)


def _is_over(part: Part, now: int) -> bool:
    """Whether nobody writes to it any more: it is compressed, or was deleted and is silent since."""
    file = part.file
    return not isinstance(file, PlainFile) or (file.is_deleted() and file.modified() // 1000 < now - SILENT)


def _lines(file: PlainFile, offset: int) -> Iterator[tuple[int, bytes]]:
    """Give the lines that begin at or behind `offset`, with their offsets. Raises LogFileError, and Truncated."""
    part = Part(file, offset)
    at_end = False
    while not at_end:
        lines, start, extra, at_end = part.take()
        for line in lines:
            yield start, line
            start += len(line) + 1 + extra
            extra = 0


def _last_end(file: PlainFile, size: int) -> int:
    """Give where the last line that has an end ends."""
    begin = max(size - CHUNK, 0)
    end = file.read_at(begin, size - begin).rfind(b"\n")
    return size if end < 0 < begin else begin + end + 1
