# SPDX-License-Identifier: LGPL-2.1-or-later
"""The trail: where a run was, so that the next one knows if it ended there.

A file exists while the agent runs. If one is found at the start, the last run ended without a word: then each entry is
marked before it is looked at, until all is read. Where two runs ended at the same one, the third goes past it.

The file has the mark, padded to `MARK` bytes, and behind it a JSON object: mark: how many runs ended there.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MARK: Final = 512  # bytes
TWICE: Final = 2  # ends at one entry, after which it is skipped
SUSPECTS: Final = 100  # marks that are remembered


class Trail:
    """The mark of this run; without a path, or where it can't be written, there is none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.file = None if path is None else _opened(path)  # open as long as it runs
        self._suspects: dict[str, int] = {}
        self.careful = False  # whether the last run ended without a word, and entries are marked
        if self.file is not None:
            self.careful = self._read(self.file)
        self._skipped = {mark for mark, ends in self._suspects.items() if ends >= TWICE}

    def step(self, mark: str) -> bool:
        """Mark where this run is now; give False if two runs ended there."""
        if self.file is not None:
            with suppress(OSError):
                os.pwrite(self.file, _padded(mark), 0)
        return mark not in self._skipped

    def calm(self) -> None:
        """Mark no more: all that the last run may have ended at was read."""
        self.careful = False
        self._skipped.clear()
        self._suspects.clear()
        self._write("")

    def close(self) -> None:
        """Take the file away, as this run ends with a word."""
        if self.file is not None and self._path is not None:
            os.close(self.file)
            self.file = None
            with suppress(OSError):
                self._path.unlink()

    def _read(self, file: int) -> bool:
        """Read what the last run left, and count its end; give whether there was one."""
        with suppress(OSError):
            left = os.pread(file, 1 << 20, 0)
            with suppress(ValueError, AttributeError):
                self._suspects = {str(mark): int(ends) for mark, ends in json.loads(left[MARK:]).items()}
            mark = left[:MARK].decode("utf-8", "replace").strip()
            if mark:
                self._suspects[mark] = self._suspects.get(mark, 0) + 1
            for oldest in list(self._suspects)[:-SUSPECTS]:
                del self._suspects[oldest]
            self._write("")
            return bool(left)
        return False

    def _write(self, mark: str) -> None:
        if self.file is not None:
            with suppress(OSError):
                content = _padded(mark) + json.dumps(self._suspects).encode()
                os.pwrite(self.file, content, 0)
                os.ftruncate(self.file, len(content))


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None


def _padded(mark: str) -> bytes:
    return mark.encode("utf-8", "replace")[:MARK].ljust(MARK)
