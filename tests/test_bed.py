# SPDX-License-Identifier: LGPL-2.1-or-later
"""The beds themselves: what they vouch for is there, and nothing is left when they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bed import settled
from bed.journald import Journald, encode, make_journal, service, session, user_unit
from bed.netns import ATTACKER, ATTACKER6, HOST, HOST6, NEIGHBOURS, NEIGHBOURS6

if TYPE_CHECKING:
    from bed.netns import Network

HERE = Path(__file__).parent


def read(path: Path) -> list[dict[str, Any]]:
    """Read all entries but journald's own, as systemd's own reader has them: text, or a list of bytes."""
    command = ["journalctl", "--all", "--quiet", "--output=json", f"--directory={path}"]
    entries = [json.loads(line) for line in subprocess.check_output(command).splitlines()]
    return [entry for entry in entries if entry.get("_TRANSPORT") != "driver"]


def raw(value: str | list[int]) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


# encode: the two forms of the export format


@pytest.mark.parametrize(
    ("fields", "encoded"),
    [
        ({"MESSAGE": "text", "PRIORITY": 6}, b"MESSAGE=text\nPRIORITY=6\n"),
        ({"MESSAGE": b"\xff=\t"}, b"MESSAGE=\xff=\t\n"),
        ({"MESSAGE": b"a\nb"}, b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n"),
        ({"MESSAGE": b"\0"}, b"MESSAGE\n\x01\0\0\0\0\0\0\0\0\n"),
        ({"MESSAGE": ""}, b"MESSAGE=\n"),
        ({"X": [b"1", b"2"]}, b"X=1\nX=2\n"),
    ],
)
def test_encode(fields: dict[str, Any], encoded: bytes) -> None:
    assert encode(fields) == encoded


# made journals


def entry(message: bytes, at: int, **fields: Any) -> dict[str, Any]:
    return {"__REALTIME_TIMESTAMP": at, "MESSAGE": message, **fields}


@pytest.mark.kernel
def test_make_journal_keeps_any_field_and_time(tmp_path: Path) -> None:
    messages = [b"plain", b"with\nnewline", b"with\0NUL and \xff\xfe", b"M" * 1_000_000]
    fields = {"_SYSTEMD_UNIT": "ssh.service", "_UID": 0, "SYSLOG_IDENTIFIER": "sshd"}
    made = make_journal(
        tmp_path / "journal", [entry(m, 1_700_000_000_000_000 + n, **fields) for n, m in enumerate(messages)]
    )
    found = read(made)
    assert [raw(one["MESSAGE"]) for one in found] == messages
    assert [one["__REALTIME_TIMESTAMP"] for one in found] == [str(1_700_000_000_000_000 + n) for n in range(4)]
    assert {(one["_SYSTEMD_UNIT"], one["_UID"]) for one in found} == {("ssh.service", "0")}


@pytest.mark.kernel
def test_make_journal_says_what_it_can_not_write(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="systemd-journal-remote"):
        make_journal(tmp_path / "journal", [{"__REALTIME_TIMESTAMP": "never", "MESSAGE": "text"}])


# the private journald


@pytest.mark.kernel
def test_journald_vouches_for_unit_and_uid(journald: Journald) -> None:
    places = [
        (service("ssh.service"), 0, "ssh.service", None),
        (service("ssh.service"), 1000, "ssh.service", None),
        (session(3, uid=1000), 1000, "session-3.scope", None),
        (user_unit("evil.service", uid=1000), 1000, "user@1000.service", "evil.service"),
        ("", 0, None, None),
    ]
    for cgroup, uid, _, _ in places:
        journald.write("text", cgroup=cgroup, uid=uid)
    found = [(e.get("_UID"), e.get("_SYSTEMD_UNIT"), e.get("_SYSTEMD_USER_UNIT")) for e in read(journald.path)]
    assert found == [(str(uid), unit, user) for _, uid, unit, user in places]


@pytest.mark.kernel
def test_journald_drops_what_a_sender_claims(journald: Journald) -> None:
    journald.write("text", cgroup=service("cron.service"), uid=1000, _SYSTEMD_UNIT="ssh.service", _UID=0, ODD="kept")
    (found,) = read(journald.path)
    assert (found["_SYSTEMD_UNIT"], found["_UID"], found["ODD"]) == ("cron.service", "1000", "kept")


@pytest.mark.kernel
def test_writer_uses_each_way(journald: Journald) -> None:
    with journald.writer() as writer:
        writer.send(b"native\0\n")
        writer.send(b"L" * 1_000_000)
        writer.send(None)
        writer.syslog("syslog")
        writer.stdout(b"S" * 50_000 + b"\n")
    ways = ["journal", "syslog", "stdout"]
    # each way is a socket of its own, and journald keeps the order within one of them only
    found = sorted(read(journald.path), key=lambda one: ways.index(one["_TRANSPORT"]))
    assert [one["_TRANSPORT"] for one in found] == ["journal"] * 3 + ["syslog"] + ["stdout"] * 2
    assert raw(found[0]["MESSAGE"]) == b"native\0\n"
    assert len(found[1]["MESSAGE"]) == 1_000_000
    assert "MESSAGE" not in found[2]
    assert [one.get("_LINE_BREAK") for one in found[4:]] == ["line-max", None]
    assert {one["_COMM"] for one in found} == {"sshd"}


@pytest.mark.kernel
def test_writer_that_is_gone_loses_its_unit(journald: Journald) -> None:
    with journald.frozen(), journald.writer(brief=True) as writer:
        writer.send("text")
    journald.sync()
    (found,) = read(journald.path)
    assert found["_UID"] == "0"
    assert "_SYSTEMD_UNIT" not in found


@pytest.mark.kernel
def test_journald_rotates_and_restarts(journald: Journald) -> None:
    journald.write("one")
    journald.rotate()
    journald.write("two")
    journald.restart()
    journald.write("three")
    assert [one["MESSAGE"] for one in read(journald.path)] == ["one", "two", "three"]
    assert len(list(journald.path.glob("*.journal*"))) > 1


@pytest.mark.kernel
def test_nothing_is_left_when_the_test_is_killed(tmp_path: Path) -> None:
    program = f"""
import signal, subprocess, sys
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from bed.journald import Journald, service
with Journald(Path({str(tmp_path)!r})) as journald:
    sleeper = subprocess.Popen(journald.argv("sleep", "1000", cgroup=service("ssh.service")))
    print(journald.init, journald.cgroup, flush=True)
    signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout
        init, cgroup = victim.stdout.readline().split()
        holder = next(int(child.split()[0]) for child in children(victim.pid) if child.endswith("hold.sh"))
        assert Path(cgroup).is_dir()
        victim.kill()
    # the orphans are ours now (settled.adopt_orphans); the end of the holder is the end of all
    while (ended := os.waitpid(-1, 0))[0] != holder:
        pass
    assert ended[1] == 0
    assert not Path(cgroup).exists()
    assert gone(int(init))


def gone(pid: int) -> bool:
    """Whether the process has ended; its parent may not know yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def children(pid: int) -> list[str]:
    """Give "PID NAME" of the process's children."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [f"{child} {Path(f'/proc/{child}/comm').read_text().strip()}" for child in pids]


# the network

ROUTES = [(ATTACKER, HOST), (ATTACKER6, HOST6), (NEIGHBOURS[0], HOST), (NEIGHBOURS6[0], HOST6), ("203.0.113.250", HOST)]


@pytest.mark.kernel
@pytest.mark.parametrize(("source", "target"), ROUTES)
def test_network_tells_answers_from_silence(network: Network, source: str, target: str) -> None:
    with network.host.listening(22):
        assert network.world.connect(target, 22, source=source) == "connected"
        assert network.world.connect(target, 23, source=source) == "refused"
        assert {network.world.ask(target, 53, source=source) for _ in range(100)} == {"refused"}
        network.host.nft(f"""
            table inet test {{
                chain test {{
                    type filter hook prerouting priority -300
                    {"ip6" if ":" in source else "ip"} saddr {source} drop
                }}
            }}
        """)
        assert network.world.connect(target, 22, source=source) == "silence"
        assert network.world.ask(target, 53, source=source) == "silence"


@pytest.mark.kernel
def test_network_is_not_the_machines(network: Network) -> None:
    here = Path("/proc/self/ns/net").readlink()
    with network.host.entered():
        inside = Path("/proc/thread-self/ns/net").readlink()
    assert Path("/proc/self/ns/net").readlink() == here != inside
    assert network.world.run("readlink", "/proc/self/ns/net").strip() not in (str(here), str(inside))


# nothing is left behind


def test_settled_sees_what_is_left(tmp_path: Path) -> None:
    before = settled.state()
    file = (tmp_path / "file").open("w")
    child = subprocess.Popen(["sleep", "1000"])
    orphan = int(subprocess.check_output(["sh", "-c", "sleep 1000 >/dev/null & echo $!"]))
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="a thread")
    thread.start()
    left = settled.left_behind(before, grace=0)
    go.set()
    thread.join()
    file.close()
    child.wait()
    assert sorted(left) == sorted(
        [
            f"children: {child.pid} sleep",
            f"children: {orphan} sleep",
            "threads: a thread",
            f"descriptors: {left_file(left)}",
        ]
    )
    assert str(tmp_path) in left_file(left)
    assert settled.left_behind(before) == []


def left_file(left: list[str]) -> str:
    return next(line.removeprefix("descriptors: ") for line in left if line.startswith("descriptors: "))


@pytest.mark.kernel
def test_settled_sees_mounts_cgroups_and_namespaces() -> None:
    """In a process of its own, whose mount namespace is private."""
    program = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from bed import cgroups, netns, settled
import subprocess
before = settled.state()
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True)
cgroup = cgroups.new_name(); cgroup.mkdir()
netns._libc.unshare(netns._CLONE_NEWNET)
print([line.split()[0] for line in settled.left_behind(before, grace=0)])
cgroup.rmdir()
"""
    said = subprocess.check_output(["unshare", "--mount", sys.executable, "-c", program], text=True)
    assert said.strip() == "['mounts:', 'cgroups:', 'namespaces:']"


# the tiers


@pytest.mark.kernel
@pytest.mark.parametrize(("ci", "outcome"), [("false", "1 skipped"), ("true", "1 error")])
def test_a_tier_that_can_not_be_run_is_named(ci: str, outcome: str) -> None:
    test = "test_network_is_not_the_machines"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", test, __file__]
    done = subprocess.run(
        [*NOBODY, *command], env={**os.environ, "CI": ci}, cwd=HERE.parent, capture_output=True, text=True, check=False
    )
    assert "kernel           0       0.0   not run: needs root" in done.stdout
    assert outcome in done.stdout.splitlines()[-1]
    assert (done.returncode == 0) == (ci == "false")


# the demo


# root's files may be all that there is; the capability to read them gives no other power
NOBODY = [
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"),
]


def demo(*before: str) -> subprocess.CompletedProcess[str]:
    """Run what `make demo` runs, by way of the command `before`."""
    command = [*before, str(HERE / "bed" / "enter"), sys.executable, str(HERE / "bed" / "demo.py")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.demo
def test_demo_shows_a_whole_ban() -> None:
    began = time.monotonic()
    done = demo()
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 30
    assert done.stderr == ""
    assert done.stdout.rstrip().endswith("and over by itself.")


@pytest.mark.demo
@pytest.mark.parametrize(
    ("before", "why"),
    [
        (["setpriv", "--bounding-set", "-sys_admin", "--"], "the machine forbids namespaces"),
        (NOBODY, "needs root"),
    ],
)
def test_demo_says_what_it_can_not_show(before: list[str], why: str) -> None:
    done = demo(*before)
    assert done.returncode == 77, done.stdout + done.stderr
    assert "would ban jail=sshd address=198.51.100.7 " in done.stdout
    assert "Not shown: the ban in the kernel" in done.stdout
    assert f"Why: {why}" in done.stdout
