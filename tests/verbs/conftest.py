# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the verbs share: an agent that answers, and a prompt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from banagent import cli
from verbs.answering import PATIENCE, answering

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verbs.answering import Answering

AGENT = Path(__file__).parents[2] / "agent"


class Said(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Prompt:
    """Type commands that go to one socket: in this process, or as a real one."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capsys = capsys

    def __call__(self, *words: str) -> Said:
        try:
            status = cli.main(["--socket", str(self.path), *words])
        except SystemExit as end:  # argparse's
            status = int(end.code or 0)
        captured = self._capsys.readouterr()
        return Said(status, captured.out, captured.err)

    def run(self, *words: str, stdin: str = "", env: dict[str, str] | None = None) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "banagent", "--socket", str(self.path), *words],
            input=stdin,
            env={**os.environ, "PYTHONPATH": str(AGENT), **(env or {})},
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be logged in from nowhere, in a plain locale and zone, without a screen's width."""
    for name in ("SSH_CONNECTION", "COLUMNS", "LC_ALL", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "socket"


@pytest.fixture
def agent(socket: Path) -> Iterator[Answering]:
    with answering(socket) as made:
        yield made


@pytest.fixture
def prompt(socket: Path, capsys: pytest.CaptureFixture[str]) -> Prompt:
    return Prompt(socket, capsys)
