# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which log files the agent's user can't read, and what would let it.

Whether it can is tried, by a child with that user's rights: modes, groups, ACLs and whatever else the kernel asks.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from banagent.core.events import FILES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from banagent.config import Config

USER: Final = "banagent"
UNIT: Final = "banagent.service"
GROUPS: Final = ("systemd-journal", "adm")  # SupplementaryGroups= in the unit
HOMES: Final = ("/home/", "/root/", "/run/user/")  # what ProtectHome= hides
DROP_IN: Final = f"/etc/systemd/system/{UNIT}.d/read.conf"
_PERMITTED: Final = 10  # exit status of the child that tries


class Unit(NamedTuple):
    """What the unit, drop-ins included, gives the agent."""

    groups: tuple[str, ...] = GROUPS
    reads_all: bool = False  # it has CAP_DAC_READ_SEARCH
    sees_homes: bool = False


def unreadable(found: Config) -> Iterator[str]:
    """Give a text for each log file that an enabled jail may need and that the agent can't read; only root can tell."""
    if os.geteuid() != 0:
        return
    with suppress(KeyError):  # without the user nothing is installed
        agent = pwd.getpwnam(USER)
        unit = _unit()
        for jail in found.jails:
            if jail.enabled and jail.filter.source in {"auto", FILES}:
                for path in _existing(jail.filter.logpath):
                    with suppress(FileNotFoundError):  # it was rotated away meanwhile
                        yield from _told(jail.name, path, agent, unit)


def _told(jail: str, path: Path, agent: pwd.struct_passwd, unit: Unit) -> Iterator[str]:
    told = f"jail {jail}: the agent can't read {path}"
    if str(path).startswith(HOMES) and not unit.sees_homes:
        shown = _section("ProtectHome=read-only")
        yield f"{told}: its unit has ProtectHome=yes. To change that, write into {DROP_IN}:\n{shown}"
    if unit.reads_all:
        return
    if lacking := _lacking(path, agent, unit.groups):
        yield f"{told}, {_mode(path)}. {_remedies(lacking, _user(path.stat().st_uid))}"


def _remedies(lacking: Iterable[tuple[str, Path]], owner: str) -> str:
    """Say what to do.

    No default ACL on the folder: it makes files that rely on the umask readable for everybody, and gives nothing to
    those that are created with the mode 0600.
    """
    grants = "".join(f"    setfacl --modify user:{USER}:{rights} {shlex.quote(str(at))}\n" for rights, at in lacking)
    capability = "CAP_DAC_READ_SEARCH"
    return (
        "Let it read this file (setfacl is in the package acl):\n"
        f"{grants}"
        'and so that it can read the one that logrotate puts in its place, have "create" there name no mode, or else:\n'
        f"    create 640 {owner} adm\n"
        "Or let it read every file of the machine (systemd-analyze security: 1.4 instead of 1.2); "
        f"write into {DROP_IN}:\n"
        f"{_section(f'AmbientCapabilities={capability}', f'CapabilityBoundingSet={capability}')}"
    )


def _section(*lines: str) -> str:
    told = "\n".join(f"    {line}" for line in ("[Service]", *lines))
    return f"{told}\nand then: systemctl daemon-reload && systemctl restart banagent"


def _mode(path: Path) -> str:
    """Say who may read a file."""
    try:
        seen = path.stat()
    except OSError as error:
        return error.strerror or "it can't be looked at"
    return f"which is {_user(seen.st_uid)}:{_group(seen.st_gid)}, mode {seen.st_mode & 0o7777:04o}"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _existing(patterns: Iterable[str]) -> list[Path]:
    """Give the files that exist, as root sees them."""
    return sorted({path for pattern in patterns for path in Path("/").glob(pattern.lstrip("/")) if path.is_file()})


def _lacking(path: Path, agent: pwd.struct_passwd, groups: tuple[str, ...]) -> list[tuple[str, Path]]:
    """Give what the agent can't open, each with the rights that it lacks; nothing if it can read the file."""
    numbers = [*os.getgrouplist(agent.pw_name, agent.pw_gid), *_numbers(groups)]
    if _may("r", str(path), agent, numbers):
        return []
    real = path.resolve()
    found: list[tuple[str, Path]] = []
    for rights, item in [*(("rx", folder) for folder in reversed(real.parents)), ("r", real)]:
        here = os.open(item, os.O_PATH | os.O_CLOEXEC)  # root's way there, so that this one's rights alone count
        if not _may(rights, f"/proc/self/fd/{here}", agent, numbers):
            found.append((rights, item))
        os.close(here)
    return found


def _may(rights: str, path: str, agent: pwd.struct_passwd, groups: Iterable[int]) -> bool:
    """Try it: a child takes the agent's rights and opens what is there."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups(list(groups))
            os.setgid(agent.pw_gid)
            os.setuid(agent.pw_uid)
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            if rights == "r" or os.access(path, os.X_OK):
                status = _PERMITTED
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == _PERMITTED


def _numbers(groups: Iterable[str]) -> Iterator[int]:
    for name in groups:
        with suppress(KeyError):
            yield grp.getgrnam(name).gr_gid


def _unit() -> Unit:
    """Ask systemd; what it does not say is as the package has it."""
    names = ("SupplementaryGroups", "AmbientCapabilities", "ProtectHome")
    command = ["systemctl", "show", UNIT, *(f"--property={name}" for name in names)]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout  # noqa: S603 - constants
    except (OSError, subprocess.SubprocessError):
        return Unit()
    said = {name: value for name, _, value in (line.partition("=") for line in shown.splitlines())}
    return Unit(
        tuple(said.get("SupplementaryGroups", "").split()) or GROUPS,
        "cap_dac_read_search" in said.get("AmbientCapabilities", "").lower(),
        said.get("ProtectHome") in {"no", "read-only"},
    )
