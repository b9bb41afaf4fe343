# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps one machine, and sees to it that nothing of it is left: it outlives the test process that started it.

    keeper.py CGROUP STATE_DIRECTORY LAYERS NSPAWN_OPTION...

Both folders are made here, and removed again. Ends when its stdin does, which is when the test process closes it or
is killed, or when the machine is switched off. Tells on stdout, in JSON lines, what systemd-nspawn says through
sd_notify(3): `{"outer": PID, "leader": PID}` when the machine begins to boot, `{"ready": true}` when it is up; and
`{"console": TEXT}`, the end of what it showed, when it has ended by itself.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h


def main() -> None:
    """Boot, report, wait, and clear away."""
    group, state = Path(sys.argv[1]), Path(sys.argv[2])
    # the machine's processes become ours as their parents die, so that os.wait() tells when the last of them is gone
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        for name in ("machine", "visitors"):
            (group / name).mkdir(parents=True)
        state.mkdir(mode=0o700)
        _watch(group, state, sys.argv[3:])
    finally:
        (group / "cgroup.kill").write_text("1")
        _wait_for_all()
        _remove_cgroup(group)
        shutil.rmtree(state)


def _watch(group: Path, state: Path, outer_arguments: list[str]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, (state / "console").open("wb") as console:
        notify.bind(str(state / "notify"))
        enter = ["sh", "-c", 'echo 0 >"$0" && exec "$@"', str(group / "machine/cgroup.procs")]
        namespaces = ["unshare", "--mount", "--net", "--ipc", "--propagation=private"]
        outer = subprocess.Popen(
            [*enter, *namespaces, "--", str(Path(__file__).with_name("outer.sh")), *outer_arguments],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env={**os.environ, "NOTIFY_SOCKET": str(state / "notify")},
        )
        ended = os.pidfd_open(outer.pid)
        poll = select.poll()
        for file in (sys.stdin, notify, ended):
            poll.register(file, select.POLLIN)
        while True:
            events = dict(poll.poll())
            if notify.fileno() in events:
                _report(outer.pid, notify.recv(4096).decode())
            if ended in events:
                print(json.dumps({"console": (state / "console").read_text(errors="replace")[-2000:]}), flush=True)
            if sys.stdin.fileno() in events or ended in events:
                return


def _report(outer: int, message: str) -> None:
    fields = dict(line.split("=", 1) for line in message.splitlines() if "=" in line)
    if leader := fields.get("X_NSPAWN_LEADER_PID"):
        print(json.dumps({"outer": outer, "leader": int(leader)}), flush=True)
    if fields.get("READY") == "1":
        print(json.dumps({"ready": True}), flush=True)


def _wait_for_all() -> None:
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass


def _remove_cgroup(group: Path) -> None:
    """Wait for the processes that are not ours to reap (whoever looked in), then remove the tree."""
    with (group / "cgroup.events").open() as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while "populated 1" in events.read():
            poll.poll(1000)
            events.seek(0)
    for folder, _, _ in os.walk(group, topdown=False):
        Path(folder).rmdir()


if __name__ == "__main__":
    main()
