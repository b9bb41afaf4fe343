# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules about the fields of a JSON object, for the programs that log one a line."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, cast

from re2 import _re2

from banagent.core.filter import options

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN: Final = re.compile(r"[\w -]+", re.ASCII)  # names that all programs write as they are, without escapes
_WHOLE: Final = _re2.RE2.Anchor.ANCHOR_BOTH


class Fields:
    """What the fields of an object must be: by path (names joined by dots, numbers for lists), a pattern of the whole.

    Numbers, true and false are matched as JSON writes them; null, lists and objects match nothing.
    """

    def __init__(self, rules: Mapping[str, str]) -> None:
        self._rules = [_Rule(path, regex) for path, regex in rules.items()]
        names = {part for path in rules for part in path.split(".") if not part.isdecimal()}
        self._names = [name.encode() for name in names if _PLAIN.fullmatch(name)]

    def may_match(self, message: bytes) -> bool:
        """Whether its names are in the text of an object: a quick look before it is parsed."""
        return all(name in message for name in self._names)

    def captures(self, value: object) -> dict[str, bytes] | None:
        """Give what the patterns capture, by name; None if one of them does not match."""
        found: dict[str, bytes] = {}
        for rule in self._rules:
            text = _text(_at(value, rule.path))
            if text is None:
                return None
            spans = rule.match(_WHOLE, text, 0, len(text))
            if spans[0][0] < 0:
                return None
            for name, number in rule.groups:
                start, end = spans[number]
                if start >= 0:
                    found[name] = text[start:end]
        return found


class _Rule:
    """A path and what is to be found there."""

    def __init__(self, path: str, regex: str) -> None:
        pattern = _re2.RE2(regex.encode(), options())
        self.path = path.split(".")
        self.match = pattern.Match
        self.groups = [(name.decode(), number) for name, number in pattern.NamedCapturingGroups()]


def parse(message: bytes) -> object:
    """Parse a line; None if it is no JSON, or has more lists and objects in one another than Python allows."""
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None


def _at(value: object, path: list[str]) -> object:
    for part in path:
        if isinstance(value, dict):
            value = cast("dict[str, object]", value).get(part)
        elif isinstance(value, list) and part.isdecimal():
            items = cast("list[object]", value)
            value = items[int(part)] if int(part) < len(items) else None
        else:
            return None
    return value


def _text(value: object) -> bytes | None:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace")
    if isinstance(value, (bool, int, float)):
        return json.dumps(value).encode()
    return None
