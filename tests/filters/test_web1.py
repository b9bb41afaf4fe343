# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filters of nginx, HAProxy, access logs and WordPress against peers who choose what stands in their lines.

Each line is built as its program builds it, field by field. The enemy sits at TRUE and wants FAKE banned.
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
from banagent.core.recognise import Recogniser, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from banagent.core.filter import Filter

TRUE: Final = ("203.0.113.5", "2001:db8::5")
FAKE: Final = "192.0.2.66"
NAMES: Final = (
    *("nginx-http-auth", "nginx-mail-auth", "nginx-limit-req", "nginx-botsearch", "nginx-bad-request"),
    *("nginx-forbidden", "haproxy-http-auth", "http-404", "http-408", "http-scanner", "wordpress"),
)
CUT: Final = 2048  # NGX_MAX_ERROR_STR: bytes of a line of the error log, its date among them

_NGINX: Final = [
    b"\\x%02X" % byte if byte < 32 or byte in b'"\\' or byte > 126 else bytes((byte,)) for byte in range(256)
]
_C_STYLE: Final = {8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}
_APACHE: Final = [_C_STYLE.get(byte, bytes((byte,)) if 32 <= byte < 127 else b"\\x%02x" % byte) for byte in range(256)]
_HAPROXY: Final = [
    b"#%02X" % byte if byte < 32 or byte > 126 or byte in b'"#{|}' else bytes((byte,)) for byte in range(256)
]


def line_of(field: bytes) -> bytes:
    """Give what of a field can be in a header or a request line: no line's end, no NUL."""
    return field.translate(None, b"\r\n\0")


def word_of(field: bytes) -> bytes:
    """Give what of a field can be in a path, which ends at a blank."""
    return line_of(field).replace(b" ", b"%20")


def user_of(field: bytes) -> bytes:
    """Give the user name that is told from a password: up to the first colon (ngx_http_auth_basic_user)."""
    return field.partition(b":")[0]


def any_of(field: bytes) -> bytes:
    """Give all of a field, such as what an escape in a path can be."""
    return field


def nginx(field: bytes) -> bytes:
    """Escape as ngx_http_log_escape does, in nginx's access log."""
    return b"".join(_NGINX[byte] for byte in line_of(field))


def nginx_word(field: bytes) -> bytes:
    """Give a part of a path in nginx's access log."""
    return nginx(word_of(field))


def nginx_user(field: bytes) -> bytes:
    """Give a user name in nginx's access log; an empty one is a dash."""
    return b"".join(_NGINX[byte] for byte in user_of(field)) or b"-"


def apache(field: bytes) -> bytes:
    """Escape as ap_escape_logitem does, in Apache's access log."""
    return b"".join(_APACHE[byte] for byte in line_of(field))


def apache_user(field: bytes) -> bytes:
    """Give a user name in Apache's access log; an empty one is two quotes."""
    return b"".join(_APACHE[byte] for byte in user_of(field)) or b'""'


def haproxy(field: bytes) -> bytes:
    """Escape as lf_encode_chunk does, in HAProxy's log."""
    return b"".join(_HAPROXY[byte] for byte in line_of(field))


def haproxy_word(field: bytes) -> bytes:
    """Give a cookie in HAProxy's log; an empty one is a dash."""
    return haproxy(word_of(field)) or b"-"


class Shape(NamedTuple):
    """A genuine line with the enemy's field as <FIELD>, wherever he can place it, and his address as <ADDRESS>."""

    filter: str
    pattern: str  # the failregex that must recognise it; empty: none may
    escape: Callable[[bytes], bytes]
    text: str
    always: bool = True  # recognised whatever is in the field

    @property
    def is_cut(self) -> bool:
        """Whether it is of nginx's error log."""
        return "client: <ADDRESS>" in self.text

    @property
    def is_written_to_a_file(self) -> bool:
        """Whether a newline in it would begin another line; in syslog it stays in the message."""
        return self.is_cut or _DATE in self.text


_DATE: Final = "[22/Nov/2026:04:30:45 +0000]"
_END: Final = ', client: <ADDRESS>, server: _, request: "GET / HTTP/1.1", host: "h"'
_HAPROXY_DATE: Final = "[22/Nov/2026:04:31:33.262]"
SHAPES: Final = (
    # An empty user name or a dash is none.
    Shape(
        "nginx-http-auth", "unauthorized", nginx_user, f'<ADDRESS> - u<FIELD> {_DATE} "GET / HTTP/1.1" 401 1 "-" "-"'
    ),
    Shape(
        "nginx-http-auth", "unauthorized", nginx_user, f'<ADDRESS> - - <FIELD> {_DATE} "GET / HTTP/1.1" 401 1 "-" "-"'
    ),
    Shape("nginx-http-auth", "unauthorized", nginx, f'<ADDRESS> - bob {_DATE} "<FIELD>" 401 1 "<FIELD>" "<FIELD>"'),
    Shape(
        "nginx-http-auth", "unauthorized", nginx_word, f'<FIELD>.example <ADDRESS> - bob {_DATE} "GET / HTTP/1.1" 401 1'
    ),
    Shape("nginx-http-auth", "unauthorized", apache, f'<ADDRESS> - \\"<FIELD> {_DATE} "GET / HTTP/1.1" 401 1 "-" "-"'),
    Shape("nginx-http-auth", "", nginx, f'<ADDRESS> - - {_DATE} "<FIELD>" 401 1 "<FIELD>" "<FIELD>"'),
    Shape("nginx-http-auth", "password", user_of, f'user "<FIELD>": password mismatch{_END}'),
    Shape("nginx-http-auth", "user", user_of, f'user "<FIELD>" was not found in "/etc/nginx/htpasswd"{_END}'),
    # Which can't be: a name ends at the first colon.
    Shape("nginx-http-auth", "password", any_of, f'user "<FIELD>": password mismatch{_END}', always=False),
    Shape("nginx-http-auth", "user", any_of, f'user "<FIELD>" was not found in "/htpasswd"{_END}', always=False),
    Shape(
        "nginx-http-auth",
        "password",
        line_of,
        f'user "bob": password mismatch{_END}, referrer: "<FIELD>"',
        always=False,
    ),
    Shape(
        *("nginx-http-auth", "password", line_of),
        'user "bob": password mismatch, client: <ADDRESS>, server: _, request: "GET /<FIELD>", host: "<FIELD>"',
        always=False,
    ),
    Shape("nginx-http-auth", "", any_of, f'open() "/srv/<FIELD>" failed (2: No such file or directory){_END}'),
    Shape(
        *("nginx-mail-auth", "login", any_of),
        'client login failed: "No" while in http auth state, client: <ADDRESS>, server: 0.0.0.0:25, login: "<FIELD>"',
        always=False,
    ),
    # An answer that repeats the login.
    Shape(
        *("nginx-mail-auth", "login", line_of),
        'client login failed: "No <FIELD>" while in http auth state, client: <ADDRESS>, server: _:25, login: "<FIELD>"',
        always=False,
    ),
    Shape(
        *("nginx-limit-req", "requests", line_of),
        f'limiting requests, excess: 1.000 by zone "one"{_END}, referrer: "<FIELD>"',
    ),
    Shape("nginx-limit-req", "connections", line_of, f'limiting connections by zone "one"{_END}, referrer: "<FIELD>"'),
    Shape("nginx-limit-req", "", any_of, f'open() "/srv/<FIELD>" failed (2: No such file or directory){_END}'),
    Shape("nginx-forbidden", "rule", line_of, f'access forbidden by rule{_END}, referrer: "<FIELD>"'),
    Shape(
        "nginx-forbidden", "directory", any_of, f'directory index of "/srv/<FIELD>/" is forbidden{_END}', always=False
    ),
    Shape(
        "nginx-forbidden",
        "permission",
        any_of,
        f'"/srv/<FIELD>" is forbidden (13: Permission denied){_END}',
        always=False,
    ),
    Shape(
        "nginx-forbidden",
        "permission",
        any_of,
        f'open() "/srv/<FIELD>" failed (13: Permission denied){_END}',
        always=False,
    ),
    Shape("nginx-forbidden", "", any_of, f'open() "/srv/<FIELD>" failed (2: No such file or directory){_END}'),
    Shape("nginx-bad-request", "bad-request", nginx, f'<ADDRESS> - - {_DATE} "<FIELD>" 400 1 "<FIELD>" "<FIELD>"'),
    Shape("nginx-bad-request", "bad-request", nginx_user, f'<ADDRESS> - <FIELD> {_DATE} "" 400 1 "-" "-"'),
    Shape("nginx-bad-request", "", nginx, f'<ADDRESS> - - {_DATE} "<FIELD>" 200 1 "<FIELD>" "<FIELD>"'),
    Shape("nginx-botsearch", "exploit", nginx_word, f'<ADDRESS> - - {_DATE} "GET /cgi-bin/?<FIELD> HTTP/1.1" 404 1'),
    Shape("nginx-botsearch", "secret", nginx_user, f'<ADDRESS> - <FIELD> {_DATE} "GET /.env HTTP/1.1" 404 1 "-" "-"'),
    Shape("nginx-botsearch", "", nginx, f'<ADDRESS> - - {_DATE} "GET /?<FIELD>" 200 1 "<FIELD>" "<FIELD>"'),
    Shape("http-404", "not-found", nginx, f'<ADDRESS> - - {_DATE} "x<FIELD>" 404 1 "<FIELD>" "<FIELD>"'),
    Shape("http-404", "not-found", nginx_user, f'<ADDRESS> - <FIELD> {_DATE} "GET /x HTTP/1.1" 404 1 "-" "-"'),
    Shape("http-404", "not-found", apache, f'www.example.com:443 <ADDRESS> - - {_DATE} "x<FIELD>" 404 1 "<FIELD>" "-"'),
    Shape(
        "http-404", "not-found", apache_user, f'[::1]:80 <ADDRESS> - <FIELD> {_DATE} "GET /x HTTP/1.1" 404 1 "-" "-"'
    ),
    Shape(
        "http-404", "not-found", nginx_word, f'<FIELD>.example <ADDRESS> - - {_DATE} "GET /x HTTP/1.1" 404 1 "-" "-"'
    ),
    Shape("http-404", "", nginx, f'<ADDRESS> - - {_DATE} "<FIELD>" 200 1 "<FIELD>" "<FIELD>"'),
    Shape("http-404", "", nginx_user, f'<ADDRESS> - <FIELD> {_DATE} "GET / HTTP/1.1" 200 1 "-" "-"'),
    Shape("http-408", "timeout", nginx, f'<ADDRESS> - - {_DATE} "<FIELD>" 408 1 "<FIELD>" "<FIELD>"'),
    Shape("http-408", "timeout", apache_user, f'www.example.com:443 <ADDRESS> - <FIELD> {_DATE} "-" 408 - "-" "-"'),
    Shape("http-scanner", "agent", nginx, f'<ADDRESS> - - {_DATE} "<FIELD>" 200 1 "<FIELD>" "<FIELD> Nikto/2.1"'),
    Shape(
        "http-scanner", "agent", apache_user, f'www.example.com:443 <ADDRESS> - <FIELD> {_DATE} "-" 408 - "-" "Nikto"'
    ),
    Shape("http-scanner", "path", nginx_user, f'<ADDRESS> - <FIELD> {_DATE} "GET /openvas HTTP/1.1" 404 1 "-" "-"'),
    Shape("http-scanner", "", nginx_user, f'<ADDRESS> - <FIELD> {_DATE} "GET / HTTP/1.1" 404 1 "-" "-"'),
    Shape(
        *("haproxy-http-auth", "refused", haproxy_word),
        f'<ADDRESS>:4711 {_HAPROXY_DATE} fe be/<NOSRV> 0/-1/-1/-1/0 401 246 <FIELD> - LR-- 1/1/0/0/0 0/0 "GET /"',
    ),
    Shape(
        *("haproxy-http-auth", "refused", haproxy),
        f'<ADDRESS>:4711 {_HAPROXY_DATE} fe be/<NOSRV> 0/-1/-1/-1/0 401 246 - - LR-- 1/1/0/0/0 0/0 {{<FIELD>}} "x"',
    ),
    Shape(
        *("haproxy-http-auth", "", haproxy),
        f'<ADDRESS>:4711 {_HAPROXY_DATE} fe be/s1 0/0/0/0/0 200 246 - - ---- 1/1/0/0/0 0/0 {{<FIELD>}} "GET /<FIELD>"',
    ),
    Shape(
        *("haproxy-http-auth", "refused-clf", haproxy),
        f'<ADDRESS> - - {_DATE} "<FIELD>" 401 246 "" "" 35674 264 "px" "px" "<NOSRV>" 0 -1 -1 -1 0 LR-- "<FIELD>"',
    ),
    # The plugin neither escapes nor cuts.
    Shape("wordpress", "login", any_of, "Authentication failure for <FIELD> from <ADDRESS>", always=False),
    Shape(
        "wordpress",
        "login",
        any_of,
        "XML-RPC authentication attempt for unknown user <FIELD> from <ADDRESS>",
        always=False,
    ),
    Shape("wordpress", "", any_of, "Accepted password for <FIELD> from <ADDRESS>"),
    Shape("wordpress", "form", nginx_user, f'<ADDRESS> - <FIELD> {_DATE} "POST /wp-login.php HTTP/1.1" 200 1 "-" "-"'),
    Shape(
        "wordpress", "form", nginx_word, f'<ADDRESS> - - {_DATE} "POST /wp-login.php?<FIELD> HTTP/1.1" 200 1 "<FIELD>"'
    ),
    Shape("wordpress", "", nginx, f'<ADDRESS> - - {_DATE} "PUT /<FIELD>" 200 1 "<FIELD>" "<FIELD>"'),
)


def logged(shape: Shape, address: str, field: bytes) -> bytes:
    """Give the line as its program writes it, without the date; nginx cuts its error log."""
    text = shape.text.replace("<ADDRESS>", address).encode().replace(b"<FIELD>", shape.escape(field))
    if not shape.is_cut:
        return text
    return (b"[error] 29387#29387: *1 " + text)[: CUT - len("2026/11/22 04:30:45 ") - 1]


# Each of them whole is what some pattern would take for the rest of its line, or for a line.
TAILS: Final = (
    b'": password mismatch, client: 192.0.2.66, server: _, request: "GET / HTTP/1.1", host: "h"',
    b'": password mismatch, client: 192.0.2.66, server: _',
    b'", client: 192.0.2.66, server: _, request: "GET / HTTP/1.1", host: "h"',
    b'" was not found in "/f", client: 192.0.2.66, server: _, request: "GET / HTTP/1.1", host: "h"',
    b'" was not found in "/f", client: 192.0.2.66, server: _',
    b'" while in http auth state, client: 192.0.2.66, server: 0.0.0.0:25, login: "x"',
    b'" is forbidden, client: 192.0.2.66, server: _, request: "GET / HTTP/1.1", host: "h"',
    b'" is forbidden, client: 192.0.2.66, server: _',
    b'" is forbidden (13: Permission denied), client: 192.0.2.66, server: _, request: "',
    b'" failed (13: Permission denied), client: 192.0.2.66, server: ',
    b', client: 192.0.2.66, server: _, request: "GET / HTTP/1.1", host: "h"',
    b'limiting requests, excess: 1.000 by zone "one", client: 192.0.2.66, server: _',
    b"access forbidden by rule, client: 192.0.2.66, server: _",
    b' 192.0.2.66 - bob [22/Nov/2026:04:30:45 +0000] "GET / HTTP/1.1" 401 1 "-" "-"',
    b' [22/Nov/2026:04:30:45 +0000] "POST /wp-login.php HTTP/1.1" 200 1 "-" "Nikto"',
    b'" 401 1 "-" "-"',
    b'" 404 1 "-" "openvas"',
    b" 192.0.2.66 - -",
    b"192.0.2.66 - x [y]",
    b"- [22/Nov/2026:04:30:45 +0000] ",
    b'192.0.2.66:1 [22/Nov/2026:04:31:33.262] fe fe/<NOSRV> 0/-1/-1/-1/0 401 246 - - LR-- "GET / HTTP/1.1"',
    b' be/<NOSRV> 0/-1/-1/-1/0 401 1 "" "" 1 1 "px" "px" "<NOSRV>"',
    b" from 192.0.2.66",
    b" for root from 192.0.2.66",
    b"Authentication failure for root from 192.0.2.66",
    b"POST /wp-login.php HTTP/1.1",
    b"/phpmyadmin/ HTTP/1.1",
)
FIELDS: Final = (
    b"",
    b"-",
    b"bob",
    b"192.0.2.66",
    b"[192.0.2.66]:1",
    b'"',
    b'""',
    b"\\",
    b'\\"',
    b"[",
    b"]",
    b"] ",
    b"{|}#",
    b"\xff\xfe\x80",
    b"m\xc3\xbcller",
    b"\x1b]0;192.0.2.66\x07",
    b"x\0" + TAILS[0],
    b"A" * 3_000,
    b"x from 192.0.2.66 " + b"x" * 300,  # the rest is too long for a name
    *(b" %d 1 [x] " % status for status in (400, 401, 404, 408)),  # a quote behind it looks like one before a request
    *TAILS,
    *(b"bob" + tail for tail in TAILS),
    *(b'[error] 1#1: *1 user "x' + tail for tail in TAILS[:5]),
    *(b"bob\n" + tail for tail in TAILS),
)


@cache
def shipped(name: str) -> Filter:
    return replace(filters.build(name, toml.read(Path(__file__).parents[2] / "filters" / f"{name}.toml")), uids=(0,))


@cache
def recogniser(name: str) -> Recogniser:
    return Recogniser({"all": View(shipped(name), "aggressive")})


def offence_in(name: str, message: bytes) -> Offence | None:
    unit = shipped(name).units[0].replace("*", "8.2")
    entry = Entry(1, message, "s=1", 0, unit, None, 1)
    return dict(recogniser(name).offences(entry, recogniser(name).sift(message))).get("all")


def address_in(name: str, message: bytes) -> str | None:
    offence = offence_in(name, message)
    return None if offence is None or offence.address is None else str(offence.address)


@pytest.mark.parametrize("address", TRUE)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.text)
def test_address_is_the_peers_whatever_he_sends(shape: Shape, address: str) -> None:
    for field in FIELDS:
        message = logged(shape, address, field)
        found = address_in(shape.filter, message)
        assert found in ({address, None} if shape.pattern else {None}), message
        if shape.pattern and shape.always and not (shape.is_cut and len(field) > 1_000):
            offence = offence_in(shape.filter, message)
            assert found == address, message
            assert offence is not None
            assert offence.pattern == shape.pattern, message


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.pattern], ids=lambda shape: shape.text)
def test_the_fake_address_would_be_found_if_it_were_the_peers(shape: Shape) -> None:
    assert address_in(shape.filter, logged(shape, FAKE, b"x")) == FAKE


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.pattern], ids=lambda shape: shape.text)
def test_address_is_the_peers_wherever_the_line_is_cut(shape: Shape) -> None:
    address = "203.0.113.251"  # which cut short is somebody else's
    for fill in range(1_800, CUT):
        assert address_in(shape.filter, logged(shape, address, b"x" * fill)) in {address, None}


FRAGMENTS: Final = (
    *TAILS,
    *(
        b" ",
        b'"',
        b'" ',
        b'": ',
        b", client: ",
        b"192.0.2.66",
        b", server: ",
        b"\\",
        b"\n",
        b" from ",
        b"[",
        b"] ",
        b" - ",
    ),
)


@given(
    shape=st.sampled_from(SHAPES),
    address=st.sampled_from(TRUE),
    field=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=20), max_size=8).map(b"".join),
)
def test_address_is_the_peers_in_any_line(shape: Shape, address: str, field: bytes) -> None:
    found = address_in(shape.filter, logged(shape, address, field))
    assert found in ({address, None} if shape.pattern else {None})


def with_newlines(name: str) -> Iterator[bytes]:
    """Give what the logs of a filter hold, line by line, if an enemy asks for files whose names have lines in them.

    nginx 1.22.1 was seen to write them so: %0a in a path is a newline in its error log.
    """
    genuine = [shape for shape in SHAPES if shape.filter == name and shape.is_written_to_a_file]
    if "nginx-error" in shipped(name).formats:
        missing = f'open() "/srv/<FIELD>" failed (2: No such file or directory){_END}'
        genuine.append(Shape(name, "", any_of, missing))
    for shape in genuine:
        for wanted in SHAPES:
            yield from logged(shape, TRUE[0], b"\n%s\n" % logged(wanted, FAKE, b"x")).split(b"\n")


@pytest.mark.parametrize("name", NAMES)
def test_a_filter_that_a_newline_can_forge_says_so(name: str) -> None:
    found = {address_in(name, line) for line in with_newlines(name)}
    assert shipped(name).forgeable == (FAKE in found)
    assert TRUE[0] in found


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_one_patterns(name: str) -> None:
    for failregex in shipped(name).failregexes:
        for sample in failregex.samples:
            offence = offence_in(name, sample.line.encode())
            assert offence is not None
            assert offence.pattern == failregex.name, sample.line
