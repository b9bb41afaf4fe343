# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lock-out guard of an agent that was not there when the admin logged in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from banagent.control import client
from banagent.core.duration import HOUR
from banagent.core.events import SECOND
from bed.agent import CONFIG, PATIENCE, running
from bed.journald import make_journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bed.netns import Network

pytestmark = pytest.mark.kernel

ADMIN: Final = "198.51.100.20"
STRANGER: Final = "198.51.100.21"
FORMER: Final = "198.51.100.22"


class Folder(NamedTuple):
    """Journal files, where the agent is told to read."""

    path: Path


def entries(message: str, end: int, number: int = 1) -> Iterator[dict[str, Any]]:
    """Give entries of sshd, a second after one another."""
    for back in reversed(range(number)):
        time_ = end - back * SECOND
        usual = {
            "_SYSTEMD_UNIT": "ssh.service",
            "_UID": "0",
            "_PID": str(time_ % 4_000_000),
            "SYSLOG_IDENTIFIER": "sshd",
        }
        yield {"__REALTIME_TIMESTAMP": time_, "MESSAGE": message, **usual}


@pytest.mark.parametrize(("grace", "banned"), [("12h", {STRANGER}), ("90m", {ADMIN, STRANGER})])
def test_a_login_before_the_first_start(tmp_path: Path, network: Network, grace: str, banned: set[str]) -> None:
    now = time.time_ns() // 1000
    begin = now - 2 * HOUR * SECOND
    failed = "Failed password for alice from {} port 4022 ssh2"
    journal = make_journal(
        tmp_path / "journal",
        [
            *entries(f"Accepted password for alice from {ADMIN} port 4022 ssh2", begin),
            *entries(failed.format(FORMER), begin + SECOND * 60, 6),  # they are too old to count
            *entries(failed.format(ADMIN), now - 20 * SECOND, 6),
            *entries(failed.format(STRANGER), now - 10 * SECOND, 6),
        ],
    )
    (tmp_path / "banagent.toml").write_text(f'{CONFIG}guard = {{ users = ["alice"], grace = "{grace}" }}\n')
    with running(tmp_path, Folder(journal), network) as agent:  # type: ignore[arg-type]  # its folder alone is asked for
        agent.told("reading live")
        with client.Agent(str(tmp_path / "org.banagent"), patience=PATIENCE) as asked:
            assert {ban["address"] for reply in asked.stream("History") for ban in reply["bans"]} == banned
        agent.end()
