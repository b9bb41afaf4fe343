# SPDX-License-Identifier: LGPL-2.1-or-later
"""From calls to replies: methods, permissions, errors; no sockets.

The handlers are passed in. What a handler returns says how it replies:

    Mapping         one reply
    Iterator        a listing: a reply for each portion, made when the one before has been taken, one in a turn of the
                    loop; `portions` makes one
    AsyncGenerator  a follower: as a listing, but it waits and does not end; what it raises is its last reply

An `Error` that it raises becomes the reply, anything else is told as a fault and becomes InternalError.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from importlib.resources import files
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

from banagent.control.varlink import LONGEST, Interface, Method, Mismatch, Object, Request, encode, parse_interface

PORTION: Final = 100  # items in a portion: about a millisecond of work
STANDARD: Final = "org.varlink.service"
# what an interface must declare, because the service itself replies with them
_NEEDED: Final = frozenset({"NotPermitted", "TooMany", "BadMessage", "InternalError"})


class Peer(NamedTuple):
    """Who is at the other end, as the kernel has it (SO_PEERCRED and SO_PEERGROUPS, unix(7))."""

    pid: int
    uid: int
    groups: frozenset[int]  # the primary one is among them


class Call(NamedTuple):
    """What a handler gets: parameters that fit the interface, None for those that are missing."""

    parameters: Object
    more: bool
    peer: Peer


class About(NamedTuple):
    """What GetInfo says of the service."""

    vendor: str
    product: str
    version: str
    url: str


class Permitted(NamedTuple):
    """Who may call what: root and `owner` everything, members of `group` the methods `reading`, others nothing."""

    owner: int  # a uid: the agent's own, as `systemctl reload` calls as well
    group: int | None  # a gid
    reading: frozenset[str]  # names without the interface's

    def trusts(self, peer: Peer) -> bool:
        """Whether a peer may call everything."""
        return peer.uid in (0, self.owner)

    def admits(self, peer: Peer) -> bool:
        """Whether a peer may call anything."""
        return self.trusts(peer) or self.group in peer.groups


class Error(Exception):
    """A reply that is an error: its name, of the service's own interface unless it has dots, and its facts."""

    def __init__(self, name: str, /, **parameters: Any) -> None:  # noqa: ANN401 - whatever JSON has
        super().__init__(name, parameters)
        self.name = name
        self.parameters = parameters


Answer: TypeAlias = Mapping[str, Any] | Iterator[Mapping[str, Any]] | AsyncGenerator[Mapping[str, Any], None]
Handler: TypeAlias = Callable[[Call], Awaitable[Answer]]
Fault: TypeAlias = Callable[[str, Exception], None]  # where it happened, and what: for the log


def not_permitted(request: Request, peer: Peer) -> Error:
    """Give the reply to somebody who may not call this."""
    return Error("NotPermitted", uid=peer.uid, method=request.method)


def read_interface(name: str) -> Interface:
    """Read the definition of an interface that lies beside this file."""
    return parse_interface((files("banagent.control") / f"{name}.varlink").read_text("utf-8"))


def portions(name: str, items: Iterable[Any], size: int = PORTION) -> Iterator[Object]:
    """Cut a listing into replies `{name: [...]}`; one that is empty is there if there are no items."""
    remaining = iter(items)
    portion = list(islice(remaining, size))
    yield {name: portion}
    while portion := list(islice(remaining, size)):
        yield {name: portion}


class Service:
    """An interface with its handlers, and `org.varlink.service` beside it."""

    def __init__(
        self,
        interface: Interface,
        handlers: Mapping[str, Handler],
        permitted: Permitted,
        about: About,
        fault: Fault,
    ) -> None:
        """Raise ValueError if the interface lacks a method that is handled or marked as reading, or a needed error."""
        if unknown := (handlers.keys() | permitted.reading) - interface.methods.keys():
            raise ValueError(f"{interface.name} has no method {min(unknown)}")
        if missing := _NEEDED - interface.errors.keys():
            raise ValueError(f"{interface.name} has no error {min(missing)}")
        self._own = interface
        self.permitted = permitted
        self.fault = fault
        standard = read_interface(STANDARD)
        self._interfaces = {STANDARD: standard, interface.name: interface}
        self._handlers: dict[str, Mapping[str, Handler]] = {
            STANDARD: {"GetInfo": self._get_info, "GetInterfaceDescription": self._get_interface_description},
            interface.name: handlers,
        }
        self._reading = {STANDARD: frozenset(standard.methods), interface.name: permitted.reading}
        self._about = about

    async def replies(self, request: Request, peer: Peer) -> AsyncGenerator[bytes, None]:
        """Give the replies to a call as frames, at least one, each made when the one before has been taken."""
        try:
            method, answer = await self._ask(request, peer)
            if isinstance(answer, Mapping):
                yield _frame(method, answer)
            elif isinstance(answer, Iterator):
                portion = next(answer)
                for following in answer:
                    yield _frame(method, portion, continues=True)
                    portion = following
                    await asyncio.sleep(0)  # others come in between
                yield _frame(method, portion)
            else:
                async with aclosing(answer):
                    async for portion in answer:
                        yield _frame(method, portion, continues=True)
                raise RuntimeError("a follower ended without an Error")  # noqa: TRY004, TRY301 - a fault like any other
        except Error as error:
            yield self.error(error)
        except Exception as error:  # noqa: BLE001 - a fault in a handler must not end the others
            self.fault(request.method, error)
            yield self.error(Error("InternalError"))

    def error(self, error: Error) -> bytes:
        """Give an error as a frame; if the interface does not have it like that, that is a fault."""
        name = error.name if "." in error.name else f"{self._own.name}.{error.name}"
        interface, _, member = name.rpartition(".")
        try:
            self._interfaces[interface].errors[member].check(error.parameters)
        except (KeyError, Mismatch) as mistake:
            self.fault(name, mistake)
            name, error = f"{self._own.name}.InternalError", Error("InternalError")
        return encode({"error": name, "parameters": error.parameters})

    async def _ask(self, request: Request, peer: Peer) -> tuple[Method, Answer]:
        """Check a call and hand it over. Raises Error, and whatever the handler does."""
        name, _, member = request.method.rpartition(".")
        if not self.permitted.admits(peer):
            raise not_permitted(request, peer)
        method = self._method(name, member)
        if not (self.permitted.trusts(peer) or member in self._reading[name]):
            raise not_permitted(request, peer)
        try:
            parameters = method.parameters.fill(request.parameters)
        except Mismatch as mistake:
            raise Error(f"{STANDARD}.InvalidParameter", parameter=mistake.path) from None
        if member not in self._handlers[name]:
            raise Error(f"{STANDARD}.MethodNotImplemented", method=request.method)
        answer = await self._handlers[name][member](Call(parameters, request.more, peer))
        if not (request.more or isinstance(answer, Mapping)):
            raise Error(f"{STANDARD}.ExpectedMore")
        return method, answer

    def _method(self, interface: str, member: str) -> Method:
        """Find a method. Raises Error."""
        if interface not in self._interfaces:
            raise Error(f"{STANDARD}.InterfaceNotFound", interface=interface)
        if member not in self._interfaces[interface].methods:
            raise Error(f"{STANDARD}.MethodNotFound", method=f"{interface}.{member}")
        return self._interfaces[interface].methods[member]

    async def _get_info(self, _call: Call) -> Object:
        return self._about._asdict() | {"interfaces": list(self._interfaces)}

    async def _get_interface_description(self, call: Call) -> Object:
        name = call.parameters["interface"]
        if name not in self._interfaces:
            raise Error(f"{STANDARD}.InterfaceNotFound", interface=name)
        return {"description": self._interfaces[name].text}


def _frame(method: Method, reply: Mapping[str, Any], *, continues: bool = False) -> bytes:
    """Give a reply as a frame. Raises ValueError: the interface does not allow it, or it is too long."""
    method.reply.check(reply)
    frame = encode({"parameters": reply, "continues": True} if continues else {"parameters": reply})
    if len(frame) > LONGEST:
        raise ValueError(f"a reply of {len(frame)} bytes is too long; make smaller portions")
    return frame
