# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a test can leave behind, and how it is noticed: children, threads, descriptors, mounts, namespaces, cgroups."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from bed import cgroups

_PR_SET_CHILD_SUBREAPER: Final = 36  # prctl(2)
GRACE: Final = 15.0  # seconds for what is about to end


class State(NamedTuple):
    """What this process has at a moment, each thing as a line that says what it is."""

    children: frozenset[str]
    threads: frozenset[str]
    descriptors: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    namespaces: frozenset[str]


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants, so that `state` sees them."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def state() -> State:
    """Look at what there is now."""
    own = Path("/proc/self/ns")
    return State(
        children=frozenset(_children()),
        threads=frozenset(thread.name for thread in threading.enumerate()),
        descriptors=frozenset(_descriptors()),
        mounts=frozenset(line.split(" ", 5)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        cgroups=frozenset(cgroups.own()),
        namespaces=frozenset(f"{kind} {(own / kind).readlink()}" for kind in ("net", "mnt", "cgroup")),
    )


def left_behind(before: State, *, grace: float = GRACE) -> list[str]:
    """Name what is there now and was not `before`; what is about to end is waited for, and children are ended."""
    deadline = time.monotonic() + grace
    while left := _difference(before, state()):
        if time.monotonic() > deadline:
            for child in _children().keys() - before.children:
                _end(int(child.split()[0]))
            return left
        gc.collect()  # what nothing refers to any more may hold descriptors
        _reap(before)
        time.sleep(0.01)
    return []


def _difference(before: State, after: State) -> list[str]:
    return [
        f"{kind}: {thing}"
        for kind, had, has in zip(State._fields, before, after, strict=True)
        for thing in sorted(has - had)
    ]


def _children() -> dict[str, str]:
    """Map "PID NAME" of each child to its state, as proc_pid_stat(5) has it."""
    found: dict[str, str] = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread, or a child, that has just ended
            for pid in (task / "children").read_text().split():
                name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
                found[f"{pid} {name}"] = rest.split()[0]
    return found


def _reap(before: State) -> None:
    """Take the status of orphans that have ended: nobody else will."""
    for child, status in _children().items():
        if status == "Z" and child not in before.children:
            with suppress(ChildProcessError):
                os.waitpid(int(child.split()[0]), os.WNOHANG)


def _end(pid: int) -> None:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _descriptors() -> list[str]:
    found: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor of this very listing
            found.append(f"{descriptor.name} {descriptor.readlink()}")
    return found
