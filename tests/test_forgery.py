# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may accuse whom: genuine and forged entries of a real journald, all the way to the decision."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from banagent.config import load
from banagent.core.bans import Bans
from banagent.core.events import JOURNAL
from banagent.core.never import Host
from banagent.enforce import Enforcer
from banagent.pipeline import Pipeline
from banagent.sinks.history import History
from banagent.sinks.trail import Trail
from banagent.sources.journal import Journal
from bed.journald import Journald, service, session, user_unit

if TYPE_CHECKING:
    from pathlib import Path

    from banagent.config import Config
    from banagent.core.bans import Standing
    from banagent.core.events import Entry

pytestmark = pytest.mark.kernel

LINE = "Failed password for root from 192.0.2.1 port %d ssh2"
ALIVE = 1.0  # seconds that the forger stays, so that journald has all the time to find out who it is


def judge(path: Path, config: Config | None = None) -> tuple[list[Entry], list[Standing]]:
    """Read a journal as the agent does; give the entries read and the bans that stand then."""
    history = History(None)
    enforcer = Enforcer(Bans(), history, lambda: time.time_ns() // 1000, dry=True)
    pipeline = Pipeline(
        config or load(), Host(), history, enforcer, choose=lambda _: frozenset({JOURNAL}), trail=Trail(None)
    )
    journal = Journal([item.filter for item in pipeline.configs.values() if not item.counts_bans], path)
    journal.seek_time(0)
    entries: list[Entry] = []
    while (batch := journal.read(pipeline.sift())).read:
        entries += [entry for entry, _ in batch.entries]
        pipeline.handle(batch)
    journal.close()
    enforcer.close()
    return entries, enforcer.standing()


@pytest.mark.parametrize(
    ("cgroup", "unit", "uid"),
    [
        (session(3, uid=1000), "session-3.scope", 1000),
        (user_unit("evil.service", uid=1000), "user@1000.service", 1000),
        (service("cron.service"), "cron.service", 1000),
        # without logind a user's processes stay in sshd's own cgroup
        (service("ssh.service"), "ssh.service", 1000),
        # root, but not sshd: a script that repeats what it was told
        (service("cron.service"), "cron.service", 0),
        (session(4, uid=0), "session-4.scope", 0),
    ],
)
def test_a_forger_bans_nobody(journald: Journald, cgroup: str, unit: str, uid: int) -> None:
    with journald.writer(cgroup, uid=uid) as writer:
        for number in range(10):
            writer.send(LINE % number)
            writer.syslog(LINE % number)
        # trusted fields can't be set by a sender
        writer.send(LINE % 10, _SYSTEMD_UNIT="ssh.service", _UID="0")
        journald.sync()
        time.sleep(ALIVE)
    entries, banned = judge(journald.path)
    assert [(entry.unit, entry.uid) for entry in entries] == [(unit, uid)] * 21
    assert banned == []


def test_the_same_lines_from_sshd_ban(journald: Journald) -> None:
    with journald.writer() as writer:
        for number in range(5):
            writer.syslog(LINE % number, pid=number)
    entries, banned = judge(journald.path)
    assert {(entry.unit, entry.uid) for entry in entries} == {("ssh.service", 0)}
    assert [str(item.address) for item in banned] == ["192.0.2.1"]


def test_genuine_lines_that_lost_their_unit_count(journald: Journald) -> None:
    """In a flood journald looks at a process only when it is gone."""
    for number in range(5):
        with journald.frozen(), journald.writer(comm="sshd-session", brief=True) as writer:
            writer.syslog(LINE % number, identifier="sshd-session")
    journald.sync()
    entries, banned = judge(journald.path)
    assert [(entry.unit, entry.uid, entry.identifier) for entry in entries] == [(None, 0, "sshd-session")] * 5
    assert [str(item.address) for item in banned] == ["192.0.2.1"]


def test_a_users_lines_that_lost_their_unit_do_not(journald: Journald) -> None:
    for number in range(5):
        with journald.frozen(), journald.writer(session(3, uid=1000), uid=1000, brief=True) as writer:
            writer.syslog(LINE % number)
    journald.sync()
    entries, banned = judge(journald.path)
    assert [(entry.unit, entry.uid) for entry in entries] == [(None, 1000)] * 5
    assert banned == []


def test_what_follows_a_line_cut_by_journald_bans_nobody(journald: Journald) -> None:
    """sshd -e behind a unit: an enemy pads the line so that the next piece begins with his own words."""
    forged = (LINE % 22).encode()
    with journald.writer() as writer:
        for _ in range(10):
            writer.stdout(b"x" * 48 * 1024 + forged + b"\n")
    entries, banned = judge(journald.path)
    assert [(entry.message, entry.unit, entry.uid, entry.continuation) for entry in entries] == [
        (forged, "ssh.service", os.getuid(), True),
    ] * 10
    assert banned == []


MAIL = 12345  # the service's own user
REPEATERS = f"""
[jails.postfix]
enabled  = true
units    = ["postfix@-.service", "apache2.service"]
uids     = [{MAIL}]
maxretry = 3

[jails.recidive]
enabled  = true
maxretry = 1
"""


@pytest.mark.parametrize(
    ("cgroups", "jails"),
    [
        ([service("postfix@-.service")], ["postfix", "recidive"]),
        # where web applications run as one user, each can write what the others might have: it counts, but no further
        ([service("apache2.service")], ["postfix"]),
        ([service("apache2.service"), service("postfix@-.service")], ["postfix"]),
        ([session(3, uid=MAIL)], []),
        ([service("cron.service")], []),
    ],
)
def test_whose_bans_recidive_counts(journald: Journald, tmp_path: Path, cgroups: list[str], jails: list[str]) -> None:
    line = "warning: unknown[192.0.2.1]: SASL LOGIN authentication failed: UGFzc3dvcmQ6"
    for cgroup in cgroups:
        with journald.writer(cgroup, uid=MAIL) as writer:
            for number in range(3 // len(cgroups) + 1):
                writer.syslog(line, identifier="postfix/smtpd", pid=number)
            journald.sync()
    file = tmp_path / "banagent.toml"
    file.write_text(REPEATERS)
    entries, banned = judge(journald.path, load(config=file))
    assert {entry.uid for entry in entries} == {MAIL}
    assert sorted(item.jail for item in banned) == jails
