# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which entries of a dictionary are old enough to be forgotten, without a look at it each time.

The dictionary is in the order of the last change, so the oldest are at its front. But where much was taken away from
there, Python walks over the gaps to the first that is left: a look at each change would take time that grows with the
number of entries. So looks are as rare as they are long, and each takes as many as came in since the last.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

K = TypeVar("K")
V = TypeVar("V")

SHARE: Final = 16  # a look is due when a 16th of the entries has changed; where there are too many, a 16th goes
SOON: Final = 64  # changes, at the least


class Present(NamedTuple):
    """Between which times the sources are that are read: one of them may be hours behind another."""

    oldest: int = 1 << 62
    newest: int = 0


class Aging(Generic[K, V]):
    """What is to be forgotten of a dictionary: what is over, and of too many entries the oldest."""

    def __init__(self) -> None:
        self._left = SOON  # changes until the next look

    def is_due(self, entries: Mapping[K, V], limit: int) -> bool:
        """Count a change; give whether it is time to look."""
        self._left -= 1
        return self._left <= 0 or len(entries) > limit

    def over(self, entries: Mapping[K, V], is_over: Callable[[V], bool]) -> Iterator[K]:
        """Give the keys of those that are over, as far as they are at the front; the one that changed last stays."""
        interval = self._left = max(len(entries) // SHARE, SOON)
        for key in list(islice(entries, min(2 * interval, len(entries) - 1))):
            if not is_over(entries[key]):
                return
            yield key

    def oldest(self, entries: Mapping[K, V], limit: int, is_over: Callable[[V], bool]) -> Iterator[K]:
        """Give the keys to forget; the one that changed last stays."""
        if len(entries) > limit:
            yield from list(islice(entries, max(limit // SHARE, len(entries) - limit)))
        else:
            yield from self.over(entries, is_over)
