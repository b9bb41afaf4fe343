# SPDX-License-Identifier: LGPL-2.1-or-later
"""All log files of some paths and globs, followed live: asleep until inotify tells of a change.

Folders are watched for names that come and go, each open file by its inode for what is written to it: so what others
write in the same folder wakes nobody.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from errno import EACCES, ENOSPC
from fnmatch import translate
from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.sources import inotify
from banagent.sources.batch import Batch
from banagent.sources.inotify import Inotify
from banagent.sources.logfile import LogFile
from banagent.sources.rotation import base

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

MOST: Final = 200  # files followed; each may have some descriptors open, and a process has 1024

_FILE: Final = inotify.MODIFY | inotify.ATTRIB  # the latter tells of a deletion
_ITSELF: Final = inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.ONLYDIR
_FOLDER: Final = inotify.CREATE | inotify.MOVED_TO | inotify.MOVED_FROM | inotify.DELETE | inotify.ATTRIB | _ITSELF
_NOTHING: Final = re.compile(r"(?!)")
_MAGIC: Final = re.compile(r"[*?\[]")


class _Folder(NamedTuple):
    """A folder that is watched."""

    path: str
    names: re.Pattern[str]  # in it, of interest


class LogFiles:
    """The files that paths and globs lead to, now and later.

    What can't be read is in `troubles`, by path, and stops nothing else. `missed` has sentences about lines that may
    have been missed; the caller takes them away.
    """

    def __init__(
        self,
        globs: Mapping[str, Sequence[str]],
        now: Callable[[], int],
        *,
        since: int,
        positions: Mapping[str, str] | None = None,
    ) -> None:
        """Take the formats of each glob, the clock (µs since the epoch), and the saved position of each path.

        Files that are there at the start and have no position are read from `since` on, those that come later from
        their beginning.
        """
        self._globs = globs
        self._now = now
        self._since = since
        self._positions = dict(positions or {})
        self.troubles: dict[str, str] = {}
        self.waiting: tuple[str, ...] = ()  # paths and globs that lead to no file
        self.missed: list[str] = []
        self._files: dict[str, LogFile] = {}
        self._restless: dict[str, None] = {}  # paths that may have more to read; in order
        self._told: set[str] = set()  # paths of which the last batch said that all was read
        self._inotify: Inotify | None = None
        self._folders: dict[int, _Folder] = {}  # by watch
        self._watches: dict[int, str] = {}  # of open files: the path
        self._watched: dict[str, set[int]] = {}  # the inodes of a path that are watched
        self._stale = True  # names came or went

    @property
    def positions(self) -> dict[str, str]:
        """How far each file was read."""
        return {path: position for path, file in self._files.items() if (position := file.position) is not None}

    async def follow(self, sift_of: Callable[[str], Callable[[bytes], Sequence[int]]]) -> AsyncIterator[Batch]:
        """Read for ever, a slice of each file in turn; `sift_of` gives the sieve of a path.

        A batch is empty only if it says what the one before could not: that all of its file was read; or, with no
        source, that for now there is no more in any of them. Raises OSError if there is no inotify instance left.
        """
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        self._inotify = Inotify()
        idle = False  # was once

        def on_change() -> None:
            self._hear()
            changed.set()

        loop.add_reader(self._inotify, on_change)
        try:
            while True:
                if self._stale:
                    self._look()
                for path in list(self._restless):
                    batch = self._read(self._files[path], sift_of(path))
                    if batch.read or (batch.all_read and path not in self._told):
                        yield batch
                    if batch.all_read and path in self._files:
                        self._told.add(path)
                    else:
                        self._told.discard(path)
                    await asyncio.sleep(0)
                if not self._restless and not self._stale:
                    if not idle:
                        idle = True
                        yield Batch([], 0, None, 0, all_read=True, source="")
                    changed.clear()
                    await changed.wait()
        finally:
            loop.remove_reader(self._inotify)
            self._close()

    def _read(self, file: LogFile, sift: Callable[[bytes], Sequence[int]]) -> Batch:
        """Read a slice of a file; it stays restless until all was read while it was watched."""
        path = file.path
        batch = file.read(sift, self._now())
        self.missed += file.missed
        file.missed.clear()
        self.troubles.pop(path, None)
        if file.trouble is not None:
            self.troubles[path] = file.trouble
        if batch.all_read and not self._watch(file):
            self._restless.pop(path, None)
            if file.is_gone(self._now()):
                self._drop(path)
        return batch

    # what inotify tells

    def _hear(self) -> None:
        """Take note of what happened."""
        assert self._inotify
        for watch, mask, name in self._inotify.read():
            if mask & inotify.OVERFLOW:
                self._stale = True
                self._restless.update(dict.fromkeys(self._files))
            elif watch in self._watches:
                self._restless[self._watches[watch]] = None
            elif folder := self._folders.get(watch):
                self._hear_of_folder(folder, mask, name)

    def _hear_of_folder(self, folder: _Folder, mask: int, name: str) -> None:
        if not name or mask & inotify.IGNORED or folder.names.match(name):
            self._stale = True
        path = os.path.join(folder.path, name)  # noqa: PTH118 - for each event
        if path in self._files:
            self._restless[path] = None

    def _watch(self, file: LogFile) -> bool:
        """Watch a file's open files; give whether there are new ones, which may have been written to meanwhile."""
        assert self._inotify
        path, inodes = file.path, file.inodes
        former = self._watched.get(path, set())
        if inodes == former:
            return False
        self._watched[path] = inodes
        watches: set[int] = set()
        for descriptor in file.descriptors:
            try:
                watches.add(self._inotify.add(f"/proc/self/fd/{descriptor}", _FILE))
            except OSError as error:
                self.troubles[path] = _unwatched(path, error)
        for watch in [watch for watch, of in self._watches.items() if of == path and watch not in watches]:
            self._unwatch(watch)
        self._watches |= dict.fromkeys(watches, path)
        return not inodes <= former

    def _unwatch(self, watch: int) -> None:
        assert self._inotify
        self._watches.pop(watch, None)
        with suppress(OSError):  # it ended with what it was about
            self._inotify.remove(watch)

    # what the globs lead to

    def _look(self) -> None:
        """Look which files there are, and which folders have to be watched for more."""
        first = not self._folders
        self._stale = False
        found, folders = self._find(first=first)
        self._forget_folders(folders)
        known = {*found, *self._files}
        for path in self.troubles.keys() - known - folders:
            del self.troubles[path]
        for path, formats in found.items():
            if path not in self._files and base(path) not in known:
                self._open(path, formats, first=first)
        for path, file in list(self._files.items()):
            if path in found and file.is_rotated:  # maybe before its folder was watched
                self._restless[path] = None
            if path not in found and path not in self._restless and file.is_gone(self._now()):
                self._drop(path)

    def _find(self, *, first: bool) -> tuple[dict[str, Sequence[str]], set[str]]:
        """Give the files that the globs lead to, with their formats, and the folders on the way."""
        wanted: dict[str, set[str]] = {}
        found: dict[str, Sequence[str]] = {}
        waiting: list[str] = []
        for pattern, formats in self._globs.items():
            paths = list(self._expand(pattern, wanted))
            if not paths and not any(_is_at(path, pattern) for path in self._files):
                waiting.append(pattern)
            if first:  # of a file that is not there now, the rest may be where it was rotated to
                paths += [path for path in self._positions if _is_at(path, pattern)]
            for path in paths:
                found.setdefault(path, formats)
        self.waiting = tuple(waiting)
        return found, set(wanted)

    def _open(self, path: str, formats: Sequence[str], *, first: bool) -> None:
        """Begin to follow a file."""
        if len(self._files) >= MOST:
            self.troubles[path] = f"{path} is not read: there are more than {MOST} files; name fewer in logpath"
            return
        if any(os.path.lexists(path) and _inode(path) in file.inodes for file in self._files.values()):
            return  # it is read already, under the name that it had before, or by another link
        file = self._files[path] = LogFile(path, formats)
        position = self._positions.pop(path, None)
        if (position is None or not file.resume(position)) and first:
            file.seek_time(self._since, self._now())
        self._restless[path] = None

    def _drop(self, path: str) -> None:
        self._files.pop(path).close()
        self.troubles.pop(path, None)
        self._told.discard(path)
        self._watched.pop(path, None)
        for watch in [watch for watch, of in self._watches.items() if of == path]:
            self._unwatch(watch)

    def _expand(self, pattern: str, wanted: dict[str, set[str]]) -> Iterator[str]:
        """Give the paths that a glob matches, and watch all folders on the way before they are looked into."""
        *folders, last = pattern.strip("/").split("/")
        found = ["/"]
        for name in folders:
            found = [path for folder in found for path in self._enter(folder, name, wanted)]
        for folder in found:
            yield from self._match(folder, last, wanted, leaf=True)

    def _enter(self, folder: str, pattern: str, wanted: dict[str, set[str]]) -> list[str]:
        """Give the folders that one part of a glob matches in a folder.

        One that is named is watched itself: what else comes and goes beside it, as in /tmp, is of no interest.
        """
        if _MAGIC.search(pattern):
            return [path for path in self._match(folder, pattern, wanted) if os.path.isdir(path)]  # noqa: PTH112 - of a text
        path = os.path.join(folder, pattern)  # noqa: PTH118 - likewise
        if self._watch_itself(path, wanted):
            return [path]
        self._watch_folder(folder, pattern, wanted, leaf=False)
        return [path] if self._watch_itself(path, wanted) or os.path.isdir(path) else []  # noqa: PTH112 - likewise

    def _match(self, folder: str, pattern: str, wanted: dict[str, set[str]], *, leaf: bool = False) -> list[str]:
        """Give what one part of a glob matches in a folder."""
        self._watch_folder(folder, pattern, wanted, leaf=leaf)
        if not _MAGIC.search(pattern):
            path = os.path.join(folder, pattern)  # noqa: PTH118 - of a text
            return [path] if os.path.lexists(path) else []
        names = re.compile(translate(pattern))
        try:
            with os.scandir(folder) as items:
                found = [item.path for item in items if names.match(item.name) and _is_shown(item.name, pattern)]
        except OSError as error:
            self.troubles[folder] = f"cannot look into {folder}: {error.strerror}; see: banagent check"
            return []
        return sorted(found)

    def _watch_itself(self, folder: str, wanted: dict[str, set[str]]) -> bool:
        """Watch a folder for being renamed or deleted; give whether that is possible."""
        assert self._inotify
        if wanted.get(folder):
            return True
        try:
            watch = self._inotify.add(folder, _ITSELF)
        except OSError:
            return False
        wanted[folder] = set()
        self._folders[watch] = _Folder(folder, _NOTHING)
        return True

    def _watch_folder(self, folder: str, pattern: str, wanted: dict[str, set[str]], *, leaf: bool) -> None:
        """Watch a folder for names that `pattern` matches; its own name is watched for in the folder above.

        A folder on the way (not a `leaf`) need not be readable: only that it is replaced is not noticed then.
        """
        assert self._inotify
        wanted.setdefault(folder, set()).add(pattern)
        try:
            watch = self._inotify.add(folder, _FOLDER)
        except OSError as error:
            if leaf or error.errno != EACCES:
                self.troubles[folder] = _unwatched(folder, error)
            return
        self.troubles.pop(folder, None)
        names = re.compile("|".join(map(translate, sorted(wanted[folder]))))
        self._folders[watch] = _Folder(folder, names)

    def _forget_folders(self, wanted: set[str]) -> None:
        """End the watches of folders that no glob leads to, and of those that are not at their path any more."""
        assert self._inotify
        current = {folder.path: watch for watch, folder in self._folders.items()}  # the newest of each path
        for watch, folder in list(self._folders.items()):
            if folder.path not in wanted or current[folder.path] != watch:
                del self._folders[watch]
                with suppress(OSError):
                    self._inotify.remove(watch)

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        if self._inotify is not None:
            self._inotify.close()


def _unwatched(path: str, error: OSError) -> str:
    if error.errno == EACCES:
        return f"cannot watch {path}: Permission denied; see: banagent check"
    if error.errno == ENOSPC:
        return f"cannot watch {path}: the user's inotify watches are used up; raise fs.inotify.max_user_watches"
    return f"cannot watch {path}: {error.strerror}"


def _is_at(path: str, pattern: str) -> bool:
    """Whether a path is one that a glob matches, where `*` matches no slash."""
    parts, names = pattern.split("/"), path.split("/")
    return len(parts) == len(names) and all(map(re.match, map(translate, parts), names))


def _is_shown(name: str, pattern: str) -> bool:
    return not name.startswith(".") or pattern.startswith(".")


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - of a text
    except OSError:
        return None
