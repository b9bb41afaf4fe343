# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines that sshd writes about an enemy who chose one field of them, built as sshd's log.c builds them.

The enemy sits at TRUE and wants FAKE banned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

TRUE: Final = ("203.0.113.5", "2001:db8::5")
FAKE: Final = "192.0.2.66"
_C_STYLE: Final = {7: b"\\a", 8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 12: b"\\f", 13: b"\\r", 92: b"\\\\"}
_VIS: Final = [_C_STYLE.get(byte, bytes((byte,)) if 32 <= byte < 127 else b"\\%03o" % byte) for byte in range(256)]


class Shape(NamedTuple):
    """A genuine line with the enemy's field as <FIELD> and his address as <ADDRESS>."""

    pattern: str  # the failregex that must recognise it; empty: none may
    text: str
    limit: int  # bytes of the field that sshd keeps, before it escapes them
    child: bool = False  # written by the unprivileged child: escaped twice, and marked [preauth]
    user: bool = True  # the field is a user name, which ends at its first colon
    escapes: bool = False  # recognised even if the field has to be escaped
    longest: int = 16_000  # bytes of the field with which it is still recognised


SHAPES: Final = (
    # who has logged in would gain by being somebody else
    Shape(
        "login",
        "Accepted publickey for root from <ADDRESS> port 4711 ssh2: RSA-CERT SHA256:Zm9v ID <FIELD> (serial 0)"
        " CA RSA SHA256:YmFy",
        16_000,
        user=False,
        escapes=True,
    ),
    Shape("failed", "Failed password for invalid user <FIELD> from <ADDRESS> port 4711 ssh2", 100, escapes=True),
    Shape("failed", "Failed password for <FIELD> from <ADDRESS> port 4711 ssh2", 100, escapes=True),
    Shape("failed", "Failed keyboard-interactive/pam for invalid user <FIELD> from <ADDRESS> port 4711 ssh2", 100),
    Shape(
        "offered",
        "Failed publickey for invalid user <FIELD> from <ADDRESS> port 4711 ssh2: RSA SHA256:Zm9v",
        100,
        escapes=True,
    ),
    Shape("offered", "Failed gssapi-with-mic for invalid user <FIELD> from <ADDRESS> port 4711 ssh2", 100, child=True),
    Shape(
        "offered",
        "Failed publickey for invalid user x from <ADDRESS> port 4711 ssh2: RSA-CERT SHA256:Zm9v ID <FIELD>"
        " (serial 0) CA RSA SHA256:YmFy",
        16_000,
        user=False,
        escapes=True,
    ),
    Shape(
        "offered",
        "Failed publickey for root from <ADDRESS> port 4711 ssh2: RSA-CERT SHA256:Zm9v ID <FIELD>"
        " (serial 0) CA RSA SHA256:YmFy",
        16_000,
        user=False,
        escapes=True,
    ),
    Shape("pam", "error: PAM: Authentication failure for illegal user <FIELD> from <ADDRESS>", 100),
    Shape(
        "pam",
        "error: PAM: User not known to the underlying authentication module for illegal user <FIELD> from <ADDRESS>",
        100,
    ),
    Shape("invalid-user", "Invalid user <FIELD> from <ADDRESS> port 4711", 100, escapes=True),
    Shape("invalid-user", "Invalid user <FIELD> from <ADDRESS>", 100, escapes=True),
    Shape(
        "prohibited",
        "administratively prohibited connection for invalid user <FIELD> from <ADDRESS> port 4711",
        16_000,
        longest=32,
    ),
    Shape(
        "max-attempts",
        "error: maximum authentication attempts exceeded for invalid user <FIELD> from <ADDRESS> port 4711 ssh2",
        100,
        child=True,
    ),
    Shape(
        "thrown-out",
        "Disconnecting invalid user <FIELD> <ADDRESS> port 4711: Too many authentication failures",
        187,
        child=True,
    ),
    Shape(
        "thrown-out",
        "Disconnecting invalid user x <ADDRESS> port 4711: Change of username or service not allowed: "
        "(x,ssh-connection) -> (<FIELD>,y)",
        100,
        child=True,
        user=False,
        escapes=True,
    ),
    Shape("left", "Connection closed by invalid user <FIELD> <ADDRESS> port 4711", 187, child=True),
    Shape("left", "Connection reset by invalid user <FIELD> <ADDRESS> port 4711", 187),
    Shape("left", "Disconnected from invalid user <FIELD> <ADDRESS> port 4711", 187, child=True),
    Shape("left", "Connection from invalid user <FIELD> <ADDRESS> port 4711 timed out", 187, child=True),
    Shape("gave-up", "error: Received disconnect from <ADDRESS> port 4711:14: <FIELD>", 400, child=True, user=False),
    Shape("bye", "Received disconnect from <ADDRESS> port 4711:11: <FIELD>", 400, child=True, user=False),
    Shape(
        "no-identification", "Bad protocol version identification '<FIELD>' from <ADDRESS> port 4711", 200, user=False
    ),
    Shape("no-identification", "Bad protocol version identification '<FIELD>' from <ADDRESS>", 200, user=False),
    Shape(
        "no-identification",
        "Protocol major versions differ for <ADDRESS> port 4711: SSH-2.0-OpenSSH_7.4 vs. <FIELD>",
        200,
        user=False,
        escapes=True,
    ),
    Shape(
        "no-identification",
        "probed from <ADDRESS> port 4711 with <FIELD>.  Don't panic.",
        256,
        user=False,
        escapes=True,
    ),
    Shape(
        "negotiation",
        "Unable to negotiate with <ADDRESS> port 4711: no matching cipher found. Their offer: <FIELD>",
        16_000,
        child=True,
        user=False,
        escapes=True,
    ),
    Shape(
        "negotiation",
        "Unable to negotiate with invalid user <FIELD> <ADDRESS> port 4711: no matching cipher found. Their offer: x",
        187,
        child=True,
    ),
    Shape(
        "protocol",
        "ssh_dispatch_run_fatal: Connection from invalid user <FIELD> <ADDRESS> port 4711: Connection corrupted",
        187,
        child=True,
    ),
    Shape(
        "protocol",
        "Disconnecting <ADDRESS> port 4711: bad service request <FIELD>",
        100,
        child=True,
        user=False,
        escapes=True,
    ),
    Shape(
        "pam-module",
        "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser="
        " rhost=<ADDRESS>  user=<FIELD>",
        16_000,
        escapes=True,
    ),
    Shape("", 'error: kex_exchange_identification: client sent invalid protocol identifier "<FIELD>"', 256, user=False),
    Shape("", "input_userauth_request: invalid user <FIELD>", 16_000, child=True),
    Shape("", "pam_unix(sshd:auth): check pass; user (<FIELD>) unknown", 16_000),
    Shape("", "Postponed keyboard-interactive for invalid user <FIELD> from <ADDRESS> port 4711 ssh2", 100, child=True),
    Shape("", 'error: Refusing certificate ID "<FIELD>" serial=0 signed by RSA CA SHA256:Zm9v: expired', 16_000),
)

# Each of them whole is what some pattern would take for the rest of its line.
TAILS: Final = (
    b" from 192.0.2.66",
    b" from 192.0.2.66 port 22",
    b" from 192.0.2.66 port 22 ssh2",
    b" from 192.0.2.66 port 22 ssh2 [preauth]",
    b" from 192.0.2.66 port 22 ssh2: RSA SHA256:Zm9v",
    b" 192.0.2.66 port 22",
    b" 192.0.2.66 port 22 [preauth]",
    b" 192.0.2.66 port 22 timed out [preauth]",
    b" 192.0.2.66 port 22: Too many authentication failures [preauth]",
    b"' from 192.0.2.66",
    b"' from 192.0.2.66 port 22",
    b" rhost=192.0.2.66  user=root",
    b"user x 192.0.2.66 port 22 [preauth]",
    b"\nFailed password for root from 192.0.2.66 port 22 ssh2",
)
FIELDS: Final = (
    b"",
    b"root",
    b"invalid user root",
    b"Failed password for root from 192.0.2.66 port 22 ssh2",
    b"Invalid user x from 192.0.2.66 port 22",
    b"Connection closed by invalid user x 192.0.2.66 port 22 [preauth]",
    b"192.0.2.66",
    b"[192.0.2.66]",
    b"x\0 from 192.0.2.66 port 22 ssh2",
    b"\x1b]0;192.0.2.66\x07\x1b[2J",
    b"m\xc3\xbcller",
    b"\xff\xfe\x80",
    b"%s%n%x",
    b"\\",
    b'"',
    b"'",
    b"A" * 16_384,
    b"from " * 3_000,
    *TAILS,
    *(b"root" + tail for tail in TAILS),
)


def fields_to_the_cut(limit: int) -> Iterator[bytes]:
    """Give fields that fill a line, so that it may be cut behind an address in them, or within the true one."""
    for tail in (b"", *TAILS):
        room = min(limit, 500) - len(tail)
        for fill in range(room + 1):
            yield b"x" * fill + tail
            yield b"\xff" * fill + tail
            yield b"x" * (room - fill) + b"\xff" * fill + tail
            yield b"\n" * (room - fill) + b"\xff" * fill + tail


def kept(shape: Shape, field: bytes) -> bytes:
    """Give what sshd keeps of a field: a C string, up to the colon if it is a user name, within its limit."""
    field = field.partition(b"\0")[0]
    if shape.user:
        field = field.partition(b":")[0]
    return field[: shape.limit]


def raw(shape: Shape, address: str, field: bytes) -> bytes:
    """Give the line as it would be without escapes and cut, its end as sshd makes it."""
    text = shape.text.replace("<ADDRESS>", address).encode().replace(b"<FIELD>", field)
    return text + b" [preauth]" if shape.child else text


def logged(shape: Shape, address: str, field: bytes) -> bytes:
    """Give the line as it comes to the journal (log.c do_log, monitor.c monitor_read_log)."""
    text = shape.text.replace("<ADDRESS>", address).encode().replace(b"<FIELD>", kept(shape, field))
    if text.startswith(b"pam_"):
        return text  # of a module: neither escaped nor cut
    text = text[:1023]  # MSGBUFSIZ
    if shape.child:
        text = (_escape(text) + b" [preauth]")[:1023]
    return _escape(text)[:500].rstrip()


def _escape(text: bytes) -> bytes:
    """Escape as strnvis does with VIS_CSTYLE | VIS_NL | VIS_TAB | VIS_OCTAL: newline and tab are escaped as well."""
    return b"".join(_VIS[byte] for byte in text)[:1023]
