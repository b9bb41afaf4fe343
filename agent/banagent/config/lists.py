# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file of addresses and networks, as `ignoreip` names it: parted by blanks and line ends; # begins a comment."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.config import checks
from banagent.config.toml import MAX_BYTES, MAX_MISTAKES, printable, shown
from banagent.errors import Mistake

if TYPE_CHECKING:
    from banagent.core.address import Network

_SHOWN: Final = 80  # characters of a word
_ENOUGH: Final = 1000  # mistakes, after which the rest is not read: it is no list, and to refuse each word takes long


class ListFile(NamedTuple):
    """What is right in a file, and what is wrong with it."""

    networks: frozenset[Network]
    mistakes: tuple[Mistake, ...]


def read_list(path: str) -> ListFile:
    """Read a regular file of up to 1 MiB."""
    file = shown(Path(path))
    try:
        with open(path, "rb", opener=_open) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return _refused(file, "is not a regular file")
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        return _refused(file, f"can't be read: {error.strerror}")
    if len(content) > MAX_BYTES:
        return _refused(file, "is larger than 1 MiB, the most that is read; write networks instead of addresses")
    return _parsed(file, content.decode("utf-8", "backslashreplace"))


def _parsed(file: str, content: str) -> ListFile:
    networks: set[Network] = set()
    mistakes: list[Mistake] = []
    for number, line in enumerate(content.split("\n"), start=1):
        for word in line.partition("#")[0].split():
            try:
                networks.add(checks.network(word))
            except ValueError as error:
                mistakes.append(Mistake(file, number, printable(word[:_SHOWN]), None, str(error)))
                if len(mistakes) == _ENOUGH:
                    return _found(file, networks, mistakes, "; it was not read any further")
    return _found(file, networks, mistakes)


def _found(file: str, networks: set[Network], mistakes: list[Mistake], end: str = "") -> ListFile:
    if (rest := len(mistakes) - MAX_MISTAKES) > 0:
        mistakes[MAX_MISTAKES:] = [Mistake(file, 0, "", None, f"and {rest} more mistakes in this file{end}")]
    return ListFile(frozenset(networks), tuple(mistakes))


def _refused(file: str, text: str) -> ListFile:
    return ListFile(frozenset(), (Mistake(file, 0, "", None, text),))


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # else a FIFO would wait for somebody to write
