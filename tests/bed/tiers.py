# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tiers of the tests: what each needs of the machine, and the table of what ran."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Final

from bed.cgroups import mount_point, new_name
from bed.journald import JOURNALD, journal_remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TIERS: Final = {
    "pure": "needs nothing of the machine",
    "kernel": "needs root, for network namespaces and a private journald",
    "system": "boots a Debian in a container",
    "demo": "runs `make demo`",
}


@cache
def why_not(tier: str) -> str | None:
    """Say why this machine can't run `tier`; None: it can."""
    if tier == "pure":
        return None
    if os.geteuid() != 0:
        return "needs root"
    if forbidden := namespaces_forbidden():
        return forbidden
    programs = {
        "kernel": ("ip", "nft", "nsenter", "setpriv", JOURNALD),
        "demo": ("ip", "nft", "nsenter", "setpriv", JOURNALD, "ssh", "sshd"),
        "system": ("debootstrap", "ip", "nsenter", "systemd-nspawn"),
    }[tier]
    missing = [program for program in programs if shutil.which(program) is None]
    if tier == "kernel" and journal_remote() is None:
        missing.append("systemd-journal-remote")
    if missing:
        return f"needs {', '.join(missing)}; `make test` fetches them"
    return None if tier == "system" else _no_nftables()


@cache
def namespaces_forbidden() -> str | None:
    """Say why namespaces and a cgroup can't be made here; None: they can."""
    probe = subprocess.run(
        [
            "unshare",
            "--mount",
            "--pid",
            "--net",
            "--cgroup",
            "--fork",
            "--mount-proc",
            "--propagation",
            "private",
            "true",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        said = probe.stderr.strip().splitlines() or [f"unshare ended with status {probe.returncode}"]
        return f"the machine forbids namespaces ({said[-1]})"
    cgroups = mount_point()
    if cgroups is None:
        return "no cgroup2 is mounted"
    if not _can_make_cgroup():
        return f"no cgroup can be made in {cgroups}"
    return None


def _no_nftables() -> str | None:
    probe = subprocess.run(
        ["unshare", "--net", "nft", "add", "table", "inet", "probe"], capture_output=True, text=True, check=False
    )
    return f"the kernel has no nf_tables ({probe.stderr.splitlines()[0]})" if probe.returncode else None


def table(ran: Mapping[str, Iterable[float]]) -> list[str]:
    """Lay out tier, tests run and seconds, from the seconds that each test that ran took, by tier."""
    lines = [f"{'tier':<8}{'tests run':>10}{'seconds':>10}"]
    for tier in TIERS:
        seconds = list(ran.get(tier, ()))
        reason = why_not(tier)
        note = f"   not run: {reason}" if reason else ""
        lines.append(f"{tier:<8}{len(seconds):>10}{sum(seconds):>10.1f}{note}")
    return lines


def _can_make_cgroup() -> bool:
    probe = new_name()
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True
