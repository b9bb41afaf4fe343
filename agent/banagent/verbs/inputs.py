# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `test` and `replay` read: log files, standard input or lines of the command line, a slice at a time.

Nothing is kept of what was read, so a file may be of any size, and so may a line: of that, the agent keeps 128 KB.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import time
import zlib
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, cast

from banagent.sources.decoder import Stream
from banagent.sources.lines import Part
from banagent.verbs import USAGE, Stopped
from banagent.verbs.text import plural, quoted
from banagent.verbs.times import moment, now, parse

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from io import BufferedIOBase
    from typing import TextIO

STDIN: Final = "-"
_OPENERS: Final[Mapping[str, Callable[[str, str], object]]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".lzma": lzma.open,
    ".bz2": bz2.open,
}
DAMAGED: Final = (OSError, EOFError, zlib.error, lzma.LZMAError)
_PATIENCE: Final = 1.0  # seconds until it is said how far it is, and between two times


def check(arguments: Namespace, *lines: object) -> None:
    """Refuse what can't be read; if nothing is named, read a standard input that is no terminal. Raises Stopped."""
    inputs = [bool(arguments.log), *map(bool, lines), arguments.journal is not None]
    which = f"logs,{' --line' if lines else ''} or --journal"
    if sum(inputs) > 1:
        raise Stopped(f"give {which}, and only one of these", USAGE)
    if not any(inputs):
        if sys.stdin is None or sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison] - it can be closed
            raise Stopped(f"give {which}; - is standard input", USAGE)
        arguments.log = [STDIN]
    if arguments.journal is None and arguments.since is not None:
        raise Stopped("--since is for --journal", USAGE)


def begin(arguments: Namespace) -> int:
    """Give from when on the journal is read, in µs since the epoch. Raises Stopped."""
    if arguments.since is None:
        return 0
    try:
        return int(parse(moment(arguments.since, now())).timestamp()) * 1_000_000
    except ValueError as error:
        raise Stopped(f"--since {arguments.since}: {error}", USAGE) from None


class Progress:
    """How far a long reading is, on the last line of a terminal; nothing anywhere else."""

    def __init__(self, stream: TextIO | None, noun: str = "line") -> None:
        self._stream = stream if stream is not None and stream.isatty() else None
        self._noun = noun
        self._read = 0
        self._next = time.monotonic() + _PATIENCE
        self._shown = False

    def add(self, read: int) -> None:
        """Take note of what was read."""
        self._read += read
        if self._stream is not None and (now := time.monotonic()) >= self._next:
            self._next = now + _PATIENCE
            self._shown = True
            self._write(f"\r{plural(self._read, self._noun)} read\x1b[K")

    def clear(self) -> None:
        """Take it away, so that something else can be shown there."""
        if self._shown:
            self._shown = False
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                self._stream = None  # nobody looks at it any more


def slices(name: str) -> Iterator[list[bytes]]:
    """Give the lines of a log, some hundreds at a time, without their newlines. Raises Stopped."""
    try:
        with opened(name) as stream:
            part = Part(Stream(stream))
            ended = False
            while not ended:
                taken = part.take()
                ended = taken.at_end
                if ended and part.is_unfinished:
                    taken = part.finish()
                if taken.lines:
                    yield taken.lines
    except DAMAGED as error:
        raise unreadable(name, error) from error


def opened(name: str) -> AbstractContextManager[BufferedIOBase]:
    """Open a log, to be read once. Raises one of `DAMAGED`."""
    return nullcontext(_stdin()) if name == STDIN else _open(name)


def unreadable(name: str, error: BaseException) -> Stopped:
    """Say that a log can't be read."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "it is damaged"
    return Stopped(f"can't read {'standard input' if name == STDIN else quoted(name)}: {why}", USAGE)


def typed(lines: Iterable[str]) -> list[bytes]:
    """Give lines that were typed as they would stand in a file."""
    return [line.encode("utf-8", "surrogateescape") for line in lines]


def _stdin() -> BufferedIOBase:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it can be closed
        return io.BytesIO()
    return cast("BufferedIOBase", sys.stdin.buffer)


def _open(name: str) -> BufferedIOBase:
    opener = next((one for suffix, one in _OPENERS.items() if name.endswith(suffix)), None)
    found = open(name, "rb") if opener is None else opener(name, "rb")  # noqa: PTH123, SIM115 - a name may be /dev/fd/63; the caller closes it
    return cast("BufferedIOBase", found)
