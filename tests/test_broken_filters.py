# SPDX-License-Identifier: LGPL-2.1-or-later
"""The agent with a filter that has mistakes: the other jails run, and the trouble is said until it is mended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bed.agent import AGENT, CONFIG, PATIENCE, running
from bed.netns import ATTACKER

if TYPE_CHECKING:
    from pathlib import Path

    from bed.journald import Journald
    from bed.netns import Network

pytestmark = pytest.mark.kernel

RIGHT = "description = 'x'\nunits = ['x.service']\n[[failregex]]\nname = 'x'\nregex = '^x <HOST>$'\n"
BROKEN = RIGHT.replace("^x", "x")


def status(network: Network, tmp_path: Path) -> dict[str, Any]:
    """Give what `banagent status --json` says."""
    argv = [sys.executable, "-m", "banagent", "--socket", str(tmp_path / "org.banagent"), "status", "--json"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(AGENT)}
    done = subprocess.run(
        network.host.argv(*argv), env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_other_jails_run_and_a_reload_after_mending_clears_it(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any
) -> None:
    filters = tmp_path / "filters"
    filters.mkdir()
    mine = filters / "mine.toml"
    mine.write_text(BROKEN)
    (tmp_path / "banagent.toml").write_text(f"{CONFIG}[jails.mine]\nenabled = true\n")
    with running(tmp_path, journald, network, "--filters", str(filters)) as agent:
        agent.wait_for(rf"error: trouble .*jails are left out: {mine}:5: failregex\[0\].regex = .*must begin with \^")
        agent.told("READY=1")
        agent.told("TROUBLE, see the log")
        agent.wait_for(r"ready jails=sshd\n")
        (trouble,) = status(network, tmp_path)["attention"]
        assert trouble["subject"] == "filters"
        assert f"{mine}:5: failregex[0].regex" in trouble["text"]
        sshd(ATTACKER)
        agent.wait_for(f"banned jail=sshd address={ATTACKER}")
        # a reload does not take what is still broken
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for(rf"not reloaded mistake=.*{mine}:5: failregex\[0\].regex")
        assert status(network, tmp_path)["attention"]
        mine.write_text(RIGHT)
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for("reloaded jails=mine,sshd")
        assert status(network, tmp_path)["attention"] == []
