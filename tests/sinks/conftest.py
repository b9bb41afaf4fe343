# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the firewall share: firewalls in a network namespace, on the real kernel."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Protocol

import pytest

from banagent.sinks.nft import Firewall
from bed.netns import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from banagent.sinks.nft import Ports


class OpenFirewall(Protocol):
    """Open a firewall for `jails` in a namespace; it is closed at the end of the test."""

    def __call__(self, namespace: Namespace, jails: Mapping[str, Ports | None]) -> Firewall: ...


@pytest.fixture
def nft_namespace() -> Iterator[Namespace]:
    """Give a network namespace without rules, and with nothing in it but lo."""
    with closing(Namespace()) as namespace:
        yield namespace


@pytest.fixture
def open_firewall() -> Iterator[OpenFirewall]:
    """Give what opens firewalls."""
    with ExitStack() as opened:

        def open_one(namespace: Namespace, jails: Mapping[str, Ports | None]) -> Firewall:
            firewall = Firewall(jails)
            with namespace.entered():
                firewall.open()
            opened.callback(firewall.close)
            return firewall

        yield open_one
