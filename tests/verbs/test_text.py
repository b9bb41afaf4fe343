# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text and tables: whatever is in them, they are harmless and line up."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.verbs.table import Column, table
from banagent.verbs.terminal import Terminal
from banagent.verbs.text import cut, ordinal, pad, plural, printable, quoted, width, wrap
from banagent.verbs.times import span

if TYPE_CHECKING:
    from collections.abc import Sequence

ANY = st.text(st.characters() | st.sampled_from("\x1b\x9b\x00\u202e\u0301管🛡\udc80é"))


@pytest.mark.parametrize(
    ("text", "shown", "columns"),
    [
        ("root", "root", 4),
        ("", "", 0),
        ("é", "é", 1),
        ("管理者", "管理者", 6),
        ("🛡️", "🛡\\ufe0f", 7),  # a shield, and the mark that makes it coloured
        ("a\tb\n", "a\\tb\\n", 6),
        ("\x1b[31m", "\\x1b[31m", 8),
        ("\x9b31m", "\\x9b31m", 7),  # CSI in one byte
        ("\u202e", "\\u202e", 6),
        ("e\u0301", "e\\u0301", 7),
        ("\udc80", "\\udc80", 6),
    ],
)
def test_printable(text: str, shown: str, columns: int) -> None:
    assert printable(text) == shown
    assert width(shown) == columns


@given(text=ANY, encoding=st.sampled_from(["utf-8", "ascii", "latin-1"]), columns=st.integers(0, 12))
def test_whatever_comes(text: str, encoding: str, columns: int) -> None:
    shown = printable(text, encoding)
    shown.encode(encoding)
    assert shown.isprintable()
    assert not any(unicodedata.combining(char) for char in shown)
    short = cut(shown, columns, encoding)
    assert width(short) <= columns
    assert (short == shown) == (width(shown) <= columns)
    assert width(pad(short, columns)) == columns
    assert quoted(text).isascii()


@given(text=st.text("ab 管", max_size=60), columns=st.integers(4, 20))
def test_wrap(text: str, columns: int) -> None:
    lines = wrap(text, columns, "  ")
    assert " ".join(line.removeprefix("  ") for line in lines).split() == text.split()
    assert all(width(line) <= columns or " " not in line.strip() for line in lines)
    assert len(wrap(text, None)) == 1


CELLS = st.lists(st.tuples(st.text("a管", max_size=30), st.text("b", max_size=9), st.text("c", max_size=9)), max_size=5)


@given(rows=CELLS, columns=st.integers(30, 90))
def test_table_fits(rows: Sequence[tuple[str, str, str]], columns: int) -> None:
    layout = (Column("LONG", least=6), Column("RIGHT", right=True), Column("MORE", drop=1))
    lines = table(layout, rows, Terminal(width=columns))
    assert len(lines) == len(rows) + 1
    assert all(width(line) <= columns for line in lines)
    whole = table(layout, rows, Terminal())
    assert all(cell in line for line, row in zip(whole[1:], rows, strict=True) for cell in row)


def test_what_goes_first() -> None:
    layout = (Column("A", drop=1), Column("B", drop=2), Column("C"))
    row = ("a" * 10, "b" * 10, "c" * 10)
    assert [table(layout, [row], Terminal(width=columns))[1] for columns in (34, 33, 21)] == [
        f"{'a' * 10}  {'b' * 10}  {'c' * 10}",
        f"{'a' * 10}  {'c' * 10}",
        "c" * 10,
    ]


def test_styles_change_no_column() -> None:
    layout = (Column("STATE", style={"failed": "red"}.get, right=True), Column("NEXT"))  # type: ignore[arg-type]  # "" or None
    rows = [("failed", "x"), ("active", "y")]
    painted = table(layout, rows, Terminal(colour=True))
    assert painted[1] == "\x1b[1;31mfailed\x1b[0m  x"
    assert [re.sub(r"\x1b\[[\d;]*m", "", line) for line in painted] == table(layout, rows, Terminal())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "permanent"),
        (-5, "0s"),
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (725, "12m 5s"),
        (3600, "1h"),
        (3659, "1h"),
        (9660, "2h 41m"),
        (273_600, "3d 4h"),
        (31_557_600 * 2 + 86_400, "2y 1d"),
    ],
)
def test_span(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_ordinal() -> None:
    shown = ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th", "1,001st"]
    assert [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 112, 1001)] == shown


def test_plural() -> None:
    assert [plural(count, "ban") for count in (0, 1, 2, 1000)] == ["0 bans", "1 ban", "2 bans", "1,000 bans"]
