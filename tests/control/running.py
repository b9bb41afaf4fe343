# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real server of `org.banagent` in a thread, with handlers that do what a test needs; and a plain client."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from banagent.control import INTERFACE, READING
from banagent.control.events import EventLog
from banagent.control.server import Limits, Server
from banagent.control.service import About, Call, Error, Permitted, Service, portions, read_interface
from banagent.control.varlink import Object, encode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

    from banagent.control.service import Answer

PATIENCE: Final = 60.0
ABOUT: Final = About("an example", "banagent", "1.2.3", "https://example.org/")


def ban(number: int) -> Object:
    return {
        "address": f"2001:db8::{number:x}",
        "jail": "sshd",
        "start": "2026-01-31T23:59:59Z",
        "end": None,
        "bantime": None,
        "failures": 5,
        "earlier": 0,
        "user": "root\0\x1b[31m\udc80",
        "filter": "sshd",
        "pattern": "password",
        "comment": None,
        "lifted": None,
        "reason": None,
    }


class Running:
    """A server, what went wrong in it, and what its handlers have."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[tuple[str, str]] = []  # where, and what
        self.events = EventLog()
        self.calls: list[tuple[str, Call]] = []
        self.standing = 250
        self.portions_made = 0
        self.loop: asyncio.AbstractEventLoop
        self.server: Server

    def fault(self, where: str, error: Exception) -> None:
        self.faults.append((where, repr(error)))

    def happen(self, count: int) -> int:
        """Let events happen in the server's loop, and give the number of the last one."""

        async def append() -> int:
            facts = {"time": "2026-01-31T23:59:59Z", "jail": "sshd"}
            return [self.events.append("banned", facts) for _ in range(count)][-1]

        last: int = self.run(append())
        return last

    def wait_for_followers(self, count: int) -> None:
        """Wait until as many followers have been given all events there are."""

        async def wait() -> None:
            async with asyncio.timeout(PATIENCE):
                events: Any = self.events
                while len(events._arrived._waiters) < count:  # noqa: ASYNC110 - nobody tells that somebody waits
                    await asyncio.sleep(0)

        self.run(wait())

    def run(self, job: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(job, self.loop).result(PATIENCE)

    def connect(self) -> Client:
        return Client(self.path)

    # handlers

    async def ban(self, call: Call) -> Answer:
        self.calls.append(("Ban", call))
        return {"banned": len(call.parameters["addresses"])}

    async def list(self, _call: Call) -> Answer:
        def counted() -> Iterator[Object]:
            for portion in portions("bans", map(ban, range(self.standing))):
                self.portions_made += 1
                yield portion

        return counted()

    async def unban(self, call: Call) -> Answer:
        raise Error("NoSuchJail", jail=call.parameters["jail"], known=["sshd"])

    async def why(self, _call: Call) -> Answer:
        raise KeyError("a fault")

    async def off(self, _call: Call) -> Answer:
        return {"lifted": "many"}

    async def reload(self, _call: Call) -> Answer:
        raise Error("NotReloaded", mistakes="many")

    async def history(self, _call: Call) -> Answer:
        def broken() -> Iterator[Object]:
            yield {"bans": []}
            yield {"bans": []}
            raise KeyError("a fault")

        return broken()

    async def jails(self, _call: Call) -> Answer:
        async def ends() -> AsyncGenerator[Object, None]:
            yield {"jails": []}

        return ends()

    async def get_config(self, call: Call) -> Answer:
        self.calls.append(("GetConfig", call))
        return {"settings": []}


class Client:
    """A connection that sends what it is told to, and no more."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, method: str, /, *, more: bool = False, oneway: bool = False, **parameters: Any) -> None:
        name = method if "." in method else f"{INTERFACE}.{method}"
        with suppress(BrokenPipeError):  # what the server said before it closed can still be read
            self.socket.sendall(encode({"method": name, "parameters": parameters, "more": more, "oneway": oneway}))

    def call(self, method: str, /, **parameters: Any) -> Any:
        self.ask(method, **parameters)
        return self.reply()

    def frame(self) -> bytes:
        """Give the next frame, or b"" at the end."""
        while b"\0" not in self._read:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                assert not self._read, "it ended within a frame"
                return b""
            self._read += data
        frame, _, self._read = self._read.partition(b"\0")
        return frame

    def reply(self) -> Any:
        """Give the next reply; None at the end."""
        frame = self.frame()
        return json.loads(frame) if frame else None

    def ended(self) -> bool:
        """Wait for the end; whether nothing came before it."""
        return self.frame() == b""


@contextmanager
def running(
    limits: Limits = Limits(),  # noqa: B008 - frozen
    *,
    group: int | None = None,
    owner: int | None = None,
) -> Generator[Running]:
    """Run a server that anybody can reach; what went wrong in it must have been looked at."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        run = Running(Path(folder) / "socket")
        started, stop = threading.Event(), asyncio.Event()
        unexpected: list[Any] = []

        async def main() -> None:
            run.loop = asyncio.get_running_loop()
            run.loop.set_exception_handler(lambda _loop, context: unexpected.append(context))
            handlers: dict[str, Callable[[Call], Any]] = {
                "Ban": run.ban,
                "List": run.list,
                "Unban": run.unban,
                "Why": run.why,
                "Off": run.off,
                "Reload": run.reload,
                "History": run.history,
                "Jails": run.jails,
                "GetConfig": run.get_config,
                "Events": run.events.reply,
            }
            permitted = Permitted(os.geteuid() if owner is None else owner, group, READING)
            service = Service(read_interface(INTERFACE), handlers, permitted, ABOUT, run.fault)
            run.server = Server(run.path, service, limits)
            await run.server.start()
            started.set()
            await stop.wait()
            await run.server.close()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            unexpected.extend(left)

        thread = threading.Thread(target=asyncio.run, args=(main(),))
        thread.start()
        try:
            assert started.wait(PATIENCE)
            yield run
        finally:
            run.loop.call_soon_threadsafe(stop.set)
            thread.join()
        assert not unexpected, unexpected
        assert not run.faults, run.faults
