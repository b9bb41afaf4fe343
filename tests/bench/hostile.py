# SPDX-License-Identifier: LGPL-2.1-or-later
"""The worst that an enemy can do with one line: each pattern of each filter on lines of the longest length, made to
keep it busy.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from re2 import _re2

from banagent.config import load
from banagent.core.filter import options
from banagent.core.recognise import LONGEST, Recogniser, View
from bench.figures import Figure, Goal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from banagent.core.filter import Failregex

ROUNDS: Final = 3
_PEER: Final = b" from 192.0.2.1 port 22 ssh2"
_STUFFINGS: Final = (b"a", b" ", b":", b"0", b"1.", b"'", b"\\", b"[preauth]", _PEER, b" port 22", b"invalid user x ")


def measure(nowhere: Path) -> Iterator[Figure]:
    """Try all pairs; give the worst one, of the patterns by themselves and of all patterns of a filter at once."""
    singly: list[tuple[float, str]] = []
    at_once: list[float] = []
    for config in load(root=nowhere).jails:
        recogniser = Recogniser({config.name: View(config.filter, "aggressive")})
        for failregex in config.filter.failregexes:
            match = partial(_match, _re2.RE2(failregex.regex.encode(), options()))
            name = f"{config.filter.name} {failregex.name}"
            for line in lines(failregex):
                singly.append((_milliseconds(match, line), name))
                at_once.append(_milliseconds(recogniser.sift, line))
    worst, name = max(singly)
    yield Figure(f"an enemy's 16 KB line: {name}", worst, "ms", Goal(5))
    yield Figure("  sifting one with all patterns", max(at_once), "ms", Goal(5))


def lines(failregex: Failregex) -> Iterator[bytes]:
    """Make lines from the samples of a pattern: filled in the place of the user, of the address, and at the end."""
    for sample in failregex.samples:
        line = sample.line.encode()
        places = {len(line)}
        for part in (sample.user, sample.address):
            if part and part.encode() in line:
                places.add(line.index(part.encode()) + len(part.encode()))
        for place in places:
            for stuffing in _STUFFINGS:
                room = LONGEST - len(line)
                yield line[:place] + stuffing * (room // len(stuffing)) + line[place:]


def _match(pattern: _re2.RE2, line: bytes) -> object:
    return pattern.Match(_re2.RE2.Anchor.UNANCHORED, line, 0, len(line))


def _milliseconds(act: Callable[[bytes], object], line: bytes) -> float:
    """Give the shortest of some tries: the machine does other things too."""
    taken: list[int] = []
    for _ in range(ROUNDS):
        before = time.process_time_ns()
        act(line)
        taken.append(time.process_time_ns() - before)
    return min(taken) / 1e6
