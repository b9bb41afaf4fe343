# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from banagent.control.client import Agent, ControlError, NoAnswer, NotRunning, Refused
from control.running import PATIENCE, Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENT: Final = Path(__file__).parents[2] / "agent"


@pytest.fixture
def server() -> Iterator[Running]:
    with running() as run:
        yield run


def test_call_and_stream(server: Running) -> None:
    server.standing = 1000
    with Agent(str(server.path)) as agent:
        assert agent.call("Ban", addresses=["::1"], comment="naïve \U0001f600") == {"banned": 1}
        bans = [ban for reply in agent.stream("List") for ban in reply["bans"]]
        assert len(bans) == 1000
        assert agent.call("Ban", addresses=[]) == {"banned": 0}
    assert server.calls[0][1].parameters["comment"] == "naïve \U0001f600"


def test_a_refusal_carries_facts(server: Running) -> None:
    with Agent(str(server.path)) as agent:
        with pytest.raises(Refused, match=r"^there is no jail 'sshdd'; did you mean sshd\?$") as caught:
            agent.call("Unban", jail="sshdd")
        assert (caught.value.name, caught.value.status) == ("NoSuchJail", 1)
        assert caught.value.parameters == {"jail": "sshdd", "known": ["sshd"]}
        with pytest.raises(Refused, match="the parameter addresses as it is"):
            agent.call("Ban", addresses="::1")
        with pytest.raises(Refused, match="event 7 is not there; the oldest is 1"):
            list(agent.stream("Events", since=7))
        assert agent.call("Ban", addresses=[]) == {"banned": 0}


@pytest.mark.parametrize(
    ("name", "facts", "text"),
    [
        ("NoSuchJail", {"jail": "\x1b[31m", "known": ["a", "b"]}, "there is no jail '\\x1b[31m'; there are: a, b"),
        ("NoSuchJail", {"jail": "a", "known": []}, "there is no jail 'a'; there are: none"),
        ("BadAddress", {"address": "1.2\n", "reason": "not an address"}, "'1.2\\n': not an address"),
        ("NoHistory", {"reason": "cannot write"}, "cannot write; see: banagent status"),
        ("TurnedOff", {}, "the agent is off and bans nobody; turn it on first: banagent on"),
        ("Protected", {"address": "::1", "reason": "it is loopback"}, "::1 is not banned: it is loopback"),
        ("TooMany", {"what": "connections", "limit": 64}, "too many connections; the agent takes 64 at a time"),
        ("com.example.Odd", {"a": "\x1b"}, 'the agent refused: com.example.Odd {"a": "\\u001b"}'),
        ("NoSuchJail", {"jial": 1}, 'the agent refused: NoSuchJail {"jial": 1}'),
        ("Protected", {}, "the agent refused: Protected {}"),
    ],
)
def test_a_refusal_in_words(name: str, facts: dict[str, Any], text: str) -> None:
    assert str(Refused(name, facts)) == text


def test_an_agent_that_is_not_running(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    for _ in ("no socket", "nobody listens"):
        with pytest.raises(
            NotRunning, match=r"^the agent is not running; start it with: systemctl start banagent$"
        ) as caught:
            Agent(str(path))
        assert caught.value.status == 3
        if not path.exists():
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(str(path))


def test_who_comes_when_there_are_too_many_is_told(server: Running) -> None:
    agents = [Agent(str(server.path)) for _ in range(64)]
    for agent in agents:
        agent.call("Ban", addresses=[])
    with (
        Agent(str(server.path)) as refused,
        pytest.raises(Refused, match="too many connections; the agent takes 64 at a time"),
    ):
        refused.call("Ban", addresses=[])
    for agent in agents:
        agent.close()


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"", "the agent broke off while it answered Status"),
        (b'{"parameters":{', "the agent broke off while it answered Status"),
        (b"HTTP/1.1 400 Bad Request\0", "does not speak Varlink"),
        (b"[]\0", "does not speak Varlink"),
        (b"[" * 100_000 + b"\0", "does not speak Varlink"),
        (b"\xff\0", "does not speak Varlink"),
    ],
)
def test_an_agent_that_answers_nonsense(tmp_path: Path, said: bytes, text: str) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        with Agent(path) as agent:
            accepted = listening.accept()[0]
            accepted.sendall(said)
            accepted.close()
            with pytest.raises(NoAnswer, match=text):
                agent.call("Status")


def test_an_agent_that_hangs(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(0)
        with Agent(path, patience=0.05) as agent:
            with pytest.raises(NoAnswer, match=r"has not answered Status in 0\.05 s; see: systemctl status banagent"):
                agent.call("Status")
            with pytest.raises(NoAnswer, match="has not answered Ban"):
                agent.call("Ban", addresses=["2001:db8::1"] * 100_000)
            with pytest.raises(NoAnswer, match="accepts no connection; see: systemctl status"):
                Agent(path, patience=0.05)


def test_other_troubles_are_one_line_each(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="too long"):
        Agent(str(tmp_path / ("x" * 120)))
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlError, match=r"cannot connect to .*: Not a directory"):
        Agent(str(tmp_path / "file" / "socket"))


def test_the_client_imports_little() -> None:
    """It imports nothing of the project, and of the standard library nothing that takes long."""
    code = "import sys; before = set(sys.modules); import banagent.control.client; print(*set(sys.modules) - before)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=AGENT, capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert {name for name in loaded if name.startswith("banagent")} == {
        "banagent",
        "banagent.control",
        "banagent.control.client",
    }
    assert not loaded & {"asyncio", "dataclasses", "typing", "logging", "difflib", "pathlib", "importlib.resources"}
    assert {name.partition(".")[0] for name in loaded} - {"banagent"} <= sys.stdlib_module_names


FOLLOWER: Final = """
import sys
from banagent.control.client import Agent
with Agent(sys.argv[1], patience=None) as agent:
    for reply in agent.stream("Events", since=int(sys.argv[2]), follow=True):
        for event in reply["events"]:
            print(event["sequence"], flush=True)
"""


def test_a_follower_killed_50_times_sees_each_event_once(server: Running) -> None:
    chance = random.Random(50)
    seen: list[int] = []
    last = 0
    for _ in range(50):
        last = server.happen(chance.randrange(1, 60))
        with _follower(server.path, seen[-1] + 1 if seen else 1) as follower:
            assert follower.stdout
            wanted = chance.randrange(len(seen), last)  # killed when it has told this many, or some more
            told = b""
            while len(seen) + told.count(b"\n") < wanted:
                told += _read(follower.stdout.fileno())
            if chance.random() < 0.5:
                last = server.happen(chance.randrange(1, 300))
            follower.send_signal(signal.SIGKILL)
            told += follower.stdout.read()
        seen += map(int, told.rpartition(b"\n")[0].split())
    with _follower(server.path, seen[-1] + 1) as follower:
        assert follower.stdout
        told = b""
        while len(seen) + told.count(b"\n") < last:
            told += _read(follower.stdout.fileno())
        follower.kill()
    seen += map(int, told.split())
    assert seen == list(range(1, last + 1))


def _follower(path: Path, since: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", FOLLOWER, str(path), str(since)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(AGENT)})


def _read(descriptor: int) -> bytes:
    deadline = time.monotonic() + PATIENCE
    ready, _, _ = select.select([descriptor], [], [], deadline - time.monotonic())
    assert ready, "the follower says nothing"
    data = os.read(descriptor, 65536)
    assert data, "the follower has ended"
    return data
