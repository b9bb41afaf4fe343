# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's own addresses and the networks on its links, by rtnetlink(7), and a notice when they change."""

from __future__ import annotations

import socket
from contextlib import suppress
from struct import pack, unpack_from
from typing import TYPE_CHECKING, Final

from banagent.core.address import Network
from banagent.core.never import Host
from banagent.errors import BanagentError

if TYPE_CHECKING:
    from collections.abc import Iterator

# linux/rtnetlink.h, linux/if_addr.h, linux/netlink.h
_RTM_GETADDR: Final = 22
_RTM_NEWADDR: Final = 20
_RTMGRP_IPV4_IFADDR: Final = 0x10
_RTMGRP_IPV6_IFADDR: Final = 0x100
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_IFA_ADDRESS: Final = 1  # of the link; on a point-to-point link the other end
_IFA_LOCAL: Final = 2
_HEADER: Final = 16  # struct nlmsghdr
_IFADDRMSG: Final = 8
_TIME_LIMIT: Final = 1.0  # seconds; the kernel answers at once
_BUFFER: Final = 65_536


class HostAddresses:
    """What the kernel says about the addresses of this network namespace."""

    def __init__(self) -> None:
        self._changes = _socket(_RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR)
        self._changes.setblocking(False)

    def read(self) -> Host:
        """Ask the kernel for all addresses."""
        own: set[Network] = set()
        on_link: set[Network] = set()
        with _socket(0) as asker:
            asker.settimeout(_TIME_LIMIT)
            asker.send(pack("=IHHII BBBBI", _HEADER + _IFADDRMSG, _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0, *[0] * 5))
            try:
                for message in _answers(asker):
                    prefix, attributes = message[1], _attributes(message[_IFADDRMSG:])
                    address = attributes.get(_IFA_ADDRESS) or attributes.get(_IFA_LOCAL)
                    local = attributes.get(_IFA_LOCAL) or address
                    if address and local and len(address) in (4, 16):
                        own.add(Network(local, len(local) * 8))
                        on_link.add(Network(address, len(address) * 8).widen(prefix))
            except OSError as error:
                raise BanagentError(f"cannot read the host's own addresses: {error}") from error
        return Host(frozenset(own), frozenset(net for net in on_link if not net.is_host))

    def fileno(self) -> int:
        """Give the descriptor that becomes readable when an address comes or goes."""
        return self._changes.fileno()

    def drain(self) -> None:
        """Forget the notices so far; read the addresses afterwards."""
        with suppress(BlockingIOError):
            while True:
                with suppress(InterruptedError):
                    _receive(self._changes)

    def close(self) -> None:
        """Stop listening."""
        self._changes.close()


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


def _answers(asker: socket.socket) -> Iterator[bytes]:
    """Give the body of each RTM_NEWADDR message of a dump."""
    while True:
        data = asker.recv(_BUFFER)
        offset = 0
        while offset + _HEADER <= len(data):
            length, kind = unpack_from("=IH", data, offset)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                (code,) = unpack_from("=i", data, offset + _HEADER)
                raise OSError(-code, "rtnetlink refused the dump")
            if kind == _RTM_NEWADDR:
                yield data[offset + _HEADER : offset + length]
            offset += (length + 3) & ~3 or len(data)


def _attributes(data: bytes) -> dict[int, bytes]:
    """Split attributes (struct rtattr, aligned to 4 bytes) into {type: value}."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found
