# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bans that stand, of all jails: what the decisions have led to so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from banagent.core.address import Network


class Standing(NamedTuple):
    """A ban that stands: whom, in which jail, until when (µs since the epoch; None: for ever)."""

    jail: str
    address: Network
    end: int | None


class Bans:
    """Who is banned by which jail until when. Ended bans stay until `forget_ended`, for entries that come late.

    Those that stand are kept apart from those that are known to have ended, so that they can be counted without a look
    at each.
    """

    def __init__(self) -> None:
        self._standing: dict[str, dict[Network, int | None]] = {}
        self._ended: dict[str, dict[Network, int | None]] = {}

    def __iter__(self) -> Iterator[Standing]:
        """Give all that are remembered."""
        kinds = (self._standing, self._ended)
        return (Standing(jail, net, end) for of in kinds for jail, ends in of.items() for net, end in ends.items())

    def __contains__(self, ban: tuple[str, Network]) -> bool:
        """Whether a jail's ban of a network is remembered."""
        jail, address = ban
        return address in self._standing.get(jail, ()) or address in self._ended.get(jail, ())

    def stand(self, item: Standing) -> None:
        """Take note of a ban; it replaces an earlier one of the address in this jail."""
        self._standing.setdefault(item.jail, {})[item.address] = item.end
        if (ended := self._ended.get(item.jail)) is not None:
            ended.pop(item.address, None)

    def lift(self, jail: str, address: Network) -> None:
        """Forget a ban before its time."""
        for of in (self._standing, self._ended):
            of.get(jail, {}).pop(address, None)

    def expire(self, item: Standing) -> bool:
        """Take note that a ban has ended; give whether it stood, and with this end."""
        standing = self._standing.get(item.jail, {})
        if standing.get(item.address, -1) != item.end:
            return False
        self._ended.setdefault(item.jail, {})[item.address] = standing.pop(item.address)
        return True

    def is_banned(self, jail: str, address: Network, time: int) -> bool:
        """Whether a jail has an address banned at `time`."""
        return self.is_any_banned(jail, (address,), time)

    def is_any_banned(self, jail: str, addresses: Iterable[Network], time: int) -> bool:
        """Whether a jail has one of some addresses or networks banned at `time`."""
        for of in (self._standing, self._ended):
            ends = of.get(jail)
            if ends:
                for address in addresses:
                    if address in ends and ((end := ends[address]) is None or time < end):
                        return True
        return False

    def of(self, address: Network, time: int) -> list[Standing]:
        """Give the bans of exactly this address or network that stand at `time`."""
        found = (Standing(jail, address, ends[address]) for jail, ends in self._standing.items() if address in ends)
        return [item for item in found if item.end is None or item.end > time]

    def touching(self, network: Network, time: int) -> list[Standing]:
        """Give the bans that stand at `time` of whom has an address in common with `network`."""
        if not network.is_host:
            return [item for item in self.at(time) if network.covers(item.address) or item.address.covers(network)]
        around = (network.widen(prefix) for prefix in range(network.prefix + 1))
        return [item for one in around for item in self.of(one, time)]

    def at(self, time: int) -> list[Standing]:
        """Give the bans that stand at `time`, which is not before one that has been said to have ended."""
        return [
            Standing(jail, net, end)
            for jail, ends in self._standing.items()
            for net, end in ends.items()
            if end is None or end > time
        ]

    def counts(self) -> dict[str, int]:
        """Give how many bans stand of each jail that has some, but for what has ended since it was last noted."""
        return {jail: len(ends) for jail, ends in self._standing.items() if ends}

    def shift(self, step: int) -> None:
        """Take note that the clock was set: what stands keeps the time that is left of it."""
        for ends in self._standing.values():
            ends.update({net: end + step for net, end in ends.items() if end is not None})

    def forget_ended(self, time: int) -> None:
        """Forget the bans that had ended at `time`, of those that are known to have."""
        for jail, ends in self._ended.items():
            if any(end is not None and end <= time for end in ends.values()):
                self._ended[jail] = {net: end for net, end in ends.items() if end is None or end > time}
