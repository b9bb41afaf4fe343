# SPDX-License-Identifier: LGPL-2.1-or-later
"""Peers that mean harm, or are broken: each costs little, and nobody else waits for it."""

from __future__ import annotations

import random
import select
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from banagent.control.server import AHEAD, Limits
from banagent.control.varlink import encode
from control.running import PATIENCE, Client, Running, running
from control.test_varlink import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Iterator

MEGABYTE: Final = 1 << 20


@pytest.fixture
def server() -> Iterator[Running]:
    with running() as run:
        yield run


def memory() -> int:
    """Give this process's own memory, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def descriptors_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def answers(run: Running) -> bool:
    with run.connect() as client:
        return "parameters" in client.call("Ban", addresses=["::1"])


def wait_for_hang_up(client: Client) -> None:
    """Wait until the server has closed, without taking what it sent."""
    poll = select.poll()
    poll.register(client.socket, 0)
    assert poll.poll(PATIENCE * 1000), "it was not cut off"


@pytest.mark.parametrize("frame", HOSTILE, ids=lambda frame: repr(frame[:40]))
def test_what_is_no_call_ends_the_connection(server: Running, frame: bytes) -> None:
    with server.connect() as client:
        client.ask("Ban", addresses=[])
        client.socket.sendall(frame + b"\0")
        assert client.reply() == {"parameters": {"banned": 0}}
        reply = client.reply()
        assert reply["error"] == "org.banagent.BadMessage"
        assert list(reply["parameters"]) == ["reason"]
        assert client.ended()
    assert answers(server)


def test_a_message_of_100_megabytes(server: Running) -> None:
    before = memory()
    with server.connect() as client:
        sent = 0
        with suppress(BrokenPipeError, ConnectionResetError):
            while sent < 100 * MEGABYTE:
                sent += client.socket.send(b"x" * 65536)
        assert sent < 3 * MEGABYTE
        assert client.reply()["parameters"] == {"reason": f"a message must not be longer than {MEGABYTE} bytes"}
        assert client.ended()
    assert memory() - before < 8 * MEGABYTE
    assert answers(server)


@pytest.mark.parametrize("beginning", [b"", b'{"method":"org.banagent.Li', b"x" * 100_000])
def test_silence_is_cut_off(beginning: bytes) -> None:
    with running(Limits(idle=0.1)) as run, run.connect() as client:
        client.socket.sendall(beginning)
        assert client.ended()


def test_a_request_that_drips_is_cut_off() -> None:
    with running(Limits(idle=0.1)) as run, run.connect() as client:
        deadline = time.monotonic() + PATIENCE
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012 - one of many sends
            while time.monotonic() < deadline:
                client.socket.send(b" ")


def test_a_follower_is_not_idle() -> None:
    with running(Limits(idle=0.5)) as run, run.connect() as follower, run.connect() as idle:
        follower.ask("Events", more=True, follow=True)
        assert idle.ended()  # connected later, so that the follower's time is over as well
        run.wait_for_followers(1)
        run.happen(1)
        assert follower.reply()["parameters"]["events"]


def test_who_never_reads_is_cut_off() -> None:
    with running(Limits(reply=0.2)) as run, run.connect() as lister, run.connect() as asker, run.connect() as follower:
        run.standing = 100_000
        lister.ask("List", more=True)
        follower.ask("Events", more=True, since=1, follow=True)
        asker.socket.setblocking(False)
        with suppress(BlockingIOError):  # until the server takes no more
            for _ in range(100_000):
                asker.ask("org.varlink.service.GetInterfaceDescription", interface="org.banagent")
        for _ in range(30):
            run.happen(300)
        assert answers(run)
        for client in (lister, asker, follower):
            wait_for_hang_up(client)
        assert run.portions_made < 100


def test_a_thousand_clients(server: Running) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(64)]
        assert all(client.call("Ban", addresses=[]) for client in clients)
        for _ in range(936):
            with server.connect() as refused:
                refused.ask("Ban", addresses=[])
                assert refused.reply() == {
                    "error": "org.banagent.TooMany",
                    "parameters": {"what": "connections", "limit": 64},
                }
                assert refused.ended()
        assert all(client.call("Ban", addresses=[]) for client in clients)
        clients[0].socket.close()
        deadline = time.monotonic() + PATIENCE
        while not _gets_in(server):  # the place is free when the server has read the end
            assert time.monotonic() < deadline
    assert len(server.calls) == 129


def _gets_in(server: Running) -> bool:
    with server.connect() as client:
        return "error" not in client.call("Ban", addresses=[])


def test_stalled_clients_stall_nobody(server: Running) -> None:
    server.standing = 100_000
    with ExitStack() as stack, server.connect() as client:
        for kind in range(60):
            stalled = stack.enter_context(server.connect())
            if kind % 4 == 0:
                stalled.socket.sendall(b'{"method":')
            elif kind % 4 == 1:
                stalled.ask("List", more=True)
            elif kind % 4 == 2:
                stalled.ask("Events", more=True, follow=True)
        took: list[float] = []
        for _ in range(200):
            begin = time.monotonic()
            assert client.call("Ban", addresses=["::1"]) == {"parameters": {"banned": 1}}
            took.append(time.monotonic() - begin)
    assert sorted(took)[190] < 0.25  # one that waits for a stalled one waits for 10 s


def test_followers_that_vanish_leave_their_places() -> None:
    """There are 64 places, nothing happens that would be sent, and no time runs out: they are seen to vanish."""
    with running(Limits(idle=3600, reply=3600)) as server:
        for number in range(200):
            with server.connect() as client:
                for _ in range(1 + number % AHEAD):
                    client.ask("Events", more=True, follow=True)
                deadline = time.monotonic() + PATIENCE
                while number >= 60 and not _gets_in(server):
                    assert time.monotonic() < deadline


def test_clients_that_vanish_at_any_moment(server: Running) -> None:
    server.standing = 10_000
    chance = random.Random(4)
    message = b'{"method":"org.banagent.List","more":true}\0{"method":"org.banagent.Ban"'
    for _ in range(500):
        with server.connect() as client, suppress(BrokenPipeError):
            client.socket.sendall(message[: chance.randrange(len(message))])
            if chance.random() < 0.3:
                client.socket.shutdown(chance.choice([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR]))
            if chance.random() < 0.3:
                client.socket.settimeout(0.001)
                with suppress(TimeoutError, ConnectionResetError):
                    client.socket.recv(chance.randrange(1, 65536))
    assert answers(server)


WRONG: Final[list[dict[str, Any]]] = [
    {"method": "org.banagent.Dance"},
    {"method": "a" * 1000},
    {"method": "\ud83d.\0\x1b[31m"},
    {"method": "org.banagent.Ban", "parameters": {"addresses": [1.0]}},
    {"method": "org.banagent.Ban", "parameters": {"addresses": ["x" * 500] * 3, "jial": {"a": [[[[]]]]}}},
    {"method": "org.banagent.List"},
    {"method": "org.banagent.Events", "parameters": {"since": -1, "follow": True}, "more": True},
    {"method": "org.banagent.Events", "parameters": {"since": 1 << 62}, "more": True},
    {"method": "org.banagent.Unban", "parameters": {"jail": "\x1b]0;x\x07"}},
]


def test_100_000_hostile_messages_leave_memory_flat(server: Running) -> None:
    _attack(server, 20)  # what is made once is made now
    before, descriptors = memory(), descriptors_open()
    _attack(server, 80)
    grown = memory() - before
    assert grown < 2 * MEGABYTE, f"{grown} bytes more"
    assert descriptors_open() <= descriptors + 4  # the last ones may just be closing
    assert answers(server)


def _attack(server: Running, rounds: int) -> None:
    """Send 1000 messages a round, of which 30 end their connection."""
    wrong = [encode(message) for message in WRONG]
    ends = list(HOSTILE)
    for number in range(rounds):
        with server.connect() as client:
            for _ in range(97):
                client.socket.sendall(b"".join(wrong) + wrong[0])
                for _ in range(10):
                    assert "error" in client.reply()
        for index in range(30):
            with server.connect() as client:
                client.socket.sendall(ends[(number * 30 + index) % len(ends)] + b"\0")
                assert client.reply()["error"] == "org.banagent.BadMessage"
