# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is banned and who is not, with real logins: attacks by many addresses, and admins who mistype."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from system.bed.agent import COMMAND

if TYPE_CHECKING:
    from system.bed.agent import Agent

pytestmark = pytest.mark.xdist_group("judgement")

MAXRETRY: Final = 5
LIMIT: Final = 20  # addresses; as the package sets it
ATTACKERS: Final = tuple(f"198.18.7.{last}" for last in range(1, 41))
NETWORK: Final = "198.18.7.0/24"
BYSTANDER: Final = "198.18.7.150"
IGNORED: Final = "198.18.7.200"
ADMIN: Final = "198.18.20.1"
STRANGER: Final = "198.18.30.1"
REMOTE: Final = "/lib/systemd/systemd-journal-remote"
PASSWORD: Final = "right-pw"  # alice's


def fail_once_each(agent: Agent) -> list[str]:
    """Let each of the attackers guess once, several at a time; give those who were told that they are wrong.

    The one who is too many is alone: connections that are open when their network is banned hang.
    """
    before, last, after = ATTACKERS[: LIMIT - 1], ATTACKERS[LIMIT - 1], ATTACKERS[LIMIT:]

    def guess(source: str) -> bool:
        return "Permission denied" in agent.machine.ssh_attempt(source, "root", "wrong").words

    with ThreadPoolExecutor(8) as pool:
        told = [*pool.map(guess, before), guess(last)]
        agent.machine.wait_for(agent.bans)
        told += pool.map(guess, after)
    return [source for source, is_told in zip(ATTACKERS, told, strict=True) if is_told]


def is_served(agent: Agent, source: str) -> bool:
    return agent.machine.ssh_attempt(source, "alice", PASSWORD).status == 0


def test_a_network_whose_addresses_are_used_once_each(agent: Agent) -> None:
    agent.configure(maxretry=MAXRETRY)
    agent.start()
    assert fail_once_each(agent) == list(ATTACKERS[:LIMIT])
    told = agent.banned(NETWORK)
    assert (told["BANAGENT_PATTERN"], told["BANAGENT_FAILURES"]) == ("many-addresses", "20")
    assert set(agent.bans()) == {NETWORK}
    for source in (ATTACKERS[-1], BYSTANDER):
        agent.see_blocked(source)
    said = agent.machine.run([COMMAND, "why", BYSTANDER]).stdout
    assert f"sshd bans {NETWORK} for another" in said
    assert "20 addresses of it failed, few times each: it is banned as a whole." in said
    assert "A network of which 20 addresses fail in that time is banned as a whole." in " ".join(
        agent.machine.run([COMMAND, "status", "sshd"]).stdout.split()
    )
    assert is_served(agent, STRANGER)


def test_a_network_with_somebody_who_is_ignored(agent: Agent) -> None:
    """It is not banned as a whole; those who failed are, and whoever else of it fails once."""
    agent.configure(f'ignoreip = ["{IGNORED}"]', maxretry=MAXRETRY)
    agent.start()
    assert fail_once_each(agent) == list(ATTACKERS)
    agent.machine.wait_for(lambda: set(ATTACKERS) <= set(agent.bans()))
    told = agent.logged(f"BANAGENT_ADDRESS={NETWORK}")
    assert told["BANAGENT_REASON"] == f"{IGNORED} is in ignoreip"
    assert set(agent.bans()) == set(ATTACKERS)
    agent.see_blocked(ATTACKERS[0])
    assert is_served(agent, IGNORED)
    agent.attack(BYSTANDER, 1)
    agent.banned(BYSTANDER)


def test_an_admin_who_mistypes(agent: Agent) -> None:
    machine = agent.machine
    machine.run(["usermod", "--append", "--groups", "sudo", "alice"])
    agent.configure(maxretry=MAXRETRY)
    agent.start()
    assert is_served(agent, ADMIN)
    agent.attack(ADMIN, MAXRETRY + 1)
    told = agent.logged(f"BANAGENT_ADDRESS={ADMIN}", "BANAGENT_USER=alice")
    assert "spared by the lock-out guard" in told["MESSAGE"]
    assert is_served(agent, ADMIN)
    said = json.loads(machine.run([COMMAND, "why", ADMIN, "--json"]).stdout)
    (count,) = (item for item in said["counts"] if item["jail"] == "sshd")
    assert (count["guarded"], count["failures"]) == (["alice"], MAXRETRY + 1)
    # a stranger with as many is not
    agent.attack(STRANGER)
    agent.attack(STRANGER, MAXRETRY - 3)
    agent.banned(STRANGER)
    assert not is_served(agent, STRANGER)
    assert set(agent.bans()) == {STRANGER}
    # neither is he as anybody else
    agent.attack(ADMIN, MAXRETRY - 1, user="root")
    agent.banned(ADMIN)
    assert not is_served(agent, ADMIN)


def test_an_admin_who_logged_in_an_hour_ago(agent: Agent) -> None:
    """Before banagent was there, and longer ago than it counts failures."""
    machine = agent.machine
    machine.run(["usermod", "--append", "--groups", "sudo", "alice"])
    agent.configure('findtime = "10m"', maxretry=MAXRETRY)
    folder = machine.run(["sh", "-c", "ls -d /var/log/journal/*"]).stdout.strip()
    fields = {
        "__REALTIME_TIMESTAMP": str(int(time.time() - 3600) * 1_000_000),
        "__MONOTONIC_TIMESTAMP": "1",
        "_BOOT_ID": "b" * 32,
        "MESSAGE": f"Accepted password for alice from {ADMIN} port 4022 ssh2",
        "SYSLOG_IDENTIFIER": "sshd",
        "_SYSTEMD_UNIT": "ssh.service",
        "_UID": "0",
        "_PID": "1000",
    }
    exported = "".join(f"{name}={value}\n" for name, value in fields.items())
    machine.run([REMOTE, "--output", f"{folder}/earlier.journal", "-"], stdin=f"{exported}\n")
    agent.start()
    for source in (ADMIN, STRANGER):
        agent.attack(source, MAXRETRY)
    agent.banned(STRANGER)
    agent.attack(ADMIN, 1)
    assert "spared by the lock-out guard" in agent.logged(f"BANAGENT_ADDRESS={ADMIN}", "BANAGENT_USER=alice")["MESSAGE"]
    assert is_served(agent, ADMIN)
    assert not is_served(agent, STRANGER)
    assert set(agent.bans()) == {STRANGER}


def test_a_guard_outlasts_a_restart(agent: Agent) -> None:
    agent.configure('guard.users = ["alice"]', maxretry=MAXRETRY)
    agent.start()
    assert is_served(agent, ADMIN)
    agent.attack(ADMIN, 2)
    agent.systemctl("kill", "--signal=KILL", "banagent.service")
    agent.machine.wait_for(lambda: agent.show("NRestarts") == "1" and agent.show("ActiveState") == "active")
    agent.attack(ADMIN, MAXRETRY)
    assert is_served(agent, ADMIN)
    assert agent.bans() == {}
