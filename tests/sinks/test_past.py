# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the history knows of an address, for the record by which its next ban is judged."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from banagent.core.address import parse_network
from banagent.core.events import Ban
from banagent.core.growth import MOST
from banagent.core.record import Past
from banagent.sinks import history as schema
from banagent.sinks.history import History, Lifted

if TYPE_CHECKING:
    from pathlib import Path

A, B = parse_network("192.0.2.1"), parse_network("2001:db8::/64")


def ban(number: int, *, jail: str = "sshd", failures: int = 5, end: int | None = 100) -> Ban:
    return Ban(
        jail=jail,
        address=A,
        position=f"p{number}",
        start=number,
        end=end,
        failures=failures,
        user=None,
        filter=jail,
        pattern="failed",
        earlier=number,
        credible=jail == "sshd",
    )


def test_bans_of_an_address_and_how_they_ended() -> None:
    history = History(None)
    bans = [ban(1), ban(2, jail="web"), ban(3, end=None), ban(4, failures=0), ban(5)]
    history.commit(bans=bans[:2], lifted=[Lifted("sshd", A, 120, "expired"), Lifted("web", A, 50, "off")])
    history.commit(bans=bans[2:4], lifted=[Lifted("sshd", A, 60, "admin")])
    history.commit(bans=bans[4:])
    assert history.past(A) == [
        Past("sshd", "p5", 5, 100, credible=True),
        Past("sshd", "p3", 3, 60, credible=True, counts=False),
        Past("web", "p2", 2, 50, credible=False),
        Past("sshd", "p1", 1, 100, credible=True),
    ]
    assert (history.past(B), history.known()) == ([], [str(A)])
    assert [history.since("recidive", start) for start in (0, 1, 4, 5)] == [2, 1, 1, 0]
    assert history.since("sshd", 0) == 0
    assert [record.ban.earlier for record in history.records()] == [5, 4, 3, 2, 1]
    history.close()


def test_the_newest_of_very_many() -> None:
    history = History(None)
    history.commit(bans=[ban(number) for number in range(MOST + 10)])
    past = history.past(A)
    assert (len(past), past[0].start, past[-1].start) == (MOST, MOST + 9, 10)
    history.close()


def test_it_is_found_by_its_index(tmp_path: Path) -> None:
    History(tmp_path / "history.db").close()
    with sqlite3.connect(tmp_path / "history.db") as db:
        statements: list[str] = []
        history = History(tmp_path / "history.db")
        history._db.set_trace_callback(statements.append)  # pyright: ignore[reportPrivateUsage] - to see what it asks
        history.past(A)
        history.since("recidive", 7)
        history.close()
        for statement, index in zip(statements, ("bans_address", "bans_credible"), strict=True):
            plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}"))
            assert f"INDEX {index}" in plan
    db.close()


def test_bans_of_an_older_version_count(tmp_path: Path) -> None:
    """The second version had no records; those who had bans are known all the same, to their own jail."""
    path = tmp_path / "history.db"
    with sqlite3.connect(path) as db:
        first, second, *_ = schema._MIGRATIONS  # pyright: ignore[reportPrivateUsage] - what older versions made
        db.executescript(f"{first} {second} PRAGMA user_version = 2;")
        db.execute(
            "INSERT INTO bans (jail, address, position, start, end, failures, filter, pattern)"
            " VALUES ('sshd', '192.0.2.1', 'p1', 1, 100, 5, 'sshd', 'failed')",
        )
    db.close()
    history = History(path)
    assert history.past(A) == [Past("sshd", "p1", 1, 100, credible=False)]
    assert [(record.ban.earlier, record.ban.credible) for record in history.records()] == [(0, False)]
    assert history.since("recidive", 0) == 0
    history.close()


def test_the_secret_stays_and_is_each_history_s_own(tmp_path: Path) -> None:
    secrets: list[bytes] = []
    for name in ("a", "a", "b"):
        history = History(tmp_path / name)
        secrets.append(history.secret())
        history.close()
    assert secrets[0] == secrets[1] != secrets[2]
    assert {len(secret) for secret in secrets} == {16}
