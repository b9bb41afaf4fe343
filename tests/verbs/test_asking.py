# SPDX-License-Identifier: LGPL-2.1-or-later
"""`status`, `list`, `history`, `jails`, `events`, `why`, `config`, `version`: what is shown of what the agent says."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from banagent import __version__
from banagent.control.service import Error
from banagent.verbs.text import width
from verbs.answering import HOSTILE, WIDE, ago, ahead, ban, jail, status

if TYPE_CHECKING:
    from verbs.answering import Answering
    from verbs.conftest import Prompt

LISTINGS = ("list", "history", "jails", "config")


def why(**facts: Any) -> dict[str, Any]:
    return {
        "address": "192.0.2.1",
        "bans": [],
        "entries": [],
        "counts": [
            {"jail": "sshd", "counts": "failures", "failures": 0, "maxretry": 5, "findtime": 3600, "ignored": None}
        ],
    } | facts


def place(value: str, file: str | None = None, line: int | None = None) -> dict[str, Any]:
    return {"value": value, "file": file, "line": line}


def setting(key: str, now: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    return {"key": key, **now, "replaces": before}


SETTINGS = [
    setting("jails.sshd.enabled", place("true", "/usr/lib/banagent/banagent.toml", 4), place("false")),
    setting("jails.sshd.findtime", place('"1h"'), None),
    setting(
        "jails.sshd.maxretry",
        place("10", "/etc/banagent/banagent.toml", 2),
        place("5", "/usr/lib/banagent/banagent.toml", 5),
    ),
    setting("jails.sshd.mode", place('"\x1b[2J"', "/etc/banagent/conf.d/a.toml"), place('"normal"')),
    setting("jails.web.ports", place("[80]", "/etc/banagent/filters/web.toml", 3), None),
]

# --- status ---


@pytest.mark.usefixtures("agent")
def test_status_says_what_is_well(prompt: Prompt) -> None:
    said = prompt("status")
    assert (said.status, said.err) == (0, "")
    lines = said.out.splitlines()
    assert re.fullmatch(r"banagent 0\.1\.0 protects this host; up 3d 4h, newest entry \d+s ago\.", lines[0])
    assert lines[1] == "4 bans stand; 1,204 failures and 51 bans since the start."
    assert "ATTENTION" not in said.out


@pytest.mark.parametrize(
    ("facts", "alarm", "sentence"),
    [
        ({"state": "off"}, "off: nobody is banned until: banagent on", "is off and bans nobody"),
        ({"dry_run": True}, "dry run: the agent says what it would ban, and bans nobody", "only watches"),
        ({"jails": []}, "jails: none is enabled, so nobody is banned; see banagent.toml(5)", "not all is well"),
        (
            {"attention": [{"subject": "firewall", "text": "refused", "since": ago(days=12, hours=1)}]},
            "firewall: refused (for 12d",
            "runs, but not all is well",
        ),
        ({"jails": [jail("web", state="failed", reason="why")]}, "jail web: failed: why", "not all is well"),
        ({"jails": [jail("web", state="waiting")]}, "jail web: waiting: see journalctl -u banagent", "not all is well"),
    ],
)
def test_status_begins_with_what_needs_attention(
    agent: Answering, prompt: Prompt, facts: dict[str, Any], alarm: str, sentence: str
) -> None:
    agent.replies["Status"] = status(**facts)
    first, blank, second = prompt("status").out.splitlines()[:3]
    assert first.startswith(f"ATTENTION  {alarm}")
    assert blank == ""
    assert sentence in second


@pytest.mark.parametrize(
    ("attention", "reason"),
    [("journal", "can't be read"), ("web", "some other words")],
)
def test_a_trouble_is_told_once(agent: Answering, prompt: Prompt, attention: str, reason: str) -> None:
    trouble = {"subject": attention, "text": "can't be read", "since": ago(minutes=1)}
    agent.replies["Status"] = status(attention=[trouble], jails=[jail("web", state="waiting", reason=reason)])
    assert prompt("status").out.count("ATTENTION") == 1


def test_jails_that_only_have_bans_are_no_alarm(agent: Answering, prompt: Prompt) -> None:
    gone = jail("old", state="waiting", reason="not enabled; its bans stand", maxretry=0, findtime=0)
    agent.replies["Status"] = status(jails=[jail("sshd"), gone])
    assert "ATTENTION" not in prompt("status").out


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_screen_fits(agent: Answering, prompt: Prompt, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    text = "the kernel says something that takes more than one line of a narrow screen " * 2
    agent.replies["Status"] = status(
        attention=[{"subject": "firewall", "text": text, "since": ago(minutes=12)}],
        jails=[jail("nginx-http-auth", bans_total=12_345_678, failures_total=1_234_567), jail("sshd")],
        latest=[ban("2001:db8:1111:2222::/64", user=HOSTILE * 3, comment="c" * 200), ban("192.0.2.1", user=WIDE * 20)],
    )
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = prompt("status").out.splitlines()
    assert max(map(width, lines)) <= columns
    assert [line.count("…") for line in lines[-2:]] == [2 if columns == 160 else 1, 1]


@pytest.mark.usefixtures("agent")
def test_more_room_shows_more(prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    heads: dict[int, list[str]] = {}
    for columns in (80, 160):
        monkeypatch.setenv("COLUMNS", str(columns))
        heads[columns] = [line for line in prompt("status").out.splitlines() if line.isupper()]
    assert not {"END", "PATTERN"} & set(heads[80][1].split())
    assert {"END", "PATTERN"} <= set(heads[160][1].split())


@pytest.mark.usefixtures("agent")
def test_columns_line_up(prompt: Prompt) -> None:
    lines = prompt("status").out.splitlines()
    head = next(line for line in lines if line.startswith("ADDRESS"))
    rows = lines[lines.index(head) + 1 :]
    assert len(rows) == 4
    edge = head.index("LEFT") + len("LEFT")
    assert all(row[edge - 1] != " " and row[edge : edge + 2] == "  " for row in rows)


def test_status_in_json(agent: Answering, prompt: Prompt) -> None:
    agent.replies["Status"] = reply = status()
    said = prompt("status", "--json")
    assert said.json == reply
    assert said.out.count("\n") == 1
    assert said.out.isascii()
    pretty = prompt("status", "--pretty")
    assert pretty.json == reply
    assert pretty.out.splitlines()[1].startswith('  "')


def test_status_of_a_jail_that_counts_bans(agent: Answering, prompt: Prompt) -> None:
    agent.replies["Jails"] = {"jails": [jail("sshd", counts="bans", ports=None, findtime=3 * 86400, failures=2)]}
    lines = prompt("status", "sshd").out.splitlines()
    assert lines[0] == "sshd bans for 1h on all ports after 5 bans in 3d."
    assert lines[1].startswith("2 bans in that time of those who are not banned, ")


def test_status_of_a_jail(agent: Answering, prompt: Prompt) -> None:
    agent.bans = [ban(f"192.0.2.{number}") for number in range(12)]
    agent.replies["Jails"] = {"jails": [jail("sshd", bans=12)]}
    lines = prompt("status", "sshd").out.splitlines()
    assert lines[0] == "sshd bans for 1h on port 22 after 5 failures in 1h."
    assert lines[2] == "12 bans stand, of 51 ever."
    assert sum(line.startswith("192.0.2.") for line in lines) == 10
    assert lines[-1] == "All of them: banagent list --jail sshd"
    assert prompt("status", "sshd", "--json").json["jail"] == "sshd"


# --- list, history, jails, config ---


def test_list(agent: Answering, prompt: Prompt) -> None:
    agent.bans = [
        ban("192.0.2.1"),
        ban("2001:db8:1:2::/64", end=None, bantime=None, user=None),
        ban("198.51.100.1", jail="manual", comment="by hand"),
    ]
    head, *rows = prompt("list").out.splitlines()
    assert head.split() == ["ADDRESS", "JAIL", "AGE", "LEFT", "FAILS", "END", "PATTERN", "USER", "COMMENT"]
    assert [row.split()[0] for row in rows] == ["192.0.2.1", "2001:db8:1:2::/64", "198.51.100.1"]
    assert re.search(r" sshd +12m 5s +47m 5\ds +5 +\d{4}-", rows[0])
    assert " permanent " in rows[1]
    assert rows[2].endswith("by hand")
    assert prompt("list", "--jail", "manual", "--json").json == [agent.bans[2]]
    assert prompt("list", "--network", "192.0.2.0/24", "--json").json == [agent.bans[0]]


def test_history(agent: Answering, prompt: Prompt) -> None:
    agent.bans = [
        ban("192.0.2.1", lifted=ago(minutes=1), reason="admin"),
        ban("192.0.2.2", lifted=ago(minutes=1), reason="expired"),
    ]
    head, *rows = prompt("history").out.splitlines()
    assert head.split()[:5] == ["START", "ADDRESS", "JAIL", "FOR", "LEFT"]
    assert [row.split()[5] for row in rows] == ["lifted", "expired"]
    assert prompt("history", "--json").json == agent.bans


@pytest.mark.parametrize(
    ("since", "asked"),
    [
        ("2026-01-31", "2026-01-31T00:00:00Z"),
        ("2026-01-31 23:59", "2026-01-31T23:59:00Z"),
        ("2026-01-31T23:59:59+02:00", "2026-01-31T21:59:59Z"),
        ("500y", None),
        ("yesterday", None),
        ("permanent", None),
        ("", None),
    ],
)
def test_history_since(agent: Answering, prompt: Prompt, since: str, asked: str | None) -> None:
    said = prompt("history", "--since", since, "--address", "192.0.2.1", "--jail", "sshd")
    assert said.status == 1
    if asked is None:
        assert said.err.startswith(f"banagent: --since {since}: must be a time")
        assert agent.calls == []
    else:
        assert agent.asked("History") == [{"since": asked, "jail": "sshd", "address": "192.0.2.1"}]


def test_history_since_a_while(agent: Answering, prompt: Prompt) -> None:
    prompt("history", "--since", "2h")
    (asked,) = agent.asked("History")
    assert ago(hours=2, seconds=10) <= asked["since"] <= ago(hours=2, seconds=-1)


def test_jails(agent: Answering, prompt: Prompt) -> None:
    agent.replies["Jails"] = {"jails": [jail("sshd"), jail("web", ports=None, bantime=None, state="failed")]}
    _, sshd, web = prompt("jails").out.splitlines()
    assert sshd.split() == ["sshd", "active", "3", "1,204", "4", "51", "5", "in", "1h", "1h", "22", "sshd"]
    assert web.split()[1:2] + web.split()[-3:] == ["failed", "permanent", "all", "web"]
    assert prompt("jails", "--json").json == agent.replies["Jails"]["jails"]  # type: ignore[index]  # a mapping


DIFFERENCE = """\
jails.sshd.maxretry
  - 5   /usr/lib/banagent/banagent.toml:5
  + 10  /etc/banagent/banagent.toml:2
jails.sshd.mode
  - "normal"   (default)
  + "\\x1b[2J"  /etc/banagent/conf.d/a.toml
jails.web.ports
  + [80]  /etc/banagent/filters/web.toml:3
"""


def test_config(agent: Answering, prompt: Prompt) -> None:
    agent.replies["GetConfig"] = {"settings": SETTINGS}
    head, *rows = (line.split() for line in prompt("config").out.splitlines())
    assert head == ["KEY", "VALUE", "FROM"]
    assert [row[2] for row in rows] == [
        "/usr/lib/banagent/banagent.toml:4",
        "(default)",
        "/etc/banagent/banagent.toml:2",
        "/etc/banagent/conf.d/a.toml",
        "/etc/banagent/filters/web.toml:3",
    ]
    assert prompt("config", "--json").json == SETTINGS
    assert prompt("config", "--diff", "--json").json == SETTINGS[2:]
    assert prompt("config", "--diff").out == DIFFERENCE
    agent.replies["GetConfig"] = {"settings": SETTINGS[:2]}
    assert prompt("config", "--diff") == (1, "", "banagent: the admin's files change nothing; see banagent.toml(5)\n")


@pytest.mark.parametrize("verb", LISTINGS)
def test_an_empty_listing(agent: Answering, prompt: Prompt, verb: str) -> None:
    agent.replies |= {"Jails": {"jails": []}, "GetConfig": {"settings": []}}
    said = prompt(verb)
    assert (said.status, said.out) == (1, "")
    assert said.err.count("\n") == 1
    assert prompt(verb, "--json") == (1, "[]\n", "")


@pytest.mark.parametrize("words", [("--json",), ("--pretty",)])
def test_json_in_portions(agent: Answering, prompt: Prompt, words: tuple[str, ...]) -> None:
    agent.bans = [ban(f"192.0.2.{number}", user=HOSTILE) for number in range(7)]
    agent.portion = 3
    said = prompt("list", *words)
    assert said.status == 0
    assert said.json == agent.bans
    assert said.out.isascii()
    assert "\x1b" not in said.out


# --- events ---


def test_events(agent: Answering, prompt: Prompt) -> None:
    assert prompt("events") == (1, "", "banagent: there is no such event\n")
    agent.happen("banned", address="192.0.2.1", jail="sshd", end=None, user='a "b" \\\x1b')
    agent.happen("off")
    assert prompt("events").out.splitlines() == [
        '1 2026-01-31 23:59:59 banned address=192.0.2.1 jail=sshd user="a \\"b\\" \\\\\\x1b"',
        "2 2026-01-31 23:59:59 off",
    ]
    assert [json.loads(line)["sequence"] for line in prompt("events", "--json").out.splitlines()] == [1, 2]
    assert prompt("events", "--since", "2").out == "2 2026-01-31 23:59:59 off\n"
    lost = prompt("events", "--since", "7")
    assert (lost.status, lost.out) == (1, "")
    assert lost.err.startswith("banagent: event 7 is not there")


def test_events_when_the_first_are_gone(agent: Answering, prompt: Prompt) -> None:
    agent.events = type(agent.events)(size=3)
    for number in range(5):
        agent.happen("banned", failures=number)
    assert [line.split()[0] for line in prompt("events").out.splitlines()] == ["3", "4", "5"]


# --- why ---


def test_why_of_one_who_is_banned(agent: Answering, prompt: Prompt) -> None:
    agent.replies["Why"] = why(
        bans=[ban("192.0.2.1", user=HOSTILE), ban("192.0.2.1", start=ago(days=2), lifted=ago(days=1), reason="admin")],
        entries=[
            {"time": ago(minutes=13), "position": "s=1", "jail": "sshd", "pattern": "password", "message": "\x1b[31mx"},
            {"time": ago(minutes=12), "position": "s=2", "jail": "sshd", "pattern": "password", "message": None},
        ],
    )
    said = prompt("why", "192.0.2.1")
    lines = said.out.splitlines()
    assert said.status == 0
    assert lines[0] == "192.0.2.1 is banned."
    assert re.match(
        r"sshd bans 192\.0\.2\.1 for another 47m 5\ds, until .*; it began 12m \d+s ago and takes 1h\.", lines[2]
    )
    assert 'user "eve\\x1b[2J' in lines[3]
    assert lines[4] == "The rule: 5 failures in 1h."
    assert any(line.endswith("\\x1b[31mx") for line in lines)
    assert any(line.endswith("(the journal has it no more)") for line in lines)
    assert "To undo it: banagent unban 192.0.2.1" in lines
    assert "\x1b" not in said.out


def test_why_of_a_repeater(agent: Answering, prompt: Prompt) -> None:
    reply = why(bans=[ban("192.0.2.1", earlier=2), ban("192.0.2.1", jail="recidive", filter="bans", pattern="sshd")])
    reply["counts"].append({**reply["counts"][0], "jail": "recidive", "counts": "bans", "findtime": 3 * 86400})
    reply["counts"][0] |= {"earlier": 3, "bantime": 8 * 3600}
    reply["leading"] = [
        ban("192.0.2.1", start="2026-01-31T12:00:00Z", jail="web", failures=1),
        ban("192.0.2.1", start="2026-01-31T13:00:00Z", bantime=7200),
    ]
    agent.replies["Why"] = reply
    lines = prompt("why", "192.0.2.1").out.splitlines()
    assert "It is the 3rd ban that counts, so it takes longer than a first one." in lines
    assert "The next would take 8h." in lines
    told = lines.index("5 bans by other jails, the last by sshd:")
    assert [line.split(maxsplit=2)[2] for line in lines[told + 1 : told + 3]] == [
        "web  for 1h, 1 failure",
        "sshd  for 2h, 5 failures",
    ]
    assert "The rule: 5 bans in 3d." in lines


@pytest.mark.parametrize(
    ("count", "line", "state"),
    [
        ({"failures": 3}, "sshd: 3 of 5 failures in 1h that lead to a ban.", 0),
        ({"ignored": "192.0.2.0/24"}, "sshd does not count its failures, by the rule: 192.0.2.0/24.", 0),
        ({"failures": 3, "counts": "bans", "findtime": 3 * 86400}, "sshd: 3 of 5 bans in 3d that lead to a ban.", 0),
        ({"failures": 0}, "It was never seen.", 1),
        (
            {"failures": 1, "earlier": 1, "weight": 2, "bantime": 7200},
            (
                "sshd: 1 of 5 failures in 1h that lead to a ban. 1 earlier ban counts: a failure counts as 2, and the"
                " next ban takes 2h."
            ),
            0,
        ),
        (
            {"failures": 1, "earlier": 2, "weight": 1, "bantime": None},
            "sshd: 1 of 5 failures in 1h that lead to a ban. 2 earlier bans count: the next ban takes for ever.",
            0,
        ),
        (
            {"guarded": ["carol", "root"]},
            "sshd: carol and root logged in from there lately, and may fail more often.",
            1,
        ),
        (
            {"networks": [{"network": "192.0.2.0/24", "addresses": 7, "limit": 20}]},
            "sshd: 7 addresses of 192.0.2.0/24 failed; at 20 it is banned as a whole.",
            1,
        ),
    ],
)
def test_why_of_one_who_is_not(agent: Answering, prompt: Prompt, count: dict[str, Any], line: str, state: int) -> None:
    reply = why()
    reply["counts"] = [reply["counts"][0] | count]
    agent.replies["Why"] = reply
    said = prompt("why", "192.0.2.1")
    assert said.status == state
    assert said.out.splitlines()[0] == "192.0.2.1 is not banned."
    assert line in said.out.splitlines()


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (
            {"address": "192.0.2.0/24", "failures": 20},
            "20 addresses of it failed, few times each: it is banned as a whole.",
        ),
        ({"failures": 1}, "Many addresses of its network failed, which can't be banned as a whole."),
    ],
)
def test_why_of_a_ban_for_neighbours(agent: Answering, prompt: Prompt, facts: dict[str, Any], line: str) -> None:
    agent.replies["Why"] = why(bans=[ban("192.0.2.1", pattern="many-addresses") | facts])
    assert line in prompt("why", "192.0.2.1").out.splitlines()


@pytest.mark.parametrize(
    ("lengths", "line"),
    [
        ([3600, 7200, 14400], "Further bans of an address take 2h, 4h."),
        (
            [3600 * 2**n for n in range(7)] + [7 * 86400],
            "Further bans of an address take 2h, 4h, 8h and so on, up to 7d.",
        ),
    ],
)
def test_status_of_a_jail_whose_bans_grow(agent: Answering, prompt: Prompt, lengths: list[int], line: str) -> None:
    agent.replies["Jails"] = {"jails": [jail("sshd", lengths=lengths)]}
    assert line in prompt("status", "sshd").out.splitlines()
    agent.replies["Jails"] = {"jails": [jail("sshd", lengths=[3600])]}
    assert "Further bans" not in prompt("status", "sshd").out


def test_status_of_a_jail_that_has_tripped(agent: Answering, prompt: Prompt) -> None:
    reason = "101 bans in a minute: nobody is banned any more"
    tripped = jail("sshd", state="tripped", reason=reason, networks=20)
    trouble = {"subject": "jail sshd", "text": f"{reason}; if that is right, then banagent resume sshd"}
    agent.replies["Status"] = status(jails=[tripped], attention=[trouble | {"since": ago(hours=1)}])
    said = prompt("status").out
    assert said.startswith("ATTENTION  jail sshd: 101 bans in a minute")
    assert said.count("ATTENTION") == 1
    agent.replies["Jails"] = {"jails": [tripped]}
    said = " ".join(prompt("status", "sshd").out.split())
    assert said.startswith("ATTENTION sshd is tripped: 101 bans in a minute")
    assert "A network of which 20 addresses fail in that time is banned as a whole." in said


def test_why_of_a_ban_that_is_over(agent: Answering, prompt: Prompt) -> None:
    agent.replies["Why"] = why(
        bans=[ban("192.0.2.1", end=ago(seconds=1)), ban("192.0.2.1", lifted=ahead(seconds=0), reason="off")]
    )
    said = prompt("why", "192.0.2.1")
    assert said.status == 0
    assert said.out.startswith("192.0.2.1 is not banned.")
    assert "To undo it" not in said.out


def test_why_names_what_is_counted(agent: Answering, prompt: Prompt) -> None:
    agent.replies["Why"] = why(address="2001:db8::/64")
    assert "It is counted and banned as 2001:db8::/64." in prompt("why", "2001:db8::1").out
    assert prompt("why", "2001:db8::1", "--json").json == agent.replies["Why"]


# --- version ---


def test_version(agent: Answering, prompt: Prompt) -> None:
    agent.replies["Status"] = status(version=__version__)
    assert prompt("version") == (0, f"banagent {__version__}\n", "")
    agent.replies["Status"] = status(version="0.0.9")
    assert prompt("version").out.splitlines()[1].startswith("the agent that runs is 0.0.9;")
    agent.replies["Status"] = Error("NotPermitted", uid=1000, method="Status")
    assert prompt("version") == (0, f"banagent {__version__}\n", "")


def test_version_without_an_agent(prompt: Prompt) -> None:
    assert prompt("version") == (0, f"banagent {__version__}\n", "")
