# SPDX-License-Identifier: LGPL-2.1-or-later
"""`systemctl reload` takes a configuration whole, or fails, says why, and leaves what was in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from system.bed.agent import MAXRETRY, UNIT, Agent
from system.bed.machine import NEAR, Machine

if TYPE_CHECKING:
    import subprocess


def reload(machine: Machine) -> subprocess.CompletedProcess[str]:
    return machine.run(["systemctl", "reload", UNIT], check=False)


def test_a_reload(agent: Agent) -> None:
    agent.start()
    pid = agent.show("MainPID")
    agent.attack(NEAR[0], 2)
    agent.attack(NEAR[1], 1)
    agent.configure(maxretry=2)
    assert reload(agent.machine).returncode == 0
    assert agent.bans() == {}
    agent.attack(NEAR[1], 1)  # its second, by the new configuration
    agent.banned(NEAR[1])
    assert agent.show("MainPID") == pid


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ('bantime = "soon"', '/etc/banagent/banagent.toml:4: jails.sshd.bantime = "soon": '),
        ('bantime = "', "/etc/banagent/banagent.toml:4: "),
    ],
    ids=["value", "syntax"],
)
def test_a_reload_with_a_mistake(agent: Agent, mistake: str, said: str) -> None:
    agent.start()
    pid = agent.show("MainPID")
    agent.attack(NEAR[0], MAXRETRY - 1)
    here = agent.machine.cursor()
    agent.configure(mistake, maxretry=1)
    assert reload(agent.machine).returncode == 1
    agent.logged(after=here, fits=lambda entry: said in entry["MESSAGE"])
    assert (agent.show("ActiveState"), agent.show("MainPID")) == ("active", pid)
    assert agent.bans() == {}
    agent.attack(NEAR[0], 1)
    ban = agent.banned(NEAR[0])
    assert ban["BANAGENT_FAILURES"] == "3"
