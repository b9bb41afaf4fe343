# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bed itself, and banagent's units with a stand-in for the agent: what can be shown without it."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from system.bed.footprint import Footprint, footprint
from system.bed.machine import NEAR, NEAR6, Fields, Machine
from system.bed.root import PROJECT, Root

if TYPE_CHECKING:
    from collections.abc import Callable

    from system.conftest import Boot

FAR: Final = "198.18.7.9"  # behind the gateway
FAR6: Final = "2001:db8:5::7"
DROP_IN: Final = "/etc/systemd/system/banagent.service.d"

# --- the bed ---


def test_a_machine_is_up_in_three_seconds(machine: Machine, root: Root) -> None:
    assert machine.run(["systemctl", "is-system-running"], check=False).stdout == "running\n"
    assert f"VERSION_CODENAME={root.suite}\n" in machine.run(["cat", "/etc/os-release"]).stdout
    # the best of three, because the host may be busy
    assert min(machine.boot_seconds, machine.cut_power(), machine.cut_power()) < 3


def test_a_wrong_password_is_an_entry_of_sshd(machine: Machine) -> None:
    for source in (NEAR[0], NEAR[-1], NEAR6[0], NEAR6[-1], FAR, FAR6):
        here = machine.cursor()
        attempt = machine.ssh_attempt(source, "alice", "wrong")
        assert attempt.status == 255
        assert "Permission denied" in attempt.words
        entry = machine.wait_for_entry(unit="ssh.service", after=here, fits=is_failure)
        assert f"for alice from {source} port" in entry["MESSAGE"]
        assert entry["_SYSTEMD_UNIT"] == "ssh.service"
        assert entry["_UID"] == "0"
        assert entry["SYSLOG_IDENTIFIER"] == {"trixie": "sshd-session", "bookworm": "sshd"}[machine.root.suite]
        assert entry in machine.journal("_SYSTEMD_UNIT=ssh.service")
    assert machine.ssh_attempt(NEAR[1], "alice", "right-pw").status == 0


def is_failure(entry: Fields) -> bool:
    return "Failed password" in entry["MESSAGE"]


@pytest.mark.parametrize(("banned", "other", "match"), [(NEAR[0], NEAR[1], "ip"), (FAR6, NEAR6[1], "ip6")])
def test_a_dropped_address_does_not_connect(machine: Machine, banned: str, other: str, match: str) -> None:
    assert machine.connects(banned)
    machine.run(["nft", "-f", "-"], stdin=f"""
        add table inet t
        add chain inet t input {{ type filter hook input priority 0; }}
        add rule inet t input {match} saddr {banned} counter drop
    """)  # fmt: skip
    assert not machine.connects(banned, timeout=0.3)
    assert machine.connects(other)
    assert machine.ssh_attempt(banned, "alice", "right-pw", port=22).words.endswith("timed out")
    rules = [item["rule"] for item in machine.nft("list", "table", "inet", "t") if "rule" in item]
    assert rules[0]["expr"][1]["counter"]["packets"] > 0


def test_what_is_outside_is_not_the_host(machine: Machine) -> None:
    links = {link["ifname"] for link in json.loads(machine.attacker(["ip", "-json", "link"]).stdout)}
    assert links == {"lo", "bed", "vb-bed"}
    with pytest.raises(ConnectionRefusedError):
        machine.connects(NEAR[0], 81)
    with pytest.raises(OSError, match="assign"):
        machine.connects("192.0.2.1")


def test_an_entry_is_waited_for(machine: Machine) -> None:
    here = machine.cursor()
    machine.run(
        [
            "systemd-run",
            "--quiet",
            "--on-active=0.3",
            "--timer-property=AccuracySec=1ms",
            "logger",
            "-t",
            "later",
            "now",
        ]
    )
    assert machine.journal("SYSLOG_IDENTIFIER=later") == []
    assert machine.wait_for_entry("SYSLOG_IDENTIFIER=later", after=here)["MESSAGE"] == "now"
    with pytest.raises(TimeoutError, match="never"):
        machine.wait_for_entry("SYSLOG_IDENTIFIER=never", timeout=0.2)
    with pytest.raises(TimeoutError, match="did not come true"):
        machine.wait_for(lambda: machine.nft("list", "tables"), timeout=0.1)


@pytest.mark.parametrize("restart", [Machine.reboot, Machine.cut_power])
def test_what_is_on_disk_outlives_a_restart(machine: Machine, restart: Callable[[Machine], float]) -> None:
    machine.run(["sh", "-c", "echo kept >/var/lib/kept && touch /run/lost && nft add table inet lost"])
    leader = machine.leader
    seconds = restart(machine)
    print(f"{restart.__name__}: {seconds:.2f} s")
    assert machine.leader != leader
    assert machine.run(["cat", "/var/lib/kept"]).stdout == "kept\n"
    assert machine.run(["test", "-e", "/run/lost"], check=False).returncode == 1
    assert machine.nft("list", "ruleset") == []
    boots = {entry["_BOOT_ID"] for entry in machine.journal("SYSLOG_IDENTIFIER=systemd")}
    assert len(boots) == 2
    assert machine.ssh_attempt(FAR, "alice", "right-pw").status == 0


def test_nothing_is_left_after_a_stop(root: Root) -> None:
    with Machine(root) as machine:
        traces = footprint(machine)
        assert traces.processes.keys() >= {str(machine.keeper), str(machine.outer), str(machine.leader)}
        assert len(traces.namespaces) >= 8  # network, mount and IPC around it; also PID and UTS in it
        assert len(traces.left()) >= len(traces.processes) + len(traces.folders)  # it does see what there is
    assert traces.left() == []


ABANDONED: Final = """
import dataclasses, json, sys
from pathlib import Path
from system.bed.footprint import footprint
from system.bed.machine import Machine
from system.bed.root import Root

machine = Machine(Root(suite="", layers=tuple(map(Path, sys.argv[1:]))))
print(json.dumps([machine.keeper, dataclasses.asdict(footprint(machine))]), flush=True)
print(machine.outside(lambda: "outside"), flush=True)
machine.attacker(["sleep", "1000"], timeout=1000)
"""


def test_nothing_is_left_after_the_tests_were_killed(root: Root) -> None:
    program = [sys.executable, "-c", ABANDONED, *map(str, root.layers)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "tests")}
    with subprocess.Popen(program, stdout=subprocess.PIPE, env=environment) as tests:
        assert tests.stdout
        keeper, values = json.loads(tests.stdout.readline())
        traces = Footprint(**values)
        assert traces.left()
        keeper_ended = os.pidfd_open(keeper)
        tests.send_signal(signal.SIGKILL)
    try:
        assert select.select([keeper_ended], [], [], 20)[0]
    finally:
        os.close(keeper_ended)
    assert traces.left() == []


# --- banagent's units ---


@pytest.fixture
def host(boot: Boot) -> Machine:
    """Give a machine with banagent's units and the stand-in, installed and not started."""
    machine = boot(binds={PROJECT: "/src"})
    version = int(machine.run(["systemctl", "--version"]).stdout.split()[1])
    machine.run(["sh", "-euc", INSTALL, "sh", *(["growing delay"] if version >= 254 else [])])
    return machine


INSTALL: Final = """
    cd /src
    install -Dm755 tests/system/bed/probe.py /usr/bin/banagent
    install -Dm644 -t /usr/lib/systemd/system units/banagent.service
    install -Dm644 -t /usr/lib/sysusers.d units/sysusers.d/banagent.conf
    install -Dm644 -t /usr/lib/systemd/catalog units/banagent.catalog
    if [ $# = 1 ]; then
        install -Dm644 -t /usr/lib/systemd/system/banagent.service.d units/systemd-254/10-restart.conf
    fi
    mkdir -p /etc/systemd/system/banagent.service.d
    systemd-sysusers
    journalctl --update-catalog
    systemctl daemon-reload
"""


def test_the_unit_is_silent_and_tight(host: Machine) -> None:
    verify = host.run(["systemd-analyze", "verify", "--man=no", "banagent.service"])
    assert (verify.stdout, verify.stderr) == ("", "")
    exposure = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15"]
    print(host.run([*exposure, "/usr/lib/systemd/system/banagent.service"]).stdout.splitlines()[-1])


def test_the_unit_allows_what_the_agent_does_and_nothing_else(host: Machine) -> None:
    host.run(["systemctl", "enable", "--now", "rsyslog.service"])
    host.run(["logger", "--priority=auth.info", "so that there is an auth.log"])
    host.wait_for(lambda: host.run(["stat", "-c", "%a %U:%G", "/var/log/auth.log"], check=False).stdout)
    assert host.run(["stat", "-c", "%a %U:%G", "/var/log/auth.log"]).stdout == "640 root:adm\n"
    host.run(["systemctl", "enable", "--now", "banagent.service"])
    must, must_not = json.loads(host.run(["cat", "/var/lib/banagent/report"]).stdout)
    assert {act: why for act, why in must.items() if why} == {}
    assert [act for act, why in must_not.items() if not why] == []
    assert len(must) + len(must_not) > 10
    folders = host.run(["stat", "-c", "%n %a %U", "/var/lib/banagent", "/run/banagent"]).stdout
    assert folders == "/var/lib/banagent 700 banagent\n/run/banagent 755 banagent\n"


def test_a_refused_reload_fails_and_says_why(host: Machine) -> None:
    host.run(["systemctl", "start", "banagent.service"])
    assert host.run(["systemctl", "reload", "banagent.service"], check=False).returncode == 1
    assert host.run(["systemctl", "is-active", "banagent.service"]).stdout == "active\n"
    host.wait_for_entry(unit="banagent.service", fits=lambda entry: "knows no such key" in entry["MESSAGE"])


def test_a_killed_agent_is_started_again_without_end(host: Machine) -> None:
    """Ten times; systemd's own limit is five in ten seconds."""
    host.run(["tee", f"{DROP_IN}/quick.conf"], stdin="[Service]\nRestartSec=10ms\nRestartMaxDelaySec=10ms\n")
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "start", "banagent.service"])
    for count in range(1, 11):
        host.run(["systemctl", "kill", "--signal=KILL", "banagent.service"])
        state = ["systemctl", "show", "--value", "-p", "NRestarts", "-p", "ActiveState", "banagent.service"]
        host.wait_for(lambda: {str(count), "active"} == set(host.run(state).stdout.split()))  # noqa: B023 - called now


# cloud-init has one of sysinit.target
NEEDS_NETWORK: Final = """
[Unit]
DefaultDependencies=no
After=systemd-networkd-wait-online.service
Wants=systemd-networkd-wait-online.service
Before={0}
[Service]
Type=oneshot
ExecStart=/bin/true
RemainAfterExit=yes
[Install]
WantedBy={0}
"""


@pytest.mark.parametrize("before", ["multi-user.target", "sysinit.target"])
def test_at_boot_it_is_ready_before_the_network_comes(host: Machine, before: str) -> None:
    host.run(["tee", "/etc/systemd/system/needs-network.service"], stdin=NEEDS_NETWORK.format(before))
    host.run(["systemctl", "enable", "needs-network.service"])
    # both take their time, so that only their order can make what follows wait
    host.run(["tee", f"{DROP_IN}/slow.conf"], stdin="[Service]\nEnvironment=PROBE_DELAY=0.5\n")
    host.run(["mkdir", "/etc/systemd/system/nftables.service.d"])
    slow = "[Service]\nExecStartPre=/usr/bin/sleep 0.5\n"
    host.run(["tee", "/etc/systemd/system/nftables.service.d/slow.conf"], stdin=slow)
    host.run(["systemctl", "enable", "banagent.service", "nftables.service"])
    host.reboot()
    assert host.run(["systemctl", "is-system-running"], check=False).stdout == "running\n"
    order = [
        began(host, "nftables.service", "ActiveEnter"),
        began(host, "banagent.service", "InactiveExit"),
        began(host, "banagent.service", "ActiveEnter"),
        began(host, "network-pre.target", "ActiveEnter"),
        began(host, "systemd-networkd.service", "InactiveExit"),
        began(host, "needs-network.service", "ActiveEnter"),
    ]
    assert order == sorted(order)  # 0: systemd broke a loop by leaving this one out
    assert order[0]


def began(machine: Machine, unit: str, event: str) -> int:
    """When, in microseconds since the boot."""
    show = ["systemctl", "show", "--value", "-p", f"{event}TimestampMonotonic", unit]
    return int(machine.run(show).stdout)


FIELDS: Final = {
    "BANAGENT_JAIL": "sshd",
    "BANAGENT_ADDRESS": "192.0.2.7",
    "BANAGENT_START": "2026-01-02T03:04:05Z",
    "BANAGENT_END": "2026-01-02T04:04:05Z",
    "BANAGENT_BANTIME": "3600",
    "BANAGENT_FAILURES": "5",
    "BANAGENT_USER": "root",
    "BANAGENT_FILTER": "sshd",
    "BANAGENT_PATTERN": "password",
    "BANAGENT_PROGRAM": "nft",
    "BANAGENT_PID": "4711",
}
EXPLAINED: Final = {
    "1": ["192.0.2.7 is banned by the jail sshd", "5 failures", '"password"', "    banagent unban 192.0.2.7\n"],
    "2": ["192.0.2.7 is no longer banned by the jail sshd", "    banagent ban --jail sshd 192.0.2.7\n"],
    "3": ["nft has changed", "(PID 4711)", "    banagent off\n"],
    "4": ["    the disk is full\n", "    systemctl reload banagent\n"],
}


def test_the_journal_explains(host: Machine) -> None:
    for number, words in EXPLAINED.items():
        message_id = f"5bc45f3cf7f94d3b9e1c8b6a3e0fd00{number}"
        fields = {"MESSAGE": "the disk is full", "MESSAGE_ID": message_id, **FIELDS}
        host.run(["logger", "--journald"], stdin="".join(f"{name}={value}\n" for name, value in fields.items()))
        host.run(["journalctl", "--sync"])
        explained = host.run(["journalctl", "--catalog", f"MESSAGE_ID={message_id}"]).stdout
        assert [word for word in words if word not in explained] == []
        # a field that the entry lacks is filled in as its own name
        assert not re.search(r"@|%|BANAGENT_(?!ADDRESS=192)|MESSAGE", explained)
        assert max(map(len, explained.splitlines()[1:])) < 80
