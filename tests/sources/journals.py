# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the journal share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from banagent.core.filter import Filter, Trust
from banagent.sources.journal import Journal
from bed.journald import make_journal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from banagent.core.events import Entry
    from banagent.sources.batch import Batch

START = 1_700_000_000_000_000


def sift(message: bytes) -> Sequence[int]:
    """Let pass what begins with an F."""
    return [0] if message.startswith(b"F") else []


def wanting(**keys: Any) -> Filter:
    return Filter(name="x", file="-", description="-", **keys)


def made(path: Path, entries: Iterable[Mapping[str, Any]]) -> Path:
    """Write entries of root, a µs after one another, unless they say otherwise; None: without that field."""
    usual = {"_UID": 0, "_PID": 7}
    whole = ({**usual, "__REALTIME_TIMESTAMP": START + number, **entry} for number, entry in enumerate(entries))
    return make_journal(path, ({name: field[name] for name in field if field[name] is not None} for field in whole))


def batches(path: Path, *filters: Filter) -> list[Batch]:
    journal = Journal(filters, path)
    journal.seek_time(0)
    found: list[Batch] = []
    while (batch := journal.read(sift)).read:
        found.append(batch)
    journal.close()
    return found


def entries(path: Path, *filters: Filter) -> list[Entry]:
    return [entry for batch in batches(path, *filters) for entry, _ in batch.entries]


def counted(path: Path, item: Filter) -> list[bytes]:
    """Give the messages that count for a filter."""
    trust = Trust(item)
    return [entry.message for entry in entries(path, item) if trust(entry)]
