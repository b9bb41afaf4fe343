# SPDX-License-Identifier: LGPL-2.1-or-later
"""What other programs do to the ruleset: noticed, told apart, and repaired."""

from __future__ import annotations

import os
import select
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from banagent.core.address import Network, parse_network
from banagent.core.bans import Standing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from banagent.sinks.nft import Change, Firewall
    from banagent.sinks.nft.netlink import Message
    from bed.netns import Namespace
    from sinks.conftest import OpenFirewall

pytestmark = pytest.mark.kernel

BANS = [
    Standing("sshd", parse_network("192.0.2.1"), None),
    Standing("sshd", parse_network("2001:db8::/64"), None),
    Standing("recidive", parse_network("192.0.2.1"), None),
]
LIMIT = 30.0  # s, for what takes some ms


@pytest.fixture
def firewall(nft_namespace: Namespace, open_firewall: OpenFirewall) -> Firewall:
    """Give a firewall with bans, of which nobody has changed anything."""
    opened = open_firewall(nft_namespace, {"sshd": ((22, 22), (80, 90)), "recidive": None})
    opened.restore(BANS, 0)
    assert opened.intact()
    return opened


def noticed(firewall: Firewall) -> list[Change]:
    """Wait until there are changes, and give them."""
    readable, _, _ = select.select([firewall.fileno()], [], [], LIMIT)
    assert readable
    return firewall.changes()


def repair(firewall: Firewall) -> bool:
    """Do what the daemon does on a change; give whether there was a need to."""
    changes = noticed(firewall)
    if firewall.intact() and not any(change.elements for change in changes):
        return False
    firewall.restore(firewall.standing(), 0)
    return True


@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        "delete table inet banagent",
        "flush table inet banagent",
        "flush set inet banagent ipv4.32",
        "flush set inet banagent protocols",
        "flush chain inet banagent sshd.dport",
        "delete element inet banagent ipv4.32 { 192.0.2.1 }",
        "delete element inet banagent sshd.ipv6.64 { 2001:db8:: }",
        "add element inet banagent sshd.ipv4.32 { 192.0.2.7 }",
        "add element inet banagent protocols { icmp }",
        "insert rule inet banagent prerouting.ports accept",
        "add rule inet banagent ports.ipv4 accept",
        "flush chain inet banagent all.ipv4",
        "add chain inet banagent extra",
        "add set inet banagent extra { type ipv4_addr; }",
        "add chain inet banagent prerouting.all { policy drop; }",
        "add table inet banagent { flags dormant; }",
    ],
)
def test_damage_is_noticed_and_repaired(nft_namespace: Namespace, firewall: Firewall, damage: str) -> None:
    whole = nft_namespace.run("nft", "list", "ruleset")
    nft_namespace.nft(damage)
    assert nft_namespace.run("nft", "list", "ruleset") != whole
    assert repair(firewall)
    assert nft_namespace.run("nft", "list", "ruleset") == whole
    assert firewall.intact()
    assert firewall.changes() == []  # the repair is no change


def test_a_replaced_rule_is_noticed(nft_namespace: Namespace, firewall: Firewall) -> None:
    before = nft_namespace.run("nft", "-a", "list", "chain", "inet", "banagent", "ports.ipv4")
    (handle,) = (line.rpartition(" ")[2] for line in before.splitlines() if "fib daddr" in line)
    nft_namespace.nft(f"replace rule inet banagent ports.ipv4 handle {handle} fib daddr type local return")
    assert repair(firewall)


@pytest.mark.parametrize(
    "harmless",
    [
        "table inet docker { chain a { type filter hook input priority 0; }; }",
        "table ip banagent { set ipv4.32 { type ipv4_addr; elements = { 192.0.2.1 }; }; }",
        "table inet banagent2 { set ipv4.32 { type ipv4_addr; elements = { 192.0.2.1 }; }; }",
        "table inet banagent",  # it is there already
        "reset counters",
    ],
)
def test_what_is_not_ours_raises_no_alarm(nft_namespace: Namespace, firewall: Firewall, harmless: str) -> None:
    nft_namespace.nft("table ip other { set many { type ipv4_addr; elements = { 192.0.2.1 }; }; }")
    assert not repair(firewall)
    # twice, because what changes nothing may be told to nobody
    nft_namespace.nft(harmless)
    nft_namespace.nft("delete element ip other many { 192.0.2.1 }")
    assert not repair(firewall)


def test_another_programs_flood_of_elements_does_not_wake_us(nft_namespace: Namespace, firewall: Firewall) -> None:
    many = ", ".join(f"10.{number >> 8}.{number & 255}.0" for number in range(30_000))
    nft_namespace.nft(f"table ip other {{ set many {{ type ipv4_addr; elements = {{ {many} }}; }}; }}")
    nft_namespace.nft("flush set ip other many")
    changes = noticed(firewall)
    assert [change.elements for change in changes] == [False, False]
    assert {change.program for change in changes} == {"nft"}
    assert firewall.intact()


def test_more_changes_than_the_socket_holds_are_a_change(nft_namespace: Namespace, firewall: Firewall) -> None:
    bans = [Standing("sshd", Network((0x0A000000 + number).to_bytes(4, "big"), 32), None) for number in range(50_000)]
    firewall.restore(bans, 0)
    nft_namespace.nft("flush set inet banagent ipv4.32")
    assert ("", 0, True) in noticed(firewall)
    firewall.restore(firewall.standing(), 0)
    assert firewall.intact()
    assert set(firewall.read(0)) == set(bans)


def test_a_change_says_who_made_it(nft_namespace: Namespace, firewall: Firewall) -> None:
    for command, elements in (("flush ruleset", False), ("delete element inet banagent ipv4.32 { 192.0.2.1 }", True)):
        nft = subprocess.Popen(nft_namespace.argv("nft", command))
        assert nft.wait() == 0
        assert noticed(firewall) == [("nft", nft.pid, elements)]
        firewall.restore(firewall.standing(), 0)


def test_our_own_changes_are_none(firewall: Firewall) -> None:
    other = Standing("sshd", parse_network("10.0.0.0/8"), None)
    firewall.ban([other], 0)
    firewall.ban([other._replace(address=parse_network("10.0.0.1"))], 0)
    firewall.unban([("sshd", other.address)], 0)
    firewall.restore(firewall.standing(), 0)
    assert firewall.changes() == []


def test_damage_just_before_the_table_grows_is_not_overlooked(nft_namespace: Namespace, firewall: Firewall) -> None:
    nft_namespace.nft("insert rule inet banagent prerouting.ports accept")
    firewall.ban([Standing("sshd", parse_network("10.0.0.0/8"), None)], 0)  # with new sets and rules
    assert repair(firewall)
    assert "accept" not in nft_namespace.run("nft", "list", "chain", "inet", "banagent", "prerouting.ports").replace(
        'iif "lo" accept', ""
    ).replace("policy accept", "")


def spoilt_after(firewall: Firewall, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, damage: list[str]) -> None:
    """Let nft do one thing of `damage` right after each of the firewall's next transactions."""
    kernel = firewall._kernel  # pyright: ignore[reportPrivateUsage] - nothing else can come at this moment for certain
    transact = kernel.transact

    def then_damage(changes: Iterable[Message], doing: str, *, whole: bool = True) -> int:
        count = transact(changes, doing, whole=whole)
        if damage:
            namespace.nft(damage.pop())
        return count

    monkeypatch.setattr(kernel, "transact", then_damage)


def test_damage_just_after_the_table_grew_is_not_taken_for_ours(
    nft_namespace: Namespace, firewall: Firewall, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt_after(firewall, nft_namespace, monkeypatch, ["insert rule inet banagent prerouting.ports accept"])
    firewall.ban([Standing("sshd", parse_network("10.0.0.0/8"), None)], 0)
    assert repair(firewall)
    assert not repair_is_needed(nft_namespace, firewall)


@pytest.mark.parametrize("damage", ["insert rule inet banagent prerouting.ports accept", "flush ruleset"])
def test_damage_while_nobody_listens_is_undone_at_once(
    nft_namespace: Namespace, firewall: Firewall, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    whole = nft_namespace.run("nft", "list", "ruleset")
    spoilt_after(firewall, nft_namespace, monkeypatch, [damage])
    firewall.restore(firewall.standing(), 0)
    assert firewall.intact()
    assert nft_namespace.run("nft", "list", "ruleset") == whole


def test_damage_again_and_again_is_left_to_the_next_repair(
    nft_namespace: Namespace, firewall: Firewall, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt_after(firewall, nft_namespace, monkeypatch, ["flush ruleset"] * 2)
    firewall.restore(firewall.standing(), 0)
    assert not firewall.intact()
    assert repair(firewall)
    assert not repair_is_needed(nft_namespace, firewall)


def repair_is_needed(namespace: Namespace, firewall: Firewall) -> bool:
    namespace.nft("table ip unrelated")
    return repair(firewall)


def test_another_agent_is_noticed(nft_namespace: Namespace, firewall: Firewall, open_firewall: OpenFirewall) -> None:
    second = open_firewall(nft_namespace, {"sshd": ((22, 22),)})
    second.restore([], 0)
    (change,) = noticed(firewall)
    assert change.pid == os.getpid()
    assert not firewall.intact()
    assert second.intact()


def test_an_attack_and_a_flush_at_once(nft_namespace: Namespace, firewall: Firewall) -> None:
    """While another program flushes again and again, no ban is lost for longer than it takes to repair."""
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do nft flush ruleset; done"
    flusher = subprocess.Popen(nft_namespace.argv("sh", "-c", script))
    deadline = time.monotonic() + LIMIT
    while flusher.poll() is None or firewall.changes() or not firewall.intact():
        assert time.monotonic() < deadline
        firewall.restore(firewall.standing(), 0)
    assert set(firewall.read(0)) == set(BANS)
