# SPDX-License-Identifier: LGPL-2.1-or-later
"""A jail: counts offences and decides on bans, as a function of the entries and their own times."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from banagent.core.bans import Bans, Standing
from banagent.core.events import SECOND, Ban, Offence
from banagent.core.links import Links
from banagent.core.session import Sessions
from banagent.core.window import Window, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from banagent.core.address import Network
    from banagent.core.aging import Present
    from banagent.core.never import Never

    Rows = Iterable[tuple[bytes, bytes]]


class Rule(NamedTuple):
    """What a jail is told to do; durations in seconds."""

    findtime: int
    maxretry: int
    bantime: int | None  # None: for ever
    sessions: bool = False  # whether a session's lines about one address tell of the same attempts
    links: bool = False  # whether a session's address and its failures stand in different lines


class Jail:
    """The counts of one jail, and the rule that turns them into bans."""

    def __init__(self, name: str, rule: Rule, never: Never, bans: Bans) -> None:
        self.name = name
        self.rule = rule
        self.never = never
        self._bans = bans
        self.window = Window(rule.findtime, rule.maxretry)
        self.sessions = Sessions()
        self.links = Links()
        self.failures = 0  # counted since the start
        self.ignored = 0  # offences of those whom it must not ban
        self._unaddressed = 0

    @property
    def unaddressed(self) -> int:
        """Failures of which no line told an address, or a host name only."""
        return self._unaddressed + self.links.lost

    def consider(self, offence: Offence) -> Ban | None:
        """Count what an entry tells; give the ban that it decides, if it does."""
        if not self.rule.links:
            return self._count(offence)
        decided = [self._count(item) for item in self.links.resolve(offence)]
        return next((ban for ban in decided if ban is not None), None)

    def _count(self, offence: Offence) -> Ban | None:
        """Count a failure.

        An address that is banned by this jail at the time of the entry is not counted: its lines are of connections
        that were open already.
        """
        address = offence.address
        if address is None:
            self._unaddressed += offence.times
            return None
        if self.never.forbids(address):
            self.ignored += 1
            return None
        subject = self.never.subject(address)
        if self._bans.is_banned(self.name, subject, offence.time):
            return None
        count = self._attempts(offence, address) * offence.weight
        if not count:
            return None
        self.failures += count
        key = key_of(subject)
        failures = self.window.add(key, offence.time, count)
        if failures < self.rule.maxretry:
            return None
        self.window.forget(key)
        bantime = self.rule.bantime
        ban = Ban(
            jail=self.name,
            address=subject,
            position=offence.position,
            start=offence.time,
            end=None if bantime is None else offence.time + bantime * SECOND,
            failures=failures,
            user=offence.user,
            filter=offence.filter,
            pattern=offence.pattern,
        )
        self._bans.stand(Standing(ban.jail, ban.address, ban.end))
        return ban

    def load(self, windows: Rows, sessions: Rows, links: Rows) -> None:
        """Take over the counts that a checkpoint holds."""
        self.window.load(windows)
        self.sessions.load(sessions)
        self.links.load(links)

    def observe(self, present: Present) -> None:
        """Take note of where the sources are."""
        self.window.present = self.sessions.present = self.links.present = present

    def saved(self) -> None:
        """Note that the changes are in the checkpoint."""
        self.window.saved()
        self.sessions.saved()
        self.links.saved()

    def inherit(self, other: Jail) -> None:
        """Take over the counts of the same jail under an earlier configuration."""
        self.load(other.window.items(), other.sessions.items(), other.links.items())
        self.links.lost = other.links.lost
        self.failures, self.ignored, self._unaddressed = other.failures, other.ignored, other._unaddressed

    def _attempts(self, offence: Offence, address: Network) -> int:
        if not self.rule.sessions or offence.session is None:
            return offence.times
        key = offence.session.encode() + b"\0" + address.packed
        return self.sessions.attempts(key, offence.time, offence.pattern, offence.times, once=offence.once)
