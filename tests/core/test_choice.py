# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

from typing import Any

import pytest

from banagent.core.choice import Seen, kinds
from banagent.core.filter import Filter

BOTH = {"journal", "files"}


def item(**more: Any) -> Filter:
    told: dict[str, Any] = {"units": ("a.service",), "identifiers": ("a",), "logpath": ("/var/log/a.log",)}
    return Filter(name="a", file="a.toml", description="a", **(told | more))


def choose(of: Filter, *paths: str, journal: bool = False, mentioned: bool = False) -> set[str]:
    return set(kinds(of, Seen(lambda: journal, paths, lambda: mentioned)))


@pytest.mark.parametrize("source", ["journal", "files"])
def test_what_is_asked_for(source: str) -> None:
    assert choose(item(source=source), "/var/log/a.log", journal=True, mentioned=True) == {source}


def test_what_knows_one_kind_only() -> None:
    assert choose(item(logpath=()), journal=False) == {"journal"}
    assert choose(item(units=()), journal=True) == {"files"}  # identifiers alone are of entries that lost their unit


def test_files_of_syslog_repeat_the_journal() -> None:
    assert choose(item(), "/var/log/auth.log", journal=True, mentioned=True) == {"journal"}
    assert choose(item(), "/var/log/auth.log", mentioned=True) == {"files"}
    assert choose(item(), "/var/log/auth.log") == BOTH  # until one of them has it
    assert choose(item()) == BOTH


def test_files_of_its_own_have_what_the_journal_has_not() -> None:
    own = item(formats=("nginx-error",))
    assert choose(own, "/var/log/nginx/error.log", journal=True) == {"files"}  # the journal has nginx's start
    assert choose(own, journal=True) == {"journal"}
    assert choose(own) == BOTH


def test_where_it_may_be_either() -> None:
    either = item(formats=("dovecot", "syslog"))
    assert choose(either, "/var/log/mail.log", journal=True, mentioned=True) == {"journal"}
    assert choose(either, "/var/log/mail.log", "/var/log/dovecot.log", journal=True) == BOTH
