# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of real packets: dropped if and only if some ban covers their address and port."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banagent.core.address import Network as Address
from banagent.core.address import parse_address, parse_network
from banagent.core.bans import Standing
from bed.netns import ATTACKER, ATTACKER6, GATEWAY, GATEWAY6, HOST, HOST6, NEIGHBOURS, NEIGHBOURS6

if TYPE_CHECKING:
    from collections.abc import Iterator

    from banagent.sinks.nft import Firewall, Ports
    from bed.netns import Namespace, Network
    from sinks.conftest import OpenFirewall

pytestmark = pytest.mark.kernel

JAILS: dict[str, Ports | None] = {"ssh": ((22, 22), (2200, 2299)), "recidive": None}
BOTH = [(HOST, ATTACKER), (HOST6, ATTACKER6)]
NEAR = [(HOST, NEIGHBOURS[0]), (HOST6, NEIGHBOURS6[0])]
LIMIT = 30.0  # s, for what takes less than a millisecond


def ban(jail: str, address: str) -> Standing:
    return Standing(jail, parse_network(address), None)


def around(address: str) -> str:
    """Give the network that an offender is banned with."""
    return f"{address}/64" if ":" in address else f"{address}/24"


@pytest.fixture
def firewall(network: Network, open_firewall: OpenFirewall) -> Firewall:
    """Give the host's firewall, without bans."""
    opened = open_firewall(network.host, JAILS)
    opened.restore([], 0)
    return opened


@pytest.fixture
def servers(network: Network) -> Iterator[None]:
    """Listen on the host: TCP 22, 2299 and 80, all addresses."""
    with ExitStack() as listening:
        for port in (22, 2299, 80):
            listening.enter_context(network.host.listening(port))
        yield


# before, during, after; ports against all


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize(("target", "source"), BOTH)
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("jail", JAILS)
def test_a_ban_drops_and_its_end_lets_pass(
    network: Network, firewall: Firewall, target: str, source: str, jail: str, *, wide: bool
) -> None:
    reaches = {port: network.world.connect(target, port, source=source) for port in (22, 2299, 80)}
    assert set(reaches.values()) == {"connected"}
    banned = ban(jail, around(source) if wide else source)
    firewall.ban([banned], 0)
    reaches = {port: network.world.connect(target, port, source=source) for port in (22, 2299, 80)}
    dropped = {22, 2299, 80} if jail == "recidive" else {22, 2299}
    assert reaches == {port: "silence" if port in dropped else "connected" for port in (22, 2299, 80)}
    firewall.unban([(banned.jail, banned.address)], 0)
    reaches = {port: network.world.connect(target, port, source=source) for port in (22, 2299, 80)}
    assert set(reaches.values()) == {"connected"}


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize(("target", "source"), BOTH)
def test_nested_bans_end_one_by_one(network: Network, firewall: Firewall, target: str, source: str) -> None:
    bans = [ban("ssh", source), ban("ssh", around(source)), ban("recidive", source)]
    firewall.ban(bans, 0)
    for index, one in enumerate(bans, start=1):
        assert network.world.connect(target, 22, source=source) == "silence"
        firewall.unban([(one.jail, one.address)], 0)
        assert network.world.connect(target, 80, source=source) == ("silence" if index < 3 else "connected")
    assert network.world.connect(target, 22, source=source) == "connected"


@pytest.mark.parametrize(("target", "source"), BOTH)
def test_an_established_connection_is_cut(network: Network, firewall: Firewall, target: str, source: str) -> None:
    with network.host.listening(22) as server:
        with network.world.entered():
            client = socket.create_connection((target, 22), source_address=(source, 0), timeout=10)
        served, _ = server.accept()
        with client, served:
            client.send(b"1")
            assert served.recv(1) == b"1"
            served.settimeout(0.3)
            firewall.ban([ban("recidive", source)], 0)
            client.send(b"2")
            with pytest.raises(TimeoutError):
                served.recv(1)


def test_the_counter_counts(network: Network, firewall: Firewall) -> None:
    firewall.ban([ban("ssh", ATTACKER)], 0)
    with network.world.entered():
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with udp:
        udp.bind((ATTACKER, 0))
        for _ in range(7):
            udp.sendto(b"12345678", (HOST, 22))
        udp.sendto(b"", (HOST, 23))
    assert "counter packets 7 bytes 252 drop" in network.host.run("nft", "list", "ruleset")  # 20 + 8 + 8 bytes each


# whom a ban must not hit


@pytest.mark.parametrize(("target", "source"), NEAR + BOTH)
def test_the_hosts_own_connections_go_on(network: Network, firewall: Firewall, target: str, source: str) -> None:
    with network.world.listening(8080), network.host.listening(22):
        firewall.ban([ban("recidive", around(source)), ban("ssh", around(source)), ban("recidive", source)], 0)
        assert network.world.connect(target, 22, source=source) == "silence"
        assert network.host.connect(source, 8080, source=target) == "connected"
        assert network.host.ask(source, 8081, source=target) == "refused"  # an ICMP error is an answer to it as well


@pytest.mark.usefixtures("servers")
def test_neighbours_are_found_though_their_network_is_banned(network: Network, firewall: Firewall) -> None:
    """Without neighbour discovery, the gateway of a banned on-link network is lost, and all others with it."""
    firewall.ban([ban("recidive", "2001:db8:1::/64"), ban("ssh", "2001:db8:1::/64")], 0)
    for namespace in (network.host, network.world):
        namespace.run("ip", "-6", "neigh", "flush", "all")
    assert network.world.connect(HOST6, 22, source=NEIGHBOURS6[1]) == "silence"
    assert network.world.connect(HOST6, 22, source=ATTACKER6) == "connected"
    assert "REACHABLE" in network.host.run("ip", "-6", "neigh", "show", GATEWAY6)


def test_loopback_is_never_banned(network: Network, firewall: Firewall) -> None:
    with network.host.listening(22):
        for address in ("127.0.0.1", "::1", HOST, HOST6, "127.0.0.0/8", "::/1"):
            firewall.ban([ban("recidive", address), ban("ssh", address)], 0)
        for address in ("127.0.0.1", "::1", HOST, HOST6):
            assert network.host.connect(address, 22, source=address) == "connected"


@pytest.mark.usefixtures("servers")
def test_what_is_routed_through_is_not_ours(network: Network, firewall: Firewall) -> None:
    """A guest with an address of its own, behind the host."""
    network.host.set("ipv4/ip_forward", 1)
    guest = "10.9.9.9"
    network.world.run("ip", "route", "add", guest, "via", HOST)
    with network.host.entered():  # what comes for the guest goes back to the world, where it is seen
        network.host.run("ip", "route", "add", guest, "via", GATEWAY)
    network.world.run("ip", "address", "add", f"{guest}/32", "dev", "lo")
    network.world.run("ip", "rule", "add", "pref", "10", "to", guest, "iif", "lo", "lookup", "100")
    network.world.run("ip", "route", "add", guest, "via", HOST, "table", "100")
    network.world.run("ip", "rule", "add", "pref", "20", "lookup", "local")
    network.world.run("ip", "rule", "del", "pref", "0")
    firewall.ban([ban("recidive", GATEWAY), ban("ssh", GATEWAY)], 0)
    assert network.world.connect(HOST, 22, source=GATEWAY) == "silence"
    with network.world.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    network.world.set("ipv4/conf/all/accept_local", 1)
    with server, client:
        server.bind((guest, 22))
        server.settimeout(LIMIT)
        client.bind((GATEWAY, 0))
        client.sendto(b"through", (guest, 22))
        assert server.recv(100) == b"through"


@pytest.mark.parametrize("jail", ["ssh", "recidive"])
def test_published_ports_are_covered(network: Network, firewall: Firewall, jail: str) -> None:
    """A container's port 22, published by DNAT as the host's 2222."""
    network.host.nft(
        "table ip nat { chain p { type nat hook prerouting priority dstnat; tcp dport 2222 dnat to :9022; }; }"
    )
    with network.host.listening(9022):
        assert network.world.connect(HOST, 2222, source=ATTACKER) == "connected"
        firewall.ban([ban(jail, ATTACKER)], 0)
        assert network.world.connect(HOST, 2222, source=ATTACKER) == "silence"


def test_packets_without_a_connection_are_dropped_too(network: Network, firewall: Firewall) -> None:
    """What conntrack doesn't know (notrack here; or calls invalid) is no reply to anything of ours."""
    network.host.nft("table ip raw { chain p { type filter hook prerouting priority raw; notrack; }; }")
    with network.host.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server:
        server.bind((HOST, 80))
        assert receives(network.world, [(ATTACKER, 80), (NEIGHBOURS[0], 80)], {80: server}) == {0, 1}
        firewall.ban([ban("recidive", ATTACKER)], 0)
        assert receives(network.world, [(ATTACKER, 80), (NEIGHBOURS[0], 80)], {80: server}) == {1}


# no gap


@pytest.mark.parametrize(("others", "times"), [(0, 200), (20_000, 10)])
def test_a_restore_lets_no_packet_pass(network: Network, firewall: Firewall, others: int, times: int) -> None:
    bans = [Standing("ssh", Address((0x0B000000 + number).to_bytes(4, "big"), 32), None) for number in range(others)]
    bans += [
        ban("ssh", ATTACKER),
        ban("recidive", around(ATTACKER6)),
        ban("recidive", ATTACKER),
        ban("ssh", "10.0.0.0/8"),
    ]
    firewall.restore(bans, 0)
    done = threading.Event()
    with network.host.entered():
        server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with network.world.entered():
        clients = {socket.socket(socket.AF_INET, socket.SOCK_DGRAM): (ATTACKER, HOST)}
        clients[socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)] = (ATTACKER6, HOST6)
    sent = 0

    def flood() -> None:
        nonlocal sent
        while not done.is_set():
            for client, (_, target) in clients.items():
                client.sendto(b"x", (target, 22))
                sent += 1

    with ExitStack() as sockets:
        for one in (server, *clients):
            sockets.enter_context(one)
        server.bind(("::", 22))
        for client, (source, _) in clients.items():
            client.bind((source, 0))
        thread = threading.Thread(target=flood)
        thread.start()
        for number in range(times):
            firewall.restore(bans[: others + 2 + number % 3], 0)
        done.set()
        thread.join()
        assert sent > 1000
        assert receives(network.world, [(NEIGHBOURS[0], 22)], {22: server}) == {0}
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(1)


# any bans, any packets

PORTS = (21, 22, 23, 80, 443, 65535)
PROPERTY_JAILS: dict[str, Ports | None] = {
    "ssh": ((22, 22),),
    "low": ((21, 23),),
    "web": ((80, 80), (443, 65535)),
    "recidive": None,
}
SOURCES = ("198.51.100.1", "198.51.100.2", "198.51.100.129", "203.0.113.1", "2001:db8:bad::1", "2001:db8:bad::2",
           "2001:db8:bad:1::1", "2001:db8:bad:ff00::1")  # fmt: skip
LENGTHS = {4: (32, 32, 31, 25, 24, 8), 6: (128, 64, 64, 63, 56, 48, 32)}


@st.composite
def networks(draw: Any) -> Address:
    address = parse_address(draw(st.sampled_from(SOURCES)))
    return address.widen(draw(st.sampled_from(LENGTHS[address.version])))


bans_strategy = st.dictionaries(
    st.tuples(st.sampled_from(sorted(PROPERTY_JAILS)), networks()), st.sampled_from((None, 1, 10**15)), max_size=8
)
packets_strategy = st.lists(st.tuples(st.sampled_from(SOURCES), st.sampled_from(PORTS)), min_size=1, max_size=25)


def covers(ports: Ports | None, port: int) -> bool:
    return ports is None or any(first <= port <= last for first, last in ports)


def receives(world: Namespace, packets: list[tuple[str, int]], servers: dict[int, socket.socket]) -> set[int]:
    """Send UDP packets, each from its address to its port; give the numbers of those that the host receives.

    Packets of one sender don't overtake one another, so one that nobody bans tells when all have arrived.
    """
    with ExitStack() as sockets:
        for number, (source, port) in enumerate([*packets, *((GATEWAY, port) for port in servers)]):
            family = socket.AF_INET6 if ":" in source else socket.AF_INET
            with world.entered():
                client = sockets.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            client.bind((source, 0))
            client.sendto(number.to_bytes(4, "big"), (HOST if family == socket.AF_INET else HOST6, port))
    received: set[int] = set()
    for server in servers.values():
        server.settimeout(LIMIT)
        while (number := int.from_bytes(server.recv(4), "big")) < len(packets):
            received.add(number)
    return received


def test_a_packet_is_dropped_if_and_only_if_a_ban_covers_it(network: Network, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(network.host, PROPERTY_JAILS)
    firewall.restore([], 0)
    now = 10
    with ExitStack() as sockets:
        servers: dict[int, socket.socket] = {}
        for port in PORTS:
            with network.host.entered():
                servers[port] = sockets.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            servers[port].bind(("::", port))

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(bans_strategy, packets_strategy, st.booleans())
        def holds(bans: dict[tuple[str, Address], int | None], packets: list[tuple[str, int]], anew: bool) -> None:  # noqa: FBT001 - hypothesis gives it by position
            wanted = [Standing(*key, end) for key, end in bans.items()]
            if anew:
                firewall.restore(wanted, now)
            else:  # the table goes on growing
                firewall.unban([one[:2] for one in firewall.standing()], now)
                firewall.ban(wanted, now)
            passing = {
                number
                for number, (source, port) in enumerate(packets)
                if not any(
                    (end is None or end > now)
                    and address.covers(parse_address(source))
                    and covers(PROPERTY_JAILS[jail], port)
                    for (jail, address), end in bans.items()
                )
            }
            assert receives(network.world, packets, servers) == passing

        holds()
