# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration: read from the vendor's and the admin's files, checked whole, and given as frozen values.

A later file overrides an earlier one key by key:

    vendor's    banagent.toml and filters/ in /usr/lib/banagent, else those that came with the program
    admin's     banagent.toml, conf.d/*.toml and filters/*.toml in /etc/banagent; all may be missing or empty

Of several filter files with one name the last is taken, with what it extends.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from banagent.config import jails, keys
from banagent.config.extending import FilterFiles
from banagent.config.jails import JailConfig, Layer, Source
from banagent.config.table import read_table
from banagent.config.toml import MAX_MISTAKES, Document, read, shown
from banagent.config.writing import written
from banagent.core.keeping import Keeping
from banagent.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from collections.abc import Mapping

    from banagent.config.table import Problem
    from banagent.core.filter import Filter

__all__ = ["Config", "JailConfig", "filter_files", "load", "read_filters", "with_values"]

_FILE: Final = "banagent.toml"
_NUMBER: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The jails by name, and the files that were read: later ones have the last word."""

    jails: tuple[JailConfig, ...]
    files: tuple[str, ...]
    history: Keeping = Keeping()  # noqa: RUF009 - frozen
    failed: tuple[Mistake, ...] = ()  # of the filters of jails that are enabled and yet left out
    # of what it was made, so that values can be set over it
    layers: tuple[Layer, ...] = field(default=(), compare=False, repr=False)
    found: FilterFiles | None = field(default=None, compare=False, repr=False)


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
    found = _filter_files(vendor_filters, admin, filters, mistakes)
    return _built(layers, found, mistakes, whole=whole)


def with_values(config: Config, data: Mapping[str, object], name: str) -> Config:
    """Give a configuration that was loaded with values over it, as if from another file `name`. Raises ConfigError.

    No file is read again; the filters of jails that are enabled now are read.
    """
    assert config.found is not None
    document = Document(name, written(data))
    problems: list[Problem] = []
    layer = Layer(document, read_table(document.data, keys.FILE, (), problems))
    return _built([*config.layers, layer], config.found, [*document.mistakes(problems)], whole=False)


def _built(layers: list[Layer], found: FilterFiles, mistakes: list[Mistake], *, whole: bool) -> Config:
    paths = found.in_force()
    needed = paths.keys() if whole else jails.needed(layers, paths)
    failed: list[Mistake] = []
    sources = _sources(found, {name: path for name, path in paths.items() if name in needed}, failed)
    built = jails.build(layers, sources, paths, mistakes)
    if mistakes or (whole and failed):
        raise ConfigError(_in_order([*mistakes, *failed]))
    documents = [layer.document for layer in layers] + [part for item in sources.values() for part in item.parts]
    files = dict.fromkeys(document.file for document in documents)
    return Config(
        jails=built,
        history=jails.history(layers),
        files=tuple(files),
        failed=_in_order(failed),
        layers=tuple(layers),
        found=found,
    )


def filter_files(*, filters: Path | None = None, root: Path = Path("/")) -> dict[str, Path]:
    """Give the files of all filters under `root` by name, whatever is in them. Raises ConfigError."""
    mistakes: list[Mistake] = []
    _, vendor_filters = _vendor(root / "usr/lib/banagent")
    found = _filter_files(vendor_filters, root / "etc/banagent", filters, mistakes)
    if mistakes:
        raise ConfigError(tuple(mistakes))
    return found.in_force()


def read_filters(
    paths: Mapping[str, Path], *, filters: Path | None = None, root: Path = Path("/")
) -> tuple[dict[str, Filter], tuple[Mistake, ...]]:
    """Read filters by name; give those without mistakes, and the mistakes of the others.

    What they extend is looked for as `load` does.
    """
    mistakes: list[Mistake] = []
    _, vendor_filters = _vendor(root / "usr/lib/banagent")
    found = _filter_files(vendor_filters, root / "etc/banagent", filters, mistakes)
    sources = _sources(found, paths, mistakes)
    return {name: source.filter for name, source in sources.items() if source.filter}, _in_order(mistakes)


def _filter_files(vendor: Path, admin: Path, others: Path | None, mistakes: list[Mistake]) -> FilterFiles:
    if others and not _exists(others):
        mistakes.append(Mistake(shown(others), 0, "", None, "does not exist; a directory of filters is expected here"))
    directories = [vendor, admin / "filters", *([others] if others else ())]
    found: dict[str, list[Path]] = {}
    for directory in directories:
        for path in _listed(directory, mistakes):
            found.setdefault(path.stem, []).append(path)
    return FilterFiles(found, vendor)


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


def _sources(files: FilterFiles, paths: Mapping[str, Path], mistakes: list[Mistake]) -> dict[str, Source]:
    """Read filters by name."""
    read_ones = ((name, files.source(name, path, mistakes)) for name, path in paths.items())
    return {name: source for name, source in read_ones if source is not None}


def _in_order(mistakes: list[Mistake]) -> tuple[Mistake, ...]:
    """Sort by line within each file, the files as they were read; of what a hundred have, say how many more have it."""
    files = {file: number for number, file in enumerate(dict.fromkeys(mistake.file for mistake in mistakes))}
    ordered = sorted(dict.fromkeys(mistakes), key=lambda mistake: (files[mistake.file], mistake.line))
    kinds = Counter(map(_kind, ordered))
    said: Counter[str] = Counter()
    found: list[Mistake] = []
    for mistake in ordered:
        kind = _kind(mistake)
        said[kind] += 1
        if said[kind] <= MAX_MISTAKES:
            found.append(mistake)
        elif said[kind] == MAX_MISTAKES + 1:
            found.append(
                Mistake(
                    "",
                    0,
                    "",
                    None,
                    f"and {kinds[kind] - MAX_MISTAKES} more of this kind: {mistake.text.partition(':')[0]}",
                )
            )
    return tuple(found)


def _kind(mistake: Mistake) -> str:
    """Give what mistakes of a kind have in common."""
    return _NUMBER.sub("", mistake.text.partition(":")[0])
