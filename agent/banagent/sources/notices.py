# SPDX-License-Identifier: LGPL-2.1-or-later
"""journald's notices that something was written: most are of entries that nobody here wants."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from systemd import _reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from banagent.sources.reader import Reader

DEAF: Final = 1.0  # seconds after a notice of what nobody wants, in which there is no wake-up by another


class Notices:
    """What wakes who waits for entries of `reader`; `has_more` looks whether there is one."""

    def __init__(self, reader: Reader, has_more: Callable[[], bool]) -> None:
        """Begin to listen, in the running loop."""
        self._reader = reader
        self._has_more = has_more
        self._descriptor = reader.fileno()
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._deaf: asyncio.TimerHandle | None = None
        self._listen()

    async def wait(self, pause: float | None) -> None:
        """Wait until there may be an entry, at most `pause` seconds; None: for as long as it takes."""
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            self._reader.process()
        self._wake.clear()

    def pause(self) -> None:
        """Don't listen for a while: what was read last was of no use either."""
        if self._deaf is None:
            self._loop.remove_reader(self._descriptor)
            self._look_later()

    def close(self) -> None:
        """Listen no more."""
        if self._deaf is None:
            self._loop.remove_reader(self._descriptor)
        else:
            self._deaf.cancel()

    def _listen(self) -> None:
        self._deaf = None
        self._loop.add_reader(self._descriptor, self._on_notice)

    def _on_notice(self) -> None:
        self._reader.process()
        if self._has_more():
            self._wake.set()
        else:
            self.pause()

    def _look_later(self) -> None:
        self._deaf = self._loop.call_later(DEAF, self._look)

    def _look(self) -> None:
        came = self._reader.process() != _reader.NOP
        if came and not self._has_more():  # they go on
            self._look_later()
            return
        # also if nothing came: the last notice may have been too early, see Journal._look_again
        self._listen()
        self._wake.set()
