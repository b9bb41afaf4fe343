# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recognising failures: all patterns of a source's jails in one compiled set, then captures for those that matched.

RE2 decides in time linear in the line's length, whatever the pattern and whoever wrote the line.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from re2 import _re2

from banagent.core.address import parse_host
from banagent.core.beginnings import beginnings
from banagent.core.events import JOURNAL, Entry, Offence
from banagent.core.fields import Fields, parse
from banagent.core.filter import MODES, Failregex, Filter, Trust, options
from banagent.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from banagent.core.address import Network

LONGEST: Final = 16_384  # bytes of a MESSAGE that patterns are matched with
SET_MEMORY: Final = 64 << 20  # bytes that RE2 may use for the set; it takes what it needs, some 100 a pattern's step
LONGEST_TEXT: Final = 256  # bytes of a user name, or of a session's id, that are kept
MOST: Final = 1_000_000  # failures that a line can claim to stand for
_END: Final = b"\n[cut by banagent]"  # keeps a pattern's end from matching where the line was cut
REMEMBERED: Final = 4096  # addresses as they were logged
REMEMBERED_LINES: Final = 1024  # of all patterns
LONGEST_REMEMBERED: Final = 512  # bytes of a line
_REPEATED: Final = b"message repeated "  # rsyslog and syslog-ng put N like lines into one
_UNUSUAL: Final = (_REPEATED, b"{")
_REPEATED_LINE: Final = re.compile(rb"message repeated (\d{1,6}) times: \[ ?(.*)\]\s*", re.DOTALL)
_BOOT: Final = ";b="  # before the boot's id in a journal's cursor
_GROUPS: Final = ("address", "user", "session", "count")
_UNANCHORED: Final = _re2.RE2.Anchor.UNANCHORED


class View(NamedTuple):
    """A filter as a jail uses it: a mode chooses among its patterns."""

    filter: Filter
    mode: str


class _Told(NamedTuple):
    """What a pattern captures, as far as it does."""

    address: Network | None
    user: str | None
    session: str | None
    times: int


class _Rule(NamedTuple):
    """A pattern, compiled, and who wants to know of it."""

    filter: str
    name: str
    trust: Trust
    session: str | None  # what tells it: the "pid", or the "id" that the pattern captures
    tells: Callable[[bytes], _Told | None]
    failures: int  # 0: it only tells whose a session is
    weight: int
    once: bool
    credible: bool
    success: bool  # it tells of a login, and of no failure
    jails: tuple[str, ...]


class Recogniser:
    """The patterns of the jails of a source.

    `sift` is the first pass, a microsecond a line; `offences` looks closer at the few lines that passed. `refused` is
    called with each entry that looks like a failure and whose sender the filter, by that name, does not trust.
    """

    def __init__(self, views: Mapping[str, View], refused: Callable[[Entry, str], None] | None = None) -> None:
        """Compile the patterns. Raises ConfigError if that takes too much memory."""
        self._refused = refused
        self._rules: dict[int, _Rule] = {}  # by number in the set, or behind all of those
        self._ignored: dict[int, tuple[str, ...]] = {}  # likewise: the jails
        self._regexes: list[str] = []
        self._json: list[tuple[int, Fields]] = []
        patterns = _re2.Set(_UNANCHORED, options(SET_MEMORY))
        for item, jails in _variants(views):
            trust = Trust(item)
            for failregex in (*item.failregexes, *item.links, *item.successes):
                wanted = tuple(jail for jail in jails if failregex.mode in MODES[views[jail].mode])
                if wanted:
                    number = self._add(patterns, failregex.regex, failregex.json)
                    self._rules[number] = _rule(item, failregex, trust, wanted)
            for ignoreregex in item.ignoreregexes:
                self._ignored[self._add(patterns, ignoreregex.regex, ignoreregex.json)] = jails
        if not patterns.Compile():  # matching with it would end the process
            text = f"{len(self._rules)} patterns are too large together; enable fewer jails, or simplify their filters"
            raise ConfigError((Mistake("", 0, "", None, text),))
        self._match = patterns.Match
        found = beginnings(self._regexes)
        self._beginnings = None if found is None or self._json else found | {_REPEATED[:2]}

    def sift(self, message: bytes) -> list[int]:
        """Give the numbers of the patterns that match `message`, in no order; mostly none."""
        if self._beginnings is not None and message[:2] not in self._beginnings:  # as of most
            return []
        if len(message) <= LONGEST and not message.startswith(_UNUSUAL):
            return self._match(message)
        message = _unwrapped(message)[0]
        hits = self._match(_cut(message))
        return hits + self._sift_json(message) if message.startswith(b"{") else hits

    def _sift_json(self, message: bytes) -> list[int]:
        likely = [(number, fields) for number, fields in self._json if fields.may_match(message)]
        value = parse(message) if likely else None
        return [number for number, fields in likely if fields.captures(value) is not None]

    def offences(self, entry: Entry, hits: Sequence[int]) -> list[tuple[str, Offence]]:
        """Give what an entry tells each jail: by its filter's first pattern, or the first that finds an address."""
        text = entry.message
        text, count = _unwrapped(text) if text.startswith(_REPEATED) else (text, 1)
        if len(hits) == 1:  # as most have
            rule = self._rules.get(hits[0])
            offence = None if rule is None else self._offence(rule, entry, text, count)
            return [] if rule is None or offence is None else [(jail, offence) for jail in rule.jails]
        ignored = {jail for hit in hits for jail in self._ignored.get(hit, ())}
        found: dict[str, Offence] = {}
        for hit in sorted(hits):
            rule = self._rules.get(hit)
            if rule is None:
                continue
            jails = [jail for jail in rule.jails if jail not in ignored and not _is_told(found.get(jail))]
            offence = self._offence(rule, entry, text, count) if jails else None
            if offence is not None:
                for jail in jails:
                    if jail not in found or (offence.times and offence.address is not None):
                        found[jail] = offence
        return list(found.items())

    def _offence(self, rule: _Rule, entry: Entry, text: bytes, count: int) -> Offence | None:
        """Give what a matching line tells; None if it can't be told, or its sender is not trusted with it."""
        if not rule.trust(entry):
            self._refuse(rule, entry, text)
            return None
        # a login makes the agent milder
        if rule.success and not (entry.source == JOURNAL and rule.trust.vouches(entry)):
            return None
        return _offence(rule, entry, text, count)

    def _refuse(self, rule: _Rule, entry: Entry, text: bytes) -> None:
        """Say so if an entry tells of a failure, but its sender is not trusted with it."""
        if self._refused is None or not rule.failures:
            return
        offence = _offence(rule, entry, text, 1)
        if offence is not None and offence.address is not None:
            self._refused(entry, rule.filter)

    def _add(self, patterns: _re2.Set, regex: str, json: Mapping[str, str]) -> int:
        """Add a pattern; give its number."""
        if not json:
            self._regexes.append(regex)
            return patterns.Add(regex.encode())
        number = patterns.Add(rb"^\z.")  # which matches nothing: the numbers stay in the order of the file
        self._json.append((number, Fields(json)))
        return number


def _variants(views: Mapping[str, View]) -> list[tuple[Filter, tuple[str, ...]]]:
    """Give each filter with the jails that use it as it is."""
    variants: dict[str, list[tuple[Filter, list[str]]]] = {}  # by name: there may be 10,000
    for jail, view in views.items():
        namesakes = variants.setdefault(view.filter.name, [])
        for item, jails in namesakes:
            if item == view.filter:
                jails.append(jail)
                break
        else:
            namesakes.append((view.filter, [jail]))
    return [(item, tuple(jails)) for namesakes in variants.values() for item, jails in namesakes]


def _rule(item: Filter, failregex: Failregex, trust: Trust, jails: tuple[str, ...]) -> _Rule:
    return _Rule(
        item.name,
        failregex.name,
        trust,
        item.session,
        _json_captures(failregex.json) if failregex.json else _captures(failregex.regex),
        0 if failregex in (*item.links, *item.successes) else 1,
        failregex.weight,
        failregex.once,
        item.is_credible(failregex),
        failregex in item.successes,
        jails,
    )


@lru_cache(REMEMBERED_LINES)  # of all failures within a connection most services say the same
def _remembered(tells: Callable[[bytes], _Told | None], text: bytes) -> _Told | None:
    return tells(text)


def _captures(regex: str) -> Callable[[bytes], _Told | None]:
    compiled = _re2.RE2(regex.encode(), options())
    numbers = {name.decode(): number for name, number in compiled.NamedCapturingGroups()}
    address, user, session, count = (numbers.get(name, 0) for name in _GROUPS)
    match = compiled.Match

    def captures(text: bytes) -> _Told | None:
        text = _cut(text)
        spans = match(_UNANCHORED, text, 0, len(text))
        if spans[0][0] < 0:
            return None
        if len(text) > LONGEST and any(spans[number][1] >= LONGEST for number in (address, session, count) if number):
            return None  # the rest of it may have been cut off
        return _told(
            _part(text, spans[address]) if address else None,
            _part(text, spans[user]) if user else None,
            _part(text, spans[session]) if session else None,
            _part(text, spans[count]) if count else None,
        )

    return captures


def _part(text: bytes, span: tuple[int, int]) -> bytes | None:
    start, end = span
    return text[start:end] if start >= 0 else None


def _json_captures(rules: Mapping[str, str]) -> Callable[[bytes], _Told | None]:
    fields = Fields(rules)

    def captures(text: bytes) -> _Told | None:
        found = fields.captures(parse(text))
        return None if found is None else _told(*map(found.get, _GROUPS))

    return captures


def _told(address: bytes | None, user: bytes | None, session: bytes | None, times: bytes | None) -> _Told:
    return _Told(
        None if address is None else _address(address),
        None if user is None else _shown(user),
        None if session is None else _shown(session),
        1 if times is None else _number(times),
    )


def _unwrapped(message: bytes) -> tuple[bytes, int]:
    """Give what a message says, and how many like it it stands for."""
    if message.startswith(_REPEATED) and (repeated := _REPEATED_LINE.fullmatch(message)):
        return repeated[2], max(int(repeated[1]), 1)
    return message, 1


def _cut(text: bytes) -> bytes:
    """Give what patterns see of a line; an object of JSON is parsed whole, as without its end it is none."""
    return text if len(text) <= LONGEST else text[:LONGEST] + _END


def _is_told(offence: Offence | None) -> bool:
    return offence is not None and offence.address is not None


def _offence(rule: _Rule, entry: Entry, text: bytes, count: int) -> Offence | None:
    """Give what a matching line tells; None if it can't be told."""
    told = _remembered(rule.tells, text) if len(text) <= LONGEST_REMEMBERED else rule.tells(text)
    if told is None:
        return None
    return Offence(
        entry.time,
        entry.position,
        told.address,
        told.user,
        rule.filter,
        rule.name,
        None if rule.session is None else _session(rule.session, entry, told),
        count * told.times * rule.failures,
        rule.weight,
        rule.once,
        rule.credible and rule.trust.vouches(entry),
        rule.success,
    )


def _number(text: bytes) -> int:
    """Give how many failures a line says that it stands for: at least one, and no more than anybody has."""
    return min(max(int(text.lstrip(b"0")[:8] or b"1"), 1), MOST) if text.isdigit() else 1


@lru_cache(REMEMBERED)  # an attacker comes again
def _address(text: bytes) -> Network | None:
    """Give the address; None if there is none but a host name, which is never looked up."""
    try:
        return parse_host(text.decode())
    except ValueError:
        return None


def _session(told_by: str, entry: Entry, told: _Told) -> str | None:
    if told_by == "id":
        return told.session
    if entry.pid is None:
        return None
    if entry.source != JOURNAL:
        return str(entry.pid)
    boot = entry.position.find(_BOOT) + len(_BOOT)  # a pid comes again after a boot
    return f"{entry.pid}@{entry.position[boot : boot + 32]}" if boot >= len(_BOOT) else str(entry.pid)


def _shown(text: bytes) -> str:
    return text[:LONGEST_TEXT].decode("utf-8", "backslashreplace")
