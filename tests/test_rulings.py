# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whom the running agent never bans, what it is told to forget, and which values it is told to hold."""

from __future__ import annotations

import resource
import signal
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest

from banagent.control import client
from bed.agent import CONFIG, PATIENCE, PORT, running
from bed.netns import ATTACKER, GATEWAY, GATEWAY6, HOST, Network

if TYPE_CHECKING:
    from pathlib import Path

    from bed.journald import Journald

pytestmark = pytest.mark.kernel

OTHER = "198.51.100.99"


def call(tmp_path: Path, method: str, **parameters: Any) -> dict[str, Any]:
    with client.Agent(str(tmp_path / "org.banagent"), patience=PATIENCE) as agent:
        return agent.call(method, **parameters)


def refused(tmp_path: Path, method: str, **parameters: Any) -> tuple[str, dict[str, Any]]:
    with pytest.raises(client.Refused) as caught:
        call(tmp_path, method, **parameters)
    return caught.value.name, caught.value.parameters


def allowed(tmp_path: Path) -> list[tuple[str, str | None]]:
    with client.Agent(str(tmp_path / "org.banagent"), patience=PATIENCE) as agent:
        return [(item["address"], item["comment"]) for reply in agent.stream("Allowed") for item in reply["allowed"]]


def test_gateways_and_bridges_are_followed(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd(GATEWAY)
        sshd(GATEWAY6)
        sshd("192.0.2.77")
        agent.wait_for("banned .*address=192.0.2.77")
        assert f"address={GATEWAY}" not in agent.log
        assert f"address={GATEWAY6}" not in agent.log
        assert refused(tmp_path, "Ban", addresses=[GATEWAY]) == (
            "Protected",
            {"address": GATEWAY, "reason": f"{GATEWAY} is a gateway of this host"},
        )
        # a route of another table, over somebody who is banned
        network.host.run("ip", "route", "add", "10.0.0.0/8", "table", "77", "via", "192.0.2.77")
        agent.wait_for("unbanned jail=sshd address=192.0.2.77 reason=ignored")
        # and when it has gone, nothing is left of it
        network.host.run("ip", "route", "del", "10.0.0.0/8", "table", "77")
        agent.wait(lambda: try_ban(tmp_path, "192.0.2.77"), "a ban of what was a gateway")
        # on a bridge only single addresses are banned
        network.host.run("ip", "link", "add", "br0", "type", "bridge")
        network.host.run("ip", "address", "add", "172.18.0.1/16", "dev", "br0")
        agent.wait(lambda: not try_ban(tmp_path, "172.18.7.0/24"), "the bridge is known")
        assert "on a bridge" in refused(tmp_path, "Ban", addresses=["172.18.7.0/24"])[1]["reason"]
        assert call(tmp_path, "Ban", addresses=["172.18.7.9"]) == {"banned": 1}


def try_ban(tmp_path: Path, address: str) -> bool:
    """Whether an address can be banned."""
    try:
        call(tmp_path, "Ban", addresses=[address])
    except client.Refused:
        return False
    call(tmp_path, "Unban", addresses=[address])
    return True


def test_a_file_of_those_who_are_ignored(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    office = tmp_path / "office"
    office.write_text(f"# the office\n{ATTACKER} 203.0.113.0/24\n")
    (tmp_path / "banagent.toml").write_text(f'{CONFIG}ignoreip = ["file:{office}"]\n')
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd(ATTACKER)
        sshd(OTHER)
        agent.wait_for(f"banned .*address={OTHER}")
        assert f"address={ATTACKER}" not in agent.log
        # put in its place as editors do
        (tmp_path / "new").write_text(OTHER)
        (tmp_path / "new").rename(office)
        agent.wait_for(f"unbanned jail=sshd address={OTHER} reason=ignored")
        # with a mistake in it the former list stays
        office.write_text(f"{ATTACKER}\ngate.example.org\n")
        agent.wait_for(rf"trouble reason=ignoreip error=\"{office}:2: gate.example.org: is a host name, .* addresses")
        assert refused(tmp_path, "Ban", addresses=[OTHER])[0] == "Protected"
        assert call(tmp_path, "Ban", addresses=[ATTACKER]) == {"banned": 1}
        # written anew where it lies
        office.write_text(f"{ATTACKER}\n")
        agent.wait_for("works again reason=ignoreip")
        agent.wait_for(f"unbanned jail=manual address={ATTACKER} reason=ignored")
        # gone is a mistake, too
        office.unlink()
        agent.wait_for("trouble reason=ignoreip .*No such file")
        assert refused(tmp_path, "Ban", addresses=[ATTACKER])[0] == "Protected"


def test_allow(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for("banned")
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "silence"
        assert call(tmp_path, "Allow", addresses=[ATTACKER, "203.0.113.0/24"], duration=3600, comment="a test") == {
            "allowed": 2,
            "lifted": 1,
        }
        agent.wait_for(f'allowed address={ATTACKER} .*comment="a test"')
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "connected"
        assert allowed(tmp_path) == [(ATTACKER, "a test"), ("203.0.113.0/24", "a test")]
        assert call(tmp_path, "Status")["allowed"] == 2
        # of every jail, and by hand
        sshd("203.0.113.5")
        sshd(OTHER)
        agent.wait_for(f"banned .*address={OTHER}")
        assert "address=203.0.113.5" not in agent.log
        assert refused(tmp_path, "Ban", addresses=["203.0.0.0/8"]) == (
            "Protected",
            {"address": "203.0.0.0/8", "reason": "203.0.113.0/24 is allowed"},
        )
        agent.end(signal.SIGKILL)
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        assert [address for address, _ in allowed(tmp_path)] == [ATTACKER, "203.0.113.0/24"]
        assert call(tmp_path, "Disallow", addresses=["203.0.113.0/24", OTHER]) == {"disallowed": 1}
        sshd("203.0.113.5")
        agent.wait_for("banned .*address=203.0.113.5")
        # and it ends by itself
        call(tmp_path, "Allow", addresses=[ATTACKER], duration=1)
        agent.wait_for(f"allowed no more address={ATTACKER} reason=expired")
        assert allowed(tmp_path) == []
        assert call(tmp_path, "Ban", addresses=[ATTACKER]) == {"banned": 1}
        agent.end()
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        assert allowed(tmp_path) == []
        assert "allowed no more" not in agent.log


@pytest.mark.parametrize(
    ("method", "parameters", "error"),
    [
        ("Allow", {"addresses": ["x"]}, "BadAddress"),
        ("Allow", {"addresses": [ATTACKER], "duration": 0}, "org.varlink.service.InvalidParameter"),
        ("Allow", {"addresses": [f"10.0.{n >> 8}.{n & 255}" for n in range(1001)]}, "TooMany"),
        ("Disallow", {}, "org.varlink.service.InvalidParameter"),
        ("Reset", {}, "org.varlink.service.InvalidParameter"),
        ("Reset", {"addresses": [ATTACKER], "all": True}, "org.varlink.service.InvalidParameter"),
        ("Get", {"jail": "nowhere"}, "NoSuchJail"),
        ("Set", {"jail": "nowhere", "key": "maxretry", "values": ["3"]}, "NotReloaded"),
        ("Set", {"jail": "sshd", "key": "maxretri", "values": ["3"]}, "BadValue"),
        ("Set", {"jail": "sshd", "key": "maxretry", "values": ["3", "4"]}, "BadValue"),
        ("Set", {"jail": "sshd", "key": "maxretry", "values": ["0"]}, "NotReloaded"),
        ("Set", {"jail": "sshd", "key": "maxretry", "values": ["3"], "how": "add"}, "BadValue"),
        ("Set", {"jail": "sshd", "key": "ignoreip", "values": ["192.0.2.9"], "how": "remove"}, "BadValue"),
        ("Set", {"jail": "sshd", "key": "ignoreip", "values": ["gate.example.org"], "how": "add"}, "BadValue"),
        ("Set", {"jail": "sshd", "key": "bantime", "values": ["10 minutse"]}, "NotReloaded"),
        ("Set", {"jail": "sshd", "key": "maxretry", "values": ["{}"]}, "BadValue"),
        ("Set", {"jail": "sshd", "key": "bantime", "values": ["{}"]}, "BadValue"),
        ("Set", {"jail": "a.b", "key": "maxretry", "values": ["3"]}, "NotReloaded"),
        ("Resume", {"jail": "nowhere"}, "NoSuchJail"),
    ],
)
def test_what_is_refused(  # noqa: PLR0917 - fixtures and a table
    tmp_path: Path, journald: Journald, network: Network, method: str, parameters: dict[str, Any], error: str
) -> None:
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        assert refused(tmp_path, method, **parameters)[0] == error
        assert call(tmp_path, "Jails")["jails"][0]["maxretry"] == 3


def value(tmp_path: Path, key: str) -> str:
    found, *_ = call(tmp_path, "Get", jail="sshd", key=key)["settings"]
    text: str = found["value"]
    return text


def test_set(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT), network.host.listening(PORT + 1):
        agent.told("reading live")
        assert value(tmp_path, "maxretry") == "3"
        sshd(ATTACKER, 1)
        agent.told("1 failure ")
        found = call(tmp_path, "Set", jail="sshd", key="maxretry", values=["2"])
        assert found["written"] == "[jails.sshd]\nmaxretry = 2\n"
        assert [(item["key"], item["value"], item["file"]) for item in found["settings"]] == [
            ("jails.sshd.maxretry", "2", "banagent set")
        ]
        agent.wait_for('set jail=sshd reason="maxretry = 2"')
        # what was counted is kept
        sshd(ATTACKER, 1)
        agent.wait_for(f"banned .*address={ATTACKER} .*failures=2")
        assert network.world.connect(HOST, PORT + 1, source=ATTACKER) == "connected"
        call(tmp_path, "Set", jail="sshd", key="ports", values=[str(PORT + 1)], how="add")
        assert value(tmp_path, "ports") == f"[{PORT}, {PORT + 1}]"
        assert network.world.connect(HOST, PORT + 1, source=ATTACKER) == "silence"
        call(tmp_path, "Set", jail="sshd", key="bantime", values=["10m"])
        call(tmp_path, "Set", jail="sshd", key="ignoreip", values=[ATTACKER, "192.0.2.0/24"], how="add")
        agent.wait_for(f"unbanned .*address={ATTACKER} reason=ignored")
        call(tmp_path, "Set", jail="sshd", key="ignoreip", values=["192.0.2.9/24"], how="remove")
        assert value(tmp_path, "ignoreip") == f'["{ATTACKER}"]'
        assert value(tmp_path, "bantime") == '"10m"'
        # a mistake leaves all as it was
        assert refused(tmp_path, "Set", jail="sshd", key="findtime", values=["never"])[0] == "NotReloaded"
        assert value(tmp_path, "maxretry") == "2"
        # it can be disabled, and come again
        assert call(tmp_path, "Set", jail="sshd", key="enabled", values=["false"])["settings"] == []
        assert refused(tmp_path, "Get", jail="sshd")[0] == "NoSuchJail"
        assert call(tmp_path, "Set", jail="sshd", key="enabled", values=["true"])["settings"][0]["value"] == "true"
        assert value(tmp_path, "maxretry") == "2"
        # the files have the last word again
        call(tmp_path, "Reload")
        assert value(tmp_path, "maxretry") == "3"
        assert call(tmp_path, "Get", jail="sshd", key="ignoreip")["settings"][0]["value"] == "[]"


def test_reset(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    with running(tmp_path, journald, network) as agent:
        agent.told("reading live")
        sshd(ATTACKER)
        sshd(OTHER, 2)
        agent.wait_for("banned")
        agent.told("5 failures ")
        assert call(tmp_path, "Reset", addresses=[OTHER]) == {"failures": 2, "bans": 0, "lifted": 0}
        agent.wait_for(f"reset address={OTHER}")
        sshd(OTHER, 2)
        agent.told("7 failures and 1 ban ")
        # the ban stands on, but makes no other one longer
        assert call(tmp_path, "Reset", all=True) == {"failures": 2, "bans": 1, "lifted": 0}
        assert call(tmp_path, "Status")["bans"] == 1
        assert call(tmp_path, "Reset", addresses=[ATTACKER], unban=True) == {"failures": 0, "bans": 0, "lifted": 1}
        agent.end(signal.SIGKILL)
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd(OTHER, 2)
        sshd(ATTACKER)
        agent.wait_for(f"banned .*address={ATTACKER} .*bantime=600 ")
        assert f"banned jail=sshd address={OTHER}" not in agent.log


def test_a_damaged_history_costs_no_ban_that_stands(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any
) -> None:
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for("banned")
        agent.end(signal.SIGKILL)
    database = tmp_path / "state" / "history.db"
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    database.write_bytes(b"no database at all" * 1000)
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.wait_for("the history was damaged; a new one is begun .*set_aside=")
        agent.told("READY=1")
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "silence"
        agent.told("reading live")
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "silence"
        assert call(tmp_path, "Status")["bans"] == 1


def test_a_history_that_is_found_damaged_later(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    """In a page that is written to, and not read at the start."""
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for("banned")
        agent.end()
    database = tmp_path / "state" / "history.db"
    with sqlite3.connect(database) as db:
        size, page = (
            db.execute(query).fetchone()[0]
            for query in ("PRAGMA page_size", "SELECT rootpage FROM sqlite_schema WHERE name = 'bans_start'")
        )
    db.close()
    with database.open("r+b") as file:
        file.seek(size * (page - 1))
        file.write(b"\xff" * size)
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.told("READY=1")
        sshd(OTHER)
        agent.wait_for(f"banned .*address={OTHER}")  # all the same
        agent.wait_for("trouble reason=history .*malformed")
        agent.wait_for("the history is damaged; a new one is begun by the next run .*set_aside=.*damaged-1")
        assert agent.process.wait(PATIENCE) == 1
        for address in (ATTACKER, OTHER):
            assert network.world.connect(HOST, PORT, source=address) == "silence"
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.told("reading live")
        assert call(tmp_path, "Status")["bans"] == 2
        assert call(tmp_path, "Status")["attention"] == []
        for address in (ATTACKER, OTHER):
            assert network.world.connect(HOST, PORT, source=address) == "silence"


def test_a_history_that_others_hold(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.told("READY=1")
        sshd("203.0.113.200")
        agent.wait_for("banned")
        with sqlite3.connect(tmp_path / "state" / "history.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            begin = time.monotonic()
            for number in range(10):
                sshd(f"203.0.113.{number}")
            agent.wait_for("banned .*address=203.0.113.9")
            agent.wait_for("trouble reason=history .*locked")
            # it waits for the other once, and not again with each ban
            assert time.monotonic() - begin < PATIENCE / 4
            assert network.world.connect(HOST, PORT, source="203.0.113.9") == "silence"
            assert refused(tmp_path, "Reset", addresses=[ATTACKER])[0] == "NoHistory"
            assert call(tmp_path, "Ban", addresses=[ATTACKER]) == {"banned": 1}
            assert call(tmp_path, "Allow", addresses=[OTHER]) == {"allowed": 1, "lifted": 0}
            other.execute("ROLLBACK")
        other.close()
        agent.wait_for("works again reason=history")
        agent.end(signal.SIGKILL)
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        assert "bans stand bans=12" in agent.log
        assert allowed(tmp_path) == [(OTHER, None)]


def test_a_full_disk(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    """The kernel's limit on the agent's files stands for it."""
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.told("READY=1")
        sshd(OTHER)
        agent.wait_for("banned")
        log = tmp_path / "state" / "history.db-wal"
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))
        sshd(ATTACKER)
        agent.wait_for(f"banned .*address={ATTACKER}")
        agent.wait_for("trouble reason=history ")
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "silence"
        (trouble,) = call(tmp_path, "Status")["attention"]
        assert (trouble["subject"], "cannot write the history" in trouble["text"]) == ("history", True)
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        agent.wait_for("works again reason=history")
        agent.end(signal.SIGKILL)
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        assert "bans stand bans=2" in agent.log
        assert "damaged" not in agent.log
