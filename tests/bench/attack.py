# SPDX-License-Identifier: LGPL-2.1-or-later
"""The agent at work on a private journald: how soon it bans, and what it uses while there is nothing to do."""

from __future__ import annotations

import random
import socket
import struct
import time
from itertools import count
from typing import TYPE_CHECKING, Final

from bed.journald import Journald, service
from bed.netns import Namespace
from bench.agent import Agent
from bench.figures import Figure, Goal, median, percentile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bed.journald import Writer

BANS: Final = 100
QUIET_BANS: Final = 5
QUIET: Final = 6.0  # seconds of silence after which the reader is no longer watchful (ALERT in sources/journal.py)
LINE: Final = "Failed password for root from {peer} port 4711 ssh2"
LINES_A_SECOND: Final = 5  # of another unit
_FAILURES: Final = 5  # maxretry in agent.CONFIG
_PATIENCE: Final = 10.0

# linux/netfilter/nfnetlink.h, nf_tables.h
_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP: Final = 1
_NFNLGRP_NFTABLES: Final = 7
_NETLINK_NETFILTER: Final = 12
_HEADER: Final = 16
_NEWSETELEM: Final = 10 << 8 | 12


def measure(scratch: Path, seconds: float) -> Iterator[Figure]:
    """Measure an idle agent for `seconds`, and then one under attack."""
    namespace = Namespace()
    try:
        with (
            Journald(scratch / "journald") as journald,
            journald.writer() as writer,
            journald.writer(service("other.service"), comm="other") as other,
            Agent(namespace, journald.path, scratch / "live") as agent,
        ):
            agent.wait_until_live()
            memory = agent.memory()
            yield Figure("memory, idle: RssAnon", memory.anonymous, "MB", Goal(25, 16))
            yield Figure("  RSS", memory.resident, "MB")
            yield from idle(agent, seconds, other, "idle")
            yield from _bans(namespace, writer)
    finally:
        namespace.close()


def idle(agent: Agent, seconds: float, other: Writer, who: str) -> Iterator[Figure]:
    """Measure wake-ups and CPU a minute: with a silent journal, and while another unit writes."""
    time.sleep(QUIET)  # what came before is over
    before = agent.use()
    time.sleep(seconds)
    silent = agent.use()
    for number in range(int(seconds * LINES_A_SECOND)):
        other.send(f"line {number} of something else", identifier="other")
        time.sleep(1 / LINES_A_SECOND)
    noisy = agent.use()
    minute = 60 / seconds
    yield Figure(f"{who}, journal silent: wake-ups a minute", (silent.wakeups - before.wakeups) * minute, "", Goal(10))
    yield Figure("  CPU a minute", (silent.cpu - before.cpu) * minute * 1000, "ms", Goal(5))
    what = f"{who}, others write {LINES_A_SECOND} lines/s: wake-ups"
    yield Figure(what, (noisy.wakeups - silent.wakeups) * minute, "")
    yield Figure("  CPU a minute", (noisy.cpu - silent.cpu) * minute * 1000, "ms", Goal(30))


def _bans(namespace: Namespace, writer: Writer) -> Iterator[Figure]:
    """Measure from just before the deciding line is written until the kernel says that the element is there."""
    peers = (f"203.0.{number >> 8}.{number & 255}" for number in count(1))
    chance = random.Random(1)
    with notices(namespace) as listener:
        quiet: list[float] = []
        for _ in range(QUIET_BANS):
            time.sleep(QUIET)
            quiet.append(ban(next(peers), writer, listener, gap=0))
        attacked = [ban(next(peers), writer, listener, gap=chance.uniform(0, 0.03)) for _ in range(BANS)]
    yield Figure("entry to element, under attack: p50", percentile(attacked, 0.5) * 1000, "ms", Goal(50, 10))
    yield Figure("  p95", percentile(attacked, 0.95) * 1000, "ms", Goal(50))
    yield Figure("  the first after a quiet time: median", median(quiet) * 1000, "ms")


def ban(peer: str, writer: Writer, notices: socket.socket, *, gap: float, line: str = LINE) -> float:
    """Fail until the ban is decided, `gap` seconds between two lines; give the seconds from the last one to the ban."""
    for _ in range(_FAILURES - 1):
        writer.send(line.format(peer=peer))
        time.sleep(gap)
    before = time.monotonic()
    writer.send(line.format(peer=peer))
    wanted = socket.inet_aton(peer)
    while True:
        data = notices.recv(1 << 16)
        if any(kind == _NEWSETELEM and wanted in body for kind, body in _messages(data)):
            return time.monotonic() - before


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split what was received into messages (struct nlmsghdr): the kernel puts several into one packet."""
    while len(data) >= _HEADER:
        length, kind = struct.unpack_from("=IH", data)
        yield kind, data[_HEADER:length]
        data = data[(length + 3) & ~3 :]


def notices(namespace: Namespace) -> socket.socket:
    """Listen to what nftables tells of changes in the namespace."""
    with namespace.entered():
        listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    listener.bind((0, 0))
    listener.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
    listener.settimeout(_PATIENCE)
    return listener
