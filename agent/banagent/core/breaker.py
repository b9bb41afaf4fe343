# SPDX-License-Identifier: LGPL-2.1-or-later
"""The circuit breaker of a jail: it trips where the bans would hit those whom the service is for.

A reverse proxy that logs its own address, or a filter that takes what is right for a failure, makes a jail ban
everybody. An attack by thousands of addresses looks much the same, and must not open the host. What tells them apart is
who is hit: attackers have no accounts. So a jail whose filter knows successful logins goes by these:

    locked_out  most of the bans of an hour hit addresses from which several users had logged in lately. From then on
                none of those is banned; strangers are, as before.

Where nothing is known of logins, the number of bans alone has to tell, so the limit is far beyond what attacks reach:

    flood       more bans in a minute than the limit, and than ten times what the busiest minute before had. From then
                on nobody is banned.

It goes on counting, and stays tripped until an admin says that all is well (`resume`), also over a restart: it can't
know by itself. What he called well is part of its history then.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from banagent.core.events import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable

MINUTE: Final = 60 * SECOND
HOUR: Final = 3600 * SECOND
WEEK: Final = 7 * 24 * HOUR
BEYOND: Final = 10  # times the busiest minute before
LOCKED_OUT_BEYOND: Final = 2  # times as many users as in the worst hour before
FLOOD: Final = "flood"
LOCKED_OUT: Final = "locked_out"
_KEY: Final = b"state"


class Limits(NamedTuple):
    """When it trips: at more bans in a minute, at bans that hit more users in an hour. 0: never."""

    bans: int = 0
    users: int = 0


class Trip(NamedTuple):
    """That it tripped: for what (FLOOD or LOCKED_OUT), when (µs since the epoch), and how many of what."""

    cause: str
    time: int
    number: int

    def __str__(self) -> str:
        """Say what happened, and what the jail does since."""
        if self.cause == LOCKED_OUT:
            return (
                f"most of its bans hit addresses from which users logged in lately, {self.number} of them in an hour"
                " (is it a proxy's address that is logged?): none of those is banned any more"
            )
        return (
            f"{self.number} bans in a minute, far more than ever before"
            " (does its filter take what is right for a failure?): nobody is banned any more"
        )


@dataclass(slots=True)
class _State:
    minute: int = 0  # since the epoch
    bans: int = 0  # in it
    busiest: float = 0  # minute of the past; it fades by half in a week
    hour: int = 0  # since the epoch
    all: int = 0  # bans in it
    hits: int = 0  # of them such as lock out users
    users: list[str] = field(default_factory=list[str])  # those, as many as matter
    worst: float = 0  # number of users of an hour of the past; it fades likewise
    withheld: int = 0  # bans, since it tripped
    tripped: Trip | None = None


class Breaker:
    """What a jail's bans have hit lately, and whether it may go on."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._state = _State()
        self._is_changed = False

    @property
    def tripped(self) -> Trip | None:
        """Why it does not ban as it should; None: it does."""
        return self._state.tripped

    @property
    def withheld(self) -> int:
        """Bans that it did not allow since it tripped."""
        return self._state.withheld

    def allows(self, time: int, users: Iterable[str] = ()) -> bool:
        """Count a ban that is due; give whether it may be. `users` are those who had logged in from there lately."""
        if not any(self.limits):
            return True
        self._is_changed = True
        hit = set(users)
        state = self._state
        self._count(time, hit)
        if state.tripped is None:
            state.tripped = self._trip(time, hit)
        if state.tripped is None or (state.tripped.cause == LOCKED_OUT and not hit):
            return True
        state.withheld += 1
        return False

    def resume(self) -> int:
        """Go on, and take what was for normal; give how many bans were withheld."""
        state = self._state
        withheld = state.withheld
        self._state = _State(
            minute=state.minute,
            busiest=max(state.busiest, float(state.bans)),
            hour=state.hour,
            worst=max(state.worst, float(len(state.users))),
        )
        self._is_changed = True
        return withheld

    def _trip(self, time: int, hit: set[str]) -> Trip | None:
        state, limits = self._state, self.limits
        if limits.bans and state.bans > max(limits.bans, BEYOND * state.busiest):
            return Trip(FLOOD, time, state.bans)
        number = len(state.users)
        if not (limits.users and hit) or 2 * state.hits < state.all:
            return None
        if number < limits.users or number <= LOCKED_OUT_BEYOND * state.worst:
            return None
        return Trip(LOCKED_OUT, time, number)

    def _count(self, time: int, hit: set[str]) -> None:
        """Count a ban in its minute and its hour; an entry that is late counts in the one at hand."""
        state = self._state
        minute, hour = time // MINUTE, time // HOUR
        if minute > state.minute or state.minute - minute > 1:  # the clock was set back
            state.busiest = max(state.busiest * _faded(minute - state.minute, MINUTE), float(state.bans))
            state.minute, state.bans = minute, 0
        if hour > state.hour or state.hour - hour > 1:
            state.worst = max(state.worst * _faded(hour - state.hour, HOUR), float(len(state.users)))
            state.hour, state.all, state.hits, state.users = hour, 0, 0, []
        state.bans += 1
        state.all += 1
        state.hits += bool(hit)
        most = int(max(self.limits.users, LOCKED_OUT_BEYOND * state.worst)) + 1
        state.users = sorted({*state.users, *hit})[:most] if hit else state.users

    # the checkpoint

    def changes(self) -> Iterable[tuple[bytes, bytes | None]]:
        """See Remembered."""
        return self.items() if self._is_changed else ()

    def saved(self) -> None:
        """See Remembered."""
        self._is_changed = False

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """See Remembered."""
        for key, value in rows:
            if key == _KEY and (state := _loaded(value)) is not None:
                self._state = state
        self._is_changed = False

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """See Remembered."""
        return [(_KEY, json.dumps(asdict(self._state)).encode())]


def _faded(count: int, unit: int) -> float:
    return 0.5 ** (count * unit / WEEK) if count > 0 else 1.0


def _loaded(value: bytes) -> _State | None:
    """Read what `items` gave; None: it is damaged."""
    try:
        facts: dict[str, Any] = json.loads(value)
        tripped = facts.pop("tripped")
        return _State(**facts, tripped=None if tripped is None else Trip(*tripped))
    except (ValueError, TypeError, AttributeError, KeyError):
        return None
