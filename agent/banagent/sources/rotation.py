# SPDX-License-Identifier: LGPL-2.1-or-later
"""A log file and what it was rotated to: opening them safely, and telling them apart and in order.

A file that was renamed is known by its inode; one that was copied, compressed or truncated by its first bytes.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import stat
import zlib
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, Protocol

from banagent.errors import BanagentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

HEAD: Final = 1024  # bytes at a file's beginning by which it is known
SKIPPED: Final = 1 << 20  # bytes of a compressed file that are skipped in one go

_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
# logrotate's names: "auth.log.1", "auth.log-20261122", "auth.log-20261122-1795302597.gz"; newsyslog's "maillog.0.bz2"
_ROTATED: Final = re.compile(r"[.-](\d[\d.\-_]*)(\.(?:gz|xz|lzma|bz2|zst|lz4|Z))?")
_DATES: Final = 100_000  # a first number from here on is a date and grows; smaller ones are counted up with the age
_DAMAGED: Final = (EOFError, OSError, lzma.LZMAError, zlib.error, ValueError)
_LISTINGS: Final = 10  # tries for two like ones, while files are being renamed


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


_OPENERS: Final[Mapping[str, Callable[[BinaryIO], _Stream]]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".xz": lzma.LZMAFile,
    ".lzma": lzma.LZMAFile,
    ".bz2": bz2.BZ2File,
}


class LogFileError(BanagentError):
    """A log file can't be read; the text says why and what to do."""


class Source(Protocol):
    """An open file, renamed or not."""

    inode: int

    def read_at(self, offset: int, size: int) -> bytes | None:
        """Give at most `size` bytes, none at the end; None: not there yet, ask again. Raises LogFileError."""
        ...

    def modified(self) -> int:
        """Give the time of the last write to it, in ns since the epoch."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class PlainFile:
    """A file as it was written."""

    def __init__(self, path: str) -> None:
        """Open a regular file; of symbolic links, one to a file in the same folder.

        Raises LogFileError, or FileNotFoundError.
        """
        self.path = path
        self._descriptor = _open(path)
        self.inode = os.fstat(self._descriptor).st_ino

    def read_at(self, offset: int, size: int) -> bytes:
        """Read."""
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise LogFileError(f"cannot read {self.path}: {error.strerror}") from error

    def size(self) -> int:
        """Give its size."""
        return os.fstat(self._descriptor).st_size

    def is_deleted(self) -> bool:
        """Whether no folder has it any more."""
        return os.fstat(self._descriptor).st_nlink == 0

    def modified(self) -> int:
        """Give the time of the last write to it, in ns since the epoch."""
        return os.fstat(self._descriptor).st_mtime_ns

    def fileno(self) -> int:
        """Give the descriptor."""
        return self._descriptor

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


class CompressedFile:
    """A file that was compressed when it was rotated; read in one direction, the bytes are counted decompressed."""

    def __init__(self, path: str, suffix: str) -> None:
        """Raise LogFileError, or FileNotFoundError."""
        if suffix not in _OPENERS:
            raise LogFileError(f"{path} can't be decompressed here; let logrotate use gzip, xz or bzip2")
        self.path = path
        self._suffix = suffix
        self._raw = os.fdopen(_open(path), "rb")
        self.inode = os.fstat(self._raw.fileno()).st_ino
        self._begin()

    def read_at(self, offset: int, size: int) -> bytes | None:
        """Decompress; the way to `offset` in slices."""
        try:
            if offset < self._at:
                self._begin()
            if offset > self._at:
                skipped = len(self._stream.read(min(offset - self._at, SKIPPED)))
                self._at += skipped
                return None if skipped else b""
            data = self._stream.read(size)
        except _DAMAGED as error:
            raise LogFileError(f"{self.path} can't be decompressed: {error}") from error
        self._at += len(data)
        return data

    def modified(self) -> int:
        """Give the time of the last write to it before it was compressed; all programs keep it."""
        return os.fstat(self._raw.fileno()).st_mtime_ns

    def close(self) -> None:
        """Close it."""
        self._raw.close()

    def _begin(self) -> None:
        self._raw.seek(0)
        self._stream = _OPENERS[self._suffix](self._raw)
        self._at = 0


class Rotated(NamedTuple):
    """A file that stands beside a log file, and is what that was rotated to."""

    path: str
    inode: int
    modified: int  # ns since the epoch
    suffix: str = ""  # of its compression
    style: int = 0  # of its name: 1 counted up with the age, 2 dated, 0 any other
    number: tuple[int, ...] = ()  # in its name; grows from the oldest to the newest

    def open(self) -> Source:
        """Open it. Raises FileNotFoundError, also if it has another name by now; and LogFileError."""
        file = CompressedFile(self.path, self.suffix) if self.suffix else PlainFile(self.path)
        if file.inode != self.inode:
            file.close()
            raise FileNotFoundError(self.path)
        return file


def fingerprint(head: bytes) -> str:
    """Give what a file is known by, from its first bytes."""
    return blake2b(head, digest_size=12).hexdigest()


def begins_with(source: Source, length: int, print_: str) -> bool:
    """Whether the first `length` bytes of a file have this fingerprint. Raises LogFileError."""
    head = source.read_at(0, length) or b""
    return len(head) == length and fingerprint(head) == print_


def base(path: str) -> str | None:
    """Give the log file that `path` was, by its name; None: it has no name of a rotated file."""
    folder, name = os.path.split(path)
    for match in re.finditer(r"[.-]\d", name):
        if match.start() and _ROTATED.fullmatch(name, match.start()):
            return os.path.join(folder, name[: match.start()])  # noqa: PTH118 - for each name in a folder
    return None


def rotated(path: str) -> list[Rotated]:
    """Give what a log file was rotated to, the oldest first.

    While files are being renamed a listing may have one twice or not at all: it is repeated until it stays the same.
    """
    listing = list(_siblings(path))
    for _ in range(_LISTINGS):
        former, listing = listing, list(_siblings(path))
        if {item[:2] for item in former} == {item[:2] for item in listing}:
            break
    plain = {item.path for item in listing}  # what is being compressed is there twice, and the new one is not whole
    listing = [item for item in listing if not item.suffix or item.path.removesuffix(item.suffix) not in plain]
    return sorted(listing, key=lambda item: (item.style, item.number, item.modified))


def _siblings(path: str) -> Iterator[Rotated]:
    folder, name = os.path.split(path)
    try:
        with os.scandir(folder) as found:
            for item in found:
                if not item.name.startswith(name) or item.name == name:
                    continue
                if item.name[len(name)] not in ".-":
                    continue
                try:
                    status = item.stat(follow_symlinks=False)
                except OSError:  # it was renamed or deleted meanwhile
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield Rotated(item.path, status.st_ino, status.st_mtime_ns, *_age(item.name[len(name) :]))
    except OSError:
        return


def _age(suffix: str) -> tuple[str, int, tuple[int, ...]]:
    """Give how a file is compressed, its name's style and its number, from what follows the log file's own name."""
    match = _ROTATED.fullmatch(suffix)
    if match is None:
        return "", 0, ()
    numbers = tuple(int(part[:18]) for part in re.findall(r"\d+", match[1]))
    if numbers[0] < _DATES and len(numbers) == 1:
        return match[2] or "", 1, (-numbers[0],)
    return match[2] or "", 2, numbers


def _open(path: str) -> int:
    """Open a regular file for reading and give the descriptor. Raises LogFileError, or FileNotFoundError."""
    try:
        if stat.S_ISLNK(os.lstat(path).st_mode):
            path = _target(path)
        _check(path, os.lstat(path).st_mode)  # opening a device can do something to it
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise LogFileError(f"not permitted to read {path}; see: banagent check") from error
    except OSError as error:
        raise LogFileError(f"cannot read {path}: {error.strerror}") from error
    try:
        _check(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _target(path: str) -> str:
    """Give where a symbolic link leads; whoever may write in the log's folder must not choose what is read."""
    link = Path(path)
    target = os.path.normpath(link.parent / link.readlink())
    if os.path.dirname(target) != os.path.normpath(link.parent):  # noqa: PTH120 - of a path as text
        raise LogFileError(f"{path} is a symbolic link out of its folder; name the target itself in logpath: {target}")
    return target


def _check(path: str, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = {
        stat.S_IFDIR: "a directory; name its files in logpath",
        stat.S_IFIFO: "a FIFO; let the service write to a file",
        stat.S_IFLNK: "a symbolic link to another; name the target itself in logpath",
    }
    raise LogFileError(f"{path} is {kinds.get(stat.S_IFMT(mode), 'no regular file')}")
