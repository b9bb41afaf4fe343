# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bans while an enemy floods the control socket; and, as a program, that enemy.

    python -m bench.flood SOCKET MESSAGES

It is root, so that no limit on the rate holds it back, which members of the group would meet. It prints how many
messages the agent answered, and how many connections it ended.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import banagent
from banagent.control import INTERFACE
from banagent.control.client import Agent as Client
from banagent.control.varlink import DEPTH, LONGEST, encode
from bed.journald import Journald
from bed.netns import Namespace
from bench import attack
from bench.agent import Agent
from bench.figures import Figure, Goal, percentile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from bed.journald import Writer

MESSAGES: Final = 100_000
SILENT_BANS: Final = 200
ATTACKERS: Final = 8  # connections at a time that send and read
IDLERS: Final = 8  # and such as send half a message and wait
DEAF: Final = 8  # and such as ask for much and never read
BATCH: Final = 8  # messages that are sent at once, if none of them ends the connection
FLAT: Final = 1.5  # MB by which what is held may vary: over 700,000 messages it was 1.1
_PATIENCE: Final = 60.0
_CLOSING: Final = 5.0  # seconds within which descriptors must be closed

# what is answered with an error, and the connection goes on
_MESSAGES: Final[tuple[dict[str, Any], ...]] = (
    {"method": f"{INTERFACE}.Dance"},
    {"method": "a" * 1000},
    {"method": "\x1b]0;owned\x07\x1b[2J.\u202e\x00"},
    {"method": f"{INTERFACE}.Ban", "parameters": {"addresses": ["\x1b[31m" * 50, "x" * 500]}},
    {"method": f"{INTERFACE}.Ban", "parameters": {"addresses": [1.0], "jial": [[[[]]]]}},
    {"method": f"{INTERFACE}.List"},
    {"method": f"{INTERFACE}.List", "parameters": {"jail": "\x1b[8m"}, "more": True},
    {"method": f"{INTERFACE}.Events", "parameters": {"since": -1, "follow": True}, "more": True},
    {"method": f"{INTERFACE}.Unban", "parameters": {"jail": "\x1b]0;x\x07"}},
)
REFUSED: Final = tuple(map(encode, _MESSAGES))
# what ends it
NONE: Final = (
    b"}{\0",
    b"\0",
    b"\xff\xfe\0",
    b'{"method": "a.B", "method": "a.C"}\0',
    b'{"method": "a.B", "parameters": {"x": ' + b"9" * 5000 + b"}}\0",
    b"[" * 10_000 + b"]" * 10_000 + b"\0",
    b'{"a":' * (DEPTH + 1) + b"1" + b"}" * (DEPTH + 1) + b"\0",
)
OVERLONG: Final = b"x" * (LONGEST + 1)
HALF: Final = encode({"method": f"{INTERFACE}.List"})[:20]
MUCH: Final = encode({"method": "org.varlink.service.GetInterfaceDescription", "parameters": {"interface": INTERFACE}})


# --- the enemy ---


class Sent(NamedTuple):
    """What came of the messages: answered, or with which a connection ended."""

    answered: int
    ended: int


def flood(path: str, messages: int) -> Sent:
    """Send messages, most of them answered at once, from several connections at a time."""
    with ExitStack() as stack, ThreadPoolExecutor(ATTACKERS) as attackers:
        for _ in range(IDLERS):
            stack.enter_context(_connected(path)).sendall(HALF)
        for _ in range(DEAF):
            deaf = stack.enter_context(_connected(path))
            deaf.setblocking(False)
            with suppress(BlockingIOError, BrokenPipeError):
                while True:
                    deaf.send(MUCH)
        shares = [_share(messages, number) for number in range(ATTACKERS)]
        done = list(attackers.map(_attack, [path] * ATTACKERS, shares, map(random.Random, range(ATTACKERS))))
    return Sent(sum(sent.answered for sent in done), sum(sent.ended for sent in done))


def _share(messages: int, number: int) -> int:
    return messages // ATTACKERS + (number < messages % ATTACKERS)


def _attack(path: str, messages: int, chance: Random) -> Sent:
    answered = ended = 0
    while answered + ended < messages:
        with _connected(path) as connected:
            for _ in range(chance.randrange(8)):
                size = min(BATCH, messages - answered - ended)
                connected.sendall(b"".join(chance.choices(REFUSED, k=size)))
                _read(connected, size)
                answered += size
            if answered + ended < messages:
                _end(connected, chance)
                ended += 1
    return Sent(answered, ended)


def _end(connected: socket.socket, chance: Random) -> None:
    """Send what ends a connection, or go away in the middle of it."""
    kind = chance.random()
    if kind < 0.2:
        connected.sendall(HALF)
    elif kind < 0.3:
        connected.sendall(MUCH * BATCH)
    else:
        with suppress(BrokenPipeError, ConnectionResetError):  # it does not wait for the end of what is too long
            connected.sendall(OVERLONG if kind < 0.4 else chance.choice(NONE))
            _read(connected, 1)


def _read(connected: socket.socket, replies: int) -> None:
    """Take so many replies. Raises EOFError, TimeoutError."""
    while replies:
        data = connected.recv(1 << 16)
        if not data:
            raise EOFError("the agent ended a connection without a reply")
        replies -= data.count(0)


def _connected(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(_PATIENCE)
    made.connect(path)
    return made


# --- the bans meanwhile ---


def measure(scratch: Path, messages: int) -> Iterator[Figure]:
    """Measure bans with a silent socket and with a flooded one, and what the agent holds before and after."""
    namespace = Namespace()
    try:
        with (
            Journald(scratch / "talkative") as journald,
            journald.writer() as writer,
            Agent(namespace, journald.path, scratch / "flooded") as agent,
            attack.notices(namespace) as notices,
        ):
            agent.wait_until_live()
            bans = _bans(writer, notices)
            silent = [next(bans) for _ in range(SILENT_BANS)]
            before = _held(agent)
            began = time.monotonic()
            with _flooding(agent.socket, messages) as flooding:
                flooded = _while(flooding, bans)
                seconds = time.monotonic() - began
                sent = _result(flooding)
            between = _held(agent, like=before)
            with _flooding(agent.socket, messages) as flooding:
                _result(flooding)
            after = _held(agent, like=before)
            answer = _seconds_to_answer(agent.socket)
    finally:
        namespace.close()
    yield Figure("entry to element, the control socket silent: p50", percentile(silent, 0.5) * 1000, "ms", Goal(50, 10))
    yield Figure("  p95", percentile(silent, 0.95) * 1000, "ms", Goal(50))
    yield Figure(
        f"  {sum(sent):,} hostile messages meanwhile: p50", percentile(flooded, 0.5) * 1000, "ms", Goal(50, 10)
    )
    yield Figure("  p95", percentile(flooded, 0.95) * 1000, "ms", Goal(50))
    yield Figure("  messages a second", sum(sent) / seconds, "")
    yield Figure("  connections ended for what they sent", sent.ended, "")
    yield Figure("  RssAnon before any of them", before.anonymous, "MB")
    yield Figure(f"  after them, and {len(flooded)} bans", between.anonymous, "MB")
    yield Figure("  after as many again, without bans", after.anonymous, "MB", Goal(between.anonymous + FLAT))
    yield Figure("  open descriptors before", before.descriptors, "")
    yield Figure("  and after", after.descriptors, "", Goal(before.descriptors))
    yield Figure("  Status then answers within", answer * 1000, "ms")


class _Held(NamedTuple):
    anonymous: float  # MB
    descriptors: int


def _held(agent: Agent, like: _Held | None = None) -> _Held:
    """Give what the agent holds, when it has closed what its peers left."""
    deadline = time.monotonic() + _CLOSING
    while like is not None and agent.descriptors() > like.descriptors and time.monotonic() < deadline:
        time.sleep(0.05)
    return _Held(agent.memory().anonymous, agent.descriptors())


def _bans(writer: Writer, notices: socket.socket) -> Iterator[float]:
    """Ban one after the other, and give the seconds that each took."""
    chance = random.Random(1)
    for number in count(1):
        yield attack.ban(f"203.0.{number >> 8}.{number & 255}", writer, notices, gap=chance.uniform(0, 0.03))


def _while(flooding: subprocess.Popen[str], bans: Iterator[float]) -> list[float]:
    """Ban until the flood is over; the last one may not have met it."""
    taken: list[float] = []
    while flooding.poll() is None:
        taken.append(next(bans))
    return taken[:-1]


def _flooding(path: Path, messages: int) -> subprocess.Popen[str]:
    folders = os.pathsep.join((str(Path(__file__).parents[1]), str(Path(banagent.__file__).parents[1])))
    return subprocess.Popen(
        [sys.executable, "-m", "bench.flood", str(path), str(messages)],
        env={**os.environ, "PYTHONPATH": folders},
        stdout=subprocess.PIPE,
        text=True,
    )


def _result(flooding: subprocess.Popen[str]) -> Sent:
    said, _ = flooding.communicate(timeout=_PATIENCE)
    if flooding.returncode:
        raise RuntimeError(f"the flood of the control socket ended with status {flooding.returncode}")
    return Sent(*json.loads(said))


def _seconds_to_answer(path: Path) -> float:
    before = time.monotonic()
    with Client(str(path), owner=os.geteuid()) as client:
        client.call("Status")
    return time.monotonic() - before


if __name__ == "__main__":
    print(json.dumps(flood(sys.argv[1], int(sys.argv[2]))))
