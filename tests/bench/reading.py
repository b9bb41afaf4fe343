# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading: the agent's way from the journal to the decision, against a C program that reads MESSAGE and does nothing.

CPU time of the loops, run in turns: on a machine that does other things too, the ratio is steadier than either.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import banagent
from banagent.core.recognise import Recogniser, View
from bench import traffic
from bench.decide import vendor_jails
from bench.figures import Figure, Goal, median

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE: Final = Path(__file__).parent
ROUNDS: Final = 3
_LINES: Final = 20_000


def measure(journal: Path, scratch: Path) -> Iterator[Figure]:
    """Measure on a journal of attack traffic."""
    floor = _build_floor(scratch)
    rounds = [(_floor(floor, journal), _decide(journal)) for _ in range(ROUNDS)]
    (entries, _), found = rounds[0]
    if found["read"] != entries:
        raise RuntimeError(f"the agent read {found['read']} entries and the C program {entries}: not the same work")
    yield Figure(
        f"journal of {entries:,} entries: C reads MESSAGE", median(entries / cpu * 1e9 for (_, cpu), _ in rounds), "/s"
    )
    yield Figure("  banagent decides, all included", median(entries / agent["cpu"] * 1e9 for _, agent in rounds), "/s")
    ratio = median(cpu / agent["cpu"] for (_, cpu), agent in rounds)
    yield Figure("  ratio of the two", ratio, "", Goal(0.35, 0.6, at_least=True))
    yield Figure("  lines that tell of a failure", 100 * found["hits"] / found["read"], "%")
    yield from _sifting()


def _sifting() -> Iterator[Figure]:
    """Measure what a line costs beyond reading it if no pattern matches, and if one does."""
    recogniser = Recogniser({jail.name: View(jail.filter, jail.mode) for jail in vendor_jails()})
    lines = [line for _, _, line in islice(traffic.attack(), _LINES)]
    misses = [line for line in lines if not recogniser.sift(line)]
    hits = [line for line in lines if recogniser.sift(line)]
    yield Figure("a line that no pattern matches: sifting it", _per_line(recogniser, misses), "µs", Goal(1))
    yield Figure("a line that one matches: sifting it", _per_line(recogniser, hits), "µs")


def _per_line(recogniser: Recogniser, lines: Sequence[bytes]) -> float:
    sift = recogniser.sift
    taken: list[float] = []
    for _ in range(ROUNDS):
        before = time.process_time_ns()
        for line in lines:
            sift(line)
        between = time.process_time_ns()
        for _line in lines:
            pass
        taken.append((2 * between - before - time.process_time_ns()) / len(lines) / 1000)
    return median(taken)


def _build_floor(scratch: Path) -> Path:
    flags = _output(["pkg-config", "--cflags", "--libs", "libsystemd"]).split()
    program = scratch / "floor"
    _output(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(HERE / "floor.c"), *flags])
    return program


def _matches() -> list[str]:
    """Give the matches that the agent's reader has, so that both have the same to skip."""
    filters = [jail.filter for jail in vendor_jails()]
    units = sorted({unit for each in filters for unit in each.units if not set(unit) & set("*?[")})
    identifiers = sorted({name for each in filters for name in each.identifiers})
    return [*(f"_SYSTEMD_UNIT={unit}" for unit in units), "+", *(f"SYSLOG_IDENTIFIER={name}" for name in identifiers)]


def _floor(program: Path, journal: Path) -> tuple[int, int]:
    """Give how many entries the C program read and its CPU time in ns."""
    entries, cpu = map(int, _output([str(program), str(journal), *_matches()]).split())
    return entries, cpu


def _decide(journal: Path) -> Any:
    path = os.pathsep.join((str(HERE.parent), str(Path(banagent.__file__).parents[1])))
    return json.loads(_output([sys.executable, "-m", "bench.decide", str(journal)], PYTHONPATH=path))


def _output(command: Sequence[str], **environment: str) -> str:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout
