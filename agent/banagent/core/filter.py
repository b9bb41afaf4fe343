# SPDX-License-Identifier: LGPL-2.1-or-later
"""A filter: which entries it trusts, and the patterns that recognise failures in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING, Final

import re2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from banagent.core.events import Entry

# which patterns a jail's `mode` uses; fail2ban's words and meaning
MODES: Final = {
    "normal": frozenset({"normal"}),
    "ddos": frozenset({"normal", "ddos"}),
    "extra": frozenset({"normal", "extra"}),
    "aggressive": frozenset({"normal", "ddos", "extra", "aggressive"}),
}
REMEMBERED: Final = 1000  # answers of Trust; the senders of a machine are few
SESSIONS: Final = ("pid",)
PROVENANCES: Final = ("source", "package", "docs", "samples")

# An address in any of its forms; what it captures is parsed strictly afterwards, so the pattern may be loose and small.
HOST: Final = r"\[?(?P<address>[0-9A-Fa-f:.]+)(?:%[0-9A-Za-z_.-]+)?\]?"
_PIECE = re.compile(r"(?<!\?P)<([A-Za-z_][A-Za-z0-9_]*)>")  # "(?P<user>" is a group's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A line as the service writes it, and what the filter must make of it."""

    line: str
    address: str | None = None
    user: str | None = None
    count: int = 1
    source: str | None = None  # where the line is from; `from` in the file
    at: int = 0  # its line in the filter's file


@dataclass(frozen=True, slots=True, kw_only=True)
class Failregex:
    """A pattern that recognises a failure; `regex` is whole: pieces and <HOST> are in place."""

    name: str
    regex: str
    mode: str = "normal"
    weight: int = 1
    once: bool = False  # however often it is seen in a session, it tells of one attempt
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignoreregex:
    """A pattern for lines that are no failures though a failregex matches them."""

    regex: str
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a filter file says."""

    name: str
    file: str
    description: str
    units: tuple[str, ...] = ()
    uids: tuple[int, ...] = (0,)
    identifiers: tuple[str, ...] = ()
    logpath: tuple[str, ...] = ()
    ports: tuple[str | int, ...] = ()
    provenance: str = "samples"
    forgeable: bool = False
    session: str | None = None
    failregexes: tuple[Failregex, ...] = ()
    ignoreregexes: tuple[Ignoreregex, ...] = ()
    nomatch: tuple[Sample, ...] = ()


class Trust:
    """Whose entries count for a filter: those of its units and uids, as journald vouches for them.

    An entry that lost its unit (its process was gone before journald looked) counts if root wrote it under one of
    the filter's identifiers. A continuation never counts: an enemy may have chosen where it begins.
    """

    def __init__(self, units: tuple[str, ...], uids: tuple[int, ...], identifiers: tuple[str, ...]) -> None:
        self._units = re.compile("|".join(map(translate, units)) or r"(?!)")
        self._uids = frozenset(uids)
        self._identifiers = frozenset(identifiers)
        self._known: dict[tuple[str | None, int | None, str | None], bool] = {}

    def __call__(self, entry: Entry) -> bool:
        """Whether `entry` counts."""
        if entry.continuation:
            return False
        key = (entry.unit, entry.uid, entry.identifier if entry.unit is None else None)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[key] = self._decide(entry)
        return known

    def _decide(self, entry: Entry) -> bool:
        if entry.unit is None:
            return entry.uid == 0 and entry.identifier in self._identifiers
        return entry.uid in self._uids and self._units.fullmatch(entry.unit) is not None


def expand(regex: str, pieces: Mapping[str, str]) -> str:
    """Put pieces and <HOST> into `regex`. Raises ValueError: an unknown piece, or a ring of them."""
    known = {**pieces, "HOST": HOST}
    for _ in range(8):
        unknown = [name for name in _PIECE.findall(regex) if name not in known]
        if unknown:
            names = ", ".join(f"<{name}>" for name in known)
            raise ValueError(f"<{unknown[0]}> is not a piece of this file; there are {names}")
        whole = _PIECE.sub(lambda match: known[match[1]], regex)
        if whole == regex:
            return whole
        regex = whole
    raise ValueError("its pieces contain one another")


def options(memory: int = 8 << 20) -> re2.Options:
    """How patterns are compiled: on bytes, `.` matches any of them, and no complaints on stderr."""
    chosen = re2.Options()
    chosen.max_mem = memory
    chosen.encoding = chosen.Encoding.LATIN1
    chosen.dot_nl = True
    chosen.log_errors = False
    return chosen
