# SPDX-License-Identifier: LGPL-2.1-or-later
"""`replay`: the bans that would have been made, of files and of a real journal."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bed.journald import Journald
    from verbs.conftest import Prompt

# 192.0.2.0/24 is what test beds live in: their gateways are never banned
KEYS = ["address", "jail", "start", "end", "bantime", "failures", "earlier", "user", "filter", "pattern"]
# two jails that read one log, one of them for twice the time
CONFIG = """
[defaults]
maxretry = 3
findtime = "10m"

[jails.sshd]
enabled = true
bantime = "1h"

[jails.slow]
enabled = true
filter = "sshd"
maxretry = 4
findtime = "1d"
bantime = "permanent"
ignoreip = ["198.51.100.2"]
"""


@pytest.fixture
def config(tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "banagent.toml"
    path.write_text(CONFIG)
    return "--config", str(path)


def failed(minute: int, address: str, number: int = 0, user: str = "bob") -> str:
    stamp = f"2026-01-31T{minute // 60:02d}:{minute % 60:02d}:00Z"
    return f"{stamp} host sshd[{1000 + number}]: Failed password for {user} from {address} port 22 ssh2\n"


def bans(found: list[dict[str, Any]]) -> list[tuple[str, str, str, str | None]]:
    return [(ban["address"], ban["jail"], ban["start"], ban["end"]) for ban in found]


def test_bans_of_a_log(prompt: Prompt, tmp_path: Path, config: tuple[str, str]) -> None:
    path = tmp_path / "log"
    path.write_text(
        "".join(failed(minute, "198.51.100.1", minute) for minute in (0, 5, 9))  # in time
        + "".join(
            failed(minute, "198.51.100.2", minute) for minute in (10, 25, 40, 55)
        )  # too slow for one, ignored by one
        + "".join(failed(minute, "2001:db8::5", minute) for minute in (60, 61))
        + failed(62, "2001:db8::6", 99, "eve")  # of the same /64
        + failed(63, "198.51.100.1", 63)  # while it is banned
        + "".join(failed(minute, "198.51.100.1", minute) for minute in (70, 71, 72))  # after that
    )
    said = prompt("replay", *config, "--json", str(path))
    assert (said.status, said.err) == (0, "")
    assert [list(ban) for ban in said.json] == [KEYS] * 4
    *first, again = bans(said.json)
    assert (again[:2], again[2] > "2026-01-31T01:09:00Z") == (("198.51.100.1", "sshd"), True)  # as who comes again
    assert first == [
        ("198.51.100.1", "sshd", "2026-01-31T00:09:00Z", "2026-01-31T01:09:00Z"),
        ("2001:db8::/64", "sshd", "2026-01-31T01:02:00Z", "2026-01-31T02:02:00Z"),
        ("198.51.100.1", "slow", "2026-01-31T01:03:00Z", None),
    ]
    told = ("bantime", "failures", "user", "filter", "pattern")
    assert [said.json[1][key] for key in told] == [3600, 3, "eve", "sshd", "failed"]
    assert said.json[2]["bantime"] is None
    assert bans(prompt("replay", *config, "--jail", "slow", "--json", str(path)).json) == [bans(said.json)[2]]


def test_table(prompt: Prompt, tmp_path: Path, config: tuple[str, str]) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress("".join(failed(n, "198.51.100.1", n, "\x1b[2J") for n in range(4)).encode()))
    said = prompt("replay", *config, str(path))
    assert said.status == 0
    assert said.out.splitlines() == [
        "START                END                  ADDRESS       JAIL        FOR  FAILS  PATTERN  USER",
        r"2026-01-31 00:02:00  2026-01-31 01:02:00  198.51.100.1  sshd         1h      3  failed   \x1b[2J",
        r"2026-01-31 00:03:00  never                198.51.100.1  slow  permanent      4  failed   \x1b[2J",
        "",
        "2 bans of 1 address would have been made for 4 lines; jails: slow, sshd",
    ]


def test_nothing(prompt: Prompt, tmp_path: Path, config: tuple[str, str]) -> None:
    said = prompt.run("replay", *config, stdin=failed(0, "198.51.100.1") * 2)
    assert (said.status, said.err) == (1, "")
    assert said.out == "0 bans of 0 addresses would have been made for 2 lines; jails: slow, sshd\n"
    assert prompt("replay", *config, "--json", str(tmp_path / "banagent.toml")).out == "[]\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--jail", "no-such", "/dev/null"), "no jail no-such"),
        (("/dev/null", "--journal"), "give logs, or --journal, and only one of these"),
        (("/dev/null", "--since", "7d"), "--since is for --journal"),
        (("no-such",), 'can\'t read "no-such": No such file or directory'),
    ],
)
def test_what_is_refused(prompt: Prompt, config: tuple[str, str], words: tuple[str, ...], complaint: str) -> None:
    said = prompt("replay", *config, *words)
    assert (said.status, said.out) == (2, "")
    assert complaint in said.err


def test_a_jail_that_is_off(prompt: Prompt, tmp_path: Path) -> None:
    (tmp_path / "off.toml").write_text("[jails.sshd]\nenabled = false\nmaxretry = 1\n")
    (tmp_path / "log").write_text(failed(0, "198.51.100.1"))
    words = ("replay", "--config", str(tmp_path / "off.toml"), str(tmp_path / "log"))
    assert prompt(*words).status == 2
    assert prompt(*words, "--jail", "sshd").status == 0


def test_formats_of_the_jails(prompt: Prompt, tmp_path: Path) -> None:
    """A log that a jail would never read is taken for one of its own."""
    (tmp_path / "web.toml").write_text("[jails.nginx-http-auth]\nenabled = true\nmaxretry = 2\n")
    line = '198.51.100.1 - bob [31/Jan/2026:03:00:0%d +0000] "GET / HTTP/1.1" 401 179 "-" "curl"\n'
    (tmp_path / "any.name").write_text(line % 1 + line % 2)
    said = prompt("replay", "--config", str(tmp_path / "web.toml"), "--json", str(tmp_path / "any.name"))
    assert [(ban["address"], ban["jail"], ban["start"]) for ban in said.json] == [
        ("198.51.100.1", "nginx-http-auth", "2026-01-31T03:00:02Z")
    ]


@pytest.mark.kernel
def test_bans_of_a_journal(
    prompt: Prompt, journald: Journald, sshd: Callable[..., None], config: tuple[str, str]
) -> None:
    sshd("198.51.100.1", 3)
    sshd("198.51.100.2", 2)
    journald.sync()
    words = ("replay", *config, "--journal", str(journald.path))
    assert [(ban["address"], ban["jail"]) for ban in prompt(*words, "--json").json] == [("198.51.100.1", "sshd")]
    assert prompt(*words, "--since", "1h").status == 0
    assert prompt(*words, "--since", "2099-01-01").status == 1
