# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each shipped filter finds in its own sample lines what they say, in the modes they say, and nothing in the others."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from banagent.config import filters, toml
from banagent.core.address import parse_address
from banagent.core.events import Entry, Offence
from banagent.core.filter import MODES, Failregex, Filter, Sample
from banagent.core.recognise import Recogniser, View

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES: Final = sorted((Path(__file__).parents[2] / "filters").glob("*.toml"))
UNIT: Final = "sample.service"  # who may write what is tested elsewhere


class Case(NamedTuple):
    """A sample line, and the pattern whose it is."""

    filter: str
    failregex: Failregex
    sample: Sample

    def __str__(self) -> str:
        return f"{self.filter}:{self.sample.at}"


@cache
def shipped() -> dict[str, Filter]:
    """Give all filters by name, made to trust one unit."""
    return {
        path.stem: replace(filters.build(path.stem, toml.read(path)), units=(UNIT,), uids=(0,), identifiers=())
        for path in FILES
    }


@cache
def in_each_mode(name: str) -> Recogniser:
    """Give the recogniser of one filter with a jail for each mode, named so."""
    return Recogniser({mode: View(shipped()[name], mode) for mode in MODES})


@cache
def all_at_once() -> Recogniser:
    """Give the recogniser of all filters with all their patterns, a jail each."""
    return Recogniser({name: View(item, "aggressive") for name, item in shipped().items()})


def recognise(recogniser: Recogniser, line: str) -> dict[str, Offence]:
    entry = Entry(1, line.encode(), "", 0, UNIT, None, 1)
    return dict(recogniser.offences(entry, recogniser.sift(entry.message)))


def cases() -> Iterator[Case]:
    for name, item in shipped().items():
        for failregex in item.failregexes:
            for sample in failregex.samples:
                yield Case(name, failregex, sample)


def lines_without_failure() -> Iterator[tuple[str, Sample]]:
    for name, item in shipped().items():
        for sample in (*item.nomatch, *(sample for ignore in item.ignoreregexes for sample in ignore.samples)):
            yield name, sample


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_pattern_has_samples(path: Path) -> None:
    item = shipped()[path.stem]
    assert [failregex.name for failregex in item.failregexes if not failregex.samples] == []
    assert [ignore.regex for ignore in item.ignoreregexes if not ignore.samples] == []
    assert item.nomatch


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_sample_says_where_it_is_from(path: Path) -> None:
    samples = [sample for failregex in shipped()[path.stem].failregexes for sample in failregex.samples]
    assert [sample.line for sample in samples if not sample.source] == []


@pytest.mark.parametrize("case", [*cases()], ids=str)
def test_sample_is_recognised_in_its_modes_only(case: Case) -> None:
    found = recognise(in_each_mode(case.filter), case.sample.line)
    assert set(found) == {mode for mode, patterns in MODES.items() if case.failregex.mode in patterns}
    for offence in found.values():
        assert_tells(offence, case)


@pytest.mark.parametrize("case", [*cases()], ids=str)
def test_sample_is_recognised_among_all_filters(case: Case) -> None:
    assert_tells(recognise(all_at_once(), case.sample.line)[case.filter], case)


def assert_tells(offence: Offence, case: Case) -> None:
    assert case.sample.address is not None
    assert offence.pattern == case.failregex.name
    assert offence.address == parse_address(case.sample.address)
    assert offence.user == case.sample.user
    assert offence.times == case.sample.count


@pytest.mark.parametrize(
    ("name", "sample"),
    [*lines_without_failure()],
    ids=lambda value: str(value.at) if isinstance(value, Sample) else value,
)
def test_line_without_failure_matches_in_no_mode(name: str, sample: Sample) -> None:
    assert recognise(in_each_mode(name), sample.line) == {}
