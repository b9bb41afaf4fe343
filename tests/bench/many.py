# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many bans: what one costs, how soon all stand after a start, and what they hold of memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from banagent.core.address import parse_address
from banagent.core.bans import Standing
from banagent.core.events import SECOND, Ban
from banagent.sinks.history import History, Position
from banagent.sinks.nft import Firewall
from banagent.sources.journal import Journal
from bed.netns import Namespace
from bench import traffic
from bench.agent import Agent, Memory
from bench.decide import vendor_jails
from bench.figures import Figure, Goal, median, percentile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUNDS: Final = 3
SINGLE_BANS: Final = 2000
DAY: Final = 24 * 3600 * SECOND
JOURNAL: Final = "journal"  # the source's name in the checkpoint


def one_ban(scratch: Path) -> Iterator[Figure]:
    """Measure single bans: the kernel's part, and then what the history adds."""
    namespace = Namespace()
    try:
        with namespace.entered():
            firewall = Firewall({"sshd": ((22, 22),)})
            firewall.open()
        history = History(scratch / "one.db")
        firewall.restore([], _now())
        kernel: list[float] = []
        commit: list[float] = []
        for number in range(SINGLE_BANS):
            ban = _ban(number, _now())
            standing = Standing(ban.jail, ban.address, ban.end)
            before = time.perf_counter_ns()
            firewall.ban([standing], ban.start)
            between = time.perf_counter_ns()
            history.commit(bans=[ban], positions={JOURNAL: Position(ban.position, ban.start)})
            kernel.append((between - before) / 1000)
            commit.append((time.perf_counter_ns() - between) / 1000)
        history.close()
        firewall.close()
    finally:
        namespace.close()
    yield Figure("one ban in the kernel: p50", percentile(kernel, 0.5), "µs", Goal(150))
    yield Figure("  p99", percentile(kernel, 0.99), "µs")
    yield Figure("  its commit in the history: p50", percentile(commit, 0.5), "µs")


def starts(scratch: Path, bans: int) -> Iterator[Figure]:
    """Measure from exec to READY with many bans: after a boot, and with the bans still in the kernel."""
    journal = scratch / "short"
    traffic.write(journal, traffic.single_failures(), 100, start=_now() - 60 * SECOND, span=50)
    end = _end(journal)
    booted: list[float] = []
    restarted: list[float] = []
    held: list[Memory] = []
    for number in range(ROUNDS):
        state = scratch / f"bans-{number}"
        state.mkdir()
        _remember(state / "history.db", bans, end)
        namespace = Namespace()
        try:
            with Agent(namespace, journal, state) as agent:
                booted.append(agent.seconds_to_ready)
            with Agent(namespace, journal, state) as agent:
                restarted.append(agent.seconds_to_ready)
                agent.wait_until_live()
                held.append(agent.memory())
        finally:
            namespace.close()
    what = f"{bans:,} bans, from exec to READY"
    yield Figure(f"{what}: after a boot", median(booted), "s", Goal(1, 0.6))
    yield Figure("  restarted, the bans in the kernel", median(restarted), "s", Goal(1, 0.6))
    yield Figure(f"memory with {bans:,} bans: RssAnon", median(memory.anonymous for memory in held), "MB")
    yield Figure("  RSS", median(memory.resident for memory in held), "MB")


def attacked(journal: Path, scratch: Path, entries: int) -> Iterator[Figure]:
    """Measure the whole daemon catching up on attack traffic: reading, bans, commits and its log."""
    namespace = Namespace()
    try:
        with Agent(namespace, journal, scratch / "attacked") as agent:
            before = agent.use()
            agent.wait_until_live()
            cpu = agent.use().cpu - before.cpu
            memory = agent.memory()
    finally:
        namespace.close()
    yield Figure(f"the daemon catches up on {entries:,} entries", entries / cpu, "/s")
    yield Figure("  memory afterwards: RssAnon", memory.anonymous, "MB", Goal(25, 16))
    yield Figure("  RSS", memory.resident, "MB")


def _end(journal: Path) -> Position:
    """Give the position of the last entry."""
    reader = Journal([jail.filter for jail in vendor_jails()], journal)
    reader.seek_time(0)
    batch = reader.read(lambda _: ())
    reader.close()
    assert batch.position is not None
    return Position(batch.position, batch.time)


def _remember(path: Path, bans: int, end: Position) -> None:
    """Write a history in which `bans` stand, of an agent that has read all."""
    now = _now()
    history = History(path)
    history.commit(
        bans=(_ban(number, now) for number in range(bans)),
        positions={JOURNAL: end},
        ports={"sshd": "22-22"},
    )
    history.close()


def _ban(number: int, now: int) -> Ban:
    address = parse_address(traffic.address(number))
    return Ban(
        jail="sshd",
        address=address if address.version == 4 else address.widen(64),
        position=f"bench:{number}",
        start=now,
        end=now + DAY,
        failures=5,
        user="root",
        filter="sshd",
        pattern="failed",
    )


def _now() -> int:
    return time.time_ns() // 1000
