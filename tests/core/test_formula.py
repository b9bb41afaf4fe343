# SPDX-License-Identifier: LGPL-2.1-or-later
"""Formulas are computed as Python would, but within bounds, and nothing else is."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.core.formula import FUNCTIONS, LONGEST, Formula, FormulaError

DOUBLING = "ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor"
EXPONENTIAL = "ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)"


# both of fail2ban's documented formulas, as they stand there
@given(st.integers(1, 10**7), st.integers(0, 100), st.floats(0.1, 5))
def test_documented_formulas(seconds: int, count: int, factor: float) -> None:
    assert Formula(DOUBLING)(seconds, count, factor) == seconds * 2 ** min(count, 20) * factor
    expected = seconds * math.exp((count + 1) * factor) / math.exp(factor)
    assert Formula(EXPONENTIAL)(seconds, count, factor) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("1e3 + .5", 1000.5),
        ("-ban.Time + +1", -599),
        ("7 // 2 * 10 + 7 % 4 - 2 ** 3", 25),
        ("7 / 2", 3.5),
        ("1 << 3 | 0", None),  # bit by bit is not arithmetic
        ("1 << 3 >> 1", 4),
        ("(1\n  + 2)", 3),
        ("  3 ", 3),
        # choices
        ("1 if ban.Count > 3 else 2", 2),
        ("1 if 1 <= ban.Count < 3 else 2", 1),
        ("1 if ban.Count != 2 or ban.Count == 2 and not ban.Time >= 600 else 0", 0),
        ("ban.Count and ban.Time or 5", 600),
        # functions
        ("min(3, 1, 2) + max(3, 4)", 5),
        ("int(2.9) + float(1) + abs(-3) + round(2.567, 2) + round(7.4) + pow(2, 5)", 2 + 1 + 3 + 2.57 + 7 + 32),
        ("math.exp(0) + math.log(1) + math.log(8, 2) + math.sqrt(9) + math.pow(2, 2)", 1 + 3 + 3 + 4),
        ("math.floor(2.9) + math.ceil(2.1)", 5),
    ],
)
def test_computes_as_python_does(text: str, value: float | None) -> None:
    if value is None:
        with pytest.raises(FormulaError):
            Formula(text)
    else:
        assert Formula(text)(600, 2, 1) == pytest.approx(value)


def test_two_of_one_text_are_equal() -> None:
    assert Formula("1 + 1") == Formula("1 + 1") != Formula("2")
    assert hash(Formula("1")) == hash(Formula("1"))


# what is wrong, and the character at which
@pytest.mark.parametrize(
    ("text", "at", "what"),
    [
        # brackets
        (EXPONENTIAL[:-1], 59, "has a ( that is never closed"),
        ("ban.Time * (1<<(ban.Count if ban.Count<20 else 20) * banFactor", 12, "has a ( that is never closed"),
        ("ban.Time)", 9, "has a ) that no ( belongs to"),
        # no expression
        ("", 1, "is no formula: its end is missing"),
        ("1 +", 4, "is no formula: its end is missing"),
        ("  1 $ 2", 5, "is no formula"),
        ("1 +\x00 1", 1, "is no formula"),
        ("(" * 300 + "1" + ")" * 300, 201, "is no formula"),
        # more than arithmetic
        ("ban.Time * ban.Counts", 12, "has a name that is none of ban.Time, ban.Count, banFactor"),
        ("(1\n+ foo)", 6, "has a name that is none of"),
        ("'é' + x", 1, "has what is neither a number nor arithmetic"),
        ("max(1, é)", 8, "has a name that is none of"),
        ("  ban", 3, "has a name that is none of"),
        ("ban.Time.real", 1, "has a name that is none of"),
        ("__import__('os')", 1, "calls what is none of min, max,"),
        ("math.exp.__class__(1)", 1, "calls what is none of"),
        ("(lambda: 1)()", 2, "calls what is none of"),
        ("[1][0]", 1, "has what is neither a number nor arithmetic"),
        ("f'{1}'", 1, "has what is neither"),
        ("1j", 1, "has what is neither"),
        ("True", 1, "has what is neither"),
        ("1 + (x := 2)", 6, "has what is neither"),
        ("1 if ban.Count in (1, 2) else 3", 6, "has what is neither"),
        # functions with other numbers than they take
        ("1 + min(1)", 5, "gives 1 numbers where 2 or more are wanted"),
        ("pow(2, 3, 5)", 1, "gives 3 numbers where 2 are wanted"),
        ("math.exp(*ban.Time)", 10, "has what is neither"),
        ("round(1, ndigits=2)", 1, "has what is neither"),
        # too much of it
        ("-" * 60 + "1", 51, "is too deeply nested"),
        ("1" * (LONGEST + 1), 1, f"is longer than {LONGEST} characters"),
    ],
)
def test_what_is_wrong(text: str, at: int, what: str) -> None:
    with pytest.raises(FormulaError) as caught:
        Formula(text)
    assert (caught.value.at, str(caught.value)[: len(what)]) == (at, what)
    assert "\n" not in str(caught.value).replace(text, "")


def test_the_message_shows_the_place() -> None:
    with pytest.raises(FormulaError, match=r'^has a \( that is never closed, at character 59: "\(1\*banFactor"$'):
        Formula(EXPONENTIAL[:-1])


# no formula takes long or much memory
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("9**9**9**9", OverflowError),
        ("9.0**9**9", OverflowError),
        ("1 << 10**9", OverflowError),
        ("1 << ban.Time << ban.Time << ban.Time << ban.Time << ban.Time << ban.Time << ban.Time", OverflowError),
        ("*".join(["9**999"] * 20), OverflowError),
        ("10**-99999", OverflowError),
        ("math.exp(1000)", OverflowError),
        ("round(1, 10**9)", ValueError),
        ("round(1.5, 1e3)", ValueError),
        ("1 << -1", ValueError),
        ("1 << 1.5", ValueError),
        ("(-8) ** 0.5", ValueError),
        ("math.sqrt(-1)", ValueError),
        ("1 / (ban.Count - 2)", ZeroDivisionError),
        ("1 % 0", ZeroDivisionError),
    ],
)
def test_what_can_not_be_computed(text: str, error: type[Exception]) -> None:
    begin = time.thread_time()
    with pytest.raises(error):
        Formula(text)(600, 2, 1)
    assert time.thread_time() - begin < 0.1


OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "<<", ">>", "<", ">=", "==", "and", "or"]
atoms = st.sampled_from(["ban.Time", "ban.Count", "banFactor", "0", "1", "2.5", "1e300", "10**9", "-3"])
formulas = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map(
            lambda parts: f"({' '.join(parts)})",
        ),
        st.tuples(inner, inner, inner).map(lambda parts: "({} if {} else {})".format(*parts)),
        st.tuples(st.sampled_from(list(FUNCTIONS)), st.lists(inner, min_size=1, max_size=2)).map(
            lambda parts: f"{parts[0]}({', '.join(parts[1])})",
        ),
    ),
    max_leaves=12,
)


@given(formulas, st.integers(1, 10**6), st.integers(0, 50))
def test_any_formula_gives_a_number_or_says_why_not(text: str, seconds: int, count: int) -> None:
    begin = time.thread_time()
    try:
        result: Any = Formula(text)(seconds, count, 1.5)
    except (FormulaError, OverflowError, ValueError, ZeroDivisionError):
        result = 0
    assert isinstance(result, int | float)
    assert time.thread_time() - begin < 0.2


@given(st.text(max_size=60).map(lambda text: f"{text} banTime"))
def test_any_text_says_what_is_wrong_and_where(text: str) -> None:
    with pytest.raises(FormulaError) as caught:
        Formula(text)
    assert 1 <= caught.value.at <= len(text) + 1
