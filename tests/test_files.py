# SPDX-License-Identifier: LGPL-2.1-or-later
"""The agent reads log files: real files, rotated and compressed while it runs, is killed, or is not there."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest

from banagent.control import client
from banagent.core.events import SECOND
from banagent.sinks.history import History
from bed.agent import PATIENCE, running
from bed.journald import service
from bed.netns import ATTACKER, HOST

if TYPE_CHECKING:
    from pathlib import Path

    from bed.agent import Agent
    from bed.journald import Journald, Writer
    from bed.netns import Network

pytestmark = pytest.mark.kernel

SHOP_PORT: Final = 8080
SHOP: Final = r"""
description = "a shop with a log file"
units = ["shop.service"]
identifiers = ["shop"]
logpath = ["/nowhere"]
ports = [8080]
[[failregex]]
name = "login"
regex = '^login of (?P<user>\S+) from <HOST> failed$'
"""


def config(folder: Path, *logpath: str, jails: str = "") -> None:
    """Write a configuration with the jail `shop`, which reads some files."""
    (folder / "filters").mkdir(exist_ok=True)
    (folder / "filters" / "shop.toml").write_text(SHOP)
    paths = ", ".join(f'"{folder / path}"' for path in logpath)
    (folder / "banagent.toml").write_text(
        f"[jails.sshd]\nenabled = false\n[jails.shop]\nenabled = true\nlogpath = [{paths}]\nmaxretry = 3\n{jails}"
    )


def line(address: str, what: str = "failed", at: float | None = None) -> str:
    stamp = datetime.fromtimestamp(time.time() if at is None else at, UTC).isoformat()
    return f"{stamp} host shop[7]: login of root from {address} {what}\n"


def state(folder: Path, jail: str) -> tuple[str, str | None]:
    with client.Agent(str(folder / "org.banagent"), patience=PATIENCE) as agent:
        (found,) = (item for item in agent.call("Jails")["jails"] if item["jail"] == jail)
    return found["state"], found["reason"]


def banned(agent: Agent, address: str) -> None:
    agent.wait_for(rf"banned jail=shop address={address} .*failures=3 user=root filter=shop pattern=login")


def test_a_line_bans_whatever_becomes_of_its_file(tmp_path: Path, journald: Journald, network: Network) -> None:
    log = tmp_path / "shop.log"
    config(tmp_path, "shop.log")
    options = ("--filters", str(tmp_path / "filters"))
    with running(tmp_path, journald, network, *options) as agent:
        agent.told("reading live")
        assert state(tmp_path, "shop") == ("waiting", f"waiting for entries of shop.service, or {log}")
        with log.open("w") as file:
            file.write(line(ATTACKER) * 2)
            file.flush()
            agent.told("2 failures")
            assert state(tmp_path, "shop") == ("active", None)
            with network.host.listening(SHOP_PORT):
                assert network.world.connect(HOST, SHOP_PORT, source=ATTACKER) == "connected"
                file.write(line(ATTACKER))
                file.flush()
                banned(agent, ATTACKER)
                assert network.world.connect(HOST, SHOP_PORT, source=ATTACKER) == "silence"
            # a writer that was not told of the rotation yet
            log.rename(tmp_path / "shop.log.1")
            log.write_text(line("192.0.2.2") * 2)
            file.write(line("192.0.2.2"))
        banned(agent, "192.0.2.2")
        with log.open("a") as file:
            file.write(line("192.0.2.3") * 2)
        agent.told("8 failures")
        agent.end(signal.SIGKILL)
    # what was written before and after two rotations, one of them compressed, while it was away
    with log.open("a") as file:
        file.write(line("192.0.2.3"))
    (tmp_path / "shop.log.1").unlink()
    with gzip.open(tmp_path / "shop.log.2.gz", "wt") as packed:
        packed.write(log.read_text())
    log.unlink()
    (tmp_path / "shop.log.1").write_text(line("192.0.2.4") * 2)
    log.write_text(line("192.0.2.4"))
    with running(tmp_path, journald, network, *options) as agent:
        banned(agent, "192.0.2.3")
        banned(agent, "192.0.2.4")
        agent.told("reading live")
        assert agent.end() == 0
    assert "missed" not in agent.log


def test_a_jail_that_cannot_read_stops_no_other(tmp_path: Path, journald: Journald, network: Network) -> None:
    (tmp_path / "door.log").mkdir()
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "shop.log").touch()
    more = "".join(
        f'[jails.{name}]\nenabled = true\nfilter = "shop"\nlogpath = ["{tmp_path / name}.log"]\n'
        for name in ("door", "pipe")
    )
    config(tmp_path, "shop.log", jails=more)
    with running(tmp_path, journald, network, "--filters", str(tmp_path / "filters")) as agent:
        agent.told("reading live")
        assert state(tmp_path, "door")[0] == state(tmp_path, "pipe")[0] == "failed"
        assert "directory" in (state(tmp_path, "door")[1] or "")
        assert "FIFO" in (state(tmp_path, "pipe")[1] or "")
        assert state(tmp_path, "shop") == ("active", None)
        (tmp_path / "shop.log").write_text(line("192.0.2.2") * 3)
        banned(agent, "192.0.2.2")


def test_what_the_journal_and_a_file_carry_counts_once(tmp_path: Path, journald: Journald, network: Network) -> None:
    log = tmp_path / "shop.log"
    config(tmp_path, "shop.log")

    def write(address: str, *, journal: Writer | None) -> None:
        if journal is not None:
            journal.send(f"login of root from {address} failed", identifier="shop")
        with log.open("a") as file:
            file.write(line(address))

    with running(tmp_path, journald, network, "--filters", str(tmp_path / "filters")) as agent:
        agent.told("reading live")
        assert state(tmp_path, "shop") == ("waiting", f"waiting for entries of shop.service, or {log}")
        with journald.writer(service("shop.service"), comm="shop") as writer:
            writer.send("login of root from 198.51.100.9 failed", identifier="shop")
            agent.told("1 failure ")
            assert state(tmp_path, "shop") == ("active", None)
            for _ in range(2):
                write(ATTACKER, journal=writer)
            write("192.0.2.2", journal=None)
            write(ATTACKER, journal=writer)
        agent.wait_for(rf"banned jail=shop address={ATTACKER} .*failures=3 ")
        agent.told("^STATUS=1 ban stands; 4 failures")
        assert agent.end() == 0
    # by now the journal is known to have it
    with running(tmp_path, journald, network, "--filters", str(tmp_path / "filters")) as agent:
        agent.told("reading live")
        assert state(tmp_path, "shop") == ("active", None)
        for _ in range(3):
            write("192.0.2.3", journal=None)
        with journald.writer(service("shop.service"), comm="shop") as writer:
            for _ in range(3):
                write("192.0.2.4", journal=writer)
        banned(agent, "192.0.2.4")
        assert "192.0.2.3" not in agent.log


# --- exactness

LINES: Final = 1_000_000
ROTATIONS: Final = 50
KILLS: Final = 50
SPAN: Final = 3000  # seconds between the first line and the last; all within findtime
WRITER: Final = """
import os, random, sys
from datetime import UTC, datetime
path, begin, lines, rotations = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
chance = random.Random(7)
file = open(path, "w", buffering=1 << 16)
stamp = ""
for number in range(lines):
    if number % 1000 == 0:
        stamp = datetime.fromtimestamp(begin + number * float(sys.argv[5]) / lines, UTC).isoformat()
    if number and number % (lines // rotations) == 0:
        for age in range(60, 0, -1):
            if os.path.exists(f"{path}.{age}"):
                os.rename(f"{path}.{age}", f"{path}.{age + 1}")
        os.rename(path, f"{path}.1")
        former, file = file, open(path, "w", buffering=1 << 16)
        former.close()
    if number % 100 == 0:
        who = chance.randrange(2000)
        file.write(f"{stamp} host shop[7]: login of root from 10.1.{who >> 8}.{who & 255} failed\\n")
    else:
        file.write(f"{stamp} host shop[7]: a customer looks at article {number}\\n")
file.close()
"""


def decided() -> dict[str, int]:
    """Give who is to be banned, and by which of all lines: the third of his."""
    chance = random.Random(7)
    failures: dict[str, int] = {}
    bans: dict[str, int] = {}
    for number in range(0, LINES, 100):
        who = chance.randrange(2000)
        address = f"10.1.{who >> 8}.{who & 255}"
        failures[address] = failures.get(address, 0) + 1
        if failures[address] == 3:
            bans[address] = number // 1000 * 1000
    return bans


@pytest.mark.timeout(600)
def test_a_million_lines_are_read_once_over_rotations_and_kills(
    tmp_path: Path, journald: Journald, network: Network
) -> None:
    log = tmp_path / "shop.log"
    config(tmp_path, "shop.log", jails='bantime = "1d"\n')
    begin = int(time.time()) - SPAN - 60
    chance = random.Random(3)
    options = ("--filters", str(tmp_path / "filters"))
    argv = [sys.executable, "-c", WRITER, str(log), str(begin), str(LINES), str(ROTATIONS), str(SPAN)]
    kills = 0
    with subprocess.Popen(argv) as writer:
        for _ in range(KILLS):
            with running(tmp_path, journald, network, *options) as agent:
                agent.told("READY=1")
                time.sleep(chance.uniform(0, 0.2))  # it is killed at random
                kills += agent.end(signal.SIGKILL) == -signal.SIGKILL
        assert writer.wait() == 0
    assert kills == KILLS
    with running(tmp_path, journald, network, *options) as agent:
        agent.told("reading live")
        assert agent.end() == 0
        assert "missed" not in agent.log
    history = History(tmp_path / "state" / "history.db")
    found = {str(record.ban.address): (record.ban.start, record.ban.failures) for record in history.records()}
    history.close()
    expected = decided()
    assert len(expected) > 1500
    assert found == {address: (int(begin + number * SPAN / LINES) * SECOND, 3) for address, number in expected.items()}
