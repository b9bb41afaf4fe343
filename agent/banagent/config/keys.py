# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keys of banagent.toml: one table from which come the parsing, the messages and the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from banagent.config import checks, filters
from banagent.config.table import Key, Values
from banagent.core.duration import HOUR
from banagent.core.filter import MODES

if TYPE_CHECKING:
    from banagent.config.table import Keys
    from banagent.core.address import Network

ENABLED: Final = Key(
    name="enabled",
    default=False,
    check=checks.boolean,
    type="true or false",
    help="whether the jail runs",
)
FILTER: Final = Key(
    name="filter",
    default="",
    check=checks.name,
    type="a filter's name",
    help="the filter that recognises the failures; the one with the jail's name unless given",
)
PORTS: Final[Key[tuple[tuple[int, int], ...] | None]] = Key(
    name="ports",
    default=(),
    check=checks.port,
    type=checks.PORTS_ARE,
    help="the ports that are closed to a banned address; the filter's unless given",
    many=True,
    least=1,
    words={"all": None},
)
BANTIME_TIME: Final[Key[int | None]] = Key(
    name="time",
    default=HOUR,
    check=checks.seconds,
    type='a duration, or "permanent"',
    help="how long a ban lasts",
)
BANTIME: Final = Key(
    name="bantime",
    default=Values({}),
    type='a duration, or "permanent", or a table',
    help="how long a ban lasts; a value alone is bantime.time",
    short="time",
    keys=(
        BANTIME_TIME,
        Key(name="increment", default=None, since="later", help="each further ban of an address lasts longer"),
        Key(name="factor", default=None, since="later", help="by how much each further ban lasts longer"),
        Key(name="formula", default=None, since="later", help="how a further ban's length is computed"),
        Key(name="multipliers", default=None, since="later", help="the lengths of further bans, one by one"),
        Key(name="maxtime", default=None, since="later", help="the longest that bans grow to"),
        Key(name="rndtime", default=None, since="later", help="a random time that is added to each ban"),
        Key(name="overalljails", default=None, since="later", help="bans in other jails count for growth, too"),
    ),
)
FINDTIME: Final = Key(
    name="findtime",
    default=HOUR,
    check=checks.finite_seconds,
    type="a duration",
    help="how long a failure counts",
)
MAXRETRY: Final = Key(
    name="maxretry",
    default=5,
    check=checks.number(1, 10_000),
    type="a whole number from 1 to 10000",
    help="how many failures within findtime lead to a ban",
)
IGNOREIP: Final[Key[tuple[Network, ...]]] = Key(
    name="ignoreip",
    default=(),
    check=checks.network,
    type='a list of addresses and networks, such as ["192.0.2.0/24", "2001:db8::1"]',
    help="who is never banned; a jail's own list replaces the one of [defaults]",
    many=True,
)
MODE: Final = Key(
    name="mode",
    default="normal",
    check=checks.choice(*MODES),
    type=f"one of {', '.join(MODES)}",
    help="which of the filter's patterns are used",
)
# what a jail can say in place of its filter; but for the first, not what all jails can
_OF_ONE_FILTER: Final[Keys] = (
    filters.LOGPATH,
    filters.FORMATS,
    filters.UNITS,
    filters.UIDS,
    filters.IDENTIFIERS,
    filters.CONTAINERS,
)
OF_FILTER: Final[Keys] = (filters.SOURCE, *_OF_ONE_FILTER)

_COMMON: Final[Keys] = (
    ENABLED,
    PORTS,
    BANTIME,
    FINDTIME,
    MAXRETRY,
    IGNOREIP,
    MODE,
    filters.SOURCE,
    Key(name="scope", default=None, since="later", help="whether forwarded traffic is blocked, too"),
    Key(name="port", default=None, since="never", help="write ports"),
    Key(name="action", default=None, since="never", help="bans go into nftables; remove it"),
    Key(name="banaction", default=None, since="never", help="bans go into nftables; remove it"),
    Key(name="backend", default=None, since="never", help="write source"),
    Key(name="usedns", default=None, since="never", help="names are never looked up; remove it"),
    Key(
        name="journalmatch", default=None, since="never", help="a filter's units, uids and identifiers say what is read"
    ),
)
DEFAULTS: Final = Key(
    name="defaults",
    default=Values({}),
    type="a table",
    help="what every jail inherits",
    keys=(
        *_COMMON,
        Key(name="filter", default=None, since="never", help="a filter is chosen in [jails.NAME]; write it there"),
        *(
            Key(
                name=key.name,
                default=None,
                since="never",
                help="it says what one service logs; write it in [jails.NAME]",
            )
            for key in _OF_ONE_FILTER
        ),
    ),
)
JAILS: Final = Key(
    name="jails",
    default=Values({}),
    type="a table",
    help="the jails, by name",
    names=checks.name,
    keys=(ENABLED, FILTER, *_COMMON[1:], *_OF_ONE_FILTER),
)
FILE: Final[Keys] = (DEFAULTS, JAILS, Key(name="notify", default=None, since="later", help="who is told of bans"))
