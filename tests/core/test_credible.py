# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether what a pattern finds can be believed: said by it, or by its filter, and kept with what waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from banagent.core.events import SECOND, Entry, Offence
from banagent.core.filter import HOST, Failregex, Filter
from banagent.core.links import Links
from banagent.core.recognise import Recogniser, View

FILTER: Final = Filter(
    name="x",
    file="",
    description="",
    units=("x.service",),
    session="id",
    failregexes=(
        Failregex(name="sure", regex=f"^sure {HOST}"),
        Failregex(name="unsure", regex=f"^unsure {HOST}", mode="aggressive", forgeable=True),
        Failregex(name="later", regex=r"^later (?P<session>\d+)", forgeable=True),
    ),
    links=(Failregex(name="peer", regex=rf"^(?P<session>\d+) from {HOST}"),),
)


def told(item: Filter, line: bytes) -> Offence:
    recogniser = Recogniser({"x": View(item, "aggressive")})
    ((_, offence),) = recogniser.offences(
        Entry(SECOND, line, "p", item.uids[0] if isinstance(item.uids[0], int) else 0, "x.service", None, 1),
        recogniser.sift(line),
    )
    return offence


def test_a_pattern_that_is_forgeable_says_so_of_what_it_finds() -> None:
    assert told(FILTER, b"sure 192.0.2.1").credible
    assert not told(FILTER, b"unsure 192.0.2.1").credible


@pytest.mark.parametrize("item", [replace(FILTER, forgeable=True), replace(FILTER, uids=(7,))])
def test_a_filter_that_is_not_credible_says_so_of_all(item: Filter) -> None:
    assert not told(item, b"sure 192.0.2.1").credible
    assert not item.credible


def test_a_filter_is_credible_if_all_of_it_is() -> None:
    assert not FILTER.credible
    assert replace(FILTER, failregexes=FILTER.failregexes[:1]).credible
    assert [one.name for one in FILTER.used("normal") if not FILTER.is_credible(one)] == ["later"]
    assert [one.name for one in FILTER.used("aggressive") if not FILTER.is_credible(one)] == ["unsure", "later"]


def test_a_failure_that_waits_for_its_address_stays_what_it_is() -> None:
    """Also over a checkpoint."""
    links = Links()
    assert links.resolve(told(FILTER, b"later 5")) == []
    again = Links()
    again.load(links.items())
    (failure,) = again.resolve(told(FILTER, b"5 from 192.0.2.1"))
    assert failure.address is not None
    assert not failure.credible
