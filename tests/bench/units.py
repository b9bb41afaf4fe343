# SPDX-License-Identifier: LGPL-2.1-or-later
"""A journal in which many units write in turns, read for some of them, against a C program that looks for the same.

As a program: units.py DIRECTORY NUMBER reads for that many, and prints what was read and its CPU time in ns as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from banagent.core.recognise import Recogniser, View
from banagent.sources.journal import Journal
from banagent.sources.matches import terms
from bench import reading, traffic
from bench.decide import vendor_jails
from bench.figures import Figure, median

if TYPE_CHECKING:
    from collections.abc import Iterator

    from banagent.core.filter import Filter

UNITS: Final = 64
WATCHED: Final = (1, 5, 20, 60)
ROUNDS: Final = 3


def measure(scratch: Path, entries: int) -> Iterator[Figure]:
    """Measure on a journal of that many entries: how soon all of it was looked through."""
    journal = scratch / "units"
    start = time.time_ns() // 1000 - 3600 * traffic.SECOND
    traffic.write(journal, traffic.attack(), entries, start=start, span=3500, senders=_senders(UNITS))
    compiled = reading.build_floor(scratch)
    for number in WATCHED:
        wanted = reading.as_words(terms([_filter(number)]))
        rounds = [
            (reading.floor(compiled, journal, wanted), reading.program("bench.units", str(journal), str(number)))
            for _ in range(ROUNDS)
        ]
        (came, _), found = rounds[0]
        if found["read"] != came:
            raise RuntimeError(f"the agent read {found['read']} entries and the C program {came}: not the same work")
        what = f"{entries:,} entries of {UNITS} units, {number} watched"
        yield Figure(what, median(entries / found["cpu"] * 1e9 for _, found in rounds), "/s")
        yield Figure("  read of them", came, "")
        yield Figure("  ratio to the C program", median(cpu / found["cpu"] for (_, cpu), found in rounds), "")


def _senders(number: int) -> list[tuple[str, str]]:
    return [(f"service-{each:02}.service", f"service-{each:02}") for each in range(number)]


def _filter(number: int) -> Filter:
    """Give sshd's patterns, for other units."""
    units, identifiers = zip(*_senders(number), strict=True)
    (sshd,) = (jail.filter for jail in vendor_jails() if jail.name == "sshd")
    return replace(sshd, units=units, identifiers=identifiers)


def main(directory: Path, number: int) -> dict[str, int]:
    """Read the whole journal and look what its entries tell."""
    item = _filter(number)
    recogniser = Recogniser({"sshd": View(item, "normal")})
    journal = Journal([item], directory)
    journal.seek_time(0)
    read = failures = 0
    before = time.process_time_ns()
    while (batch := journal.read(recogniser.sift)).read:
        read += batch.read
        failures += sum(len(recogniser.offences(entry, hits)) for entry, hits in batch.entries)
    cpu = time.process_time_ns() - before
    journal.close()
    return {"read": read, "failures": failures, "cpu": cpu}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
