# SPDX-License-Identifier: LGPL-2.1-or-later
"""The examples in the man pages that ask an agent, played; and the page about the interface, compared with it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from banagent import __version__, cli
from banagent.control import INTERFACE, READING
from banagent.control.service import read_interface
from verbs.answering import ago, ahead, ban, jail, status

if TYPE_CHECKING:
    from verbs.answering import Answering
    from verbs.conftest import Prompt

MAN: Final = Path(__file__).parents[2] / "man"
PAGE: Final = (MAN / "banagent.8").read_text()
VARLINK: Final = (MAN / "banagent.varlink.7").read_text()
UNPLAYED: Final = {"check", "timespan", "run", "test", "replay"}  # they ask no agent: tests/test_docs.py has them
ATTACKER: Final = "198.51.100.23"


def record(address: str, **facts: Any) -> dict[str, Any]:
    day: dict[str, Any] = {
        "start": ago(hours=2, minutes=41, seconds=30),
        "end": ahead(hours=21, minutes=18, seconds=30),
        "bantime": 86_400,
    }
    return ban(address, **(day | facts))


@pytest.fixture
def scene(agent: Answering) -> Answering:
    """The machine that the examples were typed on."""
    latest = [
        record(ATTACKER, user="admin"),
        record("2001:db8:aa:1::/64", user="root"),
        record(
            "203.0.113.0/24",
            jail="manual",
            failures=0,
            end=None,
            bantime=None,
            user=None,
            filter="manual",
            pattern="manual",
            comment="scans",
        ),
    ]
    full = {
        "subject": "history",
        "text": "cannot write the history: database or disk is full",
        "since": ago(hours=2, minutes=5, seconds=30),
    }
    sshd = jail("sshd", bantime=86_400, bans=2)
    read = ago(seconds=0)
    agent.replies |= {
        "Status": status(
            version=__version__,
            bans=3,
            latest=latest,
            attention=[full],
            jails=[sshd],
            read=read,
            start=ago(days=3, hours=4),
        ),
        "Jails": {"jails": [sshd]},
        "List": {"bans": latest[:2]},
        "History": {
            "bans": [
                latest[0],
                record(
                    ATTACKER,
                    start="2026-01-12T03:10:00Z",
                    end="2026-01-13T03:10:00Z",
                    lifted="2026-01-13T03:10:00Z",
                    reason="expired",
                    user="root",
                ),
            ]
        },
        "Why": {
            "address": ATTACKER,
            "bans": latest[:1],
            "entries": [
                {
                    "time": ago(hours=2, minutes=41, seconds=32 - number),
                    "position": "s=1",
                    "jail": "sshd",
                    "pattern": "password",
                    "message": f"Failed password for admin from {ATTACKER}",
                }
                for number in (0, 1)
            ],
            "counts": [
                {"jail": "sshd", "counts": "failures", "failures": 0, "maxretry": 5, "findtime": 3600, "ignored": None}
            ],
        },
        "Allowed": {
            "allowed": [
                {
                    "address": ATTACKER,
                    "start": ago(seconds=0),
                    "end": ahead(hours=7, minutes=59, seconds=30),
                    "comment": "Ada, hotel",
                }
            ]
        },
        "Disallow": {"disallowed": 1},
        "Get": {
            "settings": [
                {"key": "jails.sshd.maxretry", "value": "5", "file": None, "line": None, "replaces": None},
            ]
        },
        "Set": {
            "settings": [
                {"key": "jails.sshd.maxretry", "value": "8", "file": "banagent set", "line": 2, "replaces": None},
            ],
            "written": "[jails.sshd]\nmaxretry = 8\n",
        },
        "GetConfig": {
            "settings": [
                {
                    "key": "jails.sshd.enabled",
                    "value": "true",
                    "file": "/usr/lib/banagent/banagent.toml",
                    "line": 38,
                    "replaces": {"value": "false", "file": None, "line": None},
                },
                {
                    "key": "jails.sshd.bantime",
                    "value": '"1d"',
                    "file": "/etc/banagent/banagent.toml",
                    "line": 2,
                    "replaces": {"value": '"1h"', "file": None, "line": None},
                },
            ]
        },
    }
    agent.bans = [record(ATTACKER), record("2001:db8:aa:1::/64"), record("203.0.113.0/24", jail="manual")]
    agent.happen("banned", address=ATTACKER, jail="sshd", user="admin")
    agent.happen("off")
    return agent


def unescaped(text: str) -> str:
    for escape, char in ((r"\-", "-"), (r"\&", ""), (r"\(dq", '"'), (r"\(aq", "'"), (r"\e", "\\")):
        text = text.replace(escape, char)
    return text


def examples() -> list[tuple[str, str]]:
    """Give each command of banagent(8) that asks the agent, with the lines that it is said to print."""
    blocks = re.findall(r"^\.Bd -literal.*\n((?:.*\n)*?)\.Ed$", PAGE, re.MULTILINE)
    parts = [part for block in blocks for part in re.split(r"^# ", unescaped(block), flags=re.MULTILINE)[1:]]
    pairs = [(command, told) for command, _, told in (part.partition("\n") for part in parts)]
    # --offline would reach the kernel of this very machine; test_offline.py has it
    return [pair for pair in pairs if verb_of(pair[0]) not in UNPLAYED | {None} and "--offline" not in pair[0]]


def verb_of(command: str) -> str | None:
    program, *words = shlex.split(command)
    return words[0] if program == "banagent" else None


def masked(text: str) -> str:
    """Blank out what the time of day makes of it."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "YYYY-MM-DD hh:mm:ss", text)


@pytest.mark.usefixtures("scene")
@pytest.mark.parametrize(("command", "told"), examples())
def test_example(
    prompt: Prompt,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
    told: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "76")  # the page is indented
    monkeypatch.chdir(tmp_path)
    Path("bad.txt").write_text("192.0.2.7 # the first\n192.0.2.8\n")
    said = prompt(*shlex.split(command)[1:])
    assert said.err == ""
    assert masked(said.out) == masked(told)


def test_each_verb_has_an_example() -> None:
    assert {verb_of(command) for command, _ in examples()} == {name for name in cli.parsers() if name} - UNPLAYED


# --- banagent.varlink(7) ---


def heads(macro: str) -> list[str]:
    return re.findall(rf"^\.It {macro} (.*)$", VARLINK, re.MULTILINE)


def test_methods_are_those_of_the_interface() -> None:
    interface = read_interface(INTERFACE)
    told = {head.split()[0]: head for head in heads("Fn")}
    assert sorted(told) == sorted(interface.methods)
    assert {name for name, head in told.items() if "reading" in head} == READING


def test_errors_are_those_of_the_interface() -> None:
    assert sorted(heads("Er")) == sorted(read_interface(INTERFACE).errors)
