# SPDX-License-Identifier: LGPL-2.1-or-later
"""`replay`: the bans that the jails would have made, by what is in logs and at the times of that.

The pipeline and the jails are the agent's own. Nothing is enforced, and the history is in memory.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from banagent import config, log
from banagent.config.lists import read_list
from banagent.core.bans import Bans
from banagent.core.events import FILES, JOURNAL, timestamp
from banagent.core.never import Cover
from banagent.enforce import Enforcer, facts_of
from banagent.errors import ConfigError
from banagent.pipeline import Pipeline
from banagent.sinks.history import History
from banagent.sinks.trail import Trail
from banagent.sources.decoder import read_stream
from banagent.sources.host import HostAddresses
from banagent.sources.journal import Journal
from banagent.verbs import DONE, REFUSED, USAGE, Stopped
from banagent.verbs.checking import path
from banagent.verbs.inputs import DAMAGED, Progress, begin, check, opened, unreadable
from banagent.verbs.output import array, wants_json
from banagent.verbs.table import Column, table
from banagent.verbs.text import plural
from banagent.verbs.times import local, span

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator

    from banagent.config import Config, JailConfig
    from banagent.core.events import Ban
    from banagent.core.never import Host
    from banagent.sources.batch import Batch
    from banagent.verbs import Said
    from banagent.verbs.terminal import Terminal

_INPUT: Final = "/input"  # stands for the logs, which may have any names
_PLAIN: Final = "plain"
_SYSLOG: Final = "syslog"
_SAVED: Final = 100  # batches, after which what is over is forgotten


class _Clock:
    """The time of the newest entry, in µs since the epoch."""

    def __init__(self) -> None:
        self.time = 0

    def __call__(self) -> int:
        return self.time


def replay(arguments: Namespace, terminal: Terminal) -> Said:
    """Decide about what is in logs; that nobody would have been banned is a search that found nothing."""
    check(arguments)
    log.configure()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))  # what is decided is printed
    in_journal = arguments.journal is not None
    found = _config(arguments)
    clock, history = _Clock(), History(None)
    enforcer = Enforcer(Bans(), history, clock, dry=True)
    progress = Progress(sys.stderr, "entry" if in_journal else "line")
    with closing(enforcer):
        kinds = frozenset({JOURNAL if in_journal else FILES})
        jails = found if in_journal else replace(found, jails=tuple(map(_reading, found.jails)))
        lists = {name: Cover(read_list(name).networks) for jail in found.jails for name in jail.ignore_files}
        pipeline = Pipeline(jails, _host(), history, enforcer, choose=lambda _: kinds, trail=Trail(None), lists=lists)
        batches = _journal(pipeline, arguments) if in_journal else _files(pipeline, arguments.log)
        try:
            read = _decide(batches, pipeline, enforcer, clock, progress)
        finally:
            progress.clear()
        bans = [item.ban for item in history.records()][::-1]
    if wants_json(arguments):
        return (yield from array([list(map(facts_of, bans))], arguments))
    if bans:
        yield "\n".join(_table(bans, terminal))
        yield ""
    addresses = len({ban.address for ban in bans})
    of = "1 address" if addresses == 1 else f"{addresses:,} addresses"
    what = f"{read:,} entries that the jails may concern" if in_journal else plural(read, "line")
    names = ", ".join(item.name for item in found.jails)
    yield from terminal.wrap(f"{plural(len(bans), 'ban')} of {of} would have been made for {what}; jails: {names}")
    return DONE if bans else REFUSED


def _config(arguments: Namespace) -> Config:
    """Give the configuration with the jails that are to decide, and no others. Raises ConfigError, Stopped."""
    found = config.load(
        config=path(arguments.config), filters=path(arguments.filters), whole=arguments.jail is not None
    )
    if arguments.jail is None:
        jails = tuple(jail for jail in found.jails if jail.enabled)
        if found.failed:
            raise ConfigError(found.failed)
    else:
        jails = tuple(replace(jail, enabled=True) for jail in found.jails if jail.name == arguments.jail)
    if not jails:
        raise Stopped(
            "no jail is enabled; see banagent.toml(5)" if arguments.jail is None else f"no jail {arguments.jail}", USAGE
        )
    return replace(found, jails=jails)


def _reading(jail: JailConfig) -> JailConfig:
    """Give a jail that reads the logs that are given, in its formats or as journalctl prints the journal."""
    if jail.counts_bans:
        return jail
    formats = tuple(dict.fromkeys((*jail.filter.formats, _SYSLOG)))
    # what is no syslog, and has no other format, would else be taken for lines without any from then on
    formats = tuple(name for name in formats if name != _PLAIN) if jail.filter.formats != (_PLAIN,) else formats
    return replace(jail, filter=replace(jail.filter, logpath=(_INPUT,), formats=formats))


def _host() -> Host:
    addresses = HostAddresses()
    with closing(addresses):
        return addresses.read()


def _journal(pipeline: Pipeline, arguments: Namespace) -> Iterator[Batch]:
    """Read the journal. Raises JournalError, Stopped."""
    since = begin(arguments)
    with closing(Journal(pipeline.routes.filters(), path(arguments.journal or None))) as journal:
        journal.seek_time(since)
        sift = pipeline.sift()
        while (batch := journal.read(sift)).read:
            yield batch


def _files(pipeline: Pipeline, names: Iterable[str]) -> Iterator[Batch]:
    """Read logs one after the other. Raises Stopped."""
    formats = pipeline.routes.files()[_INPUT]
    for name in names:
        try:
            with opened(name) as stream:
                yield from read_stream(stream, formats, pipeline.sift(_INPUT), _now, source=_INPUT)
        except DAMAGED as error:
            raise unreadable(name, error) from error


def _decide(batches: Iterable[Batch], pipeline: Pipeline, enforcer: Enforcer, clock: _Clock, progress: Progress) -> int:
    """Have all batches handled; give how many entries were read."""
    read = 0
    for number, batch in enumerate(batches, start=1):
        clock.time = max(clock.time, batch.time, *(entry.time for entry, _ in batch.entries))
        pipeline.handle(batch)
        enforcer.expire()
        if number % _SAVED == 0:
            pipeline.save()
        read += batch.read
        progress.add(batch.read)
    return read


def _table(bans: Iterable[Ban], terminal: Terminal) -> list[str]:
    columns = (
        Column("START"),
        Column("END", drop=2),
        Column("ADDRESS"),
        Column("JAIL", least=20),
        Column("FOR", right=True),
        Column("FAILS", right=True),
        Column("PATTERN", drop=3),
        Column("USER", least=20),
    )
    rows = [
        (
            local(timestamp(ban.start)),
            "never" if ban.end is None else local(timestamp(ban.end)),
            str(ban.address),
            terminal.show(ban.jail),
            span(ban.bantime),
            f"{ban.failures:,}",
            terminal.show(ban.pattern),
            terminal.show(ban.user or ""),
        )
        for ban in bans
    ]
    return table(columns, rows, terminal)


def _now() -> int:
    return time.time_ns() // 1000
