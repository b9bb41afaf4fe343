# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lengths of bans are fail2ban's documented series."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.core.duration import DAY, HOUR, LONGEST, MINUTE, WEEK
from banagent.core.formula import Formula
from banagent.core.growth import DOUBLING, MOST, SERIES, Growth, weight

EXPONENTIAL = Formula("ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)")
DOCUMENTED = (1, 2, 4, 8, 16, 32, 64)
times = st.integers(1, 30 * DAY)


def series(growth: Growth, time: int, count: int) -> list[int]:
    return [growth.bantime(time, earlier, 0) for earlier in range(count)]


def test_by_default_1h_doubles_to_1w() -> None:
    lengths = [hours * HOUR for hours in (1, 2, 4, 8, 16, 32, 64, 128)]
    assert series(Growth(), HOUR, 10) == [*lengths, WEEK, WEEK]


def test_the_series_that_is_told() -> None:
    assert Growth().series(HOUR) == series(Growth(), HOUR, 9)
    assert Growth(multipliers=(1,)).series(HOUR) == [HOUR]
    assert Growth(multipliers=(1, 3)).series(HOUR) == [HOUR, 3 * HOUR]
    assert len(Growth(maxtime=None, factor=1.0001).series(1)) == SERIES


@given(times, st.integers(0, 200))
def test_the_default_formula(time: int, earlier: int) -> None:
    growth = Growth(maxtime=None)
    assert growth.bantime(time, earlier, 0) == min(time * 2 ** min(earlier, 20), LONGEST)


@given(times, st.integers(0, 200))
def test_the_documented_multipliers(time: int, earlier: int) -> None:
    """The first ban has the plain time, the second the second multiplier; the last repeats."""
    growth = Growth(multipliers=DOCUMENTED, maxtime=None)
    assert growth.bantime(time, earlier, 0) == time * DOCUMENTED[min(earlier, 6)]


def test_multipliers_win_over_a_formula_as_in_fail2ban() -> None:
    # 1 min, 5 min, 30 min, 1 hour, 5 hours, 12 hours, 1 day, 2 days
    growth = Growth(multipliers=(1, 5, 30, 60, 300, 720, 1440, 2880), formula=Formula("1"))
    minutes = [1, 5, 30, 60, 5 * 60, 12 * 60, 24 * 60, 48 * 60, 48 * 60]
    assert series(growth, MINUTE, 9) == [MINUTE * count for count in minutes]


@given(times, st.integers(0, 18))
def test_the_more_aggressive_formula_is_the_same_with_the_documented_factor(time: int, earlier: int) -> None:
    growth = Growth(formula=EXPONENTIAL, factor=2.0 / 2.885385, maxtime=None)
    assert growth.bantime(time, earlier, 0) == pytest.approx(min(time * 2**earlier, LONGEST), rel=2e-4, abs=1)


@pytest.mark.parametrize(("factor", "second"), [(1, 2), (2, 4), (0.5, 1), (1.5, 3)])
def test_factor(factor: float, second: int) -> None:
    assert series(Growth(factor=factor), HOUR, 2) == [HOUR, second * HOUR]
    assert series(Growth(factor=factor, multipliers=(1, 2)), HOUR, 2) == [HOUR, second * HOUR]


def test_a_first_ban_that_is_longer_than_maxtime_stays_and_further_ones_are_not_shorter() -> None:
    assert series(Growth(maxtime=WEEK), 9 * WEEK, 3) == [9 * WEEK] * 3


def test_rndtime_comes_on_top() -> None:
    growth = Growth(rndtime=30 * MINUTE)
    assert growth.bantime(HOUR, 0, 0.999) == HOUR  # as in fail2ban, of the first ban the time is known
    assert growth.bantime(HOUR, 1, 0) == 2 * HOUR
    assert growth.bantime(HOUR, 1, 0.5) == 2 * HOUR + 15 * MINUTE
    assert growth.bantime(HOUR, 50, 1 - 2**-48) == WEEK + 30 * MINUTE


formulas = st.sampled_from(
    [
        *("0", "-1", "ban.Time*-ban.Count", "1e400", "1e400-1e400", "-1e400", "1/(ban.Count-3)", "9**9**9"),
        *("math.exp(ban.Time)", "math.sqrt(-ban.Count)", "1e-9", "1<<ban.Time", "ban.Time*ban.Count", "2.5"),
    ],
)


@given(formulas.map(Formula), times, st.integers(0, 10**6), st.none() | times, st.floats(0, 1, exclude_max=True))
def test_whatever_the_formula_gives_a_ban_has_a_length(
    formula: Formula, time: int, earlier: int, maxtime: int | None, chance: float
) -> None:
    growth = Growth(formula=formula, maxtime=maxtime, rndtime=DAY)
    length = growth.bantime(time, earlier, chance)
    assert isinstance(length, int)
    assert 1 <= length <= (LONGEST if maxtime is None else max(time, maxtime) + DAY)


@pytest.mark.parametrize(
    ("formula", "fault"),
    [
        (DOUBLING.text, None),
        (EXPONENTIAL.text, None),
        ("ban.Time * 9**ban.Count**ban.Count", None),  # too large is maxtime
        ("ban.Time - 600 * ban.Count", "must give a time, and gives 0 where ban.Time is 3600 and ban.Count 6"),
        ("-ban.Count", "must give a time, and gives -1 where ban.Time is 3600 and ban.Count 1"),
        ("1e400 - 1e400", "must give a time, and gives nan where ban.Time is 3600 and ban.Count 1"),
        ("1 / (7 - ban.Count)", "can't be computed where ban.Time is 3600 and ban.Count 7: division by zero"),
        ("math.log(1000 - ban.Count)", "must give a time, and gives 0 where ban.Time is 3600 and ban.Count 999"),
    ],
)
def test_a_formula_is_tried_out(formula: str, fault: str | None) -> None:
    assert Growth(formula=Formula(formula)).fault(HOUR) == fault


def test_what_was_tried_out_is_all_that_can_come() -> None:
    growth = Growth(formula=Formula(f"1 if ban.Count > {MOST} else 2"))
    assert growth.bantime(HOUR, MOST + 1, 0) == growth.bantime(HOUR, 10**9, 0) == 2


def test_failures_of_known_repeaters_weigh_more_as_in_fail2ban() -> None:
    assert [weight(earlier, 100) for earlier in range(7)] == [1, 2, 3, 5, 9, 17, 33]
    assert [weight(earlier, 5) for earlier in range(7)] == [1, 2, 3, 5, 5, 5, 5]
    assert weight(10**9, 5) == 5


@given(times, st.floats(1, 10))
def test_a_ban_is_never_shorter_than_the_one_before(time: int, factor: float) -> None:
    lengths = series(Growth(factor=factor), time, 40)
    assert all(one <= other for one, other in pairwise(lengths))
    assert math.inf > lengths[-1] == max(WEEK, time)
