# SPDX-License-Identifier: LGPL-2.1-or-later
"""`test`: what filters catch of logs, what they miss, and why."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from banagent import config
from banagent.config.filters import build_patterns
from banagent.core.events import timestamp
from banagent.core.filter import MODES, Filter
from banagent.errors import ConfigError
from banagent.sources.formats import NAMES
from banagent.verbs import DONE, REFUSED, USAGE, Stopped
from banagent.verbs.checking import path
from banagent.verbs.drift import Drift
from banagent.verbs.exported import unread
from banagent.verbs.inputs import STDIN, Progress, begin, check, slices, typed, unreadable
from banagent.verbs.nearest import login, nearest
from banagent.verbs.output import dump, wants_json
from banagent.verbs.table import Column, table
from banagent.verbs.text import plural, quoted
from banagent.verbs.times import local
from banagent.verbs.trial import BARE, IGNORED, MATCHED, MISSED, Preference, Trial, tell

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from banagent.core.events import Entry
    from banagent.verbs import Said
    from banagent.verbs.nearest import Stop
    from banagent.verbs.terminal import Terminal
    from banagent.verbs.trial import Misfit, Verdict

GIVEN: Final = "given"  # the name of a filter made of --failregex
_LISTED: Final = 10  # filters that are listed where none was named
_NEAR: Final = 4  # characters that a pattern and a line have in common, below which it is not near
_SAMPLE: Final = 100  # missed lines of a log that are looked at for what they begin with
_OUTCOMES: Final = (MATCHED, IGNORED, MISSED)
_STYLES: Final = {MATCHED: "green", IGNORED: "dim", MISSED: "yellow"}


class _Portion(NamedTuple):
    """Some lines, and what was made of those that some filter knows, by index."""

    lines: Sequence[bytes]
    found: Mapping[int, list[Verdict]]
    entries: Sequence[Entry] = ()  # of the journal, for each line
    log: str = ""


class _Set(NamedTuple):
    """The filters that are tried."""

    filters: list[Filter]
    named: bool  # one was asked for, so no best one is looked for
    given: bool = False  # it is made of the command line, and trusts everybody
    used: tuple[str, ...] = ()  # filters of enabled jails, which are named before others


def test(arguments: Namespace, terminal: Terminal) -> Said:
    """Try filters on logs; nothing that matches is a search that found nothing."""
    _check(arguments)
    chosen = _chosen(arguments)
    trial = Trial(chosen.filters, arguments.mode or "normal", believing=chosen.given, used=chosen.used)
    progress = Progress(sys.stderr, "entry" if arguments.journal is not None else "line")
    gc.disable()  # what is made of a line goes by itself; to look for more would take a tenth of the time
    try:
        portions = _followed(_portions(arguments, trial, chosen), progress)
        if arguments.suspicious:
            return (yield from _suspicious(portions, trial, arguments, terminal))
        if wants_json(arguments):
            return (yield from _as_json(portions, trial, arguments, named=chosen.named))
        if arguments.line:
            return (yield from _explained(portions, trial, terminal))
        return (yield from _as_text(portions, trial, arguments, terminal, progress))
    finally:
        gc.enable()
        progress.clear()


# --- what is asked for ---


def _check(arguments: Namespace) -> None:
    """Refuse what can't be meant. Raises Stopped."""
    check(arguments, arguments.line)
    filters: list[str] = arguments.filter or []
    if len(filters) > 1:
        raise Stopped("give one --filter, or none to try all", USAGE)
    arguments.filter = filters[0] if filters else None
    if arguments.journal is None and arguments.unit is not None:
        raise Stopped("--unit is for --journal", USAGE)
    if arguments.ignoreregex and not (arguments.failregex or arguments.filter):
        raise Stopped("--ignoreregex needs --failregex or --filter", USAGE)
    if wants_json(arguments) and _wanted(arguments):
        raise Stopped("--json has all lines; leave out --print-all-…", USAGE)


def _wanted(arguments: Namespace) -> frozenset[str]:
    """Give the outcomes of which each line is to be shown."""
    return frozenset(outcome for outcome in _OUTCOMES if getattr(arguments, f"print_all_{outcome}"))


def _chosen(arguments: Namespace) -> _Set:
    """Give the filters to try. Raises ConfigError, Stopped."""
    try:
        added = build_patterns(arguments.failregex, arguments.ignoreregex)
    except ConfigError as error:
        raise Stopped(str(error), USAGE) from error
    if arguments.filter is not None:
        item = _named(arguments.filter, arguments)
        more = replace(item, failregexes=(*item.failregexes, *added[0]), ignoreregexes=(*item.ignoreregexes, *added[1]))
        return _Set([_of_unit(more, arguments.unit)], named=True)
    if arguments.failregex:
        units = (_unit(arguments.unit),) if arguments.unit else ("*",)
        return _Set(
            [
                Filter(
                    name=GIVEN,
                    file="",
                    description="",
                    units=units if arguments.journal is not None else (),
                    identifiers=("*",) if arguments.journal is None else (),
                    formats=NAMES,
                    failregexes=added[0],
                    ignoreregexes=added[1],
                )
            ],
            named=True,
            given=True,
        )
    if arguments.suspicious and arguments.journal is not None:
        return _Set([_of_unit(item, arguments.unit) for item in _watched(arguments)], named=True)
    folder = path(arguments.filters)
    found, _ = config.read_filters(config.filter_files(filters=folder), filters=folder)
    return _Set([_of_unit(item, arguments.unit) for item in found.values()], named=False, used=_used(arguments))


def _named(name: str, arguments: Namespace) -> Filter:
    """Give a filter by its name, or of a file. Raises ConfigError, Stopped."""
    folder = path(arguments.filters)
    paths = config.filter_files(filters=folder)
    if "/" in name or name.endswith(".toml"):
        try:
            Path(name).stat()
        except OSError as error:
            raise unreadable(name, error) from error
        paths = {Path(name).stem: Path(name)}
        name = Path(name).stem
    elif name not in paths:
        if name in _counting(arguments):
            raise Stopped(f"{name} is a jail that counts bans, and has no filter", USAGE)
        raise Stopped(f"no filter has the name {name}; there are {', '.join(sorted(paths))}", USAGE)
    found, mistakes = config.read_filters({name: paths[name]}, filters=folder)
    if mistakes:
        raise ConfigError(mistakes)
    return found[name]


def _watched(arguments: Namespace) -> list[Filter]:
    """Give the filters of the enabled jails, each as its jail uses it and under its name. Raises ConfigError."""
    jails = _jails(arguments)
    return [replace(jail.filter, name=jail.name) for jail in jails if jail.enabled and not jail.counts_bans]


def _used(arguments: Namespace) -> tuple[str, ...]:
    """Give the filters of the enabled jails by name, each once; none if the configuration has mistakes."""
    try:
        return tuple(dict.fromkeys(jail.filter.name for jail in _jails(arguments) if jail.enabled))
    except ConfigError:
        return ()


def _counting(arguments: Namespace) -> list[str]:
    """Give the jails that count bans by name; none if the configuration has mistakes."""
    try:
        return [jail.name for jail in _jails(arguments) if jail.counts_bans]
    except ConfigError:
        return []


def _jails(arguments: Namespace) -> tuple[config.JailConfig, ...]:
    """Give the jails that there are. Raises ConfigError."""
    return config.load(config=path(arguments.config), filters=path(arguments.filters), whole=False).jails


def _of_unit(item: Filter, unit: str | None) -> Filter:
    """Give a filter that trusts a unit instead of its own."""
    if unit is None:
        return item
    return replace(item, units=(_unit(unit),), slices=(), containers=(), fields={}, identifiers=())


def _unit(name: str) -> str:
    """Give a unit's whole name, as systemctl(1) takes it."""
    return name if "." in name else f"{name}.service"


# --- what is read ---


def _portions(arguments: Namespace, trial: Trial, chosen: _Set) -> Iterator[_Portion]:
    if arguments.journal is not None:
        yield from _journal(arguments, trial, chosen)
        return
    if arguments.line:
        lines = typed(arguments.line)
        yield _Portion(lines, trial.lines(lines))
    for name in arguments.log:
        for lines in slices(name):
            yield _Portion(lines, trial.lines(lines), log=name)


def _journal(arguments: Namespace, trial: Trial, chosen: _Set) -> Iterator[_Portion]:
    """Read the entries of those whom the filters trust. Raises JournalError, Stopped."""
    from banagent.sources.journal import Journal  # noqa: PLC0415 - few need it, and it takes its time

    since = begin(arguments)
    with closing(Journal(chosen.filters, path(arguments.journal or None))) as journal:
        journal.seek_time(since)
        while (batch := journal.read(trial.sift)).read:
            entries: list[Entry] = []
            found: dict[int, list[Verdict]] = {}
            for entry, hits in batch.entries:
                if chosen.given and arguments.unit is not None and entry.unit != _unit(arguments.unit):
                    continue
                verdicts = trial.entry(entry, hits)
                if verdicts is not None:
                    if verdicts:
                        found[len(entries)] = verdicts
                    entries.append(entry)
            yield _Portion([entry.message for entry in entries], found, entries)


def _followed(portions: Iterable[_Portion], progress: Progress) -> Iterator[_Portion]:
    for portion in portions:
        yield portion
        progress.add(len(portion.lines))


# --- as JSON ---


def _as_json(portions: Iterable[_Portion], trial: Trial, arguments: Namespace, *, named: bool) -> Said:
    """Give an object for each line."""
    stamp = lru_cache(16)(timestamp)
    number = 0
    any_matched = False
    for portion in portions:
        objects: list[str] = []
        for index, line in enumerate(portion.lines):
            number += 1
            verdict = tell(portion.found.get(index, ()), trial.preference)
            told = portion.entries[index].time if portion.entries else _time(line, verdict, trial)
            failure = verdict.failure if verdict else None
            any_matched = any_matched or failure is not None
            shown: dict[str, object] = {
                "line": number,
                "outcome": verdict.outcome if verdict else MISSED,
                "pattern": verdict.pattern if verdict else None,
                "address": str(failure.address) if failure and failure.address else None,
                "user": failure.user if failure else None,
                "time": None if told is None else stamp(told),
            }
            if not named:
                shown["filter"] = verdict.filter if verdict else None
            objects.append(dump(shown, arguments))
        if objects:
            yield "\n".join(objects)
    return DONE if any_matched else REFUSED


def _time(line: bytes, verdict: Verdict | None, trial: Trial) -> int | None:
    """Give the time that a line says, in whichever format it does."""
    stamps = [verdict.stamp] if verdict is not None else [parsed.stamp for parsed in trial.parsed(line)]
    return next((told for stamp in stamps if (told := trial.time(stamp)) is not None), None)


# --- as text ---


class _Tally:
    """What came of all lines, by filter."""

    def __init__(self, preference: Preference) -> None:
        self.lines = 0
        self.known: Counter[str] = Counter()  # lines by outcome
        self._preference = preference
        self._kinds: Counter[tuple[str, str, str | None, frozenset[str], bool]] = Counter()  # of verdicts
        self.outcomes: dict[str, Counter[str]] = {}  # by filter
        self.patterns: dict[str, Counter[str]] = {}  # likewise: hits
        self.modes: dict[str, Counter[str]] = {}  # likewise: matched lines in each mode
        self.nameless: Counter[str] = Counter()  # likewise: matched lines without address
        self.weight: Counter[str] = Counter()  # likewise: how specific the patterns were
        self.missed: dict[str, list[tuple[int, bytes]]] = {}  # by log: the first lines, with their numbers

    def add(self, portion: _Portion, told: Mapping[int, Verdict | None]) -> None:
        """Take note of lines, and of how each of them is told."""
        sample = self.missed.setdefault(portion.log, [])
        if len(sample) < _SAMPLE:
            lines = enumerate(portion.lines)
            missed = ((self.lines + at + 1, line) for at, line in lines if at not in portion.found and line.strip())
            sample += islice(missed, _SAMPLE - len(sample))
        self.lines += len(portion.lines)
        self.known.update(map(_outcome, told.values()))
        self._kinds.update(map(_kind, chain.from_iterable(portion.found.values())))

    def total(self) -> None:
        """Sum it up."""
        for (name, outcome, pattern, modes, has_no_address), count in self._kinds.items():
            if name not in self.outcomes:
                self.outcomes[name], self.patterns[name], self.modes[name] = Counter(), Counter(), Counter()
            self.outcomes[name][outcome] += count
            self.modes[name].update(dict.fromkeys(modes, count))
            self.nameless[name] += has_no_address * count
            if pattern is not None:
                self.patterns[name][pattern] += count
            if outcome == MATCHED:
                self.weight[name] += self._preference.weight(name, pattern or "") * count

    def best(self) -> list[str]:
        """Give the filters that know some line, those that match most of them first."""
        place = self._preference.place
        return sorted(
            self.outcomes, key=lambda name: (-self.outcomes[name][MATCHED], place(name), -self.weight[name], name)
        )


def _as_text(
    portions: Iterable[_Portion], trial: Trial, arguments: Namespace, terminal: Terminal, progress: Progress
) -> Said:
    tally = _Tally(trial.preference)
    wanted = _wanted(arguments)
    for portion in portions:
        told = {index: tell(verdicts, trial.preference) for index, verdicts in portion.found.items()}
        shown = [
            _shown(tally.lines + index + 1, line, told.get(index), terminal)
            for index, line in enumerate(portion.lines if wanted else ())
            if _outcome(told.get(index)) in wanted
        ]
        tally.add(portion, told)
        if shown:
            progress.clear()
            yield "\n".join(shown)
    progress.clear()
    tally.total()
    yield "\n".join(_summary(tally, trial, arguments, terminal))
    return DONE if tally.known[MATCHED] else REFUSED


def _kind(verdict: Verdict) -> tuple[str, str, str | None, frozenset[str], bool]:
    """Give what is counted: the filter, the outcome, the pattern, the modes, and whether no address was found."""
    is_nameless = verdict.failure is not None and verdict.failure.address is None
    return verdict.filter, verdict.outcome, verdict.pattern, verdict.modes, is_nameless


def _outcome(verdict: Verdict | None) -> str:
    return MISSED if verdict is None else verdict.outcome


def _shown(number: int, line: bytes, verdict: Verdict | None, terminal: Terminal) -> str:
    """Give a line as it is listed."""
    outcome = _outcome(verdict)
    what = ""
    if verdict is not None:
        name = terminal.show(f"{verdict.filter}/{verdict.pattern}")
        address = f" {verdict.failure.address or 'no address'}" if verdict.failure else ""
        what = f" [{name}{address}]"
    text = f"{number}: {terminal.paint(outcome, _STYLES[outcome])}{what} "
    room = None if terminal.width is None else max(terminal.width - len(f"{number}: {outcome}{what} "), 20)
    message = terminal.show(line.decode("utf-8", "backslashreplace"))
    return text + (message if room is None else terminal.cut(message, room))


def _summary(tally: _Tally, trial: Trial, arguments: Namespace, terminal: Terminal) -> Iterator[str]:
    in_journal = arguments.journal is not None
    known = tally.known
    total = f"{tally.lines:,} entries" if in_journal else plural(tally.lines, "line")
    missed = tally.lines - known[MATCHED] - known[IGNORED]
    outcome = f"{total}: {known[MATCHED]:,} matched, {known[IGNORED]:,} ignored, {missed:,} missed"
    best = tally.best()
    named = len(trial.filters) == 1
    who = terminal.show(next(iter(trial.filters))) if named else "all filters"
    yield terminal.paint(f"{who}, mode {trial.mode}: {outcome}", "bold")
    if best and not named:
        yield ""
        yield from _ranking(tally, best, terminal)
    if best:
        yield ""
        yield from _patterns(tally, trial, best[0], terminal)
        yield from _remarks(tally, trial, best[0], terminal)
    if not in_journal:
        for name, lines in tally.missed.items():
            yield from _beginnings(name, lines, trial, terminal)
    yield from _senders(tally, trial, arguments, terminal)


def _beginnings(name: str, lines: Sequence[tuple[int, bytes]], trial: Trial, terminal: Terminal) -> Iterator[str]:
    """Say so if missed lines of a log begin in a way that is not read."""
    strange = [number for number, line in lines if not trial.has_beginning(line)]
    if output := unread([line for _, line in lines]):
        yield ""
        yield from terminal.wrap(f"{_log(name)}: {_output(output)}")
        return
    misfits = [(number, misfit) for number, line in lines if (misfit := trial.misfit(line))]
    first = misfits[0] if misfits else (strange[0], None) if strange else None
    told = next((found for found in misfits if found[1].known), first)
    if told is not None:
        number, misfit = told
        yield ""
        yield from terminal.wrap(f"{_log(name)}, line {number:,}: {' '.join(_misfit(misfit, trial, terminal))}")


def _log(name: str) -> str:
    return "standard input" if name == STDIN else quoted(name)


def _output(name: str) -> str:
    return f"this is journalctl --output={name}, which is not read; use --output=json, or short-iso"


def _ranking(tally: _Tally, best: list[str], terminal: Terminal) -> Iterator[str]:
    columns = (Column("FILTER"), Column("MATCHED", right=True), Column("IGNORED", right=True))
    rows = [
        (terminal.show(name), f"{tally.outcomes[name][MATCHED]:,}", f"{tally.outcomes[name][IGNORED]:,}")
        for name in best[:_LISTED]
    ]
    yield from table(columns, rows, terminal)
    if len(best) > _LISTED:
        yield f"and {plural(len(best) - _LISTED, 'other')} that match fewer"
    yield ""
    yield f"The best is {terminal.show(best[0])}:"


def _patterns(tally: _Tally, trial: Trial, name: str, terminal: Terminal) -> Iterator[str]:
    hits = tally.patterns[name]
    rows = [(f"{count:,}", terminal.show(pattern)) for pattern, count in hits.most_common()]
    if rows:
        yield from table((Column("HITS", right=True), Column("PATTERN")), rows, terminal)
    item = trial.filters[name]
    used = (one.name for one in item.failregexes if one.mode in MODES[trial.mode])
    if idle := [terminal.show(one) for one in dict.fromkeys(used) if one not in hits]:
        yield from terminal.wrap(f"no hits: {', '.join(idle)}", "  ")


def _remarks(tally: _Tally, trial: Trial, name: str, terminal: Terminal) -> Iterator[str]:
    matched = tally.outcomes[name][MATCHED]
    more = {mode: tally.modes[name][mode] - matched for mode in MODES if mode != trial.mode}
    if told := [f"{mode} {count:,}" for mode, count in more.items() if count > 0]:
        yield f"lines that other modes would match, too: {', '.join(told)}"
    if nameless := tally.nameless[name]:
        yield from terminal.wrap(
            f"matched without an address, as by a host name, which bans nobody: {nameless:,}", "  "
        )


def _senders(tally: _Tally, trial: Trial, arguments: Namespace, terminal: Terminal) -> Iterator[str]:
    if trial.foreign:
        yield ""
        yield "Not counted, as they look like failures but are of somebody whom no filter trusts:"
        for who, count in sorted(trial.foreign.items(), key=lambda item: -item[1]):
            yield f"  {count:,}  {terminal.show(who)}"
    entries = tally.lines if arguments.journal is not None else trial.entries
    if entries < tally.lines or GIVEN in trial.filters:
        yield ""
        yield from terminal.wrap(
            "Who wrote the lines was not tested: the agent counts entries of the filter's units and users only, and of"
            " files those under its identifiers."
        )


# --- one line explained ---


def _explained(portions: Iterable[_Portion], trial: Trial, terminal: Terminal) -> Said:
    any_matched = False
    for portion in portions:
        for index, line in enumerate(portion.lines):
            verdicts = portion.found.get(index, [])
            verdict = tell(verdicts, trial.preference)
            any_matched = any_matched or _outcome(verdict) == MATCHED
            yield "\n".join(_explanation(line, verdicts, verdict, trial, terminal))
    return DONE if any_matched else REFUSED


def _explanation(
    line: bytes, verdicts: list[Verdict], verdict: Verdict | None, trial: Trial, terminal: Terminal
) -> Iterator[str]:
    outcome = _outcome(verdict)
    if verdict is None:
        yield terminal.paint(f"{outcome}, mode {trial.mode}", _STYLES[outcome])
        yield from _why_missed(line, verdicts, trial, terminal)
        return
    whose = f"pattern {verdict.pattern} of filter {verdict.filter}, mode {trial.mode}"
    yield terminal.paint(f"{outcome}: {terminal.show(whose)}", _STYLES[outcome])
    if verdict.failure is None:
        yield "A pattern knows it, and it is no failure: it is ignored, or tells only whose a session is."
        return
    failure = verdict.failure
    yield f"address: {failure.address or 'none: a host name bans nobody, as it is never looked up'}"
    if failure.user is not None:
        yield f"user:    {terminal.show(failure.user)}"
    told = trial.time(verdict.stamp)
    yield f"time:    {'none that is known' if told is None else _zoned(timestamp(told))}"
    if failure.times != 1 or failure.weight != 1:
        yield f"counts:  {failure.times * failure.weight}"
    others = sorted({other.filter for other in verdicts if other.outcome == MATCHED} - {verdict.filter})
    if others:
        yield from terminal.wrap(f"also matched by: {', '.join(map(terminal.show, others))}", "  ")


def _zoned(told: str) -> str:
    """Give a time in UTC, and in the machine's own zone if that is another."""
    here = local(told)
    return told if here == told[:-1].replace("T", " ") else f"{told} ({here} here)"


def _why_missed(line: bytes, verdicts: list[Verdict], trial: Trial, terminal: Terminal) -> Iterator[str]:
    for other in verdicts:
        modes = f"mode{'s' if len(other.modes) > 1 else ''} {' and '.join(sorted(other.modes))}"
        yield f"Filter {terminal.show(other.filter)} matches it in {modes}."
    if verdicts:
        return
    yield from _strangers(line, trial, terminal)
    if who := trial.stranger(line):
        yield f"It is of {terminal.show(who)}, and no filter trusts that."
        return
    if output := unread([line]):
        yield f"{_output(output).capitalize()}."
        return
    misfit = trial.misfit(line)
    messages = [misfit.message] if misfit else dict.fromkeys(parsed.message for parsed in trial.parsed(line))
    if misfit:
        yield from _misfit(misfit, trial, terminal)
    if misfit and misfit.known:
        return
    logins = (found for message in messages if (found := login(trial.filters.values(), message)))
    if found := next(logins, None):
        whose = f"pattern {terminal.show(found[1])} of filter {terminal.show(found[0])}"
        yield f"It is a login ({whose}), of which only the journal is believed; no failure."
        return
    stops = [(stop, message) for message in messages if (stop := nearest(trial.filters.values(), message))]
    if not stops or max(stop.found for stop, _ in stops) < _NEAR:
        if not misfit and not trial.has_beginning(line):
            yield from _misfit(None, trial, terminal)
        yield f"No pattern begins like {'the rest of it' if misfit else 'this line'}."
        return
    stop, message = max(stops, key=lambda item: item[0].found)
    yield from _stop(stop, message, terminal)


def _misfit(misfit: Misfit | None, trial: Trial, terminal: Terminal) -> Iterator[str]:
    """Say in which formats a line was tried, and which it has."""
    names = [misfit.known[0]] if misfit and misfit.known else list(trial.filters)
    if len(names) == 1:
        formats = ", ".join(name for name in trial.filters[names[0]].formats if name != BARE) or "none"
        of = f"filter {terminal.show(names[0])} ({formats})"
    else:
        of = "the filters"
    yield f"Its beginning is in none of the formats of {of}; it was tried as a bare message."
    if misfit and misfit.known:
        pattern = terminal.show(misfit.known[1])
        yield f'In the format {misfit.format} pattern {pattern} knows it: write formats = ["{misfit.format}"].'
    elif misfit:
        yield f'It is in the format {misfit.format}: write formats = ["{misfit.format}"].'


def _stop(stop: Stop, message: bytes, terminal: Terminal) -> Iterator[str]:
    if stop.field is None and not stop.rest:
        yield f"Pattern {terminal.show(stop.pattern)} of filter {terminal.show(stop.filter)} would match it else."
        return
    whose = f"{terminal.show(stop.pattern)} of filter {terminal.show(stop.filter)}, mode {stop.mode}"
    yield f"The nearest is pattern {whose}."
    if stop.field is not None:
        yield f"Its field {terminal.show(stop.field)} is missing, or is not: {terminal.show(stop.rest)}"
        return
    before = terminal.show(message[: stop.end].decode("utf-8", "backslashreplace"))
    after = terminal.show(message[stop.end :].decode("utf-8", "backslashreplace"))
    yield f"  goes along with: {before}"
    yield f"  stops before:    {after or 'the end of the line'}"
    yield f"  where it wants:  {terminal.show(stop.rest)}"


def _strangers(line: bytes, trial: Trial, terminal: Terminal) -> Iterator[str]:
    """Say if the line is under an identifier that is none of the filter's."""
    if len(trial.filters) > 1:
        return
    (item,) = trial.filters.values()
    told = next((parsed.identifier for parsed in trial.parsed(line) if parsed.identifier), None)
    if told is not None and not trial.accepts(told):
        names = ", ".join(item.identifiers) or "none"
        yield from terminal.wrap(f"It is of {terminal.show(told)}, and the filter's identifiers are: {names}.")


# --- what looks like a failure, and nobody knows ---


def _suspicious(portions: Iterable[_Portion], trial: Trial, arguments: Namespace, terminal: Terminal) -> Said:
    drift = Drift(trial.split)
    read = 0
    for portion in portions:
        read += len(portion.lines)
        for index, line in enumerate(portion.lines):
            if index not in portion.found:
                entry = portion.entries[index] if portion.entries else None
                drift.add(line, None if entry is None else entry.unit or entry.identifier or "")
    found = drift.shapes()
    if wants_json(arguments):
        objects = [
            {
                "shape": shape,
                "count": item.count,
                "example": item.example.decode("utf-8", "backslashreplace"),
                "units": sorted(item.units),
            }
            for shape, item in found
        ]
        if objects:
            yield "\n".join(dump(one, arguments) for one in objects)
        return DONE if objects else REFUSED
    if not found:
        raise Stopped(f"of {plural(read, 'line')} none looks like a failure that no pattern knows")
    for shape, item in found:
        units = f"  ({', '.join(map(terminal.show, sorted(item.units)))})" if item.units else ""
        yield terminal.paint(f"{item.count:,}  {terminal.show(shape)}", "bold") + units
        yield f"    {terminal.show(item.example.decode('utf-8', 'backslashreplace'))}"
    if drift.others:
        yield f"and {plural(drift.others, 'line')} of other shapes"
    return DONE
