# SPDX-License-Identifier: LGPL-2.1-or-later
"""From entries to decisions: the jails in force, what they read, and how far they have read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from banagent.core.events import SECOND, Ban
from banagent.core.jail import Jail, Rule
from banagent.core.never import Host, Never
from banagent.core.recognise import Recogniser, View
from banagent.core.window import key_of
from banagent.enforce import Enforcer, Progress
from banagent.sinks.history import Counts, History, Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from banagent.config import Config, JailConfig
    from banagent.core.address import Network
    from banagent.core.events import Entry, Offence
    from banagent.sources.journal import Batch

JOURNAL: Final = "journal"  # the source's name in the checkpoint
# entries can be a little older than those before them: ended bans are remembered this long, in µs
LATE: Final = 24 * 3600 * SECOND

log = structlog.get_logger()


class Pipeline:
    """All jails under one configuration. What they decide goes to the enforcer."""

    def __init__(self, config: Config, host: Host, history: History, enforcer: Enforcer) -> None:
        self._enforcer = enforcer
        self._host = host
        self.position = history.position(JOURNAL)
        self.configs: dict[str, JailConfig] = {}  # of the jails in force
        self._jails: dict[str, Jail] = {}
        self._recogniser = Recogniser({})
        self.reconfigure(config)
        for name, jail in self._jails.items():
            windows, sessions = history.counts(name)
            jail.window.load(windows)
            jail.sessions.load(sessions)

    @property
    def failures(self) -> int:
        """Failures counted since the start."""
        return sum(jail.failures for jail in self._jails.values())

    def sift(self, message: bytes) -> Sequence[int]:
        """Give the patterns that a message matches, for `handle`."""
        return self._recogniser.sift(message)

    def offences(self, entry: Entry, hits: Sequence[int]) -> list[tuple[str, Offence]]:
        """Give what an entry tells, by jail; nothing is counted."""
        return self._recogniser.offences(entry, hits)

    def handle(self, batch: Batch) -> None:
        """Decide about a batch of entries, and have it enforced."""
        entries = () if self._enforcer.off else batch.entries
        since = self._enforcer.on_since
        bans = [ban for entry, hits in entries if entry.time >= since for ban in self._decide(entry, hits)]
        if batch.position is not None:
            self.position = Position(batch.position, batch.time)
        if bans:
            self._done(saved=self._enforcer.enforce(bans, self._progress()))

    def save(self) -> None:
        """Make a checkpoint."""
        if self.position is not None:
            self._enforcer.bans.forget_ended(self.position.time - LATE)
        self._done(saved=self._enforcer.save(self._progress()))

    def reconfigure(self, config: Config) -> None:
        """Go on with another configuration; a jail that stays keeps its counts. Raises ConfigError."""
        configs = {item.name: item for item in config.jails if item.enabled}
        self._recogniser = Recogniser({name: View(item.filter, item.mode) for name, item in configs.items()})
        self.configs = configs
        former, self._jails = self._jails, {}
        for name, item in self.configs.items():
            rule = Rule(item.findtime, item.maxretry, item.bantime, item.filter.session is not None)
            self._jails[name] = Jail(name, rule, Never(item.ignoreip, self._host), self._enforcer.bans)
            if name in former:
                self._jails[name].inherit(former[name])

    def adopt_host(self, host: Host) -> None:
        """Take note of the host's addresses."""
        self._host = host
        for name, jail in self._jails.items():
            jail.never = Never(self.configs[name].ignoreip, host)
        self.lift_forbidden()

    def jail(self, name: str) -> Jail | None:
        """Give a jail in force."""
        return self._jails.get(name)

    def never(self, jail: str) -> Never:
        """Give whom a jail must not ban; if it is not in force, as for bans by hand, nobody whom any jail ignores."""
        if found := self._jails.get(jail):
            return found.never
        return Never((net for config in self.configs.values() for net in config.ignoreip), self._host)

    def forget(self, jail: str, address: Network) -> None:
        """Forget the failures of an address, as it was let go."""
        if found := self._jails.get(jail):
            found.window.forget(key_of(address))

    def lift_forbidden(self) -> None:
        """Lift the bans that would reach somebody who, by now, must never be banned."""
        standing = self._enforcer.standing()
        exempt = {name: self.never(name) for name in {item.jail for item in standing}}
        forbidden = [(item.jail, item.address) for item in standing if exempt[item.jail].forbids(item.address)]
        self._enforcer.lift(forbidden, "ignored")

    def _decide(self, entry: Entry, hits: Sequence[int]) -> list[Ban]:
        try:
            offences = self._recogniser.offences(entry, hits)
            decisions = [self._jails[name].consider(offence) for name, offence in offences]
        except Exception:  # one entry must not stop the rest; it is named, so that the fault can be found
            log.exception("skipped an entry", message_id="trouble", position=entry.position)
            return []
        return [ban for ban in decisions if ban is not None]

    def _progress(self) -> Progress:
        return Progress(
            {} if self.position is None else {JOURNAL: self.position},
            {name: Counts(jail.window.changes(), jail.sessions.changes()) for name, jail in self._jails.items()},
        )

    def _done(self, *, saved: bool) -> None:
        if saved:
            for jail in self._jails.values():
                jail.window.saved()
                jail.sessions.saved()
