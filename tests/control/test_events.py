# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from banagent.control.events import Event, EventLog, Lost
from banagent.control.service import PORTION


def filled(count: int, size: int = 10) -> EventLog:
    log = EventLog(size=size)
    for number in range(count):
        assert log.append("banned", {"number": number}) == number + 1
    return log


def sequences(events: list[Event]) -> list[int]:
    return [event.sequence for event in events]


def test_events_are_numbered_from_one() -> None:
    log = filled(3)
    assert log.since(1) == [Event(number + 1, "banned", {"number": number}) for number in range(3)]
    assert sequences(log.since(3)) == [3]
    assert log.since(4) == []


@pytest.mark.parametrize("since", [-1, 0, 5, 17, 1 << 62])
def test_what_is_gone_or_never_was_is_lost(since: int) -> None:
    log = filled(15)
    assert (log.first, log.next) == (6, 16)
    assert sequences(log.since(6)) == list(range(6, 16))
    with pytest.raises(Lost) as caught:
        log.since(since)
    assert caught.value.parameters == {"since": since, "first": 6, "next": 16}


def test_an_empty_log_has_nothing_but_the_next() -> None:
    log = EventLog(100)
    assert log.since(100) == []
    for since in (99, 101):
        with pytest.raises(Lost):
            log.since(since)


def test_numbers_go_on_over_a_restart() -> None:
    before = filled(15)
    after = EventLog(before.next, before.since(8), size=10)
    assert (after.first, after.next) == (8, 16)
    assert after.append("off", {}) == 16
    assert sequences(after.since(15)) == [15, 16]


def test_kept_events_must_fit() -> None:
    kept = filled(5).since(1)
    with pytest.raises(ValueError, match="end before 6, not before 7"):
        EventLog(7, kept)
    with pytest.raises(ValueError, match="event 3 can't come before 2"):
        EventLog(6, [*kept[:1], *kept[2:]])


def test_followers_wake_when_something_happens() -> None:
    async def follow() -> None:
        log = filled(2, size=1000)
        async with aclosing(log.follow(2)) as events:
            assert sequences(await anext(events)) == [2]
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            assert not waiting.done()
            for _ in range(PORTION + 1):
                log.append("banned", {})
            assert sequences(await waiting) == list(range(3, 3 + PORTION))
            assert sequences(await anext(events)) == [3 + PORTION]
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            for _ in range(1001):  # more than the log keeps, in one go
                log.append("banned", {})
            with pytest.raises(Lost):
                await waiting

    asyncio.run(follow())


def test_wait_is_over_when_the_event_is_there() -> None:
    async def wait() -> None:
        log = EventLog()
        waiting = asyncio.ensure_future(log.wait(2))
        for done in (False, True):
            assert not waiting.done()
            log.append("banned", {})
            for _ in range(3):
                await asyncio.sleep(0)
            assert waiting.done() == done
        await log.wait(1)

    asyncio.run(wait())
