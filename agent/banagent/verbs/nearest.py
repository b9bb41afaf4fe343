# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which pattern comes nearest to a line that none matches, and where it stops.

A pattern is taken apart, and the longest beginning of it is looked for that still matches. The nearest is the one of
whose own characters the most were found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from re2 import _re2

from banagent.config.regex import parts
from banagent.core.fields import Fields, parse
from banagent.core.filter import HOST, Failregex, options
from banagent.verbs.trial import literals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from banagent.config.regex import Atom
    from banagent.core.filter import Filter

_SHOWN: Final = "<HOST>"  # in place of what it stands for
_LONGEST: Final = 2_000  # bytes of a text that are looked at: each pattern goes over them some ten times
_CUT: Final = b"\n[cut]"  # keeps a pattern's end from matching where the text was cut
_MOST_WAYS: Final = 200  # through one pattern


class Stop(NamedTuple):
    """A pattern, and how far a text goes along with it."""

    filter: str
    pattern: str
    mode: str
    found: int  # of the pattern's own characters
    end: int  # where in the text it stops
    begun: str  # the part of the pattern that matches
    rest: str  # and what it wants next
    field: str | None = None  # of an object of JSON: its path


def nearest(filters: Iterable[Filter], message: bytes) -> Stop | None:
    """Give the pattern that comes nearest; None: none has anything in common with the line."""
    text = message if len(message) <= _LONGEST else message[:_LONGEST] + _CUT
    stops = (
        stop for item in filters for pattern in _patterns(item) for stop in _stops(item.name, pattern, text, message)
    )
    return max((stop for stop in stops if stop.found), key=lambda stop: (stop.found, -len(stop.rest)), default=None)


def login(filters: Iterable[Filter], message: bytes) -> tuple[str, str] | None:
    """Give the filter and the pattern by which a message tells of a login; None: it does not."""
    text = message if len(message) <= _LONGEST else message[:_LONGEST] + _CUT
    for item in filters:
        for pattern in item.successes:
            if any(not stop.rest and stop.field is None for stop in _stops(item.name, pattern, text, message)):
                return item.name, pattern.name
    return None


def _patterns(item: Filter) -> Iterator[Failregex]:
    return iter((*item.failregexes, *item.links, *item.successes))


def _stops(name: str, pattern: Failregex, text: bytes, whole: bytes) -> Iterator[Stop]:
    if pattern.json:
        yield from _stops_of_json(name, pattern, whole)
        return
    regex = pattern.regex.replace(HOST, _SHOWN)
    best: Stop | None = None
    for ways in _ways(regex):
        fits, end = _longest(ways, text)
        begun, rest = "".join(ways[:fits]), "".join(ways[fits:])
        stop = Stop(name, pattern.name, pattern.mode, literals(begun), end, begun, rest)
        if best is None or stop.found > best.found:
            best = stop
    if best is not None:
        yield best


def _ways(regex: str) -> list[list[str]]:
    """Give the ways through a pattern, each as the parts that one goes along: its alternatives, and those within."""
    try:
        return _through(parts(regex))[:_MOST_WAYS]
    except ValueError:  # nobody nests so deep
        return [[regex]]


def _through(alternatives: tuple[tuple[Atom, ...], ...]) -> list[list[str]]:
    found: list[list[str]] = []
    for atoms in alternatives:
        ways: list[list[str]] = [[]]
        for atom in atoms:
            inner = _through(atom.inner) if atom.opening and not atom.quantifier else [[atom.text]]
            # a group is gone through where it stands last; before that, as a whole
            ways = (
                [[*way, *more] for way in ways for more in inner]
                if len(ways) * len(inner) <= _MOST_WAYS
                else [[*way, atom.text] for way in ways]
            )
        found += ways
    return found


def _longest(ways: list[str], message: bytes) -> tuple[int, int]:
    """Give how many of the parts, joined, match at the beginning of a text, and where they end there."""
    low, high, end = 0, len(ways), 0
    while low < high:
        middle = (low + high + 1) // 2
        reached = _match("".join(ways[:middle]), message)
        if reached is None:
            high = middle - 1
        else:
            low, end = middle, reached
    return low, end


def _match(regex: str, message: bytes) -> int | None:
    """Give where a match at the beginning of a text ends; None: there is none."""
    compiled = _re2.RE2(f"^(?:{regex})".replace(_SHOWN, HOST).encode(), options())
    if not compiled.ok():
        return None
    (_, end), *_ = compiled.Match(_re2.RE2.Anchor.ANCHOR_START, message, 0, len(message))
    return None if end < 0 else end


def _stops_of_json(name: str, pattern: Failregex, message: bytes) -> Iterator[Stop]:
    value = parse(message)
    if value is None:
        return
    fitting = [path for path, regex in pattern.json.items() if Fields({path: regex}).captures(value) is not None]
    wrong = next((path for path in pattern.json if path not in fitting), None)
    if wrong is not None:
        rest = pattern.json[wrong].replace(HOST, _SHOWN)
        begun = ", ".join(fitting)
        yield Stop(name, pattern.name, pattern.mode, sum(map(len, fitting)), 0, begun, rest, wrong)
