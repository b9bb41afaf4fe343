# SPDX-License-Identifier: LGPL-2.1-or-later
"""From which kind of source a jail reads: the journal where its service logs there, and log files otherwise.

Files of syslog's format repeat what the journal has, and anybody can write to them; a format of the service's own is
that of files which the journal does not repeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.core.events import FILES, JOURNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from banagent.core.filter import Filter

SYSLOG: Final = "syslog"
# where syslog daemons put what many services say; all other files are a service's own
SHARED: Final = frozenset(
    f"/var/log/{name}" for name in ("auth.log", "daemon.log", "mail.log", "maillog", "messages", "secure", "syslog")
)


class Seen(NamedTuple):
    """What can be seen of a service's logs."""

    in_journal: Callable[[], bool]  # whether the journal has an entry of it
    paths: Sequence[str]  # its log files that exist
    in_files: Callable[[], bool]  # whether one has a line of it, as far as a file of several services says whose it is


def kinds(item: Filter, seen: Seen) -> frozenset[str]:
    """Give the kinds of sources to read: both where it is not known yet in which of them the service logs."""
    journal = bool(item.units or item.slices or item.containers or item.fields)
    if item.source != "auto":
        return frozenset({item.source})
    if not (journal and item.logpath):
        return frozenset({JOURNAL if journal else FILES})
    if set(item.formats) != {SYSLOG} and not SHARED.issuperset(seen.paths):
        # what else such a service says in the journal does not tell where its failures are
        return frozenset({FILES} if SYSLOG not in item.formats else {JOURNAL, FILES})
    if seen.in_journal():
        return frozenset({JOURNAL})
    if seen.in_files():
        return frozenset({FILES})
    return frozenset({JOURNAL, FILES})
