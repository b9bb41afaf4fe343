# SPDX-License-Identifier: LGPL-2.1-or-later
"""Links between the lines of a session: the address stands in one of them, the failure in another.

slapd, for one, names the peer when it accepts a connection, the user when he binds, and the error with neither. Either
line may come first: a failure of which nobody knows yet whose it is waits for the line that tells.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from banagent.core.address import parse_network
from banagent.core.aging import Aging, Present
from banagent.core.events import SECOND, Offence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from banagent.core.address import Network

LIFETIME = 24 * 3600 * SECOND  # after the last line; some clients of a directory stay connected for hours
LIMIT = 10_000  # sessions remembered, of half a kilobyte each; beyond it the oldest go first
WAITING = 20  # failures of one session that wait for its address


class _Session(NamedTuple):
    time: int  # of its last line
    address: Network | None
    user: str | None
    waiting: tuple[Offence, ...]


class Links:
    """Whose each session is, and the failures that wait for that."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}  # in the order of their last lines
        self._changed: set[str] = set()
        self._aging: Aging[str, _Session] = Aging()
        self.present = Present()
        self.lost = 0  # failures of which it was never told whose they are

    def resolve(self, offence: Offence) -> list[Offence]:
        """Take note of a line; give the failures, with their address, that it completes: mostly one or none."""
        if offence.session is None:
            return [offence] if offence.times else []
        known = self._sessions.pop(offence.session, None)
        if known is None or _is_over(known, offence):
            known = self._forgotten(known)
        address = offence.address or known.address
        user = offence.user if offence.user is not None else known.user
        failures = [*known.waiting, offence] if offence.times else list(known.waiting)
        if address is None and len(failures) > WAITING:
            self.lost += failures.pop(0).times
        waiting = () if address is not None else tuple(item._replace(position="") for item in failures)
        self._sessions[offence.session] = _Session(max(known.time, offence.time), address, user, waiting)
        self._changed.add(offence.session)
        if self._aging.is_due(self._sessions, LIMIT):
            self._forget_stale(offence.time)
        if address is None:
            return []
        return [
            item._replace(
                time=offence.time,
                position=offence.position,
                address=address,
                user=item.user if item.user is not None else user,
            )
            for item in failures
        ]

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Give each session that changed since `saved`, in the checkpoint's form; None: forgotten."""
        for key in self._changed:
            session = self._sessions.get(key)
            yield key.encode(), None if session is None else _packed(session)

    def saved(self) -> None:
        """Note that the changes are in the checkpoint."""
        self._changed.clear()

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over what a checkpoint holds; rows that can't be sessions are left out."""
        sessions = [(key, session) for key, value in rows if (session := _unpacked(value)) is not None]
        sessions.sort(key=lambda row: row[1].time)
        self._sessions = {key.decode("utf-8", "replace"): session for key, session in sessions}
        self._changed.clear()

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Give all that is remembered, as `load` takes it."""
        return ((key.encode(), _packed(session)) for key, session in self._sessions.items())

    def _forget_stale(self, time: int) -> None:
        time = min(time, self.present.oldest)
        for key in self._aging.oldest(self._sessions, LIMIT, lambda session: time - session.time > LIFETIME):
            self._forgotten(self._sessions.pop(key))
            self._changed.add(key)

    def _forgotten(self, session: _Session | None) -> _Session:
        """Give a session of which nothing is known, in place of one that is over."""
        if session is not None:
            self.lost += sum(item.times for item in session.waiting)
        return _Session(0, None, None, ())


def _is_over(session: _Session, offence: Offence) -> bool:
    """Whether a line with a session's id is of a later one: of another address, or long after it."""
    others = None not in (session.address, offence.address) and session.address != offence.address
    return others or offence.time - session.time > LIFETIME


def _packed(session: _Session) -> bytes:
    address = None if session.address is None else str(session.address)
    return json.dumps((session.time, address, session.user, session.waiting)).encode()


def _unpacked(value: bytes) -> _Session | None:
    """Read what `_packed` wrote; None: it is damaged."""
    try:
        time, address, user, waiting = json.loads(value)
        return _Session(
            int(time),
            None if address is None else parse_network(address),
            None if user is None else str(user),
            tuple(_offence(item) for item in waiting),
        )
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None


def _offence(row: Any) -> Offence:  # noqa: ANN401 - whatever JSON has
    """Read what was an Offence. Raises TypeError, ValueError."""
    time, position, _address, user, filter_name, pattern, session, times, weight, once, credible, *_ = row
    return Offence(
        int(time),
        str(position),
        None,
        None if user is None else str(user),
        str(filter_name),
        str(pattern),
        None if session is None else str(session),
        int(times),
        int(weight),
        bool(once),
        bool(credible),
    )
