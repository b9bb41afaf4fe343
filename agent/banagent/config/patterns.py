# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a pattern must be to be let near lines that enemies write."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from re2 import _re2

from banagent.config import porting, probe
from banagent.config import regex as regexes
from banagent.config.toml import is_list, is_table, notation, printable
from banagent.core.beginnings import ANCHOR
from banagent.core.filter import HOST, PIECE, expand, options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from banagent.config.table import Problem

# Of a compiled pattern. An enemy can make RE2 take each step for each byte: on the longest text that is matched, 16 KB,
# 2000 steps took 50 ms, and up to a second where most bytes lead to a new state (see probe). A pattern with three times
# .{1,256} has 1600.
MAX_STEPS: Final = 2000
MAX_LENGTH: Final = 10_000  # characters of a pattern, pieces in place
_LOOK_AROUND: Final = (*regexes.LOOK_AROUND, "(?<")
_GROUPS: Final = {"address", "user", "session", "count"}
# for what holds no bracket of a group: an escape, or a class
_ATOM: Final = re.compile(r"\\.|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]", re.DOTALL)
_INNERMOST: Final = re.compile(r"\([^()]*\)")
# what Python's patterns have, by how RE2's complaint ends
_HINTS: Final = {
    r"\Z": r"write \z, or $",
    "*+": "write *",
    "++": "write +",
    "?+": "write ?",
    "(?>": "write (?:",
    "(?#": "leave the comment out",
    "(?x": "write it without blanks and comments",
}
_WHY: Final = "RE2 can't do: its time would not be bounded, and enemies write these lines"


class Context(NamedTuple):
    """What the meaning of a pattern depends on, beside itself."""

    pieces: Mapping[str, str]
    linked: bool = False  # another line of the session may tell the address
    by_id: bool = False  # what tells that lines are of one session is captured
    probed: probe.Budget | None = None  # its time is measured, as nobody else has done that before


class Pattern(NamedTuple):
    """A pattern with its pieces in place: of a line, or of the fields of an object of JSON by path."""

    regex: str
    json: Mapping[str, str]


class Whole(NamedTuple):
    """A pattern with its pieces in place, what it captures, and the steps of its program."""

    text: str
    groups: tuple[str, ...]
    steps: int


def read(kind: str, table: Mapping[str, object], context: Context) -> tuple[Pattern, list[Problem]]:
    """Read what a [[failregex]], [[link]], [[success]] or [[ignoreregex]] matches; give what is wrong with it, too."""
    regex, rules = table.get("regex"), table.get("json")
    if (regex is None) == (rules is None):
        return Pattern("", {}), [((), "needs either regex or json")]
    problems: list[Problem] = []
    if is_table(rules):
        return Pattern("", _read_json(kind, rules, table, context, problems)), problems
    text = ""
    if isinstance(regex, str) and regex:
        try:
            found = whole(regex, context.pieces)
            text = found.text
            _check_groups(kind, found.groups, context)
            _check_time(found, table, context)
        except ValueError as error:
            problems.append((("regex",), str(error)))
    return Pattern(text, {}), problems


def _read_json(
    kind: str, rules: Mapping[str, object], table: Mapping[str, object], context: Context, problems: list[Problem]
) -> dict[str, str]:
    if not rules:
        problems.append((("json",), "must not be empty: it would match each object"))
        return {}
    found: dict[str, str] = {}
    groups: list[str] = []
    for path, regex in rules.items():
        try:
            if isinstance(regex, str) and regex:
                part = whole(regex, context.pieces, line=False)
                found[path] = part.text
                groups += part.groups
                _check_time(part, table, context, field=True)
        except ValueError as error:
            problems.append((("json", path), str(error)))
    try:
        _check_groups(kind, groups, context)
    except ValueError as error:
        problems.append((("json",), str(error)))
    return found


def _check_groups(kind: str, names: tuple[str, ...] | list[str], context: Context) -> None:
    """Check what a pattern, or the parts of one, capture. Raises ValueError."""
    if kind == "failregex" and "address" not in names and not context.linked:
        raise ValueError("has no <HOST>, so it can't tell whom to ban, and no [[link]] tells it either")
    needs_id = context.by_id and (kind == "link" or (kind == "failregex" and "address" not in names))
    if needs_id and "session" not in names:
        raise ValueError('has no (?P<session>…), which tells its session, as the file says session = "id"')
    if kind == "link" and not {"address", "user"} & set(names):
        raise ValueError("has neither <HOST> nor (?P<user>…): it links nothing")
    if kind == "success" and not {"address", "user"} <= set(names):
        raise ValueError("needs both <HOST> and (?P<user>…): who logged in, and from where")
    if len(names) > len(set(names)):
        raise ValueError("captures the same twice: <HOST> and each group may stand once")


def _check_time(found: Whole, table: Mapping[str, object], context: Context, *, field: bool = False) -> None:
    """Check how long a pattern takes for a line. Raises ValueError."""
    if context.probed is None or found.steps <= probe.FEW or context.probed.is_used_up:
        return
    taken = probe.too_slow(found.text, tuple(_sample_lines(table)), field=field)
    if taken is not None:
        raise ValueError(
            f"takes {taken:.0f} ms for a line of 16 KB that an enemy could write; at most {probe.LIMIT} are allowed: "
            "make it shorter, with fewer repeats such as {1,256} and .*"
        )


def _sample_lines(table: Mapping[str, object]) -> Iterator[str]:
    samples = table.get("samples")
    for sample in samples if is_list(samples) else ():
        line = sample.get("line") if is_table(sample) else None
        if isinstance(line, str):
            yield line


def whole(regex: str, pieces: Mapping[str, str], *, line: bool = True) -> Whole:
    """Put the pieces into a pattern and check it.

    The pattern of a line can then match at its beginning only, whatever stands behind its ^; without `line` it is one
    of a JSON field, which is matched whole. Raises ValueError.
    """
    if _length(regex, pieces) > MAX_LENGTH:
        raise ValueError(
            f"is longer than {MAX_LENGTH} characters with its pieces in place, or they contain one another"
        )
    try:
        text = expand(regex, pieces)
    except ValueError:
        _refuse_tags(_parts(regex, pieces), pieces)
        raise
    _refuse_tags([text], pieces)
    if line and not text.startswith("^"):
        raise ValueError("must begin with ^ (flags come behind it): else an enemy can place a failure in his own text")
    pattern = _compile(text, regex)
    if line and (_may_have_alternatives(text) or not ANCHOR.match(text)):
        text = f"^(?:{text[1:]})"  # ^a|b and ^?a can match in the middle
        pattern = _compile(text, regex)
    groups = tuple(name.decode() for name, _ in pattern.NamedCapturingGroups())
    if unknown := sorted({*groups} - _GROUPS):
        raise ValueError(
            f"captures {', '.join(unknown)}; only address (in <HOST>), user, session and count are: write (?:…) instead"
        )
    if pattern.NumberOfCapturingGroups() > len(groups):
        raise ValueError("captures more than it names: <HOST> may stand once; write (?:…) for groups")
    steps = pattern.ProgramSize()
    if steps > MAX_STEPS:
        raise ValueError(
            f"compiles to {steps} steps, and an enemy can make each byte of a line take them all; "
            f"at most {MAX_STEPS} are allowed: shorten repeats such as {{1,256}}"
        )
    return Whole(text, groups, steps)


def _parts(regex: str, pieces: Mapping[str, str]) -> list[str]:
    """Give a pattern and the pieces in it, and in these, each once."""
    texts = [regex]
    for text in texts:  # which grows
        inner = (pieces[name] for name in PIECE.findall(text) if name in pieces)
        texts += dict.fromkeys(part for part in inner if part not in texts)
    return texts


def _refuse_tags(texts: Iterable[str], pieces: Mapping[str, str]) -> None:
    """Refuse what fail2ban would put something in place of; here it is text, which matches nothing."""
    for text in texts:
        if said := porting.tag(text, pieces):
            raise ValueError(said)


def _may_have_alternatives(text: str) -> bool:
    r"""Whether a pattern that RE2 takes may have a | outside of all brackets; what \Q quotes is not looked into."""
    if "|" not in text or r"\Q" in text:
        return "|" in text
    rest, found = _ATOM.sub("", text), 1
    while found:
        rest, found = _INNERMOST.subn("", rest)
    return "|" in rest


def _compile(text: str, regex: str) -> _re2.RE2:
    pattern = _re2.RE2(text.encode(), options())
    if pattern.ok():
        return pattern
    error = pattern.error().decode(errors="backslashreplace")
    what, _, part = error.partition(": ")
    if part in _LOOK_AROUND:
        raise ValueError(_looks_around(regex, part))
    if part == "(?P" or re.fullmatch(r"\\[1-9]", part):
        raise ValueError(f"refers back to a group, which {_WHY}")
    place = f" at character {regex.index(part) + 1}" if part != regex and regex.count(part) == 1 else ""
    hint = next((f"; {hint}" for known, hint in _HINTS.items() if part.endswith(known)), "")
    typed = notation(part.replace(HOST, "<HOST>"))
    raise ValueError(f"RE2 refuses it{place}: {what}: {typed}{hint}" if part else f"RE2 refuses it: {what}")


def _looks_around(regex: str, part: str) -> str:
    """Say so, with the place and with what says the same without, as far as they are known."""
    found = regexes.look_around(regex)
    if found is None:  # it is in a piece
        return f"has {part}…), look-around, which {_WHY}"
    text = f"has {found.opening}…) at character {found.at + 1}, look-around, which {_WHY}"
    if (same := regexes.without_look_around(regex)) is not None:
        return f"{text}; the same without it: {_whole_notation(same)}"
    if found.opening == "(?!" and (other := regexes.excluded(regex)) is not None:
        return f"{text}; leave it out, and add an ignoreregex for what it excludes: {_whole_notation(other)}"
    return text


def _whole_notation(regex: str) -> str:
    """Write a pattern in TOML, however long it is: it is to be copied."""
    return f"'{printable(regex)}'" if "'" not in regex else notation(regex)


def _length(regex: str, pieces: Mapping[str, str]) -> int:
    """Tell how long a pattern becomes without making it: few short pieces within one another can fill the memory."""
    length, here = len(regex), Counter(PIECE.findall(regex))
    for _ in range(8):
        inner: Counter[str] = Counter()
        for name, count in here.items():
            text = pieces.get(name, "")
            length += count * len(text)
            for inside, times in Counter(PIECE.findall(text)).items():
                inner[inside] += count * times
        here = inner
    return length
