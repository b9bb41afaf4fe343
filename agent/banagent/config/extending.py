# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filter files that there are, and which of them each one extends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from banagent.config import checks
from banagent.config.filters import EXTENDS, build
from banagent.config.jails import Source
from banagent.config.probe import Budget
from banagent.config.table import suggest
from banagent.config.toml import Document, read, shown
from banagent.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MOST: Final = 5  # files that one extends, those that they extend among them


class FilterFiles:
    """All filter files: of each name those of the package, the admin's, and others, the last of which is in force."""

    def __init__(self, files: Mapping[str, Sequence[Path]], vendor: Path) -> None:
        """Take them by name, and the package's folder: what is in there has been tried by its makers."""
        self._files = files
        self._vendor = vendor
        self._read: dict[Path, Document | ConfigError] = {}
        self._budget = Budget()

    def in_force(self) -> dict[str, Path]:
        """Give the file of each name that has the last word."""
        return {name: paths[-1] for name, paths in self._files.items()}

    def source(self, name: str, path: Path, mistakes: list[Mistake]) -> Source | None:
        """Read a filter; what is wrong is added to `mistakes`. None: no filter can have this name."""
        try:
            checks.name(name)
        except ValueError as error:
            mistakes.append(Mistake(shown(path), 0, "", None, f"is named after its filter, and the name {error}"))
            return None
        document: Document | None = None
        try:
            document = self._document(path)
            chain = self._chain(path)
            bases = tuple(self._document(base) for base in chain)
            probed = self._budget if any(one.parent != self._vendor for one in (path, *chain)) else None
            return Source(document, build(name, document, bases, probed=probed), bases)
        except ConfigError as error:
            mistakes.extend(error.mistakes)
        return Source(document, None)

    def _document(self, path: Path) -> Document:
        """Read a file once. Raises ConfigError."""
        if path not in self._read:
            try:
                self._read[path] = read(path)
            except ConfigError as error:
                self._read[path] = error
        found = self._read[path]
        if isinstance(found, ConfigError):
            raise found
        return found

    def _chain(self, path: Path) -> list[Path]:
        """Give what a file extends, the nearest first. Raises ConfigError."""
        chain = [path]
        while (base := self._base(chain[-1])) is not None:
            if base in chain:
                raise self._wrong(chain[-1], f"makes a ring: {shown(base)} extends this file, maybe by way of others")
            if len(chain) > MOST:
                raise self._wrong(path, f"leads to more than {MOST} files, each of which extends the next")
            chain.append(base)
        return chain[1:]

    def _base(self, path: Path) -> Path | None:
        """Give the file that one extends, if it does. Raises ConfigError."""
        name = self._document(path).data.get(EXTENDS.name)
        if name is None:
            return None
        try:
            checks.name(name)
        except ValueError as error:
            raise self._wrong(path, str(error)) from None
        found = list(self._files.get(str(name), ()))
        if name != path.stem:
            if not found:
                raise self._wrong(path, f"no filter has this name{suggest(str(name), self._files)}")
            return found[-1]
        below = found[: found.index(path)] if path in found else found
        if not below:
            raise self._wrong(path, "is its own name, and there is no other file of that name to add to")
        return below[-1]

    def _wrong(self, path: Path, text: str) -> ConfigError:
        return ConfigError((self._document(path).mistake((EXTENDS.name,), text),))
