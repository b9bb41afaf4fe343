# SPDX-License-Identifier: LGPL-2.1-or-later
"""The exchange with nf_tables over a socket of our own.

The kernel executes a batch inside of send() and continues a dump inside of recv(), so the answers are there when these
return, and nothing has to be awaited. Formats: linux/netlink.h, linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.errors import FirewallError, NotPermittedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NEWTABLE: Final = 0
GETTABLE: Final = 1
DELTABLE: Final = 2
NEWCHAIN: Final = 3
GETCHAIN: Final = 4
NEWRULE: Final = 6
GETRULE: Final = 7
NEWSET: Final = 9
GETSET: Final = 10
NEWSETELEM: Final = 12
GETSETELEM: Final = 13
DELSETELEM: Final = 14
NEWGEN: Final = 15
GETGEN: Final = 16

CREATE: Final = 0x400
APPEND: Final = 0x800
_REQUEST: Final = 0x1
_ACK: Final = 0x4
_DUMP: Final = 0x300
_DUMP_INTERRUPTED: Final = 0x10

NFTABLES: Final = 10  # NFNL_SUBSYS_NFTABLES
_NETFILTER: Final = 12  # NETLINK_NETFILTER
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_BATCH_BEGIN: Final = 0x10
_BATCH_END: Final = 0x11
_INET: Final = 1  # NFPROTO_INET

_SOL_NETLINK: Final = 270
_CAP_ACK: Final = 10
_SO_SNDBUFFORCE: Final = 32

_MESSAGE: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_FAMILY: Final = struct.Struct(">BBH")  # struct nfgenmsg
_ATTRIBUTE: Final = struct.Struct("=HH")  # struct nlattr
_ATTRIBUTE_TYPE: Final = 0x3FFF  # without the bits for nested and byte order
_HEADERS: Final = _MESSAGE.size + _FAMILY.size

TIME_LIMIT: Final = 1  # s, for an answer that is there already unless the kernel has a bug
_RECEIVE: Final = 1 << 16  # the kernel fills at most 32 KB at a time
_DUMP_TRIES: Final = 5
# Of one transaction; about 200,000 bans. The kernel needs several times as much while it executes it.
_TRANSACTION: Final = 1 << 24
# What is quickest where there is much to do and it needn't be one transaction: the kernel enlarges its hash tables
# between transactions, and adds to one that is too small at half the speed.
_PART: Final = 1 << 19
_SEND_OVERHEAD: Final = 32  # netlink_sendmsg() keeps it back from the send buffer

_REMEDIES: Final = {
    errno.ENOENT: "the table or a part of it is gone: another program removed it; it is put back by the next repair",
    errno.EBUSY: "another program's rule holds a part of the table: look for jumps into it with 'nft list ruleset'",
    errno.ENFILE: "a set is full: another program gave it a size; the next repair removes that",
    errno.ENOMEM: "the kernel is out of memory",
    errno.ENOBUFS: "the kernel is out of memory, or answered more than fits: what it did is not known",
    errno.EAGAIN: f"no answer within {TIME_LIMIT} s",
    errno.EOPNOTSUPP: "this kernel lacks something that banagent needs of nf_tables (CONFIG_NF_TABLES_INET, NFT_CT, "
    "NFT_FIB_INET)",
}
_NO_NFTABLES: Final = "this kernel has no nf_tables: load the module, or boot a kernel with CONFIG_NF_TABLES"
_NOT_PERMITTED: Final = "CAP_NET_ADMIN is missing: run as root, or in a unit with AmbientCapabilities=CAP_NET_ADMIN"


class Message(NamedTuple):
    """A change, to go into a batch."""

    kind: int  # NEWTABLE, …
    flags: int
    attributes: bytes


class Answer(NamedTuple):
    """What the kernel says about one object."""

    kind: int
    generation: int  # of the ruleset when it said so: its lower 16 bits
    attributes: memoryview


def attribute(kind: int, value: bytes) -> bytes:
    """Pack an attribute."""
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def attributes(data: memoryview) -> dict[int, memoryview]:
    """Give the values of the attributes in `data` by their type."""
    found: dict[int, memoryview] = {}
    position = 0
    while position + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, position)
        found[kind & _ATTRIBUTE_TYPE] = data[position + 4 : position + size]
        position += max((size + 3) & ~3, 4)
    return found


def text(value: memoryview) -> str:
    """Decode an attribute that is a name."""
    return bytes(value).rstrip(b"\0").decode(errors="replace")


class Received(NamedTuple):
    """A message as it came; `body` is what comes after the header."""

    kind: int
    flags: int
    sequence: int
    port: int  # whose request this is, or is a consequence of
    body: memoryview


def messages(data: memoryview) -> Iterator[Received]:
    """Give the netlink messages in `data`."""
    position = 0
    while position + _MESSAGE.size <= len(data):
        size, kind, flags, sequence, port = _MESSAGE.unpack_from(data, position)
        yield Received(kind, flags, sequence, port, data[position + _MESSAGE.size : position + size])
        position += max((size + 3) & ~3, _MESSAGE.size)


def answer(received: Received) -> Answer:
    """Parse a message of nf_tables."""
    _, _, generation = _FAMILY.unpack_from(received.body)
    return Answer(received.kind & 0xFF, generation, received.body[_FAMILY.size :])


def open_socket() -> socket.socket:
    """Open a socket to nfnetlink. Raises FirewallError."""
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            raise FirewallError(_NO_NFTABLES) from error
        raise translate(error, "open a socket to nftables") from error


def translate(error: OSError, doing: str) -> FirewallError:
    """Make of the kernel's `error` one that says what was being done."""
    if error.errno == errno.EPERM:
        return NotPermittedError(f"not permitted to {doing}: {_NOT_PERMITTED}")
    code = error.errno or 0
    name = errno.errorcode.get(code, str(code))
    return FirewallError(f"can't {doing}: {name}: {_REMEDIES.get(code, error.strerror)}")


class Kernel:
    """The kernel's nf_tables in this network namespace. One request at a time."""

    def __init__(self) -> None:
        """Open it. Raises NotPermittedError; FirewallError if the kernel has no nf_tables."""
        self._sequence = 0
        self._socket = open_socket()
        try:
            self._socket.bind((0, 0))
            # an error then carries the header alone of what it answers, so that many errors fit the receive buffer
            self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", TIME_LIMIT, 0))
            self._limit = _widen(self._socket)
            self._probe()
        except BaseException:
            self._socket.close()
            raise

    @property
    def port(self) -> int:
        """The socket's address, by which the kernel tells everybody who made a change."""
        port: int = self._socket.getsockname()[0]
        return port

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _probe(self) -> None:
        try:
            self._request(GETGEN, b"", flags=_ACK)
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.EOPNOTSUPP}:  # nfnetlink knows no such subsystem
                raise FirewallError(_NO_NFTABLES) from error
            raise translate(error, "use nftables") from error

    def generation(self) -> int:
        """Give the lower 16 bits of the ruleset's generation, which each transaction of anybody counts up by one."""
        try:
            return self._request(GETGEN, b"", flags=_ACK)[0].generation
        except OSError as error:
            raise translate(error, "read the ruleset's generation") from error

    def dump(self, kind: int, selector: bytes, doing: str) -> list[Answer]:
        """Give all objects that a GET… with the attributes `selector` finds; none in a table that isn't there.

        Raises FirewallError.
        """
        for _ in range(_DUMP_TRIES):
            try:
                return self._request(kind, selector, flags=_DUMP)
            except InterruptedError:  # somebody changed the ruleset meanwhile
                continue
            except FileNotFoundError:
                return []
            except OSError as error:
                raise translate(error, doing) from error
        raise FirewallError(f"can't {doing}: other programs change the ruleset all the time; try again when they rest")

    def transact(self, changes: Iterable[Message], doing: str, *, whole: bool = True) -> int:
        """Execute `changes`, and give in how many transactions that was done: if `whole`, one, where it fits.

        Raises FirewallError; then the kernel has executed none of the transaction that failed.
        """
        count = 0
        for batch, last in self._batches(changes, self._limit if whole else min(self._limit, _PART)):
            try:
                self._socket.send(batch)
                self._confirm(last)
            except OSError as error:
                self._drain()
                raise translate(error, doing) from error
            count += 1
        return count

    def _batches(self, changes: Iterable[Message], limit: int) -> Iterator[tuple[bytearray, int]]:
        """Give each batch and the sequence number of its last change, the one that the kernel acknowledges."""
        room = limit - 2 * _HEADERS
        batch = bytearray()
        last = 0
        for change in changes:
            size = _HEADERS + len(change.attributes)
            if batch and len(batch) + size > room:
                yield self._finish(batch, last), self._sequence - 1
                batch = bytearray()
            if not batch:
                batch += self._header(_BATCH_BEGIN, 0, _HEADERS, NFTABLES)
            last = len(batch)
            batch += self._header(NFTABLES << 8 | change.kind, change.flags, size)
            batch += change.attributes
        if batch:
            yield self._finish(batch, last), self._sequence - 1

    def _header(self, kind: int, flags: int, size: int, resource: int = 0) -> bytes:
        self._sequence += 1
        family = _INET if resource == 0 else 0
        return _MESSAGE.pack(size, kind, flags | _REQUEST, self._sequence, 0) + _FAMILY.pack(family, 0, resource)

    def _finish(self, batch: bytearray, last: int) -> bytearray:
        # Batch-end takes no acknowledgement before Linux 6.10, hence the last change.
        flags_at = last + 6
        (flags,) = struct.unpack_from("=H", batch, flags_at)
        struct.pack_into("=H", batch, flags_at, flags | _ACK)
        batch += self._header(_BATCH_END, 0, _HEADERS, NFTABLES)
        return batch

    def _confirm(self, last: int) -> None:
        """Read the answer to a batch. Raises OSError.

        The kernel reports errors first, also that of the commit, which is answered to batch-begin; the last change is
        acknowledged after them all the same. So the first answer decides. If there are more errors than fit the
        receive buffer, that is an error as well (ENOBUFS).
        """
        for received in messages(memoryview(self._socket.recv(_RECEIVE))):
            _raise_error(received)
            if received.kind == _NLMSG_ERROR and received.sequence == last:
                return
        raise OSError(errno.EPROTO, "the kernel's answer is not the one to this change")

    def _drain(self) -> None:
        """Forget what is left of the answers to a batch that failed: they are all there."""
        while True:
            try:
                self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def _request(self, kind: int, selector: bytes, *, flags: int) -> list[Answer]:
        """Ask for objects. Raises OSError; InterruptedError if the ruleset was changed while it was read."""
        self._socket.send(self._header(NFTABLES << 8 | kind, flags, _HEADERS + len(selector)) + selector)
        answers: list[Answer] = []
        interrupted = False
        while True:
            for received in messages(memoryview(self._socket.recv(_RECEIVE))):
                if received.sequence != self._sequence:
                    continue
                _raise_error(received)
                interrupted |= bool(received.flags & _DUMP_INTERRUPTED)
                if received.kind in {_NLMSG_ERROR, _NLMSG_DONE}:
                    if interrupted:
                        raise InterruptedError
                    return answers
                answers.append(answer(received))


def _raise_error(received: Received) -> None:
    """Raise the OSError that a message tells of; none if it is no error."""
    if received.kind in {_NLMSG_ERROR, _NLMSG_DONE} and len(received.body) >= 4:
        (code,) = struct.unpack_from("=i", received.body)
        if code < 0:
            raise OSError(-code, os.strerror(-code))


def _widen(sock: socket.socket) -> int:
    """Make room for whole transactions; give how many bytes one may have."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _TRANSACTION)
    except PermissionError:  # in a container with its own users: as much as net.core.wmem_max allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _TRANSACTION)
    return min(sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _SEND_OVERHEAD, _TRANSACTION)
