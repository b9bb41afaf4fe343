# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real server of `org.banagent` in a thread, whose handlers give what a test tells them to."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from banagent.control import INTERFACE, READING
from banagent.control.events import EventLog
from banagent.control.server import Server
from banagent.control.service import About, Call, Error, Permitted, Service, portions, read_interface
from banagent.core.address import parse_network

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from pathlib import Path

    from banagent.control.service import Answer

PATIENCE: Final = 60.0
HOSTILE: Final = "eve\x1b[2J\x1b]0;owned\x07\u202e\u0301"
WIDE: Final = "管理者"


def ago(**length: float) -> str:
    return (datetime.now(UTC) - timedelta(**length)).strftime("%Y-%m-%dT%H:%M:%SZ")


def ahead(**length: float) -> str:
    return ago(**{unit: -value for unit, value in length.items()})


def ban(address: str, **facts: Any) -> dict[str, Any]:
    return {
        "address": address,
        "jail": "sshd",
        "start": ago(minutes=12, seconds=5),
        "end": ahead(minutes=47, seconds=55.9),
        "bantime": 3600,
        "failures": 5,
        "earlier": 0,
        "user": "root",
        "filter": "sshd",
        "pattern": "password",
        "comment": None,
        "lifted": None,
        "reason": None,
    } | facts


def jail(name: str, **facts: Any) -> dict[str, Any]:
    return {
        "jail": name,
        "state": "active",
        "reason": None,
        "counts": "failures",
        "filter": name,
        "ports": ["22"],
        "maxretry": 5,
        "findtime": 3600,
        "bantime": 3600,
        "failures": 3,
        "failures_total": 1204,
        "bans": 4,
        "bans_total": 51,
    } | facts


def status(**facts: Any) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "state": "live",
        "start": ago(days=3, hours=4),
        "dry_run": False,
        "read": ago(seconds=2),
        "bans": 4,
        "allowed": 0,
        "failures": 1204,
        "decided": 51,
        "attention": [],
        "jails": [jail("sshd")],
        "latest": [
            ban("192.0.2.1"),
            ban("2001:db8:1:2::/64", end=None, bantime=None, user=None),
            ban("198.51.100.23", user=HOSTILE, start=ago(hours=2, minutes=41)),
            ban("203.0.113.254", user=WIDE, lifted=ago(minutes=1), reason="admin"),
        ],
    } | facts


class Answering:
    """A server, what it was asked, and what it answers: `replies` by method, or its own small set of bans."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.replies: dict[str, Mapping[str, Any] | Error] = {}
        self.bans: list[dict[str, Any]] = []
        self.allowed: list[dict[str, Any]] = []
        self.portion = 250
        self.refuse: tuple[str, str, Error] | None = None  # a method, an address that it does not take, what it says
        self.faults: list[tuple[str, Exception]] = []
        self.events = EventLog()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop

    def asked(self, method: str) -> list[dict[str, Any]]:
        """Give the parameters of the calls of a method."""
        return [parameters for name, parameters in self.calls if name == method]

    def happen(self, kind: str, **facts: Any) -> None:
        """Let an event happen."""
        done = threading.Event()

        def append() -> None:
            self.events.append(kind, {"time": "2026-01-31T23:59:59Z", **facts})
            done.set()

        self._loop.call_soon_threadsafe(append)
        assert done.wait(PATIENCE)

    async def main(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        interface = read_interface(INTERFACE)
        handlers = {method: self._handler(method) for method in interface.methods}
        permitted = Permitted(os.geteuid(), None, READING)
        about = About("an example", "banagent", "0.1.0", "https://example.org/")
        server = Server(self.path, Service(interface, handlers, permitted, about, self._fault))
        await server.start()
        started.set()
        await self._stop.wait()
        await server.close()

    def end(self) -> None:
        """Let the server end, and all connections with it."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)

    def _fault(self, where: str, error: Exception) -> None:
        self.faults.append((where, error))

    def _handler(self, method: str) -> Callable[[Call], Any]:
        async def handle(call: Call) -> Answer:
            self.calls.append((method, dict(call.parameters)))
            reply = self.replies.get(method)
            if isinstance(reply, Error):
                raise reply
            if self.refuse and self.refuse[0] == method and self.refuse[1] in call.parameters["addresses"]:
                raise self.refuse[2]
            if method == "Events":
                return await self.events.reply(call)
            if method == "Allowed":
                return portions("allowed", self.allowed if reply is None else reply["allowed"], self.portion)
            if method in ("List", "History"):
                return portions("bans", self._matching(call) if reply is None else reply["bans"], self.portion)
            return self._own(method, call) if reply is None else reply

        return handle

    def _matching(self, call: Call) -> Iterator[dict[str, Any]]:
        wanted = call.parameters["jail"]
        if wanted not in (None, "sshd", "manual"):
            raise Error("NoSuchJail", jail=wanted, known=["sshd", "manual"])
        within = call.parameters.get("network")
        return (
            item
            for item in self.bans
            if wanted in (None, item["jail"])
            and (within is None or parse_network(within).covers(parse_network(item["address"])))
        )

    def _own(self, method: str, call: Call) -> Answer:
        given = call.parameters
        if method == "Status":
            return status()
        if method == "Jails":
            return {"jails": [jail("sshd")]}
        if method == "Ban":
            standing = {(item["address"], item["jail"]) for item in self.bans}
            name = given["jail"] or "manual"
            new = [text for text in given["addresses"] if (text, name) not in standing]
            self.bans += [ban(text, jail=name, comment=given["comment"]) for text in new]
            return {"banned": len(new)}
        if method in ("Allow", "Disallow", "Reset"):
            return self._ruled(method, given)
        if method in ("Unban", "Off"):
            everything = method == "Off" or given["all"]
            lifted = [
                item
                for item in self.bans
                if everything
                or (
                    given["jail"] in (None, item["jail"])
                    and item["address"] in (given["addresses"] or [item["address"]])
                )
            ]
            self.bans = [item for item in self.bans if item not in lifted]
            return {"lifted": len(lifted)}
        others: dict[str, dict[str, Any]] = {"On": {}, "Resume": {"withheld": 12}, "Reload": {"jails": ["sshd"]}}
        return others[method]

    def _ruled(self, method: str, given: Mapping[str, Any]) -> Answer:
        if method == "Allow":
            now = ago(seconds=0)
            end = None if given["duration"] is None else ahead(seconds=given["duration"])
            self.allowed += [
                {"address": text, "start": now, "end": end, "comment": given["comment"]} for text in given["addresses"]
            ]
            return {"allowed": len(given["addresses"]), "lifted": 1}
        if method == "Disallow":
            named = [item for item in self.allowed if given["all"] or item["address"] in given["addresses"]]
            self.allowed = [item for item in self.allowed if item not in named]
            return {"disallowed": len(named)}
        return {"failures": 2, "bans": 1, "lifted": 3 if given["unban"] else 0}


@contextmanager
def answering(path: Path) -> Generator[Answering]:
    """Run a server; a fault in its handlers is one of the test's."""
    made = Answering(path)
    started = threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(made.main(started),))
    thread.start()
    try:
        assert started.wait(PATIENCE)
        yield made
    finally:
        made.end()
        thread.join()
    assert made.faults == []
