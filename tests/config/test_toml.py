# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where values stand and what they replace: what `banagent config --diff` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from banagent.config import keys
from banagent.config.settings import Place, Setting, settings
from banagent.config.table import rows
from config.tree import FILTER

if TYPE_CHECKING:
    from config.tree import Tree

VENDOR = "[defaults]\nfindtime = '2h'\n[jails.sshd]\nenabled = true\nmaxretry = 4\n"


@pytest.fixture(autouse=True)
def _vendor(tree: Tree) -> None:
    tree.write("usr/lib/banagent/banagent.toml", VENDOR)
    tree.write("usr/lib/banagent/filters/sshd.toml", FILTER)


def found(tree: Tree, name: str) -> tuple[Place, Place | None]:
    """Give where a setting of a jail stands, and what it replaces; file names are relative to the tree."""
    (setting,) = (item for item in settings(tree.load().jails) if item.key == f"jails.{name}")
    return relative(tree, setting.place), setting.replaces and relative(tree, setting.replaces)


def relative(tree: Tree, place: Place) -> Place:
    return place._replace(file=place.file and place.file.removeprefix(f"{tree.root}/"))


USR = "usr/lib/banagent/banagent.toml"
ETC = "etc/banagent/banagent.toml"


def test_what_nobody_says(tree: Tree) -> None:
    assert found(tree, "sshd.bantime") == (Place('"1h"', None, 0), None)
    assert found(tree, "sshd.filter") == (Place('"sshd"', None, 0), None)
    assert found(tree, "sshd.ignoreip") == (Place("[]", None, 0), None)


def test_what_the_vendor_says(tree: Tree) -> None:
    assert found(tree, "sshd.enabled") == (Place("true", USR, 4), Place("false", None, 0))
    assert found(tree, "sshd.findtime") == (Place('"2h"', USR, 2), Place('"1h"', None, 0))
    assert found(tree, "sshd.ports") == (
        Place("[1234]", "usr/lib/banagent/filters/sshd.toml", 4),
        Place('"all"', None, 0),
    )


@pytest.mark.parametrize(
    ("text", "line", "value"),
    [
        ("jails.sshd.maxretry = 9\n", 1, "9"),
        ("# a comment\n\n[jails]\n[jails.sshd]\n  maxretry = 9 # another\n", 5, "9"),
        ("[jails]\nsshd = { enabled = true, maxretry = 9 }\n", 2, "9"),
    ],
)
def test_what_the_admin_says_instead(tree: Tree, text: str, line: int, value: str) -> None:
    tree.admin(text)
    assert found(tree, "sshd.maxretry") == (Place(value, ETC, line), Place("4", USR, 5))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[jails.sshd]\nbantime = '1d'\n", 2),
        ("[jails.sshd]\nbantime = { time = '1d' }\n", 2),
        ("[jails.sshd.bantime]\n\ntime = '1d'\n", 3),
    ],
)
def test_a_value_alone_stands_for_a_table(tree: Tree, text: str, line: int) -> None:
    tree.admin(text)
    assert found(tree, "sshd.bantime") == (Place('"1d"', ETC, line), Place('"1h"', None, 0))


def test_what_would_hold_without_the_line(tree: Tree) -> None:
    """Of several files each replaces the one before; a jail's own value, the one that all inherit."""
    tree.admin("defaults.findtime = 1\njails.sshd.findtime = 2\n")
    tree.write("etc/banagent/conf.d/a.toml", "defaults.findtime = 3\n")
    assert found(tree, "sshd.findtime") == (Place("2", ETC, 2), Place("3", "etc/banagent/conf.d/a.toml", 1))
    tree.write("etc/banagent/conf.d/b.toml", "\njails.sshd.findtime = 4\n")
    assert found(tree, "sshd.findtime") == (Place("4", "etc/banagent/conf.d/b.toml", 2), Place("2", ETC, 2))
    jail = tree.jail("sshd")
    origin, chain = jail.origins.get("findtime"), list[str]()
    while origin:
        chain.append(origin.value)
        origin = origin.below
    assert chain == ["4", "2", "3", "1", '"2h"']


def test_a_jail_says_it_in_place_of_its_filter(tree: Tree) -> None:
    tree.admin("[jails.sshd]\nports = ['ssh', 2222]\n")
    assert found(tree, "sshd.ports") == (
        Place('["ssh", 2222]', ETC, 2),
        Place("[1234]", "usr/lib/banagent/filters/sshd.toml", 4),
    )


def test_each_key_is_there_once(tree: Tree) -> None:
    tree.admin("[jails.sshd]\nbantime = '1d'\nfilter = 'sshd'\n[jails.other]\nfilter = 'sshd'\n")
    told = [setting.key for setting in settings(tree.load().jails)]
    assert len(told) == len(set(told))
    now = {name for name, row in rows(keys.JAILS.keys) if row.since == "now"}
    for jail in ("other", "sshd"):
        of_jail = {key.removeprefix(f"jails.{jail}.") for key in told if key.startswith(f"jails.{jail}.")}
        assert of_jail <= now
        assert {"bantime", "enabled", "filter", "maxretry", "mode", "ports"} <= of_jail


def test_settings_are_in_the_order_of_the_jails(tree: Tree) -> None:
    first: Setting = next(settings(tree.load().jails))
    assert first.key == "jails.sshd.enabled"
