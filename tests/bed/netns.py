# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two network namespaces: a host, and a router before it on which any attacker's address lives.

    host   veth   192.0.2.1/24   2001:db8:1::1/64     default route over 192.0.2.254, 2001:db8:1::fe
    world  veth   192.0.2.254, 192.0.2.11 to .14      2001:db8:1::fe, 2001:db8:1::11 to ::14 (neighbours of the host)
           and every address of 198.51.100.0/24, 203.0.113.0/24 and 2001:db8:bad::/48 (they come from afar)

A namespace is held by a descriptor alone, so it is gone with this process, however that ends. Needs root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

HOST: Final = "192.0.2.1"
HOST6: Final = "2001:db8:1::1"
GATEWAY: Final = "192.0.2.254"
GATEWAY6: Final = "2001:db8:1::fe"
NEIGHBOURS: Final = tuple(f"192.0.2.{number}" for number in (11, 12, 13, 14))
NEIGHBOURS6: Final = tuple(f"2001:db8:1::{number}" for number in (11, 12, 13, 14))
ATTACKER: Final = "198.51.100.7"
ATTACKER6: Final = "2001:db8:bad:7::1"
AFAR: Final = ("198.51.100.0/24", "203.0.113.0/24", "2001:db8:bad::/48")
SILENCE: Final = 0.5  # seconds after which there is no answer; one takes less than a millisecond

_CLONE_NEWNET: Final = 0x40000000  # sched.h
_OWN: Final = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)

# "refused" is an answer too: a reset, or an ICMP error; the packet got through to the host
Answer = Literal["connected", "refused", "silence"]


class Namespace:
    """A network namespace; it lasts as long as its descriptor or a process in it."""

    def __init__(self) -> None:
        with _back_here():
            _check(_libc.unshare(_CLONE_NEWNET))
            self._descriptor = os.open(_OWN, os.O_RDONLY)
        self.run("ip", "link", "set", "lo", "up")
        for scope in ("all", "default"):  # nobody else is there, and finding that out takes a second
            self.set(f"ipv6/conf/{scope}/accept_dad", 0)

    @property
    def path(self) -> str:
        """A name for it that other programs can open while this process has it."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)

    @contextmanager
    def entered(self) -> Generator[None]:
        """Move this thread into it for the block: sockets made meanwhile belong to it for good."""
        with _back_here():
            _check(_libc.setns(self._descriptor, _CLONE_NEWNET))
            yield

    def argv(self, *command: str) -> list[str]:
        """Give the command that runs `command` in it; it becomes `command`, with no process in between."""
        return ["nsenter", f"--net={self.path}", "--", *command]

    def run(self, *command: str, text: str | None = None) -> str:
        """Run `command` in it and give its output; raises RuntimeError with what it said if it fails."""
        done = subprocess.run(self.argv(*command), input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def nft(self, ruleset: str) -> None:
        """Load a ruleset, in nft(8)'s own language, into it."""
        self.run("nft", "-f", "-", text=f"{ruleset}\n")  # its grammar wants the last line ended

    @contextmanager
    def listening(self, port: int) -> Generator[socket.socket]:
        """Listen on a TCP port of all its addresses."""
        with self.entered():
            server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        with server:
            yield server

    def set(self, name: str, value: int | str) -> None:
        """Set a variable below /proc/sys/net in it."""
        with self.entered():
            Path("/proc/sys/net", name).write_text(f"{value}\n")

    def connect(self, target: str, port: int, *, source: str, timeout: float = SILENCE) -> Answer:
        """Open one TCP connection from `source` and close it again."""
        with self._socket(socket.SOCK_STREAM, source, timeout) as tcp:
            return _answer(lambda: tcp.connect((target, port)))

    def ask(self, target: str, port: int, *, source: str, timeout: float = SILENCE) -> Answer:
        """Send one UDP packet from `source` and wait for what comes back."""
        with self._socket(socket.SOCK_DGRAM, source, timeout) as udp:
            udp.connect((target, port))
            udp.send(b"?")
            return _answer(lambda: udp.recv(1))

    def _socket(self, kind: socket.SocketKind, source: str, timeout: float) -> socket.socket:
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        with self.entered():
            made = socket.socket(family, kind)
        made.settimeout(timeout)
        made.bind((source, 0))
        return made


class Network:
    """A host and the world around it, between `with` and its end."""

    def __enter__(self) -> Self:
        """Make both; the host has no rules."""
        self.host = Namespace()
        self.world = Namespace()
        # ends with different indexes are up at once, others after up to 1 s (linkwatch_urgent_event in the kernel)
        peer = ["type", "veth", "peer", "name", "veth", "index", "12", "netns", self.host.path]
        self.world.run("ip", "link", "add", "name", "veth", "index", "11", *peer)
        self.host.run(
            "ip",
            "-batch",
            "-",
            text=f"""\
                address add {HOST}/24 dev veth
                address add {HOST6}/64 dev veth
                link set veth up
                route add default via {GATEWAY}
                route add default via {GATEWAY6}
            """,
        )
        near = [f"address add {address}/24 dev veth" for address in (GATEWAY, *NEIGHBOURS)]
        near += [f"address add {address}/64 dev veth" for address in (GATEWAY6, *NEIGHBOURS6)]
        far = [f"route add local {network} dev lo" for network in AFAR]
        self.world.run("ip", "-batch", "-", text="\n".join([*near, "link set veth up", *far, ""]))
        self.world.set("ipv6/ip_nonlocal_bind", 1)  # an address of a local route is bound to without this in IPv4 alone
        # the kinds of ICMP errors whose number is limited: none, because one held back would look like a ban
        self.host.set("ipv4/icmp_ratemask", 0)
        self.host.set("ipv6/icmp/ratemask", "")
        for address, gateway in ((HOST, GATEWAY), (HOST6, GATEWAY6)):
            self._wait_for(address, gateway)
        return self

    def _wait_for(self, address: str, source: str) -> None:
        """Wait until packets get through: the kernel brings a link up when it has time, and loses them until then."""
        for _ in range(100):
            if self.world.ask(address, 9, source=source, timeout=0.1) == "refused":
                return
        raise TimeoutError(f"{address} does not answer {source}")

    def __exit__(self, *_: object) -> None:
        """Let go of both; what still runs in them keeps them."""
        self.host.close()
        self.world.close()


def _answer(wait: Callable[[], object]) -> Answer:
    try:
        wait()
    except TimeoutError:
        return "silence"
    except OSError as error:
        if error.errno not in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EACCES, errno.ECONNRESET):
            raise
        return "refused"
    return "connected"


@contextmanager
def _back_here() -> Generator[None]:
    """Bring this thread back to the network namespace that it is in now."""
    here = os.open(_OWN, os.O_RDONLY)
    try:
        yield
    finally:
        _check(_libc.setns(here, _CLONE_NEWNET))
        os.close(here)


def _check(status: int) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
