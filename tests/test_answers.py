# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the running agent answers at its control socket, and what it does then."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from banagent import __version__
from banagent.control import client
from bed.agent import CONFIG, PATIENCE, PORT, running
from bed.netns import ATTACKER, HOST, Network

if TYPE_CHECKING:
    from pathlib import Path

    from bed.journald import Journald

pytestmark = pytest.mark.kernel

OTHER = "198.51.100.99"


def ask(tmp_path: Path) -> client.Agent:
    return client.Agent(str(tmp_path / "org.banagent"), patience=PATIENCE)


def call(tmp_path: Path, method: str, **parameters: Any) -> dict[str, Any]:
    with ask(tmp_path) as agent:
        return agent.call(method, **parameters)


def listed(tmp_path: Path, method: str, **parameters: Any) -> list[dict[str, Any]]:
    with ask(tmp_path) as agent:
        return [item for reply in agent.stream(method, **parameters) for item in reply["bans"]]


def refused(tmp_path: Path, method: str, **parameters: Any) -> tuple[str, dict[str, Any]]:
    with pytest.raises(client.Refused) as caught:
        call(tmp_path, method, **parameters)
    return caught.value.name, caught.value.parameters


def test_status(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    with running(tmp_path, journald, network) as agent:
        agent.told("reading live")
        sshd(ATTACKER)
        sshd(OTHER, 2)
        agent.wait_for("banned")
        agent.told("5 failures")
        status = call(tmp_path, "Status")
        latest = status.pop("latest")
        (jail,) = status.pop("jails")
        start, read = status.pop("start"), status.pop("read")
        assert start <= read
        assert status == {
            "version": __version__,
            "state": "live",
            "dry_run": False,
            "bans": 1,
            "allowed": 0,
            "failures": 5,
            "decided": 1,
            "attention": [],
        }
        assert [(ban["address"], ban["jail"], ban["failures"], ban["bantime"]) for ban in latest] == [
            (ATTACKER, "sshd", 3, 600),
        ]
        assert jail == {
            "jail": "sshd",
            "state": "active",
            "reason": None,
            "counts": "failures",
            "filter": "sshd",
            "ports": [str(PORT)],
            "maxretry": 3,
            "findtime": 3600,
            "bantime": 600,
            "lengths": [min(600 * 2**number, 604_800) for number in range(11)],
            "networks": 20,
            "failures": 2,
            "failures_total": 5,
            "bans": 1,
            "bans_total": 1,
        }
        assert call(tmp_path, "Jails") == {"jails": [jail]}


def test_ban_and_unban_by_hand(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    assert sshd
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT), network.host.listening(PORT + 1):
        agent.told("READY=1")
        assert call(tmp_path, "Ban", addresses=[ATTACKER], bantime=60, comment="loud") == {"banned": 1}
        agent.wait_for(f"banned jail=manual address={ATTACKER} .*bantime=60 .*comment=loud")
        # by hand: on all ports
        for port in (PORT, PORT + 1):
            assert network.world.connect(HOST, port, source=ATTACKER) == "silence"
        (ban,) = listed(tmp_path, "List")
        assert (ban["address"], ban["jail"], ban["comment"], ban["lifted"]) == (ATTACKER, "manual", "loud", None)
        # shorter than what stands: nothing to do; longer: it lasts longer
        assert call(tmp_path, "Ban", addresses=[ATTACKER], bantime=30) == {"banned": 0}
        assert call(tmp_path, "Ban", addresses=[ATTACKER], permanent=True) == {"banned": 1}
        assert [ban["end"] for ban in listed(tmp_path, "List")] == [None]
        # a network, and what is in it
        assert call(tmp_path, "Ban", addresses=["203.0.113.0/24"], jail="sshd") == {"banned": 1}
        assert network.world.connect(HOST, PORT, source="203.0.113.77") == "silence"
        assert network.world.connect(HOST, PORT + 1, source="203.0.113.77") == "connected"
        assert [ban["address"] for ban in listed(tmp_path, "List", network="203.0.0.0/8")] == ["203.0.113.0/24"]
        assert call(tmp_path, "Unban", addresses=[ATTACKER, OTHER]) == {"lifted": 1}
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "connected"
        assert call(tmp_path, "Unban", addresses=[ATTACKER]) == {"lifted": 0}
        agent.end(signal.SIGKILL)
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        assert "bans stand bans=1" in agent.log
        assert [ban["address"] for ban in listed(tmp_path, "List")] == ["203.0.113.0/24"]
        past = listed(tmp_path, "History", address=ATTACKER)
        assert [(ban["reason"], ban["bantime"]) for ban in past] == [("admin", None), ("admin", 60)]
        assert call(tmp_path, "Unban", all=True) == {"lifted": 1}


def test_an_unbanned_address_begins_anew(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for("banned")
        assert call(tmp_path, "Unban", addresses=[ATTACKER], jail="sshd") == {"lifted": 1}
        sshd(ATTACKER, 2)
        agent.told("5 failures and 1 ban ")


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"addresses": ["1.2.3"]}, ("BadAddress", {"address": "1.2.3"})),
        ({"addresses": [OTHER, "x" * 1000]}, ("BadAddress", {"address": "x" * 100})),
        ({"addresses": [HOST]}, ("Protected", {"address": HOST})),
        ({"addresses": ["0.0.0.0/0"]}, ("Protected", {"address": "0.0.0.0/0"})),
        ({"addresses": ["192.0.2.0/24"]}, ("Protected", {"address": "192.0.2.0/24"})),
        ({"addresses": ["::1"]}, ("Protected", {"address": "::1"})),
        ({"addresses": ["203.0.113.200"]}, ("Protected", {"address": "203.0.113.200"})),  # a jail ignores it
        ({"addresses": ["203.0.113.0/24"]}, ("Protected", {"address": "203.0.113.0/24"})),
        ({"addresses": [OTHER], "caller": OTHER}, ("Protected", {"address": OTHER})),
        ({"addresses": ["198.51.100.0/24"], "caller": OTHER}, ("Protected", {"address": "198.51.100.0/24"})),
        ({"addresses": [OTHER], "jail": "ssh"}, ("NoSuchJail", {"jail": "ssh", "known": ["sshd", "manual"]})),
        ({"addresses": [OTHER], "bantime": 0}, ("org.varlink.service.InvalidParameter", {"parameter": "bantime"})),
        ({"addresses": [OTHER] * 10_001}, ("TooMany", {"what": "addresses", "limit": 10_000})),
    ],
)
def test_what_is_not_banned(  # noqa: PLR0917 - fixtures
    tmp_path: Path, journald: Journald, network: Network, sshd: Any, parameters: Any, error: Any
) -> None:
    assert sshd
    (tmp_path / "banagent.toml").write_text(CONFIG + 'ignoreip = ["203.0.113.200"]\n')
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        name, facts = refused(tmp_path, "Ban", **parameters)
        assert (name, {key: facts[key] for key in error[1]}) == error
        assert listed(tmp_path, "List") == []  # nothing of it was done


def test_force_bans_where_the_caller_is(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    assert sshd
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        assert call(tmp_path, "Ban", addresses=[OTHER], caller=OTHER, force=True) == {"banned": 1}


def test_off_and_on(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for("banned")
        assert call(tmp_path, "Off") == {"lifted": 1}
        assert network.world.connect(HOST, PORT, source=ATTACKER) == "connected"
        assert call(tmp_path, "Status")["state"] == "off"
        agent.end(signal.SIGKILL)
    with running(tmp_path, journald, network) as agent, network.host.listening(PORT):
        agent.told("OFF, nothing is banned")
        sshd(OTHER)
        journald.sync()
        assert call(tmp_path, "Status")["state"] == "off"
        assert refused(tmp_path, "Ban", addresses=[OTHER]) == ("TurnedOff", {})
        call(tmp_path, "On")
        sshd(ATTACKER)
        agent.wait_for(f"banned .*address={ATTACKER}")
        assert [ban["address"] for ban in listed(tmp_path, "List")] == [ATTACKER]


def test_why(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd(ATTACKER)
        sshd(OTHER, 2)
        sshd(HOST, 1)
        agent.wait_for("banned")
        agent.told("5 failures")
        banned = call(tmp_path, "Why", address=ATTACKER)
        assert [ban["address"] for ban in banned["bans"]] == [ATTACKER]
        assert [entry["message"] for entry in banned["entries"]] == [
            f"Failed password for root from {ATTACKER} port {4000 + number} ssh2" for number in range(3)
        ]
        counted = call(tmp_path, "Why", address=OTHER)
        assert counted["bans"] == []
        assert counted["counts"] == [
            {
                "jail": "sshd",
                "counts": "failures",
                "failures": 2,
                "weight": 1,
                "earlier": 0,
                "bantime": 600,
                "maxretry": 3,
                "findtime": 3600,
                "ignored": None,
                "guarded": [],
                "networks": [{"network": "198.51.100.0/24", "addresses": 2, "limit": 20}],
            },
        ]
        assert len(counted["entries"]) == 2
        own = call(tmp_path, "Why", address=HOST)
        assert [count["ignored"] for count in own["counts"]] == [f"{HOST} is an address of this host"]
        assert len(own["entries"]) == 1
        never = call(tmp_path, "Why", address="203.0.113.1")
        assert (never["bans"], never["entries"]) == ([], [])


def test_reload(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    file = tmp_path / "banagent.toml"
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd(ATTACKER, 2)
        agent.told("2 failures")
        file.write_text(CONFIG + "maxretri = 1\n")
        name, facts = refused(tmp_path, "Reload")
        assert name == "NotReloaded"
        assert [(m["file"], m["line"], m["key"]) for m in facts["mistakes"]] == [(str(file), 5, "jails.sshd.maxretri")]
        file.write_text(CONFIG.replace("600", "60"))
        assert call(tmp_path, "Reload") == {"jails": ["sshd"]}
        sshd(ATTACKER, 1)
        agent.wait_for("banned .*bantime=60 failures=3")
        settings = {item.pop("key"): item for item in call(tmp_path, "GetConfig")["settings"]}
        for number, (name, value, default) in enumerate((("maxretry", "3", "5"), ("bantime", "60", '"1h"')), start=3):
            replaces = {"value": default, "file": None, "line": None}
            assert settings[f"jails.sshd.{name}"] == {
                "value": value,
                "file": str(file),
                "line": number,
                "replaces": replaces,
            }
        assert settings["jails.sshd.filter"] == {"value": '"sshd"', "file": None, "line": None, "replaces": None}


def test_events_over_a_kill(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    seen: list[dict[str, Any]] = []

    def follow(number: int) -> None:
        with ask(tmp_path) as agent:
            since = seen[-1]["sequence"] + 1 if seen else 1
            for reply in agent.stream("Events", since=since, follow=True):
                seen.extend(reply["events"])
                if len(seen) >= number:
                    return

    for number, address in enumerate((ATTACKER, OTHER), start=1):
        with running(tmp_path, journald, network) as agent:
            agent.told("READY=1")
            follower = threading.Thread(target=follow, args=(number,))
            follower.start()
            sshd(address)
            follower.join(PATIENCE)
            assert not follower.is_alive()
            agent.end(signal.SIGKILL)
    assert [(event["sequence"], event["kind"], event["address"]) for event in seen] == [
        (1, "banned", ATTACKER),
        (2, "banned", OTHER),
    ]


def test_the_history_in_trouble_is_said(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    assert sshd
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "history.db").mkdir()
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        (attention,) = call(tmp_path, "Status")["attention"]
        assert attention["subject"] == "history"
        assert "cannot open the history" in attention["text"]


def test_who_may_not_connect(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    assert sshd
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        status = (tmp_path / "org.banagent").stat()
        assert (status.st_mode & 0o777, status.st_uid) == (0o660, os.getuid())


def test_the_end_of_a_ban_by_hand_is_told_though_the_journal_is_silent(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any
) -> None:
    assert sshd
    with running(tmp_path, journald, network) as agent:
        agent.told("reading live")
        assert call(tmp_path, "Ban", addresses=[ATTACKER], bantime=1) == {"banned": 1}
        agent.wait_for(f"unbanned jail=manual address={ATTACKER} reason=expired")


def test_what_came_while_it_was_off_counts_for_nothing_also_after_a_kill(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any
) -> None:
    with running(tmp_path, journald, network) as agent:
        agent.told("reading live")
        call(tmp_path, "Off")
        sshd(ATTACKER)
        journald.sync()
        call(tmp_path, "On")
        agent.end(signal.SIGKILL)
    with running(tmp_path, journald, network) as agent:
        agent.told("reading live")
        sshd(OTHER)
        agent.wait_for(f"banned .*address={OTHER}")
        assert ATTACKER not in agent.log


def test_a_jail_that_counts_bans(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    (tmp_path / "banagent.toml").write_text(f"{CONFIG}[jails.recidive]\nenabled = true\nmaxretry = 1\n")
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        (jail,) = (jail for jail in call(tmp_path, "Jails")["jails"] if jail["jail"] == "recidive")
        assert (jail["state"], jail["counts"], jail["filter"], jail["ports"]) == ("active", "bans", "bans", None)
        assert (jail["maxretry"], jail["findtime"], jail["bantime"]) == (1, 3 * 86400, 63 * 86400)
        sshd(ATTACKER)
        agent.wait_for(f"banned jail=recidive address={ATTACKER} .*failures=1 user=root filter=bans pattern=sshd")
        assert [ban["jail"] for ban in listed(tmp_path, "List")] == ["recidive", "sshd"]
        why = call(tmp_path, "Why", address=ATTACKER)
        assert [(ban["jail"], ban["earlier"]) for ban in why["bans"]] == [("recidive", 0), ("sshd", 0)]
        assert [ban["jail"] for ban in why["leading"]] == ["sshd"]
        assert len(why["entries"]) == 3
        assert {count["jail"]: count["counts"] for count in why["counts"]} == {"recidive": "bans", "sshd": "failures"}
        # by hand there is none of it
        call(tmp_path, "Ban", addresses=[OTHER], jail="sshd")
        assert [ban["jail"] for ban in listed(tmp_path, "List", network=OTHER)] == ["sshd"]


def test_the_second_ban_lasts_longer(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    (tmp_path / "banagent.toml").write_text(CONFIG.replace("600", "4"))
    with running(tmp_path, journald, network) as agent:
        agent.told("READY=1")
        sshd(ATTACKER)
        agent.wait_for(f"banned jail=sshd address={ATTACKER} .*bantime=4 failures=3 user")
        agent.wait_for("unbanned")
        sshd(ATTACKER)
        # two failures that count twice are enough
        agent.wait_for(f"banned jail=sshd address={ATTACKER} .*bantime=8 failures=4 earlier=1")
        assert [ban["earlier"] for ban in listed(tmp_path, "History")] == [1, 0]


def test_a_jail_that_trips_and_goes_on(tmp_path: Path, journald: Journald, network: Network, sshd: Any) -> None:
    """It goes on banning strangers, says what it does, remembers it over a restart, and resumes when it is told to."""
    (tmp_path / "banagent.toml").write_text(f"{CONFIG}breaker.users = 1\n")
    with running(tmp_path, journald, network) as agent, journald.writer(comm="sshd-session") as server:
        agent.told("reading live")
        server.syslog(f"Accepted password for alice from {ATTACKER} port 4000 ssh2")
        sshd(ATTACKER)
        agent.wait_for('trouble reason="jail sshd" .*if that is right, then banagent resume sshd')
        sshd(OTHER)
        agent.wait_for(f"banned jail=sshd address={OTHER}")
        agent.end(signal.SIGKILL)
    with running(tmp_path, journald, network) as agent:
        agent.told("reading live.*TROUBLE")
        status = call(tmp_path, "Status")
        assert [item["subject"] for item in status["attention"]] == ["jail sshd"]
        (jail,) = status["jails"]
        assert jail["state"] == "tripped"
        assert "hit addresses from which users logged in lately" in jail["reason"]
        assert refused(tmp_path, "Resume", jail="web") == ("NoSuchJail", {"jail": "web", "known": ["sshd"]})
        assert call(tmp_path, "Resume", jail="sshd") == {"withheld": 1}
        agent.wait_for("works again .*jail sshd")
        assert call(tmp_path, "Resume", jail="sshd") == {"withheld": None}
        status = call(tmp_path, "Status")
        assert (status["attention"], status["jails"][0]["state"]) == ([], "active")
        sshd(ATTACKER)
        agent.wait_for(f"banned jail=sshd address={ATTACKER}")


def test_why_of_neighbours_and_of_who_logged_in(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any
) -> None:
    (tmp_path / "banagent.toml").write_text(f"{CONFIG}networks.addresses = 3\n")
    with running(tmp_path, journald, network) as agent, journald.writer(comm="sshd-session") as server:
        agent.told("reading live")
        server.syslog("Accepted publickey for root from 203.0.113.7 port 4000 ssh2: RSA SHA256:Zm9v")
        sshd("198.18.5.1", 1)
        sshd("198.18.5.2", 1)
        agent.told("2 failures")
        (count,) = call(tmp_path, "Why", address="198.18.5.9")["counts"]
        assert (count["failures"], count["guarded"]) == (0, [])
        assert count["networks"] == [{"network": "198.18.5.0/24", "addresses": 2, "limit": 3}]
        (count,) = call(tmp_path, "Why", address="203.0.113.7")["counts"]
        assert (count["guarded"], count["networks"]) == (["root"], [])
        sshd("198.18.5.3", 1)
        agent.wait_for("banned jail=sshd address=198.18.5.0/24 .*failures=3 .*pattern=many-addresses")
        assert [ban["address"] for ban in call(tmp_path, "Why", address="198.18.5.9")["bans"]] == ["198.18.5.0/24"]


def test_an_attack_by_many_addresses_on_a_user_is_told(
    tmp_path: Path, journald: Journald, network: Network, sshd: Any
) -> None:
    with running(tmp_path, journald, network) as agent:
        agent.told("reading live")
        for number in range(60):
            sshd(f"198.18.{number}.1", 1)
        agent.wait_for("a distributed attack on a user jail=sshd user=root reason=.about 50 addresses, 50 networks")
        agent.told("60 failures and 0 bans")
        assert agent.log.count("a distributed attack") == 1
