# SPDX-License-Identifier: LGPL-2.1-or-later
"""From where one is logged in: parsing, and the look-up through real processes above."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from banagent.verbs import caller

SESSION = "# This is private data. Do not parse.\nUID=0\nREMOTE=1\nREMOTE_HOST={}\nTTY=pts/0\nLEADER=812\n"


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("203.0.113.9 50000 192.0.2.1 22", "203.0.113.9"),
        ("2001:db8::9 50000 2001:db8::1 22", "2001:db8::9"),
        ("fe80::9%eth0 50000 fe80::1%eth0 22", "fe80::9"),
        ("::ffff:203.0.113.9 50000 ::ffff:192.0.2.1 22", "203.0.113.9"),
        ("UNKNOWN 65535 UNKNOWN 65535", None),  # what sshd says of a socket that is none
        ("", None),
        ("nonsense", None),
    ],
)
def test_connection(value: str, address: str | None) -> None:
    assert caller.of_connection(value) == address
    variables = b"HOME=/root\0SSH_CONNECTION=" + value.encode() + b"\0TERM=xterm\0"
    assert caller.of_environment(variables) == address


@pytest.mark.parametrize("content", [b"", b"\0\0", b"XSSH_CONNECTION=192.0.2.1 1 1 1", b"SSH_CONNECTION=\xff 1"])
def test_environment_without_it(content: bytes) -> None:
    assert caller.of_environment(content) is None


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8::9", "2001:db8::9"),
        ('"203.0.113.9"', "203.0.113.9"),
        ("host.example.org", None),
        ("", None),
    ],
)
def test_session_file(host: str, address: str | None) -> None:
    assert caller.of_session_file(SESSION.format(host)) == address


def test_session_file_of_a_local_session() -> None:
    assert caller.of_session_file("UID=0\nREMOTE=0\nTTY=tty1\n") is None
    assert caller.of_session_file("") is None


@pytest.mark.parametrize(
    ("audit", "cgroup", "session"),
    [
        ("3\n", "0::/user.slice/user-1000.slice/session-7.scope\n", "3"),
        ("4294967295\n", "0::/user.slice/user-1000.slice/session-7.scope\n", "7"),
        ("", "0::/user.slice/user-0.slice/session-c2.scope\n", "c2"),
        ("", "12:pids:/user.slice/session-7.scope\n1:name=systemd:/user.slice/session-7.scope\n", "7"),
        ("4294967295", "0::/system.slice/cron.service\n", None),
        ("4294967295", "0::/session-../../x.scope\n", None),
        ("", "", None),
    ],
)
def test_session(audit: str, cgroup: str, session: str | None) -> None:
    assert caller.session_of(audit, cgroup) == session


def test_parent() -> None:
    assert caller.parent_of(Path("/proc/self/status").read_text()) == os.getppid()
    assert caller.parent_of("") == 0


@pytest.mark.parametrize("between", [[], ["env", "-i"], ["env", "-i", "sh", "-c", '"$@"; :', "sh"]])
def test_what_sudo_takes_away_the_shell_above_has(between: list[str]) -> None:
    """`env -i` stands for sudo: it starts the command with none of its own variables."""
    ask = [
        sys.executable,
        "-c",
        "import sys; sys.path[:] = sys.argv[1:]; from banagent.verbs import caller; print(caller.address())",
    ]
    shell = ["sh", "-c", '"$@"; :', "sh"]  # which stays, as a login shell does
    done = subprocess.run(
        [*shell, *between, *ask, *sys.path],
        env={"PATH": os.environ["PATH"], "SSH_CONNECTION": "203.0.113.9 50000 192.0.2.1 22"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "203.0.113.9\n"
