# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an admin sees: a service that bans who attacks sshd, says so, and lets the ban end."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from banagent.log import MESSAGE_IDS
from system.bed.agent import MAXRETRY, UNIT, Agent, remaining
from system.bed.machine import NEAR, NEAR6

if TYPE_CHECKING:
    from system.bed.machine import Machine

FAR: Final = "198.18.7.9"  # behind the gateway
FAR6: Final = "2001:db8:5::7"
OPENSSH: Final = {"bookworm": "9", "trixie": "10"}


def test_from_the_first_failure_to_the_end_of_the_ban(agent: Agent) -> None:
    machine, attacker, other = agent.machine, NEAR[0], NEAR[1]
    agent.configure('bantime = "6s"')
    agent.start()
    machine.wait_for(lambda: re.search(r'Status: "0 bans stand; .*; reading live"', status(agent)))
    agent.attack(attacker, MAXRETRY - 1)
    assert machine.connects(attacker)
    agent.attack(attacker, 1)
    ban = agent.banned(attacker)
    agent.see_blocked(attacker)
    assert machine.connects(other)
    sentence = r'Status: "1 bans? stands?; 3 failures and 1 bans? since the start; reading live"'
    machine.wait_for(lambda: re.search(sentence, status(agent)))

    fields = {name: value for name, value in ban.items() if name.startswith("BANAGENT_")}
    assert fields.pop("BANAGENT_START") < fields.pop("BANAGENT_END")
    assert fields == {
        "BANAGENT_ADDRESS": attacker,
        "BANAGENT_BANTIME": "6",
        "BANAGENT_FAILURES": "3",
        "BANAGENT_FILTER": "sshd",
        "BANAGENT_JAIL": "sshd",
        "BANAGENT_PATTERN": "failed",
        "BANAGENT_USER": "alice",
    }
    verbose = machine.run(["journalctl", "--unit=banagent", "--output=verbose", "--no-pager"]).stdout
    assert f"    BANAGENT_ADDRESS={attacker}\n" in verbose

    agent.logged(f"BANAGENT_ADDRESS={attacker}", "BANAGENT_REASON=expired")
    machine.wait_for(lambda: agent.bans() == {})
    assert machine.ssh_attempt(attacker, "alice", "right-pw").status == 0
    machine.wait_for(lambda: re.search(r'Status: "0 bans stand; 3 failures and 1 bans? ', status(agent)))


def status(agent: Agent) -> str:
    return agent.systemctl("status", "--no-pager", "--full", UNIT)


def test_what_the_journal_explains_is_true_and_can_be_done(agent: Agent) -> None:
    machine, attacker = agent.machine, NEAR[0]
    agent.start()
    agent.attack(attacker)
    ban = agent.banned(attacker)
    text = explained(machine, "banned")
    for words in (
        f"Subject: {attacker} is banned by the jail sshd",
        f"3 failures of {attacker} within",
        'the pattern "failed" of the filter sshd',
        f"Since {ban['BANAGENT_START']} the kernel drops",
    ):
        assert words in " ".join(text.split())
    assert not re.search(r"@[A-Z]", text)
    unban, *others = commands(text)
    assert unban == f"banagent unban {attacker}"
    run(machine, *others)
    assert agent.bans().keys() == {attacker}
    run(machine, unban)
    assert agent.bans() == {}

    *others, ban_again = commands(explained(machine, "unbanned"))
    assert ban_again == f"banagent ban --jail sshd {attacker}"
    run(machine, *others)
    run(machine, ban_again)
    assert agent.bans().keys() == {attacker}

    machine.run(["nft", "flush", "ruleset"])
    agent.logged("BANAGENT_PROGRAM=nft")
    (off,) = commands(explained(machine, "repaired"))
    run(machine, off)
    assert agent.bans() == {}

    trouble = machine.run(["journalctl", "--dump-catalog", MESSAGE_IDS["trouble"]]).stdout
    run(machine, *commands(trouble))


def explained(machine: Machine, kind: str) -> str:
    """Give what `journalctl -x` says to the newest entry of a kind."""
    machine.run(["journalctl", "--sync"])
    show = ["journalctl", "--catalog", "--no-pager", "--lines=1", f"--unit={UNIT}", f"MESSAGE_ID={MESSAGE_IDS[kind]}"]
    return machine.run(show).stdout.replace("░░ ", "")


def commands(text: str) -> list[str]:
    found = re.findall(r"^    ([a-z]+ .*)$", text, re.MULTILINE)
    assert found
    return found


def run(machine: Machine, *lines: str) -> None:
    """Type what the explanation says. It may be that nothing is found, but not that there is no such command."""
    for line in lines:
        done = machine.run(["sh", "-c", f"PATH=$PATH:/usr/local/bin; {line}"], check=False)
        print(line, done.returncode, done.stdout, done.stderr, sep="\n")
        assert done.returncode in ((0, 1) if "why" in line else (0,))


@pytest.mark.parametrize("activation", ["ssh.service", "ssh.socket", "ssh@.service"])
def test_each_family_and_each_way_to_start_sshd(agent: Agent, activation: str) -> None:
    version = agent.machine.run(["sshd", "-V"], check=False).stderr
    assert f"OpenSSH_{OPENSSH[agent.machine.root.suite]}." in version
    for act in ACTIVATIONS[activation]:
        act(agent)
    agent.start()
    here = agent.machine.cursor()
    subjects = {NEAR[0]: NEAR[0], FAR: FAR, NEAR6[0]: NEAR6[0], FAR6: "2001:db8:5::/64"}
    with ThreadPoolExecutor() as attackers:
        list(attackers.map(agent.attack, subjects))
    for source, subject in subjects.items():
        ban = agent.banned(subject, after=here)
        assert agent.bans()[subject] == pytest.approx(remaining(ban, agent.machine), abs=2)
        agent.see_blocked(source)
    failures = agent.machine.journal("SYSLOG_FACILITY=4", f"SYSLOG_IDENTIFIER={identifier(agent)}", after=here)
    unit = activation.replace("@", "@.*").replace("socket", "service")
    assert any(re.fullmatch(unit, failure.get("_SYSTEMD_UNIT", "")) for failure in failures)
    assert agent.machine.connects(NEAR[1])
    assert agent.machine.connects(NEAR6[1])


def identifier(agent: Agent) -> str:
    return {"bookworm": "sshd", "trixie": "sshd-session"}[agent.machine.root.suite]


def socket_activated(agent: Agent) -> None:
    """Debian's own socket: one sshd, started by the first connection."""
    agent.systemctl("disable", "--quiet", "--now", "ssh.service")
    agent.systemctl("enable", "--quiet", "--now", "ssh.socket")
    agent.machine.wait_for(lambda: agent.machine.run(["ss", "-Hltn", "sport = :22"]).stdout)


def instantiated(agent: Agent) -> None:
    """One sshd for each connection, in a unit of its own."""
    agent.write("/etc/systemd/system/ssh.socket.d/accept.conf", "[Socket]\nAccept=yes\n")
    agent.write(
        "/etc/systemd/system/ssh@.service",
        "[Service]\nExecStart=-/usr/sbin/sshd -i\nStandardInput=socket\nRuntimeDirectory=sshd\n"
        "RuntimeDirectoryPreserve=yes\n",
    )
    agent.systemctl("daemon-reload")


ACTIVATIONS: Final = {
    "ssh.service": (),
    "ssh.socket": (socket_activated,),
    "ssh@.service": (instantiated, socket_activated),
}


def test_a_flood_is_banned_although_its_entries_lost_their_unit(agent: Agent) -> None:
    """They come and go faster than journald can look up whose a line is.

    It is stopped meanwhile, so that it is too late for all of them and not just, as in any flood, for some.
    """
    machine, sources = agent.machine, [*NEAR[:8], *NEAR6[:2]]
    agent.configure('mode = "ddos"')
    agent.start()
    here = machine.cursor()
    before = processes(machine)
    agent.systemctl("kill", "--signal=STOP", "systemd-journald.service")
    try:
        for source in sources * MAXRETRY:
            machine.connect(source).close()
        machine.wait_for(lambda: not waiting(machine) and processes(machine) == before)
    finally:
        agent.systemctl("kill", "--signal=CONT", "systemd-journald.service")
    for source in sources:
        agent.banned(source, after=here)
        agent.see_blocked(source)
    lines = machine.journal(f"SYSLOG_IDENTIFIER={identifier(agent)}", after=here)
    failures = [entry for entry in lines if entry["MESSAGE"].startswith("Connection closed by ")]
    assert len(failures) == len(sources) * MAXRETRY
    assert {entry.get("_SYSTEMD_UNIT") for entry in failures} == {None}
    assert {entry["_UID"] for entry in failures} == {"0"}


def waiting(machine: Machine) -> bool:
    """Whether there are connections that sshd has not accepted yet."""
    queues = machine.run(["ss", "--no-header", "--listening", "--tcp", "--numeric", "sport = :22"]).stdout.splitlines()
    return any(int(queue.split()[1]) for queue in queues)


def processes(machine: Machine) -> str:
    return machine.run(["pgrep", "--count", "sshd"], check=False).stdout
