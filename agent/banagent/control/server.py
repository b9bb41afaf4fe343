# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control socket: connections, and what each of them may cost.

For each connection two tasks: one reads and cuts frames, one answers them in their order. Nothing is kept for a peer
but a few requests that it has sent ahead and the one reply that it is being sent; a peer that does not take its
replies is cut off, and meanwhile holds up nobody but itself.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import stat
import struct
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.control.service import Error, Peer, Service
from banagent.control.varlink import LONGEST, Framer, MessageError, parse_request
from banagent.errors import BanagentError

if TYPE_CHECKING:
    from pathlib import Path

    from banagent.control.varlink import Request

MODE: Final = 0o660  # of the socket
BACKLOG: Final = 128
AHEAD: Final = 4  # requests that are read before the one in front of them is answered
PAUSE: Final = 1.0  # seconds until connections are accepted again, when the kernel had no descriptor to give
_RECEIVE: Final = 65536
_SO_PEERGROUPS: Final = 59  # <asm-generic/socket.h>
_MOST_GROUPS: Final = 256  # socket.getsockopt gives up to 1024 bytes
_UCRED: Final = struct.Struct("iII")  # unix(7): pid, uid, gid


class ControlError(BanagentError):
    """The control socket can't be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What peers may cost. Root and the agent's own user are held to fewer of them."""

    connections: int = 64  # in all
    connections_others: int = 48  # of all but root and the agent's own user: they can't lock those out
    connections_uid: int = 16  # of one such user
    request: int = LONGEST  # bytes
    request_others: int = 65536
    rate_others: float = 50  # requests a second and connection, as many at once; what is more has to wait
    idle: float = 60  # seconds without a whole request
    reply: float = 10  # seconds to take a reply


class Server:
    """A service on a unix socket."""

    def __init__(self, path: Path, service: Service, limits: Limits = Limits()) -> None:
        self._path = path
        self._service = service
        self._limits = limits
        self._connections: dict[asyncio.Task[None], Peer] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._listening: socket.socket | None = None
        self._inode: tuple[int, int] | None = None

    async def start(self) -> None:
        """Bind the socket and serve in the background. Raises ControlError."""
        self._listening = listen(self._path, self._service.permitted.group)
        self._inode = _inode(self._path)
        self._accepting = asyncio.create_task(self._accept(self._listening))

    async def close(self) -> None:
        """End all connections and take the socket away, if it is still ours."""
        accepting = [] if self._accepting is None else [self._accepting]
        tasks = [*accepting, *self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()
        with suppress(OSError):
            if self._inode is not None and _inode(self._path) == self._inode:
                self._path.unlink()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, _ = await loop.sock_accept(listening)
            except OSError as error:  # no descriptors or no memory are left
                self._service.fault("accept", error)
                await asyncio.sleep(PAUSE)
            else:
                self._welcome(connected)

    def _welcome(self, connected: socket.socket) -> None:
        """Serve a connection, or say that there are too many and close it."""
        peer = peer_of(connected)
        if error := self._too_many(peer):
            with suppress(OSError):
                connected.send(self._service.error(error))
            connected.close()
            return
        task = asyncio.create_task(_Connection(connected, peer, self._service, self._limits).run())
        self._connections[task] = peer

        def end(task: asyncio.Task[None]) -> None:
            del self._connections[task]
            connected.close()

        task.add_done_callback(end)

    def _too_many(self, peer: Peer) -> Error | None:
        limits, trusts = self._limits, self._service.permitted.trusts
        if len(self._connections) >= limits.connections:
            return Error("TooMany", what="connections", limit=limits.connections)
        if trusts(peer):
            return None
        others = [other.uid for other in self._connections.values() if not trusts(other)]
        if others.count(peer.uid) >= limits.connections_uid:
            return Error("TooMany", what="connections of one user", limit=limits.connections_uid)
        if len(others) >= limits.connections_others:
            return Error("TooMany", what="connections", limit=limits.connections_others)
        return None


class _End(NamedTuple):
    """No more requests come, or none can."""

    reason: str | None


class _Connection:
    """One peer and what it asks."""

    def __init__(self, connected: socket.socket, peer: Peer, service: Service, limits: Limits) -> None:
        self._socket = connected
        self._peer = peer
        self._service = service
        self._limits = limits
        self._trusted = service.permitted.trusts(peer)
        self._loop = asyncio.get_running_loop()
        self._requests: asyncio.Queue[bytes | _End] = asyncio.Queue(AHEAD)
        self._allowance = limits.rate_others  # requests that it may make at once
        self._allowed_at = self._loop.time()

    async def run(self) -> None:
        """Serve until the peer has enough or is cut off."""
        reading = asyncio.create_task(self._read())
        answering = asyncio.create_task(self._answer_all())
        try:
            with suppress(OSError):
                await self._until_done(reading, answering)
        finally:
            reading.cancel()
            answering.cancel()
            for outcome in await asyncio.gather(reading, answering, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
                    self._service.fault("connection", outcome)

    async def _until_done(self, reading: asyncio.Task[_End], answering: asyncio.Task[None]) -> None:
        await asyncio.wait({reading, answering}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done() or reading.exception() or _has_hung_up(self._socket):
            return
        # it says no more but listens, as `printf … | socat` does: what it asked is answered, what it follows ends
        async with asyncio.timeout(self._limits.reply):
            await self._requests.put(reading.result())
            await asyncio.wait({answering})

    async def _read(self) -> _End:
        """Read requests until there are no more, or what comes is none."""
        framer = Framer(self._limits.request if self._trusted else self._limits.request_others)
        try:
            while data := await self._loop.sock_recv(self._socket, _RECEIVE):
                for frame in framer.feed(data):
                    await self._requests.put(frame)
        except MessageError as error:
            return _End(str(error))
        return _End(None)

    async def _answer_all(self) -> None:
        while True:
            async with asyncio.timeout(self._limits.idle):
                frame = await self._requests.get()
            if isinstance(frame, _End):
                if frame.reason is not None:
                    await self._refuse(frame.reason)
                return
            try:
                request = parse_request(frame)
            except MessageError as error:
                await self._refuse(str(error))
                return
            await self._pace()
            await self._answer(request)
            if not self._service.permitted.admits(self._peer):
                return

    async def _answer(self, request: Request) -> None:
        async with aclosing(self._service.replies(request, self._peer)) as replies:
            async for frame in replies:
                if not request.oneway:
                    await self._send(frame)

    async def _refuse(self, reason: str) -> None:
        await self._send(self._service.error(Error("BadMessage", reason=reason)))

    async def _send(self, frame: bytes) -> None:
        async with asyncio.timeout(self._limits.reply):
            await self._loop.sock_sendall(self._socket, frame)

    async def _pace(self) -> None:
        """Wait until the peer may ask again."""
        if self._trusted:
            return
        rate, now = self._limits.rate_others, self._loop.time()
        self._allowance = min(rate, self._allowance + (now - self._allowed_at) * rate) - 1
        self._allowed_at = now
        if self._allowance < 0:
            await asyncio.sleep(-self._allowance / rate)


def peer_of(connected: socket.socket) -> Peer:
    """Give who connected. Of somebody in more than 256 groups only the primary one is known."""
    pid, uid, gid = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    try:
        groups = connected.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MOST_GROUPS)
    except OSError:  # ERANGE
        groups = b""
    return Peer(pid, uid, frozenset((gid, *struct.unpack(f"{len(groups) // 4}I", groups))))


def listen(path: Path, group: int | None) -> socket.socket:
    """Bind and listen on `path`, for its owner and `group` only. A socket nobody listens on is replaced.

    Raises ControlError: somebody listens there, or what is there is no socket or is somebody else's.
    """
    _make_way(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(listening.fileno(), 0o600)  # of an unbound socket it is the mode that bind begins with
        listening.bind(str(path))
        if group is not None and path.lstat().st_gid != group:  # the unit's sandbox forbids chown
            os.chown(path, -1, group)
        path.chmod(MODE)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ControlError(f"cannot listen on {path}: {error.strerror or error}") from error
    return listening


def _make_way(path: Path) -> None:
    """Remove a socket that an agent left. Raises ControlError."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ControlError(f"cannot listen on {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(status.st_mode):
        raise ControlError(f"cannot listen on {path}: what is there is no socket; move it away")
    if status.st_uid != os.geteuid():
        raise ControlError(f"cannot listen on {path}: the socket there is of uid {status.st_uid}; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:  # EAGAIN: it listens, and many wait already
            raise ControlError(f"cannot listen on {path}: {error.strerror}") from error
        raise ControlError(f"cannot listen on {path}: pid {peer_of(probe).pid} does; is the agent running already?")


def _has_hung_up(connected: socket.socket) -> bool:
    """Whether the peer has closed both ways (POLLHUP, poll(2))."""
    poll = select.poll()
    poll.register(connected, 0)
    return bool(poll.poll(0))


def _inode(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
