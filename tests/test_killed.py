# SPDX-License-Identifier: LGPL-2.1-or-later
"""The agent is killed at any moment of an attack; what it decides in the end is what it would have decided anyway."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from shutil import copy
from typing import TYPE_CHECKING, Any, Final

import pytest

from banagent.config import Config, JailConfig, load
from banagent.core.bans import Bans
from banagent.core.events import FILES, JOURNAL, SECOND
from banagent.core.never import Host
from banagent.enforce import Enforcer
from banagent.pipeline import LATE, Pipeline
from banagent.sinks.history import History
from banagent.sinks.nft import Firewall
from banagent.sinks.trail import Trail
from banagent.sources import lines
from banagent.sources.journal import Journal
from banagent.sources.logfile import LogFile
from bed.child import in_child
from bed.journald import make_journal
from bed.netns import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from banagent.sources.batch import Batch

pytestmark = pytest.mark.kernel

SEEDS: Final = 200
ENTRIES: Final = 600
SPAN: Final = 1200  # seconds that the attack lasts; it ends now, so the last bans stand and the others have ended
CONFIG: Final = """
[defaults]
maxretry = 3
findtime = 120
[defaults.bantime]
time = 80
maxtime = 500
rndtime = 40
overalljails = true
forget = 400
[jails.sshd]
enabled = true
guard = { users = ["root"], grace = 60, factor = 3 }
[jails.stubborn]
enabled = true
filter = "sshd"
maxretry = 5
findtime = 300
guard.grace = 10
networks.addresses = 14
[jails.nervous]
enabled = true
filter = "sshd"
maxretry = 1
breaker.bans = 5
[jails.directory]
enabled = true
[jails.shop]
enabled = true
logpath = ["%(logs)s/shop.log", "%(logs)s/other.log"]
[jails.recidive]
enabled = true
findtime = 900
maxretry = 4
bantime = 200
"""
# an address in one line, the user in another, the failure in a third, which may come first
DIRECTORY: Final = r"""
description = "slapd"
units = ["slapd.service"]
identifiers = ["slapd"]
session = "id"
[[link]]
name = "accept"
regex = '^conn=(?P<session>\d+) fd=\d+ ACCEPT from IP=<HOST> '
[[link]]
name = "bind"
regex = '^conn=(?P<session>\d+) op=\d+ BIND dn="(?P<user>[^"]*)"'
[[failregex]]
name = "refused"
regex = '^conn=(?P<session>\d+) op=\d+ RESULT tag=97 err=49 '
"""
SHOP: Final = r"""
description = "a shop with a log file"
identifiers = ["shop"]
logpath = ["/var/log/shop.log"]
[[failregex]]
name = "login"
regex = '^login of (?P<user>\S+) from <HOST> failed$'
"""
JAILS: Final = ("sshd", "stubborn", "nervous", "directory", "shop", "recidive")
# where it is killed, and the how many-th time at most: each comes more often than that in every run
POINTS: Final = {
    "entry": ENTRIES,
    "before the kernel": 1,
    "after the kernel": 1,
    "before the history": 6,
    "after the history": 6,
}


def attack() -> Iterator[dict[str, Any]]:
    """Give an attack by 25 addresses on two services, several connections at a time, each failing in many ways."""
    chance = random.Random(1)
    begin = time.time_ns() // 1000 - SPAN * SECOND
    begin -= begin % (60 * SECOND)  # minutes are counted by the clock
    for number in range(ENTRIES):
        who = chance.randrange(25)
        address = f"2001:db8:{who:x}::{chance.randrange(9)}" if who % 5 == 0 else f"203.0.113.{who}"
        if chance.random() < 0.5:
            unit, pid, line = "ssh", 100 + who * 3 + chance.randrange(3), sshd_line(chance, address)
        else:
            unit, pid, line = "slapd", 99, slapd_line(chance, who, address)
        yield {
            "__REALTIME_TIMESTAMP": begin + number * SPAN * SECOND // ENTRIES,
            "MESSAGE": line,
            "_SYSTEMD_UNIT": f"{unit}.service",
            "_UID": 0,
            "_PID": pid,
            "SYSLOG_IDENTIFIER": {"ssh": "sshd"}.get(unit, unit),
        }


def sshd_line(chance: random.Random, address: str) -> str:
    return chance.choice(
        (
            f"Invalid user admin from {address} port 4000",
            f"Failed password for invalid user admin from {address} port 4000 ssh2",
            f"Failed password for root from {address} port 4000 ssh2",
            f"Connection closed by authenticating user root {address} port 4000 [preauth]",
            "Server listening on 0.0.0.0 port 22.",
            f"Accepted password for root from {address} port 4000 ssh2",
            f"message repeated 2 times: [ Failed password for root from {address} port 4000 ssh2]",
        ),
    )


def slapd_line(chance: random.Random, who: int, address: str) -> str:
    """Give a line of one of two connections of somebody, in no order, so that failures wait for their address."""
    connection = who * 2 + chance.randrange(2)
    peer = f"[{address}]:4000" if ":" in address else f"{address}:4000"
    return chance.choice(
        (
            f"conn={connection} fd=14 ACCEPT from IP={peer} (IP=0.0.0.0:389)",
            f'conn={connection} op=0 BIND dn="cn={who}" method=128',
            f"conn={connection} op=0 RESULT tag=97 err=49 text=",
            f"conn={connection} op=1 RESULT tag=97 err=49 text=",
        ),
    )


def write_files(folder: Path) -> None:
    """Write the shop's two log files; one of them was rotated."""
    chance = random.Random(2)
    folder.mkdir()
    begin = time.time_ns() // 1000 - SPAN * SECOND
    lines: dict[str, list[str]] = {"shop.log.1": [], "shop.log": [], "other.log": []}
    for number in range(ENTRIES):
        stamp = datetime.fromtimestamp((begin + number * SPAN * SECOND // ENTRIES) / SECOND, UTC).isoformat()
        what = chance.choice(("login of root from 198.51.100.%d failed", "login of root from 198.51.100.%d succeeded"))
        where = chance.choice(("shop.log.1" if number < ENTRIES // 2 else "shop.log", "other.log"))
        # each attacker tries at one of the two, so that no ban depends on which is read first
        who = chance.randrange(12) * 2 + (where == "other.log")
        lines[where].append(f"{stamp} host shop[7]: {what % who}\n")
    for name, written in lines.items():
        (folder / name).write_text("".join(written))


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_journal(tmp_path_factory.mktemp("attack") / "journal", attack())


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("config")
    write_files(folder / "logs")
    (folder / "filters").mkdir()
    (folder / "filters" / "directory.toml").write_text(DIRECTORY)
    (folder / "filters" / "shop.toml").write_text(SHOP)
    (folder / "banagent.toml").write_text(CONFIG % {"logs": folder / "logs"})
    return load(config=folder / "banagent.toml", filters=folder / "filters")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a history with the secret from which all runs draw the same random times."""
    path = tmp_path_factory.mktemp("begun") / "history.db"
    History(path).close()
    return path


class Bomb:
    """Kills this process at the nth time that a point is passed."""

    def __init__(self, point: str, number: int) -> None:
        self.point, self.left = point, number

    def __call__(self, point: str) -> None:
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def first_choice(jail: JailConfig) -> frozenset[str]:
    return frozenset({FILES if jail.filter.logpath and jail.name == "shop" else JOURNAL})


Counted = Callable[[Callable[[bytes], Any]], Callable[[bytes], Any]]


class JournalAtHand:
    """The journal, from where the last run left off."""

    def __init__(self, pipeline: Pipeline, path: Path) -> None:
        self._sift = pipeline.sift()
        self._journal = Journal(pipeline.routes.filters(), path)
        position = pipeline.position()
        if position is None:
            self._journal.seek_time(0)
        else:
            assert self._journal.resume(position.position, position.time) is None
        self.close = self._journal.close

    def read(self, counted: Counted, limit: int) -> Batch:
        return self._journal.read(counted(self._sift), limit)


class FileAtHand:
    """A log file, likewise."""

    def __init__(self, pipeline: Pipeline, path: str) -> None:
        self._sift = pipeline.sift(path)
        self._file = LogFile(path)
        position = pipeline.position(path)
        if position is None:
            self._file.seek_time(0, time.time_ns() // 1000)
        else:
            assert self._file.resume(position.position)
        assert not self._file.missed
        self.close = self._file.close

    def read(self, counted: Counted, limit: int) -> Batch:
        lines.CHUNK = 200 * limit  # type: ignore[misc]  # bytes, of lines that have at most 100: several slices
        return self._file.read(counted(self._sift), time.time_ns() // 1000)


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
    pipeline = Pipeline(config, Host(), history, enforcer, choose=first_choice, trail=Trail(None))
    enforcer.recall(pipeline.newest - LATE if pipeline.newest else 0)
    enforcer.restore({name: item.ports for name, item in pipeline.configs.items()})
    around(Firewall, "ban", "kernel")
    enforcer.expire()
    chance = random.Random(limit)
    sources: list[JournalAtHand | FileAtHand] = [JournalAtHand(pipeline, path)]
    sources += (FileAtHand(pipeline, name) for name in pipeline.routes.files())

    def counted(sift: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def counting(message: bytes) -> Any:
            passed("entry")
            return sift(message)

        return counting

    while sources:
        source = chance.choice(sources)
        batch = source.read(counted, chance.randrange(1, limit))
        if not batch.read and batch.all_read:
            source.close()
            sources.remove(source)
        pipeline.handle(batch)
        if chance.random() < 0.2:
            pipeline.save()
    enforcer.settle()
    enforcer.expire()
    pipeline.save()
    enforcer.close()


def judgement(state: Path) -> tuple[Any, Any, set[str]]:
    """Give what a jail's breaker and another's guard know in the end, and who was told to be spared."""
    history = History(state / "history.db")
    spared = {str(event.facts["address"]) for event in history.happened() if event.kind == "spared"}
    known = history.memory("nervous")["breaker"], dict(history.memory("sshd")["guard"]), spared
    history.close()
    return known


def outcome(state: Path) -> tuple[list[Any], set[Any]]:
    """Give all bans ever decided, and those of them that stand in the kernel."""
    history = History(state / "history.db")
    bans = sorted((record.ban for record in history.records()), key=lambda ban: (ban.jail, ban.start, str(ban.address)))
    history.close()
    firewall = Firewall({})
    firewall.open()
    standing = {(item.jail, item.address) for item in firewall.read(time.time_ns() // 1000)}
    firewall.close()
    return bans, standing


@pytest.fixture(scope="module")
def expected(
    journal: Path, config: Config, begun: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Any], tuple[Any, Any, set[str]]]:
    """Give what an agent decides that nobody kills, and what it knows in the end."""
    state = tmp_path_factory.mktemp("state")
    copy(begun, state)
    namespace = Namespace()
    with namespace.entered():
        assert in_child(lambda: live(config, state, journal, 100, lambda _: None)) == 0
        bans, standing = outcome(state)
    namespace.close()
    # the attack has all that can go wrong: enough bans, addresses banned again when their ban was over, standing ones
    assert len(bans) > 30
    assert {jail: sum(ban.jail == jail for ban in bans) > 3 for jail in JAILS} == dict.fromkeys(JAILS, True)
    assert len({ban.address for ban in bans}) < len(bans)
    assert 0 < len(standing) < len(bans)
    # bans that grew, also by chance, and that began anew
    assert {ban.earlier for ban in bans} >= {0, 1, 2, 3}
    assert len({ban.bantime for ban in bans if ban.earlier == 1}) > 5
    # a network that was banned as a whole, one that was not, a breaker that tripped, guards that mattered
    assert "many-addresses" in {ban.pattern for ban in bans}
    assert b'"flood"' in judgement(state)[0][0][1]
    assert len(judgement(state)[2]) > 3
    return bans, judgement(state)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(8))
def test_killed_at_any_moment(
    part: int, *, journal: Path, config: Config, begun: Path, expected: tuple[list[Any], Any], tmp_path: Path
) -> None:
    namespace = Namespace()
    with namespace.entered():
        for seed in range(part, SEEDS, 8):
            chance = random.Random(seed)
            state = tmp_path / str(seed)
            state.mkdir()
            copy(begun, state)
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
            assert judgement(state) == expected[1], f"seed {seed}"
            # each jail's decisions; those of several sources come in any order
            assert bans == expected[0], f"seed {seed}"
            now = time.time_ns() // 1000
            assert {(ban.jail, ban.address) for ban in bans if ban.end > now + SECOND} <= standing, f"seed {seed}"
            assert standing <= {(ban.jail, ban.address) for ban in bans if ban.end > now - SECOND}, f"seed {seed}"
    namespace.close()
