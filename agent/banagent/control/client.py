# SPDX-License-Identifier: LGPL-2.1-or-later
"""A blocking client of the control socket. It imports little, because a prompt waits for it.

ControlError        `status` is the exit status that fits it; its text is for the admin
├── NotRunning      nobody listens (3)
├── NotPermitted    the caller may not do this (4)
├── NoAnswer        the agent is there but does not reply, or not as Varlink has it (1)
├── WrongOwner      the socket is not the agent's (1)
└── Refused         the agent said no (1); `name` and `parameters` say why
"""

from __future__ import annotations

import json
import os
import socket
import struct

from banagent.control import INTERFACE

TYPE_CHECKING = False  # importing typing would take longer than all of the rest
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

SOCKET = "/run/banagent/org.banagent"
USER = "banagent"
PATIENCE = 30.0  # seconds
LONGEST = 16 << 20  # bytes of a reply
_RECEIVE = 1 << 18


class ControlError(Exception):
    """The agent was not asked, or it refused; the text is one line."""

    status = 1


class NotRunning(ControlError):  # noqa: N818 - it is what is said to the admin, as are those below
    """Nobody listens on the socket."""

    status = 3


class NotPermitted(ControlError):  # noqa: N818
    """The caller may not connect, or may not call this method."""

    status = 4


class NoAnswer(ControlError):  # noqa: N818
    """The agent does not reply in time, breaks off, or replies with what is no Varlink."""


class WrongOwner(ControlError):  # noqa: N818
    """Somebody listens on the socket who is neither root nor the agent's user."""


class Refused(ControlError):  # noqa: N818
    """The agent replied with an error: its name without the interface's (NoSuchJail), and its facts."""

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        super().__init__(_sentence(name, parameters))
        self.name = name
        self.parameters = parameters


class Agent:
    """A connection to the agent, for one call after another."""

    def __init__(self, path: str = SOCKET, *, owner: int | None = None, patience: float | None = PATIENCE) -> None:
        """Connect. `owner` is the uid that may listen there besides root and the caller; by default the agent's user.

        `patience` is how many seconds the agent may take for a reply; None waits for ever, as followers must. Raises
        ControlError.
        """
        self._path = path
        self._patience = patience
        self._read = bytearray()
        self._socket = _connect(path, patience)
        try:
            self._check_owner(owner)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Agent:  # noqa: PYI034 - Self is in typing
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a stream under way ends."""
        self._socket.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON has
        """Call a method of the agent and give what it replies. Raises ControlError."""
        self._send(method, parameters, more=False)
        return self._reply(method)[0]

    def stream(self, method: str, **parameters: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
        """Call a method that replies in portions, and give each. Raises ControlError.

        The agent cuts off who leaves a portion lying for 10 seconds.
        """
        self._send(method, parameters, more=True)
        continues = True
        while continues:
            reply, continues = self._reply(method)
            yield reply

    def _check_owner(self, owner: int | None) -> None:
        """See that the one who listens is one who may (SO_PEERCRED, unix(7))."""
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        listener: int = struct.unpack("iII", credentials)[1]
        if listener in (0, os.geteuid(), owner):
            return
        if owner is None and listener == _uid_of(USER):
            return
        raise WrongOwner(f"{self._path} is not the agent's socket: uid {listener} listens there; find out who that is")

    def _send(self, method: str, parameters: dict[str, Any], *, more: bool) -> None:
        message = {"method": f"{INTERFACE}.{method}", "parameters": parameters, "more": more}
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\0")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the agent has closed; what it said before can still be read
        except TimeoutError:
            raise self._no_answer(method) from None

    def _reply(self, method: str) -> tuple[dict[str, Any], bool]:
        """Give the parameters of the next reply, and whether more come."""
        try:
            message = json.loads(self._frame(method))
            parameters: dict[str, Any] = message.get("parameters") or {}
            error: str | None = message.get("error")
            continues = bool(message.get("continues"))
        except (ValueError, AttributeError, RecursionError):
            raise NoAnswer(f"what listens on {self._path} does not speak Varlink") from None
        if error is None:
            return parameters, continues
        raise _error(error, parameters)

    def _frame(self, method: str) -> bytes:
        searched = 0
        while (end := self._read.find(0, searched)) < 0:
            searched = len(self._read)
            if searched > LONGEST:
                raise NoAnswer(f"the reply to {method} is longer than {LONGEST} bytes")
            try:
                data = self._socket.recv(_RECEIVE)
            except TimeoutError:
                raise self._no_answer(method) from None
            except ConnectionResetError:
                data = b""
            if not data:
                raise NoAnswer(f"the agent broke off while it answered {method}; see: journalctl -u banagent")
            self._read += data
        frame = bytes(self._read[:end])
        del self._read[: end + 1]
        return frame

    def _no_answer(self, method: str) -> NoAnswer:
        return NoAnswer(f"the agent has not answered {method} in {self._patience} s; see: systemctl status banagent")


def _connect(path: str, patience: float | None) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if patience is not None:
            # with this the kernel waits while many are before us; with settimeout it would refuse at once
            seconds = struct.pack("ll", int(patience), int(patience % 1 * 1_000_000))
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        connected.connect(path)
        connected.settimeout(patience)
    except OSError as error:
        connected.close()
        raise _why_not_connected(path, error) from None
    return connected


def _why_not_connected(path: str, error: OSError) -> ControlError:
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return NotRunning("the agent is not running; start it with: systemctl start banagent")
    if isinstance(error, PermissionError):
        return NotPermitted(f"only root and members of group {USER} may ask the agent; try sudo")
    if isinstance(error, BlockingIOError):
        return NoAnswer("the agent accepts no connection; see: systemctl status banagent")
    return NoAnswer(f"cannot connect to {path}: {error.strerror or error}")


def _uid_of(user: str) -> int | None:
    import pwd  # noqa: PLC0415 - root's calls don't need it

    try:
        uid: int = pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
    return uid


def _error(name: str, parameters: dict[str, Any]) -> ControlError:
    short = name.removeprefix(f"{INTERFACE}.")
    if short == "NotPermitted":
        method = str(parameters.get("method")).removeprefix(f"{INTERFACE}.")
        return NotPermitted(f"uid {parameters.get('uid')} may not call {method}; try sudo")
    return Refused(short, parameters)


def _sentence(name: str, facts: dict[str, Any]) -> str:
    """Put an error into words; what came from elsewhere is quoted, and harmless on a terminal."""
    try:
        if name == "NoSuchJail":
            return _no_such_jail(**facts)
        if name == "NotReloaded":
            return _not_reloaded(**facts)
        return _SENTENCES[name].format_map(facts)
    except (KeyError, TypeError):
        return f"the agent refused: {name} {json.dumps(facts)}"


def _no_such_jail(*, jail: str, known: list[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only who misspells pays for it

    close = get_close_matches(jail, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
    return f"there is no jail {jail!r}; {hint}"


def _not_reloaded(*, mistakes: list[dict[str, Any]]) -> str:
    count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return f"the configuration has {count}; the former one is in force. To see: banagent check"


_SENTENCES = {
    "BadAddress": "{address!r}: {reason}",
    "BadValue": "{key}: {reason}",
    "Protected": "{address} is not banned: {reason}",
    "TurnedOff": "the agent is off and bans nobody; turn it on first: banagent on",
    "NoHistory": "{reason}; see: banagent status",
    "TooMany": "too many {what}; the agent takes {limit} at a time",
    "Lost": "event {since} is not there; the oldest is {first}",
    "BadMessage": "the agent did not understand: {reason}",
    "InternalError": "the agent has a fault; see: journalctl -u banagent",
    "org.varlink.service.InvalidParameter": "the agent does not accept the parameter {parameter} as it is",
    "org.varlink.service.MethodNotFound": "the agent does not know {method!r}; is it of an older version?",
}
