# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ten jails on the journal: what they use while there is nothing to do, and how soon they ban during a rush."""

from __future__ import annotations

import subprocess
import time
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bed.journald import Journald, service
from bed.netns import Namespace
from bench import attack, traffic
from bench.agent import CONFIG, Agent
from bench.figures import Figure, Goal, percentile

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).parent
OTHERS: Final = 9  # beside sshd
RATE: Final = 50_000  # entries a second
RUSH: Final = 10.0  # seconds
_LINES: Final = 20_000
_FILTER: Final = """\
description = "a service"
units = ["service-{number}.service"]
identifiers = ["service-{number}"]
ports = [{port}]
[[failregex]]
name = "denied"
regex = '^service {number}: denied <HOST>$'
samples = [{{ line = "service {number}: denied 192.0.2.1", address = "192.0.2.1", from = "made up" }}]
"""


def measure(scratch: Path, seconds: float) -> Iterator[Figure]:
    """Measure an idle agent for `seconds`, twice, and then one that is flooded."""
    filters = scratch / "filters"
    filters.mkdir()
    config = CONFIG
    for number in range(OTHERS):
        text = _FILTER.format(number=number, port=8000 + number)
        (filters / f"service-{number}.toml").write_text(text)
        config += f"[jails.service-{number}]\nenabled = true\n"
    namespace = Namespace()
    try:
        with (
            Journald(scratch / "ten") as journald,
            journald.writer(service("other.service"), comm="other") as other,
            Agent(namespace, journald.path, scratch / "jails", config, filters) as agent,
        ):
            agent.wait_until_live()
            yield from attack.idle(agent, seconds, other, f"{OTHERS + 1} jails idle")
            yield from _rush(namespace, journald, agent)
    finally:
        namespace.close()


def _rush(namespace: Namespace, journald: Journald, agent: Agent) -> Iterator[Figure]:
    """Flood journald with an attack on sshd, and measure the bans of peers who come in between."""
    lines = b"\n".join(line for _, _, line in islice(traffic.attack(), _LINES))
    rush = ["/usr/bin/python3", "-I", "-S", str(HERE / "rush.py"), str(RATE), str(RUSH)]
    command = journald.argv(*rush, cgroup=service("ssh.service"))
    before, began = agent.use(), time.monotonic()
    with (
        journald.writer(service("service-0.service"), comm="service-0") as writer,
        attack.notices(namespace) as notices,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as flood,
    ):
        assert flood.stdin
        assert flood.stdout
        flood.stdin.write(lines)
        flood.stdin.close()
        peers = (f"203.0.{number >> 8}.{number & 255}" for number in count(1))
        delays: list[float] = []
        while time.monotonic() - began < RUSH:
            delays.append(attack.ban(next(peers), writer, notices, gap=0, line="service 0: denied {peer}"))
        sent = int(flood.stdout.read())
    used, lasted = agent.use().cpu - before.cpu, time.monotonic() - began
    yield Figure(f"a rush, {RATE:,} entries/s wanted; journald took", sent / lasted, "/s")
    yield Figure("  CPU of the agent, of one core", 100 * used / lasted, "%")
    yield Figure("  entry to element: p50", percentile(delays, 0.5) * 1000, "ms")
    yield Figure("  p95", percentile(delays, 0.95) * 1000, "ms", Goal(50))
