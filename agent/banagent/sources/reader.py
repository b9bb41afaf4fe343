# SPDX-License-Identifier: LGPL-2.1-or-later
"""libsystemd's reader of journal files, opened so that nothing is silently missing."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from systemd import _reader

from banagent.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TRANSIENT_FILES: Final = Path("/run/log/journal")
_PERSISTENT_FILES: Final = Path("/var/log/journal")


class Reader(_reader._Reader):  # noqa: SLF001 - the names below are public
    """The C class below `journal.Reader`, which makes a dictionary of each entry: eight times the time.

    What looks at the entry where the reader stands raises OSError if that is damaged, and `get` KeyError if it has no
    such field. Each `get` walks over the entry's fields up to the one that it looks for.
    """

    advance = _reader._Reader._next  # noqa: SLF001
    go_back = _reader._Reader._previous  # noqa: SLF001
    get = _reader._Reader._get  # noqa: SLF001
    cursor = _reader._Reader._get_cursor  # noqa: SLF001
    time = _reader._Reader._get_realtime  # noqa: SLF001
    first_time = _reader._Reader._get_start  # noqa: SLF001

    def all_fields(self) -> dict[str, bytes]:
        """Give all fields, as `get` gives each; from about four on it is no dearer."""
        found = self._get_all()
        return {name: value if isinstance(value, bytes) else value[0] for name, value in found.items()}

    def raw(self, field: str) -> bytes | None:
        """Give a field; None: the entry has none of that name."""
        try:
            return self.get(field)
        except KeyError:
            return None

    def word(self, field: str) -> str | None:
        """Give a field as text, likewise."""
        value = self.raw(field)
        return None if value is None else value.decode("utf-8", "replace")

    def number(self, field: str) -> int | None:
        """Give a field as a number, likewise. Raises ValueError."""
        value = self.raw(field)
        return None if value is None else int(value)

    def look_for(self, wanted: Iterable[Mapping[str, Iterable[str]]]) -> None:
        """Pass over all entries but those that are wanted: each field of one of `wanted` has one of the values."""
        for number, fields in enumerate(wanted):
            if number:
                self.add_disjunction()
            for field, values in fields.items():
                for value in values:
                    self.add_match(f"{field}={value}")


def open_reader(directory: Path | None) -> Reader:
    """Open the journal. Raises JournalError, also where libsystemd would show an empty journal and no error."""
    folders = [directory] if directory is not None else [_PERSISTENT_FILES, _TRANSIENT_FILES]
    files = [file for folder in folders for file in (*folder.glob("*.journal"), *folder.glob("*/*.journal"))]
    places = " or ".join(map(str, folders))
    if not files:
        raise JournalError(f"no journal files in {places}; is systemd-journald running?")
    if not any(
        os.access(file, os.R_OK, effective_ids=True)
        for file in files
        if file.name.startswith("system") or directory is not None
    ):
        raise JournalError(
            f"not permitted to read the journal in {places}; the agent's user must be in group systemd-journal",
        )
    try:
        return Reader(flags=_reader.LOCAL_ONLY) if directory is None else Reader(flags=0, path=str(directory))
    except OSError as error:
        raise JournalError(f"cannot open the journal in {places}: {error.strerror}") from error


def unreadable(error: OSError) -> JournalError:
    """Say that the journal can't be read."""
    return JournalError(f"cannot read the journal: {error.strerror}; see: journalctl --verify")
