#!/opt/venv/bin/python -I
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stands in for banagent in its unit: does what the agent must be able to do there, and tries what it must not.

banagent run       do all of it, write what came of it to $STATE_DIRECTORY/report, say READY=1, feed the watchdog;
                   $PROBE_DELAY: seconds that it takes longer to get ready
banagent reload    be refused
"""

from __future__ import annotations

import json
import os
import select
import socket
import sqlite3
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from systemd import _reader, daemon, journal

if TYPE_CHECKING:
    from collections.abc import Callable

STATE = Path(os.environ.get("STATE_DIRECTORY", "/nonexistent"))
RUNTIME = Path(os.environ.get("RUNTIME_DIRECTORY", "/nonexistent"))


def read_journal() -> None:
    """Read what another program writes, told by an event, and find the place again by its cursor."""
    reader = _reader._Reader()  # pyright: ignore[reportPrivateUsage] - its other half, in Python, reads the boot's id
    reader.add_match(f"PROBE={os.getpid()}")
    poll = select.poll()
    poll.register(reader.fileno(), select.POLLIN)
    journal.sendv("MESSAGE=probe", f"PROBE={os.getpid()}")
    while not reader._next():
        assert poll.poll(5000), "no event"
        reader.process()
    assert reader._get("_UID") == str(os.getuid()).encode()
    reader.seek_cursor(cursor := reader._get_cursor())
    assert reader._next()
    assert reader._get_cursor() == cursor


def change_rules() -> None:
    subprocess.run(["/usr/sbin/nft", "add table inet probe; delete table inet probe"], check=True)


def speak_netlink() -> None:
    with import_module("pyroute2.nftables.main").NFTables(nfgen_family=socket.AF_INET) as kernel:
        kernel.table("add", name="probe")
        assert [dict(table["attrs"])["NFTA_TABLE_NAME"] for table in kernel.get_tables()] == ["probe"]
        kernel.table("del", name="probe")


def write_database() -> None:
    with sqlite3.connect(STATE / "history") as database:
        assert database.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
        database.execute("CREATE TABLE IF NOT EXISTS bans (address)")
        database.execute("INSERT INTO bans VALUES ('192.0.2.1')")


def serve() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(RUNTIME / "socket"))
        server.listen()


def read_log_file() -> None:
    Path("/var/log/auth.log").open("rb").close()


def match() -> None:
    assert import_module("re2").compile(rb"from (\S+)").search(b"from 192.0.2.1")


def connect() -> None:
    socket.socket(socket.AF_INET).close()


def sniff() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def write_configuration() -> None:
    Path("/etc/probe").touch()


def read_passwords() -> None:
    Path("/etc/shadow").read_bytes()


def run_what_it_wrote() -> None:
    program = STATE / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    subprocess.run([program], check=True)


def see_others() -> None:
    Path("/proc/1/comm").read_bytes()


def leave_the_namespace() -> None:
    subprocess.run(["/usr/bin/unshare", "--user", "true"], check=True)


MUST = (read_journal, change_rules, speak_netlink, write_database, serve, read_log_file, match)
MUST_NOT = (connect, sniff, write_configuration, read_passwords, run_what_it_wrote, see_others, leave_the_namespace)


def outcome(act: Callable[[], None]) -> str | None:
    """None if it could be done, else why not."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 - each way to fail is an outcome to tell
        return repr(error)
    return None


def main() -> None:
    """Do the verb."""
    if sys.argv[1:] != ["run"]:
        sys.exit("banagent.toml:1: nonsense = 1: the stand-in knows no such key")
    report = [{act.__name__: outcome(act) for act in acts} for acts in (MUST, MUST_NOT)]
    (STATE / "report").write_text(json.dumps(report))
    time.sleep(float(os.environ.get("PROBE_DELAY", "0")))
    daemon.notify("READY=1")
    while True:
        time.sleep(20)
        daemon.notify("WATCHDOG=1")


if __name__ == "__main__":
    main()
