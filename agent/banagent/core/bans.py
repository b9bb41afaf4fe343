# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bans that stand, of all jails: what the decisions have led to so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from banagent.core.address import Network


class Standing(NamedTuple):
    """A ban that stands: whom, in which jail, until when (µs since the epoch; None: for ever)."""

    jail: str
    address: Network
    end: int | None


class Bans:
    """Who is banned by which jail until when. Ended bans stay until `forget_ended`, for entries that come late."""

    def __init__(self) -> None:
        self._ends: dict[str, dict[Network, int | None]] = {}

    def __iter__(self) -> Iterator[Standing]:
        """Give all that are remembered."""
        return (Standing(jail, net, end) for jail, ends in self._ends.items() for net, end in ends.items())

    def __contains__(self, ban: tuple[str, Network]) -> bool:
        """Whether a jail's ban of a network is remembered."""
        jail, address = ban
        return address in self._ends.get(jail, {})

    def stand(self, item: Standing) -> None:
        """Take note of a ban; it replaces an earlier one of the address in this jail."""
        self._ends.setdefault(item.jail, {})[item.address] = item.end

    def lift(self, jail: str, address: Network) -> None:
        """Forget a ban before its time."""
        self._ends.get(jail, {}).pop(address, None)

    def is_banned(self, jail: str, address: Network, time: int) -> bool:
        """Whether a jail has an address banned at `time`."""
        ends = self._ends.get(jail)
        if not ends or address not in ends:
            return False
        end = ends[address]
        return end is None or time < end

    def stands(self, item: Standing) -> bool:
        """Whether exactly this ban is remembered, with this end."""
        return self._ends.get(item.jail, {}).get(item.address, -1) == item.end

    def at(self, time: int) -> list[Standing]:
        """Give the bans that stand at `time`."""
        return [item for item in self if item.end is None or item.end > time]

    def forget_ended(self, time: int) -> None:
        """Forget the bans that had ended at `time`."""
        for jail, ends in self._ends.items():
            if any(end is not None and end <= time for end in ends.values()):
                self._ends[jail] = {net: end for net, end in ends.items() if end is None or end > time}
