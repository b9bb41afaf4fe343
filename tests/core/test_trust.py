# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whom a filter trusts that asks for more than units; those are in test_recognise.py."""

from __future__ import annotations

from typing import Any

import pytest

from banagent.core.events import Entry
from banagent.core.filter import REMEMBERED, Filter, Trust, asked_for

KERNEL = {"_TRANSPORT": "kernel"}


def entry(unit: str | None = None, uid: int | None = 0, identifier: str | None = None, **more: str) -> Entry:
    return Entry(1, b"", "p", uid, unit, identifier, 7, more=more)


def wanting(**keys: Any) -> Trust:
    return Trust(Filter(name="x", file="-", description="-", **keys))


SLICES = wanting(slices=("system-postfix.slice", "web-*.slice"), identifiers=("postfix/*smtpd",))
CONTAINERS = wanting(containers=("web", "shop-*"), uids=(33,))
FIELDS = wanting(fields={"_COMM": ("vpn", "vpn-*"), "_EXE": ("/usr/sbin/*",)})
BOTH = wanting(units=("a.service",), identifiers=("a",), fields={"_COMM": ("a",)})
NETWORK = wanting(fields={"_TRANSPORT": ("kernel",)})
MIXED = wanting(units=("a.service",), fields={"_TRANSPORT": ("syslog", "kern*")})
NOBODY = wanting(identifiers=("x",))


@pytest.mark.parametrize(
    ("trust", "item", "counts"),
    [
        # slices, exact and globs, with their uids
        (SLICES, entry("postfix@-.service", _SYSTEMD_SLICE="system-postfix.slice"), True),
        (SLICES, entry("x.service", _SYSTEMD_SLICE="web-shop.slice"), True),
        (SLICES, entry("x.service", 1000, _SYSTEMD_SLICE="web-shop.slice"), False),
        (SLICES, entry("x.service", _SYSTEMD_SLICE="system.slice"), False),
        (SLICES, entry("x.service", _SYSTEMD_SLICE="xweb-shop.slice"), False),
        (SLICES, entry("x.service"), False),
        # identifiers that are globs, for entries that lost their unit
        (SLICES, entry(identifier="postfix/submission/smtpd"), True),
        (SLICES, entry(identifier="postfix/qmgr"), False),
        (SLICES, entry(uid=1000, identifier="postfix/smtpd"), False),
        # containers: the word of whoever collects what they write, and nobody else's
        (CONTAINERS, entry("docker.service", CONTAINER_NAME="web"), True),
        (CONTAINERS, entry("libpod-conmon-0123abcd.scope", CONTAINER_NAME="shop-1"), True),
        (CONTAINERS, entry("docker.service", CONTAINER_NAME="other"), False),
        (CONTAINERS, entry("docker.service"), False),
        (CONTAINERS, entry("docker.service", 33, CONTAINER_NAME="web"), False),
        (CONTAINERS, entry("cron.service", CONTAINER_NAME="web"), False),
        (CONTAINERS, entry("session-3.scope", CONTAINER_NAME="web"), False),
        # what runs in a container may be root too, and name another one
        (CONTAINERS, entry("docker-0123abcd.scope", CONTAINER_NAME="web"), False),
        (CONTAINERS, entry("libpod-0123abcd.scope", CONTAINER_NAME="web"), False),
        (CONTAINERS, entry("user@1000.service", 1000, CONTAINER_NAME="web"), False),
        (CONTAINERS, entry(CONTAINER_NAME="web"), False),
        # fields alone: all must fit, whatever the unit
        (FIELDS, entry("a.service", _COMM="vpn", _EXE="/usr/sbin/vpn"), True),
        (FIELDS, entry(_COMM="vpn-2", _EXE="/usr/sbin/vpn"), True),
        (FIELDS, entry("a.service", _COMM="vpn", _EXE="/tmp/vpn"), False),
        (FIELDS, entry("a.service", _COMM="vpn"), False),
        (FIELDS, entry("a.service", 1000, _COMM="vpn", _EXE="/usr/sbin/vpn"), False),
        (FIELDS, entry(None, 1000, _COMM="vpn", _EXE="/usr/sbin/vpn"), False),
        # fields beside units: both
        (BOTH, entry("a.service", _COMM="a"), True),
        (BOTH, entry("a.service", _COMM="b"), False),
        (BOTH, entry("b.service", _COMM="a"), False),
        (BOTH, entry(identifier="a", _COMM="a"), True),
        (BOTH, entry(identifier="a", _COMM="b"), False),
        # the kernel has neither unit nor uid
        (NETWORK, entry(None, None, "kernel", **KERNEL), True),
        (NETWORK, entry(None, 0, "kernel", _TRANSPORT="syslog"), False),
        (NETWORK, entry(None, None, "kernel", _TRANSPORT="syslog"), False),
        (NETWORK, entry(None, 1000, "kernel", _TRANSPORT="syslog"), False),
        (MIXED, entry(None, None, "kernel", **KERNEL), True),
        (MIXED, entry("a.service", _TRANSPORT="syslog"), True),
        (MIXED, entry("a.service", _TRANSPORT="stdout"), False),
        (FIELDS, entry(None, None, "kernel", **KERNEL), False),
        (BOTH, entry(None, None, "a", **KERNEL), False),
        # who asks for nothing trusts only what lost its unit
        (NOBODY, entry("x.service"), False),
        (NOBODY, entry(None, None, "x"), False),
        (NOBODY, entry(identifier="x"), True),
    ],
)
def test_trust(trust: Trust, item: Entry, *, counts: bool) -> None:
    assert trust(item) is counts
    assert trust(item) is counts  # from memory
    assert trust(item._replace(continuation=True)) is False


def test_lines_of_files_count_by_their_identifier_alone() -> None:
    trust = wanting(units=("x.service",), identifiers=("sshd", "postfix/*smtpd"), fields={"_COMM": ("x",)})
    line = Entry(1, b"", "p", None, None, None, None, source="/var/log/auth.log")
    assert trust(line)
    assert trust(line._replace(identifier="sshd"))
    assert trust(line._replace(identifier="postfix/smtpd"))
    assert not trust(line._replace(identifier="su"))
    assert not trust(line._replace(continuation=True))
    # and what was found of one is not taken for an entry of the journal
    assert not trust(line._replace(identifier="sshd", source="journal"))


def test_what_decides_is_remembered_apart() -> None:
    trust = wanting(units=("a.service",), fields={"_EXE": ("/usr/sbin/*",)})
    for number in range(2 * REMEMBERED):
        assert trust(entry("a.service", _EXE=f"/usr/sbin/{number}"))
        assert not trust(entry("a.service", _EXE=f"/tmp/{number}"))


def test_what_it_wants_to_know() -> None:
    item = Filter(name="x", file="-", description="-", slices=("a.slice",), containers=("b",), fields={"_COMM": ("c",)})
    assert asked_for(item) == ("CONTAINER_NAME", "_COMM", "_SYSTEMD_SLICE")
    assert asked_for(Filter(name="x", file="-", description="-", units=("a.service",))) == ()


def test_units_whose_entries_may_count() -> None:
    trust = wanting(units=("ssh@*.service",), slices=("web.slice",))
    assert trust.watches("ssh@1.service", None)
    assert trust.watches("x.service", "web.slice")
    assert not trust.watches("x.service", "system.slice")
    assert wanting(containers=("web",)).watches("docker.service", "system.slice")
    assert not wanting(units=("a.service",)).watches("docker.service", "system.slice")
