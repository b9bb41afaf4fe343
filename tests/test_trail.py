# SPDX-License-Identifier: LGPL-2.1-or-later
"""An entry that ends the agent costs that entry: the third run goes past it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from banagent.config import load
from banagent.core.bans import Bans
from banagent.core.events import JOURNAL, SECOND, Entry
from banagent.core.never import Host
from banagent.core.recognise import Recogniser
from banagent.enforce import Enforcer
from banagent.pipeline import Pipeline
from banagent.sinks.history import History
from banagent.sinks.trail import MARK, Trail
from banagent.sources.batch import Batch
from banagent.sources.journal import Journal
from bed.child import in_child
from bed.journald import make_journal

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.kernel

POISON: Final = b"Failed password for poison from 192.0.2.9 port 4000 ssh2"


def entries() -> Iterator[dict[str, Any]]:
    begin = time.time_ns() // 1000 - 600 * SECOND
    lines = [b"Failed password for root from 192.0.2.1 port 4000 ssh2"] * 4 + [POISON]
    lines += [b"Failed password for root from 192.0.2.1 port 4000 ssh2"] * 3
    for number, line in enumerate(lines):
        yield {
            "__REALTIME_TIMESTAMP": begin + number * SECOND,
            "MESSAGE": line,
            "_SYSTEMD_UNIT": "ssh.service",
            "_UID": 0,
            "_PID": 100 + number,
            "SYSLOG_IDENTIFIER": "sshd",
        }


def run(state: Path, journal: Path) -> None:
    """Be the agent until the journal's end; a clean end takes the trail away."""
    history = History(state / "history.db")
    enforcer = Enforcer(Bans(), history, lambda: time.time_ns() // 1000, dry=True)
    trail = Trail(state / "running")
    pipeline = Pipeline(load(), Host(), history, enforcer, choose=lambda _: frozenset({JOURNAL}), trail=trail)
    reader = Journal(pipeline.routes.filters(), journal)
    position = pipeline.position()
    if position is None:
        reader.seek_time(0)
    else:
        assert reader.resume(position.position, position.time) is None
    while (batch := reader.read(pipeline.sift(), 3)).read:
        pipeline.handle(batch)
    pipeline.save()
    trail.close()
    reader.close()
    enforcer.close()


def die_at_poison(owner: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    act = getattr(owner, name)

    def acting(self: Any, what: Any, *more: Any) -> Any:
        if POISON in (what, getattr(what, "message", None)):
            os.kill(os.getpid(), signal.SIGSEGV)
        return act(self, what, *more)

    monkeypatch.setattr(owner, name, acting)


@contextmanager
def killed(trail: Trail) -> Generator[Trail]:
    """Give the trail of a run that ends without a word, but for its open file, which the kernel would close."""
    yield trail
    assert trail.file is not None
    os.close(trail.file)


@pytest.mark.parametrize("name", ["sift", "offences"])
def test_an_entry_at_which_it_ended_twice_is_skipped(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = make_journal(tmp_path / "journal", entries())
    die_at_poison(Recogniser, name, monkeypatch)
    ends = [in_child(lambda: run(tmp_path, journal)) for _ in range(4)]
    # once by surprise, twice with each entry marked before it is looked at
    assert ends == [signal.SIGSEGV, signal.SIGSEGV, signal.SIGSEGV, 0]
    assert not (tmp_path / "running").exists()
    told = "".join(capfd.readouterr())
    assert told.count("skipped an entry: the agent ended at it twice") == 1
    history = History(tmp_path / "history.db")
    (record,) = history.records()
    history.close()
    assert (str(record.ban.address), record.ban.failures) == ("192.0.2.1", 5)


def test_who_is_killed_anywhere_else_skips_nothing(tmp_path: Path) -> None:
    path = tmp_path / "running"
    for mark in ("a", "b", "a", "c"):  # of two ends at one mark the second is one too many
        with killed(Trail(path)) as trail:
            assert trail.step("a") is (mark != "c")
            assert trail.step(mark) is True
    with killed(Trail(path)) as trail:
        assert trail.step("d")


def test_a_trail_that_can_not_be_kept_is_none(tmp_path: Path) -> None:
    trail = Trail(tmp_path / "nowhere" / "running")
    assert not trail.careful
    assert trail.step("a")
    trail.calm()
    trail.close()
    (tmp_path / "running").write_bytes(b"\xff" * 2000)
    with killed(Trail(tmp_path / "running")) as damaged:
        assert damaged.careful
        assert damaged.step("a")


def test_an_end_while_it_saves_is_of_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    former = Trail(tmp_path / "trail")  # of a run that ended without a word
    assert former.file is not None
    os.close(former.file)
    trail = Trail(tmp_path / "trail")
    assert trail.careful
    history = History(tmp_path / "history.db")
    enforcer = Enforcer(Bans(), history, lambda: 0, dry=True)
    pipeline = Pipeline(
        load(root=tmp_path), Host(), history, enforcer, choose=lambda _: frozenset({JOURNAL}), trail=trail
    )
    marks: list[bytes] = []

    def save(_: object) -> None:
        marks.append((tmp_path / "trail").read_bytes()[:MARK].strip())

    monkeypatch.setattr(enforcer, "save", save)
    line = b"Failed password for root from 192.0.2.1 port 4000 ssh2"
    entry = Entry(SECOND, line, "p1", 0, "ssh.service", None, 1)
    pipeline.handle(Batch([(entry, pipeline.sift()(line))], 1, "p1", SECOND, all_read=True))
    assert marks == [b""]
    assert pipeline.failures == 1
    trail.close()
    enforcer.close()
