# SPDX-License-Identifier: LGPL-2.1-or-later
"""Filter files: their keys, and what a pattern must be to be let near lines that enemies write."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from re2 import _re2

from banagent.config import checks
from banagent.config.table import Key, Values, read_table
from banagent.config.toml import is_list, is_table, notation
from banagent.core.filter import MODES, PROVENANCES, SESSIONS, Failregex, Filter, Ignoreregex, Sample, expand, options
from banagent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from banagent.config.table import Keys, Problem
    from banagent.config.toml import Document, KeyPath

# Of a compiled pattern. An enemy can make RE2 take each step for each byte: on the longest text that is matched, 16 KB,
# 2000 steps took 50 ms. A pattern with three times .{1,256} has 1600.
MAX_STEPS: Final = 2000
MAX_LENGTH: Final = 10_000  # characters of a pattern, pieces in place
_PIECE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PIECE: Final = re.compile(r"(?<!\?P)<([A-Za-z_][A-Za-z0-9_]*)>")  # "(?P<user>" is a group
_LOOK_AROUND: Final = ("(?=", "(?!", "(?<=", "(?<!", "(?<")
_GROUPS: Final = {b"address", b"user"}
_WHY: Final = "RE2 can't do: its time would not be bounded, and enemies write these lines"


def _piece_name(value: object) -> str:
    if not isinstance(value, str) or not _PIECE_NAME.fullmatch(value):
        raise ValueError("must begin with a letter or _, then at most 63 letters, digits and _")
    if value == "HOST":
        raise ValueError("is taken: <HOST> is an address, in each file")
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
    help="the address that the pattern must find in the line",
    required=True,
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
REGEX: Final = _text("regex", "a regular expression of RE2 with <HOST> where the address is", required=True)
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
    keys=(NAME, REGEX, MODE, WEIGHT, ONCE, SAMPLES),
    many=True,
    least=1,
    required=True,
)
IGNOREREGEX: Final[Key[tuple[Values, ...]]] = Key(
    name="ignoreregex",
    default=(),
    type="[[ignoreregex]] tables",
    help="patterns of lines that are no failures though a failregex matches them",
    keys=(_text("regex", "a regular expression of RE2", required=True), IGNORED),
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
DESCRIPTION: Final = _text("description", "the service and what counts as a failure, in a line", required=True)
UNITS: Final[Key[tuple[str, ...]]] = Key(
    name="units",
    default=(),
    check=checks.unit,
    type='a list such as ["ssh.service", "ssh@*.service"]',
    help="the systemd units whose entries are read",
    many=True,
)
UIDS: Final[Key[tuple[int, ...]]] = Key(
    name="uids",
    default=(0,),
    check=checks.number(0, 2**32 - 2),
    type="a list of user numbers, such as [0]",
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
    type='"pid"',
    help="lines of one process about one address tell of one session, whose attempts count once",
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
    LOGPATH,
    PORTS,
    PROVENANCE,
    FORGEABLE,
    SESSION,
    PIECES,
    FAILREGEX,
    IGNOREREGEX,
    NOMATCH,
    Key(name="extends", default=None, since="later", help="the filter whose patterns this one adds to"),
)


def build(name: str, document: Document) -> Filter:
    """Make the filter of a file. Raises ConfigError with all that is wrong in it."""
    problems: list[Problem] = []
    values = read_table(document.data, FILE, (), problems)
    pieces = {piece: text for piece, text in values[PIECES].items() if isinstance(text, str)}
    patterns: dict[KeyPath, str] = {}
    for kind in ("failregex", "ignoreregex"):
        for path, regex in _written(document.data, kind):
            try:
                patterns[path] = whole(regex, pieces, host=kind == "failregex")
            except ValueError as error:
                problems.append((path, str(error)))
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
        logpath=values[LOGPATH],
        ports=values[PORTS],
        provenance=values[PROVENANCE],
        forgeable=values[FORGEABLE],
        session=values[SESSION],
        failregexes=tuple(
            Failregex(
                name=item[NAME],
                regex=patterns["failregex", index, "regex"],
                mode=item[MODE],
                weight=item[WEIGHT],
                once=item[ONCE],
                samples=_samples(document, item[SAMPLES], ("failregex", index, "samples")),
            )
            for index, item in enumerate(values[FAILREGEX])
        ),
        ignoreregexes=tuple(
            Ignoreregex(
                regex=patterns["ignoreregex", index, "regex"],
                samples=_samples(document, item[IGNORED], ("ignoreregex", index, "samples")),
            )
            for index, item in enumerate(values[IGNOREREGEX])
        ),
        nomatch=_samples(document, values[NOMATCH], ("nomatch",)),
    )


def whole(regex: str, pieces: Mapping[str, str], *, host: bool) -> str:
    """Put the pieces into a pattern and check it; with `host` it must find an address.

    The result can match at the beginning of a line only, whatever stands behind its ^. Raises ValueError.
    """
    if _length(regex, pieces) > MAX_LENGTH:
        raise ValueError(
            f"is longer than {MAX_LENGTH} characters with its pieces in place, or they contain one another"
        )
    text = expand(regex, pieces)
    if not text.startswith("^"):
        raise ValueError("must begin with ^ (flags come behind it): else an enemy can place a failure in his own text")
    pattern = _compile(text, regex)
    if "|" in text or text[1:2] in {"*", "?", "+", "{"}:  # ^a|b and ^?a can match in the middle
        text = f"^(?:{text[1:]})"
        pattern = _compile(text, regex)
    names = {name for name, _ in pattern.NamedCapturingGroups()}
    if host and b"address" not in names:
        raise ValueError("has no <HOST>, so it can't tell whom to ban")
    if unknown := sorted(name.decode() for name in names - _GROUPS):
        raise ValueError(f"captures {', '.join(unknown)}; only address (in <HOST>) and user are: write (?:…) instead")
    if pattern.NumberOfCapturingGroups() > len(names):
        raise ValueError("captures more than one address and one user: <HOST> may stand once; write (?:…) for groups")
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


def _written(data: Mapping[str, object], kind: str) -> Iterator[tuple[KeyPath, str]]:
    """Give the patterns of a kind as far as they are text."""
    for index, table in enumerate(_tables(data, kind)):
        regex = table.get("regex")
        if isinstance(regex, str) and regex:
            yield (kind, index, "regex"), regex


def _contradictions(data: Mapping[str, object], values: Values) -> Iterator[Problem]:
    """Find keys that are right alone and wrong together."""
    if not {"units", "identifiers", "logpath"} & data.keys():
        yield (), "names no source of entries: give units and identifiers, or logpath"
    if values[FORGEABLE] and data.get("ports", "all") == "all":
        yield ("forgeable",), "needs ports: who can make up an address could else cut it off from all services"
    if "session" in data:
        return
    names: set[str] = set()
    for index, table in enumerate(_tables(data, "failregex")):
        if table.get("once") is True:
            yield ("failregex", index, "once"), 'has no meaning without session = "pid" at the top of the file'
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
