# SPDX-License-Identifier: LGPL-2.1-or-later
"""From decisions to what is done about them: the kernel first, then the log, the history and the followers."""

from __future__ import annotations

import heapq
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog

from banagent.control.events import Event, EventLog
from banagent.core.allowed import AllowList
from banagent.core.bans import Bans, Standing
from banagent.core.events import SECOND, Ban, timestamp
from banagent.errors import FirewallError, HistoryError
from banagent.log import MESSAGE_IDS
from banagent.sinks.history import EVENTS, Counts, DamagedError, Happened, History, Lifted, Position, Shifted
from banagent.sinks.nft import Firewall, is_jail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from banagent.core.address import Network
    from banagent.core.never import Allowed
    from banagent.sinks.nft import Change

Ports = tuple[tuple[int, int], ...] | None  # ranges from-to; None: all
MANUAL: Final = "manual"  # the jail of bans by hand, on all ports; and their pattern
OFF: Final = "off"  # the flag in the history, and the reason for lifting
ON: Final = "on"  # the position in the history from which it counts again
# what followers get of an event; `Event` in org.banagent.varlink
EVENT_FACTS: Final = (
    *("address", "jail", "start", "end", "bantime", "failures", "earlier", "user", "filter", "pattern"),
    *("comment", "reason"),
)
ADOPTED: Final = "adopted"  # the pattern of a ban that was found in the kernel by an agent that lost its history

LEAP: Final = 10 * SECOND  # by which the clock was set at the least, that it matters
LAST_PORT: Final = 0xFFFF
_PORTS: Final = re.compile(r"(\d{1,5})-(\d{1,5})")

log = structlog.get_logger()


class Trouble(NamedTuple):
    """Something that does not work, and since when (µs since the epoch)."""

    text: str
    since: int
    lasting: bool  # until the next start


class Progress(NamedTuple):
    """How far the sources were read, and the counts that changed since they were last saved."""

    positions: Mapping[str, Position]
    counts: Mapping[str, Counts]


NOTHING: Final = Progress({}, {})


class Enforcer:
    """Sees to it that the bans stand in the kernel, are in the history and are told.

    `bans` is the truth; the kernel is made to agree with it. `clock` gives the time in µs since the epoch, and `steady`
    since whenever, so that nobody sets it. Without a firewall (a dry run) everything but the kernel's part is done.
    """

    def __init__(
        self,
        bans: Bans,
        history: History,
        clock: Callable[[], int],
        *,
        dry: bool,
        steady: Callable[[], int] | None = None,
    ) -> None:
        self.bans = bans
        self.decided = 0  # bans since the start
        self._history = history
        self._clock = clock
        self._steady = steady or clock
        self._ahead = clock() - self._steady()  # is what the clock is ahead of the other, until it is set
        self._dry = dry
        self._firewall: Firewall | None = None
        self._ports: dict[str, Ports] = {}  # of the jails in force
        self._former_ports: dict[str, Ports] = {}  # of all jails of which there may be bans
        self._ends: list[tuple[int, str, Network]] = []  # a heap of the ends to come
        self._amnesiac = False  # there was no history at the start
        self._unknown: list[Standing] = []  # found in the kernel at the start, without a ban in the history
        self._unsaved: list[Ban | Lifted | Shifted] = []  # in the order in which it happened
        self._unsaved_flags: dict[str, bool] = {}
        self._staged: list[Happened] = []  # events not yet given to the followers
        self._unsaved_events: list[Happened] = []
        kept = history.happened()
        self.events = EventLog(
            kept[-1].sequence + 1 if kept else 1,
            (Event(item.sequence, item.kind, item.facts) for item in kept),
        )
        self.allowed = AllowList(history.allowed())
        self._unsaved_allowed: dict[Network, tuple[Allowed, bool] | None] = {
            item.address: (item, False) for item in self.allowed.rein(clock())
        }
        self.off = history.has_flag(OFF)
        on = history.position(ON)
        self._on_since = 0 if on is None else on.time
        self.damaged = False  # the history was found to be
        self.troubles: dict[str, Trouble] = {}  # by what it is about: firewall, history, journal

    @property
    def on_since(self) -> int:
        """Entries from before, of a time when it was off, count for nothing. 0 also if the clock was set back since."""
        return self._on_since if self._on_since <= self._clock() else 0

    def now(self) -> int:
        """Give the time, in µs since the epoch."""
        return self._clock()

    def follow_clock(self) -> bool:
        """Look whether the clock was set: what stands keeps the time that is left of it, as in the kernel."""
        step = self._clock() - self._steady() - self._ahead
        if abs(step) < LEAP:
            return False
        self._ahead += step
        self.bans.shift(step)
        self._ends = [(end, jail, address) for jail, address, end in self.bans.at(self._clock()) if end is not None]
        heapq.heapify(self._ends)
        self._unknown = [item._replace(end=item.end and item.end + step) for item in self._unknown]
        self._unsaved.append(Shifted(step))
        self._unsaved_allowed |= {item.address: (item, False) for item in self.allowed.shift(step)}
        way = "ahead" if step > 0 else "back"
        words = f"the clock was set {way} by {abs(step) / SECOND:.0f} s; bans keep the time that is left of them"
        log.warning(words)
        self._rebuild()
        self.save(NOTHING)
        return True

    def standing(self) -> list[Standing]:
        """Give the bans that stand now."""
        return self.bans.at(self._clock())

    # start and reload

    def recall(self, since: int) -> None:
        """Take over from the history the bans that stood at some time after `since`. Raises HistoryError."""
        self._amnesiac = self._history.is_new
        self._guarded("history", lambda: self._history.rein(self._clock()))
        self._former_ports = {name: _ports(text) for name, text in self._history.ports().items()}
        jails: set[str] = set()
        for item, ended in self._history.bans(since):
            if item.jail not in jails:
                if not is_jail(item.jail):
                    raise DamagedError(f"the history has bans of {item.jail!r}, which can't be a jail")
                jails.add(item.jail)
            self.bans.stand(item)
            if ended:
                self.bans.expire(item)
            elif item.end is not None:
                self._ends.append((item.end, item.jail, item.address))
        heapq.heapify(self._ends)

    def restore(self, ports: Mapping[str, Ports]) -> None:
        """Put the kernel right: all that the history knows, and for now what only the kernel knows.

        Raises FirewallError.
        """
        if self._dry:
            return
        self._ports = {MANUAL: None, **ports}
        if self.off:  # the last run may have ended before it had lifted all
            self._lift_all()
        firewall = self._firewall = self._open()
        now = self._clock()
        standing = self.bans.at(now)
        unknown, kept = firewall.besides(standing, now)
        if not self.off:
            self._unknown = [item for item in unknown if item.jail in self._ports and item[:2] not in self.bans]
        firewall.restore([*standing, *self._unknown], now)
        log.info(
            "bans stand",
            bans=len(standing),
            missing=len(standing) - kept or None,  # the kernel had lost them: a reboot, a flush
            unknown=len(self._unknown) or None,
        )

    def settle(self) -> None:
        """All entries were read: see to what is in the kernel and no entry accounts for.

        It is lifted; but if the history was lost, the bans were rightly decided by an agent that remembered more.
        """
        left = [item for item in self._unknown if item[:2] not in self.bans]
        self._unknown = []
        if self._amnesiac:
            self._adopt(left)
            return
        self._release([(item.jail, item.address) for item in left])
        for item in left:
            why = "it was in the kernel, but no entry accounts for it"
            log.info("lifted", jail=item.jail, address=item.address, why=why)

    def switch(self, ports: Mapping[str, Ports]) -> None:
        """Go on with other jails or ports, in one transaction. Raises FirewallError; then all is as before."""
        former, self._ports = self._ports, {MANUAL: None, **ports}
        if self._dry or (self._ports == former and self._firewall is not None and "firewall" not in self.troubles):
            return
        firewall: Firewall | None = None
        try:
            firewall = self._open()
            firewall.restore([*self.standing(), *self._unknown], self._clock())
        except FirewallError:
            if firewall is not None:
                firewall.close()
            self._ports = former
            raise
        if self._firewall is not None:
            self._firewall.close()
        self._firewall = firewall

    # what comes and goes

    def enforce(self, bans: Sequence[Ban], progress: Progress) -> bool:
        """Carry out decisions; give whether the history took them, and the progress with them."""
        now = self._clock()
        bans = [_begun(ban, now) for ban in bans]
        live = [Standing(ban.jail, ban.address, ban.end) for ban in bans if ban.end is None or ban.end > now]
        firewall = self._firewall
        if live and firewall is not None:
            self._guarded("firewall", lambda: firewall.ban(live, now))
        for item in live:
            self._note(item)
        self.decided += len(bans)
        for ban in bans:
            self._unsaved.append(ban)
            over = ban.end is not None and ban.end <= now
            if over:
                self.bans.expire(Standing(ban.jail, ban.address, ban.end))
                self._unsaved.append(Lifted(ban.jail, ban.address, ban.end or now, "expired"))
            self._announce(ban, over=over)
        return self.save(progress)

    def switch_off(self) -> int:
        """Lift all bans and take no more until `switch_on`; give how many were lifted."""
        self.off = True
        self._unsaved_flags[OFF] = True
        lifted = self._lift_all()
        self.tell("off", "off: nothing is banned until it is on again", "warning", bans=lifted)
        return lifted

    def switch_on(self) -> None:
        """Take bans again."""
        self.off = False
        self._unsaved_flags[OFF] = False
        self._on_since = self._clock()
        self.tell("on", "on: it bans again")

    def lift(self, items: Sequence[tuple[str, Network]], reason: str) -> None:
        """Lift bans before their time."""
        for jail, address in items:
            self.bans.lift(jail, address)
        self._release(items)
        self._tell_lifted(items, reason)

    def expire(self) -> int | None:
        """Take note of the bans and allowances that ran out; give when the next does, in µs since the epoch."""
        now = self._clock()
        ended: list[tuple[str, Network]] = []
        while self._ends and self._ends[0][0] <= now:
            end, jail, address = heapq.heappop(self._ends)
            if self.bans.expire(Standing(jail, address, end)):
                ended.append((jail, address))
        # the kernel has done it already, unless its clock stood still while the machine slept
        self._release(ended)
        self._tell_lifted(ended, "expired")
        self._tell_disallowed(self.allowed.expire(now), "expired")
        ends = (self._ends[0][0] if self._ends else None, self.allowed.next_end())
        return min((end for end in ends if end is not None), default=None)

    def allow(self, items: Sequence[Allowed]) -> None:
        """Except somebody from all bans; to lift those that stand is the pipeline's affair."""
        for item in items:
            self.allowed.allow(item)
            self._unsaved_allowed[item.address] = (item, False)
            self.stage(
                "allowed",
                "allowed",
                address=str(item.address),
                start=timestamp(item.start),
                end=None if item.end is None else timestamp(item.end),
                comment=item.comment,
            )
        self.save(NOTHING)

    def disallow(self, addresses: Iterable[Network]) -> int:
        """Take back what `allow` said; give of how many."""
        found = [item for address in addresses if (item := self.allowed.disallow(address)) is not None]
        self._tell_disallowed(found, "admin")
        return len(found)

    def forget_ended(self, time: int) -> None:
        """Forget the bans and allowances that had ended at `time`: no entry is so late."""
        self.bans.forget_ended(time)
        self._unsaved_allowed |= dict.fromkeys(self.allowed.forget_ended(time))

    def save(self, progress: Progress) -> bool:
        """Commit what is not yet in the history together with the progress; give whether that worked."""
        jails = {item.jail for item in self._unsaved if not isinstance(item, Shifted)}
        ports = {name: _ports_text(self._ports[name]) for name in jails & self._ports.keys()}
        positions = {**progress.positions, ON: Position(ON, self._on_since)} if self._on_since else progress.positions
        staged = len(self._staged)
        events = [*self._unsaved_events, *self._staged]
        saved = self._guarded(
            "history",
            lambda: self._history.commit(
                bans=self._unsaved,
                flags=self._unsaved_flags,
                counts=progress.counts,
                positions=positions,
                ports=ports,
                events=events,
                allowed=self._unsaved_allowed,
            ),
        )
        if saved:
            self._unsaved, self._unsaved_flags, self._unsaved_allowed, events = [], {}, {}, []
        # that it works again is told after the commit
        self._unsaved_events = [*events[-EVENTS:], *self._staged[staged:]]
        for item in self._staged:
            self.events.append(item.kind, item.facts)
        self._staged = []
        return saved

    # what is told: in the log, and to those who follow the events

    def tell(self, kind: str, words: str, level: str = "info", **facts: Any) -> None:  # noqa: ANN401 - as JSON has them
        """Log an event, put it into the history and give it to the followers."""
        self.stage(kind, words, level, **facts)
        self.save(NOTHING)

    def fails(self, subject: str, text: str, *, lasting: bool = False) -> None:
        """Take note that something does not work, in the next run at the soonest if `lasting`; it is told once."""
        known = self.troubles.get(subject)
        if known is None:
            self.stage("trouble", "trouble", "error", reason=subject, error=text)
        elif known.lasting:
            return
        self.troubles[subject] = Trouble(text, known.since if known else self._clock(), lasting)

    def fails_history(self, error: HistoryError) -> None:
        """Take note that the history does not work."""
        self.damaged = self.damaged or isinstance(error, DamagedError)
        self.fails("history", str(error))

    def works(self, subject: str) -> None:
        """Take note that something works, again or still."""
        if subject in self.troubles and not self.troubles[subject].lasting:
            del self.troubles[subject]
            self.stage("recovered", "works again", "warning", reason=subject)

    def stage(self, kind: str, words: str, level: str = "info", **facts: Any) -> None:  # noqa: ANN401
        """Log an event; the history and the followers get it with the next `save`."""
        told = {"end": "permanent"} if "end" in facts and facts["end"] is None else {}
        message_id = kind if kind in MESSAGE_IDS else None
        getattr(log, level)(words, message_id=message_id, **(facts | told))
        now = self._clock()
        sequence = self.events.next + len(self._staged)
        shown = {name: facts.get(name) for name in EVENT_FACTS} | {"time": timestamp(now)}
        self._staged.append(Happened(sequence, now, kind, shown))

    # the kernel's side

    def watched(self) -> int | None:
        """Give the descriptor that becomes readable when somebody changes nftables; then call `repair`."""
        return None if self._firewall is None else self._firewall.fileno()

    def repair(self) -> None:
        """Look at what others changed in nftables, and put back what they removed of ours."""
        change: list[Change] = []
        if self._guarded("firewall", lambda: change.extend(self._damage())) and change and self._rebuild():
            bans, last = len(self.standing()), change[-1]
            self.tell("repaired", "repaired", "warning", bans=bans, program=last.program, pid=last.pid)

    def _damage(self) -> list[Change]:
        """Give the changes by others, if by now the table is not what it has to be."""
        firewall = self._firewall
        changes = [] if firewall is None else firewall.changes()
        if firewall is None or not changes or (firewall.intact() and not any(item.elements for item in changes)):
            return []
        return changes

    def retry(self) -> None:
        """Try again what the kernel refused; the history is tried again with the next `save`."""
        if "firewall" in self.troubles:
            self._rebuild()

    def close(self) -> None:
        """Let go of the kernel and the history. The bans stand on."""
        self._history.close()
        if self._firewall is not None:
            self._firewall.close()

    # helpers of the above

    def _open(self) -> Firewall:
        """Open a firewall for the jails in force, and for those that are no more but have bans that stand."""
        self._former_ports |= self._ports
        gone = {*self.bans.counts(), *(item.jail for item in self._unknown)} - self._ports.keys()
        firewall = Firewall({**self._ports, **{name: self._former_ports.get(name) for name in gone}})
        firewall.open()
        return firewall

    def _lift_all(self) -> int:
        """Lift what stands, as it is off, also what only the kernel knows; give how much of it was known."""
        self._release([item[:2] for item in self._unknown])
        self._unknown = []
        items = [item[:2] for item in self.standing()]
        self.lift(items, OFF)
        return len(items)

    def _note(self, item: Standing) -> None:
        self.bans.stand(item)
        if item.end is not None:
            heapq.heappush(self._ends, (item.end, item.jail, item.address))

    def _adopt(self, items: Sequence[Standing]) -> None:
        """Take over bans that an agent whose history is lost has left in the kernel."""
        now = self._clock()
        for jail, address, end in items:
            self._note(Standing(jail, address, end))
            self._unsaved.append(
                Ban(
                    jail=jail,
                    address=address,
                    position=f"kernel:{now}",
                    start=now,
                    end=end,
                    failures=0,
                    user=None,
                    filter=jail,
                    pattern=ADOPTED,
                ),
            )
        if items:
            log.warning("adopted the bans found in the kernel, of which the history does not know", bans=len(items))
            self.save(NOTHING)

    def _release(self, items: Sequence[tuple[str, Network]]) -> None:
        firewall = self._firewall
        if items and firewall is not None:
            self._guarded("firewall", lambda: firewall.unban(items, self._clock()))

    def _tell_lifted(self, items: Sequence[tuple[str, Network]], reason: str) -> None:
        now = self._clock()
        for jail, address in items:
            self._unsaved.append(Lifted(jail, address, now, reason))
            self.stage("unbanned", "unbanned", jail=jail, address=str(address), reason=reason)
        if items:
            self.save(NOTHING)

    def _tell_disallowed(self, items: Sequence[Allowed], reason: str) -> None:
        for item in items:
            self._unsaved_allowed[item.address] = self.allowed.row(item.address)
            self.stage("disallowed", "allowed no more", address=str(item.address), reason=reason)
        if items:
            self.save(NOTHING)

    def _rebuild(self) -> bool:
        firewall = self._firewall
        return firewall is not None and self._guarded(
            "firewall",
            lambda: firewall.restore([*self.standing(), *self._unknown], self._clock()),
        )

    def _guarded(self, sink: str, act: Callable[[], object]) -> bool:
        """Use a sink; say once that it fails, and once that it works again."""
        try:
            act()
        except (FirewallError, HistoryError) as error:
            if isinstance(error, HistoryError):
                self.fails_history(error)
            else:
                self.fails(sink, str(error))
            return False
        self.works(sink)
        return True

    def _announce(self, ban: Ban, *, over: bool) -> None:
        kind = "would_ban" if self._dry else "banned"
        self.stage(
            kind,
            "would ban" if self._dry else "over already" if over else "banned",
            jail=ban.jail,
            address=str(ban.address),
            start=timestamp(ban.start),
            end=None if ban.end is None else timestamp(ban.end),
            bantime=ban.bantime,
            failures=ban.failures,
            earlier=ban.earlier or None,
            user=ban.user,
            filter=ban.filter,
            pattern=ban.pattern,
            comment=ban.comment,
        )


def facts_of(ban: Ban) -> dict[str, Any]:
    """Give a decision under the names that are the same everywhere, as JSON has it."""
    return {
        "address": str(ban.address),
        "jail": ban.jail,
        "start": timestamp(ban.start),
        "end": None if ban.end is None else timestamp(ban.end),
        "bantime": ban.bantime,
        "failures": ban.failures,
        "earlier": ban.earlier,
        "user": ban.user,
        "filter": ban.filter,
        "pattern": ban.pattern,
    }


def _begun(ban: Ban, now: int) -> Ban:
    """Give a ban that begins now at the latest: an entry from the future makes none longer."""
    if ban.start <= now:
        return ban
    return replace(ban, start=now, end=None if ban.end is None else now + ban.end - ban.start)


def _ports_text(ports: Ports) -> str:
    """Give ports as the history keeps them: `22-22 8000-8100`, or `all`."""
    return "all" if ports is None else " ".join(f"{first}-{last}" for first, last in ports)


def _ports(text: str) -> Ports:
    """Read what `_ports_text` wrote; of what is damaged, all ports."""
    pairs = [(int(first), int(last)) for first, last in _PORTS.findall(text)]
    return tuple(pair for pair in pairs if pair[0] <= pair[1] <= LAST_PORT) or None
