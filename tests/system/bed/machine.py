# SPDX-License-Identifier: LGPL-2.1-or-later
"""A booted Debian with an attacker around it, in private namespaces; it is gone when the test process is."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias, TypeVar

from bed import cgroups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from system.bed.root import Root

ADDRESS: Final = "10.99.0.2"
ADDRESS6: Final = "fd99::2"
# The attacker's addresses: on the machine's own link (.1 and ::1 are its gateway), and all of those behind the gateway.
NEAR: Final = tuple(f"10.99.0.{last}" for last in range(11, 31))
NEAR6: Final = tuple(f"fd99::{last}" for last in range(11, 31))
FAR: Final = "198.18.0.0/15"
FAR6: Final = "2001:db8::/32"

_BOOT_SECONDS: Final = 30  # far above what it takes, so that a busy host fails no test
_KEEPER: Final = Path(__file__).with_name("keeper.py")
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h

Fields: TypeAlias = dict[str, Any]  # of a journal entry, as journalctl's JSON has them
T = TypeVar("T")


class Attempt(NamedTuple):
    """How an attempt to log in ended: ssh's exit status (255: no login), how long it took, the last that ssh said."""

    status: int
    seconds: float
    words: str


class Machine:
    """A Debian that boots in a second or two, and the network of those who attack it.

    What it writes lies in memory. It outlives a reboot, and a power cut whether it was synced or not; it is gone after
    `stop`.
    """

    def __init__(self, root: Root, *, binds: Mapping[Path, str] | None = None) -> None:
        """Boot `root`. `binds` maps folders of the host to where the machine sees them, read-only.

        Raises RuntimeError, with the end of what the console showed, if it isn't up in half a minute.
        """
        self.root = root
        self.cgroup = cgroups.new_name()
        self.name = f"banagent-{self.cgroup.name}"
        self.state = Path(tempfile.gettempdir()) / self.name
        self.leader = 0  # its PID 1, as the host numbers it
        self.outer = 0  # a process in the attacker's network
        layers = ":".join(map(str, root.layers))
        options = [f"--bind-ro={source}:{inside}" for source, inside in (binds or {}).items()]
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", str(_KEEPER), str(self.cgroup), str(self.state), layers, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # a Ctrl-C is not for the keeper: its end of file is
        )
        self.keeper = self._keeper.pid
        self._network: ThreadPoolExecutor | None = None
        try:
            self.boot_seconds = self._timed(lambda: None)
            with Path(f"/proc/{self.outer}/ns/net").open("rb") as network:
                self._network = ThreadPoolExecutor(1, initializer=_enter_network, initargs=(network.fileno(),))
                self.outside(os.getpid)  # it has entered before the file is closed
            (self.state / "askpass").write_text('#!/bin/sh\nprintf "%s\\n" "$BED_PASSWORD"\n')
            (self.state / "askpass").chmod(0o700)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Pull its plug, and wait until nothing is left of it on the host."""
        if self._network:
            self._network.shutdown()
        assert self._keeper.stdin
        assert self._keeper.stdout
        self._keeper.stdin.close()
        status = self._keeper.wait(_BOOT_SECONDS)
        self._keeper.stdout.close()
        if status:
            raise RuntimeError(f"{self.name}: its keeper ended with status {status} and may have left something behind")

    def reboot(self) -> float:
        """Let systemd reboot it; give how many seconds it took until its network was there again."""
        return self._timed(lambda: self.run(["systemctl", "reboot"], check=False))

    def cut_power(self) -> float:
        """End all of it at once and boot what was on its disk; give how many seconds that took."""
        return self._timed(lambda: os.kill(self.leader, signal.SIGKILL))

    def run(
        self, argv: Sequence[str], *, check: bool = True, stdin: str = "", timeout: float = 90
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in it as root, outside of any unit. Raises CalledProcessError, TimeoutExpired."""
        return self._finish(self._inside(argv), check=check, stdin=stdin, timeout=timeout)

    def attacker(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        stdin: str = "",
        timeout: float = 90,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the host in the attacker's network. Raises CalledProcessError, TimeoutExpired."""
        pairs = [f"{name}={value}" for name, value in (environment or {}).items()]
        outside = ["nsenter", f"--target={self.outer}", "--net", "--", "env", "-u", "SSH_AUTH_SOCK", *pairs, *argv]
        return self._finish(outside, check=check, stdin=stdin, timeout=timeout)

    def outside(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Call `function` in a thread in the attacker's network: a socket made there belongs there for good."""
        assert self._network
        return self._network.submit(function, *arguments, **named).result()

    def connect(self, source: str, port: int = 22, *, target: str | None = None, timeout: float = 10) -> socket.socket:
        """Open a TCP connection from one of the attacker's addresses. Raises OSError."""
        goal = target or _goal(source)
        return self.outside(socket.create_connection, (goal, port), timeout, (source, 0))

    def connects(self, source: str, port: int = 22, *, target: str | None = None, timeout: float = 3) -> bool:
        """Whether a TCP connection comes about; False if nothing answers in `timeout` seconds. Raises OSError."""
        try:
            self.connect(source, port, target=target, timeout=timeout).close()
        except TimeoutError:
            return False
        return True

    def ssh_attempt(
        self, source: str, user: str, password: str, *, target: str | None = None, port: int = 22, command: str = "true"
    ) -> Attempt:
        """Try to log in with OpenSSH's client, once, from one of the attacker's addresses, and run a command there."""
        settings = {
            "BindAddress": source,
            "ConnectTimeout": "3",
            "LogLevel": "ERROR",
            "NumberOfPasswordPrompts": "1",
            "Port": str(port),
            "PreferredAuthentications": "password",
            "StrictHostKeyChecking": "no",
            "User": user,
            "UserKnownHostsFile": "/dev/null",
        }
        options = [f"-o{name}={value}" for name, value in settings.items()]
        environment = {
            "SSH_ASKPASS": str(self.state / "askpass"),
            "SSH_ASKPASS_REQUIRE": "force",
            "BED_PASSWORD": password,
        }
        argv = ["ssh", "-F", "/dev/null", *options, target or _goal(source), command]
        begin = time.monotonic()
        result = self.attacker(argv, check=False, environment=environment)
        return Attempt(result.returncode, time.monotonic() - begin, result.stderr.strip().rpartition("\n")[2])

    def nft(self, *argv: str) -> list[dict[str, Any]]:
        """Run nft in it; give what its JSON lists, less the line about nft itself. Raises CalledProcessError."""
        output = self.run(["nft", "--json", *argv]).stdout
        listed: list[dict[str, Any]] = json.loads(output)["nftables"] if output else []
        return [item for item in listed if "metainfo" not in item]

    def journal(self, *matches: str, unit: str | None = None, after: str | None = None) -> list[Fields]:
        """Give the entries that fit: `FIELD=VALUE` matches, those of a unit, those after the cursor `after`."""
        self.run(["journalctl", "--sync"])
        found = self.run(_journalctl(matches, unit, after)).stdout
        entries: list[Fields] = [json.loads(line) for line in found.splitlines()]
        return [entry for entry in entries if entry["__CURSOR"] != after]

    def cursor(self) -> str:
        """Give the cursor of the newest entry."""
        cursor: str = json.loads(self.run([*_journalctl((), None, None), "--lines=1"]).stdout)["__CURSOR"]
        return cursor

    def wait_for_entry(
        self,
        *matches: str,
        unit: str | None = None,
        after: str | None = None,
        fits: Callable[[Fields], bool] = lambda _: True,
        timeout: float = 60,
    ) -> Fields:
        """Wait for the first entry that `journal` would give and that `fits`. Raises TimeoutError."""
        follow = [*_journalctl(matches, unit, after), "--follow", "--no-tail"]
        argv = self._visit(self._inside(["timeout", str(timeout), *follow]))
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as journalctl:
            assert journalctl.stdout
            try:
                for line in journalctl.stdout:
                    fields: Fields = json.loads(line)
                    if fields["__CURSOR"] != after and fits(fields):
                        return fields
            finally:
                _end(journalctl)
        raise TimeoutError(f"{self.name}: no such entry in {timeout} s: {' '.join(follow)}")

    def wait_for(self, condition: Callable[[], T], *, timeout: float = 60) -> T:
        """Give the first true value of `condition`, for what tells of itself by no event. Raises TimeoutError."""
        end = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name}: it did not come true in {timeout} s; it is {value!r}")
            time.sleep(0.02)
        return value

    def _inside(self, argv: Sequence[str]) -> list[str]:
        namespaces = ["nsenter", f"--target={self.leader}", "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]
        return [*namespaces, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", *argv]

    def _visit(self, argv: list[str]) -> list[str]:
        """Let `argv` run where the keeper ends it if this process can't."""
        return ["sh", "-c", 'echo 0 >"$0" && exec "$@"', str(self.cgroup / "visitors/cgroup.procs"), *argv]

    def _finish(self, argv: list[str], *, check: bool, stdin: str, timeout: float) -> subprocess.CompletedProcess[str]:
        with subprocess.Popen(
            self._visit(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
        ) as process:
            try:
                output, complaint = process.communicate(stdin, timeout)
            finally:
                _end(process)
        result = subprocess.CompletedProcess(argv, process.returncode, output, complaint)
        if check and result.returncode:
            print(output, complaint, sep="", file=sys.stderr)  # for pytest to show
            result.check_returncode()
        return result

    def _timed(self, act: Callable[[], object]) -> float:
        """Give the seconds from `act`, which makes it boot, until its network is there."""
        begin = time.monotonic()
        act()
        # systemd says READY=1 after each daemon-reload, too: what came before this boot says nothing about it
        while "leader" not in (news := self._news(begin + _BOOT_SECONDS)):
            pass
        self.outer, self.leader = news["outer"], news["leader"]
        while "ready" not in self._news(begin + _BOOT_SECONDS):
            pass
        wait = ["/usr/lib/systemd/systemd-networkd-wait-online", "--quiet", "--timeout=10"]
        self.run([*wait, "--interface=host0:routable", "--ipv4", "--ipv6"])
        return time.monotonic() - begin

    def _news(self, deadline: float) -> dict[str, Any]:
        """Give what the keeper tells next. Raises RuntimeError: it is too late, or the machine has ended."""
        assert self._keeper.stdout
        if not select.select([self._keeper.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
            console = (self.state / "console").read_text(errors="replace")
            raise RuntimeError(f"{self.name} was not up in {_BOOT_SECONDS} s; its console:\n{console[-2000:]}")
        news: dict[str, Any] = json.loads(self._keeper.stdout.readline() or '{"console": "its keeper is gone"}')
        if "console" in news:
            raise RuntimeError(f"{self.name} has ended; its console:\n{news['console']}")
        return news


def _goal(source: str) -> str:
    return ADDRESS6 if ":" in source else ADDRESS


def _end(process: subprocess.Popen[Any]) -> None:
    """End a program, the one inside first: nsenter must reap it, or its namespace ends when the host's init does so."""
    if process.poll() is None:
        with suppress(OSError):
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
                process.wait()
        process.kill()
        process.wait()


def _journalctl(matches: Sequence[str], unit: str | None, begin: str | None) -> list[str]:
    options = [f"--unit={unit}"] if unit else []
    if begin:
        # not --after-cursor: if the entry there does not match, systemd 252 leaves out the first that does
        options.append(f"--cursor={begin}")
    return ["journalctl", "--quiet", "--all", "--output=json", *options, *matches]


def _enter_network(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns() is there from Python 3.12 only
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "the attacker's network can't be entered")
