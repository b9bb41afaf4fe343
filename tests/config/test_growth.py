# SPDX-License-Identifier: LGPL-2.1-or-later
"""What files say of repeaters, and of jails that count bans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from banagent.config.settings import settings
from banagent.core.duration import DAY, HOUR, MINUTE, WEEK
from banagent.core.formula import Formula
from banagent.core.growth import Growth
from config.tree import FILTER

if TYPE_CHECKING:
    from banagent.config import JailConfig
    from config.tree import Tree


def growth(tree: Tree, name: str = "sshd") -> Growth | None:
    return tree.jail(name).growth


def shown(jail: JailConfig, key: str) -> str:
    return next(item.place.value for item in settings([jail]) if item.key == f"jails.{jail.name}.{key}")


def test_by_default_bans_double_to_a_week(tree: Tree) -> None:
    assert tree.jail("sshd").bantime == HOUR
    assert growth(tree) == Growth(maxtime=WEEK, forget=30 * DAY)
    jail = tree.jail("sshd")
    assert [shown(jail, f"bantime.{key}") for key in ("increment", "factor", "maxtime", "rndtime", "forget")] == [
        "true",
        "1",
        '"7d"',
        '"0s"',
        '"30d"',
    ]
    assert shown(jail, "bantime.formula") == f'"{Growth().formula.text}"'


def test_all_of_it(tree: Tree) -> None:
    tree.admin("""
        [jails.sshd.bantime]
        time         = "10m"
        factor       = "2.0 / 2.885385"
        formula      = "ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)"
        multipliers  = "1 2 4.5"
        maxtime      = "permanent"
        rndtime      = "30m"
        overalljails = true
        forget       = -1
    """)
    assert tree.jail("sshd").bantime == 10 * MINUTE
    assert growth(tree) == Growth(
        factor=2.0 / 2.885385,
        formula=Formula("ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)"),
        multipliers=(1, 2, 4.5),
        maxtime=None,
        rndtime=30 * MINUTE,
        overalljails=True,
        forget=None,
    )


def test_a_jail_that_sets_its_time_keeps_the_growth_of_the_defaults(tree: Tree) -> None:
    tree.admin("defaults.bantime = {factor = 3, multipliers = [1, 5]}\njails.sshd.bantime = '2h'\n")
    assert (tree.jail("sshd").bantime, growth(tree)) == (2 * HOUR, Growth(factor=3, multipliers=(1, 5)))
    tree.admin("defaults.bantime.increment = false\njails.web.bantime.increment = true\n")
    assert (growth(tree), growth(tree, "web")) == (None, Growth())


@pytest.mark.parametrize(
    ("admin", "grows"),
    [
        ("", False),
        ("defaults.bantime.increment = true\n", False),
        ("jails.udp.bantime.increment = true\n", True),
        ("jails.udp.bantime.increment = false\n", False),
    ],
)
def test_bans_of_addresses_that_can_be_made_up_grow_only_if_the_jail_says_so(
    tree: Tree, admin: str, *, grows: bool
) -> None:
    tree.filter("udp", f"forgeable = true\n{FILTER}")
    tree.admin(admin)
    assert (growth(tree, "udp") is not None) is grows


def test_a_formula_is_tried_out_with_the_time_of_each_jail_and_said_once(tree: Tree) -> None:
    tree.admin("defaults.bantime.formula = 'ban.Time - 7200'\njails.sshd.bantime = '3h'\njails.web.enabled = true\n")
    assert tree.mistakes() == [
        (
            'banagent.toml:1: defaults.bantime.formula = "ban.Time - 7200": '
            "must give a time, and gives -3600 where ban.Time is 3600 and ban.Count 1"
        )
    ]
    tree.admin("defaults.bantime = {formula = 'ban.Time - 7200', time = '3h'}\n")
    assert tree.jail("web").bantime == 3 * HOUR


def test_permanent_bans_and_those_by_multipliers_need_no_formula(tree: Tree) -> None:
    for more in ("time = -1", "multipliers = [1, 2]", "increment = false"):
        tree.admin(f"defaults.bantime = {{formula = '-1', {more}}}\n")
        assert tree.load().jails


def test_a_jail_that_counts_bans_needs_no_filter_and_bans_on_all_ports(tree: Tree) -> None:
    tree.admin("""
        [defaults]
        mode = "ddos"
        bantime.overalljails = true
        [jails.again]
        counts = "bans"
        bantime = "9w"
    """)
    jail = tree.jail("again")
    assert (jail.counts_bans, jail.ports, jail.bantime, jail.enabled) == (True, None, 9 * WEEK, False)
    # what it counts is not counted once more
    assert jail.growth == Growth()
    assert not tree.jail("sshd").counts_bans
    tree.admin("jails.again = {counts = 'bans', ports = [80, 443]}\n")
    assert tree.jail("again").ports == ((80, 80), (443, 443))
