# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a ban lasts: fail2ban's `bantime.*`, with its words and its series (see jail.conf(5) and jail.conf)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from banagent.core.duration import DAY, LONGEST, WEEK
from banagent.core.formula import Formula

# fail2ban's default, which doubles up to a millionfold
DOUBLING: Final = Formula("ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor")
SERIES: Final = 20  # bans that are told of what is to come
MOST: Final = 1000  # earlier bans that are counted; a formula is tried out with each number of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What a jail's `bantime` says of the bans that are not an address's first; durations in seconds."""

    factor: float = 1
    formula: Formula = DOUBLING
    multipliers: tuple[float, ...] = ()  # of the time, from the first ban on, the last one for all further; or none
    maxtime: int | None = WEEK  # None: as long as the kernel can
    rndtime: int = 0
    overalljails: bool = False  # whether bans by other jails count
    forget: int | None = 30 * DAY  # after the end of a ban, which then counts no more; None: never

    def bantime(self, time: int, earlier: int, chance: float) -> int:
        """Give how long a ban lasts of an address that had `earlier` bans, in a jail whose first ones last `time`.

        The first lasts just as long. Neither `maxtime` nor what is no length at all makes a ban shorter than it.
        `chance`, from 0 to 1, is the share of `rndtime` that is added.
        """
        if not earlier:
            return time
        try:
            grown = self._grown(time, min(earlier, MOST))
        except OverflowError:
            grown = math.inf
        except (ValueError, ZeroDivisionError):
            grown = math.nan
        if not grown > 0:  # neither is NaN
            grown = time
        most = LONGEST if self.maxtime is None else max(self.maxtime, time)
        return min(math.ceil(min(grown, most)) + int(chance * (self.rndtime + 1)), LONGEST)

    def series(self, time: int) -> list[int]:
        """Give how long the first bans of an address last, without what is added at random, until they grow no more."""
        lengths = [time]
        while len(lengths) < SERIES and (longer := self.bantime(time, len(lengths), 0)) != lengths[-1]:
            lengths.append(longer)
        return lengths

    def fault(self, time: int) -> str | None:
        """Say what is wrong with the formula, if it gives no length for some number of earlier bans.

        One that is too large is none: such a ban lasts `maxtime`.
        """
        for earlier in range(1, MOST + 1):
            try:
                grown = self._grown(time, earlier)
            except OverflowError:
                continue
            except (ValueError, ZeroDivisionError) as error:
                return f"can't be computed where ban.Time is {time} and ban.Count {earlier}: {error}"
            if not grown > 0:
                return f"must give a time, and gives {grown:.10g} where ban.Time is {time} and ban.Count {earlier}"
        return None

    def _grown(self, time: int, count: int) -> float:
        """Raise what a formula raises."""
        if not self.multipliers:
            return self.formula(time, count, self.factor)
        return time * self.factor * self.multipliers[min(count, len(self.multipliers) - 1)]


def weight(earlier: int, maxretry: int) -> int:
    """Give how much a failure counts of an address that had `earlier` bans, as fail2ban has it."""
    if not earlier:
        return 1
    return min((1 << min(earlier, MOST) - 1) + 1, maxretry)
