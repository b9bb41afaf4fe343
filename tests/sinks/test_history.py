# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import resource
import signal
import sqlite3
import time
from typing import TYPE_CHECKING, Final

import pytest

from banagent.core.address import parse_network
from banagent.core.bans import Standing
from banagent.core.events import Ban
from banagent.core.never import Allowed
from banagent.errors import HistoryError
from banagent.sinks.history import EVENTS, PATIENCE, VERSION, Counts, DamagedError, Happened, History, Lifted, Position

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def ban(address: str = "192.0.2.1", position: str = "p", end: int | None = 100, **more: str | None) -> Ban:
    known = {"jail": "sshd", "user": "root", "filter": "sshd", "pattern": "password"} | more
    return Ban(address=parse_network(address), position=position, start=1, end=end, failures=5, **known)  # type: ignore[arg-type]  # strings all


def standing(item: Ban) -> Standing:
    return Standing(item.jail, item.address, item.end)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path / "history.db")
    yield made
    made.close()


def test_what_is_committed_is_there_after_a_restart(tmp_path: Path, history: History) -> None:
    assert history.is_new
    history.commit(
        bans=[ban(), ban("2001:db8::/64", "q", None, user=None)],
        counts={"sshd": Counts([(b"k", b"v"), (b"gone", b"v")], [(b"s", b"t")], [])},
        positions={"journal": Position("q", 7)},
        ports={"sshd": "22-22"},
    )
    history.commit(counts={"sshd": Counts([(b"gone", None), (b"k", b"w")], [], [(b"l", b"x")])})
    history.close()
    later = History(tmp_path / "history.db")
    assert not later.is_new
    assert list(later.bans(0)) == [(standing(ban()), False), (standing(ban("2001:db8::/64", end=None)), False)]
    assert [record.ban for record in later.records()] == [ban("2001:db8::/64", "q", None, user=None), ban()]
    assert [*map(list, later.counts("sshd"))] == [[(b"k", b"w")], [(b"s", b"t")], [(b"l", b"x")]]
    assert [*map(list, later.counts("other"))] == [[], [], []]
    assert later.position("journal") == Position("q", 7)
    assert later.position("other") is None
    assert later.ports() == {"sshd": "22-22"}
    later.close()


def test_a_replayed_ban_changes_nothing(history: History) -> None:
    history.commit(bans=[ban()])
    history.commit(bans=[ban(end=999)])
    assert list(history.bans(0)) == [(standing(ban()), False)]


def test_ended_and_lifted_bans(history: History) -> None:
    history.commit(bans=[ban(), ban("192.0.2.2"), ban("192.0.2.3", end=None), ban("192.0.2.4", jail="other")])
    lifted = [Lifted("sshd", parse_network(a), 100, r) for a, r in (("192.0.2.1", "expired"), ("192.0.2.2", "ignored"))]
    history.commit(lifted=lifted)
    assert [(str(item.address), ended) for item, ended in history.bans(99)] == [
        ("192.0.2.1", True),  # an entry from before its end may still be read
        ("192.0.2.3", False),
        ("192.0.2.4", False),
    ]
    assert [str(item.address) for item, _ in history.bans(100)] == ["192.0.2.3"]


def test_all_or_nothing(history: History) -> None:
    def fails() -> Iterator[tuple[bytes, bytes]]:
        yield b"k", b"v"
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(HistoryError, match=r"cannot write the history .*disk I/O error"):
        history.commit(bans=[ban()], counts={"sshd": Counts(fails(), [], [])}, positions={"journal": Position("p", 1)})
    assert history.is_new
    assert list(history.bans(0)) == []


@pytest.mark.parametrize("version", [0, 2])
def test_a_schema_of_another_version_than_it_says_is_damage(tmp_path: Path, version: int) -> None:
    path = tmp_path / "history.db"
    History(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    history = History(path)
    assert history.set_aside == tmp_path / "history.db.damaged-1"
    history.commit(bans=[ban()])
    history.close()


def test_a_schema_that_lacks_something_is_damage(history: History, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "history.db") as db:
        db.execute("DROP TABLE bans")
    db.close()
    with pytest.raises(DamagedError):
        list(history.bans(0))
    with pytest.raises(HistoryError) as caught:
        history.commit(bans=[ban()])
    assert not isinstance(caught.value, DamagedError)  # who writes may be at fault himself


def test_it_waits_for_another_once(history: History, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "history.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        begin = time.monotonic()
        for _ in range(10):
            with pytest.raises(HistoryError, match="locked"):
                history.commit(bans=[ban()])
        assert PATIENCE / 1000 <= time.monotonic() - begin < 2 * PATIENCE / 1000
        other.execute("ROLLBACK")
        history.commit(bans=[ban()])  # and from then on it waits again
        other.execute("BEGIN IMMEDIATE")
        begin = time.monotonic()
        with pytest.raises(HistoryError, match="locked"):
            history.commit(bans=[ban(position="q")])
        assert time.monotonic() - begin >= PATIENCE / 1000
    other.close()


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "history.db"
    path.write_bytes(content)
    history = History(path)
    assert (history.set_aside is None) == (content == b"")  # an empty file is an empty database
    if history.set_aside is not None:
        assert history.set_aside.read_bytes() == content
    history.commit(bans=[ban()])
    history.close()


def test_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    History(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(HistoryError, match="newer version"):
        History(path)
    assert [file.name for file in tmp_path.iterdir() if "damaged" in file.name] == []


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="unable to open database file"):
        History(tmp_path / "no" / "history.db")


def test_a_full_disk_and_then_a_free_one(history: History) -> None:
    """The kernel's own limit on file sizes stands for the full disk."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    bans = [ban(f"192.0.{n // 250}.{n % 250}", f"p{n}") for n in range(2000)]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, former[1]))
        with pytest.raises(HistoryError, match="cannot write the history"):
            history.commit(bans=bans)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, handler)
    history.commit(bans=bans)
    assert len(list(history.bans(0))) == 2000


def test_records_say_how_bans_ended(history: History) -> None:
    history.commit(bans=[ban(), ban("192.0.2.2", comment="by hand"), ban("192.0.2.3", jail="other")])
    history.commit(lifted=[Lifted("sshd", parse_network("192.0.2.1"), 50, "admin")])
    assert [(str(r.ban.address), r.ban.comment, r.lifted, r.reason) for r in history.records(jail="sshd")] == [
        ("192.0.2.2", "by hand", None, None),
        ("192.0.2.1", None, 50, "admin"),
    ]
    assert list(history.records(since=2)) == []
    assert history.totals() == {"sshd": 2, "other": 1}


def test_the_newest_events_are_kept(history: History) -> None:
    history.commit(events=[Happened(n, n, "banned", {"user": "ä\x1b"}) for n in range(1, EVENTS + 8)])
    kept = history.happened()
    assert (kept[0].sequence, kept[-1].sequence, len(kept)) == (8, EVENTS + 7, EVENTS)
    assert kept[0].facts == {"user": "ä\x1b"}


def test_flags(history: History) -> None:
    assert not history.has_flag("off")
    history.commit(flags={"off": True})
    history.commit(flags={"off": True})
    assert history.has_flag("off")
    history.commit(flags={"off": False})
    assert not history.has_flag("off")


def test_what_is_lifted_is_what_was_banned_before(history: History) -> None:
    """Ban, unban and ban again, in one commit: the second ban stands."""
    address = parse_network("192.0.2.1")
    history.commit(bans=[ban(position="p"), Lifted("sshd", address, 50, "admin"), ban(position="q", end=900)])
    assert [(r.ban.position, r.lifted, r.reason) for r in history.records()] == [("q", None, None), ("p", 50, "admin")]
    assert list(history.bans(0)) == [(standing(ban(end=900)), False)]


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("UPDATE bans SET address = 'nonsense'", "bans"),
        ("UPDATE bans SET address = CAST(x'ff' AS TEXT)", "bans"),
        ("UPDATE bans SET end = 'x'", "bans"),
        ("UPDATE bans SET jail = x'00'", "bans"),
        ("UPDATE events SET facts = '['", "happened"),
        ("UPDATE events SET facts = '[]'", "happened"),
        ("UPDATE checkpoint SET time = 'x'", "position"),
        ("UPDATE ports SET ports = x'00'", "ports"),
    ],
)
def test_what_was_never_written_is_damage(tmp_path: Path, history: History, change: str, read: str) -> None:
    history.commit(
        bans=[ban()],
        positions={"journal": Position("q", 7)},
        ports={"sshd": "22-22"},
        events=[Happened(1, 1, "banned", {})],
    )
    with sqlite3.connect(tmp_path / "history.db") as db:
        db.execute(change)
    db.close()
    arguments: dict[str, tuple[object, ...]] = {"bans": (0,), "position": ("journal",)}
    with pytest.raises(DamagedError):
        list(getattr(history, read)(*arguments.get(read, ())))


def test_events_before_one_that_is_missing_are_left_out(tmp_path: Path, history: History) -> None:
    history.commit(events=[Happened(n, n, "banned", {}) for n in range(1, 6)])
    with sqlite3.connect(tmp_path / "history.db") as db:
        db.execute("DELETE FROM events WHERE sequence = 3")
    db.close()
    assert [event.sequence for event in history.happened()] == [4, 5]


# --- bans of the past ---


def test_totals_are_counted_once_and_kept_in_mind(tmp_path: Path, history: History) -> None:
    history.commit(bans=[ban(), ban("192.0.2.2", jail="web")])
    assert history.totals() == {"sshd": 1, "web": 1}
    history.commit(bans=[ban(), ban("192.0.2.3")])  # the first is read again
    assert history.totals() == {"sshd": 2, "web": 1}
    refused = Happened(1, 2**80, "x", {})  # no number of SQLite's
    with pytest.raises((HistoryError, OverflowError)):
        history.commit(bans=[ban("192.0.2.4"), ban("192.0.2.5")], events=[refused])
    assert history.totals() == {"sshd": 2, "web": 1}
    again = History(tmp_path / "history.db")
    assert again.totals() == history.totals()
    again.close()


def test_bans_of_the_past_are_dropped(history: History) -> None:
    history.commit(bans=[ban(f"192.0.2.{number}", end=100 + number) for number in range(5)])
    history.commit(bans=[ban("192.0.2.9", end=None)])
    history.commit(lifted=[Lifted("sshd", parse_network("192.0.2.1"), 50, "admin")])
    rows = history.rows(0, 3)
    assert [(row.id, row.over, row.counts) for row in rows] == [(1, 100, True), (2, 50, True), (3, 102, True)]
    assert [row.over for row in history.rows(rows[-1].id, 9)] == [103, 104, None]
    assert history.totals() == {"sshd": 6}
    history.drop(rows)
    assert history.totals() == {"sshd": 3}
    assert [str(record.ban.address) for record in history.records()] == ["192.0.2.9", "192.0.2.4", "192.0.2.3"]


def test_what_is_forgiven_counts_no_more(history: History) -> None:
    address = parse_network("192.0.2.1")
    history.commit(bans=[ban(), ban(position="q"), ban("192.0.2.2")])
    assert [item.counts for item in history.past(address)] == [True, True]
    assert history.forgive(addresses=[address]) == 2
    assert [item.counts for item in history.past(address)] == [False, False]
    assert history.forgive(history.rows(0, 10)) == 1
    assert history.forgive(history.rows(0, 10)) == 0
    assert len(list(history.records())) == 3


def test_whom_an_admin_allowed(tmp_path: Path, history: History) -> None:
    one, other = (
        Allowed(parse_network(text), 1, end, note) for text, end, note in (("::1", 5, None), ("1.1.1.1", None, "x"))
    )
    history.commit(allowed={one.address: (one, False), other.address: (other, False)})
    history.commit(allowed={one.address: (one, True)})
    again = History(tmp_path / "history.db")
    assert sorted(again.allowed()) == sorted([(one, True), (other, False)])
    again.commit(allowed={one.address: None})
    assert again.allowed() == [(other, False)]
    again.close()


FIRST: Final = """
CREATE TABLE bans (
    id INTEGER PRIMARY KEY,
    jail TEXT NOT NULL, address TEXT NOT NULL, position TEXT NOT NULL,
    start INTEGER NOT NULL, end INTEGER,
    failures INTEGER NOT NULL, user TEXT, filter TEXT NOT NULL, pattern TEXT NOT NULL,
    comment TEXT, lifted INTEGER, reason TEXT,
    UNIQUE (jail, address, position)
);
CREATE INDEX bans_standing ON bans (end) WHERE lifted IS NULL;
CREATE INDEX bans_start ON bans (start);
CREATE TABLE events (sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, kind TEXT NOT NULL, facts TEXT NOT NULL);
CREATE TABLE flags (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE ports (jail TEXT PRIMARY KEY, ports TEXT) WITHOUT ROWID;
CREATE TABLE checkpoint (source TEXT PRIMARY KEY, position TEXT NOT NULL, time INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE windows (jail TEXT, key BLOB, value BLOB NOT NULL, PRIMARY KEY (jail, key)) WITHOUT ROWID;
CREATE TABLE sessions (jail TEXT, key BLOB, value BLOB NOT NULL, PRIMARY KEY (jail, key)) WITHOUT ROWID;
INSERT INTO bans VALUES (1, 'sshd', '192.0.2.1', 'p', 1, 100, 5, 'root', 'sshd', 'password', NULL, NULL, NULL);
INSERT INTO checkpoint VALUES ('journal', 'q', 7);
INSERT INTO windows VALUES ('sshd', x'6b', x'76');
PRAGMA user_version = 1;
"""


def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with sqlite3.connect(path) as db:
        db.executescript(FIRST)
    db.close()
    for _ in range(2):  # the second time there is nothing to do
        history = History(path)
        assert history.set_aside is None
        assert [record.ban for record in history.records()] == [ban()]
        assert history.position("journal") == Position("q", 7)
        assert list(history.counts("sshd")[0]) == [(b"k", b"v")]
        assert history.allowed() == []
        assert [item.counts for item in history.past(parse_network("192.0.2.1"))] == [True]
        history.commit(bans=[ban()])
        history.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
        (migrated,) = [db.execute("SELECT name, sql FROM sqlite_schema WHERE name NOT GLOB 'sqlite_*'").fetchall()]
    db.close()
    History(tmp_path / "new.db").close()
    with sqlite3.connect(tmp_path / "new.db") as db:
        made = db.execute("SELECT name FROM sqlite_schema WHERE name NOT GLOB 'sqlite_*'").fetchall()
    db.close()
    assert sorted(name for name, _ in migrated) == sorted(name for (name,) in made)
