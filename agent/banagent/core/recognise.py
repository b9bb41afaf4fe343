# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recognising failures: all patterns of all filters in one compiled set, then captures for those that matched.

RE2 decides in time linear in the line's length, whatever the pattern and whoever wrote the line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from re2 import _re2

from banagent.core.address import parse_address
from banagent.core.events import Entry, Offence
from banagent.core.filter import MODES, Failregex, Filter, Trust, options
from banagent.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LONGEST: Final = 16_384  # bytes of a MESSAGE that are matched
SET_MEMORY: Final = 64 << 20  # bytes that RE2 may use for the set; it takes what it needs, some 100 a pattern's step
LONGEST_USER: Final = 256  # bytes of a user name that are kept
_CUT: Final = b"\n[cut by banagent]"  # keeps a pattern's end from matching where the line was cut
_REPEATED: Final = b"message repeated "  # rsyslog and syslog-ng put N like lines into one
_REPEATED_LINE: Final = re.compile(rb"message repeated (\d{1,6}) times: \[ ?(.*)\]\s*", re.DOTALL)
_UNANCHORED: Final = _re2.RE2.Anchor.UNANCHORED


class View(NamedTuple):
    """A filter as a jail uses it: a mode chooses among its patterns."""

    filter: Filter
    mode: str


class _Rule(NamedTuple):
    """A failregex, compiled, and who wants to know of it."""

    filter: str
    name: str
    weight: int
    once: bool
    match: Callable[[_re2.RE2.Anchor, bytes, int, int], list[tuple[int, int]]]
    address: int  # number of its capture group
    user: int  # likewise; 0 if it has none
    jails: tuple[str, ...]


class Recogniser:
    """The patterns of all jails.

    `sift` is the first pass, a microsecond a line; `offences` looks closer at the few lines that passed.
    """

    def __init__(self, views: Mapping[str, View]) -> None:
        """Compile the patterns. Raises ConfigError if that takes too much memory."""
        filters = {view.filter.name: view.filter for view in views.values()}
        self._trust = {name: Trust(item.units, item.uids, item.identifiers) for name, item in filters.items()}
        self._rules: dict[int, _Rule] = {}  # by number in the set
        self._ignore: dict[int, str] = {}  # likewise: the filter
        self.untrusted = 0  # lines that look like failures and came from somebody else
        patterns = _re2.Set(_UNANCHORED, options(SET_MEMORY))
        for item in filters.values():
            for failregex in item.failregexes:
                wanted = [jail for jail, view in views.items() if view.filter.name == item.name]
                jails = tuple(jail for jail in wanted if failregex.mode in MODES[views[jail].mode])
                if jails:
                    self._rules[patterns.Add(failregex.regex.encode())] = _rule(item.name, failregex, jails)
            for ignoreregex in item.ignoreregexes:
                self._ignore[patterns.Add(ignoreregex.regex.encode())] = item.name
        if not patterns.Compile():  # matching with it would end the process
            text = f"{len(self._rules)} patterns are too large together; enable fewer jails, or simplify their filters"
            raise ConfigError((Mistake("", 0, "", None, text),))
        self._match = patterns.Match

    def sift(self, message: bytes) -> list[int]:
        """Give the numbers of the patterns that match `message`, in no order; mostly none."""
        if len(message) > LONGEST or message.startswith(_REPEATED):
            message = _text(message)[0]
        return self._match(message)

    def offences(self, entry: Entry, hits: Sequence[int]) -> list[tuple[str, Offence]]:
        """Give each jail's offence in an entry, at most one each: that of its filter's first pattern."""
        text, count = _text(entry.message)
        ignored = {self._ignore[hit] for hit in hits if hit in self._ignore} if self._ignore else ()
        found: dict[str, Offence] = {}
        for hit in sorted(hits) if len(hits) > 1 else hits:
            rule = self._rules.get(hit)
            if rule is None or rule.filter in ignored or all(jail in found for jail in rule.jails):
                continue
            if not self._trust[rule.filter](entry):
                self.untrusted += 1
                continue
            offence = _offence(rule, entry, text, count)
            if offence is not None:
                for jail in rule.jails:
                    found.setdefault(jail, offence)
        return list(found.items())


def _rule(filter_name: str, failregex: Failregex, jails: tuple[str, ...]) -> _Rule:
    compiled = _re2.RE2(failregex.regex.encode(), options())
    groups = {name.decode(): number for name, number in compiled.NamedCapturingGroups()}
    return _Rule(
        filter_name,
        failregex.name,
        failregex.weight,
        failregex.once,
        compiled.Match,
        groups["address"],
        groups.get("user", 0),
        jails,
    )


def _text(message: bytes) -> tuple[bytes, int]:
    """Give what is matched of a message, and how many like it it stands for."""
    count = 1
    if message.startswith(_REPEATED) and (repeated := _REPEATED_LINE.fullmatch(message)):
        count, message = max(int(repeated[1]), 1), repeated[2]
    if len(message) > LONGEST:
        message = message[:LONGEST] + _CUT
    return message, count


def _offence(rule: _Rule, entry: Entry, text: bytes, count: int) -> Offence | None:
    """Give what a matching line tells; None if its address is none, as a host name of hexadecimal letters."""
    spans = rule.match(_UNANCHORED, text, 0, len(text))
    start, end = spans[rule.address]
    if end >= LONGEST:  # the rest of it may have been cut off
        return None
    try:
        address = parse_address(text[start:end].decode())
    except ValueError:
        return None
    user = None
    if rule.user:
        start, end = spans[rule.user]
        user = text[start : min(end, start + LONGEST_USER)].decode("utf-8", "backslashreplace") if start >= 0 else None
    return Offence(
        entry.time,
        entry.position,
        address,
        user,
        rule.filter,
        rule.name,
        entry.pid,
        count,
        rule.weight,
        rule.once,
    )
