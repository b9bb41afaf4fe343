# SPDX-License-Identifier: LGPL-2.1-or-later
"""`make demo`: a ban from the first wrong password to its end, on real parts, told as it happens.

The parts: the kernel's nftables in a network namespace, a private journald, Debian's sshd and ssh, `banagent run`. The
machine's own firewall and journal are not touched. Where namespaces are forbidden, what can be shown without them.

Exit status: 0 all was seen; 1 something was not; 77 only a dry run was possible (what automake calls a skipped test).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from bed import tiers
from bed.journald import PATIENCE, Journald, make_journal
from bed.netns import ATTACKER, HOST, Namespace, Network
from bed.sshd import PASSWORD, USER, ssh, sshd

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

BANAGENT: Final = (sys.executable, "-m", "banagent")
BYSTANDER: Final = "203.0.113.20"
MAXRETRY: Final = 3
BANTIME: Final = 10  # seconds
CONFIG: Final = f"""\
[jails.sshd]
enabled  = true
maxretry = {MAXRETRY}
findtime = "1m"
bantime  = "{BANTIME}s"
"""
DRY: Final = 77
SECOND: Final = 1_000_000  # of the journal's times

# What sshd of Debian 12 (9.2p1, with PAM) logged when this demo gave it wrong passwords; each has its pid and port.
RECORDED: Final = (
    "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={address}  user={user}",
    "Failed password for {user} from {address} port {port} ssh2",
    "Connection closed by authenticating user {user} {address} port {port} [preauth]",
)


class NotSeenError(Exception):
    """What the demo is to show did not happen."""


class Element(NamedTuple):
    """An element of a set with timeouts, as nft lists it."""

    set: str
    expires: int  # seconds until the kernel removes it


class Agent(NamedTuple):
    """A running `banagent`."""

    process: subprocess.Popen[str]
    said: list[str]  # the lines of its log


_began = time.monotonic()


def tell(text: str) -> None:
    """Say a sentence, with the seconds since the start."""
    print(f"{time.monotonic() - _began:5.1f} s  {text}", flush=True)


def show(text: str) -> None:
    """Show what another program said."""
    for line in text.splitlines():
        print(f"         | {line}", flush=True)


def see(what: object, otherwise: str) -> None:
    """Go on only if it is so."""
    if not what:
        raise NotSeenError(otherwise)


def main() -> int:
    """Show as much as this machine allows."""
    try:
        reason = tiers.why_not("demo")
        if reason is None:
            show_ban()
            return 0
        show_dry_run(reason)
    except (NotSeenError, RuntimeError, subprocess.SubprocessError) as error:
        tell(f"NOT SEEN: {error}")
        return 1
    return DRY


def show_ban() -> None:
    """Show a whole ban. Raises NotSeenError."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="banagent-demo-")))
        tell("A network, a journal and an ssh server of their own; this machine's are not touched.")
        network = stack.enter_context(Network())
        journald = stack.enter_context(Journald(scratch / "journald"))
        stack.enter_context(sshd(scratch / "sshd", journald, network.host))
        tell(f"banagent starts on the host {HOST}; who fails {MAXRETRY} times is banned for {BANTIME} s.")
        agent = stack.enter_context(_agent(scratch, journald.path, network.host.argv, "--config", _config(scratch)))

        _connection_works(network, scratch)
        _attack(network, scratch)
        _banned(network)
        _counts_down(network)

        agent.process.kill()
        agent.process.wait()
        tell(f"banagent (pid {agent.process.pid}) was killed with SIGKILL. The ban is the kernel's and stands:")
        _blocked(network)
        _expires(network)
        _connection_works(network, scratch)
        tell("Seen: allowed, banned, dropped by the ban's own rule, outliving its agent, and over by itself.")


def _connection_works(network: Network, scratch: Path) -> None:
    said = ssh(network.world, scratch, source=ATTACKER, password=PASSWORD)
    see(said == (0, "hello"), f"a login from {ATTACKER} with the right password; ssh said: {said.text}")
    tell(f"{USER} logs in from {ATTACKER} with the right password: it works, the host says hello.")


def _attack(network: Network, scratch: Path) -> None:
    see(_element(network.host) is None, "an element in the ban sets before any failure")
    for number in range(1, MAXRETRY + 1):
        said = ssh(network.world, scratch, source=ATTACKER, password=f"guess {number}")
        see("Permission denied" in said.text, f"sshd refusing wrong password {number}; ssh said: {said.text}")
        tell(f"Wrong password {number} from {ATTACKER}. sshd says: {said.text}")


def _banned(network: Network) -> None:
    ended = time.monotonic()
    _wait_until(lambda: _element(network.host) is not None, f"a ban of {ATTACKER} in the kernel")
    tell(f"{ATTACKER} is in the kernel's set, {time.monotonic() - ended:.2f} s after ssh gave up.")
    _blocked(network)
    see(network.world.connect(HOST, 22, source=BYSTANDER) == "connected", f"{BYSTANDER} still connecting")
    tell(f"{BYSTANDER}, who did nothing, still connects.")


def _blocked(network: Network) -> None:
    """See that a packet like one which passed before is dropped now, and by the ban's rule: sshd has no part in it."""
    before = _dropped(network.host)
    answer = network.world.connect(HOST, 22, source=ATTACKER)
    after = _dropped(network.host)
    packets = after - before
    see(answer == "silence", f"{ATTACKER} getting no answer; it was {answer}")
    see(packets > 0, f"the ban's rule counting the packet; it counted {before} before and {after} after")
    tell(f"{ATTACKER} connects again: no answer. The ban's rule counted and dropped {packets} packet(s).")


def _counts_down(network: Network) -> None:
    first = _element(network.host)
    see(first, "the ban still in the kernel")
    assert first
    tell("The kernel counts the ban down:")
    _show_element(network.host, first)
    _wait_until(lambda: _left(network.host) < first.expires, "the time that is left becoming less")
    _show_element(network.host, first)


def _show_element(host: Namespace, element: Element) -> None:
    listed = host.run("nft", "list", "set", "inet", "banagent", element.set)
    show(
        f"nft list set inet banagent {element.set}: "
        + next(line.strip() for line in listed.splitlines() if ATTACKER in line)
    )


def _expires(network: Network) -> None:
    left = _element(network.host)
    see(left, "the ban in the kernel after its agent was killed")
    assert left
    tell(f"Nobody is there to lift it. {left.expires} s are left; waiting.")
    _wait_until(lambda: _element(network.host) is None, "the end of the ban", left.expires + 2)
    tell("The kernel removed the element.")


def _element(host: Namespace) -> Element | None:
    """Find the attacker in the sets of banagent's table; in that of its jail, if it is in several."""
    found = [
        Element(part["set"]["name"], element["elem"]["expires"])
        for part in _table(host)
        for element in part.get("set", {}).get("elem", ())
        if isinstance(element, dict) and element["elem"]["val"] == ATTACKER
    ]
    return max(found, key=lambda element: "sshd" in element.set, default=None)


def _left(host: Namespace) -> int:
    element = _element(host)
    return element.expires if element else 0


def _dropped(host: Namespace) -> int:
    """Sum up what was dropped by rules of banagent's table, which drop for no other reason than a ban."""
    rules = [part["rule"]["expr"] for part in _table(host) if "rule" in part]
    dropping = [rule for rule in rules if any("drop" in expression for expression in rule)]
    return sum(expression["counter"]["packets"] for rule in dropping for expression in rule if "counter" in expression)


def _table(host: Namespace) -> list[dict[str, Any]]:
    listed: dict[str, list[dict[str, Any]]] = json.loads(host.run("nft", "--json", "list", "table", "inet", "banagent"))
    return listed["nftables"]


def _wait_until(seen: Callable[[], bool], what: str, patience: float = 30) -> None:
    deadline = time.monotonic() + patience
    while not seen():
        see(time.monotonic() < deadline, f"{what}, within {patience} s")
        time.sleep(0.05)


def _config(scratch: Path) -> str:
    (scratch / "banagent.toml").write_text(CONFIG)
    return str(scratch / "banagent.toml")


@contextmanager
def _agent(scratch: Path, journal: Path, argv: Callable[..., list[str]], *options: str) -> Generator[Agent]:
    """Run the agent as systemd would, wait until it says READY, and show its log."""
    (scratch / "state").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notices:
        notices.bind(str(scratch / "notify"))
        process = subprocess.Popen(
            argv("setpriv", "--pdeathsig", "KILL", *BANAGENT, "run", "--journal", str(journal), *options),
            env={**os.environ, "STATE_DIRECTORY": str(scratch / "state"), "NOTIFY_SOCKET": str(scratch / "notify")},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr
        agent = Agent(process, [])
        log = threading.Thread(target=_show_log, args=(process.stderr, agent.said))
        log.start()
        try:
            _wait_until(lambda: process.poll() is not None or _is_ready(notices), "banagent saying READY=1", PATIENCE)
            see(process.poll() is None, f"banagent running; it ended with status {process.returncode}")
            yield agent
        finally:
            process.terminate()
            process.wait(PATIENCE)
            log.join()
            process.stderr.close()


def _is_ready(notices: socket.socket) -> bool:
    try:
        return b"READY=1" in notices.recv(4096)
    except BlockingIOError:
        return False


def _show_log(lines: IO[str], said: list[str]) -> None:
    for line in lines:
        said.append(line)
        show(f"banagent: {line.rstrip()}")


def show_dry_run(reason: str) -> None:
    """Show what `banagent run --dry-run` decides about a recorded attack. Raises NotSeenError."""
    tell(f"Not the demo itself, only a dry run: {reason}.")
    with tempfile.TemporaryDirectory(prefix="banagent-demo-") as name:
        scratch = Path(name)
        tell(f"What sshd logged when {USER}'s password was guessed {MAXRETRY} times from {ATTACKER}:")
        journal = make_journal(scratch / "journal", _recorded())
        tell(f"banagent reads that journal; who fails {MAXRETRY} times would be banned for {BANTIME} s.")
        with _agent(scratch, journal, lambda *command: [*command], "--dry-run", "--config", _config(scratch)) as agent:
            _wait_until(
                lambda: any(line.startswith("would ban") and f"address={ATTACKER} " in line for line in agent.said),
                f"banagent saying that it would ban {ATTACKER}",
            )
    tell("Seen: the attack recognised in the journal, and the ban decided.")
    tell("Not shown: the ban in the kernel, a packet dropped by it, its end, and that it outlives its agent.")
    tell(f"Why: {reason}. As root on a machine of your own, or in a privileged container, all of it is shown.")


def _recorded() -> Iterator[dict[str, str | int]]:
    """Give the entries of an attack that was over a moment ago, and show them."""
    began = time.time_ns() // 1000 - MAXRETRY * SECOND
    for guess in range(MAXRETRY):
        for number, message in enumerate(RECORDED):
            line = message.format(address=ATTACKER, user=USER, port=50000 + guess)
            show(f"sshd[{4000 + guess}]: {line}")
            yield {
                "__REALTIME_TIMESTAMP": began + guess * SECOND + number,
                "_SYSTEMD_UNIT": "ssh.service",
                "_UID": 0,
                "_PID": 4000 + guess,
                "SYSLOG_IDENTIFIER": "sshd",
                "MESSAGE": line,
            }


if __name__ == "__main__":
    sys.exit(main())
