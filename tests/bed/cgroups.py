# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where cgroups are, and the names of those that the beds make."""

from __future__ import annotations

import itertools
import uuid
from functools import cache
from pathlib import Path
from typing import Final

_MINE: Final = f"bed-{uuid.uuid4().hex[:8]}"  # a pid is not enough: another namespace may have the same
_number = itertools.count(1)


@cache
def mount_point() -> Path | None:
    """Find the cgroup2 file system: at /sys/fs/cgroup, or beside version 1 (proc_pid_mountinfo(5))."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            return Path(left.split()[4])
    return None


def new_name() -> Path:
    """Name a cgroup that is not there yet."""
    root = mount_point()
    if root is None:
        raise RuntimeError("no cgroup2 is mounted")
    return root / f"{_MINE}-{next(_number)}"


def own() -> set[str]:
    """List the cgroups that beds of this process made and that are still there."""
    root = mount_point()
    return set() if root is None else {path.name for path in root.glob(f"{_MINE}-*")}
