# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values as TOML that reads back the same, a table for each jail."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from banagent.config.toml import is_list, is_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def written(data: Mapping[str, object]) -> str:
    """Give a document: tables of tables as headers, what is in the innermost ones as dotted keys."""
    return "\n".join(_lines(data, ()))


def value(item: object) -> str:
    """Give a value in one line, whole."""
    if is_list(item):
        return f"[{', '.join(map(value, item))}]"
    if is_table(item):
        return f"{{ {', '.join(f'{_key(name)} = {value(inner)}' for name, inner in item.items())} }}"
    if isinstance(item, bool):
        return str(item).lower()
    return _text(item) if isinstance(item, str) else str(item)


def _lines(data: Mapping[str, object], above: tuple[str, ...]) -> Iterator[str]:
    """Give the lines of a table whose name is `above`; [jails.NAME] and [defaults] are headers, and nothing below."""
    if len(above) == 2 or above == ("defaults",):
        yield f"[{'.'.join(map(_key, above))}]"
        yield from (f"{name} = {value(item)}" for name, item in _leaves(data, ""))
        yield ""
        return
    for name, item in data.items():
        if is_table(item):
            yield from _lines(item, (*above, name))
        else:
            yield f"{'.'.join(map(_key, (*above, name)))} = {value(item)}"


def _leaves(data: Mapping[str, object], above: str) -> Iterator[tuple[str, object]]:
    for name, item in data.items():
        if is_table(item):
            yield from _leaves(item, f"{above}{_key(name)}.")
        else:
            yield above + _key(name), item


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    escaped = "".join(char if char.isprintable() and char not in '"\\' else _escape(char) for char in text)
    return f'"{escaped}"'


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
