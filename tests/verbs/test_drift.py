# SPDX-License-Identifier: LGPL-2.1-or-later
"""What looks like a failure, and the shape of a line."""

from __future__ import annotations

import time

import pytest

from banagent.verbs.drift import Drift, looks_failed, shape_of


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        # addresses
        ("from 192.0.2.1 port 22", "from <address> port <number>"),
        ("from 192.0.2.0/24: x", "from <address>: x"),
        ("rhost=2001:db8::5", "rhost=<address>"),
        ("[2001:db8::5]:22 ::ffff:192.0.2.1", "[<address>]:<number> <address>"),
        ("2001:db8:1:2:3:4:5:6 ::1 fe80::1:2", "<address> <address> <address>"),
        ("at 03:00:59", "at <number>:<number>:<number>"),
        ("version 1.2.3 at 03:00", "version <number>.<number>.<number> at <number>:<number>"),
        ("at mail.evil.example now", "at <host> now"),
        # names
        ("for invalid user bob from", "for invalid user <name> from"),
        ("for bob from", "for <name> from"),
        ("user=bob, ruser= rhost=x user bob", "user=<name>, ruser= rhost=x user <name>"),
        ("<bob@evil.example> said", "<…> said"),
        ("bob@evil.example said", "<mail> said"),
        # quotes, numbers
        ('no such "user a" here', 'no such "…" here'),
        ("no such 'user a' here", "no such '…' here"),
        ("pid 4711: 0xdeadbeef00 deadbeef00", "pid <number>: <hex> <hex>"),
        ("facade decade", "facade decade"),
    ],
)
def test_shape(line: str, shape: str) -> None:
    assert shape_of(line) == shape


@pytest.mark.parametrize(
    ("line", "failed"),
    [
        ("authentication failure; user=bob", True),
        ("Too many tries", True),
        ("client denied by server configuration", True),
        ("Server listening on 0.0.0.0 port 22.", False),
        # successes, also of a user with a telling name; and no success in a user's name
        ("Accepted password for failed from 192.0.2.1 port 22", False),
        ("Disconnected from user bob 192.0.2.1 port 22", False),
        ("pam_unix(sshd:session): session opened for user failed", False),
        ("Failed riddle for Accepted from 192.0.2.1", True),
        ("session opened for user failed(uid=1000) by (uid=0)", False),
    ],
)
def test_what_looks_like_a_failure(line: str, failed: bool) -> None:  # noqa: FBT001 - a table
    assert looks_failed(line) == failed
    assert looks_failed(shape_of(line)) == failed


def test_a_user_name_is_no_reason() -> None:
    drift = Drift()
    drift.add(b"hello to user attacker", "a.service")
    drift.add(b'hello to "attacker"', "a.service")
    assert list(drift.shapes()) == []


def test_counts_and_bounds() -> None:
    drift = Drift()
    for number in range(20_000):
        drift.add(
            b"failed in %s" % "".join(chr(97 + number // 26**n % 26) for n in range(4)).encode(), f"{number}.service"
        )
    for number in range(3):
        drift.add(b"failed in %d" % number, "a.service")
    shapes = drift.shapes()
    assert len(shapes) == 10_000
    assert drift.others == 10_000 + 3
    for number in range(50):
        drift.add(b"failed in aaaa", f"{number}.service")
    (shape, most), *_ = drift.shapes()
    assert (shape, most.count, len(most.units)) == ("failed in aaaa", 51, 10)


def test_hostile_lines_take_no_time() -> None:
    """The shape is made of the first bytes alone, with bounded repeats."""
    drift = Drift()
    before = time.process_time()
    for piece in (
        b"a:",
        b"1",
        b"f",
        b"a.",
        b"user ",
        b'"',
        b"0f",
        b"a@",
        b"1.1.1.",
        b"<",
        b"::",
        b"x" * 64 + b"@",
        b"for=",
    ):
        drift.add(b"failed " + piece * (1_000_000 // len(piece)), "")
    assert time.process_time() - before < 20  # what is not linear takes hours
