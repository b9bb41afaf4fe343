# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real daemon, as a process whose time, memory and wake-ups are looked at from outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import banagent
from banagent.control import INTERFACE

if TYPE_CHECKING:
    from bed.netns import Namespace

PATIENCE: Final = 60.0  # seconds for the longest of all: reading half a million entries
CONFIG: Final = """\
[defaults]
bantime = "1d"
findtime = "1d"
maxretry = 5
[jails.sshd]
enabled = true
ports = [22]
networks = { addresses = 0 }    # the attackers are all neighbours
"""
_MEGABYTE: Final = 1024  # of the kB in /proc


class Use(NamedTuple):
    """What a process has used so far."""

    cpu: float  # seconds
    wakeups: int


class Memory(NamedTuple):
    """What a process holds, in MB."""

    anonymous: float
    resident: float


class Agent:
    """`banagent run` in a network namespace, between `with` and its end; at the beginning it is READY."""

    def __init__(
        self, namespace: Namespace, journal: Path, state: Path, config: str = CONFIG, filters: Path | None = None
    ) -> None:
        self._namespace = namespace
        self._journal = journal
        self._state = state
        self._config = config
        self._filters = filters
        self.socket = state / INTERFACE  # the control socket

    def __enter__(self) -> Self:
        """Start it."""
        self._state.mkdir(exist_ok=True)
        config, notices = self._state / "config.toml", self._state / "notify"
        config.write_text(self._config)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(notices))
        # who doesn't read blocks the sender: the kernel keeps ten datagrams
        self._said: SimpleQueue[bytes] = SimpleQueue()
        self._listener = Thread(target=self._listen)
        self._listener.start()
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(banagent.__file__).parents[1]),
            "STATE_DIRECTORY": str(self._state),
            "RUNTIME_DIRECTORY": str(self._state),
            "NOTIFY_SOCKET": str(notices),
            "PYTHONFAULTHANDLER": "1",
        }
        command = [sys.executable, "-m", "banagent", "run", "--config", str(config), "--journal", str(self._journal)]
        if self._filters is not None:
            command += ["--filters", str(self._filters)]
        began = time.monotonic()
        with (self._state / "output").open("wb") as output:
            # nsenter becomes the agent: one process, one pid
            self._process = subprocess.Popen(
                self._namespace.argv(*command), env=environment, stdout=output, stderr=output
            )
        try:
            self.wait_for("READY=1")
            self.seconds_to_ready = time.monotonic() - began
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._hang_up()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it; its bans stand on."""
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)  # it says where it hangs, see PYTHONFAULTHANDLER
            status = self._process.wait(PATIENCE)
        self._hang_up()
        if status:
            raise RuntimeError(f"the agent ended with status {status}: {self._output()}")

    def wait_until_live(self) -> None:
        """Wait until it has read all there is."""
        self.wait_for("reading live")

    def wait_for(self, words: str) -> None:
        """Wait until it says `words` to systemd."""
        while True:
            try:
                notice = self._said.get(timeout=PATIENCE)
            except Empty:
                raise RuntimeError(f"the agent did not say {words!r}: {self._output()}") from None
            if words.encode() in notice:
                return

    def memory(self) -> Memory:
        """Give what it holds now."""
        status = self._proc("status")
        return Memory(_field(status, "RssAnon") / _MEGABYTE, _field(status, "VmRSS") / _MEGABYTE)

    def use(self) -> Use:
        """Give what it has used since its start; schedstat is exact where stat counts ticks of 10 ms."""
        return Use(
            int(self._proc("schedstat").split()[0]) / 1e9,
            _field(self._proc("status"), "voluntary_ctxt_switches"),
        )

    def descriptors(self) -> int:
        """Count the files that it has open."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def _listen(self) -> None:
        while notice := self._notices.recv(4096):
            self._said.put(notice)

    def _hang_up(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", str(self._state / "notify"))
        self._listener.join()
        self._notices.close()
        (self._state / "notify").unlink()

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self._process.pid}/{name}").read_text()

    def _output(self) -> str:
        return (self._state / "output").read_text(errors="replace")[-2000:]


def _field(status: str, name: str) -> int:
    """Give a number of proc_pid_status(5)."""
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:")))
