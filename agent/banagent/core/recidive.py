# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recidive: a jail that counts the bans of the other jails.

What it counts is their record in the history, and nothing else: it works from the moment it is enabled, a ban that an
admin lifted does not count, and there is no second count that could disagree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from banagent.core.events import Offence
from banagent.core.filter import Filter
from banagent.core.jail import Jail

if TYPE_CHECKING:
    from banagent.core.address import Network
    from banagent.core.events import Ban

BANS: Final = Filter(name="bans", file="", description="bans of other jails")  # what stands for the filter it lacks


class Recidive(Jail):
    """A jail that counts bans; those by hand and those by jails that can be deceived say nothing."""

    def judge(self, ban: Ban) -> Ban | None:
        """Count another jail's ban; give the ban that it decides, if it does."""
        address = ban.address
        if not ban.credible or ban.jail == self.name:
            return None
        if self.never.forbids(address):
            self.ignored += 1
            return None
        if self._bans.is_banned(self.name, address, ban.start):
            return None
        self.failures += 1
        count = self._record.by_others(address, self.name, ban.start, self.rule.findtime)
        if count < self.rule.maxretry:
            return None
        offence = Offence(ban.start, ban.position, address, ban.user, BANS.name, ban.jail)
        return self._decide(address, offence, count)

    def counted(self, address: Network, now: int) -> int:
        """Give how many bans of an address are counted at `now`."""
        return self._record.by_others(address, self.name, now, self.rule.findtime)

    def total(self, now: int) -> int:
        """Give how many bans of all addresses are counted at `now`."""
        return self._record.total_by_others(self.name, now, self.rule.findtime)
