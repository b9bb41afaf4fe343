# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control socket of the real service: what systemd's own varlinkctl makes of it, and who may do what."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from banagent.control import INTERFACE, READING
from banagent.control.client import SOCKET
from banagent.control.service import PORTION, STANDARD, read_interface
from system.bed.machine import NEAR

if TYPE_CHECKING:
    import subprocess

    from system.bed.agent import Agent

# Debian 12 has no varlinkctl
varlinkctl = pytest.mark.parametrize("root", ["trixie"], indirect=True)

COMMAND: Final = "/usr/local/bin/banagent"
OUTSIDER: Final = "alice"
MEMBER: Final = "carol"
OTHER: Final = "203.0.113.7"
DEFINITIONS: Final = "/usr/local/lib/banagent/lib/python3*/site-packages/banagent/control/*.varlink"


def ask(agent: Agent, *words: str, user: str = "root") -> subprocess.CompletedProcess[str]:
    """Run varlinkctl as somebody."""
    return agent.machine.run(["runuser", "-u", user, "--", "varlinkctl", *words], check=False)


def call(agent: Agent, method: str, user: str = "root", **parameters: Any) -> subprocess.CompletedProcess[str]:
    return ask(agent, "call", SOCKET, f"{INTERFACE}.{method}", json.dumps(parameters), user=user)


def banagent(agent: Agent, *words: str, user: str = "root") -> subprocess.CompletedProcess[str]:
    return agent.machine.run(["runuser", "-u", user, "--", COMMAND, *words], check=False)


def replies(stream: str) -> list[Any]:
    """Take a stream apart: what several replies are printed as is a JSON text sequence (RFC 7464)."""
    return [json.loads(text) for text in stream.split("\x1e") if text]


# --- varlinkctl ---


@varlinkctl
def test_varlinkctl_introspects(agent: Agent) -> None:
    agent.start()
    info = ask(agent, "info", SOCKET).stdout
    assert dict(re.findall(r"^ *(\w+): (.*)$", info, re.MULTILINE)) | {"Version": ""} == {
        "Vendor": "banagent",
        "Product": "banagent",
        "Version": "",
        "URL": "man:banagent(8)",
        "Interfaces": INTERFACE,
    }
    assert ask(agent, "list-interfaces", SOCKET).stdout.split() == [INTERFACE, STANDARD]
    said = ask(agent, "introspect", SOCKET, INTERFACE)
    assert (said.returncode, said.stderr) == (0, "")
    assert words(said.stdout) == words(read_interface(INTERFACE).text)


def words(definition: str) -> list[list[str]]:
    """Give the members of a definition, sorted, less comments: varlinkctl has an order and a layout of its own."""
    bare = re.sub(r"#.*", "", definition)
    members = re.split(r"^(?=interface |type |method |error )", bare, flags=re.MULTILINE)
    return sorted(re.findall(r"[\w.]+|[^\w\s]", member) for member in members if member.strip())


@varlinkctl
def test_varlinkctl_finds_no_mistake_in_the_definitions(agent: Agent) -> None:
    said = agent.machine.run(["sh", "-euc", f'for file in {DEFINITIONS}; do varlinkctl validate-idl "$file"; done'])
    assert said.stderr == ""
    assert f"interface {INTERFACE}" in said.stdout


@varlinkctl
def test_varlinkctl_calls(agent: Agent) -> None:
    agent.start()
    agent.attack(NEAR[0])
    agent.banned(NEAR[0])
    status = json.loads(call(agent, "Status").stdout)
    assert [ban["address"] for ban in status["latest"]] == [NEAR[0]]
    (found,) = json.loads(call(agent, "Why", address=NEAR[0]).stdout)["bans"]
    assert (found["failures"], found["user"]) == (3, "alice")
    assert json.loads(call(agent, "Unban", addresses=[NEAR[0]]).stdout) == {"lifted": 1}
    assert agent.machine.connects(NEAR[0])
    assert json.loads(call(agent, "Ban", addresses=[NEAR[0]], jail="sshd").stdout) == {"banned": 1}
    agent.see_blocked(NEAR[0])

    wrong = call(agent, "Ban", addresses=["localhost"])
    assert wrong.returncode == 1
    assert f"{INTERFACE}.BadAddress" in wrong.stderr
    assert json.loads(wrong.stdout)["address"] == "localhost"
    assert f"{STANDARD}.ExpectedMore" in call(agent, "List").stderr


@varlinkctl
def test_varlinkctl_calls_for_more(agent: Agent) -> None:
    agent.start()
    networks = {f"198.51.{number >> 8}.{number & 255}" for number in range(3 * PORTION)}
    agent.machine.run([COMMAND, "ban", "-"], stdin="\n".join(networks))
    said = ask(agent, "call", "--more", SOCKET, f"{INTERFACE}.List", "{}")
    portions = replies(said.stdout)
    assert len(portions) > 1
    assert {ban["address"] for portion in portions for ban in portion["bans"]} == networks


FOLLOW: Final = f"""
exec 3< <(exec varlinkctl call --more {SOCKET} {INTERFACE}.Events '{{"since": 1, "follow": true}}')
follower=$!
read -r -t 10 -u 3 first
{COMMAND} ban {OTHER} >/dev/null
read -r -t 10 -u 3 second
kill $follower
printf '%s\\n' "$first" "$second"
"""


@varlinkctl
def test_varlinkctl_follows(agent: Agent) -> None:
    agent.start()
    banagent(agent, "ban", NEAR[0])
    said = agent.machine.run(["bash", "-euc", FOLLOW])
    told = [[(event["sequence"], event["address"]) for event in reply["events"]] for reply in replies(said.stdout)]
    assert told == [[(1, NEAR[0])], [(2, OTHER)]]


# --- who may do what ---


@pytest.fixture
def users(agent: Agent) -> Agent:
    """Give a machine on which the agent runs, and one user is in its group and another is not."""
    agent.machine.run(["useradd", "--groups", "banagent", MEMBER])
    agent.start()
    agent.attack(NEAR[0])
    agent.banned(NEAR[0])
    return agent


ASKING: Final = (("status",), ("list",), ("history",), ("jails",), ("events",), ("why", NEAR[0]), ("config",))
TELLING: Final = (("ban", OTHER), ("unban", NEAR[0]), ("unban", "--all"), ("off",), ("on",), ("reload",))


def test_who_is_not_in_the_group_is_not_heard(users: Agent) -> None:
    for verb in (*ASKING, *TELLING):
        said = banagent(users, *verb, user=OUTSIDER)
        assert (said.returncode, said.stdout, said.stderr) == (
            4,
            "",
            "banagent: only root and members of group banagent may ask the agent; try sudo\n",
        )
    assert users.bans().keys() == {NEAR[0]}


def test_a_member_of_the_group_may_ask_but_tell_nothing(users: Agent) -> None:
    for verb in ASKING:
        said = banagent(users, *verb, user=MEMBER)
        assert (said.returncode, said.stderr) == (0, "")
        assert said.stdout
    uid = users.machine.run(["id", "-u", MEMBER]).stdout.strip()
    for verb in TELLING:
        said = banagent(users, *verb, user=MEMBER)
        method = verb[0].capitalize()
        assert (said.returncode, said.stdout) == (4, "")
        assert said.stderr == f"banagent: uid {uid} may not call {method}; try sudo\n"
    assert users.bans().keys() == {NEAR[0]}


def test_root_may_do_both(users: Agent) -> None:
    for verb in ASKING:
        assert banagent(users, *verb).returncode == 0
    said = [banagent(users, *verb).stdout.partition(";")[0] for verb in TELLING]
    off, on = "0 bans lifted", "banning again, for what is logged from now on"
    assert [text.strip() for text in said] == ["1 ban made", "1 ban lifted", "1 ban lifted", off, on, "reloaded"]
    assert users.bans() == {}


@varlinkctl
def test_who_may_do_what_with_varlinkctl(users: Agent) -> None:
    """The same, of the socket itself: no program of ours stands between."""
    refused = call(users, "Status", user=OUTSIDER)
    assert refused.returncode == 1
    assert refused.stderr == f"Failed to connect to '{SOCKET}': Permission denied\n"
    uid = int(users.machine.run(["id", "-u", MEMBER]).stdout)
    interface = read_interface(INTERFACE)
    more = {"List", "History", "Events"}
    for method in sorted(interface.methods):
        parameters = json.dumps({"address": NEAR[0]} if method == "Why" else {})
        flags = ["--more"] if method in more else []
        said = ask(users, "call", *flags, SOCKET, f"{INTERFACE}.{method}", parameters, user=MEMBER)
        if method in READING:
            assert "NotPermitted" not in said.stderr
        else:
            assert f"{INTERFACE}.NotPermitted" in said.stderr
            assert json.loads(said.stdout) == {"uid": uid, "method": f"{INTERFACE}.{method}"}
    assert users.bans().keys() == {NEAR[0]}
    assert json.loads(call(users, "Ban", addresses=[OTHER]).stdout) == {"banned": 1}
