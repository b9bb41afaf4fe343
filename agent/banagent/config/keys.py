# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keys of banagent.toml: one table from which come the parsing, the messages and the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from banagent.config import checks, filters, porting
from banagent.config.table import Key, Values
from banagent.core import growth
from banagent.core.duration import DAY, HOUR, WEEK, YEAR
from banagent.core.filter import MODES
from banagent.core.window import LIMIT

if TYPE_CHECKING:
    from banagent.config.table import Keys
    from banagent.core.address import Network
    from banagent.core.formula import Formula

ENABLED: Final = Key(
    name="enabled",
    default=False,
    check=checks.boolean,
    choices=checks.BOOLEAN,
    type="true or false",
    help="whether the jail runs",
)
FILTER: Final = Key(
    name="filter",
    default="",
    check=checks.filter_name,
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
INCREMENT: Final = Key(
    name="increment",
    default=True,
    check=checks.boolean,
    choices=checks.BOOLEAN,
    type="true or false",
    help="whether each further ban of an address lasts longer",
)
FACTOR: Final[Key[float]] = Key(
    name="factor",
    default=1,
    check=checks.factor,
    type='a number, or an expression of numbers such as "2.0 / 2.885385"',
    help="what the formula or the multipliers are multiplied with; banFactor in the formula",
)
FORMULA: Final[Key[Formula]] = Key(
    name="formula",
    default=growth.DOUBLING,
    check=checks.formula,
    type="an expression over ban.Time, ban.Count and banFactor",
    help="how long a further ban lasts, in seconds",
)
MULTIPLIERS: Final[Key[tuple[float, ...]]] = Key(
    name="multipliers",
    default=(),
    check=checks.multipliers,
    type='a list of numbers, or "1 2 4 8"',
    help="how many times as long each further ban lasts, instead of a formula",
)
MAXTIME: Final[Key[int | None]] = Key(
    name="maxtime",
    default=WEEK,
    check=checks.seconds,
    type='a duration, or "permanent"',
    help="the longest that bans grow to",
)
RNDTIME: Final = Key(
    name="rndtime",
    default=0,
    check=checks.any_seconds,
    type="a duration",
    help="up to how much is added to each further ban, at random",
)
OVERALLJAILS: Final = Key(
    name="overalljails",
    default=False,
    check=checks.boolean,
    choices=checks.BOOLEAN,
    type="true or false",
    help="whether bans by other jails make it longer, too",
)
FORGET: Final[Key[int | None]] = Key(
    name="forget",
    default=30 * DAY,
    check=checks.seconds,
    type='a duration, or "permanent"',
    help="how long after its end a ban makes the next one longer",
)
BANTIME: Final = Key(
    name="bantime",
    default=Values({}),
    type='a duration, or "permanent", or a table',
    help="how long a ban lasts; a value alone is bantime.time",
    short="time",
    keys=(
        BANTIME_TIME,
        INCREMENT,
        FACTOR,
        FORMULA,
        MULTIPLIERS,
        MAXTIME,
        RNDTIME,
        OVERALLJAILS,
        FORGET,
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
REMEMBER: Final = Key(
    name="remember",
    default=LIMIT,
    check=checks.number(1000, 10_000_000),
    type="a whole number from 1000 to 10000000",
    help="how many addresses with failures are remembered; where there are more, those with the fewest go first",
)
IGNOREIP: Final[Key[tuple[Network | str, ...]]] = Key(
    name="ignoreip",
    default=(),
    check=checks.ignored,
    type='a list of addresses, networks and files of them, such as ["192.0.2.0/24", "2001:db8::1", "file:/PATH"]',
    help="who is never banned; a jail's own list replaces the one of [defaults]",
    many=True,
)
MODE: Final = Key(
    name="mode",
    default="normal",
    check=checks.mode,
    choices=tuple(MODES),
    type=f"one of {', '.join(MODES)}",
    help="which of the filter's patterns are used",
)
GUARD_USERS: Final[Key[tuple[str, ...]]] = Key(
    name="users",
    default=("root", "@sudo", "@wheel"),
    check=checks.account,
    type='a list of users, and of groups with an @, such as ["root", "@sudo"]',
    help="whom the guard is for; an empty list is for nobody",
    many=True,
)
GUARD_GRACE: Final = Key(
    name="grace",
    default=12 * HOUR,
    check=checks.finite_seconds,
    type="a duration",
    help="how long after a login it is in force for the address from which it was",
)
GUARD_FACTOR: Final = Key(
    name="factor",
    default=4,
    check=checks.number(1, 100),
    type="a whole number from 1 to 100",
    help="how many times maxretry such a user may fail there, as that user",
)
GUARD: Final = Key(
    name="guard",
    default=Values({}),
    type="a table",
    help="the lock-out guard: who logged in lately may mistype more often",
    keys=(GUARD_USERS, GUARD_GRACE, GUARD_FACTOR),
)
NETWORKS_ADDRESSES: Final = Key(
    name="addresses",
    default=0,
    check=checks.number(0, 256),
    type="a whole number from 0 to 256",
    help="how many addresses of a network fail within findtime until it is banned as a whole; 0: it never is",
)
NETWORKS: Final = Key(
    name="networks",
    default=Values({}),
    type="a table",
    help="attacks by many addresses of one network, which do little each",
    keys=(NETWORKS_ADDRESSES,),
)
BREAKER_BANS: Final = Key(
    name="bans",
    default=5000,
    check=checks.number(0, 1_000_000),
    type="a whole number from 0 to 1000000",
    help="how many bans in a minute trip it, if that is ten times what it ever was; 0: no number does",
)
BREAKER_USERS: Final = Key(
    name="users",
    default=5,
    check=checks.number(0, 1000),
    type="a whole number from 0 to 1000",
    help="how many users whose bans would lock them out trip it, if most bans of an hour do that; 0: no number does",
)
BREAKER: Final = Key(
    name="breaker",
    default=Values({}),
    type="a table",
    help="the circuit breaker: when a jail that seems to have gone wild stops banning",
    keys=(BREAKER_BANS, BREAKER_USERS),
)
COUNTS: Final = Key(
    name="counts",
    default="failures",
    check=checks.choice("failures", "bans"),
    choices=("failures", "bans"),
    type="failures or bans",
    help="what leads to a ban: failures of a service, or bans by the other jails",
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
    REMEMBER,
    IGNOREIP,
    MODE,
    GUARD,
    NETWORKS,
    BREAKER,
    filters.SOURCE,
    Key(name="scope", default=None, since="later", help="whether forwarded traffic is blocked, too"),
    *(Key(name=name, default=None, since="never", help=remedy) for name, remedy in porting.KEYS.items()),
)
DEFAULTS: Final = Key(
    name="defaults",
    default=Values({}),
    type="a table",
    help="what every jail inherits",
    keys=(
        *_COMMON,
        Key(name="filter", default=None, since="never", help="a filter is chosen in [jails.NAME]; write it there"),
        Key(name="counts", default=None, since="never", help="it is of a jail of its own; write it in [jails.NAME]"),
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
    keys=(ENABLED, FILTER, COUNTS, *_COMMON[1:], *_OF_ONE_FILTER),
)
KEEP: Final[Key[int | None]] = Key(
    name="keep",
    default=YEAR,
    check=checks.days,
    type='a duration of at least a day, or "permanent"',
    help="how long a ban is remembered after its end",
)
MOST: Final = Key(
    name="bans",
    default=200_000,
    check=checks.number(1000, 100_000_000),
    type="a whole number from 1000 to 100000000",
    help="how many bans are remembered",
)
HISTORY: Final = Key(
    name="history",
    default=Values({}),
    type="a table",
    help="what is remembered of bans that are over",
    keys=(KEEP, MOST),
)
NOTIFY: Final = Key(name="notify", default=None, since="later", help="who is told of bans")
FILE: Final[Keys] = (DEFAULTS, JAILS, HISTORY, NOTIFY)
