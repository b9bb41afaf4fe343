# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sources of all jails, read for ever, whatever happens to one of them."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from banagent.core.choice import Seen, kinds
from banagent.core.events import FILES, JOURNAL, SECOND, timestamp
from banagent.core.links import Links
from banagent.errors import JournalError
from banagent.sources.batch import Batch
from banagent.sources.journal import Journal
from banagent.sources.lookup import Lookup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from banagent.config import JailConfig
    from banagent.core.events import Entry, Offence
    from banagent.core.filter import Filter
    from banagent.enforce import Enforcer
    from banagent.pipeline import Pipeline
    from banagent.routes import Kinds
    from banagent.sources.logfiles import LogFiles

MOST_READ: Final = 2_000_000  # entries that are read once more
LOOKED_AT: Final = 65_536  # bytes at the end of a file, in which a service is looked for
SHORTEST_PAUSE: Final = 1.0  # seconds between two tries to read what can't be read
LONGEST_PAUSE: Final = 60.0  # likewise, after several

log = structlog.get_logger()


class State(NamedTuple):
    """Whether a jail can do its work: `active`, `waiting` or `failed`, and for what or why."""

    state: str
    reason: str | None = None


ACTIVE: Final = State("active")


class Chooser:
    """Looks where a service logs. What it opens for that is closed with it."""

    def __init__(self, directory: Path | None) -> None:
        self._lookup = Lookup(directory)
        self._readable = True  # the journal, as far as is known

    def __call__(self, config: JailConfig) -> Kinds:
        """Give the kinds of sources that a jail reads."""
        item = config.filter
        paths = matching(item.logpath)
        return kinds(item, Seen(lambda: self._in_journal(item), paths, lambda: _in_files(item, paths)))

    def close(self) -> None:
        """Close the journal's files."""
        self._lookup.close()

    def _in_journal(self, item: Filter) -> bool:
        try:
            return self._readable and self._lookup.last_entry(item) is not None
        except JournalError:  # it is said when the journal is to be read
            self._readable = False
            return False


class Reading:
    """Reads what the pipeline's jails need. `after` is called when a batch was handled."""

    def __init__(
        self, pipeline: Pipeline, enforcer: Enforcer, directory: Path | None, after: Callable[[Batch], None]
    ) -> None:
        self._pipeline = pipeline
        self._enforcer = enforcer
        self._directory = directory
        self._after = after
        self._journal: Journal | None = None  # opened, and not yet read
        self._files: LogFiles | None = None
        self._behind: set[str] = set()  # the sources that were not yet read to their end
        self._begin: dict[str, int] = {}  # by kind: from when on entries count of a source that was never read

    @property
    def live(self) -> bool:
        """Whether all that was there at the start was read, as far as it can be read."""
        return not self._behind

    def open(self) -> None:
        """Open what can be read before anything is touched. Raises JournalError if nothing can be."""
        self._begin = {kind: self._since(kind) for kind in (JOURNAL, FILES)}
        routes = self._pipeline.routes
        self._behind = set(matching(routes.files()))
        if routes.filters():
            try:
                self._journal = self._open_journal()
                self._behind.add(JOURNAL)
            except JournalError as error:
                if not self._behind:
                    raise
                self._enforcer.fails(JOURNAL, str(error))

    async def run(self) -> None:
        """Read for ever."""
        self._begin = {kind: self._since(kind) for kind in (JOURNAL, FILES)}
        routes = self._pipeline.routes
        async with asyncio.TaskGroup() as tasks:
            if routes.filters():
                tasks.create_task(self._keep(JOURNAL, self._follow_journal))
            if routes.files():
                tasks.create_task(self._keep(FILES, self._follow_files))
            if not self._behind:
                self._after(Batch([], 0, None, 0, all_read=True))
            tasks.create_task(_for_ever())  # until a reload, though there may be nothing to read

    def state(self, jail: str) -> State:
        """Give the state of a jail."""
        chosen = self._pipeline.routes.kinds(jail)
        if not chosen:  # it counts bans
            return ACTIVE
        item = self._pipeline.configs[jail].filter
        if chosen == frozenset({JOURNAL}):
            return self._journal_state()
        files = self._file_state(item)
        if chosen == frozenset({FILES}) or files.state != "waiting":
            return files
        journal = self._journal_state()
        if journal.state == "failed":
            return files
        units = " or ".join((*item.units, *item.slices, *item.containers) or item.identifiers)
        return State("waiting", f"waiting for entries of {units}, or {' or '.join(item.logpath)}")

    def _journal_state(self) -> State:
        trouble = self._enforcer.troubles.get(JOURNAL)
        return ACTIVE if trouble is None else State("failed", trouble.text)

    def _file_state(self, item: Filter) -> State:
        found = matching(item.logpath)
        troubles = self._unreadable()
        if any(path not in troubles for path in found):
            return ACTIVE
        if found:
            return State("failed", "; ".join(troubles[path] for path in found))
        return State("waiting", f"waiting for {' or '.join(item.logpath)}")

    async def again(self, begin: int, end: int) -> AsyncIterator[tuple[Entry, str, Offence]]:
        """Read once more, and give each failure between two times with its jail; nothing is counted."""
        links: dict[str, Links] = {}
        async for batch in self._batches(begin):
            for entry, hits in batch.entries:
                if entry.time > end:
                    continue
                for jail, offence in self._pipeline.routes.offences(entry, hits):
                    for failure in links.setdefault(jail, Links()).resolve(offence):
                        yield entry, jail, failure

    async def _batches(self, begin: int) -> AsyncIterator[Batch]:
        """Give what the journal and the files have since `begin`, at most `MOST_READ` entries of it."""
        read = 0
        if filters := self._pipeline.routes.filters():
            with closing(Journal(filters, self._directory)) as journal:
                journal.seek_time(begin)
                while (batch := journal.read(self._pipeline.sift())).read and read < MOST_READ:
                    read += batch.read
                    yield batch
                    await asyncio.sleep(0)

    def _unreadable(self) -> Mapping[str, str]:
        """Give the files that can't be read, each with why."""
        return {} if self._files is None else self._files.troubles

    # the journal

    async def _follow_journal(self) -> None:
        journal, self._journal = self._journal or self._open_journal(), None
        if self._pipeline.position() is None:
            try:
                await self._look_back(self._begin[JOURNAL])
            except JournalError as error:
                log.warning("logins of the past can't be read: who made them is a stranger", error=str(error))
        with closing(journal):
            async for batch in journal.follow(self._pipeline.sift()):
                self._enforcer.works(JOURNAL)
                self._take(batch)

    async def _look_back(self, until: int) -> None:
        """Read who logged in before the first entry that counts: whom the lock-out guard should know already."""
        grace = self._pipeline.grace
        if not grace:
            return
        with closing(Journal(self._pipeline.routes.filters(), self._directory)) as journal:
            journal.seek_time(_now() - grace * SECOND)
            while (batch := journal.read(self._pipeline.sift())).read:
                self._pipeline.note_logins(batch, until)
                if batch.time >= until:
                    return
                await asyncio.sleep(0)

    def _open_journal(self) -> Journal:
        """Open the journal where the last run left off, or `findtime` ago."""
        journal = Journal(self._pipeline.routes.filters(), self._directory)
        position = self._pipeline.position()
        if position is None:
            journal.seek_time(self._begin[JOURNAL])
        elif (gap := journal.resume(position.position, position.time)) is not None:
            log.warning(
                "the journal no longer has the entry read last; those since then may have been missed",
                since=timestamp(gap.since),
                until=None if gap.until is None else timestamp(gap.until),
                position=position.position,
            )
            if position.time > _now():  # the clock was set back since: what comes now is earlier than that entry
                journal.seek_time(self._begin[JOURNAL])
        return journal

    # the files

    async def _follow_files(self) -> None:
        from banagent.sources.logfiles import LogFiles  # noqa: PLC0415 - few need it, and it takes its time and memory

        positions = self._pipeline.file_positions()
        files = LogFiles(self._pipeline.routes.files(), _now, since=self._begin[FILES], positions=positions)
        self._files = files
        async for batch in files.follow(self._pipeline.sift):
            self._enforcer.works(FILES)
            self._tell_missed(files.missed)
            self._take(batch)

    def _tell_missed(self, sentences: list[str]) -> None:
        for sentence in sentences:
            log.warning("lines may have been missed", message_id="trouble", error=sentence)
        sentences.clear()

    # both

    async def _keep(self, kind: str, follow: Callable[[], Awaitable[None]]) -> None:
        """Follow one kind of sources for ever: what goes wrong there stops no other, and is tried again."""
        pause = SHORTEST_PAUSE
        while True:
            begin = time.monotonic()
            try:
                await follow()
            except JournalError as error:
                self._enforcer.fails(kind, str(error))
            except Exception as error:  # it is named, and the other kind goes on
                log.exception("reading failed", message_id="trouble", source=kind)
                self._enforcer.fails(kind, f"reading failed: {error}")
            self._pipeline.save()
            if time.monotonic() - begin > LONGEST_PAUSE:
                pause = SHORTEST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _take(self, batch: Batch) -> None:
        self._pipeline.handle(batch)
        if batch.damaged:
            log.warning("entries of the journal can't be read; see: journalctl --verify", entries=batch.damaged)
        for unit, dropped, _ in batch.suppressed:
            log.warning(
                "journald dropped entries, as the unit wrote too many; see RateLimitBurst= in journald.conf(5)",
                unit=unit,
                entries=dropped,
            )
        if batch.all_read:
            self._behind -= {batch.source} if batch.source else self._behind - {JOURNAL}
        self._after(batch)

    def _since(self, kind: str) -> int:
        """Give from when on entries count of a source that was never read, in µs since the epoch.

        If one of its jails has counted elsewhere, what is older than the newest entry read may be counted already.
        """
        now, newest = _now(), self._pipeline.newest
        reading = [config for config in self._pipeline.configs.values() if not config.counts_bans]
        longest = max((config.findtime for config in reading), default=0)
        begin = now - longest * SECOND
        if newest is None or newest > now or not any(self._has_moved(jail, kind) for jail in self._pipeline.configs):
            return begin
        return max(begin, newest)

    def _has_moved(self, jail: str, kind: str) -> bool:
        """Whether a jail has failures or bans, and all that it reads of a kind was never read."""
        pipeline, routes = self._pipeline, self._pipeline.routes
        if kind not in routes.kinds(jail):
            return False
        if kind == JOURNAL:
            was_read = pipeline.position() is not None
        else:
            was_read = any(routes.reads(jail, path) for path in pipeline.file_positions())
        counts = pipeline.jail(jail)
        has_counted = bool(counts and len(counts.window)) or any(ban.jail == jail for ban in self._enforcer.standing())
        return has_counted and not was_read


def matching(patterns: Iterable[str]) -> list[str]:
    """Give the paths that exist."""
    return sorted({str(path) for pattern in patterns for path in Path("/").glob(pattern.lstrip("/"))})


def _in_files(item: Filter, paths: list[str]) -> bool:
    """Whether the end of one of the files has a line under one of a filter's identifiers."""
    return any(_mentions(path, item.identifiers) for path in paths)


def _mentions(path: str, identifiers: Iterable[str]) -> bool:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - a FIFO would block
            file.seek(max(os.fstat(file.fileno()).st_size - LOOKED_AT, 0))
            end = file.read(LOOKED_AT)
    except OSError:
        return False
    return any(f" {name}{mark}".encode() in end for name in identifiers for mark in ("[", ":"))


def _now() -> int:
    return time.time_ns() // 1000


async def _for_ever() -> None:
    await asyncio.Future()
