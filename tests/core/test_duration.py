# SPDX-License-Identifier: LGPL-2.1-or-later
"""Durations: what systemd and fail2ban write, and what neither should."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.core import duration
from banagent.core.duration import DAY, HOUR, LONGEST, MINUTE, MONTH, WEEK, YEAR

if TYPE_CHECKING:
    from decimal import Decimal

RIGHT = [
    # bare numbers are seconds
    (600, 600),
    ("600", 600),
    (0, 0),
    # units, in both programs' spellings
    ("10m", 10 * MINUTE),
    ("10mm", 10 * MINUTE),
    ("10 min", 10 * MINUTE),
    ("10minutes", 10 * MINUTE),
    ("1h", HOUR),
    ("48hr", 48 * HOUR),
    ("2 hours", 2 * HOUR),
    ("1d", DAY),
    ("1 day", DAY),
    ("2w", 2 * WEEK),
    ("1M", MONTH),
    ("1mo", MONTH),
    ("3 months", 3 * MONTH),
    ("1y", YEAR),
    ("1yy", YEAR),
    ("45sec", 45),
    # sums, joined or not, in any order
    ("1d12h", 36 * HOUR),
    ("1y 6mo", 18 * MONTH),
    ("1y 12month", 2 * YEAR),
    ("2h 30min", 150 * MINUTE),
    ("5m1h", 65 * MINUTE),
    # a number without unit at the end is seconds, as both programs have it
    ("1h30", HOUR + 30),
    ("1d 12", DAY + 12),
    # fractions; what is less than a second is rounded up, once
    ("1.5h", 90 * MINUTE),
    (".5h", 30 * MINUTE),
    ("0.5", 1),
    (1.2, 2),
    ("0.1s", 1),
    ("0.5s 0.5s", 1),
    ("0." + "3" * 60 + "m", 20),
    ("0." + "0" * 60 + "1", 1),
    # blanks around
    (" 1h\t", HOUR),
    # for ever
    ("permanent", None),
    (-1, None),
    ("-1", None),
    # the longest
    ("292y", LONGEST),
    (LONGEST, LONGEST),
]

FORMS = 'must be a duration such as 600 (seconds), "10m", "1d 12h" or "1y 6mo"'
UNITS = 's, m, h, d, w, mo (or M) and y are, as in "1d 12h"'
LONG = 'must not be longer than 292 years; "permanent" is for ever'
WRONG = [
    # nothing, or something else
    ("", FORMS),
    ("   ", FORMS),
    ("h", FORMS),
    ("ever", FORMS),
    ("1,5h", f"{FORMS}; 1 in it has no unit"),
    ("1.h", f"{FORMS}; 1 in it has no unit"),
    ("1:30", f"{FORMS}; 1 in it has no unit"),
    ("+5", FORMS),
    ("1e3", f'"e" is not a unit of time: {UNITS}'),
    ("0x10", f'"x" is not a unit of time: {UNITS}'),
    ("\u0661\u0660m", FORMS),
    ("1h\n", FORMS),
    ("1h\0", FORMS),
    ("9" * 101, FORMS),
    (True, FORMS),
    (math.inf, FORMS),
    (math.nan, FORMS),
    # units of neither, and capitals that would be taken for others
    ("10 minits", f'"minits" is not a unit of time: {UNITS}'),
    ("5ms", f'"ms" is not a unit of time: {UNITS}'),
    ("1H", f'"H" is not a unit of time: {UNITS}'),
    # a thousands separator is none
    ("1 000", f"{FORMS}; 1 in it has no unit"),
    ("5 1h", f"{FORMS}; 5 in it has no unit"),
    # out of bounds
    (-2, f'{FORMS}; "permanent" or -1 is for ever'),
    ("-2", FORMS),
    ("293y", LONG),
    (LONGEST + 1, LONG),
    (10**400, LONG),
    (1e300, LONG),
]


@pytest.mark.parametrize(("written", "seconds"), RIGHT)
def test_parse(written: str | float, seconds: int | None) -> None:
    assert duration.parse(written) == seconds


@pytest.mark.parametrize(("written", "text"), WRONG)
def test_parse_refuses(written: str | float, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        duration.parse(written)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "permanent"),
        (0, "0s"),
        (59, "59s"),
        (600, "10m"),
        (76 * HOUR, "3d 4h"),
        (60 * DAY, "60d"),
        (YEAR, "1y"),
        (18 * MONTH, "1y 6mo"),
        (YEAR + 1, "365d 6h 1s"),
    ],
)
def test_format(seconds: int | None, text: str) -> None:
    assert duration.format(seconds) == text


@given(st.none() | st.integers(0, LONGEST) | st.integers(0, 292 * 12).map(lambda months: months * MONTH))
def test_what_is_formatted_parses_to_the_same(seconds: int | None) -> None:
    assert duration.parse(duration.format(seconds)) == seconds


@given(
    st.decimals(0, 10**6, places=6),
    st.decimals(0, 10**6, places=6),
    st.sampled_from([("s", 1), ("m", MINUTE), ("h", HOUR)]),
)
def test_a_larger_number_is_no_shorter_and_nothing_ends_early(
    one: Decimal, other: Decimal, unit: tuple[str, int]
) -> None:
    low, high = sorted([one, other])
    shorter, longer = (duration.parse(f"{number:f}{unit[0]}") for number in (low, high))
    assert shorter is not None
    assert longer is not None
    assert shorter <= longer
    assert shorter - 1 < low * unit[1] <= shorter


@given(st.text() | st.text("0123456789. smhdwyM\t") | st.integers() | st.floats())
def test_anything_else_is_a_value_error(written: str | float) -> None:
    try:
        parsed = duration.parse(written)
    except ValueError:
        return
    assert parsed is None or 0 <= parsed <= LONGEST
