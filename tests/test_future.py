# SPDX-License-Identifier: LGPL-2.1-or-later
"""Entries from the future, as of a machine whose clock is wrong or of a user who wrote them: they cost no count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from banagent.config import load
from banagent.core.address import parse_network
from banagent.core.bans import Bans
from banagent.core.events import JOURNAL, SECOND, Entry
from banagent.core.never import Host
from banagent.enforce import Enforcer
from banagent.pipeline import Pipeline
from banagent.sinks.history import History
from banagent.sinks.trail import Trail
from banagent.sources.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOW = 1_800_000_000
YEAR = 365 * 24 * 3600


def fail(pipeline: Pipeline, *entries: tuple[int, str]) -> None:
    """Hand in a failure at each time, in seconds, of an address."""
    sift = pipeline.sift()
    found: list[tuple[Entry, Sequence[int]]] = []
    for number, (second, address) in enumerate(entries):
        line = f"Failed password for root from {address} port {number} ssh2".encode()
        found.append(
            (Entry(second * SECOND, line, f"p{second}.{address}.{number}", 0, "ssh.service", None, number), sift(line))
        )
    last = found[-1][0]
    pipeline.handle(Batch(found, len(found), last.position, last.time, all_read=True))


def test_what_is_counted_stays(tmp_path: Path) -> None:
    history = History(None)
    enforcer = Enforcer(Bans(), history, lambda: NOW * SECOND, dry=True)
    config = load(root=tmp_path)
    pipeline = Pipeline(config, Host(), history, enforcer, choose=lambda _: frozenset({JOURNAL}), trail=Trail(None))
    jail = pipeline.jail("sshd")
    assert jail is not None
    attackers = [f"198.51.{n % 250}.{n}" for n in range(200)]
    for _ in range(4):
        fail(pipeline, *((NOW - 60, address) for address in attackers))
    for _ in range(20):
        fail(pipeline, *((NOW + YEAR, f"203.0.{n}.1") for n in range(100)))
    assert {jail.counted(parse_network(address), NOW * SECOND) for address in attackers} == {4}
    # each bans with the next one
    before = enforcer.decided
    fail(pipeline, *((NOW, address) for address in attackers))
    assert enforcer.decided == before + 200
    enforcer.close()
