# SPDX-License-Identifier: LGPL-2.1-or-later
"""`allow`, `disallow`, `allowed` and `reset`."""

from __future__ import annotations

import sys

from banagent.verbs import DONE, REFUSED, USAGE, Stopped, addresses
from banagent.verbs.asking import agent, call, listing
from banagent.verbs.banning import length
from banagent.verbs.output import array, wants_json
from banagent.verbs.table import Column, table
from banagent.verbs.text import plural
from banagent.verbs.times import local, now, until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from banagent.verbs import Said
    from banagent.verbs.terminal import Terminal


def allow(arguments: Namespace, _terminal: Terminal) -> Said:
    """Except addresses and networks from all bans."""
    _, duration = length(arguments.bantime)
    networks = addresses.some(arguments, "allow")
    reply = call(arguments, "Allow", addresses=networks, duration=duration, comment=arguments.comment)
    lifted = f"; {plural(reply['lifted'], 'ban')} lifted" if reply["lifted"] else ""
    yield f"{plural(reply['allowed'], 'network')} allowed{lifted}"
    return DONE


def disallow(arguments: Namespace, _terminal: Terminal) -> Said:
    """Take back what `allow` said; 0 is a search that found nothing."""
    named = bool(arguments.addresses) or arguments.file is not None
    if named == arguments.all:
        raise Stopped("disallow needs either addresses or --all; see: banagent disallow --help", USAGE)
    networks = addresses.some(arguments, "disallow") if named else None
    disallowed = call(arguments, "Disallow", addresses=networks, all=arguments.all)["disallowed"]
    yield f"{plural(disallowed, 'network')} allowed no more"
    return DONE if disallowed else REFUSED


def allowed(arguments: Namespace, terminal: Terminal) -> Said:
    """Show who is allowed."""
    with agent(arguments) as connected:
        portions = list(listing(connected, "Allowed", "allowed"))
    if wants_json(arguments):
        return (yield from array(portions, arguments))
    found = [item for portion in portions for item in portion]
    if not found:
        raise Stopped("nobody is allowed but by ignoreip, see banagent.toml(5)")
    at = now()
    columns = (Column("ADDRESS"), Column("SINCE", drop=1), Column("LEFT", right=True), Column("COMMENT", least=20))
    rows = [
        (
            terminal.show(item["address"]),
            local(item["start"]),
            until(item["end"], at),
            terminal.show(item["comment"] or ""),
        )
        for item in found
    ]
    yield "\n".join(table(columns, rows, terminal))
    return DONE


def reset(arguments: Namespace, terminal: Terminal) -> Said:
    """Forget the failures and earlier bans of some, or of all, once that was confirmed."""
    named = bool(arguments.addresses) or arguments.file is not None
    if named == arguments.all:
        raise Stopped("reset needs either addresses or --all; see: banagent reset --help", USAGE)
    networks = addresses.some(arguments, "reset") if named else None
    if not arguments.yes:
        if not _is_terminal():
            raise Stopped("nobody is there to be asked; to go on without a question: --yes", USAGE)
        whom = "of all addresses" if networks is None else _named(networks, terminal)
        lift = " and lift the bans that stand" if arguments.unban else ""
        yield f"Forget the failures and earlier bans {whom}{lift}? [y/N]"
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Stopped("nothing was changed")
    reply = call(arguments, "Reset", addresses=networks, all=arguments.all, unban=arguments.unban)
    lifted = f"; {plural(reply['lifted'], 'ban')} lifted" if arguments.unban else ""
    yield f"{plural(reply['failures'], 'failure')} and {plural(reply['bans'], 'ban')} forgotten{lifted}"
    return DONE


def _named(networks: list[str], terminal: Terminal) -> str:
    return f"of {terminal.show(networks[0])}" if len(networks) == 1 else f"of {plural(len(networks), 'network')}"


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
