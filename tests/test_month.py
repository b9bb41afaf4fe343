# SPDX-License-Identifier: LGPL-2.1-or-later
"""A month of attacks, judged under the two worked examples of banagent.toml(5), in the entries' own time.

`PYTHONPATH=agent:tests .venv/bin/python tests/test_month.py` prints who was banned when, for how long and why.
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
import structlog

from banagent.config import load
from banagent.core import duration
from banagent.core.bans import Bans
from banagent.core.duration import DAY, HOUR, MINUTE, WEEK
from banagent.core.events import JOURNAL, SECOND, Ban, Entry
from banagent.core.never import Host
from banagent.enforce import Enforcer
from banagent.pipeline import Pipeline
from banagent.sinks.history import History
from banagent.sinks.trail import Trail
from banagent.sources.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = Path(__file__).parents[1] / "man/banagent.toml.5"
BEGIN: Final = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
MONTH: Final = 31 * DAY
EXIM: Final = 101  # a uid
GROWING, PLAIN = "overalljails", "increment = false"  # words in the two examples

# who comes, and what becomes of them
ALWAYS = "203.0.113.5"  # tries at sshd every minute, all month
EVERYWHERE = "203.0.113.9"  # on the 3rd tries at sshd, Dovecot and ProFTPD all day
SLOW = "198.51.100.20"  # a try every eleven minutes
ROTATING = "2001:db8:bad:7::/64"  # another address of its network each time
HUMAN = "192.0.2.50"  # mistypes twice each morning, then knows the password
SPAMMER = "203.0.113.77"  # one relay attempt at Exim on each 7th day
LATE = "203.0.113.30"  # on the 1st, the 2nd and the 30th


class Line(NamedTuple):
    """A line that a service writes."""

    second: int  # of the month
    unit: str
    uid: int
    text: str


def sshd(second: int, address: str, user: str = "root") -> Line:
    return Line(second, "ssh", 0, f"Failed password for {user} from {address} port 4000 ssh2")


def dovecot(second: int, address: str) -> Line:
    session = "session=<6wzJvinOOLisEQAB>"
    what = "imap-login: Disconnected: Connection closed (auth failed, 1 attempts in 2 secs)"
    return Line(second, "dovecot", 0, f"{what}: user=<bob>, method=PLAIN, rip={address}, lip=192.0.2.9, TLS, {session}")


def proftpd(second: int, address: str) -> Line:
    text = f"192.0.2.9 ({address}[{address}]) - USER bob (Login failed): Incorrect password"
    return Line(second, "proftpd", 0, text)


def exim(second: int, address: str) -> Line:
    what = f"dovecot_login authenticator failed for (User) [{address}]:55379: 535 Incorrect authentication data"
    return Line(second, "exim4", EXIM, f"{what} (set_id=info)")


def lines() -> Iterator[Line]:
    """Give a month of attacks, in no order."""
    yield from (sshd(second, ALWAYS) for second in range(17, MONTH, MINUTE))
    services = (sshd, dovecot, proftpd)
    yield from (services[second // 30 % 3](second, EVERYWHERE) for second in range(2 * DAY, 3 * DAY, 30))
    yield from (sshd(second, SLOW) for second in range(0, MONTH, 11 * MINUTE))
    for number, second in enumerate(range(5 * DAY, 6 * DAY, 90)):
        yield sshd(second, f"2001:db8:bad:7::{number:x}", "admin")
    for day in range(31):
        yield from (sshd(day * DAY + 8 * HOUR + second, HUMAN, "alice") for second in (0, 20))
    yield from (exim(day * DAY + 3 * HOUR, SPAMMER) for day in range(0, 31, 7))
    for day in (0, 1, 29):
        yield from (sshd(day * DAY + 5 * HOUR + second, LATE) for second in range(5))


def example(words: str) -> str:
    """Give the example of the page that has these words."""
    found: list[str] = re.findall(r"^\.Bd -literal.*\n((?:.*\n)*?)\.Ed$", PAGE.read_text(), re.MULTILINE)
    (text,) = (text.replace("\\-", "-") for text in found if words in text)
    return text


@cache
def judged(words: str) -> tuple[Ban, ...]:
    """Give the bans that the example with these words leads to."""
    with tempfile.TemporaryDirectory() as folder:
        admin = Path(folder) / "banagent.toml"
        admin.write_text(example(words))
        config = load(config=admin, root=Path(folder))
    # Exim's user may be unknown to this machine
    jails = [replace(jail, filter=replace(jail.filter, uids=(0, EXIM))) for jail in config.jails if jail.name == "exim"]
    config = replace(config, jails=(*jails, *(jail for jail in config.jails if jail.name != "exim")))
    history = History(None)
    enforcer = Enforcer(Bans(), history, lambda: (BEGIN + MONTH) * SECOND, dry=True)
    pipeline = Pipeline(config, Host(), history, enforcer, choose=lambda _: frozenset({JOURNAL}), trail=Trail(None))
    sift = pipeline.sift()
    entries = [
        Entry(
            (BEGIN + line.second) * SECOND,
            line.text.encode(),
            f"p{number}",
            line.uid,
            f"{line.unit}.service",
            None,
            number,  # each of a process of its own
        )
        for number, line in enumerate(sorted(lines()))
    ]
    for first in range(0, len(entries), 500):
        some = [(entry, sift(entry.message)) for entry in entries[first : first + 500]]
        pipeline.handle(Batch(some, len(some), some[-1][0].position, some[-1][0].time, all_read=False))
    bans = tuple(record.ban for record in history.records())[::-1]
    enforcer.close()
    return bans


def of(words: str, address: str, jail: str | None = None) -> list[Ban]:
    return [ban for ban in judged(words) if str(ban.address) == address and jail in (None, ban.jail)]


def lengths(bans: list[Ban]) -> list[int]:
    return [ban.bantime or 0 for ban in bans]


# --- three hours, growing, and recidive ---


def test_whoever_never_stops_is_banned_for_longer_and_longer() -> None:
    bans = of(GROWING, ALWAYS)
    plain = [3 * HOUR * 2**earlier * (2 if earlier else 1) for earlier in range(len(bans))]
    assert [ban.earlier for ban in bans] == list(range(len(bans)))
    assert len(bans) == 7
    for ban, length in zip(bans, plain, strict=True):
        assert ban.bantime is not None
        assert 0 <= ban.bantime - length <= (30 * MINUTE if ban.earlier else 0)
    # nobody knows when it ends
    assert len({length - expected for length, expected in zip(lengths(bans), plain, strict=True)}) > 3
    # a known one is banned sooner: after 5 failures, then 3, 2, and the first
    gaps = [(later.start - (ban.end or 0)) // SECOND for ban, later in pairwise(bans)]
    assert [gap // MINUTE for gap in gaps] == [2, 1, 0, 0, 0, 0]


def test_bans_by_several_jails_count_for_each_other_and_lead_to_recidive() -> None:
    bans = of(GROWING, EVERYWHERE)
    assert {ban.jail for ban in bans} == {"sshd", "dovecot", "proftpd", "recidive"}
    others = [ban for ban in bans if ban.jail != "recidive"]
    # the bans of one jail make those of the other longer
    assert [ban.earlier for ban in others] == list(range(len(others)))
    (shut_out,) = [ban for ban in bans if ban.jail == "recidive"]
    assert (shut_out.bantime, shut_out.failures, shut_out.earlier) == (9 * WEEK, 5, 0)
    fifth = others[4]
    assert (shut_out.start, shut_out.position, shut_out.pattern) == (fifth.start, fifth.position, fifth.jail)


def test_a_slow_one_and_a_human_are_not_banned() -> None:
    assert of(GROWING, SLOW) == of(PLAIN, SLOW) == of(GROWING, HUMAN) == of(PLAIN, HUMAN) == []


def test_a_network_of_ipv6_is_one_offender() -> None:
    # every 90 seconds: five failures take 6 minutes; two known ones count for three
    assert [ban.earlier for ban in of(GROWING, ROTATING)] == [0, 1, 2]
    assert len(of(PLAIN, ROTATING)) > 10


def test_a_ban_of_the_first_day_still_counts_on_the_30th() -> None:
    bans = of(GROWING, LATE)
    assert [ban.earlier for ban in bans] == [0, 1, 2]
    # five failures were needed once, then three, then two
    assert [ban.failures for ban in bans] == [5, 6, 6]
    assert [(ban.start // SECOND - BEGIN) % MINUTE for ban in bans] == [4, 2, 1]


def test_others_than_those_in_the_list_are_not_banned() -> None:
    assert {str(ban.address) for ban in judged(GROWING)} == {ALWAYS, EVERYWHERE, ROTATING, LATE}
    assert {str(ban.address) for ban in judged(PLAIN)} == {ALWAYS, EVERYWHERE, ROTATING, LATE, SPAMMER}


# --- an hour, without growth ---


def test_each_ban_is_as_long_as_the_first() -> None:
    assert {(ban.bantime, ban.earlier) for ban in judged(PLAIN)} == {(HOUR, 0)}
    assert all(ban.failures == 3 for ban in judged(PLAIN) if ban.jail == "sshd")
    always = of(PLAIN, ALWAYS)
    # an hour, and two minutes until there are three failures again
    assert {(later.start - ban.start) // SECOND for ban, later in pairwise(always)} == {62 * MINUTE}


def test_exim_bans_at_once() -> None:
    bans = of(PLAIN, SPAMMER)
    assert [(ban.start // SECOND - BEGIN) // DAY for ban in bans] == [0, 7, 14, 21, 28]
    assert {(ban.jail, ban.failures, ban.bantime) for ban in bans} == {("exim", 1, HOUR)}


@pytest.mark.parametrize("words", [GROWING, PLAIN])
def test_all_of_it_is_in_the_entries_own_time(words: str) -> None:
    bans = judged(words)
    assert all(BEGIN * SECOND <= ban.start < (BEGIN + MONTH) * SECOND for ban in bans)
    assert [ban.start for ban in bans] == sorted(ban.start for ban in bans)


def table(words: str) -> Iterator[str]:
    """Give who was banned when, for how long and why."""
    yield f"{'when':14} {'who':20} {'jail':9} {'how long':13} why"
    bans = judged(words)
    shown = [ban for ban in bans if len(of(words, str(ban.address))) < 20 or ban in of(words, str(ban.address))[:3]]
    for ban in shown:
        when = datetime.fromtimestamp(ban.start / SECOND, UTC).strftime("%b %d %H:%M:%S")
        what = "bans, the last by" if ban.jail == "recidive" else "failures,"
        why = f"{ban.failures} {what} {ban.pattern}; {ban.earlier} earlier bans"
        yield f"{when:14} {ban.address!s:20} {ban.jail:9} {duration.format(ban.bantime):13} {why}"
    for address in dict.fromkeys(str(ban.address) for ban in bans):
        if left := sum(str(ban.address) == address for ban in bans) - sum(str(ban.address) == address for ban in shown):
            yield f"… and {left} more like it of {address}"


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    for example_words in (GROWING, PLAIN):
        sys.stdout.write("\n".join((example(example_words), *table(example_words), "", "")))
