# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

from typing import Any

import pytest

from banagent.core.events import Entry
from banagent.core.filter import HOST, Failregex, Filter, Ignoreregex, Trust
from banagent.core.recognise import LONGEST, LONGEST_USER, Recogniser, View

FAILED = Failregex(name="failed", regex=rf"^Failed for (?P<user>.*) from {HOST}$")
LOOSE = Failregex(name="loose", regex=rf"^Failed .* from {HOST}", mode="extra")
QUIET = Ignoreregex(regex=r"^Failed for monitor from ")


def entry(message: bytes, **more: Any) -> Entry:
    known: dict[str, Any] = {"uid": 0, "unit": "x.service", "identifier": "xd", "pid": 7} | more
    return Entry(1, message, "p1", **known)


def recogniser(**views: tuple[str, tuple[Failregex, ...]]) -> Recogniser:
    """One jail for each keyword: (mode, patterns); all of a filter of the jail's name."""
    made = {
        name: View(
            Filter(
                name=name,
                file="-",
                description="-",
                units=("x.service",),
                identifiers=("xd",),
                failregexes=patterns,
                ignoreregexes=(QUIET,),
            ),
            mode,
        )
        for name, (mode, patterns) in views.items()
    }
    return Recogniser(made)


def found(of: Recogniser, item: Entry) -> list[tuple[str, str, str, str | None, int]]:
    hits = of.sift(item.message)
    return [(jail, o.pattern, str(o.address), o.user, o.times) for jail, o in of.offences(item, hits)]


ONE = recogniser(x=("normal", (FAILED, LOOSE)))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"Failed for root from 192.0.2.1", ("192.0.2.1", "root", 1)),
        # the address in any of its forms
        (b"Failed for root from ::ffff:192.0.2.1", ("192.0.2.1", "root", 1)),
        (b"Failed for root from [2001:db8::1]", ("2001:db8::1", "root", 1)),
        (b"Failed for root from fe80::1%eth0", ("fe80::1", "root", 1)),
        # one entry that stands for many
        (b"message repeated 3 times: [ Failed for root from 192.0.2.1]", ("192.0.2.1", "root", 3)),
        (b"message repeated 0 times: [ Failed for root from 192.0.2.1]", ("192.0.2.1", "root", 1)),
        # hostile user names: what the pattern's own end stands behind is the address
        (b"Failed for a from 192.0.2.66 from 192.0.2.1", ("192.0.2.1", "a from 192.0.2.66", 1)),
        (b"Failed for  from 192.0.2.1", ("192.0.2.1", "", 1)),
        (b"Failed for a\0b from 192.0.2.1", ("192.0.2.1", "a\0b", 1)),
        (b"Failed for a\nb from 192.0.2.1", ("192.0.2.1", "a\nb", 1)),
        (b"Failed for \xff\xfe from 192.0.2.1", ("192.0.2.1", "\\xff\\xfe", 1)),
        (b"Failed for \x1b[2J from 192.0.2.1", ("192.0.2.1", "\x1b[2J", 1)),
        (b"Failed for " + b"u" * 5000 + b" from 192.0.2.1", ("192.0.2.1", "u" * LONGEST_USER, 1)),
    ],
)
def test_recognises(message: bytes, expected: tuple[str, str, int]) -> None:
    assert found(ONE, entry(message)) == [("x", "failed", *expected)]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"Accepted for root from 192.0.2.1",
        b"xFailed for root from 192.0.2.1",
        # no address, though its letters could be some
        b"Failed for root from dead.beef",
        b"Failed for root from 1.2.3",
        b"Failed for root from 300.1.1.1",
        b"Failed for root from host.example",
        # the filter's own exception
        b"Failed for monitor from 192.0.2.1",
        # cut short, a newline behind it, a wrapper that is none
        b"Failed for root from 192.0.2.1\n",
        b"message repeated 3 times: [ Failed for root from 192.0.2.1",
        b"message repeated 99999999 times: [ Failed for root from 192.0.2.1]",
    ],
)
def test_does_not_recognise(message: bytes) -> None:
    assert found(ONE, entry(message)) == []


@pytest.mark.parametrize("mode", ["normal", "extra"])
@pytest.mark.parametrize("shift", range(-3, 14))
def test_a_line_cut_within_its_address_bans_nobody(mode: str, shift: int) -> None:
    """The enemy pads the line so that the cut falls into the address, which then would be somebody else's."""
    patterns = (FAILED, LOOSE)
    tail = b" from 192.0.2.123"
    message = b"Failed for " + b"u" * (LONGEST - len("Failed for ") - len(tail) + shift) + tail
    assert len(message) == LONGEST + shift
    addresses = {address for _, _, address, _, _ in found(recogniser(x=(mode, patterns)), entry(message))}
    assert addresses <= {"192.0.2.123"}


def test_a_megabyte_is_matched_as_far_as_it_is_read() -> None:
    loose = recogniser(x=("extra", (LOOSE,)))
    assert found(loose, entry(b"Failed x from 192.0.2.1 " + b"y" * 1_000_000))[0][2] == "192.0.2.1"
    assert found(ONE, entry(b"Failed for " + b"y" * 1_000_000 + b" from 192.0.2.1")) == []


def test_modes_and_order() -> None:
    both = recogniser(plain=("normal", (LOOSE, FAILED)), more=("extra", (LOOSE, FAILED)))
    line = entry(b"Failed for root from 192.0.2.1")
    assert [(jail, pattern) for jail, pattern, *_ in found(both, line)] == [("plain", "failed"), ("more", "loose")]


# whom it trusts: (unit, uid, identifier) and whether it counts
TRUST = Trust(("ssh.service", "ssh@*.service"), (0, 33), ("sshd",))


@pytest.mark.parametrize(
    ("unit", "uid", "identifier", "counts"),
    [
        ("ssh.service", 0, "sshd", True),
        ("ssh.service", 33, "sshd", True),
        ("ssh.service", 0, "other", True),
        ("ssh@4-10.0.0.1:22-10.0.0.2:999.service", 0, "sshd-session", True),
        # a user's process in the service's own cgroup
        ("ssh.service", 1000, "sshd", False),
        # no uid: not even journald knows
        ("ssh.service", None, "sshd", False),
        # other units, also those that only begin or end alike
        ("cron.service", 0, "sshd", False),
        ("ssh.service.evil.service", 0, "sshd", False),
        ("xssh.service", 0, "sshd", False),
        ("user@1000.service", 1000, "sshd", False),
        ("session-3.scope", 0, "sshd", False),
        # lost its unit: only root's, and only under the filter's identifiers
        (None, 0, "sshd", True),
        (None, 33, "sshd", False),
        (None, 1000, "sshd", False),
        (None, 0, "other", False),
        (None, 0, None, False),
    ],
)
def test_trust(unit: str | None, uid: int | None, identifier: str | None, *, counts: bool) -> None:
    item = entry(b"x", unit=unit, uid=uid, identifier=identifier)
    assert TRUST(item) is counts
    assert TRUST(item._replace(continuation=True)) is False


def test_untrusted_lines_are_counted() -> None:
    of = recogniser(x=("normal", (FAILED,)))
    assert found(of, entry(b"Failed for root from 192.0.2.1", uid=1000)) == []
    assert of.untrusted == 1


def test_no_jails() -> None:
    assert Recogniser({}).sift(b"x") == []
