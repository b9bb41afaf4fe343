# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was measured, and its layout: a table of 80 columns, or JSON."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_WIDTHS = (48, 14, 9, 9)  # of the text, the figure with its unit, target and ambition: 80 in all


class Goal(NamedTuple):
    """What a figure must reach, and what it might; larger is better if `at_least`."""

    target: float
    ambition: float | None = None
    at_least: bool = False


class Figure(NamedTuple):
    """One line of the table."""

    what: str
    value: float
    unit: str
    goal: Goal | None = None

    @property
    def missed(self) -> bool:
        """Whether the target was not reached."""
        if self.goal is None:
            return False
        return self.value < self.goal.target if self.goal.at_least else self.value > self.goal.target


def percentile(values: Iterable[float], share: float) -> float:
    """Give the smallest of `values` that at least `share` of them don't exceed."""
    ordered = sorted(values)
    return ordered[max(-int(-share * len(ordered) // 1) - 1, 0)]


def median(values: Iterable[float]) -> float:
    """Give the middle one of `values`."""
    return statistics.median(values)


def head() -> str:
    """Give the table's first line."""
    return f"{'':<{_WIDTHS[0]}}{'measured':>{_WIDTHS[1]}}{'target':>{_WIDTHS[2]}}{'ambition':>{_WIDTHS[3]}}"


def line(figure: Figure) -> str:
    """Give a figure's line of the table; a missed target is marked with `!`."""
    goal = figure.goal
    target = "" if goal is None else _number(goal.target)
    ambition = "" if goal is None or goal.ambition is None else _number(goal.ambition)
    unit = f"{figure.unit:<3}{'!' if figure.missed else ' '}"
    what = f"{figure.what:<{_WIDTHS[0]}}{_number(figure.value):>{_WIDTHS[1] - 5}} {unit}"
    return f"{what}{target:>{_WIDTHS[2]}}{ambition:>{_WIDTHS[3]}}".rstrip()


def as_json(figures: Iterable[Figure]) -> str:
    """Give figures as one JSON array; what is indented in the table has the words of the line that it belongs to."""
    found: list[dict[str, str | float | bool | None]] = []
    whole = ""
    for what, value, unit, goal in figures:
        whole = whole if what.startswith(" ") else what
        target, ambition = (goal.target, goal.ambition) if goal else (None, None)
        found.append(
            {
                "what": whole if whole == what else f"{whole};{what[1:]}",
                "value": round(value, 4),
                "unit": unit,
                "target": target,
                "ambition": ambition,
                "missed": Figure(what, value, unit, goal).missed,
            }
        )
    return json.dumps(found, ensure_ascii=False, indent=1)


def _number(value: float) -> str:
    """Write three digits that count, or all before the point."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
