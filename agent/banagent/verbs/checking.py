# SPDX-License-Identifier: LGPL-2.1-or-later
"""`check` and `timespan`: what needs no agent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from banagent import config
from banagent.config.lists import read_list
from banagent.core import duration
from banagent.verbs import DONE, REFUSED, Stopped
from banagent.verbs.readable import unreadable

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from banagent.config import Config
    from banagent.errors import Mistake
    from banagent.verbs import Said
    from banagent.verbs.terminal import Terminal


def check(arguments: Namespace, _terminal: Terminal) -> Said:
    """Check the configuration, and whether the agent may read what it names. Raises ConfigError with all mistakes."""
    found = config.load(config=path(arguments.config), filters=path(arguments.filters))
    enabled = [jail.name for jail in found.jails if jail.enabled]
    yield f"no mistakes; {len(found.jails)} jails, enabled: {', '.join(enabled) or 'none'}"
    status = DONE
    for mistake in _in_lists(found):
        status = REFUSED
        yield str(mistake)
    for told in unreadable(found):
        status = REFUSED
        yield told
    return status


def _in_lists(found: Config) -> Iterator[Mistake]:
    """Give the mistakes in the files that ignoreip names; the agent runs without what is wrong there."""
    for name in dict.fromkeys(name for jail in found.jails if jail.enabled for name in jail.ignore_files):
        yield from read_list(name).mistakes


def timespan(arguments: Namespace, _terminal: Terminal) -> Said:
    """Say what durations mean."""
    mistakes: list[str] = []
    for text in arguments.duration:
        try:
            seconds = duration.parse(text)
        except ValueError as error:
            mistakes.append(str(error))
        else:
            yield f"{text}: permanent" if seconds is None else f"{text}: {seconds} s, {duration.format(seconds)}"
    if mistakes:
        raise Stopped("\n".join(mistakes))
    return DONE


def path(name: str | None) -> Path | None:
    """Give the path that an option names, if it was given."""
    return None if name is None else Path(name)
