# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completion, as real shells do it: each verb and option of the parser, and what the agent knows."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from banagent import cli
from verbs.answering import PATIENCE, ban, jail

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verbs.answering import Answering
    from verbs.conftest import Prompt

VERBS = [name for name in cli.parsers() if name]
# Debian's zsh and fish are not among what the tests need of a machine: their scripts are checked where they are there
SHELLS = [
    shell
    if shell == "bash"
    else pytest.param(shell, marks=pytest.mark.skipif(not shutil.which(shell), reason=f"no {shell}"))
    for shell in ("bash", "zsh", "fish")
]
BASH = """
source "$1"; COMP_LINE=$2; COMP_POINT=${#2}; COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
read -ra COMP_WORDS <<<"$2"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_banagent; printf '%s\\n' "${COMPREPLY[@]}"
"""
# a shell in a shell: completion works in the line editor alone
ZSH = """
zmodload zsh/zpty
zpty shell zsh -i
zpty -w -n shell "$1"$'\\t'
while zpty -r shell; do :; done >/dev/null
zpty -d shell
"""
ZSHRC = """
autoload -Uz compinit; compinit -u -D
source $SCRIPT
compadd() { local -a found; builtin compadd -O found "$@"; print -rl -- $found >>$OFFERED; builtin compadd "$@" }
ask() { _main_complete; exit }
zle -C ask complete-word ask; bindkey '^I' ask
"""


@pytest.fixture
def complete(
    socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: Prompt
) -> Callable[[str, str], set[str]]:
    """Give what a shell offers at the end of a line; `banagent` in it asks the agent of the test."""
    command = tmp_path / "bin/banagent"
    command.parent.mkdir()
    python = " ".join(map(shlex.quote, [sys.executable, "-m", "banagent", "--socket", str(socket)]))
    command.write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()

    def ask(shell: str, line: str) -> set[str]:
        script = tmp_path / "script"
        script.write_text(prompt("completion", shell).out)
        offered = tmp_path / "offered"
        (tmp_path / ".zshrc").write_text(ZSHRC)
        commands = {
            "bash": ["bash", "--norc", "-c", BASH, "bash", str(script), line],
            "zsh": ["zsh", "-f", "-c", ZSH, "zsh", line],
            "fish": ["fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", str(script), line],
        }
        done = subprocess.run(
            commands[shell],
            env={**os.environ, "ZDOTDIR": str(tmp_path), "SCRIPT": str(script), "OFFERED": str(offered)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        assert done.stderr == ""
        words = offered.read_text() if shell == "zsh" and offered.exists() else done.stdout
        return {word.partition("\t")[0] for word in words.splitlines()} - {""}

    return ask


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_one(prompt: Prompt, tmp_path: Path, shell: str) -> None:
    script = tmp_path / "script"
    script.write_text(prompt("completion", shell).out)
    assert subprocess.run([shell, "-n", script], capture_output=True, timeout=PATIENCE, check=True).stderr == b""


OFFERED = [
    ("banagent ", set(VERBS)),
    ("banagent un", {"unban"}),
    ("banagent list --j", {"--jail", "--json"}),
    ("banagent unban --o", {"--offline"}),
    ("banagent list --jail ", {"sshd", "web"}),
    ("banagent status w", {"web"}),
    ("banagent unban 192.", {"192.0.2.1", "192.0.2.17"}),
    ("banagent unban 198.51.100.9 192.", {"192.0.2.1", "192.0.2.17"}),
    ("banagent why 192.0.2.17", {"192.0.2.17"}),
    ("banagent completion f", {"fish", "filters"}),
    ("banagent check --config a-", {"a-file"}),
    ("banagent ban --for ", set[str]()),
    ("banagent test --filter ssh", {"sshd", "ssh-root"}),
    ("banagent test --mode ag", {"aggressive"}),
    ("banagent test a-", {"a-file"}),
    ("banagent no-such-verb ", set[str]()),
    ("banagent get ", {"sshd", "web"}),
    ("banagent get sshd maxr", {"maxretry"}),
    ("banagent get --json sshd bantime.m", {"bantime.multipliers", "bantime.maxtime"}),
    ("banagent set sshd maxr", {"maxretry"}),
    ("banagent set --add sshd igno", {"ignoreip"}),
    ("banagent set sshd mode d", {"ddos"}),
    ("banagent set sshd source ", {"auto", "journal", "files"}),
    ("banagent set sshd bantime.increment ", {"true", "false"}),
    ("banagent set sshd ports ", {"all"}),
    ("banagent set sshd maxretry ", set[str]()),
    ("banagent set sshd mode ddos --per", {"--persist"}),
]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("line", "offered"), OFFERED)
def test_offered(
    agent: Answering, complete: Callable[[str, str], set[str]], shell: str, line: str, offered: set[str]
) -> None:
    agent.bans = [ban("192.0.2.1"), ban("192.0.2.17"), ban("2001:db8:1::/64"), ban("2001:db8:2::/64")]
    agent.replies["Jails"] = {"jails": [jail("sshd"), jail("web")]}
    assert complete(shell, line) == offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("banagent unban 2001:db8:1", {"1::/64"}),  # readline has taken the rest already
        ("banagent unban 2001:", {"db8:1::/64", "db8:2::/64"}),
        ("banagent --socket a-", {"a-file"}),
        ("banagent --socket x sta", {"status"}),
        ("banagent -", {"-h", "--help", "--version", "--socket"}),
    ],
)
def test_offered_by_bash(
    agent: Answering, complete: Callable[[str, str], set[str]], line: str, offered: set[str]
) -> None:
    agent.bans = [ban("2001:db8:1::/64"), ban("2001:db8:2::/64")]
    assert complete("bash", line) == offered


@pytest.mark.parametrize("verb", VERBS)
def test_each_option(complete: Callable[[str, str], set[str]], verb: str) -> None:
    options = {name for action in cli.parsers()[verb]._actions for name in action.option_strings}  # pyright: ignore[reportPrivateUsage]
    assert complete("bash", f"banagent {verb} -") == options


def test_filters_need_no_agent(prompt: Prompt) -> None:
    said = prompt("completion", "filters")
    assert (said.status, said.err) == (0, "")
    assert {"sshd", "postfix"} < set(said.out.split())


@pytest.mark.parametrize("what", ["jails", "addresses"])
def test_silent_without_an_agent(prompt: Prompt, what: str) -> None:
    assert prompt("completion", what) == (1, "", "")


def test_not_too_many(agent: Answering, prompt: Prompt) -> None:
    agent.bans = [ban(f"10.0.{number >> 8}.{number & 255}") for number in range(3000)]
    assert len(prompt("completion", "addresses").out.splitlines()) == 1000
