# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keys of the lock-out guard, of networks and of the circuit breaker; and the [[success]] tables of filters."""

from __future__ import annotations

import grp
from typing import TYPE_CHECKING

import pytest

from banagent.config import load
from banagent.config.accounts import resolved
from banagent.core.breaker import Limits
from banagent.core.guard import Guarding
from banagent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from config.tree import Tree

FILTER = """
description = "a service"
units = ["x.service"]
{more}
[[failregex]]
name = "failed"
regex = '^no (?P<user>\\S+) <HOST>$'
[[success]]
name = "login"
regex = '{regex}'
"""


def test_what_the_package_sets(tmp_path: Path) -> None:
    jails = {jail.name: jail for jail in load(root=tmp_path).jails}
    sshd, other = jails["sshd"], jails["apache-auth"]
    assert "root" in sshd.guard.users
    assert (sshd.guard.grace, sshd.guard.factor, sshd.networks, sshd.breaker) == (12 * 3600, 4, 20, Limits(0, 5))
    assert (other.networks, other.breaker) == (0, Limits(5000, 5))


def test_tables_are_merged_key_by_key(tree: Tree) -> None:
    tree.admin(
        "[defaults]\nguard = { users = ['carol'], grace = '1h' }\nnetworks.addresses = 50\nbreaker.users = 0\n"
        "[jails.sshd]\nguard.factor = 2\n"
    )
    sshd = tree.jail("sshd")
    assert sshd.guard == Guarding(frozenset({"carol"}), 3600, 2)
    assert (sshd.networks, sshd.breaker) == (50, Limits(5000, 0))


def test_nobody_is_guarded_by_an_empty_list(tree: Tree) -> None:
    tree.admin("[jails.sshd]\nguard.users = []\n")
    assert tree.jail("sshd").guard.users == frozenset()


def test_groups_mean_their_members() -> None:
    group = next((item for item in grp.getgrall() if item.gr_mem), None)
    members = set(group.gr_mem) if group is not None else set[str]()
    names = ["root", "EXAMPLE\\carol", "@no-such-group", *([f"@{group.gr_name}"] if group is not None else [])]
    assert resolved(names) == {"root", "EXAMPLE\\carol"} | members


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("guard.users = ['']", 'jails.sshd.guard.users[0] = "": must be the name of a user'),
        ("guard.users = ['a b']", 'or "@" and the name of a group'),
        ("guard.users = ['@']", "must be the name of a user"),
        ("guard.users = 'root'", "must be a list of users"),
        ("guard.grace = 'permanent'", "must have an end"),
        ("guard.factor = 0", "must be a whole number from 1 to 100"),
        ("guard = false", "must be a table"),
        ("networks = 20", "must be a table"),
        ("networks.addresses = 257", "must be a whole number from 0 to 256"),
        ("networks.addrs = 2", 'did you mean "addresses"?'),
        ("breaker.bans = -1", "must be a whole number from 0 to 1000000"),
        ("breaker.users = 'few'", "must be a whole number from 0 to 1000"),
    ],
)
def test_mistakes(tree: Tree, text: str, said: str) -> None:
    tree.admin(f"[jails.sshd]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        tree.load()
    (mistake,) = caught.value.mistakes
    assert said in str(mistake)


def test_a_filter_that_knows_logins(tree: Tree) -> None:
    tree.write("etc/banagent/filters/x.toml", FILTER.format(more="", regex="^yes (?P<user>\\S+) <HOST>$"))
    item = tree.jail("x").filter
    assert [pattern.name for pattern in item.successes] == ["login"]


@pytest.mark.parametrize(
    ("more", "regex", "said"),
    [
        ("", "^yes <HOST>$", "needs both <HOST> and (?P<user>…): who logged in, and from where"),
        ("", "^yes (?P<user>\\\\S+)$", "needs both <HOST> and (?P<user>…): who logged in, and from where"),
        ("", "yes (?P<user>\\\\S+) <HOST>$", "must begin with ^"),
        (
            "forgeable = true\nports = [1]",
            "^yes (?P<user>\\\\S+) <HOST>$",
            "can't be believed where addresses can be made up",
        ),
    ],
)
def test_logins_that_are_refused(tree: Tree, more: str, regex: str, said: str) -> None:
    tree.write("etc/banagent/filters/x.toml", FILTER.format(more=more, regex=regex.replace("\\\\", "\\")))
    tree.admin("[jails.x]\nenabled = true\n")
    with pytest.raises(ConfigError) as caught:
        tree.load()
    assert said in "\n".join(map(str, caught.value.mistakes))
