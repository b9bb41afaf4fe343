# SPDX-License-Identifier: LGPL-2.1-or-later
"""The agent is killed at any moment of an attack; what it decides in the end is what it would have decided anyway."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

import pytest
import structlog

from banagent.config import Config, load
from banagent.core.bans import Bans
from banagent.core.events import SECOND
from banagent.core.never import Host
from banagent.enforce import Enforcer
from banagent.pipeline import LATE, Pipeline
from banagent.sinks.history import History
from banagent.sinks.nft import Firewall
from banagent.sources.journal import Journal
from bed.journald import make_journal
from bed.netns import Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.kernel

SEEDS: Final = 200
ENTRIES: Final = 600
SPAN: Final = 1200  # seconds that the attack lasts; it ends now, so the last bans stand and the others have ended
CONFIG: Final = "[jails.sshd]\nmaxretry = 3\nfindtime = 120\nbantime = 150\n"
# where it is killed, and the how many-th time at most: each comes more often than that in every run
POINTS: Final = {
    "entry": ENTRIES,
    "before the kernel": 1,
    "after the kernel": 1,
    "before the history": 6,
    "after the history": 6,
}


def attack() -> Iterator[dict[str, Any]]:
    """Give an attack by 25 addresses, several connections at a time, each failing in one of sshd's ways."""
    chance = random.Random(1)
    begin = time.time_ns() // 1000 - SPAN * SECOND
    for number in range(ENTRIES):
        who = chance.randrange(25)
        address = f"2001:db8:{who:x}::{chance.randrange(9)}" if who % 5 == 0 else f"203.0.113.{who}"
        line = chance.choice(
            (
                f"Invalid user admin from {address} port 4000",
                f"Failed password for invalid user admin from {address} port 4000 ssh2",
                f"Failed password for root from {address} port 4000 ssh2",
                f"Connection closed by authenticating user root {address} port 4000 [preauth]",
                "Server listening on 0.0.0.0 port 22.",
                f"message repeated 2 times: [ Failed password for root from {address} port 4000 ssh2]",
            ),
        )
        yield {
            "__REALTIME_TIMESTAMP": begin + number * SPAN * SECOND // ENTRIES,
            "MESSAGE": line,
            "_SYSTEMD_UNIT": "ssh.service",
            "_UID": 0,
            "_PID": 100 + who * 3 + chance.randrange(3),
            "SYSLOG_IDENTIFIER": "sshd",
        }


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_journal(tmp_path_factory.mktemp("attack") / "journal", attack())


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    file = tmp_path_factory.mktemp("config") / "banagent.toml"
    file.write_text(CONFIG)
    return load(config=file)


class Bomb:
    """Kills this process at the nth time that a point is passed."""

    def __init__(self, point: str, number: int) -> None:
        self.point, self.left = point, number

    def __call__(self, point: str) -> None:
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def live(config: Config, state: Path, path: Path, limit: int, passed: Callable[[str], None]) -> None:
    """Be the agent from start to the end of the journal; `passed` is told of each point."""

    def around(owner: Any, name: str, sink: str) -> None:
        act = getattr(owner, name)

        def acting(*args: Any, **more: Any) -> Any:
            passed(f"before the {sink}")
            result = act(*args, **more)
            passed(f"after the {sink}")
            return result

        setattr(owner, name, acting)

    history = History(state / "history.db")
    around(history, "commit", "history")
    enforcer = Enforcer(Bans(), history, lambda: time.time_ns() // 1000, dry=False)
    pipeline = Pipeline(config, Host(), history, enforcer)
    enforcer.recall(pipeline.position.time - LATE if pipeline.position else 0)
    enforcer.restore({name: item.ports for name, item in pipeline.configs.items()})
    around(Firewall, "ban", "kernel")
    enforcer.expire()
    (item,) = pipeline.configs.values()
    reader = Journal([item.filter], path)
    if pipeline.position:
        assert reader.seek(pipeline.position.position)
    else:
        reader.seek_time(0)

    def sift(message: bytes) -> Any:
        passed("entry")
        return pipeline.sift(message)

    chance = random.Random(limit)
    while (batch := reader.read(sift, chance.randrange(1, limit))).read:
        pipeline.handle(batch)
        if chance.random() < 0.2:
            pipeline.save()
    enforcer.settle()
    enforcer.expire()
    pipeline.save()
    reader.close()
    enforcer.close()


def in_child(act: Callable[[], None]) -> int:
    """Run `act` in a process of its own; give the signal that ended it, 0 if none did."""
    pid = os.fork()
    if pid == 0:
        try:
            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
            act()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent tells by the status
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def outcome(state: Path) -> tuple[list[Any], set[Any]]:
    """Give all bans ever decided, and those of them that stand in the kernel."""
    history = History(state / "history.db")
    bans = [record.ban for record in reversed(list(history.records()))]
    history.close()
    firewall = Firewall({})
    firewall.open()
    standing = {(item.jail, item.address) for item in firewall.read(time.time_ns() // 1000)}
    firewall.close()
    return bans, standing


@pytest.fixture(scope="module")
def expected(journal: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Give what an agent decides that nobody kills."""
    state = tmp_path_factory.mktemp("state")
    namespace = Namespace()
    with namespace.entered():
        assert in_child(lambda: live(config, state, journal, 100, lambda _: None)) == 0
        bans, standing = outcome(state)
    namespace.close()
    # the attack has all that can go wrong: enough bans, addresses banned again when their ban was over, standing ones
    assert len(bans) > 30
    assert len({ban.address for ban in bans}) < len(bans)
    assert 0 < len(standing) < len(bans)
    return bans


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(8))
def test_killed_at_any_moment(part: int, journal: Path, config: Config, expected: list[Any], tmp_path: Path) -> None:
    namespace = Namespace()
    with namespace.entered():
        for seed in range(part, SEEDS, 8):
            chance = random.Random(seed)
            state = tmp_path / str(seed)
            state.mkdir()
            namespace.nft("flush ruleset")
            kills = 0
            for _ in range(chance.randrange(1, 4)):
                point = chance.choice(list(POINTS))
                bomb = Bomb(point, chance.randint(1, POINTS[point]))
                limit = chance.randrange(2, 120)
                kills += in_child(lambda: live(config, state, journal, limit, bomb)) == signal.SIGKILL  # noqa: B023 - called at once
            assert in_child(lambda: live(config, state, journal, 100, lambda _: None)) == 0  # noqa: B023
            assert kills
            bans, standing = outcome(state)
            assert bans == expected, f"seed {seed}"
            now = time.time_ns() // 1000
            assert {(ban.jail, ban.address) for ban in bans if ban.end > now + SECOND} <= standing, f"seed {seed}"
            assert standing <= {(ban.jail, ban.address) for ban in bans if ban.end > now - SECOND}, f"seed {seed}"
    namespace.close()
