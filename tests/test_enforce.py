# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel, the history and the truth are made to agree, whatever each of them holds at the start."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from banagent.core.address import parse_network
from banagent.core.bans import Bans, Standing
from banagent.core.events import SECOND, Ban
from banagent.enforce import Enforcer, Progress
from banagent.errors import FirewallError, HistoryError
from banagent.sinks.history import History, Position
from bed.netns import Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.kernel

NOW = 1_800_000_000 * SECOND
PORTS = {"sshd": ((22, 22),), "web": None}
NOTHING = Progress({}, {})


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    with made.entered():
        yield made
    made.close()


@pytest.fixture
def start(namespace: Namespace, tmp_path: Path) -> Iterator[Callable[..., Enforcer]]:
    """Give a function that begins a run of the agent at a time; the one before is ended as if killed."""
    assert namespace.path
    running: list[Enforcer] = []
    clock = [NOW]

    def begin(seconds: int = 0, ports: Any = None, database: str = "history.db") -> Enforcer:
        for enforcer in running:
            enforcer.close()
        clock[0] = NOW + seconds * SECOND
        enforcer = Enforcer(Bans(), History(tmp_path / database), lambda: clock[0], dry=False)
        running[:] = [enforcer]
        enforcer.recall(0)
        enforcer.restore(PORTS if ports is None else ports)
        return enforcer

    yield begin
    for enforcer in running:
        enforcer.close()


def ban(address: str, seconds: int | None = 3600, jail: str = "sshd") -> Ban:
    return Ban(
        jail=jail,
        address=parse_network(address),
        position=f"p-{address}",
        start=NOW,
        end=None if seconds is None else NOW + seconds * SECOND,
        failures=5,
        user=None,
        filter=jail,
        pattern="failed",
    )


def enforce(enforcer: Enforcer, *bans: Ban) -> bool:
    """Decide and enforce, as a pipeline does."""
    for item in bans:
        enforcer.bans.stand(Standing(item.jail, item.address, item.end))
    return enforcer.enforce(bans, Progress({"journal": Position("p", NOW)}, {}))


def kernel(namespace: Namespace) -> dict[str, dict[str, int | None]]:
    """Give what nft says: the seconds left of each element, by set; None: for ever."""
    listed = json.loads(namespace.run("nft", "-j", "list", "ruleset"))["nftables"]
    found: dict[str, dict[str, int | None]] = {}
    for item in listed:
        if "set" in item and item["set"]["table"] == "banagent" and "timeout" in item["set"].get("flags", ()):
            listing: list[Any] = item["set"].get("elem", [])
            elements: list[dict[str, Any]] = [e["elem"] if isinstance(e, dict) else {"val": e} for e in listing]
            if elements:
                found[item["set"]["name"]] = {element["val"]: element.get("expires") for element in elements}
    return found


def about(found: dict[str, dict[str, int | None]]) -> dict[str, dict[str, int | None]]:
    """Round to ten seconds."""
    return {name: {k: v and round(v, -1) for k, v in of.items()} for name, of in found.items()}


BOTH = {"ipv4.32": {"192.0.2.1": 3600}, "sshd.ipv4.32": {"192.0.2.1": 3600}}


def test_what_history_knows_and_the_kernel_lost_stands_again(start: Any, namespace: Namespace) -> None:
    enforce(start(), ban("192.0.2.1"), ban("192.0.2.2", None, "web"))
    namespace.nft("flush ruleset")  # a reboot
    start(600)
    assert about(kernel(namespace)) == {
        "ipv4.32": {"192.0.2.1": 3000, "192.0.2.2": None},
        "sshd.ipv4.32": {"192.0.2.1": 3000},
        "web.ipv4.32": {"192.0.2.2": None},
    }


def test_a_ban_that_ended_meanwhile_is_not_put_back_and_is_told(start: Any, namespace: Namespace) -> None:
    enforce(start(), ban("192.0.2.1", 60))
    later = start(61)
    assert kernel(namespace) == {}
    with capture_logs() as logs:
        later.expire()
    assert [(e["event"], str(e["address"]), e["reason"]) for e in logs] == [("unbanned", "192.0.2.1", "expired")]
    # told once
    with capture_logs() as logs:
        start(62).expire()
    assert [e["event"] for e in logs if e["event"] == "unbanned"] == []


def test_an_element_that_history_does_not_know_stays_until_the_replay_is_done(start: Any, namespace: Namespace) -> None:
    first = start()
    enforce(first, ban("192.0.2.1"))
    for name in ("ipv4.32", "sshd.ipv4.32"):
        namespace.nft(f"add element inet banagent {name} {{ 192.0.2.66 timeout 1h, 192.0.2.77 timeout 1h }}")
    later = start(10)
    assert set(kernel(namespace)["sshd.ipv4.32"]) == {"192.0.2.1", "192.0.2.66", "192.0.2.77"}
    # the replay decides one of them: killed between the kernel's part and the history's
    enforce(later, ban("192.0.2.77"))
    with capture_logs() as logs:
        later.settle()
    assert set(kernel(namespace)["sshd.ipv4.32"]) == {"192.0.2.1", "192.0.2.77"}
    assert set(kernel(namespace)["ipv4.32"]) == {"192.0.2.1", "192.0.2.77"}
    assert [str(e["address"]) for e in logs if e["event"] == "lifted"] == ["192.0.2.66"]


def test_other_ends_are_put_right(start: Any, namespace: Namespace) -> None:
    enforce(start(), ban("192.0.2.1"))
    for name in BOTH:
        namespace.nft(f"delete element inet banagent {name} {{ 192.0.2.1 }}")
        namespace.nft(f"add element inet banagent {name} {{ 192.0.2.1 timeout 9h }}")
    start()
    assert about(kernel(namespace)) == BOTH


@pytest.mark.parametrize(
    "layout",
    [
        # an older version's, or somebody else's of our name
        "table inet banagent { set banned { type ipv4_addr; flags timeout; elements = { 192.0.2.66 timeout 1h } }; }",
        "table inet banagent { set ipv4.32 { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }; }",
        "table inet banagent { chain ports.ipv4 { type filter hook input priority 0; drop; }; }",
        'table inet banagent { comment "layout 0"; set sshd.ipv4.32 { type ipv4_addr; flags timeout; }; }',
    ],
)
def test_another_layout_is_replaced(start: Any, namespace: Namespace, layout: str) -> None:
    enforce(start(), ban("192.0.2.1"))
    namespace.nft(f"delete table inet banagent; {layout}")
    start()
    assert about(kernel(namespace)) == BOTH
    assert "66" not in namespace.run("nft", "list", "ruleset")


def test_bans_of_a_lost_history_are_adopted(start: Any, namespace: Namespace) -> None:
    enforce(start(), ban("192.0.2.1"), ban("2001:db8::/64", None))
    amnesiac = start(10, database="new.db")
    with capture_logs() as logs:
        amnesiac.settle()
    assert [e["bans"] for e in logs if e["log_level"] == "warning"] == [2]
    # and from now on they are known; the ten seconds passed for us, not for the kernel
    start(20, database="new.db").settle()
    assert about(kernel(namespace)) == {
        "ipv4.32": {"192.0.2.1": 3590},
        "sshd.ipv4.32": {"192.0.2.1": 3590},
        "ipv6.64": {"2001:db8::": None},
        "sshd.ipv6.64": {"2001:db8::": None},
    }


def test_a_jail_that_is_no_more_leaves_its_bans_on_its_ports(start: Any, namespace: Namespace) -> None:
    enforce(start(), ban("192.0.2.1"))
    start(10, ports={"web": None})
    assert about(kernel(namespace)) == {name: {"192.0.2.1": 3590} for name in BOTH}
    assert "th dport 22 counter" in namespace.run("nft", "list", "ruleset")


def test_switching_jails_keeps_what_stands(start: Any, namespace: Namespace) -> None:
    enforcer = start()
    enforce(enforcer, ban("192.0.2.1"))
    enforcer.switch({"sshd": ((22, 22), (2222, 2222)), "mail": ((25, 25),)})
    assert about(kernel(namespace)) == BOTH
    assert "2222" in namespace.run("nft", "list", "ruleset")


def test_a_lifted_ban_stays_lifted(start: Any, namespace: Namespace) -> None:
    enforcer = start()
    enforce(enforcer, ban("192.0.2.1"), ban("192.0.2.1", None, "web"))
    enforcer.lift([("web", parse_network("192.0.2.1"))], "ignored")
    assert about(kernel(namespace)) == BOTH  # the other jail's end is the address's again
    start()
    assert about(kernel(namespace)) == BOTH


@pytest.mark.parametrize("damage", ["flush ruleset", "delete table inet banagent", "flush set inet banagent ipv4.32"])
def test_repairs_what_others_remove(start: Any, namespace: Namespace, damage: str) -> None:
    enforcer = start()
    enforce(enforcer, ban("192.0.2.1"))
    namespace.nft(damage)
    with capture_logs() as logs:
        enforcer.repair()
    assert about(kernel(namespace)) == BOTH
    (told,) = logs
    assert (told["event"], told["program"], told["bans"]) == ("repaired", "nft", 1)


def test_others_changes_elsewhere_are_no_damage(start: Any, namespace: Namespace) -> None:
    enforcer = start()
    namespace.nft("table inet other { set s { type ipv4_addr; elements = { 192.0.2.1 }; }; }")
    with capture_logs() as logs:
        enforcer.repair()
    assert logs == []


def test_a_history_that_can_not_be_written(start: Any, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on banning, says so once, and writes all of it when it can."""
    enforcer = start()
    with monkeypatch.context() as patched, capture_logs() as logs:

        def refuse(**_: object) -> None:
            raise HistoryError("cannot write the history: disk full")

        patched.setattr(enforcer._history, "commit", refuse)
        assert not enforce(enforcer, ban("192.0.2.1"))
        assert not enforce(enforcer, ban("192.0.2.2"))
    assert set(kernel(namespace)["sshd.ipv4.32"]) == {"192.0.2.1", "192.0.2.2"}
    assert [e["event"] for e in logs] == ["banned", "trouble", "banned"]
    assert enforcer.troubles
    with capture_logs() as logs:
        assert enforcer.save(NOTHING)
    assert [e["event"] for e in logs] == ["works again"]
    namespace.nft("flush ruleset")
    start()
    assert set(kernel(namespace)["sshd.ipv4.32"]) == {"192.0.2.1", "192.0.2.2"}


def test_a_kernel_that_refuses_gets_it_again(start: Any, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    enforcer = start()
    with monkeypatch.context() as patched:

        def refuse(*_: object) -> None:
            raise FirewallError("can't ban: ENOMEM")

        patched.setattr(enforcer._firewall, "ban", refuse)
        enforce(enforcer, ban("192.0.2.1"))
    assert kernel(namespace) == {}
    assert enforcer.troubles
    enforcer.retry()
    assert about(kernel(namespace)) == BOTH
    assert not enforcer.troubles


def test_banned_again_while_the_entries_of_long_ago_are_read(start: Any) -> None:
    """One batch has a ban that is over and the next one of the same address, which stands."""
    enforcer = start(600)
    first, second = ban("192.0.2.1", 60), ban("192.0.2.1", 3600)
    enforce(enforcer, first, replace(second, position="later", start=NOW + 100 * SECOND))
    assert [(r.ban.position, r.reason) for r in enforcer._history.records()] == [
        ("later", None),
        ("p-192.0.2.1", "expired"),
    ]
    later = start(610)
    assert later.expire() == second.end  # it will be told


def test_lifted_and_banned_again_while_the_history_can_not_be_written(
    start: Any, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    enforcer = start()
    with monkeypatch.context() as patched:
        patched.setattr(enforcer._history, "commit", full)
        enforce(enforcer, ban("192.0.2.1"))
        enforcer.lift([("sshd", parse_network("192.0.2.1"))], "admin")
        enforce(enforcer, replace(ban("192.0.2.1"), position="again"))
    assert enforcer.save(NOTHING)
    namespace.nft("flush ruleset")
    start()
    assert about(kernel(namespace)) == BOTH


def full(**_: object) -> None:
    raise HistoryError("cannot write the history: disk full")


def test_off_also_where_the_history_can_not_be_written(
    start: Any, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    enforcer = start()
    enforce(enforcer, ban("192.0.2.1"))
    with monkeypatch.context() as patched:
        patched.setattr(enforcer._history, "commit", full)
        assert enforcer.switch_off() == 1
        assert kernel(namespace) == {}
    enforcer.save(NOTHING)
    assert start(10).off
    assert kernel(namespace) == {}


def test_killed_while_it_was_being_turned_off(start: Any, namespace: Namespace) -> None:
    enforcer = start()
    enforce(enforcer, ban("192.0.2.1"))
    namespace.nft("add element inet banagent sshd.ipv4.32 { 192.0.2.66 timeout 1h }")  # of an entry not yet read
    enforcer._history.commit(flags={"off": True})
    again = start(10)
    assert kernel(namespace) == {}
    assert again.standing() == []
    assert [record.reason for record in again._history.records()] == ["off"]


def test_a_reload_before_all_was_read_keeps_what_only_the_kernel_knows(start: Any, namespace: Namespace) -> None:
    enforce(start(), ban("192.0.2.1"))
    amnesiac = start(10, database="new.db")
    amnesiac.switch({"mail": ((25, 25),)})  # not even the jail is there any more
    assert about(kernel(namespace)) == BOTH
    amnesiac.settle()
    assert about(kernel(namespace)) == BOTH
    assert "th dport 22 counter" in namespace.run("nft", "list", "ruleset")


def test_a_jail_goes_while_the_history_can_not_be_written(
    start: Any, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    enforcer = start()
    monkeypatch.setattr(enforcer._history, "commit", full)
    enforce(enforcer, ban("192.0.2.1"))
    enforcer.switch({"web": None})
    assert about(kernel(namespace)) == BOTH
    assert "th dport 22 counter" in namespace.run("nft", "list", "ruleset")


def test_a_lasting_trouble_is_not_taken_back(start: Any) -> None:
    enforcer = start()
    enforcer.fails("history", "kept in memory", lasting=True)
    enforce(enforcer, ban("192.0.2.1"))
    assert [trouble.text for trouble in enforcer.troubles.values()] == ["kept in memory"]
