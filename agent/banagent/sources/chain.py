# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a path leads to over time: the files that a log is rotated through, found and read in their order."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.core.events import SECOND
from banagent.sources.lines import Part, Slice, Truncated
from banagent.sources.rotation import HEAD, LogFileError, PlainFile, begins_with, fingerprint, rotated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from banagent.sources.rotation import Rotated, Source

LINGERING: Final = 3  # rotated files that are kept open, because a writer may not know yet
SILENT: Final = 60 * SECOND  # after which a deleted file is closed: until then its writer may not know yet
_TRIES: Final = 10  # to look at files that are being renamed


class Saved(NamedTuple):
    """What is saved of a part."""

    name: str
    inode: int
    offset: int
    modified: int  # ns since the epoch
    length: int  # of the first bytes by which it is known again
    fingerprint: str


class _Listing(NamedTuple):
    """The files of a path at one moment."""

    here: int | None  # the inode of the one at the path
    siblings: list[Rotated]  # the oldest first

    def is_still(self, other: _Listing) -> bool:
        """Whether nothing was renamed in between."""
        return self.here == other.here and [item[:2] for item in self.siblings] == [item[:2] for item in other.siblings]


class Chain:
    """The files of one path that are open, the oldest first; the last is the newest that is known."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.parts: list[Part] = []
        self.unreadable: str | None = None  # why the file at the path can't be read
        self.missed: list[str] = []  # what may have been missed
        self._done: set[tuple[int, int]] = set()  # inode and time of modification of files that were read and closed
        self._read: Saved | None = None  # the newest of these

    @property
    def inodes(self) -> set[int]:
        """The files that are open."""
        return {part.file.inode for part in self.parts}

    def save(self) -> tuple[list[Saved], int]:
        """Give what `resume` needs: the files of which something was read, and since when there are others, in ns.

        0: there are no others.
        """
        saved = [_saved(part) for part in self.parts if part.known[0]]
        if not saved and self._read is not None:
            saved.append(self._read)
        since = next((part.modified for part in self.parts if part.unread_since is not None), 0)
        return saved, since

    def resume(self, saved: Sequence[Saved], since: int) -> bool:
        """Find the files again, wherever they are now, and those that came since; False: the newest is lost."""
        found = True
        for _ in range(_TRIES):
            self.close()
            listing = self._list()
            found = self._resume(saved, since, listing)
            if listing.is_still(self._list()):
                break
        return found

    def is_rotated(self) -> bool:
        """Whether the path does not lead to the newest file that is known."""
        return not self.parts or _inode(self.path) != self.parts[-1].file.inode

    def is_over(self, now: int) -> bool:
        """Whether nothing is left of it, in any folder."""
        return not os.path.lexists(self.path) and all(_is_over(part, now) for part in self.parts)

    def take(self, now: int) -> tuple[Slice, Part | None]:
        """Give the next lines and where they stand; no part: there are none now, and at all if the slice says so."""
        # what is behind these sizes may be younger than what is then read of the older files
        sizes = [part.size() for part in self.parts]
        for number, part in enumerate(list(self.parts)):
            if part is self.parts[-1] and _may_have_copies(part) and self._catch_up():
                return Slice([], 0), None
            try:
                taken = part.take(sizes[number])
            except Truncated:
                self._follow_truncated(part)
                return Slice([], 0), None
            except LogFileError as error:
                self._give_up(part, error)
                continue
            if taken.lines:
                return taken, part
            if not taken.at_end:
                return taken, None
            if part.is_unfinished and any(map(_has_data, self.parts[number + 1 :], sizes[number + 1 :])):
                return part.finish(), part
        self._drop_old(now)
        return Slice([], 0, at_end=not (self.is_rotated() and self._catch_up())), None

    def close(self) -> None:
        """Close all files."""
        for part in self.parts:
            part.file.close()
        self.parts = []

    def _resume(self, saved: Sequence[Saved], since: int, listing: _Listing) -> bool:
        siblings = listing.siblings
        places: dict[int, Part] = {}  # by place among the siblings; the one at the path is behind them
        here = self._open_here()
        place: int | None = None  # of the newest that something was read of
        for item in saved:
            place = self._find(item, here, siblings, places)
        had_others = since > 0  # so the newest in `saved` was read to its end
        if saved:
            self._read = saved[-1]
            since = self._read.modified + 1
        for number, sibling in enumerate(siblings):
            if number not in places and _is_unread(sibling, number, place, since):
                self._open(sibling, number, places)
        if here is not None and len(siblings) not in places:
            places[len(siblings)] = Part(here)
        self.parts = [places[number] for number in sorted(places)]
        return place is not None or not saved or had_others

    def _find(self, saved: Saved, here: Source | None, siblings: list[Rotated], places: dict[int, Part]) -> int | None:
        """Open the file of which is told, known by its inode or else by its first bytes; give its place."""
        for by_inode in (True, False):
            for number in range(len(siblings), -1, -1):
                if number in places:
                    continue
                at_path = number == len(siblings)
                if by_inode and not at_path and siblings[number].inode != saved.inode:
                    continue
                with suppress(FileNotFoundError, LogFileError):
                    file = here if at_path else siblings[number].open()
                    if file is not None and _fits(file, saved, by_inode=by_inode):
                        places[number] = Part(file, saved.offset, saved.name, saved[4:])
                        return number
                    if file is not None and not at_path:
                        file.close()
        return None

    # while it is followed

    def _catch_up(self) -> bool:
        """Open what is at the path, and what was since the newest file that is known; give whether there is any."""
        if not self.parts:
            here = self._open_here()
            self.parts = [] if here is None else [Part(here)]
            return here is not None
        last = self.parts[-1]
        places: dict[int, Part] = {}
        place: int | None = None
        for _ in range(_TRIES):
            for part in places.values():
                part.file.close()
            listing = self._list()
            place, places = self._newer(last, listing)
            if listing.is_still(self._list()):
                break
        before = [places[number] for number in sorted(places) if place is not None and number < place]
        after = [places[number] for number in sorted(places) if place is None or number > place]
        self.parts[-1:] = [*before, last, *after]
        last.look()
        return bool(places)

    def _newer(self, last: Part, listing: _Listing) -> tuple[int | None, dict[int, Part]]:
        """Give the place of the newest file that is known, and those that are unread with theirs."""
        siblings, known = listing.siblings, self.inodes
        place = self._place(last, listing)
        places: dict[int, Part] = {}
        read = next((part for part in reversed(self.parts) if part.known[0]), None)
        read_place = None
        if read is not None:
            read_place = self._place(read, listing)
        elif self._read is not None:
            read_place = _copy(siblings, self._read)
        since = last.modified if last.unread_since is None or place is not None else last.file.modified()
        self._done &= {item[1:3] for item in siblings}
        for number, item in enumerate(siblings):
            if item.inode in known or item[1:3] in self._done:
                continue
            if number != place and _is_unread(item, number, read_place, since):
                self._open(item, number, places)
        if listing.here not in known and (here := self._open_here()) is not None:
            places[len(siblings)] = Part(here)
        return place, places

    def _place(self, part: Part, listing: _Listing) -> int | None:
        """Give where an open file is now, or what it was compressed to; behind the siblings: at the path."""
        if part.file.inode == listing.here:
            return len(listing.siblings)
        for number, item in enumerate(listing.siblings):
            if item.inode == part.file.inode:
                return number
        saved = _recognisable(part)
        return _copy(listing.siblings, saved) if saved.length else None

    def _follow_truncated(self, part: Part) -> None:
        """Go on after a file was truncated: with the copy that was made of it, and then at its beginning."""
        if part is not self.parts[-1]:  # it was rotated away and read to its end
            self.parts.remove(part)
            part.file.close()
            return
        siblings = [item for item in self._list().siblings if item.inode not in self.inodes]
        saved = _saved(part)
        place = _copy(siblings, saved) if saved.length else None
        places: dict[int, Part] = {}
        if place is not None:
            try:
                places[place] = Part(siblings[place].open(), saved.offset, saved.name, saved[4:])
            except (FileNotFoundError, LogFileError):
                return  # it is being renamed; the next look is at the same
            for number in range(place + 1, len(siblings)):
                self._open(siblings[number], number, places)
        elif saved.length:
            text = "was truncated, and no copy of it was found: what was written to it last may be missed"
            self.missed.append(f"{self.path} {text}")
        part.restart()
        self.parts[-1:] = [*(places[number] for number in sorted(places)), part]

    def _give_up(self, part: Part, error: LogFileError) -> None:
        """Go on without a file that can't be read; the one at the path may be readable again."""
        if isinstance(part.file, PlainFile):
            self.unreadable = str(error)
            return
        self.missed.append(f"{self.path}: what was written to it earlier may be missed: {error}")
        self.parts.remove(part)
        part.file.close()

    def _drop_old(self, now: int) -> None:
        """Close files that were rotated away and read to their ends, but for the newest of them."""
        while len(self.parts) > 1:
            part = self.parts[0]
            if not _is_over(part, now) and (len(self.parts) <= LINGERING + 1 or part.is_unfinished):
                return  # newer ones too stay, so that the last of those saved is the newest that was read
            self._done.add((part.file.inode, part.file.modified()))
            self._read = _saved(part) if part.known[0] else self._read
            self.parts.remove(part)
            part.file.close()

    def _list(self) -> _Listing:
        return _Listing(_inode(self.path), rotated(self.path))

    def _open_here(self) -> PlainFile | None:
        self.unreadable = None
        try:
            return PlainFile(self.path)
        except FileNotFoundError:
            return None
        except LogFileError as error:
            self.unreadable = str(error)
            return None

    def _open(self, item: Rotated, place: int, places: dict[int, Part]) -> None:
        """Open a file that was rotated away and not read yet."""
        if not item.style:  # it is something else
            return
        try:
            file = item.open()
            if any(_is_compressed(part, file) for part in self.parts):
                file.close()
            else:
                places[place] = Part(file)
        except FileNotFoundError:
            return
        except LogFileError as error:
            sentence = f"{self.path}: what was written to it earlier may be missed: {error}"
            if sentence not in self.missed:
                self.missed.append(sentence)


def _saved(part: Part) -> Saved:
    return Saved(part.name, part.file.inode, part.offset, part.modified, *part.known)


def _recognisable(part: Part) -> Saved:
    """Give what would be saved of a part, and by what its copies are known also if nothing of it was read yet."""
    saved = _saved(part)
    if saved.length or not isinstance(part.file, PlainFile):
        return saved
    head = part.file.read_at(0, HEAD)
    return saved._replace(length=len(head), fingerprint=fingerprint(head))


def _is_unread(item: Rotated, number: int, place: int | None, since: int) -> bool:
    """Whether a file is behind the newest that something was read of; or where that is not there, is younger."""
    return item.modified >= since if place is None else number > place


def _fits(file: Source, saved: Saved, *, by_inode: bool) -> bool:
    """Whether a file is that of which is told. Raises LogFileError."""
    if by_inode and file.inode != saved.inode:
        return False
    if isinstance(file, PlainFile) and file.size() < saved.offset:
        return False
    return begins_with(file, saved.length, saved.fingerprint)


def _copy(siblings: Sequence[Rotated], saved: Saved) -> int | None:
    """Give the place of the newest file that begins as is told, and is as long as it was read."""
    for number in range(len(siblings) - 1, -1, -1):
        with suppress(FileNotFoundError, LogFileError):
            file = siblings[number].open()
            fits = _fits(file, saved, by_inode=False)
            file.close()
            if fits:
                return number
    return None


def _has_data(part: Part, size: int | None) -> bool:
    try:
        return size > 0 if size is not None else part.offset > 0 or part.file.read_at(0, 1) != b""
    except LogFileError:
        return False


def _may_have_copies(part: Part) -> bool:
    """Whether a file of which nothing was read yet was modified: it may have been written, copied and truncated."""
    file = part.file
    return part.unread_since is not None and file.modified() != part.looked


def _is_compressed(part: Part, file: Source) -> bool:
    """Whether a file is what a part, which is still open, was compressed to. Raises LogFileError."""
    if isinstance(file, PlainFile) or not _is_deleted(part.file):
        return False
    saved = _recognisable(part)
    return saved.length > 0 and begins_with(file, saved.length, saved.fingerprint)


def _is_deleted(file: Source) -> bool:
    return isinstance(file, PlainFile) and file.is_deleted()


def _is_over(part: Part, now: int) -> bool:
    """Whether nobody writes to it any more: it is compressed, or was deleted and is silent since."""
    if not isinstance(part.file, PlainFile):
        return True
    return _is_deleted(part.file) and part.file.modified() // 1000 < now - SILENT


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - hot
    except OSError:
        return None
