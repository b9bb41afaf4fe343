# SPDX-License-Identifier: LGPL-2.1-or-later
"""A flood of addresses that fail once each: what is remembered stays bounded, and who does more is banned."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import pytest
from structlog.testing import capture_logs

from banagent.config import load
from banagent.core.bans import Bans
from banagent.core.events import JOURNAL, SECOND, Entry
from banagent.core.never import Host
from banagent.enforce import Enforcer
from banagent.pipeline import QUIET, UNSAVED, Pipeline
from banagent.sinks.history import History
from banagent.sinks.trail import Trail
from banagent.sources.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from banagent.config import Config

BEGIN: Final = 1_700_000_000 * SECOND
CONFIG: Final = "[jails.sshd]\nenabled = true\nremember = 1000\n"
SUBJECT: Final = "memory of jail sshd"
PATIENT: Final = "203.0.113.9"  # fails four times, and once again after the flood


class Clock:
    """The agent's clock."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> int:
        return self.now


@cache
def configured(text: str) -> Config:
    """Give the configuration that a file makes, over the package's."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "banagent.toml"
        file.write_text(text)
        return load(config=file, root=Path(folder))


@contextmanager
def running(folder: Path, clock: Clock, config: str = CONFIG) -> Generator[tuple[Pipeline, Enforcer]]:
    """Run an agent on the state in a folder, without its loop and the kernel; in the end it is killed."""
    history = History(folder / "history.db")
    enforcer = Enforcer(Bans(), history, clock, dry=True)
    host, chosen = Host(), frozenset({JOURNAL})
    with closing(enforcer), capture_logs():
        yield (
            Pipeline(configured(config), host, history, enforcer, choose=lambda _: chosen, trail=Trail(None)),
            enforcer,
        )


def fail(pipeline: Pipeline, addresses: Iterable[str], second: float) -> None:
    """Let addresses fail, one after the other within a second, in batches as sources give them."""
    sift = pipeline.sift()
    begin = BEGIN + int(second * SECOND)
    entries = [
        Entry(
            begin + number,
            b"Failed password for root from %s port 4000 ssh2" % address.encode(),
            f"{begin + number}",
            0,
            "ssh.service",
            None,
            begin + number,
        )
        for number, address in enumerate(addresses)
    ]
    for first in range(0, len(entries), 500):
        some = [(entry, sift(entry.message)) for entry in entries[first : first + 500]]
        pipeline.handle(Batch(some, len(some), some[-1][0].position, some[-1][0].time, all_read=False))


def strangers(count: int, begin: int = 0) -> Iterable[str]:
    """Give addresses of as many networks."""
    return (f"{10 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.7" for number in range(begin, begin + count))


def bans(folder: Path) -> list[str]:
    with closing(History(folder / "history.db")) as history:
        return [str(record.ban.address) for record in history.records()]


def test_who_is_about_to_be_banned_is_banned_after_the_flood(tmp_path: Path) -> None:
    with running(tmp_path, Clock()) as (pipeline, _):
        fail(pipeline, [PATIENT] * 4, 0)
        fail(pipeline, strangers(5000), 60)
        jail = pipeline.jail("sshd")
        assert jail is not None
        assert len(jail.window) <= 1000
        fail(pipeline, [PATIENT], 120)
    assert bans(tmp_path) == [PATIENT]


@pytest.mark.parametrize("part", [500, 1500])
def test_an_agent_that_is_killed_during_the_flood_decides_the_same(tmp_path: Path, part: int) -> None:
    """Who is remembered is told by his second failure, which leads to a ban here."""
    config = CONFIG + "maxretry = 2\nnetworks.addresses = 0\n"
    found: list[list[str]] = []
    for is_killed in (False, True):
        folder = tmp_path / str(is_killed)
        folder.mkdir()
        with ExitStack() as stack:
            pipeline, _ = stack.enter_context(running(folder, Clock(), config))
            for number, begin in enumerate(range(0, 4 * 1500, part)):
                fail(pipeline, strangers(part, begin), 60 * number)
                pipeline.save()
                if is_killed:
                    stack.close()
                    pipeline, _ = stack.enter_context(running(folder, Clock(), config))
            fail(pipeline, reversed([*strangers(4 * 1500)]), 3000)
        found.append(bans(folder))
    assert found[0] == found[1]
    assert 800 < len(found[0]) <= 1000


def test_it_is_said_while_it_lasts_and_an_hour_longer(tmp_path: Path) -> None:
    clock = Clock()
    with running(tmp_path, clock) as (pipeline, enforcer):
        fail(pipeline, strangers(1000), 0)
        pipeline.save()
        assert SUBJECT not in enforcer.troubles
        fail(pipeline, strangers(1, 1000), 1)
        pipeline.save()
        assert enforcer.troubles[SUBJECT].text == (
            "1,000 addresses are remembered, the most that may be (remember):"
            " the stalest with the fewest failures are forgotten"
        )
        clock.now += QUIET
        pipeline.save()
        assert SUBJECT in enforcer.troubles
        clock.now += 1
        pipeline.save()
        assert SUBJECT not in enforcer.troubles
        told = [event.kind for event in enforcer.events.since(1)]
    assert [kind for kind in told if kind != "attack"] == ["trouble", "recovered"]


def test_a_flood_is_saved_in_parts(tmp_path: Path) -> None:
    with running(tmp_path, Clock(), "[jails.sshd]\nenabled = true\nnetworks.addresses = 0\n") as (pipeline, _):
        jail = pipeline.jail("sshd")
        assert jail is not None
        fail(pipeline, strangers(UNSAVED), 0)
        assert jail.unsaved == UNSAVED
        fail(pipeline, strangers(500, UNSAVED), 1)
        assert jail.unsaved == 0
    with running(tmp_path, Clock()) as (pipeline, _):
        position = pipeline.position()
        assert position is not None
        assert position.time == BEGIN + SECOND + 499
