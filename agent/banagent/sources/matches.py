# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libsystemd is asked to look for, so that entries that no filter may trust need not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from banagent.core.filter import CONTAINER, KERNEL, TRANSPORT, UNIT_SLICE, Trust, is_glob

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from banagent.core.filter import Filter

UNIT: Final = "_SYSTEMD_UNIT"
UID: Final = "_UID"
PID: Final = "_PID"
IDENTIFIER: Final = "SYSLOG_IDENTIFIER"
DROPPED: Final = "a596d6fe7bfa4994828e72309e95d61e"  # MESSAGE_ID, SD_MESSAGE_JOURNAL_DROPPED of sd-messages.h
# Up to 20 terms libsystemd remembers where it was in each (CHAIN_CACHE_MAX, journal-file.c): an entry that fits costs
# 6 µs instead of 3, and the others nothing. With 23 it is 9 µs, with 41 it is 29: then reading everything is cheaper.
MOST_TERMS: Final = 20

Terms = dict[str, set[str]]  # by field; an entry is wanted if one of them fits


def terms(filters: Collection[Filter]) -> Terms | None:
    """Give what must be looked for; None: all entries have to be read, or that is cheaper."""
    wanted: Terms = {"MESSAGE_ID": {DROPPED}}
    for item in filters:
        for field, values in _wanted(item):
            if any(map(is_glob, values)):  # libsystemd can't match one
                return None
            if values:
                wanted.setdefault(field, set()).update(values)
    return wanted if sum(map(len, wanted.values())) <= MOST_TERMS else None


def _wanted(item: Filter) -> Iterator[tuple[str, Collection[str]]]:
    """Give the fields that an entry may fit in, with globs where nothing else will do.

    Entries of units and slices that are globs are found by their identifiers, or if one of these is, by a field.
    """
    trust = Trust(item)
    if trust.anywhere or (item.fields and any(map(is_glob, item.identifiers))):  # it has to fit in each: one is enough
        yield min(item.fields.items(), key=lambda field: any(map(is_glob, field[1])))
        return
    for field, values in ((UNIT, item.units), (UNIT_SLICE, item.slices)):
        yield field, [value for value in values if not (item.identifiers and is_glob(value))]
    yield CONTAINER, item.containers
    yield IDENTIFIER, item.identifiers
    if trust.kernel:
        yield TRANSPORT, [KERNEL]
