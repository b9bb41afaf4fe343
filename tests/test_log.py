# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import pytest

from banagent.core.events import timestamp
from banagent.log import line, quote


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("root", "root"),
        (5, "5"),
        ("192.0.2.1", "192.0.2.1"),
        ("", '""'),
        # an enemy's user name stays within its quotes and leaves the terminal alone
        ("a b", '"a b"'),
        ("x jail=sshd", '"x jail=sshd"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("a\nb\r\0", '"a\\nb\\r\\x00"'),
        ("\x1b[31m\x9b2J\x7f", '"\\x1b[31m\\x9b2J\\x7f"'),
        ("\u202e\u2028", '"\\u202e\\u2028"'),
        ("ä", '"ä"'),
    ],
)
def test_quote(value: object, expected: str) -> None:
    assert quote(value) == expected


def test_line() -> None:
    event = {"event": "banned", "level": "info", "message_id": "banned", "jail": "sshd", "user": "a b", "end": None}
    assert line(event) == 'banned jail=sshd user="a b"'


def test_timestamp() -> None:
    assert timestamp(1_700_000_000_999_999) == "2023-11-14T22:13:20Z"
    assert timestamp(None) == "permanent"
