# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whom an admin has excepted from all bans, for a while or until it is taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from banagent.core.address import Network
    from banagent.core.never import Allowed

MOST: Final = 1000  # at a time; there is ignoreip for more


class AllowList:
    """Those who are allowed. Who was is remembered until `forget_ended`, for entries that come late."""

    def __init__(self, items: Iterable[tuple[Allowed, bool]] = ()) -> None:
        """Begin with what an earlier run left: each with whether it was told that it had ended."""
        self._items: dict[Network, Allowed] = {}
        self._ended: set[Network] = set()
        for item, ended in items:
            self._items[item.address] = item
            if ended:
                self._ended.add(item.address)

    def __iter__(self) -> Iterator[Allowed]:
        """Give all that are remembered."""
        return iter(self._items.values())

    def __len__(self) -> int:
        """Give how many are allowed, but for what has ended since `expire`."""
        return len(self._items) - len(self._ended)

    def standing(self) -> list[Allowed]:
        """Give those who are allowed, but for what has ended since `expire`."""
        return [item for item in self if item.address not in self._ended]

    def row(self, address: Network) -> tuple[Allowed, bool] | None:
        """Give what is remembered of an address or network, and whether it has ended."""
        item = self._items.get(address)
        return None if item is None else (item, address in self._ended)

    def allow(self, item: Allowed) -> None:
        """Except somebody; it replaces what was said of the same address or network before."""
        self._items[item.address] = item
        self._ended.discard(item.address)

    def disallow(self, address: Network) -> Allowed | None:
        """Take it back; give what it was if it had not ended."""
        item = self._items.get(address)
        if item is None or address in self._ended:
            return None
        del self._items[address]
        return item

    def expire(self, now: int) -> list[Allowed]:
        """Give those who are allowed no more, each once."""
        over = [item for item in self.standing() if item.end is not None and item.end <= now]
        self._ended.update(item.address for item in over)
        return over

    def shift(self, step: int) -> list[Allowed]:
        """Take note that the clock was set: who is allowed keeps the time that is left; give them as they are now."""
        return self._moved((item, step) for item in self.standing())

    def rein(self, now: int) -> list[Allowed]:
        """Let nobody be allowed longer than he was meant to be, as the clock was set back; give whom that concerns."""
        return self._moved((item, now - item.start) for item in self.standing() if item.start > now)

    def next_end(self) -> int | None:
        """Give when the next of them is over, in µs since the epoch."""
        return min((item.end for item in self.standing() if item.end is not None), default=None)

    def forget_ended(self, time: int) -> list[Network]:
        """Forget those who had been told to have ended by `time`; give them."""
        old = [net for net in self._ended if (end := self._items[net].end) is not None and end <= time]
        for net in old:
            del self._items[net]
            self._ended.discard(net)
        return old

    def _moved(self, items: Iterable[tuple[Allowed, int]]) -> list[Allowed]:
        moved = [
            item._replace(start=item.start + step, end=None if item.end is None else item.end + step)
            for item, step in items
        ]
        self._items.update((item.address, item) for item in moved)
        return moved
