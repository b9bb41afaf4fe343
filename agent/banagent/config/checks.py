# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks of single values: a parsed TOML value in, the value as the program wants it out.

Each raises ValueError, whose text says what is allowed and is fit to follow `KEY = VALUE: `.
"""
# ruff: noqa: TRY004 - a wrong type is a wrong value here, and ValueError is what all checks raise

from __future__ import annotations

import pwd
import re
import socket
from typing import TYPE_CHECKING, Final

from banagent.config import porting
from banagent.config.table import suggest
from banagent.config.toml import is_list, notation
from banagent.core import duration
from banagent.core.address import Network, parse_address, parse_network
from banagent.core.filter import MODES
from banagent.core.formula import Formula
from banagent.core.growth import MOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
BOOLEAN: Final = ("true", "false")
FILE: Final = "file:"  # before the path of a file with addresses and networks
MANUAL: Final = "manual"  # see banagent.enforce
NAME_IS: Final = "must begin with a small letter, then at most 63 of a-z, 0-9, _ and -"
PORTS_ARE: Final = 'a list such as ["ssh", 2222, "8000-8100"], or "all"'
_PORT_IS: Final = 'must be a number from 1 to 65535, a range such as "8000-8100" or the name of a service'
_RANGE: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_SERVICE: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9._+-]{1,64}")
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}")
_ACCOUNT: Final = re.compile(r"@?[^@\s:,\\\x00-\x1f\x7f][^\s:\x00-\x1f\x7f]{0,255}")  # such as EXAMPLE\carol, too
LAST_UID: Final = 2**32 - 2
_LARGEST: Final = 1e9  # factor; in seconds, 30 years
_LONGEST_NETWORK: Final = 60  # characters: eight groups, four of them with dots, and a prefix length
_UNIT: Final = re.compile(r"[A-Za-z0-9:_.\\@*?\[\]!-]*(?:\.[a-z]+|\*)")


def boolean(value: object) -> bool:
    """Give a boolean."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false, without quotes")
    return value


def text(value: object) -> str:
    """Give text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be text in quotes, not empty")
    return value


def any_text(value: object) -> str:
    """Give text, which may be empty."""
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    return value


def texts(value: object) -> tuple[str, ...]:
    """Give a list of texts, none of them empty."""
    if not is_list(value) or not value or not all(isinstance(item, str) and item for item in value):
        raise ValueError("must be a list of texts in quotes, not empty")
    return tuple(str(item) for item in value)


def name(value: object) -> str:
    """Give the name of a jail, a filter or a pattern."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(NAME_IS)
    if value == MANUAL:
        raise ValueError(f"can't be {MANUAL}: that is the jail of bans by hand")
    return value


def filter_name(value: object) -> str:
    """Give the name of a jail's filter."""
    if isinstance(value, str) and (remedy := porting.filter_with_options(value)):
        raise ValueError(f"takes a name alone: {remedy}")
    return name(value)


def mode(value: object) -> str:
    """Give the mode of a jail."""
    try:
        return choice(*MODES)(value)
    except ValueError as error:
        hint = '; fail2ban\'s "more" of postfix is "normal"' if value == "more" else ""
        raise ValueError(f"{error}{hint}") from None


def number(low: int, high: int) -> Callable[[object], int]:
    """Make the check for whole numbers from `low` to `high`."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return check


def choice(*words: str) -> Callable[[object], str]:
    """Make the check for one of `words`."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            hint = suggest(value, words) if isinstance(value, str) else ""
            raise ValueError(f"must be {_either(words)}{hint}")
        return value

    return check


def seconds(value: object) -> int | None:
    """Give a duration of at least a second; None is for ever."""
    if not isinstance(value, str | int | float):
        raise ValueError(duration.FORMS)
    parsed = duration.parse(value)
    if parsed == 0:
        raise ValueError("must be at least 1 second")
    return parsed


def days(value: object) -> int | None:
    """Give a duration of at least a day; None is for ever."""
    parsed = seconds(value)
    if parsed is not None and parsed < duration.DAY:
        raise ValueError("must be at least a day: entries that come late are judged by the bans of their time")
    return parsed


def finite_seconds(value: object) -> int:
    """Give a duration of at least a second that has an end."""
    parsed = seconds(value)
    if parsed is None:
        raise ValueError("must have an end: failures are kept in mind for so long")
    return parsed


def any_seconds(value: object) -> int:
    """Give a duration that may be 0 and has an end."""
    if not isinstance(value, str | int | float):
        raise ValueError(duration.FORMS)
    parsed = duration.parse(value)
    if parsed is None:
        raise ValueError(duration.FORMS)
    return parsed


def formula(value: object) -> Formula:
    """Give a formula over ban.Time, ban.Count and banFactor."""
    return Formula(text(value))


def factor(value: object) -> float:
    """Give a number above 0, which may be written as an expression of numbers."""
    if isinstance(value, str):
        try:
            value = Formula(value).constant()
        except ArithmeticError as error:
            raise ValueError(f"can't be computed: {error}") from None
    return _above_0(value)


def multipliers(value: object) -> tuple[float, ...]:
    """Give a list of numbers above 0, which may be written as text with blanks between them."""
    if isinstance(value, str):
        value = [Formula(word).constant() for word in value.split()]
    if not is_list(value) or not 0 < len(value) <= MOST:
        raise ValueError('must be a list of numbers such as [1, 2, 4, 8], or "1 2 4 8"')
    return tuple(map(_above_0, value))


def _above_0(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LARGEST:
        raise ValueError(f"must be a number above 0 and below {_LARGEST:.0g}")
    return value


def network(value: object) -> Network:
    """Give an address or a network; host names are refused."""
    if not isinstance(value, str) or len(value) > _LONGEST_NETWORK:
        raise ValueError('must be an address or a network in quotes, such as "192.0.2.0/24"')
    if _SERVICE.fullmatch(value):
        raise ValueError("is a host name, and names are never looked up; write its addresses instead")
    return parse_network(value)


def ignored(value: object) -> Network | str:
    """Give an address or a network, or of `file:PATH` the path."""
    if isinstance(value, str) and value.startswith(FILE):
        return plain_path(value.removeprefix(FILE))
    return network(value)


def plain_path(value: str) -> str:
    """Give an absolute path, without wildcards."""
    if not value.startswith("/") or "\0" in value or set(value) & set("*?["):
        raise ValueError(f'must name a file by its absolute path without wildcards, as in "{FILE}/etc/banagent/office"')
    return value


def address(value: object) -> str:
    """Give the text of an address."""
    if not isinstance(value, str) or len(value) > _LONGEST_NETWORK:
        raise ValueError('must be an address in quotes, such as "192.0.2.1"')
    parse_address(value)
    return value


def port(value: object) -> tuple[int, int]:
    """Give a range of ports; services are looked up as the C library does."""
    named = port_name(value)
    if isinstance(named, int):
        return named, named
    if numbers := _RANGE.fullmatch(named):
        return int(numbers[1]), int(numbers[2] or numbers[1])
    try:
        number = socket.getservbyname(named)
    except OSError:
        raise ValueError(f"{_PORT_IS}; /etc/services has no {notation(named)}") from None
    return number, number


def port_name(value: object) -> str | int:
    """Give a port, a range or a service's name as it was written; services are not looked up."""
    if isinstance(value, str):
        if _SERVICE.fullmatch(value):
            return value
        numbers = _RANGE.fullmatch(value)
        low, high = (int(numbers[1]), int(numbers[2] or numbers[1])) if numbers else (0, 0)
    elif isinstance(value, int) and not isinstance(value, bool):
        low = high = value
    else:
        raise ValueError(_PORT_IS)
    if not 1 <= low <= high <= 65535:
        raise ValueError(_PORT_IS)
    return value


def user(value: object) -> int | str:
    """Give a user's number; the name of a user that this machine does not have as it is."""
    if isinstance(value, str) and _USER.fullmatch(value):
        try:
            return pwd.getpwnam(value).pw_uid
        except KeyError:
            return value
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LAST_UID:
        raise ValueError(f"must be the name of a user, or a number from 0 to {LAST_UID}")
    return value


def account(value: object) -> str:
    """Give the name of a user, or with an @ before it that of a group."""
    if not isinstance(value, str) or not _ACCOUNT.fullmatch(value):
        raise ValueError('must be the name of a user, or "@" and the name of a group')
    return value


def unit(value: object) -> str:
    """Give the name of a systemd unit, in which `*`, `?` and `[…]` are allowed."""
    if not isinstance(value, str) or not _UNIT.fullmatch(value):
        raise ValueError('must be a unit with its suffix, such as "ssh.service" or "ssh@*.service"')
    return value


def path(value: object) -> str:
    """Give an absolute path, in which shell wildcards are allowed."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError('must be an absolute path, such as "/var/log/auth.log"')
    return value


def _either(words: Iterable[str]) -> str:
    *others, last = (f'"{word}"' for word in words)
    return f"{', '.join(others)} or {last}" if others else last
