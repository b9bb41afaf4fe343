# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's own addresses, its links, its gateways and its bridges, by rtnetlink(7), and a notice when they change.

Gateways are the next hops of the unicast routes of all tables, be they IPv4 over IPv6, of several paths, or learnt from
a router advertisement, and the IPv6 neighbours that have said of themselves that they are routers (RFC 4861, 4.4).
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import sys
from contextlib import suppress
from errno import EOPNOTSUPP
from struct import Struct, pack
from typing import TYPE_CHECKING, Final, TypeVar, cast

from banagent.core.address import Network
from banagent.core.never import Host
from banagent.errors import BanagentError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

T = TypeVar("T")

# linux/rtnetlink.h: what is asked for, and how long the head of each answer is
_RTM_GETLINK: Final = 18
_RTM_GETADDR: Final = 22
_RTM_GETROUTE: Final = 26
_RTM_NEWNEIGH: Final = 28
_RTM_DELNEIGH: Final = 29
_RTM_GETNEIGH: Final = 30
_RTM_GETNEXTHOP: Final = 106
_HEADS: Final = {_RTM_GETLINK: 16, _RTM_GETADDR: 8, _RTM_GETROUTE: 12, _RTM_GETNEIGH: 12, _RTM_GETNEXTHOP: 8}
_NEW: Final = 2  # the kind of an answer is that of the question less this
# groups of notices
_GROUPS: Final = 0x10 | 0x100 | 0x40 | 0x400 | 0x4 | 1 << 31  # addresses and routes of both families, neighbours, hops

# linux/if_addr.h, linux/if_link.h, linux/neighbour.h, linux/nexthop.h, linux/netlink.h
_IFA_ADDRESS: Final = 1  # of the link; on a point-to-point link the other end
_IFA_LOCAL: Final = 2
_IFLA_LINKINFO: Final = 18
_IFLA_INFO_KIND: Final = 1
_NDA_DST: Final = 1
_NHA_GATEWAY: Final = 6
_RTA_GATEWAY: Final = 5
_RTA_MULTIPATH: Final = 9
_RTA_VIA: Final = 18  # of another family, which comes first
_RTN_UNICAST: Final = 1
_NTF_ROUTER: Final = 0x80
_NUD_KNOWN: Final = 0x02 | 0x40 | 0x80  # reachable, no ARP, permanent: once for each time that it is looked for
_NLA_NESTED: Final = 0x8000
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3

_NLMSGHDR: Final = Struct("=IHHII")
_KIND: Final = Struct("=IH")
_ATTRIBUTE: Final = Struct("=HH")  # struct rtattr; aligned to 4 bytes
_ADDRESS: Final = Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, interface
_LINK: Final = Struct("=BBHi")  # the begin of struct ifinfomsg: family, padding, type, interface
_HOP: Final = Struct("=HBBi")  # struct rtnexthop: its length, flags, weight, interface
_CODE: Final = Struct("=i")
_TIME_LIMIT: Final = 1.0  # seconds; the kernel answers at once
_BUFFER: Final = 65_536
_STEP: Final = 500  # routes

# linux/filter.h, asm-generic/socket.h
_SO_ATTACH_FILTER: Final = 26
_LOAD_HALF: Final = 0x28  # BPF_LD | BPF_H | BPF_ABS
_LOAD_BYTE: Final = 0x30  # BPF_LD | BPF_B | BPF_ABS
_JUMP_IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_IF_SET: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K


class HostAddresses:
    """What the kernel says about this network namespace."""

    def __init__(self) -> None:
        self._changes = _socket(_GROUPS)
        _attach(self._changes, _program())
        self._changes.setblocking(False)

    def read(self) -> Host:
        """Ask the kernel for all of it. Raises BanagentError."""
        steps = self._steps()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return cast("Host", end.value)

    async def look(self) -> Host:
        """Do the same in turns of the loop of about a millisecond, for there may be many routes."""
        steps = self._steps()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return cast("Host", end.value)
            await asyncio.sleep(0)

    def _steps(self) -> Generator[None, None, Host]:
        own: set[Network] = set()
        on_link: set[Network] = set()
        bridged: set[Network] = set()
        gateways: set[bytes] = set()
        try:
            bridges = set(_dump(_RTM_GETLINK, _bridge))
            for interface, local, net in _dump(_RTM_GETADDR, _address):
                own.add(local)
                on_link.add(net)
                if interface in bridges:
                    bridged.add(net)
            for question, parse in _HOPS:
                for number, packed in enumerate(_dump(question, parse)):
                    gateways.add(packed)
                    if number % _STEP == 0:
                        yield
        except OSError as error:
            raise BanagentError(f"cannot read the host's own addresses and routes: {error}") from error
        return Host(
            frozenset(own),
            frozenset(net for net in on_link if not net.is_host),
            frozenset(Network(packed, len(packed) * 8) for packed in gateways if len(packed) in (4, 16)),
            frozenset(net for net in bridged if not net.is_host),
        )

    def fileno(self) -> int:
        """Give the descriptor that becomes readable when something of it may have changed."""
        return self._changes.fileno()

    def drain(self) -> None:
        """Forget the notices so far; read afterwards."""
        with suppress(BlockingIOError):
            while True:
                with suppress(InterruptedError):
                    _receive(self._changes)

    def close(self) -> None:
        """Stop listening."""
        self._changes.close()


def _bridge(message: bytes) -> Iterator[int]:
    """Give the number of an interface that is a bridge (struct ifinfomsg)."""
    information = _attributes(message, 16).get(_IFLA_LINKINFO)
    if information is not None and _attributes(information, 0).get(_IFLA_INFO_KIND) == b"bridge\0":
        yield _LINK.unpack_from(message)[3]


def _address(message: bytes) -> Iterator[tuple[int, Network, Network]]:
    """Give the interface, the host's address and the network on its link (struct ifaddrmsg)."""
    _, prefix, _, _, interface = _ADDRESS.unpack_from(message)
    attributes = _attributes(message, 8)
    address = attributes.get(_IFA_ADDRESS) or attributes.get(_IFA_LOCAL)
    local = attributes.get(_IFA_LOCAL) or address
    if address and local and len(address) in (4, 16):
        yield interface, Network(local, len(local) * 8), Network(address, len(address) * 8).widen(prefix)


def _route(message: bytes) -> Iterator[bytes]:
    """Give the next hops of a route (struct rtmsg)."""
    if message[7] != _RTN_UNICAST:
        return
    offset = 12
    while offset + 4 <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if length < 4:
            return
        if kind == _RTA_GATEWAY:
            yield message[offset + 4 : offset + length]
        elif kind == _RTA_VIA:
            yield message[offset + 6 : offset + length]
        elif kind & ~_NLA_NESTED == _RTA_MULTIPATH:
            yield from _paths(message[offset + 4 : offset + length])
        offset += (length + 3) & ~3


def _paths(data: bytes) -> Iterator[bytes]:
    """Give the next hops of several paths (struct rtnexthop, each with attributes of its own)."""
    while len(data) >= _HOP.size:
        length = _HOP.unpack_from(data)[0]
        if length < _HOP.size:
            return
        attributes = _attributes(data[:length], _HOP.size)
        if _RTA_GATEWAY in attributes:
            yield attributes[_RTA_GATEWAY]
        if _RTA_VIA in attributes:
            yield attributes[_RTA_VIA][2:]
        data = data[(length + 3) & ~3 :]


def _hop(message: bytes) -> Iterator[bytes]:
    """Give the gateway of a nexthop object (struct nhmsg), which routes may name by its number alone."""
    gateway = _attributes(message, 8).get(_NHA_GATEWAY)
    if gateway is not None:
        yield gateway


def _router(message: bytes) -> Iterator[bytes]:
    """Give a neighbour that is a router (struct ndmsg)."""
    if message[10] & _NTF_ROUTER:
        yield _attributes(message, 12).get(_NDA_DST, b"")


_HOPS: Final[tuple[tuple[int, Callable[[bytes], Iterator[bytes]]], ...]] = (
    (_RTM_GETROUTE, _route),
    (_RTM_GETNEXTHOP, _hop),
    (_RTM_GETNEIGH, _router),
)


def _dump(question: int, parse: Callable[[bytes], Iterator[T]]) -> Iterator[T]:
    """Ask for all there is of something; give what `parse` makes of each. A kernel that has no such thing has none."""
    body = bytes(_HEADS[question])
    with _socket(0) as asker:
        asker.settimeout(_TIME_LIMIT)
        asker.send(_NLMSGHDR.pack(_NLMSGHDR.size + len(body), question, _NLM_F_REQUEST_DUMP, 1, 0) + body)
        try:
            for message in _answers(asker, question - _NEW):
                yield from parse(message)
        except OSError as error:
            if error.errno != EOPNOTSUPP:
                raise


def _socket(groups: int) -> socket.socket:
    try:
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        made.bind((0, groups))
    except OSError as error:
        raise BanagentError(f"cannot open rtnetlink: {error.strerror}; is AF_NETLINK allowed?") from error
    return made


def _receive(listener: socket.socket) -> bytes:
    """Receive one datagram; ENOBUFS says only that some were lost, and what they told is asked for anyway."""
    try:
        return listener.recv(_BUFFER)
    except BlockingIOError:
        raise
    except OSError as error:
        raise InterruptedError from error


def _answers(asker: socket.socket, kind_wanted: int) -> Iterator[bytes]:
    """Give the body of each message of a dump."""
    while True:
        data = asker.recv(_BUFFER)
        offset = 0
        while offset + _NLMSGHDR.size <= len(data):
            length, kind = _KIND.unpack_from(data, offset)
            if kind == kind_wanted:
                yield data[offset + _NLMSGHDR.size : offset + length]
            elif kind == _NLMSG_DONE:
                return
            elif kind == _NLMSG_ERROR:
                (code,) = _CODE.unpack_from(data, offset + _NLMSGHDR.size)
                raise OSError(-code, "rtnetlink refused the dump")
            offset += (length + 3) & ~3 or len(data)


def _attributes(data: bytes, offset: int) -> dict[int, bytes]:
    """Split the attributes that begin at `offset` into {type: value}."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & ~_NLA_NESTED] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _program() -> list[tuple[int, int, int, int]]:
    """Give the filter: of neighbours only routers wake us, and only when they were found or are gone.

    Tuples of code, jump if true, jump if false, constant. A jump counts the instructions left out. BPF loads in network
    order what the kernel wrote in the machine's.
    """
    state = 24 if sys.byteorder == "little" else 25  # of struct ndmsg behind the header; the lower byte
    return [
        (_LOAD_HALF, 0, 0, 4),  # the kind
        (_JUMP_IF_EQUAL, 3, 0, socket.htons(_RTM_DELNEIGH)),
        (_JUMP_IF_EQUAL, 0, 4, socket.htons(_RTM_NEWNEIGH)),
        (_LOAD_BYTE, 0, 0, state),
        (_JUMP_IF_SET, 0, 3, _NUD_KNOWN),
        (_LOAD_BYTE, 0, 0, 26),  # the flags
        (_JUMP_IF_SET, 0, 1, _NTF_ROUTER),
        (_RETURN, 0, 0, 0xFFFF_FFFF),
        (_RETURN, 0, 0, 0),
    ]


def _attach(listener: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    """Give the socket a filter (struct sock_fprog: how many struct sock_filter, and where)."""
    packed = b"".join(pack("@HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pack("@HP", len(program), ctypes.addressof(buffer)))
