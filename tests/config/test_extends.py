# SPDX-License-Identifier: LGPL-2.1-or-later
"""Filters that extend others: what comes of it, and in which file a mistake is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from banagent.config import load, read_filters
from banagent.core.filter import HOST
from banagent.errors import ConfigError

if TYPE_CHECKING:
    from config.tree import Tree

BASE = r"""
description = "a service"
units       = ["a.service"]
identifiers = ["a"]
ports       = [1234]
session     = "pid"

[pieces]
account = '(?P<user>root)'
end     = ' port \d+$'

[[failregex]]
name    = "failed"
regex   = '^failed <account> <HOST><end>'
[[failregex]]
name    = "invalid"
regex   = '^invalid <account> <HOST><end>'
[[ignoreregex]]
regex   = '^failed probe '
[[nomatch]]
line    = "accepted"
[[sequence]]
lines   = ["failed root 192.0.2.1 port 1"]
"""
MORE = r"""
extends = "base"
units   = ["b.service", "c.service"]
ports   = [99]
[pieces]
account = '(?P<user>root|admin)'
added   = 'more'
[[failregex]]
name    = "added"
regex   = '^<added> <HOST><end>'
[[link]]
name    = "peer"
regex   = '^from <HOST>$'
[[ignoreregex]]
regex   = '^failed test '
[[nomatch]]
line    = "more accepted"
[[sequence]]
lines   = ["from 192.0.2.1"]
"""


@pytest.fixture
def based(tree: Tree) -> Tree:
    """A tree that has a filter called base, of the package."""
    tree.write("usr/lib/banagent/filters/base.toml", BASE)
    return tree


@pytest.mark.parametrize("name", ["base", "other"])
def test_what_is_replaced_what_is_merged_and_what_is_added(based: Tree, name: str) -> None:
    based.filter(name, MORE)
    item = based.jail(name).filter
    assert (item.name, item.file) == (name, str(based.root / f"etc/banagent/filters/{name}.toml"))
    # what the file says replaces, what it leaves out stays
    assert (item.description, item.identifiers, item.session) == ("a service", ("a",), "pid")
    assert (item.units, item.ports) == (("b.service", "c.service"), (99,))
    # tables are added behind, and pieces change the patterns of both
    assert [(one.name, one.regex) for one in item.failregexes] == [
        ("failed", rf"^failed (?P<user>root|admin) {HOST} port \d+$"),
        ("invalid", rf"^invalid (?P<user>root|admin) {HOST} port \d+$"),
        ("added", rf"^more {HOST} port \d+$"),
    ]
    assert [one.regex for one in item.links] == [f"^from {HOST}$"]
    assert [one.regex for one in item.ignoreregexes] == ["^failed probe ", "^failed test "]
    assert [one.line for one in item.nomatch] == ["accepted", "more accepted"]
    assert [one.lines[0] for one in item.sequences] == ["failed root 192.0.2.1 port 1", "from 192.0.2.1"]


def test_the_filter_that_is_extended_stays_as_it_is(based: Tree) -> None:
    before = based.jail("base").filter
    based.filter("other", MORE)
    assert based.jail("base").filter == before


def test_which_file_is_extended(based: Tree) -> None:
    """One of the own name: the next below it; another: the one in force."""
    based.filter("base", "extends = 'base'\ndescription = 'admin'\n")
    based.filter("other", "extends = 'base'\n")
    based.write("more/base.toml", "extends = 'base'\nidentifiers = ['more']\n")
    found = {jail.name: jail.filter for jail in based.load(filters="more").jails}
    assert found["base"].file == str(based.root / "more/base.toml")
    for item in (found["base"], found["other"]):
        assert (item.description, item.identifiers, item.units) == ("admin", ("more",), ("a.service",))


def test_a_file_that_lies_elsewhere_extends_what_is_in_force(based: Tree) -> None:
    path = based.write("base.toml", "extends = 'base'\ndescription = 'x'\n")
    found, mistakes = read_filters({"base": path}, root=based.root)
    assert mistakes == ()
    assert (found["base"].description, found["base"].units) == ("x", ("a.service",))


def test_only_what_is_needed_is_read(based: Tree) -> None:
    based.filter("other", "extends = 'base'\n")
    based.filter("broken", "x")
    based.write("usr/lib/banagent/filters/web.toml", "broken")
    based.admin("jails.sshd.enabled = false\njails.other.enabled = true\n")
    config = load(root=based.root, whole=False)
    assert config.failed == ()
    assert [jail.name for jail in config.jails] == ["other"]
    read = [str(Path(file).relative_to(based.root)) for file in config.files]
    assert read == [
        *("usr/lib/banagent/banagent.toml", "etc/banagent/banagent.toml"),
        *("etc/banagent/filters/other.toml", "usr/lib/banagent/filters/base.toml"),
    ]


def test_origins_of_a_jail(based: Tree) -> None:
    based.filter("other", "extends = 'base'\n# no more\nunits = ['b.service']\n")
    based.admin("jails.other.identifiers = ['mine']\n")
    origins = based.jail("other").origins
    base, other = (str(based.root / name) for name in ("usr/lib/banagent/filters/base.toml", OTHER))
    units, below = origins["units"], origins["units"].below
    assert (units.file, units.line, units.value) == (other, 3, '["b.service"]')
    assert below is not None
    assert (below.file, below.line, below.value) == (base, 3, '["a.service"]')
    identifiers = origins["identifiers"].below
    assert identifiers is not None
    assert (identifiers.file, identifiers.line) == (base, 4)


OTHER = "etc/banagent/filters/other.toml"


# --- chains -------------------------------------------------------------------------------------------------------


def test_a_chain_of_five(based: Tree) -> None:
    based.filter("f1", "extends = 'base'\n[pieces]\naccount = 'one'\nend = 'x$'\n")
    for number in range(2, 6):
        based.filter(f"f{number}", f"extends = 'f{number - 1}'\n[pieces]\naccount = '{number}'\n")
    assert based.jail("f5").filter.failregexes[0].regex == f"^failed 5 {HOST}x$"
    based.filter("f6", "extends = 'f5'\n")
    assert based.mistakes() == [
        'filters/f6.toml:1: extends = "f5": leads to more than 5 files, each of which extends the next'
    ]


def test_rings(based: Tree) -> None:
    based.filter("a", "extends = 'b'\n")
    based.filter("b", "# a ring\nextends = 'a'\n")
    based.filter("base", "extends = 'c'\n")
    based.filter("c", "extends = 'base'\n")
    ring = "makes a ring: {} extends this file, maybe by way of others"
    etc = based.root / "etc/banagent/filters"
    assert sorted(based.mistakes()) == [
        f'filters/a.toml:1: extends = "b": {ring.format(etc / "b.toml")}',
        f'filters/b.toml:2: extends = "a": {ring.format(etc / "a.toml")}',
        f'filters/base.toml:1: extends = "c": {ring.format(etc / "c.toml")}',
        f'filters/c.toml:1: extends = "base": {ring.format(etc / "base.toml")}',
    ]


@pytest.mark.parametrize(
    ("written", "mistake"),
    [
        ("extends = 'bas'", 'extends = "bas": no filter has this name; did you mean "base"?'),
        ("extends = 'any'", 'extends = "any": is its own name, and there is no other file of that name to add to'),
        ("extends = 3", "extends = 3: must begin with a small letter, then at most 63 of a-z, 0-9, _ and -"),
        ("extends = { a = 1 }", "extends: must begin with a small letter, then at most 63 of a-z, 0-9, _ and -"),
    ],
)
def test_a_filter_that_extends_none(based: Tree, written: str, mistake: str) -> None:
    based.filter("any", f"# first\n{written}\n")
    assert based.mistakes() == [f"filters/any.toml:2: {mistake}"]


# --- mistakes -----------------------------------------------------------------------------------------------------


def test_mistakes_are_said_of_the_file_that_they_are_in(based: Tree) -> None:
    """And once, though several filters have a part in common."""
    based.write("usr/lib/banagent/filters/base.toml", BASE + "weight = 2\n[[failregex]]\nname = 'worse'\nregex = 'x'\n")
    based.filter("other", "extends = 'base'\nunits = ['b']\n[[failregex]]\nname = 'bad'\nregex = '^('\n")
    anchor = "must begin with ^ (flags come behind it): else an enemy can place a failure in his own text"
    vendor = "usr/lib/banagent/filters/base.toml"
    assert based.mistakes() == [
        f"{vendor}:24: sequence[0].weight = 2: unknown key; there are lines, failures, address, user, from",
        f'{vendor}:27: failregex[2].regex = "x": {anchor}',
        (
            'filters/other.toml:2: units[0] = "b": must be a unit with its suffix, such as "ssh.service" or '
            '"ssh@*.service"'
        ),
        'filters/other.toml:5: failregex[0].regex = "^(": RE2 refuses it: missing ): "^("',
    ]


def test_a_base_that_is_no_toml(based: Tree) -> None:
    based.write("usr/lib/banagent/filters/base.toml", "x")
    based.filter("other", "extends = 'base'\n")
    (mistake,) = based.mistakes()
    assert mistake.startswith("usr/lib/banagent/filters/base.toml:1: is not TOML: ")


def test_a_piece_that_breaks_patterns_of_the_base(based: Tree) -> None:
    based.filter("other", "extends = 'base'\n[pieces]\nend = ' ok'\naccount = '(?:root'\n")
    base = based.root / "usr/lib/banagent/filters/base.toml"
    (mistake,) = based.mistakes()
    at = f"failregex[0].regex of {base}, line 14"
    assert mistake.startswith(
        f'filters/other.toml:4: pieces.account = "(?:root": breaks (and 1 more) {at}: RE2 refuses'
    )


def test_a_piece_that_needs_another_new_one(based: Tree) -> None:
    based.filter("other", "extends = 'base'\n[pieces]\naccount = '<who>'\nwho = 'x('\n")
    (mistake,) = based.mistakes()
    assert mistake.startswith(
        'filters/other.toml:3: pieces.account = "<who>": breaks (and 1 more) failregex[0].regex of '
    )


def test_a_session_that_breaks_patterns_of_the_base(based: Tree) -> None:
    based.filter("other", "extends = 'linked'\nsession = 'id'\n")
    based.filter("linked", BASE + "[[link]]\nname = 'l'\nregex = '^<HOST>$'\n")
    (mistake,) = based.mistakes()
    assert mistake.startswith('filters/other.toml:2: session = "id": breaks link[0].regex of ')
    assert mistake.endswith('line 25: has no (?P<session>…), which tells its session, as the file says session = "id"')


OPEN = 'ports = "all": must name the service\'s ports:'


@pytest.mark.parametrize(
    ("base", "written", "mistake"),
    [
        (
            "forgeable = true",
            "ports = 'all'",
            f"{OPEN} who can make up an address could else cut it off from all services",
        ),
        (
            "uids = [33]",
            "ports = 'all'",
            f"{OPEN} who takes over a program that is not root's could else cut off anybody",
        ),
        (
            "",
            "ports = 'all'\nforgeable = true",
            "forgeable = true: needs ports: who can make up an address could else cut it off from all services",
        ),
        ("", "[[failregex]]\nname = 'failed'\nregex = '^x<HOST>'\n", None),
    ],
)
def test_what_is_wrong_together(based: Tree, base: str, written: str, mistake: str | None) -> None:
    based.write("usr/lib/banagent/filters/base.toml", f"{base}\n{BASE}")
    based.filter("other", f"extends = 'base'\n{written}\n")
    if mistake is None:
        assert len(based.jail("other").filter.failregexes) == 3
        return
    (said,) = based.mistakes()
    assert said.startswith("filters/other.toml:")
    assert said.endswith(f": {mistake}")


def test_a_name_that_the_base_has_without_sessions(based: Tree) -> None:
    based.filter("other", "extends = 'web'\n[[failregex]]\nname = 'failed'\nregex = '^x<HOST>'\n")
    (mistake,) = based.mistakes()
    assert mistake.startswith('filters/other.toml:3: failregex[0].name = "failed": is taken by another pattern; ')


def test_what_all_files_together_lack(tree: Tree) -> None:
    tree.filter("half", "units = ['a.service']\n")
    tree.filter("whole", "extends = 'half'\ndescription = 'x'\n[[failregex]]\nname = 'a'\nregex = '^<HOST>'\n")
    with pytest.raises(ConfigError) as caught:
        tree.load()
    assert {Path(mistake.file).stem for mistake in caught.value.mistakes} == {"half"}
