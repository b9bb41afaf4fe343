# SPDX-License-Identifier: LGPL-2.1-or-later
"""`test`: what is told of lines of files, of standard input, of the command line and of a real journal."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import pty
import re
import select
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from banagent import cli
from banagent.core.filter import MODES
from bed.journald import Journald, service, session
from verbs.answering import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from verbs.conftest import Prompt, Said

KEYS = ["line", "outcome", "pattern", "address", "user", "time"]
FAILED = "Failed password for root from 192.0.2.1 port 22 ssh2"
UNREAD = "which is not read; use --output=json, or short-iso"
NO_FORMAT = "Its beginning is in none of the formats of filter gated (syslog); it was tried as a bare message."
GATED = r"""
description = "gated: refused logins"
units       = ["gated.service"]
identifiers = ["gated"]
ports       = [7000]

[[failregex]]
name    = "password"
regex   = '^login of (?P<user>.*) from <HOST> refused$'

[[failregex]]
name    = "left"
regex   = '^from <HOST> left$'
mode    = "ddos"

[[failregex]]
name    = "door"
mode    = "extra"
json    = { "event" = "refused", "peer.address" = '<HOST>' }

[[ignoreregex]]
regex   = '^login of probe '
"""
LINKED = r"""
description = "linkd: refused binds"
units       = ["linkd.service"]
identifiers = ["linkd"]
session     = "id"

[[link]]
name    = "accept"
regex   = '^conn=(?P<session>\d+) from <HOST>$'

[[failregex]]
name    = "bind"
regex   = '^conn=(?P<session>\d+) refused$'
"""


@pytest.fixture
def gated(tmp_path: Path) -> str:
    path = tmp_path / "gated.toml"
    path.write_text(GATED)
    return str(path)


def log(tmp_path: Path, *lines: str | bytes, name: str = "log") -> str:
    path = tmp_path / name
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))
    return str(path)


def objects(said: Said) -> list[dict[str, Any]]:
    assert said.err == ""
    return [json.loads(line) for line in said.out.splitlines()]


def told(said: Said) -> list[tuple[str, str | None, str | None]]:
    """Give the outcome, the pattern and the address of each line."""
    return [(one["outcome"], one["pattern"], one["address"]) for one in objects(said)]


# --- JSON ---


def test_an_object_for_each_line(prompt: Prompt, tmp_path: Path, gated: str) -> None:
    path = log(
        tmp_path,
        "2026-11-22T03:00:00.5+01:00 host gated[7]: login of bob from 192.0.2.1 refused",
        "",
        "login of eve from [2001:db8::5]:7000 refused",
        "login of eve from host.example refused",
        "login of probe from 192.0.2.1 refused",
        "2026-11-22T03:00:00Z host gated[7]: welcome",
        "2026-11-22T03:00:00Z host evil[7]: login of bob from 192.0.2.66 refused",
    )
    said = prompt("test", "--filter", gated, "--json", path)
    assert said.status == 0
    found = objects(said)
    assert [list(one) for one in found] == [KEYS] * 7
    assert [list(one.values()) for one in found] == [
        [1, "matched", "password", "192.0.2.1", "bob", "2026-11-22T02:00:00Z"],
        [2, "missed", None, None, None, None],
        [3, "matched", "password", "2001:db8::5", "eve", None],
        [4, "matched", "password", None, "eve", None],
        [5, "ignored", "ignoreregex-1", None, None, None],
        [6, "missed", None, None, None, "2026-11-22T03:00:00Z"],
        [7, "missed", None, None, None, "2026-11-22T03:00:00Z"],
    ]


def test_a_time_that_is_not_now(prompt: Prompt, tmp_path: Path) -> None:
    """A stamp without year is of the last twelve months; one with a year is believed, though it is to come."""
    past = datetime.fromtimestamp(time.time() - 300 * 86_400, UTC)
    soon = datetime.fromtimestamp(time.time() + 6 * 3600, UTC)  # of a zone that is ahead
    path = log(
        tmp_path,
        f"{past:%b %d %H:%M:%S} host sshd[7]: {FAILED}",
        f"{soon:%b %d %H:%M:%S} host sshd[7]: {FAILED}",
        f"2099-01-31T03:00:00Z host sshd[7]: {FAILED}",
    )
    times = [one["time"] for one in objects(prompt("test", "--filter", "sshd", "--json", path))]
    assert times == [f"{past:%Y-%m-%dT%H:%M:%SZ}", f"{soon:%Y-%m-%dT%H:%M:%SZ}", "2099-01-31T03:00:00Z"]


def test_standard_input(prompt: Prompt, gated: str) -> None:
    lines = "x\nlogin of bob from 192.0.2.1 refused\n\nlogin of bob from 192.0.2.2 refused"  # no newline at its end
    for words in ((), ("-",)):
        said = prompt.run("test", "--filter", gated, "--json", *words, stdin=lines)
        assert said.status == 0
        assert [one[2] for one in told(said)] == [None, "192.0.2.1", None, "192.0.2.2"]


def test_several_logs_are_one(prompt: Prompt, tmp_path: Path, gated: str) -> None:
    first = log(tmp_path, "login of a from 192.0.2.1 refused", name="1")
    packed = tmp_path / "2.gz"
    packed.write_bytes(gzip.compress(b"login of b from 192.0.2.2 refused\n"))
    smaller = tmp_path / "3.xz"
    smaller.write_bytes(lzma.compress(b"\nlogin of c from 192.0.2.3 refused\n"))
    found = objects(prompt("test", "--filter", gated, "--json", first, str(packed), str(smaller)))
    assert [(one["line"], one["user"]) for one in found] == [(1, "a"), (2, "b"), (3, None), (4, "c")]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["conn=1 from 192.0.2.1", "conn=1 refused"], [("ignored", "accept", None), ("matched", "bind", "192.0.2.1")]),
        # the failure first: it is told where it is completed
        (["conn=1 refused", "conn=1 from 192.0.2.1"], [("ignored", "bind", None), ("matched", "bind", "192.0.2.1")]),
        (
            ["conn=1 from 192.0.2.1", "conn=2 from 192.0.2.2", "conn=2 refused", "conn=1 refused", "conn=3 refused"],
            [
                ("ignored", "accept", None),
                ("ignored", "accept", None),
                ("matched", "bind", "192.0.2.2"),
                ("matched", "bind", "192.0.2.1"),
                ("ignored", "bind", None),
            ],
        ),
    ],
)
def test_linked_lines(
    prompt: Prompt, tmp_path: Path, lines: list[str], expected: list[tuple[str, str | None, str | None]]
) -> None:
    (tmp_path / "linked.toml").write_text(LINKED)
    path = log(tmp_path, *lines)
    assert told(prompt("test", "--filter", str(tmp_path / "linked.toml"), "--json", path)) == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("normal", [("missed", None, None), ("missed", None, None)]),
        ("ddos", [("matched", "left", "192.0.2.1"), ("missed", None, None)]),
        ("extra", [("missed", None, None), ("matched", "door", "192.0.2.2")]),
        ("aggressive", [("matched", "left", "192.0.2.1"), ("matched", "door", "192.0.2.2")]),
    ],
)
def test_modes(
    prompt: Prompt, tmp_path: Path, gated: str, mode: str, expected: list[tuple[str, str | None, str | None]]
) -> None:
    path = log(tmp_path, "from 192.0.2.1 left", '{"event": "refused", "peer": {"address": "192.0.2.2"}}')
    said = prompt("test", "--filter", gated, "--mode", mode, "--json", path)
    assert told(said) == expected
    assert said.status == (1 if mode == "normal" else 0)


def test_a_format_does_not_stick(prompt: Prompt, tmp_path: Path) -> None:
    """Each line is of any of the formats, whatever those before it were of."""
    path = log(
        tmp_path,
        '192.0.2.1 - bob [22/Nov/2026:03:00:00 +0000] "GET / HTTP/1.1" 401 179 "-" "curl"',
        f"Nov 22 03:00:00 host sshd[7]: {FAILED}",
        "gibberish",
        '192.0.2.2 - bob [22/Nov/2026:03:00:00 +0000] "GET / HTTP/1.1" 401 179 "-" "curl"',
        FAILED,
    )
    found = objects(prompt("test", "--json", path))
    assert [one["address"] for one in found] == ["192.0.2.1", "192.0.2.1", None, "192.0.2.2", "192.0.2.1"]
    assert [list(one) for one in found] == [[*KEYS, "filter"]] * 5
    assert [one["filter"] for one in found][::3] == ["nginx-http-auth"] * 2


# --- patterns of the command line ---


def test_a_pattern_alone(prompt: Prompt, tmp_path: Path) -> None:
    path = log(
        tmp_path,
        "Nov 22 03:00:00 host any[7]: bad guess from 192.0.2.1",
        "Nov 22 03:00:00 host any[7]: bad guess of a friend from 192.0.2.2",
        "2026-11-22 03:00:00,123 worse from 192.0.2.3",
        "good",
    )
    words = (
        "--failregex",
        "^bad .*from <HOST>$",
        "--failregex",
        "^worse from <HOST>",
        "--ignoreregex",
        "^bad .* friend",
    )
    assert told(prompt("test", *words, "--json", path)) == [
        ("matched", "failregex-1", "192.0.2.1"),
        ("ignored", "ignoreregex-1", None),
        ("matched", "failregex-2", "192.0.2.3"),
        ("missed", None, None),
    ]


def test_patterns_beside_a_filter(prompt: Prompt, tmp_path: Path, gated: str) -> None:
    path = log(
        tmp_path,
        "login of bob from 192.0.2.1 refused",
        "gone: 192.0.2.2",
        "login of friend from 192.0.2.3 refused",
        "login of probe from 192.0.2.4 refused",
    )
    words = ("--failregex", "^gone: <HOST>", "--ignoreregex", "^login of friend ")
    assert told(prompt("test", "--filter", gated, *words, "--json", path)) == [
        ("matched", "password", "192.0.2.1"),
        ("matched", "failregex-1", "192.0.2.2"),
        ("ignored", "ignoreregex-2", None),
        ("ignored", "ignoreregex-1", None),
    ]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--failregex", "<HOST>"), '--failregex = "<HOST>": must begin with ^'),
        (("--failregex", ""), '--failregex = "": must not be empty'),
        (("--failregex", "^x"), '--failregex = "^x": has no <HOST>'),
        (("--failregex", "^a[z-a]<HOST>"), "RE2 refuses it at character 4"),
        (("--failregex", "^<HOST>(?= x)"), "the same without it: '^<HOST> x'"),
        (("--failregex", "^<HOST>\x1b[2J("), r"\u001b"),
        (("--failregex", "^<HOST>", "--ignoreregex", "x"), '--ignoreregex = "x": must begin with ^'),
        (("--ignoreregex", "^x"), "--ignoreregex needs --failregex or --filter"),
        (("--filter", "no-such"), "no filter has the name no-such; there are apache-auth, "),
        (("--filter", "sshd", "--line", "x"), "give logs, --line or --journal, and only one of these"),
        (("--filter", "sshd", "--since", "7d"), "--since is for --journal"),
        (("--filter", "sshd", "--unit", "a"), "--unit is for --journal"),
        (("--filter", "sshd", "--json", "--print-all-missed"), "--json has all lines"),
        (("no-such\x1blog",), 'can\'t read "no-such\\x1blog": No such file or directory'),
        (("/",), "Is a directory"),
    ],
)
def test_what_is_refused(prompt: Prompt, tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    path = log(tmp_path, FAILED)
    said = prompt("test", *words, path)
    assert (said.status, said.out) == (2, "")
    assert complaint in said.err
    assert "\x1b" not in said.err


def test_a_filter_with_mistakes(prompt: Prompt, tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text(GATED.replace("<HOST> left", "[<HOST> left"))
    said = prompt("test", "--filter", str(tmp_path / "broken.toml"), log(tmp_path, "x"))
    assert (said.status, said.out) == (1, "")
    assert re.match(r"banagent: \S+/broken\.toml:\d+: failregex\[1\]\.regex = ", said.err)


def test_a_damaged_log(prompt: Prompt, tmp_path: Path) -> None:
    for suffix in ("gz", "xz", "bz2"):
        path = tmp_path / f"log.{suffix}"
        path.write_bytes(b"\x1f\x8b\x08" + b"x" * 50)
        said = prompt("test", "--filter", "sshd", str(path))
        assert (said.status, said.out) == (2, "")
        assert said.err.startswith("banagent: can't read ")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (gzip.compress(b"x", mtime=0), "is compressed and its name does not end with .gz; unpack it with zcat"),
        (b"\x28\xb5\x2f\xfd\0\0", "is compressed, which is not read; unpack it with zstdcat"),
        (b"LPKSHHRH\0\0", "is a journal file; give its directory with --journal"),
        (bytes(range(256)) * 4, "is no text"),
        (b"\x07" + b"\0" * 200 + b"tty1" + b"\0" * 200, "is no text"),  # as btmp
    ],
)
def test_no_text(prompt: Prompt, tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "fake.log"
    path.write_bytes(content)
    for verb in (("test", "--filter", "sshd"), ("replay",)):
        said = prompt(*verb, str(path))
        assert (said.status, said.out) == (2, "")
        assert said.err.startswith(f'banagent: "{path}" {complaint}')
        assert len(said.err.splitlines()) == 1


def test_a_log_that_was_emptied_while_it_was_written(prompt: Prompt, tmp_path: Path) -> None:
    path = log(tmp_path, b"\0" * 300, FAILED)
    assert [one[0] for one in told(prompt("test", "--filter", "sshd", "--json", path))] == ["missed", "matched"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--filter", "sshd", "--filter", "postfix", "--line", "x"), "give one --filter, or none to try all"),
        (("--filter", "recidive", "--line", "x"), "recidive is a jail that counts bans, and has no filter"),
        (("--filter", "./no-such.toml", "--line", "x"), 'can\'t read "./no-such.toml": No such file or directory'),
        (("--journal", "/no-such"), '--journal "/no-such": does not exist'),
        (("--journal", __file__), "is no directory; a log is given without --journal"),
        (("--failregex", "^a (?P<user>b <HOST>", "--line", "x"), 'missing ): "^a (?P<user>b <HOST>"'),
    ],
)
def test_what_is_refused_in_one_line(prompt: Prompt, words: tuple[str, ...], complaint: str) -> None:
    said = prompt("test", *words)
    assert (said.status, said.out) == (2, "")
    assert complaint in said.err
    assert len(said.err.splitlines()) == 1


# --- text ---


@pytest.mark.parametrize(
    ("line", "remark"),
    [
        (
            "2026-11-22 03:00:00,123 login of bob from 192.0.2.1 refused",
            f', line 2: {NO_FORMAT} In the format iso pattern password knows it: write formats = ["iso"].',
        ),
        (
            "2026-11-22 03:00:00,123 welcome",
            f', line 2: {NO_FORMAT} It is in the format iso: write formats = ["iso"].',
        ),
        (
            "Nov 22 03:00:00.123456 host gated[7]: x",
            ": this is journalctl --output=short-precise, which is not read; use --output=json, or short-iso",
        ),
        (
            "__CURSOR=s=1",
            ": this is journalctl --output=export, which is not read; use --output=json, or short-iso",
        ),
    ],
)
def test_beginnings_that_are_not_read_are_told_once_for_each_log(
    prompt: Prompt, tmp_path: Path, gated: str, line: str, remark: str
) -> None:
    good = log(tmp_path, "Nov 22 03:00:00 host gated[7]: welcome", name="good")
    bad = [log(tmp_path, "", *[line] * 3, name=name) for name in ("1", "2")]
    said = prompt("test", "--filter", gated, good, *bad)
    lines = said.out.splitlines()
    shown = [one for one in lines if one.startswith('"')]
    expected = [f'"{bad[0]}"{remark}', f'"{bad[1]}"{remark}']
    if "line 2" in remark:
        expected = [
            f'"{bad[0]}"{remark.replace("line 2", "line 3")}',
            f'"{bad[1]}"{remark.replace("line 2", "line 7")}',
        ]
    assert shown == expected


def test_summary(prompt: Prompt, tmp_path: Path, gated: str) -> None:
    path = log(
        tmp_path,
        "login of bob from 192.0.2.1 refused",
        "login of bob from host.example refused",
        "login of probe from 192.0.2.1 refused",
        "from 192.0.2.1 left",
        "from 192.0.2.2 left",
        "welcome",
    )
    said = prompt("test", "--filter", gated, path)
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[:8] == [
        "gated, mode normal: 6 lines: 2 matched, 1 ignored, 3 missed",
        "",
        "HITS  PATTERN",
        "   2  password",
        "   1  ignoreregex-1",
        "lines that other modes would match, too: ddos 2, aggressive 2",
        "matched without an address, as by a host name, which bans nobody: 1",
        "",
    ]
    said = prompt("test", "--filter", gated, "--mode", "ddos", path)
    assert said.out.splitlines()[0] == "gated, mode ddos: 6 lines: 4 matched, 1 ignored, 1 missed"
    said = prompt("test", "--filter", gated, log(tmp_path, "nothing"))
    assert (said.status, said.out.splitlines()[0]) == (1, "gated, mode normal: 1 line: 0 matched, 0 ignored, 1 missed")


def test_each_line_on_request(prompt: Prompt, tmp_path: Path, gated: str) -> None:
    path = log(
        tmp_path,
        b"\x1b]0;owned\x07\xff",
        "login of bob from 192.0.2.1 refused",
        "login of probe from 192.0.2.1 refused",
    )
    shown = {
        "missed": r"1: missed \x1b]0;owned\x07\xff",
        "matched": "2: matched [gated/password 192.0.2.1] login of bob from 192.0.2.1 refused",
        "ignored": "3: ignored [gated/ignoreregex-1] login of probe from 192.0.2.1 refused",
    }
    for outcome, line in shown.items():
        lines = prompt("test", "--filter", gated, f"--print-all-{outcome}", path).out.splitlines()
        assert lines[0] == line
        assert lines[1].startswith("gated, mode normal: ")
    every = prompt("test", "--filter", gated, *(f"--print-all-{outcome}" for outcome in shown), path).out
    assert every.splitlines()[:3] == list(shown.values())


def test_the_best_filter_is_named(prompt: Prompt, tmp_path: Path) -> None:
    lines = [FAILED, FAILED.replace("root", "bob"), "Invalid user bob from 192.0.2.1 port 22", "sign of life"]
    said = prompt("test", log(tmp_path, *lines))
    assert said.status == 0
    shown = said.out.splitlines()
    assert shown[0] == "all filters, mode normal: 4 lines: 3 matched, 0 ignored, 1 missed"
    assert shown[2].split() == ["FILTER", "MATCHED", "IGNORED"]
    assert shown[3].split() == ["sshd", "3", "0"]
    assert shown[4].split() == ["ssh-root", "1", "0"]
    assert "The best is sshd:" in shown


def test_the_filter_of_an_enabled_jail_is_named_first(prompt: Prompt, tmp_path: Path) -> None:
    """Both match it; where neither is in use, it is the one that asks for the name as well."""
    first, *_, last = prompt("test", "--line", FAILED).out.splitlines()
    assert (first, last) == ("matched: pattern failed of filter sshd, mode normal", "also matched by: ssh-root")
    path = tmp_path / "banagent.toml"
    for used, named in (("ssh-root", "ssh-root"), ("postfix", "ssh-root"), ("?", "ssh-root")):
        path.write_text(f"[jails.sshd]\nenabled = false\n[jails.{used}]\nenabled = true\n")
        said = prompt("test", "--config", str(path), "--json", "--line", FAILED)
        assert [one["filter"] for one in objects(said)] == [named]


def test_a_broken_filter_is_passed_over(prompt: Prompt, tmp_path: Path) -> None:
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters/broken.toml").write_text("?")
    said = prompt("test", "--filters", str(tmp_path / "filters"), "--json", log(tmp_path, FAILED))
    assert [one[0] for one in told(said)] == ["matched"]


@pytest.mark.parametrize("named", [True, False])
def test_what_a_filter_extends_is_looked_for_in_its_folder(prompt: Prompt, tmp_path: Path, *, named: bool) -> None:
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters/gated.toml").write_text(GATED)
    (tmp_path / "filters/more.toml").write_text('extends = "gated"\n')
    chosen = ("--filter", "more") if named else ()
    line = log(tmp_path, "login of bob from 192.0.2.1 refused")
    said = prompt("test", "--filters", str(tmp_path / "filters"), *chosen, line)
    assert "1 matched" in said.out
    assert named or "\nmore " in said.out


# --- one line explained ---


@pytest.mark.parametrize(
    ("line", "explained"),
    [
        (
            "login of bob from 192.0.2.1 refused",
            [
                "matched: pattern password of filter gated, mode normal",
                "address: 192.0.2.1",
                "user:    bob",
                "time:    none that is known",
            ],
        ),
        (
            "2026-11-22T03:00:00Z host gated: login of bob from host.example refused",
            [
                "matched: pattern password of filter gated, mode normal",
                "address: none: a host name bans nobody, as it is never looked up",
                "user:    bob",
                "time:    2026-11-22T03:00:00Z",
            ],
        ),
        (
            "login of probe from 192.0.2.1 refused",
            [
                "ignored: pattern ignoreregex-1 of filter gated, mode normal",
                "A pattern knows it, and it is no failure: it is ignored, or tells only whose a session is.",
            ],
        ),
        (
            "login of bob frm 192.0.2.1 refused",
            [
                "missed, mode normal",
                "The nearest is pattern password of filter gated, mode normal.",
                "  goes along with: login of bob fr",
                "  stops before:    m 192.0.2.1 refused",
                "  where it wants:  om <HOST> refused$",
            ],
        ),
        (
            "login of bob from 192.0.2.1 refused!",
            [
                "missed, mode normal",
                "The nearest is pattern password of filter gated, mode normal.",
                "  goes along with: login of bob from 192.0.2.1 refused",
                "  stops before:    !",
                "  where it wants:  $",
            ],
        ),
        ("from 192.0.2.1 left", ["missed, mode normal", "Filter gated matches it in modes aggressive and ddos."]),
        (
            "quite another thing",
            [
                "missed, mode normal",
                NO_FORMAT,
                "No pattern begins like this line.",
            ],
        ),
        (
            "2026-11-22T03:00:00Z host gated: quite another thing",
            ["missed, mode normal", "No pattern begins like this line."],
        ),
        (
            "2026-11-22 03:00:00,123 login of bob from 192.0.2.1 refused",
            [
                "missed, mode normal",
                NO_FORMAT,
                'In the format iso pattern password knows it: write formats = ["iso"].',
            ],
        ),
        (
            "2026-11-22 03:00:00 host gated[7]: login of bob from 192.0.2.1 refused",
            [
                "missed, mode normal",
                NO_FORMAT,
                'In the format proftpd pattern password knows it: write formats = ["proftpd"].',
            ],
        ),
        (
            "2026-11-22 03:00:00,123 login of bob frm 192.0.2.1 refused",
            [
                "missed, mode normal",
                NO_FORMAT,
                'It is in the format iso: write formats = ["iso"].',
                "The nearest is pattern password of filter gated, mode normal.",
                "  goes along with: login of bob fr",
                "  stops before:    m 192.0.2.1 refused",
                "  where it wants:  om <HOST> refused$",
            ],
        ),
        (
            "2026-11-22 03:00:00,123 quite another thing",
            [
                "missed, mode normal",
                NO_FORMAT,
                'It is in the format iso: write formats = ["iso"].',
                "No pattern begins like the rest of it.",
            ],
        ),
        (
            "Nov 22 03:00:00.123456 host gated[7]: login of bob from 192.0.2.1 refused",
            [
                "missed, mode normal",
                "This is journalctl --output=short-precise, which is not read; use --output=json, or short-iso.",
            ],
        ),
        (
            "Sun 2026-11-22 03:00:00 UTC host gated[7]: login of bob from 192.0.2.1 refused",
            [
                "missed, mode normal",
                f"This is journalctl --output=short-full or with-unit, {UNREAD}.",
            ],
        ),
        (
            "2026-11-22T03:00:00Z host evil: login of bob from 192.0.2.1 refused",
            [
                "missed, mode normal",
                "It is of evil, and the filter's identifiers are: gated.",
                "Pattern password of filter gated would match it else.",
            ],
        ),
        (
            '{"event": "refused", "peer": {"name": "bob"}}',
            [
                "missed, mode normal",
                "The nearest is pattern door of filter gated, mode extra.",
                "Its field peer.address is missing, or is not: <HOST>",
            ],
        ),
    ],
)
def test_explained(prompt: Prompt, gated: str, line: str, explained: list[str]) -> None:
    said = prompt("test", "--filter", gated, "--line", line)
    assert said.out.splitlines() == explained
    assert said.status == (0 if explained[0].startswith("matched") else 1)


def test_formats_are_those_of_the_filter(prompt: Prompt) -> None:
    """What another filter's format is was not tried with this one; it is told of the filter that is in use."""
    line = f"2026-11-22 03:00:00 host sshd[7]: {FAILED}"
    assert prompt("test", "--line", line).out.splitlines() == [
        "missed, mode normal",
        "Its beginning is in none of the formats of filter sshd (syslog); it was tried as a bare message.",
        'In the format proftpd pattern failed knows it: write formats = ["proftpd"].',
    ]


@pytest.mark.parametrize("beginning", ["", "Nov 22 03:00:00 host sshd[7]: "])
def test_a_login(prompt: Prompt, beginning: str) -> None:
    words = ("test", "--line", f"{beginning}Accepted password for bob from 192.0.2.9 port 22 ssh2")
    for chosen in ((), ("--filter", "sshd")):
        said = prompt(*words, *chosen)
        assert said.out.splitlines() == [
            "missed, mode normal",
            "It is a login (pattern login of filter sshd), of which only the journal is believed; no failure.",
        ]
        assert told(prompt(*words, *chosen, "--json")) == [("missed", None, None)]


def test_the_zone_of_a_time_is_told(prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    said = prompt("test", "--filter", "sshd", "--line", f"2026-11-22T03:00:00Z host sshd[7]: {FAILED}")
    assert "time:    2026-11-22T03:00:00Z (2026-11-22 04:00:00 here)" in said.out.splitlines()


def test_an_explanation_is_harmless(prompt: Prompt, gated: str) -> None:
    said = prompt("test", "--filter", gated, "--line", "login of \x1b[2J")
    assert "login of \\x1b[2J" in said.out
    assert "\x1b" not in said.out


@pytest.mark.parametrize("number", range(3))
def test_nearest_is_quick_with_an_enemys_line(prompt: Prompt, number: int) -> None:
    """All patterns of all filters are taken apart for it; the line is one for which some would backtrack for ever."""
    line = ["Failed password for " + "from " * 20_000, "x" * 100_000, '{"a":' * 20_000][number]
    before = time.process_time()
    assert prompt("test", "--line", line).status == 1
    assert time.process_time() - before < 60


# --- hostile and long input ---


def test_lines_of_a_megabyte(prompt: Prompt, tmp_path: Path, gated: str) -> None:
    line = b"login of " + b"x" * (1 << 20) + b" from 192.0.2.1 refused"
    path = log(tmp_path, line, b"\0" * (1 << 20), b"login of bob from 192.0.2.2 refused", line)
    assert told(prompt("test", "--filter", gated, "--json", path)) == [
        ("missed", None, None),
        ("missed", None, None),
        ("matched", "password", "192.0.2.2"),
        ("missed", None, None),
    ]


def test_memory_is_bounded(tmp_path: Path) -> None:
    """What is read is not kept: 200 MB take no more than 2, of a file and of one endless line."""

    def peak(size: int, chunk: bytes) -> int:
        path = tmp_path / "big"
        with path.open("wb") as file:
            for _ in range(size // len(chunk)):
                file.write(chunk)
        child = subprocess.Popen(
            [sys.executable, "-m", "banagent", "test", "--filter", "sshd", str(path)], stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 1
        path.unlink()
        return used.ru_maxrss

    many = b"".join(
        b"Nov 22 03:00:%02d host cron[1]: nothing of interest here, said at length\n" % n for n in range(60)
    )
    for chunk in (many * 200, b"x" * (1 << 20)):
        assert peak(len(chunk) * 2, chunk) + 8_000 > peak(60_000_000, chunk)


def test_progress_is_for_a_terminal(tmp_path: Path) -> None:
    """The lines keep coming until it is seen, on standard error alone."""
    main, side = pty.openpty()
    command = [sys.executable, "-m", "banagent", "test", "--filter", "sshd", "--json", "-"]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=side)
    os.close(side)
    shown = b""
    deadline = time.monotonic() + PATIENCE
    assert process.stdin
    with process.stdin as pipe:
        while b" lines read\x1b[K" not in shown and time.monotonic() < deadline:
            pipe.write(b"a line\n" * 1000)
            pipe.flush()
            if select.select([main], [], [], 0)[0]:
                shown += os.read(main, 4096)
    process.wait(PATIENCE)
    os.close(main)
    assert re.search(rb"\r[\d,]+ lines read\x1b\[K", shown)
    assert set((tmp_path / "out").read_bytes().splitlines()[0].split(b", ")[1:2]) == {b'"outcome": "missed"'}
    assert b"\x1b" not in (tmp_path / "out").read_bytes()


def test_a_reader_that_goes(tmp_path: Path) -> None:
    path = log(tmp_path, *["a line"] * 100_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "banagent", "test", "--filter", "sshd", "--json", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait(PATIENCE) == 0


# --- the shipped filters ---


def test_modes_are_those_of_filters(prompt: Prompt) -> None:
    (mode,) = (action for action in cli.parsers()["test"]._actions if action.dest == "mode")  # pyright: ignore[reportPrivateUsage] - there is no other way
    assert set(mode.choices or ()) == MODES.keys()
    assert prompt("test", "--mode", "no", "--line", "x").status == 2
    for name in MODES:
        status = 0 if "normal" in MODES[name] else 1
        assert prompt("test", "--filter", "sshd", "--mode", name, "--line", FAILED).status == status


# --- the journal ---


@pytest.mark.kernel
def test_journal(prompt: Prompt, journald: Journald) -> None:
    with journald.writer() as writer, journald.writer(session(3, uid=1000), uid=1000) as forger:
        writer.syslog(FAILED)
        writer.syslog("Server listening on 0.0.0.0 port 22.")
        forger.syslog(FAILED)
        forger.syslog("nothing that any filter knows")
        journald.sync()
    words = ("test", "--filter", "sshd", "--journal", str(journald.path))
    found = objects(prompt(*words, "--json"))
    assert [(one["line"], one["outcome"], one["address"]) for one in found] == [
        (1, "matched", "192.0.2.1"),
        (2, "missed", None),
    ]
    assert all(abs(time.time() - datetime.fromisoformat(one["time"]).timestamp()) < 120 for one in found)
    said = prompt(*words)
    assert said.out.startswith("sshd, mode normal: 2 entries: 1 matched, 0 ignored, 1 missed\n")
    assert "  1  uid 1000, session-3.scope" in said.out.splitlines()
    assert prompt(*words, "--since", "2099-01-01").status == 1
    assert len(objects(prompt(*words, "--since", "1h", "--json"))) == 2


@pytest.mark.kernel
def test_journal_as_journalctl_prints_it(prompt: Prompt, journald: Journald) -> None:
    """As JSON it is as it is in the journal: the same is told."""
    with journald.writer() as writer, journald.writer(session(3, uid=1000), uid=1000) as forger:
        writer.syslog(FAILED)
        writer.syslog("Failed password for a\x1bb from 192.0.2.2 port 22 ssh2")
        writer.syslog("Accepted password for bob from 192.0.2.9 port 22 ssh2")
        writer.syslog("Failed riddle")
        forger.syslog(FAILED)
        journald.sync()
    command = ["journalctl", "--directory", str(journald.path), "--output=json", "SYSLOG_IDENTIFIER=sshd"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = ("test", "--filter", "sshd")
    found = [list(one.values())[1:] for one in objects(prompt.run(*words, "--json", "-", stdin=printed))]
    assert [one[0] for one in found] == ["matched", "matched", "ignored", "missed", "missed"]
    assert found[:4] == [
        list(one.values())[1:] for one in objects(prompt(*words, "--journal", str(journald.path), "--json"))
    ]
    said = prompt.run(*words, stdin=printed).out
    assert "  1  uid 1000, session-3.scope" in said.splitlines()
    assert "Who wrote the lines" not in said
    lines = printed.splitlines()
    assert prompt(*words, "--line", lines[4]).out.splitlines() == [
        "missed, mode normal",
        "It is of uid 1000, session-3.scope, and no filter trusts that.",
    ]
    assert prompt(*words, "--line", lines[0]).out.startswith("matched: pattern failed of filter sshd, mode normal\n")
    given = prompt.run("test", "--failregex", "^Failed .* from <HOST> port", "--json", stdin=printed)
    assert [one[0] for one in told(given)] == ["matched", "matched", "missed", "missed", "matched"]
    (drifted,) = objects(prompt.run("test", "--suspicious", "--json", stdin=printed))
    assert (drifted["shape"], drifted["example"]) == ("Failed riddle", "Failed riddle")
    assert drifted["units"] == ["ssh.service"]


@pytest.mark.kernel
def test_entries_of_a_unit(prompt: Prompt, journald: Journald) -> None:
    with journald.writer(service("other.service")) as writer, journald.writer(service("third.service")) as third:
        writer.syslog(FAILED)
        third.syslog(FAILED.replace("192.0.2.1", "192.0.2.3"))
        journald.sync()
    words = ("test", "--journal", str(journald.path), "--json")
    assert prompt(*words, "--filter", "sshd").status == 1
    assert [one[2] for one in told(prompt(*words, "--filter", "sshd", "--unit", "other"))] == ["192.0.2.1"]
    given = ("--failregex", "^Failed .* from <HOST> ")
    assert [one[2] for one in told(prompt(*words, *given, "--unit", "third.service"))] == ["192.0.2.3"]
    assert [one[2] for one in told(prompt(*words, *given))][-2:] == ["192.0.2.1", "192.0.2.3"]


@pytest.mark.kernel
def test_all_filters_on_a_journal(prompt: Prompt, journald: Journald) -> None:
    with journald.writer() as writer:
        writer.syslog(FAILED.replace("root", "bob"))
        journald.sync()
    (found,) = [one for one in objects(prompt("test", "--journal", str(journald.path), "--json")) if one["user"]]
    assert (found["filter"], found["address"]) == ("sshd", "192.0.2.1")


@pytest.mark.kernel
def test_drift(prompt: Prompt, journald: Journald) -> None:
    with journald.writer() as writer, journald.writer(service("other.service")) as other:
        for number in range(3):
            writer.syslog(f'Failed riddle for user bob{number} "a{number}" from 192.0.2.{number} port {4000 + number}')
        writer.syslog("Denied: 2001:db8::5")
        writer.syslog("Denied: 192.0.2.7")
        writer.syslog(FAILED)  # known
        writer.syslog("Connection closed by 192.0.2.1 port 4000 [preauth]")  # known in another mode
        writer.syslog("Accepted password for failed from 192.0.2.9 port 22 ssh2")
        writer.syslog("Disconnected from user bob 192.0.2.9 port 22")
        writer.syslog("Server listening on 0.0.0.0 port 22.")
        other.syslog("Failed to be of interest")
        journald.sync()
    words = ("test", "--journal", str(journald.path), "--suspicious")
    said = prompt(*words, "--json")
    assert said.status == 0
    assert objects(said) == [
        {
            "shape": 'Failed riddle for user <name> "…" from <address> port <number>',
            "count": 3,
            "example": 'Failed riddle for user bob0 "a0" from 192.0.2.0 port 4000',
            "units": ["ssh.service"],
        },
        {"shape": "Denied: <address>", "count": 2, "example": "Denied: 2001:db8::5", "units": ["ssh.service"]},
    ]
    assert prompt(*words).out.splitlines()[:2] == [
        '3  Failed riddle for user <name> "…" from <address> port <number>  (ssh.service)',
        '    Failed riddle for user bob0 "a0" from 192.0.2.0 port 4000',
    ]
    (found,) = objects(prompt(*words, "--unit", "other", "--json"))
    assert (found["count"], found["units"]) == (1, ["other.service"])
    said = prompt(*words, "--since", "2099-01-01")
    assert (said.status, said.err) == (1, "banagent: of 0 lines none looks like a failure that no pattern knows\n")


def test_drift_in_a_file(prompt: Prompt, tmp_path: Path, gated: str) -> None:
    path = log(tmp_path, *(f"login of u{n} from 192.0.2.{n} was denied" for n in range(9)), "all is well")
    (found,) = objects(prompt("test", "--filter", gated, "--suspicious", "--json", path))
    assert (found["count"], found["units"]) == (9, [])


def test_drift_goes_by_all_filters(prompt: Prompt, tmp_path: Path, gated: str) -> None:
    """Whether their jails are enabled or not, and in any mode; those of an own folder too."""
    path = log(
        tmp_path,
        "Nov 22 03:00:00 mx postfix/smtpd[5]: warning: unknown[192.0.2.3]: SASL LOGIN authentication failed: VXNl",
        "Nov 22 03:00:00 host sshd[7]: Disconnected from authenticating user root 192.0.2.1 port 4000 [preauth]",
        "Nov 22 03:00:00 host gated[7]: login of bob from 192.0.2.1 refused",
        "Nov 22 03:00:00 host gated[7]: bob was refused",
    )
    assert [one["count"] for one in objects(prompt("test", "--suspicious", "--json", path))] == [1, 1]
    own = ("--filters", str(tmp_path))
    (found,) = objects(prompt("test", *own, "--suspicious", "--json", path))
    assert found["shape"] == "bob was refused"
    assert len(objects(prompt("test", "--filter", gated, "--suspicious", "--json", path))) == 3


def test_shapes_are_of_the_message(prompt: Prompt, tmp_path: Path) -> None:
    path = log(
        tmp_path,
        "Nov 22 03:00:00 web1 sshd[7]: Failed riddle from 192.0.2.1",
        "Oct 21 04:00:00 web2 sshd[8]: Failed riddle from 192.0.2.2",
        "2026-11-22T03:00:00.123456+01:00 web1 sshd-session[7]: Failed riddle from 2001:db8::5",
        "2026-11-22 03:00:00 web1 sshd[7]: Failed riddle from 192.0.2.4",
        "2026-11-22 03:00:00,123 Failed riddle from 192.0.2.5",
        "[2026-11-22 03:00:00] Failed riddle from 192.0.2.5",
        "Failed riddle from 192.0.2.6",
        "Nov 22 03:00:00 web1 sshd[7]: Accepted password for failed from 192.0.2.9 port 22 ssh2",
    )
    (found,) = objects(prompt("test", "--suspicious", "--json", path))
    assert (found["shape"], found["count"]) == ("Failed riddle from <address>", 7)
    assert found["units"] == ["sshd", "sshd-session"]
    assert found["example"] == "Nov 22 03:00:00 web1 sshd[7]: Failed riddle from 192.0.2.1"
