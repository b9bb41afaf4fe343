# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values that are set while the agent runs: what words at a prompt mean for a key, and where they go in TOML."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Final, NamedTuple

import tomli

from banagent.config import keys
from banagent.config.table import rows, suggest
from banagent.config.toml import is_list, is_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from banagent.config import Config
    from banagent.config.table import Key

HOWS: Final = ("replace", "add", "remove")
Raw = dict[str, object]  # a table as a TOML file has it


class Wanted(NamedTuple):
    """What is to be set: of which jail, which key with its dots, and the words for it."""

    jail: str
    key: str
    words: Sequence[str]
    how: str = "replace"  # or what is done to a list: add, remove


def merged(config: Config, former: Raw, wanted: Wanted) -> Raw:
    """Give `former` with what is wanted in it. Raises ValueError: there is no such key, or it can't be changed so."""
    row = _row(wanted.key)
    value = _value(config, row, wanted)
    new = deepcopy(former)
    parts = wanted.key.split(".")
    if row.short and not is_table(value):
        parts.append(row.short)
    table = _inner(_inner(new, "jails"), wanted.jail)
    for part in parts[:-1]:
        table = _inner(table, part)
    table[parts[-1]] = value
    return new


def over(lower: Mapping[str, object], upper: Mapping[str, object]) -> Raw:
    """Merge two documents as the configuration does: tables key by key."""
    new = dict(lower)
    for name, value in upper.items():
        below = new.get(name)
        if is_table(value):
            new[name] = over(below if is_table(below) else _expanded(name, below), value)
        else:
            new[name] = value
    return new


def _expanded(name: str, value: object) -> Raw:
    """Give the table that a value without one is short for."""
    short = next((row.short for row in keys.JAILS.keys if row.name == name and row.short), "")
    return {short: value} if short and value is not None else {}


def _row(name: str) -> Key[object]:
    known = {key: row for key, row in rows(keys.JAILS.keys) if row.since == "now"}
    if name not in known:
        hint = suggest(name, known) or f"; there are {', '.join(known)}"
        raise ValueError(f"there is no such key{hint}")
    return known[name]


def _value(config: Config, row: Key[object], wanted: Wanted) -> object:
    values = [_raw(word) for word in wanted.words]
    if any(is_table(value) and not (value and row.keys) for value in values):
        raise ValueError(f"must be {row.type}")
    if not row.many:
        if wanted.how != "replace":
            raise ValueError(f"is no list, so nothing can be {wanted.how}ed; set it")
        if len(values) != 1:
            raise ValueError(f"must be {row.type}, one value")
        return values[0]
    if len(values) == 1 and (is_list(values[0]) or values[0] in row.words):
        if wanted.how == "replace":
            return values[0]
        values = values[0] if is_list(values[0]) else values
    return _changed(current(config, wanted.jail, row), values, row, wanted.how)


def _changed(now: list[object], values: Iterable[object], row: Key[object], how: str) -> list[object]:
    if how == "replace":
        return list(values)
    meant = {_checked(item, row): item for item in now}
    for value in values:
        if how == "add":
            meant.setdefault(_checked(value, row), value)
        elif meant.pop(_checked(value, row), None) is None:
            raise ValueError(f"{value} is not in the list")
    return list(meant.values())


def _checked(value: object, row: Key[object]) -> object:
    """Give a value as the program understands it, so that two ways to write it are one. Raises ValueError."""
    return row.check(value) if row.check else value


def current(config: Config, jail: str, row: Key[object]) -> list[object]:
    """Give the list that is in force, as it is written. Raises ValueError: it is no list."""
    tables: list[object] = []
    for layer in reversed(config.layers):
        of_jails = layer.document.data.get("jails")
        tables.append(of_jails.get(jail) if is_table(of_jails) else None)
    tables += [layer.document.data.get("defaults") for layer in reversed(config.layers)]
    for table in tables:
        if is_table(table) and row.name in table:
            found = table[row.name]
            if not is_list(found):
                raise ValueError(f"is {found} and no list, to which something can be added; set it")
            return list(found)
    of_filter = [getattr(item.filter, row.name, ()) for item in config.jails if item.name == jail]
    return [*of_filter[0]] if of_filter else []


def _raw(word: str) -> object:
    """Read a word as TOML; one that is none, or a date, is text."""
    try:
        value: object = tomli.loads(f"x = {word}\n")["x"] if "\n" not in word else word
    except ValueError:
        return word
    return value if isinstance(value, bool | int | float | str) or is_list(value) or is_table(value) else word


def _inner(table: Raw, name: str) -> Raw:
    found = table.get(name)
    if not is_table(found):
        found = table[name] = _expanded(name, found)
    return found
