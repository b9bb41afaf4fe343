# SPDX-License-Identifier: LGPL-2.1-or-later
"""`off`, `on`, `resume`, `reload` and `version`."""

from __future__ import annotations

from banagent import __version__
from banagent.control.client import ControlError, Refused
from banagent.verbs import DONE, REFUSED, Stopped
from banagent.verbs.asking import call
from banagent.verbs.text import plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from banagent.verbs import Said
    from banagent.verbs.terminal import Terminal


def off(arguments: Namespace, _terminal: Terminal) -> Said:
    """Lift all bans, and ban nobody any more."""
    lifted = call(arguments, "Off")["lifted"]
    yield f"{plural(lifted, 'ban')} lifted; nobody is banned until: banagent on"
    return DONE


def on(arguments: Namespace, _terminal: Terminal) -> Said:
    """Ban again."""
    call(arguments, "On")
    yield "banning again, for what is logged from now on"
    return DONE


def resume(arguments: Namespace, terminal: Terminal) -> Said:
    """Let a jail ban again that its circuit breaker has stopped."""
    withheld = call(arguments, "Resume", jail=arguments.jail)["withheld"]
    name = terminal.show(arguments.jail)
    if withheld is None:
        yield f"{name} had not stopped"
        return REFUSED
    yield f"{name} bans again; it held {plural(withheld, 'ban')} back"
    return DONE


def reload(arguments: Namespace, terminal: Terminal) -> Said:
    """Take the configuration as it is in its files now."""
    try:
        jails = call(arguments, "Reload")["jails"]
    except Refused as error:
        if error.name != "NotReloaded":
            raise
        mistakes = "\n".join(terminal.show(_mistake(item)) for item in error.parameters["mistakes"])
        raise Stopped(f"{mistakes}\nnot reloaded; the former configuration stays in force") from None
    yield f"reloaded; jails: {', '.join(map(terminal.show, jails)) or 'none'}"
    return DONE


def version(arguments: Namespace, _terminal: Terminal) -> Said:
    """Show the version, and that of the agent if another one runs."""
    yield f"banagent {__version__}"
    try:
        running = call(arguments, "Status")["version"]
    except ControlError:
        return DONE
    if running != __version__:
        yield f"the agent that runs is {running}; to replace it: systemctl restart banagent"
    return DONE


def _mistake(item: dict[str, Any]) -> str:
    """Give a mistake as `check` says it."""
    from banagent.errors import Mistake  # noqa: PLC0415

    return str(Mistake(item["file"], item["line"] or 0, item["key"] or "", item["value"], item["text"]))
