# SPDX-License-Identifier: LGPL-2.1-or-later
"""Attack traffic as journald stores it: what sshd writes about thousands of peers who guess passwords.

All of it follows from a seed, so that two runs on two machines read the same lines.
"""

from __future__ import annotations

import itertools
import random
import subprocess
from typing import TYPE_CHECKING, Final

from bed.journald import journal_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SECOND: Final = 1_000_000  # of journald's times
FILES: Final = 4  # journald rotates, so a reader has several
PEERS: Final = 1000
LOST: Final = 0.1  # of the entries in a flood: their process was gone before journald looked up its unit
SSHD: Final = (("ssh.service", "sshd"),)
_USERS: Final = ("root", "admin", "ubuntu", "test", "oracle", "postgres", "git", "user1", "ftpuser", "minecraft")

# What an entry has of a process that is gone, and what else journald knows of one that is still there: 26 fields.
_BRIEF: Final = (
    b"__REALTIME_TIMESTAMP=%(time)d\n__MONOTONIC_TIMESTAMP=%(number)d\n_BOOT_ID=" + b"b" * 32 + b"\n"
    b"_MACHINE_ID=" + b"a" * 32 + b"\n_HOSTNAME=bench\n_RUNTIME_SCOPE=system\n_TRANSPORT=syslog\nPRIORITY=6\n"
    b"SYSLOG_FACILITY=4\nSYSLOG_IDENTIFIER=%(name)s\nSYSLOG_PID=%(pid)d\nSYSLOG_TIMESTAMP=Nov 22 01:02:%(second)02d \n"
    b"MESSAGE=%(message)s\n_PID=%(pid)d\n_UID=0\n_GID=0\n_SOURCE_REALTIME_TIMESTAMP=%(time)d\n"
)
_WHOLE: Final = (
    _BRIEF + b"_COMM=sshd\n_EXE=/usr/sbin/sshd\n_CMDLINE=sshd: %(user)s [priv]\n_CAP_EFFECTIVE=1ffffffffff\n"
    b"_SELINUX_CONTEXT=unconfined\n_SYSTEMD_CGROUP=/system.slice/%(unit)s\n_SYSTEMD_UNIT=%(unit)s\n"
    b"_SYSTEMD_SLICE=system.slice\n_SYSTEMD_INVOCATION_ID=" + b"c" * 32 + b"\n"
)


def address(number: int) -> str:
    """Give one of 16 million addresses; every tenth is an IPv6 one, in a /64 of its own."""
    if number % 10 == 9:
        return f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::{number % 7 + 1:x}"
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def attack(seed: int = 1) -> Iterator[tuple[int, str, bytes]]:
    """Give pid, user and line without end: about 70 % tell of a failure in the default mode.

    A thousand peers are at it at any time. Each is gone after some connections, as one is that gets banned.
    """
    chance = random.Random(seed)
    numbers = itertools.count()
    left: dict[int, int] = {}  # connections to come, by peer
    pid = 1000
    while True:
        while len(left) < PEERS:
            left[next(numbers) * 7919 & 0xFFFFFF] = chance.randrange(1, 7)
        for number in chance.sample(list(left), PEERS // 2):
            left[number] -= 1
            if not left[number]:
                del left[number]
            pid = 1000 + (pid + 1) % 4_000_000
            peer, user, port = address(number), chance.choice(_USERS), chance.randrange(1024, 65536)
            for line in chance.choice(_CONNECTIONS)(user, f"{peer} port {port}", peer):
                yield pid, user, line.encode()


def single_failures() -> Iterator[tuple[int, str, bytes]]:
    """Give pid, user and line without end: each peer fails once and never comes again."""
    for number in range(1 << 24):
        yield (
            1000 + number % 4_000_000,
            "root",
            f"Failed password for root from {address(number)} port 4711 ssh2".encode(),
        )


def write(
    directory: Path,
    lines: Iterator[tuple[int, str, bytes]],
    count: int,
    *,
    start: int,
    span: int,
    senders: Sequence[tuple[str, str]] = SSHD,
) -> None:
    """Write `count` entries into journal files in `directory`, spread over `span` seconds from `start` (µs) on.

    `senders`, as unit and identifier, take turns.
    """
    chance = random.Random(count)
    directory.mkdir(parents=True)
    for part in range(FILES):
        command = [
            journal_remote() or "systemd-journal-remote",
            "--output",
            str(directory / f"system-{part}.journal"),
            "-",
        ]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as remote:
            assert remote.stdin
            assert remote.stderr
            for number in range(count * part // FILES, count * (part + 1) // FILES):
                pid, user, message = next(lines)
                unit, name = senders[number % len(senders)]
                time = start + number * span * SECOND // count
                fields = {
                    b"time": time,
                    b"number": number + 1,
                    b"pid": pid,
                    b"user": user.encode(),
                    b"message": message,
                    b"unit": unit.encode(),
                    b"name": name.encode(),
                }
                fields[b"second"] = time // SECOND % 60
                remote.stdin.write((_BRIEF if chance.random() < LOST else _WHOLE) % fields + b"\n")
            remote.stdin.close()
            said = remote.stderr.read().decode(errors="replace")
        if remote.returncode:
            raise RuntimeError(f"systemd-journal-remote: status {remote.returncode}: {said}")


def _pam(address: str) -> str:
    return f"pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={address} "


def _guesses_root(_: str, peer: str, address: str) -> Iterator[str]:
    yield _pam(address) + " user=root"
    yield f"Failed password for root from {peer} ssh2"
    yield f"Failed password for root from {peer} ssh2"
    yield f"Connection closed by authenticating user root {peer} [preauth]"


def _guesses_until_thrown_out(_: str, peer: str, address: str) -> Iterator[str]:
    yield _pam(address) + " user=root"
    yield from [f"Failed password for root from {peer} ssh2"] * 6
    yield f"error: maximum authentication attempts exceeded for root from {peer} ssh2 [preauth]"
    yield f"Disconnecting authenticating user root {peer}: Too many authentication failures [preauth]"
    yield f"PAM 5 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost={address}  user=root"


def _guesses_a_name(user: str, peer: str, address: str) -> Iterator[str]:
    yield f"Invalid user {user} from {peer}"
    yield "pam_unix(sshd:auth): check pass; user unknown"
    yield _pam(address)
    yield f"Failed password for invalid user {user} from {peer} ssh2"
    yield f"Connection closed by invalid user {user} {peer} [preauth]"


def _guesses_and_says_bye(user: str, peer: str, address: str) -> Iterator[str]:
    yield _pam(address) + f" user={user}"
    yield f"Failed password for {user} from {peer} ssh2"
    yield f"Received disconnect from {peer}:11: Bye Bye [preauth]"
    yield f"Disconnected from authenticating user {user} {peer} [preauth]"


_CONNECTIONS: Final[tuple[Callable[[str, str, str], Iterator[str]], ...]] = (
    _guesses_root,
    _guesses_root,
    _guesses_until_thrown_out,
    _guesses_until_thrown_out,
    _guesses_a_name,
    _guesses_and_says_bye,
)
