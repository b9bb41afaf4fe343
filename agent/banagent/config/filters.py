# SPDX-License-Identifier: LGPL-2.1-or-later
"""Filter files: their keys, and what a pattern must be to be let near lines that enemies write."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, cast

from re2 import _re2

from banagent.config import checks
from banagent.config.table import Key, Values, read_table
from banagent.config.toml import is_list, is_table, notation
from banagent.core.filter import (
    FORMATS as FORMAT_NAMES,
)
from banagent.core.filter import (
    MODES,
    PROVENANCES,
    SESSIONS,
    SOURCES,
    Failregex,
    Filter,
    Ignoreregex,
    Sample,
    Sequence,
    expand,
    options,
)
from banagent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from banagent.config.table import Keys, Problem
    from banagent.config.toml import Document, KeyPath

# Of a compiled pattern. An enemy can make RE2 take each step for each byte: on the longest text that is matched, 16 KB,
# 2000 steps took 50 ms. A pattern with three times .{1,256} has 1600.
MAX_STEPS: Final = 2000
MAX_LENGTH: Final = 10_000  # characters of a pattern, pieces in place
LONGEST_PATH: Final = 200  # characters of a JSON field's path
_FIELD_NAME: Final = re.compile(r"_[A-Z][A-Z0-9_]{0,62}")
_PIECE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PIECE: Final = re.compile(r"(?<!\?P)<([A-Za-z_][A-Za-z0-9_]*)>")  # "(?P<user>" is a group
_LOOK_AROUND: Final = ("(?=", "(?!", "(?<=", "(?<!", "(?<")
_GROUPS: Final = {b"address", b"user", b"session", b"count"}
_WHY: Final = "RE2 can't do: its time would not be bounded, and enemies write these lines"


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
FAILREGEX: Final[Key[tuple[Values, ...]]] = Key(
    name="failregex",
    default=(),
    type="[[failregex]] tables",
    help="the patterns that recognise failures",
    keys=(NAME, REGEX, JSON, MODE, WEIGHT, ONCE, SAMPLES),
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
FORGEABLE: Final = Key(
    name="forgeable",
    default=False,
    check=checks.boolean,
    type="true or false",
    help="whether a peer can make up the address that is logged",
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
    help="parts of this file's patterns, written <NAME> there",
    names=_piece_name,
)
FILE: Final[Keys] = (
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
    IGNOREREGEX,
    NOMATCH,
    SEQUENCE,
    Key(name="extends", default=None, since="later", help="the filter whose patterns this one adds to"),
)


def build(name: str, document: Document) -> Filter:
    """Make the filter of a file. Raises ConfigError with all that is wrong in it."""
    problems: list[Problem] = []
    values = read_table(document.data, FILE, (), problems)
    pieces = {piece: text for piece, text in values[PIECES].items() if isinstance(text, str)}
    patterns = _Patterns(pieces, linked="link" in document.data, by_id=document.data.get("session") == "id")
    for kind in _KINDS:
        for index, table in enumerate(_tables(document.data, kind)):
            problems.extend(patterns.read(kind, index, table))
    problems.extend(_contradictions(document.data, values))
    if problems:
        raise ConfigError(document.mistakes(problems))
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
                regex=patterns.regex("failregex", index),
                json=patterns.json("failregex", index),
                mode=item[MODE],
                weight=item[WEIGHT],
                once=item[ONCE],
                samples=_samples(document, item[SAMPLES], ("failregex", index, "samples")),
            )
            for index, item in enumerate(values[FAILREGEX])
        ),
        links=tuple(
            Failregex(
                name=item[NAME],
                regex=patterns.regex("link", index),
                json=patterns.json("link", index),
                samples=_samples(document, item[SAMPLES], ("link", index, "samples")),
            )
            for index, item in enumerate(values[LINK])
        ),
        ignoreregexes=tuple(
            Ignoreregex(
                regex=patterns.regex("ignoreregex", index),
                json=patterns.json("ignoreregex", index),
                samples=_samples(document, item[IGNORED], ("ignoreregex", index, "samples")),
            )
            for index, item in enumerate(values[IGNOREREGEX])
        ),
        nomatch=_samples(document, values[NOMATCH], ("nomatch",)),
        sequences=tuple(
            Sequence(
                lines=item[LINES],
                failures=item[FAILURES],
                address=item[ADDRESS],
                user=item[USER],
                source=item[FROM],
                at=document.line(("sequence", index, "lines")),
            )
            for index, item in enumerate(values[SEQUENCE])
        ),
    )


_KINDS: Final = ("failregex", "link", "ignoreregex")


class _Patterns:
    """The patterns of a file, pieces in place."""

    def __init__(self, pieces: Mapping[str, str], *, linked: bool, by_id: bool) -> None:
        self._pieces = pieces
        self._linked = linked  # another line of the session may tell the address
        self._by_id = by_id  # what tells that lines are of one session is captured
        self._regexes: dict[tuple[str, int], str] = {}
        self._json: dict[tuple[str, int], dict[str, str]] = {}

    def regex(self, kind: str, index: int) -> str:
        """Give the pattern of a table; empty if it is about JSON."""
        return self._regexes.get((kind, index), "")

    def json(self, kind: str, index: int) -> dict[str, str]:
        """Give the patterns of a table that is about JSON, by path."""
        return self._json.get((kind, index), {})

    def read(self, kind: str, index: int, table: Mapping[str, object]) -> Iterator[Problem]:
        """Take in a [[failregex]], [[link]] or [[ignoreregex]]; give what is wrong with its patterns."""
        regex, rules = table.get("regex"), table.get("json")
        if (regex is None) == (rules is None):
            yield (kind, index), "needs either regex or json"
            return
        if isinstance(regex, str) and regex:
            try:
                text = self._regexes[kind, index] = whole(regex, self._pieces)
                self._check_groups(kind, [_groups(text)])
            except ValueError as error:
                yield (kind, index, "regex"), str(error)
        if is_table(rules) and not rules:
            yield (kind, index, "json"), "must not be empty: it would match each object"
        elif is_table(rules):
            found = self._json[kind, index] = {}
            for path, part in rules.items():
                try:
                    if isinstance(part, str) and part:
                        found[path] = whole(part, self._pieces, line=False)
                except ValueError as error:
                    yield (kind, index, "json", path), str(error)
            try:
                self._check_groups(kind, [_groups(part) for part in found.values()])
            except ValueError as error:
                yield (kind, index, "json"), str(error)

    def _check_groups(self, kind: str, parts: list[list[str]]) -> None:
        """Check what a pattern, or the parts of one, capture. Raises ValueError."""
        names = [name for part in parts for name in part]
        if kind == "failregex" and "address" not in names and not self._linked:
            raise ValueError("has no <HOST>, so it can't tell whom to ban, and no [[link]] tells it either")
        needs_id = self._by_id and (kind == "link" or (kind == "failregex" and "address" not in names))
        if needs_id and "session" not in names:
            raise ValueError('has no (?P<session>…), which tells its session, as the file says session = "id"')
        if kind == "link" and not {"address", "user"} & set(names):
            raise ValueError("has neither <HOST> nor (?P<user>…): it links nothing")
        if len(names) > len(set(names)):
            raise ValueError("captures the same twice: <HOST> and each group may stand once")


def _groups(text: str) -> list[str]:
    """Give the names of what a pattern captures."""
    return [name.decode() for name, _ in _re2.RE2(text.encode(), options()).NamedCapturingGroups()]


def whole(regex: str, pieces: Mapping[str, str], *, line: bool = True) -> str:
    """Put the pieces into a pattern and check it.

    The pattern of a line can then match at its beginning only, whatever stands behind its ^; without `line` it is one
    of a JSON field, which is matched whole. Raises ValueError.
    """
    if _length(regex, pieces) > MAX_LENGTH:
        raise ValueError(
            f"is longer than {MAX_LENGTH} characters with its pieces in place, or they contain one another"
        )
    text = expand(regex, pieces)
    if line and not text.startswith("^"):
        raise ValueError("must begin with ^ (flags come behind it): else an enemy can place a failure in his own text")
    pattern = _compile(text, regex)
    if line and ("|" in text or text[1:2] in {"*", "?", "+", "{"}):  # ^a|b and ^?a can match in the middle
        text = f"^(?:{text[1:]})"
        pattern = _compile(text, regex)
    names = {name for name, _ in pattern.NamedCapturingGroups()}
    if unknown := sorted(name.decode() for name in names - _GROUPS):
        raise ValueError(
            f"captures {', '.join(unknown)}; only address (in <HOST>), user, session and count are: write (?:…) instead"
        )
    if pattern.NumberOfCapturingGroups() > len(names):
        raise ValueError("captures more than it names: <HOST> may stand once; write (?:…) for groups")
    if pattern.ProgramSize() > MAX_STEPS:
        raise ValueError(
            f"compiles to {pattern.ProgramSize()} steps, and an enemy can make each byte of a line take them all; "
            f"at most {MAX_STEPS} are allowed: shorten repeats such as {{1,256}}"
        )
    return text


def _compile(text: str, regex: str) -> _re2.RE2:
    pattern = _re2.RE2(text.encode(), options())
    if pattern.ok():
        return pattern
    error = pattern.error().decode(errors="backslashreplace")
    what, _, part = error.partition(": ")
    if part in _LOOK_AROUND:
        raise ValueError(f"has {part}…), look-around, which {_WHY}")
    if part == "(?P" or re.fullmatch(r"\\[1-9]", part):
        raise ValueError(f"refers back to a group, which {_WHY}")
    place = f" at character {regex.index(part) + 1}" if part != regex and regex.count(part) == 1 else ""
    raise ValueError(f"RE2 refuses it{place}: {what}: {notation(part)}" if part else f"RE2 refuses it: {what}")


def _length(regex: str, pieces: Mapping[str, str]) -> int:
    """Tell how long a pattern becomes without making it: few short pieces within one another can fill the memory."""
    length, here = len(regex), Counter(_PIECE.findall(regex))
    for _ in range(8):
        inner: Counter[str] = Counter()
        for name, count in here.items():
            text = pieces.get(name, "")
            length += count * len(text)
            for inside, times in Counter(_PIECE.findall(text)).items():
                inner[inside] += count * times
        here = inner
    return length


def _contradictions(data: Mapping[str, object], values: Values) -> Iterator[Problem]:
    """Find keys that are right alone and wrong together."""
    if not {"units", "identifiers", "slices", "containers", "fields", "logpath"} & data.keys():
        yield (), "names no source of entries: give units and identifiers, or logpath"
    if data.get("ports", "all") == "all":
        if values[FORGEABLE]:
            yield ("forgeable",), "needs ports: who can make up an address could else cut it off from all services"
        elif values[UIDS] != (0,):
            yield ("uids",), "needs ports: who takes over a program that is not root's could else cut off anybody"
    if "session" not in data:
        yield from _without_session(data)


def _without_session(data: Mapping[str, object]) -> Iterator[Problem]:
    if "link" in data:
        yield ("link",), "needs session: what tells that lines belong together"
    names: set[str] = set()
    for index, table in enumerate(_tables(data, "failregex")):
        if table.get("once") is True:
            yield ("failregex", index, "once"), "has no meaning without session at the top of the file"
        name = table.get("name")
        if isinstance(name, str) and name in names:
            yield (
                ("failregex", index, "name"),
                "is taken by another pattern; patterns may share a name only if session is set",
            )
        elif isinstance(name, str):
            names.add(name)


def _tables(data: Mapping[str, object], kind: str) -> Iterator[Mapping[str, object]]:
    """Give an array of tables as far as it is one; what is no table in it as an empty one, so that indexes hold."""
    array = data.get(kind)
    for item in array if is_list(array) else ():
        yield item if is_table(item) else {}


def _samples(document: Document, tables: tuple[Values, ...], path: KeyPath) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            line=item[LINE],
            address=item[ADDRESS],
            user=item[USER],
            count=item[COUNT],
            source=item[FROM],
            at=document.line((*path, index, "line")),
        )
        for index, item in enumerate(tables)
    )
