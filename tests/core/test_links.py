# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose a session is may be told before a failure, or after it, or never."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.core import links as module
from banagent.core.address import parse_network
from banagent.core.bans import Bans
from banagent.core.events import SECOND, Offence
from banagent.core.jail import Jail, Rule
from banagent.core.links import LIFETIME, LIMIT, WAITING, Links
from banagent.core.never import Never


def line(
    second: float, session: str | None = "1", address: str | None = None, user: str | None = None, **more: Any
) -> Offence:
    known: dict[str, Any] = {"filter": "ldap", "pattern": "p", "times": 0} | more
    net = None if address is None else parse_network(address)
    return Offence(int(second * SECOND), f"p{second:g}", net, user, session=session, **known)


def failure(second: float, session: str | None = "1", **more: Any) -> Offence:
    return line(second, session, times=more.pop("times", 1), **more)


def told(links: Links, *lines: Offence) -> list[tuple[str, str | None, int, str]]:
    """Give the failures that the lines complete: address, user, times and position."""
    return [(str(o.address), o.user, o.times, o.position) for item in lines for o in links.resolve(item)]


ACCEPT = line(1, address="192.0.2.1")
BIND = line(2, user="uid=bob")
RESULT = failure(3)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # either may come first; the line that completes it is where it stands
        ([ACCEPT, BIND, RESULT], [("192.0.2.1", "uid=bob", 1, "p3")]),
        ([RESULT, BIND, ACCEPT], [("192.0.2.1", "uid=bob", 1, "p1")]),
        ([BIND, RESULT, ACCEPT], [("192.0.2.1", "uid=bob", 1, "p1")]),
        ([ACCEPT, RESULT], [("192.0.2.1", None, 1, "p3")]),
        # each failure counts, with what was known of the user then
        ([ACCEPT, BIND, RESULT, line(4, user="eve"), failure(5)], [("192.0.2.1", "uid=bob", 1, "p3"),
                                                                   ("192.0.2.1", "eve", 1, "p5")]),
        ([RESULT, failure(4, times=2), line(5, address="192.0.2.1")], [("192.0.2.1", None, 1, "p5"),
                                                                       ("192.0.2.1", None, 2, "p5")]),
        # what a failure says itself wins
        ([ACCEPT, failure(2, user="x")], [("192.0.2.1", "x", 1, "p2")]),
        ([ACCEPT, failure(2, address="192.0.2.2")], [("192.0.2.2", None, 1, "p2")]),
        ([failure(2, address="192.0.2.2"), failure(3)], [("192.0.2.2", None, 1, "p2"), ("192.0.2.2", None, 1, "p3")]),
        # an empty user is one
        ([BIND, ACCEPT, failure(3, user="")], [("192.0.2.1", "", 1, "p3")]),
        # others' sessions, and lines of none
        ([ACCEPT, failure(2, "2")], []),
        ([ACCEPT, failure(2, None)], [("None", None, 1, "p2")]),
        ([line(1, None, "192.0.2.1"), failure(2, None, address="192.0.2.3")], [("192.0.2.3", None, 1, "p2")]),
        # no failure, nothing told
        ([ACCEPT, BIND], []),
        ([], []),
    ],
)  # fmt: skip
def test_what_lines_tell_together(lines: list[Offence], expected: list[tuple[str, str | None, int, str]]) -> None:
    assert told(Links(), *lines) == expected


def test_an_id_that_is_used_again_by_another_connection() -> None:
    """After a restart a service counts its connections from the beginning."""
    links = Links()
    assert told(links, ACCEPT, BIND, RESULT) != []
    assert told(links, line(4, address="192.0.2.2"), failure(5)) == [("192.0.2.2", None, 1, "p5")]
    assert links.lost == 0


def test_a_session_that_is_over_tells_nothing() -> None:
    links = Links()
    later = LIFETIME // SECOND + 3
    assert told(links, ACCEPT, BIND, failure(later - 1)) == [("192.0.2.1", "uid=bob", 1, f"p{later - 1:g}")]
    links = Links()
    assert told(links, ACCEPT, BIND, failure(later)) == []
    # and what waited in it waits no more
    assert told(links, line(2 * later, address="192.0.2.2")) == []
    assert links.lost == 1


def test_those_that_are_over_are_forgotten() -> None:
    links = Links()
    for number in range(100):
        links.resolve(failure(number, str(number), times=2))
    for number in range(60):
        links.resolve(line(LIFETIME // SECOND + 200, f"new{number}"))
    assert links.lost == 200
    assert len(list(links.items())) == 60


def test_the_oldest_go_first_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LIMIT >= 10_000
    monkeypatch.setattr(module, "LIMIT", 3)
    links = Links()
    for second, session in enumerate("abcad"):  # of these b is the oldest
        links.resolve(line(second, session, f"192.0.2.{ord(session)}"))
    assert [key for key, _ in links.items()] == [b"c", b"a", b"d"]
    assert told(links, failure(9, "a")) == [("192.0.2.97", None, 1, "p9")]
    assert told(links, failure(9, "b")) == []


def test_failures_that_wait_are_few() -> None:
    """Whoever has a service write failures of nobody takes no more memory than that."""
    links = Links()
    for second in range(WAITING + 5):
        links.resolve(failure(second, user="x" * 256))
    assert links.lost == 5
    assert len(told(links, line(99, address="192.0.2.1"))) == WAITING
    ((_, value),) = links.items()
    assert len(value) < 300


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"{", b"[]", b"[1, 2]", b"\xff", b'[1, "x", null, []]', b'["x", null, null, []]'),
        b"[Infinity, null, null, []]",
        *(b"[1, null, null, [[]]]", b"[1, null, null, 7]", b'[1, null, null, ["x"]]', b"null"),
        b'[1, null, null, [["x", "", null, null, "f", "p", "1", 1, 1, false]]]',
    ],
)  # fmt: skip
def test_load_leaves_out_rubbish(value: bytes) -> None:
    links = Links()
    good = [(b"2", b'[5, "192.0.2.1", "bob", []]')]
    links.load([(b"1", value), *good])
    assert list(links.items()) == good
    assert told(links, failure(6, "2")) == [("192.0.2.1", "bob", 1, "p6")]


def test_a_jail_counts_what_is_told_and_what_is_lost() -> None:
    rule = Rule(findtime=60, maxretry=2, bantime=600, sessions=True, links=True)
    jail = Jail("ldap", rule, Never(), Bans())
    assert jail.consider(ACCEPT) == []
    assert jail.consider(RESULT) == []
    assert jail.failures == 1
    for second in range(WAITING + 3):
        jail.consider(failure(second, "other"))
    assert (jail.failures, jail.unaddressed) == (1, 3)
    jail.consider(failure(4, None))
    assert jail.unaddressed == 4
    heir = Jail("ldap", rule, Never(), Bans())
    heir.inherit(jail)
    assert (heir.failures, heir.unaddressed) == (1, 4)
    (ban,) = heir.consider(failure(30, user="eve"))
    assert (str(ban.address), ban.user, ban.position, ban.failures) == ("192.0.2.1", "eve", "p30", 2)


def test_one_line_can_complete_the_failures_that_ban() -> None:
    jail = Jail("ldap", Rule(findtime=60, maxretry=3, bantime=600, links=True), Never(), Bans())
    assert [jail.consider(failure(second)) for second in range(3)] == [[]] * 3
    (ban,) = jail.consider(line(5, address="192.0.2.1"))
    assert (ban.start, ban.position, ban.failures) == (5 * SECOND, "p5", 3)


# what happens: a line, a checkpoint, or the agent is killed and goes on from the last checkpoint
LINES = st.tuples(
    st.sampled_from("abcd"),
    st.sampled_from([None, None, "192.0.2.1", "192.0.2.2", "2001:db8::/64"]),
    st.sampled_from([None, None, "bob", ""]),
    st.integers(0, 3),
)


@given(st.lists(st.tuples(LINES, st.sampled_from(["", "", "save", "kill"]), st.booleans()), max_size=60))
def test_killed_anywhere_is_as_if_it_were_not(happening: list[tuple[Any, str, bool]]) -> None:
    """What is read since a checkpoint is read again; counts of what is lost are those since the start."""
    lines = [
        line(number + (LIFETIME // SECOND if late else 0) * number, session, address, user, times=times)
        for number, ((session, address, user, times), _, late) in enumerate(happening)
    ]
    lines.sort(key=lambda item: item.time)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LIMIT", 3)
        patch.setattr(module, "WAITING", 2)
        whole = Links()
        expected = [whole.resolve(item) for item in lines]
        found: dict[int, list[Offence]] = {}
        rows: dict[bytes, bytes] = {}
        links, position, number = Links(), 0, 0
        for _, what, _ in happening:
            found[number] = links.resolve(lines[number])
            number += 1
            if what == "save":
                _save(links, rows)
                position = number
            elif what == "kill":
                links, number = Links(), position
                links.load(rows.items())
        for rest in range(number, len(lines)):
            found[rest] = links.resolve(lines[rest])
        assert [found[place] for place in range(len(lines))] == expected
        assert dict(links.items()) == dict(whole.items())


def _save(links: Links, rows: dict[bytes, bytes]) -> None:
    """Make a checkpoint, as the history does: in the order of the keys."""
    for key, value in links.changes():
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value
    for key in sorted(rows):
        rows[key] = rows.pop(key)
    links.saved()
    assert rows == dict(links.items())
