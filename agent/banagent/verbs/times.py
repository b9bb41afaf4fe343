# SPDX-License-Identifier: LGPL-2.1-or-later
"""Times as the agent gives them (RFC 3339, UTC) and as people read them: how long ago, or in the machine's own zone."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = (("y", 31_557_600), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def parse(text: str) -> datetime:
    """Parse a time of the agent's."""
    return datetime.fromisoformat(text)


def now() -> datetime:
    """Give the time."""
    return datetime.now(UTC)


def span(seconds: float | None) -> str:
    """Give a length of time with its two largest units, rounded down: `3d 4h`, `12m 5s`; None is `permanent`."""
    if seconds is None:
        return "permanent"
    left = max(int(seconds), 0)
    for index, (suffix, unit) in enumerate(_UNITS):
        count, rest = divmod(left, unit)
        if count and index + 1 < len(_UNITS):
            smaller, size = _UNITS[index + 1]
            return f"{count}{suffix} {rest // size}{smaller}" if rest // size else f"{count}{suffix}"
    return f"{left}s"


def since(text: str, at: datetime) -> str:
    """Say how long before `at` a time was: `12m 5s`."""
    return span((at - parse(text)).total_seconds())


def until(text: str | None, at: datetime) -> str:
    """Say how long after `at` a time is; None is `permanent`."""
    return "permanent" if text is None else span((parse(text) - at).total_seconds())


def local(text: str) -> str:
    """Give a time in the machine's own zone: `2026-01-31 23:59:59`."""
    return parse(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def moment(text: str, at: datetime) -> str:
    """Parse what an admin writes, a time, a day or how long before `at`, into RFC 3339. Raises ValueError."""
    try:
        found = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        found = _before(text, at)
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")


def _before(text: str, at: datetime) -> datetime:
    from banagent.core import duration  # noqa: PLC0415 - a time needs none of it

    try:
        seconds = duration.parse(text)
        if seconds is not None:
            return datetime.fromtimestamp(max(at.timestamp() - seconds, 0), UTC)
    except ValueError:
        pass
    raise ValueError('must be a time such as 2026-01-31, "2026-01-31 23:59" or 2h, which is two hours ago')
