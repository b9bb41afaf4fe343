# SPDX-License-Identifier: LGPL-2.1-or-later
"""Log files: from lines to decisions beside fail2ban-regex; jails on files, idle; and how soon a line leads to a ban.

As a program: files.py FILE decides about each line, and prints what was read and its CPU time in ns as JSON.
"""

from __future__ import annotations

import gc
import json
import random
import re
import shutil
import sys
import time
from contextlib import ExitStack, closing
from itertools import count, cycle, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, cast

import structlog

from banagent.config import load, with_values
from banagent.core.bans import Bans
from banagent.core.events import FILES
from banagent.core.never import Host
from banagent.daemon import CHECKPOINT, YOUNG
from banagent.enforce import Enforcer
from banagent.pipeline import Pipeline
from banagent.sinks.history import History
from banagent.sinks.trail import Trail
from banagent.sources.logfile import LogFile
from bed.journald import Journald, service
from bed.netns import Namespace
from bench import attack, reading, testing, traffic
from bench.agent import CONFIG, Agent
from bench.figures import Figure, Goal, percentile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bed.journald import Writer

MEGABYTE: Final = 1_000_000  # bytes
PART: Final = 30  # MB of the file that fail2ban-regex reads: it takes its time
FEW: Final = 1000  # lines, to see what it takes to start
PACE: Final = 500  # bytes a second, by the stamps: about 5 lines
OURS: Final = 0.2  # of the ordinary lines: those of an attack
JAILS: Final = 10  # on the journal, and as many on files
_NOWHERE: Final = Path("/nonexistent")  # has no configuration
_JOURNAL_JAIL: Final = """\
[jails.service-{number}]
enabled = true
filter = "sshd"
ports = [{port}]
source = "journal"
units = ["service-{number}.service"]
identifiers = ["service-{number}"]
"""
_FILE_JAIL: Final = """\
[jails.file-{number}]
enabled = true
filter = "sshd"
ports = [{port}]
source = "files"
logpath = ["/mnt/{name}"]
"""
# what else is in an auth.log, and in a syslog with all in it: tag and text
_ORDINARY: Final = (
    "CRON[{pid}]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)",
    "CRON[{pid}]: pam_unix(cron:session): session closed for user root",
    "CRON[{pid}]: (root) CMD (test -x /usr/sbin/anacron || run-parts --report /etc/cron.daily)",
    "sshd[{pid}]: Accepted publickey for {user} from {peer} port {port} ssh2: ED25519 SHA256:Zm9vYmFyYmF6cXV4Zm9vYmFy",
    "sshd[{pid}]: pam_unix(sshd:session): session opened for user {user}(uid=1000) by (uid=0)",
    "sshd[{pid}]: Received disconnect from {peer} port {port}:11: disconnected by user",
    "sshd[{pid}]: Disconnected from user {user} {peer} port {port}",
    "sshd[{pid}]: pam_unix(sshd:session): session closed for user {user}",
    "systemd-logind[411]: New session {port} of user {user}.",
    "systemd-logind[411]: Session {port} logged out. Waiting for processes to exit.",
    "systemd[1]: Started session-{port}.scope - Session {port} of User {user}.",
    "sudo:  {user} : TTY=pts/0 ; PWD=/home/{user} ; USER=root ; COMMAND=/usr/bin/systemctl status nginx",
    "kernel: [{pid}.{port}] eth0: renamed from veth{port}",
    "postfix/smtpd[{pid}]: connect from mail.example[{peer}]",
    "postfix/smtpd[{pid}]: disconnect from mail.example[{peer}] ehlo=2 starttls=1 mail=1 rcpt=1 data=1 quit=1",
    "dovecot: imap-login: Login: user=<{user}>, method=PLAIN, rip={peer}, lip=192.0.2.1, mpid={pid}, TLS",
)


def measure(scratch: Path, megabytes: int, seconds: float) -> Iterator[Figure]:
    """Measure on files of that size, and then an agent: idle for `seconds`, and under attack."""
    for what, lines in (("an attack on sshd", attacks), ("an ordinary log", ordinary)):
        yield from _beside_fail2ban(scratch, megabytes, what, lines())
    yield from _live(scratch, seconds)


# what is in the files


def attacks() -> Iterator[bytes]:
    """Give what follows the host's name, without end: what sshd says of those who guess passwords."""
    for pid, _, line in traffic.attack():
        yield b"sshd[%d]: %s" % (pid, line)


def ordinary() -> Iterator[bytes]:
    """Give likewise what a machine logs on which this and that goes on, and an attack too."""
    chance = random.Random(2)
    attacking = attacks()
    while True:
        if chance.random() < OURS:
            yield next(attacking)
        else:
            text = chance.choice(_ORDINARY).format(
                pid=chance.randrange(1000, 4_000_000),
                user=chance.choice(("alice", "bob", "carol", "deploy")),
                peer=f"192.0.2.{chance.randrange(2, 250)}",
                port=chance.randrange(1024, 65536),
            )
            yield text.encode()


def write(log: Path, lines: Iterator[bytes], size: int) -> int:
    """Write as rsyslog does until there are `size` bytes, in which the last stamp is now's; give how many lines."""
    begin = int(time.time()) - size // PACE
    number = written = second = 0
    stamp = b""
    with log.open("wb", buffering=1 << 20) as file:
        while written < size:
            now, rest = divmod(written, PACE)
            if now != second or not stamp:
                second = now
                stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begin + second)).encode()
            written += file.write(b"%s.%06d+00:00 host %s\n" % (stamp, rest * 1_000_000 // PACE, next(lines)))
            number += 1
    return number


# beside fail2ban-regex


def _beside_fail2ban(scratch: Path, megabytes: int, what: str, lines: Iterator[bytes]) -> Iterator[Figure]:
    """Measure on a file; fail2ban-regex before and after, since the machine does other things too.

    It only says what matches; the agent also links, counts, decides and remembers, and commits when it bans.
    """
    whole = scratch / "whole.log"
    number = write(whole, lines, megabytes * MEGABYTE)
    try:
        fail2ban = _Fail2ban(scratch, whole)
        before = fail2ban.read()
        found = reading.program("bench.files", str(whole))
        after = fail2ban.read()
    finally:
        whole.unlink()
    if found["read"] != number:
        raise RuntimeError(f"of {number} lines {found['read']} were read")
    ours, theirs = number / found["cpu"] * 1e9, (before.rate + after.rate) / 2
    yield Figure(f"{what}, a file of {megabytes:,} MB", ours, "/s")
    yield Figure("  reading and sifting alone", number / found["reading"] * 1e9, "/s")
    yield Figure("  lines that tell of a failure", 100 * found["hits"] / number, "%")
    yield Figure("  bans that would have been made", found["bans"], "")
    yield Figure(f"  fail2ban-regex, on {min(PART, megabytes)} MB of it", theirs, "/s")
    yield Figure("  lines that it matches", after.matched, "%")
    yield Figure("  the ratio of the two", ours / theirs, "", Goal(10, 18, at_least=True))


class _Matched(NamedTuple):
    """What fail2ban-regex did."""

    rate: float  # lines in a second of CPU
    matched: float  # of the lines, in percent


class _Fail2ban:
    """fail2ban-regex with its own filter for sshd, on the beginning of a log."""

    def __init__(self, scratch: Path, log: Path) -> None:
        program = shutil.which("fail2ban-regex")
        if program is None:
            raise RuntimeError("fail2ban-regex is missing; run this with: make bench")
        self._program = program
        self._part, self._few = scratch / "part.log", scratch / "few.log"
        with log.open("rb") as file:
            self._few.write_bytes(b"".join(islice(file, FEW)))
            file.seek(0)
            self._part.write_bytes(file.read(PART * MEGABYTE).rpartition(b"\n")[0] + b"\n")

    def read(self) -> _Matched:
        """Read it; what the start takes is not counted."""
        start, few, _ = self._run(self._few)
        taken, lines, matched = self._run(self._part)
        return _Matched((lines - few) / (taken - start), 100 * matched / lines)

    def _run(self, log: Path) -> tuple[float, int, int]:
        """Give CPU seconds, lines, and how many of them matched."""
        taken, said = testing.cpu([self._program, str(log), "sshd"])
        found = re.search(r"^Lines: (\d+) lines, \d+ ignored, (\d+) matched", said, re.MULTILINE)
        if found is None:
            raise RuntimeError(f"fail2ban-regex says something unexpected: {said[-500:]}")
        return taken, int(found[1]), int(found[2])


def decide(log: Path) -> dict[str, int]:
    """Do all that the daemon does about a file, but for the kernel and the log; the history is in memory."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    path = str(log)
    history = History(None)
    enforcer = Enforcer(Bans(), history, _now, dry=True)
    config = with_values(load(root=_NOWHERE), {"jails": {"sshd": {"logpath": [path]}}}, "bench")
    pipeline = Pipeline(config, Host(), history, enforcer, choose=lambda _: frozenset({FILES}), trail=Trail(None))
    read = hits = reading_cpu = 0
    with closing(enforcer), closing(LogFile(path, pipeline.routes.files()[path])) as source:
        source.seek_time(0, _now())
        sift = pipeline.sift(path)
        gc.freeze()  # as the daemon does at READY
        gc.set_threshold(YOUNG)
        before = time.process_time_ns()
        saved, all_read = time.monotonic(), False
        while not all_read:
            begin = time.process_time_ns()
            batch = source.read(sift, _now())
            reading_cpu += time.process_time_ns() - begin
            read += batch.read
            hits += len(batch.entries)
            pipeline.handle(batch)
            enforcer.expire()
            if time.monotonic() - saved > CHECKPOINT:
                pipeline.save()
                saved = time.monotonic()
            all_read = batch.all_read
        cpu = time.process_time_ns() - before
        return {"read": read, "hits": hits, "bans": enforcer.decided, "reading": reading_cpu, "cpu": cpu}


def _now() -> int:
    return time.time_ns() // 1000


# live


class _Quiet(Namespace):
    """A network namespace whose programs have a folder at /mnt, too.

    Who follows a file watches the folders above it: what others do beside the scratch folder would wake the agent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__()

    def argv(self, *command: str) -> list[str]:
        mounting = 'mount --bind "$0" /mnt && exec "$@"'
        return super().argv("unshare", "--mount", "sh", "-c", mounting, str(self._folder), *command)


class _Log:
    """Writes lines to a file, each at once, as rsyslog does of what sshd says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self._pids = count(1000)

    def send(self, message: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        self._file.write(f"{stamp}+00:00 host sshd[{next(self._pids)}]: {message}\n".encode())

    def close(self) -> None:
        self._file.close()


def _live(scratch: Path, seconds: float) -> Iterator[Figure]:
    """Follow the journal and files: silent, while another unit writes, and under attack."""
    folder = scratch / "logs"
    folder.mkdir()
    with ExitStack() as stack:
        logs = [stack.enter_context(closing(_Log(folder / f"{number}.log"))) for number in range(JAILS)]
        namespace = _Quiet(folder)
        stack.callback(namespace.close)
        journald = stack.enter_context(Journald(scratch / "beside"))
        other = stack.enter_context(journald.writer(service("other.service"), comm="other"))
        agent = stack.enter_context(Agent(namespace, journald.path, scratch / "files", _config(logs)))
        agent.wait_until_live()
        what = f"{JAILS} jails on the journal, {JAILS} on files: RssAnon"
        yield Figure(what, agent.memory().anonymous, "MB")
        yield from attack.idle(agent, seconds, other, f"{2 * JAILS} jails idle")
        yield from _bans(namespace, logs)


def _config(logs: list[_Log]) -> str:
    config = CONFIG + 'source = "journal"\n'
    for number in range(1, JAILS):
        config += _JOURNAL_JAIL.format(number=number, port=8000 + number)
    for number, log in enumerate(logs):
        config += _FILE_JAIL.format(number=number, port=9000 + number, name=log.path.name)
    return config


def _bans(namespace: Namespace, logs: list[_Log]) -> Iterator[Figure]:
    """Measure from just before the deciding line is written until the kernel says that the element is there."""
    chance = random.Random(1)
    peers = (f"203.0.{number >> 8}.{number & 255}" for number in count(1))
    with attack.notices(namespace) as notices:
        delays = [
            attack.ban(next(peers), cast("Writer", log), notices, gap=chance.uniform(0, 0.03))  # it sends, and no more
            for log in islice(cycle(logs), attack.BANS)
        ]
    yield Figure("line in a file to element, under attack: p50", percentile(delays, 0.5) * 1000, "ms", Goal(5))
    yield Figure("  p95", percentile(delays, 0.95) * 1000, "ms", Goal(50))


if __name__ == "__main__":
    print(json.dumps(decide(Path(sys.argv[1]))))
