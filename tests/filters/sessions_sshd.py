# SPDX-License-Identifier: LGPL-2.1-or-later
"""What sshd writes about one connection of 203.0.113.5, and how many failed attempts that is."""
# ruff: noqa: E501 - lines as sshd writes them

from __future__ import annotations

from typing import Final, NamedTuple

LISTENER: Final = 800  # its pid
CONNECTION: Final = 4711  # the monitor's, for its child too
WORKERS: Final = (4713, 4715)  # run PAM for keyboard-interactive, one for each guess


class Session(NamedTuple):
    """The lines in order, each with the pid that journald sees, and the attempts counted in each mode."""

    openssh: str
    what: str
    lines: tuple[tuple[int, str], ...]
    normal: int
    ddos: int
    extra: int
    aggressive: int


def _connection(text: str) -> tuple[tuple[int, str], ...]:
    """Give the lines of a text; one with `listener: `, `worker 1: ` or so before it is that process's."""
    return tuple(_line(line.strip()) for line in text.strip().splitlines())


def _line(line: str) -> tuple[int, str]:
    for prefix, pid in (("listener: ", LISTENER), ("worker 1: ", WORKERS[0]), ("worker 2: ", WORKERS[1])):
        if line.startswith(prefix):
            return pid, line.removeprefix(prefix)
    return CONNECTION, line


SESSIONS: Final = (
    # --- 7.4: no state in the lines about connections ---------------------------------------------------------------
    Session(
        "7.4",
        "password, unknown user, one guess",
        _connection("""
            Invalid user admin from 203.0.113.5 port 40112
            input_userauth_request: invalid user admin [preauth]
            pam_unix(sshd:auth): check pass; user unknown
            pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5
            Failed password for invalid user admin from 203.0.113.5 port 40112 ssh2
            Connection closed by 203.0.113.5 port 40112 [preauth]
        """),
        *(1, 1, 1, 1),
    ),
    Session(
        "7.4",
        "password, known user, three guesses",
        _connection("""
            pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5  user=root
            Failed password for root from 203.0.113.5 port 40112 ssh2
            Failed password for root from 203.0.113.5 port 40112 ssh2
            Failed password for root from 203.0.113.5 port 40112 ssh2
            Connection closed by 203.0.113.5 port 40112 [preauth]
            PAM 2 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5  user=root
        """),
        *(3, 3, 3, 3),
    ),
    Session(
        "7.4",
        "the same, put together by rsyslog",
        _connection("""
            Failed password for root from 203.0.113.5 port 40112 ssh2
            message repeated 2 times: [ Failed password for root from 203.0.113.5 port 40112 ssh2]
            Connection closed by 203.0.113.5 port 40112 [preauth]
        """),
        *(3, 3, 3, 3),
    ),
    Session(
        "7.4",
        "password until MaxAuthTries",
        _connection("""
            pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5  user=root
            Failed password for root from 203.0.113.5 port 40112 ssh2
            Failed password for root from 203.0.113.5 port 40112 ssh2
            Failed password for root from 203.0.113.5 port 40112 ssh2
            Failed password for root from 203.0.113.5 port 40112 ssh2
            Failed password for root from 203.0.113.5 port 40112 ssh2
            Failed password for root from 203.0.113.5 port 40112 ssh2
            error: maximum authentication attempts exceeded for root from 203.0.113.5 port 40112 ssh2 [preauth]
            Disconnecting: Too many authentication failures [preauth]
            PAM 5 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5  user=root
            PAM service(sshd) ignoring max retries; 6 > 3
        """),
        *(6, 6, 6, 6),
    ),
    Session(
        "7.4",
        "keys only, known user",
        _connection("""
            Connection closed by 203.0.113.5 port 40112 [preauth]
        """),
        *(0, 1, 0, 1),
    ),
    Session(
        "7.4",
        "PuTTY without a key where no password is taken",
        _connection("""
            error: Received disconnect from 203.0.113.5 port 40112:14: No supported authentication methods available [preauth]
            Disconnected from 203.0.113.5 port 40112 [preauth]
        """),
        *(1, 1, 1, 1),
    ),
    Session(
        "7.4",
        "a bot that says goodbye",
        _connection("""
            Failed password for root from 203.0.113.5 port 40112 ssh2
            Received disconnect from 203.0.113.5 port 40112:11: Bye Bye [preauth]
            Disconnected from 203.0.113.5 port 40112 [preauth]
        """),
        *(1, 1, 1, 1),
    ),
    Session(
        "7.4",
        "a port scan",
        _connection("""
            Did not receive identification string from 203.0.113.5 port 40112
        """),
        *(0, 1, 0, 1),
    ),
    Session(
        "7.4",
        "a login by the first key, and its end",
        _connection("""
            Accepted publickey for root from 203.0.113.5 port 40112 ssh2: RSA SHA256:Zm9v
            pam_unix(sshd:session): session opened for user root by (uid=0)
            Received disconnect from 203.0.113.5 port 40112:11: disconnected by user
            Disconnected from 203.0.113.5 port 40112
            pam_unix(sshd:session): session closed for user root
        """),
        *(0, 0, 0, 0),
    ),
    # --- 8.4: states; the banner's error without an address, then a line with it ------------------------------------
    Session(
        "8.4",
        "password, unknown user, two guesses",
        _connection("""
            Invalid user admin from 203.0.113.5 port 40112
            pam_unix(sshd:auth): check pass; user unknown
            pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5
            Failed password for invalid user admin from 203.0.113.5 port 40112 ssh2
            pam_unix(sshd:auth): check pass; user unknown
            Failed password for invalid user admin from 203.0.113.5 port 40112 ssh2
            Connection closed by invalid user admin 203.0.113.5 port 40112 [preauth]
            PAM 1 more authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5
        """),
        *(2, 2, 2, 2),
    ),
    Session(
        "8.4",
        "a bot that says goodbye",
        _connection("""
            pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5  user=root
            Failed password for root from 203.0.113.5 port 40112 ssh2
            Received disconnect from 203.0.113.5 port 40112:11: Bye Bye [preauth]
            Disconnected from authenticating user root 203.0.113.5 port 40112 [preauth]
        """),
        *(1, 1, 1, 1),
    ),
    Session(
        "8.4",
        "another name in the same connection",
        _connection("""
            Invalid user admin from 203.0.113.5 port 40112
            Disconnecting invalid user admin 203.0.113.5 port 40112: Change of username or service not allowed: (admin,ssh-connection) -> (root,ssh-connection) [preauth]
        """),
        *(1, 1, 1, 1),
    ),
    Session(
        "8.4",
        "a port scan",
        _connection("""
            error: kex_exchange_identification: Connection closed by remote host
            Connection closed by 203.0.113.5 port 40112
        """),
        *(0, 1, 0, 1),
    ),
    Session(
        "8.4",
        "a web browser",
        _connection("""
            error: kex_exchange_identification: client sent invalid protocol identifier "GET / HTTP/1.1"
            banner exchange: Connection from 203.0.113.5 port 40112: invalid format
        """),
        *(0, 1, 0, 1),
    ),
    Session(
        "8.4",
        "LoginGraceTime after one guess",
        _connection("""
            Failed password for root from 203.0.113.5 port 40112 ssh2
            fatal: Timeout before authentication for 203.0.113.5 port 40112
        """),
        *(1, 1, 1, 1),
    ),
    # --- 9.2 --------------------------------------------------------------------------------------------------------
    Session(
        "9.2",
        "password, known user, mistyped once",
        _connection("""
            pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5  user=carol
            Failed password for carol from 203.0.113.5 port 40112 ssh2
            Accepted password for carol from 203.0.113.5 port 40112 ssh2
            pam_unix(sshd:session): session opened for user carol(uid=1000) by (uid=0)
        """),
        *(1, 1, 1, 1),
    ),
    Session(
        "9.2",
        "keyboard-interactive, unknown user, two guesses",
        _connection("""
            Invalid user admin from 203.0.113.5 port 40112
            Postponed keyboard-interactive for invalid user admin from 203.0.113.5 port 40112 ssh2 [preauth]
            worker 1: pam_unix(sshd:auth): check pass; user unknown
            worker 1: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5
            error: PAM: Authentication failure for illegal user admin from 203.0.113.5
            Failed keyboard-interactive/pam for invalid user admin from 203.0.113.5 port 40112 ssh2
            Postponed keyboard-interactive for invalid user admin from 203.0.113.5 port 40112 ssh2 [preauth]
            worker 2: pam_unix(sshd:auth): check pass; user unknown
            worker 2: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5
            error: PAM: Authentication failure for illegal user admin from 203.0.113.5
            Failed keyboard-interactive/pam for invalid user admin from 203.0.113.5 port 40112 ssh2
            Connection closed by invalid user admin 203.0.113.5 port 40112 [preauth]
        """),
        *(2, 2, 2, 4),
    ),
    Session(
        "9.2",
        "keyboard-interactive, known user, two guesses: told by PAM alone at LogLevel INFO",
        _connection("""
            worker 1: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5  user=root
            error: PAM: Authentication failure for root from 203.0.113.5
            worker 2: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5  user=root
            error: PAM: Authentication failure for root from 203.0.113.5
            Connection closed by authenticating user root 203.0.113.5 port 40112 [preauth]
        """),
        *(2, 2, 2, 4),
    ),
    Session(
        "9.2",
        "three guesses by keyboard-interactive, then three by password",
        _connection("""
            Invalid user admin from 203.0.113.5 port 40112
            Failed keyboard-interactive/pam for invalid user admin from 203.0.113.5 port 40112 ssh2
            Failed keyboard-interactive/pam for invalid user admin from 203.0.113.5 port 40112 ssh2
            Failed keyboard-interactive/pam for invalid user admin from 203.0.113.5 port 40112 ssh2
            Failed password for invalid user admin from 203.0.113.5 port 40112 ssh2
            Failed password for invalid user admin from 203.0.113.5 port 40112 ssh2
            Failed password for invalid user admin from 203.0.113.5 port 40112 ssh2
            error: maximum authentication attempts exceeded for invalid user admin from 203.0.113.5 port 40112 ssh2 [preauth]
            Disconnecting invalid user admin 203.0.113.5 port 40112: Too many authentication failures [preauth]
        """),
        *(6, 6, 6, 6),
    ),
    Session(
        "9.2",
        "a user who is not allowed",
        _connection("""
            User root from 203.0.113.5 not allowed because not listed in AllowUsers
            pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5  user=root
            Failed password for invalid user root from 203.0.113.5 port 40112 ssh2
            Connection closed by invalid user root 203.0.113.5 port 40112 [preauth]
        """),
        *(1, 1, 1, 1),
    ),
    Session(
        "9.2",
        "root's right password where root may not log in",
        _connection("""
            ROOT LOGIN REFUSED FROM 203.0.113.5 port 40112
            Failed password for root from 203.0.113.5 port 40112 ssh2
            ROOT LOGIN REFUSED FROM 203.0.113.5 port 40112 [preauth]
            Connection closed by authenticating user root 203.0.113.5 port 40112 [preauth]
        """),
        *(1, 1, 1, 1),
    ),
    Session(
        "9.2",
        "keys only, known user",
        _connection("""
            Connection closed by authenticating user root 203.0.113.5 port 40112 [preauth]
        """),
        *(1, 1, 1, 1),
    ),
    Session(
        "9.2",
        "keys only, unknown user, three of them",
        _connection("""
            Invalid user git from 203.0.113.5 port 40112
            Failed publickey for invalid user git from 203.0.113.5 port 40112 ssh2: RSA SHA256:Zm9v
            Failed publickey for invalid user git from 203.0.113.5 port 40112 ssh2: ECDSA SHA256:YmFy
            Failed publickey for invalid user git from 203.0.113.5 port 40112 ssh2: ED25519 SHA256:YmF6
            Connection closed by invalid user git 203.0.113.5 port 40112 [preauth]
        """),
        *(1, 1, 1, 1),
    ),
    Session(
        "9.2",
        "a login by the fourth key, with LogLevel VERBOSE",
        _connection("""
            Connection from 203.0.113.5 port 40112 on 198.51.100.20 port 22 rdomain ""
            Failed publickey for carol from 203.0.113.5 port 40112 ssh2: RSA SHA256:Zm9v
            Failed publickey for carol from 203.0.113.5 port 40112 ssh2: ECDSA SHA256:YmFy
            Failed publickey for carol from 203.0.113.5 port 40112 ssh2: ED25519 SHA256:YmF6
            Accepted key ED25519 SHA256:cXV4 found at /home/carol/.ssh/authorized_keys:1
            Postponed publickey for carol from 203.0.113.5 port 40112 ssh2 [preauth]
            Accepted publickey for carol from 203.0.113.5 port 40112 ssh2: ED25519 SHA256:cXV4
            pam_unix(sshd:session): session opened for user carol(uid=1000) by (uid=0)
        """),
        *(0, 0, 0, 1),
    ),
    Session(
        "9.2",
        "a login by the first key, and its end",
        _connection("""
            Accepted publickey for root from 203.0.113.5 port 40112 ssh2: ED25519 SHA256:Zm9v
            pam_unix(sshd:session): session opened for user root(uid=0) by (uid=0)
            Received disconnect from 203.0.113.5 port 40112:11: disconnected by user
            Disconnected from user root 203.0.113.5 port 40112
            pam_unix(sshd:session): session closed for user root
        """),
        *(0, 0, 0, 0),
    ),
    Session(
        "9.2",
        "a login whose line broke",
        _connection("""
            Accepted password for root from 203.0.113.5 port 40112 ssh2
            Connection reset by user root 203.0.113.5 port 40112
        """),
        *(0, 0, 0, 0),
    ),
    # --- 10.0: the listener tells of time-outs, and punishes --------------------------------------------------------
    Session(
        "10.0",
        "password, unknown user, one guess",
        _connection("""
            Invalid user admin from 203.0.113.5 port 40112
            pam_unix(sshd:auth): check pass; user unknown
            pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.5
            Failed password for invalid user admin from 203.0.113.5 port 40112 ssh2
            Connection closed by invalid user admin 203.0.113.5 port 40112 [preauth]
            listener: srclimit_penalise: ipv4: new 203.0.113.5/32 deferred penalty of 5 seconds for penalty: failed authentication
        """),
        *(1, 1, 1, 1),
    ),
    Session(
        "10.0",
        "refused by penalties, twice",
        _connection("""
            listener: drop connection #0 from [203.0.113.5]:40112 on [198.51.100.20]:22 penalty: failed authentication
            listener: drop connection #0 from [203.0.113.5]:40114 on [198.51.100.20]:22 penalty: failed authentication
        """),
        *(0, 0, 0, 2),
    ),
    Session(
        "10.0",
        "LoginGraceTime after one guess",
        _connection("""
            Failed password for root from 203.0.113.5 port 40112 ssh2
            listener: Timeout before authentication for connection from 203.0.113.5 to 198.51.100.20, pid = 4711
        """),
        *(1, 2, 1, 2),
    ),
    Session(
        "10.0",
        "three silent connections",
        _connection("""
            listener: Timeout before authentication for connection from 203.0.113.5 to 198.51.100.20, pid = 4711
            listener: Timeout before authentication for connection from 203.0.113.5 to 198.51.100.20, pid = 4713
            listener: Timeout before authentication for connection from 203.0.113.5 to 198.51.100.20, pid = 4715
        """),
        *(0, 3, 0, 3),
    ),
    Session(
        "10.0",
        "RefuseConnection",
        _connection("""
            Invalid user admin from 203.0.113.5 port 40112
            administratively prohibited connection for invalid user admin from 203.0.113.5 port 40112
        """),
        *(1, 1, 1, 1),
    ),
    Session(
        "10.0",
        "an old client",
        _connection("""
            Unable to negotiate with 203.0.113.5 port 40112: no matching key exchange method found. Their offer: diffie-hellman-group1-sha1 [preauth]
        """),
        *(0, 0, 1, 1),
    ),
    Session(
        "10.0",
        "a broken key exchange",
        _connection("""
            Disconnecting 203.0.113.5 port 40112: strict KEX violation: KEXINIT was not the first packet [preauth]
        """),
        *(0, 0, 1, 1),
    ),
    Session(
        "10.0",
        "a port scan",
        _connection("""
            Connection closed by 203.0.113.5 port 40112
        """),
        *(0, 1, 0, 1),
    ),
    Session(
        "10.0",
        "a login by the first key, and its end",
        _connection("""
            Accepted publickey for root from 203.0.113.5 port 40112 ssh2: ED25519 SHA256:Zm9v
            pam_unix(sshd:session): session opened for user root(uid=0) by root(uid=0)
            Received disconnect from 203.0.113.5 port 40112:11: disconnected by user
            Disconnected from user root 203.0.113.5 port 40112
            pam_unix(sshd:session): session closed for user root
        """),
        *(0, 0, 0, 0),
    ),
)
