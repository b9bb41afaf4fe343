# SPDX-License-Identifier: LGPL-2.1-or-later
"""Services that write log files of a format of their own: whole lines, as they stand there."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from banagent.config import filters, toml
from banagent.core.events import SECOND
from banagent.core.recognise import Recogniser, View
from banagent.sources.decoder import Decoder
from banagent.sources.lines import Slice

FOLDER: Final = Path(__file__).parents[2] / "filters"
NOON: Final = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * 1_000_000
FIVE: Final = int(datetime(2026, 11, 22, 5, 0, 0, tzinfo=UTC).timestamp()) * 1_000_000
DENIED: Final = b"client @0x7f65100ee4d8 192.0.2.1#3076 (x.example): query (cache) 'x.example/ANY/IN' denied"
REFUSED: Final = b"passwd-file(bob,192.0.2.1,<IJZGWdZgxMl/AAAB>): unknown user"
GUESSED: Final = b"login authenticator failed for (User) [192.0.2.1]: 535 Incorrect authentication data (set_id=info)"
CLOSED: Final = b"AH01630: client denied by server configuration: /home/shop/"
ATTACK: Final = b"possible SMTP attack: command=AUTH, count=6"
NOBODY: Final = b"USER bob: no such user found from a.example [::ffff:192.0.2.1] to 198.51.100.20:21"
WHO: Final = b"user=<bob>, method=PLAIN, rip=192.0.2.1, lip=198.51.100.20, session=<ZPemWdZgzMl/AAAB>"

LINES: Final = [
    # dovecot 2.3.19, log_path; then by way of syslog
    ("dovecot", b"Nov 22 05:00:00 auth: Info: " + REFUSED),
    ("dovecot", b"Nov 22 05:00:00 auth-worker(24058): Info: " + REFUSED),
    (
        "dovecot",
        b"Nov 22 05:00:00 imap-login: Info: Disconnected: Connection closed (auth failed, 1 attempts in 10 secs): "
        + WHO,
    ),
    ("dovecot", b"Nov 22 05:00:00 host dovecot: auth: " + REFUSED),
    # log_timestamp of the admin's
    ("dovecot", b"2026-11-22 05:00:00 auth-worker(24058): Info: " + REFUSED),
    # exim 4.96, and what a syslog daemon writes with such stamps
    ("exim", b"2026-11-22 05:00:00 " + GUESSED),
    ("exim", b"2026-11-22 05:00:00 +0000 [29786] " + GUESSED),
    ("exim", b"2026-11-22 05:00:00 mx1 exim[29786]: " + GUESSED),
    ("exim", b"Nov 22 05:00:00 mx1 exim[29786]: 2026-11-22 05:00:00 [29786] " + GUESSED),
    # other names for the same: ErrorLog syslog:local1:httpd/shop, Debian's courier-pop, an entry of cyrus.conf
    ("apache-auth", b"Nov 22 05:00:00 web httpd/shop[7]: [authz_core:error] [pid 7] [client 192.0.2.1:4] " + CLOSED),
    ("courier-auth", b"Nov 22 05:00:00 mx courierpop3login: LOGIN FAILED, user=bob, ip=[::ffff:192.0.2.1]"),
    ("cyrus-imap", b"Nov 22 05:00:00 mx cyrus/imaplocal[7]: badlogin: a.example[192.0.2.1] OTP [SASL(-13): x]"),
    ("sieve", b"Nov 22 05:00:00 mx cyrus/timsieved[7]: badlogin: a.example[192.0.2.1] PLAIN authentication failure"),
    ("sendmail-auth", b"Nov 22 05:00:00 mx sm-acceptingconnections[7]: 2AM3000B012345: [192.0.2.1]: " + ATTACK),
    # a blank at the end, as some relays leave it
    ("sshd", b"Nov 22 05:00:00 host sshd[7]: error: PAM: Authentication failure for illegal user bob from 192.0.2.1 "),
    ("proftpd", b"2026-11-22 05:00:00,123 ftp proftpd[7] ftp (::ffff:192.0.2.1[::ffff:192.0.2.1]): " + NOBODY),
    # bind 9.18, channels with print-time, and with all that can be printed
    ("named-refused", b"22-Nov-2026 05:00:00.000 " + DENIED),
    ("named-refused", b"22-Nov-2026 05:00:00.000 security: info: " + DENIED),
    ("named-refused", b"2026-11-22T05:00:00.000 security: info: " + DENIED),
    ("named-refused", b"2026-11-22T05:00:00.000Z " + DENIED),
    ("named-refused", b"Nov 22 05:00:00 host named[7]: " + DENIED),
    # a channel to syslog, with a time of its own
    ("named-refused", b"Nov 22 05:00:00 host named[7]: 22-Nov-2026 05:00:00.000 " + DENIED),
]


@pytest.mark.parametrize(("name", "line"), LINES)
def test_a_line_is_recognised_with_its_time(name: str, line: bytes) -> None:
    item = filters.build(name, toml.read(FOLDER / f"{name}.toml"))
    recogniser = Recogniser({name: View(replace(item, uids=(0,)), "normal")})
    decoder = Decoder("/x", item.formats, UTC)
    ((entry, hits),) = decoder.entries(Slice([line], 0), "", recogniser.sift, 0, NOON)
    ((_, offence),) = recogniser.offences(entry, hits)
    assert (str(offence.address), offence.time // SECOND * SECOND) == ("192.0.2.1", FIVE)


@pytest.mark.parametrize("tag", [b"httpx/shop", b"shop", b"cyrus", b"sm-mta2"])
def test_a_tag_of_another_service_is_not_taken_for_one(tag: bytes) -> None:
    """The same lines, but of somebody else."""
    for name, line in LINES:
        if name in {"apache-auth", "cyrus-imap", "sieve", "sendmail-auth"}:
            item = filters.build(name, toml.read(FOLDER / f"{name}.toml"))
            recogniser = Recogniser({name: View(item, "normal")})
            other = re.sub(rb"(?<=^Nov 22 05:00:00 )(\S+) [^\[:]+", rb"\1 " + tag, line)
            ((entry, hits),) = Decoder("/x", item.formats, UTC).entries(Slice([other], 0), "", recogniser.sift, 0, NOON)
            assert recogniser.offences(entry, hits) == [], other


def test_a_channel_without_times() -> None:
    item = filters.build("named-refused", toml.read(FOLDER / "named-refused.toml"))
    recogniser = Recogniser({"x": View(item, "normal")})
    ((entry, hits),) = Decoder("/x", item.formats, UTC).entries(Slice([DENIED], 0), "", recogniser.sift, 0, NOON)
    assert [str(offence.address) for _, offence in recogniser.offences(entry, hits)] == ["192.0.2.1"]
