# SPDX-License-Identifier: LGPL-2.1-or-later
"""Filter files: their keys, and how a file and those that it extends make a filter."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from banagent.config import checks, patterns
from banagent.config.patterns import Context, Pattern
from banagent.config.probe import Budget
from banagent.config.table import Key, Values, read_table
from banagent.config.toml import dotted, is_list, is_table, notation
from banagent.core.filter import (
    ANY,
    MODES,
    PROVENANCES,
    SESSIONS,
    SOURCES,
    Failregex,
    Filter,
    Ignoreregex,
    Sample,
    Sequence,
)
from banagent.core.filter import (
    FORMATS as FORMAT_NAMES,
)
from banagent.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from banagent.config.table import Keys, Problem
    from banagent.config.toml import Document

LONGEST_PATH: Final = 200  # characters of a JSON field's path
_FIELD_NAME: Final = re.compile(r"_[A-Z][A-Z0-9_]{0,62}")
_PIECE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def _piece_name(value: object) -> str:
    if not isinstance(value, str) or not _PIECE_NAME.fullmatch(value):
        raise ValueError("must begin with a letter or _, then at most 63 letters, digits and _")
    if value == "HOST":
        raise ValueError("is taken: <HOST> is an address, in each file")
    return value


def _path(value: object) -> str:
    if not isinstance(value, str) or not all(value.split(".")) or len(value) > LONGEST_PATH:
        raise ValueError("must be names joined by dots, such as request.remote_ip")
    return value


def _field(value: object) -> str:
    if not isinstance(value, str) or not _FIELD_NAME.fullmatch(value):
        raise ValueError("must be a field that journald vouches for: _ and capitals, such as _TRANSPORT")
    return value


def _text(name: str, help: str, *, required: bool = False) -> Key[str]:  # noqa: A002 - a row's own word
    return Key(name=name, default="", check=checks.text, type="text", help=help, required=required)


LINE: Final = _text("line", "a MESSAGE as the service writes it", required=True)
FROM: Final[Key[str | None]] = Key(
    name="from", default=None, check=checks.text, type="text", help="where the line is from, such as a source file"
)
ADDRESS: Final[Key[str | None]] = Key(
    name="address",
    default=None,
    check=checks.address,
    type="an address",
    help="the address that the pattern must find in the line; none if the line has none, or a host name only",
)
USER: Final[Key[str | None]] = Key(
    name="user", default=None, check=checks.any_text, type="text", help="the user name that the pattern must find"
)
COUNT: Final = Key(
    name="count",
    default=1,
    check=checks.number(1, 1_000_000),
    type="a whole number",
    help="how many failures the line tells of",
)
SAMPLES: Final[Key[tuple[Values, ...]]] = Key(
    name="samples",
    default=(),
    type="a list of tables with `line` and `address`",
    help="lines that the pattern must match",
    keys=(LINE, ADDRESS, USER, COUNT, FROM),
    many=True,
)
IGNORED: Final[Key[tuple[Values, ...]]] = Key(
    name="samples",
    default=(),
    type="a list of tables with `line`",
    help="lines that the pattern must match",
    keys=(LINE, FROM),
    many=True,
)
NAME: Final = Key(
    name="name",
    default="",
    check=checks.name,
    type="a name",
    help="what the pattern is called in logs and listings",
    required=True,
)
REGEX: Final = _text("regex", "a regular expression of RE2 with <HOST> where the address is")
JSON: Final = Key(
    name="json",
    default=Values({}),
    check=checks.text,
    type='a table of texts, such as { "request.remote_ip" = "<HOST>", status = "401" }',
    help="for lines that are JSON objects, in place of regex: the fields by path, and what the whole of each must be",
    names=_path,
)
MODE: Final = Key(
    name="mode",
    default="normal",
    check=checks.choice(*MODES),
    type=f"one of {', '.join(MODES)}",
    help="in which modes of a jail the pattern is used",
)
WEIGHT: Final = Key(
    name="weight",
    default=1,
    check=checks.number(1, 100),
    type="a whole number from 1 to 100",
    help="how many failures a match counts for",
)
ONCE: Final = Key(
    name="once",
    default=False,
    check=checks.boolean,
    type="true or false",
    help="however often it matches in a session, it tells of one attempt",
)
FORGEABLE: Final = Key(
    name="forgeable",
    default=False,
    check=checks.boolean,
    type="true or false",
    help="whether a peer can make up the address that is logged",
)
FAILREGEX: Final[Key[tuple[Values, ...]]] = Key(
    name="failregex",
    default=(),
    type="[[failregex]] tables",
    help="the patterns that recognise failures",
    keys=(NAME, REGEX, JSON, MODE, WEIGHT, ONCE, FORGEABLE, SAMPLES),
    many=True,
    least=1,
    required=True,
)
IGNOREREGEX: Final[Key[tuple[Values, ...]]] = Key(
    name="ignoreregex",
    default=(),
    type="[[ignoreregex]] tables",
    help="patterns of lines that are no failures though a failregex matches them",
    keys=(_text("regex", "a regular expression of RE2"), JSON, IGNORED),
    many=True,
)
LINK: Final[Key[tuple[Values, ...]]] = Key(
    name="link",
    default=(),
    type="[[link]] tables",
    help="patterns of lines that are no failures, but tell the address or the user of a session",
    keys=(NAME, REGEX, JSON, SAMPLES),
    many=True,
)
SUCCESS: Final[Key[tuple[Values, ...]]] = Key(
    name="success",
    default=(),
    type="[[success]] tables",
    help="patterns of lines that tell who has logged in, and from where",
    keys=(NAME, REGEX, JSON, SAMPLES),
    many=True,
)
NOMATCH: Final[Key[tuple[Values, ...]]] = Key(
    name="nomatch",
    default=(),
    type="[[nomatch]] tables",
    help="lines that look alike and that no pattern may match",
    keys=(LINE, FROM),
    many=True,
)
LINES: Final = Key(
    name="lines",
    default=(),
    check=checks.texts,
    type="a list of texts",
    help="lines of one session, in the order in which the service writes them",
    required=True,
)
FAILURES: Final = Key(
    name="failures",
    default=1,
    check=checks.number(0, 1_000_000),
    type="a whole number",
    help="how many failed attempts all of the lines tell of",
)
SEQUENCE: Final[Key[tuple[Values, ...]]] = Key(
    name="sequence",
    default=(),
    type="[[sequence]] tables",
    help="sessions of several lines, and what they must count for",
    keys=(LINES, FAILURES, ADDRESS, USER, FROM),
    many=True,
)
DESCRIPTION: Final = _text("description", "the service and what counts as a failure, in a line", required=True)
UNITS: Final[Key[tuple[str, ...]]] = Key(
    name="units",
    default=(),
    check=checks.unit,
    type='a list such as ["ssh.service", "ssh@*.service"]',
    help="the systemd units whose entries are read",
    many=True,
)
UIDS: Final[Key[tuple[int | str, ...]]] = Key(
    name="uids",
    default=(0,),
    check=checks.user,
    type='a list of users by number or name, such as [0] or ["www-data"]',
    help="the users whose entries are believed",
    many=True,
    least=1,
)
IDENTIFIERS: Final[Key[tuple[str, ...]]] = Key(
    name="identifiers",
    default=(),
    check=checks.text,
    type='a list such as ["sshd", "sshd-session"]',
    help="the syslog identifiers that make root's entries count when journald lost their unit",
    many=True,
)
SLICES: Final[Key[tuple[str, ...]]] = Key(
    name="slices",
    default=(),
    check=checks.text,
    type='a list such as ["system-postfix.slice"]',
    help="the systemd slices whose entries are read",
    many=True,
)
CONTAINERS: Final[Key[tuple[str, ...]]] = Key(
    name="containers",
    default=(),
    check=checks.text,
    type='a list such as ["vaultwarden*"]',
    help="the names of containers of docker or podman whose entries are read",
    many=True,
)
FIELDS: Final = Key(
    name="fields",
    default=Values({}),
    check=checks.texts,
    type='a table such as { _TRANSPORT = ["kernel"] }',
    help="further fields that journald vouches for, and their values; all must fit",
    names=_field,
)
FORMATS: Final[Key[tuple[str, ...]]] = Key(
    name="formats",
    default=("syslog",),
    check=checks.choice(*FORMAT_NAMES),
    type=f"a list of {', '.join(FORMAT_NAMES)}",
    help="how the lines of the log files begin",
    many=True,
    least=1,
)
SOURCE: Final = Key(
    name="source",
    default="auto",
    check=checks.choice(*SOURCES),
    choices=SOURCES,
    type=f"one of {', '.join(SOURCES)}",
    help="whether the journal is read or the log files; auto finds out where the service logs",
)
LOGPATH: Final[Key[tuple[str, ...]]] = Key(
    name="logpath",
    default=(),
    check=checks.path,
    type='a list of absolute paths, such as ["/var/log/auth.log"]',
    help="the log files that are read where there is no journal",
    many=True,
)
PORTS: Final[Key[tuple[str | int, ...]]] = Key(
    name="ports",
    default=(),
    check=checks.port_name,
    type=checks.PORTS_ARE,
    help="the service's ports; all unless given",
    many=True,
    least=1,
    words={"all": ()},
)
PROVENANCE: Final = Key(
    name="provenance",
    default="samples",
    check=checks.choice(*PROVENANCES),
    type=f"one of {', '.join(PROVENANCES)}",
    help="what the patterns were checked against",
)
SESSION: Final[Key[str | None]] = Key(
    name="session",
    default=None,
    check=checks.choice(*SESSIONS),
    type=f"one of {', '.join(SESSIONS)}",
    help="lines of one process, or with one (?P<session>…), belong together: an attempt counts once",
)
PIECES: Final = Key(
    name="pieces",
    default=Values({}),
    check=checks.text,
    type="a table of texts",
    help="parts of the patterns, written <NAME> there",
    names=_piece_name,
)
EXTENDS: Final = Key(
    name="extends",
    default="",
    check=checks.name,
    type="a filter's name",
    help="the filter that this file adds to; its own name is the one that it takes the place of",
)
FILE: Final[Keys] = (
    EXTENDS,
    DESCRIPTION,
    UNITS,
    UIDS,
    IDENTIFIERS,
    SLICES,
    CONTAINERS,
    FIELDS,
    LOGPATH,
    FORMATS,
    SOURCE,
    PORTS,
    PROVENANCE,
    FORGEABLE,
    SESSION,
    PIECES,
    FAILREGEX,
    LINK,
    SUCCESS,
    IGNOREREGEX,
    NOMATCH,
    SEQUENCE,
)


# what a file may leave to the one that it extends
_PART: Final = tuple(replace(key, required=False) for key in FILE)
_KINDS: Final = ("failregex", "link", "success", "ignoreregex")


class _Part(NamedTuple):
    """One of the files that make a filter."""

    document: Document
    values: Values
    context: Context  # with those that it extends
    problems: list[Problem]

    def tables(self, kind: str) -> Iterator[Mapping[str, object]]:
        """Give an array of tables as far as it is one; what is no table in it as an empty one, so that indexes hold."""
        array = self.document.data.get(kind)
        for item in array if is_list(array) else ():
            yield item if is_table(item) else {}


def build(name: str, document: Document, bases: Iterable[Document] = (), *, probed: Budget | None = None) -> Filter:
    """Make the filter of a file and of `bases`, those that it extends, the nearest first.

    With `probed` the time of its patterns is measured, within that. Raises ConfigError with all that is wrong.
    """
    parts = _parts((*reversed([*bases]), document), probed=probed)
    values = parts[-1].values
    for part in reversed(parts[:-1]):
        values = values.over(part.values)
    found = _read_patterns(parts)
    own = parts[-1]
    missing = (key for key in FILE if key.required and not _having(parts, key.name))
    own.problems.extend(((), f"{key.name} is missing: {key.help}") for key in missing)
    _find_contradictions(parts, values)
    if mistakes := tuple(mistake for part in parts for mistake in part.document.mistakes(part.problems)):
        raise ConfigError(mistakes)
    return Filter(
        name=name,
        file=document.file,
        description=values[DESCRIPTION],
        units=values[UNITS],
        uids=values[UIDS],
        identifiers=values[IDENTIFIERS],
        slices=values[SLICES],
        containers=values[CONTAINERS],
        fields={field: cast("tuple[str, ...]", item) for field, item in values[FIELDS].items()},
        logpath=values[LOGPATH],
        formats=values[FORMATS],
        source=values[SOURCE],
        ports=values[PORTS],
        provenance=values[PROVENANCE],
        forgeable=values[FORGEABLE],
        session=values[SESSION],
        failregexes=tuple(
            Failregex(
                name=item[NAME],
                regex=pattern.regex,
                json=pattern.json,
                mode=item[MODE],
                weight=item[WEIGHT],
                once=item[ONCE],
                forgeable=item[FORGEABLE],
                samples=_samples(item[SAMPLES]),
            )
            for item, pattern in zip(_all(parts, FAILREGEX), found["failregex"], strict=True)
        ),
        links=_telling(_all(parts, LINK), found["link"]),
        successes=_telling(_all(parts, SUCCESS), found["success"]),
        ignoreregexes=tuple(
            Ignoreregex(regex=pattern.regex, json=pattern.json, samples=_samples(item[IGNORED]))
            for item, pattern in zip(_all(parts, IGNOREREGEX), found["ignoreregex"], strict=True)
        ),
        nomatch=_samples(_all(parts, NOMATCH)),
        sequences=tuple(
            Sequence(
                lines=item[LINES],
                failures=item[FAILURES],
                address=item[ADDRESS],
                user=item[USER],
                source=item[FROM],
            )
            for item in _all(parts, SEQUENCE)
        ),
    )


def build_patterns(
    failregexes: Iterable[str], ignoreregexes: Iterable[str]
) -> tuple[tuple[Failregex, ...], tuple[Ignoreregex, ...]]:
    """Make patterns that stand in no file; the first is called `failregex-1`. Raises ConfigError with all mistakes."""
    mistakes: list[Mistake] = []

    def read(kind: str, regexes: Iterable[str]) -> list[str]:
        found: list[str] = []
        for regex in regexes:
            pattern, problems = patterns.read(kind, {"regex": regex}, Context({}, probed=Budget()))
            told = [text for _, text in problems] if regex else ["must not be empty"]
            mistakes.extend(Mistake("", 0, f"--{kind}", notation(regex), text) for text in told)
            found.append(pattern.regex)
        return found

    failing, ignored = read("failregex", failregexes), read("ignoreregex", ignoreregexes)
    if mistakes:
        raise ConfigError(tuple(mistakes))
    return (
        tuple(Failregex(name=f"failregex-{number}", regex=regex) for number, regex in enumerate(failing, 1)),
        tuple(Ignoreregex(regex=regex) for regex in ignored),
    )


def _parts(documents: Iterable[Document], *, probed: Budget | None) -> list[_Part]:
    """Read files, each of which extends the one before."""
    parts: list[_Part] = []
    context = Context({}, probed=probed)
    for document in documents:
        problems: list[Problem] = []
        values = read_table(document.data, _PART, (), problems)
        pieces = {piece: text for piece, text in values[PIECES].items() if isinstance(text, str)}
        context = Context(
            {**context.pieces, **pieces},
            linked=context.linked or "link" in document.data,
            by_id=document.data.get("session", "id" if context.by_id else None) == "id",
            probed=probed,
        )
        parts.append(_Part(document, values, context, problems))
    return parts


def _all(parts: Iterable[_Part], key: Key[tuple[Values, ...]]) -> tuple[Values, ...]:
    return tuple(item for part in parts for item in part.values[key])


def _having(parts: Iterable[_Part], key: str) -> list[_Part]:
    """Give the files that have a key; the last of them has the last word."""
    return [part for part in parts if key in part.document.data]


# --- patterns ---


def _read_patterns(parts: list[_Part]) -> dict[str, list[Pattern]]:
    """Read the patterns of all files; what is wrong with them is added to the problems of the file that makes it so."""
    found: dict[str, list[Pattern]] = {kind: [] for kind in _KINDS}
    context = parts[-1].context
    broken: dict[tuple[str, ...], list[str]] = {}  # by what broke it: a key's path in the last file that has it
    for part in parts:
        for kind in _KINDS:
            for index, table in enumerate(part.tables(kind)):
                pattern, problems = patterns.read(kind, table, context)
                found[kind].append(pattern)
                if problems and (culprit := _culprit(kind, table, part, context)):
                    broken.setdefault(culprit, []).append(_told(part.document, kind, index, problems[0]))
                else:
                    part.problems.extend(((kind, index, *path), text) for path, text in problems)
    for culprit, texts in broken.items():
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        _having_at(parts, culprit).problems.append((culprit, f"breaks{more} {texts[0]}"))
    return found


def _told(document: Document, kind: str, index: int, problem: Problem) -> str:
    path, text = problem
    at = (kind, index, *path)
    return f"{dotted(at)} of {document.file}, line {document.line(at)}: {text}"


def _culprit(kind: str, table: Mapping[str, object], part: _Part, context: Context) -> tuple[str, ...] | None:
    """Give which key of a file that extends `part` breaks a pattern of it; None: it is wrong by itself."""
    own = part.context
    if context == own or patterns.read(kind, table, own)[1]:
        return None
    changed = [name for name, text in own.pieces.items() if context.pieces[name] != text]
    for name in changed:
        without = context._replace(pieces={**context.pieces, name: own.pieces[name]})
        if not patterns.read(kind, table, without)[1]:
            return "pieces", name
    return ("session",) if context.by_id != own.by_id or not changed else ("pieces", changed[0])


def _having_at(parts: list[_Part], path: tuple[str, ...]) -> _Part:
    """Give the last file that has a key, or one in a table."""
    key, *inner = path
    saying = [part for part in _having(parts, key) if not inner or _names(part.document.data[key], inner[0])]
    return saying[-1]


def _names(table: object, name: str) -> bool:
    return is_table(table) and name in table


# --- what is right alone and wrong together ---


def _find_contradictions(parts: list[_Part], values: Values) -> None:
    own = parts[-1].problems
    if not any(_having(parts, key) for key in ("units", "identifiers", "slices", "containers", "fields", "logpath")):
        own.append(((), "names no source of entries: give units and identifiers, or logpath"))
    ports = _having(parts, "ports")
    if not ports or ports[-1].document.data["ports"] == "all":
        _find_open_ports(parts, values, ports)
    if not _having(parts, "session"):
        _find_sessions(parts)
    if values[FORGEABLE] and (telling := _having(parts, "success")):
        text = "can't be believed where addresses can be made up, as forgeable says: it makes a jail milder"
        telling[-1].problems.append((("success",), text))


def _find_open_ports(parts: list[_Part], values: Values, ports: list[_Part]) -> None:
    """Find who could be cut off from all services."""
    forger = "who can make up an address could else cut it off from all services"
    for key, is_so, why in (
        ("forgeable", values[FORGEABLE], forger),
        ("uids", values[UIDS] != (0,), "who takes over a program that is not root's could else cut off anybody"),
    ):
        if is_so:
            saying = _having(parts, key)[-1]
            if ports and parts.index(ports[-1]) > parts.index(saying):
                ports[-1].problems.append((("ports",), f"must name the service's ports: {why}"))
            else:
                saying.problems.append(((key,), f"needs ports: {why}"))
            return
    for part in parts:
        for index, table in enumerate(part.tables("failregex")):
            if table.get("forgeable") is True:
                part.problems.append((("failregex", index, "forgeable"), f"needs ports: {forger}"))


def _find_sessions(parts: list[_Part]) -> None:
    """Find what has a meaning in sessions only."""
    names: Counter[str] = Counter()
    for part in parts:
        if "link" in part.document.data:
            part.problems.append((("link",), "needs session: what tells that lines belong together"))
        for index, table in enumerate(part.tables("failregex")):
            if table.get("once") is True:
                text = "has no meaning without session at the top of the file"
                part.problems.append((("failregex", index, "once"), text))
            name = table.get("name")
            if isinstance(name, str):
                if names[name]:
                    text = "is taken by another pattern; patterns may share a name only if session is set"
                    part.problems.append((("failregex", index, "name"), text))
                names[name] += 1


def _telling(tables: Iterable[Values], found: Iterable[Pattern]) -> tuple[Failregex, ...]:
    """Give patterns of lines that are no failures."""
    return tuple(
        Failregex(name=item[NAME], regex=pattern.regex, json=pattern.json, mode=ANY, samples=_samples(item[SAMPLES]))
        for item, pattern in zip(tables, found, strict=True)
    )


def _samples(tables: Iterable[Values]) -> tuple[Sample, ...]:
    return tuple(
        Sample(line=item[LINE], address=item[ADDRESS], user=item[USER], count=item[COUNT], source=item[FROM])
        for item in tables
    )
