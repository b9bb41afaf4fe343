# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completion for shells, made from the parser; and what the scripts ask for while one types.

`metavar` says what an option or an argument takes. Whatever goes wrong while one types is kept silent.
"""

from __future__ import annotations

from banagent.control.client import ControlError
from banagent.errors import BanagentError
from banagent.verbs import DONE, REFUSED
from banagent.verbs.asking import agent, call, listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from banagent.verbs import Said
    from banagent.verbs.terminal import Terminal

SHELLS = ("bash", "zsh", "fish")
ASKED = {"JAIL": "jails", "ADDRESS": "addresses", "NETWORK": "addresses", "FILTER": "filters"}
_FILES = ("FILE", "DIR", "PATH", "LOG")
_PATIENCE = 2.0  # seconds
_MOST = 1000  # addresses that are offered, the newest


class Option:
    """An option: its names, its help, what it takes (None: nothing)."""

    def __init__(self, action: argparse.Action) -> None:
        self.names = tuple(action.option_strings)
        self.help = (action.help or "").replace("%%", "%")
        self.takes = None if action.nargs == 0 else str(action.metavar)
        self.words = [str(word) for word in action.choices or ()]  # that it takes, if they are few


class Argument:
    """An argument: what it takes, the words if they are few, or the words by what stands before it."""

    def __init__(self, takes: str, words: Iterable[str] = (), after: Mapping[str, Sequence[str]] | None = None) -> None:
        self.takes = takes
        self.words = list(words)
        self.after = after or {}


class Known:
    """A verb: its options, its arguments, its help; the empty name has what stands before a verb."""

    def __init__(self, name: str, parser: argparse.ArgumentParser) -> None:
        actions: list[argparse.Action] = parser._actions  # noqa: SLF001 - argparse has no other way to be asked
        self.name = name
        self.help = (parser.description or "").rstrip(".")
        self.options = [Option(action) for action in actions if action.option_strings]
        self.arguments = [] if not name else [_argument(action) for action in actions if not action.option_strings]


def _argument(action: argparse.Action) -> Argument:
    takes = str(action.metavar)
    if takes == "KEY":
        return Argument(takes, _keys())
    if takes == "VALUE":
        return Argument(takes, after={key: words for key, words in _keys().items() if words})
    return Argument(takes, [str(word) for word in action.choices or ()])


def _keys() -> dict[str, tuple[str, ...]]:
    """Give the keys of a jail, each with the words that it takes, if these are few."""
    from banagent.config import keys  # noqa: PLC0415 - it takes time, and what the agent is asked for needs none of it
    from banagent.config.table import rows  # noqa: PLC0415

    return {name: row.choices or tuple(row.words) for name, row in rows(keys.JAILS.keys) if row.since == "now"}


def completion(arguments: argparse.Namespace, _terminal: Terminal) -> Said:
    """Give a shell's script, or the words that the scripts ask for, one in a line."""
    if arguments.what in SHELLS:
        known = [Known(name, parser) for name, parser in arguments.parsers().items()]
        write: dict[str, Callable[[list[Known]], Iterator[str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
        yield "\n".join(write[arguments.what](known))
        return DONE
    try:
        words = _filters() if arguments.what == "filters" else _ask(arguments)
    except (ControlError, BanagentError):
        return REFUSED
    yield "\n".join(words)
    return DONE


def _ask(arguments: argparse.Namespace) -> list[str]:
    """Ask the agent. Raises ControlError."""
    if arguments.what == "jails":
        return sorted({str(jail["jail"]) for jail in call(arguments, "Jails", patience=_PATIENCE)["jails"]})
    found: list[str] = []
    with agent(arguments, _PATIENCE) as connected:
        for portion in listing(connected, "List", "bans"):
            found += [ban["address"] for ban in portion]
            if len(found) >= _MOST:
                break
    return list(dict.fromkeys(found))[:_MOST]


def _filters() -> list[str]:
    """Give the names of all filters that there are, which need no agent. Raises ConfigError."""
    from banagent import config  # noqa: PLC0415 - it takes time, and what the agent is asked for needs none of it

    return sorted(config.filter_files())


def _bash(verbs: list[Known]) -> Iterator[str]:
    """Give the script for bash(1). It cuts the line at blanks itself, as $COMP_WORDS is cut at the colons of IPv6."""
    yield from (
        "# bash completion for banagent; made by: banagent completion bash",
        "_banagent() {",
        "    local line=${COMP_LINE:0:COMP_POINT} current previous verb= skip= takes= offered= word",
        "    local -a words arguments=()",
        '    read -ra words <<<"$line"',
        '    [[ $line == *[[:blank:]] ]] && words+=("")',
        "    current=${words[-1]} previous=${words[-2]}",
        '    for word in "${words[@]:1:${#words[@]}-2}"; do',
        "        if [[ $skip ]]; then skip=; continue; fi",
        "        case $verb:$word in",
        f"            {'|'.join(f'{verb.name}:{name}' for verb in verbs for name in _taking(verb))}) skip=1 ;;",
        "            *:-*) ;;",
        "            :*) verb=$word ;;",
        '            *) arguments+=("$word") ;;',
        "        esac",
        "    done",
        "    case $verb:$previous in",
    )
    for verb in verbs:
        for option in verb.options:
            if option.takes is not None:
                patterns = "|".join(f"{verb.name}:{name}" for name in option.names)
                offered = f" offered={' '.join(option.words)!r}" if option.words else ""
                yield f"        {patterns}) takes={option.takes}{offered} ;;"
    yield "        *) case $verb in"
    for verb in verbs:
        names = " ".join(name for option in verb.options for name in option.names)
        rest = _bash_arguments(verb.arguments) if verb.name else f"offered='{' '.join(one.name for one in verbs[1:])}'"
        yield f"            {verb.name or _EMPTY}) if [[ $current == -* ]]; then offered={names!r}; else {rest}; fi ;;"
    yield from (
        "        esac ;;",
        "    esac",
        "    case $takes in",
        *(
            f'        {metavar}) offered=$("${{words[0]}}" completion {what} 2>/dev/null) ;;'
            for metavar, what in ASKED.items()
        ),
        f'        {"|".join(_FILES)}) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;',
        "    esac",
        '    mapfile -t COMPREPLY < <(compgen -W "$offered" -- "$current")',
        "    # what stands before the last colon is a word of its own to readline",
        "    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then",
        '        COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")',
        "    fi",
        "}",
        "complete -F _banagent banagent",
    )


_EMPTY = "''"


def _bash_arguments(arguments: list[Argument]) -> str:
    """Give the command that says what is offered for an argument; the last one may come again."""
    if not arguments:
        return ":"
    commands = [_bash_argument(argument) for argument in arguments]
    places = [*map(str, range(len(commands) - 1)), "*"]
    cases = " ;; ".join(f"{place}) {command}" for place, command in zip(places, commands, strict=True))
    return commands[0] if len(commands) == 1 else f"case ${{#arguments[@]}} in {cases} ;; esac"


def _bash_argument(argument: Argument) -> str:
    if argument.after:
        cases = " ".join(f"{word}) offered='{' '.join(words)}' ;;" for word, words in argument.after.items())
        return f"case ${{arguments[1]}} in {cases} esac"
    return f"offered={' '.join(argument.words)!r} takes={argument.takes}"


def _zsh(verbs: list[Known]) -> Iterator[str]:
    """Give the script for zsh(1), as zshcompsys(1) has it."""
    yield from (
        "#compdef banagent",
        "# zsh completion for banagent; made by: banagent completion zsh",
        "_banagent_ask() {",
        # _arguments puts options for compadd before the last word, which is ours
        '    compadd "${@[1,-2]}" -- ${(f)"$(_call_program banagent banagent completion ${@[-1]} 2>/dev/null)"}',
        "}",
        "_banagent_after() {",
        "    case $1 in",
        *(
            f"    {word}) compadd -- {' '.join(words)} ;;"
            for verb in verbs
            for argument in verb.arguments
            for word, words in argument.after.items()
        ),
        "    esac",
        "}",
        "_banagent() {",
        "    local context state state_descr line",
        "    typeset -A opt_args",
        f"    _arguments -C {' '.join(map(_zsh_option, verbs[0].options))} '1:verb:->verb' '*::argument:->rest'",
        "    case $state in",
        "    verb)",
        "        local -a verbs=(",
        *(f"            {_zsh_quote(f'{verb.name}:{verb.help}')}" for verb in verbs[1:]),
        "        )",
        "        _describe verb verbs ;;",
        "    rest)",
        "        case $words[1] in",
    )
    for verb in verbs[1:]:
        specs = [_zsh_option(option) for option in verb.options]
        places = [*map(str, range(1, len(verb.arguments))), "*"]
        for place, argument in zip(places, verb.arguments, strict=False):
            specs.append(_zsh_quote(f"{place}:{argument.takes.lower()}:{_zsh_argument(argument)}"))
        yield f"        {verb.name}) _arguments {' '.join(specs)} ;;"
    yield from ("        esac ;;", "    esac", "}")
    # as a function of fpath the file is the function's body; sourced, it has to be made known
    yield 'if [[ $funcstack[1] == _banagent ]]; then _banagent "$@"; else compdef _banagent banagent; fi'


def _zsh_option(option: Option) -> str:
    text = option.help.replace("[", "(").replace("]", ")").replace(":", "\\:")
    takes = "" if option.takes is None else f":{option.takes.lower()}:{_zsh_words(option)}"
    return " ".join(_zsh_quote(f"{name}[{text}]{takes}") for name in option.names)


def _zsh_words(option: Option) -> str:
    return f"({' '.join(option.words)})" if option.words else _zsh_action(str(option.takes))


def _zsh_argument(argument: Argument) -> str:
    if argument.after:
        return "{_banagent_after $line[2]}"
    return f"({' '.join(argument.words)})" if argument.words else _zsh_action(argument.takes)


def _zsh_action(takes: str) -> str:
    if takes in ASKED:
        return f"_banagent_ask {ASKED[takes]}"
    return "_files" if takes in _FILES else " "


def _zsh_quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish(verbs: list[Known]) -> Iterator[str]:
    """Give the script for fish(1)."""
    yield "# fish completion for banagent; made by: banagent completion fish"
    yield from (
        "complete -c banagent -f",
        "# the verb and its arguments so far, one in a line",
        "function __banagent_words",
        "    set -l skip",
        "    for word in (commandline -poc)[2..]",
        '        if test -n "$skip"',
        "            set skip",
        "            continue",
        "        end",
        "        switch $word",
        f"            case {' '.join(sorted({name for verb in verbs for name in _taking(verb)}))}",
        "                set skip 1",
        "            case '-*'",
        "            case '*'",
        "                echo $word",
        "        end",
        "    end",
        "end",
    )
    for verb in verbs[1:]:
        yield f"complete -c banagent -n __fish_use_subcommand -a {verb.name} -d {_fish_quote(verb.help)}"
    for verb in verbs:
        condition = _fish_quote(f"__fish_seen_subcommand_from {verb.name}") if verb.name else "__fish_use_subcommand"
        for option in verb.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            takes = "" if option.takes is None else f" {_fish_value(option)}"
            yield f"complete -c banagent -n {condition} {names}{takes} -d {_fish_quote(option.help)}"
        for place, argument in enumerate(verb.arguments, start=1):
            yield from _fish_argument(verb, place, argument)


def _fish_argument(verb: Known, place: int, argument: Argument) -> Iterator[str]:
    seen = f"__fish_seen_subcommand_from {verb.name}"
    if len(verb.arguments) > 1:
        seen += f"; and test (count (__banagent_words)) -{'eq' if place < len(verb.arguments) else 'ge'} {place}"
    if argument.takes in _FILES:
        yield f"complete -c banagent -n {_fish_quote(seen)} -F"
    elif argument.words or argument.takes in ASKED:
        words = " ".join(argument.words) or _fish_asks(argument.takes)
        yield f"complete -c banagent -n {_fish_quote(seen)} -a {_fish_quote(words)}"
    for key, known in argument.after.items():
        condition = _fish_quote(f"{seen}; and contains -- {key} (__banagent_words)[{place}]")
        yield f"complete -c banagent -n {condition} -a {_fish_quote(' '.join(known))}"


def _fish_value(option: Option) -> str:
    if option.words or option.takes in ASKED:
        return f"-x -a {_fish_quote(' '.join(option.words) or _fish_asks(str(option.takes)))}"
    return "-r -F" if option.takes in _FILES else "-x"


def _fish_asks(takes: str) -> str:
    return f"(banagent completion {ASKED[takes]} 2>/dev/null)"


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _taking(verb: Known) -> list[str]:
    return [name for option in verb.options if option.takes is not None for name in option.names]
