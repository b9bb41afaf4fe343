# SPDX-License-Identifier: LGPL-2.1-or-later
"""`unban --offline`: on the real kernel and a real history, with an agent that is gone, hangs, or is well."""

from __future__ import annotations

import os
import socket as sockets
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from banagent.core.address import parse_network
from banagent.core.bans import Bans
from banagent.core.events import SECOND, Ban
from banagent.enforce import Enforcer, Progress
from banagent.sinks.history import History
from banagent.sinks.nft import Firewall
from banagent.verbs import offline
from bed.netns import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verbs.answering import Answering
    from verbs.conftest import Prompt, Said

pytestmark = pytest.mark.kernel

JAILS = {"manual": None, "sshd": ((22, 22),)}
HOUR = 3600 * SECOND
OWNER = 65534
BANS = [
    ("sshd", "192.0.2.1", HOUR),
    ("manual", "192.0.2.1", 2 * HOUR),
    ("sshd", "192.0.2.2", HOUR),
    ("sshd", "2001:db8:1:2::/64", None),
    ("manual", "198.51.100.0/24", HOUR),
]
ALL = {(jail, address) for jail, address, _ in BANS}


def now() -> int:
    return time.time_ns() // 1000


class Bed:
    """What an agent that was killed has left: its bans in the kernel and in the history."""

    def __init__(self, namespace: Namespace, history: Path, prompt: Prompt) -> None:
        self.namespace = namespace
        self.history = history
        self.prompt = prompt
        begin = now()
        with capture_logs(), self.namespace.entered(), self._agent() as agent:
            agent.restore(JAILS)
            agent.enforce([_ban(jail, address, begin, length) for jail, address, length in BANS], Progress({}, {}))
        for file in history.parent.glob("history.db*"):
            os.chown(file, OWNER, OWNER)

    def unban(self, *words: str) -> Said:
        with self.namespace.entered():
            return self.prompt("unban", "--offline", *words)

    def in_kernel(self) -> set[tuple[str, str]]:
        with self.namespace.entered():
            firewall = Firewall({})
            firewall.open()
        with closing(firewall):
            return {(item.jail, str(item.address)) for item in firewall.read(now())}

    def after_a_start(self) -> set[tuple[str, str]]:
        """Start an agent, and give what stands then."""
        with capture_logs(), self.namespace.entered(), self._agent() as agent:
            agent.recall(now())
            agent.restore(JAILS)
            agent.settle()
        return self.in_kernel()

    def _agent(self) -> closing[Enforcer]:
        return closing(Enforcer(Bans(), History(self.history), now, dry=False))


def _ban(jail: str, address: str, start: int, length: int | None) -> Ban:
    return Ban(
        jail=jail,
        address=parse_network(address),
        position=f"{jail} {address}",
        start=start,
        end=None if length is None else start + length,
        failures=5,
        user=None,
        filter="sshd",
        pattern="password",
    )


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch, prompt: Prompt) -> Iterator[Bed]:
    with TemporaryDirectory() as folder, closing(Namespace()) as namespace:
        Path(folder).chmod(0o755)  # the history's owner has to come there
        state = Path(folder) / "banagent"
        state.mkdir()
        os.chown(state, OWNER, OWNER)
        monkeypatch.setattr(offline, "HISTORY", state / "history.db")
        yield Bed(namespace, offline.HISTORY, prompt)


@pytest.mark.parametrize(
    ("words", "lifted"),
    [
        (("192.0.2.1",), {("sshd", "192.0.2.1"), ("manual", "192.0.2.1")}),
        (("192.0.2.1", "--jail", "sshd"), {("sshd", "192.0.2.1")}),
        (("2001:db8:1:2::77",), {("sshd", "2001:db8:1:2::/64")}),
        (("198.51.100.0/24", "192.0.2.2"), {("manual", "198.51.100.0/24"), ("sshd", "192.0.2.2")}),
        (("--jail", "manual"), {("manual", "192.0.2.1"), ("manual", "198.51.100.0/24")}),
        (("--all",), ALL),
    ],
)
def test_lifted_and_not_put_back(bed: Bed, words: tuple[str, ...], lifted: set[tuple[str, str]]) -> None:
    said = bed.unban(*words)
    bans = f"{len(lifted)} ban{'s' if len(lifted) > 1 else ''}"
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[0] == f"{bans} lifted in the kernel"
    assert said.out.splitlines()[1].startswith(f"{bans} marked as lifted in the history")
    assert bed.in_kernel() == ALL - lifted
    assert bed.after_a_start() == ALL - lifted


def test_nothing_of_the_kind(bed: Bed) -> None:
    assert bed.unban("203.0.113.1").status == 1
    assert bed.in_kernel() == ALL


def test_what_the_kernel_has_lost(bed: Bed) -> None:
    """After a reboot the history alone knows the bans: an agent would put them back."""
    bed.namespace.run("nft", "flush", "ruleset")
    said = bed.unban("192.0.2.1")
    assert said.status == 0
    assert said.out.startswith("0 bans lifted in the kernel\n2 bans marked as lifted")
    assert bed.after_a_start() == {key for key in ALL if key[1] != "192.0.2.1"}


def test_what_the_history_does_not_know(bed: Bed) -> None:
    bed.history.unlink()
    said = bed.unban("--all")
    assert said.status == 0
    assert "there is no history" in said.out
    assert bed.in_kernel() == set()
    assert not bed.history.exists()


def test_what_is_not_yet_in_the_history(bed: Bed) -> None:
    """The agent hung between the kernel and the history: at its start it reads the entries again."""
    with closing(sqlite3.connect(bed.history)) as db, db:
        db.execute("DELETE FROM bans WHERE jail = 'sshd'")
    said = bed.unban("192.0.2.1")
    assert said.out.splitlines() == [
        "2 bans lifted in the kernel",
        "1 ban marked as lifted in the history, for the next start of the agent",
        "1 ban not in the history; the entries that led to it may lead to it again",
    ]


@pytest.mark.parametrize("content", [None, b"no database at all, but long enough to be taken for one" * 100])
def test_files_stay_the_agents(bed: Bed, content: bytes | None) -> None:
    if content is not None:
        for file in bed.history.parent.iterdir():
            file.unlink()
        bed.history.write_bytes(content)
        os.chown(bed.history, OWNER, OWNER)
    bed.unban("192.0.2.1")
    assert {file.stat().st_uid for file in bed.history.parent.iterdir()} == {OWNER}
    assert os.geteuid() == os.getegid() == 0


def test_an_agent_that_is_well(bed: Bed, agent: Answering) -> None:
    said = bed.unban("192.0.2.1")
    assert (said.status, said.out) == (1, "")
    assert said.err == "banagent: the agent is well and would put the bans back; leave out --offline\n"
    assert agent.asked("Status")
    assert bed.in_kernel() == ALL


def test_an_agent_that_hangs(bed: Bed, socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "_PATIENCE", 0.1)
    with sockets.socket(sockets.AF_UNIX) as listening:
        listening.bind(str(socket))
        listening.listen()
        said = bed.unban("192.0.2.1")
    assert said.status == 0
    assert said.out.splitlines()[-1] == "to end it and start it anew: systemctl kill --signal=KILL banagent"
    assert bed.in_kernel() == {key for key in ALL if key[1] != "192.0.2.1"}


def test_only_root(bed: Bed) -> None:
    os.seteuid(OWNER)
    try:
        said = bed.prompt("unban", "--offline", "192.0.2.1")
    finally:
        os.seteuid(0)
    assert (said.status, said.out) == (4, "")
    assert bed.in_kernel() == ALL
