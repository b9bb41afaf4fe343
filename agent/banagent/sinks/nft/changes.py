# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who else changes the ruleset: notifications, filtered in the kernel so that a flood of others' doesn't wake us.

The last notification of each transaction is NEWGEN, with the program's name. Before it there may be one for each
element. The filter (classic BPF, linux/filter.h) looks at the first message of each packet: it drops what we did
ourselves, and passes NEWGEN, and elements of our table.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.sinks.nft.netlink import (
    DELSETELEM,
    NEWGEN,
    NEWSETELEM,
    NFTABLES,
    answer,
    attribute,
    attributes,
    messages,
    open_socket,
    text,
    translate,
)
from banagent.sinks.nft.skeleton import TABLE

if TYPE_CHECKING:
    from collections.abc import Generator

    from banagent.sinks.nft.netlink import Received

_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP: Final = 1
_DROP_MEMBERSHIP: Final = 2
_NFNLGRP_NFTABLES: Final = 7
_SO_ATTACH_FILTER: Final = 26

_LOAD_WORD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_LOAD_HALF: Final = 0x28
_JUMP_IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN: Final = 0x06
_WHOLE: Final = 0xFFFFFFFF

_TYPE_AT: Final = 4  # in struct nlmsghdr
_PORT_AT: Final = 12
_ATTRIBUTES_AT: Final = 20

_TABLE_ATTRIBUTE: Final = 1  # of a list of elements: NFTA_SET_ELEM_LIST_TABLE
_GEN_PID: Final = 2
_GEN_NAME: Final = 3
_RECEIVE: Final = 1 << 16
_LISTEN: Final = "listen for changes of nftables"


class Change(NamedTuple):
    """A transaction of another program."""

    program: str  # its name as `ps -o comm` has it; empty if not known
    pid: int  # 0 if not known
    elements: bool  # whether it touched elements of our sets, or may have


class Watch:
    """The notifications of changes by others than the owner of `port`."""

    def __init__(self, port: int) -> None:
        """Begin to listen. Raises FirewallError."""
        self._elements = False  # since the last NEWGEN
        self._socket = open_socket()
        try:
            _attach(self._socket, _program(port))
            self._socket.bind((0, 0))
            self._member(_ADD_MEMBERSHIP)
        except OSError as error:
            self._socket.close()
            raise translate(error, _LISTEN) from error

    def fileno(self) -> int:
        """Give the descriptor that becomes readable when there are changes."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    @contextmanager
    def paused(self) -> Generator[None]:
        """Don't listen meanwhile; what others do is missed. Raises FirewallError.

        As long as anybody listens, the kernel makes a message for each element, which takes longer than the element.
        """
        try:
            self._member(_DROP_MEMBERSHIP)
            try:
                yield
            finally:
                self._member(_ADD_MEMBERSHIP)
        except OSError as error:
            raise translate(error, _LISTEN) from error

    def _member(self, option: int) -> None:
        self._socket.setsockopt(_SOL_NETLINK, option, _NFNLGRP_NFTABLES)

    def changes(self) -> list[Change]:
        """Give the changes since the last call, without waiting. Raises FirewallError.

        If there were more than the socket holds, one Change by nobody says so: everything may be different.
        """
        changes: list[Change] = []
        while True:
            try:
                data = memoryview(self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return changes
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise translate(error, "read the changes of nftables") from error
                changes.append(Change("", 0, elements=True))
                continue
            for received in messages(data):
                changes += self._note(received)

    def _note(self, received: Received) -> list[Change]:
        if received.kind >> 8 != NFTABLES:
            return []
        kind, _, body = answer(received)
        found = attributes(body)
        if kind == NEWGEN:
            touched, self._elements = self._elements, False
            pid = int.from_bytes(found.get(_GEN_PID, b""), "big")
            return [Change(text(found.get(_GEN_NAME, memoryview(b""))), pid, touched)]
        if kind in {NEWSETELEM, DELSETELEM} and text(found[_TABLE_ATTRIBUTE]) == TABLE:
            self._elements = True
        return []


def _program(port: int) -> list[tuple[int, int, int, int]]:
    """Give the filter: tuples of code, jump if true, jump if false, constant. A jump counts the instructions left out.

    BPF loads in network order what the kernel wrote in the machine's; hence the swapped constants.
    """
    name = attribute(_TABLE_ATTRIBUTE, TABLE.encode() + b"\0")
    words = [int.from_bytes(name[at : at + 4], "big") for at in range(0, len(name), 4)]
    compare = [
        instruction
        for index, word in enumerate(words)
        for instruction in (
            (_LOAD_WORD, 0, 0, _ATTRIBUTES_AT + 4 * index),
            (_JUMP_IF_EQUAL, 0, 2 * (len(words) - index - 1) + 1, word),
        )
    ]
    past = len(compare)  # from before the comparison to the instruction after it, which passes
    return [
        (_LOAD_WORD, 0, 0, _PORT_AT),
        (_JUMP_IF_EQUAL, past + 5, 0, _swap("=I", port)),
        (_LOAD_HALF, 0, 0, _TYPE_AT),
        (_JUMP_IF_EQUAL, past + 2, 0, _swap("=H", NFTABLES << 8 | NEWGEN)),
        (_JUMP_IF_EQUAL, 1, 0, _swap("=H", NFTABLES << 8 | NEWSETELEM)),
        (_JUMP_IF_EQUAL, 0, past + 1, _swap("=H", NFTABLES << 8 | DELSETELEM)),
        *compare,
        (_RETURN, 0, 0, _WHOLE),
        (_RETURN, 0, 0, 0),
    ]


def _swap(form: str, value: int) -> int:
    return int.from_bytes(struct.pack(form, value), "big")


def _attach(sock: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(buffer))
    )  # struct sock_fprog
