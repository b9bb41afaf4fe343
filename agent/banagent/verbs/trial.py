# SPDX-License-Identifier: LGPL-2.1-or-later
"""What filters make of lines: the agent's own formats, patterns, trust and links, with nothing decided behind them."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.config.regex import parts
from banagent.core.events import SECOND, Entry
from banagent.core.filter import HOST, MODES, Failregex, Filter, Trust
from banagent.core.links import Links
from banagent.core.recognise import Recogniser, View
from banagent.sources.decoder import YEAR
from banagent.sources.formats import MAKERS, NO_TAG, Parsed
from banagent.sources.stamps import DAY, settle
from banagent.verbs import exported

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from banagent.config.regex import Atom
    from banagent.core.events import Offence
    from banagent.sources.stamps import Local

    Pattern = tuple[str, str]  # a filter and the name of one of its patterns
    Stamp = int | Local | None  # of a line, as sources/stamps.py has it
    Known = Sequence[tuple[str, Offence]]  # by what stands for a jail here: FILTER/MODE+MODE, FILTER/_IGNORING

MATCHED: Final = "matched"
IGNORED: Final = "ignored"  # known, and no failure
MISSED: Final = "missed"
BARE: Final = "plain"  # the format of a line that is a MESSAGE and nothing else
SYSLOG: Final = "syslog"
ISO: Final = "iso"
_DATED: Final = frozenset(("exim", "mysql", "named"))  # formats that any line with a date may have
_INPUT: Final = "-"  # the source of lines
_NO_PATTERN: Final = (-1,)  # stands for hits, so that an entry is read though nothing matches
_SECONDS: Final = 1000  # stamps whose times are remembered
_STRANGERS: Final = 100  # senders whom nobody trusts that are told apart
_IGNORING: Final = "ignored"  # stands for a mode
_ALIKE: Final = "+"  # between modes that use the same patterns of a filter
_LATEST: Final = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp()) * SECOND


class Verdict(NamedTuple):
    """What one filter makes of a line that it knows."""

    filter: str
    outcome: str
    pattern: str | None  # that knows the line in the mode that counts
    failure: Offence | None  # if it is matched
    modes: frozenset[str]  # in which it would be
    stamp: Stamp = None  # what `Trial.time` makes a time of


class Misfit(NamedTuple):
    """A format that a line has and in which it was not tried."""

    format: str
    message: bytes
    known: Pattern | None  # what would know the line in that format


class _Group(NamedTuple):
    """Which of several offences are of one filter."""

    filter: str
    chosen: int | None  # the one in the mode that counts
    ignoring: int | None  # the one of an ignoreregex
    modes: frozenset[str]
    by_modes: dict[str, int]


class Preference:
    """Which of several filters that know the same is named: one that is in use, or else the most specific pattern's."""

    def __init__(self, filters: Iterable[Filter], used: Sequence[str]) -> None:
        self._places = {name: place for place, name in enumerate(used)}
        self._specific = specificity(filters)

    def order(self, pattern: Pattern) -> tuple[int, int]:
        """Give what sorts patterns, the preferred ones first."""
        return self.place(pattern[0]), -self.weight(*pattern)

    def place(self, name: str) -> int:
        """Give a filter's place among those that are in use; the others come behind them."""
        return self._places.get(name, len(self._places))

    def weight(self, name: str, pattern: str) -> int:
        """Give how specific a pattern is."""
        return self._specific.get((name, pattern), 0)


class Trial:
    """Filters, each with all of its modes at once; what counts is `mode`.

    A line is tried in the formats of each filter's log files, as syslog, which is how journalctl prints the journal,
    and then as it is; an entry of the journal as JSON is that entry. With `believing` it does not matter who wrote it.
    Filters that are `used` are preferred, in this order.
    """

    def __init__(
        self, filters: Iterable[Filter], mode: str, *, believing: bool = False, used: Sequence[str] = ()
    ) -> None:
        """Compile the patterns. Raises ConfigError."""
        self._believing = believing
        self.entries = 0  # that were among the lines
        self.filters = {item.name: item for item in filters}
        self.mode = mode
        self.preference = Preference(self.filters.values(), used)
        # entries that look like failures and that no filter trusts, by whose they are
        self.foreign: dict[str, int] = {}
        views: dict[str, View] = {}
        for name, item in self.filters.items():
            views |= {f"{name}/{_ALIKE.join(modes)}": View(item, modes[0]) for modes in _alike(item)}
            if item.ignoreregexes:
                views[f"{name}/{_IGNORING}"] = View(_of_ignored(item), "normal")
        self._recogniser = Recogniser(views, self._on_refused)
        linked = [name for name, item in self.filters.items() if item.links]
        self._links = {(name, _ALIKE.join(modes)): Links() for name in linked for modes in _alike(self.filters[name])}
        self._linked = frozenset(linked)
        self._owners = formats(self.filters.values())
        self._formats = [(MAKERS[name](), whose) for name, whose in self._owners.items()]
        self._trusts = [Trust(item) for item in self.filters.values()]
        self._groups: dict[tuple[str, ...], list[_Group]] = {}
        self._refused: list[Entry] = []  # the entry that is looked at, if its sender is not trusted
        self._last = 0  # the time of the last line that said one
        self._now = time.time_ns() // 1000
        self.time = lru_cache(_SECONDS)(self._time)

    def lines(self, lines: Sequence[bytes]) -> dict[int, list[Verdict]]:
        """Give what is made of lines, by their index; those that nobody knows are left out.

        Of entries whose sender no filter trusts nothing is made: they are there, without any verdict.
        """
        sift = self._recogniser.sift
        found: dict[int, list[Verdict]] = {}
        for index, line in enumerate(lines):
            if line.startswith(b"{") and (entry := exported.entry(line)):
                self.entries += 1
                verdicts = self.entry(entry, sift(entry.message))
                if verdicts or verdicts is None:
                    found[index] = verdicts or []
                continue
            hopeless = None  # a message that no pattern matches
            for form, whose in self._formats:
                message = form.cut(line)
                if message is None or message == hopeless:
                    continue
                hopeless = message
                if hits := sift(message):
                    hopeless = None
                    parsed = form.parse(line)
                    known = self._look(parsed, message, hits, whose) if parsed is not None else ()
                    if known and parsed is not None:
                        found[index] = self._verdicts(known, parsed.stamp)
                        break
        return found

    def entry(self, entry: Entry, hits: Sequence[int]) -> list[Verdict] | None:
        """Give what is made of an entry of the journal; None: no filter trusts its sender."""
        if self._believing:
            entry = entry._replace(source=_INPUT, identifier=None)
        known = self._recogniser.offences(entry, hits)
        refused = bool(self._refused)
        self._refused.clear()
        if known or any(trust(entry) for trust in self._trusts):
            return self._verdicts(known, entry.time)
        if refused:
            who = _who(entry)
            if who in self.foreign or len(self.foreign) < _STRANGERS:
                self.foreign[who] = self.foreign.get(who, 0) + 1
        return None

    def sift(self, message: bytes) -> Sequence[int]:
        """Give what finds the patterns, for entries of the journal: never nothing, so that all of them are read."""
        return self._recogniser.sift(message) or _NO_PATTERN

    def parsed(self, line: bytes) -> list[Parsed]:
        """Give what a line may say, in each format that it has."""
        if entry := exported.entry(line):
            return [Parsed(entry.message, entry.time, None, entry.pid)]
        found = (form.parse(line) for form, _ in self._formats)
        return [parsed for parsed in found if parsed is not None]

    def stranger(self, line: bytes) -> str | None:
        """Say who wrote an entry, if no filter trusts him; None: it is no entry, or one does."""
        entry = exported.entry(line)
        if entry is None or self._believing or any(trust(entry) for trust in self._trusts):
            return None
        return _who(entry)

    def has_beginning(self, line: bytes) -> bool:
        """Whether a line was tried in some format, and not only as it is."""
        return any(parsed.message != line or parsed.stamp is not None for parsed in self.parsed(line))

    def misfit(self, line: bytes) -> Misfit | None:
        """Give a format that a line has and in which it was not tried, before all one in which a pattern knows it."""
        at_home = {name for name in self._owners if name != BARE and MAKERS[name]().parse(line) is not None}
        if exported.entry(line) or any(self._owners[name] is None for name in at_home):
            return None
        able = self.filters.keys() - {one for name in at_home for one in self._owners[name] or ()}
        first: Misfit | None = None
        for name in sorted(MAKERS, key=lambda name: name != ISO):  # which is the simplest
            parsed = MAKERS[name]().parse(line)
            if parsed is None or parsed.message == line:
                continue
            known = [pattern for pattern in self._knowing(parsed.message) if pattern[0] in able]
            if known:
                return Misfit(name, parsed.message, min(known, key=self.preference.order))
            if first is None and not at_home:
                first = Misfit(name, parsed.message, None)
        return first

    def split(self, line: bytes) -> tuple[str, bytes]:
        """Give who wrote a line, if it says so, and its MESSAGE, in whichever of all formats it has."""
        if entry := exported.entry(line):
            return entry.unit or entry.identifier or "", entry.message
        read = (MAKERS[name]().parse(line) for name in sorted(MAKERS, key=_DATED.__contains__))
        parsed = next((found for found in read if found is not None and found.message != line), Parsed(line))
        return parsed.identifier or NO_TAG, parsed.message

    def accepts(self, identifier: str) -> bool:
        """Whether a filter goes by an identifier."""
        return any(trust.goes_by(identifier) for trust in self._trusts)

    def _knowing(self, message: bytes) -> list[Pattern]:
        """Give the patterns that know a message, whoever wrote it; one of each filter."""
        entry = Entry(self._last, message, _INPUT, None, None, None, None, source=_INPUT)
        known = self._recogniser.offences(entry, self._recogniser.sift(message))
        return list({jail.partition("/")[0]: offence.pattern for jail, offence in known}.items())

    def _time(self, stamp: Stamp) -> int | None:
        """Give the time that a stamp says, in µs since the epoch; None: it says none, or which is not known.

        Unlike the agent, which knows when it read the line, it believes what is later than now.
        """
        if stamp is None:
            return None
        if isinstance(stamp, int):
            return stamp
        if stamp.year is not None:
            latest, earliest = _LATEST, 0
        else:
            latest, earliest = self._now + DAY, self._now - YEAR  # it may be from a zone that is ahead
        found = settle(stamp, earliest, latest)
        return found if found < latest else None

    def _look(self, parsed: Parsed, message: bytes, hits: Sequence[int], whose: frozenset[str] | None) -> Known:
        """Look closer at a line that passed; the exact message may be another, as in sources/decoder.py."""
        if parsed.message != message:
            hits = self._recogniser.sift(parsed.message)
        if not hits:
            return ()
        if self._links and (told := self.time(parsed.stamp)) is not None:
            self._last = told
        entry = Entry(
            self._last,
            parsed.message,
            _INPUT,
            None,
            None,
            parsed.identifier,
            parsed.pid,
            parsed.continuation,
            _INPUT,
        )
        known = self._recogniser.offences(entry, hits)
        if whose is None:
            return known
        return [one for one in known if one[0].partition("/")[0] in whose]

    def _on_refused(self, entry: Entry, _filter: str) -> None:
        self._refused.append(entry)

    def _verdicts(self, known: Known, stamp: Stamp) -> list[Verdict]:
        key = tuple([name for name, _ in known])
        groups = self._groups.get(key)
        if groups is None:
            groups = self._groups[key] = _grouped(key, self.mode)
        return [self._verdict(group, known, stamp) for group in groups]

    def _verdict(self, group: _Group, known: Known, stamp: Stamp) -> Verdict:
        if group.filter in self._linked:
            return self._completed(group, known, stamp)
        if group.chosen is not None:
            told = known[group.chosen][1]
            if told.times:
                return Verdict(group.filter, MATCHED, told.pattern, told, group.modes, stamp)
            return Verdict(group.filter, IGNORED, told.pattern, None, frozenset(), stamp)
        if group.ignoring is not None:
            return Verdict(group.filter, IGNORED, known[group.ignoring][1].pattern, None, group.modes, stamp)
        return Verdict(group.filter, MISSED, None, None, group.modes, stamp)

    def _completed(self, group: _Group, known: Known, stamp: Stamp) -> Verdict:
        """Give the verdict of a filter with links: a line may complete what others began."""
        failures: dict[str, Offence] = {}
        for modes, number in group.by_modes.items():
            if completed := self._links[group.filter, modes].resolve(known[number][1]):
                failures |= dict.fromkeys(modes.split(_ALIKE), completed[-1])
        failure = failures.get(self.mode)
        matching = frozenset(failures)
        if failure is not None:
            return Verdict(group.filter, MATCHED, failure.pattern, failure, matching, stamp)
        ours = group.ignoring if group.chosen is None else group.chosen
        if ours is not None:
            return Verdict(group.filter, IGNORED, known[ours][1].pattern, None, matching, stamp)
        return Verdict(group.filter, MISSED, None, None, matching, stamp)


def _who(entry: Entry) -> str:
    return f"uid {entry.uid}, {entry.unit or 'no unit'}"


def tell(verdicts: Sequence[Verdict], preference: Preference) -> Verdict | None:
    """Choose the verdict that a line is told by: a failure before all else, and of several the preferred one."""
    if len(verdicts) == 1:
        return None if verdicts[0].outcome == MISSED else verdicts[0]
    order = (MATCHED, IGNORED)
    told = [verdict for verdict in verdicts if verdict.outcome in order]
    return min(
        told,
        key=lambda verdict: (
            order.index(verdict.outcome),
            preference.order((verdict.filter, verdict.pattern or "")),
        ),
        default=None,
    )


def specificity(filters: Iterable[Filter]) -> dict[Pattern, int]:
    """Give how many characters of its own each pattern asks for."""
    found: dict[Pattern, int] = {}
    for item in filters:
        for pattern in item.failregexes:
            regexes = (pattern.regex, *pattern.json.keys(), *pattern.json.values())
            asked = sum(literals(regex) for regex in regexes)
            found[item.name, pattern.name] = max(asked, found.get((item.name, pattern.name), 0))
    return found


def literals(regex: str) -> int:
    """Give how many characters a pattern says itself, at least."""
    try:
        return _literals(parts(regex.replace(HOST, "<HOST>")))
    except ValueError:
        return 0


def formats(filters: Iterable[Filter]) -> dict[str, frozenset[str] | None]:
    """Give the formats in the order in which lines are tried in them, and the filters whose each is; None: of all."""
    items = list(filters)
    found: dict[str, set[str]] = {}
    for item in items:
        for name in (*item.formats, SYSLOG):
            found.setdefault(name, set()).add(item.name)
    found.pop(BARE, None)
    owners = {name: None if len(whose) == len(items) else frozenset(whose) for name, whose in found.items()}
    return {**owners, BARE: None}


def _alike(item: Filter) -> list[list[str]]:
    """Give the modes, those together that use the same patterns: to have each of them apart costs time.

    Those for which the filter has no pattern are left out.
    """
    there = {one.mode for one in item.failregexes}
    found: dict[frozenset[str], list[str]] = {}
    for mode, used in MODES.items():
        if here := used & there:
            found.setdefault(here, []).append(mode)
    return list(found.values())


def _grouped(names: Sequence[str], chosen: str) -> list[_Group]:
    by_filter: dict[str, dict[str, int]] = {}
    for number, name in enumerate(names):
        owner, _, modes = name.partition("/")
        by_filter.setdefault(owner, {})[modes] = number
    found: list[_Group] = []
    for owner, numbers in by_filter.items():
        ignoring = numbers.pop(_IGNORING, None)
        by_mode = {mode: number for modes, number in numbers.items() for mode in modes.split(_ALIKE)}
        found.append(_Group(owner, by_mode.get(chosen), ignoring, frozenset(by_mode), numbers))
    return found


def _literals(alternatives: tuple[tuple[Atom, ...], ...]) -> int:
    return min((sum(map(_literals_of, atoms)) for atoms in alternatives), default=0)


def _literals_of(atom: Atom) -> int:
    if atom.quantifier[:1] in ("?", "*") or atom.quantifier.startswith("{0"):
        return 0
    return _literals(atom.inner) if atom.opening else int(_is_literal(atom.body))


def _is_literal(body: str) -> bool:
    """Whether a part of a pattern is one character, which stands for itself."""
    if len(body) == 2:
        return body[0] == "\\" and not body[1].isalnum()
    return len(body) == 1 and body not in "^$."


def _of_ignored(item: Filter) -> Filter:
    """Give a filter for which the lines that `item` ignores are failures."""
    patterns = tuple(
        Failregex(name=f"ignoreregex-{number}", regex=one.regex, json=one.json)
        for number, one in enumerate(item.ignoreregexes, 1)
    )
    return replace(item, failregexes=patterns, links=(), ignoreregexes=(), successes=())
