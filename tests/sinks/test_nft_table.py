# SPDX-License-Identifier: LGPL-2.1-or-later
"""What stands in the real kernel's table, as nft(8) and the firewall itself read it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from banagent.core.address import Network, parse_network
from banagent.core.bans import Standing
from banagent.errors import FirewallError
from banagent.sinks.nft import Firewall
from banagent.sinks.nft.elements import pack_keys
from banagent.sinks.nft.firewall import _list  # pyright: ignore[reportPrivateUsage] - to make what it would not
from banagent.sinks.nft.netlink import CREATE, DELSETELEM, NEWSETELEM, Message

if TYPE_CHECKING:
    from banagent.sinks.nft import Ports
    from bed.netns import Namespace
    from sinks.conftest import OpenFirewall

pytestmark = pytest.mark.kernel

SECOND = 1_000_000
HOUR = 3600 * SECOND
TICK = SECOND // 100  # the kernel counts timeouts in ticks, of which there are at least 100 a second
MAX = 9_223_372_036_854  # ms
JAILS: dict[str, Ports | None] = {"sshd": ((22, 22),), "recidive": None}


def clock() -> int:
    return time.time_ns() // 1000


def ban(jail: str, address: str, end: int | None = None) -> Standing:
    return Standing(jail, parse_network(address), end)


def listed(namespace: Namespace, what: str = "ruleset") -> list[dict[str, Any]]:
    """Give what nft lists, as it prints JSON."""
    objects = json.loads(namespace.run("nft", "-j", "list", *what.split()))["nftables"]
    return [dict(one) for one in objects if "metainfo" not in one]


class Left(NamedTuple):
    """What nft says of an element: how long it stands in all, and from now; None: for ever."""

    timeout: int | None  # s
    expires: int | None


def elements(namespace: Namespace) -> dict[tuple[str, str], Left]:
    """Give the elements of all sets of bans, by set and address."""
    found: dict[tuple[str, str], Left] = {}
    for one in listed(namespace):
        if ".ipv" not in (name := one.get("set", {}).get("name", "")) and not name.startswith("ipv"):
            continue
        for element in one["set"].get("elem", []):
            timed: dict[str, Any] = {"val": element} if isinstance(element, str) else element["elem"]
            found[name, timed["val"]] = Left(timed.get("timeout"), timed.get("expires"))
    return found


def rules(namespace: Namespace, chain: str) -> list[str]:
    """Give the rules of a chain as nft writes them."""
    lines = namespace.run("nft", "list", "chain", "inet", "banagent", chain).splitlines()
    return [line.strip() for line in lines if line.startswith("\t\t")]


# the skeleton


def test_rules_read_as_meant(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, {"sshd": ((22, 22), (8000, 8100)), "recidive": None})
    bans = [ban("sshd", "192.0.2.1"), ban("sshd", "2001:db8::/64"), ban("recidive", "198.51.100.0/24")]
    firewall.restore(bans, clock())
    lookups = ["ip saddr @ipv4.32", "ip6 saddr & ffff:ffff:ffff:ffff:: == @ipv6.64", "ip6 saddr @ipv6.128"]
    lookups.append("ip saddr & 255.255.255.0 == @ipv4.24")
    for kind, priority in (("ports", "raw"), ("all", "mangle")):
        assert rules(nft_namespace, f"prerouting.{kind}") == [
            f"type filter hook prerouting priority {priority}; policy accept;",
            'iif "lo" accept',
            *(f"{lookup} jump {kind}.{'ipv4' if 'ip saddr' in lookup else 'ipv6'}" for lookup in lookups),
        ]
    counted = "counter packets 0 bytes 0 drop"
    assert rules(nft_namespace, "ports.ipv4") == [
        "meta l4proto != @protocols return",
        "fib daddr type != local return",
        "ip saddr @sshd.ipv4.32 jump sshd.dport",
    ]
    assert rules(nft_namespace, "ports.ipv6") == [
        "meta l4proto != @protocols return",
        "fib daddr type != local return",
        "ip6 saddr & ffff:ffff:ffff:ffff:: == @sshd.ipv6.64 jump sshd.dport",
    ]
    assert rules(nft_namespace, "sshd.dport") == [f"th dport 22 {counted}", f"th dport 8000-8100 {counted}"]
    assert rules(nft_namespace, "all.ipv4") == [
        "fib daddr type != local return",
        "ct direction reply return",
        f"ip saddr & 255.255.255.0 == @recidive.ipv4.24 {counted}",
    ]
    assert rules(nft_namespace, "all.ipv6") == [
        "icmpv6 type @icmpv6.passing return",
        "fib daddr type != local return",
        "ct direction reply return",
    ]
    sets = {one["set"]["name"]: one["set"].get("elem") for one in listed(nft_namespace) if "set" in one}
    assert set(sets["protocols"]) == {"tcp", "udp", "udplite", "sctp", "dccp"}
    assert sets["icmpv6.passing"] == ["packet-too-big", "nd-router-solicit", "nd-router-advert", "nd-neighbor-solicit",
                                      "nd-neighbor-advert", "nd-redirect"]  # fmt: skip
    assert 'comment "layout 1"' in nft_namespace.run("nft", "list", "table", "inet", "banagent")


@pytest.mark.parametrize("kinds", [{"sshd": ((22, 22),)}, {"recidive": None}, {}])
def test_chains_are_there_only_if_a_jail_needs_them(
    nft_namespace: Namespace, open_firewall: OpenFirewall, kinds: dict[str, Ports | None]
) -> None:
    open_firewall(nft_namespace, kinds).restore([], clock())
    bases = {one["chain"]["name"] for one in listed(nft_namespace) if "hook" in one.get("chain", {})}
    assert bases == {f"prerouting.{'all' if ports is None else 'ports'}" for ports in kinds.values()}


@pytest.mark.parametrize(
    ("ports", "shown"),
    [
        (((22, 22),), ["22"]),
        (((8000, 8100), (22, 22)), ["22", "8000-8100"]),
        (((8000, 65535),), ["8000-65535"]),
        (((22, 22), (65535, 65535)), ["22", "65535"]),
        (((0, 0), (2, 2)), ["0", "2"]),
        (((0, 65535),), ["0-65535"]),
        (((80, 88), (84, 90), (91, 92), (87, 87)), ["80-92"]),  # they overlap, they touch
    ],
)
def test_ports_as_nft_shows_them(
    nft_namespace: Namespace, open_firewall: OpenFirewall, ports: Ports, shown: list[str]
) -> None:
    open_firewall(nft_namespace, {"sshd": ports}).restore([ban("sshd", "192.0.2.1")], clock())
    assert [rule.split()[2] for rule in rules(nft_namespace, "sshd.dport")] == shown


@pytest.mark.parametrize("flush", [True, False])
def test_what_nft_lists_it_takes_back(nft_namespace: Namespace, open_firewall: OpenFirewall, *, flush: bool) -> None:
    names = [
        "sshd",
        "all",
        "ip",
        "tcp",
        "set",
        "counter",
        "drop",
        "a-b",
        "a_b-",
        "x1",
        "ports",
        "prerouting",
        "ipv4",
        "protocols",
    ]
    jails: dict[str, Ports | None] = {
        name: None if index % 2 else ((22, 22), (0, 9), (8000, 65535)) for index, name in enumerate(names)
    }
    firewall = open_firewall(nft_namespace, jails)
    firewall.restore([ban(name, net) for name in names for net in ("192.0.2.1", "2001:db8::/64", "::/0")], clock())
    saved = nft_namespace.run("nft", "list", "ruleset")
    assert all(f"set {name}.ipv4.32 " in saved for name in names)
    if flush:
        nft_namespace.nft(f"flush ruleset\n{saved}")
        assert nft_namespace.run("nft", "list", "ruleset") == saved
    else:
        nft_namespace.nft(saved)  # as a firewall script does that saved everything: it must not fail because of us


# bans


def test_a_new_length_comes_with_its_sets_and_rules(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    firewall.restore([], clock())
    for jail in JAILS:
        for net in ("10.0.0.0/8", "192.0.2.0/25", "2001:db8::/32", "::/1", "0.0.0.0/0", "192.0.2.1", "2001:db8::1"):
            firewall.ban([ban(jail, net)], clock())
            assert firewall.intact()
    assert set(firewall.read(clock())) == set(firewall.standing())


def test_the_longest_end_is_292_years(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    now = clock()
    firewall.restore([ban("sshd", "192.0.2.1", now + MAX * 1000)], now)
    firewall.ban([ban("sshd", "192.0.2.2", now + MAX * 1000 * 100)], now)
    found = elements(nft_namespace)
    assert found["sshd.ipv4.32", "192.0.2.1"] == found["sshd.ipv4.32", "192.0.2.2"]
    assert found["sshd.ipv4.32", "192.0.2.2"].timeout == MAX // 1000


def test_the_kernel_lifts_bans(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    start = clock()
    firewall.restore([ban("sshd", "192.0.2.1", start + SECOND // 5), ban("sshd", "192.0.2.2")], start)
    assert len(firewall.read(start)) == 2
    while len(firewall.read(clock())) == 2:
        assert clock() < start + 5 * SECOND
    assert clock() >= start + SECOND // 5 - TICK
    assert elements(nft_namespace) == {(name, "192.0.2.2"): Left(None, None) for name in ("ipv4.32", "sshd.ipv4.32")}
    assert len(firewall.standing()) == 2  # until it is unbanned
    firewall.unban([("sshd", parse_network("192.0.2.1"))], clock())
    assert set(firewall.standing()) == {ban("sshd", "192.0.2.2")}


@pytest.mark.parametrize("later", [HOUR, 2 * HOUR, 3 * HOUR, None])
def test_a_ban_again_counts_from_now(nft_namespace: Namespace, open_firewall: OpenFirewall, later: int | None) -> None:
    """The same timeout again, a longer one, a shorter one, none: the kernel by itself ignores some of these."""
    firewall = open_firewall(nft_namespace, JAILS)
    now = clock()
    firewall.restore([ban("sshd", "192.0.2.1", now + 2 * HOUR)], now)
    # an hour later; it could also be banned for the rest of the time
    firewall.ban([ban("sshd", "192.0.2.1", later and now + HOUR + later)], now + HOUR)
    for left in elements(nft_namespace).values():
        assert left.timeout == (later and later // SECOND)
        assert later is None or (left.expires is not None and left.expires >= later // SECOND - 20)


def test_what_never_stood_can_be_unbanned(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    firewall.restore([ban("sshd", "192.0.2.1")], clock())
    for jail, net in (("sshd", "192.0.2.2"), ("recidive", "192.0.2.1"), ("sshd", "10.0.0.0/8"), ("unknown", "::1")):
        firewall.unban([(jail, parse_network(net))], clock())
    firewall.unban([], clock())
    firewall.ban([], clock())
    assert set(firewall.read(clock())) == {ban("sshd", "192.0.2.1")}


def test_other_jails_are_a_mistake_of_the_caller(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    firewall.restore([ban("sshd", "192.0.2.1")], clock())
    for act in (firewall.ban, firewall.restore):
        with pytest.raises(ValueError, match="'nginx' is not a jail of this firewall; there are sshd, recidive"):
            act([ban("sshd", "192.0.2.2"), ban("nginx", "192.0.2.1")], clock())
    assert set(firewall.standing()) == set(firewall.read(clock())) == {ban("sshd", "192.0.2.1")}


NETWORKS = [
    parse_network(net)
    for net in (
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.0/24",
        "192.0.0.0/16",
        "2001:db8::1",
        "2001:db8::/64",
        "2001:db8::/56",
    )
]
PROPERTY_JAILS: dict[str, Ports | None] = {"sshd": ((22, 22),), "web": ((80, 80), (443, 443)), "recidive": None}

jails = st.sampled_from(sorted(PROPERTY_JAILS))
networks = st.sampled_from(NETWORKS)
hours = st.one_of(st.none(), st.integers(-2, 60))  # how long a ban has to stand; it may have ended


class Bans(RuleBasedStateMachine):
    """Level 1 has an element iff some ban covers it, with the latest end; level 2 has exactly the bans."""

    namespace: Namespace
    keys = Bundle("keys")

    @initialize()
    def begin(self) -> None:
        self.firewall = Firewall(PROPERTY_JAILS)
        with self.namespace.entered():
            self.firewall.open()
        self.now = clock()
        self.bans: dict[tuple[str, Network], int | None] = {}  # hours
        self.restore({})

    @rule(bans=st.dictionaries(st.tuples(jails, networks), hours))
    def restore(self, bans: dict[tuple[str, Network], int | None]) -> None:
        self.firewall.restore(self.standing(bans), self.now)
        self.bans = bans

    @rule(bans=st.dictionaries(st.tuples(jails, networks), hours, min_size=1, max_size=4))
    def ban(self, bans: dict[tuple[str, Network], int | None]) -> None:
        self.firewall.ban(self.standing(bans), self.now)
        self.bans |= bans

    @rule(bans=st.lists(st.tuples(jails, networks), min_size=1, max_size=4))
    def unban(self, bans: list[tuple[str, Network]]) -> None:
        self.firewall.unban(bans, self.now)
        for key in bans:
            self.bans.pop(key, None)

    @rule()
    def flushed_and_repaired(self) -> None:
        self.namespace.run("nft", "flush", "ruleset")
        assert not self.firewall.intact()
        self.firewall.restore(self.firewall.standing(), self.now)

    @invariant()
    def kernel_agrees(self) -> None:
        wanted: dict[tuple[str, str], int | None] = {}
        for (jail, network), end in self.bans.items():
            if end is not None and end <= 0:
                continue
            length = f"ipv{network.version}.{network.prefix}"
            text = str(network).partition("/")[0]
            wanted[f"{jail}.{length}", text] = end
            before = wanted.get((length, text), 0)
            wanted[length, text] = None if before is None or end is None else max(before, end)
        found = elements(self.namespace)
        assert {key: left.timeout and left.timeout // 3600 for key, left in found.items()} == wanted
        assert all(left.expires is None or left.timeout - left.expires < 60 for left in found.values())  # type: ignore[operator]  # they are None together
        assert self.firewall.intact()

    def teardown(self) -> None:
        self.firewall.close()

    def standing(self, bans: dict[tuple[str, Network], int | None]) -> list[Standing]:
        return [Standing(*key, end if end is None else self.now + end * HOUR) for key, end in bans.items()]


def test_the_kernel_has_what_a_model_has(nft_namespace: Namespace) -> None:
    machine = type("BansHere", (Bans,), {"namespace": nft_namespace})
    limits = settings(
        max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(machine, settings=limits)


# reading back


def test_read_gives_what_another_agent_left(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    now = clock()
    bans = {
        ban("sshd", "192.0.2.1", now + HOUR),
        ban("old", "2001:db8::/64"),
        ban("sshd", "10.0.0.0/8", now + MAX * 1000),
    }
    first = Firewall({**JAILS, "old": ((25, 25),)})
    with nft_namespace.entered():
        first.open()
    with closing(first):
        first.restore(bans, now)
    found = open_firewall(nft_namespace, JAILS).read(now)
    assert {one[:2] for one in found} == {one[:2] for one in bans}
    for one in found:
        (end,) = (end for jail, address, end in bans if (jail, address) == one[:2])
        assert (one.end is None) == (end is None)
        assert one.end is None or end is None or end - 5 * SECOND < one.end <= end + 1000


def test_what_the_kernel_has_besides(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    now = clock()
    known = [ban("sshd", "192.0.2.1", now + HOUR), ban("recidive", "2001:db8::/64")]
    assert firewall.besides(known, now) == ([], 0)  # there is no table
    firewall.restore([known[0], ban("recidive", "192.0.2.1"), ban("sshd", "2001:db8::/65")], now)
    others, kept = firewall.besides(known, now)
    assert set(others) == {ban("recidive", "192.0.2.1"), ban("sshd", "2001:db8::/65")}
    assert kept == 1


def test_read_gives_nothing_of_what_it_does_not_know(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    assert firewall.read(clock()) == []
    older = "set sshd.ipv4.32 { type ipv4_addr; flags timeout; elements = { 192.0.2.1 }; }"
    nft_namespace.nft(f"table inet banagent {{ {older}; }}")
    assert firewall.read(clock()) == []
    nft_namespace.nft(f'delete table inet banagent; table inet banagent {{ comment "layout 0"; {older}; }}')
    assert firewall.read(clock()) == []
    nft_namespace.nft(f'delete table inet banagent; table ip banagent {{ comment "layout 1"; {older}; }}')
    assert firewall.read(clock()) == []
    nft_namespace.nft(f'table inet banagent {{ comment "layout 1"; {older}; }}')
    assert firewall.read(clock()) == [ban("sshd", "192.0.2.1")]  # it was the comment


def test_sets_of_another_kind_are_not_read(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    firewall.restore([ban("sshd", "192.0.2.1")], clock())
    nft_namespace.nft(
        "table inet banagent { set x.ipv4.24 { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }; }"
    )
    nft_namespace.nft("table inet banagent { set y { type ipv4_addr; flags timeout; elements = { 10.0.0.1 }; }; }")
    nft_namespace.nft("table inet banagent { set y.ipv4.24 { type inet_service; flags timeout; elements = { 22 }; }; }")
    nft_namespace.nft("add element inet banagent sshd.ipv4.32 { * }")
    assert firewall.read(clock()) == [ban("sshd", "192.0.2.1")]


@pytest.mark.parametrize(
    "older",
    [
        """set banned { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; };
           chain input { type filter hook input priority 0; ip saddr @banned drop; }""",
        """map m { type ipv4_addr : verdict; elements = { 192.0.2.1 : jump old }; }; chain old { drop; };
           chain ports.ipv4 { ip saddr vmap @m; }""",
        "set ipv4.32 { type ipv6_addr; }; chain prerouting.ports { type filter hook output priority 7; policy drop; }",
        "flags dormant",
    ],
)
def test_another_layout_is_replaced(nft_namespace: Namespace, open_firewall: OpenFirewall, older: str) -> None:
    nft_namespace.nft(f"table inet banagent {{ {older}; }}")
    firewall = open_firewall(nft_namespace, JAILS)
    assert not firewall.intact()
    firewall.restore([ban("sshd", "192.0.2.1")], clock())
    assert firewall.intact()
    replaced = listed(nft_namespace)
    nft_namespace.run("nft", "flush", "ruleset")
    firewall.restore([ban("sshd", "192.0.2.1")], clock())
    assert without_handles(listed(nft_namespace)) == without_handles(replaced)


def without_handles(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{kind: {**one, "handle": None} for kind, one in item.items()} for item in objects]


# much at once, and what goes wrong


def many(count: int, end: int | None = None) -> list[Standing]:
    return [Standing("sshd", Network((0x0A000000 + number).to_bytes(4, "big"), 32), end) for number in range(count)]


def test_a_hundred_thousand(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    bans = [*many(100_000), *(one._replace(jail="recidive") for one in many(1000))]
    for _ in range(2):  # where there is no table, and where there is one: other sizes of transactions
        firewall.restore(bans, clock())
        assert set(firewall.read(clock())) == set(bans)
        assert firewall.intact()
    firewall.unban([one[:2] for one in bans[1:]], clock())
    assert firewall.read(clock()) == bans[:1]


def test_nothing_is_overlooked_while_the_kernel_resizes_its_tables(
    nft_namespace: Namespace, open_firewall: OpenFirewall
) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    for _ in range(3):
        firewall.restore(many(100_000), clock())
        found = firewall.read(clock())
        assert len(found) == 100_000
        assert set(found) == set(many(100_000))


def test_without_room_for_one_transaction_more_are_made(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    firewall._kernel._limit = 20_000  # pyright: ignore[reportPrivateUsage] - as where SO_SNDBUF is small
    for count in (2000, 1000):
        firewall.restore(many(count), clock())
        assert set(firewall.read(clock())) == set(many(count))
        assert firewall.intact()


def test_the_kernel_refuses_and_nothing_has_changed(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    firewall.restore([ban("sshd", "192.0.2.1")], clock())
    before = nft_namespace.run("nft", "-s", "list", "ruleset")
    good = list(adding("sshd.ipv4.32", "192.0.2.7"))
    bad = list(adding("nosuch", "192.0.2.7"))
    transact = firewall._kernel.transact  # pyright: ignore[reportPrivateUsage] - the caller's own batches are right
    for changes in ([*bad, *good], [*good, *bad], [*good, *bad, *good], bad * 20_000):  # the last overflows the answers
        with pytest.raises(FirewallError, match=r"^can't test: (ENOENT: the table or a part|ENOBUFS: )"):
            transact(changes, "test")
        assert nft_namespace.run("nft", "-s", "list", "ruleset") == before
    firewall.ban([ban("sshd", "192.0.2.2")], clock())
    assert len(firewall.read(clock())) == 2


def adding(name: str, address: str) -> list[Message]:
    return [_list(NEWSETELEM, CREATE, name, packed) for packed in pack_keys([parse_network(address).packed], 4)]


def test_without_the_table_a_ban_is_an_error_and_kept_for_the_repair(
    nft_namespace: Namespace, open_firewall: OpenFirewall
) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    firewall.restore([ban("sshd", "192.0.2.1")], clock())
    nft_namespace.run("nft", "delete", "table", "inet", "banagent")
    for new in ("192.0.2.2", "10.0.0.0/8"):
        with pytest.raises(FirewallError, match=f"^can't ban {new} in sshd: ENOENT: the table or a part of it is gone"):
            firewall.ban([ban("sshd", new)], clock())
    firewall.restore(firewall.standing(), clock())
    assert set(firewall.read(clock())) == {ban("sshd", net) for net in ("192.0.2.1", "192.0.2.2", "10.0.0.0/8")}


def test_a_full_set_is_an_error(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    firewall = open_firewall(nft_namespace, JAILS)
    firewall.restore([ban("sshd", "192.0.2.1")], clock())
    saved = nft_namespace.run("nft", "list", "ruleset").replace("flags timeout", "flags timeout; size 1;")
    nft_namespace.nft(f"flush ruleset\n{saved}")
    assert not firewall.intact()
    with pytest.raises(FirewallError, match=r"^can't ban 192\.0\.2\.2 in sshd: ENFILE: a set is full"):
        firewall.ban([ban("sshd", "192.0.2.2")], clock())
    firewall.restore(firewall.standing(), clock())
    assert len(firewall.read(clock())) == 2


def test_the_largest_batch_that_fails_fails(nft_namespace: Namespace, open_firewall: OpenFirewall) -> None:
    """One element in a hundred thousand is wrong, and only the last message asks for an answer."""
    firewall = open_firewall(nft_namespace, JAILS)
    firewall.restore(many(100_000), clock())
    missing = _list(DELSETELEM, 0, "sshd.ipv4.32", adding("x", "192.0.2.9")[0].attributes[-16:])
    whole = list(firewall._fill(set(), clock()))  # pyright: ignore[reportPrivateUsage] - all of its messages
    elements_only = [message for message in whole if message.kind == NEWSETELEM][2:]
    with pytest.raises(FirewallError, match="ENOENT"):
        firewall._kernel.transact([*elements_only[:60], missing, *elements_only[60:]], "test")  # pyright: ignore[reportPrivateUsage] - see above
    assert len(firewall.read(clock())) == 100_000


CHILD = """
import sys, time
from banagent.errors import FirewallError
from banagent.sinks.nft import Firewall
start = time.monotonic()
try:
    Firewall({}).open()
except FirewallError as error:
    print(type(error).__name__, time.monotonic() - start < 1, error, sep="|")
"""


@pytest.mark.parametrize("user", [[], ["--reuid=65534", "--regid=65534", "--clear-groups"]])
def test_without_the_capability_it_says_so_at_once(nft_namespace: Namespace, user: list[str]) -> None:
    limited = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-all", *user]
    done = subprocess.run(
        nft_namespace.argv(*limited, sys.executable, "-c", CHILD),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    kind, in_time, said = done.stdout.strip().split("|")
    assert (kind, in_time) == ("NotPermittedError", "True")
    assert said == (
        "not permitted to use nftables: CAP_NET_ADMIN is missing: run as root, or in a unit with "
        "AmbientCapabilities=CAP_NET_ADMIN"
    )
