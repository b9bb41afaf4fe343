# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is written to: how wide it is, and what it can show."""

from __future__ import annotations

import os

from banagent.verbs.text import cut, printable, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_STYLES = {"bold": "1", "dim": "2", "red": "1;31", "green": "32", "yellow": "33"}  # SGR, ECMA-48


class Terminal:
    """The screen, or what stands for it: `width` in columns, None for a file or a pipe, which have no limit."""

    def __init__(self, *, width: int | None = None, colour: bool = False, encoding: str = "utf-8") -> None:
        self.width = width
        self._colour = colour
        self._encoding = encoding

    def paint(self, text: str, style: str) -> str:
        """Give text in a style, if there are colours; it must mean the same without. The empty style is none."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._colour and style else text

    def show(self, text: str) -> str:
        """Make text of others harmless."""
        return printable(text, self._encoding)

    def cut(self, text: str, columns: int) -> str:
        """Cut text that is harmless."""
        return cut(text, columns, self._encoding)

    def wrap(self, text: str, indent: str = "") -> list[str]:
        """Break text that is harmless into lines; `indent` begins all but the first."""
        return wrap(text, self.width, indent)


def terminal(stream: TextIO) -> Terminal:
    """Look at what `stream` writes to. `$COLUMNS` counts more than what the terminal says (environ(7))."""
    is_terminal = stream.isatty()
    colour = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    # Python takes the C locale for UTF-8; who has asked for it by name wants ASCII
    is_plain = os.environ.get("LC_ALL") in ("C", "POSIX")
    encoding = "ascii" if is_plain else stream.encoding or "ascii"
    return Terminal(width=_width(stream, is_terminal=is_terminal), colour=colour, encoding=encoding)


def _width(stream: TextIO, *, is_terminal: bool) -> int | None:
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns[:6]):
        return int(columns[:6])
    if not is_terminal:
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80
