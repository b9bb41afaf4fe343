# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whatever happens to the agent or to the machine, no count and no ban is lost."""

from __future__ import annotations

import errno
import itertools
import select
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Self

import pytest

from system.bed.agent import MAXRETRY, UNIT, Agent, remaining, target_of
from system.bed.machine import ADDRESS, ADDRESS6, NEAR, NEAR6, Machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from system.bed.machine import Fields

QUICK: Final = "RestartSec=10ms\nRestartMaxDelaySec=10ms\n"  # the latter is for 254 and later
SIGKILL: Final = ("kill", "--kill-whom=main", "--signal=KILL", UNIT)


def restart(agent: Agent) -> None:
    agent.systemctl("restart", UNIT)


def kill(agent: Agent) -> None:
    count = int(agent.show("NRestarts"))
    agent.systemctl(*SIGKILL)
    started_again(agent, count + 1)


def started_again(agent: Agent, count: int) -> None:
    """Wait until systemd has done so for the `count`th time."""
    show = ["show", "--value", "--property=NRestarts", "--property=ActiveState", UNIT]
    agent.machine.wait_for(lambda: {str(count), "active"} == set(agent.systemctl(*show).split()))


def stop_during_a_failure(agent: Agent) -> None:
    agent.systemctl("stop", UNIT)
    agent.attack(NEAR[0], 1)
    agent.systemctl("start", UNIT)


@pytest.mark.parametrize(("interruption", "attempts"), [(restart, 2), (kill, 2), (stop_during_a_failure, 1)])
def test_a_count_goes_on(agent: Agent, interruption: Callable[[Agent], None], attempts: int) -> None:
    agent.drop_in(QUICK)
    agent.start()
    agent.attack(NEAR[0], attempts)
    interruption(agent)
    assert agent.bans() == {}
    agent.attack(NEAR[0], 1)
    ban = agent.banned(NEAR[0])
    assert int(ban["BANAGENT_FAILURES"]) == MAXRETRY


def test_ten_crashes_in_a_row(agent: Agent) -> None:
    """systemd gives up on a service that starts five times in ten seconds, unless told otherwise."""
    agent.drop_in(QUICK)
    agent.start()
    agent.attack(NEAR[0])
    ban = agent.banned(NEAR[0])
    for _ in range(10):
        assert NEAR[0] in agent.bans()
        kill(agent)
    assert agent.bans()[NEAR[0]] == pytest.approx(remaining(ban, agent.machine), abs=2)
    agent.see_blocked(NEAR[0])
    agent.attack(NEAR[1])
    agent.banned(NEAR[1])


def test_it_is_started_again_if_it_hangs(agent: Agent) -> None:
    agent.drop_in(f"{QUICK}WatchdogSec=1\n")
    agent.start()
    agent.attack(NEAR[0])
    agent.banned(NEAR[0])
    here = agent.machine.cursor()
    agent.systemctl("kill", "--kill-whom=main", "--signal=STOP", UNIT)
    agent.logged(after=here, fits=lambda entry: "Watchdog timeout" in entry["MESSAGE"])
    assert NEAR[0] in agent.bans()
    started_again(agent, 1)
    agent.attack(NEAR[1])
    agent.banned(NEAR[1])
    assert agent.show("NRestarts") == "1"  # meanwhile it was fed


@pytest.mark.parametrize("boot_again", [Machine.reboot, Machine.cut_power])
def test_a_boot_has_no_gap(agent: Agent, boot_again: Callable[[Machine], float]) -> None:
    """The banned keep trying all the while; before sshd is there, an answer would be that the port is closed."""
    machine = agent.machine
    agent.drop_in("ExecStartPre=/usr/bin/sleep 0.5")  # so that only the order of the boot can keep the network waiting
    agent.start()
    banned, bystanders = [NEAR[0], NEAR6[0]], [NEAR[1], NEAR6[1]]
    bans: dict[str, Fields] = {}
    for source in banned:
        agent.attack(source)
        bans[source] = agent.banned(source)
    know_each_other(machine)
    with Hammer(machine, banned, bystanders) as hammer:
        boot_again(machine)
        before = {source: hammer.answers[source]["connected"] for source in bystanders}
        machine.wait_for(lambda: all(hammer.answers[source]["connected"] > before[source] for source in bystanders))
    print(boot_again.__name__, {source: dict(answers) for source, answers in hammer.answers.items()})
    for source in banned:
        assert hammer.answers[source].keys() <= {"silence", "unreachable"}
        assert hammer.answers[source]["silence"] > 100
        assert agent.bans()[source] == pytest.approx(remaining(bans[source], machine), abs=2)
    assert agent.dropped() > 0
    began = [monotonic(agent, UNIT, "ActiveEnter"), monotonic(agent, "systemd-networkd.service", "InactiveExit")]
    assert 0 < began[0] <= began[1]


def monotonic(agent: Agent, unit: str, event: str) -> int:
    """When, in microseconds since the boot."""
    return int(agent.systemctl("show", "--value", f"--property={event}TimestampMonotonic", unit))


def know_each_other(machine: Machine) -> None:
    """Let the attacker need no answer to send its packets: it would ask for the machine's place once a second."""
    place = machine.run(["cat", "/sys/class/net/host0/address"]).stdout.strip()  # the same after a boot
    for target in (ADDRESS, ADDRESS6):
        machine.attacker(["ip", "neigh", "replace", target, "lladdr", place, "dev", "bed", "nud", "permanent"])


class Hammer:
    """Tries to connect without a pause, from several addresses, and counts what comes of it.

    Those of `hard` do it each 5 ms, those of `soft` each 50 ms; a try is given up after 200 ms.
    """

    def __init__(self, machine: Machine, hard: list[str], soft: list[str]) -> None:
        self.answers = {source: Counter[str]() for source in (*hard, *soft)}
        self._turns = [[*hard, *soft], *([hard] * 9)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=machine.outside, args=(self._run,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        poll = select.epoll()
        tries: dict[int, tuple[float, str, socket.socket]] = {}
        turns = itertools.cycle(self._turns)
        while tries or not self._stop.is_set():
            now = time.monotonic()
            for source in () if self._stop.is_set() else next(turns):
                started = _start(source)
                tries[started.fileno()] = (now + 0.2, source, started)
                poll.register(started, select.EPOLLOUT)
            answered = {number for number, _ in poll.poll(0.005)}
            for number, (end, source, started) in list(tries.items()):
                if number in answered or now > end:
                    self.answers[source][_outcome(started) if number in answered else "silence"] += 1
                    del tries[number]
                    started.close()
        poll.close()


def _start(source: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    started = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    started.bind((source, 0))
    started.connect_ex((target_of(source), 22))
    return started


def _outcome(started: socket.socket) -> str:
    match started.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        case 0:
            return "connected"
        case errno.ECONNREFUSED:
            return "refused"
        case _:
            return "unreachable"
