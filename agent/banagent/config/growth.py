# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a jail's `bantime` says of the bans of repeaters."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from banagent.config import keys
from banagent.config.toml import Origin, dotted
from banagent.core.growth import Growth
from banagent.errors import Mistake

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from banagent.config.jails import JailConfig
    from banagent.config.table import Values


def build(jail: Values, origins: Mapping[str, object], name: str, *, forgeable: bool) -> Growth | None:
    """Give it; `origins` says by dotted key where the values of the jail stand.

    Where a peer can make up the address, bans don't grow unless the jail's own table says so: the enemy would let
    those of others grow.
    """
    bantime, said = jail[keys.BANTIME], origins.get("bantime.increment")
    by_itself = isinstance(said, Origin) and said.path[:2] == ("jails", name)
    if not bantime[keys.INCREMENT] or (forgeable and not by_itself):
        return None
    return Growth(
        factor=bantime[keys.FACTOR],
        formula=bantime[keys.FORMULA],
        multipliers=bantime[keys.MULTIPLIERS],
        maxtime=bantime[keys.MAXTIME],
        rndtime=bantime[keys.RNDTIME],
        overalljails=bantime[keys.OVERALLJAILS] and jail[keys.COUNTS] == "failures",  # bans count once
        forget=bantime[keys.FORGET],
    )


def mistakes(jails: Iterable[JailConfig]) -> Iterable[Mistake]:
    """Say of each formula that gives no time for one of the jails that have it, where it stands."""
    found: dict[tuple[str, int], Mistake] = {}
    for jail in jails:
        origin = jail.origins.get("bantime.formula")
        if origin is not None and jail.growth is not None and jail.bantime is not None:
            text = _fault(jail.growth, jail.bantime)
            if text is not None:
                mistake = Mistake(origin.file, origin.line, dotted(origin.path), origin.value, text)
                found.setdefault(mistake[:2], mistake)
    return found.values()


@lru_cache(100)  # many jails inherit one
def _fault(growth: Growth, time: int) -> str | None:
    return growth.fault(time)
