# SPDX-License-Identifier: LGPL-2.1-or-later
"""How lines begin: what is the message, when it was, and whose."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.core.events import SECOND
from banagent.sources import stamps
from banagent.sources.decoder import Decoder
from banagent.sources.formats import MAKERS, NAMES, Parsed, Syslog
from banagent.sources.lines import Slice
from banagent.sources.stamps import Local, settle

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = 60 * SECOND
HOUR = 3600 * SECOND


def utc(  # noqa: PLR0917 - as datetime
    year: int,
    month: int,
    day: int,
    hour: int = 0,
    minute: int = 0,
    second: int = 0,
    *,
    zone: tzinfo = UTC,
    fold: int = 0,
) -> int:
    return int(datetime(year, month, day, hour, minute, second, tzinfo=zone, fold=fold).timestamp()) * SECOND


T = utc(2026, 11, 22, 3, 0, 0)
LOCAL = Local(2026, 11, 22, 3, 0, 0)
SYSLOG = Local(None, 11, 22, 3, 0, 0)
MILLI = LOCAL._replace(microsecond=123_000)

# format, line, what it says
LINES: list[tuple[str, bytes, Parsed]] = [
    # RFC 3164, as rsyslog's traditional template, syslog-ng and busybox' clients write it
    ("syslog", b"Nov 22 03:00:00 host sshd[943]: m: 1", Parsed(b"m: 1", SYSLOG, "sshd", 943)),
    ("syslog", b"Nov  2 03:00:00 host su: m", Parsed(b"m", Local(None, 11, 2, 3, 0, 0), "su")),
    ("syslog", b"Nov 22 03:00:00 h postfix/smtpd[1]: m", Parsed(b"m", SYSLOG, "postfix/smtpd", 1)),
    ("syslog", b"Nov 22 03:00:00 h sudo:     root : x", Parsed(b"    root : x", SYSLOG, "sudo")),
    # journald takes off what is blank at the end, and so do we
    ("syslog", b"Nov 22 03:00:00 h sshd[9]: m \t\r", Parsed(b"m", SYSLOG, "sshd", 9)),
    ("syslog", b"2026-11-22T03:00:00Z h sshd[9]: m ", Parsed(b"m", T, "sshd", 9)),
    ("syslog", b"Nov 22 03:00:00 h sshd[9]: ", Parsed(b"", SYSLOG, "sshd", 9)),
    ("syslog", b"<34>1 2026-11-22T03:00:00Z h su 7 - - m  ", Parsed(b"m", T, "su", 7)),
    ("syslog", b"Nov 22 03:00:00 h sshd[9]:", Parsed(b"", SYSLOG, "sshd", 9)),
    ("syslog", b"<38>Nov 22 03:00:00 h sshd[943]: m", Parsed(b"m", SYSLOG, "sshd", 943)),
    ("syslog", b"Nov 22 03:00:00 h no tag: sshd[1]: m", Parsed(b"no tag: sshd[1]: m", SYSLOG, "")),
    (
        "syslog",
        b"Nov 22 03:00:00 h last message repeated 3 times",
        Parsed(b"last message repeated 3 times", SYSLOG, ""),
    ),
    # rsyslog's own, since Debian 12
    ("syslog", b"2026-11-22T03:00:00.123456+00:00 h sshd[1]: m", Parsed(b"m", T + 123_456, "sshd", 1)),
    ("syslog", b"2026-11-22T04:00:00.5+01:00 h sshd[1]: m", Parsed(b"m", T + 500_000, "sshd", 1)),
    ("syslog", b"2026-11-22T03:00:00Z h kernel: [ 1.2] m", Parsed(b"[ 1.2] m", T, "kernel")),
    # RFC 5424, with its examples' oddities
    ("syslog", b"<34>1 2026-11-22T03:00:00.003Z h su 7 ID47 - \xef\xbb\xbfm", Parsed(b"m", T + 3000, "su", 7)),
    ("syslog", b'<165>1 2026-11-22T03:00:00Z h app - ID [a@1 x="\\]: \\"\\]"][b] m', Parsed(b"m", T, "app")),
    ("syslog", b"<34>1 - - - - - -", Parsed(b"", None, "")),
    ("syslog", b"<34>1 2026-11-22T03:00:00Z - - - - - m: n", Parsed(b"m: n", T, "")),
    # each service's own
    ("nginx-error", b"2026/11/22 03:00:00 [error] 1#2: *3 m", Parsed(b"[error] 1#2: *3 m", LOCAL)),
    ("apache-error", b"[Sun Nov 22 03:00:00 2026] [error] m", Parsed(b"[error] m", LOCAL)),
    (
        "apache-error",
        b"[Sun Nov 22 03:00:00.123000 2026] [a:error] [pid 1:tid 2] m",
        Parsed(b"[a:error] [pid 1:tid 2] m", MILLI),
    ),
    ("dovecot", b"Nov 22 03:00:00 auth: Info: m", Parsed(b"auth: Info: m", SYSLOG)),
    ("dovecot", b"Nov 02 03:00:00 imap-login: m", Parsed(b"imap-login: m", Local(None, 11, 2, 3, 0, 0))),
    ("dovecot", b"Nov 22 03:00:00 imap(a b)<7><x>: Info: m", Parsed(b"imap(a b)<7><x>: Info: m", SYSLOG)),
    ("exim", b"2026-11-22 03:00:00 login authenticator m", Parsed(b"login authenticator m", LOCAL)),
    ("exim", b"2026-11-22 03:00:00.123 [77] 1pABCD-0001-Aa m", Parsed(b"1pABCD-0001-Aa m", MILLI, None, 77)),
    ("exim", b"2026-11-22 03:00:00 +0000 [77] m", Parsed(b"m", T, None, 77)),
    ("vsftpd", b"Sun Nov 22 03:00:00 2026 [pid 5] [u] FAIL", Parsed(b"[u] FAIL", LOCAL, None, 5)),
    ("vsftpd", b"Mon Jun 8 12:08:53 2020 [pid 2] C", Parsed(b"C", Local(2020, 6, 8, 12, 8, 53), None, 2)),
    ("proftpd", b"2026-11-22 03:00:00,123 h proftpd[5] s (a[1]): m", Parsed(b"s (a[1]): m", MILLI, None, 5)),
    ("proftpd", b"Nov 22 03:00:00 h proftpd[5]: s (a[1]) - m", Parsed(b"s (a[1]) - m", SYSLOG, None, 5)),
    ("mysql", b"2026-11-22T03:00:00.123456Z 31 [Note] m", Parsed(b"31 [Note] m", T + 123_456)),
    ("mysql", b"2026-11-22  3:00:00 31 [Warning] m", Parsed(b"31 [Warning] m", LOCAL)),
    ("mysql", b"261122  3:00:00 [Warning] m", Parsed(b"[Warning] m", LOCAL)),
    ("named", b"22-Nov-2026 03:00:00.123 security: info: m", Parsed(b"security: info: m", MILLI)),
    ("named", b"2026-11-22T03:00:00.123 m", Parsed(b"m", MILLI)),
    ("named", b"2026-11-22T03:00:00.123Z m", Parsed(b"m", T + 123_000)),
    ("named", b"2026-11-22T04:00:00.123+01:00 m", Parsed(b"m", T + 123_000)),
    ("iso", b"2026-11-22 03:00:00.123 m", Parsed(b"m", MILLI)),
    ("iso", b"[2026-11-22 03:00:00.123][t][ERROR] m", Parsed(b"[t][ERROR] m", MILLI)),
    ("iso", b"[2026-11-22T03:00:00+00:00] m", Parsed(b"m", T)),
    ("iso", b"2026-11-22 03:00:00 UTC [1] m", Parsed(b"[1] m", T)),
    ("iso", b"2026-11-22 03:00:00: (mod_auth.c.1) m", Parsed(b"(mod_auth.c.1) m", LOCAL)),
    ("plain", b"anything", Parsed(b"anything")),
]
# of these the message is the whole line: format, line, stamp
WHOLE: list[tuple[str, bytes, int | Local | None]] = [
    ("access", b'192.0.2.1 - - [22/Nov/2026:03:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "x"', T),
    ("access", b'www:443 192.0.2.1 - a b [22/Nov/2026:04:00:00 +0100] "" 400 0', T),
    # an enemy's user name
    ("access", b'192.0.2.1 - [01/Jan/1999:00:00:00 +0000] \\" [22/Nov/2026:03:00:00 +0000] "GET [] "', T),
    ("access", b'192.0.2.1 - [01/Jan/1999:00:00:00 +0000] [22/Nov/2026:03:00:00 +0000] "x [01/Jan/1999"', T),
    ("json", b'{"ts":1795316400.5,"m":1}', T + 500_000),
    ("json", b'{"level":30,"time":1795316400123}', T + 123_000),
    ("json", b'{"time":"2026-11-22T03:00:00Z"}', T),
    ("json", b'{"@timestamp":"2026-11-22T03:00:00.000+00:00"}', T),
    ("json", b'{"t":{"$date":"2026-11-22T04:00:00.123+01:00"},"c":"ACCESS"}', T + 123_000),
    ("json", b'{"m":1}', None),
    ("json", b'{"time":true}', None),
    ("json", b'{"time":-1}', None),
    ("json", b'{"time":1e400}', None),
    ("json", b'{"time":NaN}', None),
    ("json", b'{"time":' + b"9" * 5000 + b"}", None),
    ("json", b"{" + b'"a":[' * 50_000, None),
    ("json", b'{"time":"20', None),
]
# of another format, or of none
OTHERS: list[tuple[str, bytes]] = [
    *((name, line) for name in NAMES if name != "plain" for line in (b"", b"\n", b"x", b"\0" * 100, b"\xff" * 100)),
    ("syslog", b"Nov 22 03:00:00"),
    ("syslog", b"Nov 22 03:00:00 "),
    ("syslog", b"Foo 22 03:00:00 h sshd[1]: m"),
    ("syslog", b"Nov 32 03:00:00 h sshd[1]: m"),
    ("syslog", b"2026-02-29T03:00:00Z h sshd[1]: m"),
    ("syslog", b"2026-11-22T24:00:00Z h sshd[1]: m"),
    ("syslog", b"1969-12-31T23:00:00Z h sshd[1]: m"),
    ("nginx-error", b"Nov 22 03:00:00 h nginx: m"),
    ("nginx-error", b"2026/99/22 03:00:00 [error] m"),
    ("nginx-error", b"2026-11-22T03:00:00"),
    ("apache-error", b"[Sun Nov 22 03:00:00 2026 [error] m"),
    ("apache-error", b"[client 192.0.2.1] [x] [y] [Sun Nov 22"),
    ("access", b'192.0.2.1 - - [22/Foo/2026:03:00:00 +0000] "GET'),
    ("access", b'] "'),
    ("docker", b'{"log":1,"stream":"stdout"}'),
    ("docker", b'{"log":"x\\n","stream":"other"}'),
    ("docker", b'["log"]'),
    ("json", b'["time"]'),
    ("iso", b"22-Nov-2026 03:00:00 m"),
    ("vsftpd", b"[u] FAIL LOGIN"),
    ("dovecot", b"Nov 22 03:00:00 host dovecot: auth: m"),
    ("dovecot", b"Nov 22 03:00:00 host.example dovecot[1]: m"),
    ("dovecot", b"Foo 22 03:00:00 auth: m"),
    ("named", b"Nov 22 03:00:00 host named[1]: m"),
    ("named", b"22-Foo-2026 03:00:00.123 m"),
    ("named", b"32-Nov-2026 03:00:00.123 m"),
]


@pytest.mark.parametrize(("name", "line", "expected"), LINES)
def test_what_a_line_says(name: str, line: bytes, expected: Parsed) -> None:
    assert MAKERS[name]().parse(line) == expected


@pytest.mark.parametrize(("name", "line", "expected"), [case for case in LINES if b"no tag" not in case[1]])
def test_the_quick_way_finds_the_same_message(name: str, line: bytes, expected: Parsed) -> None:
    assert MAKERS[name]().cut(line) == expected.message


def test_the_quick_way_may_take_for_a_tag_what_is_none() -> None:
    """The exact way, which has the last word, does not."""
    assert MAKERS["syslog"]().cut(b"Nov 22 03:00:00 h no tag: m") == b"m"


@given(
    st.sampled_from([b"2026-11-22T03:00:00.123456+00:00 h sshd[943]: m: 1", b"Nov 22 03:00:00 h sshd[943]: m: 1"]),
    st.lists(st.tuples(st.integers(0, 46), st.sampled_from(b"0123456789T:-+.,[] azZ<")), max_size=3),
)
def test_the_usual_lines_of_syslog_are_read_like_all_others(line: bytes, changes: list[tuple[int, int]]) -> None:
    text = bytearray(line)
    for place, byte in changes:
        text[place % len(line)] = byte
    line = bytes(text)
    assert Syslog().parse(line) == Syslog()._parse_unusual(line.rstrip())


@pytest.mark.parametrize(("name", "line", "stamp"), WHOLE)
def test_lines_that_are_a_message_as_a_whole(name: str, line: bytes, stamp: int | None) -> None:
    assert MAKERS[name]().cut(line) == line
    assert MAKERS[name]().parse(line) == Parsed(line, stamp)


@pytest.mark.parametrize(("name", "line"), OTHERS)
def test_lines_of_another_format(name: str, line: bytes) -> None:
    assert MAKERS[name]().parse(line) is None


def test_a_file_of_dovecots_own_and_one_of_syslog_are_told_apart() -> None:
    """Whichever of its lines comes first: syslog takes "imap-login:" for a host."""
    lines = {
        b"Nov 22 03:00:00 imap-login: Info: m": b"imap-login: Info: m",
        b"Nov 22 03:00:00 host dovecot: imap-login: m": b"imap-login: m",
    }
    for line, message in lines.items():
        decoder = Decoder("x", ("dovecot", "syslog"), UTC)
        seen: list[bytes] = []
        for _ in range(2):
            decoder.entries(Slice([line], 0), "", seen_by(seen), 0, T)
        assert seen == [message, message]


def seen_by(seen: list[bytes]) -> Callable[[bytes], list[int]]:
    """Give what sifts nothing out, and keeps what it saw."""

    def sift(message: bytes) -> list[int]:
        seen.append(message)
        return []

    return sift


def docker(log: str, stream: str = "stdout") -> bytes:
    return f'{{"log":"{log}","stream":"{stream}","time":"2026-11-22T03:00:00.123456789Z"}}'.encode()


def test_docker() -> None:
    """A piece and the one behind it are marked, in each stream by itself; asking about a line again changes nothing."""
    lines = docker("a\\n"), docker("b"), docker("c\\n", "stderr"), docker("d"), docker("e\\n"), docker("f\\n")
    form = MAKERS["docker"]()
    found: list[tuple[bytes | None, bool]] = []
    for line in lines:
        message = form.cut(line)
        MAKERS["docker"]().cut(lines[1])
        form.parse(docker("other"))
        parsed = form.parse(line)
        assert parsed
        assert (parsed.message, parsed.stamp) == (message, T + 123_456)
        found.append((message, parsed.continuation))
    assert found == [(b"a", False), (b"b", True), (b"c", False), (b"d", True), (b"e", True), (b"f", False)]


def test_docker_strings_that_are_no_text() -> None:
    assert MAKERS["docker"]().cut(docker("a\\u0000\\ud800\\n")) == b"a\0\xed\xa0\x80"
    assert MAKERS["docker"]().cut(docker("a\\n").replace(b'"a', b'"\xff')) == "\N{REPLACEMENT CHARACTER}".encode()


# the formats are asked about anything, in any order

HEADS = [line for _, line, *_ in [*LINES, *WHOLE] if len(line) < 1000]


@given(st.sampled_from(NAMES), st.sampled_from(HEADS), st.integers(0, 80), st.binary(max_size=80))
def test_no_line_is_a_trouble(name: str, head: bytes, length: int, tail: bytes) -> None:
    form = MAKERS[name]()
    line = head[:length] + tail
    message, parsed = form.cut(line), form.parse(line)
    assert message is None or line.endswith(message) or name == "docker"
    assert parsed is None or message is not None, "what is exact is also found by the quick way"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "line",
    [
        b"<34>1 2026-11-22T03:00:00Z h a 1 I [" + b'a="\\' * 15_000,
        b"<34>1 2026-11-22T03:00:00Z h a 1 I " + b"[a]" * 20_000 + b"x",
        b'<34>1 2026-11-22T03:00:00Z h a 1 I [a b="' + b"]" * 60_000,
        b"Nov 22 03:00:00 h " + b"a[1]" * 15_000,
        b"Nov 22 03:00:00 " + b": " * 30_000,
        b"[Sun Nov 22 03:00:00." + b"1" * 60_000,
        b'192.0.2.1 - - [22/Nov/2026:03:00:00 +0000] "' + b'] "' * 20_000,
        b"{" + b'"a":{' * 12_000,
        b'{"log":"' + b"\\u00" * 15_000,
        b"2026-11-22" + b" " * 60_000,
    ],
)
def test_an_enemys_line_takes_no_time(name: str, line: bytes) -> None:
    form = MAKERS[name]()
    before = time.process_time()
    for _ in range(10):
        form.cut(line)
        form.parse(line)
    assert time.process_time() - before < 10  # of 20 times; what is not linear takes minutes


# times

NOW = utc(2026, 11, 22, 12)


@pytest.mark.parametrize(
    ("stamp", "since", "now", "expected"),
    [
        # complete: it counts, unless it lies in the future
        (T, NOW - HOUR, NOW, T),
        (0, NOW - HOUR, NOW, 0),
        (NOW + 1, NOW - HOUR, NOW, NOW),
        (None, 0, NOW, NOW),
        # without zone: between the last reading, less a little, and now
        (LOCAL, T - 1, NOW, T),
        (LOCAL, T + MINUTE, NOW, T),
        (LOCAL, T + MINUTE + 1, NOW, NOW),
        (LOCAL, 0, T - 1, T - 1),
        (LOCAL._replace(microsecond=7), 0, NOW, T + 7),
        # without year
        (SYSLOG, 0, NOW, T),
        (SYSLOG, 0, utc(2027, 11, 22, 2), T),
        (SYSLOG, 0, utc(2027, 11, 22, 3), utc(2027, 11, 22, 3)),
        (Local(None, 12, 31, 23, 59, 59), utc(2026, 12, 31), utc(2027, 1, 1, 0, 0, 1), utc(2026, 12, 31, 23, 59, 59)),
        (Local(None, 1, 1, 0, 0, 0), utc(2026, 12, 31), utc(2027, 1, 1, 0, 0, 1), utc(2027, 1, 1)),
        (Local(None, 1, 1, 0, 0, 0), utc(2026, 12, 30), utc(2026, 12, 31), utc(2026, 12, 31)),
        # the 29th of February
        (Local(None, 2, 29, 0, 0, 0), 0, utc(2028, 3, 1), utc(2028, 2, 29)),
        (Local(None, 2, 29, 0, 0, 0), 0, utc(2029, 1, 1), utc(2028, 2, 29)),
        (Local(None, 2, 29, 0, 0, 0), 0, utc(2027, 3, 1), utc(2027, 3, 1)),
    ],
)
def test_which_time_counts(stamp: int | Local | None, since: int, now: int, expected: int) -> None:
    assert settle(stamp, since, now, UTC) == expected


def test_the_hour_that_comes_twice() -> None:
    stamp = Local(None, 10, 25, 2, 30, 0)
    first, second = (utc(2026, 10, 25, 2, 30, zone=BERLIN, fold=fold) for fold in (0, 1))
    assert second - first == HOUR
    assert settle(stamp, first - MINUTE, first + 5 * SECOND, BERLIN) == first
    assert settle(stamp, second - MINUTE, second + 5 * SECOND, BERLIN) == second


def test_the_hour_that_is_left_out() -> None:
    """A stamp in it is some hour or other, or the arrival; but never in the future."""
    now = utc(2026, 3, 29, 3, 0, 5, zone=BERLIN)
    assert now - HOUR < settle(Local(2026, 3, 29, 2, 30, 0), now - 2 * HOUR, now, BERLIN) <= now


def test_the_machines_own_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        for forget in (stamps._moments, stamps._year):
            forget.cache_clear()
        assert settle(SYSLOG, 0, NOW) == T - 5 * HOUR - 30 * MINUTE
    finally:
        monkeypatch.undo()
        time.tzset()
        for forget in (stamps._moments, stamps._year):
            forget.cache_clear()


def test_a_leap_second_is_the_one_before() -> None:
    found = stamps.iso(b"2016-12-31T23:59:60.5Z")
    assert found
    assert found.stamp == utc(2016, 12, 31, 23, 59, 59) + 500_000
