# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether what a pattern finds can be believed: said by it, or by its filter, and kept with what waits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from banagent.core.address import Network, parse_network
from banagent.core.bans import Bans
from banagent.core.events import JOURNAL, SECOND, Entry, Offence
from banagent.core.filter import HOST, Failregex, Filter, Trust
from banagent.core.jail import DOUBTED, Jail, Rule
from banagent.core.links import Links
from banagent.core.never import Never
from banagent.core.recognise import Recogniser, View

if TYPE_CHECKING:
    from banagent.core.events import Ban

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


def test_a_filter_that_is_not_credible_says_so_of_all() -> None:
    assert not told(replace(FILTER, forgeable=True), b"sure 192.0.2.1").credible


def test_a_service_that_is_not_roots_is_believed_but_may_not_close_all_ports() -> None:
    item = replace(FILTER, uids=(7,), failregexes=FILTER.failregexes[:1])
    assert told(item, b"sure 192.0.2.1").credible
    assert not item.may_close("normal")
    assert replace(item, uids=(0,)).may_close("normal")


def entry(unit: str | None, uid: int | None, *, source: str = JOURNAL, identifier: str | None = None) -> Entry:
    return Entry(SECOND, b"", "p", uid, unit, identifier, 1, source=source)


@pytest.mark.parametrize(
    ("uids", "written", "is_vouched"),
    [
        ((0,), entry("x.service", 0), True),
        ((0,), entry(None, 0, identifier="x"), True),  # it lost its unit
        ((89,), entry("postfix@-.service", 89), True),
        ((33,), entry("nginx.service", 33), True),
        # programs of many run there as one user
        ((33,), entry("apache2.service", 33), False),
        ((33,), entry("apache2@one.service", 33), False),
        ((33,), entry("php8.2-fpm.service", 33), False),
        ((33,), entry("session-3.scope", 33), False),
        ((33,), entry("user@33.service", 33), False),
        ((33,), entry("cron.service", 33), False),
        ((33,), entry(None, 33), False),
        ((0, 33), entry("apache2.service", 0), True),
        # nobody vouches for a file: not for syslog's, and for a service's own only if root alone writes it
        ((0,), entry(None, None, source="/var/log/x.log"), True),
        ((0, 33), entry(None, None, source="/var/log/x.log"), False),
        ((0,), entry(None, None, source="/var/log/syslog", identifier="x"), False),
        ((0,), entry(None, None, source="/var/log/syslog", identifier=""), False),
    ],
)
def test_whose_word_it_is(uids: tuple[int, ...], written: Entry, *, is_vouched: bool) -> None:
    assert Trust(replace(FILTER, uids=uids)).vouches(written) is is_vouched


def test_a_line_of_syslog_without_a_tag_counts() -> None:
    assert Trust(FILTER)(entry(None, None, source="/var/log/syslog", identifier=""))


@pytest.mark.parametrize(("unit", "counts"), [("apache2.service", False), ("nginx.service", True)])
def test_a_login_counts_only_where_no_user_can_have_made_it_up(unit: str, *, counts: bool) -> None:
    login = Failregex(name="login", regex=f"^{HOST} is (?P<user>.+)$")
    item = replace(FILTER, units=("*.service",), uids=(33,), successes=(login,))
    recogniser = Recogniser({"x": View(item, "normal")})
    line = entry(unit, 33)._replace(message=b"192.0.2.1 is alice")
    found = recogniser.offences(line, recogniser.sift(line.message))
    assert [offence.success for _, offence in found] == [True] * counts


def bans(*credible: bool) -> list[Ban]:
    """Give the bans that failures lead to, a minute apart, three for one."""
    jail = Jail("x", Rule(3600, 3, 60, credible=True), Never(), Bans())
    return [
        ban
        for number, each in enumerate(credible)
        for ban in jail.consider(
            Offence(number * 60 * SECOND, f"p{number}", parse_network("192.0.2.1"), None, "x", "failed", credible=each)
        )
    ]


def test_one_failure_that_may_be_made_up_is_too_much() -> None:
    assert [ban.credible for ban in bans(True, True, True)] == [True]
    for forged in range(3):
        assert [ban.credible for ban in bans(*(number != forged for number in range(3)))] == [False]


def test_a_failure_that_may_be_made_up_is_forgotten() -> None:
    found = bans(False, *[True] * 70)
    assert (found[0].credible, found[-1].credible) == (False, True)


def test_what_comes_late_hides_no_failure_that_may_be_made_up() -> None:
    jail = Jail("x", Rule(3600, 3, 60, credible=True), Never(), Bans())
    found = [
        ban
        for minute, credible in ((60, False), (5, False), (70, True), (80, True))
        for ban in jail.consider(
            Offence(minute * 60 * SECOND, f"p{minute}", parse_network("192.0.2.1"), None, "x", "y", credible=credible)
        )
    ]
    assert [ban.credible for ban in found] == [False]


def test_a_flood_hides_no_failures_that_may_be_made_up() -> None:
    jail = Jail("x", Rule(3600, 3, 60, credible=True), Never(), Bans())
    failure = Offence(SECOND, "p", parse_network("192.0.2.1"), None, "x", "y", credible=False)
    jail.consider(failure)
    jail.consider(failure)
    for number in range(DOUBTED + 1):
        address = Network((0x0A000000 + number).to_bytes(4, "big"), 32)
        jail.consider(failure._replace(address=address, time=2 * SECOND + number))
    (ban,) = jail.consider(failure._replace(time=3 * SECOND, credible=True))
    assert not ban.credible


def test_each_pattern_by_itself() -> None:
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
