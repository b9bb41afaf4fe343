# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files of addresses that `ignoreip` names, read again when they change."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from banagent.config.lists import read_list
from banagent.core.never import Cover
from banagent.sources import inotify

if TYPE_CHECKING:
    from collections.abc import Iterable

    from banagent.errors import Mistake

# of the folders that the paths lead through: a file is written anew, put in place of another, or goes
_CHANGES: Final = (
    inotify.CLOSE_WRITE
    | inotify.MOVED_FROM
    | inotify.MOVED_TO
    | inotify.CREATE
    | inotify.DELETE
    | inotify.DELETE_SELF
    | inotify.MOVE_SELF
    | inotify.ATTRIB
    | inotify.ONLYDIR
)


class Lists:
    """What the files in use hold: `covers` by path. Of one with mistakes the former content stays in force.

    At the start there is none; then what is right in it counts.
    """

    def __init__(self) -> None:
        self.covers: dict[str, Cover] = {}
        self.mistakes: dict[str, tuple[Mistake, ...]] = {}
        self.unwatched: str | None = None  # why changes are not seen, if they are not
        self._paths: tuple[str, ...] = ()
        self._names: dict[int, set[str]] = {}  # by watch: what is looked at in a folder
        self._inotify: inotify.Inotify | None = None

    def use(self, paths: Iterable[str]) -> bool:
        """From now on use these files, and read them; give whether anything is different by now.

        What others held is still known, should they be used again.
        """
        self._paths = tuple(dict.fromkeys(paths))
        return self.read()

    def read(self) -> bool:
        """Read the files; give whether anything in them is different by now."""
        self._watch()  # first, so that no change falls between
        former = dict(self.covers)
        self.mistakes = {}
        for path in self._paths:
            found = read_list(path)
            if found.mistakes:
                self.mistakes[path] = found.mistakes
            known = former.get(path)
            if known is None or not (found.mistakes or found.networks == known.networks):
                self.covers[path] = Cover(found.networks)
        return self.covers != former

    def fileno(self) -> int | None:
        """Give the descriptor that becomes readable when a file may have changed; None if no file is in use."""
        return None if self._inotify is None else self._inotify.fileno()

    def drain(self) -> bool:
        """Take in the notices so far; give whether one is about a file that is in use."""
        if self._inotify is None:
            return False
        events = list(self._inotify.read())
        return any(not item.name or item.name in self._names.get(item.watch, (item.name,)) for item in events)

    def close(self) -> None:
        """Stop watching."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _watch(self) -> None:
        """Watch the folders of the files and of what they are links to; of one that is missing, where it will be."""
        names: dict[int, set[str]] = {}
        self.unwatched = None
        try:
            if self._paths and self._inotify is None:
                self._inotify = inotify.Inotify()
            for path in self._paths:
                for folder, name in _places(Path(path)):
                    watch = self._inotify.add(str(folder), _CHANGES) if self._inotify else 0
                    names.setdefault(watch, set()).add(name)
        except OSError as error:
            what = error.filename or "files"
            self.unwatched = f"changes of {what} are not seen: {error.strerror}; after one, run: banagent reload"
        if self._inotify is not None:
            for watch in self._names.keys() - names.keys():
                with suppress(OSError):  # it is gone with its folder
                    self._inotify.remove(watch)
        self._names = names


def _places(path: Path) -> Iterable[tuple[Path, str]]:
    """Give the folders to watch for a file, each with the name that matters there."""
    for place in dict.fromkeys((path, Path(os.path.realpath(path)))):
        while not place.parent.is_dir():
            place = place.parent  # noqa: PLW2901 - up to where there is something
        yield place.parent, place.name
