# SPDX-License-Identifier: LGPL-2.1-or-later
"""Very many addresses that fail once each: what the agent and fail2ban hold of them, and what the checkpoints cost.

As a program: crowd.py FILE STATE decides about a log as the daemon does, with a history in the folder STATE, and prints
its CPU time in ns as JSON, and how much of it the commits took.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from banagent.config import load, with_values
from banagent.control.client import Agent as Client
from banagent.core.bans import Bans
from banagent.core.events import FILES
from banagent.core.never import Host
from banagent.core.window import Window
from banagent.daemon import CHECKPOINT
from banagent.enforce import Enforcer
from banagent.pipeline import Pipeline
from banagent.sinks.history import Counts, History, Position
from banagent.sinks.trail import Trail
from banagent.sources.logfile import LogFile
from bed.netns import Namespace
from bench import reading, traffic
from bench.agent import Agent
from bench.figures import Figure, Goal, median

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MANY: Final = 10  # times as many addresses are remembered
TOO_MANY: Final = 20  # and times as many come
FEW: Final = 100  # addresses that change
ROUNDS: Final = 20
FAILURES: Final = 4  # of him who is about to be banned
PATIENT: Final = "198.51.100.7"
PATIENCE: Final = 1200.0  # seconds for what is read in one go
_JOURNAL: Final = "[jails.sshd]\nenabled = true\nports = [22]\nsource = 'journal'\n"
_CONFIG: Final = """\
[jails.sshd]
enabled = true
ports = [22]
source = "files"
logpath = ["{log}"]
remember = {most}
"""
_MEGABYTE: Final = 1024  # of the kB in /proc
_FAIL2BAN: Final = """\
[DEFAULT]
banaction =
action =
[sshd]
enabled = true
backend = auto
logpath = {log}
findtime = 1d
maxretry = 5
"""


def measure(scratch: Path, count: int) -> Iterator[Figure]:
    """Measure with `count` addresses, with ten times and with twenty times as many."""
    yield from _from_journal(scratch, count)
    log = scratch / "crowd.log"
    log.touch()
    yield from _remembered(scratch, log, count)
    _write(log, map(address, range(count)), "wb")
    yield from _fail2ban(scratch, log, count)
    log.unlink()
    yield from _checkpoints(scratch, count)
    yield from _share(scratch, count)


def address(number: int) -> str:
    """Give one of two billion addresses, from all over; every tenth is an IPv6 one, in a /48 of its own."""
    spread = number * 2_654_435_761 & 0xFFFFFFFF  # by the golden ratio: Knuth, volume 3, 6.4
    if number % 10 == 9:
        return f"2001:{spread >> 16:x}:{spread & 0xFFFF:x}:{number & 0xFFFF:x}::1"
    first = 11 + (spread >> 24) % 110  # neither reserved nor private
    return f"{first}.{spread >> 16 & 255}.{spread >> 8 & 255}.{spread & 255}"


def _write(log: Path, addresses: Iterable[str], mode: str = "ab") -> None:
    """Write a failure of each, now, as rsyslog does of what sshd says."""
    now = time.time_ns() // 1000 - 30 * traffic.SECOND
    with log.open(mode, buffering=1 << 20) as file:
        for number, peer in enumerate(addresses):
            second, rest = divmod(now + number, traffic.SECOND)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            file.write(f"{stamp}.{rest:06}+00:00 host sshd[{1000 + number}]: {_line(peer)}\n".encode())


def _line(peer: str) -> str:
    return f"Failed password for root from {peer} port 4711 ssh2"


# what is held


def _from_journal(scratch: Path, count: int) -> Iterator[Figure]:
    """Let an agent with all that the shipped jail has read a journal; and one that has hardly anything to read."""
    held: list[float] = []
    for number in (1, count):
        journal = scratch / f"crowd-{number}"
        lines = ((1000 + item, "root", _line(address(item)).encode()) for item in itertools.count())
        traffic.write(journal, lines, number, start=time.time_ns() // 1000 - 600 * traffic.SECOND, span=500)
        namespace = Namespace()
        try:
            with Agent(namespace, journal, scratch / f"read-{number}", _JOURNAL) as agent:
                agent.wait_until_live()
                _wait_for(agent, number)
                held.append(agent.memory().anonymous)
        finally:
            namespace.close()
        shutil.rmtree(journal)
    idle, holding = held
    yield Figure("an agent that reads the journal: RssAnon", idle, "MB", Goal(25, 16))
    yield Figure(f"  {count:,} addresses fail once: more", holding - idle, "MB", Goal(16 * count / 100_000))


def _remembered(scratch: Path, log: Path, count: int) -> Iterator[Figure]:
    """Let an agent with all that the shipped jail has read a log that grows."""
    namespace = Namespace()
    (scratch / "no-journal").mkdir()
    config = _CONFIG.format(log=log, most=MANY * count)
    try:
        with Agent(namespace, scratch / "no-journal", scratch / "crowded", config) as agent:
            agent.wait_until_live()
            idle = agent.memory().anonymous
            yield Figure("one that reads a log file: RssAnon", idle, "MB", Goal(25, 16))
            _write(log, [PATIENT] * FAILURES)
            done = 0
            for times, goal in ((1, 16), (MANY, 200), (TOO_MANY, 200)):
                before = agent.use().cpu
                _write(log, map(address, range(done, times * count)))
                _wait_for(agent, times * count + FAILURES)
                cpu = agent.use().cpu - before
                what = f"  {times * count:,} addresses fail once: more"
                yield Figure(what, agent.memory().anonymous - idle, "MB", Goal(goal * count / 100_000))
                yield Figure("  a failure takes, with its checkpoints", cpu / (times * count - done) * 1e6, "µs")
                done = times * count
            with _client(agent) as client:
                about = [item["subject"] for item in client.call("Status")["attention"]]
            yield Figure(
                "  it says that these are too many", "memory of jail sshd" in about, "", Goal(1, at_least=True)
            )
            _write(log, [PATIENT])
            _wait_for(agent, done + FAILURES + 1)
            with _client(agent) as client:
                bans = client.call("Status")["bans"]
            yield Figure("  he is banned who failed four times before", bans, "", Goal(1, at_least=True))
        with Agent(namespace, scratch / "no-journal", scratch / "crowded", config) as agent:
            agent.wait_until_live()
            yield Figure("  after a restart: RssAnon more", agent.memory().anonymous - idle, "MB")
            yield Figure("  from exec to READY", agent.seconds_to_ready, "s")
    finally:
        namespace.close()


def _client(agent: Agent) -> Client:
    return Client(str(agent.socket), owner=os.geteuid())


def _wait_for(agent: Agent, failures: int) -> None:
    """Wait until an agent has counted so many, and made its checkpoint."""
    deadline = time.monotonic() + PATIENCE
    with _client(agent) as client:
        while (counted := client.call("Status")["failures"]) < failures:
            if time.monotonic() > deadline:
                raise RuntimeError(f"of {failures} failures {counted} were counted")
            time.sleep(0.2)
    time.sleep(CHECKPOINT + 1)


def _fail2ban(scratch: Path, log: Path, count: int) -> Iterator[Figure]:
    """Let fail2ban read the same log, with nothing to do about it."""
    server = shutil.which("fail2ban-server")
    if server is None:
        raise RuntimeError("fail2ban-server is missing; run this with: make bench")
    folder = scratch / "fail2ban"
    shutil.copytree("/etc/fail2ban", folder)
    for file in (folder / "jail.d").iterdir():
        file.unlink()
    (folder / "fail2ban.local").write_text("[Definition]\nlogtarget = STDERR\ndbfile = None\n")
    (folder / "jail.local").write_text(_FAIL2BAN.format(log=scratch / "empty.log"))
    (scratch / "empty.log").touch()
    idle = _fail2ban_holds(server, folder, 0)
    (folder / "jail.local").write_text(_FAIL2BAN.format(log=log))
    holds = _fail2ban_holds(server, folder, count)
    yield Figure(f"fail2ban, {count:,} addresses: RssAnon more", holds - idle, "MB")
    yield Figure("  RssAnon", holds, "MB")


def _fail2ban_holds(server: str, folder: Path, failures: int) -> float:
    """Give what fail2ban holds when it has counted so many failures."""
    sock, deadline = folder / "sock", time.monotonic() + PATIENCE
    command = ["-c", str(folder), "-s", str(sock), "-p", str(folder / "pid")]
    client = str(Path(server).with_name("fail2ban-client"))
    with subprocess.Popen(
        [server, *command, "-x", "-f", "start"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        try:
            while True:
                asked = subprocess.run(
                    [client, *command, "status", "sshd"], capture_output=True, text=True, check=False
                )
                found = re.search(r"Total failed:\s*(\d+)", asked.stdout)
                if found is not None and int(found[1]) >= failures:
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError(f"fail2ban did not count {failures} failures: {asked.stdout}{asked.stderr}")
                time.sleep(1)
            status = Path(f"/proc/{running.pid}/status").read_text()
        finally:
            running.terminate()
            with suppress(subprocess.TimeoutExpired):
                running.wait(30)
            running.kill()
    return int(re.findall(r"^RssAnon:\s*(\d+)", status, re.MULTILINE)[0]) / _MEGABYTE


# what the checkpoints cost


def _checkpoints(scratch: Path, count: int) -> Iterator[Figure]:
    """Measure the first checkpoint of many addresses, and one after few of them have changed."""
    window, chance, now = Window(3600, 5), random.Random(1), time.time_ns() // 1000
    keys = [chance.randbytes(4) + b"\x20" for _ in range(count)]

    def taken(changed: Iterable[bytes]) -> tuple[float, float]:
        """Give ms of CPU, and kB written, of a checkpoint after these have failed."""
        for key in changed:
            window.add(key, now)
        before, written = time.process_time_ns(), _written()
        counts = Counts(window.changes(), (), ())
        history.commit(counts={"sshd": counts}, positions={"journal": Position("position", now)})
        window.saved()
        return (time.process_time_ns() - before) / 1e6, (_written() - written) / 1000

    with closing(History(scratch / "checkpoints.db")) as history:
        cpu, kilobytes = taken(keys)
        yield Figure(f"the first checkpoint of {count:,} addresses", cpu, "ms")
        yield Figure("  written", kilobytes, "kB")
        few = [taken(chance.sample(keys, FEW)) for _ in range(ROUNDS)]
    yield Figure(f"  when {FEW} of them have changed", median(cpu for cpu, _ in few), "ms", Goal(10))
    yield Figure("  written", median(kilobytes for _, kilobytes in few), "kB")


def _written() -> int:
    """Give how many bytes this process has written."""
    return int(re.findall(r"^wchar: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)[0])


def _share(scratch: Path, count: int) -> Iterator[Figure]:
    """Measure on the attack of the other sections, in which those who go on are banned."""
    log, state = scratch / "attack.log", scratch / "attacked"
    state.mkdir()
    begin = time.time_ns() // 1000 - 3000 * traffic.SECOND
    with log.open("wb") as file:
        for number, (pid, _, line) in enumerate(itertools.islice(traffic.attack(), count)):
            second, rest = divmod(begin + number * 3000 * traffic.SECOND // count, traffic.SECOND)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
            file.write(b"%s.%06d+00:00 host sshd[%d]: %s\n" % (stamp, rest, pid, line))
    found = reading.program("bench.crowd", str(log), str(state))
    yield Figure(f"an attack of {count:,} lines: CPU for commits", 100 * found["commits"] / found["cpu"], "%")


class _Timed(History):
    """A history that knows how long its commits take."""

    cpu = 0  # ns

    def commit(self, **what: Any) -> None:
        before = time.process_time_ns()
        super().commit(**what)
        self.cpu += time.process_time_ns() - before


def decide(log: Path, state: Path) -> dict[str, int]:
    """Do all that the daemon does about a file, but for the kernel and the log."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    path = str(log)
    history = _Timed(state / "history.db")
    enforcer = Enforcer(Bans(), history, lambda: time.time_ns() // 1000, dry=True)
    config = with_values(load(root=state / "nowhere"), {"jails": {"sshd": {"logpath": [path]}}}, "bench")
    pipeline = Pipeline(config, Host(), history, enforcer, choose=lambda _: frozenset({FILES}), trail=Trail(None))
    with closing(enforcer), closing(LogFile(path, pipeline.routes.files()[path])) as source:
        source.seek_time(0, time.time_ns() // 1000)
        sift = pipeline.sift(path)
        gc.freeze()  # as the daemon does at READY
        before, saved, all_read = time.process_time_ns(), time.monotonic(), False
        history.cpu = 0
        while not all_read:
            batch = source.read(sift, time.time_ns() // 1000)
            pipeline.handle(batch)
            enforcer.expire()
            if time.monotonic() - saved > CHECKPOINT:
                pipeline.save()
                saved = time.monotonic()
            all_read = batch.all_read
        pipeline.save()
        return {"commits": history.cpu, "cpu": time.process_time_ns() - before}


if __name__ == "__main__":
    print(json.dumps(decide(Path(sys.argv[1]), Path(sys.argv[2]))))
