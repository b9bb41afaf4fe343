# SPDX-License-Identifier: LGPL-2.1-or-later
"""Jails judge an address by its record: sooner, for longer, and at last in all jails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from banagent.core.address import parse_network
from banagent.core.bans import Bans
from banagent.core.duration import DAY, HOUR, WEEK
from banagent.core.events import SECOND, Ban, Offence
from banagent.core.growth import Growth
from banagent.core.jail import Jail, Rule
from banagent.core.never import Never
from banagent.core.recidive import BANS, Recidive
from banagent.core.record import Record
from banagent.sinks.history import History, Lifted

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS = "192.0.2.1"


@pytest.fixture
def history() -> Iterator[History]:
    made = History(None)
    yield made
    made.close()


class Court:
    """Two jails, and one that counts their bans."""

    def __init__(self, history: History, growth: Growth | None, never: Never | None = None, **more: Any) -> None:
        self.bans, self.record, self.history = Bans(), Record(history), history
        rule = Rule(60, 3, HOUR, growth=growth, credible=True)._replace(**more)
        never = never or Never()
        self.jails = {name: Jail(name, rule, never, self.bans, self.record) for name in ("sshd", "web")}
        recidive = Rule(3 * DAY, 3, 9 * WEEK, growth=growth, credible=True)
        self.recidive = Recidive("recidive", recidive, never, self.bans, self.record)

    def fails(self, second: int, jail: str = "sshd", address: str = ADDRESS) -> list[Ban]:
        """Decide about a failure as the pipeline does; commit the bans sometimes only."""
        position = f"p{second}"
        offence = Offence(second * SECOND, position, parse_network(address), "root", jail, "failed", position)
        bans = self.jails[jail].consider(offence)
        bans += [item for ban in bans if (item := self.recidive.judge(ban))]
        if bans and second % 2:
            self.history.commit(bans=bans)
        return bans


def test_a_known_one_is_banned_sooner_and_for_longer(history: History) -> None:
    court = Court(history, Growth())
    second = 0
    needed: list[int] = []
    lengths: list[int | None] = []
    for _ in range(6):
        for number in range(1, 9):
            second += 1
            if bans := court.fails(second):
                needed.append(number)
                lengths.append(bans[0].bantime)
                second += (bans[0].bantime or 0) + 1
                break
    # 3 of 3; 2 that count twice; 1 that counts three times, and no more than that
    assert needed == [3, 2, 1, 1, 1, 1]
    assert lengths == [HOUR * 2**n for n in range(6)]


def test_without_growth_all_bans_are_alike(history: History) -> None:
    court = Court(history, None)
    found = [ban for start in (0, 2 * HOUR, 4 * HOUR) for n in range(3) for ban in court.fails(start + n)]
    sshd = [ban for ban in found if ban.jail == "sshd"]
    assert [(ban.bantime, ban.failures, ban.earlier) for ban in sshd] == [(HOUR, 3, 0)] * 3


def test_permanent_stays_permanent(history: History) -> None:
    court = Court(history, Growth(rndtime=100), bantime=None)
    (ban,) = [ban for n in range(3) for ban in court.fails(n)]
    assert (ban.end, ban.earlier) == (None, 0)


def test_each_ban_says_how_many_came_before(history: History) -> None:
    court = Court(history, Growth(overalljails=True))
    bans = [ban for jail in ("sshd", "web") for n in range(3) for ban in court.fails(n + HOUR * (jail == "web"), jail)]
    assert [(ban.jail, ban.earlier, ban.bantime) for ban in bans] == [("sshd", 0, HOUR), ("web", 1, 2 * HOUR)]
    # its failures weigh as much as anybody's: as in fail2ban that is for the jail that knows it
    assert [ban.failures for ban in bans] == [3, 3]


def test_reading_it_again_decides_the_same(history: History) -> None:
    """An entry is judged by what came before it, so a ban is not its own predecessor, nor are later ones."""
    growth = Growth(rndtime=HOUR)
    court = Court(history, growth)
    seconds = [start + n for start in (0, 4 * HOUR, 9 * HOUR) for n in range(3)]
    first = [ban for second in seconds for ban in court.fails(second)]
    assert len(first) >= 3
    history.commit(bans=first)
    again = Court(history, growth)
    assert [ban for second in seconds for ban in again.fails(second)] == first


def test_recidive(history: History) -> None:
    court = Court(history, None)
    steps = [
        (start * 2 * HOUR + n, jail) for start, jail in enumerate(("sshd", "web", "sshd", "sshd")) for n in range(3)
    ]
    found = [court.fails(*step) for step in steps]
    assert [[ban.jail for ban in bans] for bans in found if bans] == [
        ["sshd"],
        ["web"],
        ["sshd", "recidive"],  # by one entry
        ["sshd"],  # whoever is shut out is not shut out once more
    ]
    last, shut_out = found[8]
    assert (shut_out.position, shut_out.start, shut_out.bantime) == (last.position, last.start, 9 * WEEK)
    assert (shut_out.failures, shut_out.filter, shut_out.pattern, shut_out.user) == (3, BANS.name, "sshd", "root")
    assert court.recidive.failures == 3
    assert court.recidive.counted(parse_network(ADDRESS), shut_out.start - 1) == 2
    assert court.recidive.counted(parse_network(ADDRESS), shut_out.start + 1) == 0


def test_recidive_knows_what_was_before_it_was_enabled(history: History) -> None:
    former = Court(history, None)
    history.commit(bans=[ban for start in (0, 2 * HOUR) for n in range(3) for ban in former.fails(start + n)])
    court = Court(history, None)
    assert [ban.jail for n in range(3) for ban in court.fails(4 * HOUR + n)] == ["sshd", "recidive"]


@pytest.mark.parametrize("credible", [True, False])
def test_recidive_believes_credible_jails_alone(history: History, *, credible: bool) -> None:
    court = Court(history, None, credible=credible)
    found = [ban.jail for start in range(3) for n in range(3) for ban in court.fails(start * 2 * HOUR + n)]
    assert found.count("sshd") == 3
    assert ("recidive" in found) is credible


def test_recidive_bans_nobody_whom_it_must_not(history: History) -> None:
    court = Court(history, None)
    court.recidive.never = Never([parse_network(ADDRESS)])
    found = [ban.jail for start in range(3) for n in range(3) for ban in court.fails(start * 2 * HOUR + n)]
    assert (found, court.recidive.ignored) == (["sshd"] * 3, 3)


def test_recidive_counts_a_64_as_one_and_each_network_by_itself(history: History) -> None:
    court = Court(history, None)
    found: list[Ban] = []
    for start in range(3):
        for n in range(3):
            found += court.fails(start * 2 * HOUR + n, address=f"2001:db8::{start}{n}")
    assert [(ban.jail, str(ban.address)) for ban in found][-1] == ("recidive", "2001:db8::/64")
    others = [
        ban.jail
        for start, address in enumerate(("192.0.2.0/24", "192.0.2.1", "192.0.2.2"))
        for n in range(3)
        for ban in court.fails(start * 2 * HOUR + n, address=address)
    ]
    assert others == ["sshd"] * 3


def test_recidive_counts_no_more_than_findtime(history: History) -> None:
    court = Court(history, None)
    days = (0, 2, 4)
    assert "recidive" not in [ban.jail for day in days for n in range(3) for ban in court.fails(day * DAY + n)]


def again(court: Court, second: int) -> tuple[int, Ban]:
    """Fail until that leads to a ban by sshd; give after how many failures, and the ban."""
    for number in range(1, 9):
        for ban in court.fails(second + number):
            if ban.jail == "sshd":
                return number, ban
    raise AssertionError


@pytest.mark.parametrize("everybody", [True, False])
def test_who_was_forgotten_begins_anew(history: History, *, everybody: bool) -> None:
    other = parse_network("192.0.2.2")
    court = Court(history, Growth())
    history.commit(bans=[ban for start in (0, 5 * HOUR) for n in range(3) for ban in court.fails(start + n)])
    history.commit(bans=[ban for n in range(3) for ban in court.fails(n, address=str(other))])
    court.record.saved()
    assert court.record.earlier(parse_network(ADDRESS), "sshd", DAY * SECOND, None) == 2
    assert court.recidive.total(DAY * SECOND) == 3
    if everybody:
        assert history.forgive(history.rows(0, 100)) == 3
    else:
        assert history.forgive(addresses=[parse_network(ADDRESS)]) == 2
    # neither for how long, nor how soon, nor for recidive
    assert court.recidive.counted(parse_network(ADDRESS), DAY * SECOND) == 0
    assert court.recidive.counted(other, DAY * SECOND) == (0 if everybody else 1)
    assert court.recidive.total(DAY * SECOND) == (0 if everybody else 1)
    number, ban = again(court, DAY)
    assert (number, ban.bantime, ban.earlier) == (3, HOUR, 0)
    assert court.record.earlier(other, "sshd", DAY * SECOND, None) == (0 if everybody else 1)
    # and from then on it counts as ever
    number, ban = again(court, DAY + 3 * HOUR)
    assert (number, ban.bantime, ban.earlier) == (2, 2 * HOUR, 1)


def test_what_an_admin_lifted_is_no_part_of_the_total(history: History) -> None:
    court = Court(history, Growth())
    history.commit(bans=[ban for n in range(3) for ban in court.fails(n)])
    assert court.recidive.total(HOUR * SECOND) == 1
    history.commit(lifted=[Lifted("sshd", parse_network(ADDRESS), 60 * SECOND, "admin")])
    assert court.recidive.total(HOUR * SECOND) == 0
