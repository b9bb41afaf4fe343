# SPDX-License-Identifier: LGPL-2.1-or-later
"""One TOML file: read within bounds, its values in TOML's own notation, and the line on which each stands."""

from __future__ import annotations

import datetime as dt
import os
import stat
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeGuard, cast

import tomli

from banagent.config import porting
from banagent.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_BYTES: Final = 1 << 20  # of a file; the worst of that size takes tomli a second
MAX_MISTAKES: Final = 100  # that are said of a file
_SHOWN: Final = 80  # characters of a value in a message
_SHOWN_ITEMS: Final = 8
_SHOWN_DEPTH: Final = 3
_DEPTH: Final = 8  # of keys whose lines are looked for: deeper than any key that has a meaning
_WORK: Final = 8 * MAX_BYTES  # of text parsed to find lines in one file

KeyPath = tuple[str | int, ...]  # ("jails", "sshd", "ports", 2)


class Lines:
    """The lines of a valid file on which its values begin; they are looked for when one is asked for, as few are."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _found(self) -> dict[KeyPath, int]:
        """The line of each key, table and element of an array, down to eight levels.

        Elements that stand on the line of what they are in are left out: `of` looks at that.
        """
        return _lines(self._text)

    def of(self, path: KeyPath) -> int:
        """Give the line, from 1, on which the value at `path` begins; 0 if it is not known."""
        while path not in self._found and path:
            path = path[:-1]
        return self._found.get(path, 0)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value is set, how it is written in TOML, and what would hold without it; None: a default."""

    file: str
    value: str
    path: KeyPath
    lines: Lines
    below: Origin | None = None

    @property
    def line(self) -> int:
        """The line, from 1; 0 if it is not known."""
        return self.lines.of(self.path)

    def over(self, lower: Origin) -> Origin:
        """Put it over another one, and over what that is over."""
        return replace(self, below=self.below.over(lower) if self.below else lower)


class Document:
    """A TOML file that could be parsed; `file` is its name as messages show it."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.data = _parse(file, text)
        self._lines = Lines(text)

    def line(self, path: KeyPath) -> int:
        """Give the line, from 1, on which the value at `path` begins; 0 if it is not known."""
        return self._lines.of(path)

    def origin(self, path: KeyPath) -> Origin:
        """Give where the value at `path` stands; a value alone may stand where a table is meant."""
        value: object = self.data
        for part in path:
            value = value[part] if isinstance(part, str) and is_table(value) else value
        return Origin(self.file, notation(value), path, self._lines)

    def mistake(self, path: KeyPath, text: str) -> Mistake:
        """Say what is wrong with the value at `path`; a table's content is not shown."""
        value: object = self.data
        for part in path:
            value = value[part] if isinstance(part, str) and is_table(value) else cast("list[object]", value)[int(part)]
        return Mistake(self.file, self.line(path), dotted(path), None if is_table(value) else notation(value), text)

    def mistakes(self, problems: Sequence[tuple[KeyPath, str]]) -> tuple[Mistake, ...]:
        """Say what is wrong at each of the paths; of more than a hundred, how many more there are."""
        said = [self.mistake(path, text) for path, text in problems[:MAX_MISTAKES]]
        if rest := problems[MAX_MISTAKES:]:
            said.append(Mistake(self.file, said[-1].line, "", None, f"and {len(rest)} more mistakes in this file"))
        return tuple(said)


def read(path: Path) -> Document:
    """Read a regular file of up to 1 MiB. Raises ConfigError with one mistake."""
    file = shown(path)
    try:
        with open(path, "rb", opener=_open) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise _unreadable(file, "is not a regular file")
            content = stream.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise _unreadable(file, "is a directory; a file is expected here") from None
    except OSError as error:
        raise _unreadable(file, f"can't be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise _unreadable(file, "is larger than 1 MiB, the most that is read; split it into several files")
    try:
        return Document(file, content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        text = f"is not UTF-8: byte 0x{content[error.start]:02x}; save the file as UTF-8"
        raise _unreadable(file, text, line) from None


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # else a FIFO would wait for somebody to write


def is_table(value: object) -> TypeGuard[dict[str, object]]:
    """Whether a parsed value is a table: its keys are text."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Whether a parsed value is an array."""
    return isinstance(value, list)


def shown(path: Path) -> str:
    """Give a path as text fit for a terminal and a log: what is not printable, or not UTF-8, is escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return printable(text)


def printable(text: str) -> str:
    """Escape what could do something to a terminal."""
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def dotted(path: KeyPath) -> str:
    """Write a path as one dotted key with indexes from 0: `failregex[2].samples[0].line`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part.isascii() and part.replace("-", "").replace("_", "").isalnum()
            text += ("." if text else "") + (part[:_SHOWN] if bare else _quoted(part))
    return text


def notation(value: object, depth: int = _SHOWN_DEPTH) -> str:
    """Write a parsed value in TOML, in one line; what is long or deep is cut, with an ellipsis."""
    text = _notation(value, depth)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _notation(value: object, depth: int) -> str:
    if is_list(value):
        items = [notation(item, depth - 1) for item in value[:_SHOWN_ITEMS]] if depth else []
        return f"[{', '.join(items + ['…'] * (len(value) > len(items)))}]"
    if is_table(value):
        pairs = list(value.items())[:_SHOWN_ITEMS] if depth else []
        items = [f"{dotted((key,))} = {notation(item, depth - 1)}" for key, item in pairs]
        return f"{{ {', '.join(items + ['…'] * (len(value) > len(items)))} }}"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 64:
        return f"{value:#x}"  # Python writes no more than 4300 decimal digits
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)


def _quoted(text: str) -> str:
    cut = text[:_SHOWN]
    if "\\" in cut and "'" not in cut and cut.isprintable():
        return f"'{cut}'"  # as patterns are written
    escaped = cut.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


def _escape(char: str) -> str:
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    return short or (f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")


def _unreadable(file: str, text: str, line: int = 0) -> ConfigError:
    return ConfigError((Mistake(file, line, "", None, text),))


def _parse(file: str, text: str) -> dict[str, object]:
    if text.startswith("\ufeff"):
        raise _unreadable(file, "begins with a byte order mark; save it as UTF-8 without one", 1)
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        reason = printable(error.msg[:200])
        remedy = porting.toml_remedy(text, error.lineno, error.msg)
        hint = f"; {printable(remedy)}" if remedy else ""
        raise _unreadable(file, f"is not TOML: {reason} (column {error.colno}){hint}", error.lineno) from None
    except RecursionError:
        raise _unreadable(file, "is nested too deep") from None
    except ValueError:  # of int(): Python reads no more
        raise _unreadable(file, "holds a number of more than 4300 digits") from None


def _lines(text: str) -> dict[KeyPath, int]:
    """Find where statements begin, and the elements of arrays of several lines.

    Each statement of a valid file parses on its own, and nothing shorter of it that ends with a line does: so lines
    are added up until they parse. An array of several lines is taken in pieces, each up to a comma: there one more
    element and the bracket make it parse.
    """
    found: dict[KeyPath, int] = {}
    tables: dict[KeyPath, int] = {}  # arrays of tables: how many elements so far
    above: KeyPath = ()  # the header in force
    array: KeyPath = ()  # the array that the piece belongs to
    elements = 0  # of it, before the piece
    piece, begin, work = "", 0, 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not begin and (not line or line.startswith("#")):
            continue
        begin = begin or number
        piece += line + "\n"
        work += len(piece)
        if work > _WORK:
            break
        # the likelier of the two first: a refusal costs more than the parsing
        data, more = (_try(piece + "0]"), True) if array else (_try(piece), False)
        if data is None:
            data, more = (_try(piece), False) if array else (_try(piece + "0]"), True)
        if data is None:
            continue
        path, value = _only(data)
        if piece.lstrip().startswith("["):
            above = _header(path, tables, is_array=is_list(value))
            path = above
        elif not array:
            path = above + path
        else:
            path = array
        for length in range(1, min(len(path), _DEPTH) + 1):
            found.setdefault(path[:length], begin)
        if is_list(value) and (array or more):
            count = len(value) - more
            found.update(((*path, elements + index), begin) for index in range(count))
            elements += count
        array, elements = (path, elements) if more else ((), 0)
        piece, begin = "x = [\n" if more else "", 0
    return found


def _try(text: str) -> dict[str, object] | None:
    try:
        return tomli.loads(text)
    except (ValueError, RecursionError):
        return None


def _only(data: dict[str, object]) -> tuple[KeyPath, object]:
    """Descend from table to table as long as there is one key only; give the keys and what the last one holds."""
    path: list[str] = []
    value: object = data
    while is_table(value) and len(value) == 1 and len(path) < _DEPTH:
        [(key, value)] = value.items()
        path.append(key)
    return tuple(path), value


def _header(path: KeyPath, tables: dict[KeyPath, int], *, is_array: bool) -> KeyPath:
    """Give the whole path that a header opens, with the indexes of the arrays of tables on its way."""
    whole: KeyPath = ()
    for part in path[: -1 if is_array else None]:
        whole += (part,)
        if whole in tables:
            whole += (tables[whole] - 1,)
    if is_array:
        whole += path[-1:]
        tables[whole] = tables.get(whole, 0) + 1
        whole += (tables[whole] - 1,)
    return whole
