# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration: read from the vendor's and the admin's files, checked whole, and given as frozen values.

A later file overrides an earlier one key by key:

    vendor's    banagent.toml and filters/ in /usr/lib/banagent, else those that came with the program
    admin's     banagent.toml, conf.d/*.toml and filters/*.toml in /etc/banagent; all may be missing or empty

Of several filter files with one name the last is taken whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from banagent.config import checks, jails, keys
from banagent.config.filters import build as build_filter
from banagent.config.jails import JailConfig, Layer, Source
from banagent.config.table import read_table
from banagent.config.toml import read, shown
from banagent.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from collections.abc import Mapping

    from banagent.config.table import Problem
    from banagent.config.toml import Document

__all__ = ["Config", "JailConfig", "load"]

_FILE: Final = "banagent.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The jails by name, and the files that were read: later ones have the last word."""

    jails: tuple[JailConfig, ...]
    files: tuple[str, ...]
    failed: tuple[Mistake, ...] = ()  # of the filters of jails that are enabled and yet left out


def load(
    *, config: Path | None = None, filters: Path | None = None, root: Path = Path("/"), whole: bool = True
) -> Config:
    """Read the configuration under `root`.

    `config` is read instead of the admin's banagent.toml and conf.d; the directory `filters` has the last word on
    filters. Both must exist. Raises ConfigError with all mistakes of all files.

    Without `whole` only the filters of enabled jails are read, which takes a tenth of the time, and one with mistakes
    costs its jails alone.
    """
    mistakes: list[Mistake] = []
    vendor_file, vendor_filters = _vendor(root / "usr/lib/banagent")
    admin = root / "etc/banagent"
    main = admin / _FILE
    files = [config] if config else [*([main] if _exists(main) else ()), *_listed(admin / "conf.d", mistakes)]
    layers = _layers([vendor_file, *files], mistakes)
    if filters and not _exists(filters):
        mistakes.append(Mistake(shown(filters), 0, "", None, "does not exist; a directory of filters is expected here"))
    directories = [vendor_filters, admin / "filters", *([filters] if filters else ())]
    paths = {path.stem: path for directory in directories for path in _listed(directory, mistakes)}
    needed = paths.keys() if whole else jails.needed(layers, paths)
    failed: list[Mistake] = []
    sources = _sources({name: path for name, path in paths.items() if name in needed}, failed)
    built = jails.build(layers, sources, paths, mistakes)
    if mistakes or (whole and failed):
        raise ConfigError(_in_order([*mistakes, *failed]))
    documents = [layer.document for layer in layers] + [item.document for item in sources.values() if item.document]
    return Config(jails=built, files=tuple(document.file for document in documents), failed=tuple(failed))


def _vendor(installed: Path) -> tuple[Path, Path]:
    """Find the vendor's file and filters: a distribution's, a wheel's, or those beside the source."""
    package = Path(__file__).resolve().parents[1]
    for directory in (installed, package):
        if _exists(directory / _FILE):
            return directory / _FILE, directory / "filters"
    checkout = package.parents[1]
    return checkout / "units" / _FILE, checkout / "filters"


def _exists(path: Path) -> bool:
    """Whether there is something to read; what can't be told is left to the reading, which says why."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _listed(directory: Path, mistakes: list[Mistake]) -> list[Path]:
    """Give a directory's TOML files by name; a missing one has none. Hidden files are editors' own."""
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(".toml") and not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        mistakes.append(Mistake(shown(directory), 0, "", None, f"can't be listed: {error.strerror}"))
        return []
    return [directory / name for name in sorted(names)]


def _read(path: Path, mistakes: list[Mistake]) -> Document | None:
    try:
        return read(path)
    except ConfigError as error:
        mistakes.extend(error.mistakes)
    return None


def _layers(paths: list[Path], mistakes: list[Mistake]) -> list[Layer]:
    layers: list[Layer] = []
    for path in paths:
        document = _read(path, mistakes)
        if document is not None:
            problems: list[Problem] = []
            layers.append(Layer(document, read_table(document.data, keys.FILE, (), problems)))
            mistakes.extend(document.mistakes(problems))
    return layers


def _sources(paths: Mapping[str, Path], mistakes: list[Mistake]) -> dict[str, Source]:
    """Read filters by name."""
    sources: dict[str, Source] = {}
    for name, path in paths.items():
        try:
            checks.name(name)
        except ValueError as error:
            mistakes.append(Mistake(shown(path), 0, "", None, f"is named after its filter, and the name {error}"))
            continue
        document = _read(path, mistakes)
        sources[name] = Source(document, None)
        if document is not None:
            try:
                sources[name] = Source(document, build_filter(name, document))
            except ConfigError as error:
                mistakes.extend(error.mistakes)
    return sources


def _in_order(mistakes: list[Mistake]) -> tuple[Mistake, ...]:
    """Sort by line within each file, the files as they were read."""
    files = list(dict.fromkeys(mistake.file for mistake in mistakes))
    return tuple(sorted(mistakes, key=lambda mistake: (files.index(mistake.file), mistake.line)))
