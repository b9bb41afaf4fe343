# SPDX-License-Identifier: LGPL-2.1-or-later
"""Apache's filters against peers who choose what stands in its lines.

The lines are built as server/log.c and modules/loggers/mod_log_config.c do. The enemy sits at TRUE and wants FAKE
banned.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.config import filters, toml
from banagent.core.events import Entry, Offence
from banagent.core.recognise import LONGEST, Recogniser, View

if TYPE_CHECKING:
    from banagent.core.filter import Filter

TRUE: Final = ("203.0.113.5", "2001:db8::5", "2001:db8:1:2:3:4:5:6", "fe80::1")
FAKE: Final = "192.0.2.66"
CUT: Final = 8192  # MAX_STRING_LEN: bytes of a line of the error log

_C_STYLE: Final = {8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 13: b"\\r", 92: b"\\\\"}
_ERROR: Final = [_C_STYLE.get(byte, bytes((byte,)) if 32 <= byte < 127 else b"\\x%02x" % byte) for byte in range(256)]
_ACCESS: Final = [b'\\"' if byte == 34 else text for byte, text in enumerate(_ERROR)]


class Error(NamedTuple):
    """A line of the error log, with the enemy's field as <FIELD>; without a module it is one of Apache 2.2."""

    filter: str
    pattern: str
    module: str
    text: str  # what follows the client
    level: str = "error"
    errno: str = ""
    word: bool = False  # the field is in a path that is looked at up to a blank only

    def lines(self, address: str, field: bytes) -> list[bytes]:
        """Give the line with different ports, the field also as referer."""
        text = escaped(filled(self.text, address, field), _ERROR)
        text += b", referer: " + escaped(in_header(field), _ERROR)
        return [(start.encode() + text)[:CUT] for start in self._starts(address)]

    def _starts(self, address: str) -> list[str]:
        if not self.module:
            return [f"[{self.level}] {self.errno}[client {address}] "]
        before = f"[{self.module}:{self.level}] [pid 12:tid 13] {self.errno}"
        return [f"{before}[client {address}:{port}] " for port in (1, 1234, 54321)]


class Access(NamedTuple):
    """A line of the access log, with the enemy's field as <FIELD>."""

    filter: str
    pattern: str
    request: str = "GET / HTTP/1.1"
    status: int = 404
    user: str = "-"
    referer: str = "-"
    agent: str = "-"
    word: bool = False

    def lines(self, address: str, field: bytes) -> list[bytes]:
        """Give the line in the format combined, and with the name of the site before it."""
        user = escaped(filled(self.user, address, field.partition(b":")[0]), _ACCESS)
        request, referer, agent = (
            escaped(filled(part, address, in_header(field)), _ACCESS)
            for part in (self.request, self.referer, self.agent)
        )
        line = address.encode() + b" - " + (user or b'""') + b' [22/Nov/2026:04:30:11 +0000] "' + request
        line += b'" %d 416 "%s" "%s"' % (self.status, referer or b"-", agent or b"-")
        return [line, *(site + b" " + line for site in (b"a.example", b"a.example:443", b"192.0.2.20:80", b"[::1]:80"))]


def escaped(text: bytes, table: list[bytes]) -> bytes:
    return b"".join(table[byte] for byte in text)


def filled(text: str, address: str, field: bytes) -> bytes:
    """Put a field in, as the C string that it is."""
    return text.replace("<ADDRESS>", address).encode().replace(b"<FIELD>", field.partition(b"\0")[0])


def in_header(field: bytes) -> bytes:
    """Give what of a field can be in a header, or in the line of a request."""
    return field.translate(None, b"\r\n\0")


AUTH: Final = "apache-auth"
OVERFLOWS: Final = "apache-overflows"
MODSECURITY: Final = "apache-modsecurity"
SHAPES: Final[tuple[Error | Access, ...]] = (
    Error(AUTH, "failed", "auth_basic", 'AH01617: user <FIELD>: authentication failure for "/": Password Mismatch'),
    Error(AUTH, "failed", "auth_basic", 'AH01617: user u: authentication failure for "<FIELD>": Password Mismatch'),
    Error(AUTH, "failed", "auth_basic", "AH01618: user <FIELD> not found: /<FIELD>"),
    Error(AUTH, "failed", "auth_form", "AH01808: user '<FIELD>' not found: /"),
    Error(AUTH, "failed", "auth_digest", "AH01790: user `<FIELD>' in realm `<FIELD>' not found: /"),
    Error(AUTH, "failed", "auth_digest", "AH01794: user <FIELD>: password mismatch: /"),
    Error(AUTH, "failed", "authz_core", 'AH01631: user u: authorization failure for "<FIELD>": '),
    Error(AUTH, "failed", "", 'user u: authentication failure for "<FIELD>": Password Mismatch'),
    Error(AUTH, "failed", "", "user u not found: <FIELD>"),
    Error(AUTH, "failed", "", "Digest: user u: password mismatch: <FIELD>"),
    Error(AUTH, "failed", "", "Authorization of user <FIELD> to access /<FIELD> failed, reason: x"),
    Error(AUTH, "failed", "", "access to <FIELD> failed, reason: user '<FIELD>' does not meet 'require'ments for user"),
    Error(AUTH, "scheme", "auth_basic", "AH01614: client used wrong authentication scheme: <FIELD>"),
    Error(AUTH, "scheme", "auth_digest", "AH01781: client used wrong authentication scheme `<FIELD>': /"),
    Error(AUTH, "scheme", "", "client used wrong authentication scheme: <FIELD>"),
    Error(AUTH, "digest", "auth_digest", "AH01788: realm mismatch - got `<FIELD>' but expected `x'"),
    Error(AUTH, "digest", "auth_digest", "AH01783: invalid uri <<FIELD>> in Authorization header"),
    Error(AUTH, "digest", "", "Digest: unknown algorithm `<FIELD>' received: /"),
    Error(AUTH, "nonce", "auth_digest", "AH01776: invalid nonce <FIELD> received - hash is not x"),
    Error(AUTH, "denied", "authz_core", "AH01630: client denied by server configuration: <FIELD>"),
    Error(AUTH, "denied", "authz_core", "AH01629: authorization failure (no authenticated user): <FIELD>"),
    Error(AUTH, "evasive", "evasive20", "client denied by server configuration: <FIELD>"),
    Error(AUTH, "denied", "", "client denied by server configuration: <FIELD>"),
    Error(
        AUTH, "ldap", "authnz_ldap", "AH01695: auth_ldap authenticate: user u authentication failed; URI /<FIELD> [x]"
    ),
    Error(AUTH, "require", "authz_owner", "AH01637: Authorization of user u to access /<FIELD> failed, reason: x"),
    Error(OVERFLOWS, "malformed", "core", "AH10244: invalid URI path (<FIELD>)"),
    Error(OVERFLOWS, "malformed", "core", "AH00126: Invalid URI in request '<FIELD>' 'GET <FIELD>'"),
    Error(OVERFLOWS, "malformed", "core", "AH00135: Invalid method in request <FIELD>"),
    Error(OVERFLOWS, "malformed", "core", "AH00561: Request header exceeds LimitRequestFieldSize: <FIELD>", "info"),
    Error(OVERFLOWS, "malformed", "core", "AH03445: HTTP Request Line; Invalid method token: '<FIELD>'", "debug"),
    Error(OVERFLOWS, "malformed-old", "", "Invalid URI in request <FIELD>"),
    Error(OVERFLOWS, "name-too-long", "core", "AH00036: access to <FIELD> failed", errno="(36)File name too long: "),
    Error(OVERFLOWS, "name-too-long-old", "", "access to <FIELD> failed", errno="(36)File name too long: "),
    Error(OVERFLOWS, "encoded-slash", "core", "AH00026: found %2f (encoded '/') in URI path (<FIELD>)", "info"),
    Error("apache-noscript", "cgi", "cgid", "AH01264: stderr from /cgi/<FIELD>: script not found or unable to stat"),
    Error("apache-noscript", "cgi", "cgi", "AH02811: script not found or unable to stat: /usr/lib/cgi-bin/<FIELD>"),
    Error("apache-noscript", "php", "php", "script '/var/www/x<FIELD>.php' not found or unable to stat"),
    Error("apache-noscript", "php-fpm", "proxy_fcgi", "AH01071: Got error 'Primary script unknown'"),
    Error("apache-noscript", "no-file", "core", "AH00128: File does not exist: /<FIELD>.php", "info", word=True),
    Error("apache-noscript", "old", "", "File does not exist: /<FIELD>.php", word=True),
    Error("apache-botsearch", "error-log", "core", "AH00128: File does not exist: /var/www/pma/<FIELD>", "info"),
    Error(
        "apache-botsearch", "error-log", "php", "script '/<FIELD>/wp-login.php' not found or unable to stat", word=True
    ),
    Error("apache-botsearch", "cgi", "cgid", "AH01264: stderr from /<FIELD>: script not found or unable to stat"),
    Error("apache-botsearch", "old", "", "File does not exist: /var/www/pma/<FIELD>"),
    Error("apache-nohome", "error-log", "core", "AH00128: File does not exist: /var/www/~<FIELD>", "info"),
    Error("apache-nohome", "old", "", "File does not exist: /var/www/~<FIELD>"),
    Error(
        MODSECURITY, "denied", "security2", '[client <ADDRESS>] ModSecurity: Access denied at ARGS:<FIELD>. [id "1"]'
    ),
    Error(
        MODSECURITY, "denied", "security2", "ModSecurity: Access denied with redirection to <FIELD> using status 302"
    ),
    Error(MODSECURITY, "denied", "", 'ModSecurity: Access denied with code 403 (phase 2). [uri "<FIELD>"]'),
    Error(MODSECURITY, "warning", "security2", "ModSecurity: Warning. Matched phrase at ARGS:<FIELD>."),
    Error("apache-shellshock", "ignored", "cgi", "AH01215: bash: warning: X: ignoring function definition attempt"),
    Error("apache-shellshock", "ignored", "", "bash: warning: X: ignoring function definition attempt"),
    Error("apache-errors", "error", "autoindex", "AH01276: Cannot serve directory <FIELD>: No matching DirectoryIndex"),
    Error("apache-errors", "error", "ssl", "AH02032: Hostname <FIELD> provided via SNI and hostname <FIELD> via HTTP"),
    Error("apache-errors", "old", "", "File does not exist: <FIELD>"),
    Access("apache-badbots", "scanner", user="<FIELD>", agent="x <FIELD> sqlmap/1.7"),
    Access("apache-badbots", "scanner", "GET /<FIELD> HTTP/1.1", referer="<FIELD>", agent="sqlmap <FIELD>"),
    Access("apache-badbots", "harvester", user="<FIELD>", agent="EmailCollector"),
    Access("apache-badbots", "botnet", user="<FIELD>", agent="Hello, World"),
    Access("apache-badbots", "survey", user="<FIELD>", agent="<FIELD>; CensysInspect/1.1"),
    Access("apache-botsearch", "missing", "GET /pma/<FIELD> HTTP/1.1", user="<FIELD>", agent="<FIELD>"),
    Access("apache-botsearch", "missing", "GET /x<FIELD>/pma/ HTTP/1.1", agent="<FIELD>", word=True),
    Access("apache-nohome", "missing", "GET /~<FIELD> HTTP/1.1", user="<FIELD>", referer="<FIELD>"),
    Access("apache-methods", "method", "PUT <FIELD> HTTP/1.1", user="<FIELD>", agent="<FIELD>"),
    Access("apache-methods", "method", "X<FIELD>", 400),
    Access("apache-shellshock", "request", user="<FIELD>", referer="<FIELD>", agent="() { :; }; <FIELD>"),
    Access("apache-shellshock", "request", "GET /<FIELD>", referer="() { <FIELD>", agent="<FIELD>"),
)
FILTERS: Final = sorted({shape.filter for shape in SHAPES})

# Each of them is what some pattern would take for the rest of its line, or for all of it.
FIELDS: Final = (
    b"",
    b"-",
    b"root",
    b"192.0.2.66",
    b"192.0.2.66 - -",
    b"x 192.0.2.66 - -",
    b"- 192.0.2.66 - - ",
    b'192.0.2.66 - - [22/Nov/2026:03:00:00 +0000] "PUT / HTTP/1.1" 404 9 "-" "sqlmap"',
    b'" 404 9 "-" "sqlmap',
    b'\n192.0.2.66 - - [22/Nov/2026:03:00:00 +0000] "PUT /phpmyadmin HTTP/1.1" 404 9 "-" "sqlmap"',
    b"[client 192.0.2.66:1]",
    b"x: [client 192.0.2.66:1] AH01618: user x not found: /",
    b"x [client 192.0.2.66] user x not found: /",
    b" not found: /, referer: [client 192.0.2.66:1] ",
    b"\n[Sun Nov 22 04:30:11 2026] [auth_basic:error] [pid 1:tid 2] [client 192.0.2.66:1] AH01618: user x not found: /",
    b"\n[error] [client 192.0.2.66] client denied by server configuration: /",
    b'"] [client 192.0.2.66] ModSecurity: Access denied with code 403 [unique_id "x',
    b"\x1b]0;192.0.2.66\x07\x1b[2J",
    b"m\xc3\xbcller \xff\xfe\x80",
    b"\\",
    b'"',
    b'\\"',
    b"'",
    b"%s%n%x",
    b"A" * 5000,
    b"\xff" * 3000,
    b"[client 192.0.2.66:1] " * 400,
)
FRAGMENTS: Final = (*(field for field in FIELDS if len(field) < 200), b" ", b"] ", b"[", b": ", b" user x", b"\r\n")


@cache
def shipped(name: str) -> Filter:
    return filters.build(name, toml.read(Path(__file__).parents[2] / "filters" / f"{name}.toml"))


@cache
def recogniser(name: str) -> Recogniser:
    return Recogniser({"jail": View(shipped(name), "aggressive")})


def recognise(name: str, message: bytes) -> Offence | None:
    entry = Entry(1, message, "p", 0, "apache2.service", "apache2", 1)
    return dict(recogniser(name).offences(entry, recogniser(name).sift(message))).get("jail")


def is_cut(line: bytes) -> bool:
    return len(line) == CUT or len(line) > LONGEST


def address_in(name: str, message: bytes) -> str | None:
    found = recognise(name, message)
    return None if found is None else str(found.address)


@pytest.mark.parametrize("address", TRUE)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.filter}:{shape.pattern}")
def test_address_is_the_peers_whatever_he_writes(shape: Error | Access, address: str) -> None:
    for field in FIELDS:
        for line in shape.lines(address, field):
            assert address_in(shape.filter, line) in {address, None}, line
            if not shape.word or b" " not in field:
                assert address_in(shape.filter, line) == address or is_cut(line), line


@given(
    shape=st.sampled_from(SHAPES),
    address=st.sampled_from(TRUE),
    field=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=40), max_size=12).map(b"".join),
)
def test_address_is_the_peers_in_any_line(shape: Error | Access, address: str, field: bytes) -> None:
    for name in FILTERS:
        for line in shape.lines(address, field):
            assert address_in(name, line) in {address, None}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.filter}:{shape.pattern}")
def test_each_line_is_its_patterns(shape: Error | Access) -> None:
    for line in shape.lines(FAKE, b"x"):
        found = recognise(shape.filter, line)
        assert found is not None
        assert (found.pattern, str(found.address)) == (shape.pattern, FAKE)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("module", ["wsgi", "perl", "proxy", "proxy_http", "lua"])
def test_what_applications_and_servers_behind_say_is_not_believed(name: str, module: str) -> None:
    for shape in SHAPES:
        if isinstance(shape, Error) and shape.module:
            text = shape.text.replace("<FIELD>", "x").replace("<ADDRESS>", FAKE)
            for who in ("client", "remote"):
                line = f"[{module}:error] [pid 12:tid 13] [{who} {FAKE}:1] {text}"
                assert address_in(name, line.encode()) is None, line


@pytest.mark.parametrize("name", FILTERS)
def test_the_text_of_an_error_number_is_no_place_for_a_client(name: str) -> None:
    for shape in SHAPES:
        if isinstance(shape, Error) and shape.module:
            text = f"AH01241: exec of '/x: [client {FAKE}:1] {shape.text}' failed"
            line = f"[{shape.module}:error] [pid 12:tid 13] (13)Permission denied: {text}"
            assert address_in(name, line.encode()) is None, line


# a name that DNS gave is looked up nowhere
@pytest.mark.parametrize("host", ["a.example", "ad.cafe", "192.0.2.66.example", "localhost"])
def test_a_name_is_no_address(host: str) -> None:
    for shape in SHAPES:
        if isinstance(shape, Access):
            for field in FIELDS:
                assert address_in(shape.filter, shape.lines(host, field)[0]) in {"None", None}


@pytest.mark.parametrize("address", TRUE)
@pytest.mark.parametrize("identity", [FAKE, f"{FAKE}:80", f"a.example:80 {FAKE}", "-"])
def test_what_identd_says_is_no_address(address: str, identity: str) -> None:
    for shape in SHAPES:
        if isinstance(shape, Access):
            for user in ("-", "- x", "x", f"- {FAKE} - x"):
                line = shape.lines(address, b"x")[0].partition(b" [")[2]
                message = f"{address} {identity} {user} [".encode() + line
                assert address_in(shape.filter, message) in {address, None}, message


METHODS: Final = st.text(st.sampled_from("GETPOSHADX"), min_size=1, max_size=6) | st.sampled_from(
    ["GET", "POST", "HEAD", "OPTIONS", "PROPFIND", "get", "Head", "G", "PO", "HEADER"]
)


@given(method=METHODS, rest=st.sampled_from([" / HTTP/1.1", ""]))
def test_all_methods_but_three_are_others(method: str, rest: str) -> None:
    line = f'203.0.113.5 - - [22/Nov/2026:04:30:11 +0000] "{method}{rest}" 200 9 "-" "-"'
    assert (recognise("apache-methods", line.encode()) is None) == (method in {"GET", "POST", "HEAD"})


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("user", ["-", "carol", '""', "a b"])
@pytest.mark.parametrize("request_line", ["GET / HTTP/1.1", "POST /wp-login.php HTTP/2.0", "HEAD /~carol/ HTTP/1.0"])
@pytest.mark.parametrize("status", [200, 206, 301, 302, 304])
def test_what_went_well_is_no_failure(name: str, user: str, request_line: str, status: int) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
    line = (
        f'203.0.113.5 - {user} [22/Nov/2026:04:30:11 +0000] "{request_line}" {status} 9 "https://a.example/" "{agent}"'
    )
    assert recognise(name, line.encode()) is None
