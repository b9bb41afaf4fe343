# SPDX-License-Identifier: LGPL-2.1-or-later
"""Patterns taken apart, and rewrites that mean the same: Python's `re`, which has look-around, is the judge."""

from __future__ import annotations

import re
from itertools import product

import pytest

from banagent.config.regex import excluded, look_around, parts, without_look_around

NONE: list[str] = []
TEXTS = ["".join(letters) for length in range(6) for letters in product("ab 1", repeat=length)]


@pytest.mark.parametrize(
    ("regex", "atoms"),
    [
        ("", [NONE]),
        ("^a.b$", [["^", "a", ".", "b", "$"]]),
        (r"\d+\.x{2,3}?y{a}", [[r"\d+", r"\.", "x{2,3}?", "y", "{", "a", "}"]]),
        (r"[]a\]b]*[[:alpha:]|(]|(?:a|b)?", [[r"[]a\]b]*", "[[:alpha:]|(]"], ["(?:a|b)?"]]),
        (r"\Qa|b(\E\x{41}\pN\p{Greek}", [[r"\Qa|b(\E", r"\x{41}", r"\pN", r"\p{Greek}"]]),
        ("(?P<user>[^)]*)(?i)(?i:x)<HOST>", [["(?P<user>[^)]*)", "(?i)", "(?i:x)", "<HOST>"]]),
        (
            "(?=a)(?!b)(?<=c)(?<!d)(?>e)(?P=f)(?#g)",
            [["(?=a)", "(?!b)", "(?<=c)", "(?<!d)", "(?>e)", "(?P=f)", "(?#g)"]],
        ),
    ],
)
def test_parts(regex: str, atoms: list[list[str]]) -> None:
    found = parts(regex)
    assert [[atom.text for atom in way] for way in found] == atoms
    assert all(regex.startswith(atom.text, atom.at) for way in found for atom in way)


@pytest.mark.parametrize("regex", ["(", ")", "a)", "(?:", "[", "(a|(b)", "(" * 5000])
def test_what_is_broken(regex: str) -> None:
    with pytest.raises(ValueError, match=r"^(?:has|is) "):
        parts(regex)
    assert look_around(regex) is None
    assert without_look_around(regex) is None
    assert excluded(regex) is None


@pytest.mark.parametrize(
    ("regex", "rewritten"),
    [
        ("^a(?=b)", "^ab"),
        ("^a(?=b|1+)", "^a(?:b|1+)"),
        ("^a*(?=$)", "^a*$"),
        ("^a(?=$)b*", "^a$b*"),
        ("^a(?!b)", "^a(?:[^b]|$)"),
        (r"^.*(?!\d)", r"^.*(?:\D|$)"),
        (r"^[ab]*(?!\s)", r"^[ab]*(?:\S|$)"),
        ("^a(?![ab])", "^a(?:[^ab]|$)"),
        ("^a(?![^ab])", "^a(?:[ab]|$)"),
        ("^a(?![1 ]+)", "^a(?:[^1 ]|$)"),
        ("^[ab]+(?!$)", "^[ab]+."),
        ("^[ab]+(?!.)", "^[ab]+$"),
        ("^(?<!x)a", "^a"),
        ("^.*(?<=b)1", "^.*b1"),
        (r"^.+(?<=\s)a", r"^.*\sa"),
    ],
)
def test_rewrites_mean_the_same(regex: str, rewritten: str) -> None:
    assert without_look_around(regex) == rewritten
    one, other = (re.compile(pattern.replace("$", r"\Z"), re.DOTALL) for pattern in (regex, rewritten))
    assert [text for text in TEXTS if bool(one.match(text)) != bool(other.match(text))] == []
    assert any(map(one.match, TEXTS))


@pytest.mark.parametrize(
    "regex",
    [
        "^ab",  # there is none
        "^a(?=b)c",  # more follows
        "^a(?!bc)",  # more than one character
        "^a(?!b|c)",
        "^a(?!b)c",
        "^a|b(?=c)",  # alternatives
        "^(?:a(?=b))",  # in a group
        "^a(?=b)(?=b)",  # several
        "^a(?=(b))",  # a group that would capture
        "^(?<=a)b",
        "^a(?<=a)b",
        "^.*(?<=ab)c",
        "^a(?<!a)b",
    ],
)
def test_no_rewrite_is_better_than_a_wrong_one(regex: str) -> None:
    assert without_look_around(regex) is None


@pytest.mark.parametrize(
    ("regex", "found"),
    [
        ("^a(?!b)c", "^ab"),
        ("^(?!a|b)c", "^(?:a|b)"),
        ("^a.(?!b)c", "^a.b"),
        ("^a+(?!b)c", None),  # it could go on elsewhere
        ("^(?:a|ab)(?!b)c", None),
        ("^ab", None),
    ],
)
def test_what_is_excluded(regex: str, found: str | None) -> None:
    assert excluded(regex) == found
    if found is not None:
        excluding = re.compile(found, re.DOTALL)
        rest = re.compile(re.sub(r"\(\?!.*?\)", "", regex), re.DOTALL)
        whole = re.compile(regex, re.DOTALL)
        for text in TEXTS:
            assert bool(whole.match(text)) == bool(rest.match(text) and not excluding.match(text))
