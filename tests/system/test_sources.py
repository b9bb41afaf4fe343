# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whatever a service writes, wherever it writes it, counts once: real servers, rsyslog, logrotate and journald."""

from __future__ import annotations

import base64
import http.client
import imaplib
import json
import re
import smtplib
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from system.bed.agent import COMMAND, MAXRETRY, UNIT, Agent, root_with_agent
from system.bed.machine import ADDRESS, NEAR, Fields, Machine
from system.bed.root import Root, root_with_servers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from system.conftest import Boot

pytestmark = pytest.mark.xdist_group("sources")  # beside the other tests of that Debian, not after them
servers = pytest.mark.xdist_group("servers")

CONFIG: Final = "/etc/banagent/banagent.toml"
AUTH_LOG: Final = "/var/log/auth.log"


@pytest.fixture(scope="session")
def servers_root(root: Root, source: Path) -> Root:
    """Give the Debian of the test with banagent, and with the servers, which are stopped."""
    return root_with_agent(root_with_servers(root), source)


@pytest.fixture
def host(boot: Boot, servers_root: Root) -> Agent:
    """Give a fresh machine with banagent and the servers; neither is running."""
    return Agent(boot(servers_root))


def count(agent: Agent, jail: str = "sshd") -> int:
    """Give how many failures a jail has counted."""
    failures: int = agent.jail(jail)["failures_total"]
    return failures


def state(agent: Agent, jail: str) -> tuple[str, str | None]:
    """Give a jail's state, and the reason."""
    said = agent.jail(jail)
    return said["state"], said["reason"]


def listens(machine: Machine, port: int) -> None:
    """Wait until a server does."""
    machine.wait_for(lambda: machine.run(["ss", "-Hltn", f"sport = :{port}"]).stdout)


def becomes_active(agent: Agent, jail: str) -> None:
    agent.machine.wait_for(lambda: state(agent, jail) == ("active", None))


# --- the journal and rsyslog ---


def in_auth_log(machine: Machine) -> int:
    """Give how many failed passwords rsyslog has written down."""
    return machine.run(["cat", AUTH_LOG], check=False).stdout.count("]: Failed password for ")


def test_what_journal_and_rsyslog_both_have_counts_once(agent: Agent) -> None:
    machine = agent.machine
    agent.systemctl("enable", "--quiet", "--now", "rsyslog.service")
    agent.start()
    agent.attack(NEAR[0], MAXRETRY - 1)
    machine.wait_for(lambda: in_auth_log(machine) == MAXRETRY - 1)
    forged = "".join(
        f"Nov 22 05:00:00 bed sshd[1]: Failed password for root from {NEAR[2]} port 22 ssh2\n" for _ in "123"
    )
    machine.run(["tee", "-a", AUTH_LOG], stdin=forged)
    agent.attack(NEAR[1])
    assert agent.banned(NEAR[1])["BANAGENT_FAILURES"] == str(MAXRETRY)
    assert agent.bans().keys() == {NEAR[1]}
    assert count(agent) == 2 * MAXRETRY - 1
    assert state(agent, "sshd") == ("active", None)

    # from now on only the file is read: what was counted is not counted again
    agent.configure('source = "files"')
    agent.systemctl("reload", UNIT)
    becomes_active(agent, "sshd")
    agent.attack(NEAR[3])
    assert agent.banned(NEAR[3])["BANAGENT_FAILURES"] == str(MAXRETRY)
    agent.see_blocked(NEAR[3])
    assert NEAR[0] not in agent.bans()
    agent.attack(NEAR[0], 1)
    assert agent.banned(NEAR[0])["BANAGENT_FAILURES"] == str(MAXRETRY)


def test_without_a_journal_rsyslogs_file_is_read(agent: Agent) -> None:
    machine = agent.machine
    agent.write("/etc/systemd/journald.conf.d/none.conf", "[Journal]\nStorage=none\n")
    agent.systemctl("restart", "systemd-journald.service")
    machine.run(["sh", "-c", "rm -r /var/log/journal /run/log/journal"], check=False)
    agent.systemctl("enable", "--quiet", "--now", "rsyslog.service")
    agent.attack(NEAR[0], 1)
    machine.wait_for(lambda: in_auth_log(machine) == 1)
    agent.start()
    becomes_active(agent, "sshd")
    agent.attack(NEAR[0], MAXRETRY - 1)
    machine.wait_for(lambda: NEAR[0] in agent.bans())
    agent.see_blocked(NEAR[0])
    assert count(agent) == MAXRETRY


# --- logrotate ---

# each address bans itself by its only failure, and twice over by a second one
ONE_EACH: Final = """
[jails.once]
enabled = true
filter = "sshd"
source = "files"
maxretry = 1

[jails.twice]
enabled = true
filter = "sshd"
source = "files"
maxretry = 2
"""

# begin: the number of its first line; it ends when /run/enough is there, or after so many lines, and says how many.
# A datagram to rsyslog's own socket waits until there is room for it, so that none is lost on the way.
WRITER: Final = """
import os, socket, sys, time
begin, most = map(int, sys.argv[1:])
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.connect("/run/systemd/journal/syslog")
for number in range(begin, begin + most):
    if most > 1000:
        if os.path.exists("/run/enough"):
            break
        time.sleep(0.001)  # not more than a busy server
    address = f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    stamp = time.strftime("%b %e %T")
    log.send(f"<86>{stamp} sshd[{1000 + number}]: Failed password for root from {address} port 22 ssh2".encode())
else:
    number += 1
print(number - begin)
"""

# Debian's own snippet, as it is run each week; in the global part of its logrotate.conf is "create"
CREATE: Final = "create\ninclude /etc/logrotate.d/rsyslog\n"
COPYTRUNCATE: Final = f"{AUTH_LOG} {{\n  copytruncate\n  compress\n  delaycompress\n  rotate 100\n}}\n"


def addresses(numbers: range) -> set[str]:
    return {f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}" for number in numbers}


def write(machine: Machine, begin: int, most: int = 200) -> int:
    """Let failures be written by rsyslog; give how many it were."""
    return int(machine.run(["python3", "-c", WRITER, str(begin), str(most)], timeout=120).stdout)


def rotate(machine: Machine, config: str = "/etc/logrotate.bed") -> None:
    machine.run(["logrotate", "--force", config])


def on_disk(machine: Machine) -> set[str]:
    """Give the addresses in all of the files that there still are."""
    text = machine.run(["sh", "-c", f"zcat --force {AUTH_LOG}*"]).stdout
    return set(re.findall(r"Failed password for root from (198\.\S+) port", text))


def seen(agent: Agent, jail: str = "once") -> set[str]:
    listed = json.loads(agent.machine.run([COMMAND, "list", "--jail", jail, "--json"], check=False).stdout)
    return {ban["address"] for ban in listed}


@pytest.mark.parametrize("config", [CREATE, COPYTRUNCATE], ids=["create", "copytruncate"])
def test_nothing_is_missed_and_nothing_counts_twice_over_rotations(agent: Agent, config: str) -> None:
    machine = agent.machine
    agent.write(CONFIG, ONE_EACH)
    agent.write("/etc/logrotate.bed", config)
    agent.systemctl("enable", "--quiet", "--now", "rsyslog.service")
    total = write(machine, 0)
    agent.start()
    machine.wait_for(lambda: seen(agent) == addresses(range(total)))

    # while it is written
    with ThreadPoolExecutor(1) as beside:
        writing = beside.submit(write, machine, total, 100_000)
        for number in range(8):
            size = machine.run(["stat", "-c", "%i %s", AUTH_LOG]).stdout
            machine.wait_for(lambda: machine.run(["stat", "-c", "%i %s", AUTH_LOG], check=False).stdout != size)  # noqa: B023 - called now
            rotate(machine)
            print("rotated", number, machine.run(["sh", "-c", "ls -li /var/log/auth*"]).stdout)
        machine.run(["touch", "/run/enough"])
        total += writing.result()
    # what logrotate itself loses between its copy and its truncation can't be read by anybody
    machine.wait_for(lambda: seen(agent) >= on_disk(machine), timeout=90)
    if config == CREATE:
        machine.wait_for(lambda: len(seen(agent)) == total, timeout=90)
    assert seen(agent) <= addresses(range(total))
    assert seen(agent, "twice") == set()
    assert count(agent, "once") == count(agent, "twice") == len(seen(agent))

    # while the agent is stopped
    agent.systemctl("stop", UNIT)
    known, begin = set(agent.bans("once")), total
    for _ in range(4):
        if total > begin:
            rotate(machine)
        total += write(machine, total)
        last = addresses(range(total - 1, total))
        machine.wait_for(lambda: last <= on_disk(machine))  # noqa: B023 - called now
    print(machine.run(["sh", "-c", "ls -li /var/log/auth*"]).stdout)
    agent.start()
    machine.wait_for(lambda: len(seen(agent)) >= len(known) + total - begin, timeout=90)
    assert seen(agent) == known | addresses(range(begin, total))
    assert seen(agent, "twice") == set()
    assert count(agent, "once") == count(agent, "twice") == total - begin


# --- nginx ---


def http_status(machine: Machine, source: str, password: str) -> int:
    """Ask nginx for its page as alice."""

    def ask() -> int:
        connection = http.client.HTTPConnection(ADDRESS, timeout=30, source_address=(source, 0))
        login = base64.b64encode(f"alice:{password}".encode()).decode()
        connection.request("GET", "/index.nginx-debian.html", headers={"Authorization": f"Basic {login}"})
        status = connection.getresponse().status
        connection.close()
        return status

    return machine.outside(ask)


@servers
@pytest.mark.parametrize("first", ["agent", "nginx"])
def test_nginx(host: Agent, first: str) -> None:
    machine, attacker = host.machine, NEAR[0]
    host.write(CONFIG, f"[jails.nginx-http-auth]\nenabled = true\nmaxretry = {MAXRETRY}\n")
    machine.run(["rm", "-r", "/var/log/nginx"])
    if first == "agent":
        host.start()
        said = host.jail("nginx-http-auth")
        assert said["state"] == "waiting"
        assert said["reason"] == "waiting for entries of nginx.service, or /var/log/nginx/*access.log"
    machine.run(["install", "--directory", "--group=adm", "--mode=755", "/var/log/nginx"])  # as its package does
    # so that it has something to say in the journal as well, which is no reason to look for failures only there
    host.write("/etc/nginx/conf.d/twin.conf", "server { listen 80; server_name a.test a.test; }\n")
    host.systemctl("start", "nginx.service")
    warning = machine.wait_for_entry(unit="nginx.service", fits=lambda entry: "conflicting" in entry["MESSAGE"])
    assert warning["SYSLOG_IDENTIFIER"] == "nginx"
    if first == "nginx":
        host.start()
    becomes_active(host, "nginx-http-auth")

    assert http_status(machine, attacker, "right-pw") == 200
    for _ in range(MAXRETRY - 1):
        assert http_status(machine, attacker, "wrong") == 401
    rotate(machine, "/etc/logrotate.d/nginx")
    assert machine.run(["stat", "-c", "%a %U:%G", "/var/log/nginx/access.log"]).stdout == "640 www-data:adm\n"
    assert host.bans("nginx-http-auth") == {}
    assert http_status(machine, attacker, "wrong") == 401
    ban = host.banned(attacker, jail="nginx-http-auth")
    assert (ban["BANAGENT_FAILURES"], ban["BANAGENT_USER"]) == (str(MAXRETRY), "alice")
    host.see_blocked(attacker, jail="nginx-http-auth", port=80)
    assert machine.connects(attacker, 22)
    assert http_status(machine, NEAR[1], "right-pw") == 200


# --- mail ---


class Imap(imaplib.IMAP4):
    """A client that has one of the attacker's addresses."""

    def __init__(self, source: str) -> None:
        self._source = source
        super().__init__(ADDRESS)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout or 30, (self._source, 0))


def guess_by_imap(source: str) -> None:
    client = Imap(source)
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        client.login("alice", "wrong")
    client.logout()


def guess_by_smtp(source: str) -> None:
    client = smtplib.SMTP(ADDRESS, timeout=30, source_address=(source, 0))
    with client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("alice", "wrong")


MAIL: Final = (("dovecot", 143, guess_by_imap), ("postfix", 25, guess_by_smtp))


@servers
def test_mail_servers(host: Agent) -> None:
    machine = host.machine
    host.write(CONFIG, "".join(f"[jails.{jail}]\nenabled = true\nmaxretry = {MAXRETRY}\n" for jail, _, _ in MAIL))
    host.start()
    for (jail, port, guess), attacker in zip(MAIL, NEAR, strict=False):
        assert state(host, jail)[0] == "waiting"
        host.systemctl("start", f"{jail}.service")
        listens(machine, port)
        for _ in range(MAXRETRY - 1):
            machine.outside(guess, attacker)
        machine.wait_for(lambda: count(host, jail) == MAXRETRY - 1)  # noqa: B023 - called now
        assert state(host, jail) == ("active", None)
        assert host.bans(jail) == {}
        machine.outside(guess, attacker)
        ban = host.banned(attacker, jail=jail)
        assert (ban["BANAGENT_FAILURES"], ban.get("BANAGENT_USER")) == (str(MAXRETRY), "alice")
        host.see_blocked(attacker, jail=jail, port=port)
        assert machine.connects(attacker, 22)


# --- a file that the agent can't read ---

FTP: Final = f"""
[jails.sshd]
enabled = true
maxretry = {MAXRETRY}

[jails.vsftpd]
enabled = true
maxretry = {MAXRETRY}
source = "files"

[jails.nginx-http-auth]
enabled = true
"""
UNREADABLE: Final = """\
no mistakes; {jails} jails, enabled: nginx-http-auth, sshd, vsftpd
jail vsftpd: the agent can't read /var/log/vsftpd.log, which is root:root, mode 0600. Let it read this file (setfacl \
is in the package acl):
    setfacl --modify user:banagent:r /var/log/vsftpd.log
and so that it can read the one that logrotate puts in its place, have "create" there name no mode, or else:
    create 640 root adm
Or let it read every file of the machine (systemd-analyze security: 1.4 instead of 1.2); write into \
/etc/systemd/system/banagent.service.d/read.conf:
    [Service]
    AmbientCapabilities=CAP_DAC_READ_SEARCH
    CapabilityBoundingSet=CAP_DAC_READ_SEARCH
and then: systemctl daemon-reload && systemctl restart banagent
"""


def guess_by_ftp(machine: Machine, source: str) -> None:
    with machine.connect(source, 21, timeout=10) as control:
        lines = control.makefile("rw", newline="\r\n")
        assert lines.readline().startswith("220")
        for words, answer in (("USER alice", "331"), ("PASS wrong", "530")):
            lines.write(f"{words}\r\n")
            lines.flush()
            assert lines.readline().startswith(answer)


def by_acl(agent: Agent, said: str) -> None:
    """Do the first thing that `check` says."""
    commands = re.findall(r"^    (setfacl .*)$", said, re.MULTILINE)
    assert commands
    for command in commands:
        agent.machine.run(["sh", "-c", command])


def by_drop_in(agent: Agent, said: str) -> None:
    """Do the other."""
    path = re.search(r"write into (\S+):$", said, re.MULTILINE)
    section = re.search(r"^    \[Service\]\n(?:    .*\n)+", said, re.MULTILINE)
    commands = re.search(r"^and then: (.*)$", said, re.MULTILINE)
    assert path
    assert section
    assert commands
    agent.write(path[1], section[0].replace("    ", ""))
    agent.machine.run(["sh", "-c", commands[1]])
    exposure = agent.machine.run(["systemd-analyze", "security", "--no-pager", UNIT]).stdout.splitlines()[-1]
    assert ": 1.4 " in exposure


@servers
@pytest.mark.parametrize("remedy", [by_acl, by_drop_in])
def test_a_file_of_roots_alone(host: Agent, remedy: Callable[[Agent, str], None]) -> None:
    """As vsftpd makes its log, until it is rotated for the first time."""
    machine, attacker = host.machine, NEAR[0]
    host.write(CONFIG, FTP)
    host.systemctl("start", "vsftpd.service")
    listens(machine, 21)
    guess_by_ftp(machine, attacker)
    assert machine.run(["stat", "-c", "%a %U:%G", "/var/log/vsftpd.log"]).stdout == "600 root:root\n"
    host.start()
    failed = ("failed", "not permitted to read /var/log/vsftpd.log; see: banagent check")
    machine.wait_for(lambda: state(host, "vsftpd") == failed)
    assert state(host, "nginx-http-auth") == ("active", None)
    host.attack(NEAR[1])
    host.banned(NEAR[1])

    checked = machine.run([COMMAND, "check"], check=False)
    jails = re.search(r"\d+", checked.stdout)
    assert jails
    assert (checked.returncode, checked.stdout) == (1, UNREADABLE.format(jails=jails[0]))
    remedy(host, checked.stdout)
    becomes_active(host, "vsftpd")
    assert machine.run([COMMAND, "check"]).stdout == UNREADABLE.format(jails=jails[0]).partition("\n")[0] + "\n"
    guess_by_ftp(machine, attacker)
    rotate(machine, "/etc/logrotate.d/vsftpd")
    guess_by_ftp(machine, attacker)
    ban = host.banned(attacker, jail="vsftpd")
    assert ban["BANAGENT_FAILURES"] == str(MAXRETRY)
    host.see_blocked(attacker, jail="vsftpd", port=21)
    assert machine.connects(attacker, 22)


# --- who else writes into the journal ---


def test_a_users_forgery_is_told_once_and_not_counted(agent: Agent) -> None:
    machine, victim = agent.machine, NEAR[5]
    agent.start()
    here = machine.cursor()
    line = f"Failed password for root from {victim} port 22 ssh2"
    # logger is still there when journald looks whose a line is
    forge = f"{{ for i in 1 2 3 4 5; do echo '{line}'; done; sleep 0.3; }} | logger -t sshd -p auth.info"
    assert machine.ssh_attempt(NEAR[0], "alice", "right-pw", command=forge).status == 0
    told = agent.logged(after=here, fits=lambda entry: "not counted" in entry["MESSAGE"])
    forged = machine.journal(f"MESSAGE={line}", after=here)
    assert len(forged) == 5
    assert told["PRIORITY"] == "4"
    assert told["BANAGENT_FILTER"] == "sshd"
    assert told["BANAGENT_UID"] == machine.run(["id", "-u", "alice"]).stdout.strip()
    assert told["BANAGENT_UNIT"] == forged[0]["_SYSTEMD_UNIT"]
    assert re.fullmatch(r"session-\w+\.scope", told["BANAGENT_UNIT"])
    assert told["BANAGENT_PID"] == forged[0]["_PID"]
    agent.attack(NEAR[1])
    agent.banned(NEAR[1])
    assert agent.bans().keys() == {NEAR[1]}
    assert count(agent) == MAXRETRY
    assert len([entry for entry in machine.journal(f"_SYSTEMD_UNIT={UNIT}", after=here) if is_forgery(entry)]) == 1


def is_forgery(entry: Fields) -> bool:
    return "not counted" in entry["MESSAGE"]


def test_what_journald_suppressed_is_said(agent: Agent) -> None:
    machine = agent.machine
    agent.configure(maxretry=1000)
    # journald allows some times as many, by the room that there is on its disk
    limit = "[Service]\nLogRateLimitIntervalSec=2s\nLogRateLimitBurst=1\n"
    agent.write("/etc/systemd/system/ssh.service.d/limit.conf", limit)
    agent.systemctl("daemon-reload")
    agent.systemctl("restart", "ssh.service")
    agent.start()
    here = machine.cursor()

    def suppressed() -> list[str]:
        """Attack; journald says what it dropped with the first entry after the interval."""
        with ThreadPoolExecutor() as attackers:
            list(attackers.map(agent.attack, NEAR[:8], [1] * 8))
        said = (entry["MESSAGE"] for entry in machine.journal("_TRANSPORT=driver", after=here))
        return [match[1] for message in said if (match := re.fullmatch(SUPPRESSED, message))]

    numbers = machine.wait_for(suppressed, timeout=90)
    warning = agent.logged(after=here, fits=lambda entry: "journald dropped entries" in entry["MESSAGE"])
    assert (warning["PRIORITY"], warning["BANAGENT_UNIT"]) == ("4", "ssh.service")
    assert warning["BANAGENT_ENTRIES"] == numbers[0]


SUPPRESSED: Final = r"Suppressed (\d+) messages from ssh\.service"
