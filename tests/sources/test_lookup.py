# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a service logs to the journal, and when it did so last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from banagent.errors import JournalError
from banagent.sources.lookup import LOOKED_AT, MOST, Lookup
from sources.journals import START, made, wanting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.kernel

SSHD = {"_SYSTEMD_UNIT": "ssh.service", "SYSLOG_IDENTIFIER": "sshd"}
KERNEL = {"_TRANSPORT": "kernel", "_UID": None, "_PID": None}


def last(path: Path, *lines: Mapping[str, Any], **keys: Any) -> int | None:
    """Write lines, and give the number of the one that is found."""
    made(path, [{"MESSAGE": "x", **line} for line in lines])
    lookup = Lookup(path)
    time = lookup.last_entry(wanting(**keys))
    lookup.close()
    return None if time is None else time - START


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"units": ("ssh.service",), "identifiers": ("sshd",)}, 1),
        ({"units": ("ssh.service",), "identifiers": ("ssh*",)}, 1),
        ({"units": ("s?h.service",), "identifiers": ("sshd", "x")}, 1),
        ({"units": ("ssh.service",)}, 2),
        ({"units": ("ssh.service",), "identifiers": ("other",)}, 2),
        ({"units": ("ssh.service",), "identifiers": ("none",)}, None),
        ({"units": ("ssh.service",), "uids": (33,)}, None),
        ({"units": ("ssh.service", "cron.service"), "uids": (0, 1000)}, 3),
        ({"units": ("none.service",)}, None),
        ({"units": ("none*.service",)}, None),
        ({"slices": ("a.slice",)}, 4),
        ({"slices": ("?.slice",)}, 4),
        ({"containers": ("web",)}, 5),
        ({"containers": ("w*",)}, 5),
        ({"fields": {"_TRANSPORT": ("kernel",)}}, 7),
        ({"fields": {"_TRANSPORT": ("kern*",)}}, 7),
        ({"units": ("ssh.service",), "fields": {"_TRANSPORT": ("kernel",)}}, 7),
        ({"fields": {"_COMM": ("sshd",)}}, 0),
        ({"identifiers": ("sshd",)}, None),
        ({}, None),
    ],
)
def test_the_last_entry_that_counts(tmp_path: Path, keys: dict[str, Any], found: int | None) -> None:
    lines: list[dict[str, Any]] = [
        {**SSHD, "_COMM": "sshd"},
        SSHD,
        {**SSHD, "SYSLOG_IDENTIFIER": "other"},
        {**SSHD, "_SYSTEMD_UNIT": "cron.service", "_UID": 1000},
        {"_SYSTEMD_UNIT": "b.service", "_SYSTEMD_SLICE": "a.slice"},
        {"_SYSTEMD_UNIT": "docker.service", "CONTAINER_NAME": "web"},
        {"_SYSTEMD_UNIT": "session-3.scope", "CONTAINER_NAME": "web", "_UID": 1000},
        KERNEL,
        {"SYSLOG_IDENTIFIER": "kernel"},
    ]
    assert last(tmp_path / "j", *lines, **keys) == found


def test_nobody_can_hide_a_service(tmp_path: Path) -> None:
    """Not by writing under its name."""
    forged = {"_SYSTEMD_UNIT": "session-3.scope", "_UID": 1000, "SYSLOG_IDENTIFIER": "sshd"}
    lines: list[dict[str, Any]] = [SSHD, *[forged] * (2 * LOOKED_AT)]
    assert last(tmp_path / "j", *lines, units=("ssh.service",), identifiers=("sshd",)) == 0
    assert last(tmp_path / "k", *lines, units=("ssh@*.service", "ssh.*"), identifiers=("sshd*",)) == 0


def test_instances_by_the_thousand(tmp_path: Path) -> None:
    """An attack on an sshd that is started by a socket."""
    number = 10 * MOST
    lines = [
        {"_SYSTEMD_UNIT": f"ssh@{n:06}-192.0.2.1:4711.service", "SYSLOG_IDENTIFIER": "sshd"} for n in range(number)
    ]
    assert last(tmp_path / "j", *lines, units=("ssh@*.service",), identifiers=("sshd",)) == number - 1


def test_no_further_than_some_entries(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [SSHD, *[{**SSHD, "SYSLOG_IDENTIFIER": "x"}] * LOOKED_AT]
    assert last(tmp_path / "j", *lines, units=("ssh.service",), identifiers=("ssh*",)) is None
    assert last(tmp_path / "k", *lines[:-1], units=("ssh.service",), identifiers=("ssh*",)) == 0


def test_it_can_be_asked_several_times(tmp_path: Path) -> None:
    lookup = Lookup(made(tmp_path / "j", [{**SSHD, "MESSAGE": "F"}]))
    assert lookup.last_entry(wanting(units=("ssh.service",))) == START
    assert lookup.last_entry(wanting(units=("cron.service",))) is None
    lookup.close()


def test_no_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal files"):
        Lookup(tmp_path).last_entry(wanting(units=("ssh.service",)))
