# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may do what, with the kernel's own word on who it is."""

from __future__ import annotations

import os
import socket
import stat
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest

from banagent.control import INTERFACE, READING
from banagent.control.client import Agent, NotPermitted, WrongOwner
from banagent.control.server import ControlError, Limits, listen
from banagent.control.service import read_interface
from control.running import Client, Running, running
from control.users import user

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.kernel

OWNER: Final = 4001
GROUP: Final = 4002
MEMBER: Final = 4003
STRANGER: Final = 4004
OTHER_GROUP: Final = 4005


@pytest.fixture
def server() -> Iterator[Running]:
    with running(group=GROUP, owner=OWNER) as run:
        yield run


def connect_as(run: Running, uid: int, gid: int, groups: Sequence[int] = ()) -> Client:
    with user(uid, gid, groups):
        return run.connect()


def not_permitted(uid: int, method: str) -> dict[str, Any]:
    return {"error": "org.banagent.NotPermitted", "parameters": {"uid": uid, "method": method}}


def test_a_stranger_does_not_get_in(server: Running) -> None:
    with user(STRANGER, OTHER_GROUP), pytest.raises(PermissionError):
        server.connect()
    with user(STRANGER, OTHER_GROUP), pytest.raises(NotPermitted, match="only root and members of group"):
        Agent(str(server.path))


@pytest.mark.parametrize(
    "method",
    ["org.banagent.List", "org.banagent.Ban", "org.varlink.service.GetInfo", "com.example.List"],
)
def test_a_stranger_that_gets_in_is_refused_everything(server: Running, method: str) -> None:
    server.path.chmod(0o666)
    with connect_as(server, STRANGER, OTHER_GROUP) as client:
        client.ask(method)
        client.ask(method)
        assert client.reply() == not_permitted(STRANGER, method)
        assert client.ended()


def test_what_a_stranger_says_in_one_way_is_not_done(server: Running) -> None:
    server.path.chmod(0o666)
    with connect_as(server, STRANGER, OTHER_GROUP) as client:
        client.ask("Ban", oneway=True, addresses=["::1"])
        assert client.ended()
    assert server.calls == []


@pytest.mark.parametrize("groups", [(GROUP, ()), (OTHER_GROUP, (7, GROUP))], ids=["primary", "supplementary"])
def test_a_member_reads_and_changes_nothing(server: Running, groups: tuple[int, Sequence[int]]) -> None:
    with connect_as(server, MEMBER, *groups) as client:
        assert client.call("GetConfig") == {"parameters": {"settings": []}}
        assert "parameters" in client.call("org.varlink.service.GetInfo")
        server.happen(1)
        assert client.call("Events", more=True, since=1)["parameters"]["events"]
        for method in ("Ban", "Unban", "Off", "On", "Reload"):
            assert client.call(method) == not_permitted(MEMBER, f"org.banagent.{method}")
        assert client.call("Dance")["error"] == "org.varlink.service.MethodNotFound"
        assert client.call("List", more=True)["continues"]
    assert [name for name, _ in server.calls] == ["GetConfig"]


def test_the_socket_is_of_the_group(server: Running) -> None:
    status = server.path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o660, 0, GROUP)


def test_every_method_is_either_for_reading_or_refused(server: Running) -> None:
    with connect_as(server, MEMBER, GROUP) as client:
        for method in read_interface(INTERFACE).methods:
            reply = client.call(method, no_such_parameter=1)
            refused = reply["error"] == "org.banagent.NotPermitted"
            assert refused == (method not in READING), method


@pytest.mark.parametrize(("uid", "gid"), [(0, 0), (OWNER, OTHER_GROUP)], ids=["root", "owner"])
def test_root_and_the_agent_itself_may_do_everything(server: Running, uid: int, gid: int) -> None:
    server.path.chmod(0o666)
    with connect_as(server, uid, gid) as client:
        assert client.call("Ban", addresses=["::1"]) == {"parameters": {"banned": 1}}
    ((_, call),) = server.calls
    assert (call.peer.uid, call.peer.pid) == (uid, os.getpid())


def test_of_very_many_groups_only_the_primary_one_is_known(server: Running) -> None:
    server.path.chmod(0o666)
    many = list(range(5000, 5300))
    with connect_as(server, MEMBER, OTHER_GROUP, [*many, GROUP]) as client:
        assert client.call("GetConfig") == not_permitted(MEMBER, "org.banagent.GetConfig")
    with connect_as(server, MEMBER, GROUP, many) as client:
        assert "parameters" in client.call("GetConfig")


def test_only_root_may_send_a_megabyte(server: Running) -> None:
    addresses = ["2001:db8::1"] * 5000
    with server.connect() as client:
        assert client.call("Ban", addresses=addresses) == {"parameters": {"banned": 5000}}
    with connect_as(server, MEMBER, GROUP) as client:
        reply = client.call("Ban", addresses=addresses)
        assert reply == {
            "error": "org.banagent.BadMessage",
            "parameters": {"reason": "a message must not be longer than 65536 bytes"},
        }
        assert client.ended()


def test_others_are_held_to_a_rate() -> None:
    with running(Limits(rate_others=100), group=GROUP, owner=OWNER) as run:
        took: list[float] = []
        for uid in (MEMBER, 0):
            with connect_as(run, uid, GROUP) as client:
                begin = time.monotonic()
                for _ in range(250):  # 100 at once, and the others one in 10 ms
                    client.ask("GetConfig")
                for _ in range(250):
                    assert "parameters" in client.reply()
                took.append(time.monotonic() - begin)
        assert took[0] > 1.4
        assert took[1] < 1.4


def test_others_can_not_take_all_connections() -> None:
    limits = Limits(connections=12, connections_others=8, connections_uid=3)
    with running(limits, group=GROUP, owner=OWNER) as run, ExitStack() as stack:

        def fill(uid: int) -> tuple[int, Any]:
            """Connect until it is refused; give how many got in, and what the last was told."""
            for count in range(100):
                client = stack.enter_context(connect_as(run, uid, GROUP))
                reply = client.call("org.varlink.service.GetInfo")
                if "error" in reply:
                    assert client.ended()
                    return count, reply
            raise AssertionError("never refused")

        def refused(what: str, limit: int) -> dict[str, Any]:
            return {"error": "org.banagent.TooMany", "parameters": {"what": what, "limit": limit}}

        assert fill(MEMBER) == (3, refused("connections of one user", 3))
        assert fill(MEMBER + 100) == (3, refused("connections of one user", 3))
        assert fill(MEMBER + 101) == (2, refused("connections", 8))
        assert fill(0) == (4, refused("connections", 12))


def test_a_socket_of_another_user_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listen(path, None).close()
    os.chown(path, STRANGER, -1)
    with pytest.raises(ControlError, match=f"is of uid {STRANGER}; remove it"):
        listen(path, None)


def test_the_client_refuses_a_socket_of_another_user(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        with user(STRANGER, OTHER_GROUP):
            listening.listen()
        with pytest.raises(WrongOwner, match=f"uid {STRANGER} listens there"):
            Agent(path)
        Agent(path, owner=STRANGER).close()
