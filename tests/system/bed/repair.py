# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a program that changes nftables, and tells how long it took until another one had changed them after it.

    repair.py PROGRAM [ARGUMENT...]

Prints `[NAME, SECONDS]` in JSON: of the first transaction by another program that follows those of `nft`, and the
time between the kernel's two notifications. Exit status: that of the program; 1 if there was none in ten seconds.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from struct import unpack_from
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
NETLINK_NETFILTER: Final = 12
SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
NFNLGRP_NFTABLES: Final = 7
NEWGEN: Final = 10 << 8 | 15
PROC_NAME: Final = 3


def main() -> None:
    """Listen, run the program, and tell."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as listener:
        listener.bind((0, 0))
        listener.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        listener.settimeout(10)
        # to be told at once, however busy the machine is
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        by_nft: float | None = None
        with subprocess.Popen(sys.argv[1:]) as program:
            for name, when in generations(listener):
                if name == "nft":
                    by_nft = when
                elif by_nft is not None:
                    print(json.dumps([name, when - by_nft]))
                    break
        sys.exit(program.returncode)


def generations(listener: socket.socket) -> Iterator[tuple[str, float]]:
    """Give each transaction: by whom, and when the kernel told of it (in seconds of some clock)."""
    while True:
        data = listener.recv(1 << 16)
        when = time.monotonic()
        at = 0
        while at < len(data):
            length, kind = unpack_from("=IH", data, at)
            if kind == NEWGEN:
                found = dict(attributes(data[at + 20 : at + length]))
                yield found[PROC_NAME].rstrip(b"\0").decode(), when
            at += length + 3 & ~3


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split attributes (struct nlattr, aligned to 4 bytes)."""
    at = 0
    while at < len(data):
        length, kind = unpack_from("=HH", data, at)
        yield kind, data[at + 4 : at + length]
        at += length + 3 & ~3


if __name__ == "__main__":
    main()
