# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which jails the lines of each source concern."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from banagent.core.events import FILES, JOURNAL
from banagent.core.recognise import Recogniser, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from banagent.config import JailConfig
    from banagent.core.events import Entry, Offence
    from banagent.core.filter import Filter

Kinds = frozenset[str]  # of the sources that a jail reads: JOURNAL, FILES, or both


class Routes:
    """The patterns for each source.

    A jail that reads both kinds reads them until one has a failure of its service; from then on that one counts, so
    that what both carry counts once.
    """

    def __init__(
        self,
        configs: Mapping[str, JailConfig],
        kinds: Mapping[str, Kinds],
        refused: Callable[[Entry, str], None] | None = None,
    ) -> None:
        """Compile the patterns. Raises ConfigError."""
        self._configs = configs
        self._kinds = dict(kinds)
        self._refused = refused
        self._journal = Recogniser(self._views(name for name in configs if JOURNAL in kinds[name]), refused)
        self._files: dict[str, Recogniser] = {}  # by path
        self._shared: dict[tuple[str, ...], Recogniser] = {}  # by the jails that read a file

    def kinds(self, jail: str) -> Kinds:
        """Give the kinds of sources that count for a jail by now."""
        return self._kinds[jail]

    def filters(self) -> list[Filter]:
        """Give the filters whose entries are looked for in the journal."""
        return [config.filter for name, config in self._configs.items() if JOURNAL in self._kinds[name]]

    def files(self) -> dict[str, tuple[str, ...]]:
        """Give the log files that are read, as paths and globs, each with the formats that its lines may have."""
        wanted: dict[str, tuple[str, ...]] = {}
        for name, config in self._configs.items():
            for path in config.filter.logpath if FILES in self._kinds[name] else ():
                wanted[path] = tuple(dict.fromkeys((*wanted.get(path, ()), *config.filter.formats)))
        return wanted

    def is_read(self, source: str) -> bool:
        """Whether a jail reads the journal, or the file at a path."""
        if source == JOURNAL:
            return bool(self.filters())
        return any(FILES in self._kinds[name] and self.reads(name, source) for name in self._configs)

    def recogniser(self, source: str) -> Recogniser:
        """Give the patterns for the journal, or for the file at a path."""
        if source == JOURNAL:
            return self._journal
        known = self._files.get(source)
        if known is None:
            jails = tuple(name for name in self._configs if FILES in self._kinds[name] and self.reads(name, source))
            if jails not in self._shared:
                self._shared[jails] = Recogniser(self._views(jails), self._refused)
            known = self._files[source] = self._shared[jails]
        return known

    def offences(self, entry: Entry, hits: Sequence[int]) -> list[tuple[str, Offence]]:
        """Give what an entry tells, by jail."""
        kind = JOURNAL if entry.source == JOURNAL else FILES
        found = self.recogniser(entry.source).offences(entry, hits)
        return [(jail, offence) for jail, offence in found if kind in self._kinds[jail]]

    def settle(self, jail: str, source: str) -> bool:
        """Take note that the failures of a jail's service are in a source: what is in others is the same again.

        Give whether the source counts for the jail.
        """
        kind, kinds = JOURNAL if source == JOURNAL else FILES, self._kinds[jail]
        if len(kinds) > 1:
            self._kinds[jail] = frozenset({kind})
        return kind in kinds

    def reads(self, jail: str, path: str) -> bool:
        """Whether a file is one that a jail's filter names."""
        return any(PurePosixPath(path).match(pattern) for pattern in self._configs[jail].filter.logpath)

    def _views(self, jails: Iterable[str]) -> dict[str, View]:
        return {name: View(self._configs[name].filter, self._configs[name].mode) for name in jails}
