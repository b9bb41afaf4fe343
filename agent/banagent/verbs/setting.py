# SPDX-License-Identifier: LGPL-2.1-or-later
"""`get` and `set`: values in force, until the configuration is read again or, with --persist, from now on."""

from __future__ import annotations

from os import geteuid

from banagent.control.client import Refused
from banagent.verbs import DONE, NOT_PERMITTED, USAGE, Stopped
from banagent.verbs.asking import call
from banagent.verbs.output import array, wants_json
from banagent.verbs.table import Column, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from banagent.verbs import Said
    from banagent.verbs.terminal import Terminal


def get(arguments: Namespace, terminal: Terminal) -> Said:
    """Show what is in force for a jail; of one key the value alone."""
    found = call(arguments, "Get", jail=arguments.jail, key=arguments.key)["settings"]
    if wants_json(arguments):
        return (yield from array([found], arguments))
    if not found:
        raise Stopped(f"no value is in force for {arguments.key}; see banagent.toml(5)")
    if arguments.key is not None and len(found) == 1:
        yield terminal.show(found[0]["value"])
        return DONE
    rows = [(terminal.show(item["key"]), terminal.show(item["value"]), terminal.show(_place(item))) for item in found]
    yield "\n".join(table((Column("KEY"), Column("VALUE", least=16), Column("FROM")), rows, terminal))
    return DONE


def set_(arguments: Namespace, terminal: Terminal) -> Said:
    """Let another value be in force for a jail, and with --persist write it down."""
    if arguments.add and arguments.remove:
        raise Stopped("either --add or --remove, not both", USAGE)
    how = "add" if arguments.add else "remove" if arguments.remove else "replace"
    if arguments.persist and geteuid() != 0:
        raise Stopped("only root may write the configuration; try sudo", NOT_PERMITTED)
    try:
        found = call(arguments, "Set", jail=arguments.jail, key=arguments.key, values=arguments.value, how=how)
    except Refused as error:
        if error.name != "NotReloaded":
            raise
        mistakes = "\n".join(terminal.show(_mistake(item)) for item in error.parameters["mistakes"])
        raise Stopped(f"{mistakes}\nnot set; what was in force stays") from None
    for item in found["settings"]:
        yield f"{terminal.show(item['key'])} = {terminal.show(item['value'])}"
    if not found["settings"]:
        yield f"{terminal.show(arguments.jail)} does not run any more; its bans stand until they end"
    if not arguments.persist:
        yield "until the next reload or restart; to keep it, add --persist"
        return DONE
    from banagent.verbs import persisting  # noqa: PLC0415 - it takes ten times as long as the rest

    return (yield from persisting.persist(found["written"], terminal))


def _mistake(item: dict[str, Any]) -> str:
    what = item["key"] if item["value"] is None else f"{item['key']} = {item['value']}"
    return f"{what}: {item['text']}" if what else str(item["text"])


def _place(setting: dict[str, Any]) -> str:
    if setting["file"] is None:
        return "(default)"
    return str(setting["file"]) if setting["line"] is None else f"{setting['file']}:{setting['line']}"
