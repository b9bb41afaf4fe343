# SPDX-License-Identifier: LGPL-2.1-or-later
"""From entries to decisions: the jails in force, what they read, and how far they have read it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import structlog

from banagent.core.aging import Present
from banagent.core.breaker import Trip
from banagent.core.events import FILES, JOURNAL, SECOND, Ban
from banagent.core.guard import Spared
from banagent.core.jail import Jail, Rule
from banagent.core.networks import Alone, Attack
from banagent.core.never import Cover, Host, Never
from banagent.core.recidive import Recidive
from banagent.core.record import Record
from banagent.enforce import Enforcer, Progress
from banagent.errors import HistoryError
from banagent.routes import Routes
from banagent.sinks.history import Counts, History, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from banagent.config import Config, JailConfig
    from banagent.core.address import Network
    from banagent.core.events import Entry, Offence
    from banagent.core.record import Past
    from banagent.routes import Kinds
    from banagent.sinks.trail import Trail
    from banagent.sources.batch import Batch

# entries can be a little older than those before them: ended bans are remembered this long, in µs
LATE: Final = 24 * 3600 * SECOND
QUIET: Final = 3600 * SECOND  # between two reports of one sender's forgeries
UNSAVED: Final = 20_000  # changes of a jail after which a checkpoint is made: so it takes neither long nor much memory
SENDERS: Final = 1000  # whose forgeries are remembered
_FILE: Final = "file:"  # before a path in the checkpoint
NO_LISTS: Final[Mapping[str, Cover]] = MappingProxyType({})

log = structlog.get_logger()


class Pipeline:
    """All jails under one configuration. What they decide goes to the enforcer."""

    def __init__(
        self,
        config: Config,
        host: Host,
        history: History,
        enforcer: Enforcer,
        *,
        choose: Callable[[JailConfig], Kinds],
        trail: Trail,
        lists: Mapping[str, Cover] = NO_LISTS,
    ) -> None:
        """Begin where `history` says. `lists` are the files of ignoreip by path; after a change call `renew`."""
        self._enforcer = enforcer
        self._host = host
        self._lists = lists
        self._trail = trail
        self._positions = history.positions()
        self._behind: dict[str, int] = {}  # the sources that were not yet read to their end: the time of their newest
        self._moved: set[str] = set()  # the sources of which the checkpoint has an older position
        self._steps = 0  # lines looked at since the last batch
        self._crowded: dict[str, int] = {}  # when each jail last had no room for an address
        self._forgeries: dict[tuple[str | None, int | None, str], int] = {}  # when they were reported
        self._present = Present()
        self._is_ahead = False  # the last batch had an entry from the future
        self._record = Record(_Memory(history, enforcer))
        self.configs: dict[str, JailConfig] = {}  # of the jails in force
        self.routes = Routes({}, {})
        self._jails: dict[str, Jail] = {}
        self.reconfigure(config, choose)
        for name, jail in self._jails.items():
            jail.load(*history.counts(name), history.memory(name))
            self._tell_tripped(jail)
        self._behind = {
            source.removeprefix(_FILE): position.time
            for source, position in self._positions.items()
            if self.routes.is_read(source.removeprefix(_FILE))
        }

    @property
    def failures(self) -> int:
        """Failures counted since the start."""
        return sum(jail.failures for jail in self._jails.values())

    @property
    def newest(self) -> int | None:
        """The time of the newest entry that was read, in µs since the epoch; None if there was none."""
        return max((position.time for position in self._positions.values()), default=None)

    def position(self, source: str = JOURNAL) -> Position | None:
        """Give how far the journal was read, or the file at a path."""
        return self._positions.get(source if source == JOURNAL else _FILE + source)

    def file_positions(self) -> dict[str, str]:
        """Give how far each file was read, by path."""
        return {
            source.removeprefix(_FILE): position.position
            for source, position in self._positions.items()
            if source.startswith(_FILE)
        }

    def sift(self, source: str = JOURNAL) -> Callable[[bytes], Sequence[int]]:
        """Give what finds the patterns that a source's line matches, for `handle`."""
        sift = self.routes.recogniser(source).sift
        if not self._trail.careful:
            return sift

        def careful(message: bytes) -> Sequence[int]:
            self._steps += 1
            position = self.position(source)
            begin = "" if position is None else position.position
            return sift(message) if self._may(f"{begin}+{self._steps}") else ()

        return careful

    def handle(self, batch: Batch) -> None:
        """Decide about a batch of entries, and have it enforced."""
        self.follow_clock()
        self._observe(batch)
        since = self._enforcer.on_since
        entries = [] if self._enforcer.off else [item for item in batch.entries if item[0].time >= since]
        if self._trail.careful:
            bans = [ban for one in entries if self._may(one[0].position) for ban in self._decide([one], batch.source)]
            self._trail.step("")  # what comes now is not of an entry: an end there must not cost the last one
        else:
            bans = self._decide(entries, batch.source)
        if batch.position is not None:
            source = batch.source if batch.source == JOURNAL else _FILE + batch.source
            self._positions[source] = Position(batch.position, batch.time)
            self._moved.add(source)
        self._steps = 0
        if bans:
            self._done(saved=self._enforcer.enforce(bans, self._progress()))
        elif (self._trail.careful and batch.read) or any(jail.unsaved > UNSAVED for jail in self._jails.values()):
            self.save()

    @property
    def grace(self) -> int:
        """For how many seconds at most the lock-out guard of a jail goes by a login; 0: none has chosen users."""
        return max((config.guard.grace for config in self.configs.values() if config.guard.users), default=0)

    def note_logins(self, batch: Batch, until: int) -> None:
        """Take note of who logged in before `until`, in µs since the epoch, and of nothing else."""
        for _, offences in self._recognise((item for item in batch.entries if item[0].time < until), batch.source):
            for name, offence in offences:
                if offence.success:
                    self._jails[name].consider(offence)

    def save(self) -> None:
        """Make a checkpoint."""
        self._tell_crowded()
        if (newest := self.newest) is not None:
            self._enforcer.forget_ended(min(newest, self._present.oldest, self._enforcer.now()) - LATE)
        self._done(saved=self._enforcer.save(self._progress()))

    def reconfigure(self, config: Config, choose: Callable[[JailConfig], Kinds]) -> None:
        """Go on with another configuration; a jail that stays keeps its counts. Raises ConfigError."""
        configs = {item.name: item for item in config.jails if item.enabled}
        self.routes = Routes(configs, {name: _kinds(item, choose) for name, item in configs.items()}, self._on_refused)
        self.configs = configs
        former, self._jails = self._jails, {}
        for name, item in self.configs.items():
            rule = Rule(
                item.findtime,
                item.maxretry,
                item.bantime,
                sessions=item.filter.session is not None,
                links=bool(item.filter.links),
                growth=item.growth,
                credible=_may_be_credible(item, self.routes.kinds(name)),
                guard=item.guard,
                networks=item.networks,
                breaker=item.breaker,
                remember=item.remember,
            )
            kind = Recidive if item.counts_bans else Jail
            self._jails[name] = kind(name, rule, self._never([item]), self._enforcer.bans, self._record)
            if name in former:
                self._jails[name].inherit(former[name])

    def adopt_host(self, host: Host) -> None:
        """Take note of the host's addresses and gateways."""
        former, self._host = self._host, host
        if host != former:
            self.renew(
                (host.addresses | host.gateways | host.bridged) - (former.addresses | former.gateways | former.bridged)
            )

    def longest_record(self) -> int | None:
        """Give for how many seconds a ban can make the next one longer; None: for ever."""
        growths = [config.growth for config in self.configs.values() if config.growth is not None]
        if any(growth.forget is None for growth in growths):
            return None
        lengths = [growth.forget or 0 for growth in growths] + [config.findtime for config in self.configs.values()]
        return max(lengths, default=0)

    def forget_all(self) -> Iterator[None]:
        """Forget all failures, in steps."""
        for jail in self._jails.values():
            yield from jail.forget_all()

    def follow_clock(self) -> None:
        """Look whether the clock was set."""
        if self._enforcer.follow_clock():
            self.renew(())

    def renew(self, added: Iterable[Network] | None = None) -> None:
        """Look again whom nobody may ban, and lift the bans that would reach them; `added` are those who are new."""
        for name, jail in self._jails.items():
            jail.never = self._never([self.configs[name]])
        self.lift_forbidden(added)

    def jail(self, name: str) -> Jail | None:
        """Give a jail in force."""
        return self._jails.get(name)

    def never(self, jail: str) -> Never:
        """Give whom a jail must not ban; if it is not in force, as for bans by hand, nobody whom any jail ignores."""
        if found := self._jails.get(jail):
            return found.never
        return self._never(self.configs.values())

    def forget(self, jail: str, address: Network) -> None:
        """Forget the failures of an address, as it was let go."""
        if found := self._jails.get(jail):
            found.forget(address)

    def lift_forbidden(self, among: Iterable[Network] | None = None) -> None:
        """Lift the bans that would reach somebody who, by now, must never be banned; or only one of a few."""
        now, bans = self._enforcer.now(), self._enforcer.bans
        standing = bans.at(now) if among is None else {item for net in among for item in bans.touching(net, now)}
        exempt = {name: self.never(name) for name in {item.jail for item in standing}}
        forbidden = [(item.jail, item.address) for item in standing if exempt[item.jail].forbids(item.address, now)]
        self._enforcer.lift(forbidden, "ignored")

    def _never(self, configs: Iterable[JailConfig]) -> Never:
        """Give whom bans of all these jails must not reach."""
        configs = tuple(configs)
        paths = dict.fromkeys(path for config in configs for path in config.ignore_files)
        return Never(
            (net for config in configs for net in config.ignoreip),
            self._host,
            lists=[self._lists[path] for path in paths if path in self._lists],
            allowed=self._enforcer.allowed,
        )

    def _observe(self, batch: Batch) -> None:
        """Take note of how far the sources are: what is too old in one of them may not be in another."""
        before = self._behind.copy()
        if not batch.all_read:
            self._behind[batch.source] = batch.time
        elif batch.source:
            self._behind.pop(batch.source, None)
        else:  # no file has any more
            self._behind = {source: time for source, time in before.items() if source == JOURNAL}
        now, was_ahead = self._enforcer.now(), self._is_ahead
        self._is_ahead = any(entry.time > now for entry, _ in batch.entries)
        if self._behind or before or self._is_ahead or was_ahead:
            newest = max([*self._behind.values(), *before.values(), batch.time])
            # what an entry from the future says must not make all that is known look old
            oldest = [*self._behind.values(), *([now] if self._is_ahead else ())]
            self._present = Present(min(oldest, default=Present().oldest), newest)
            for jail in self._jails.values():
                jail.observe(self._present)

    def _decide(self, entries: Iterable[tuple[Entry, Sequence[int]]], source: str) -> list[Ban]:
        """Decide about entries, in two rounds: each is quicker while the processor has no more than its code to keep.

        One entry must not stop the rest; it is named, so that the fault can be found.
        """
        counts = self.routes.settle
        bans: list[Ban] = []
        for entry, offences in self._recognise(entries, source):
            try:
                for name, offence in offences:
                    if counts(name, source):
                        bans += self._count(self._jails[name], offence)
            except Exception:
                log.exception("skipped an entry", message_id="trouble", position=entry.position)
        return bans

    def _recognise(
        self, entries: Iterable[tuple[Entry, Sequence[int]]], source: str
    ) -> list[tuple[Entry, list[tuple[str, Offence]]]]:
        """Give the entries that tell something, each with what it tells which jails."""
        told: list[tuple[Entry, list[tuple[str, Offence]]]] = []
        recognise = self.routes.recogniser(source).offences
        for entry, hits in entries:
            try:
                if offences := recognise(entry, hits):
                    told.append((entry, offences))
            except Exception:
                log.exception("skipped an entry", message_id="trouble", position=entry.position)
        return told

    def _count(self, jail: Jail, offence: Offence) -> list[Ban]:
        bans = jail.consider(offence)
        if jail.notices:
            self._tell_notices(jail)
        for ban in bans:  # which grow: a ban for bans is held against the address, too
            bans += self._judged(ban)
        return bans

    def _judged(self, ban: Ban) -> list[Ban]:
        """Give what the jails that count bans decide about one."""
        judged = [jail.judge(ban) for jail in self._jails.values() if isinstance(jail, Recidive)]
        return [item for item in judged if item is not None]

    def resume(self, name: str) -> int | None:
        """Let a jail ban again whose breaker tripped; give how many bans were withheld, None if it did not."""
        jail = self._jails[name]
        if jail.breaker.tripped is None:
            return None
        withheld = jail.breaker.resume()
        self._enforcer.works(_subject(name))
        self.save()
        return withheld

    def _tell_notices(self, jail: Jail) -> None:
        """Tell what a jail has to say beside its bans."""
        name = jail.name
        for notice in jail.notices:
            match notice:
                case Spared(address, user, failures):
                    words = "spared by the lock-out guard: the user logged in from there"
                    self._enforcer.stage(
                        "spared", words, "warning", jail=name, address=str(address), user=user, failures=failures
                    )
                case Alone(network, reason, are_banned=are_banned):
                    words = "many addresses of a network fail; it is not banned as a whole"
                    words += ", but each of them" if are_banned else ""
                    self._enforcer.stage("spared", words, "warning", jail=name, address=str(network), reason=reason)
                case Attack(user, addresses, networks):
                    words = "a distributed attack on a user"
                    reason = f"about {addresses} addresses, {networks} networks"
                    self._enforcer.stage("attack", words, "warning", jail=name, user=user, reason=reason)
                case Trip():
                    self._tell_tripped(jail)
        jail.notices.clear()

    def _tell_tripped(self, jail: Jail) -> None:
        """Say so if a jail's breaker has tripped; a later run says it again."""
        if (trip := jail.breaker.tripped) is not None:
            self._enforcer.fails(_subject(jail.name), f"{trip}; if that is right, then banagent resume {jail.name}")

    def _tell_crowded(self) -> None:
        """Say so while a jail can't remember all addresses, and for a while after that."""
        now = self._enforcer.now()
        for name, jail in self._jails.items():
            if jail.window.crowded:
                jail.window.crowded = False
                self._crowded[name] = now
                most = f"{jail.rule.remember:,} addresses are remembered, the most that may be (remember)"
                self._enforcer.fails(_memory_of(name), f"{most}: the stalest with the fewest failures are forgotten")
        for name, last in list(self._crowded.items()):
            if abs(now - last) > QUIET:
                del self._crowded[name]
                self._enforcer.works(_memory_of(name))

    def _may(self, mark: str) -> bool:
        """Mark where the agent is; give False, loudly, if it ended there twice."""
        if self._trail.step(mark):
            return True
        log.error("skipped an entry: the agent ended at it twice", message_id="trouble", position=mark)
        return False

    def _on_refused(self, entry: Entry, filter_name: str) -> None:
        """Report a forgery, once per sender and hour."""
        sender = None if entry.uid else entry.unit, entry.uid, filter_name  # each login of a user is another unit
        last = self._forgeries.get(sender)
        if last is not None and abs(entry.time - last) < QUIET:
            return
        if len(self._forgeries) >= SENDERS:
            self._forgeries.clear()
        self._forgeries[sender] = entry.time
        who = f"uid {entry.uid}, {entry.unit or 'no unit'}, pid {entry.pid}"
        self._enforcer.stage(
            "forgery",
            "looks like a failure of a service, but is of somebody else: not counted",
            "warning",
            filter=filter_name,
            uid=entry.uid,
            unit=entry.unit,
            pid=entry.pid,
            identifier=entry.identifier,
            reason=f"a piece of a longer line of {who}" if entry.continuation else who,
        )

    def _progress(self) -> Progress:
        return Progress(
            {source: self._positions[source] for source in self._moved},
            {
                name: Counts(
                    jail.window.changes(),
                    jail.sessions.changes(),
                    jail.links.changes(),
                    {kind: item.changes() for kind, item in jail.memory.items()},
                )
                for name, jail in self._jails.items()
            },
        )

    def _done(self, *, saved: bool) -> None:
        if saved:
            self._moved.clear()
            self._record.saved()
            for jail in self._jails.values():
                jail.saved()


def _may_be_credible(item: JailConfig, kinds: Kinds) -> bool:
    """Whether bans of a jail can say something of an address to other jails: never by what anybody can write."""
    in_syslog_alone = kinds == frozenset({FILES}) and item.filter.formats == ("syslog",)
    return not in_syslog_alone and all(map(item.filter.is_credible, item.filter.used(item.mode)))


def _memory_of(jail: str) -> str:
    return f"memory of jail {jail}"


def _subject(jail: str) -> str:
    """Give what a trouble of a jail is about; firewall and journal, too, may be names of jails."""
    return f"jail {jail}"


class _Memory:
    """The history as the record of an address asks for it: while it can't be read, nobody has one."""

    def __init__(self, history: History, enforcer: Enforcer) -> None:
        self._history = history
        self._enforcer = enforcer
        self.known = history.known
        self.since = history.since
        self.secret = history.secret

    def past(self, address: Network) -> Sequence[Past]:
        try:
            return self._history.past(address)
        except HistoryError as error:
            self._enforcer.fails_history(error)
            return ()


def _kinds(item: JailConfig, choose: Callable[[JailConfig], Kinds]) -> Kinds:
    """Give the kinds of sources that a jail reads; none if it counts bans."""
    return frozenset() if item.counts_bans else choose(item)
