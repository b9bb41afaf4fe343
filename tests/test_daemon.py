# SPDX-License-Identifier: LGPL-2.1-or-later
"""The agent as a process: a real journald, a real kernel, real packets."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from systemd.journal import Reader

from bed.agent import AGENT, CONFIG, PATIENCE, PORT, command, drops, running
from bed.journald import Journald, service
from bed.netns import ATTACKER, ATTACKER6, HOST, HOST6, NEIGHBOURS6, Network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(("attacker", "host"), [(ATTACKER, HOST), (ATTACKER6, HOST6), (NEIGHBOURS6[0], HOST6)])
def test_a_packet_passes_before_is_lost_during_and_passes_after(  # noqa: PLR0917 - fixtures
    tmp_path: Path,
    journald: Journald,
    network: Network,
    sshd: Any,
    attacker: str,
    host: str,
) -> None:
    (tmp_path / "banagent.toml").write_text(CONFIG.replace("600", "4"))
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT), network.host.listening(PORT + 1):
        agent.told("READY=1")
        sshd(attacker, 2)
        assert network.world.connect(host, PORT, source=attacker) == "connected"
        assert drops(network) == 0
        sshd(attacker, 1)
        agent.wait_for(r"banned jail=sshd address=\S+ .*failures=3 user=root filter=sshd pattern=\S+")
        assert network.world.connect(host, PORT, source=attacker) == "silence"
        assert drops(network) > 0
        # other ports and other addresses are as before
        assert network.world.connect(host, PORT + 1, source=attacker) == "connected"
        other = NEIGHBOURS6[1] if ":" in attacker else "198.51.100.8"
        assert network.world.connect(host, PORT, source=other) == "connected"
        # killed; the kernel goes on counting
        assert agent.end(signal.SIGKILL) == -signal.SIGKILL
        assert network.world.connect(host, PORT, source=attacker) == "silence"
        assert network.world.connect(host, PORT, source=attacker, timeout=PATIENCE) == "connected"


def test_what_it_tells_systemd(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    with running(tmp_path, journald, network, WATCHDOG_USEC="400000") as agent:
        agent.told(r"^READY=1\nSTATUS=0 bans stand; 0 failures and 0 bans since the start; catching up$")
        agent.told(r"^STATUS=0 bans .*; reading live$")
        agent.told("^WATCHDOG=1$")
        sshd(ATTACKER)
        agent.told(r"^STATUS=1 ban stands; 3 failures and 1 ban since the start; reading live$")
        agent.process.send_signal(signal.SIGHUP)
        agent.told(r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
        agent.wait_for("reloaded jails=sshd")
        assert agent.end() == 0
        agent.told("^STOPPING=1$")
    assert 'stopped bans_standing=1 hint="the kernel lifts each when its time is over;' in agent.log


def test_a_restart_in_the_middle_of_a_count_loses_nothing(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any
) -> None:
    for number, end in enumerate((signal.SIGTERM, signal.SIGKILL)):
        with running(tmp_path, journald, network) as agent:
            agent.told("READY=1")
            sshd(ATTACKER, 1)
            agent.told("1 failure ")
            agent.end(end)
        assert number < 2
    with running(tmp_path, journald, network) as agent:
        sshd(ATTACKER, 1)
        agent.wait_for("banned .*failures=3")


def test_what_came_while_it_was_down_is_read(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    sshd(ATTACKER)  # before the first start: the last findtime is read
    with running(tmp_path, journald, network) as agent:
        agent.wait_for(f"banned .*address={ATTACKER}")
        agent.end()
    sshd("198.51.100.99")
    with running(tmp_path, journald, network) as agent:
        agent.wait_for("bans stand bans=1")
        agent.wait_for("banned .*address=198.51.100.99")
        assert f"address={ATTACKER}" not in agent.log


def test_a_flush_is_repaired_and_told(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for("banned")
        for number, damage in enumerate(
            ("flush ruleset", "delete table inet banagent", "flush set inet banagent ipv4.32")
        ):
            network.host.nft(damage)
            agent.wait(lambda n=number: agent.log.count("repaired bans=1 program=nft pid=") == n + 1, damage)
            assert network.world.connect(HOST, PORT, source=ATTACKER) == "silence"


def test_a_new_address_of_the_host_is_never_banned(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any
) -> None:
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd(HOST)  # its own
        sshd("192.0.2.77")
        agent.wait_for("banned .*address=192.0.2.77")
        network.host.run("ip", "address", "add", "192.0.2.77/24", "dev", "veth")
        agent.wait_for("unbanned jail=sshd address=192.0.2.77 reason=ignored")
        assert f"address={HOST}" not in agent.log


# configuration


def test_a_bad_configuration_is_said_whole(tmp_path: Path, journald: Journald, network: Network) -> None:
    file = tmp_path / "banagent.toml"
    file.write_text("[jails.sshd]\nmaxretry = 0\nbantim = 3\n")
    with running(tmp_path, journald, network) as agent:
        assert agent.process.wait(PATIENCE) == 1
        agent.wait_for(
            rf"banagent: {file}:2: jails.sshd.maxretry = 0: .*\nbanagent: {file}:3: jails.sshd.bantim = 3: .*"
        )
    assert agent.notices == []


def test_reload(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    file = tmp_path / "banagent.toml"
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT), network.host.listening(PORT + 1):
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for("banned")
        sshd("198.51.100.99", 2)
        # a bad one changes nothing
        file.write_text(CONFIG + "maxretri = 1\n")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for(f'error: not reloaded mistake="{file}:5: jails.sshd.maxretri = 1: ')
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "silence"
        # a good one keeps bans and counts, and takes its ports at once
        file.write_text(CONFIG.replace(f"{PORT}", f"{PORT + 1}"))
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for("reloaded jails=sshd")
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "connected"
        assert network.world.connect(HOST, PORT + 1, source=ATTACKER) == "silence"
        sshd("198.51.100.99", 1)
        agent.wait_for("banned .*address=198.51.100.99 .*failures=3")
        # who is ignored by now is let go
        file.write_text(CONFIG + f'ignoreip = ["{ATTACKER}"]\n')
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for(f"unbanned jail=sshd address={ATTACKER} reason=ignored")
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "connected"


# what a machine can lack


def drop_capability(command: Sequence[str]) -> list[str]:
    return ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--", *command]


def test_without_the_capability(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    assert sshd
    argv = network.host.argv(*drop_capability(command(tmp_path, journald)))
    environment = {**os.environ, "PYTHONPATH": str(AGENT), "STATE_DIRECTORY": str(tmp_path)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 4
    (told,) = done.stderr.splitlines()
    assert told.startswith("banagent: ")
    assert "CAP_NET_ADMIN" in told


def test_without_a_readable_journal(tmp_path: Path, journald: Journald, network: Network) -> None:
    with running(tmp_path, journald, network, "--journal", "/nowhere") as agent:
        assert agent.process.wait(PATIENCE) == 1
        agent.wait_for(r"banagent: no journal files in /nowhere; is systemd-journald running\?")


def test_a_history_that_can_not_be_written(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "history.db").mkdir()  # root may write anything, but not into that
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.wait_for("error: trouble .*cannot open the history .*it bans, but a restart forgets")
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for("banned")
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "silence"


def test_dry_run_touches_nothing(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    with running(tmp_path, journald, network, "--dry-run") as agent:
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for(f"would ban jail=sshd address={ATTACKER}")
        assert agent.end() == 0
    assert network.host.run("nft", "list", "ruleset") == ""
    assert list((tmp_path / "state").iterdir()) == []


def test_hostile_words_do_no_harm_on_a_terminal(tmp_path: Path, journald: Journald, network: Network) -> None:
    with running(tmp_path, journald, network) as agent, journald.writer() as writer:
        agent.told("READY=1")
        for number in range(3):
            writer.send(b"Failed password for \x1b[2J\n\0\xff from 192.0.2.66 from 198.51.100.7 port %d ssh2" % number)
        agent.wait_for(r'banned jail=sshd address=198.51.100.7 .*user="\\x1b\[2J\\n\\x00\\\\xff from 192.0.2.66"')


def test_its_own_entries_have_fields(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    """Started as systemd starts it, with stderr to the journal, it writes structured entries."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(AGENT), "STATE_DIRECTORY": str(tmp_path)}
    as_systemd = 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"'
    inner = ["systemd-cat", "sh", "-c", as_systemd, "sh", *command(tmp_path, journald)]
    argv = network.host.argv(*journald.argv(*inner, cgroup=service("banagent.service")))
    with subprocess.Popen(argv, env=environment) as process:
        sshd(ATTACKER)
        found: dict[str, Any] = {}
        deadline = time.monotonic() + PATIENCE
        while not found and time.monotonic() < deadline:
            journald.sync()
            with Reader(path=str(journald.path)) as reader:
                reader.add_match(MESSAGE_ID="5bc45f3cf7f94d3b9e1c8b6a3e0fd001")
                found = reader.get_next()
        subprocess.run(journald.argv("kill", str(found["_PID"])), check=True)
        assert process.wait(PATIENCE) == 0
    assert found["MESSAGE"].startswith(f"banned jail=sshd address={ATTACKER} start=")
    facts = {name: found[name] for name in found if name.startswith("BANAGENT_")}
    start, end = facts.pop("BANAGENT_START"), facts.pop("BANAGENT_END")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", start)
    assert start < end
    assert facts.pop("BANAGENT_PATTERN")
    assert facts == {
        "BANAGENT_JAIL": "sshd",
        "BANAGENT_ADDRESS": ATTACKER,
        "BANAGENT_BANTIME": "600",
        "BANAGENT_FAILURES": "3",
        "BANAGENT_USER": "root",
        "BANAGENT_FILTER": "sshd",
    }
    assert (found["PRIORITY"], found["_SYSTEMD_UNIT"], found["SYSLOG_IDENTIFIER"]) == (
        5,
        "banagent.service",
        "banagent",
    )


@pytest.mark.parametrize("damage", [b"\xff" * 4096, b""])
def test_a_history_that_is_damaged_inside(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any, damage: bytes
) -> None:
    """It opens, but can't be read: it is moved away, and the bans in the kernel are taken over."""
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for("banned")
        agent.end()
    file = tmp_path / "state" / "history.db"
    if damage:
        content = bytearray(file.read_bytes())
        for page in range(4096, len(content), 4096):
            content[page : page + len(damage)] = damage
        file.write_bytes(content)
    else:
        with sqlite3.connect(file) as db:
            db.execute("UPDATE bans SET address = 'nonsense'")
        db.close()
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.wait_for("error: the history was damaged; a new one is begun .*set_aside=\\S+/history.db.damaged-1")
        agent.told("reading live")
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "silence"
        sshd("198.51.100.99")
        agent.wait_for("banned .*address=198.51.100.99")


def test_a_second_agent_with_the_same_state_is_refused(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any
) -> None:
    assert sshd
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        with running(tmp_path, journald, network) as other:
            assert other.process.wait(PATIENCE) == 1
            other.wait_for("banagent: another agent is running with the state in .*; see: banagent status")
        sshd(ATTACKER)
        agent.wait_for("banned")
        assert "repaired" not in agent.log


def test_a_reload_that_is_refused_late_leaves_the_firewall_watched(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any
) -> None:
    """Each filter is small enough by itself, but all patterns together are not."""
    assert sshd
    filters = tmp_path / "filters"
    filters.mkdir()
    with running(tmp_path, journald, network, "--filters", str(filters)) as agent:
        agent.told("READY=1")
        jails = CONFIG
        for number in range(12):
            rules = [
                f"[[failregex]]\nname = 'x{n}'\nregex = '^(?:{number}x{n}[a-z]{{900}}) <HOST>$'\n" for n in range(200)
            ]
            (filters / f"big{number}.toml").write_text("description = 'x'\nunits = ['x.service']\n" + "".join(rules))
            jails += f"[jails.big{number}]\nenabled = true\n"
        (tmp_path / "banagent.toml").write_text(jails)
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for("not reloaded mistake=.* patterns are too large together")
        network.host.nft("delete table inet banagent")
        agent.wait_for("repaired")


def test_a_position_of_a_time_to_come(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    """The clock was wrong, and the journal of that boot is gone: what comes is earlier than what was read last."""
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd(ATTACKER, 1)
        agent.told("1 failure ")
        agent.end()
    with sqlite3.connect(tmp_path / "state" / "history.db") as db:
        cursor = "s=" + "a" * 32 + ";i=99;b=" + "b" * 32 + f";m=99;t={(1 << 52):x};x=1"
        db.execute("UPDATE checkpoint SET position = ?, time = ?", (cursor, 1 << 52))
    db.close()
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd("198.51.100.99")
        agent.wait_for("banned .*address=198.51.100.99")
