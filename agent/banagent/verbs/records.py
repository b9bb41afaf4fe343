# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tables of jails and of bans (`Jail` and `BanRecord` in org.banagent.varlink)."""

from __future__ import annotations

from banagent.verbs.table import Column, table
from banagent.verbs.times import local, parse, since, span, until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any

    from banagent.verbs.terminal import Terminal

_JAIL_STYLES = {"waiting": "yellow", "failed": "red", "tripped": "red"}
_OVER = {"admin": "lifted", "off": "lifted"}  # other reasons say it themselves
_JAIL = Column("JAIL", least=20)
_USER = Column("USER", least=20)
_PATTERN = Column("PATTERN", drop=3)
_COMMENT = Column("COMMENT", least=20, drop=4)


def style_of_jail(state: str) -> str:
    """Give the style for the state of a jail."""
    return _JAIL_STYLES.get(state, "")


def jails(listed: Sequence[dict[str, Any]], terminal: Terminal) -> list[str]:
    """Give the lines of a table of jails."""
    columns = (
        _JAIL,
        Column("STATE", style=style_of_jail),
        Column("FAILS NOW", right=True),
        Column("ALL", right=True),
        Column("BANS NOW", right=True),
        Column("ALL", right=True),
        Column("BANNED AFTER", drop=1),
        Column("FOR", drop=1),
        Column("PORTS", least=8, drop=2),
        Column("FILTER", drop=3),
    )
    rows = [
        (
            terminal.show(jail["jail"]),
            jail["state"],
            f"{jail['failures']:,}",
            f"{jail['failures_total']:,}",
            f"{jail['bans']:,}",
            f"{jail['bans_total']:,}",
            after(jail),
            span(jail["bantime"]),
            ports(jail),
            terminal.show(jail["filter"]),
        )
        for jail in listed
    ]
    return table(columns, rows, terminal)


def after(jail: dict[str, Any]) -> str:
    """Say what leads to a ban: `5 in 1h`; empty for a jail that does not count."""
    return f"{jail['maxretry']:,} in {span(jail['findtime'])}" if jail["maxretry"] else ""


def counted(jail: dict[str, Any]) -> str:
    """Give the noun for what a jail counts."""
    return "ban" if jail["counts"] == "bans" else "failure"


def ports(jail: dict[str, Any]) -> str:
    """Give the ports of a jail in a few words."""
    return "all" if jail["ports"] is None else ",".join(jail["ports"])


def standing(listed: Sequence[dict[str, Any]], terminal: Terminal, at: datetime) -> list[str]:
    """Give the lines of a table of bans that stand, or did a short while ago."""
    columns = (
        Column("ADDRESS"),
        _JAIL,
        Column("AGE", right=True),
        Column("LEFT", right=True),
        Column("FAILS", right=True),
        Column("END", drop=2),
        _PATTERN,
        _USER,
        _COMMENT,
    )
    rows = [
        (
            terminal.show(ban["address"]),
            terminal.show(ban["jail"]),
            since(ban["start"], at),
            left(ban, at),
            f"{ban['failures']:,}",
            "" if ban["end"] is None or ban["lifted"] is not None else local(ban["end"]),
            terminal.show(ban["pattern"]),
            terminal.show(ban["user"] or ""),
            terminal.show(ban["comment"] or ""),
        )
        for ban in listed
    ]
    return table(columns, rows, terminal)


def left(ban: dict[str, Any], at: datetime) -> str:
    """Say how long a ban goes on, or why it does not."""
    if ban["lifted"] is not None:
        return str(_OVER.get(ban["reason"], ban["reason"] or "lifted"))
    if ban["end"] is not None and parse(ban["end"]) <= at:
        return "expired"
    return until(ban["end"], at)


def past(listed: Sequence[dict[str, Any]], terminal: Terminal, at: datetime) -> list[str]:
    """Give the lines of a table of bans of any time."""
    columns = (
        Column("START"),
        Column("ADDRESS"),
        _JAIL,
        Column("FOR", right=True),
        Column("LEFT", right=True),
        Column("FAILS", right=True),
        Column("ENDED", drop=2),
        _PATTERN,
        _USER,
        _COMMENT,
    )
    rows = [
        (
            local(ban["start"]),
            terminal.show(ban["address"]),
            terminal.show(ban["jail"]),
            span(ban["bantime"]),
            left(ban, at),
            f"{ban['failures']:,}",
            "" if ban["lifted"] is None else local(ban["lifted"]),
            terminal.show(ban["pattern"]),
            terminal.show(ban["user"] or ""),
            terminal.show(ban["comment"] or ""),
        )
        for ban in listed
    ]
    return table(columns, rows, terminal)
