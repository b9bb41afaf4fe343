# SPDX-License-Identifier: LGPL-2.1-or-later
"""However a pattern is written, it matches at the beginning of a line or nowhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from re2 import _re2

from banagent.config.patterns import whole
from banagent.core.filter import options

PARTS = [
    *("a", "b", "|", "(?:", ")", "[", "]", "[^", "^", "$", "*", "?", "{2}", "-", ":", "\\"),
    *(r"\|", r"\(", r"\[", r"\Q", r"\E", "(?m)", "(?i)", "[[:alpha:]]", "[]|]", "[^]|]", "[(]", "(?P<user>", r"\x28"),
]


@given(st.lists(st.sampled_from(PARTS), max_size=10).map("".join), st.text("ab|()[]:^\n-", max_size=12))
def test_it_matches_nothing_behind_the_beginning(regex: str, text: str) -> None:
    try:
        found = whole(f"^{regex}", {})
    except ValueError:
        return
    line = text.encode()
    spans = _re2.RE2(found.text.encode(), options()).Match(_re2.RE2.Anchor.UNANCHORED, line, 0, len(line))
    assert spans[0][0] <= 0
