# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each shipped filter finds in its own lines what they say, in the modes they say, and nothing that was forged."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from banagent.config import filters, toml
from banagent.core.address import parse_network
from banagent.core.bans import Bans
from banagent.core.events import SECOND, Ban, Entry, Offence
from banagent.core.filter import HOST, MODES, Failregex, Filter, Sample, Sequence
from banagent.core.jail import Jail, Rule
from banagent.core.never import Never
from banagent.core.recognise import Recogniser, View
from banagent.errors import ConfigError
from filters.forging import FAKE, Pattern, gaps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER: Final = Path(__file__).parents[2] / "filters"
FILES: Final = sorted(FOLDER.glob("*.toml"))
UNIT: Final = "sample.service"  # who may write what is tested elsewhere
ENOUGH: Final = 10_000


class Case(NamedTuple):
    """A sample line, the pattern whose it is, and where in the filter's file."""

    filter: str
    failregex: Failregex
    sample: Sample
    at: int

    @property
    def is_link(self) -> bool:
        item = shipped()[self.filter]
        return self.failregex in (*item.links, *item.successes)

    def __str__(self) -> str:
        return f"{self.filter}:{self.at}"


@cache
def shipped() -> dict[str, Filter]:
    """Give all filters by name, made to trust one unit; those with mistakes fail a test of their own."""
    found: dict[str, Filter] = {}
    for path in FILES:
        try:
            item = filters.build(path.stem, toml.read(path))
        except ConfigError:
            continue
        mine = replace(item, units=(UNIT,), uids=(0,), identifiers=(), slices=(), containers=(), fields={})
        found[path.stem] = mine
    return found


@cache
def in_each_mode(name: str) -> Recogniser:
    """Give the recogniser of one filter with a jail for each mode, named so."""
    return Recogniser({mode: View(shipped()[name], mode) for mode in MODES})


@cache
def by_pattern(name: str) -> Recogniser:
    """Give the recogniser of one filter with a jail for each of its patterns alone."""
    item = shipped()[name]
    alone = [
        replace(item, failregexes=(one,), links=(), successes=())
        for one in (*item.failregexes, *item.links, *item.successes)
    ]
    return Recogniser({str(number): View(one, "aggressive") for number, one in enumerate(alone)})


@cache
def all_at_once() -> Recogniser:
    """Give the recogniser of all filters with all their patterns, a jail each."""
    return Recogniser({name: View(item, "aggressive") for name, item in shipped().items()})


def recognise(recogniser: Recogniser, line: bytes, second: int = 0) -> dict[str, Offence]:
    entry = Entry(second * SECOND, line, f"p{second}", 0, UNIT, None, 1)
    return dict(recogniser.offences(entry, recogniser.sift(entry.message)))


def cases() -> Iterator[Case]:
    for name, item in shipped().items():
        document = toml.read(FOLDER / f"{name}.toml")
        kinds = {"failregex": item.failregexes, "link": item.links, "success": item.successes}
        for kind, patterns in kinds.items():
            for index, one in enumerate(patterns):
                for number, sample in enumerate(one.samples):
                    yield Case(name, one, sample, document.line((kind, index, "samples", number)))


def lines_without_failure() -> Iterator[tuple[str, Sample]]:
    for name, item in shipped().items():
        for sample in (*item.nomatch, *(sample for ignore in item.ignoreregexes for sample in ignore.samples)):
            yield name, sample


def sequences() -> Iterator[tuple[str, Sequence]]:
    return ((name, sequence) for name, item in shipped().items() for sequence in item.sequences)


def shown(value: object) -> str:
    text = value.line if isinstance(value, Sample) else value.lines[0] if isinstance(value, Sequence) else str(value)
    return text[:60]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_has_no_mistake(path: Path) -> None:
    assert filters.build(path.stem, toml.read(path)).name == path.stem


@pytest.mark.parametrize("name", shipped())
def test_each_pattern_has_samples(name: str) -> None:
    item = shipped()[name]
    assert [pattern.name for pattern in (*item.failregexes, *item.links, *item.successes) if not pattern.samples] == []
    assert [ignore.regex or ignore.json for ignore in item.ignoreregexes if not ignore.samples] == []
    assert item.nomatch


@pytest.mark.parametrize("name", shipped())
def test_what_is_linked_has_sequences(name: str) -> None:
    """All patterns that need others are in some."""
    item = shipped()[name]
    needed = {one.name for one in item.failregexes if item.links and not finds(one, "address")}
    needed |= {one.name for one in item.links}
    lines = [line for sequence in item.sequences for line in sequence.lines]
    seen = {offence.pattern for line in lines for offence in recognise(by_pattern(name), line.encode()).values()}
    assert needed - seen == set()


@pytest.mark.parametrize("name", shipped())
def test_each_sample_says_where_it_is_from(name: str) -> None:
    item = shipped()[name]
    samples = [sample for pattern in (*item.failregexes, *item.links, *item.successes) for sample in pattern.samples]
    assert [sample.line for sample in samples if not sample.source] == []
    assert [sequence.lines[0] for sequence in item.sequences if not sequence.source] == []


@pytest.mark.parametrize("case", [*cases()], ids=str)
def test_sample_is_recognised_in_its_modes_only(case: Case) -> None:
    found = recognise(in_each_mode(case.filter), case.sample.line.encode())
    assert set(found) == {mode for mode, patterns in MODES.items() if case.failregex.mode in patterns}
    for offence in found.values():
        assert_tells(offence, case)


@pytest.mark.parametrize("case", [*cases()], ids=str)
def test_sample_is_recognised_among_all_filters(case: Case) -> None:
    assert_tells(recognise(all_at_once(), case.sample.line.encode())[case.filter], case)


def assert_tells(offence: Offence, case: Case) -> None:
    address = case.sample.address
    assert offence.pattern == case.failregex.name
    assert offence.address == (None if address is None else parse_network(address))
    assert offence.user == case.sample.user
    assert offence.times == (0 if case.is_link else case.sample.count)
    if finds(case.failregex, "session") and (case.is_link or address is None):
        assert offence.session


def finds(failregex: Failregex, group: str) -> bool:
    return any(f"(?P<{group}>" in part for part in (failregex.regex, *failregex.json.values()))


@pytest.mark.parametrize(("name", "sample"), [*lines_without_failure()], ids=shown)
def test_line_without_failure_matches_in_no_mode(name: str, sample: Sample) -> None:
    assert recognise(in_each_mode(name), sample.line.encode()) == {}


# --- sessions ---


@pytest.mark.parametrize(("name", "sequence"), [*sequences()], ids=shown)
def test_attempts_of_a_sequence(name: str, sequence: Sequence) -> None:
    """Whoever is banned for its last failure is the one that it says; but not if one more were needed."""
    assert sequence.failures == 0 or sequence.address is not None
    jail, banned = play(name, sequence, ENOUGH)
    assert banned == []
    assert jail.failures == sequence.failures
    if sequence.address is not None and sequence.failures:
        _, banned = play(name, sequence, sequence.failures)
        assert [(ban.address, ban.user) for ban in banned] == [
            (jail.never.subject(parse_network(sequence.address)), sequence.user)
        ]
        assert play(name, sequence, sequence.failures + 1)[1] == []


def play(name: str, sequence: Sequence, maxretry: int) -> tuple[Jail, list[Ban]]:
    """Give a jail that has seen a sequence, with each failure counted once, and the bans that it decided."""
    item = shipped()[name]
    plain = replace(item, failregexes=tuple(replace(one, weight=1) for one in item.failregexes))
    recogniser = Recogniser({"jail": View(plain, "aggressive")})
    rule = Rule(3600, maxretry, None, sessions=item.session is not None, links=bool(item.links))
    jail = Jail("jail", rule, Never(), Bans())
    told = [recognise(recogniser, line.encode(), second) for second, line in enumerate(sequence.lines)]
    return jail, [ban for found in told if found for ban in jail.consider(found["jail"])]


# --- enemies ---

CREDIBLE: Final = [name for name, item in shipped().items() if not item.forgeable]


@pytest.mark.parametrize("name", CREDIBLE)
def test_a_line_behind_other_words_is_not_taken_for_one(name: str) -> None:
    for case in cases():
        address = case.sample.address
        if case.filter == name and address and address in case.sample.line:
            line = "x: \n" + case.sample.line.replace(address, FAKE.decode())
            found = recognise(by_pattern(name), line.encode())
            assert FAKE.decode() not in {str(offence.address) for offence in found.values() if offence.credible}, line


@pytest.mark.parametrize("name", CREDIBLE)
def test_no_address_and_no_session_can_be_forged(name: str) -> None:
    """Nobody's words are taken for the text that introduces an address, or a session's id."""
    assert [*forged(shipped()[name], by_pattern(name))] == []


def forged(item: Filter, each: Recogniser) -> Iterator[tuple[str, bytes]]:
    """Give the lines by which an enemy can get a filter to take what he wrote, with the patterns that do."""
    patterns = [*item.failregexes, *item.links, *item.successes]
    targets: list[tuple[str, Callable[[Offence, bytes], bool]]] = [
        ("address", lambda offence, fake: str(offence.address) == fake.decode()),
        ("session", lambda offence, fake: offence.session == fake.decode()),
    ]
    for one in patterns:
        if one.forgeable:
            continue
        for group, is_forged in targets:
            if f"(?P<{group}>" in one.regex:
                tried = Pattern(one.regex, group)
                for sample in one.samples:
                    line = sample.line.encode()
                    fake = FAKE if group == "address" else b"66666"
                    for enemy in {*tried.forged(line, fake)}:
                        for number, offence in recognise(each, enemy).items():
                            if is_forged(offence, fake) and offence.credible:
                                yield patterns[int(number)].name, enemy


@pytest.mark.parametrize("name", shipped())
def test_a_field_of_json_with_an_address_has_nothing_else_to_choose(name: str) -> None:
    item = shipped()[name]
    for one in (*item.failregexes, *item.links, *item.successes):
        for path, part in one.json.items():
            if HOST in part and item.is_credible(one):
                assert gaps(part.partition(HOST)[0]) == [], (one.name, path)


def line_filter(regex: str, line: str) -> Filter:
    """Give a filter of one pattern with one sample."""
    one = Failregex(name="x", regex=regex.replace("<HOST>", HOST), samples=(Sample(line=line),))
    return Filter(name="x", file="-", description="-", units=(UNIT,), session="id", failregexes=(one,))


def forged_by(regex: str, line: str) -> list[bytes]:
    item = line_filter(regex, line)
    return [enemy for _, enemy in forged(item, Recogniser({"0": View(item, "normal")}))]


LINE: Final = "login of bob from 192.0.2.1 port 5 refused: password"


@pytest.mark.parametrize(
    ("regex", "line"),
    [
        # the user's words can be the rest of the line, as the pattern does not say where that ends
        (r"^login of (?P<user>.*) from <HOST>", LINE),
        (r"^login of (?P<user>.*?) from <HOST>", LINE),
        (r"^login of (?P<user>\S+) from <HOST> port \d+ ", LINE),
        # or the last of them that fits is his, behind the true address
        (r"^login of .* from <HOST> .*$", LINE),
        (r"^login of .+ from <HOST>(?: port \d+)? refused: .*$", LINE),
        (r"^login .*[a-z] from <HOST> ", LINE),
        (r"^.* from <HOST> port \d+ refused: (?:user|password)", LINE),
        (r"^(?s:.{1,256}) from <HOST> port", LINE),
        # no blank is needed where the text that introduces the address has none
        (r"^login user=(?P<user>[^ ]*),rip=<HOST>,", "login user=bob,rip=192.0.2.1,lip=198.51.100.1"),
        # a session's id likewise
        (r"^login of .* in (?P<session>\d+)", "login of bob in 4711"),
    ],
)
def test_a_pattern_that_can_be_forged_is_found(regex: str, line: str) -> None:
    assert forged_by(regex, line) != []


@pytest.mark.parametrize(
    ("regex", "line"),
    [
        (r"^login of (?P<user>.*) from <HOST> port \d+ refused: [a-z]+$", LINE),
        # the words before an address go as far as they can, but not beyond what ends them
        (r"^login of (?P<user>[^:]*) from <HOST> port \d+ refused: ", LINE),
        (r"^login of (?P<user>[^:]*) from <HOST> port \d+", LINE),
        (r"^login of (?P<user>(?:\w|[ .])*) from <HOST> port", LINE),
        (r"^login \[(?:[^]]*)\]\(<HOST>\)", "login [bob](192.0.2.1) failed"),
        (r"^login of bob from <HOST>", LINE),
        (r"^login of [a-z]+ from <HOST> .*$", LINE),
        (r'^login of "(?P<user>[^"]*)" from <HOST>', 'login of "bob" from 192.0.2.1'),
        (r"^(?P<session>\d+): login of .*", "4711: login of bob"),
    ],
)
def test_a_pattern_that_cannot_be_forged_is_not(regex: str, line: str) -> None:
    assert forged_by(regex, line) == []
