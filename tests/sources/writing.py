# SPDX-License-Identifier: LGPL-2.1-or-later
"""writing.py PATH: a service that logs numbered lines. For each number on its input it writes so many, and says "done".

It writes in blocks that end within lines, as buffered output does, and opens its log again at a SIGHUP: at the next
line's end, or at once if it has nothing to do. Standard library only.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

BLOCK = 4096


class Service:
    """It and its log."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._log = self._open()
        self._busy = self._told = False
        signal.signal(signal.SIGHUP, self._hup)

    def run(self) -> None:
        first = 0
        print("ready", flush=True)
        for request in sys.stdin:
            count = int(request)
            self._busy = True
            self._write(
                b"".join(b"Nov 22 03:00:00 host it[1]: %d\n" % number for number in range(first, first + count))
            )
            self._busy = False
            if self._told:
                self._reopen()
            first += count
            print("done", flush=True)

    def _write(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            told, end = self._told, at + BLOCK
            if told and at and data[at - 1 : at] != b"\n":
                end = data.index(b"\n", at) + 1  # no more than the rest of the line goes to the old one
            elif told:
                end = at
            os.write(self._log, data[at:end])
            at = end
            if told:
                self._reopen()

    def _hup(self, _signal: int, _frame: FrameType | None) -> None:
        self._told = True
        if not self._busy:
            self._reopen()

    def _reopen(self) -> None:
        os.close(self._log)
        self._log = self._open()
        self._told = False

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)


if __name__ == "__main__":
    Service(sys.argv[1]).run()
