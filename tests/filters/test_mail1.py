# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filters of mail servers against enemies who choose what stands in their lines.

Lines are built as the services build them: field by field, with their escapes, cuts and splits. The enemy sits at TRUE
and wants FAKE banned.
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
from banagent.core.filter import MODES
from banagent.core.recognise import Recogniser, View

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER: Final = Path(__file__).parents[2] / "filters"
UNIT: Final = "sample.service"  # who may write what is tested elsewhere
TRUE: Final = ("203.0.113.5", "2001:db8::5")
FAKE: Final = "192.0.2.66"
MOST: Final = 16_000  # bytes of a field


def plain(field: bytes) -> bytes:
    """Give a field that is logged as it came, but no longer than a C string."""
    return field.partition(b"\0")[0]


def printable(field: bytes) -> bytes:
    """Replace what isn't printable (Postfix, printable.c)."""
    return bytes(byte if 32 <= byte < 127 else ord("?") for byte in plain(field))


def control(field: bytes) -> bytes:
    """Replace control characters (Dovecot, str_sanitize)."""
    return bytes(ord("?") if byte < 32 else byte for byte in plain(field))


def login_user(field: bytes) -> bytes:
    """Give the user of a line of Dovecot's login processes."""
    return control(field) if len(field) <= 80 else control(field)[:77] + b"..."


def auth_user(field: bytes) -> bytes:
    """Give the user of a line of Dovecot's auth, where the admin allows all characters."""
    return control(field)[:64]


def beautified(field: bytes) -> bytes:
    """Write control characters as ^X (Cyrus, beautify_string)."""
    return b"".join(bytes((byte,)) if 32 <= byte < 127 else b"^" + bytes((byte & 31 | 64,)) for byte in plain(field))


def quoted(field: bytes) -> bytes:
    """Write a value as Cyrus' logfmt does."""
    value = plain(field)
    if value and all(byte > 32 and byte < 127 and byte not in b'"\\=' for byte in value):
        return value
    for raw, escaped in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\t", b"\\t"), (b"\r", b"\\r"), (b"\n", b"\\n")):
        value = value.replace(raw, escaped)
    return b'"' + b"".join(bytes((byte,)) if 32 <= byte < 127 else b"\\x{%02x}" % byte for byte in value) + b'"'


def octal(field: bytes) -> bytes:
    """Escape control characters (sendmail, xputs and shortenstring)."""
    return b"".join(bytes((byte,)) if 32 <= byte < 127 else b"\\%03o" % byte for byte in plain(field))[:500]


class Shape(NamedTuple):
    """A genuine line with the enemy's field as <FIELD>, wherever it is, and his address as <ADDRESS>."""

    filter: str
    pattern: str  # the failregex that recognises it if the field is one word; empty: none may
    text: str
    written: Callable[[bytes], bytes]
    most: int = MOST  # bytes of the field that the service takes
    always: bool = False  # recognised whatever the field is


def postfix(pattern: str, text: str, *, most: int = MOST, always: bool = True) -> Shape:
    return Shape("postfix", pattern, text, printable, most, always)


_LOGIN: Final = "user=<<FIELD>>, method=PLAIN, rip=<ADDRESS>, lip=198.51.100.20"

SHAPES: Final = (
    postfix(
        "sasl", "warning: unknown[<ADDRESS>]: SASL LOGIN authentication failed: x, sasl_username=<FIELD>", most=100
    ),
    postfix("sasl", "warning: a.example[<ADDRESS>]:4711: SASL PLAIN authentication failed: x, sasl_username=<FIELD>"),
    postfix(
        "reject", "NOQUEUE: reject: RCPT from unknown[<ADDRESS>]: 554 5.7.1 <<FIELD>>: Relay access denied; from=<>"
    ),
    postfix(
        "reject",
        "NOQUEUE: reject: RCPT from unknown[<ADDRESS>]: 550 5.1.1 <a@b>: Recipient address rejected: User unknown; "
        "from=<<FIELD>> to=<a@b> proto=ESMTP helo=<<FIELD>>",
    ),
    postfix(
        "reject",
        "NOQUEUE: reject: RCPT from unknown[<ADDRESS>]: 450 4.7.1 <<FIELD>>: Helo command rejected: Host not found; "
        "from=<<FIELD>> to=<a@b> proto=ESMTP helo=<<FIELD>>",
    ),
    postfix("reject", "3A1B2C: milter-reject: END-OF-MESSAGE from a[<ADDRESS>]: 5.7.1 <FIELD>; from=<<FIELD>>"),
    postfix(
        "rbl",
        "NOQUEUE: reject: RCPT from unknown[<ADDRESS>]: 554 5.7.1 Service unavailable; Helo command [<FIELD>] blocked "
        "using x.example; from=<<FIELD>> to=<a@b> proto=ESMTP helo=<<FIELD>>",
    ),
    postfix("pipelining", "improper command pipelining after EHLO from unknown[<ADDRESS>]: <FIELD>", most=100),
    postfix("non-smtp", "warning: non-SMTP command from unknown[<ADDRESS>]: <FIELD>", most=100),
    postfix("pregreet", "PREGREET 16 after 0.08 from [<ADDRESS>]:4711: <FIELD>", most=100),
    postfix("postscreen", "NON-SMTP COMMAND from [<ADDRESS>]:4711 after CONNECT: <FIELD>", most=100),
    postfix("syntax", "warning: Illegal address syntax from unknown[<ADDRESS>] in RCPT command: <FIELD>"),
    postfix("syntax", "warning: unknown[<ADDRESS>]: request longer than 2048: <FIELD>...", most=30),
    postfix("", "warning: reject: ETRN <FIELD>... from unknown[<ADDRESS>]"),
    postfix("", "warning: bad ETRN <FIELD>... from unknown[<ADDRESS>]"),
    postfix("", "3A1B2C: reject: header Subject: <FIELD> from a[<ADDRESS>]; from=<<FIELD>> to=<a@b>: 5.7.1 no"),
    postfix(
        "", "proxy-reject: END-OF-MESSAGE: 554 5.7.1 <FIELD>; from=<<FIELD>> to=<<FIELD>> proto=SMTP helo=<<FIELD>>"
    ),
    postfix("", "3A1B2C: client=unknown[<ADDRESS>], sasl_method=PLAIN, sasl_username=<FIELD>"),
    *(
        Shape("dovecot", "failed", f"imap-login: {what}: {_LOGIN}{tail}", login_user, MOST, always=True)
        for what, tail in (
            ("Disconnected (auth failed, 1 attempts in 2 secs)", ", TLS, session=<6wzJvinOOLisEQAB>"),
            ("Disconnected: Connection closed (auth failed, 1 attempts in 2 secs)", ", session=<6wzJvinOOLisEQAB>"),
            ("Aborted login (auth failed, 1 attempts)", ""),
            ("Login aborted: Connection closed (auth failed, 1 attempts in 2 secs) (auth_failed)", ", session=<y>"),
            ("Disconnected (auth failed, 1 attempts in 2 secs)", ", TLS: read(size=9) failed: x, session=<y>"),
        )
    ),
    Shape(
        "dovecot", "not-so", f"imap-login: Disconnected (tried to use disallowed plaintext auth): {_LOGIN}", login_user
    ),
    Shape("dovecot", "login", f"imap-login: Login: {_LOGIN}, mpid=18, TLS, session=<PeYcgjjOGOisEQAB>", login_user),
    Shape("dovecot", "login", f"imap-login: Logged in: {_LOGIN}, mpid=18, TLS, session=<PeYcgjjOGOisEQAB>", login_user),
    Shape("dovecot", "", f"imap-login: Disconnected (auth service reported temporary failure): {_LOGIN}", login_user),
    Shape("dovecot", "unknown-user", "auth: sql(<FIELD>,<ADDRESS>,<y>): unknown user", auth_user),
    Shape(
        "dovecot", "unknown-user", "auth: sql(<FIELD>,<ADDRESS>,<y>): unknown user (given password: <FIELD>)", auth_user
    ),
    Shape("dovecot", "password", "auth-worker(47): passwd-file(<FIELD>,<ADDRESS>): Password mismatch", auth_user),
    Shape("dovecot", "password", "auth(<FIELD>,<ADDRESS>,sasl:plain)<y>: sql: Password mismatch", auth_user),
    Shape(
        "dovecot",
        "refused",
        "auth-worker(47): conn unix:auth-worker (pid=9,uid=1): auth-worker<4>: pam(<FIELD>,<ADDRESS>): "
        "pam_authenticate() failed: Authentication failure (Password mismatch?) (given password: <FIELD>)",
        auth_user,
    ),
    Shape(
        "dovecot",
        "refused",
        "auth: plain(?,<ADDRESS>,<y>): Username character disallowed by auth_username_chars: 0x2c (username: <FIELD>)",
        control,
        always=True,
    ),
    Shape("dovecot", "", "auth: plain(<FIELD>,<ADDRESS>,<y>): Invalid password in passdb: x", auth_user),
    Shape(
        "dovecot",
        "pam-module",
        "pam_unix(dovecot:auth): authentication failure; logname= uid=0 euid=0 tty=dovecot ruser=<FIELD> "
        "rhost=<ADDRESS>  user=<FIELD>",
        plain,
    ),
    *(
        Shape("cyrus-imap", pattern, f"badlogin: {client}[<ADDRESS>] {text}", beautified, always=always)
        for client in ("", "a.example ")
        for pattern, text, always in (
            ("login", "plaintext (<FIELD>) [SASL(-13): authentication failure: checkpass failed]", True),
            ("login", "plaintext (<FIELD>) invalid user", True),
            ("login", "PLAIN (<FIELD>) [SASL(-13): user not found: <FIELD>@x]", True),
            ("login-old", "plaintext <FIELD> SASL(-13): authentication failure: checkpass failed", False),
            ("http", "Basic <FIELD> invalid user", False),
        )
    ),
    Shape("cyrus-imap", "", "login: a.example [<ADDRESS>] <FIELD> plaintext User logged in SESSIONID=<x>", beautified),
    Shape("cyrus-imap", "", "login: [<ADDRESS>] anonymous <FIELD>", beautified),
    Shape(
        "cyrus-imap",
        "record",
        'event=login.bad r.clienthost="a.example [<ADDRESS>]" u.username=<FIELD> login.mech=PLAIN error="invalid user"',
        quoted,
    ),
    Shape(
        "cyrus-imap",
        "",
        'event=login.good r.sessionid=x r.clienthost="a.example [<ADDRESS>]" u.username=<FIELD> login.mech=PLAIN',
        quoted,
    ),
    Shape("sieve", "failed", "badlogin: a.example[<ADDRESS>] <FIELD> authentication failure", beautified),
    Shape("uwimap-auth", "failed", "Login failed user=<FIELD> auth=<FIELD> host=[<ADDRESS>]", plain, 64, always=True),
    Shape(
        "uwimap-auth", "failed", "Login failed user=<FIELD> auth=x host=a.example [<ADDRESS>]", plain, 64, always=True
    ),
    Shape("uwimap-auth", "failed", "Failed root override of user=<FIELD> host=[<ADDRESS>]", plain, 80, always=True),
    Shape("uwimap-auth", "failed", "Failed <FIELD> override of user=<FIELD> host=[<ADDRESS>]", plain, 80, always=True),
    Shape("uwimap-auth", "authenticate", "AUTHENTICATE <FIELD> failure host=a.example [<ADDRESS>]", plain),
    Shape("uwimap-auth", "", "Login failed user=<FIELD> auth=<FIELD> host=UNKNOWN", plain, 64),
    Shape("uwimap-auth", "", "Login failed user=<FIELD> auth=<FIELD> host=SSH_CLIENT=<ADDRESS> 4711 22", plain, 64),
    Shape("uwimap-auth", "", "Login failed user=<FIELD> auth=x host=aaaaaaaaaaaaaaaa.example [203.0.113.2", plain, 64),
    Shape("uwimap-auth", "", "Login user=<FIELD> host=a.example [<ADDRESS>]", plain, 64),
    *(
        Shape(
            "sendmail-auth",
            "failed",
            f"2AM3000B012345: AUTH failure (LOGIN): {error}, relay={relay}",
            octal,
            always=True,
        )
        for error in (
            "authentication failure (-13) SASL(-13): authentication failure: checkpass failed, user=<FIELD>",
            "user not found (-20) SASL(-13): user not found: <FIELD>",
        )
        for relay in ("[<ADDRESS>]", "a.example [<ADDRESS>]", "x@a.example [<ADDRESS>] (may be forged)")
    ),
    Shape(
        "sendmail-auth",
        "",
        "2AM3000B012345: AUTH failure (LOGIN): authentication failure (-13) x, user=<FIELD>, relay=a.example [203.0",
        octal,
    ),
    Shape("sendmail-auth", "decode", '2AM3000B012345: AUTH decode64 error [5 for "<FIELD>"], relay=[<ADDRESS>]', octal),
    Shape("sendmail-auth", "", "AUTH=server, relay=[<ADDRESS>], authid=<FIELD>, mech=PLAIN, bits=0", octal),
    *(
        Shape("sendmail-reject", "reject", f"2AM3000B012345: ruleset={text}", octal)
        for text in (
            "check_rcpt, arg1=<<FIELD>>, relay=a.example [<ADDRESS>], reject=550 5.7.1 <<FIELD>>... Relaying denied",
            "check_rcpt, arg1=<FIELD>, relay=[<ADDRESS>] (may be forged), reject=550 5.7.1 <FIELD>... Relaying denied",
            "check_mail, arg1=<<FIELD>>, relay=[<ADDRESS>], reject=553 5.1.8 <<FIELD>>... Domain of x does not exist",
        )
    ),
    Shape("sendmail-reject", "mail", "2AM3000B012345: from=<<FIELD>>, size=0, proto=SMTP, relay=[<ADDRESS>]", octal),
    Shape(
        "sendmail-reject",
        "attack",
        "2AM3000B012345: [<ADDRESS>]: probable open proxy: command=<FIELD>",
        octal,
        always=True,
    ),
    Shape("sendmail-reject", "hole", '2AM3000B012345: "WIZ" command from [<ADDRESS>] (<FIELD>)', octal, always=True),
    Shape("sendmail-reject", "protocol", "2AM3000B012345: invalid domain name (<FIELD>) from [<ADDRESS>]", octal),
    Shape("sendmail-reject", "protocol", "2AM3000B012345: [<ADDRESS>]: VRFY <FIELD> [rejected]", octal, always=True),
    Shape("sendmail-reject", "", "2AM3000B012345: to=<<FIELD>>, mailer=local, relay=x [<ADDRESS>], stat=Sent", octal),
    Shape("courier-auth", "failed", "LOGIN FAILED, user=<FIELD>, ip=[::ffff:203.0.113.5], port=[4711]", plain, 255),
    Shape("courier-auth", "", "LOGIN, user=<FIELD>, ip=[<ADDRESS>], port=[4711], protocol=IMAP", plain, 255),
    Shape(
        "courier-auth",
        "failed",
        'error,relay=<ADDRESS>,port=4711,msg="535 Authentication failed.",cmd: AUTH <FIELD>',
        printable,
        100,
    ),
)

# Each of them whole is what some pattern would take for the rest of its line.
TAILS: Final = (
    "[192.0.2.66]",
    " [192.0.2.66]",
    " from x[192.0.2.66]: 554 5.7.1 y",
    " from x[192.0.2.66]",
    "from x[192.0.2.66]: 554 5.7.1 y",
    "unknown[192.0.2.66]: SASL LOGIN authentication failed: x",
    ">, method=PLAIN, rip=192.0.2.66, lip=198.51.100.20, TLS, session=<y",
    ">, method=PLAIN, rip=192.0.2.66, lip=198.51.100.20",
    ">, rip=192.0.2.66",
    ">, rip=192.0.2.66, lip=1.1.1.1, x",
    " (auth failed, 9 attempts in 2 secs): user=<x>, method=PLAIN, rip=192.0.2.66, lip=1.1.1.1, session=<y",
    ",192.0.2.66): unknown user",
    ",192.0.2.66,<y>): Password mismatch",
    ",192.0.2.66): unknown user (given password: ",
    ",192.0.2.66,sasl:plain)<y>: x: unknown user",
    ",192.0.2.66): pam_authenticate() failed: Authentication failure",
    " rhost=192.0.2.66",
    " rhost=192.0.2.66  user=",
    ") [192.0.2.66] plaintext (x) [SASL(-13): authentication failure",
    '" r.clienthost="[192.0.2.66]" u.username="x" error="',
    " host=[192.0.2.66]",
    " auth=x host=a [192.0.2.66]",
    " auth=x host=a [192.0.2.66] auth=",
    ", relay=[192.0.2.66]",
    ", relay=a [192.0.2.66] (may be forged)",
    ", relay=a [192.0.2.66], reject=550 5.7.1 y",
    ">, relay=a [192.0.2.66], reject=550 5.7.1 y",
    '">, relay=a [192.0.2.66], reject=550 5.7.1 y"',
    "(>, relay=a [192.0.2.66], reject=550 5.7.1 y)",
    "\\>, relay=a [192.0.2.66], reject=550 5.7.1 y",
    '"], relay=[192.0.2.66]',
    ") from a [192.0.2.66]",
    ", ip=[192.0.2.66]",
    ", ip=[192.0.2.66], port=[1]",
    "\nLOGIN FAILED, user=x, ip=[192.0.2.66], port=[1]",
    "\nLogin failed user=x auth=x host=[192.0.2.66]",
    "\nbadlogin: [192.0.2.66] plaintext (x) invalid user",
)
FIELDS: Final = (
    b"",
    b"bob",
    b"bob@example.org",
    b"192.0.2.66",
    b"m\xc3\xbcller",
    b"\xff\xfe\x80",
    b"x\0 [192.0.2.66]",
    b"%s%n%x",
    b"\\",
    b'"',
    b"<>",
    b"()",
    b"A" * MOST,
    b"relay=" * 2_000,
    *(tail.encode() for tail in TAILS),
    *(b"x" + tail.encode() for tail in TAILS),
    *(tail.encode() + b" " for tail in TAILS),
)
WORDS: Final = (b"bob", b"bob.smith", b"x-1")


@cache
def recogniser(name: str) -> Recogniser:
    """Give a filter's recogniser with a jail for each mode, made to trust one unit."""
    item = filters.build(name, toml.read(FOLDER / f"{name}.toml"))
    return Recogniser({mode: View(replace(item, units=(UNIT,), uids=(0,), slices=()), mode) for mode in MODES})


def recognise(name: str, message: bytes) -> Offence | None:
    """Give what all patterns of a filter tell of a line."""
    entry = Entry(1, message, "p", 0, UNIT, None, 1)
    found = dict(recogniser(name).offences(entry, recogniser(name).sift(message)))
    return found.get("aggressive")


def address_in(name: str, message: bytes) -> str | None:
    offence = recognise(name, message)
    return None if offence is None or offence.address is None else str(offence.address)


def logged(shape: Shape, address: str, field: bytes) -> bytes:
    """Give the line as the service writes it."""
    if shape.filter.startswith("sendmail") and ":" in address:
        address = f"IPv6:{address}"
    value = shape.written(field[: shape.most])
    return shape.text.replace("<ADDRESS>", address).encode().replace(b"<FIELD>", value)


def shown(shape: Shape) -> str:
    return f"{shape.filter}: {shape.text}"


@pytest.mark.parametrize("address", TRUE)
@pytest.mark.parametrize("shape", SHAPES, ids=shown)
def test_address_is_the_peers_whatever_he_writes(shape: Shape, address: str) -> None:
    true = "203.0.113.5" if "::ffff:203.0.113.5" in shape.text else address
    for field in FIELDS:
        message = logged(shape, address, field)
        found = address_in(shape.filter, message)
        assert found in {true, None}, message
        if not shape.pattern:
            assert found is None, message
        elif shape.always:
            assert found == true, message


@pytest.mark.parametrize("address", TRUE)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.pattern], ids=shown)
def test_names_of_users_are_no_obstacle(shape: Shape, address: str) -> None:
    true = "203.0.113.5" if "::ffff:203.0.113.5" in shape.text else address
    for word in WORDS:
        offence = recognise(shape.filter, logged(shape, address, word))
        assert offence is not None, word
        assert (offence.pattern, str(offence.address)) == (shape.pattern, true)


def test_the_fake_address_would_be_found_if_it_were_the_peers() -> None:
    for shape in SHAPES:
        if shape.pattern and "<ADDRESS>" in shape.text:
            assert address_in(shape.filter, logged(shape, FAKE, b"x")) == FAKE, shape.text


FRAGMENTS: Final = (
    *(tail.encode() for tail in TAILS),
    *(b">", b"<", b"(", b")", b'"', b"\\", b", ", b": ", b" ", b"\n", b"x", b"]", b"[", b"$", b" from ", b"A" * 300),
)


@given(
    shape=st.sampled_from(SHAPES),
    address=st.sampled_from(TRUE),
    field=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=20), max_size=8).map(b"".join),
)
def test_address_is_the_peers_in_any_line(shape: Shape, address: str, field: bytes) -> None:
    assert address_in(shape.filter, logged(shape, address, field)) in {*TRUE, None}


@pytest.mark.parametrize("name", ["unknown", "host.example", "UNKNOWN", "1.2.3", "192.0.2.256", "ad.cafe"])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if "<ADDRESS>" in shape.text], ids=shown)
def test_a_name_is_no_address(shape: Shape, name: str) -> None:
    for field in FIELDS:
        assert address_in(shape.filter, logged(shape, name, field)) is None, field


# --- Courier's cuts ---


def by_courierlogger(user: bytes, address: str) -> list[bytes]:
    """Give the messages that come of a failed login (courierlogger of courier-authlib 0.71.4 was run).

    courier_safe_printf writes 1023 bytes and dots for control characters; courierlogger reads 511 at a time, and takes
    the word for the level off.
    """
    text = b"INFO: LOGIN FAILED, user=" + plain(user) + f", ip=[{address}], port=[4711]".encode()
    line = bytes(byte if 32 <= byte < 127 else ord(".") for byte in text[:1023])
    pieces = [line[start : start + 511] for start in range(0, len(line), 511)]
    return [piece.removeprefix(b"INFO: ").removeprefix(b"ALERT: ") for piece in pieces]


COURIER_TAILS: Final = (
    b", ip=[192.0.2.66], port=[1]",
    b", ip=[192.0.2.66]",
    b"LOGIN FAILED, user=x, ip=[192.0.2.66], port=[1]",
    b"INFO: LOGIN FAILED, user=x, ip=[192.0.2.66]",
    b"LOGIN FAILED, method=x, ip=[192.0.2.66]",
    b"LOGOUT, ip=[192.0.2.66], port=[1]",
    b'error,relay=192.0.2.66,port=1,msg="535 Authentication failed.",cmd: AUTH x',
    b'error,relay=192.0.2.66,port=1,msg="502 ESMTP command error",cmd: x',
    b"Maximum connection limit reached for 192.0.2.66",
    b"ALERT: Maximum connection limit reached for 192.0.2.66",
)


@pytest.mark.parametrize("tail", COURIER_TAILS)
def test_courier_where_a_line_is_cut(tail: bytes) -> None:
    """Each length of user name, so that some piece of the line ends, or begins, with the enemy's words."""
    for address in ("::ffff:203.0.113.5", "2001:db8::5"):
        for fill in range(1024):
            for rest in (b"", b"y" * 511):
                for piece in by_courierlogger(b"x" * fill + tail + rest, address):
                    assert address_in("courier-auth", piece) in {*TRUE, None}, piece


def test_courier_two_pieces_of_a_line() -> None:
    """The second piece, chosen to its end but for what the server appends."""
    for tail in COURIER_TAILS:
        for more in range(0, 512, 7):
            for piece in by_courierlogger(b"x" * 486 + tail + b"z" * more, "::ffff:203.0.113.5"):
                assert address_in("courier-auth", piece) in {*TRUE, None}, piece


def test_courier_names_that_people_have() -> None:
    assert [address_in("courier-auth", piece) for piece in by_courierlogger(b"bob", "::ffff:203.0.113.5")] == [TRUE[0]]
    assert [address_in("courier-auth", piece) for piece in by_courierlogger(b"b" * 255, TRUE[1])] == [TRUE[1]]


# --- single forms ---


@pytest.mark.parametrize(
    ("name", "line", "address"),
    [
        # older and other loggers
        ("courier-auth", "LOGIN FAILED, user=bob, ip=[192.0.2.1]", "192.0.2.1"),
        ("courier-auth", "LOGIN FAILED, method=CRAM-MD5, ip=[::ffff:192.0.2.1]", "192.0.2.1"),
        ("courier-auth", 'error,relay=::ffff:192.0.2.1,msg="535 Authentication failed.",cmd: AUTH LOGIN', "192.0.2.1"),
        # without a session: requests by other programs, such as Postfix
        ("dovecot", "auth: passwd-file(bob,192.0.2.1): unknown user", "192.0.2.1"),
        ("dovecot", "auth-worker(default): sql(bob,2001:db8::5): Password mismatch", "2001:db8::5"),
        ("dovecot", "imap-login: Disconnected (auth failed, 1 attempts): user=<bob>, rip=192.0.2.1", "192.0.2.1"),
        ("dovecot", "auth: passwd-file(bob,<y>): unknown user", None),
        # SASL's reasons that are the server's own fault
        ("postfix", "warning: a[192.0.2.1]: SASL PLAIN authentication failed: generic failure", None),
        ("postfix", "warning: unknown[unknown]: SASL PLAIN authentication failed: x", None),
        # without a queue id
        ("sendmail-reject", "[192.0.2.1]: Possible SMTP RCPT flood, throttling.", "192.0.2.1"),
        ("sendmail-reject", "NOQUEUE: tcpwrappers (a.example, 192.0.2.1) rejection", "192.0.2.1"),
        # cut at 100 bytes, behind the bracket
        (
            "sendmail-auth",
            "AUTH failure (LOGIN): x (-13) y, user=z, relay=a.example [192.0.2.1] (may be f",
            "192.0.2.1",
        ),
    ],
)
def test_single_forms(name: str, line: str, address: str | None) -> None:
    assert address_in(name, line.encode()) == address
