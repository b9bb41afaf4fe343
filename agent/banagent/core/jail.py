# SPDX-License-Identifier: LGPL-2.1-or-later
"""A jail: counts offences and decides on bans, as a function of the entries and their own times."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from banagent.core.bans import Bans, Standing
from banagent.core.events import SECOND, Ban, Offence
from banagent.core.session import Sessions
from banagent.core.window import Window, key_of

if TYPE_CHECKING:
    from banagent.core.never import Never


class Rule(NamedTuple):
    """What a jail is told to do; durations in seconds."""

    findtime: int
    maxretry: int
    bantime: int | None  # None: for ever
    sessions: bool  # whether lines of one pid about one address tell of one session


class Jail:
    """The counts of one jail, and the rule that turns them into bans."""

    def __init__(self, name: str, rule: Rule, never: Never, bans: Bans) -> None:
        self.name = name
        self.rule = rule
        self.never = never
        self._bans = bans
        self.window = Window(rule.findtime, rule.maxretry)
        self.sessions = Sessions()
        self.failures = 0  # counted since the start
        self.ignored = 0  # offences of those whom it must not ban

    def consider(self, offence: Offence) -> Ban | None:
        """Count an offence; give the ban that it decides, if it does.

        An address that is banned by this jail at the time of the entry is not counted: its lines are of connections
        that were open already.
        """
        if offence.address in self.never:
            self.ignored += 1
            return None
        subject = self.never.subject(offence.address)
        if self._bans.is_banned(self.name, subject, offence.time):
            return None
        count = self._attempts(offence) * offence.weight
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

    def inherit(self, other: Jail) -> None:
        """Take over the counts of the same jail under an earlier configuration."""
        self.window.load(other.window.items())
        self.sessions.load(other.sessions.items())
        self.failures, self.ignored = other.failures, other.ignored

    def _attempts(self, offence: Offence) -> int:
        if not self.rule.sessions or offence.pid is None:
            return offence.times
        key = offence.pid.to_bytes(4, "big") + offence.address.packed
        return self.sessions.attempts(key, offence.time, offence.pattern, offence.times, once=offence.once)
