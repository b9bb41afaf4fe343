# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an admin rules at the control socket: who is allowed, what is forgotten, which values hold for now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from banagent.answers import invalid, mistake, networks, shown
from banagent.answers import meant as of_each
from banagent.config.keys import BANTIME
from banagent.config.running import HOWS, Wanted, merged
from banagent.config.settings import settings
from banagent.config.writing import written
from banagent.control.service import Error, portions
from banagent.core.allowed import MOST
from banagent.core.events import SECOND, timestamp
from banagent.core.never import Allowed
from banagent.core.window import key_of
from banagent.errors import ConfigError, FirewallError

if TYPE_CHECKING:
    from banagent.answers import Agent
    from banagent.control.service import Answer, Call, Handler
    from banagent.core.address import Network

SLICE: Final = 50  # bans of the history in a turn of the loop
LONGEST: Final = 100 * 365 * 24 * 3600  # seconds; who is allowed for longer is so for ever


class Rulings:
    """The handlers, by method."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def handlers(self) -> dict[str, Handler]:
        """Give all of them."""
        return {
            "Allowed": self._allowed,
            "Allow": self._allow,
            "Disallow": self._disallow,
            "Reset": self._reset,
            "Get": self._get,
            "Set": self._set,
        }

    # who is allowed

    async def _allowed(self, _call: Call) -> Answer:
        items = sorted(self._agent.enforcer.allowed.standing(), key=lambda item: item.start)
        return portions("allowed", [_allowance(item) for item in items])

    async def _allow(self, call: Call) -> Answer:
        agent = self._agent
        addresses, duration, comment = (call.parameters[name] for name in ("addresses", "duration", "comment"))
        if duration is not None and not 0 < duration <= LONGEST:
            raise invalid("duration")
        given = list(dict.fromkeys(networks(addresses)))
        known = agent.enforcer.allowed
        if len(known) + sum(known.row(network) is None for network in given) > MOST:
            raise Error("TooMany", what="allowed addresses", limit=MOST)
        now = agent.clock()
        end = None if duration is None else now + duration * SECOND
        agent.enforcer.allow([Allowed(network, now, end, comment) for network in given])
        before = sum(agent.enforcer.bans.counts().values())
        agent.pipeline.renew(given)
        agent.follow_up()
        return {"allowed": len(given), "lifted": before - sum(agent.enforcer.bans.counts().values())}

    async def _disallow(self, call: Call) -> Answer:
        agent = self._agent
        addresses, everybody = call.parameters["addresses"], call.parameters["all"]
        if addresses is None and not everybody:
            raise invalid("addresses")
        given = [item.address for item in agent.enforcer.allowed] if addresses is None else networks(addresses)
        disallowed = agent.enforcer.disallow(dict.fromkeys(given))
        agent.pipeline.renew(())
        agent.follow_up()
        return {"disallowed": disallowed}

    # what is forgotten

    async def _reset(self, call: Call) -> Answer:
        agent = self._agent
        addresses, everything, unban = (call.parameters[name] for name in ("addresses", "all", "unban"))
        if (addresses is None) == (not everything):
            raise invalid("addresses")
        given = None if addresses is None else list(dict.fromkeys(of_each(networks(addresses))))
        failures, bans = await self._forget_all() if given is None else self._forget(given)
        lifted = self._lift(given) if unban else 0
        agent.pipeline.save()
        self._tell_reset([] if addresses is None else addresses)
        agent.follow_up()
        return {"failures": failures, "bans": bans, "lifted": lifted}

    def _tell_reset(self, addresses: list[str]) -> None:
        one = addresses[0] if len(addresses) == 1 else None
        many = None if one else f"{len(addresses)} addresses" if addresses else "all addresses"
        self._agent.enforcer.tell("reset", "reset", address=one, reason=many)

    def _forget(self, given: list[Network]) -> tuple[int, int]:
        """Forget failures and records of some; give how many failures and bans that were."""
        agent = self._agent
        now = agent.clock()
        failures = 0
        for name in agent.pipeline.configs:
            jail = agent.pipeline.jail(name)
            assert jail is not None
            failures += sum(jail.window.count(key, now) for key in map(key_of, given))
            for network in given:
                agent.pipeline.forget(name, network)
        agent.pipeline.save()  # so that the history has all bans there are
        return failures, agent.history.forgive(addresses=given)

    async def _forget_all(self) -> tuple[int, int]:
        """Forget all failures and records, as many in a turn of the loop as take it some milliseconds."""
        agent = self._agent
        now = agent.clock()
        jails = [jail for name in agent.pipeline.configs if (jail := agent.pipeline.jail(name)) is not None]
        failures = sum(jail.window.total(now) for jail in jails)
        for _ in agent.pipeline.forget_all():
            agent.pipeline.save()
            await asyncio.sleep(0)
        after, bans = 0, 0
        while rows := agent.history.rows(after, SLICE):
            bans += agent.history.forgive([row for row in rows if row.counts])
            after = rows[-1].id
            await asyncio.sleep(0)
        return failures, bans

    def _lift(self, given: list[Network] | None) -> int:
        enforcer = self._agent.enforcer
        now = self._agent.clock()
        found = enforcer.standing() if given is None else [item for net in given for item in enforcer.bans.of(net, now)]
        enforcer.lift([(item.jail, item.address) for item in found], "admin")
        return len(found)

    # values in force

    async def _get(self, call: Call) -> Answer:
        return {"settings": self._settings(call.parameters["jail"], call.parameters["key"])}

    async def _set(self, call: Call) -> Answer:
        agent = self._agent
        jail, key, words, how = (call.parameters[name] for name in ("jail", "key", "values", "how"))
        wanted = Wanted(jail, key, words, how or HOWS[0])
        former = agent.config
        try:
            data = merged(former, dict(agent.values), wanted)
        except ValueError as error:
            raise Error("BadValue", key=f"jails.{jail}.{key}"[:100], reason=str(error)[:1000]) from None
        try:
            agent.set_values(data)
        except ConfigError as error:
            raise Error("NotReloaded", mistakes=[mistake(*item) for item in error.mistakes]) from None
        except FirewallError as error:
            raise Error("NotReloaded", mistakes=[mistake("", 0, "", None, str(error))]) from None
        document = written(merged(former, {}, wanted))
        agent.enforcer.tell("set", "set", jail=jail, reason="; ".join(document.splitlines()[1:]))
        is_gone = all(item.name != jail for item in agent.config.jails)  # it was disabled
        return {"settings": [] if is_gone else self._settings(jail, key), "written": document}

    def _settings(self, jail: str, key: str | None) -> list[dict[str, Any]]:
        """Give what is in force for a jail. Raises Error."""
        config = self._agent.config
        named = [item for item in config.jails if item.name == jail]
        if not named:
            raise Error("NoSuchJail", jail=jail, known=[item.name for item in config.jails])
        found = [shown(item) for item in settings(named)]
        prefix = f"jails.{jail}.{key}".removesuffix(f".{BANTIME.short}")  # as it is shown
        return [item for item in found if key is None or item["key"] == prefix or item["key"].startswith(f"{prefix}.")]


def _allowance(item: Allowed) -> dict[str, Any]:
    return {
        "address": str(item.address),
        "start": timestamp(item.start),
        "end": None if item.end is None else timestamp(item.end),
        "comment": item.comment,
    }
