# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an enemy could try with any pattern: lines in which his words look like the end of the line.

A pattern has gaps: `.*`, `[^"]*`, `\\S+` stand for words that somebody chose. Into each of them, and behind a line
whose end the pattern leaves open, goes what it takes for the rest of a line, with a forged address in it.

A gap takes only what its class allows: that the service lets nothing else pass is for the pattern's author to find
out. The gap of a user name takes blanks as well, whatever its class says: many services forget that names can have
some.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from re2 import _re2

from banagent.core.filter import options

if TYPE_CHECKING:
    from collections.abc import Iterator

FAKE: Final = b"192.0.2.66"
_TOKEN: Final = re.compile(
    r"""
      (?P<open>\((?:\?P<(?P<name>\w+)>|\?[a-zA-Z]*:)?) | (?P<flags>\(\?[a-zA-Z]+\)) | (?P<close>\))
    | (?P<class>\\. | \[\^?\]?(?:\[:\^?\w+:\]|\\.|[^]\\])*\] | \.)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_REPEAT: Final = re.compile(r"(?:[*+]|\{\d+,\d*\})\??")  # more than once
_WHOLE: Final = _re2.RE2.Anchor.ANCHOR_BOTH
_UNANCHORED: Final = _re2.RE2.Anchor.UNANCHORED


class Gap(NamedTuple):
    """A part of a pattern that can match text of any length."""

    start: int  # in the pattern
    end: int
    once: str  # what it repeats
    groups: frozenset[str]  # the named ones that it is in


class Pattern:
    """A pattern, and what an enemy can write who wants it to find a value of his choice for one of its groups."""

    def __init__(self, regex: str, group: str) -> None:
        group_starts = f"(?P<{group}>"
        found = [
            gap for gap in gaps(regex) if group not in gap.groups and group_starts not in regex[gap.start : gap.end]
        ]
        pattern = _compiled(_captured(regex, found))
        numbers = {name.decode(): number for name, number in pattern.NamedCapturingGroups()}
        self._match = pattern.Match
        self._group = numbers[group]
        self._gaps = [(numbers[f"gap{number}"], _taking(gap)) for number, gap in enumerate(found)]

    def forged(self, line: bytes, fake: bytes) -> Iterator[bytes]:
        """Give lines made from one that the pattern matches, with `fake` where a careless pattern finds it."""
        spans = self._match(_UNANCHORED, line, 0, len(line))
        start, end = spans[self._group]
        if start < 0:
            return
        places: list[tuple[tuple[int, int], _re2.RE2 | None]]
        places = [(spans[number], taking) for number, taking in self._gaps if spans[number][0] >= 0]
        introductions = {line[after:start] for (_, after), _ in places if after <= start} | {line[:start]}
        if self._match(_UNANCHORED, line + b"~", 0, len(line) + 1)[self._group] == (start, end):
            places.append(((len(line), len(line)), None))
        payloads = [intro + fake + rest for intro in introductions for rest in _rests(line[end:])]
        for (left, right), taking in places:
            for payload in payloads:
                for words in (payload, b"x" + payload, b"x" + payload + b" "):
                    if taking is None or taking.Match(_WHOLE, words, 0, len(words))[0][0] == 0:
                        yield line[:left] + words + line[right:]


def gaps(regex: str) -> list[Gap]:
    """Find the gaps of a pattern, also those within one another."""
    found: list[Gap] = []
    opened: list[tuple[int, str]] = []
    at = 0
    while token := _TOKEN.match(regex, at):
        start, at = at, token.end()
        if token["open"]:
            opened.append((start, token["name"] or ""))
            continue
        if token["close"]:
            start = opened.pop()[0]
        elif not token["class"]:
            continue
        if repeat := _REPEAT.match(regex, at):
            found.append(Gap(start, repeat.end(), regex[start:at], frozenset(name for _, name in opened)))
    return found


def _captured(regex: str, found: list[Gap]) -> str:
    """Name the gaps gap0, gap1, and so on."""
    inserts = [""] * (len(regex) + 1)
    for gap in found:
        inserts[gap.end] += ")"
    for number, gap in sorted(enumerate(found), key=lambda item: -item[1].end):
        inserts[gap.start] += f"(?P<gap{number}>"
    return "".join(insert + char for insert, char in zip(inserts, [*regex, ""], strict=True))


def _taking(gap: Gap) -> _re2.RE2:
    return _compiled(f"(?:{gap.once}{'| ' if 'user' in gap.groups else ''})*")


def _rests(line: bytes) -> set[bytes]:
    """Give what may follow an address: all that does, or the first words of it."""
    blanks = [match.start() for match in re.finditer(rb"\s", line)][:6]
    return {line, b"", *(line[:blank] for blank in blanks)}


def _compiled(regex: str) -> _re2.RE2:
    pattern = _re2.RE2(regex.encode(), options())
    assert pattern.ok(), regex
    return pattern
