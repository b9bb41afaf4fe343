# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line: the one place that prints, and that makes an exit status of what happened.

A verb is imported when it is called, so that the quick ones are quick; nothing here imports what they don't need.
"""

from __future__ import annotations

import argparse
import os
import sys

from banagent import __version__
from banagent.verbs import DONE, NOT_PERMITTED, NOT_RUNNING, REFUSED, USAGE, Stopped
from banagent.verbs.terminal import Terminal, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import Protocol, TextIO

    from banagent.verbs import Said, Verb

    class _Add(Protocol):
        """Add a verb with its summary; give its parser if it is asked for, and None if nobody needs its options."""

        def __call__(self, name: str, verb: Verb, summary: str) -> argparse.ArgumentParser | None: ...


# of core/filter.py, which takes time to import
_MODES = ("normal", "ddos", "extra", "aggressive", "auth", "rbl", "errors")

__all__ = ["DONE", "NOT_PERMITTED", "NOT_RUNNING", "REFUSED", "USAGE", "main", "parser"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; give the exit status.

    0 done, 1 found nothing or refused, 2 usage, 3 the agent is not running, 4 not permitted.
    """
    os.environ["LANGUAGE"] = "C"  # argparse speaks English as we do; else it looks 400 times for a translation
    if sys.stdout is None:
        sys.stdout = _closed()
    try:
        arguments = _parse(argv)
        return _print(arguments.verb(arguments, terminal(sys.stdout)), sys.stdout)
    except SystemExit:
        raise  # --help, and to ask what is expected would take longer
    except _expected() as error:
        for text in str(error).splitlines():
            _complain(f"banagent: {text}")
        return _status(error)
    except KeyboardInterrupt:
        return 130


def parser(words: Container[str] | None = None) -> argparse.ArgumentParser:
    """Make the parser of all verbs; of the others than those in `words`, if they are given, the name and no more."""
    return parsers(words)[""]


def parsers(words: Container[str] | None = None) -> dict[str, argparse.ArgumentParser]:
    """Make the parser of all verbs, under the empty name, and give those of the verbs that are in it by their names."""
    top = argparse.ArgumentParser(
        prog="banagent",
        description="Read the journal and ban attackers in nftables.",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"banagent {__version__}")
    top.add_argument("--socket", metavar="PATH", help="ask the agent that listens on PATH")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)

    def add(name: str, verb: Verb, summary: str) -> argparse.ArgumentParser | None:
        if words is not None and name not in words:
            verbs.add_parser(name, help=summary, add_help=False)
            return None
        added = verbs.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        added.set_defaults(verb=verb)
        return added

    _add_asking(add)
    _add_telling(add)
    _add_others(add)
    return {"": top, **verbs.choices}


class _Formatter(argparse.HelpFormatter):
    """Help in 80 columns. argparse makes one for each option, and to look at the screen each time would take long."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=78)


def _add_asking(add: _Add) -> None:
    if status := add("status", _named("status", "status"), "show how things are, or how a jail is"):
        status.add_argument("jail", nargs="?", metavar="JAIL", help="only this jail")
        _add_json(status)
    if listed := add("list", _named("listings", "list_bans"), "list the bans that stand"):
        _add_jail(listed, "only those of this jail")
        listed.add_argument("--network", metavar="NETWORK", help="only those within this network")
        _add_json(listed)
    if history := add("history", _named("listings", "history"), "list bans of any time, the newest first"):
        history.add_argument("--since", metavar="TIME", help='from a time on: 2026-01-31, "2026-01-31 23:59", 2h (ago)')
        _add_jail(history, "only those of this jail")
        history.add_argument("--address", metavar="ADDRESS", help="only those that cover it or are within it")
        _add_json(history)
    if jails := add("jails", _named("listings", "jails"), "list the jails"):
        _add_json(jails)
    if events := add("events", _named("listings", "events"), "list what happened, by number"):
        events.add_argument("--follow", action="store_true", help="go on with what happens, from now on")
        events.add_argument("--since", type=int, metavar="N", help="from the event with this number on")
        _add_json(events)
    if why := add("why", _named("explain", "why"), "say why an address is banned, or why not"):
        why.add_argument("addresses", nargs=1, metavar="ADDRESS", help="the address or network")
        why.set_defaults(file=None)
        _add_json(why)
    if config := add("config", _named("listings", "config"), "show what is in force, and where it is set"):
        config.add_argument("--diff", action="store_true", help="only what the admin's files set, and what it replaces")
        _add_json(config)


def _add_telling(add: _Add) -> None:
    if ban := add("ban", _named("banning", "ban"), "ban addresses and networks"):
        _add_addresses(ban)
        _add_jail(ban, 'as a ban of this jail, on its ports; of "manual", on all ports, unless given')
        ban.add_argument("--for", dest="bantime", metavar="DURATION", help="for so long: 10m, 1d12h, permanent")
        ban.add_argument("--comment", metavar="TEXT", help="why, for those who ask later")
        ban.add_argument("--force", action="store_true", help="even if you are logged in from there")
    if unban := add("unban", _named("banning", "unban"), "lift bans, and say how many"):
        _add_addresses(unban)
        _add_jail(unban, "only bans of this jail; without an address all of them")
        unban.add_argument("--all", action="store_true", help="every ban there is")
        unban.add_argument("--offline", action="store_true", help="without the agent: for the night when it hangs")
    if allow := add("allow", _named("allowing", "allow"), "except addresses and networks from all bans"):
        _add_addresses(allow)
        allow.add_argument("--for", dest="bantime", metavar="DURATION", help="for so long: 8h; else until disallow")
        allow.add_argument("--comment", metavar="TEXT", help="why, for those who ask later")
    if disallow := add("disallow", _named("allowing", "disallow"), "take back what allow said"):
        _add_addresses(disallow)
        disallow.add_argument("--all", action="store_true", help="of everybody")
    if allowed := add("allowed", _named("allowing", "allowed"), "list who is allowed, and for how long"):
        _add_json(allowed)
    if reset := add("reset", _named("allowing", "reset"), "forget the failures and earlier bans of addresses"):
        _add_addresses(reset)
        reset.add_argument("--all", action="store_true", help="of everybody")
        reset.add_argument("--unban", action="store_true", help="lift the bans that stand, too")
        reset.add_argument("--yes", action="store_true", help="don't ask")
    if get := add("get", _named("setting", "get"), "show what is in force for a jail"):
        get.add_argument("jail", metavar="JAIL", help="the jail")
        get.add_argument("key", nargs="?", metavar="KEY", help="only this key, such as maxretry")
        _add_json(get)
    if set_ := add("set", _named("setting", "set_"), "let another value be in force for a jail"):
        set_.add_argument("jail", metavar="JAIL", help="the jail")
        set_.add_argument("key", metavar="KEY", help="the key, such as maxretry")
        set_.add_argument("value", nargs="+", metavar="VALUE", help="as in banagent.toml; a list takes several")
        set_.add_argument("--add", action="store_true", help="add to the list")
        set_.add_argument("--remove", action="store_true", help="remove from the list")
        set_.add_argument("--persist", action="store_true", help="write it down, so that it outlasts a restart")
    add("off", _named("switches", "off"), "lift all bans, and ban nobody until `on`")
    add("on", _named("switches", "on"), "ban again")
    if resume := add("resume", _named("switches", "resume"), "let a jail ban again that its circuit breaker stopped"):
        resume.add_argument("jail", metavar="JAIL", help="the jail")
    add("reload", _named("switches", "reload"), "take the configuration as it is in its files now")


def _add_others(add: _Add) -> None:
    if check := add("check", _named("checking", "check"), "check the configuration and say all mistakes"):
        _add_config_options(check)
    if test := add("test", _named("testing", "test"), "try filters on logs: what they catch, what they miss, and why"):
        _add_test(test)
    if replay := add("replay", _named("replaying", "replay"), "say what would have been banned for what is in logs"):
        replay.add_argument(
            "log", nargs="*", metavar="LOG", help="a log file, also .gz, .xz or .bz2; - is standard input"
        )
        _add_jail(replay, "only this jail, enabled or not")
        _add_journal(replay)
        _add_config_options(replay)
        _add_json(replay)
    if timespan := add("timespan", _named("checking", "timespan"), "say what a duration means"):
        timespan.add_argument("duration", nargs="+", metavar="DURATION", help='such as 10m, 1d12h, "1y 6mo", permanent')
    add("version", _named("switches", "version"), "show the version, and the agent's if it is another")
    if completion := add("completion", _named("completion", "completion"), "print a shell's completion script"):
        completion.add_argument(
            "what",
            metavar="WHAT",
            choices=("bash", "zsh", "fish", "jails", "addresses", "filters"),
            help="bash, zsh or fish; or jails, addresses or filters: what the scripts ask for",
        )
        completion.set_defaults(parsers=parsers)
    if run := add("run", _run, "run the agent in the foreground, as its service does"):
        _add_config_options(run)
        run.add_argument("--journal", metavar="DIR", help="read the journal files in DIR, not the machine's own")
        run.add_argument(
            "--dry-run", action="store_true", help="say what would be banned; touch neither kernel nor history"
        )


def _add_test(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("log", nargs="*", metavar="LOG", help="a log file, also .gz, .xz or .bz2; - is standard input")
    verb.add_argument("--line", metavar="TEXT", action="append", help="try this line, and explain")
    verb.add_argument(
        "--filter", metavar="FILTER", action="append", help="only this filter: its name, or a file; all unless given"
    )
    modes = f"normal unless given; or {', '.join(_MODES[1:])}"
    verb.add_argument("--mode", metavar="MODE", choices=_MODES, help=modes)
    verb.add_argument(
        "--failregex", metavar="RE", action="append", default=[], help="this pattern, too; alone without --filter"
    )
    verb.add_argument("--ignoreregex", metavar="RE", action="append", default=[], help="ignore lines that match this")
    _add_journal(verb)
    verb.add_argument("--unit", metavar="UNIT", help="of the journal, entries of this unit in place of the filter's")
    verb.add_argument(
        "--suspicious", action="store_true", help="what looks like a failure and no pattern knows, by shape"
    )
    for outcome in ("matched", "ignored", "missed"):
        verb.add_argument(f"--print-all-{outcome}", action="store_true", help=f"each line that is {outcome}")
    _add_config_options(verb)
    _add_json(verb)


def _add_journal(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--journal", nargs="?", const="", metavar="DIR", help="read the journal, the machine's own or the files in DIR"
    )
    verb.add_argument("--since", metavar="TIME", help="of the journal, from a time on: 2026-01-31, 7d (ago)")


def _add_json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.add_argument("--pretty", action="store_true", help="as --json, indented")


def _add_jail(verb: argparse.ArgumentParser, summary: str) -> None:
    verb.add_argument("--jail", metavar="JAIL", help=summary)


def _add_addresses(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("addresses", nargs="*", metavar="ADDRESS", help="an address or a network; - reads standard input")
    verb.add_argument("--file", metavar="FILE", help="those in FILE, too; # begins a comment")


def _add_config_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--config", metavar="FILE", help="read FILE instead of the admin's files")
    verb.add_argument("--filters", metavar="DIR", help="filters in DIR override those of the same name")


def _named(module: str, name: str) -> Verb:
    """Give a verb that is imported when it is called."""

    def verb(arguments: argparse.Namespace, shown: Terminal) -> Said:
        from importlib import import_module  # noqa: PLC0415 - not for --help

        said: Said = getattr(import_module(f"banagent.verbs.{module}"), name)(arguments, shown)
        return said

    return verb


def _run(arguments: argparse.Namespace, _terminal: Terminal) -> Said:
    # asyncio and structlog take these where they are installed, 5 MB, for what the agent never does
    absent = {name: None for name in ("rich", "ssl") if name not in sys.modules}
    sys.modules.update(absent)  # type: ignore[arg-type]  # None: it is not installed
    import asyncio  # noqa: PLC0415 - see the module's docstring

    from banagent import daemon, log  # noqa: PLC0415
    from banagent.verbs.checking import path  # noqa: PLC0415

    for name in absent:
        del sys.modules[name]
    log.configure()
    options = daemon.Options(
        path(arguments.config), path(arguments.filters), path(arguments.journal), arguments.dry_run
    )
    asyncio.run(daemon.run(options))
    yield from ()
    return DONE


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line. Raises SystemExit after what argparse does by itself, Stopped if it can't write that."""
    try:
        return parser(sys.argv if argv is None else argv).parse_args(argv)
    except SystemExit:
        _write("", sys.stdout)  # --help is in the buffer
        raise
    except OSError as error:
        _give_up(sys.stdout, error)
        raise SystemExit(DONE) from None


def _print(said: Said, stream: TextIO) -> int:
    """Print each piece when it comes; give the status. A reader that has had enough is no error."""
    try:
        while True:
            try:
                piece = next(said)
            except StopIteration as end:
                return int(end.value)
            if not _write(f"{piece}\n", stream):
                return DONE
    finally:
        said.close()


def _write(text: str, stream: TextIO) -> bool:
    """Write all of it, and say whether there is still a reader. Raises Stopped if it can't be written."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        _give_up(stream, error)
        return False
    return True


def _give_up(stream: TextIO, error: OSError) -> None:
    """Write no more. Raises Stopped, unless it is only that nobody reads on."""
    _hush(stream)
    if not isinstance(error, BrokenPipeError):
        raise Stopped(f"can't write: {error.strerror}") from error


def _closed() -> TextIO:
    """Give a stream in place of one that is closed: writing fails, and no other file gets its number."""
    return open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: PTH123 - pathlib takes longer


def _complain(text: str) -> None:
    try:  # noqa: SIM105 - contextlib takes longer
        print(text, file=sys.stderr or _closed(), flush=True)
    except OSError:
        pass  # there is nowhere to say so; the exit status tells


def _hush(stream: TextIO) -> None:
    """Lead `stream` nowhere: what is left in its buffer would be complained of at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _expected() -> tuple[type[Exception], ...]:
    """Give the exceptions with a text for the admin; it is asked for only when there is one."""
    from banagent.control.client import ControlError  # noqa: PLC0415
    from banagent.errors import BanagentError  # noqa: PLC0415

    return Stopped, ControlError, BanagentError


def _status(error: Exception) -> int:
    from banagent.control.client import ControlError  # noqa: PLC0415
    from banagent.errors import NotPermittedError  # noqa: PLC0415

    if isinstance(error, Stopped | ControlError):
        return error.status
    return NOT_PERMITTED if isinstance(error, NotPermittedError) else REFUSED
