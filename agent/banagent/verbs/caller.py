# SPDX-License-Identifier: LGPL-2.1-or-later
"""From where the caller is logged in, so that nobody bans himself by mistake.

`$SSH_CONNECTION` says it (ssh(1)), but sudo takes it away. Then logind knows, in a file for each session
(/run/systemd/sessions/ID), if pam_systemd told it an address. If it knows a name or nothing, the shell above sudo still
has the variable, and root can read it. An answer is a help, no proof: a user can set his own variables.
"""

from __future__ import annotations

import os

from banagent.core.address import parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SESSIONS = "/run/systemd/sessions"
_UNSET = "4294967295"  # (uid_t) -1: there is no audit session
_DEPTH = 64  # processes above this one that are looked at


def address() -> str | None:
    """Give the address, or None: there is no remote end, or it can't be found out."""
    own = of_connection(os.environ.get("SSH_CONNECTION", ""))
    return own or _of_session() or next(filter(None, _of_ancestors()), None)


def of_connection(value: str) -> str | None:
    """Take the client's address from `CLIENT PORT SERVER PORT`."""
    return _numeric(value.partition(" ")[0])


def of_session_file(content: str) -> str | None:
    """Take the remote host from a session's file of logind, if it is an address and not a name."""
    for line in content.splitlines():
        key, _, value = line.partition("=")
        if key == "REMOTE_HOST":
            return _numeric(value.strip('"'))
    return None


def of_environment(content: bytes) -> str | None:
    """Take it from the variables of a process, as /proc/PID/environ has them (proc(5))."""
    for variable in content.split(b"\0"):
        key, _, value = variable.partition(b"=")
        if key == b"SSH_CONNECTION":
            return of_connection(value.decode("ascii", "replace"))
    return None


def session_of(audit: str, cgroup: str) -> str | None:
    """Give the name of a session by its audit id, else by the scope in which its processes are (cgroups(7))."""
    if audit.strip().isdecimal() and audit.strip() != _UNSET:
        return audit.strip()
    for part in cgroup.strip().split("/"):
        name = part.removeprefix("session-").removesuffix(".scope")
        if part == f"session-{name}.scope" and name.isalnum():
            return name
    return None


def parent_of(status: str) -> int:
    """Give the parent's pid from /proc/PID/status; 0 if there is none."""
    for line in status.splitlines():
        key, _, value = line.partition(":")
        if key == "PPid":
            return int(value)
    return 0


def _of_session() -> str | None:
    session = session_of(_read("/proc/self/sessionid"), _read("/proc/self/cgroup"))
    return None if session is None else of_session_file(_read(f"{_SESSIONS}/{session}"))


def _of_ancestors() -> Iterator[str | None]:
    pid = os.getppid()
    for _ in range(_DEPTH):
        if pid <= 1:
            return
        yield of_environment(_read(f"/proc/{pid}/environ").encode("utf-8", "surrogateescape"))
        pid = parent_of(_read(f"/proc/{pid}/status"))


def _read(path: str) -> str:
    """Give what a file has; nothing if it can't be read, as another user's process can't."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:  # noqa: PTH123 - pathlib takes longer
            return stream.read(1 << 20)
    except OSError:
        return ""


def _numeric(text: str) -> str | None:
    try:
        return str(parse_address(text.partition("%")[0]))  # fe80::1%eth0: the zone is this host's affair
    except ValueError:
        return None
