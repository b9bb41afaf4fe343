# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines that came in pieces, as docker and podman's conmon send them; those of journald itself are in test_journal.py.

What has the fields of docker and conmon is written as their source says: copier.go and journald.go, ctr_logging.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from bed.journald import Journald, service, session
from sources.journals import counted, entries, made, wanting

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.kernel

DOCKER = wanting(units=("docker.service",))
STDOUT, STDERR = {"PRIORITY": 6}, {"PRIORITY": 3}
FIRST: Final[dict[str, Any]] = {"CONTAINER_PARTIAL_MESSAGE": "true"}


def written(path: Path, *lines: tuple[str, dict[str, Any]], **more: Any) -> list[tuple[bytes, bool]]:
    """Write lines of a container, and give what the journal makes of them."""
    usual = {
        "_SYSTEMD_UNIT": "docker.service",
        "_TRANSPORT": "journal",
        "CONTAINER_ID_FULL": "0123",
        "CONTAINER_NAME": "web",
        "PRIORITY": 6,
    }
    made(path, [{**usual, **more, "MESSAGE": message, **fields} for message, fields in lines])
    return [(entry.message, entry.continuation) for entry in entries(path, DOCKER)]


def test_the_last_piece_has_no_mark(tmp_path: Path) -> None:
    """As podman writes it, and older dockers."""
    assert written(tmp_path / "j", ("F1", {}), ("F2", FIRST), ("F3", FIRST), ("F4", {}), ("F5", {})) == [
        (b"F1", False),
        (b"F2", True),
        (b"F3", True),
        (b"F4", True),
        (b"F5", False),
    ]


def test_the_last_piece_has_a_mark(tmp_path: Path) -> None:
    """As newer dockers write it."""
    line = {"CONTAINER_PARTIAL_ID": "a", "CONTAINER_PARTIAL_LAST": "false"}
    last = {**line, "CONTAINER_PARTIAL_LAST": "true"}
    assert written(tmp_path / "j", ("F1", {**line, **FIRST}), ("F2", last), ("F3", {})) == [
        (b"F1", True),
        (b"F2", True),
        (b"F3", False),
    ]


def test_streams_and_containers_are_told_apart(tmp_path: Path) -> None:
    other = {"CONTAINER_ID_FULL": "4567"}
    assert written(
        tmp_path / "j",
        ("F1", {**STDOUT, **FIRST}),
        ("F2", STDERR),  # between two pieces of standard output
        ("F3", other),
        ("F4", STDOUT),
        ("F5", STDOUT),
    ) == [(b"F1", True), (b"F2", False), (b"F3", False), (b"F4", True), (b"F5", False)]


def test_an_entry_put_between_two_pieces_changes_nothing(journald: Journald) -> None:
    """A user writes under the container's name, so that the last piece seems to begin a line."""
    fields: dict[str, Any] = {"CONTAINER_ID_FULL": "0123", "CONTAINER_NAME": "web"}
    with (
        journald.writer(service("docker.service"), comm="dockerd") as docker,
        journald.writer(session(3, uid=1000), uid=1000) as user,
    ):
        docker.send("F first", **fields, **FIRST)
        journald.sync()
        user.send("F between", **fields)
        journald.sync()
        docker.send("F last", **fields)
        journald.sync()
        docker.send("F next", **fields)
    found = [(entry.message, entry.continuation) for entry in entries(journald.path, DOCKER)]
    assert found == [(b"F first", True), (b"F last", True), (b"F next", False)]
    assert counted(journald.path, wanting(containers=("web",))) == [b"F next"]


def test_a_container_whose_collector_lost_its_unit(tmp_path: Path) -> None:
    path = tmp_path / "j"
    usual = {"_TRANSPORT": "journal", "CONTAINER_ID_FULL": "0123", "SYSLOG_IDENTIFIER": "web"}
    made(path, [{**usual, **FIRST, "MESSAGE": "F1"}, {**usual, "MESSAGE": "F2"}])
    assert [entry.continuation for entry in entries(path, wanting(identifiers=("web",)))] == [True, True]


@pytest.mark.parametrize("container", [b"\xff\xfe", b"a\nb", b"x" * 100_000])
def test_what_can_not_be_looked_at_is_not_trusted(tmp_path: Path, container: bytes) -> None:
    found = written(tmp_path / "j", ("F1", FIRST), ("F2", {}), CONTAINER_ID_FULL=container)
    assert found == [(b"F1", True), (b"F2", True)]
