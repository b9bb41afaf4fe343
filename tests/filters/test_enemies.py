# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an enemy calls himself: no name hides a failure, none makes one of a login, none gives another address."""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

from filters.test_samples import in_each_mode, recognise, shipped

NAMES: Final = [
    *(
        "",
        " ",
        "-",
        "a b",
        " x",
        "x ",
        "x,y",
        "x;y",
        "x=y",
        "x@y.z",
        "x/y",
        "%s",
        "x\ty",
        "x\\n",
        "x\\",
        "é",
        "\xff\xfe",
    ),
    *('"x"', "'x'", "(x", "x)", "[x]", "x]", "<x>", "x>", "{x}", "x:y", "x: y", "x]: y", "x)) ((", "\x00x"),
    *("root from 192.0.2.66 port 22", "root from 192.0.2.66 port 22 ssh2", "x [192.0.2.66]", "x (192.0.2.66)"),
    *(
        "x rhost=192.0.2.66  user=y",
        "x>, method=PLAIN, rip=192.0.2.66, lip=192.0.2.66, session=<y",
        "x, ip=[192.0.2.66]",
    ),
    *('x] FAIL LOGIN: Client "192.0.2.66"', "x host=y [192.0.2.66]", "x'@'192.0.2.66", "x), relay=y [192.0.2.66]"),
    *("A" * 100, "A" * 255, "A" * 500, "é" * 250),
]


class Failed(NamedTuple):
    """A line about a failed login, with {} for the name, and which names the service can't write into it."""

    filter: str
    line: str
    never: str = ""  # bytes that no name has: the service ends it there, or escapes them
    most: int = 500  # bytes


FAILED: Final = [
    Failed("sshd", "Failed password for invalid user {} from 192.0.2.1 port 22 ssh2", ":", 400),
    Failed("sshd", "Invalid user {} from 192.0.2.1 port 22", ":", 400),
    Failed(
        "postfix", "warning: x[192.0.2.1]: SASL LOGIN authentication failed: (reason unavailable), sasl_username={}"
    ),
    Failed(
        "dovecot",
        "imap-login: Disconnected: Connection closed (auth failed, 1 attempts in 2 secs): user=<{}>, method=PLAIN, "
        "rip=192.0.2.1, lip=198.51.100.20, session=<x>",
    ),
    Failed(
        "dovecot",
        "imap-login: Login aborted: Connection closed (auth failed, 1 attempts in 2 secs) (auth_failed): user=<{}>, "
        "method=PLAIN, rip=192.0.2.1, lip=198.51.100.20, session=<x>",
    ),
    Failed("exim", "login authenticator failed for (x) [192.0.2.1]: 535 Incorrect authentication data (set_id={})"),
    Failed("exim", "login authenticator failed for H=(x) [192.0.2.1]: 535 Incorrect authentication data (set_id={})"),
    Failed("vsftpd", '[{}] FAIL LOGIN: Client "192.0.2.1"'),
    Failed("proftpd", "h (x[192.0.2.1]): USER {} (Login failed): Incorrect password"),
    Failed("pure-ftpd", "(?@192.0.2.1) [WARNING] Authentication failed for user [{}]"),
    Failed("courier-auth", "INFO: LOGIN FAILED, user={}, ip=[::ffff:192.0.2.1], port=[40112]", most=255),
    Failed("cyrus-imap", "badlogin: x [192.0.2.1] plaintext ({}) [SASL(-13): user not found: checkpass failed]"),
    Failed("uwimap-auth", "Login failed user={0} auth={0} host=x [192.0.2.1]", most=255),
    Failed(
        "sendmail-auth", "4BMx: AUTH failure (LOGIN): user not found (-20) SASL(-13): x, user={}, relay=x [192.0.2.1]"
    ),
    Failed("mysqld-auth", "31 [Warning] Access denied for user '{}'@'192.0.2.1' (using password: YES)", "'"),
    Failed(
        "nginx-http-auth", '192.0.2.1 - x{} [22/Nov/2026:04:30:45 +0000] "GET / HTTP/1.1" 401 17 "-" "-"', '"\\\x00\t'
    ),
    Failed(
        "apache-auth", "[auth_basic:error] [pid 1:tid 2] [client 192.0.2.1:40112] AH01618: user {} not found: /", ":"
    ),
    Failed("wordpress", "Authentication failure for {} from 192.0.2.1", most=255),
]


@pytest.mark.parametrize("failed", FAILED, ids=lambda failed: f"{failed.filter}:{failed.line[:40]}")
def test_no_name_hides_a_failure_or_gives_another_address(failed: Failed) -> None:
    missed: list[tuple[str, str]] = []
    for name in NAMES:
        told = name.encode("latin-1") if name == "\xff\xfe" else name.encode()
        if not {*name}.isdisjoint(failed.never) or len(told) > failed.most:
            continue
        line = failed.line.format("NAME").encode().replace(b"NAME", told)
        offence = recognise(in_each_mode(failed.filter), line).get("normal")
        if offence is None or str(offence.address) != "192.0.2.1":
            missed.append((name, str(offence and offence.address)))
    assert missed == []


# Lines about logins, and about what follows them, with {} for what the peer wrote.
LOGINS: Final = {
    "sshd": [
        "Accepted password for {} from 192.0.2.1 port 22 ssh2",
        "Accepted publickey for root from 192.0.2.1 port 22 ssh2: RSA-CERT SHA256:x ID {} (serial 0) CA RSA SHA256:y",
        "Starting session: command for {} from 192.0.2.1 port 22 id 0",
        "pam_unix(sshd:session): session opened for user {}(uid=0) by (uid=0)",
        "Disconnected from user {} 192.0.2.1 port 22",
    ],
    "dropbear": [
        "Password auth succeeded for '{}' from 192.0.2.1:49242",
        "Exit ({}) from <192.0.2.1:4>: Disconnect received",
    ],
    "postfix": [
        "3A1B2C4D5E: client=unknown[192.0.2.1], sasl_method=PLAIN, sasl_username={}",
        "Anonymous TLS connection established from unknown[192.0.2.1] to {}: TLSv1.3 with cipher x",
        "3A1B2C4D5E: message-id=<{}>",
        "3A1B2C4D5E: warning: header Subject: {} from unknown[192.0.2.1]; from=<a> to=<b> proto=ESMTP helo=<x>",
    ],
    "dovecot": [
        "imap-login: Login: user=<{}>, method=PLAIN, rip=192.0.2.1, lip=198.51.100.20, mpid=1, TLS, session=<x>",
        "imap-login: Logged in: user=<{}>, method=PLAIN, rip=192.0.2.1, lip=198.51.100.20, mpid=1, TLS, session=<x>",
        "imap({})<1><x>: Disconnected: Logged out in=1 out=2",
        "lmtp(bob)<1><x>: sieve: msgid=<{}>: stored mail into mailbox 'INBOX'",
    ],
    "exim": [
        "1oQabc-0001Xy-2Z <= {0} H=(x) [192.0.2.1] P=esmtpsa A=login:{0} S=1 id={0}",
        "1oQabc-0001Xy-2Z ** {0} R=x T=y H=mx [192.0.2.66]: SMTP error from remote mail server after DATA: 550 {0}",
    ],
    "vsftpd": ['[{}] OK LOGIN: Client "192.0.2.1"', '[{}] FTP response: Client "192.0.2.1", "530 x"'],
    "pure-ftpd": ["({0}@192.0.2.1) [INFO] {0} is now logged in", "({}@192.0.2.1) [INFO] Logout."],
    "mysqld-auth": [
        "31 Query select '{}'",
        "31 [Warning] Aborted connection 31 to db: 'x' user: '{}' host: '192.0.2.1' (Got timeout)",
    ],
    "named-refused": ["client @0x7 192.0.2.1#3076 ({0}): query: {0} IN A + (198.51.100.1)"],
    "haproxy-http-auth": [
        '192.0.2.1:4 [28/Feb/2025:02:43:10.123] f b/s 0/0/0/1/1 200 10 - - ---- 1/1/0/0/0 0/0 "GET {} HTTP/1.1"'
    ],
    "courier-auth": [
        "INFO: LOGIN, user={}, ip=[::ffff:192.0.2.1], port=[40112], protocol=IMAP",
        "INFO: LOGOUT, user={}, ip=[::1]",
    ],
    "cyrus-imap": [
        "login: x [192.0.2.1] {} plaintext+TLS User logged in SESSIONID=<x>",
        "login: x [192.0.2.1] anonymous {}",
    ],
    "sieve": ["login: x [192.0.2.1] {} PLAIN+TLS User logged in SESSIONID=<x>"],
    "uwimap-auth": ["Login user={} host=x [192.0.2.1]", "Update user={} host=x [192.0.2.1] nmsgs=1/2"],
    "sendmail-auth": ["AUTH=server, relay=x [192.0.2.1], authid={}, mech=LOGIN, bits=0", "4BMx: to=<{}>, stat=Sent"],
    "wordpress": ["Accepted password for {} from 192.0.2.1"],
}
ALSO: Final = {"ssh-root": "sshd", "sendmail-reject": "sendmail-auth", "exim-spam": "exim", "eximt": "exim"}


@pytest.mark.parametrize("name", [*LOGINS, *ALSO])
def test_no_name_makes_a_failure_of_a_login(name: str) -> None:
    lines = {sample.line for one in shipped()[name].failregexes for sample in one.samples}
    words = {
        head + line + tail for line in lines for head in ("", "x, ", "x> ", "x) ", "x\n") for tail in ("", " x", ")")
    }
    logins = [login.format(word) for login in LOGINS[ALSO.get(name, name)] for word in words]
    assert [
        login for login in logins if any(one.times for one in recognise(in_each_mode(name), login.encode()).values())
    ] == []
