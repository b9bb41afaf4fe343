# SPDX-License-Identifier: LGPL-2.1-or-later
"""`banagent test` beside fail2ban-regex on the same log of sshd, and what more filters cost a line that none knows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from banagent import config
from banagent.core.recognise import Recogniser, View
from bench import traffic
from bench.figures import Figure, Goal, median

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from banagent.core.filter import Filter

AGENT: Final = Path(__file__).parents[2] / "agent"
FEW: Final = 10  # filters
ROUNDS: Final = 5
LINES: Final = 20_000  # for what takes a microsecond
A_SECOND: Final = 5  # entries of the log
UNKNOWN: Final = b"session %d: something that is no failure, said at about the length of such lines, to 192.0.2.%d"


def measure(scratch: Path, lines: int) -> Iterator[Figure]:
    """Have both read a log of `lines` lines; they have to agree on what is in it as far as that can be compared."""
    log = scratch / "auth.log"
    write(log, lines)
    ours, said = cpu([sys.executable, "-m", "banagent", "test", "--filter", "sshd", str(log)])
    matched = _number(r"([\d,]+) matched", said)
    yield Figure("banagent test, a log of sshd", lines / ours, "/s")
    yield Figure("  lines that matched", 100 * matched / lines, "%")
    theirs = shutil.which("fail2ban-regex")
    if theirs is None:
        raise RuntimeError("fail2ban-regex is missing; run this with: make bench")
    taken, said = cpu([theirs, str(log), "sshd"])
    yield Figure("fail2ban-regex, the same", lines / taken, "/s")
    yield Figure("  lines that matched", 100 * _number(r"([\d,]+) matched", said) / lines, "%")
    yield Figure("  the ratio of the two", taken / ours, "", Goal(10, 18, at_least=True))
    yield from unmatched()


def unmatched() -> Iterator[Figure]:
    """Measure a line that no pattern matches, for few filters and for all."""
    filters, mistakes = config.read_filters(config.filter_files(root=Path("/nonexistent")))
    assert not mistakes
    lines = [UNKNOWN % (number, number % 256) for number in range(LINES)]
    few = _sifting(list(filters.values())[:FEW], lines)
    every = _sifting(list(filters.values()), lines)
    yield Figure(f"a line that no pattern of {FEW} filters matches", few, "µs")
    yield Figure(f"  of {len(filters)} filters", every, "µs", Goal(1.5 * few))


def write(log: Path, lines: int) -> None:
    """Write what sshd tells of an attack, as rsyslog writes it."""
    begin = int(time.time()) - lines // A_SECOND
    with log.open("wb") as file:
        for number, (pid, _, line) in enumerate(islice(traffic.attack(), lines)):
            stamp = time.strftime("%b %e %H:%M:%S", time.localtime(begin + number // A_SECOND))
            file.write(b"%s host sshd[%d]: %s\n" % (stamp.encode(), pid, line))


def cpu(command: Sequence[str]) -> tuple[float, str]:
    """Give the CPU seconds that a command takes, its start included, and what it prints."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(AGENT)}
    ) as process:
        assert process.stdout
        said = process.stdout.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {said[-500:]}")
    return used.ru_utime + used.ru_stime, said


def _number(pattern: str, said: str) -> int:
    found = re.search(pattern, said)
    assert found, said
    return int(found[1].replace(",", ""))


def _sifting(filters: Sequence[Filter], lines: Sequence[bytes]) -> float:
    """Give the microseconds that a line takes."""
    sift = Recogniser({item.name: View(item, "aggressive") for item in filters}).sift
    taken: list[float] = []
    for _ in range(ROUNDS):
        before = time.process_time_ns()
        for line in lines:
            sift(line)
        taken.append((time.process_time_ns() - before) / len(lines) / 1000)
    return median(taken)
