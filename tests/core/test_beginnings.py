# SPDX-License-Identifier: LGPL-2.1-or-later
"""How lines begin that patterns match: no match is ever missed, and most other lines need no look."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from re2 import _re2

from banagent import config
from banagent.core.beginnings import beginnings
from banagent.core.filter import Failregex, Ignoreregex, options

REGEXES = (
    *(
        r"^Failed (?:password|none) for",
        r"^(?:error: )?Received",
        r"^(?:a|bc)?d",
        r"^(?:a|b)??c",
        r"^(?:ab)?",
        r"^(?:a)?|b",
    ),
    *(
        r"^a|b",
        r"^[|]a",
        r"^\|a",
        r"^(?:a|b)",
        r"^(?:a|b)|c",
        r"^[]|]b",
        r"^[^]|]b",
        r"^[[:alpha:]|]b",
        r"^\Q(\E|b",
        r"^a\Q|\E",
    ),
    *(
        r"a",
        r"^",
        r"^$",
        r"^a?",
        r"^ba?",
        r"^a*b",
        r"^.a",
        r"^\Ba",
        r"^\ba",
        r"^a|^b",
        r"^*b",
        r"^+b",
        r"^{0}b",
        r"^^b",
        r"^(?i)?b",
        r"^(?s){0,2}b",
        r"^\Q\E*b",
    ),
    # what RE2 says of their matches is not true
    *(
        r"^ +\b",
        r"^a+\B",
        r"^(?:ab)?:*\b",
        r"^a\b(?:.|Q)",
        r"^\b{1,2}b",
        r"^a?\b1",
        r"^[\|]\b",
    ),
    *(
        r"^\xffa",
        r"^[\xfe\xff]",
        r"^\xff\xff",
        r"(?i)^ab",
        r"^(?i)ab",
        r"^(?i:ab)",
        r"^(?m)a",
        r"(?m)^a",
        r"^a$",
        r"^\z",
        r"^\za",
    ),
    *(r"^(?:a(?:b|c)|d)e", r"^(?:a\)|b)c|d", r"^[a-c][x-z]", r"^\d{2,3}:", r"^(?:\d|a)?b", r"^(a|b)c", r"^(?P<x>a)|b"),
)


@pytest.mark.parametrize("regex", REGEXES)
@given(st.text("abcd|()Qe:1\n", max_size=4).map(str.encode) | st.binary(max_size=3))
def test_no_match_is_missed(regex: str, text: bytes) -> None:
    pattern = _re2.RE2(regex.encode(), options())
    found = beginnings([regex])
    if pattern.Match(_re2.RE2.Anchor.UNANCHORED, text, 0, len(text))[0][0] >= 0:
        assert found is None or text[:2] in found


@pytest.mark.parametrize(
    ("regex", "text"),
    [
        (r"^Failed (?:password|none) for", b"Fb"),
        (r"^(?:error: )?Received", b"Se"),
        (r"^(?:a|b)c", b"da"),
        (r"^\|a", b"ab"),
    ],
)
def test_others_are_told_apart(regex: str, text: bytes) -> None:
    found = beginnings([regex])
    assert found is not None
    assert text not in found


def test_samples_of_shipped_filters() -> None:
    filters, mistakes = config.read_filters(config.filter_files(root=Path("/nonexistent")))
    assert not mistakes
    for item in filters.values():
        patterns: list[Failregex | Ignoreregex] = [*item.failregexes, *item.links, *item.successes, *item.ignoreregexes]
        for pattern in patterns:
            found = beginnings([pattern.regex]) if pattern.regex else None
            for sample in pattern.samples:
                if found is not None and not sample.line.startswith("message repeated "):
                    assert sample.line.encode()[:2] in found, sample.line


def test_where_nearly_all_lines_would_need_a_look_nothing_is_known() -> None:
    assert beginnings([r"^a", r"b"]) is None
    assert beginnings([r"^a", r"^[\x20-\x7e]"]) is None
