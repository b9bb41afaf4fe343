# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the agent answers at its control socket: one coroutine for each method of `org.banagent`."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from banagent import __version__
from banagent.config.settings import settings
from banagent.control.service import Error
from banagent.core.address import Network, parse_address, parse_network
from banagent.core.bans import Standing
from banagent.core.events import SECOND, Ban, timestamp
from banagent.core.networks import around
from banagent.core.window import key_of
from banagent.enforce import MANUAL, NOTHING, facts_of
from banagent.errors import ConfigError, FirewallError, HistoryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from banagent.config import Config, JailConfig
    from banagent.config.settings import Setting
    from banagent.control.service import Answer, Call, Handler
    from banagent.core.events import Entry, Offence
    from banagent.enforce import Enforcer
    from banagent.pipeline import Pipeline
    from banagent.reading import Reading
    from banagent.sinks.history import History, Record

LOOKED_AT: Final = 200  # records of the history in a turn of the loop
LATEST: Final = 10  # bans on the status screen
MOST_ADDRESSES: Final = 10_000  # in one call
MOST_ENTRIES: Final = 100  # that Why gives
MOST_RECORDS: Final = 100  # likewise
LONGEST_MESSAGE: Final = 1000  # characters of an entry that Why gives
LONGEST_BANTIME: Final = 292 * 365 * 24 * 3600  # seconds; the kernel's own limit


class Agent(Protocol):
    """What the daemon lets its answers see and do."""

    config: Config
    pipeline: Pipeline
    enforcer: Enforcer
    history: History
    reading: Reading
    dry_run: bool
    started: int  # µs since the epoch
    values: Mapping[str, object]  # that were set by hand, as a file would have them
    live: bool  # all entries from before the start were read

    def clock(self) -> int:
        """Give the time, in µs since the epoch, by which what stands is what is left of it by then."""
        ...

    def reload(self) -> None:
        """Take the configuration as it is now. Raises ConfigError, FirewallError."""
        ...

    def set_values(self, data: Mapping[str, object]) -> None:
        """Put values over those of the configuration's files. Raises ConfigError, FirewallError."""
        ...

    def follow_up(self) -> None:
        """See to what comes of an act: when the next ban ends, what has to be tried again."""
        ...


class _Asked(NamedTuple):
    """A call of Ban, checked."""

    jail: str
    networks: list[Network]
    end: int | None


class Answers:
    """The handlers, by method."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def handlers(self) -> dict[str, Handler]:
        """Give all of them."""
        return {
            "Status": self._status,
            "Jails": self._jails,
            "List": self._list,
            "History": self._history,
            "Events": self._agent.enforcer.events.reply,
            "Ban": self._ban,
            "Unban": self._unban,
            "Why": self._why,
            "Resume": self._resume,
            "Off": self._off,
            "On": self._on,
            "Reload": self._reload,
            "GetConfig": self._get_config,
        }

    # reading

    async def _status(self, _call: Call) -> Answer:
        agent = self._agent
        newest = agent.pipeline.newest
        state = "off" if agent.enforcer.off else "live" if agent.live else "catching_up"
        return {
            "version": __version__,
            "state": state,
            "start": timestamp(agent.started),
            "dry_run": agent.dry_run,
            "read": None if newest is None else timestamp(newest),
            "bans": sum(agent.enforcer.bans.counts().values()),
            "allowed": len(agent.enforcer.allowed),
            "failures": agent.pipeline.failures,
            "decided": agent.enforcer.decided,
            "attention": [
                {"subject": subject, "text": trouble.text, "since": timestamp(trouble.since)}
                for subject, trouble in agent.enforcer.troubles.items()
            ],
            "jails": self._jail_list(),
            "latest": [_record(item) for item in islice(agent.history.records(), LATEST)],
        }

    async def _jails(self, _call: Call) -> Answer:
        return {"jails": self._jail_list()}

    def _jail_list(self) -> list[dict[str, Any]]:
        agent = self._agent
        now = agent.clock()
        standing = agent.enforcer.bans.counts()
        totals = agent.history.totals()
        jails = [self._jail(config, now, standing, totals) for config in agent.pipeline.configs.values()]
        others = sorted(standing.keys() - agent.pipeline.configs.keys())
        return jails + [_gone(name, standing[name], totals.get(name, 0)) for name in others]

    def _jail(
        self,
        config: JailConfig,
        now: int,
        standing: dict[str, int],
        totals: dict[str, int],
    ) -> dict[str, Any]:
        jail = self._agent.pipeline.jail(config.name)
        assert jail is not None
        state = self._agent.reading.state(config.name)
        trip = jail.breaker.tripped
        return {
            "jail": config.name,
            "state": state.state if trip is None else "tripped",
            "reason": state.reason if trip is None else str(trip),
            "counts": _counts(config),
            "filter": config.filter.name,
            "ports": _ports(config.ports),
            "maxretry": config.maxretry,
            "findtime": config.findtime,
            "bantime": config.bantime,
            "lengths": _lengths(config),
            "networks": config.networks or None,
            "failures": jail.total(now),
            "failures_total": jail.failures,
            "bans": standing.get(config.name, 0),
            "bans_total": totals.get(config.name, 0),
        }

    async def _list(self, call: Call) -> Answer:
        jail, within = call.parameters["jail"], call.parameters["network"]
        network = None if within is None else _network(within)
        self._known(jail)
        standing = {
            (item.jail, item.address)
            for item in self._agent.enforcer.standing()
            if jail in (None, item.jail) and (network is None or network.covers(item.address))
        }
        return _portions(self._newest(standing))

    def _newest(self, standing: set[tuple[str, Network]]) -> Iterator[dict[str, Any] | None]:
        """Look for the record of each ban that stands: of several of an address, that of the last."""
        left = set(standing)
        for record in self._agent.history.records():
            if not left:
                return
            key = record.ban.jail, record.ban.address
            yield _record(record) if key in left else None
            left.discard(key)

    async def _history(self, call: Call) -> Answer:
        since, jail, text = (call.parameters[name] for name in ("since", "jail", "address"))
        network = None if text is None else _network(text)
        records = self._agent.history.records(0 if since is None else _time(since), jail)
        return _portions(
            _record(item) if network is None or _touches(network, item.ban.address) else None for item in records
        )

    async def _why(self, call: Call) -> Answer:
        agent = self._agent
        address = _network(call.parameters["address"])
        now = agent.clock()
        subjects = {
            name: agent.pipeline.never(name).subject(address) if address.is_host else address
            for name in agent.pipeline.configs
        }
        records = await self._covering(address)
        bans = agent.enforcer.bans
        stands = [
            item for item in records if item.lifted is None and bans.is_banned(item.ban.jail, item.ban.address, now)
        ]
        records = [*stands, *(item for item in records if item not in stands)][:MOST_RECORDS]
        shown = next(iter({*subjects.values()}), address)
        begin, end = self._span(records, now)
        return {
            "address": str(shown),
            "bans": [_record(item) for item in records],
            "leading": [_record(item) for item in _leading(records, agent.pipeline.configs)],
            "entries": await self._evidence(address, begin, end),
            "counts": [self._count(name, address, subject, now) for name, subject in subjects.items()],
        }

    async def _covering(self, address: Network) -> list[Record]:
        """Give the bans of all times that cover an address, the newest first."""
        covering: list[Record] = []
        for number, item in enumerate(self._agent.history.records(), start=1):
            if item.ban.address.covers(address):
                covering.append(item)
            if number % LOOKED_AT == 0:
                await asyncio.sleep(0)
        return covering

    def _span(self, records: list[Record], now: int) -> tuple[int, int]:
        """Give the times between which the entries are that led to the newest ban, or are counted now."""
        configs = self._agent.pipeline.configs.values()
        findtime = max((config.findtime for config in configs if not config.counts_bans), default=0) * SECOND
        newest = records[0].ban.start if records else now
        return newest - findtime, newest

    async def _evidence(self, address: Network, begin: int, end: int) -> list[dict[str, Any]]:
        """Read the sources again and give the entries about an address between two times, by the agent's own way."""
        never = self._agent.pipeline.never
        found: deque[dict[str, Any]] = deque(maxlen=MOST_ENTRIES)
        async for entry, jail, offence in self._agent.reading.again(begin, end):
            if offence.address is not None and _touches(never(jail).subject(offence.address), address):
                found.append(_counted(entry, jail, offence))
        return list(found)

    def _count(self, name: str, address: Network, subject: Network, now: int) -> dict[str, Any]:
        config = self._agent.pipeline.configs[name]
        jail = self._agent.pipeline.jail(name)
        assert jail is not None
        earlier, bantime = jail.length(subject, now)
        return {
            "jail": name,
            "counts": _counts(config),
            "failures": jail.counted(subject, now),
            "weight": jail.weight(subject, now),
            "earlier": earlier,
            "bantime": bantime,
            "maxretry": config.maxretry,
            "findtime": config.findtime,
            "ignored": jail.never.reason(address, now),
            "guarded": sorted(jail.guard.users(key_of(subject), now)),
            "networks": [
                {"network": str(network), "addresses": count, "limit": config.networks}
                for network in (around(subject) if config.networks else ())
                if (count := jail.networks.count(network, now))
            ],
        }

    async def _get_config(self, _call: Call) -> Answer:
        return {"settings": [shown(item) for item in settings(self._agent.config.jails)]}

    # acting

    async def _ban(self, call: Call) -> Answer:
        agent, parameters = self._agent, call.parameters
        now = agent.clock()
        asked = self._checked(parameters, now)
        standing = agent.enforcer.bans.of
        bans = [
            Ban(
                jail=asked.jail,
                address=network,
                position=f"admin:{now}",
                start=now,
                end=asked.end,
                failures=0,
                user=None,
                filter=asked.jail,
                pattern=MANUAL,
                comment=parameters["comment"],
            )
            for network in dict.fromkeys(asked.networks)
            if not any(item.jail == asked.jail and _lasts(item.end, asked.end) for item in standing(network, now))
        ]
        for ban in bans:
            agent.enforcer.bans.stand(Standing(ban.jail, ban.address, ban.end))
        agent.enforcer.enforce(bans, NOTHING)
        agent.follow_up()
        return {"banned": len(bans)}

    def _checked(self, parameters: dict[str, Any], now: int) -> _Asked:
        """Check a call of Ban whole, so that all of it is done or nothing. Raises Error."""
        agent = self._agent
        jail = parameters["jail"] or MANUAL
        self._known(parameters["jail"])
        if agent.enforcer.off:
            raise Error("TurnedOff")
        asked = networks(parameters["addresses"])
        never = agent.pipeline.never(jail)
        caller = None if parameters["caller"] is None else _caller(parameters["caller"])
        for network in asked:
            if (reason := never.reason(network, now)) is not None:
                raise Error("Protected", address=str(network), reason=reason)
            if caller is not None and network.covers(caller) and not parameters["force"]:
                raise Error("Protected", address=str(network), reason="it is where you are logged in from")
        return _Asked(jail, asked, self._end(jail, parameters, now))

    def _end(self, jail: str, parameters: dict[str, Any], now: int) -> int | None:
        bantime, permanent = parameters["bantime"], parameters["permanent"]
        if permanent:
            if bantime is not None:
                raise invalid("permanent")
            return None
        if bantime is None:
            config = self._agent.pipeline.configs.get(jail)
            bantime = config.bantime if config is not None else DEFAULT_BANTIME
        elif not 0 < bantime <= LONGEST_BANTIME:
            raise invalid("bantime")
        return None if bantime is None else now + bantime * SECOND

    async def _unban(self, call: Call) -> Answer:
        agent = self._agent
        addresses, jail, everything = (call.parameters[name] for name in ("addresses", "jail", "all"))
        if addresses is None and jail is None and not everything:
            raise invalid("addresses")
        named = agent.enforcer.standing() if addresses is None else self._named(networks(addresses))
        lifted = [(item.jail, item.address) for item in named if jail in (None, item.jail)]
        if not lifted:
            self._known(jail)
        for name, address in lifted:
            agent.pipeline.forget(name, address)
        agent.enforcer.lift(lifted, "admin")
        agent.pipeline.save()
        agent.follow_up()
        return {"lifted": len(lifted)}

    def _named(self, given: list[Network]) -> list[Standing]:
        """Give the bans that are meant: by their own names, or by an address of the /64 that they stand for."""
        bans, now = self._agent.enforcer.bans, self._agent.clock()
        return [item for network in dict.fromkeys(meant(given)) for item in bans.of(network, now)]

    async def _resume(self, call: Call) -> Answer:
        name = call.parameters["jail"]
        if name not in self._agent.pipeline.configs:
            raise Error("NoSuchJail", jail=name, known=list(self._agent.pipeline.configs))
        return {"withheld": self._agent.pipeline.resume(name)}

    async def _off(self, _call: Call) -> Answer:
        lifted = self._agent.enforcer.switch_off()
        self._agent.follow_up()
        return {"lifted": lifted}

    async def _on(self, _call: Call) -> Answer:
        self._agent.enforcer.switch_on()
        self._agent.follow_up()
        return {}

    async def _reload(self, _call: Call) -> Answer:
        try:
            self._agent.reload()
        except ConfigError as error:
            raise Error("NotReloaded", mistakes=[mistake(*item) for item in error.mistakes]) from None
        except FirewallError as error:
            raise Error("NotReloaded", mistakes=[mistake("", 0, "", None, str(error))]) from None
        return {"jails": list(self._agent.pipeline.configs)}

    def _known(self, jail: str | None) -> None:
        """Raise Error if there is no such jail."""
        known = [*self._agent.pipeline.configs, MANUAL]
        if jail is not None and jail not in known:
            raise Error("NoSuchJail", jail=jail, known=known)


DEFAULT_BANTIME: Final = 3600  # seconds, of a ban by hand that says none


def refusing(handler: Handler) -> Handler:
    """Let a method say that it can't do without the history."""

    async def refused(call: Call) -> Answer:
        try:
            return await handler(call)
        except HistoryError as error:
            raise Error("NoHistory", reason=str(error)) from None

    return refused


def _portions(looked_at: Iterator[dict[str, Any] | None]) -> Iterator[dict[str, Any]]:
    """Cut a listing into replies, also empty ones: the search for a few among millions must not hold up the loop."""
    more = True
    while more:
        portion = list(islice(looked_at, LOOKED_AT))
        more = len(portion) == LOOKED_AT
        yield {"bans": [item for item in portion if item is not None]}


def _record(item: Record) -> dict[str, Any]:
    return {
        **facts_of(item.ban),
        "comment": item.ban.comment,
        "lifted": None if item.lifted is None else timestamp(item.lifted),
        "reason": item.reason,
    }


def _leading(records: Iterable[Record], configs: Mapping[str, JailConfig]) -> list[Record]:
    """Give the bans that led to the newest ban by a jail that counts bans, in their order."""
    counting = {name for name, config in configs.items() if config.counts_bans}
    ban = next((item.ban for item in records if item.ban.jail in counting), None)
    if ban is None:
        return []
    others = [item for item in records if item.ban.credible and item.ban.jail != ban.jail]
    before = [item for item in others if item.ban.address == ban.address and item.ban.start <= ban.start]
    return sorted(before, key=lambda item: item.ban.start)[-ban.failures :]


def _lengths(config: JailConfig) -> list[int] | None:
    if config.growth is None or config.bantime is None:
        return None
    return config.growth.series(config.bantime)


def _counts(config: JailConfig) -> str:
    return "bans" if config.counts_bans else "failures"


def _gone(name: str, bans: int, total: int) -> dict[str, Any]:
    """Give a jail of which there are only bans: those by hand, or of a jail that is no more."""
    reason = "bans by hand" if name == MANUAL else "not enabled; its bans stand until they end"
    return {
        "jail": name,
        "state": "active" if name == MANUAL else "waiting",
        "reason": reason,
        "counts": "failures",
        "filter": name,
        "ports": None,
        "maxretry": 0,
        "findtime": 0,
        "bantime": DEFAULT_BANTIME,
        "lengths": None,
        "networks": None,
        "failures": 0,
        "failures_total": 0,
        "bans": bans,
        "bans_total": total,
    }


def shown(setting: Setting) -> dict[str, Any]:
    """Give a value of the configuration as `Setting` has it."""
    replaces = None if setting.replaces is None else _place(*setting.replaces)
    return {"key": setting.key, **_place(*setting.place), "replaces": replaces}


def _place(value: str, file: str | None, line: int) -> dict[str, Any]:
    return {"value": value, "file": file, "line": line or None}


def mistake(file: str, line: int, key: str, value: str | None, text: str) -> dict[str, Any]:
    """Give a mistake as `Mistake` has it."""
    return {"file": file, "line": line or None, "key": key or None, "value": value, "text": text}


def _ports(ports: tuple[tuple[int, int], ...] | None) -> list[str] | None:
    if ports is None:
        return None
    return [str(first) if first == last else f"{first}-{last}" for first, last in ports]


def _counted(entry: Entry, jail: str, offence: Offence) -> dict[str, Any]:
    return {
        "time": timestamp(entry.time),
        "position": entry.position,
        "jail": jail,
        "pattern": offence.pattern,
        "message": entry.message.decode("utf-8", "replace")[:LONGEST_MESSAGE],
    }


def _touches(one: Network, other: Network) -> bool:
    return one.covers(other) or other.covers(one)


def _lasts(end: int | None, wanted: int | None) -> bool:
    """Whether a ban that ends at `end` stands as long as is wanted; None: for ever."""
    return end is None or (wanted is not None and end >= wanted)


def meant(given: Iterable[Network]) -> Iterator[Network]:
    """Give networks, and behind each address of IPv6 the /64 that stands for it."""
    for network in given:
        yield network
        if network.version == 6 and network.is_host:
            yield network.widen(64)


def networks(addresses: list[str]) -> list[Network]:
    """Parse what a caller names. Raises Error."""
    if len(addresses) > MOST_ADDRESSES:
        raise Error("TooMany", what="addresses", limit=MOST_ADDRESSES)
    return [_network(text) for text in addresses]


def _network(text: str) -> Network:
    try:
        return parse_network(text)
    except ValueError as error:
        raise Error("BadAddress", address=text[:100], reason=str(error)[:300]) from None


def _caller(text: str) -> Network | None:
    try:
        return parse_address(text)
    except ValueError:
        return None


def _time(text: str) -> int:
    """Parse a time of RFC 3339 into µs since the epoch."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise invalid("since") from None
    if parsed.tzinfo is None:
        raise invalid("since")
    return int(parsed.timestamp() * SECOND)


def invalid(parameter: str) -> Error:
    """Give the error for a parameter that can't be as it is."""
    return Error("org.varlink.service.InvalidParameter", parameter=parameter)
