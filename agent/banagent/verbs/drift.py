# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines that look like failures and that no pattern knows, grouped by their shape.

Services change their words from version to version. A list of words decides what looks like a failure; it is looked
for in the shape, in which what a peer may have chosen is replaced.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WORDS: Final = (
    *(
        "abuse",
        "attack",
        "authentication error",
        "bad ",
        "banned",
        "blacklist",
        "blocked",
        "bogus",
        "brute",
        "could not",
    ),
    *("couldn't", "denied", "disallow", "disconnect", "does not exist", "error", "exceed", "fail", "forbidden"),
    *("illegal", "incorrect", "invalid", "locked", "malformed", "mismatch", "no such", "not allowed", "not exist"),
    *("not found", "not permitted", "probe", "refuse", "reject", "reset by", "scan", "suspicious", "timed out"),
    *("timeout", "too long", "too many", "unable", "unauthori", "unauthenticated", "unexpected", "unknown"),
    *("unmatched", "unrecogni", "violation", "warn", "wrong"),
)
# how lines of successes begin, and of what follows them: only there, where the service's own words stand
_SUCCESS: Final = re.compile(
    r"(?:accepted |disconnected from user |received disconnect from \S+ port \S+: disconnected by user|"
    r"\S*session (?:opened|closed)|pam_\w+\([^)]*\): session (?:opened|closed)|login: |logged in|connection from )"
)
_LOOKED_AT: Final = 1000  # bytes of a line
_MOST: Final = 10_000  # shapes that are remembered
_UNITS: Final = 10  # of a shape that are named

_ADDRESS4: Final = r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,3})?(?![\w.]*\d)"
_ADDRESS6: Final = (
    r"(?<![\w:])(?=[0-9a-f:]{0,39}::|(?:[0-9a-f]{1,4}:){6})"  # a time of day has neither
    r"(?:[0-9a-f:]{2,30}:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f:]{2,39})(?:/\d{1,3})?(?![\w:])"
)
# what follows these words, or is set to them, is most often a name; but for words of the service's own
_NO_NAMES: Final = (
    *("a", "an", "at", "authenticating", "by", "does", "from", "illegal", "in", "invalid", "is", "not", "the", "to"),
    *("unknown", "user", "with"),
)
_NAME: Final = (
    r"(?P<key>(?<![\w-])(?:user|for|ruser|logname|login|account|username|sasl_username|authid)(?:=|: ?| ))"
    rf"(?!(?:{'|'.join(_NO_NAMES)})\b)(?P<name>[^\s<>=,;:\"']{{1,256}})"
)
_REPLACED: Final = re.compile(
    "|".join(
        (
            r"(?P<quoted>\"[^\"]{0,1000}\"|'[^']{0,1000}'|(?<=<)[^<>\s]{0,1000}(?=>)|`[^`']{0,1000}')",
            rf"(?P<address>{_ADDRESS4}|{_ADDRESS6})",
            r"(?P<mail>[\w.+-]{1,64}@[\w.-]{1,255})",
            _NAME,
            r"(?P<host>\b(?:[a-z0-9_-]{1,63}\.){2,10}[a-z]{2,63}\b)",
            r"(?P<hex>\b(?:0x)?(?=[0-9a-f]{0,127}[0-9])[0-9a-f]{8,128}\b)",
            r"(?P<number>\d+)",
        )
    ),
    re.IGNORECASE,
)


class Shape:
    """Lines that differ only in what is replaced."""

    def __init__(self, example: bytes) -> None:
        self.count = 0
        self.example = example
        self.units: set[str] = set()


class Drift:
    """The shapes that were seen, and how often.

    `split` gives who wrote a line, if that is known, and its MESSAGE.
    """

    def __init__(self, split: Callable[[bytes], tuple[str, bytes]] = lambda line: ("", line)) -> None:
        self._split = split
        self._shapes: dict[str, Shape] = {}
        self.others = 0  # lines of further shapes, which are not remembered

    def add(self, line: bytes, unit: str | None) -> None:
        """Take note of a line that no pattern knows, if it looks like a failure; `unit` None: it is to be split."""
        text = _text(line)
        if not _has_word(text):  # to look is quicker than to split and to replace
            return
        if unit is None:
            unit, message = self._split(line)
            text = _text(message)
            line = message if line.startswith(b"{") else line
        if not looks_failed(text) or not looks_failed(shape := shape_of(text)):
            return
        known = self._shapes.get(shape)
        if known is None:
            if len(self._shapes) >= _MOST:
                self.others += 1
                return
            known = self._shapes[shape] = Shape(line[:_LOOKED_AT])
        known.count += 1
        if unit and len(known.units) < _UNITS:
            known.units.add(unit)

    def shapes(self) -> Sequence[tuple[str, Shape]]:
        """Give the shapes, the most frequent first."""
        return sorted(self._shapes.items(), key=lambda item: (-item[1].count, item[0]))


def shape_of(text: str) -> str:
    """Replace addresses, names, numbers and what stands in quotes."""
    return _REPLACED.sub(_replace, text)


def looks_failed(text: str) -> bool:
    """Whether a line, or one of this shape, looks like a failure."""
    return _has_word(text) and not _SUCCESS.match(text.lower())


def _has_word(text: str) -> bool:
    lower = text.lower()
    return any(word in lower for word in WORDS)


def _text(line: bytes) -> str:
    return line[:_LOOKED_AT].decode("utf-8", "replace")


def _replace(match: re.Match[str]) -> str:
    if match["key"] is not None:
        return f"{match['key']}<name>"
    kind = match.lastgroup
    if kind == "quoted":
        text = match[0]
        return f"{text[0]}…{text[-1]}" if text[:1] in "\"'`" and text else "…"
    return f"<{kind}>"
