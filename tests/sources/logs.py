# SPDX-License-Identifier: LGPL-2.1-or-later
"""A service that writes a log, and what rotates it; and a reader that is killed and goes on from its last position."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from banagent.sources.chain import LINGERING
from banagent.sources.logfile import LogFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from banagent.core.events import Entry
    from banagent.sources.batch import Batch

COMPRESSED: Final[dict[str, Callable[[bytes], bytes]]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}
ENOUGH: Final = 10_000  # slices


def now() -> int:
    return time.time_ns() // 1000


def everything(_: bytes) -> Sequence[int]:
    return [0]


class Service:
    """Writes numbered lines to a path.

    It goes on writing to a renamed file until it is told (`hup`), at the latest when `LINGERING` files are newer.
    """

    def __init__(self, path: Path, *, dated: bool = False) -> None:
        self.path = path
        self.written: list[bytes] = []  # lines, whole
        self.rotations = 0
        self._dated = dated
        self._begun = b""
        self._newer = 0
        self._file = path.open("ab", buffering=0)

    def write(self, lines: int = 1, padding: int = 0) -> None:
        """Write some lines at once; a begun one is ended first."""
        self.end_line()
        new = [b"line %d %s" % (len(self.written) + number, b"x" * padding) for number in range(lines)]
        self._file.write(b"".join(line + b"\n" for line in new))
        self.written += new

    def begin_line(self) -> None:
        """Write a line's beginning."""
        self.end_line()
        self._begun = b"line %d beg" % len(self.written)
        self._file.write(self._begun)

    def end_line(self) -> None:
        """Write the rest of it."""
        if self._begun:
            self._file.write(b"un\n")
            self.written.append(self._begun + b"un")
            self._begun = b""

    def hup(self) -> None:
        """Tell it that its log was rotated."""
        self.end_line()
        self._file.close()
        self._newer = 0
        self._file = self.path.open("ab", buffering=0)

    def rotate(self, *, create: bool = True) -> None:
        """Rename the log, and make a new one."""
        if self.path.exists():
            self.path.rename(self._make_room())
        if create:
            self.path.touch()

    def copytruncate(self) -> None:
        """Copy the log and empty it, between two lines."""
        self.end_line()
        if self.path.exists():
            shutil.copyfile(self.path, self._make_room())
            os.truncate(self.path, 0)

    def compress(self, suffix: str) -> None:
        """Compress the oldest file that is not, unless it is still written to."""
        for file in self.rotated():
            if file.suffix not in COMPRESSED and file.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
                status = file.stat()
                target = Path(f"{file}{suffix}")
                target.write_bytes(COMPRESSED[suffix](file.read_bytes()))
                os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))  # as all of these programs do
                file.unlink()
                return

    def rotated(self) -> list[Path]:
        """Give what the log was rotated to, the oldest first."""
        files = list(self.path.parent.glob(f"{self.path.name}[.-]*"))
        return sorted(files, key=lambda file: self._number(file) * (1 if self._dated else -1))

    def close(self) -> None:
        self.end_line()
        self._file.close()

    def _number(self, file: Path) -> int:
        return int(file.name[len(self.path.name) + 1 :].split(".")[0])

    def _make_room(self) -> Path:
        if self._newer == LINGERING - 1:
            self.hup()
        self._newer += 1
        self.rotations += 1
        if self._dated:
            return Path(f"{self.path}-{20260000 + self.rotations}")
        for file in self.rotated():
            name = file.name[len(self.path.name) + 1 :]
            number, _, suffix = name.partition(".")
            file.rename(f"{self.path}.{int(number) + 1}{suffix and '.' + suffix}")
        return Path(f"{self.path}.1")


class Reader:
    """Reads a log file as the agent does: what came is safe when its position is saved, and lost when it is killed."""

    def __init__(self, path: Path, formats: Sequence[str] = ("plain",)) -> None:
        self._path = path
        self._formats = formats
        self._file = LogFile(str(path), formats)
        self._saved: str | None = None
        self._safe: list[Entry] = []
        self._new: list[Entry] = []
        self.missed: list[str] = []

    @property
    def entries(self) -> list[Entry]:
        return self._safe + self._new

    @property
    def lines(self) -> list[bytes]:
        return [entry.message for entry in self.entries]

    def read(self, slices: int | None = None) -> Batch:
        """Read some slices, or all there is."""
        for _ in range(ENOUGH):
            batch = self._file.read(everything, now())
            self._new += [entry for entry, _ in batch.entries]
            self.missed += self._file.missed
            self._file.missed.clear()
            slices = slices and slices - 1
            if slices == 0 or (slices is None and batch.all_read):
                return batch
        raise AssertionError("it never comes to an end")

    def save(self) -> None:
        self._safe += self._new
        self._new = []
        self._saved = self._file.position

    def restart(self) -> None:
        """Be killed, and go on from the saved position."""
        self._file.close()
        self._new = []
        self._file = LogFile(str(self._path), self._formats)
        if self._saved is not None:
            assert self._file.resume(self._saved)

    @property
    def trouble(self) -> str | None:
        return self._file.trouble

    def close(self) -> None:
        self._file.close()
