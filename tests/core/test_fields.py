# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules about the fields of JSON objects, also of those that an enemy has a hand in."""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.core.fields import Fields, parse

LINE = {
    "level": "error",
    "status": 401,
    "ratio": 0.5,
    "ok": False,
    "none": None,
    "request": {"remote_ip": "192.0.2.1", "headers": {"User-Agent": ["curl", 'a "b"\n']}, "0": "zero"},
}


def captures(rules: dict[str, str], line: bytes) -> dict[str, bytes] | None:
    """Match as the recogniser does: a quick look at the text, then the fields."""
    fields = Fields(rules)
    return fields.captures(parse(line)) if fields.may_match(line) else None


@pytest.mark.parametrize(
    ("path", "regex"),
    [
        ("level", "error"),
        ("level", "debug|error"),
        ("level", "(?i)ERROR"),
        # numbers, true and false as JSON writes them
        ("status", "401"),
        ("status", "4.."),
        ("ratio", r"0\.5"),
        ("ok", "false"),
        # paths into objects and lists
        ("request.remote_ip", r"192\.0\.2\.1"),
        ("request.headers.User-Agent.0", "curl"),
        ("request.headers.User-Agent.1", 'a "b"\n'),
        ("request.0", "zero"),
    ],
)
def test_matches(path: str, regex: str) -> None:
    assert captures({path: regex}, json.dumps(LINE).encode()) == {}


@pytest.mark.parametrize(
    ("path", "regex"),
    [
        # the whole value has to match, with or without anchors
        ("level", "err"),
        ("level", "rror"),
        ("level", "^err"),
        ("level", "err|or"),
        ("status", "40"),
        ("status", "200"),
        # what is not there, and what is nothing
        ("missing", ".*"),
        ("request.missing", ".*"),
        ("level.error", ".*"),
        ("none", ".*"),
        ("none", "null"),
        # tables and lists are no texts
        ("request", ".*"),
        ("request.headers.User-Agent", ".*"),
        ("request.headers.User-Agent.2", ".*"),
        ("request.headers.User-Agent.-1", ".*"),
        ("request.headers.User-Agent.x", ".*"),
        # JSON's words, not Python's
        ("ok", "False"),
    ],
)
def test_does_not_match(path: str, regex: str) -> None:
    assert captures({path: regex}, json.dumps(LINE).encode()) is None


def test_all_rules_have_to_match() -> None:
    line = json.dumps(LINE).encode()
    assert captures({"level": "(?P<user>.*)", "request.remote_ip": "(?P<address>.*)"}, line) == {
        "user": b"error",
        "address": b"192.0.2.1",
    }
    assert captures({"level": "(?P<user>.*)", "status": "200"}, line) is None


def test_a_group_that_takes_no_part_is_not_captured() -> None:
    assert captures({"status": "401|(?P<user>x)"}, b'{"status": 401}') == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # of two of one name the last counts, as for whoever else reads the line
        (b'{"ip": "192.0.2.66", "ip": "192.0.2.1"}', b"192.0.2.1"),
        # an enemy's text is text, whatever is in it
        (b'{"user": "x\\",\\"ip\\":\\"192.0.2.66", "ip": "192.0.2.1"}', b"192.0.2.1"),
        (b'{"x": {"ip": "192.0.2.66"}, "ip": "192.0.2.1"}', b"192.0.2.1"),
        (b'{"ip": "192.0.2.1", "x": NaN, "y": 1e999, "z": -Infinity}', b"192.0.2.1"),
        (b' {"ip" : "192.0.2.1"}\n', b"192.0.2.1"),
        # escapes; half of a pair is kept as it was written
        (b'{"ip": "\\u0031"}', b"1"),
        (b'{"ip": "m\\u00fc"}', "mü".encode()),
        (b'{"ip": "\\ud800"}', b"\\ud800"),
        (b'{"ip": "a\\u0000b"}', b"a\0b"),
        # as JSON writes them
        (b'{"ip": 1e999}', b"Infinity"),
        (b'{"ip": 1.50}', b"1.5"),
        (b'{"ip": 12345678901234567890}', b"12345678901234567890"),
    ],
)
def test_the_value_of_a_field(line: bytes, expected: bytes) -> None:
    assert captures({"ip": "(?P<address>(?s:.*))"}, line) == {"address": expected}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"ip",
        b"{",
        b'{"ip": "192.0.2.1"',
        b'{"ip": "192.0.2.1"} trailing',
        b'{"ip": "192.0.2.1"}{"ip": "192.0.2.66"}',
        b"{'ip': '192.0.2.1'}",
        b'{"ip": "a\nb"}',
        b'{"ip": "\xff"}',
        b'{"ip": 1' + b"0" * 5000 + b"}",
        b'["ip"]',
        b'"ip"',
        b'{"ip": ' + b"[" * 16_000 + b"]" * 16_000 + b"}",
        b'{"ip": "1", "x": ' + b'{"x":' * 100_000 + b"1" + b"}" * 100_001,
    ],
    ids=lambda line: line[:30],
)
def test_what_is_no_object(line: bytes) -> None:
    assert captures({"ip": "(?P<address>(?s:.*))"}, line) is None


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 100_000, "]}" * 1000])
def test_brackets_in_a_text_are_text(text: str) -> None:
    """Else whoever asks for a page with many of them would not be seen."""
    assert captures({"ip": "1"}, json.dumps({"ip": "1", "uri": text}).encode()) == {}


def test_many_fields_hide_nothing() -> None:
    headers = {f"x-{number}": ["a"] for number in range(10_000)}
    assert captures({"ip": "1"}, json.dumps({"headers": headers, "ip": "1"}).encode()) == {}


HOSTILE = {
    "brackets": b'{"ip": "1", "x": "' + b"[" * 16_000 + b'"}',
    "deep": b'{"ip": "1", "x": ' + b"[" * 900 + b"1" * 14_000 + b"]" * 900 + b"}",
    "digits": b'{"ip": "1", "x": [' + b",".join([b"9" * 4_000] * 4) + b"]}",
    "numbers": b'{"ip": "1", "x": [' + b"1," * 8_000 + b"1]}",
    "names": b'{"ip": "1", ' + b",".join(b'"%d":1' % number for number in range(1_600)) + b"}",
    "escapes": b'{"ip": "1", "x": "' + b"\\u0000" * 2_700 + b'"}',
    "unfinished": b'{"ip": "1", "x": "' + b"\\" * 16_000,
    "text": b'{"ip": "' + b"a" * 16_000 + b'"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_line_costs_no_more_than_its_length(name: str) -> None:
    """16 KB take less than a millisecond; what is asked for here leaves room for machines that have much to do."""
    line = HOSTILE[name]
    assert len(line) < 18_000
    fields = Fields({"ip": "(?P<address>(?:a|aa)*b)", "x": ".*"})

    def once() -> float:
        start = perf_counter()
        for _ in range(10):
            fields.captures(parse(line))
        return (perf_counter() - start) / 10

    assert min(once() for _ in range(5)) < 0.1


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), st.text(max_size=20), VALUES)
def test_a_rule_finds_what_python_finds(other: dict[str, Any], address: str, value: Any) -> None:
    line = json.dumps({**other, "ip": address, "list": [value, {"ip": address}]}).encode()
    found = {"address": address.encode("utf-8", "backslashreplace")}
    for path in ("ip", "list.1.ip"):
        assert captures({path: "(?P<address>(?s:.*))"}, line) == found


@given(st.binary(max_size=60))
def test_any_bytes(line: bytes) -> None:
    assert captures({"ip": "x"}, b'{"ip": "x"' + line) in (None, {})
