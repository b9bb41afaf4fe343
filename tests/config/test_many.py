# SPDX-License-Identifier: LGPL-2.1-or-later
"""Broken filters, and very many of them: what is right goes on, and what is said can be read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from banagent.config import load, read_filters, toml
from banagent.config.toml import MAX_MISTAKES
from banagent.errors import ConfigError
from config.tree import FILTER

if TYPE_CHECKING:
    from pathlib import Path

    from config.tree import Tree

MANY = 10_000


@pytest.fixture
def crowded(tree: Tree) -> Tree:
    """A tree with ten thousand filters of the admin that are all wrong, in one of two ways."""
    folder = tree.root / "etc/banagent/filters"
    folder.mkdir(parents=True)
    for number in range(MANY):
        text = "x" if number % 2 else f"units = [{number}]\n{FILTER.replace('units', '# units')}"
        (folder / f"f{number}.toml").write_text(text)
    return tree


def test_of_ten_thousand_files_only_those_that_are_needed_are_read(crowded: Tree) -> None:
    begin = time.process_time()
    config = load(root=crowded.root, whole=False)
    assert time.process_time() - begin < 5  # to read all takes longer
    assert [(jail.name, jail.enabled) for jail in config.jails] == [("sshd", True)]
    assert len(config.files) == 2
    assert config.failed == ()


def test_no_line_is_looked_for_where_nothing_is_wrong(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take longer than all of the rest."""

    def looked_for(_text: str) -> None:
        pytest.fail("lines were looked for")

    monkeypatch.setattr(toml, "_lines", looked_for)
    assert len(tree.load().jails) == 2


def test_a_hundred_mistakes_of_a_kind_are_enough(crowded: Tree) -> None:
    with pytest.raises(ConfigError) as caught:
        crowded.load()
    said = [mistake.text for mistake in caught.value.mistakes]
    for text, more in (("is not TOML", "is not TOML"), ('must be a unit with its suffix, such as "ssh.service"', None)):
        assert sum(line.startswith(text) for line in said) == MAX_MISTAKES
        rest = f"and {MANY // 2 - MAX_MISTAKES} more of this kind: {more or text}"
        assert sum(line.startswith(rest) for line in said) == 1
    assert len(said) == 2 * (MAX_MISTAKES + 1)


BROKEN = """
description = "a service"
units = ["a"]
ports = [0]
session = "id"
nonsense = 1
[pieces]
HOST = "x"
[[failregex]]
name = "Bad"
regex = "^(?!x)<HOST>"
[[failregex]]
name = "other"
json = { "a..b" = "<HOST>" }
[[link]]
regex = "x"
[[sequence]]
lines = []
"""


def test_each_mistake_of_a_filter_is_named_with_file_line_and_key(tree: Tree) -> None:
    tree.filter("broken", BROKEN)
    said = [mistake.partition(" = ")[0].partition(": ") for mistake in tree.mistakes()]
    assert {file for file, _, _ in (part.rpartition(":") for part, _, _ in said)} == {"filters/broken.toml"}
    assert {(int(place.rpartition(":")[2]), key.partition(":")[0]) for place, _, key in said} == {
        *((2, "units[0]"), (3, "ports[0]"), (5, "nonsense"), (7, "pieces.HOST"), (9, "failregex[0].name")),
        *((10, "failregex[0].regex"), (13, 'failregex[1].json."a..b"'), (14, "link[0]"), (15, "link[0].regex")),
        (17, "sequence[0].lines"),
    }


def test_a_broken_filter_costs_its_own_jails_alone(tree: Tree) -> None:
    tree.filter("broken", BROKEN)
    tree.filter("noise", "\0")
    tree.admin(
        "jails.broken.enabled = true\njails.second = { filter = 'broken', enabled = true }\n"
        "jails.web.enabled = true\njails.noise.enabled = false\n"
    )
    config = load(root=tree.root, whole=False)
    assert [jail.name for jail in config.jails] == ["sshd", "web"]
    assert {mistake.file for mistake in config.failed} == {str(tree.root / "etc/banagent/filters/broken.toml")}
    # which is mended, and all is well
    tree.filter("broken")
    config = load(root=tree.root, whole=False)
    assert [jail.name for jail in config.jails] == ["broken", "second", "sshd", "web"]
    assert config.failed == ()


def test_a_broken_base_costs_all_that_extend_it(tree: Tree) -> None:
    tree.filter("broken", BROKEN)
    tree.filter("more", "extends = 'broken'\n")
    tree.admin("jails.more.enabled = true\n")
    config = load(root=tree.root, whole=False)
    assert [jail.name for jail in config.jails] == ["sshd"]
    assert {mistake.file for mistake in config.failed} == {str(tree.root / "etc/banagent/filters/broken.toml")}


def test_the_right_filters_among_broken_ones(tree: Tree, tmp_path: Path) -> None:
    tree.filter("broken", BROKEN)
    paths = {name: tmp_path / f"etc/banagent/filters/{name}.toml" for name in ("broken", "right", "gone")}
    tree.filter("right")
    found, mistakes = read_filters(paths, root=tree.root)
    assert list(found) == ["right"]
    assert {mistake.file for mistake in mistakes} == {str(paths["broken"]), str(paths["gone"])}
