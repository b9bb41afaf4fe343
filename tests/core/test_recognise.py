# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from banagent.core.events import Entry
from banagent.core.filter import HOST, Failregex, Filter, Ignoreregex, Trust
from banagent.core.recognise import LONGEST, LONGEST_TEXT, MOST, Recogniser, View

FAILED = Failregex(name="failed", regex=rf"^Failed for (?P<user>.*) from {HOST}$")
LOOSE = Failregex(name="loose", regex=rf"^Failed .* from {HOST}", mode="extra")
QUIET = Ignoreregex(regex=r"^Failed for monitor from ")
FILTER = Filter(name="f", file="-", description="-", units=("x.service",), failregexes=(FAILED,))


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
        (b"Failed for " + b"u" * 5000 + b" from 192.0.2.1", ("192.0.2.1", "u" * LONGEST_TEXT, 1)),
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


@pytest.mark.parametrize(
    "name", ["dead.beef", "1.2.3", "300.1.1.1", "host.example", "UNKNOWN", "-", "192.0.2.1.example"]
)
def test_a_name_is_a_failure_without_address(name: str) -> None:
    message = b"Failed for root from " + name.encode()
    assert found(ONE, entry(message)) == [("x", "failed", "None", "root", 1)]


def test_an_address_is_looked_for_behind_the_first_pattern_that_matches() -> None:
    """The one that finds it counts; if none does, the first."""
    name = Failregex(name="name", regex=rf"^Failed for (?P<user>.*) from {HOST} ")
    both = recogniser(x=("normal", (name, FAILED)))
    assert found(both, entry(b"Failed for root from a.example from 192.0.2.1"))[0][1:3] == ("failed", "192.0.2.1")
    assert found(both, entry(b"Failed for root from a.example from b.example"))[0][1:3] == ("name", "None")


def test_a_link_takes_no_failure_away() -> None:
    """A line that tells of a failure counts, even if a link finds an address in it."""
    failed = Failregex(name="failed", regex="^(?P<session>[0-9]+) failed")
    told = Failregex(name="told", regex=rf"^(?P<session>[0-9]+) .* by {HOST}$")
    linked = replace(FILTER, session="id", failregexes=(failed,), links=(told,))
    of = Recogniser({"x": View(linked, "normal")})
    line = entry(b"7 failed by 192.0.2.1")
    ((_, offence),) = of.offences(line, of.sift(line.message))
    assert (offence.pattern, offence.times, offence.session) == ("failed", 1, "7")
    line = entry(b"7 opened by 192.0.2.1")
    ((_, offence),) = of.offences(line, of.sift(line.message))
    assert (offence.pattern, offence.times, str(offence.address)) == ("told", 0, "192.0.2.1")


COUNTING = Failregex(name="count", regex=rf"^(?P<count>.*) failures of {HOST}$")


@pytest.mark.parametrize(
    ("count", "times"),
    [
        (b"3", 3),
        (b"007", 7),
        # an entry is a failure, whatever number it gives
        (b"0", 1),
        (b"", 1),
        (b"-3", 1),
        (b"1e9", 1),
        (b"\xb2", 1),
        # nobody fails as often as an enemy can write
        (b"1000000", MOST),
        (b"9" * 8000, MOST),
    ],
)
def test_a_line_that_stands_for_many(count: bytes, times: int) -> None:
    of = recogniser(x=("normal", (COUNTING,)))
    assert found(of, entry(count + b" failures of 192.0.2.1")) == [("x", "count", "192.0.2.1", None, times)]
    wrapped = b"message repeated 2 times: [ " + count + b" failures of 192.0.2.1]"
    assert found(of, entry(wrapped)) == [("x", "count", "192.0.2.1", None, 2 * times)]


JSON = Failregex(name="json", regex="", json={"status": "401", "request.ip": HOST, "request.user": "(?P<user>.*)"})


@pytest.mark.parametrize("padding", [0, 100_000])
def test_an_object_of_json_is_parsed_whole(padding: int) -> None:
    """Who makes it long does not escape, as its end is not cut off."""
    of = recogniser(x=("normal", (JSON, FAILED)))
    request = {"ip": "[2001:db8::1]:22", "user": 'x","ip":"192.0.2.66', "agent": "y" * padding}
    line = json.dumps({"status": 401, "request": request}).encode()
    expected = [("x", "json", "2001:db8::1", 'x","ip":"192.0.2.66', 1)]
    assert found(of, entry(line)) == expected
    assert found(of, entry(b"message repeated 1 times: [ " + line + b"]")) == expected
    assert found(of, entry(line[:-1])) == []
    assert found(of, entry(line.replace(b"401", b"200"))) == []
    assert found(of, entry(b"Failed for root from 192.0.2.1"))[0][1] == "failed"


def test_an_ignored_object_of_json() -> None:
    ignored = Ignoreregex(regex="", json={"status": "4.."})
    of = Recogniser({"x": View(replace(FILTER, failregexes=(JSON,), ignoreregexes=(ignored,)), "normal")})
    line = entry(b'{"status": 401, "request": {"ip": "192.0.2.1", "user": ""}}')
    assert len(of.sift(line.message)) == 2
    assert found(of, line) == []


@pytest.mark.parametrize(
    ("told_by", "position", "pid", "session"),
    [
        ("pid", "s=1;i=2;b=0123456789abcdef0123456789abcdef;m=3", 7, "7@0123456789abcdef0123456789abcdef"),
        ("pid", "/var/log/x@12:345", 7, "7"),
        ("pid", "p", None, None),
        ("id", "p", 7, "abc"),
    ],
)
def test_what_tells_a_session(told_by: str, position: str, pid: int | None, session: str | None) -> None:
    failed = Failregex(name="failed", regex=rf"^(?P<session>\w+): failed {HOST}$")
    of = Recogniser({"x": View(replace(FILTER, session=told_by, failregexes=(failed,)), "normal")})
    line = entry(b"abc: failed 192.0.2.1", pid=pid)._replace(position=position)
    ((_, offence),) = of.offences(line, of.sift(line.message))
    assert offence.session == session


@pytest.mark.parametrize("mode", ["normal", "extra"])
@pytest.mark.parametrize("shift", range(-3, 14))
def test_a_line_cut_within_its_address_bans_nobody(mode: str, shift: int) -> None:
    """The enemy pads the line so that the cut falls into the address, which then would be somebody else's."""
    patterns = (FAILED, LOOSE)
    tail = b" from 192.0.2.123"
    message = b"Failed for " + b"u" * (LONGEST - len("Failed for ") - len(tail) + shift) + tail
    assert len(message) == LONGEST + shift
    addresses = {address for _, _, address, _, _ in found(recogniser(x=(mode, patterns)), entry(message))}
    assert addresses <= {"192.0.2.123", "None"}


def test_a_user_who_is_cut_failed_nevertheless() -> None:
    behind = Failregex(name="behind", regex=rf"^Failed from {HOST} as (?P<user>.*)")
    message = b"Failed from 192.0.2.1 as " + b"u" * 1_000_000
    assert found(recogniser(x=("normal", (behind,))), entry(message)) == [
        ("x", "behind", "192.0.2.1", "u" * LONGEST_TEXT, 1)
    ]


def test_a_session_that_is_cut_is_none() -> None:
    behind = Failregex(name="behind", regex=rf"^Failed from {HOST} in (?P<session>.*)")
    of = Recogniser({"x": View(replace(FILTER, session="id", failregexes=(behind,)), "normal")})
    assert found(of, entry(b"Failed from 192.0.2.1 in " + b"7" * 1_000_000)) == []


def test_a_megabyte_is_matched_as_far_as_it_is_read() -> None:
    loose = recogniser(x=("extra", (LOOSE,)))
    assert found(loose, entry(b"Failed x from 192.0.2.1 " + b"y" * 1_000_000))[0][2] == "192.0.2.1"
    assert found(ONE, entry(b"Failed for " + b"y" * 1_000_000 + b" from 192.0.2.1")) == []


def test_modes_and_order() -> None:
    both = recogniser(plain=("normal", (LOOSE, FAILED)), more=("extra", (LOOSE, FAILED)))
    line = entry(b"Failed for root from 192.0.2.1")
    assert [(jail, pattern) for jail, pattern, *_ in found(both, line)] == [("plain", "failed"), ("more", "loose")]


# whom it trusts: (unit, uid, identifier) and whether it counts
TRUST = Trust(
    Filter(
        name="sshd",
        file="-",
        description="-",
        units=("ssh.service", "ssh@*.service"),
        uids=(0, 33),
        identifiers=("sshd",),
    )
)


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


def test_senders_who_are_not_trusted_are_told() -> None:
    refused: list[tuple[Entry, str]] = []
    of = Recogniser({"x": View(FILTER, "normal")}, refused=lambda item, name: refused.append((item, name)))
    line = entry(b"Failed for root from 192.0.2.1", uid=1000)
    assert found(of, line) == []
    assert refused == [(line, "f")]
    # not of what tells no address, nor of what counts, nor of what nobody asked for
    for message, uid in ((b"Failed for root from x", 1000), (b"Failed for root from 192.0.2.1", 0), (b"x", 1000)):
        found(of, entry(message, uid=uid))
    assert refused == [(line, "f")]


def test_no_jails() -> None:
    assert Recogniser({}).sift(b"x") == []


def test_a_filter_is_not_compared_with_thousands_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    some = replace(FILTER, failregexes=(replace(FAILED, regex=rf"^{HOST}$"),))
    views = {f"x{number}": View(replace(some, name=f"x{number}"), "normal") for number in range(1000)}
    compared: list[object] = []

    def equal(one: object, other: object) -> bool:
        compared.append(other)
        return one is other

    monkeypatch.setattr(Filter, "__eq__", equal)
    Recogniser(views)
    assert len(compared) <= len(views)
