# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is in force for each jail, key by key: its value in TOML, where it is set, and what it replaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

from banagent.config import checks, keys
from banagent.config.table import rows
from banagent.config.toml import notation
from banagent.core import duration
from banagent.core.formula import Formula

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from banagent.config.jails import JailConfig
    from banagent.config.table import Key
    from banagent.config.toml import Origin

_DURATIONS: Final = (checks.seconds, checks.finite_seconds, checks.any_seconds)


class Place(NamedTuple):
    """A value in TOML and where it is set: a file and a line from 1, 0 if it is not known; no file: a default."""

    value: str
    file: str | None
    line: int


class Setting(NamedTuple):
    """A value in force, and the one that would be if its line were not there; None: it is the default itself."""

    key: str  # dotted: jails.sshd.maxretry
    place: Place
    replaces: Place | None


def settings(jails: Iterable[JailConfig]) -> Iterator[Setting]:
    """Give all of them, jail by jail in the order of the table of keys."""
    named = list(_named())
    for jail in jails:
        for key, name, row in named:
            origin = jail.origins.get(key)
            default = _default(jail, name, row)
            if origin is not None:
                below = default if origin.below is None else _place(origin.below)
                yield Setting(f"jails.{jail.name}.{name}", _place(origin), below)
            elif default is not None:
                yield Setting(f"jails.{jail.name}.{name}", default, None)


def _named() -> Iterator[tuple[str, str, Key[object]]]:
    """Give the keys of single values: as origins have them, as they are shown, and their rows."""
    found = [(name, row) for name, row in rows(keys.JAILS.keys) if row.since == "now"]
    shorts = {f"{name}.{row.short}": name for name, row in found if row.short}
    return ((name, shorts.get(name, name), row) for name, row in found if not row.keys)


def _place(origin: Origin) -> Place:
    return Place(origin.value, origin.file, origin.line)


def _default(jail: JailConfig, name: str, row: Key[object]) -> Place | None:
    """Give what holds if no file says anything; None if that is nothing."""
    default: object = row.default
    if name == keys.FILTER.name:
        default = jail.name
    elif name == keys.PORTS.name:
        default = "all"
    elif row.check in _DURATIONS and (default is None or isinstance(default, int)):
        default = duration.format(default)
    elif isinstance(default, Formula):
        default = default.text
    elif isinstance(default, tuple):
        default = [*cast("tuple[object, ...]", default)]
    return None if default is None else Place(notation(default), None, 0)
