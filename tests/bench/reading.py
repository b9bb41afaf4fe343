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
from banagent.sources.matches import terms
from bench import traffic
from bench.decide import vendor_jails
from bench.figures import Figure, Goal, median

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from banagent.sources.matches import Terms

HERE: Final = Path(__file__).parent
ROUNDS: Final = 3
_LINES: Final = 20_000


def measure(journal: Path, scratch: Path) -> Iterator[Figure]:
    """Measure on a journal of attack traffic."""
    compiled = build_floor(scratch)
    wanted = _matches()
    rounds = [(floor(compiled, journal, wanted), program("bench.decide", str(journal))) for _ in range(ROUNDS)]
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


def build_floor(scratch: Path) -> Path:
    """Compile the C program."""
    flags = _output(["pkg-config", "--cflags", "--libs", "libsystemd"]).split()
    program = scratch / "floor"
    _output(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(HERE / "floor.c"), *flags])
    return program


def _matches() -> list[str]:
    """Give what the agent's reader looks for, so that both have the same to skip."""
    return as_words(terms([jail.filter for jail in vendor_jails()]))


def as_words(wanted: Terms | None) -> list[str]:
    """Give what is looked for as the C program wants it."""
    groups = [[f"{field}={value}" for value in sorted(values)] for field, values in (wanted or {}).items()]
    return [word for group in groups for word in (*group, "+")][:-1]


def floor(compiled: Path, journal: Path, matches: Sequence[str]) -> tuple[int, int]:
    """Give how many entries the C program read and its CPU time in ns."""
    entries, cpu = map(int, _output([str(compiled), str(journal), *matches]).split())
    return entries, cpu


def program(module: str, *arguments: str) -> Any:
    """Run a module of this package in a process of its own, and give what it prints as JSON."""
    path = os.pathsep.join((str(HERE.parent), str(Path(banagent.__file__).parents[1])))
    return json.loads(_output([sys.executable, "-m", module, *arguments], PYTHONPATH=path))


def _output(command: Sequence[str], **environment: str) -> str:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout
