# SPDX-License-Identifier: LGPL-2.1-or-later
"""`status`: whether one is safe, who attacks, and what was done about it."""

from __future__ import annotations

from banagent.verbs import DONE, Stopped, records
from banagent.verbs.asking import agent, call, listing
from banagent.verbs.output import dump, wants_json
from banagent.verbs.text import plural
from banagent.verbs.times import now, since, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from datetime import datetime
    from typing import Any

    from banagent.verbs import Said
    from banagent.verbs.terminal import Terminal

_ALARM = "ATTENTION  "
_SEE = "see journalctl -u banagent"
_MOST = 10  # bans that are shown of a jail


def status(arguments: Namespace, terminal: Terminal) -> Said:
    """Show how things are, of all jails or of one."""
    if arguments.jail is not None:
        return (yield from _of_jail(arguments, terminal))
    reply = call(arguments, "Status")
    yield dump(reply, arguments) if wants_json(arguments) else "\n".join(screen(reply, terminal, now()))
    return DONE


def _how(jail: dict[str, Any]) -> str:
    """Say the state of a jail that does not do its work, and for what it waits or why."""
    reason = str(jail["reason"] or _SEE)
    return reason if reason.startswith(jail["state"]) else f"{jail['state']}: {reason}"


def screen(reply: dict[str, Any], terminal: Terminal, at: datetime) -> Iterator[str]:
    """Give the lines of the screen from a reply to Status."""
    troubles = list(_attention(reply, at))
    for subject, text in troubles:
        yield from _alarm(f"{subject}: {text}", terminal)
    if troubles:
        yield ""
    yield from terminal.wrap(_state(reply, at, is_well=not troubles))
    yield from terminal.wrap(
        f"{plural(reply['bans'], 'ban')} stand{'s' if reply['bans'] == 1 else ''}; "
        f"{plural(reply['failures'], 'failure')} and {plural(reply['decided'], 'ban')} since the start."
    )
    if reply["allowed"]:
        yield f"{plural(reply['allowed'], 'network')} allowed, see: banagent allowed"
    if reply["jails"]:
        yield ""
        yield from records.jails(reply["jails"], terminal)
    yield ""
    if reply["latest"]:
        yield "Latest bans:"
        yield from records.standing(reply["latest"], terminal, at)
    else:
        yield "Nobody was banned yet."


def _attention(reply: dict[str, Any], at: datetime) -> Iterator[tuple[str, str]]:
    """Give what the admin has to look at: about what, and the matter."""
    if reply["state"] == "off":
        yield "off", "nobody is banned until: banagent on"
    if reply["dry_run"]:
        yield "dry run", "the agent says what it would ban, and bans nobody"
    if not any(jail["maxretry"] for jail in reply["jails"]):
        yield "jails", "none is enabled, so nobody is banned; see banagent.toml(5)"
    told: set[str] = set()
    for trouble in reply["attention"]:
        told |= {trouble["subject"], trouble["text"]}
        yield trouble["subject"], f"{trouble['text']} (for {since(trouble['since'], at)})"
    for jail in reply["jails"]:
        told_of = f"jail {jail['jail']}" in told or jail["jail"] in told or jail["reason"] in told
        if jail["state"] != "active" and jail["maxretry"] and not told_of:
            yield f"jail {jail['jail']}", _how(jail)


def _alarm(text: str, terminal: Terminal) -> Iterator[str]:
    first, *others = terminal.wrap(f"{_ALARM}{terminal.show(text)}", " " * len(_ALARM))
    yield terminal.paint(_ALARM.strip(), "red") + first.removeprefix(_ALARM.strip())
    yield from others


def _state(reply: dict[str, Any], at: datetime, *, is_well: bool) -> str:
    """Give the agent's state and age in a sentence."""
    if reply["state"] == "off":
        does = "is off and bans nobody"
    elif reply["dry_run"]:
        does = "bans nobody, it only watches"
    elif reply["state"] == "catching_up":
        does = "protects this host, and catches up on what was logged before its start"
    elif not is_well:
        does = "runs, but not all is well"
    else:
        does = "protects this host"
    newest = "nothing read yet" if reply["read"] is None else f"newest entry {since(reply['read'], at)} ago"
    return f"banagent {reply['version']} {does}; up {since(reply['start'], at)}, {newest}."


def _of_jail(arguments: Namespace, terminal: Terminal) -> Said:
    jails = call(arguments, "Jails")["jails"]
    with agent(arguments) as connected:
        # asked in any case: the agent says which jails there are if there is no such one
        bans = next(listing(connected, "List", "bans", jail=arguments.jail))
    found = next((jail for jail in jails if jail["jail"] == arguments.jail), None)
    if found is None:
        raise Stopped(f"no ban stands in {arguments.jail}, and it has no rule of its own")
    if wants_json(arguments):
        yield dump({**found, "latest": bans[:_MOST]}, arguments)
    else:
        yield "\n".join(_jail_screen(found, bans, terminal, now()))
    return DONE


def _growing(lengths: list[int]) -> str:
    """Say how long the second ban takes, the third, and so on."""
    first = lengths[:3]
    text = ", ".join(map(span, first))
    return text if len(lengths) == len(first) else f"{text} and so on, up to {span(lengths[-1])}"


def _jail_screen(jail: dict[str, Any], bans: list[dict[str, Any]], terminal: Terminal, at: datetime) -> Iterator[str]:
    name = terminal.show(jail["jail"])
    if jail["state"] != "active":
        yield from _alarm(f"{jail['jail']} is {_how(jail)}", terminal)
        yield ""
    on = "all ports" if jail["ports"] is None else f"port {records.ports(jail)}"
    if jail["maxretry"]:
        what = records.counted(jail)
        length = "for ever" if jail["bantime"] is None else f"for {span(jail['bantime'])}"
        yield from terminal.wrap(
            f"{name} bans {length} on {on} after {plural(jail['maxretry'], what)} in {span(jail['findtime'])}."
        )
        if lengths := (jail.get("lengths") or ())[1:]:
            yield from terminal.wrap(f"Further bans of an address take {_growing(lengths)}.")
        if limit := jail.get("networks"):
            yield from terminal.wrap(f"A network of which {limit} addresses fail in that time is banned as a whole.")
        yield from terminal.wrap(
            f"{plural(jail['failures'], what)} in that time of those who are not banned, "
            f"{jail['failures_total']:,} since the start."
        )
    else:
        yield f"{name} counts no failures; its bans are on {on}."
    yield f"{plural(jail['bans'], 'ban')} stand{'s' if jail['bans'] == 1 else ''}, of {jail['bans_total']:,} ever."
    if bans:
        yield ""
        yield from records.standing(bans[:_MOST], terminal, at)
    if jail["bans"] > _MOST:
        yield f"All of them: banagent list --jail {name}"
