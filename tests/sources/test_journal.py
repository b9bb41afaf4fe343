# SPDX-License-Identifier: LGPL-2.1-or-later
"""The journal source, on journals of a real journald."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from banagent.core.filter import Filter
from banagent.errors import JournalError
from banagent.sources.journal import SLICE, Journal
from bed.journald import Journald, Writer, make_journal, service, session

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from banagent.core.events import Entry

pytestmark = pytest.mark.kernel

NOBODY = 65534
START = 1_700_000_000_000_000
FILTER = Filter(
    name="x",
    file="-",
    description="-",
    units=("ssh.service", "ssh@*.service"),
    identifiers=("sshd",),
)


def sift(message: bytes) -> Sequence[int]:
    """Let pass what begins with an F."""
    return [0] if message.startswith(b"F") else []


def opened(path: Path) -> Journal:
    journal = Journal([FILTER], path)
    journal.seek_time(0)
    return journal


def entries(path: Path, position: str | None = None) -> list[Entry]:
    journal = opened(path)
    if position is not None:
        assert journal.seek(position)
    found: list[Entry] = []
    while (batch := journal.read(sift)).read:
        found += [entry for entry, _ in batch.entries]
    journal.close()
    return found


def made(path: Path, messages: Sequence[bytes | None], **more: Any) -> Path:
    usual = {"_SYSTEMD_UNIT": "ssh.service", "_UID": 0, "_PID": 7, "SYSLOG_IDENTIFIER": "sshd"} | more
    fields: list[dict[str, Any]] = [usual | ({} if m is None else {"MESSAGE": m}) for m in messages]
    return make_journal(path, ({**field, "__REALTIME_TIMESTAMP": START + n} for n, field in enumerate(fields)))


def test_fields_as_journald_vouches_for_them(journald: Journald) -> None:
    journald.write("F one")
    journald.write("F two", cgroup=session(3, uid=1000), uid=1000)
    one, two = entries(journald.path)
    assert (one.message, one.unit, one.uid) == (b"F one", "ssh.service", 0)
    assert (two.message, two.unit, two.uid) == (b"F two", "session-3.scope", 1000)
    assert one.pid
    assert one.time < two.time
    assert not one.continuation


def test_reads_units_or_identifiers_and_nothing_else(journald: Journald) -> None:
    journald.write("F unit", SYSLOG_IDENTIFIER="other")
    journald.write("F identifier", cgroup=service("cron.service"))
    journald.write("F instance", cgroup=service("ssh@1.service"))
    journald.write("F neither", cgroup=service("cron.service"), SYSLOG_IDENTIFIER="cron")
    assert [entry.message for entry in entries(journald.path)] == [b"F unit", b"F identifier", b"F instance"]


def test_hostile_messages_come_as_they_are(tmp_path: Path) -> None:
    messages = [b"F\0\xff\xfe\x1b[2J", b"F a\nb", None, b"", b"F" + b"x" * 1_000_000]
    found = entries(made(tmp_path / "j", messages))
    assert [entry.message for entry in found[:2]] == messages[:2]
    assert found[2].message.startswith(b"Fxxx")  # the rest of a megabyte is not even looked at
    assert len(found) == 3


def test_reading_goes_on_behind_a_position(tmp_path: Path) -> None:
    path = made(tmp_path / "j", [b"F%d" % n for n in range(SLICE + 7)])
    everything = entries(path)
    assert [entry.message for entry in everything] == [b"F%d" % n for n in range(SLICE + 7)]
    assert entries(path, everything[3].position) == everything[4:]
    assert entries(path, everything[-1].position) == []


def test_batches_have_the_position_of_the_last_entry_read(tmp_path: Path) -> None:
    journal = opened(made(tmp_path / "j", [b"F0", b"x1", b"x2"]))
    batch = journal.read(sift)
    assert (batch.read, len(batch.entries), batch.time) == (3, 1, START + 2)
    assert journal.position == batch.position
    assert journal.read(sift).read == 0
    journal.close()
    assert entries(tmp_path / "j", batch.position) == []


def test_a_position_that_is_gone(tmp_path: Path) -> None:
    path = made(tmp_path / "j", [b"F1", b"F2"])
    gone = entries(path)[0].position
    other = made(tmp_path / "other", [b"F3"])
    journal = opened(other)
    assert not journal.seek(gone)
    assert [entry.message for entry, _ in journal.read(sift).entries] == [b"F3"]
    journal.close()


def test_since_a_time(tmp_path: Path) -> None:
    journal = opened(made(tmp_path / "j", [b"F0", b"F1", b"F2"]))
    journal.seek_time(START + 1)
    assert [entry.message for entry, _ in journal.read(sift).entries] == [b"F1", b"F2"]
    journal.close()


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_file_that_is_cut_short(tmp_path: Path, keep: float) -> None:
    """What is left of it is read or the trouble is said; it does not crash or hang."""
    path = made(tmp_path / "j", [b"F%d" % n + os.urandom(2000) for n in range(3000)])
    for file in path.glob("*.journal"):
        os.truncate(file, int(file.stat().st_size * keep))
    try:
        assert len(entries(path)) <= 3000
    except JournalError as error:
        assert "cannot" in str(error)  # noqa: PT017 - either outcome is right


def test_no_journal_at_all(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"no journal files in .*; is systemd-journald running\?"):
        Journal([FILTER], tmp_path)


def test_an_unreadable_journal_names_the_remedy(tmp_path: Path) -> None:
    path = made(tmp_path / "j", [b"F1"])
    path.chmod(0o755)
    for file in path.glob("*.journal"):
        file.chmod(0o640)
    with as_nobody(path), pytest.raises(JournalError, match=r"not permitted .* must be in group systemd-journal"):
        Journal([FILTER], path)


@contextmanager
def as_nobody(path: Path) -> Generator[None]:
    """Be `nobody` for the block, as far as files are concerned, who may come as far as `path`."""
    for folder in path.parents:
        folder.chmod(folder.stat().st_mode | 0o011)
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


# stdout: an enemy may choose where the second piece of a line begins


def test_a_piece_of_a_longer_line_is_marked(journald: Journald) -> None:
    with journald.writer() as writer:
        writer.stdout(b"F first\n")
        writer.stdout(b"F" + b"x" * (48 * 1024 - 1) + b"Failed password for root from 192.0.2.1 port 22 ssh2\n")
        writer.stdout(b"F last\n")
    found = entries(journald.path)
    assert [(entry.message[:8], entry.continuation) for entry in found] == [
        (b"F first", False),
        (b"Fxxxxxxx", False),
        (b"Failed p", True),
        (b"F last", False),
    ]


def test_a_line_that_ends_at_the_limit_by_itself_marks_nothing(journald: Journald) -> None:
    with journald.writer() as writer:
        writer.stdout(b"F" + b"x" * 1000 + b"\nF next\n")
    assert [entry.continuation for entry in entries(journald.path)] == [False, False]


# following live


async def collect(journal: Journal, number: int, act: Callable[[int], None]) -> list[bytes]:
    """Follow until `number` entries came; `act` is called whenever all so far was read, with how many came."""
    found: list[bytes] = []
    async with asyncio.timeout(20):
        async for batch in journal.follow(sift):
            found += [entry.message for entry, _ in batch.entries]
            if len(found) >= number:
                break
            await asyncio.to_thread(act, len(found))
    return found


def test_follows_over_rotation_and_a_restart_of_journald(journald: Journald) -> None:
    journald.write("F0")
    journal = opened(journald.path)

    def act(came: int) -> None:
        {1: journald.rotate, 2: journald.restart}.get(came, lambda: None)()
        journald.write(f"F{came}")

    assert asyncio.run(collect(journal, 4, act)) == [b"F0", b"F1", b"F2", b"F3"]
    journal.close()


@pytest.mark.parametrize("before", [0, 1, SLICE])
def test_the_first_batches_say_when_all_was_read(tmp_path: Path, before: int) -> None:
    journal = opened(made(tmp_path / "j", [b"F"] * (before or 1)))
    if not before:
        journal.seek_time(START + 10)

    async def first() -> list[tuple[int, bool]]:
        found: list[tuple[int, bool]] = []
        async with asyncio.timeout(20):
            async for batch in journal.follow(sift):
                found.append((batch.read, batch.all_read))
                if batch.all_read or len(found) == 3:
                    break
        return found

    assert asyncio.run(first()) == ([(SLICE, False), (0, True)] if before == SLICE else [(before, True)])
    journal.close()


def test_a_piece_of_a_longer_line_is_marked_also_after_a_rotation(journald: Journald) -> None:
    journal = opened(journald.path)
    found: list[bool] = []

    async def follow(writer: Writer) -> None:
        async for batch in journal.follow(sift):
            found.extend(entry.continuation for entry, _ in batch.entries)
            if len(found) == 2:
                return
            if found:
                await asyncio.to_thread(journald.rotate)
            writer.stdout(b"x" * 48 * 1024 + b"Failed password for root from 192.0.2.1 port 22 ssh2\n")

    with journald.writer() as writer:
        asyncio.run(asyncio.wait_for(follow(writer), 20))
    journal.close()
    assert found == [True, True]


def test_an_entry_with_damaged_fields_is_counted_and_left_out(tmp_path: Path) -> None:
    path = made(tmp_path / "j", [b"F1"], _PID="32\0x")
    made(tmp_path / "j" / "more", [b"F2"]).joinpath("made.journal").rename(path / "more.journal")
    (path / "more").rmdir()
    journal = opened(path)
    batch = journal.read(sift)
    assert ([entry.message for entry, _ in batch.entries], batch.read, batch.damaged) == ([b"F2"], 2, 1)
    journal.close()


def test_a_position_that_is_none(tmp_path: Path) -> None:
    journal = opened(made(tmp_path / "j", [b"F1"]))
    assert not journal.seek("nonsense")
    assert [entry.message for entry, _ in journal.read(sift).entries] == [b"F1"]
    journal.close()
