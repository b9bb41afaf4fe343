# SPDX-License-Identifier: LGPL-2.1-or-later
"""`banagent test --json` with each filter: on its own lines, and on whole log lines of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from banagent import cli
from filters.test_samples import shipped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from banagent.core.filter import Sample

HUB: Final = Path(__file__).parent / "samples/crowdsec-hub.jsonl"
NAMED: Final = {
    *("sshd", "dropbear", "pam-generic", "postfix", "dovecot", "exim", "exim-spam", "sendmail-auth", "sendmail-reject"),
    *("cyrus-imap", "courier-auth", "sieve", "uwimap-auth", "vsftpd", "proftpd", "pure-ftpd", "nginx-http-auth"),
    *("nginx-limit-req", "nginx-botsearch", "nginx-bad-request", "nginx-forbidden", "apache-auth", "apache-badbots"),
    *("apache-botsearch", "apache-noscript", "apache-overflows", "apache-nohome", "apache-modsecurity"),
    *("apache-shellshock", "haproxy-http-auth", "mysqld-auth", "named-refused", "wordpress", "http-404", "http-408"),
    *("http-scanner", "apache-errors", "apache-methods", "ssh-root", "eximt", "flag", "spam"),
}


class Command:
    """`banagent test --json` on lines of a file."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.log = folder / "log"
        self._capsys = capsys

    def __call__(self, name: str, mode: str, lines: list[str]) -> list[dict[str, Any]]:
        self.log.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        status = cli.main(["test", "--filter", name, "--mode", mode, "--json", str(self.log)])
        told = [json.loads(row) for row in self._capsys.readouterr().out.splitlines()]
        assert [row["line"] for row in told] == [*range(1, len(lines) + 1)]
        assert status == (0 if any(row["outcome"] == "matched" for row in told) else 1)
        return told


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, capsys)


def hub() -> list[dict[str, Any]]:
    return [json.loads(line) for line in HUB.read_text(encoding="utf-8").splitlines()]


def test_all_filters_are_there() -> None:
    assert NAMED - shipped().keys() == set()


@pytest.mark.parametrize("name", shipped())
def test_its_own_lines(command: Command, name: str) -> None:
    item = shipped()[name]
    failures = [sample for one in item.failregexes for sample in in_a_file(one.samples) if sample.address]
    ignored = [sample for one in item.ignoreregexes for sample in one.samples]
    logins = [sample for one in item.successes for sample in one.samples]
    others = in_a_file((*item.nomatch, *ignored, *logins))
    told = command(name, "aggressive", [sample.line for sample in (*failures, *others)])
    assert failures
    for sample, row in zip(failures, told, strict=False):
        assert (row["outcome"], row["address"], row["user"]) == ("matched", sample.address, sample.user), sample.line
    assert [row for row in told[len(failures) :] if row["outcome"] == "matched"] == []


def in_a_file(samples: Iterable[Sample]) -> list[Sample]:
    return [sample for sample in samples if "\n" not in sample.line]


@pytest.mark.parametrize(
    ("mode", "more"),
    [
        ("normal", ""),
        ("ddos", "disconnect lost rate tls"),
        ("extra", "syntax aborted certificate"),
        ("aggressive", "disconnect lost rate tls syntax aborted certificate"),
        ("auth", None),
        ("rbl", None),
        ("errors", None),
    ],
)
def test_modes_of_postfix(command: Command, mode: str, more: str | None) -> None:
    parts = {"auth": {"sasl"}, "rbl": {"rbl", "dnsbl"}, "errors": {"too-many-errors"}}
    rest = {"reject", "pipelining", "non-smtp", "pregreet", "postscreen", "denylisted"}
    normal = rest.union(*parts.values())
    lines = [sample.line for one in shipped()["postfix"].failregexes for sample in one.samples]
    found = {row["pattern"] for row in command("postfix", mode, lines) if row["outcome"] == "matched"}
    assert found == (parts[mode] if more is None else normal | {*more.split()})


@pytest.mark.parametrize("name", sorted({sample["filter"] for sample in hub()}))
def test_lines_of_others(command: Command, name: str) -> None:
    for sample in hub():
        if sample["filter"] == name:
            (row,) = command(name, sample["mode"], [sample["line"]])
            expected = ("matched" if sample["address"] else "missed", sample["address"])
            assert (row["outcome"], row["address"]) == expected, sample["line"]
