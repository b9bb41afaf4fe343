# SPDX-License-Identifier: LGPL-2.1-or-later
"""The history (SQLite, WAL): bans, and the checkpoint from which a later run goes on.

A commit puts the decisions, the counts that changed and the position up to which entries were read into one
transaction: whatever happens to the process, the three fit together. `synchronous=NORMAL` survives a killed process;
after a power cut the last commits can be missing, and the journal's entries from the older position are read again.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import contextmanager, suppress
from itertools import chain, islice
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from banagent.core.address import Network, parse_network
from banagent.core.bans import Standing
from banagent.core.events import Ban
from banagent.core.growth import MOST
from banagent.core.keeping import Row
from banagent.core.never import Allowed
from banagent.core.record import Past
from banagent.errors import HistoryError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    Stream = Iterator[tuple[bytes, bytes]]

Rows = list[tuple[bytes, bytes]]

EVENTS: Final = 10_000  # that are kept
PAGE: Final = 1024  # bytes: counts change here and there, each change writes a page, and most rows have less than 100
WAL: Final = 4 << 20  # bytes of the log that are put into the database at once
AT_ONCE: Final = 50  # rows to a statement: each takes half of the time that it takes by itself
PATIENCE: Final = 1000  # milliseconds to wait for another program that writes
FORGIVEN: Final = ("admin", "ignored")  # reasons for lifting that tell of a ban that it should not have been
_SCHEMA: Final = """
CREATE TABLE bans (
    id INTEGER PRIMARY KEY,
    jail TEXT NOT NULL, address TEXT NOT NULL, position TEXT NOT NULL,
    start INTEGER NOT NULL, end INTEGER,            -- µs since the epoch; NULL: permanent
    failures INTEGER NOT NULL, user TEXT, filter TEXT NOT NULL, pattern TEXT NOT NULL,
    comment TEXT, lifted INTEGER, reason TEXT,      -- the admin's; when it ended, and why
    UNIQUE (jail, address, position)
);
CREATE INDEX bans_standing ON bans (end) WHERE lifted IS NULL;
CREATE INDEX bans_start ON bans (start);
CREATE TABLE events (sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, kind TEXT NOT NULL, facts TEXT NOT NULL);
CREATE TABLE flags (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE ports (jail TEXT PRIMARY KEY, ports TEXT) WITHOUT ROWID;   -- of jails with bans, in case a jail goes
CREATE TABLE checkpoint (source TEXT PRIMARY KEY, position TEXT NOT NULL, time INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE windows (jail TEXT, key BLOB, value BLOB NOT NULL, PRIMARY KEY (jail, key)) WITHOUT ROWID;
CREATE TABLE sessions (jail TEXT, key BLOB, value BLOB NOT NULL, PRIMARY KEY (jail, key)) WITHOUT ROWID;
"""
_MIGRATIONS: Final = (  # from the version before to 1, 2, …
    _SCHEMA,
    "CREATE TABLE links (jail TEXT, key BLOB, value BLOB NOT NULL, PRIMARY KEY (jail, key)) WITHOUT ROWID;",
    # what an address's next ban is judged by: see core/record.py
    """
    ALTER TABLE bans ADD COLUMN earlier INTEGER NOT NULL DEFAULT 0;     -- bans of the address that made it longer
    ALTER TABLE bans ADD COLUMN credible INTEGER NOT NULL DEFAULT 0;    -- 1: it counts for other jails, too
    ALTER TABLE bans ADD COLUMN counts INTEGER NOT NULL DEFAULT 1;      -- 0: an admin had it forgotten
    CREATE INDEX bans_address ON bans (address, start);
    CREATE INDEX bans_credible ON bans (start, jail) WHERE credible;
    CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    INSERT INTO secrets VALUES ('chance', randomblob(16));
    """,
    # whom an admin has allowed: see core/allowed.py
    """
    CREATE TABLE allowed (
        address TEXT PRIMARY KEY, start INTEGER NOT NULL, end INTEGER, comment TEXT,
        ended INTEGER NOT NULL                                              -- 1: it was told that it had
    ) WITHOUT ROWID;
    """,
    # what else a jail remembers: see Jail.memory
    """
    CREATE TABLE memory (
        jail TEXT, kind TEXT, key BLOB, value BLOB NOT NULL, PRIMARY KEY (jail, kind, key)
    ) WITHOUT ROWID;
    """,
)
VERSION: Final = len(_MIGRATIONS)  # of the schema, in PRAGMA user_version
_COLUMNS: Final = (
    "jail, address, position, start, end, failures, user, filter, pattern, comment, earlier, credible, lifted, reason"
)
_INSERT: Final = f"INSERT OR IGNORE INTO bans ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)"  # noqa: S608 - constants
_LIFT: Final = "UPDATE bans SET lifted = ?, reason = ? WHERE jail = ? AND address = ? AND lifted IS NULL"
_SHIFT: Final = "UPDATE bans SET start = start + ?1, end = end + ?1 WHERE lifted IS NULL"
_REIN: Final = "UPDATE bans SET start = ?1, end = ?1 + end - start WHERE lifted IS NULL AND start > ?1"
_SET_FLAG: Final = "INSERT OR IGNORE INTO flags VALUES (?)"
_TAKE_FLAG: Final = "DELETE FROM flags WHERE name = ?"


class DamagedError(HistoryError):
    """What the database holds can't be what was written; the remedy is a new one."""


class Position(NamedTuple):
    """How far a source was read."""

    position: str
    time: int  # of the entry there, in µs since the epoch


class Lifted(NamedTuple):
    """A ban that ended."""

    jail: str
    address: Network
    time: int
    reason: str


class Shifted(NamedTuple):
    """The clock was set, by so many µs: the bans that stood then go on for as long as was left of them."""

    step: int


class Happened(NamedTuple):
    """An event for followers; its facts are as JSON has them."""

    sequence: int
    time: int
    kind: str
    facts: Mapping[str, Any]


class Record(NamedTuple):
    """A ban and how it ended; both None: it was not lifted yet."""

    ban: Ban
    lifted: int | None
    reason: str | None


class Counts(NamedTuple):
    """What one jail has to remember that changed; a value of None: no more."""

    windows: Iterable[tuple[bytes, bytes | None]]
    sessions: Iterable[tuple[bytes, bytes | None]]
    links: Iterable[tuple[bytes, bytes | None]]
    memory: Mapping[str, Iterable[tuple[bytes, bytes | None]]] = MappingProxyType({})  # the rest, by what it is


class History:
    """The database in the state directory."""

    def __init__(self, path: Path | None) -> None:
        """Open it, or make it. `None` keeps it in memory. Raises HistoryError."""
        self._name = str(path) if path is not None else ":memory:"
        self._totals: Counter[str] | None = None  # bans of each jail, once they were counted
        self._patience = PATIENCE
        self.set_aside: Path | None = None  # where a file was moved that is no database of ours
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if path is None or not _is_damage(error):
                raise HistoryError(f"cannot open the history {self._name}: {error}") from error
            self.set_aside = set_aside(path)
            self._db = self._open()

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever committed."""
        with self._errors("read"):
            rows: int
            (rows,) = self._db.execute("SELECT count(*) FROM checkpoint").fetchone()
        return rows == 0

    def position(self, source: str) -> Position | None:
        """Give how far `source` was read when last committed."""
        with self._errors("read"):
            row = self._db.execute("SELECT position, time FROM checkpoint WHERE source = ?", (source,)).fetchone()
            return None if row is None else Position(_is(str, row[0]), _is(int, row[1]))

    def positions(self) -> dict[str, Position]:
        """Give how far each source was read when last committed: the journal, and `file:PATH`."""
        with self._errors("read"):
            rows = self._db.execute(
                "SELECT source, position, time FROM checkpoint WHERE source = 'journal' OR source GLOB 'file:*'",
            ).fetchall()
            return {_is(str, source): Position(_is(str, position), _is(int, time)) for source, position, time in rows}

    def counts(self, jail: str) -> tuple[Stream, Stream, Stream]:
        """Give a jail's windows, sessions and links as they were committed, row by row: there can be a million."""
        return self._rows("windows", jail), self._rows("sessions", jail), self._rows("links", jail)

    def _rows(self, table: str, jail: str) -> Stream:
        query = f"SELECT key, value FROM {table} WHERE jail = ?"  # noqa: S608 - constants
        with self._errors("read"):
            for key, value in self._db.execute(query, (jail,)):
                yield _is(bytes, key), _is(bytes, value)

    def memory(self, jail: str) -> dict[str, Rows]:
        """Give what else a jail remembered when it was last committed, by what it is."""
        found: dict[str, Rows] = {}
        with self._errors("read"):
            for kind, key, value in self._db.execute("SELECT kind, key, value FROM memory WHERE jail = ?", (jail,)):
                found.setdefault(kind, []).append((_is(bytes, key), _is(bytes, value)))
        return found

    def bans(self, after: int) -> Iterator[tuple[Standing, bool]]:
        """Give the bans that ran or run on after `after`, in the order they were decided, each with whether it ended.

        Those lifted before their time are left out. They come as they are read: there may be very many.
        """
        query = (
            "SELECT jail, address, end, lifted IS NOT NULL FROM bans"
            " WHERE (end IS NULL OR end > ?) AND (lifted IS NULL OR reason = 'expired') ORDER BY id"
        )
        with self._errors("read"):
            for jail, address, end, ended in self._db.execute(query, (after,)):
                if type(jail) is not str or type(end) not in {int, NoneType}:
                    raise TypeError("a ban has a jail that is no text, or an end that is no number")
                yield Standing(jail, parse_network(address), end), bool(ended)

    def records(self, since: int = 0, jail: str | None = None) -> Iterator[Record]:
        """Give the bans that began at `since` or later, of one jail or of all, the newest first, as they are read."""
        query = f"SELECT {_COLUMNS} FROM bans WHERE start >= ? AND (?2 IS NULL OR jail = ?2) ORDER BY id DESC"  # noqa: S608 - constants
        with self._errors("read"):
            for *ban, lifted, reason in self._db.execute(query, (since, jail)):
                yield Record(_ban(ban), lifted, reason)

    def past(self, address: Network) -> list[Past]:
        """Give the bans of exactly this address that its failures led to, the newest first."""
        query = (
            "SELECT jail, position, start, end, lifted, credible, counts, reason FROM bans"
            " WHERE address = ? AND failures > 0 ORDER BY start DESC LIMIT ?"
        )
        with self._errors("read"):
            rows = self._db.execute(query, (str(address), MOST)).fetchall()
            return [_past(row) for row in rows]

    def known(self) -> list[str]:
        """Give the addresses that have ever been banned, in the usual notation."""
        with self._errors("read"):
            return [address for (address,) in self._db.execute("SELECT DISTINCT address FROM bans")]

    def since(self, jail: str, start: int) -> int:
        """Give how many credible bans that count the jails but one decided later than `start`."""
        query = (
            "SELECT count(*) FROM bans WHERE start > ? AND credible AND jail <> ?"
            " AND counts AND failures > 0 AND (reason IS NULL OR reason NOT IN (?, ?))"
        )
        with self._errors("read"):
            count: int
            (count,) = self._db.execute(query, (start, jail, *FORGIVEN)).fetchone()
        return count

    def secret(self) -> bytes:
        """Give what this history was given at its making, and nobody can know."""
        with self._errors("read"):
            secret: bytes = _is(bytes, self._db.execute("SELECT value FROM secrets").fetchone()[0])
        return secret

    def totals(self) -> dict[str, int]:
        """Give how many bans there are of each jail. They are counted once, and kept in mind from then on."""
        if self._totals is None:
            with self._errors("read"):
                self._totals = Counter(
                    dict(self._db.execute("SELECT jail, count(*) FROM bans GROUP BY jail").fetchall()),
                )
        return self._totals

    def rows(self, after: int, most: int) -> list[Row]:
        """Give up to `most` bans with ids above `after`, in their order."""
        query = (
            "SELECT id, start, coalesce(min(lifted, end), lifted, end), counts AND failures > 0 FROM bans"
            " WHERE id > ? ORDER BY id LIMIT ?"
        )
        with self._errors("read"):
            found = self._db.execute(query, (after, most)).fetchall()
            return [Row(number, start, over, bool(counts)) for number, start, over, counts in found]

    def drop(self, rows: Iterable[Row]) -> None:
        """Forget bans of the past."""
        dropped: Counter[str] = Counter()
        with self._errors("write"), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for row in rows:
                dropped.update(*self._db.execute("DELETE FROM bans WHERE id = ? RETURNING jail", (row.id,)).fetchall())
        if self._totals is not None:  # which to count again takes a fifth of a second for a million
            self._totals -= dropped

    def rein(self, now: int) -> None:
        """Let no ban that stands go on for longer than it takes, as the clock was set back since it was made."""
        with self._errors("write"), self._db:
            self._db.execute(_REIN, (now,))

    def forgive(self, rows: Iterable[Row] = (), addresses: Iterable[Network] = ()) -> int:
        """Let bans not make the next ones of their addresses longer; give how many did until now."""
        with self._errors("write"), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            before = self._db.total_changes
            self._db.executemany("UPDATE bans SET counts = 0 WHERE id = ? AND counts", ((row.id,) for row in rows))
            self._db.executemany(
                "UPDATE bans SET counts = 0 WHERE address = ? AND counts AND failures > 0",
                ((str(address),) for address in addresses),
            )
            return self._db.total_changes - before

    def happened(self) -> list[Happened]:
        """Give the events that are kept, the oldest first; where one is missing, those after it."""
        kept: list[Happened] = []
        with self._errors("read"):
            for sequence, time, kind, facts in self._db.execute(
                "SELECT sequence, time, kind, facts FROM events ORDER BY sequence",
            ):
                if kept and kept[-1].sequence != sequence - 1:
                    kept.clear()
                kept.append(Happened(sequence, time, kind, _is(dict, json.loads(facts))))
        return kept

    def has_flag(self, name: str) -> bool:
        """Whether a flag was set when last committed."""
        with self._errors("read"):
            return self._db.execute("SELECT 1 FROM flags WHERE name = ?", (name,)).fetchone() is not None

    def ports(self) -> dict[str, str]:
        """Give the ports on which each jail that ever had a ban bans, as they were committed."""
        with self._errors("read"):
            return {
                _is(str, jail): _is(str, ports) for jail, ports in self._db.execute("SELECT jail, ports FROM ports")
            }

    def allowed(self) -> list[tuple[Allowed, bool]]:
        """Give whom an admin has allowed, each with whether it was told that it had ended."""
        with self._errors("read"):
            rows = self._db.execute("SELECT address, start, end, comment, ended FROM allowed").fetchall()
            return [
                (Allowed(parse_network(address), _is(int, start), _is((int, NoneType), end), comment), bool(ended))
                for address, start, end, comment, ended in rows
            ]

    def commit(
        self,
        *,
        bans: Iterable[Ban | Lifted | Shifted] = (),
        lifted: Iterable[Lifted] = (),
        counts: Mapping[str, Counts] | None = None,
        positions: Mapping[str, Position] | None = None,
        ports: Mapping[str, str] | None = None,
        events: Sequence[Happened] = (),
        flags: Mapping[str, bool] | None = None,
        allowed: Mapping[Network, tuple[Allowed, bool] | None] | None = None,
    ) -> None:
        """Commit all of it, or nothing. A ban that is known already, as after a replay, stays as it is.

        What happened to an address is told in its order: what is lifted is what was banned before it.
        """
        added: Counter[str] = Counter()
        with self._errors("write"), self._once_patient(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for item in chain(bans, lifted):
                if isinstance(item, Ban):
                    added[item.jail] += self._db.execute(_INSERT, _row(item)).rowcount
                elif isinstance(item, Shifted):
                    self._db.execute(_SHIFT, (item.step,))
                else:
                    self._db.execute(_LIFT, (item.time, item.reason, item.jail, str(item.address)))
            for name, on in (flags or {}).items():
                self._db.execute(_SET_FLAG if on else _TAKE_FLAG, (name,))
            for address, row in (allowed or {}).items():
                self._allow(address, row)
            for jail, changed in (counts or {}).items():
                self._remember("windows", {"jail": jail}, changed.windows)
                self._remember("sessions", {"jail": jail}, changed.sessions)
                self._remember("links", {"jail": jail}, changed.links)
                for kind, changes in changed.memory.items():
                    self._remember("memory", {"jail": jail, "kind": kind}, changes)
            self._db.executemany(
                "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?)",
                ((source, *position) for source, position in (positions or {}).items()),
            )
            self._db.executemany("INSERT OR REPLACE INTO ports VALUES (?, ?)", (ports or {}).items())
            if events:
                self._db.executemany(
                    "INSERT INTO events VALUES (?, ?, ?, ?)",
                    ((*event[:3], json.dumps(event.facts)) for event in events),
                )
                self._db.execute("DELETE FROM events WHERE sequence <= ?", (events[-1].sequence - EVENTS,))
        if self._totals is not None:
            self._totals += added

    @contextmanager
    def _once_patient(self) -> Generator[None]:
        """While another program holds the database, wait for it once, and not again with each ban."""
        try:
            yield
        except sqlite3.Error:
            self._wait_for_others(0)
            raise
        self._wait_for_others(PATIENCE)

    def _wait_for_others(self, patience: int) -> None:
        if patience != self._patience:
            self._db.execute(f"PRAGMA busy_timeout = {patience}")
            self._patience = patience

    def close(self) -> None:
        """Close the database."""
        with suppress(sqlite3.Error):  # a full disk: what could be written is written
            self._db.close()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._name, timeout=PATIENCE / 1000, isolation_level=None)
        try:
            db.execute(f"PRAGMA page_size={PAGE}")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(f"PRAGMA wal_autocheckpoint={WAL // PAGE}")
            db.execute("PRAGMA synchronous=NORMAL")
            self._migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise HistoryError(
                f"the history {self._name} is of a newer version of banagent ({version}, this one knows {VERSION});"
                " install that version, or move the file away",
            )
        for number, statements in enumerate(_MIGRATIONS[version:], start=version + 1):
            db.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version = {number}; COMMIT;")

    def _remember(self, table: str, owner: Mapping[str, str], changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Put rows into a table; `owner` are the columns, but for key and value, that say whose they are."""
        gone: list[bytes] = []

        def kept() -> Iterator[bytes]:
            for key, value in changes:
                if value is None:
                    gone.append(key)
                else:
                    yield from (key, value)

        whose, values = tuple(owner.values()), kept()
        row = f"({', '.join(f'?{number}' for number in range(1, len(whose) + 1))}, ?, ?)"
        while some := tuple(islice(values, 2 * AT_ONCE)):
            rows = ", ".join([row] * (len(some) // 2))
            self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES {rows}", whose + some)  # noqa: S608 - constants
        match = " AND ".join(f"{column} = ?" for column in owner)
        for first in range(0, len(gone), AT_ONCE):
            keys = gone[first : first + AT_ONCE]
            self._db.execute(
                f"DELETE FROM {table} WHERE {match} AND key IN ({', '.join('?' * len(keys))})",  # noqa: S608
                (*whose, *keys),
            )

    def _allow(self, address: Network, row: tuple[Allowed, bool] | None) -> None:
        if row is None:
            self._db.execute("DELETE FROM allowed WHERE address = ?", (str(address),))
        else:
            item, ended = row
            values = (str(item.address), item.start, item.end, item.comment, ended)
            self._db.execute("INSERT OR REPLACE INTO allowed VALUES (?, ?, ?, ?, ?)", values)

    def _errors(self, verb: str) -> _Translate:
        return _Translate(f"cannot {verb} the history {self._name}", reads=verb == "read")


def _row(ban: Ban) -> tuple[object, ...]:
    return (
        ban.jail,
        str(ban.address),
        ban.position,
        ban.start,
        ban.end,
        ban.failures,
        ban.user,
        ban.filter,
        ban.pattern,
        ban.comment,
        ban.earlier,
        ban.credible,
    )


def _ban(row: Sequence[Any]) -> Ban:
    jail, address, position, start, end, failures, user, filter_name, pattern, comment, earlier, credible = row
    return Ban(
        jail=jail,
        address=parse_network(address),
        position=position,
        start=start,
        end=end,
        failures=failures,
        user=user,
        filter=filter_name,
        pattern=pattern,
        comment=comment,
        earlier=earlier,
        credible=bool(credible),
    )


def _past(row: Sequence[Any]) -> Past:
    jail, position, start, end, lifted, credible, counts, reason = row
    if lifted is not None and reason != "expired":  # the kernel's clock may differ from that of the entries
        end = lifted if end is None else min(end, lifted)
    return Past(_is(str, jail), position, _is(int, start), end, bool(credible), bool(counts) and reason not in FORGIVEN)


def _is(kind: type | tuple[type, ...], value: Any) -> Any:  # noqa: ANN401 - whatever SQLite has
    """Give the value of a column, of whose type SQLite promises nothing. Raises TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.100} is no {kind}")
    return value


class _Translate:
    """Turn SQLite's errors into ours, and what can't have been written by us into DamagedError."""

    def __init__(self, what: str, *, reads: bool) -> None:
        self._what = what
        self._reads = reads

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            damaged = type(error) is sqlite3.DatabaseError or (self._reads and _is_damage(error))
            raise (DamagedError if damaged else HistoryError)(f"{self._what}: {error}") from error
        if isinstance(error, (ValueError, TypeError)):
            raise (DamagedError if self._reads else HistoryError)(f"{self._what}: {error}") from error


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether what is in the file is at fault, and neither the disk nor others who have it open.

    What can't be decoded is an OperationalError without a code; where the schema is not what was written, it has the
    code of statements that are wrong in themselves.
    """
    if not isinstance(error, sqlite3.OperationalError):
        return True
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR


def set_aside(path: Path) -> Path:
    """Move a damaged database out of the way, so that the agent can start; nothing is deleted."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
    return target
