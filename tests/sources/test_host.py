# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel says about a network namespace, and of what it gives notice."""

from __future__ import annotations

import asyncio
import select
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from banagent.sources.host import HostAddresses
from bed.netns import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from banagent.core.address import Network

pytestmark = pytest.mark.kernel

QUIET = 0.2  # seconds without a notice
ROUTER = "lladdr 02:00:00:00:00:01 dev v0 router"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with closing(Namespace()) as made:
        batch = """\
            link add v0 type veth peer name v1
            address add 192.0.2.1/24 dev v0
            address add 2001:db8:1::1/64 dev v0
            link set v0 up
            link set v1 up
        """
        made.run("ip", "-batch", "-", text=batch)
        yield made


@pytest.fixture
def host(namespace: Namespace) -> Iterator[HostAddresses]:
    with namespace.entered(), closing(HostAddresses()) as made:
        yield made


def texts(networks: Iterable[Network]) -> list[str]:
    return sorted(str(net) for net in networks if not str(net).startswith("fe80::") or str(net) == "fe80::1")


@pytest.mark.parametrize(
    ("command", "gateways"),
    [
        ("route add default via 192.0.2.254", ["192.0.2.254"]),
        ("route add default via fe80::1 dev v0 proto ra", ["fe80::1"]),  # as the kernel itself makes it
        ("route add 10.0.0.0/8 table 77 nexthop via 192.0.2.9 nexthop via 192.0.2.8", ["192.0.2.8", "192.0.2.9"]),
        ("route add 2001:db8:7::/64 nexthop via 2001:db8:1::8 nexthop via 2001:db8:1::9", None),
        ("route add 10.0.0.0/8 via inet6 2001:db8:1::7 dev v0", ["2001:db8:1::7"]),
        (
            "route add 10.0.0.0/8 nexthop via inet6 2001:db8:1::7 dev v0 nexthop via 192.0.2.9",
            ["192.0.2.9", "2001:db8:1::7"],
        ),
        ("nexthop add id 5 via 192.0.2.7 dev v0", ["192.0.2.7"]),
        (f"neighbour add fe80::1 {ROUTER} nud reachable", ["fe80::1"]),
        (f"neighbour add 2001:db8:1::5 {ROUTER} nud stale", ["2001:db8:1::5"]),
        # no gateways: others on the link, routes to nowhere
        ("neighbour add 2001:db8:1::5 lladdr 02:00:00:00:00:01 dev v0", []),
        ("route add blackhole 10.0.0.0/8", []),
        ("route add 10.0.0.0/8 dev v0", []),
    ],
)
def test_gateways(namespace: Namespace, host: HostAddresses, command: str, gateways: list[str] | None) -> None:
    with namespace.entered():
        assert texts(host.read().gateways) == []
        namespace.run("ip", *command.split())
        found = texts(host.read().gateways)
        assert found == (["2001:db8:1::8", "2001:db8:1::9"] if gateways is None else gateways)
        assert texts(asyncio.run(host.look()).gateways) == found


def test_addresses_and_bridges(namespace: Namespace, host: HostAddresses) -> None:
    with namespace.entered():
        assert texts(host.read().addresses) == ["127.0.0.1", "192.0.2.1", "2001:db8:1::1", "::1"]
        assert host.read().bridged == frozenset()
        namespace.run("ip", "link", "add", "br0", "type", "bridge")
        namespace.run("ip", "address", "add", "172.18.0.1/16", "dev", "br0")
        found = host.read()
        assert "172.18.0.1" in texts(found.addresses)
        assert texts(found.bridged) == ["172.18.0.0/16"]
        assert "172.18.0.0/16" in texts(found.on_link)


def test_many_routes(namespace: Namespace, host: HostAddresses) -> None:
    routes = (f"route add 10.{n >> 8}.{n & 255}.0/24 via 192.0.2.{2 + n % 200}" for n in range(5000))
    namespace.run("ip", "-batch", "-", text="\n".join([*routes, ""]))
    with namespace.entered():
        assert len(host.read().gateways) == 200
        assert len(asyncio.run(host.look()).gateways) == 200


@pytest.mark.parametrize(
    ("command", "is_told"),
    [
        ("address add 192.0.2.5/24 dev v0", True),
        ("route add 10.0.0.0/8 via 192.0.2.9", True),
        ("route add 10.0.0.0/8 table 77 via 192.0.2.9", True),
        ("route add 2001:db8:7::/64 via 2001:db8:1::8", True),
        ("nexthop add id 5 via 192.0.2.7 dev v0", True),
        (f"neighbour add fe80::1 {ROUTER} nud reachable", True),
        # what a busy link says all day long wakes nobody
        (f"neighbour add fe80::1 {ROUTER} nud stale", False),
        ("neighbour add 192.0.2.5 lladdr 02:00:00:00:00:01 dev v0 nud reachable", False),
        ("link set v0 alias x", False),
    ],
)
def test_notices(namespace: Namespace, host: HostAddresses, command: str, is_told: bool) -> None:  # noqa: FBT001 - a table
    assert host.read() is not None
    while select.select([host], [], [], QUIET)[0]:  # the link that has just come up
        host.drain()
    namespace.run("ip", *command.split())
    # the kernel gives notice before the command ends
    assert bool(select.select([host], [], [], 0)[0]) == is_told
    host.drain()
    assert not select.select([host], [], [], 0)[0]
