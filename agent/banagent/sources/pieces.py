# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pieces of lines that were too long: what an enemy may have shaped so that it begins with words of his own.

- journald cuts standard output at LineMax= (48 KB) and marks the piece in front with _LINE_BREAK=line-max, in the same
  _STREAM_ID; the one behind it has no mark (journald-stream.c).
- docker (daemon/logger/copier.go, journald/journald.go: 16 KB) and podman's conmon (ctr_logging.c: 8 KB) mark all but
  the last piece with CONTAINER_PARTIAL_MESSAGE. Newer dockers mark the last one too, with CONTAINER_PARTIAL_ID. Both
  tell standard output and error of a container apart by PRIORITY alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from banagent.sources.lookup import Lookup

CUTTING: Final = frozenset({b"stdout", b"journal"})  # transports by which pieces may come
_LINE_BREAK: Final = "_LINE_BREAK"
_STREAM: Final = "_STREAM_ID"
_CONTAINER: Final = "CONTAINER_ID_FULL"
_PARTIAL: Final = "CONTAINER_PARTIAL_MESSAGE"
_PARTIAL_LINE: Final = "CONTAINER_PARTIAL_ID"


def is_piece(transport: bytes, word: Callable[[str], str | None], position: str, lookup: Lookup) -> bool:
    """Whether the entry at `position`, whose fields `word` gives, is one. Raises OSError."""
    try:
        if transport == b"stdout":
            stream = word(_STREAM)
            return stream is not None and lookup.before(position, {_STREAM: stream}, _LINE_BREAK) == b"line-max"
        if transport == b"journal":
            return _is_containers(word, position, lookup)
    except KeyError:  # what can't be looked at is not trusted
        return True
    return False


def _is_containers(word: Callable[[str], str | None], position: str, lookup: Lookup) -> bool:
    container = word(_CONTAINER)
    if container is None:
        return False
    if word(_PARTIAL) is not None or word(_PARTIAL_LINE) is not None:
        return True
    # The collector's pid: somebody else could put an entry with the container's name between two pieces.
    common = {_CONTAINER: container, **{name: value for name in ("PRIORITY", "_PID") if (value := word(name))}}
    return lookup.before(position, common, _PARTIAL) is not None
