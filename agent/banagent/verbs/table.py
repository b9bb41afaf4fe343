# SPDX-License-Identifier: LGPL-2.1-or-later
"""Columns that line up, whatever is in them, and fit the screen where they can."""

from __future__ import annotations

from banagent.verbs.text import pad, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from banagent.verbs.terminal import Terminal

_GAP = "  "


class Column:
    """How a column is laid out.

    `least`: it may be cut to so many columns; 0: never. `drop`: where the screen is too narrow, the columns with the
    highest numbers go first; 0: never. `style` gives the style for a text.
    """

    def __init__(
        self,
        title: str,
        *,
        right: bool = False,
        least: int = 0,
        drop: int = 0,
        style: Callable[[str], str] | None = None,
    ) -> None:
        self.title = title
        self.right = right
        self.least = least
        self.drop = drop
        self.style = style


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], terminal: Terminal) -> list[str]:
    """Give the lines of a table, its head first. The cells are harmless already (`Terminal.show`)."""
    kept = [
        (column, max(width(column.title), *(width(row[index]) for row in rows), 0), index)
        for index, column in enumerate(columns)
        if not column.drop or any(row[index] for row in rows)  # what may go, and is empty, does
    ]
    fitted = _fit(kept, terminal.width)
    head = _line([pad(terminal.cut(c.title, size), size, right=c.right) for c, size, _ in fitted])
    return [terminal.paint(head, "bold"), *(_row(row, fitted, terminal) for row in rows)]


def _fit(columns: list[tuple[Column, int, int]], room: int | None) -> list[tuple[Column, int, int]]:
    """Leave out and narrow columns until they fit."""
    if room is None:
        return columns
    too_much = _total(columns) - room
    while too_much > sum(max(size - c.least, 0) for c, size, _ in columns if c.least) and any(
        c.drop for c, _, _ in columns
    ):
        columns = sorted(columns, key=lambda item: item[0].drop)[:-1]
        too_much = _total(columns) - room
    columns = sorted(columns, key=lambda item: item[2])
    fitted: list[tuple[Column, int, int]] = []
    for column, size, index in reversed(columns):
        less = min(max(too_much, 0), max(size - column.least, 0)) if column.least else 0
        too_much -= less
        fitted.append((column, size - less, index))
    return fitted[::-1]


def _total(columns: list[tuple[Column, int, int]]) -> int:
    return sum(size for _, size, _ in columns) + len(_GAP) * (len(columns) - 1)


def _row(row: Sequence[str], columns: list[tuple[Column, int, int]], terminal: Terminal) -> str:
    cells: list[str] = []
    for column, size, index in columns:
        cell = pad(terminal.cut(row[index], size), size, right=column.right)
        cells.append(terminal.paint(cell, column.style(row[index])) if column.style else cell)
    return _line(cells)


def _line(cells: list[str]) -> str:
    return _GAP.join(cells).rstrip()
