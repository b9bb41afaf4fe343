# SPDX-License-Identifier: LGPL-2.1-or-later
"""A jail: counts offences and decides on bans, as a function of the entries and their own times."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.core.bans import Bans, Standing
from banagent.core.breaker import Breaker, Limits
from banagent.core.events import SECOND, Ban, Offence
from banagent.core.growth import weight
from banagent.core.guard import Guard, Guarding, Logins, Spared, named
from banagent.core.links import Links
from banagent.core.networks import PATTERN, Alone, Networks, Targets, around
from banagent.core.record import Nothing, Record
from banagent.core.session import Sessions
from banagent.core.window import LIMIT, Window, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from banagent.core.address import Network
    from banagent.core.aging import Present
    from banagent.core.breaker import Trip
    from banagent.core.growth import Growth
    from banagent.core.memory import Remembered
    from banagent.core.networks import Attack, Crowd
    from banagent.core.never import Never

    Rows = Iterable[tuple[bytes, bytes]]
    Notice = Alone | Attack | Spared | Trip  # what is to be told beside the bans

DOUBTED: Final = 100_000  # addresses that are remembered for entries that somebody else may have written


class Rule(NamedTuple):
    """What a jail is told to do; durations in seconds."""

    findtime: int
    maxretry: int
    bantime: int | None  # None: for ever
    sessions: bool = False  # whether a session's lines about one address tell of the same attempts
    links: bool = False  # whether a session's address and its failures stand in different lines
    growth: Growth | None = None  # None: each ban lasts as long as the first
    credible: bool = False  # whether its bans say something of an address to other jails
    guard: Guarding = Guarding()
    networks: int = 0  # addresses that fail, for which their network is banned; 0: it looks at no networks
    breaker: Limits = Limits()
    remember: int = LIMIT  # addresses


class Jail:
    """The counts of one jail, and the rule that turns them into bans."""

    def __init__(self, name: str, rule: Rule, never: Never, bans: Bans, record: Record | None = None) -> None:
        self.name = name
        self.rule = rule
        self.never = never
        self._bans = bans
        self._record = Record(Nothing()) if record is None else record
        self.window = Window(rule.findtime, rule.maxretry, rule.remember)
        self.sessions = Sessions()
        self.links = Links()
        self.guard = Guard(rule.guard, rule.findtime, rule.maxretry)
        self.logins = Logins(rule.guard.grace)  # of anybody, also by network
        self.networks = Networks(rule.findtime, rule.networks)
        self.targets = Targets(rule.findtime)
        self.breaker = Breaker(rule.breaker)
        self.doubts = Window(rule.findtime, rule.maxretry, DOUBTED)
        self.memory: Mapping[str, Remembered] = {
            "guard": self.guard.logins.memory,
            "guarded": self.guard.window,
            "logins": self.logins.memory,
            "networks": self.networks.memory,
            "targets": self.targets,
            "breaker": self.breaker,
            "doubts": self.doubts,
        }
        self.notices: list[Notice] = []  # until they are taken
        self.failures = 0  # counted since the start
        self.ignored: int = 0  # offences of those whom it must not ban
        self._unaddressed = 0

    @property
    def unaddressed(self) -> int:
        """Failures of which no line told an address, or a host name only."""
        return self._unaddressed + self.links.lost

    def consider(self, offence: Offence) -> list[Ban]:
        """Count what an entry tells; give the bans that it decides, mostly none."""
        if offence.success:
            self._note_login(offence)
            return []
        if not self.rule.links:
            return self._count(offence)
        return [ban for item in self.links.resolve(offence) for ban in self._count(item)]

    def _count(self, offence: Offence) -> list[Ban]:
        """Count a failure.

        An address that is banned by this jail at the time of the entry is not counted: its lines are of connections
        that were open already.
        """
        address = offence.address
        if address is None:
            self._unaddressed += offence.times
            return []
        subject = self.never.culprit(address, offence.time)
        if subject is None:
            self.ignored += 1
            return []
        if self._is_banned(subject, offence.time):
            return []
        if self.rule.credible and not offence.credible:
            self.doubts.add(key_of(subject), offence.time)
        count = self._attempts(offence, address) * offence.weight
        self.failures += count
        return self._judge(subject, offence, count) if count else []

    def _judge(self, subject: Network, offence: Offence, count: int) -> list[Ban]:
        """Count failures of somebody who is not banned, and ban whom they suffice for."""
        failures = self._add(subject, offence, count)
        if self.rule.networks and (bans := self._look_around(subject, offence)):
            return bans
        if failures is None:
            return []
        self.forget(subject)
        if not self._may_ban(offence.time, self.logins.users(key_of(subject), offence.time)):
            return []
        return [self._decide(subject, offence, failures)]

    def _add(self, subject: Network, offence: Offence, count: int) -> int | None:
        """Count failures of an address; give how many it has if they are enough for a ban."""
        key, time, guard = key_of(subject), offence.time, self.guard
        if not guard.users(key, time):  # as almost always
            failures = self.window.add(key, time, count * self.weight(subject, time))
            return failures if failures >= self.rule.maxretry else None
        if is_guarded := guard.covers(key, offence.user, time):
            own, others = guard.window.add(key, time, count), self.window.count(key, time)
        else:
            others = self.window.add(key, time, count * self.weight(subject, time))
            own = guard.window.count(key, time)
        failures, factor = others + own, guard.rule.factor
        if others * factor + own >= self.rule.maxretry * factor:
            return failures
        if is_guarded and failures - count < self.rule.maxretry <= failures:
            self.notices.append(Spared(subject, offence.user or "", failures))
        return None

    def _look_around(self, subject: Network, offence: Offence) -> list[Ban]:
        """Count a failure for the networks around an address; ban the one of which too many fail."""
        time = offence.time
        if offence.user and (attack := self.targets.add(offence.user, subject, time)):
            self.notices.append(attack)
        crowd = self.networks.add(subject, time)
        if crowd is None:
            return []
        if reason := self.never.reason(crowd.network, time):
            return self._ban_members(crowd, offence, reason)
        if users := self.logins.users(key_of(crowd.network), time):
            if crowd.is_new:
                self.notices.append(Alone(crowd.network, f"{named(users)} logged in from it", are_banned=False))
            return []
        self.networks.forget(crowd.network)
        if not self._may_ban(time, ()):
            return []
        return [self._decide(crowd.network, offence, len(crowd.members), PATTERN)]

    def _ban_members(self, crowd: Crowd, offence: Offence, reason: str) -> list[Ban]:
        """Ban those of a network who failed, as it can't be banned as a whole."""
        if crowd.is_new:
            self.notices.append(Alone(crowd.network, reason, are_banned=True))
        return [
            self._decide(member, offence, 1, PATTERN)
            for member in crowd.members
            if not self._is_banned(member, offence.time)
            and not self.never.forbids(member, offence.time)
            and self._may_ban(offence.time, self.logins.users(key_of(member), offence.time))
        ]

    def _may_ban(self, time: int, users: Iterable[str]) -> bool:
        """Ask the breaker for a ban, by which users who logged in lately would be hit."""
        breaker = self.breaker
        was_tripped = breaker.tripped is not None
        allowed = breaker.allows(time, users)
        if breaker.tripped is not None and not was_tripped:
            self.notices.append(breaker.tripped)
        return allowed

    def _is_banned(self, subject: Network, time: int) -> bool:
        covering = _covering(subject) if self.rule.networks else (subject,)
        return self._bans.is_any_banned(self.name, covering, time)

    def _note_login(self, offence: Offence) -> None:
        if offence.address is None or offence.user is None:
            return
        subject = self.never.subject(offence.address)
        self.guard.note(key_of(subject), offence.user, offence.time)
        for network in (subject, *around(subject)):
            self.logins.note(key_of(network), offence.user, offence.time)

    def _decide(self, subject: Network, offence: Offence, failures: int, pattern: str | None = None) -> Ban:
        """Ban an address; how long, its record says."""
        chance = self._record.chance(self.name, subject, offence.position)
        earlier, bantime = self.length(subject, offence.time, chance)
        ban = Ban(
            jail=self.name,
            address=subject,
            position=offence.position,
            start=offence.time,
            end=None if bantime is None else offence.time + bantime * SECOND,
            failures=failures,
            user=offence.user,
            filter=offence.filter,
            pattern=pattern or offence.pattern,
            earlier=earlier,
            # what neighbours did says nothing of an address to other jails
            credible=self.rule.credible and pattern is None and not self._is_doubted(subject, offence.time),
        )
        self._bans.stand(Standing(ban.jail, ban.address, ban.end))
        self._record.add(ban)
        return ban

    def length(self, subject: Network, time: int, chance: float = 0) -> tuple[int, int | None]:
        """Give how many earlier bans of somebody count at `time`, and how long one that is decided then lasts."""
        bantime, growth = self.rule.bantime, self.rule.growth
        if bantime is None or growth is None:
            return 0, bantime
        earlier = self._record.earlier(subject, self.name, time, growth.forget, overall=growth.overalljails)
        return earlier, growth.bantime(bantime, earlier, chance)

    def counted(self, address: Network, now: int) -> int:
        """Give how many failures of an address are counted at `now`."""
        key = key_of(address)
        return self.window.count(key, now) + self.guard.window.count(key, now)

    def total(self, now: int) -> int:
        """Give how many failures of all addresses are counted at `now`."""
        return self.window.total(now) + self.guard.window.total(now)

    def forget(self, address: Network) -> None:
        """Forget the failures of an address or a network."""
        self.window.forget(key_of(address))
        self.guard.window.forget(key_of(address))
        self.networks.forget(address)

    def forget_all(self) -> Iterator[None]:
        """Forget all failures, in steps of a thousand addresses."""
        counts = (self.window, self.guard.window, self.networks.memory)
        keys = [(of, key) for of in counts for key, _ in of.items()]
        for number, (of, key) in enumerate(keys, start=1):
            of.forget(key)
            if number % 1000 == 0:
                yield
        yield

    def load(
        self, windows: Rows, sessions: Rows, links: Rows, memory: Mapping[str, Rows] = MappingProxyType({})
    ) -> None:
        """Take over the counts that a checkpoint holds."""
        self.window.load(windows)
        self.sessions.load(sessions)
        self.links.load(links)
        for kind, rows in memory.items():
            if kind in self.memory:
                self.memory[kind].load(rows)

    def observe(self, present: Present) -> None:
        """Take note of where the sources are."""
        self.window.present = self.sessions.present = self.links.present = present
        self.guard.window.present = self.guard.logins.memory.present = present
        self.logins.memory.present = self.networks.memory.present = self.doubts.present = present

    @property
    def unsaved(self) -> int:
        """How many addresses and networks of it the checkpoint does not have as they are."""
        return self.window.unsaved + self.networks.memory.unsaved

    def saved(self) -> None:
        """Note that the changes are in the checkpoint."""
        self.window.saved()
        self.sessions.saved()
        self.links.saved()
        for item in self.memory.values():
            item.saved()

    def inherit(self, other: Jail) -> None:
        """Take over the counts of the same jail under an earlier configuration."""
        memory = {kind: item.items() for kind, item in other.memory.items()}
        self.load(other.window.items(), other.sessions.items(), other.links.items(), memory)
        self.links.lost = other.links.lost
        self.failures, self.ignored, self._unaddressed = other.failures, other.ignored, other._unaddressed

    def _is_doubted(self, subject: Network, time: int) -> bool:
        """Whether one of the failures of somebody within `findtime` may be made up by a user of this machine."""
        return self.doubts.count(key_of(subject), time) > 0

    def weight(self, subject: Network, time: int) -> int:
        """Give how much a failure of somebody counts: more, if this jail knows them."""
        growth = self.rule.growth
        if growth is None:
            return 1
        return weight(self._record.earlier(subject, self.name, time, growth.forget), self.rule.maxretry)

    def _attempts(self, offence: Offence, address: Network) -> int:
        if not self.rule.sessions or offence.session is None:
            return offence.times
        key = offence.session.encode() + b"\0" + address.packed
        return self.sessions.attempts(key, offence.time, offence.pattern, offence.times, once=offence.once)


@lru_cache(1024)  # an attacker comes again
def _covering(subject: Network) -> tuple[Network, ...]:
    """Give what is banned where somebody is: himself, or a network around him."""
    return (subject, *around(subject))
