# SPDX-License-Identifier: LGPL-2.1-or-later
"""The agent as a process in a network namespace, reading a private journald."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from bed.journald import Journald
    from bed.netns import Network

PATIENCE: Final = 90.0
PORT: Final = 2222
AGENT: Final = Path(__file__).parents[2] / "agent"
CONFIG: Final = f"[jails.sshd]\nports = [{PORT}]\nmaxretry = 3\nbantime = 600\n"


class Agent:
    """A running agent: what it told systemd and what it logged."""

    def __init__(self, process: subprocess.Popen[bytes], notices: socket.socket) -> None:
        self.process = process
        self.log = ""
        self.notices: list[str] = []
        self._socket = notices

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the log has `pattern` behind all that was waited for before."""
        found: re.Match[str] = self.wait(lambda: re.search(pattern, self.log), pattern)
        return found

    def told(self, line: str) -> None:
        """Wait until it told systemd `line`, a regular expression."""
        self.wait(lambda: next((n for n in self.notices if re.search(line, n, re.MULTILINE)), None), line)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and give the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self._read(0)
        return status

    def wait(self, look: Any, what: str) -> Any:
        """Wait until `look` finds something, and give it."""
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            if not self._read(deadline - time.monotonic()):
                pytest.fail(f"{what!r} did not come; status {self.process.poll()}, log:\n{self.log}\n{self.notices}")
        return found

    def _read(self, timeout: float) -> bool:
        """Take in what it says; False if it says no more, by the end or by `timeout`."""
        assert self.process.stderr
        sources: list[Any] = [self.process.stderr, self._socket]
        ready, _, _ = select.select(sources, [], [], max(timeout, 0))
        said = b""
        if self.process.stderr in ready:
            said = os.read(self.process.stderr.fileno(), 65536)
            self.log += said.decode()
        if self._socket in ready:
            self.notices.append(self._socket.recv(4096).decode())
        return bool(said) or self._socket in ready


def command(tmp_path: Path, journald: Journald, *more: str) -> list[str]:
    config = tmp_path / "banagent.toml"
    if not config.exists():
        config.write_text(CONFIG)
    base = [sys.executable, "-m", "banagent", "run", "--config", str(config), "--journal", str(journald.path)]
    return [*base, *more]


@contextmanager
def running(tmp_path: Path, journald: Journald, network: Network, *more: str, **env: str) -> Generator[Agent]:
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    address = f"\0banagent-test-{os.getpid()}-{time.monotonic_ns()}"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(AGENT),
        "STATE_DIRECTORY": str(state),
        "RUNTIME_DIRECTORY": str(tmp_path),
        "NOTIFY_SOCKET": "@" + address[1:],
        **env,
    }
    with network.host.entered():  # an abstract socket belongs to the network namespace that it was made in
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with notices:
        notices.bind(address)
        argv = command(tmp_path, journald, *more)
        with subprocess.Popen(
            network.host.argv(*argv), env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            agent = Agent(process, notices)
            try:
                yield agent
            finally:
                if process.poll() is None:
                    process.kill()


def drops(network: Network) -> int:
    """Give how many packets the bans' own rules have dropped."""
    rules = network.host.run("nft", "list", "table", "inet", "banagent")
    return sum(map(int, re.findall(r"counter packets (\d+) bytes \d+ drop", rules)))
