# SPDX-License-Identifier: LGPL-2.1-or-later
"""The clock is set while bans stand, and entries come from the future: no ban becomes eternal, and none vanishes."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from banagent.control import client
from banagent.core.duration import DAY, HOUR, YEAR
from banagent.core.events import SECOND
from bed.agent import AGENT, CONFIG, PATIENCE, PORT, running
from bed.journald import Journald, make_journal
from bed.netns import ATTACKER, HOST, Network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.kernel

OTHER: Final = "198.51.100.99"
# the agent's clock, and what it waits for, are changed where it looks at them; all else is the agent as it is
SEAM: Final = """
import time
from pathlib import Path
from banagent import daemon

def clock(file=Path({file!r})):
    return time.time_ns() // 1000 + int(file.read_text()) * 1_000_000

daemon.wall_clock = clock
daemon.PURGE = {purge}
"""


class Seam(NamedTuple):
    """How far the agent's clock is from the machine's, in a file; and what makes the agent look there."""

    file: Path
    environment: dict[str, str]

    def set(self, seconds: int) -> None:
        scratch = self.file.with_suffix(".new")
        scratch.write_text(str(seconds))
        scratch.rename(self.file)


@pytest.fixture
def seam(tmp_path: Path) -> Callable[..., Seam]:
    def make(purge: float = 3600) -> Seam:
        folder = tmp_path / "seam"
        folder.mkdir()
        made = Seam(tmp_path / "ahead", {"PYTHONPATH": f"{folder}:{AGENT}"})
        made.set(0)
        (folder / "sitecustomize.py").write_text(SEAM.format(file=str(made.file), purge=purge))
        return made

    return make


def call(tmp_path: Path, method: str, **parameters: Any) -> dict[str, Any]:
    with client.Agent(str(tmp_path / "org.banagent"), patience=PATIENCE) as agent:
        return agent.call(method, **parameters)


def left(network: Network, address: str, name: str = "ipv4.32") -> int | None:
    """Give the seconds that the kernel goes on dropping what comes from an address; None: it does not."""
    listed: dict[str, Any] = json.loads(network.host.run("nft", "-j", "list", "set", "inet", "banagent", name))
    elements: list[Any] = listed["nftables"][-1]["set"].get("elem", [])  # a permanent one is a word
    found: dict[str, int] = {item["elem"]["val"]: item["elem"]["expires"] for item in elements if type(item) is dict}
    return found.get(address)


@pytest.mark.parametrize("step", [YEAR, -YEAR, HOUR, -HOUR])
def test_a_clock_that_is_set(  # noqa: PLR0917 - fixtures
    tmp_path: Path, journald: Journald, network: Network, sshd: Any, seam: Callable[..., Seam], step: int
) -> None:
    clock = seam()
    with running(tmp_path, journald, network, **clock.environment) as agent:
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for(f"banned .*address={ATTACKER}")
        call(tmp_path, "Allow", addresses=[OTHER], duration=600)
        call(tmp_path, "Ban", addresses=["203.0.113.5"], permanent=True)
        clock.set(step)
        assert call(tmp_path, "Status")["bans"] == 2
        agent.wait_for(f"the clock was set {'ahead' if step > 0 else 'back'} by {abs(step)} s")
        assert 500 < (left(network, ATTACKER) or 0) <= 600
        assert call(tmp_path, "Status")["allowed"] == 1
        # what another program takes away is put back for the time that is left
        network.host.nft("flush ruleset")
        agent.wait_for("repaired")
        assert 500 < (left(network, ATTACKER) or 0) <= 600
        agent.end()
    with running(tmp_path, journald, network, **clock.environment) as agent:
        agent.told("READY=1")
        assert "bans stand bans=2" in agent.log
        assert 500 < (left(network, ATTACKER) or 0) <= 600
        assert call(tmp_path, "Status")["allowed"] == 1
        # and back again
        clock.set(0)
        assert call(tmp_path, "Unban", addresses=[ATTACKER]) == {"lifted": 1}
        assert call(tmp_path, "Ban", addresses=[ATTACKER], bantime=2) == {"banned": 1}
        agent.wait_for(f"unbanned jail=manual address={ATTACKER} reason=expired")


def test_a_clock_that_is_set_back_while_the_agent_is_down(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any, seam: Callable[..., Seam]
) -> None:
    clock = seam()
    with running(tmp_path, journald, network, **clock.environment) as agent:
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for(f"banned .*address={ATTACKER}")
        call(tmp_path, "Allow", addresses=[OTHER], duration=600)
        agent.end()
    clock.set(-YEAR)
    with running(tmp_path, journald, network, **clock.environment) as agent:
        agent.told("READY=1")
        assert "bans stand bans=1" in agent.log
        assert 500 < (left(network, ATTACKER) or 0) <= 600
        assert call(tmp_path, "Allow", addresses=["203.0.113.1"], duration=600)["allowed"] == 1
        with client.Agent(str(tmp_path / "org.banagent"), patience=PATIENCE) as asked:
            ends = [item["end"][:4] for reply in asked.stream("Allowed") for item in reply["allowed"]]
        assert len(set(ends)) == 1
        agent.end()


class Folder(NamedTuple):
    """Journal files, where the agent is told to read."""

    path: Path


def failures(address: str, time_: int, number: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "__REALTIME_TIMESTAMP": time_ + n,
            "MESSAGE": f"Failed password for root from {address} port {number + n} ssh2",
            "_SYSTEMD_UNIT": "ssh.service",
            "_UID": "0",
            "_PID": str(number + n),
            "SYSLOG_IDENTIFIER": "sshd",
        }
        for n in range(3)
    ]


def test_entries_from_the_future(tmp_path: Path, network: Network) -> None:
    """Of a machine whose clock is a year ahead, as journal-remote has them."""
    now = time.time_ns() // 1000
    journal = make_journal(
        tmp_path / "journal", [*failures(OTHER, now - SECOND), *failures(ATTACKER, now + YEAR * SECOND, 10)]
    )
    for _ in range(2):  # the second time all is read, and what stands is put back
        with running(tmp_path, Folder(journal), network) as agent, network.host.listening(PORT):  # type: ignore[arg-type]  # its folder alone is asked for
            agent.told("reading live")
            assert {500 < (left(network, address) or 0) <= 600 for address in (ATTACKER, OTHER)} == {True}
            assert network.world.connect(HOST, PORT, source=ATTACKER) == "silence"
            assert call(tmp_path, "Status")["bans"] == 2
            agent.end()
        network.host.nft("flush ruleset")


def history(tmp_path: Path, rows: list[tuple[str, int]]) -> None:
    """Make a history with bans of an hour, each of an address and with its age in days."""
    from banagent.sinks.history import History  # noqa: PLC0415

    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    History(state / "history.db").close()
    now = time.time_ns() // 1000
    with sqlite3.connect(state / "history.db") as db:
        db.executemany(
            "INSERT INTO bans (jail, address, position, start, end, failures, filter, pattern, lifted, reason)"
            " VALUES ('sshd', ?1, ?1, ?2, ?3, 5, 'sshd', 'failed', ?3, 'expired')",
            ((address, now - days * DAY * SECOND, now - days * DAY * SECOND + HOUR * SECOND) for address, days in rows),
        )
    db.close()


def looked(tmp_path: Path) -> int:
    """Give the time by which the agent last judged the age of bans."""
    call(tmp_path, "Ban", addresses=["203.0.113.9"])  # it says so, and the wait goes on
    call(tmp_path, "Unban", addresses=["203.0.113.9"])
    with sqlite3.connect(tmp_path / "state" / "history.db") as db:
        found: int = db.execute("SELECT time FROM checkpoint WHERE source = 'purge'").fetchone()[0]
    db.close()
    return found


def remembered(tmp_path: Path) -> int:
    with client.Agent(str(tmp_path / "org.banagent"), patience=PATIENCE) as agent:
        return sum(len(reply["bans"]) for reply in agent.stream("History"))


def test_the_running_agent_forgets_bans_of_the_past(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any, seam: Callable[..., Seam]
) -> None:
    clock = seam(purge=0.5)
    (tmp_path / "banagent.toml").write_text(f'{CONFIG}[history]\nkeep = "150d"\nbans = 1000\n')
    history(tmp_path, [(f"10.0.{n >> 8}.{n & 255}", 200 - n // 10) for n in range(1990)])
    with running(tmp_path, journald, network, **clock.environment) as agent:
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for("banned")
        # those of more than 150 days; of the others so many that 1000 are left
        agent.wait_for("forgot bans of the past")
        assert remembered(tmp_path) in {1000, 1001}  # the ban may be younger than the look
        assert call(tmp_path, "Status")["bans"] == 1
        # a clock that is wrong for a while costs no more than a day of it at a look
        begin = time.time_ns() // 1000
        clock.set(5 * YEAR)
        agent.wait(lambda: looked(tmp_path) > begin + DAY * SECOND, "a look under the wrong clock")
        clock.set(0)
        assert remembered(tmp_path) >= 1000
