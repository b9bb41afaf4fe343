# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command as a process: pipes that close, full disks, locales, colours, signals, and how quick it is."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from banagent import cli
from verbs.answering import HOSTILE, PATIENCE, WIDE, ban, status

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from verbs.answering import Answering
    from verbs.conftest import Prompt

HEAVY = {"typing", "pathlib", "asyncio", "inspect", "structlog", "pyroute2", "systemd", "tomli", "re2", "sqlite3"}


@contextmanager
def started(socket: Path, *words: str, **more: str) -> Generator[subprocess.Popen[str]]:
    # where the tests themselves run in the background, ^C is ignored, and children inherit that
    command = ["env", "--default-signal=INT", sys.executable, "-m", "banagent", "--socket", str(socket), *words]
    with subprocess.Popen(
        command, env={**os.environ, **more}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))


@pytest.mark.parametrize("words", [("list", "--json"), ("list",), ("history",), ("completion", "bash")])
def test_a_reader_that_has_enough(agent: Answering, socket: Path, words: tuple[str, ...]) -> None:
    agent.bans = [ban(f"10.0.{number >> 8}.{number & 255}", user="x" * 50) for number in range(20_000)]
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, "-m", "banagent", "--socket", str(socket), *words], stdout=write, stderr=subprocess.PIPE
    ) as process:
        os.close(write)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, b"")


UNWRITTEN = {">/dev/full": "No space left on device", ">&-": "Bad file descriptor"}


@pytest.mark.parametrize("where", UNWRITTEN)
@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("list", "--json"),
        ("config", "--diff"),
        ("completion", "bash"),
        ("--help",),
        ("ban", "--help"),
        ("--version",),
    ],
    ids=" ".join,
)
def test_what_can_not_be_written(agent: Answering, socket: Path, words: tuple[str, ...], where: str) -> None:
    agent.bans = [ban("192.0.2.1")]
    agent.replies["GetConfig"] = {
        "settings": [{"key": "a", "value": "1", "file": "/etc/b", "line": 1, "replaces": None}]
    }
    done = redirected(where, "--socket", str(socket), *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"banagent: can't write: {UNWRITTEN[where]}\n"


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", ">&- 2>&-"])
def test_an_error_that_can_not_be_written(tmp_path: Path, where: str) -> None:
    done = redirected(where, "--socket", str(tmp_path / "nobody"), "status")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_input_that_is_closed(tmp_path: Path) -> None:
    done = redirected("<&-", "--socket", str(tmp_path / "nobody"), "ban", "-")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "banagent: standard input is closed\n")


def redirected(where: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a redirection of the shell's."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {where}', "sh", sys.executable, "-m", "banagent", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_following(agent: Answering, socket: Path) -> None:
    agent.happen("banned", failures=1)
    with started(socket, "events", "--follow", "--since", "1", "--json") as process:
        assert process.stdout
        for number in (1, 2, 3):
            assert json.loads(process.stdout.readline())["failures"] == number
            agent.happen("banned", failures=number + 1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (-signal.SIGINT, "")  # the kernel ended it: Python could miss the signal


def test_following_an_agent_that_ends(agent: Answering, socket: Path) -> None:
    agent.happen("banned", failures=1)
    with started(socket, "events", "--follow", "--since", "1") as process:
        assert process.stdout
        assert process.stdout.readline().startswith("1 ")
        agent.end()
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err.endswith("to go on: banagent events --follow --since 2\n")


@pytest.mark.parametrize("verb", ["status", "list", "history"])
@pytest.mark.parametrize(
    "locale",
    [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C.UTF-8"}],
    ids=lambda env: "".join(env.values()),
)
def test_enemies_in_any_locale(agent: Answering, prompt: Prompt, verb: str, locale: dict[str, str]) -> None:
    agent.bans = [ban("192.0.2.1", user=HOSTILE, comment=WIDE)]
    agent.replies["Status"] = status(latest=agent.bans)
    done = subprocess.run(
        [sys.executable, "-m", "banagent", "--socket", str(prompt.path), verb],
        env={**os.environ, **locale, "COLUMNS": "200"},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"eve\\x1b[2J\\x1b]0;owned\\x07\\u202e\\u0301" in done.stdout
    is_utf8 = locale.get("LC_ALL") == "C.UTF-8"
    assert (WIDE.encode() in done.stdout) == is_utf8
    assert done.stdout.isascii() != is_utf8


@pytest.mark.parametrize(
    ("env", "colours"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
@pytest.mark.usefixtures("agent")
def test_colours_on_a_terminal_only(prompt: Prompt, env: dict[str, str], colours: bool) -> None:  # noqa: FBT001 - a table
    assert "\x1b" not in prompt.run("status", env=env).out
    main, side = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "banagent", "--socket", str(prompt.path), "status"],
            env={**os.environ, **env},
            stdout=side,
            timeout=PATIENCE,
            check=True,
        )
        shown = _read(main)
    finally:
        os.close(side)
        os.close(main)
    assert (b"\x1b[" in shown) == colours
    assert b"banagent 0.1.0 protects this host" in shown


def _read(descriptor: int) -> bytes:
    shown = b""
    while select.select([descriptor], [], [], 0)[0]:
        shown += os.read(descriptor, 65536)
    return shown


# --- quickness: not a time, which this machine may take from us, but what it is made of ---


@pytest.mark.parametrize(
    "words", [("--help",), ("status", "--help"), ("status",), ("list",), ("unban", "192.0.2.1"), ("ban", "192.0.2.1")]
)
def test_what_a_quick_verb_imports(agent: Answering, socket: Path, words: tuple[str, ...]) -> None:
    agent.bans = [ban("192.0.2.1")]
    # without site, whose .pth files import what they like
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-S", "-m", "banagent", "--socket", str(socket), *words],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    imported = {line.split("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    allowed = {"pathlib"}  # `python -m` imports it, the installed command doesn't
    if words[0] in ("ban", "unban"):
        allowed.add("typing")
    assert done.returncode == 0
    assert imported & HEAVY <= allowed


def test_the_agent_goes_without_what_only_others_need(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("nonsense = 1")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "banagent", "run", "--config", str(tmp_path / "config.toml")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    imported = {line.split("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "nonsense" in done.stderr
    assert {"asyncio", "structlog", "banagent.sinks.nft.encoder"} <= imported
    assert not imported & {"_ssl", "rich.console", "pyroute2.ndb.main"}


@pytest.mark.parametrize(("words", "times"), [(("status",), 6.0), (("--help",), 4.0)])
@pytest.mark.usefixtures("agent")
def test_what_a_quick_verb_costs(socket: Path, words: tuple[str, ...], times: float) -> None:
    """Compared with Python's own start, 15 ms where these are 60 and 40: a loaded machine slows both."""

    def cpu(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, timeout=PATIENCE, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    verb = ("-c", "import sys; from banagent.cli import main; sys.exit(main())", "--socket", str(socket), *words)
    assert min(cpu(*verb) for _ in range(7)) < times * min(cpu("-c", "pass") for _ in range(7))


def test_help_is_80_columns_wide(prompt: Prompt) -> None:
    top = prompt("--help")
    verbs = re.findall(r"^    ([a-z]+) ", top.out, re.MULTILINE)
    assert verbs == [name for name in cli.parsers() if name]
    for words in [(), *((verb,) for verb in verbs)]:
        said = prompt(*words, "--help")
        assert (said.status, said.err) == (0, "")
        assert max(map(len, said.out.splitlines())) <= 80
