# SPDX-License-Identifier: LGPL-2.1-or-later
"""A million lines, written while the log is rotated and its reader killed fifty times: each is read once."""

from __future__ import annotations

import gzip
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import banagent
from banagent.sources import inotify

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

HERE: Final = Path(__file__).parent
LINES: Final = 1_000_000
TIMES: Final = 50
PATIENCE: Final = 60.0  # seconds


@contextmanager
def talking(program: str, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """Run a program of this folder; it ends with its input."""
    path = os.pathsep.join((str(HERE.parent), str(Path(banagent.__file__).parents[1])))
    command = [sys.executable, str(HERE / program), *arguments]
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, bufsize=1, env=environment) as process:
        yield process
        assert process.stdin
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def ask(process: subprocess.Popen[str], request: str) -> None:
    assert process.stdin
    process.stdin.write(f"{request}\n")


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def rotate(log: Path, service: int) -> None:
    """Do what logrotate does with `create`, `compress` and `delaycompress`, and then tell the service."""
    for number in range(TIMES, 0, -1):
        for suffix in ("", ".gz"):
            file = Path(f"{log}.{number}{suffix}")
            if file.exists():
                file.rename(f"{log}.{number + 1}{suffix}")
    log.rename(f"{log}.1")
    log.touch()
    os.kill(service, signal.SIGHUP)
    if (second := Path(f"{log}.2")).exists():
        status = second.stat()
        with gzip.open(f"{log}.2.part", "wb", compresslevel=1) as output:
            output.write(second.read_bytes())
        os.utime(f"{log}.2.part", ns=(status.st_atime_ns, status.st_mtime_ns))
        Path(f"{log}.2.part").rename(f"{log}.2.gz")
        second.unlink()


def logrotate(log: Path, service: int) -> None:
    """Let the real logrotate do it."""
    config = log.parent / "logrotate.conf"
    config.write_text(
        f"{log} {{\n rotate {TIMES + 1}\n create 0640\n compress\n delaycompress\n compressoptions -1\n"
        f" postrotate\n  kill -HUP {service}\n endscript\n}}\n"
    )
    config.chmod(0o600)
    subprocess.run(["logrotate", "--force", "--state", str(log.parent / "state"), str(config)], check=True)


def test_a_million_lines_rotated_and_killed_fifty_times(tmp_path: Path) -> None:
    log, done = tmp_path / "it.log", tmp_path / "done"
    log.touch()
    done.touch()
    log.parent.chmod(0o700)
    chance = random.Random(1)
    by_logrotate = shutil.which("logrotate") is not None and os.geteuid() == 0
    with talking("writing.py", str(log)) as service, talking("killed.py", str(log), str(done)) as reader:
        assert answer(service) == "ready"
        wait_for(done, bool)  # before that it has no position to go on from
        kills = 0
        for _ in range(TIMES):
            ask(service, str(LINES // TIMES))
            select.select([], [], [], chance.random() / 50)  # so that all of them are anywhere in what they do
            (logrotate if by_logrotate else rotate)(log, service.pid)
            select.select([], [], [], chance.random() / 10)
            ask(reader, "again")
            assert answer(reader) == "killed"
            kills += 1
            assert answer(service) == "done"
        records = wait_for(done, lambda records: count(records) >= LINES)
    assert count(records) == LINES
    following = 0
    for record in records:
        assert record["in order"]
        assert not record["missed"]
        assert record["first"] in (None, following)
        following += record["count"]
    assert kills == TIMES


def count(records: list[dict[str, Any]]) -> int:
    return sum(record["count"] for record in records)


def wait_for(done: Path, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """Give the reader's records as soon as they are enough."""
    watch = inotify.Inotify()
    watch.add(str(done), inotify.MODIFY)
    try:
        while True:
            records = [json.loads(line) for line in done.read_text().split("\n")[:-1]]
            if enough(records):
                return records
            assert select.select([watch], [], [], PATIENCE)[0], f"{records[-1:]}: there comes no more"
            list(watch.read())
    finally:
        watch.close()
