# SPDX-License-Identifier: LGPL-2.1-or-later
"""The addresses and networks that a verb is given: as words, in a file, on standard input."""

from __future__ import annotations

import sys

from banagent.core.address import parse_network
from banagent.verbs import USAGE, Stopped
from banagent.verbs.text import plural, printable, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

_LONGEST_LINE = 4096  # bytes
_LONGEST_WORD = 60  # characters; no network has more
_MOST_TOLD = 20  # mistakes
_STDIN = "-"


def given(arguments: Namespace) -> list[str]:
    """Give each of them once, in the usual notation. Raises Stopped, which tells all that are none."""
    networks: dict[str, None] = {}
    mistakes: list[str] = []
    for place, word in _words(arguments):
        try:
            if len(word) > _LONGEST_WORD:
                raise ValueError  # noqa: TRY301 - as what is too short
            networks[str(parse_network(word))] = None
        except ValueError:
            mistakes.append(f"{place}{quoted(word, _LONGEST_WORD)} is neither an address nor a network{_hint(word)}")
            if len(mistakes) > _MOST_TOLD:
                mistakes[-1] = f"{place}and so on; only the first {_MOST_TOLD} are told"
                break
    if mistakes:
        raise Stopped("\n".join(mistakes))
    return list(networks)


def _words(arguments: Namespace) -> Iterator[tuple[str, str]]:
    """Give the words, each with where it is, for messages."""
    for word in arguments.addresses:
        yield from _listed(_STDIN) if word == _STDIN else [("", word)]
    if arguments.file is not None:
        yield from _listed(arguments.file)


def _listed(name: str) -> Iterator[tuple[str, str]]:
    """Read words from a file: several on a line are as good as several lines, and # begins a comment."""
    try:
        if name == _STDIN and sys.stdin is None:
            raise Stopped("standard input is closed")
        if name == _STDIN:
            yield from _split("standard input", sys.stdin.buffer)
        else:
            with open(name, "rb") as stream:  # noqa: PTH123 - pathlib takes longer than the rest
                yield from _split(printable(name, "ascii"), stream)
    except OSError as error:
        raise Stopped(f"{printable(name, 'ascii')} can't be read: {error.strerror}") from error


def _split(name: str, stream: BinaryIO) -> Iterator[tuple[str, str]]:
    number = 0
    while line := stream.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise Stopped(f"{name}:{number}: the line is longer than {_LONGEST_LINE} bytes; is it a list of addresses?")
        for word in line.decode("utf-8", "backslashreplace").partition("#")[0].split():
            yield f"{name}:{number}: ", word


def _hint(word: str) -> str:
    """Say what is probably meant to be different."""
    if "/" in word:
        return "; a network is ADDRESS/LENGTH, of a length up to 32, or 128 with IPv6"
    if word[:1].isdigit() or ":" in word:
        return "; an address has all of its parts, and neither port nor zone"
    return "; names are not looked up"


def some(arguments: Namespace, verb: str) -> list[str]:
    """Give them as `given` does. Raises Stopped also if there is none."""
    if not arguments.addresses and arguments.file is None:
        raise Stopped(f"{verb} needs an address or a network; see: banagent {verb} --help", USAGE)
    networks = given(arguments)
    if not networks:
        raise Stopped("there is no address in what was read")
    return networks


def one(arguments: Namespace) -> str:
    """Give the only one. Raises Stopped if it is none."""
    networks = given(arguments)
    if len(networks) != 1:
        raise Stopped(f"one address is expected here, not {len(networks)}", USAGE)
    return networks[0]


def portions(networks: list[str], size: int) -> Iterable[list[str]]:
    """Cut a list into portions of at most `size`."""
    return (networks[at : at + size] for at in range(0, len(networks), size))


def so_far(text: str, done: int, networks: list[str]) -> str:
    """Add to the text of an error what it means for a list of which the first `done` were taken."""
    if len(networks) == 1:
        return text
    if not done:
        return f"{text}; so none of the {plural(len(networks), 'network')} was taken"
    return f"{text}; the first {done:,} of {len(networks):,} were taken, the others were not"
