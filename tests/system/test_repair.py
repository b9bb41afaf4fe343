# SPDX-License-Identifier: LGPL-2.1-or-later
"""What other programs take out of the kernel is back before anybody can make use of it."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Final

import pytest

from system.bed.agent import remaining
from system.bed.machine import NEAR
from system.bed.root import HERE

if TYPE_CHECKING:
    from system.bed.agent import Agent

PROBE: Final = (HERE / "repair.py").read_text()
WITHIN: Final = 0.1  # seconds


@pytest.mark.parametrize(
    "command", ["nft flush ruleset", "nft delete table inet banagent", "systemctl reload nftables.service"]
)
def test_what_was_removed_is_put_back_at_once(agent: Agent, command: str) -> None:
    machine, attacker = agent.machine, NEAR[0]
    agent.systemctl("start", "nftables.service")
    agent.start()
    agent.attack(attacker)
    ban = agent.banned(attacker)
    delays: list[float] = []
    for _ in range(5):
        here = machine.cursor()
        probed = machine.run(["python3", "-I", "-", *command.split()], stdin=PROBE).stdout
        program, seconds = json.loads(probed)
        assert program == "banagent"
        delays.append(seconds)
        told = agent.logged("BANAGENT_PROGRAM=nft", after=here)
        assert told["MESSAGE_ID"] == "5bc45f3cf7f94d3b9e1c8b6a3e0fd003"
        assert int(told["BANAGENT_PID"]) > 1
        assert agent.bans()[attacker] == pytest.approx(remaining(ban, machine), abs=2)
        agent.see_blocked(attacker)
    print(f"{command}: repaired after", *(f"{seconds * 1000:.1f}" for seconds in delays), "ms")
    assert statistics.median(delays) < WITHIN
    # what it leaves alone: the tables of others
    others = [item["table"]["name"] for item in machine.nft("list", "tables")]
    assert sorted(others) == sorted({"banagent", *(["filter"] if "flush" not in command else [])})
