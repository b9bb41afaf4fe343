# SPDX-License-Identifier: LGPL-2.1-or-later
"""Booted machines for the tests of this folder, and the check that nothing stays behind on the host."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from system.bed.agent import Agent, copy_source, root_with_agent
from system.bed.footprint import footprint
from system.bed.machine import Machine
from system.bed.root import SUITES, Root, root_with_wheels

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping


class Boot(Protocol):
    """Boots the Debian of the test; the machine ends with the test."""

    def __call__(self, base: Root | None = None, *, binds: Mapping[Path, str] | None = None) -> Machine: ...


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let no timeout hit the making of a root, which takes minutes the first time; Machine has its own for booting.

    Each Debian has a worker of its own: all of them one after the other would take too long.
    """
    for item in items:
        if Path(__file__).parent in item.path.parents and isinstance(item, pytest.Function):
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(300, func_only=True))
            if hasattr(item, "callspec") and "root" in item.callspec.params:
                item.add_marker(pytest.mark.xdist_group(f"system-{item.callspec.params['root']}"))


@pytest.fixture(scope="session", params=os.environ.get("BANAGENT_SUITES", " ".join(SUITES)).split())
def root(request: pytest.FixtureRequest) -> Root:
    """Give each Debian that BANAGENT_SUITES names; all of them unless it is set."""
    assert os.geteuid() == 0, "the system tier needs root: it boots machines in namespaces of its own"
    return root_with_wheels(request.param)


@pytest.fixture
def boot(root: Root) -> Iterator[Boot]:
    """Give what boots machines; it checks at the end that nothing is left of them."""
    with ExitStack() as machines:

        def boot_one(base: Root | None = None, *, binds: Mapping[Path, str] | None = None) -> Machine:
            return machines.enter_context(_without_a_trace(base or root, binds))

        yield boot_one


@pytest.fixture
def machine(boot: Boot) -> Machine:
    """Give a fresh machine."""
    return boot()


@contextmanager
def _without_a_trace(root: Root, binds: Mapping[Path, str] | None) -> Generator[Machine]:
    with Machine(root, binds=binds) as machine:
        yield machine
        traces = footprint(machine)
    assert traces.left() == []


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of what is installed."""
    return copy_source(tmp_path_factory.mktemp("source") / "banagent")


@pytest.fixture(scope="session")
def agent_root(root: Root, source: Path) -> Root:
    """Give the Debian of the test with banagent, as `make install` has installed it."""
    return root_with_agent(root, source)


@pytest.fixture
def agent(boot: Boot, agent_root: Root) -> Agent:
    """Give a fresh machine with banagent, which is neither enabled nor running."""
    return Agent(boot(agent_root))
