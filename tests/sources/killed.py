# SPDX-License-Identifier: LGPL-2.1-or-later
"""killed.py LOG DONE: a reader that is killed and started again for each line on its input, and ends with that.

What it read is appended to the file DONE batch by batch, in one write each: the numbers of the lines and the position.
It is a child of this process, which has all modules: starting Python fifty times would take longer than all the rest.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from banagent.sources.logfiles import LogFiles


def saved(log: str, done: str) -> dict[str, str]:
    """Give the position that DONE has."""
    whole, newline, _ = Path(done).read_text().rpartition("\n")
    os.truncate(done, len(whole) + len(newline))  # a large write can be killed in its midst
    return {log: json.loads(whole.rpartition("\n")[2])["position"]} if whole else {}


async def read(log: str, done: str) -> None:
    """Follow the log from where DONE says."""
    numbers: list[int] = []

    def sift(message: bytes) -> list[int]:
        numbers.append(int(message))
        return []

    files = LogFiles({log: ("syslog",)}, lambda: time.time_ns() // 1000, since=0, positions=saved(log, done))
    output = os.open(done, os.O_WRONLY | os.O_APPEND)
    async for batch in files.follow(lambda _: sift):
        if not batch.source:  # there is no more for now
            continue
        assert len(numbers) == batch.read, "a line was no line"
        record = {
            "first": numbers[0] if numbers else None,
            "count": len(numbers),
            "in order": numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True,
            "missed": files.missed,
            "position": batch.position,
        }
        os.write(output, json.dumps(record).encode() + b"\n")
        numbers.clear()


def main(log: str, done: str) -> None:
    while True:
        child = os.fork()
        if not child:
            asyncio.run(read(log, done))
            os._exit(1)
        more = sys.stdin.readline()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if not more:
            return
        print("killed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
