# SPDX-License-Identifier: LGPL-2.1-or-later
"""The time stamps of log lines, and what time they mean.

A stamp with a zone is a time. One without zone, or without year, is completed with the machine's zone and the year
that fits, and is believed only if it lies between the last reading of the file and now.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple

from banagent.core.events import SECOND

SLACK: Final = 60 * SECOND  # that a line may be older than the last reading: services keep lines back in buffers
DAY: Final = 24 * 3600 * SECOND

_QUARTER: Final = 15 * 60 * SECOND  # the years of all zones begin with one
_LEAP_YEAR: Final = 2000
_REMEMBERED: Final = 128  # lines come in order, and many in a second
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MONTHS: Final = {
    name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)
}
_TIME: Final = rb"([ \d]?\d):(\d\d):(\d\d)"
_ZONE: Final = rb"(?: ?(Z|UTC|GMT|[+-]\d\d:?\d\d)(?![\w:]))?"
_ISO: Final = re.compile(rb"(\d{4})[-/](\d\d)[-/](\d\d)[T ]" + _TIME + rb"(?:[.,](\d{1,9}))?" + _ZONE)
_SYSLOG: Final = re.compile(rb"([A-Z][a-z]{2}) +(\d{1,2}) " + _TIME)  # RFC 3164, 4.1.2
_CTIME: Final = re.compile(rb"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d{1,2}) " + _TIME + rb"(?:\.(\d{1,9}))? (\d{4})")
_ACCESS: Final = re.compile(rb"(\d\d)/([A-Z][a-z]{2})/(\d{4}):" + _TIME + rb" ([+-]\d{4})")  # %t of Apache's LogFormat
_NAMED: Final = re.compile(rb"(\d\d)-([A-Z][a-z]{2})-(\d{4}) " + _TIME + rb"(?:\.(\d{1,9}))?")
_OLD_MYSQL: Final = re.compile(rb"(\d\d)(\d\d)(\d\d) " + _TIME)


class Local(NamedTuple):
    """A stamp that is not complete: it has no zone, and maybe no year."""

    year: int | None
    month: int
    day: int
    hour: int
    minute: int
    second: int
    microsecond: int = 0


class Found(NamedTuple):
    """A stamp, whole in µs since the epoch or not complete, and where in the line it ends."""

    stamp: int | Local
    end: int


def iso(line: bytes, at: int = 0) -> Found | None:
    """Find what ISO 8601 and RFC 3339 allow, and "2026-11-22 03:00:00,123", at an offset."""
    match = _ISO.match(line, at)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    return _found(_read(int(year), int(month), day, (hour, minute, second), zone), fraction, match.end())


def rsyslog(text: bytes) -> int | None:
    """Give the time of "2026-11-22T03:00:00.123456+00:00", in µs since the epoch; None: it is something else."""
    microseconds = text[17:19] + text[20:26]
    begin = _minute(text[:17], text[26:])
    if begin is None or text[19:20] != b"." or not microseconds.isdigit() or microseconds >= b"6":
        return None
    return begin + int(microseconds)


@lru_cache(_REMEMBERED)
def _minute(text: bytes, zone: bytes) -> int | None:
    """Give the time of "2026-11-22T03:00:" in a zone of the form "+00:00"; None: it is something else."""
    if text[10:11] != b"T" or zone[3:4] != b":":
        return None
    found = iso(text + b"00" + zone)
    return found.stamp if found and isinstance(found.stamp, int) and found.end == 25 else None


@lru_cache(_REMEMBERED)
def traditional(text: bytes) -> Local | None:
    """Give what "Nov  2 03:00:00" says; None: it is something else."""
    found = syslog(text)
    return found.stamp if found and isinstance(found.stamp, Local) and found.end == len(text) else None


def syslog(line: bytes, at: int = 0) -> Found | None:
    """Find "Nov  2 03:00:00"."""
    match = _SYSLOG.match(line, at)
    if match is None:
        return None
    month, day, hour, minute, second = match.groups()
    return _found(_read(None, _MONTHS.get(month, 0), day, (hour, minute, second), None), None, match.end())


def ctime(line: bytes, at: int = 0) -> Found | None:
    """Find "Sun Nov 22 03:00:00.123456 2026"."""
    match = _CTIME.match(line, at)
    if match is None:
        return None
    month, day, hour, minute, second, fraction, year = match.groups()
    return _found(_read(int(year), _MONTHS.get(month, 0), day, (hour, minute, second), None), fraction, match.end())


def access(line: bytes, at: int = 0) -> Found | None:
    """Find "22/Nov/2026:03:00:00 +0000"."""
    match = _ACCESS.match(line, at)
    if match is None:
        return None
    day, month, year, hour, minute, second, zone = match.groups()
    return _found(_read(int(year), _MONTHS.get(month, 0), day, (hour, minute, second), zone), None, match.end())


def named(line: bytes, at: int = 0) -> Found | None:
    """Find "22-Nov-2026 03:00:00.123"."""
    match = _NAMED.match(line, at)
    if match is None:
        return None
    day, month, year, hour, minute, second, fraction = match.groups()
    return _found(_read(int(year), _MONTHS.get(month, 0), day, (hour, minute, second), None), fraction, match.end())


def old_mysql(line: bytes, at: int = 0) -> Found | None:
    """Find "261122  3:00:00"."""
    match = _OLD_MYSQL.match(line, at)
    if match is None:
        return None
    year, month, day, hour, minute, second = match.groups()
    return _found(_read(2000 + int(year), int(month), day, (hour, minute, second), None), None, match.end())


def settle(stamp: int | Local | None, since: int, now: int, zone: tzinfo | None = None) -> int:
    """Give the time that a stamp means, in µs since the epoch: its own if it can be believed, or else `now`.

    `since` is when the file was last read to its end; `zone` is the machine's unless given.
    """
    if stamp is None:
        return now
    if isinstance(stamp, int):
        return min(stamp, now)
    fraction = stamp.microsecond
    second = stamp._replace(microsecond=0) if fraction else stamp
    moments = _moments(second, _year(now // _QUARTER, zone), zone)
    return max([time for one in moments if since - SLACK <= (time := one + fraction) <= now], default=now)


@lru_cache(_REMEMBERED)
def _read(
    year: int | None, month: int, day: bytes, clock: tuple[bytes, bytes, bytes], zone: bytes | None
) -> int | Local | None:
    """Check a day and a time, and complete them if there is a zone; None: there was no such time since 1970.

    A leap second is taken for the one before it.
    """
    hour, minute, second = map(int, clock)
    local = Local(year, month, int(day), hour, minute, min(second, 59))
    try:
        moment = datetime(_LEAP_YEAR if year is None else year, *local[1:6], tzinfo=UTC)
    except ValueError:
        return None
    if moment < _EPOCH:
        return None
    return local if zone is None else max((moment - _EPOCH) // _MICROSECOND - _offset(zone), 0)


def _found(stamp: int | Local | None, fraction: bytes | None, end: int) -> Found | None:
    if stamp is None or fraction is None:
        return None if stamp is None else Found(stamp, end)
    microsecond = int(fraction.ljust(6, b"0")[:6])
    return Found(stamp + microsecond if isinstance(stamp, int) else stamp._replace(microsecond=microsecond), end)


def _offset(zone: bytes) -> int:
    """Give what a zone is ahead of UTC, in µs."""
    if zone[0] not in b"+-":
        return 0
    offset = (int(zone[1:3]) * 60 + int(zone[-2:])) * 60 * SECOND
    return -offset if zone.startswith(b"-") else offset


@lru_cache(_REMEMBERED)
def _moments(local: Local, this_year: int, zone: tzinfo | None) -> tuple[int, ...]:
    """Give all times, in µs since the epoch, that a stamp can mean."""
    found: set[int] = set()
    for year in (this_year, this_year - 1) if local.year is None else (local.year,):
        for fold in (0, 1):  # in the hour that comes twice
            with suppress(ValueError, OverflowError):  # no such day in that year, or none that the C library can do
                found.add(int(datetime(year, *local[1:6], tzinfo=zone, fold=fold).timestamp()) * SECOND)
    return tuple(found)


@lru_cache(_REMEMBERED)
def _year(quarter: int, zone: tzinfo | None) -> int:
    return datetime.fromtimestamp(quarter * _QUARTER // SECOND, zone).year
