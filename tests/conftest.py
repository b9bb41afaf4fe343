# SPDX-License-Identifier: LGPL-2.1-or-later
"""What all tests share: the tiers, the beds, and that each test leaves nothing behind.

A test is in the tier `pure` unless `pytestmark = pytest.mark.kernel` (or `demo`) says otherwise, or it is in `system/`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import structlog
from hypothesis import settings

from bed import settled, tiers
from bed.journald import Journald
from bed.netns import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE: Final = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Make the tiers known as markers."""
    for tier, need in tiers.TIERS.items():
        config.addinivalue_line("markers", f"{tier}: {need}")
    settled.adopt_orphans()
    settings.register_profile("unhurried", settings(), deadline=None)  # the machine is shared
    settings.load_profile("unhurried")


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its tier, and put the slow tiers first: at the end they would run alone.

    Each of these keeps to one worker: machines that boot side by side are slow, and their tests look at the time.
    """
    for item in items:
        tier = _tier(item)
        item.user_properties.append(("tier", tier))
        if tier in ("system", "demo") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(tier))
    items.sort(key=lambda item: -list(tiers.TIERS).index(_tier(item)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Don't run what this machine can't; on a machine that is there to run everything, fail instead."""
    if reason := tiers.why_not(_tier(item)):
        if os.environ.get("CI") == "true":
            pytest.fail(f"this machine can't run the tier {_tier(item)}: {reason}", pytrace=False)
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table: tier, tests run, seconds."""
    if terminalreporter.config.option.collectonly:
        return
    reports = [
        report
        for category, of_it in terminalreporter.stats.items()
        for report in of_it
        if isinstance(report, pytest.TestReport) and category != "skipped"
    ]
    ran = {report.nodeid for report in reports if report.when == "call"}
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for report in reports:
        if report.nodeid in ran:
            seconds[str(dict(report.user_properties)["tier"])][report.nodeid] += report.duration
    terminalreporter.section("tiers")
    for line in tiers.table({tier: tests.values() for tier, tests in seconds.items()}):
        terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _settled() -> Iterator[None]:
    """Fail a test that leaves something behind."""
    before = settled.state()
    yield
    structlog.reset_defaults()  # a verb sets how much its process logs
    if left := settled.left_behind(before):
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    """Give a private journald."""
    with Journald(tmp_path / "journald") as running:
        yield running


@pytest.fixture
def network() -> Iterator[Network]:
    """Give a host and the world around it, as network namespaces."""
    with Network() as made:
        yield made


@pytest.fixture
def sshd(journald: Journald) -> Iterator[Callable[..., None]]:
    """Give what a server in ssh.service writes: failed passwords from an address."""
    with journald.writer(comm="sshd-session") as writer:
        writer.syslog("Server listening on 0.0.0.0 port 22.")

        def fails(address: str, times: int = 3) -> None:
            for number in range(times):
                writer.syslog(f"Failed password for root from {address} port {4000 + number} ssh2", pid=number)

        yield fails


def _tier(item: pytest.Item) -> str:
    marked = [mark.name for mark in item.iter_markers() if mark.name in tiers.TIERS]
    if marked:
        return marked[0]
    return "system" if (HERE / "system") in item.path.parents else "pure"
