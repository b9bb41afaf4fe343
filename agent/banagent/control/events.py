# SPDX-License-Identifier: LGPL-2.1-or-later
"""The events that followers may ask for, by sequence number; in memory, the oldest go."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from banagent.control.service import PORTION, Error, portions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping

    from banagent.control.service import Answer, Call

SIZE: Final = 10_000


class Event(NamedTuple):
    """Something that happened; `facts` are fields of `Event` in the interface."""

    sequence: int
    kind: str
    facts: Mapping[str, Any]  # `time` among them


class Lost(Error):  # noqa: N818 - as the interface calls it
    """The event `since` is not there; those from `first` on are, and the one to come will be `following`."""

    def __init__(self, since: int, first: int, following: int) -> None:
        super().__init__("Lost", since=since, first=first, next=following)


class EventLog:
    """The newest `size` events. Numbers grow by one and are never given twice: followers rely on both.

    To go on over a restart, begin with the number that comes next, and with the events before it that were kept. If
    some may have been told and not kept, begin further up: followers then learn that they missed something.
    """

    def __init__(self, next_sequence: int = 1, kept: Iterable[Event] = (), size: int = SIZE) -> None:
        self._size = size
        self._events: dict[int, Event] = {}
        self.first = self.next = next_sequence  # the oldest that is there, and the one to come
        self._arrived = asyncio.Event()
        for event in kept:
            self._add(event)
        if self.next != next_sequence:
            raise ValueError(f"the events kept end before {self.next}, not before {next_sequence}")

    def append(self, kind: str, facts: Mapping[str, Any]) -> int:
        """Add an event, wake who waits for it, and give its number."""
        sequence = self.next
        self._add(Event(sequence, kind, facts))
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()
        return sequence

    def since(self, sequence: int) -> list[Event]:
        """Give the events from a number on that are there now. Raises Lost."""
        return self._from(sequence, self.next)

    async def wait(self, sequence: int) -> None:
        """Wait until the event with this number, or a later one, is there."""
        while self.next <= sequence:
            await self._arrived.wait()

    async def follow(self, sequence: int) -> AsyncGenerator[list[Event], None]:
        """Give the events from a number on, in portions, for ever. Raises Lost, also when it is asked too slowly."""
        while True:
            self._find(sequence)
            await self.wait(sequence)
            portion = self._from(sequence, sequence + PORTION)
            yield portion
            sequence += len(portion)

    async def reply(self, call: Call) -> Answer:
        """Answer a call of the method Events."""
        since: int | None = call.parameters["since"]
        sequence = self.next if since is None else since
        if call.parameters["follow"]:
            return self._replies(sequence)
        return portions("events", map(_shape, self.since(sequence)))

    async def _replies(self, sequence: int) -> AsyncGenerator[Mapping[str, Any], None]:
        async with aclosing(self.follow(sequence)) as followed:
            async for events in followed:
                yield {"events": [_shape(event) for event in events]}

    def _from(self, sequence: int, end: int) -> list[Event]:
        self._find(sequence)
        return [self._events[number] for number in range(sequence, min(end, self.next))]

    def _find(self, sequence: int) -> None:
        if not self.first <= sequence <= self.next:
            raise Lost(sequence, self.first, self.next)

    def _add(self, event: Event) -> None:
        if not self._events:
            self.first = event.sequence
        elif event.sequence != self.next:
            raise ValueError(f"event {event.sequence} can't come before {self.next}")
        self._events[event.sequence] = event
        self.next = event.sequence + 1
        if len(self._events) > self._size:
            del self._events[self.first]
            self.first += 1


def _shape(event: Event) -> dict[str, Any]:
    return {"sequence": event.sequence, "kind": event.kind, **event.facts}
