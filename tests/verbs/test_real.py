# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verbs against the agent itself: an attack, and all that an admin then asks and does."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from banagent.verbs import offline
from bed.agent import CONFIG, PORT, running
from bed.netns import ATTACKER, HOST, Network
from verbs.conftest import Prompt

if TYPE_CHECKING:
    from pathlib import Path

    from bed.journald import Journald

pytestmark = pytest.mark.kernel


@pytest.fixture
def prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Prompt:
    return Prompt(tmp_path / "org.banagent", capsys)


def test_a_walk_through(  # noqa: PLR0917 - fixtures
    tmp_path: Path, journald: Journald, network: Network, sshd: Any, prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.told("READY=1")
        assert "Nobody was banned yet." in prompt("status").out
        assert prompt("list", "--json") == (1, "[]\n", "")
        sshd(ATTACKER, 2)
        agent.told("2 failures")
        assert "2 of 3 failures in 1h" in prompt("why", ATTACKER).out
        sshd(ATTACKER, 1)
        agent.wait_for("banned")

        assert re.search(rf"^{ATTACKER} +sshd ", prompt("status").out, re.MULTILINE)
        (ban,) = prompt("list", "--json").json
        assert (ban["address"], ban["jail"], ban["failures"]) == (ATTACKER, "sshd", 3)
        assert prompt("history", "--json", "--since", "1h").json == [ban]
        assert prompt("status", "sshd").out.startswith(f"sshd bans for 10m on port {PORT} after 3 failures in 1h.")
        why = prompt("why", ATTACKER)
        assert why.out.startswith(f"{ATTACKER} is banned.")
        assert why.out.count("Failed password") == 3
        assert prompt("completion", "addresses").out == f"{ATTACKER}\n"

        assert prompt("unban", ATTACKER) == (0, "1 ban lifted\n", "")
        assert prompt("unban", ATTACKER) == (1, "0 bans lifted\n", "")
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "connected"
        assert prompt("ban", ATTACKER, "--comment", "by hand") == (0, "1 ban made\n", "")
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "silence"
        assert prompt("list").out.splitlines()[1].endswith("by hand")
        assert prompt("off").out == "1 ban lifted; nobody is banned until: banagent on\n"
        assert prompt("status").out.startswith("ATTENTION  off: ")
        assert prompt("ban", ATTACKER).status == 1
        assert prompt("on").status == 0

        monkeypatch.setenv("SSH_CONNECTION", f"{ATTACKER} 50000 {HOST} 22")
        assert "--force bans it all the same" in prompt("ban", ATTACKER).err
        assert prompt("ban", ATTACKER, "--force", "--for", "permanent").status == 0
        assert " permanent " in prompt("list").out
        assert prompt("ban", HOST).status == 1
        assert "did you mean sshd?" in prompt("list", "--jail", "shsd").err

        (tmp_path / "banagent.toml").write_text(CONFIG + "maxretri = 1\n")
        assert "maxretri" in prompt("reload").err
        (tmp_path / "banagent.toml").write_text(CONFIG)
        assert prompt("reload").out == "reloaded; jails: sshd\n"
        assert any(item["key"] == "jails.sshd.maxretry" for item in prompt("config", "--diff", "--json").json)
        kinds = [line.split()[3] for line in prompt("events").out.splitlines()]
        assert kinds[:3] == ["banned", "unbanned", "banned"]


def test_offline_under_an_agent_that_hangs(  # noqa: PLR0917 - fixtures
    tmp_path: Path, journald: Journald, network: Network, sshd: Any, prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "HISTORY", tmp_path / "state/history.db")
    monkeypatch.setattr(offline, "_PATIENCE", 0.2)
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.told("^STATUS=1 ban stands")  # said after it is in the history
        agent.process.send_signal(signal.SIGSTOP)
        with network.host.entered():
            said = prompt("unban", "--offline", ATTACKER)
        assert (said.status, said.err) == (0, "")
        assert said.out.splitlines()[1].startswith("1 ban marked as lifted"), said.out
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "connected"
        agent.end(signal.SIGKILL)
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.told("reading live")
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "connected"
        assert prompt("list", "--json").json == []
