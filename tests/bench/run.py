# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bench's own command line. Everything is in namespaces and a temporary directory; nothing is left."""

from __future__ import annotations

import argparse
import compileall
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import banagent
from bed import settled, tiers
from bench import attack, crowd, figures, files, flood, hostile, jails, many, reading, testing, traffic, units

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from bench.figures import Figure

AGENT: Final = Path(banagent.__file__).parent
SPAN: Final = 3500  # seconds that the made journal tells of
SECTIONS: Final = {
    "reading": "the journal to decisions, against a C program; the daemon's memory after it",
    "units": "a journal of many units, read for some",
    "live": "an idle daemon, and from a journal entry to the element in the kernel",
    "jails": "ten jails, idle and in a rush",
    "files": "log files: against fail2ban-regex; idle; from a line to the element",
    "socket": "bans while the control socket is flooded",
    "bans": "one ban; a start with many; their memory",
    "addresses": "many addresses that are counted: memory, beside fail2ban; checkpoints",
    "test": "logs tried on filters, against fail2ban-regex; many filters",
    "patterns": "the worst line for the shipped patterns",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; give the exit status: 0 measured, whatever the figures are; 1 something failed or was left."""
    arguments = parser().parse_args(argv)
    if reason := tiers.why_not("kernel"):
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _stop)  # what is begun is cleaned up then, as with an interrupt
    settled.adopt_orphans()
    before = settled.state()
    compileall.compile_dir(AGENT, quiet=1)  # as it is where it was installed; otherwise each start may do it anew
    with tempfile.TemporaryDirectory(prefix="banagent-bench-") as scratch:
        _report(_measure(arguments, Path(scratch)), json=arguments.json)
    left = settled.left_behind(before)
    for thing in left:
        print(f"bench: left behind: {thing}", file=sys.stderr)
    return 1 if left else 0


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    listed = "\n".join(f"  {name:<11}{text}" for name, text in SECTIONS.items())
    made = argparse.ArgumentParser(
        prog="bench",
        description="Measure banagent on this machine, as root.",
        epilog=f"sections:\n{listed}\n\nA missed target is marked with !.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", action="store_true", help="print the figures as JSON")
    made.add_argument("--entries", type=int, default=500_000, metavar="N", help="of the made journal (500000)")
    made.add_argument("--bans", type=int, default=100_000, metavar="N", help="and addresses counted (100000)")
    made.add_argument("--megabytes", type=int, default=1000, metavar="N", help="of each made log file (1000)")
    made.add_argument("--seconds", type=float, default=20, metavar="N", help="of each idle measurement (20)")
    # no section at all is a choice too, for argparse
    made.add_argument("section", nargs="*", choices=[*SECTIONS, []], metavar="SECTION", help="measure only these")
    return made


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(1)


def _report(measured: Iterator[Figure], *, json: bool) -> None:
    """Print what is measured; the table's lines as they come."""
    if json:
        print(figures.as_json(measured))
        return
    print(figures.head())
    for figure in measured:
        print(figures.line(figure), flush=True)


def _measure(arguments: argparse.Namespace, scratch: Path) -> Iterator[Figure]:
    """Measure section by section, and say on stderr which one it is."""
    began = time.monotonic()
    for section in SECTIONS:
        if not arguments.section or section in arguments.section:
            print(f"bench: {time.monotonic() - began:4.0f} s: {SECTIONS[section]}", file=sys.stderr)
            yield from _section(section, arguments, scratch)


def _section(section: str, arguments: argparse.Namespace, scratch: Path) -> Iterator[Figure]:
    if section == "reading":
        journal = scratch / "attack"
        start = time.time_ns() // 1000 - SPAN * traffic.SECOND
        traffic.write(journal, traffic.attack(), arguments.entries, start=start, span=SPAN)
        yield from reading.measure(journal, scratch)
        yield from many.attacked(journal, scratch, arguments.entries)
    elif section == "units":
        yield from units.measure(scratch, arguments.entries)
    elif section == "live":
        yield from attack.measure(scratch, arguments.seconds)
    elif section == "jails":
        yield from jails.measure(scratch, arguments.seconds)
    elif section == "files":
        yield from files.measure(scratch, arguments.megabytes, arguments.seconds)
    elif section == "socket":
        yield from flood.measure(scratch, flood.MESSAGES)
    elif section == "bans":
        yield from many.one_ban(scratch)
        yield from many.starts(scratch, arguments.bans)
    elif section == "addresses":
        yield from crowd.measure(scratch, arguments.bans)
    elif section == "test":
        yield from testing.measure(scratch, arguments.entries // 5)
    else:
        yield from hostile.measure(scratch / "nowhere")
