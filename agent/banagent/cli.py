# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line. Each verb imports what it needs when it is called, so that the quick ones are quick."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from banagent import __version__
from banagent.errors import BanagentError, NotPermittedError

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE: Final = 0
REFUSED: Final = 1
NOT_PERMITTED: Final = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; give the exit status: 0 done, 1 refused, 2 usage, 4 not permitted."""
    arguments = parser().parse_args(argv)
    try:
        status: int = arguments.verb(arguments)
    except BanagentError as error:
        for text in str(error).splitlines():
            print(f"banagent: {text}", file=sys.stderr)
        return NOT_PERMITTED if isinstance(error, NotPermittedError) else REFUSED
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """Make the parser of all verbs."""
    top = argparse.ArgumentParser(prog="banagent", description="Read the journal and ban attackers in nftables.")
    top.add_argument("--version", action="version", version=f"banagent {__version__}")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)

    run = verbs.add_parser("run", help="run the agent in the foreground, as its service does")
    _add_config_options(run)
    run.add_argument("--journal", type=Path, metavar="DIR", help="read the journal files in DIR, not the machine's own")
    run.add_argument(
        "--dry-run", action="store_true", help="say what would be banned; touch neither kernel nor history"
    )
    run.set_defaults(verb=_run)

    check = verbs.add_parser("check", help="check the configuration and say all mistakes")
    _add_config_options(check)
    check.set_defaults(verb=_check)

    timespan = verbs.add_parser("timespan", help="say what a duration means")
    timespan.add_argument("duration", nargs="+", metavar="DURATION", help='such as 10m, 1d12h, "1y 6mo", permanent')
    timespan.set_defaults(verb=_timespan)
    return top


def _add_config_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--config", type=Path, metavar="FILE", help="read FILE instead of the admin's files")
    verb.add_argument("--filters", type=Path, metavar="DIR", help="filters in DIR override those of the same name")


def _run(arguments: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415 - see the module's docstring

    from banagent import daemon, log  # noqa: PLC0415

    log.configure()
    options = daemon.Options(arguments.config, arguments.filters, arguments.journal, arguments.dry_run)
    asyncio.run(daemon.run(options))
    return DONE


def _check(arguments: argparse.Namespace) -> int:
    from banagent.config import load  # noqa: PLC0415

    config = load(config=arguments.config, filters=arguments.filters)
    enabled = [jail.name for jail in config.jails if jail.enabled]
    print(f"no mistakes; {len(config.jails)} jails, enabled: {', '.join(enabled) or 'none'}")
    return DONE


def _timespan(arguments: argparse.Namespace) -> int:
    from banagent.core import duration  # noqa: PLC0415

    status = DONE
    for text in arguments.duration:
        try:
            seconds = duration.parse(text)
        except ValueError as error:
            print(f"banagent: {error}", file=sys.stderr)
            status = REFUSED
        else:
            print(f"{text}: permanent" if seconds is None else f"{text}: {seconds} s, {duration.format(seconds)}")
    return status
