# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lock-out guard: who logged in from an address lately may mistype more often, as far as he tries as himself.

A failure as one of the chosen users, from an address from which this user logged in within `grace`, counts for a
`factor`-th of one. It counts all the same: nobody is exempt. Failures as anybody else count in full.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from banagent.core.events import SECOND
from banagent.core.memory import Memory
from banagent.core.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from banagent.core.address import Network

ADDRESSES: Final = 20_000  # from which somebody logged in, that are remembered; beyond it the stalest go first
USERS: Final = 16  # of an address


class Guarding(NamedTuple):
    """Whom the guard is for, for how many seconds after a login, and how many failures count for one."""

    users: frozenset[str] = frozenset()
    grace: int = 12 * 3600
    factor: int = 4


class Spared(NamedTuple):
    """An address that has as many failures as lead to a ban, and is not banned for the guard's sake."""

    address: Network
    user: str
    failures: int


class Logins:
    """Who logged in from where, and when."""

    def __init__(self, grace: int, limit: int = ADDRESSES) -> None:
        self._span = grace * SECOND
        self.memory = Memory(limit, self._span, lambda value: max(_users(value).values()))

    def __len__(self) -> int:
        return len(self.memory)

    def note(self, key: bytes, user: str, time: int) -> None:
        """Take note of a login."""
        value = self.memory.get(key)
        users = {} if value is None else _users(value)
        last = users.pop(user, time)
        users[user] = max(last, time)
        newest = sorted(users.items(), key=lambda item: item[1])[-USERS:]
        self.memory.put(key, json.dumps(dict(newest)).encode(), time)

    def users(self, key: bytes, time: int) -> set[str]:
        """Give who logged in from an address less than `grace` from `time`.

        An entry can be older than one that was read before, and clocks are set back.
        """
        value = self.memory.get(key)
        if value is None:
            return set()
        return {user for user, last in _users(value).items() if abs(time - last) < self._span}


class Guard:
    """The logins of the chosen users, and their failures at the addresses from which they logged in."""

    def __init__(self, rule: Guarding, findtime: int, maxretry: int) -> None:
        self.rule = rule
        self.logins = Logins(rule.grace)
        self.window = Window(findtime, maxretry * rule.factor)

    def note(self, key: bytes, user: str, time: int) -> None:
        """Take note of a login, if it is of a chosen user."""
        if user in self.rule.users:
            self.logins.note(key, user, time)

    def covers(self, key: bytes, user: str | None, time: int) -> bool:
        """Whether a failure as a user is one of the guarded."""
        return user in self.rule.users and user in self.users(key, time)

    def users(self, key: bytes, time: int) -> set[str]:
        """Give the users who are guarded at an address."""
        if not len(self.logins):  # as almost always
            return set()
        return self.logins.users(key, time) & self.rule.users


def named(users: Iterable[str]) -> str:
    """Give names as a sentence has them, in an order."""
    *others, last = sorted(users)
    return f"{', '.join(others)} and {last}" if others else last


def _users(value: bytes) -> dict[str, int]:
    """Read what `note` wrote. Raises ValueError."""
    found: Any = json.loads(value)
    if not isinstance(found, dict):
        raise ValueError("these are no logins")  # noqa: TRY004 - a damaged value
    users = cast("dict[str, Any]", found)
    if not users or not all(type(time) is int for time in users.values()):
        raise ValueError("these are no logins")
    return users
