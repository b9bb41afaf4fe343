# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a pattern takes for the worst lines that can be made against it.

RE2's time is linear in a line's length, but what it takes for a byte depends on the pattern and on the line: patterns
of 900 steps were seen to take 0.05 ms for one line of 16 KB, and 350 ms for another. The slow lines are those that look
like a match for long, and different at each byte, so that no state comes again.
"""

from __future__ import annotations

import time
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from re2 import _re2

from banagent.config import regex as regexes
from banagent.core.filter import options
from banagent.core.recognise import LONGEST, SET_MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from banagent.config.regex import Atom

LIMIT: Final = 20  # ms for a line of the longest length; the worst of the package's own takes 5
FEW: Final = 100  # steps of a program that takes no line as long as that
_TRIES: Final = 3  # the quickest counts: the machine may have had other things to do
_GAPS: Final = 6  # of a pattern that are filled
_SAMPLES: Final = 2
_WAYS: Final = 4  # through a pattern: the first alternative of each group, the second, and so on
_FILL: Final = b"a1 .:"  # what most gaps take
_PRINTABLE: Final = bytes(range(32, 127))
_UNANCHORED: Final = _re2.RE2.Anchor.UNANCHORED
_WHOLE: Final = _re2.RE2.Anchor.ANCHOR_BOTH
_KINDS: Final = {"d": b"1", "s": b" ", "w": b"a", "S": b"a", "D": b"a", "W": b" ", "t": b"\t", "n": b"\n"}
_NOTHING: Final = frozenset("bBAzQE")  # behind a backslash: what matches no text, or is not looked into


class Budget:
    """The CPU time that trying patterns may take in a load: it holds up the agent, and 2000 patterns may be given.

    What is left when it is used up is held to the number of steps alone.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self._end = time.process_time() + seconds

    @property
    def is_used_up(self) -> bool:
        """Whether no more is to be tried."""
        return time.process_time() > self._end


@lru_cache(1000)  # a reload tries most of them again
def too_slow(regex: str, samples: tuple[str, ...] = (), *, field: bool = False) -> float | None:
    """Give how many ms of CPU time a line of 16 KB takes, if that is more than `LIMIT`.

    A pattern of a `field` is matched whole; one of a line as core.recognise does.
    """
    match = _as_field(regex) if field else _as_sifted(regex)
    for line in _lines(regex, samples):
        taken = _quickest(match, line)
        if taken > LIMIT:
            return taken
    return None


def _quickest(match: Callable[[bytes], object], line: _Line) -> float:
    """Give the ms that the quickest of some lines takes: no two are the same, or RE2 would know the states."""
    best = float("inf")
    for seed in range(_TRIES):
        text = line.make(Random(seed))  # noqa: S311 - so that each run has the same
        begin = time.process_time()
        match(text)
        best = min(best, (time.process_time() - begin) * 1000)
        if best <= LIMIT:
            break
    return best


def _as_sifted(regex: str) -> Callable[[bytes], object]:
    patterns = _re2.Set(_UNANCHORED, options(SET_MEMORY))
    patterns.Add(regex.encode())
    patterns.Compile()
    compiled = _re2.RE2(regex.encode(), options())
    return lambda text: patterns.Match(text) and compiled.Match(_UNANCHORED, text, 0, len(text))


def _as_field(regex: str) -> Callable[[bytes], object]:
    compiled = _re2.RE2(regex.encode(), options())
    return lambda text: compiled.Match(_WHOLE, text, 0, len(text))


# --- lines ---


class _Gap(NamedTuple):
    """A place where text of any length fits, and what it is made of."""

    words: tuple[bytes, ...]


class _Line(NamedTuple):
    """Words, in any order, between a beginning and an end."""

    head: bytes
    words: tuple[bytes, ...]
    tail: bytes

    def make(self, random: Random) -> bytes:
        """Give it in the longest length that is matched."""
        room = max(LONGEST - len(self.head) - len(self.tail), 0)
        return (self.head + self._fill(random, room)[:room] + self.tail)[:LONGEST]

    def _fill(self, random: Random, length: int) -> bytes:
        shortest = min(map(len, self.words))
        if max(map(len, self.words)) == 1:  # quicker
            return random.randbytes(length).translate((b"".join(self.words) * 256)[:256])
        return b"".join(random.choices(self.words, k=length // shortest + 1))


def _lines(regex: str, samples: tuple[str, ...]) -> Iterable[_Line]:
    """Give matches and samples, each prolonged in one place by what may stand there."""
    try:
        alternatives = regexes.parts(regex)
    except ValueError:
        alternatives = ()
    alphabet = bytes(sorted({*_literals(alternatives), *_FILL}))
    letters = tuple(bytes((byte,)) for byte in alphabet)
    lines: dict[_Line, None] = {}  # each once
    for way in range(min(_most_alternatives(alternatives), _WAYS)):
        for atoms in alternatives:
            pieces = [*_example(atoms, alphabet, way)]
            gaps = [number for number, piece in enumerate(pieces) if isinstance(piece, _Gap)]
            for number in gaps[:_GAPS]:
                gap = pieces[number]
                head, tail = _joined(pieces[:number]), _joined(pieces[number + 1 :])
                lines |= dict.fromkeys(
                    _Line(head, words, tail) for words in ((gap.words, letters) if isinstance(gap, _Gap) else ())
                )
    for sample in samples[:_SAMPLES]:
        text = sample.encode()
        words = tuple(word + b" " for word in text.split())
        lines |= dict.fromkeys(_Line(text, words, b"") for words in (letters, words) if words)
    return lines


def _joined(pieces: Iterable[bytes | _Gap]) -> bytes:
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


def _example(atoms: Iterable[Atom], alphabet: bytes, way: int) -> Iterator[bytes | _Gap]:
    """Give text that the atoms match, as far as that is easily found, and where it could be longer."""
    for atom in atoms:
        least, repeats = _times(atom.quantifier)
        once: list[bytes | _Gap]
        if atom.inner:
            inner = atom.inner[way % len(atom.inner)]
            once = [*_example(inner, alphabet, way)] if atom.opening not in regexes.LOOK_AROUND else []
        else:
            once = [_one(atom.body)]
        if any(isinstance(piece, _Gap) for piece in once):
            yield from once * least
        else:
            yield _joined(once) * least
        if repeats and (words := _words(atom, alphabet, way)):
            yield _Gap(words)


def _words(atom: Atom, alphabet: bytes, way: int) -> tuple[bytes, ...]:
    """Give what a part that repeats can match once."""
    if atom.inner:
        found = [_joined(_example(atoms, alphabet, way)) for atoms in atom.inner]
    else:
        found = [byte for byte in (bytes((number,)) for number in alphabet) if _takes(atom.body, byte)]
        found = found or [_one(atom.body)]
    return tuple(word for word in found if word)


def _times(quantifier: str) -> tuple[int, bool]:
    """Give how often it asks for at least, and whether there may be more than one."""
    mark = quantifier[:1]
    if mark == "{":
        low, comma, high = quantifier.rstrip("?+")[1:-1].partition(",")
        return int(low), int(high or low) > 1 or (bool(comma) and not high)
    return (0, mark == "*") if mark in {"*", "?"} and mark else (1, mark == "+")


def _one(body: str) -> bytes:
    """Give something that a part of a pattern that is no group matches, or nothing."""
    if body.startswith("\\"):
        kind = body[1]
        if kind in _NOTHING:
            return b""
        return _KINDS.get(kind) or (body[1].encode() if len(body) == 2 and not kind.isalnum() else b"x")
    if body in {"^", "$"} or body.startswith("("):
        return b""
    if len(body) > 1:  # a class
        return next((byte for byte in (bytes((number,)) for number in b"a1 " + _PRINTABLE) if _takes(body, byte)), b"")
    return b"a" if body == "." else body.encode()


def _takes(body: str, byte: bytes) -> bool:
    pattern = _compiled(body)
    return pattern.ok() and pattern.Match(_WHOLE, byte, 0, 1)[0][0] == 0


@lru_cache(100)
def _compiled(regex: str) -> _re2.RE2:
    return _re2.RE2(regex.encode(), options())


def _most_alternatives(alternatives: tuple[tuple[Atom, ...], ...]) -> int:
    """Give how many alternatives that group of a pattern has that has the most."""
    inner = (_most_alternatives(atom.inner) for atoms in alternatives for atom in atoms if atom.inner)
    return max(len(alternatives), *inner, 1)


def _literals(alternatives: Iterable[Iterable[Atom]]) -> Iterator[int]:
    """Give the bytes that stand in a pattern as they are."""
    for atoms in alternatives:
        for atom in atoms:
            if len(atom.body) == 1 and atom.body not in "^$.":
                yield from atom.body.encode()
            elif atom.body.startswith("["):
                yield from (byte for byte in atom.body.encode() if chr(byte).isalnum())
            yield from _literals(atom.inner)
