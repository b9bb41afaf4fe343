# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a line has to begin so that one of some patterns can match it: most lines need no closer look."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from re2 import _re2

from banagent.core.filter import options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST: Final = 8192  # beginnings; where there are more, most lines have one of them
# "^(?i)?a" has none: RE2 repeats what stands before flags
ANCHOR: Final = re.compile(r"\^(?!(?:\(\?[A-Za-z-]*\)|\\Q\\E)*[*+?{])")
_LENGTH: Final = 10  # bytes of a match that are looked at
_OPTIONAL: Final = re.compile(r"\^\(\?:([^\\()\[\]]*)\)\?(?![?+*{])(.*)", re.DOTALL)  # "^(?:error: )?Received"
_PART: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|[()|]", re.DOTALL)  # escapes, classes, ()|


def beginnings(regexes: Iterable[str]) -> frozenset[bytes] | None:
    """Give the first two bytes that a line can have which one of the patterns matches; None: nearly any.

    Lines of fewer bytes are among them.
    """
    found = {b"", *(bytes((byte,)) for byte in range(256))}
    for regex in regexes:
        for first, last in _ranges(regex):
            if last - first > MOST:
                return None
            found.update(number.to_bytes(2, "big") for number in range(first, last + 1))
    return frozenset(found) if len(found) <= MOST else None


def _ranges(regex: str) -> Iterator[tuple[int, int]]:
    """Give between which pairs of bytes, as numbers, a line begins that a pattern matches."""
    if optional := _OPTIONAL.fullmatch(regex):
        yield from _ranges(f"^(?:{optional[1]})")
        yield from _ranges(f"^{optional[2]}")
        return
    # what is known is about matches at the beginning; RE2 errs where words end: of "^s\b." it says "s0" to "sz"
    anywhere = _PART.sub(lambda part: "(?:)" if part[0] in {r"\b", r"\B"} else part[0], regex)
    known, low, high = _re2.RE2(anywhere.encode(), options()).PossibleMatchRange(_LENGTH)
    if not (known and low and high and _is_anchored(regex)):
        yield 0, 0xFFFF
        return
    # unless all matches share them, there can be one of a single byte, and any behind it
    last = low[:2] if len(low) >= 2 and low[:2] == high[:2] else high[:1] + b"\xff"
    yield int.from_bytes(low[:2].ljust(2, b"\0"), "big"), int.from_bytes(last, "big")


def _is_anchored(regex: str) -> bool:
    """Whether each match begins where the line does; a pattern of which that is not seen at once is none."""
    if not ANCHOR.match(regex) or r"\Q" in regex:
        return False
    depth = 0
    for part in _PART.findall(regex):
        depth += (part == "(") - (part == ")")
        if part == "|" and depth == 0:
            return False
    return True
