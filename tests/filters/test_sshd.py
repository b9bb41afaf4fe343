# SPDX-License-Identifier: LGPL-2.1-or-later
"""sshd's filter against enemies who choose what stands in its lines, and on whole connections."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.config import filters, toml
from banagent.core.address import parse_address
from banagent.core.bans import Bans
from banagent.core.events import Entry, Offence
from banagent.core.filter import MODES, Failregex
from banagent.core.jail import Jail, Rule
from banagent.core.never import Never
from banagent.core.recognise import Recogniser, View
from filters.hostile_sshd import FAKE, FIELDS, SHAPES, TAILS, TRUE, Shape, fields_to_the_cut, kept, logged, raw
from filters.sessions_sshd import SESSIONS, Session

SSHD: Final = filters.build("sshd", toml.read(Path(__file__).parents[2] / "filters" / "sshd.toml"))
RECOGNISER: Final = Recogniser({mode: View(SSHD, mode) for mode in MODES})
ALLOWED: Final = {parse_address(address): address for address in TRUE}


def recognise(message: bytes, *, time: int = 1, pid: int = 1) -> dict[str, Offence]:
    entry = Entry(time, message, f"s={time}", 0, "ssh.service", "sshd", pid)
    return dict(RECOGNISER.offences(entry, RECOGNISER.sift(message)))


def address_in(message: bytes) -> str | None:
    """Give the address that all patterns together find in a line; none of it may be anything else."""
    offence = recognise(message).get("aggressive")
    if offence is None or offence.address is None:
        return None
    return ALLOWED.get(offence.address, str(offence.address))


def must_be_found(shape: Shape, field: bytes) -> bool:
    """Whether the filter promises to recognise a line with this field."""
    value = kept(shape, field)
    escaped = any(not 32 <= byte < 127 or byte == ord("\\") for byte in value)
    return bool(shape.pattern) and (shape.escapes or not escaped) and len(value) <= shape.longest


@pytest.mark.parametrize("address", TRUE)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.text)
def test_address_is_the_peers_whatever_he_calls_himself(shape: Shape, address: str) -> None:
    for field in FIELDS:
        message = logged(shape, address, field)
        found = address_in(message)
        assert found in {address, None}, message
        if must_be_found(shape, field):
            assert found == address, message
            assert recognise(message)["aggressive"].pattern == shape.pattern, message


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if "<ADDRESS>" not in shape.text.partition("<FIELD>")[0]])
def test_address_is_the_peers_wherever_the_line_is_cut(shape: Shape) -> None:
    address = "203.0.113.251"  # which cut short is somebody else's
    assert {address_in(logged(shape, address, field)) for field in fields_to_the_cut(shape.limit)} <= {address, None}


@pytest.mark.parametrize("address", TRUE)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.text)
def test_address_is_the_peers_in_lines_that_are_not_escaped(shape: Shape, address: str) -> None:
    for field in FIELDS:
        plain = field.partition(b":")[0] if shape.user else field
        assert address_in(raw(shape, address, plain)) in {address, None}, plain


FRAGMENTS: Final = (
    *TAILS,
    b" from ",
    b" port 22",
    b" ssh2",
    b" [preauth]",
    b": ",
    b"\xff" * 30,
    b"\\" * 30,
    b"\n",
    b"x",
)


@given(
    shape=st.sampled_from(SHAPES),
    address=st.sampled_from(TRUE),
    field=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=40), max_size=12).map(b"".join),
)
def test_address_is_the_peers_in_any_line(shape: Shape, address: str, field: bytes) -> None:
    assert address_in(logged(shape, address, field)) in {address, None}


def test_the_fake_address_would_be_found_if_it_were_the_peers() -> None:
    for shape in SHAPES:
        if shape.pattern:
            assert address_in(logged(shape, FAKE, b"x")) == FAKE


@pytest.mark.parametrize("address", TRUE)
def test_who_logged_in_is_the_peer(address: str) -> None:
    """A name with a blank in it could hold an address, and is not believed."""
    shape = Shape("login", "Accepted password for <FIELD> from <ADDRESS> port 4711 ssh2", 100)
    for field in (*FIELDS, b"x"):
        name = kept(shape, field)
        if not name or b" " in name:
            assert address_in(logged(shape, address, field)) is None, field
        elif name.isalnum():
            assert address_in(logged(shape, address, field)) == address, field


@pytest.mark.parametrize("failregex", SSHD.failregexes, ids=lambda failregex: failregex.name)
def test_a_line_is_one_patterns(failregex: Failregex) -> None:
    for sample in failregex.samples:
        assert len(RECOGNISER.sift(sample.line.encode())) == 1, sample.line


@pytest.mark.parametrize(
    "address", ["UNKNOWN", "host.example", "ad.cafe", "1.2.3", "192.0.2.1.example", "192.0.2.256", ":", "..."]
)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.text)
def test_a_name_is_no_address(shape: Shape, address: str) -> None:
    for field in FIELDS:
        assert address_in(logged(shape, address, field)) is None, field


@pytest.mark.parametrize("mode", ["normal", "ddos", "extra", "aggressive"])
@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: f"{session.openssh}: {session.what}")
def test_attempts_of_a_connection(session: Session, mode: str) -> None:
    jail = Jail("sshd", Rule(findtime=600, maxretry=100, bantime=600, sessions=True), Never(), Bans())
    for second, (pid, line) in enumerate(session.lines):
        offence = recognise(line.encode(), time=second * 1_000_000, pid=pid).get(mode)
        if offence is not None:
            assert str(offence.address) == "203.0.113.5"
            jail.consider(offence)
    assert jail.failures == getattr(session, mode)
