# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a machine is to the host while it runs, and what is left of that.

A namespace is gone when no process is in it, no descriptor is open on it and no mount holds it. Its number says little
about that: the kernel soon gives it to somebody else's.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from system.bed.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """The traces of one machine; plain values, so that one process can tell another of them."""

    name: str
    folders: Collection[str]
    processes: Mapping[str, str]  # when each PID started, which tells it from a later process of that number
    namespaces: Collection[str]  # as the links in /proc/PID/ns read: `net:[4026532281]`

    def left(self) -> list[str]:
        """Say what there still is, one line for each trace; empty if there is nothing."""
        found = [f"folder {path}" for path in self.folders if Path(path).exists()]
        found += [f"process {pid}" for pid, started in self.processes.items() if _started(pid) == started]
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if any(trace in line for trace in (self.name, *self.namespaces)):
                found.append(f"mount {line}")
        found += [f"descriptor of {link}" for link in _descriptors() if link in self.namespaces]
        return found


def footprint(machine: Machine) -> Footprint:
    """Give the traces of a running machine."""
    # os.walk goes on where a folder is gone meanwhile
    groups = [Path(folder) for folder, _, _ in os.walk(machine.cgroup)]
    processes = [machine.keeper, *(pid for group in groups for pid in _numbers(group / "cgroup.procs"))]
    namespaces = {link for pid in (machine.outer, machine.leader) for link in _namespaces(pid)}
    return Footprint(
        name=machine.name,
        folders=[str(machine.cgroup), str(machine.state)],
        processes={str(pid): started for pid in processes if (started := _started(pid))},
        namespaces=sorted(namespaces - set(_namespaces("self"))),
    )


def _started(pid: int | str) -> str | None:
    """When a process started, in ticks since the boot of the host; None if it has ended, even if nobody took note."""
    try:
        _, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")  # proc_pid_stat(5): from field 3 on
    except OSError:
        return None
    fields = rest.split()
    return None if fields[0] in "ZX" else fields[19]


def _namespaces(pid: int | str) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/ns").iterdir():
        yield str(link.readlink())


def _descriptors() -> Iterator[str]:
    """Give what this process has open."""
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of this very listing
            yield str(link.readlink())


def _numbers(file: Path) -> list[int]:
    """Give the PIDs in a cgroup; none if it has gone in this moment."""
    try:
        return [int(line) for line in file.read_text().split()]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return []
        raise
