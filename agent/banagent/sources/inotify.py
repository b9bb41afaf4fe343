# SPDX-License-Identifier: LGPL-2.1-or-later
"""inotify(7): what happens to files and folders, by the C library that is loaded anyway.

Plain calls only: a callback of ctypes would need memory that is writable and executable, which
MemoryDenyWriteExecute= forbids.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# <sys/inotify.h>
MODIFY: Final = 0x2
ATTRIB: Final = 0x4
CLOSE_WRITE: Final = 0x8
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
OVERFLOW: Final = 0x4000  # events were lost; comes with the watch -1
IGNORED: Final = 0x8000  # the watch is gone
ONLYDIR: Final = 0x0100_0000
IS_FOLDER: Final = 0x4000_0000

_HEAD: Final = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, len; then the name, filled up with NULs
_ROOM: Final = 65_536  # bytes of events read at a time; one takes 16 to 272

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_init1.argtypes = [ctypes.c_int]
_libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
_libc.inotify_rm_watch.argtypes = [ctypes.c_int, ctypes.c_int]


class Event(NamedTuple):
    """What happened: to the thing that `watch` is about, or to what is called `name` in it."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One inotify instance; its descriptor can be read when there are events."""

    def __init__(self) -> None:
        """Raise OSError if the user has too many of them (fs.inotify.max_user_instances)."""
        self._descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        """Give the descriptor."""
        return self._descriptor

    def add(self, path: str, mask: int) -> int:
        """Watch what is at `path` and give the watch's number, the same for the same inode. Raises OSError."""
        return _checked(_libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask), path)

    def remove(self, watch: int) -> None:
        """End a watch. Raises OSError if there is none of this number."""
        _checked(_libc.inotify_rm_watch(self._descriptor, watch))

    def read(self) -> Iterator[Event]:
        """Give the events that wait; none is no error."""
        while True:
            try:
                data = os.read(self._descriptor, _ROOM)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                watch, mask, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                yield Event(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0")))
                at += length

    def close(self) -> None:
        """End all watches."""
        os.close(self._descriptor)


def _checked(result: int, path: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
