# SPDX-License-Identifier: LGPL-2.1-or-later
"""A second look into the journal, elsewhere than where the first reader stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from banagent.core.events import Entry
from banagent.core.filter import CONTAINER, KERNEL, TRANSPORT, UNIT_SLICE, Trust, asked_for, fitting, is_glob
from banagent.sources.matches import IDENTIFIER, UID, UNIT
from banagent.sources.reader import open_reader, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from banagent.core.filter import Filter
    from banagent.sources.reader import Reader

LOOKED_AT: Final = 1000  # entries among which the last of a filter is looked for
MOST: Final = (
    100  # values that stand for a glob; an attack on an sshd that is started by a socket makes units by the thousand
)
ROOT: Final = ("0",)


class Lookup:
    """A reader that stands nowhere in particular; its files are opened at first use."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._opened: Reader | None = None

    def holds(self, position: str) -> bool:
        """Whether the journal has the entry at `position`, whoever wrote it. Raises OSError."""
        reader = self._reader()
        reader.seek_cursor(position)
        return reader.advance() and reader.test_cursor(position)

    def before(self, position: str, common: Mapping[str, str], field: str) -> bytes | None:
        """Give a field of the entry before the one at `position` among those that have `common` in common.

        None: there is no entry before it, or it has no such field. Raises KeyError: the one at `position` isn't found,
        and OSError.
        """
        reader = self._reader()
        reader.look_for([{name: [value] for name, value in common.items()}])
        reader.seek_cursor(position)
        if not reader.advance() or not reader.test_cursor(position):
            raise KeyError(position)
        return reader.raw(field) if reader.go_back() else None

    def last_entry(self, item: Filter) -> int | None:
        """Give the time of the last entry that a filter trusts, under one of its identifiers if it has any.

        None: there is none, or none among the `LOOKED_AT` last that might be. Raises JournalError.
        """
        trust, asked = Trust(item), asked_for(item)
        try:
            reader = self._reader()
            if not _narrow(reader, item):
                return None
            reader.seek_tail()
            for _ in range(LOOKED_AT):
                if not reader.go_back():
                    return None
                time, identifier = reader.time(), reader.word(IDENTIFIER)
                more = {name: value for name in asked if (value := reader.word(name)) is not None}
                entry = Entry(time, b"", "", reader.number(UID), reader.word(UNIT), identifier, None, more=more)
                if trust(entry) and (not item.identifiers or trust.goes_by(identifier)):
                    return time
        except OSError as error:
            raise unreadable(error) from error
        return None

    def close(self) -> None:
        """Close the files."""
        if self._opened is not None:
            self._opened.close()

    def _reader(self) -> Reader:
        """Give the reader, without matches and knowing of new files. Raises JournalError."""
        if self._opened is None:
            self._opened = open_reader(self._directory)
            self._opened.fileno()  # from now on it hears of new files
        self._opened.process()
        self._opened.flush_matches()
        return self._opened


def _narrow(reader: Reader, item: Filter) -> bool:
    """Match what a filter may trust, its globs replaced by what there is; False: there is nothing.

    All of it has to fit at once: were identifiers enough, a user who writes under them could hide the service.
    """
    exact = {IDENTIFIER: item.identifiers, **item.fields}
    common = {field: values for field, values in exact.items() if values and not any(map(is_glob, values))}
    uids = tuple(map(str, item.uids))
    trust = Trust(item)
    found: list[dict[str, Sequence[str]]] = []
    senders: Iterable[tuple[str, Sequence[str], Sequence[str]]] = (
        (UNIT, item.units, uids),
        (UNIT_SLICE, item.slices, uids),
        (CONTAINER, item.containers, ROOT),
    )
    for field, globs, by in senders:
        if values := _there(reader, field, globs):
            found.append({**common, field: values, UID: by})
    if trust.anywhere:
        found.append({**common, UID: uids})
    if trust.kernel:
        found.append({**common, TRANSPORT: [KERNEL]})
    reader.look_for(found)
    return bool(found)


def _there(reader: Reader, field: str, globs: Sequence[str]) -> Sequence[str]:
    """Give the values of a field that fit; of very many that the journal has, some."""
    if not any(map(is_glob, globs)):
        return globs
    fits = fitting(globs)
    return sorted(filter(fits, (value.decode("utf-8", "replace") for value in reader.query_unique(field))))[-MOST:]
