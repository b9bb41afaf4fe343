# SPDX-License-Identifier: LGPL-2.1-or-later
"""`list`, `history`, `jails`, `events` and `config`."""

from __future__ import annotations

from banagent.control.client import ControlError, Refused
from banagent.verbs import DONE, REFUSED, Stopped, records
from banagent.verbs.asking import agent, call, listing
from banagent.verbs.output import array, lines, wants_json
from banagent.verbs.table import Column, table
from banagent.verbs.text import pad, width
from banagent.verbs.times import local, moment, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from datetime import datetime
    from typing import Any

    from banagent.control.client import Agent
    from banagent.verbs import Said
    from banagent.verbs.terminal import Terminal

_SHARED = ("sequence", "time", "kind")  # of each event; the rest are facts


def list_bans(arguments: Namespace, terminal: Terminal) -> Said:
    """Show the bans that stand."""
    with agent(arguments) as connected:
        bans = listing(connected, "List", "bans", jail=arguments.jail, network=arguments.network)
        return (yield from _bans(bans, arguments, terminal, records.standing, "no ban stands"))


def history(arguments: Namespace, terminal: Terminal) -> Said:
    """Show the bans that stand and those of the past."""
    try:
        begin = None if arguments.since is None else moment(arguments.since, now())
    except ValueError as error:
        raise Stopped(f"--since {arguments.since}: {error}") from None
    with agent(arguments) as connected:
        bans = listing(connected, "History", "bans", since=begin, jail=arguments.jail, address=arguments.address)
        return (yield from _bans(bans, arguments, terminal, records.past, "the history has no such ban"))


def jails(arguments: Namespace, terminal: Terminal) -> Said:
    """Show the jails that are enabled."""
    found = call(arguments, "Jails")["jails"]
    if wants_json(arguments):
        return (yield from array([found], arguments))
    if not found:
        raise Stopped("no jail is enabled; see banagent.toml(5)")
    yield "\n".join(records.jails(found, terminal))
    return DONE


def events(arguments: Namespace, terminal: Terminal) -> Said:
    """Show events, and with --follow those to come; without --since all that are there, or those to come."""
    follow = arguments.follow
    with agent(arguments, patience=None) if follow else agent(arguments) as connected:
        if follow:
            _end_when_interrupted()
        begin = arguments.since
        if begin is None and not follow:
            begin = _first(connected)
        portions: Iterable[list[dict[str, Any]]] = _counted(
            listing(connected, "Events", "events", since=begin, follow=follow)
        )
        if not follow:
            portions = list(portions)  # the agent does not wait for a pager
        found = False
        for text in lines(portions, arguments) if wants_json(arguments) else _events(portions, terminal):
            found = True
            yield text
    if not found and not wants_json(arguments):
        raise Stopped("there is no such event")
    return DONE if found else REFUSED


def config(arguments: Namespace, terminal: Terminal) -> Said:
    """Show the configuration that is in force, and the file and line that each value comes from."""
    settings = call(arguments, "GetConfig")["settings"]
    if arguments.diff:
        settings = [setting for setting in settings if _is_admins(setting["file"])]
    if wants_json(arguments):
        return (yield from array([settings], arguments))
    if not settings:
        raise Stopped("the admin's files change nothing; see banagent.toml(5)")
    if arguments.diff:
        yield "\n".join(line for setting in settings for line in _difference(setting, terminal))
        return DONE
    columns = (Column("KEY"), Column("VALUE", least=16), Column("FROM"))
    rows = [
        (terminal.show(setting["key"]), terminal.show(setting["value"]), terminal.show(_place(setting)))
        for setting in settings
    ]
    yield "\n".join(table(columns, rows, terminal))
    return DONE


def _bans(
    portions: Iterable[list[dict[str, Any]]],
    arguments: Namespace,
    terminal: Terminal,
    layout: Callable[[Sequence[dict[str, Any]], Terminal, datetime], list[str]],
    nothing: str,
) -> Said:
    if wants_json(arguments):
        return (yield from array(portions, arguments))
    found = [ban for portion in portions for ban in portion]
    if not found:
        raise Stopped(nothing)
    yield "\n".join(layout(found, terminal, now()))
    return DONE


def _end_when_interrupted() -> None:
    """Let the kernel end this process at SIGINT, which shells call status 130.

    Python looks for signals between two steps; one that comes after the look, and before the wait for an event, would
    be seen only with that event.
    """
    import signal  # noqa: PLC0415 - followers alone need it

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a background job of a script ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _first(connected: Agent) -> int:
    """Give the number of the oldest event that is there: the agent names it when asked for one before all."""
    try:
        for _ in connected.stream("Events", since=0):
            pass
    except Refused as error:
        if error.name != "Lost":
            raise
        return int(error.parameters["first"])
    return 0


def _counted(portions: Iterator[list[dict[str, Any]]]) -> Generator[list[dict[str, Any]], None, None]:
    """Pass events on; if the agent breaks off, say with which number to go on."""
    last: int | None = None
    try:
        for portion in portions:
            if portion:
                last = portion[-1]["sequence"]
            yield portion
    except ControlError as error:
        if last is None:
            raise
        raise Stopped(f"{error}; to go on: banagent events --follow --since {last + 1}", error.status) from None


def _events(portions: Iterable[list[dict[str, Any]]], terminal: Terminal) -> Iterator[str]:
    for portion in portions:
        if portion:
            yield "\n".join(_event(event, terminal) for event in portion)


def _event(event: dict[str, Any], terminal: Terminal) -> str:
    facts = (
        f"{key}={_fact(str(value), terminal)}"
        for key, value in event.items()
        if key not in _SHARED and value is not None
    )
    return " ".join((str(event["sequence"]), local(event["time"]), terminal.show(event["kind"]), *facts))


def _fact(text: str, terminal: Terminal) -> str:
    """Give a value so that it can't be taken for another one."""
    shown = terminal.show(text)
    if shown and not set(shown) & set(' "=\\'):
        return shown
    return '"' + terminal.show(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _is_admins(file: str | None) -> bool:
    """Whether a value is from a file of the admin's, not from what came with banagent."""
    from pathlib import Path  # noqa: PLC0415

    if file is None:
        return False
    package = Path(__file__).resolve().parents[1]
    vendors = (Path("/usr/lib/banagent"), package, package.parents[1])  # the last: what lies beside the source
    return not any(Path(file).is_relative_to(vendor) for vendor in vendors)


def _difference(setting: dict[str, Any], terminal: Terminal) -> Iterator[str]:
    """Give a value as diff(1) shows a change: what it replaces, then itself, each with where it stands."""
    yield terminal.paint(terminal.show(setting["key"]), "bold")
    places = [("-", "red", setting["replaces"]), ("+", "green", setting)]
    shown = [(sign, style, place) for sign, style, place in places if place is not None]
    values = [terminal.show(place["value"]) for _, _, place in shown]
    for (sign, style, place), value in zip(shown, values, strict=True):
        yield (
            terminal.paint(f"  {sign} {pad(value, max(map(width, values)))}", style)
            + f"  {terminal.show(_place(place))}"
        )


def _place(place: dict[str, Any]) -> str:
    if place["file"] is None:
        return "(default)"
    return str(place["file"]) if place["line"] is None else f"{place['file']}:{place['line']}"
