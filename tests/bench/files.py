# SPDX-License-Identifier: LGPL-2.1-or-later
"""Log files: lines to decisions beside fail2ban-regex, ten silent files, and how soon a line leads to a ban.

As a program: files.py FILE decides about each line, and prints what was read and its CPU time in ns as JSON.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from itertools import count, islice
from typing import TYPE_CHECKING, Final, cast

from banagent.core.bans import Bans
from banagent.core.jail import Jail, Rule
from banagent.core.never import Host, Never
from banagent.core.recognise import Recogniser, View
from banagent.sources.logfile import LogFile
from bed.journald import Journald
from bed.netns import Namespace
from bench import attack, reading, traffic
from bench.agent import CONFIG, Agent
from bench.decide import vendor_jails
from bench.figures import Figure, Goal, percentile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bed.journald import Writer

SIZE: Final = 1 << 30  # bytes of the file
PART: Final = 30 << 20  # of it, for fail2ban-regex
FILES: Final = 10
BANS: Final = 100
_BLOCK: Final = 200_000  # lines made; the file has them again and again
_RATE: Final = 20  # of these a second, by their stamps
_ORDINARY: Final = (  # tag and text
    "CRON[{pid}]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)",
    "CRON[{pid}]: (root) CMD (command -v debian-sa1 > /dev/null && debian-sa1 1 1)",
    "systemd[1]: Starting Daily apt download activities...",
    "systemd[1]: apt-daily.service: Deactivated successfully.",
    "systemd-logind[{pid}]: New session {pid} of user alice.",
    "sudo:    alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/apt update",
    "dbus-daemon[{pid}]: [system] Successfully activated service 'org.freedesktop.hostname1'",
    "sshd[{pid}]: Accepted publickey for alice from 192.0.2.200 port {pid} ssh2: ED25519 SHA256:x",
    "sshd[{pid}]: pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)",
    "sshd[{pid}]: Received disconnect from 192.0.2.200 port {pid}:11: disconnected by user",
    "kernel: [UFW BLOCK] IN=eth0 OUT= MAC=x SRC=198.51.100.3 DST=192.0.2.1 LEN=40 PROTO=TCP SPT={pid} DPT=23",
    "postfix/smtpd[{pid}]: connect from unknown[198.51.100.9]",
)
_FILTER: Final = """\
description = "a service"
logpath = ["{log}"]
source = "files"
identifiers = ["service-{number}"]
ports = [{port}]
[[failregex]]
name = "denied"
regex = '^service {number}: denied <HOST>$'
samples = [{{ line = "service {number}: denied 192.0.2.1", address = "192.0.2.1", from = "made up" }}]
"""


def measure(scratch: Path, seconds: float) -> Iterator[Figure]:
    """Measure all of it; the silence for `seconds`."""
    yield from _reading(scratch)
    yield from _live(scratch, seconds)


def _reading(scratch: Path) -> Iterator[Figure]:
    """Read a large file, and a part of it with fail2ban-regex."""
    whole, part = scratch / "whole.log", scratch / "part.log"
    try:
        lines = _write(whole)
        found = reading.program("bench.files", str(whole))
        if found["read"] != lines:
            raise RuntimeError(f"of {lines} lines {found['read']} were read")
        ours = lines / found["cpu"] * 1e9
        yield Figure(f"a syslog file of {lines:,} lines: decided", ours, "/s")
        yield Figure("  lines that tell of a failure", 100 * found["hits"] / found["read"], "%")
        with whole.open("rb") as source:
            part.write_bytes(source.read(PART).rpartition(b"\n")[0] + b"\n")
        if theirs := _fail2ban(part):
            yield Figure("  fail2ban-regex", theirs, "/s")
            yield Figure("  ratio of the two", ours / theirs, "", Goal(10, 18, at_least=True))
        else:
            print("bench: fail2ban-regex is missing; the ratio to it is not measured", file=sys.stderr)
    finally:
        whole.unlink(missing_ok=True)
        part.unlink(missing_ok=True)


def _write(path: Path) -> int:
    """Write as rsyslog does, half of it sshd's lines about attacks; give the number of lines."""
    chance = random.Random(1)
    start = time.time() - 3600 * 12
    block: list[str] = []
    for number, (pid, _, line) in enumerate(islice(traffic.attack(), _BLOCK // 2)):
        at = datetime.fromtimestamp(start + number / _RATE, UTC).isoformat(timespec="microseconds")
        block.append(f"{at} host sshd[{pid}]: {line.decode()}\n")
        block.append(f"{at} host {chance.choice(_ORDINARY).format(pid=chance.randrange(1000, 60000))}\n")
    data = "".join(block).encode()
    with path.open("wb") as file:
        for _ in range(SIZE // len(data)):
            file.write(data)
    return len(block) * (SIZE // len(data))


def _fail2ban(path: Path) -> float | None:
    """Give the lines that fail2ban-regex reads in a second of CPU, its start not counted; None: it is not here."""
    program = shutil.which("fail2ban-regex")
    if program is None:
        return None
    few = path.with_name("few.log")
    with path.open("rb") as file:
        lines = sum(1 for _ in file)
        file.seek(0)
        few.write_bytes(file.readline())
    cpu = _cpu(program, path) - _cpu(program, few)
    few.unlink()
    return lines / cpu


def _cpu(program: str, path: Path) -> float:
    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    before = used()
    done = subprocess.run(
        [program, "--print-no-missed", "--print-no-ignored", str(path), "sshd"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    if "lines," not in done.stdout.lower():
        raise RuntimeError(f"fail2ban-regex: {done.stderr.strip() or done.stdout.strip()}")
    return used() - before


def _live(scratch: Path, seconds: float) -> Iterator[Figure]:
    """Follow ten files: silent, while somebody writes beside them, and under attack."""
    folder, filters = scratch / "logs", scratch / "file-filters"
    folder.mkdir()
    filters.mkdir()
    config = CONFIG
    for number in range(FILES):
        log = folder / f"service-{number}.log"
        log.touch()
        (filters / f"service-{number}.toml").write_text(
            _FILTER.format(number=number, port=8000 + number, log=log),
        )
        config += f"[jails.service-{number}]\nenabled = true\n"
    namespace = Namespace()
    try:
        with (
            Journald(scratch / "beside") as journald,
            Agent(namespace, journald.path, scratch / "files", config, filters) as agent,
        ):
            agent.wait_until_live()
            time.sleep(attack.QUIET)  # what came before is over
            before = agent.use()
            time.sleep(seconds)
            silent = agent.use()
            minute = 60 / seconds
            what = f"{FILES} files idle: wake-ups a minute"
            yield Figure(what, (silent.wakeups - before.wakeups) * minute, "", Goal(10))
            yield Figure("  CPU a minute", (silent.cpu - before.cpu) * minute * 1000, "ms", Goal(5))
            yield from _bans(namespace, folder / "service-0.log")
    finally:
        namespace.close()
        shutil.rmtree(folder)


class _Log:
    """Writes lines to a file as a service does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, line: str) -> None:
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        with self._path.open("a") as file:
            file.write(f"{at} host service-0[1]: {line}\n")


def _bans(namespace: Namespace, path: Path) -> Iterator[Figure]:
    """Measure from just before the deciding line is written until the kernel says that the element is there."""
    log = cast("Writer", _Log(path))  # it sends no other way
    chance = random.Random(1)
    peers = (f"203.0.{number >> 8}.{number & 255}" for number in count(1))
    with attack.notices(namespace) as notices:
        delays = [
            attack.ban(next(peers), log, notices, gap=chance.uniform(0, 0.03), line="service 0: denied {peer}")
            for _ in range(BANS)
        ]
    yield Figure("a line in a file to element: p50", percentile(delays, 0.5) * 1000, "ms", Goal(5))
    yield Figure("  p95", percentile(delays, 0.95) * 1000, "ms", Goal(50))


def decide(path: str) -> dict[str, int]:
    """Read the whole file and decide about each line."""
    configs = vendor_jails()
    recogniser = Recogniser({config.name: View(config.filter, config.mode) for config in configs})
    bans = Bans()
    jails = {
        config.name: Jail(
            config.name,
            Rule(config.findtime, config.maxretry, config.bantime, config.filter.session is not None),
            Never(config.ignoreip, Host()),
            bans,
        )
        for config in configs
    }
    log = LogFile(path)
    now = time.time_ns() // 1000
    before = time.process_time_ns()
    read = hits = offences = decided = 0
    while True:
        batch = log.read(recogniser.sift, now)
        read += batch.read
        hits += len(batch.entries)
        for entry, matched in batch.entries:
            for name, offence in recogniser.offences(entry, matched):
                offences += 1
                decided += len(jails[name].consider(offence))
        if batch.all_read:
            break
    cpu = time.process_time_ns() - before
    log.close()
    return {"read": read, "hits": hits, "offences": offences, "bans": decided, "cpu": cpu}


if __name__ == "__main__":
    print(json.dumps(decide(sys.argv[1])))
