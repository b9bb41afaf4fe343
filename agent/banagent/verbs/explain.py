# SPDX-License-Identifier: LGPL-2.1-or-later
"""`why`: what an address did, what was done about it, and how to undo that."""

from __future__ import annotations

from banagent.verbs import DONE, REFUSED, addresses, records
from banagent.verbs.asking import call
from banagent.verbs.output import dump, wants_json
from banagent.verbs.text import ordinal, plural
from banagent.verbs.times import local, now, parse, since, span, until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from datetime import datetime
    from typing import Any

    from banagent.verbs import Said
    from banagent.verbs.terminal import Terminal

MANY_ADDRESSES = "many-addresses"  # PATTERN of core/networks.py, which takes time to import
_PATIENCE = 120.0  # seconds: the agent reads the journal for it


def why(arguments: Namespace, terminal: Terminal) -> Said:
    """Say why an address is banned, or why it is not; that it was never seen is a search that found nothing."""
    network = addresses.one(arguments)
    reply = call(arguments, "Why", patience=_PATIENCE, address=network)
    if wants_json(arguments):
        yield dump(reply, arguments)
    else:
        yield "\n".join(_lines(network, reply, terminal, now()))
    return DONE if _is_known(reply) else REFUSED


def _lines(network: str, reply: dict[str, Any], terminal: Terminal, at: datetime) -> Iterator[str]:
    standing = [ban for ban in reply["bans"] if _stands(ban, at)]
    rules = {count["jail"]: count for count in reply["counts"]}
    yield terminal.paint(f"{network} is {'' if standing else 'not '}banned.", "bold")
    if reply["address"] != network:
        yield f"It is counted and banned as {reply['address']}."
    for ban in standing:
        yield ""
        yield from _ban(ban, rules.get(ban["jail"]), reply, terminal, at)
    if not standing:
        for count in reply["counts"]:
            yield from terminal.wrap(_count(count, terminal), "  ")
            yield from _around(count, terminal)
        if not _is_known(reply):
            yield "It was never seen."
    if reply["entries"]:
        yield ""
        yield "What led to the newest ban:" if reply["bans"] else "What is counted:"
        yield from (_entry(entry, terminal) for entry in reply["entries"])
    if past := [ban for ban in reply["bans"] if not _stands(ban, at)]:
        yield ""
        yield "Bans of the past:"
        yield from records.past(past, terminal, at)
    if standing:
        yield ""
        yield f"To undo it: banagent unban {' '.join(dict.fromkeys(ban['address'] for ban in standing))}"
        yield "To have it never banned again: ignoreip, see banagent.toml(5)"


def _stands(ban: dict[str, Any], at: datetime) -> bool:
    return ban["lifted"] is None and (ban["end"] is None or parse(ban["end"]) > at)


def _is_known(reply: dict[str, Any]) -> bool:
    return bool(
        reply["bans"]
        or reply["entries"]
        or any(count["failures"] or count["ignored"] is not None for count in reply["counts"])
    )


def _ban(
    ban: dict[str, Any], rule: dict[str, Any] | None, reply: dict[str, Any], terminal: Terminal, at: datetime
) -> Iterator[str]:
    """Give the lines about a ban that stands."""
    jail = terminal.show(ban["jail"])
    whom = terminal.show(ban["address"])
    if ban["end"] is None:
        yield f"{jail} bans {whom} for ever, since {local(ban['start'])} ({since(ban['start'], at)} ago)."
    else:
        yield from terminal.wrap(
            f"{jail} bans {whom} for another {until(ban['end'], at)}, until {local(ban['end'])}; "
            f"it began {since(ban['start'], at)} ago and takes {span(ban['bantime'])}."
        )
    if ban["pattern"] == MANY_ADDRESSES:
        yield from terminal.wrap(_many(ban))
    elif rule is not None and rule["counts"] == "bans":
        leading = reply.get("leading") or ()
        end = ":" if leading else "."
        yield f"{plural(ban['failures'], 'ban')} by other jails, the last by {terminal.show(ban['pattern'])}{end}"
        for one in leading:
            took = "for ever" if one["bantime"] is None else f"for {span(one['bantime'])}"
            yield f"  {local(one['start'])}  {terminal.show(one['jail'])}  {took}, {plural(one['failures'], 'failure')}"
    elif ban["failures"]:
        user = "" if ban["user"] is None else f', the last as user "{terminal.show(ban["user"])}"'
        yield from terminal.wrap(
            f"{plural(ban['failures'], 'failure')}{user}; "
            f"pattern {terminal.show(ban['pattern'])} of filter {terminal.show(ban['filter'])}."
        )
    if ban["earlier"]:
        yield f"It is the {ordinal(ban['earlier'] + 1)} ban that counts, so it takes longer than a first one."
    if rule is not None and rule.get("earlier") and ban["failures"] and ban["end"] is not None:
        yield f"The next would take {_next(rule)}."
    if ban["comment"] is not None:
        yield from terminal.wrap(f"Comment: {terminal.show(ban['comment'])}")
    if rule is not None:
        yield f"The rule: {_limit(rule)} in {span(rule['findtime'])}."


def _count(count: dict[str, Any], terminal: Terminal) -> str:
    """Say what a jail knows of an address that it has not banned."""
    jail = terminal.show(count["jail"])
    if count["ignored"] is not None:
        return f"{jail} does not count its failures, by the rule: {terminal.show(count['ignored'])}."
    span_ = span(count["findtime"])
    text = f"{jail}: {count['failures']:,} of {_limit(count)} in {span_} that lead to a ban."
    if not count.get("earlier"):
        return text
    known = f"{plural(count['earlier'], 'earlier ban')} count{'s' if count['earlier'] == 1 else ''}"
    weight = f"a failure counts as {count['weight']}, and " if (count.get("weight") or 1) > 1 else ""
    return f"{text} {known}: {weight}the next ban takes {_next(count)}."


def _next(count: dict[str, Any]) -> str:
    return "for ever" if count["bantime"] is None else span(count["bantime"])


def _limit(rule: dict[str, Any]) -> str:
    return plural(rule["maxretry"], records.counted(rule))


def _around(count: dict[str, Any], terminal: Terminal) -> Iterator[str]:
    """Say what a jail knows of who logged in from there, and of the networks around it."""
    jail = terminal.show(count["jail"])
    if users := [terminal.show(user) for user in count.get("guarded") or ()]:
        *others, last = users
        names = f"{', '.join(others)} and {last}" if others else last
        yield from terminal.wrap(f"{jail}: {names} logged in from there lately, and may fail more often.", "  ")
    for crowd in count.get("networks") or ():
        network, number, limit = terminal.show(crowd["network"]), crowd["addresses"], crowd["limit"]
        addresses = "1 address" if number == 1 else f"{number} addresses"
        text = f"{jail}: {addresses} of {network} failed; at {limit} it is banned as a whole."
        yield from terminal.wrap(text, "  ")


def _many(ban: dict[str, Any]) -> str:
    """Say what led to a ban for what many addresses of a network did."""
    if ban["failures"] > 1:
        return f"{ban['failures']} addresses of it failed, few times each: it is banned as a whole."
    return "Many addresses of its network failed, which can't be banned as a whole."


def _entry(entry: dict[str, Any], terminal: Terminal) -> str:
    message = "(the journal has it no more)" if entry["message"] is None else terminal.show(entry["message"])
    line = f"  {local(entry['time'])}  {terminal.show(entry['jail'])}  {message}"
    return line if terminal.width is None else terminal.cut(line, terminal.width)
