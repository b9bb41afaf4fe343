# SPDX-License-Identifier: LGPL-2.1-or-later
"""Entries as `journalctl -o json` prints them, and those that somebody else made up."""

from __future__ import annotations

import json

import pytest

from banagent.core.events import JOURNAL
from banagent.verbs.exported import entry, unread


def line(**fields: object) -> bytes:
    return json.dumps({"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1763780400000000", **fields}).encode()


def test_an_entry_with_its_fields() -> None:
    found = entry(line(MESSAGE="hello", _SYSTEMD_UNIT="a.service", _UID="0", _PID="7", SYSLOG_IDENTIFIER="a"))
    assert found is not None
    assert found[:9] == (1763780400000000, b"hello", "s=1", 0, "a.service", None, 7, False, JOURNAL)
    assert found.more["__CURSOR"] == "s=1"
    without_unit = entry(line(MESSAGE="hello", SYSLOG_IDENTIFIER="a"))
    assert without_unit is not None
    assert (without_unit.unit, without_unit.uid, without_unit.identifier) == (None, None, "a")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("h\xe9", b"h\xc3\xa9"),
        ([104, 255, 0], b"h\xff\0"),
        (["first", "second"], b"first"),
        ([[104, 105], "second"], b"hi"),
        # too long for journalctl without --all
        (None, b""),
        # made up
        ([], b""),
        ([256], b""),
        ([-1], b""),
        ([1, "x"], b""),
        ([[[1]]], b""),
        (1, b""),
        ({"a": 1}, b""),
        ("\ud800", b"\xed\xa0\x80"),
    ],
)
def test_message(told: object, message: bytes) -> None:
    found = entry(line(MESSAGE=told))
    assert found is not None
    assert found.message == message


def test_numbers_that_are_made_up() -> None:
    found = entry(line(MESSAGE="x", __REALTIME_TIMESTAMP="9" * 19, _UID="-1", _PID="²"))
    assert found is not None
    assert (found.time, found.uid, found.pid) == (0, None, None)


@pytest.mark.parametrize(
    "text",
    [
        b"hello",
        b"{}",
        b'{"MESSAGE": "hello"}',
        b'{"message": "\\"__CURSOR\\""}',
        b'{"__CURSOR": ',
        b'{"__CURSOR": "\xff"}',
        b'{"__CURSOR": 1' + b"0" * 10_000 + b"}",
        b'{"__CURSOR": ' + b"[" * 100_000,
    ],
)
def test_something_else(text: bytes) -> None:
    assert entry(text) is None


@pytest.mark.parametrize(
    ("text", "output"),
    [
        (b"__CURSOR=s=1;i=2", "export"),
        (b"Sun 2026-11-22 03:00:00.123456 UTC [s=1;i=2]", "verbose"),
        (b'\t"__CURSOR" : "s=1",', "json-pretty"),
        (b'\x1e{"__CURSOR":"s=1"}', "json-seq"),
        (b'data: {"__CURSOR":"s=1"}', "json-sse"),
        (b"Nov 22 03:00:00.123456 host sshd[7]: hello", "short-precise"),
        (b"Sun 2026-11-22 03:00:00 UTC host ssh.service[7]: hello", "short-full or with-unit"),
        (b"1763780400.123456 host sshd[7]: hello", "short-unix"),
        (b"[  123.456789] host sshd[7]: hello", "short-monotonic"),
        (b"[  123.456789 <    0.000001 >] host sshd[7]: hello", "short-delta"),
        (b"Nov 22 03:00:00 host sshd[7]: hello", None),
        (b"2026-11-22T03:00:00+0000 host sshd[7]: hello", None),
        (b"hello", None),
    ],
)
def test_what_is_not_read(text: bytes, output: str | None) -> None:
    assert unread([b"", text]) == output
