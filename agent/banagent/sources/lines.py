# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lines of one file, in slices: how far it was read, and by what it is known again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from banagent.sources.rotation import HEAD, PlainFile, fingerprint

if TYPE_CHECKING:
    from banagent.sources.rotation import Source

CHUNK: Final = 131_072  # bytes read at a time, some 1000 lines
LONGEST: Final = CHUNK  # bytes of a line that are kept; so only the first line of a chunk can be longer
_NAMED_BY: Final = 256  # bytes of the first line


class Slice(NamedTuple):
    """Lines that were read in one go, each without its newline."""

    lines: list[bytes]
    start: int  # offset of the first one
    extra: int = 0  # bytes of the first one that are left out
    at_end: bool = False  # there was no more, as far as that is known without asking again


class Truncated(Exception):  # noqa: N818 - it is what happened, and no error
    """The file does not begin any more as it did."""


class Part:
    """A file, and how far it was read: one of those that a log file consists of over time."""

    def __init__(
        self,
        file: Source,
        offset: int = 0,
        name: str = "",
        known: tuple[int, str] = (0, ""),
    ) -> None:
        """Go on at `offset`; if that is within a line, with the next. Raises LogFileError."""
        self.file = file
        self.offset = offset  # of the first line that was not taken yet
        self._name = name
        self._known = known
        self._plain = file if isinstance(file, PlainFile) else None
        self._head = self._plain.read_at(0, max(known[0], min(offset, HEAD))) if self._plain else b""
        # when it was found, in ns since the epoch, as long as nothing of it was read
        self.unread_since = file.modified() if offset == 0 else None
        self.looked = self.unread_since  # when it was looked for copies
        self._rest = b""  # the beginning of a line whose end is not there yet
        self._left_out = 0  # bytes before and behind `_rest` that are not kept
        self._cut = False  # it is as long as is kept
        self._tail = self._plain is not None and offset > 0 and self._plain.read_at(offset - 1, 1) != b"\n"

    @property
    def name(self) -> str:
        """What its entries' positions have: it stays the same when the file is renamed, copied or compressed."""
        return self._name

    @property
    def known(self) -> tuple[int, str]:
        """The length and the fingerprint of its first bytes; 0 if nothing of it was read."""
        return (len(self._head), fingerprint(self._head)) if self._head else self._known

    @property
    def modified(self) -> int:
        """When it was last modified, in ns since the epoch; as long as nothing was read of it, when it was found."""
        return self.file.modified() if self.unread_since is None else self.unread_since

    @property
    def is_unfinished(self) -> bool:
        """Whether there is a line whose end is missing."""
        return bool(self._rest) and not self._tail

    def size(self) -> int | None:
        """Give how far it can be read now; None: as far as it goes, for it is compressed."""
        return self._plain.size() if self._plain else None

    def look(self) -> None:
        """Take note that its copies were looked for."""
        self.looked = self.file.modified()

    def take(self, size: int | None = None) -> Slice:
        """Read on, but not beyond `size`. Raises Truncated, and LogFileError."""
        at = self.offset + self._left_out + len(self._rest)
        chunk = self.file.read_at(at, CHUNK if size is None else max(min(CHUNK, size - at), 0))
        if self._plain and self._was_truncated(self._plain, at if not chunk else 0):
            raise Truncated  # looked at after reading, because it can happen at any time
        if not chunk:
            return Slice([], self.offset, at_end=chunk is not None)
        self.unread_since = None
        if len(self._head) == at < HEAD:
            self._head += chunk[: HEAD - at]
        lines, extra = self._split(chunk)
        start, self.offset = self.offset, at + len(chunk) - len(self._rest) - self._left_out
        if lines and self._tail:
            start += len(lines.pop(0)) + extra + 1
            extra, self._tail = 0, False
        if lines:
            self._learn(start, lines[0])
        return Slice(lines, start, extra, self._plain is not None and len(chunk) < CHUNK)

    def finish(self) -> Slice:
        """Give the line whose end is missing, because its writer writes elsewhere now.

        If more of it comes, that is left out.
        """
        given = Slice([self._rest], self.offset, self._left_out, at_end=True)
        self._learn(self.offset, self._rest)
        self.offset += len(self._rest) + self._left_out
        self._rest, self._left_out, self._cut, self._tail = b"", 0, False, True
        return given

    def restart(self) -> None:
        """Begin anew: the file was truncated."""
        self.offset, self._name, self._known, self._head = 0, "", (0, ""), b""
        self._rest, self._left_out, self._cut, self._tail = b"", 0, False, False
        self.unread_since = self.looked = self.file.modified()

    def _was_truncated(self, file: PlainFile, end: int) -> bool:
        return file.read_at(0, len(self._head)) != self._head or file.size() < end

    def _split(self, chunk: bytes) -> tuple[list[bytes], int]:
        """Give the lines that end in a chunk, and the bytes of the first that are left out; keep what is left over."""
        if self._cut:
            end = chunk.find(b"\n")
            if end < 0:
                self._left_out += len(chunk)
                return [], 0
            lines, extra = [self._rest, *chunk[end + 1 :].split(b"\n")], self._left_out + end
        else:
            lines, extra = (self._rest + chunk).split(b"\n"), self._left_out
            if len(lines) > 1 and len(lines[0]) > LONGEST:
                extra += len(lines[0]) - LONGEST
                lines[0] = lines[0][:LONGEST]
        rest = lines.pop()
        left_out = 0 if lines else self._left_out
        if len(rest) >= LONGEST:
            kept = rest.lstrip(b"\0")[:LONGEST]  # a writer that does not append leaves a hole after a truncation
            left_out += len(rest) - len(kept)
            rest = kept
        self._rest, self._left_out, self._cut = rest, left_out, len(rest) == LONGEST
        return lines, extra

    def _learn(self, start: int, first: bytes) -> None:
        """Name it after its first line."""
        if not self._name:
            if start > 0 and self._plain:
                first = self._plain.read_at(0, _NAMED_BY).partition(b"\n")[0]
            self._name = f"{self.file.inode:x}.{crc32(first[:_NAMED_BY]):08x}"
