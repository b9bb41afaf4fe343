# SPDX-License-Identifier: LGPL-2.1-or-later
"""`ban`, `unban`, `off`, `on`, `reload`: what is sent, what is said, and what is refused before or by the agent."""

from __future__ import annotations

import socket as sockets
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from banagent.control.service import Error
from verbs.answering import ban

if TYPE_CHECKING:
    from pathlib import Path

    from verbs.answering import Answering
    from verbs.conftest import Prompt

LENGTHS = "a network is ADDRESS/LENGTH, of a length up to 32, or 128 with IPv6"
NETWORKS = [f"2001:db8:{number >> 8:x}:{number & 255:x}::/64" for number in range(25_000)]


def test_ban(agent: Answering, prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 50000 192.0.2.1 22")
    words = ("--jail", "sshd", "--for", "1d12h", "--comment", "a reason", "--force")
    assert prompt("ban", "192.0.2.1", "2001:DB8::1", "192.0.2.77/24", *words) == (0, "3 bans made\n", "")
    assert agent.asked("Ban") == [
        {
            "addresses": ["192.0.2.1", "2001:db8::1", "192.0.2.0/24"],
            "jail": "sshd",
            "bantime": 129_600,
            "permanent": None,
            "comment": "a reason",
            "caller": "203.0.113.9",
            "force": True,
        }
    ]


def test_ban_of_one_who_is_banned(agent: Answering, prompt: Prompt) -> None:
    assert prompt("ban", "192.0.2.1", "192.0.2.1").out == "1 ban made\n"
    assert prompt("ban", "192.0.2.1", "192.0.2.2").out == "1 ban made; 1 stood already\n"
    assert [call["addresses"] for call in agent.asked("Ban")] == [["192.0.2.1"], ["192.0.2.1", "192.0.2.2"]]


@pytest.mark.parametrize(
    ("text", "permanent", "bantime"), [("permanent", True, None), ("-1", True, None), ("90", None, 90)]
)
def test_ban_for(agent: Answering, prompt: Prompt, text: str, permanent: bool | None, bantime: int | None) -> None:  # noqa: FBT001 - a table
    assert prompt("ban", "192.0.2.1", f"--for={text}").status == 0
    (call,) = agent.asked("Ban")
    assert (call["permanent"], call["bantime"]) == (permanent, bantime)


@pytest.mark.parametrize("text", ["0", "-5", "1x", "", "400y"])
def test_ban_for_no_duration(agent: Answering, prompt: Prompt, text: str) -> None:
    said = prompt("ban", "192.0.2.1", f"--for={text}")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith(f"banagent: --for {text}: ")
    assert agent.calls == []


def test_own_address(agent: Answering, prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.replies["Ban"] = Error("Protected", address="203.0.113.0/24", reason="it is where you are logged in from")
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 50000 192.0.2.1 22")
    said = prompt("ban", "203.0.113.0/24")
    assert said.status == 1
    assert "--force bans it all the same" in said.err
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.9 50000 192.0.2.1 22")
    assert "--force" not in prompt("ban", "203.0.113.0/24").err


def test_unban(agent: Answering, prompt: Prompt) -> None:
    agent.bans = [ban("192.0.2.1"), ban("192.0.2.1", jail="manual"), ban("192.0.2.2"), ban("192.0.2.3", jail="manual")]
    assert prompt("unban", "192.0.2.1") == (0, "2 bans lifted\n", "")
    assert prompt("unban", "192.0.2.1") == (1, "0 bans lifted\n", "")
    assert prompt("unban", "--jail", "manual") == (0, "1 ban lifted\n", "")
    assert prompt("unban", "--all") == (0, "1 ban lifted\n", "")
    assert [(call["addresses"], call["jail"], call["all"]) for call in agent.asked("Unban")] == [
        (["192.0.2.1"], None, None),
        (["192.0.2.1"], None, None),
        (None, "manual", False),
        (None, None, True),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("ban",),
        ("ban", "--comment", "x"),
        ("unban",),
        ("unban", "--all", "192.0.2.1"),
        ("unban", "--all", "--jail", "sshd"),
        ("unban", "--offline"),
        ("unban", "--no-such-option"),
        ("unban", "--al"),
        ("why",),
        ("events", "--since", "x"),
        ("no-such-verb",),
        (),
    ],
)
def test_usage(agent: Answering, prompt: Prompt, words: tuple[str, ...]) -> None:
    said = prompt(*words)
    assert (said.status, said.out) == (2, "")
    assert said.err
    assert agent.calls == []


def test_switches(agent: Answering, prompt: Prompt) -> None:
    agent.bans = [ban("192.0.2.1")]
    assert prompt("off") == (0, "1 ban lifted; nobody is banned until: banagent on\n", "")
    assert prompt("on") == (0, "banning again, for what is logged from now on\n", "")
    assert prompt("reload") == (0, "reloaded; jails: sshd\n", "")


def test_resume(agent: Answering, prompt: Prompt) -> None:
    assert prompt("resume", "sshd") == (0, "sshd bans again; it held 12 bans back\n", "")
    assert agent.asked("Resume") == [{"jail": "sshd"}]
    agent.replies["Resume"] = {"withheld": None}
    assert prompt("resume", "sshd") == (1, "sshd had not stopped\n", "")
    agent.replies["Resume"] = Error("NoSuchJail", jail="shsd", known=["sshd"])
    said = prompt("resume", "shsd")
    assert (said.status, said.out) == (1, "")
    assert "did you mean sshd?" in said.err


def test_reload_with_mistakes(agent: Answering, prompt: Prompt) -> None:
    mistakes = [
        {"file": "a.toml", "line": 3, "key": "jails.sshd.maxretry", "value": '"\x1b"', "text": "must be a number"},
        {"file": "b.toml", "line": None, "key": None, "value": None, "text": "can't be read"},
    ]
    agent.replies["Reload"] = Error("NotReloaded", mistakes=mistakes)
    said = prompt("reload")
    assert (said.status, said.out) == (1, "")
    assert said.err.splitlines() == [
        'banagent: a.toml:3: jails.sshd.maxretry = "\\x1b": must be a number',
        "banagent: b.toml: can't be read",
        "banagent: not reloaded; the former configuration stays in force",
    ]


# --- addresses in wrong forms ---


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        # names
        ("example.org", "names are not looked up"),
        ("localhost", "names are not looked up"),
        ("", "names are not looked up"),
        # IPv4 with something missing, too much, or written otherwise
        ("192.0.2", "neither port nor zone"),
        ("192.0.2.256", "neither port nor zone"),
        ("192.0.2.1.1", "neither port nor zone"),
        ("192.0.02.1", "neither port nor zone"),
        ("0xc0000201", "neither port nor zone"),
        ("3221225985", "neither port nor zone"),
        ("192.0.2.1:22", "neither port nor zone"),
        ("192.0.2.1-192.0.2.9", "neither port nor zone"),
        ("١٩٢.0.2.1", "neither port nor zone"),
        # IPv6
        ("2001:db8", "neither port nor zone"),
        ("2001:db8::1::2", "neither port nor zone"),
        ("[2001:db8::1]:22", "neither port nor zone"),
        ("fe80::1%eth0", "neither port nor zone"),
        # networks
        ("192.0.2.0/33", "a network is ADDRESS/LENGTH"),
        ("192.0.2.0/", "a network is ADDRESS/LENGTH"),
        ("192.0.2.0/-1", "a network is ADDRESS/LENGTH"),
        ("192.0.2.0/255.255.255.0", "a network is ADDRESS/LENGTH"),
        ("2001:db8::/129", "a network is ADDRESS/LENGTH"),
        ("192.0.2.0/24/24", "a network is ADDRESS/LENGTH"),
        # enemies
        ("192.0.2.1\n", "neither port nor zone"),
        ("192.0.2.1\0", "neither port nor zone"),
        ("\x1b[2J", "names are not looked up"),
        ("\udcff", "names are not looked up"),
        ("9" * 100_000, "neither port nor zone"),
    ],
)
@pytest.mark.parametrize("verb", ["ban", "unban", "why"])
def test_no_address(agent: Answering, prompt: Prompt, verb: str, word: str, hint: str) -> None:
    said = prompt(verb, word)
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith('banagent: "')
    assert hint in said.err
    assert said.err.count("\n") == 1
    assert len(said.err) < 250
    assert said.err.rstrip("\n").isprintable()
    assert agent.calls == []


def test_one_bad_address_stops_all(agent: Answering, prompt: Prompt, tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    listed.write_text("192.0.2.1 # the first\n\n192.0.2.2 bad/1\n# all of it\nworse\n")
    assert prompt("ban", "192.0.2.9", "--file", str(listed)).err.splitlines() == [
        f'banagent: {listed}:3: "bad/1" is neither an address nor a network; {LENGTHS}',
        f'banagent: {listed}:5: "worse" is neither an address nor a network; names are not looked up',
    ]
    assert agent.calls == []


def test_not_all_mistakes_are_told(agent: Answering, prompt: Prompt, tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    listed.write_text("bad\n" * 1000)
    lines = prompt("ban", "--file", str(listed)).err.splitlines()
    assert len(lines) == 21
    assert lines[-1].endswith("and so on; only the first 20 are told")
    assert agent.calls == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "can't be read: No such file or directory"),
        (b"", "there is no address in what was read"),
        (b"# nothing\n\n", "there is no address in what was read"),
        (b"\xff\xfe", "is neither an address nor a network"),
        (bytes(100_000), "the line is longer than 4096 bytes; is it a list of addresses?"),
    ],
)
def test_no_list(agent: Answering, prompt: Prompt, tmp_path: Path, content: bytes | None, said: str) -> None:
    listed = tmp_path / "listed"
    if content is not None:
        listed.write_bytes(content)
    done = prompt("ban", "--file", str(listed))
    assert done.status == 1
    assert said in done.err
    assert agent.calls == []


# --- many addresses ---


@pytest.mark.parametrize("words", [("-",), ("--file", "-")])
def test_many_on_standard_input(agent: Answering, prompt: Prompt, words: tuple[str, ...]) -> None:
    many = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(100_000)]
    agent.replies["Ban"] = {"banned": 10_000}
    assert prompt.run("ban", *words, stdin="\n".join(many)) == (0, "100,000 bans made\n", "")
    calls = [call["addresses"] for call in agent.asked("Ban")]
    assert [len(call) for call in calls] == [10_000] * 10
    assert [address for call in calls for address in call] == many


def test_many_of_which_one_is_refused_at_first(agent: Answering, prompt: Prompt, tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    listed.write_text("\n".join(NETWORKS))
    agent.replies["Ban"] = Error("Protected", address=NETWORKS[7], reason="it is ignored")
    said = prompt("ban", "--file", str(listed))
    assert said.status == 1
    assert said.err.endswith("it is ignored; so none of the 25,000 networks was taken\n")
    assert len(agent.asked("Ban")) == 1


def test_many_of_which_one_is_refused_later(agent: Answering, prompt: Prompt, tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    listed.write_text("\n".join(NETWORKS))
    refusal = Error("Protected", address=NETWORKS[12_000], reason="it is ignored")
    agent.refuse = ("Ban", NETWORKS[12_000], refusal)
    said = prompt("ban", "--file", str(listed))
    assert said.status == 1
    assert said.err.endswith("it is ignored; the first 10,000 of 25,000 were taken, the others were not\n")
    assert len(agent.bans) == 10_000


# --- trouble with the agent ---

ASKING: list[tuple[str, ...]] = [
    ("status",),
    ("status", "sshd"),
    ("list",),
    ("history",),
    ("jails",),
    ("events",),
    ("events", "--follow"),
    ("why", "192.0.2.1"),
    ("config",),
    ("ban", "192.0.2.1"),
    ("unban", "--all"),
    ("off",),
    ("on",),
    ("resume", "sshd"),
    ("reload",),
]


@pytest.mark.parametrize("words", ASKING)
def test_no_agent(prompt: Prompt, words: tuple[str, ...]) -> None:
    told = "banagent: the agent is not running; start it with: systemctl start banagent\n"
    assert prompt(*words) == (3, "", told)


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("words", [("list", "--jail", "shsd"), ("history", "--jail", "shsd"), ("status", "shsd")])
def test_no_such_jail(prompt: Prompt, words: tuple[str, ...]) -> None:
    said = prompt(*words)
    assert (said.status, said.out) == (1, "")
    assert "did you mean sshd?" in said.err


@pytest.mark.parametrize("words", ASKING)
def test_not_permitted(agent: Answering, prompt: Prompt, words: tuple[str, ...]) -> None:
    for method in ("Status", "Jails", "List", "History", "Events", "Why", "GetConfig", "Ban", "Unban", "Off", "On"):
        agent.replies[method] = Error("NotPermitted", uid=1000, method=f"org.banagent.{method}")
    agent.replies["Reload"] = agent.replies["Resume"] = agent.replies["On"]
    said = prompt(*words)
    assert (said.status, said.out) == (4, "")
    assert "uid 1000 may not call" in said.err


def test_socket_of_another_owner(prompt: Prompt, socket: Path) -> None:
    """The uid of whoever listens is looked at; here nobody's, which needs root to set up."""
    listener = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.setuid(65534);"
        "s.listen(); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", listener, str(socket)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"ready\n"
        said = prompt("ban", "192.0.2.1")
        assert other.stdin
        other.stdin.close()
    assert (said.status, said.out) == (1, "")
    assert "uid 65534 listens there" in said.err


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (b"", "broke off"),
        (b"nonsense\0", "does not speak Varlink"),
        (b"[" * 100_000 + b"\0", "does not speak Varlink"),
        (b'{"parameters": {}}\0', "does not tell state: it is of another version"),
    ],
)
def test_agent_that_talks_nonsense(socket: Path, reply: bytes, told: str) -> None:
    with sockets.socket(sockets.AF_UNIX) as listening:
        listening.bind(str(socket))
        listening.listen()
        with subprocess.Popen(
            [sys.executable, "-m", "banagent", "--socket", str(socket), "status"],
            env={"PYTHONPATH": ":".join(sys.path)},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as asking:
            connected, _ = listening.accept()
            with closing(connected):
                connected.recv(65536)
                connected.sendall(reply)
            out, err = asking.communicate()
    assert (asking.returncode, out) == (1, "")
    assert told in err
    assert err.count("\n") == 1
