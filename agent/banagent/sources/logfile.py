# SPDX-License-Identifier: LGPL-2.1-or-later
"""A log file: all that is written to one path, read once and only once, over rotations and restarts."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from banagent.core.events import SECOND
from banagent.sources.batch import Batch
from banagent.sources.chain import Chain, Saved
from banagent.sources.decoder import YEAR, Decoder
from banagent.sources.lines import CHUNK, Part, Truncated
from banagent.sources.rotation import LogFileError, PlainFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import tzinfo

    from banagent.core.events import Entry

_PROBED: Final = 16 * CHUNK  # bytes in which a line with a stamp is looked for
_NEAR: Final = 4096  # bytes that are read line by line instead of bisected further


class LogFile:
    """What is written to one path.

    Over time that is several files: the one at the path, and before it those that it was rotated to. Each is read to
    its end before the next, and some stay open for a writer that was not told yet. `path` should be absolute.
    """

    def __init__(self, path: str, formats: Sequence[str] = ("syslog",), zone: tzinfo | None = None) -> None:
        self.path = path
        self._decoder = Decoder(path, formats, zone)
        self._chain = Chain(path)
        self._seen = 0  # when it was last read to its end: what came later is younger
        self._time = 0  # of the last line

    @property
    def trouble(self) -> str | None:
        """Why it can't be read now, and what to do."""
        if self._chain.unreadable is None and self._decoder.misfit:
            return f"the lines of {self.path} are in none of the filter's formats; see banagent-filter(5)"
        return self._chain.unreadable

    @property
    def missed(self) -> list[str]:
        """Sentences that say what may have been missed; for the caller to take away."""
        return self._chain.missed

    @property
    def position(self) -> str | None:
        """How far it was read, for `resume`; None: nothing was ever found there."""
        if not self._chain.parts:
            return None
        saved, since = self._chain.save()
        found: dict[str, object] = {"seen": self._seen, "parts": saved, "since": since}
        if going_on := self._decoder.going_on:
            found["going_on"] = going_on
        return json.dumps(found, separators=(",", ":"))

    @property
    def inodes(self) -> set[int]:
        """The files that are open."""
        return self._chain.inodes

    @property
    def descriptors(self) -> list[int]:
        """The open files that somebody may write to."""
        return [part.file.fileno() for part in self._chain.parts if isinstance(part.file, PlainFile)]

    @property
    def is_rotated(self) -> bool:
        """Whether the path does not lead to the newest file that is known."""
        return self._chain.is_rotated()

    def is_gone(self, now: int) -> bool:
        """Whether nothing is left of it, in any folder."""
        return self._chain.is_over(now)

    def resume(self, position: str) -> bool:
        """Go on behind a saved position; False: it is none. What can't be found any more is told in `missed`."""
        try:
            saved, since, self._seen, self._decoder.going_on = _load(position)
        except (ValueError, TypeError, KeyError):
            self.missed.append(f"{self.path}: its saved position can't be read: lines may be missed")
            return False
        if not self._chain.resume(saved, since):
            seen = datetime.fromtimestamp(self._seen / SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self.missed.append(
                f"{self.path} was rotated, and where it was read last is not found: lines since {seen} may be missed"
            )
        return True

    def seek_time(self, since: int, now: int) -> None:
        """Begin with the first line at or after `since`, in µs since the epoch; without stamps, with what comes."""
        self._seen = since
        self._chain.resume([], since * 1000)
        parts = self._chain.parts
        for number, part in enumerate(parts):  # also what was rotated away since then
            if isinstance(part.file, PlainFile):
                with suppress(Truncated, LogFileError):
                    parts[number] = Part(part.file, self._bisect(part.file, since, now))

    def read(self, sift: Callable[[bytes], Sequence[int]], now: int) -> Batch:
        """Read on, one slice; `now` is when lines arrive that say no time that can be believed."""
        taken, part = self._chain.take(now)
        entries: list[tuple[Entry, Sequence[int]]] = []
        all_read = taken.at_end
        if part is not None:
            entries = self._decoder.entries(taken, part.name, sift, self._seen, now)
            self._time = self._decoder.stamp(taken.lines[-1], self._seen, now) or now
            all_read = all_read and part is self._chain.parts[-1] and not self._chain.is_rotated()
        if all_read:
            self._seen = now
        return Batch(entries, len(taken.lines), self.position, self._time, all_read, source=self.path)

    def close(self) -> None:
        """Close all its files."""
        self._chain.close()

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


def _load(position: str) -> tuple[list[Saved], int, int, list[str]]:
    """Read what `LogFile.position` wrote. Raises ValueError, TypeError or KeyError for anything else."""
    found: dict[str, Any] = json.loads(position)
    saved = [
        Saved(str(name), int(inode), max(int(offset), 0), int(modified), max(int(length), 0), str(known))
        for name, inode, offset, modified, length, known in found["parts"]
    ]
    return saved, int(found["since"]), int(found["seen"]), [str(stream) for stream in found.get("going_on", ())]


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
