# SPDX-License-Identifier: LGPL-2.1-or-later
"""The time of patterns is measured on the worst lines: those of admins, for the package's own have been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from banagent.config.filters import build_patterns
from banagent.config.patterns import MAX_STEPS, whole
from banagent.config.probe import FEW, LIMIT, too_slow
from banagent.errors import ConfigError

if TYPE_CHECKING:
    from config.tree import Tree

# small enough, and yet most bytes of some lines lead to states that were not there before
SLOW = [
    r"^(?:[ab]*a[ab]{900}) <HOST>$",
    r"^(?:.*a.{1,900}) <HOST>$",
    r"^(?:.*[ab].{200}|.*[bc].{220}|.*[cd].{240}|.*[ad].{260})<HOST>",
    r"^(?:.{1,60}x|.{1,70}y|.{1,80}z|.{1,90}w)*<HOST>$",
    r"^login (?:of .*[ab].{300}|from .*[cd].{300}) by <HOST>$",
]
QUICK = [
    r"^.{1,256}a.{1,256}<HOST>$",
    r"^Failed for (?P<user>.{1,256}) from <HOST> port \d+$",
    r"^(?:\S+ ){1,100}<HOST>$",
    r"^\[\pL+\] (?i)x{2,}[[:alpha:]]*\x41\Q.*\E<HOST>\b",
    r"^<HOST>$",
]


def steps(regex: str) -> int:
    return whole(regex, {}).steps


@pytest.mark.parametrize("regex", SLOW)
def test_a_pattern_that_takes_too_long(regex: str) -> None:
    assert FEW < steps(regex) <= MAX_STEPS
    taken = too_slow(whole(regex, {}).text)
    assert taken is not None
    assert taken > LIMIT


@pytest.mark.parametrize("regex", QUICK)
def test_a_pattern_that_is_quick(regex: str) -> None:
    assert too_slow(whole(regex, {}).text, ("a line",)) is None


def test_a_field_is_measured_too() -> None:
    assert too_slow(r"(?:.*a.{900}|.*b.{900})x", field=True) is not None


def test_the_second_alternative_is_tried_too() -> None:
    assert too_slow(r"^(?:x|[ab]*a[ab]{900})y$") is not None


def filter_of(regex: str) -> str:
    return f"description = 'x'\nunits = ['x.service']\n[[failregex]]\nname = 'slow'\nregex = '{regex}'\n"


def test_a_users_filter_is_measured_and_the_packages_is_not(tree: Tree) -> None:
    tree.write("usr/lib/banagent/filters/slow.toml", filter_of(SLOW[0]))
    assert tree.jail("slow").filter.failregexes
    tree.filter("mine", filter_of(SLOW[0]))
    (mistake,) = tree.mistakes()
    before, _, number = mistake.partition(": takes ")
    assert before == f'filters/mine.toml:5: failregex[0].regex = "{SLOW[0]}"'
    milliseconds, _, rest = number.partition(" ms")
    assert int(milliseconds) > LIMIT
    assert rest == (
        f" for a line of 16 KB that an enemy could write; at most {LIMIT} are allowed: make it shorter, with fewer "
        "repeats such as {1,256} and .*"
    )


def test_a_piece_that_makes_the_packages_patterns_slow(tree: Tree) -> None:
    tree.write(
        "usr/lib/banagent/filters/base.toml",
        filter_of("^(?:.*a<gap>) <HOST>$").replace("[[", "pieces.gap = '.{9}'\n[[", 1),
    )
    tree.filter("base", "extends = 'base'\npieces.gap = '.{1,900}'\n")
    (mistake,) = tree.mistakes()
    assert mistake.startswith('filters/base.toml:2: pieces.gap = ".{1,900}": breaks failregex[0].regex of ')
    assert " takes " in mistake


def test_a_pattern_of_the_command_line_is_measured() -> None:
    with pytest.raises(ConfigError, match=r"--failregex = .*takes .* ms for a line"):
        build_patterns([SLOW[0]], [])
