# SPDX-License-Identifier: LGPL-2.1-or-later
"""What journalctl(1) prints: entries as JSON, which are read, and by what is known what is not."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, cast

from banagent.core.events import JOURNAL, Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

_CURSOR: Final = b'"__CURSOR"'  # no other object has it: within a text, its second quote is escaped
_DAY: Final = rb"[A-Z][a-z]{2} "
_DATE: Final = rb"\d{4}-\d\d-\d\d "
_SYSLOG: Final = rb"[A-Z][a-z]{2} [ \d]\d "
_CLOCK: Final = rb"\d\d:\d\d:\d\d"
_DIGITS: Final = 16
# the values of its --output that are no format of log files
_UNREAD: Final = (
    ("export", re.compile(rb"__CURSOR=")),
    ("verbose", re.compile(_DAY + _DATE + _CLOCK + rb"\.\d+ \S+ \[s=")),
    ("json-pretty", re.compile(rb'\t"[A-Z_]+" : ')),
    ("json-seq", re.compile(rb"\x1e\{")),
    ("json-sse", re.compile(rb"data: \{")),
    ("short-precise", re.compile(_SYSLOG + _CLOCK + rb"\.\d{6} ")),
    ("short-full or with-unit", re.compile(_DAY + _DATE + _CLOCK + rb" ")),
    ("short-unix", re.compile(rb"\d{9,11}\.\d{6} ")),
    ("short-monotonic", re.compile(rb"\[ *\d+\.\d{6}\] ")),
    ("short-delta", re.compile(rb"\[ *\d+\.\d{6} +<")),
)


def entry(line: bytes) -> Entry | None:
    """Give the entry that `journalctl -o json` printed; None: the line is something else."""
    if not line.startswith(b"{") or _CURSOR not in line:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fields = {name: _bytes(told) for name, told in cast("dict[str, Any]", value).items()}
    texts = {name: told.decode("utf-8", "replace") for name, told in fields.items() if name != "MESSAGE"}
    unit = texts.get("_SYSTEMD_UNIT")
    return Entry(
        _number(texts.get("__REALTIME_TIMESTAMP")) or 0,
        fields.get("MESSAGE", b""),
        texts.get("__CURSOR", ""),
        _number(texts.get("_UID")),
        unit,
        texts.get("SYSLOG_IDENTIFIER") if unit is None else None,
        _number(texts.get("_PID")),
        source=JOURNAL,
        more=texts,
    )


def unread(lines: Sequence[bytes]) -> str | None:
    """Give the output of journalctl that a line is of, as its --output names it, if that is not read."""
    return next((name for line in lines for name, begin in _UNREAD if begin.match(line)), None)


def _bytes(told: object) -> bytes:
    """Give a field's value: a text, bytes as numbers, the first of several; what was too long is null."""
    if isinstance(told, list) and told and isinstance(told[0], str | list):
        told = cast("list[object]", told)[0]
    if isinstance(told, str):
        return told.encode("utf-8", "surrogatepass")
    try:
        return bytes(cast("list[int]", told)) if isinstance(told, list) else b""
    except (TypeError, ValueError):  # journald wrote something else
        return b""


def _number(text: str | None) -> int | None:
    """Read a number; none is longer than a time, which is in µs since the epoch."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= _DIGITS else None
