# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text that others chose, an attacker perhaps, made harmless and fit for columns."""

from __future__ import annotations


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""Escape, as in `\x1b`, what moves a cursor, overlaps its neighbours, or can't be shown in `encoding`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_shown(char, encoding) else _escape(char) for char in text)


def width(text: str) -> int:
    """Count the columns that printable text takes on a terminal: two for a wide character (UAX #11)."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width  # noqa: PLC0415 - few texts need it

    return len(text) + sum(east_asian_width(char) in "WF" for char in text)


def cut(text: str, columns: int, encoding: str = "utf-8") -> str:
    """Cut printable text to a number of columns; an ellipsis says that something is missing."""
    if width(text) <= columns:
        return text
    ellipsis = "…" if _encodes("…", encoding) else "..."
    room = columns - len(ellipsis)
    kept = text[: max(room, 0)]
    while width(kept) > room and kept:
        kept = kept[:-1]
    return kept + ellipsis[: max(columns, 0)]


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Fill printable text with blanks up to a number of columns; `right` puts them before it."""
    blanks = " " * (columns - width(text))
    return blanks + text if right else text + blanks


def wrap(text: str, columns: int | None, indent: str = "") -> list[str]:
    """Break printable text at blanks into lines of at most so many columns; `indent` begins all but the first."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if columns is not None and lines[-1].strip() and width(longer) > columns:
            lines.append(indent + word)
        else:
            lines[-1] = longer
    return lines


def quoted(text: str, columns: int = 100) -> str:
    """Give text in quotes, harmless and not too long, for messages."""
    return '"' + cut(printable(text, "ascii").replace('"', '\\"'), columns, "ascii") + '"'


def plural(count: int, noun: str) -> str:
    """Give `1 ban`, `2,000 bans`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def ordinal(number: int) -> str:
    """Give `1st`, `2nd`, `3rd`, `11th`."""
    suffixes = {1: "st", 2: "nd", 3: "rd"}
    return f"{number:,}{'th' if number % 100 in (11, 12, 13) else suffixes.get(number % 10, 'th')}"


def _is_shown(char: str, encoding: str) -> bool:
    from unicodedata import category  # noqa: PLC0415

    # a mark has no column of its own: a hundred of them on one letter cover the lines above
    return char.isprintable() and category(char) not in ("Mn", "Me") and _encodes(char, encoding)


def _encodes(char: str, encoding: str) -> bool:
    try:
        char.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()
