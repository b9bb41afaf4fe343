# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of addresses, and what is set while the agent runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from banagent import config
from banagent.config.lists import read_list
from banagent.config.running import Wanted, merged, over
from banagent.config.toml import MAX_BYTES
from banagent.config.writing import value, written
from banagent.core.duration import DAY
from banagent.core.keeping import Keeping
from banagent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def load(tmp_path: Path, text: str) -> config.Config:
    (tmp_path / "etc/banagent").mkdir(parents=True, exist_ok=True)
    (tmp_path / "etc/banagent/banagent.toml").write_text(text)
    return config.load(root=tmp_path, whole=False)


def test_a_file_that_is_no_list_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.1 " + "gate.example.org " * 50_000)
    found = read_list(str(path))
    assert [*map(str, found.networks)] == ["192.0.2.1"]
    assert found.mistakes[-1].text == "and 900 more mistakes in this file; it was not read any further"


def test_what_a_file_may_hold(tmp_path: Path) -> None:
    path = tmp_path / "office"
    path.write_bytes(b"# all of us\r\n192.0.2.1 2001:DB8::1/32\t# and\n\n192.0.2.9/24\n::ffff:198.51.100.1")
    found = read_list(str(path))
    assert sorted(map(str, found.networks)) == ["192.0.2.0/24", "192.0.2.1", "198.51.100.1", "2001:db8::/32"]
    assert found.mistakes == ()


def test_all_mistakes_are_said_and_the_rest_is_given(tmp_path: Path) -> None:
    path = tmp_path / "office"
    path.write_bytes(b"192.0.2.1\ngate.example.org\n192.0.2.1.5 \x1b[2J\n\xff\n")
    found = read_list(str(path))
    assert [str(net) for net in found.networks] == ["192.0.2.1"]
    assert [(item.file, item.line, item.key) for item in found.mistakes] == [
        (str(path), 2, "gate.example.org"),
        (str(path), 3, "192.0.2.1.5"),
        (str(path), 3, "\\u001b[2J"),
        (str(path), 4, "\\xff"),
    ]
    assert "write its addresses instead" in str(found.mistakes[0])
    assert all(str(item).isprintable() for item in found.mistakes)
    path.write_text("x.example\n" * 1000)
    assert len(read_list(str(path)).mistakes) == 101


def test_what_is_no_such_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * (MAX_BYTES + 1))
    for name, text in (("fifo", "regular file"), ("large", "larger than 1 MiB"), ("no", "No such file"), ("", "")):
        (mistake,) = read_list(str(tmp_path / name)).mistakes
        assert text in mistake.text


def test_files_in_ignoreip(tmp_path: Path) -> None:
    found = load(tmp_path, '[defaults]\nignoreip = ["192.0.2.1", "file:/etc/banagent/office"]\n')
    (sshd,) = (jail for jail in found.jails if jail.name == "sshd")
    assert ([*map(str, sshd.ignoreip)], sshd.ignore_files) == (["192.0.2.1"], ("/etc/banagent/office",))
    for wrong in ("file:office", "file:/etc/*", "file:"):
        with pytest.raises(ConfigError, match="absolute path without wildcards"):
            load(tmp_path, f'[defaults]\nignoreip = ["{wrong}"]\n')


def test_history(tmp_path: Path) -> None:
    assert load(tmp_path, "").history == Keeping()
    assert load(tmp_path, '[history]\nkeep = "permanent"\nbans = 5000\n').history == Keeping(None, 5000)
    assert load(tmp_path, '[history]\nkeep = "2d"\n').history == Keeping(2 * DAY)
    for wrong in ("keep = 3600", "bans = 10", "keep = 0", "rows = 7"):
        with pytest.raises(ConfigError, match=f"history.{wrong.split()[0]}"):
            load(tmp_path, f"[history]\n{wrong}\n")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    TEXTS | st.integers(-(2**62), 2**62) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(TEXTS, st.dictionaries(TEXTS, VALUES | st.dictionaries(TEXTS, VALUES, min_size=1), max_size=3)))
def test_what_is_written_reads_back_the_same(jails: dict[str, object]) -> None:
    assert tomli.loads(written({"jails": jails})) == ({"jails": jails} if jails else {})


@given(VALUES)
def test_a_value_reads_back_the_same(item: object) -> None:
    assert tomli.loads(f"x = {value(item)}")["x"] == item


@pytest.mark.parametrize(
    ("key", "words", "how", "expected"),
    [
        ("maxretry", ["3"], "replace", {"maxretry": 3}),
        ("bantime", ["10m"], "replace", {"bantime": {"time": "10m"}}),
        ("bantime", ['{ time = "1h" }'], "replace", {"bantime": {"time": "1h"}}),
        ("bantime.factor", ["2"], "replace", {"bantime": {"factor": 2}}),
        ("enabled", ["false"], "replace", {"enabled": False}),
        ("ports", ["all"], "replace", {"ports": "all"}),
        ("ports", ["ssh", "2222"], "replace", {"ports": ["ssh", 2222]}),
        ("ports", ["[1, 2]"], "replace", {"ports": [1, 2]}),
        ("ports", ["2222"], "add", {"ports": [22, 2222]}),  # to the filter's own
        ("ignoreip", ["::1"], "add", {"ignoreip": ["192.0.2.1", "::1"]}),
        ("ignoreip", ["192.0.2.1/32"], "add", {"ignoreip": ["192.0.2.1"]}),
        ("ignoreip", ["192.0.2.1"], "remove", {"ignoreip": []}),
    ],
)
def test_words_for_a_key(tmp_path: Path, key: str, words: list[str], how: str, expected: object) -> None:
    found = load(tmp_path, '[defaults]\nignoreip = ["192.0.2.1"]\n')
    data = merged(found, {}, Wanted("sshd", key, words, how))
    assert data == {"jails": {"sshd": expected}}
    set_ = config.with_values(found, data, "banagent set")
    assert [jail.name for jail in set_.jails if jail.enabled] == ([] if key == "enabled" else ["sshd"])


def test_a_jail_can_be_enabled(tmp_path: Path) -> None:
    found = load(tmp_path, "")
    data = merged(found, {}, Wanted("vsftpd", "enabled", ["true"]))
    assert "vsftpd" in [jail.name for jail in config.with_values(found, data, "banagent set").jails if jail.enabled]
    assert "vsftpd" not in [jail.name for jail in found.jails if jail.enabled]


def test_documents_are_merged_key_by_key() -> None:
    lower = {"jails": {"sshd": {"bantime": "1h", "maxretry": 3}}}
    upper = {"jails": {"sshd": {"bantime": {"factor": 2}}, "web": {"enabled": True}}}
    assert over(lower, upper) == {
        "jails": {"sshd": {"bantime": {"time": "1h", "factor": 2}, "maxretry": 3}, "web": {"enabled": True}}
    }
