# SPDX-License-Identifier: LGPL-2.1-or-later
"""Services that write log files of a format of their own: whole lines, as they stand there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from banagent.config import filters, toml
from banagent.core.recognise import Recogniser, View
from banagent.sources.decoder import Decoder
from banagent.sources.lines import Slice

FOLDER: Final = Path(__file__).parents[2] / "filters"
NOON: Final = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * 1_000_000
FIVE: Final = int(datetime(2026, 11, 22, 5, 0, 0, tzinfo=UTC).timestamp()) * 1_000_000
DENIED: Final = b"client @0x7f65100ee4d8 192.0.2.1#3076 (x.example): query (cache) 'x.example/ANY/IN' denied"
REFUSED: Final = b"passwd-file(bob,192.0.2.1,<IJZGWdZgxMl/AAAB>): unknown user"
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
    assert (str(offence.address), offence.time) == ("192.0.2.1", FIVE)


def test_a_channel_without_times() -> None:
    item = filters.build("named-refused", toml.read(FOLDER / "named-refused.toml"))
    recogniser = Recogniser({"x": View(item, "normal")})
    ((entry, hits),) = Decoder("/x", item.formats, UTC).entries(Slice([DENIED], 0), "", recogniser.sift, 0, NOON)
    assert [str(offence.address) for _, offence in recogniser.offences(entry, hits)] == ["192.0.2.1"]
