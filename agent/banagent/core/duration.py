# SPDX-License-Identifier: LGPL-2.1-or-later
"""Durations as systemd.time(7) and fail2ban's jail.conf(5) write them, in whole seconds; None lasts for ever."""

from __future__ import annotations

import math
import re
from typing import Final

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
YEAR: Final = 31_557_600  # 365.25 days
MONTH: Final = YEAR // 12
LONGEST: Final = 292 * YEAR  # the kernel counts a timeout in nanoseconds, in 63 bits

_UNITS: Final = {
    word: seconds
    for words, seconds in (
        ("s ss sec secs second seconds", 1),
        ("m mm mi min mins minute minutes", MINUTE),
        ("h hh hr hrs hour hours", HOUR),
        ("d dd day days", DAY),
        ("w ww week weeks", WEEK),
        ("M mo mon month months", MONTH),
        ("y yy year years", YEAR),
    )
    for word in words.split()
}
_SUFFIXES: Final = (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", 1))
# once a number is found nothing after it can fail: there is no way back to try
_ITEM: Final = re.compile(r"([0-9]*)(?:\.([0-9]+))?[ \t]*([A-Za-z]*)[ \t]*")
_LONGEST_TEXT: Final = 100
_SCALE: Final = 10**_LONGEST_TEXT  # no fraction in such a text has more digits: sums are exact
FORMS: Final = 'must be a duration such as 600 (seconds), "10m", "1d 12h" or "1y 6mo"'


def parse(value: str | float) -> int | None:
    """Parse a duration into seconds, or None for "permanent" and -1.

    A number without a unit is seconds; after units it may only come last, "1h 30" being an hour and 30 seconds.
    What is less than a second is rounded up, so that nothing ends before its time. Raises ValueError: no duration,
    negative, or longer than 292 years.
    """
    if isinstance(value, str):
        text = value.strip(" \t")
        if text in {"permanent", "-1"}:
            return None
        seconds = _seconds(text)
    elif isinstance(value, bool) or not -math.inf < value < math.inf:
        raise ValueError(FORMS)
    elif value == -1:
        return None
    else:
        seconds = math.ceil(value)
    if seconds < 0:
        raise ValueError(f'{FORMS}; "permanent" or -1 is for ever')
    if seconds > LONGEST:
        raise ValueError('must not be longer than 292 years; "permanent" is for ever')
    return seconds


def format(seconds: int | None) -> str:  # noqa: A001 - it is read as duration.format
    """Write a duration of 0 or more seconds so that `parse` reads the same: `3d 4h`, `1y 6mo`, `permanent`."""
    if seconds is None:
        return "permanent"
    units = (("y", YEAR), ("mo", MONTH)) if seconds % MONTH == 0 else _SUFFIXES
    parts: list[str] = []
    for suffix, unit in units:
        count, seconds = divmod(seconds, unit)
        if count:
            parts.append(f"{count}{suffix}")
    return " ".join(parts) or "0s"


def _seconds(text: str) -> int:
    """Add up the items of `text`, rounded up. Raises ValueError."""
    if not text or len(text) > _LONGEST_TEXT:
        raise ValueError(FORMS)
    total = position = 0
    while position < len(text):
        item = _ITEM.match(text, position)
        if item is None or not (item[1] or item[2]):
            raise ValueError(FORMS)
        position = item.end()
        if not item[3] and position < len(text):
            raise ValueError(f"{FORMS}; {item[0].strip()} in it has no unit")
        unit = _UNITS.get(item[3] or "s")
        if unit is None:
            raise ValueError(f'"{item[3]}" is not a unit of time: s, m, h, d, w, mo (or M) and y are, as in "1d 12h"')
        fraction = (item[2] or "").ljust(_LONGEST_TEXT, "0")
        total += (int(item[1] or "0") * _SCALE + int(fraction)) * unit
    return -(-total // _SCALE)
