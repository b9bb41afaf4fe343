# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines to entries: the format found out, the message sifted, and the rest read only of what passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from banagent.core.events import Entry
from banagent.sources.batch import Batch
from banagent.sources.formats import MAKERS, Docker, Plain
from banagent.sources.lines import Part
from banagent.sources.stamps import DAY, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import tzinfo
    from io import BufferedIOBase

    from banagent.sources.formats import Format, Parsed
    from banagent.sources.lines import Slice

YEAR: Final = 364 * DAY  # how old a stamp without year may be where nothing else is known


class Decoder:
    """Lines to entries, in the formats that a file's lines may have."""

    def __init__(self, source: str, formats: Sequence[str], zone: tzinfo | None = None) -> None:
        """Take names of formats; they are tried in this order. `zone` is the machine's unless given."""
        self._source = source
        self._formats: list[Format] = [MAKERS[name]() for name in formats]
        self._fitted = self._formats[0]  # the last that fitted, but for one that always does
        self._zone = zone
        self.misfit = False  # none of the lines read last was in any of the formats

    @property
    def going_on(self) -> list[str]:
        """The streams whose line goes on with the next piece, of formats that have such."""
        return sorted({stream for item in self._formats if isinstance(item, Docker) for stream in item.open})

    @going_on.setter
    def going_on(self, streams: Sequence[str]) -> None:
        for item in self._formats:
            if isinstance(item, Docker):
                item.open = set(streams)

    def entries(
        self, taken: Slice, name: str, sift: Callable[[bytes], Sequence[int]], since: int, now: int
    ) -> list[tuple[Entry, Sequence[int]]]:
        """Give the entries among lines that pass; a line in none of the formats is no entry.

        `since` is when the file was last read to its end.
        """
        cut = self._fitted.cut
        found: list[tuple[Entry, Sequence[int]]] = []
        misfits = 0
        place = f"{self._source}@{name}:"
        first = at = taken.start + taken.extra
        for line in taken.lines:
            message = cut(line)
            if message is None:
                message = self._try(line)
                cut = self._fitted.cut
            if message is None:
                misfits += 1
            elif hits := sift(message):
                parsed = self._fitted.parse(line)
                if parsed is None or parsed.message != message:
                    parsed, hits = self._look_closer(line, message, hits, sift)
                if parsed is not None:
                    message, stamp, identifier, pid, continuation = parsed
                    time = settle(stamp, since, now, self._zone)
                    position = f"{place}{taken.start if at == first else at}"
                    # uid and unit: a file has no sender
                    entry = Entry(time, message, position, None, None, identifier, pid, continuation, self._source)
                    found.append((entry, hits))
            at += len(line) + 1
        self.misfit = misfits > 0 and misfits == len(taken.lines)
        return found

    def stamp(self, line: bytes, since: int, now: int) -> int | None:
        """Give a line's time; None: it says none that can be believed."""
        for item in self._formats:
            parsed = item.parse(line)
            if parsed is not None and parsed.stamp is not None:
                time = settle(parsed.stamp, since, now, self._zone)
                return time if time != now else None
        return None

    def _try(self, line: bytes) -> bytes | None:
        """Try the other formats, and what follows a hole in the file."""
        line = line.lstrip(b"\0")
        for item in (self._fitted, *self._formats):
            message = item.cut(line)
            if message is not None:
                if not isinstance(item, Plain):
                    self._fitted = item
                return message
        return None

    def _look_closer(
        self, line: bytes, message: bytes, hits: Sequence[int], sift: Callable[[bytes], Sequence[int]]
    ) -> tuple[Parsed | None, Sequence[int]]:
        """Look closer at a line that passed: its message begins elsewhere, or its format is another."""
        formats = (self._fitted, *(item for item in self._formats if item is not self._fitted))
        for text in (line, line.lstrip(b"\0")) if line.startswith(b"\0") else (line,):
            for item in formats:
                parsed = item.parse(text)
                if parsed is not None:
                    hits = hits if parsed.message == message else sift(parsed.message)
                    return parsed if hits else None, hits
        return None, ()


class Stream:
    """What can be read once and in order only, for `Part`."""

    inode = 0

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream

    def read_at(self, offset: int, size: int) -> bytes:  # noqa: ARG002 - it can only be the next
        """Give what comes next, as soon as there is something."""
        return self._stream.read1(size)

    def modified(self) -> int:
        """Give 0: it is no matter."""
        return 0

    def close(self) -> None:
        """Close it."""
        self._stream.close()


def read_stream(
    stream: BufferedIOBase,
    formats: Sequence[str],
    sift: Callable[[bytes], Sequence[int]],
    now: Callable[[], int],
    *,
    source: str = "-",
) -> Iterator[Batch]:
    """Read a file, standard input or a pipe to its end; `now` is the clock, in µs since the epoch.

    A stamp without year is one of the last twelve months. Positions are offsets, and can't be resumed.
    """
    decoder = Decoder(source, formats)
    part = Part(Stream(stream))
    time, ended = 0, False
    while not ended:
        taken = part.take()
        ended = taken.at_end
        if ended and part.is_unfinished:
            taken = part.finish()
        moment = now()
        entries = decoder.entries(taken, part.name, sift, moment - YEAR, moment)
        if taken.lines:
            time = decoder.stamp(taken.lines[-1], moment - YEAR, moment) or moment
        yield Batch(entries, len(taken.lines), str(part.offset), time, ended, source=source)
