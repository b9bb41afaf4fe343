# SPDX-License-Identifier: LGPL-2.1-or-later
"""`allow`, `disallow`, `allowed`, `reset`, `get`, `set`: what is sent, what is said, and what is written down."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from banagent import config
from banagent.control.service import Error
from banagent.verbs import persisting

if TYPE_CHECKING:
    from verbs.answering import Answering
    from verbs.conftest import Prompt

AGENT = Path(__file__).parents[2] / "agent"


def test_allow_and_disallow(agent: Answering, prompt: Prompt) -> None:
    words = ("--for", "8h", "--comment", "a \x1b reason")
    assert prompt("allow", "192.0.2.1", "2001:DB8::/64", *words) == (0, "2 networks allowed; 1 ban lifted\n", "")
    assert prompt("allow", "192.0.2.9").status == 0
    assert agent.asked("Allow") == [
        {"addresses": ["192.0.2.1", "2001:db8::/64"], "duration": 28_800, "comment": "a \x1b reason"},
        {"addresses": ["192.0.2.9"], "duration": None, "comment": None},
    ]
    lines = prompt("allowed").out.splitlines()
    assert [line.split()[0] for line in lines] == ["ADDRESS", "192.0.2.1", "2001:db8::/64", "192.0.2.9"]
    assert "a \\x1b reason" in lines[1]
    assert lines[3].endswith("permanent")
    assert [item["address"] for item in prompt("allowed", "--json").json] == ["192.0.2.1", "2001:db8::/64", "192.0.2.9"]
    assert prompt("disallow", "192.0.2.9") == (0, "1 network allowed no more\n", "")
    assert prompt("disallow", "192.0.2.9") == (1, "0 networks allowed no more\n", "")
    assert prompt("disallow", "--all").out == "2 networks allowed no more\n"
    said = prompt("allowed")
    assert (said.status, said.out) == (1, "")


@pytest.mark.parametrize(
    "words",
    [
        ("allow",),
        ("allow", "192.0.2.1", "--for", "0"),
        ("disallow",),
        ("disallow", "--all", "192.0.2.1"),
        ("reset",),
        ("reset", "--all", "192.0.2.1", "--yes"),
        ("get",),
        ("set", "sshd", "maxretry"),
        ("set", "sshd", "ignoreip", "192.0.2.1", "--add", "--remove"),
    ],
)
def test_usage(agent: Answering, prompt: Prompt, words: tuple[str, ...]) -> None:
    said = prompt(*words)
    assert (said.status, said.out) == (2, "")
    assert said.err
    assert agent.calls == []


def test_reset(agent: Answering, prompt: Prompt) -> None:
    assert prompt("reset", "192.0.2.1", "--yes").out == "2 failures and 1 ban forgotten\n"
    assert prompt("reset", "--all", "--unban", "--yes").out == "2 failures and 1 ban forgotten; 3 bans lifted\n"
    assert agent.asked("Reset") == [
        {"addresses": ["192.0.2.1"], "all": False, "unban": False},
        {"addresses": None, "all": True, "unban": True},
    ]


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("\x04", 1)])
def test_reset_asks(agent: Answering, prompt: Prompt, answer: str, status: int) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "banagent", "--socket", str(prompt.path), "reset", "192.0.2.1"],
        env={**os.environ, "PYTHONPATH": str(AGENT)},
        stdin=slave,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(slave)
        assert process.stdout
        assert process.stdout.readline() == "Forget the failures and earlier bans of 192.0.2.1? [y/N]\n"
        os.write(master, answer.encode())
        process.communicate(timeout=30)
    os.close(master)
    assert process.returncode == status
    assert len(agent.asked("Reset")) == (status == 0)


def test_reset_does_not_ask_nobody(agent: Answering, prompt: Prompt) -> None:
    said = prompt.run("reset", "192.0.2.1", stdin="y\n")
    assert said.status == 2
    assert "--yes" in said.err
    assert agent.calls == []


def setting(key: str, value: str, file: str | None = None, line: int | None = None) -> dict[str, Any]:
    return {"key": f"jails.sshd.{key}", "value": value, "file": file, "line": line, "replaces": None}


def test_get(agent: Answering, prompt: Prompt) -> None:
    agent.replies["Get"] = {"settings": [setting("maxretry", "5"), setting("mode", '"\x1b"', "/etc/x", 3)]}
    assert [line.split() for line in prompt("get", "sshd").out.splitlines()] == [
        ["KEY", "VALUE", "FROM"],
        ["jails.sshd.maxretry", "5", "(default)"],
        ["jails.sshd.mode", '"\\x1b"', "/etc/x:3"],
    ]
    agent.replies["Get"] = {"settings": [setting("maxretry", "5")]}
    assert prompt("get", "sshd", "maxretry") == (0, "5\n", "")
    assert prompt("get", "sshd", "maxretry", "--json").json[0]["value"] == "5"
    agent.replies["Get"] = {"settings": []}
    assert prompt("get", "sshd", "nothing").status == 1


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the configuration be below a folder of the test's own, and be root."""
    path = tmp_path / "etc/banagent/conf.d/90-set.toml"
    monkeypatch.setattr(persisting, "FILE", path)
    monkeypatch.setattr(config, "load", partial(config.load, root=tmp_path))
    monkeypatch.setattr("banagent.verbs.setting.geteuid", lambda: 0)
    return path


def test_set_for_now(agent: Answering, prompt: Prompt, file: Path) -> None:
    agent.replies["Set"] = {"settings": [setting("maxretry", "8", "banagent set", 2)], "written": "x = 1\n"}
    said = prompt("set", "sshd", "maxretry", "8")
    assert (said.status, said.out.splitlines()[0]) == (0, "jails.sshd.maxretry = 8")
    assert agent.asked("Set") == [{"jail": "sshd", "key": "maxretry", "values": ["8"], "how": "replace"}]
    assert not file.exists()
    prompt("set", "sshd", "ignoreip", "192.0.2.1", "192.0.2.2", "--add")
    prompt("set", "sshd", "ignoreip", "192.0.2.1", "--remove")
    assert [(call["values"], call["how"]) for call in agent.asked("Set")[1:]] == [
        (["192.0.2.1", "192.0.2.2"], "add"),
        (["192.0.2.1"], "remove"),
    ]


def test_a_value_that_is_refused(agent: Answering, prompt: Prompt, file: Path) -> None:
    mistake = {"file": "banagent set", "line": 2, "key": "jails.sshd.maxretry", "value": "0", "text": "must be more"}
    agent.replies["Set"] = Error("NotReloaded", mistakes=[mistake])
    said = prompt("set", "sshd", "maxretry", "0", "--persist")
    assert (said.status, said.out) == (1, "")
    assert said.err.splitlines() == [
        "banagent: jails.sshd.maxretry = 0: must be more",
        "banagent: not set; what was in force stays",
    ]
    agent.replies["Set"] = Error("BadValue", key="jails.sshd.maxretri", reason="there is no such key")
    assert prompt("set", "sshd", "maxretri", "0").err == "banagent: jails.sshd.maxretri: there is no such key\n"
    assert not file.exists()


def test_what_persists(agent: Answering, prompt: Prompt, file: Path) -> None:
    def persist(key: str, shown: str, written: str) -> str:
        agent.replies["Set"] = {"settings": [setting(key, shown)], "written": f"[jails.sshd]\n{key} = {written}\n"}
        said = prompt("set", "sshd", key, "x", "--persist")
        assert (said.status, said.err) == (0, "")
        return said.out

    assert "+maxretry = 8" in persist("maxretry", "8", "8")
    persist("ignoreip", "[…]", '["192.0.2.1", "file:/etc/with \\"quotes\\" and \\u001b"]')
    out = persist("maxretry", "9", "9")
    assert "-maxretry = 8" in out
    assert "+maxretry = 9" in out
    persist("bantime", '"1h"', '{ factor = 2, time = "1h" }')
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in file.parent.iterdir()] == ["90-set.toml"]
    (jail,) = (jail for jail in config.load(whole=False).jails if jail.name == "sshd")
    assert (jail.maxretry, jail.bantime, [*map(str, jail.ignoreip)]) == (9, 3600, ["192.0.2.1"])
    assert jail.ignore_files == ('/etc/with "quotes" and \x1b',)
    assert "has it already" in persist("maxretry", "9", "9")


def test_a_file_that_overrules_is_told(agent: Answering, prompt: Prompt, file: Path) -> None:
    file.parent.mkdir(parents=True)
    later = file.with_name("99-more.toml")
    later.write_text("[jails.sshd]\nmaxretry = 3\n")
    agent.replies["Set"] = {"settings": [setting("maxretry", "8")], "written": "[jails.sshd]\nmaxretry = 8\n"}
    said = prompt("set", "sshd", "maxretry", "8", "--persist")
    assert said.status == 1
    assert said.out.splitlines()[-1] == f"but after a restart {later}:2 has the last word: maxretry = 3"


def test_only_root_persists(agent: Answering, prompt: Prompt, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("banagent.verbs.setting.geteuid", lambda: 1000)
    said = prompt("set", "sshd", "maxretry", "8", "--persist")
    assert (said.status, agent.calls, file.exists()) == (4, [], False)
