# SPDX-License-Identifier: LGPL-2.1-or-later
"""While the history can't be read nobody has a record: bans are made all the same, and it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from banagent.config import load
from banagent.core.bans import Bans
from banagent.core.events import JOURNAL, SECOND, Entry
from banagent.core.never import Host
from banagent.enforce import Enforcer
from banagent.pipeline import Pipeline
from banagent.sinks.history import History
from banagent.sinks.trail import Trail
from banagent.sources.batch import Batch

if TYPE_CHECKING:
    from pathlib import Path

LINE = b"Failed password for root from 192.0.2.1 port 4000 ssh2"


def fail(pipeline: Pipeline, second: int) -> None:
    """Hand in five failures."""
    sift = pipeline.sift()
    entries = [
        (Entry((second + n) * SECOND, LINE, f"p{second}.{n}", 0, "ssh.service", None, second + n), sift(LINE))
        for n in range(5)
    ]
    pipeline.handle(Batch(entries, 5, entries[-1][0].position, entries[-1][0].time, all_read=True))


def test_a_history_that_can_not_be_read(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")
    enforcer = Enforcer(Bans(), history, lambda: 0, dry=True)
    config = load(root=tmp_path)
    pipeline = Pipeline(config, Host(), history, enforcer, choose=lambda _: frozenset({JOURNAL}), trail=Trail(None))
    fail(pipeline, 1000)
    fail(pipeline, 10_000)
    history._db.execute("ALTER TABLE bans RENAME TO lost")  # pyright: ignore[reportPrivateUsage] - a fault as the disk may make it
    with capture_logs() as logs:
        fail(pipeline, 100_000)
        fail(pipeline, 200_000)
    assert [entry["reason"] for entry in logs if entry["event"] == "trouble"] == ["history"]
    assert [entry["bantime"] for entry in logs if entry["event"] == "would ban"] == [3600, 7200]
    # those that it could not take are on their way still, and are all there is
    history._db.execute("ALTER TABLE lost RENAME TO bans")  # pyright: ignore[reportPrivateUsage] - a fault as the disk may make it
    with capture_logs() as logs:
        fail(pipeline, 300_000)
    assert [entry["bantime"] for entry in logs if entry["event"] == "would ban"] == [3600 * 2**4]
    assert "history" not in enforcer.troubles
    enforcer.close()
