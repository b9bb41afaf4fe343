# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filters of Exim, FTP servers, Dropbear, PAM, MySQL and BIND against enemies who choose fields of their lines.

Lines are built as the services build them. The enemy sits at TRUE, chooses one field or two, and wants FAKE banned.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.config import filters, toml
from banagent.core.events import Entry, Offence
from banagent.core.filter import MODES, Filter, Trust
from banagent.core.recognise import Recogniser, View
from filters import hostile_sshd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER: Final = Path(__file__).parents[2] / "filters"
UNIT: Final = "sample.service"
TRUE: Final = ("203.0.113.5", "2001:db8::5")
FAKE: Final = "192.0.2.66"


def line_of(field: bytes) -> bytes:
    """Give a field that is logged as it came, by a protocol of lines."""
    return field.partition(b"\0")[0].partition(b"\n")[0]


def printing(field: bytes) -> bytes:
    """Escape what isn't printable (Exim, string_printing)."""
    known = {7: b"\\a", 8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 12: b"\\f", 13: b"\\r"}
    text = field.partition(b"\0")[0][:2000]
    return b"".join(
        bytes((byte,)) if 32 <= byte < 127 else known.get(byte) or b"\\%03o" % byte for byte in text
    ).strip()


def questioned(field: bytes) -> bytes:
    """Replace what isn't printable (vsftpd, logging.c, in its file)."""
    return bytes(byte if 32 <= byte < 127 else ord("?") for byte in line_of(field))


def domain(field: bytes) -> bytes:
    """Escape a domain name's label as master files do (BIND, dns_name_totext)."""
    label = field[:63]
    return b"".join(
        b"\\%03d" % byte if not 32 < byte < 127 else b"\\" * (byte in b'"().;@$\\') + bytes((byte,)) for byte in label
    )


def banner(field: bytes) -> bytes:
    """Give what is left of a client's version (dropbear, common-session.c)."""
    return b"SSH-" + line_of(field).partition(b"\r")[0][:250]


class Shape(NamedTuple):
    """A genuine line with the enemy's fields as {A} and {B}, and his address as {ADDRESS}."""

    filter: str
    pattern: str  # the failregex that recognises it if the fields are words; empty: none may
    text: str
    written: Callable[[bytes], bytes]
    always: bool = False  # recognised whatever {A} is, if {B} is a word


def exim(name: str, pattern: str, text: str, *, always: bool = False) -> Shape:
    return Shape(name, pattern, text, printing, always)


_DENIED: Final = ": 535 Incorrect authentication data"
_SCANNED: Final = "score=23.4 (scanned in 3/3 secs | Message-Id: {A}). From <{B}> (host=NULL [{ADDRESS}]) for"

EXIM: Final = (
    exim("exim", "auth", "login authenticator failed for (h) [{ADDRESS}]" + _DENIED + " (set_id={A})"),
    exim("exim", "auth", "login authenticator failed for ({B}) [{ADDRESS}]" + _DENIED + " (set_id={A})"),
    exim("exim", "auth", "login authenticator failed for a.example ({B}) [{ADDRESS}]:47" + _DENIED + " (set_id={A})"),
    exim("exim", "auth", "login authenticator failed for H=({A}) [{ADDRESS}] I=[198.51.100.20]:25 U={B}" + _DENIED),
    exim("eximt", "account", "login authenticator failed for ({B}) [{ADDRESS}]" + _DENIED + " (set_id={A})"),
    exim("exim", "recipient", "H=({B}) [{ADDRESS}] F=<{A}> rejected RCPT <a@b>: relay not permitted"),
    exim("exim", "recipient", "H=[{ADDRESS}]:4711 U={B} F=<c@d> rejected RCPT <{A}>: Unrouteable address"),
    exim("exim", "recipient", 'H=a ({B}) [{ADDRESS}] X=x SNI="{A}" F=<c@d> rejected RCPT <a@b>: No Such User Here'),
    exim("exim", "probe", "H=({B}) [{ADDRESS}] rejected VRFY {A}"),
    exim("exim", "", "H=({B}) [{ADDRESS}] rejected EHLO or HELO {A}"),
    exim("exim", "", "H=({B}) [{ADDRESS}] rejected AUTH {A}: no"),
    exim("exim", "", "H=({B}) [{ADDRESS}] F=<c@d> temporarily rejected RCPT <{A}>: greylisted"),
    exim("exim", "helo", "rejected EHLO from [{ADDRESS}]: syntactically invalid argument(s): {A}", always=False),
    exim(
        "exim", "dropped", 'SMTP call from ({B}) [{ADDRESS}] dropped: too many unrecognized commands (last was "{A}")'
    ),
    exim(
        "exim",
        "unsynchronised",
        "SMTP protocol synchronization error (next input sent too soon: pipelining was advertised): "
        'rejected "{A}" H=(h) [{ADDRESS}] next input="{B}"',
    ),
    exim(
        "exim",
        "unsynchronised",
        "SMTP protocol synchronization error (input sent without waiting for greeting): "
        'rejected connection from H=[{ADDRESS}] input="{A}"',
    ),
    exim("exim", "syntax", 'SMTP syntax error in "{A}" H=({B}) [{ADDRESS}] unrecognized command'),
    exim(
        "exim",
        "auth-unavailable",
        'SMTP protocol error in "AUTH {A}" H=({B}) [{ADDRESS}] AUTH command used when not advertised',
    ),
    exim("exim", "unqualified", "unqualified sender rejected: <{A}> H=({B}) [{ADDRESS}]"),
    exim("exim", "left", "unexpected disconnection while reading SMTP command from ({A}) [{ADDRESS}] D=1s"),
    exim("exim", "left", "unexpected disconnection while reading SMTP command from ({A}) [{ADDRESS}] U={B} D=1s"),
    exim("exim", "timeout", "SMTP command timeout on TLS connection from ({A}) [{ADDRESS}] D=5m0s"),
    exim("exim", "no-mail", "no MAIL in SMTP connection from ({A}) [{ADDRESS}] D=1s C=EHLO,QUIT"),
    exim(
        "exim-spam", "rejected", "H=({B}) [{ADDRESS}] F=<{A}> rejected RCPT <a@b>: [{ADDRESS}] is in a black list at x"
    ),
    exim("exim-spam", "rejected", "1oQabc-0001Xy-2Z H=({A}) [{ADDRESS}] F=<{B}> rejected after DATA: spam"),
    exim("exim-spam", "sender", "H=({B}) [{ADDRESS}] sender verify fail for <{A}>"),
    exim("exim-spam", "refused", 'H=[{ADDRESS}] rejected connection in "connect" ACL: blacklisted', always=True),
    exim("exim-spam", "spamassassin", "SA: Action: permanently rejected message: " + _SCANNED + " b@c"),
    exim("spam", "rejected", "1oQabc-0001Xy-2Z H=({A}) [{ADDRESS}] F=<{B}> rejected after DATA: spam"),
    exim("spam", "spamassassin", "SA: Action: silently tossed message: " + _SCANNED + " {B}"),
    exim("flag", "flagged", "SA: Action: flagged as Spam but accepted: " + _SCANNED + " {B}"),
    exim("flag", "flagged", "1oQabc-0001Xy-2Z H=({A}) [{ADDRESS}] Warning: message flagged as spam ({B})"),
)

_SERVER: Final = "h (a.example[{ADDRESS}])"
_PAM: Final = "authentication failure; logname= uid=0 euid=0"

FTP: Final = (
    Shape("vsftpd", "failed", '[{A}] FAIL LOGIN: Client "{ADDRESS}"', questioned),
    Shape("vsftpd", "failed", '[pid 7] [{A}] FAIL LOGIN: Client "{ADDRESS}"', line_of),
    Shape("vsftpd", "failed", '[ftp] FAIL LOGIN: Client "{ADDRESS}", anon password "{A}"', questioned),
    Shape("vsftpd", "failed", '[{A}] FTP response: Client "{ADDRESS}", "530 Permission denied."', questioned),
    Shape("vsftpd", "", '[{A}] FTP command: Client "{ADDRESS}", "{B}"', questioned),
    Shape("vsftpd", "", '[{A}] DEBUG: Client "{ADDRESS}", "{B}"', line_of),
    Shape("vsftpd", "", '[{A}] OK LOGIN: Client "{ADDRESS}"', questioned),
    Shape("vsftpd", "pam", f"pam_unix(vsftpd:auth): {_PAM} tty=ftp ruser={{A}} rhost={{ADDRESS}}", line_of),
    Shape("vsftpd", "pam", f"pam_unix(vsftpd:auth): {_PAM} tty=ftp ruser={{A}} rhost={{ADDRESS}}  user=bob", line_of),
    Shape("proftpd", "failed", f"{_SERVER}: USER {{A}} (Login failed): Incorrect password", line_of, always=True),
    Shape("proftpd", "failed", f"{_SERVER} - USER {{A}} (Login failed): Invalid shell: 'x'", line_of, always=True),
    Shape(
        "proftpd",
        "failed",
        f"{_SERVER} - USER {{A}}: no such user found from a.example [{{ADDRESS}}] to 198.51.100.20:21",
        line_of,
        always=True,
    ),
    Shape("proftpd", "failed", f"a proftpd[7] {_SERVER}: ANON {{A}}: Limit access denies login", line_of, always=True),
    Shape("proftpd", "", f"{_SERVER}: '{{A}}' denied by PathDenyFilter", line_of),
    Shape("pure-ftpd", "failed", "(?@{ADDRESS}) [WARNING] Authentication failed for user [{A}]", line_of, always=True),
    Shape("pure-ftpd", "http", "(?@{ADDRESS}) [INFO] HTTP command: [{A}]", line_of, always=True),
    Shape("pure-ftpd", "", "(?@{ADDRESS}) [INFO] SNI: [{A}]", line_of),
)

OTHERS: Final = (
    Shape("dropbear", "password", "Bad password attempt for 'root' from {ADDRESS}:4711", line_of, always=True),
    Shape("dropbear", "negotiation", "Exit before auth from <{ADDRESS}:47>: Incompatible remote version '{A}'", banner),
    Shape("pam-generic", "failed", f"pam_unix(x:auth): {_PAM} tty=x ruser={{A}} rhost={{ADDRESS}}", line_of),
    Shape("pam-generic", "failed", f"pam_unix(x:auth): {_PAM} tty=x ruser={{A}} rhost={{ADDRESS}}  user=bob", line_of),
    Shape("pam-generic", "sssd", f"pam_sss(x:auth): {_PAM} tty=x ruser={{A}} rhost={{ADDRESS}} user={{B}}", line_of),
    Shape(
        "pam-generic", "failed", f"PAM 2 more {_PAM.replace('re;', 'res;')} tty= ruser={{A}} rhost={{ADDRESS}}", line_of
    ),
    Shape("pam-generic", "", "pam_unix(x:auth): check pass; user ({A}) unknown", line_of),
    Shape("pam-generic", "", "pam_sss(x:auth): received for user {A}: 7 (Authentication failure)", line_of),
    Shape("pam-generic", "access", "pam_access(x:account): access denied for user `{A}' from `{ADDRESS}'", line_of),
    Shape(
        "mysqld-auth",
        "denied",
        "8 [Warning] Access denied for user '{A}'@'{ADDRESS}' (using password: YES)",
        line_of,
        always=True,
    ),
    Shape("mysqld-auth", "denied", "8 [Warning] Access denied for user '{A}'@'{ADDRESS}'", line_of),
    Shape("mysqld-auth", "", "8 [Warning] Access denied for user '{A}'@'{ADDRESS}' to database '{B}'", line_of),
    Shape(
        "mysqld-auth",
        "",
        "8 [Warning] Aborted connection 8 to db: '{A}' user: '{B}' host: '{ADDRESS}' (Got timeout)",
        line_of,
    ),
    Shape(
        "named-refused",
        "query",
        "client @0x7f {ADDRESS}#47 ({A}): query (cache) '{A}/A/IN' denied",
        domain,
        always=True,
    ),
    Shape("named-refused", "update", "client @0x7f {ADDRESS}#47 ({A}): update '{A}/IN' denied", domain),
    Shape("named-refused", "", "client @0x7f {ADDRESS}#47 ({A}): query: {A} IN A + (198.51.100.20)", domain),
)
SHAPES: Final = (*EXIM, *FTP, *OTHERS)
WORDS: Final = (b"x", b"root", b"info@example.org", b"m.mueller-1", b"A" * 60)
FIELDS: Final = (
    *WORDS,
    b"",
    b" ",
    b"\\",
    b"'",
    b'"',
    b"[",
    b"]",
    b"x y",
    b"%s%n",
    b"m\xc3\xbcller",
    b"\xff\xfe\r",
    b"\x1b[2J",
    b"A" * 4000,
    b"(set_id=x)",
    b"from 192.0.2.66",
    b"x) [192.0.2.66]",
    b"x) [192.0.2.66] F=<a> rejected RCPT <b>: relay not permitted",
    b"x) [192.0.2.66]: 535 Incorrect authentication data (set_id=y",
)


@cache
def shipped(name: str) -> Filter:
    item = filters.build(name, toml.read(FOLDER / f"{name}.toml"))
    return replace(item, units=(UNIT,), uids=(0,), fields={})


@cache
def recogniser(name: str) -> Recogniser:
    return Recogniser({mode: View(shipped(name), mode) for mode in MODES})


def recognise(name: str, message: bytes) -> Offence | None:
    """Give what a filter with all of its patterns makes of a line."""
    entry = Entry(1, message, "", 0, UNIT, None, 1)
    return dict(recogniser(name).offences(entry, recogniser(name).sift(message))).get("aggressive")


def address_in(name: str, message: bytes) -> str | None:
    offence = recognise(name, message)
    return None if offence is None or offence.address is None else str(offence.address)


def logged(shape: Shape, address: str, a: bytes = b"x", b: bytes = b"y") -> bytes:
    """Give the line as the service writes it."""
    text = shape.text.encode().replace(b"{ADDRESS}", address.encode())
    parts = text.replace(b"{A}", b"\0A\0").replace(b"{B}", b"\0B\0").split(b"\0")
    return b"".join({b"A": shape.written(a), b"B": shape.written(b)}.get(part, part) for part in parts)


def lures(shape: Shape) -> list[bytes]:
    """Give all parts of a filter's lines that have the forged address in them, from the bounds of words on."""
    found: set[bytes] = set()
    for other in SHAPES:
        if other.filter == shape.filter and other.pattern:
            found.update(_parts(logged(other, FAKE), few=other is not shape))
    return sorted(found)


def _parts(text: bytes, *, few: bool) -> Iterator[bytes]:
    start = text.find(FAKE.encode())
    end = start + len(FAKE)
    bounds = {0, len(text), *(at for at in range(len(text)) if not text[at - 1 : at].isalnum() or text[at] == 34)}
    lefts = sorted(at for at in bounds if at <= start)
    rights = sorted(at for at in {end, *bounds} if at >= end)
    for left in lefts[:2] + lefts[-3:] if few else lefts:
        for right in rights:
            yield text[left:right]


def shown(shape: Shape) -> str:
    return f"{shape.filter}: {shape.text}"


@pytest.mark.parametrize("shape", SHAPES, ids=shown)
def test_address_is_the_peers_whatever_he_writes(shape: Shape) -> None:
    for field in (*FIELDS, *lures(shape)):
        for message in (logged(shape, TRUE[0], field), logged(shape, TRUE[0], b"x", field)):
            assert address_in(shape.filter, message) in {TRUE[0], None}, message
        if shape.always:
            assert address_in(shape.filter, logged(shape, TRUE[0], field)) == TRUE[0], field


@pytest.mark.parametrize("address", TRUE)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.pattern], ids=shown)
def test_names_that_people_have_are_no_obstacle(shape: Shape, address: str) -> None:
    for word in WORDS:
        offence = recognise(shape.filter, logged(shape, address, word, word))
        assert offence is not None, word
        assert (offence.pattern, str(offence.address)) == (shape.pattern, address)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if not shape.pattern], ids=shown)
def test_other_lines_tell_nothing(shape: Shape) -> None:
    for word in WORDS:
        assert recognise(shape.filter, logged(shape, TRUE[0], word, word)) is None


def test_the_fake_address_would_be_found_if_it_were_the_peers() -> None:
    for shape in SHAPES:
        if shape.pattern:
            assert address_in(shape.filter, logged(shape, FAKE)) == FAKE, shape.text


@st.composite
def attacks(draw: st.DrawFn) -> tuple[Shape, bytes, bytes]:
    """Draw a line and what an enemy writes into both of its fields: parts of such lines, and rubbish."""
    shape = draw(st.sampled_from(SHAPES))
    text = draw(st.sampled_from([other for other in SHAPES if other.filter == shape.filter]))
    whole = logged(text, FAKE)
    ends = st.integers(0, len(whole))
    cut = st.tuples(ends, ends).map(lambda pair: whole[min(pair) : max(pair)])
    rubbish = st.sampled_from((b'"', b") [", b" F=<", b": 535 ", b"'", b"] ", b" rhost=", b"x", b"\n")) | st.binary(
        max_size=9
    )
    field = st.lists(cut | rubbish, max_size=4).map(b"".join)
    return shape, draw(field), draw(field)


@given(attacks())
def test_address_is_the_peers_in_any_line(attack: tuple[Shape, bytes, bytes]) -> None:
    shape, a, b = attack
    assert address_in(shape.filter, logged(shape, TRUE[0], a, b)) in {TRUE[0], None}


@pytest.mark.parametrize("name", ["unknown", "host.example", "1.2.3", "192.0.2.256", "ad.cafe"])
def test_a_name_is_no_address(name: str) -> None:
    for shape in SHAPES:
        for field in FIELDS:
            assert address_in(shape.filter, logged(shape, name, field)) is None, (shape, field)


@pytest.mark.parametrize("shape", hostile_sshd.SHAPES, ids=lambda shape: shape.text)
def test_ssh_root_in_the_lines_of_sshd(shape: hostile_sshd.Shape) -> None:
    cut = hostile_sshd.fields_to_the_cut(shape.limit) if shape.user else ()
    for field in (*hostile_sshd.FIELDS, *(b"root" + field for field in (*hostile_sshd.FIELDS, *cut))):
        message = hostile_sshd.logged(shape, TRUE[0], field)
        assert address_in("ssh-root", message) in {TRUE[0], None}, message


def test_ssh_root_is_about_root_alone() -> None:
    for shape in hostile_sshd.SHAPES:
        if shape.user and shape.pattern:
            for other in (b"rootx", b"xroot", b"Root", b"root ", b"admin", b""):
                message = hostile_sshd.logged(shape, TRUE[0], other)
                assert recognise("ssh-root", message) is None, message


# --- what can be forged, and is said to be ---


def test_mysql_a_newline_in_a_user_name() -> None:
    """MariaDB 10.11.19 wrote this; the second line is like one of its own."""
    own = b"2026-11-22  3:00:00 9 [Warning] Access denied for user 'root'@'192.0.2.66' (using password: YES)"
    text = (
        b"2026-11-22  4:44:27 5 [Warning] Access denied for user 'x\n"
        + own
        + b"\n'@'203.0.113.5' (using password: YES)"
    )
    assert [address_in("mysqld-auth", line) for line in text.split(b"\n")] == [None, FAKE, None]
    assert shipped("mysqld-auth").forgeable


def test_pure_ftpd_a_name_like_an_address() -> None:
    """What getnameinfo gives for a PTR record with "192.0.2.66."."""
    assert address_in("pure-ftpd", b"(?@192.0.2.66) [WARNING] Authentication failed for user [x]") == FAKE
    assert shipped("pure-ftpd").forgeable


@pytest.mark.parametrize(
    ("unit", "uid", "transport", "counts"),
    [
        ("ssh.service", 0, "syslog", True),
        ("any.service", 0, "syslog", True),
        (None, 0, "syslog", True),
        ("docker.service", 0, "journal", False),  # what a container's program prints
        ("any.service", 0, "stdout", False),
        ("any.service", 33, "syslog", False),
        ("session-1.scope", 0, "syslog", False),
    ],
)
def test_pam_is_believed_of_any_service(unit: str | None, uid: int, transport: str, *, counts: bool) -> None:
    item = filters.build("pam-generic", toml.read(FOLDER / "pam-generic.toml"))
    entry = Entry(1, b"", "", uid, unit, "any", 1, more={"_TRANSPORT": transport})
    assert Trust(item)(entry) == counts


@pytest.mark.parametrize("name", ["pam-generic", "named-refused"])
def test_whose_address_is_the_peers_to_choose(name: str) -> None:
    assert shipped(name).forgeable
    assert shipped(name).ports
