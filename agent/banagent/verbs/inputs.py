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
from pathlib import Path
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
_HEAD: Final = 512  # bytes by which it is told what a log is
_COMPRESSED: Final[Mapping[bytes, tuple[str, str]]] = {  # how such files begin: what reads them, and their names' end
    b"\x1f\x8b": ("zcat", ".gz"),
    b"\xfd7zXZ\0": ("xzcat", ".xz"),
    b"BZh": ("bzcat", ".bz2"),
    b"\x28\xb5\x2f\xfd": ("zstdcat", ""),
    b"\x04\x22\x4d\x18": ("lz4cat", ""),
    b"PK\x03\x04": ("funzip", ""),
    b"\x1f\x9d": ("zcat", ""),
}
_JOURNAL: Final = b"LPKSHHRH"  # how a journal file begins
_CONTROL: Final = bytes({*range(32)} - {*b"\t\n\r\f\x1b"})
_RARE: Final = 16  # of so many bytes of a text, one at most is among these
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
    if arguments.journal and not Path(arguments.journal).is_dir():
        what = (
            "is no directory; a log is given without --journal"
            if Path(arguments.journal).exists()
            else "does not exist"
        )
        raise Stopped(f"--journal {quoted(arguments.journal)}: {what}", USAGE)
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
    """Open a log, to be read once. Raises one of `DAMAGED`; Stopped if it is no text."""
    if name == STDIN:
        return nullcontext(_text(name, _stdin()))
    found = _open(name)
    try:
        return _text(name, found)
    except BaseException:
        found.close()
        raise


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


def _text(name: str, stream: BufferedIOBase) -> BufferedIOBase:
    """Give a log, if it is a text. Raises Stopped if not, one of `DAMAGED`."""
    head = cast("io.BufferedReader", stream).peek(_HEAD)[:_HEAD] if hasattr(stream, "peek") else b""
    for begin, (command, suffix) in _COMPRESSED.items():
        if head.startswith(begin):
            why = f" and its name does not end with {suffix}" if suffix and name != STDIN else ", which is not read"
            raise _no_text(name, f"is compressed{why}; unpack it with {command}, and give - for standard input")
    if head.startswith(_JOURNAL):
        raise _no_text(name, "is a journal file; give its directory with --journal")
    head = head.lstrip(b"\0")  # a log that was emptied while it was written begins with them
    if (len(head) - len(head.translate(None, _CONTROL))) * _RARE > len(head):
        raise _no_text(name, "is no text")
    return stream


def _no_text(name: str, why: str) -> Stopped:
    return Stopped(f"{'standard input' if name == STDIN else quoted(name)} {why}", USAGE)


def _open(name: str) -> BufferedIOBase:
    opener = next((one for suffix, one in _OPENERS.items() if name.endswith(suffix)), None)
    found = open(name, "rb") if opener is None else opener(name, "rb")  # noqa: PTH123, SIM115 - a name may be /dev/fd/63; the caller closes it
    return cast("BufferedIOBase", found)
