# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose entries are read and count, on a real journald, and who imitates them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from bed.journald import Journald, service, session, user_unit
from sources.journals import counted, entries, made, wanting

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.kernel

CONMON = "machine.slice/libpod-conmon-0123abcd.scope"
ALIVE = 0.5  # seconds that the forger stays, so that journald has all the time to find out who it is
KERNEL = {"_TRANSPORT": ("kernel",)}


def test_units_and_slices_by_name_and_by_glob(journald: Journald) -> None:
    journald.write("F one", cgroup="system.slice/system-postfix.slice/postfix@-.service")
    journald.write("F two", cgroup=service("php8.2-fpm.service"))
    journald.write("F three", cgroup=service("cron.service"))
    path = journald.path
    assert counted(path, wanting(slices=("system-postfix.slice",))) == [b"F one"]
    assert counted(path, wanting(slices=("*-postfix.slice",))) == [b"F one"]
    assert counted(path, wanting(units=("php*-fpm.service",))) == [b"F two"]
    assert counted(path, wanting(units=("cron.service", "php*-fpm.service"))) == [b"F two", b"F three"]
    assert counted(path, wanting(units=("cron.service",), slices=("system-postfix.slice",))) == [b"F one", b"F three"]


def test_lost_units_by_a_glob_of_identifiers(journald: Journald) -> None:
    item = wanting(units=("postfix.service",), identifiers=("postfix/*smtpd",))
    for identifier in ("postfix/smtpd", "postfix/submission/smtpd", "postfix/qmgr"):
        with journald.frozen(), journald.writer(service("postfix.service"), comm="smtpd", brief=True) as writer:
            writer.syslog(f"F {identifier}", identifier=identifier)
    journald.sync()
    assert [entry.unit for entry in entries(journald.path, item)] == [None, None, None]
    assert counted(journald.path, item) == [b"F postfix/smtpd", b"F postfix/submission/smtpd"]


@pytest.mark.parametrize("names", [("web",), ("w?b",)])
def test_containers(journald: Journald, names: tuple[str, ...]) -> None:
    journald.write("F docker", cgroup=service("docker.service"), CONTAINER_NAME="web", CONTAINER_ID_FULL="0")
    journald.write("F podman", cgroup=CONMON, CONTAINER_NAME="web", CONTAINER_ID_FULL="1")
    journald.write("F other", cgroup=CONMON, CONTAINER_NAME="other", CONTAINER_ID_FULL="2")
    journald.write("F itself", cgroup=service("docker.service"))
    assert counted(journald.path, wanting(containers=names)) == [b"F docker", b"F podman"]


@pytest.mark.parametrize(
    ("cgroup", "uid"),
    [
        (session(3, uid=1000), 1000),
        (user_unit("docker.service", uid=1000), 1000),
        # without logind a user's processes stay in the cgroup of what let him in
        (service("docker.service"), 1000),
        (service("cron.service"), 0),
        # what runs in a container, as root and with journald's socket
        ("machine.slice/libpod-0123abcd.scope", 0),
        ("system.slice/docker-0123abcd.scope", 0),
    ],
)
def test_a_forger_is_no_container_and_no_kernel(journald: Journald, cgroup: str, uid: int) -> None:
    with journald.writer(cgroup, uid=uid, comm="docker") as writer:
        for identifier in ("web", "kernel", "dockerd"):
            forged: dict[str, Any] = {"CONTAINER_NAME": "web", "CONTAINER_ID_FULL": "0", "_TRANSPORT": "kernel"}
            forged |= {"_SYSTEMD_UNIT": "docker.service", "_UID": "0", "_SYSTEMD_SLICE": "system.slice"}
            writer.send("F native", identifier=identifier, **forged)
            writer.syslog("F syslog", identifier=identifier)  # as `logger -t kernel`
            writer.stdout(b"F stdout\n", identifier=identifier)
        journald.sync()
        time.sleep(ALIVE)
    read = [*entries(journald.path, wanting(containers=("*",))), *entries(journald.path, wanting(fields=KERNEL))]
    assert {entry.uid for entry in read} <= {uid, None}  # None: journald looked too late
    assert len(entries(journald.path, wanting(units=("*",)))) == 9
    assert counted(journald.path, wanting(containers=("web",))) == []
    assert counted(journald.path, wanting(containers=("*",), identifiers=("*",))) == []
    assert counted(journald.path, wanting(fields=KERNEL)) == []
    assert counted(journald.path, wanting(fields=KERNEL, identifiers=("kernel",))) == []


def test_the_kernel(tmp_path: Path) -> None:
    line = {"_TRANSPORT": "kernel", "SYSLOG_IDENTIFIER": "kernel", "PRIORITY": 4}
    path = made(
        tmp_path / "j",
        [
            {**line, "_UID": None, "_PID": None, "MESSAGE": "F kernel"},
            {**line, "_TRANSPORT": "syslog", "MESSAGE": "F root's"},
            {**line, "_TRANSPORT": "syslog", "_UID": None, "MESSAGE": "F nobody's"},
            {**line, "_TRANSPORT": "stdout", "_SYSTEMD_UNIT": "a.service", "MESSAGE": "F a service's"},
        ],
    )
    assert counted(path, wanting(fields=KERNEL)) == [b"F kernel"]
    assert counted(path, wanting(fields={"_TRANSPORT": ("k*",)})) == [b"F kernel"]
    assert counted(path, wanting(units=("a.service",), fields={"_TRANSPORT": ("kernel", "stdout")})) == [
        b"F kernel",
        b"F a service's",
    ]
    assert counted(path, wanting(units=("a.service",))) == [b"F a service's"]


def test_other_trusted_fields(tmp_path: Path) -> None:
    path = made(
        tmp_path / "j",
        [
            {"_COMM": "a", "_EXE": "/usr/sbin/a", "_SYSTEMD_UNIT": "x.service", "MESSAGE": "F a"},
            {"_COMM": "a", "_EXE": "/home/a", "_SYSTEMD_UNIT": "x.service", "MESSAGE": "F not a"},
            {"_COMM": "a", "_EXE": "/usr/sbin/a", "_UID": 1000, "MESSAGE": "F a user's"},
        ],
    )
    assert counted(path, wanting(fields={"_COMM": ("a",), "_EXE": ("/usr/*",)})) == [b"F a"]
    assert counted(path, wanting(fields={"_COMM": ("*",), "_EXE": ("/usr/*",)})) == [b"F a"]


def test_further_fields_are_read_as_filters_ask(journald: Journald) -> None:
    journald.write("F one", cgroup=service("docker.service"), CONTAINER_NAME="web\nx", OTHER=b"\xff\0")
    journald.write("F two", cgroup=service("docker.service"), CONTAINER_NAME=b"\xff\0")
    plain = wanting(units=("docker.service",))
    assert [entry.more for entry in entries(journald.path, plain)] == [{}, {}]
    asking = [wanting(containers=("x",)), wanting(fields={"_COMM": ("y",), "OTHER": ("z",)}), plain]
    assert [entry.more for entry in entries(journald.path, *asking)] == [
        {"CONTAINER_NAME": "web\nx", "_COMM": "sshd", "OTHER": "\ufffd\0"},
        {"CONTAINER_NAME": "\ufffd\0", "_COMM": "sshd"},
    ]
    slices = wanting(slices=("system.slice",))
    first = entries(journald.path, slices)[0]
    assert first.more == {"_SYSTEMD_SLICE": "system.slice"}
    same = entries(journald.path, plain)[0]
    assert first._replace(more=same.more) == same
