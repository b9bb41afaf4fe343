# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from banagent.control import INTERFACE
from banagent.control.server import ControlError, Limits, listen
from banagent.control.service import About, Peer, Permitted, Service, read_interface
from banagent.control.varlink import Request
from control.running import ABOUT, Running, ban, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[Running]:
    with running() as run:
        yield run


# introspection


def test_info_is_as_varlinkctl_expects_it(server: Running) -> None:
    with server.connect() as client:
        client.ask("org.varlink.service.GetInfo")
        assert client.frame() == (
            b'{"parameters":{"vendor":"an example","product":"banagent","version":"1.2.3",'
            b'"url":"https://example.org/","interfaces":["org.varlink.service","org.banagent"]}}'
        )


@pytest.mark.parametrize("interface", ["org.banagent", "org.varlink.service"])
def test_description_is_the_file(server: Running, interface: str) -> None:
    folder = Path(__file__).parents[2] / "agent/banagent/control"
    with server.connect() as client:
        reply = client.call("org.varlink.service.GetInterfaceDescription", interface=interface)
    assert reply == {"parameters": {"description": (folder / f"{interface}.varlink").read_text()}}


# calls and replies


@pytest.mark.parametrize(
    ("method", "parameters", "error", "facts"),
    [
        # what is not there
        ("com.example.List", {}, "org.varlink.service.InterfaceNotFound", {"interface": "com.example"}),
        ("List.", {}, "org.varlink.service.InterfaceNotFound", {"interface": "List"}),
        (".", {}, "org.varlink.service.InterfaceNotFound", {"interface": ""}),
        ("org.banagent.list", {}, "org.varlink.service.MethodNotFound", {"method": "org.banagent.list"}),
        ("org.banagent.", {}, "org.varlink.service.MethodNotFound", {"method": "org.banagent."}),
        ("On", {}, "org.varlink.service.MethodNotImplemented", {"method": "org.banagent.On"}),
        (
            "org.varlink.service.GetInterfaceDescription",
            {"interface": "com.example"},
            "org.varlink.service.InterfaceNotFound",
            {"interface": "com.example"},
        ),
        # what does not fit
        ("Ban", {}, "org.varlink.service.InvalidParameter", {"parameter": "addresses"}),
        ("Ban", {"addresses": ["::1", 2]}, "org.varlink.service.InvalidParameter", {"parameter": "addresses[1]"}),
        (
            "Ban",
            {"addresses": [], "bantime": 1.5},
            "org.varlink.service.InvalidParameter",
            {"parameter": "bantime"},
        ),
        ("List", {"jial": "sshd"}, "org.varlink.service.InvalidParameter", {"parameter": "jial"}),
        ("List", {}, "org.varlink.service.ExpectedMore", {}),
        # what a handler refuses
        ("Unban", {"jail": "ssh"}, "org.banagent.NoSuchJail", {"jail": "ssh", "known": ["sshd"]}),
    ],
)
def test_errors(server: Running, method: str, parameters: Any, error: str, facts: Any) -> None:
    with server.connect() as client:
        assert client.call(method, **parameters) == {"error": error, "parameters": facts}
        assert client.call("Ban", addresses=["::1"]) == {"parameters": {"banned": 1}}  # it goes on


def test_a_handler_gets_parameters_that_fit_and_the_peer(server: Running) -> None:
    with server.connect() as client:
        client.call("Ban", addresses=["::1"], force=True)
    ((_, call),) = server.calls
    assert call.parameters == dict.fromkeys(["jail", "bantime", "permanent", "comment", "caller"]) | {
        "addresses": ["::1"],
        "force": True,
    }
    assert (call.peer.pid, call.peer.uid) == (os.getpid(), os.geteuid())
    assert call.peer.groups >= {os.getegid(), *os.getgroups()}


def test_faults_are_told_and_answered(server: Running) -> None:
    fault: Any = {"error": "org.banagent.InternalError", "parameters": {}}
    with server.connect() as client:
        assert client.call("Why", address="::1") == fault  # it raises
        assert client.call("Off") == fault  # its reply does not fit
        assert client.call("Reload") == fault  # its error does not fit
        client.ask("History", more=True)  # it raises in the middle
        assert [client.reply() for _ in range(2)] == [{"parameters": {"bans": []}, "continues": True}, fault]
        client.ask("Jails", more=True)  # it ends, and a follower must not
        assert [client.reply() for _ in range(2)] == [{"parameters": {"jails": []}, "continues": True}, fault]
    told = [where for where, _ in server.faults]
    assert told == [f"{INTERFACE}.{name}" for name in ("Why", "Off", "NotReloaded", "History", "Jails")]
    server.faults.clear()


def test_replies_come_in_the_order_of_the_calls(server: Running) -> None:
    with server.connect() as client:
        for count in range(100):
            client.ask("Ban", addresses=["::1"] * count)
        assert [client.reply()["parameters"]["banned"] for _ in range(100)] == list(range(100))


def test_calls_may_come_in_pieces(server: Running) -> None:
    with server.connect() as client:
        for byte in b'{"method":"org.banagent.Ban","parameters":{"addresses":[]}}\0':
            client.socket.send(bytes([byte]))
        assert client.reply() == {"parameters": {"banned": 0}}


def test_oneway_gets_no_reply_not_even_an_error(server: Running) -> None:
    with server.connect() as client:
        client.ask("Ban", oneway=True, addresses=["::1"])
        client.ask("Ban", oneway=True)
        client.ask("List", oneway=True)
        client.ask("com.example.List", oneway=True)
        assert client.call("Ban", addresses=[]) == {"parameters": {"banned": 0}}
    assert [len(call.parameters["addresses"]) for _, call in server.calls] == [1, 0]


def test_who_says_no_more_still_gets_the_replies(server: Running) -> None:
    with server.connect() as client:
        client.ask("List", more=True)
        client.ask("Ban", addresses=[])
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.reply().get("continues") for _ in range(3)] == [True, True, None]
        assert client.reply() == {"parameters": {"banned": 0}}
        assert client.ended()


@pytest.mark.parametrize(("standing", "sizes"), [(0, [0]), (1, [1]), (100, [100]), (250, [100, 100, 50])])
def test_a_listing_comes_in_portions(server: Running, standing: int, sizes: list[int]) -> None:
    server.standing = standing
    with server.connect() as client:
        client.ask("List", more=True)
        replies = [client.reply() for _ in sizes]
    assert [len(reply["parameters"]["bans"]) for reply in replies] == sizes
    assert [reply.get("continues") for reply in replies] == [True] * (len(sizes) - 1) + [None]
    got = [item for reply in replies for item in reply["parameters"]["bans"]]
    assert got == [ban(number) | {"user": "root\ufffd\x1b[31m?"} for number in range(standing)]


def test_a_listing_is_made_as_it_is_taken(server: Running) -> None:
    """Of 100,000 bans the server makes no more than fits into the socket, and answers others meanwhile."""
    server.standing = 100_000
    with server.connect() as slow, server.connect() as other:
        slow.ask("List", more=True)
        slow.reply()
        for _ in range(100):
            assert other.call("Ban", addresses=[])
        assert 1 < server.portions_made < 100
        count, reply = 100, None
        while reply is None or "continues" in reply:
            reply = slow.reply()
            count += len(reply["parameters"]["bans"])
    assert count == 100_000


def test_others_have_a_turn_between_portions(server: Running) -> None:
    """Whatever the peer takes at once: a listing must not keep the loop until the socket is full."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def take() -> list[int]:
        counting = asyncio.create_task(count())
        call = Request("org.banagent.List", {}, more=True)
        seen = [turns async for _ in service.replies(call, Peer(1, 0, frozenset()))]
        counting.cancel()
        return seen

    permitted = Permitted(0, None, frozenset())
    service = Service(read_interface(INTERFACE), {"List": server.list}, permitted, ABOUT, server.fault)
    seen = asyncio.run(take())
    assert len(seen) == 3
    assert sorted(set(seen)) == seen


# events


def test_events_from_any_number_on(server: Running) -> None:
    server.happen(250)
    with server.connect() as client:
        client.ask("Events", more=True, since=41)
        replies = [client.reply() for _ in range(3)]
        events = [event for reply in replies for event in reply["parameters"]["events"]]
        assert [event["sequence"] for event in events] == list(range(41, 251))
        assert events[0] == {"sequence": 41, "kind": "banned", "time": "2026-01-31T23:59:59Z", "jail": "sshd"}
        assert "continues" not in replies[-1]
        client.ask("Events", more=True)  # from now on, without waiting: none
        assert client.reply() == {"parameters": {"events": []}}
        assert client.call("Events", more=True, since=252) == {
            "error": "org.banagent.Lost",
            "parameters": {"since": 252, "first": 1, "next": 251},
        }


def test_followers_get_each_event_as_it_happens(server: Running) -> None:
    server.happen(3)
    with server.connect() as old, server.connect() as new:
        old.ask("Events", more=True, since=2, follow=True)
        assert [event["sequence"] for event in old.reply()["parameters"]["events"]] == [2, 3]
        new.ask("Events", more=True, follow=True)
        new.ask("Ban", addresses=[])  # waits behind the events, for ever
        server.wait_for_followers(2)
        server.happen(1)
        for client in (old, new):
            reply = client.reply()
            assert [event["sequence"] for event in reply["parameters"]["events"]] == [4]
            assert reply["continues"] is True
    assert server.calls == []


def test_a_follower_that_is_too_slow_is_told(server: Running) -> None:
    with server.connect() as client:
        client.ask("Events", more=True, since=1, follow=True)
        server.happen(1)
        assert client.reply()["continues"]
        for _ in range(30):
            server.happen(1000)
        reply = client.reply()
        while "continues" in reply:
            reply = client.reply()
        assert reply["error"] == "org.banagent.Lost"
        assert reply["parameters"]["next"] == 30_002
        assert reply["parameters"]["first"] == 20_002


# the socket


def test_the_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    umask = os.umask(0)
    try:
        with listen(path, os.getegid()) as listening:
            status = path.stat()
            assert stat.S_IMODE(status.st_mode) == 0o660
            assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
            assert not listening.getblocking()
    finally:
        os.umask(umask)


def test_the_socket_is_never_open_to_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "socket"
    modes: list[int] = []
    chmod = Path.chmod

    def note(self: Path, mode: int) -> None:
        modes.append(stat.S_IMODE(self.stat().st_mode))
        chmod(self, mode)

    monkeypatch.setattr(Path, "chmod", note)
    umask = os.umask(0)
    try:
        listen(path, os.getegid()).close()
    finally:
        os.umask(umask)
    assert modes == [0o600]


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listen(path, None).close()
    assert path.is_socket()
    with listen(path, None), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with listen(path, None), pytest.raises(ControlError, match=f"pid {os.getpid()} does; is the agent running"):
        listen(path, None)
    path.unlink()
    path.write_text("a file")
    with pytest.raises(ControlError, match="is no socket; move it away"):
        listen(path, None)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ControlError, match="is no socket"):
        listen(path, None)
    path.unlink()
    path.mkdir()
    with pytest.raises(ControlError, match="is no socket"):
        listen(path, None)
    with pytest.raises(ControlError, match=r"cannot listen on .*: No such file or directory"):
        listen(tmp_path / "nowhere" / "socket", None)
    with pytest.raises(ControlError, match="too long"):
        listen(tmp_path / ("x" * 120), None)


def test_at_the_end_the_socket_is_gone_and_peers_are_told() -> None:
    with running() as run:
        client = run.connect()
        client.ask("Events", more=True, follow=True)
        idle = run.connect()
        assert idle.call("Ban", addresses=[])
    with client, idle:
        assert client.ended()
        assert idle.ended()
    assert not run.path.exists()


def test_a_socket_of_a_successor_is_left_alone() -> None:
    with running() as run:
        run.path.unlink()
        successor = listen(run.path, None)
        run.run(run.server.close())
        assert run.path.is_socket()
        successor.close()


def test_a_service_that_does_not_fit_its_interface_is_refused() -> None:
    interface = read_interface(INTERFACE)

    def make(**changes: Any) -> Service:
        parts: dict[str, Any] = {
            "interface": interface,
            "handlers": {},
            "permitted": Permitted(0, None, frozenset()),
            **changes,
        }
        return Service(**parts, about=About(*ABOUT), fault=lambda _where, _error: None)

    with pytest.raises(ValueError, match=r"org\.banagent has no method Dance"):
        make(handlers={"Dance": json.dumps})
    with pytest.raises(ValueError, match=r"org\.banagent has no method Dance"):
        make(permitted=Permitted(0, None, frozenset({"Dance"})))
    with pytest.raises(ValueError, match=r"org\.varlink\.service has no error BadMessage"):
        make(interface=read_interface("org.varlink.service"))


def test_limits_leave_room_for_root() -> None:
    limits = Limits()
    assert limits.connections_uid < limits.connections_others < limits.connections
