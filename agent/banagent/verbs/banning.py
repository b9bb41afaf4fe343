# SPDX-License-Identifier: LGPL-2.1-or-later
"""`ban` and `unban`."""

from __future__ import annotations

from banagent.control.client import ControlError, Refused
from banagent.core import duration
from banagent.core.address import parse_address, parse_network
from banagent.verbs import DONE, REFUSED, USAGE, Stopped, addresses, caller
from banagent.verbs.asking import agent
from banagent.verbs.text import plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from banagent.verbs import Said
    from banagent.verbs.terminal import Terminal

_PORTION = 10_000  # addresses in a call, as org.banagent.varlink allows


def ban(arguments: Namespace, _terminal: Terminal) -> Said:
    """Ban addresses and networks; one that can't be a network stops it before anything is done."""
    permanent, bantime = length(arguments.bantime)
    networks = addresses.some(arguments, "ban")
    own = caller.address()
    banned = done = 0
    with agent(arguments) as connected:
        for portion in addresses.portions(networks, _PORTION):
            try:
                reply = connected.call(
                    "Ban",
                    addresses=portion,
                    jail=arguments.jail,
                    bantime=bantime,
                    permanent=permanent,
                    comment=arguments.comment,
                    caller=own,
                    force=arguments.force,
                )
            except ControlError as error:
                text = f"{error}{_force_hint(error, own)}"
                raise Stopped(addresses.so_far(text, done, networks), error.status) from None
            banned += reply["banned"]
            done += len(portion)
    stood = f"; {done - banned:,} stood already" if banned < done else ""
    yield f"{plural(banned, 'ban')} made{stood}"
    return DONE


def unban(arguments: Namespace, terminal: Terminal) -> Said:
    """Lift bans, and say how many; 0 is a search that found nothing."""
    named = bool(arguments.addresses) or arguments.file is not None
    if arguments.all and (named or arguments.jail is not None):
        raise Stopped("--all is every ban there is; leave out the addresses and --jail, or --all", USAGE)
    if not (named or arguments.all or arguments.jail is not None):
        raise Stopped("unban needs an address, a network, --jail or --all; see: banagent unban --help", USAGE)
    networks = addresses.some(arguments, "unban") if named else None
    if arguments.offline:
        from banagent.verbs import offline  # noqa: PLC0415 - it takes ten times as long as the rest

        return (yield from offline.unban(arguments, networks, terminal))
    lifted = _lift(arguments, networks)
    yield f"{plural(lifted, 'ban')} lifted"
    return DONE if lifted else REFUSED


def _lift(arguments: Namespace, networks: list[str] | None) -> int:
    lifted = done = 0
    with agent(arguments) as connected:
        if networks is None:
            return int(connected.call("Unban", jail=arguments.jail, all=arguments.all)["lifted"])
        for portion in addresses.portions(networks, _PORTION):
            try:
                lifted += connected.call("Unban", addresses=portion, jail=arguments.jail)["lifted"]
            except ControlError as error:
                raise Stopped(addresses.so_far(str(error), done, networks), error.status) from None
            done += len(portion)
    return lifted


def length(text: str | None) -> tuple[bool | None, int | None]:
    """Give whether it is for ever, and else how many seconds; neither if nothing is said. Raises Stopped."""
    if text is None:
        return None, None
    try:
        seconds = duration.parse(text)
    except ValueError as error:
        raise Stopped(f"--for {text}: {error}", USAGE) from None
    if seconds == 0:
        raise Stopped(f"--for {text}: must be at least a second", USAGE)
    return (True, None) if seconds is None else (None, seconds)


def _force_hint(error: ControlError, own: str | None) -> str:
    """Say how to go on if it is the caller's own address that is protected."""
    if own is None or not isinstance(error, Refused) or error.name != "Protected":
        return ""
    try:
        covers = parse_network(str(error.parameters.get("address"))).covers(parse_address(own))
    except ValueError:
        return ""
    return f" (you are logged in from {own}); --force bans it all the same" if covers else ""
