# SPDX-License-Identifier: LGPL-2.1-or-later
"""Regular expressions taken apart, and what says the same as what RE2 lacks.

The grammar is RE2's, and of Python's what RE2 refuses: a pattern that is refused is taken apart, too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK_AROUND: Final = ("(?=", "(?!", "(?<=", "(?<!")
_CLASS: Final = r"\[\^?\]?(?:\[:\^?[a-z]+:\]|\\.|[^\]\\])*\]"
_ESCAPE: Final = r"\\Q.*?(?:\\E|\Z)|\\[pP]\{[^}]*\}|\\x\{[^}]*\}|\\x[0-9A-Fa-f]{2}|\\[pP].|\\."
_SIMPLE: Final = re.compile(rf"<[A-Za-z_]\w*>|{_CLASS}|{_ESCAPE}|[^()|\[]", re.DOTALL)
_OPENING: Final = re.compile(r"\(\?P<\w+>|\(\?<[=!]|\(\?[=!>]|\(\?<\w+>|\(\?[A-Za-z-]*:|\((?!\?)")
_WHOLE_GROUP: Final = re.compile(r"\(\?[A-Za-z-]+\)|\(\?P=\w+\)|\(\?#[^)]*\)")  # those that hold nothing
_QUANTIFIER: Final = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})[?+]?")
_OPPOSITES: Final = {left + right: left + right.swapcase() for left in "\\" for right in "dDsSwW"}
_PUNCTUATION: Final = re.compile(r"\\[^\w\s]", re.ASCII)  # a letter behind a backslash is more than itself


class Atom(NamedTuple):
    """A part of a pattern that a quantifier would hold for."""

    body: str  # as written, without the quantifier
    quantifier: str
    at: int  # where in the pattern it begins
    opening: str = ""  # of a group: "(?:", "(?P<user>"
    inner: tuple[tuple[Atom, ...], ...] = ()  # of a group: its alternatives

    @property
    def text(self) -> str:
        """As it is written."""
        return self.body + self.quantifier


def parts(regex: str) -> tuple[tuple[Atom, ...], ...]:
    """Take a pattern apart into its alternatives. Raises ValueError: it can't be, or is nested too deep."""
    try:
        found, end = _alternatives(regex, 0)
    except RecursionError:
        raise ValueError("is nested too deep") from None
    if end < len(regex):
        raise ValueError("has a bracket that nothing opens")
    return found


def look_around(regex: str) -> Atom | None:
    """Give the first part that looks ahead or behind; None: there is none, or it can't be found."""
    try:
        return next((atom for atom in _all(parts(regex)) if atom.opening in LOOK_AROUND), None)
    except ValueError:
        return None


def without_look_around(regex: str) -> str | None:
    """Give a pattern that matches the same lines without its only look-around; None: none is known."""
    try:
        (atoms,) = parts(regex)
    except ValueError:  # also of several alternatives
        return None
    found = [number for number, atom in enumerate(atoms) if atom.opening in LOOK_AROUND]
    if len(found) != 1 or sum(atom.opening in LOOK_AROUND for atom in _all((atoms,))) != 1:
        return None
    number = found[0]
    looking = atoms[number]
    before, behind = atoms[:number], atoms[number + 1 :]
    if looking.quantifier or any(atom.opening == "(" for atom in _all(looking.inner)):
        return None
    replaced = _instead(looking, before, behind)
    if replaced is None:
        return None
    kept, text = replaced
    return "".join(atom.text for atom in before[: len(before) - kept]) + text + "".join(atom.text for atom in behind)


def excluded(regex: str) -> str | None:
    """Give the pattern of the lines that a (?!…) excludes; None: it is not as simple as that."""
    try:
        (atoms,) = parts(regex)
    except ValueError:
        return None
    for number, atom in enumerate(atoms):
        if atom.opening == "(?!" and not atom.quantifier:
            return "".join(item.text for item in atoms[:number]) + _grouped(atom)
        if atom.quantifier or atom.inner:  # there may be several ways to come here
            return None
    return None


def _alternatives(regex: str, at: int) -> tuple[tuple[tuple[Atom, ...], ...], int]:
    """Read up to the end or a closing bracket; give that place, too."""
    found: list[tuple[Atom, ...]] = []
    atoms: list[Atom] = []
    while at < len(regex) and regex[at] != ")":
        if regex[at] == "|":
            found.append(tuple(atoms))
            atoms = []
            at += 1
            continue
        atom, at = _atom(regex, at)
        atoms.append(atom)
    return (*found, tuple(atoms)), at


def _atom(regex: str, at: int) -> tuple[Atom, int]:
    opening = ""
    inner: tuple[tuple[Atom, ...], ...] = ()
    if match := _WHOLE_GROUP.match(regex, at) or _SIMPLE.match(regex, at):
        end = match.end()
    elif match := _OPENING.match(regex, at):
        opening = match[0]
        inner, end = _alternatives(regex, match.end())
        if end == len(regex):
            raise ValueError("has a bracket that nothing closes")
        end += 1
    else:
        raise ValueError(f"has at character {at + 1} what can't be taken apart")
    quantifier = _QUANTIFIER.match(regex, end)
    body = regex[at:end]
    return Atom(body, quantifier[0] if quantifier else "", at, opening, inner), quantifier.end() if quantifier else end


def _all(alternatives: tuple[tuple[Atom, ...], ...]) -> Iterator[Atom]:
    for atoms in alternatives:
        for atom in atoms:
            yield atom
            yield from _all(atom.inner)


def _instead(looking: Atom, before: tuple[Atom, ...], behind: tuple[Atom, ...]) -> tuple[int, str] | None:
    """Give what stands in place of a look-around, and how many parts before it that is in place of, too."""
    if looking.opening == "(?=":
        return _instead_of_ahead(looking, behind)
    if looking.opening == "(?!":
        return None if behind else _instead_of_not_ahead(looking)
    if looking.opening == "(?<!":
        return (0, "") if [atom.text for atom in before] == ["^"] else None
    single = _single(looking)
    return (1, f".*{single}") if single and before and before[-1].text in {".*", ".+"} else None


def _instead_of_ahead(looking: Atom, behind: tuple[Atom, ...]) -> tuple[int, str] | None:
    if looking.body == "(?=$)":
        return 0, "$"
    return None if behind else (0, _grouped(looking))  # nobody asks what comes then


def _instead_of_not_ahead(looking: Atom) -> tuple[int, str] | None:
    """Give it for one at the end of a pattern."""
    if looking.body in {"(?!$)", "(?!.)"}:
        return 0, "." if looking.body == "(?!$)" else "$"
    single = _single(looking)
    return (0, f"(?:{_opposite(single)}|$)") if single else None


def _grouped(looking: Atom) -> str:
    """Give what a look-around looks for, as a part of a pattern."""
    text = looking.body[len(looking.opening) : -1]
    return text if len(looking.inner) == 1 else f"(?:{text})"


def _single(looking: Atom) -> str | None:
    """Give what it looks for if that is one character of some kind."""
    if len(looking.inner) != 1 or len(looking.inner[0]) != 1:
        return None
    (atom,) = looking.inner[0]
    text = (
        atom.text if not atom.quantifier else atom.body if looking.opening == "(?!" and atom.quantifier == "+" else ""
    )
    plain = len(text) == 1 and text not in "^$."
    is_class = text.startswith("[") and len(text) > 2
    return text if plain or is_class or text in _OPPOSITES or _PUNCTUATION.fullmatch(text) else None


def _opposite(single: str) -> str:
    if single in _OPPOSITES:
        return _OPPOSITES[single]
    if single.startswith("[^"):
        return f"[{single[2:]}"
    return f"[^{single[1:-1]}]" if single.startswith("[") else f"[^{single}]"
