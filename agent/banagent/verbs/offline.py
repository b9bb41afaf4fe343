# SPDX-License-Identifier: LGPL-2.1-or-later
"""`unban --offline`: without the agent, for the night when it hangs.

Elements are taken out of the jails' sets. The set of what is banned somewhere keeps an element that another jail's ban
needs, perhaps for longer than that: no harm, as only the jails' sets decide. Then the history is told, or the agent
would put the bans back at its start; as its owner, for the files that SQLite makes must be the agent's.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from banagent.control.client import ControlError, NotRunning
from banagent.core.address import Network, parse_network
from banagent.errors import HistoryError
from banagent.sinks.history import History, Lifted
from banagent.sinks.nft import Firewall, elements, skeleton
from banagent.sinks.nft.netlink import CREATE, DELSETELEM, NEWSETELEM, Kernel, Message, attribute
from banagent.sinks.nft.wanted import length_of
from banagent.verbs import DONE, NOT_PERMITTED, REFUSED, Stopped
from banagent.verbs.asking import call
from banagent.verbs.text import plural

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator

    from banagent.core.bans import Standing
    from banagent.verbs import Said
    from banagent.verbs.terminal import Terminal

HISTORY: Final = Path("/var/lib/banagent/history.db")
_PATIENCE: Final = 3.0  # seconds for an agent to show that it is well
_TABLE: Final = attribute(1, skeleton.TABLE.encode() + b"\0")
_SET: Final = 2
_ELEMENTS: Final = 3

Key = tuple[str, Network]  # a jail, and whom it bans


def unban(arguments: Namespace, names: list[str] | None, _terminal: Terminal) -> Said:
    """Lift bans in the kernel, then in the history; `names` None: all, or all of --jail."""
    if os.geteuid() != 0:
        raise Stopped("only root may do this without the agent; try sudo", NOT_PERMITTED)
    hangs = _is_there(arguments)
    networks = None if names is None else frozenset(map(parse_network, names))
    now = time.time_ns() // 1000
    lifted = _lift_in_kernel(arguments.jail, networks, now)
    yield f"{plural(len(lifted), 'ban')} lifted in the kernel"
    known = _lift_in_history(arguments.jail, networks, lifted, now)
    if known is None:
        yield f"there is no history at {HISTORY}, so an agent that knows the bans still may put them back"
    else:
        yield f"{plural(len(known), 'ban')} marked as lifted in the history, for the next start of the agent"
        if unknown := set(lifted) - known:
            yield f"{plural(len(unknown), 'ban')} not in the history; the entries that led to it may lead to it again"
    if hangs:
        yield "the agent is there but does not answer; if it wakes up, it puts the bans back"
        yield "to end it and start it anew: systemctl kill --signal=KILL banagent"
    return DONE if lifted or known else REFUSED


def _is_there(arguments: Namespace) -> bool:
    """Whether an agent is there, but hangs. Raises Stopped if it is well: it would put the bans back at once."""
    try:
        call(arguments, "Status", patience=_PATIENCE)
    except NotRunning:
        return False
    except ControlError:
        return True
    raise Stopped("the agent is well and would put the bans back; leave out --offline")


def _lift_in_kernel(jail: str | None, networks: frozenset[Network] | None, now: int) -> list[Key]:
    """Take the bans that are meant out of nftables; give them. Raises FirewallError."""
    firewall = Firewall({})
    firewall.open()
    try:
        standing = firewall.read(now)
    finally:
        firewall.close()
    lifted = [(item.jail, item.address) for item in standing if _is_meant(item, jail, networks)]
    if lifted:
        kernel = Kernel()
        try:
            kernel.transact(_removal(standing, set(lifted)), f"lift {plural(len(lifted), 'ban')}")
        finally:
            kernel.close()
    return lifted


def _removal(standing: Iterable[Standing], lifted: set[Key]) -> Iterator[Message]:
    needed = {item.address for item in standing if (item.jail, item.address) not in lifted}
    sets: dict[tuple[str, int], list[bytes]] = {}
    for jail, network in lifted:
        length = length_of(network)
        size = len(network.packed)
        sets.setdefault((skeleton.set_of(jail, length), size), []).append(network.packed)
        if network not in needed:
            sets.setdefault((length.name, size), []).append(network.packed)
    for (name, size), keys in sets.items():
        for packed in elements.pack_keys(dict.fromkeys(keys), size):
            # added first, for the kernel may end one meanwhile, and to delete what is not there is an error
            yield _list(NEWSETELEM, CREATE, name, packed)
            yield _list(DELSETELEM, 0, name, packed)


def _list(kind: int, flags: int, name: str, packed: bytes) -> Message:
    return Message(kind, flags, _TABLE + attribute(_SET, name.encode() + b"\0") + attribute(_ELEMENTS, packed))


def _lift_in_history(
    jail: str | None, networks: frozenset[Network] | None, lifted: list[Key], now: int
) -> set[Key] | None:
    """Mark the bans as lifted, also those that the kernel has lost; give them. None: there is no history.

    Raises HistoryError.
    """
    try:
        status = HISTORY.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HistoryError(f"cannot read the history {HISTORY}: {error.strerror}") from error
    os.setegid(status.st_gid)
    os.seteuid(status.st_uid)
    try:
        history = History(HISTORY)
        try:
            known = [item for item, ended in history.bans(now) if not ended and _is_meant(item, jail, networks)]
            keys = {(item.jail, item.address) for item in known}
            history.commit(lifted=[Lifted(name, address, now, "admin") for name, address in keys | set(lifted)])
        finally:
            history.close()
    finally:
        os.seteuid(0)
        os.setegid(0)
    return keys


def _is_meant(item: Standing, jail: str | None, networks: frozenset[Network] | None) -> bool:
    """Whether a ban is meant: by its own name, or by an address of the /64 that it stands for, as with the agent."""
    if jail is not None and item.jail != jail:
        return False
    return (
        networks is None
        or item.address in networks
        or (item.address.version == 6 and item.address.prefix == 64 and _has_host(networks, item.address))
    )


def _has_host(networks: frozenset[Network], around: Network) -> bool:
    return any(network.is_host and around.covers(network) for network in networks)
