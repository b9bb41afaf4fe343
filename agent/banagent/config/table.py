# SPDX-License-Identifier: LGPL-2.1-or-later
"""The shape of a table of keys, and how a TOML table is read by one: all that is wrong is found in one go."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from banagent.config.toml import Origin, is_list, is_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from banagent.config.toml import KeyPath

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Problem = tuple["KeyPath", str]  # where, and what is wrong there
Keys = tuple["Key[object]", ...]
_WRONG: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Key(Generic[T_co]):
    """One row: a key, what it may hold, and what it means.

    A key with `keys` holds a table; `short` is the one of them that a value without a table is for. A key with
    `names` holds a table of names that the admin chooses, each with what the row describes; one with `many` a list
    of at least `least` items of it, or one of `words`. `check` and `names` raise ValueError, which says what is
    allowed; `choices` are all that is, if that is few words.
    """

    name: str
    default: T_co
    check: Callable[[object], object] | None = None
    type: str = ""  # what it may hold, for people
    help: str
    since: str = "now"  # "later": known and refused; "never": fail2ban's or misplaced, and `help` says what to do
    keys: Keys = ()
    short: str = ""
    names: Callable[[object], object] | None = None
    many: bool = False
    least: int = 0
    words: Mapping[str, object] = field(default_factory=dict[str, object])
    choices: tuple[str, ...] = ()
    required: bool = False


class Values:
    """The values of a TOML table that were right, by their keys."""

    def __init__(self, found: Mapping[str, object]) -> None:
        self._found = found

    def __getitem__(self, key: Key[T]) -> T:
        """Give the value of `key`, or its default."""
        return cast("T", self._found.get(key.name, key.default))

    def __contains__(self, key: Key[object]) -> bool:
        """Whether it was given."""
        return key.name in self._found

    def over(self, lower: Values) -> Values:
        """Merge: tables key by key, all else replaces what `lower` has; an origin knows which one it replaces."""
        merged = dict(lower._found)
        for name, value in self._found.items():
            below = merged.get(name)
            if isinstance(value, Values):
                merged[name] = value.over(below) if isinstance(below, Values) else value
            else:
                merged[name] = value.over(below) if isinstance(value, Origin) and isinstance(below, Origin) else value
        return Values(merged)

    def items(self) -> Iterable[tuple[str, object]]:
        """Give the names and the values."""
        return self._found.items()

    def map(self, make: Callable[[KeyPath], object], above: KeyPath = ()) -> Values:
        """Give the same keys, each with what is made of its path."""
        return Values(
            {
                name: value.map(make, (*above, name)) if isinstance(value, Values) else make((*above, name))
                for name, value in self._found.items()
            }
        )

    def inner(self, name: str) -> Values:
        """Give the table of a name that the admin chose; an empty one if there is none."""
        value = self._found.get(name)
        return value if isinstance(value, Values) else Values({})

    def leaves(self, above: str = "") -> Iterator[tuple[str, object]]:
        """Give the values in it and its tables, each with its dotted name."""
        for name, value in self._found.items():
            if isinstance(value, Values):
                yield from value.leaves(f"{above}{name}.")
            else:
                yield above + name, value


def rows(keys: Iterable[Key[object]], above: str = "") -> Iterator[tuple[str, Key[object]]]:
    """Give each row that has a meaning with its dotted name, tables before what they hold."""
    for key in keys:
        if key.since != "never":
            yield above + key.name, key
            yield from rows(key.keys, f"{above}{key.name}.NAME." if key.names else f"{above}{key.name}.")


def read_table(table: Mapping[str, object], keys: Keys, path: KeyPath, problems: list[Problem]) -> Values:
    """Read a TOML table; what is wrong in it is added to `problems` and left out of the values."""
    known = {key.name: key for key in keys}
    found: dict[str, object] = {}
    for name, value in table.items():
        key, at = known.get(name), (*path, name)
        if key is None:
            problems.append((at, _unknown(name, value, known.values())))
        elif key.since != "now":
            later = key.since == "later"
            problems.append((at, "not yet: comes with a later version; remove it" if later else f"no key: {key.help}"))
        else:
            found[name] = _read_value(value, key, at, problems)
    missing = (key for key in keys if key.required and key.name not in table)
    problems.extend((path, f"{key.name} is missing: {key.help}") for key in missing)
    return Values({name: value for name, value in found.items() if value is not _WRONG})


def suggest(word: str, words: Iterable[str]) -> str:
    """Give `; did you mean "…"?` if one of `words` looks like `word`, else nothing."""
    close = get_close_matches(word.lower()[:100], list(words), 1)
    return f'; did you mean "{close[0]}"?' if close else ""


def _read_value(value: object, key: Key[object], path: KeyPath, problems: list[Problem]) -> object:
    if key.names:
        return _read_names(value, key, key.names, path, problems)
    if not key.many:
        return _read_one(value, key, path, problems)
    if isinstance(value, str) and value in key.words:
        return key.words[value]
    if not is_list(value):
        problems.append((path, f"must be {key.type}{_instead(value)}"))
        return _WRONG
    if len(value) < key.least:
        problems.append((path, f"must not be empty: {key.help}"))
    items = [_read_one(item, key, (*path, index), problems) for index, item in enumerate(value)]
    return tuple(item for item in items if item is not _WRONG)


def _read_names(
    value: object, key: Key[object], check: Callable[[object], object], path: KeyPath, problems: list[Problem]
) -> object:
    if not is_table(value):
        problems.append((path, "must be a table"))
        return _WRONG
    found: dict[str, object] = {}
    for name, item in value.items():
        try:
            check(name)
        except ValueError as error:
            problems.append(((*path, name), f"the name {error}"))
        else:
            found[name] = _read_one(item, key, (*path, name), problems)
    return Values({name: item for name, item in found.items() if item is not _WRONG})


def _read_one(value: object, key: Key[object], path: KeyPath, problems: list[Problem]) -> object:
    if key.keys and is_table(value):
        return read_table(value, key.keys, path, problems)
    if key.short:
        inner = next(one for one in key.keys if one.name == key.short)
        value = _read_one(value, inner, path, problems)
        return _WRONG if value is _WRONG else Values({key.short: value})
    if key.check is None:
        problems.append((path, "must be a table"))
        return _WRONG
    try:
        return key.check(value)
    except ValueError as error:
        problems.append((path, f"{error}{_instead(value)}"))
        return _WRONG


def _instead(value: object) -> str:
    """Say of a table that it is one: messages don't show what is in it."""
    return ", not a table" if is_table(value) else ""


def _unknown(name: str, value: object, keys: Iterable[Key[object]]) -> str:
    known = [key for key in keys if key.since == "now"]
    names = [key.name for key in known]
    place = next((key.name for key in known if key.names and key.keys), None)
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    written = f"; write [{place}.{name[:64]}]" if place and bare and is_table(value) else ""
    return "unknown key" + (suggest(name, names) or written or f"; there are {', '.join(names)}")
