# SPDX-License-Identifier: LGPL-2.1-or-later
"""The journal source, on journals of a real journald."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from banagent.core.filter import Filter
from banagent.errors import JournalError
from banagent.sources.batch import SLICE
from banagent.sources.journal import LONGEST, NEWS, Gap, Journal
from banagent.sources.notices import DEAF
from bed.journald import Journald, Writer, make_journal, service, session

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from banagent.core.events import Entry
    from banagent.sources.batch import Suppressed

pytestmark = pytest.mark.kernel

NOBODY = 65534
START = 1_700_000_000_000_000
HOUR = 3_600_000_000
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
        assert journal.resume(position, START) is None
    found: list[Entry] = []
    while (batch := journal.read(sift)).read:
        found += [entry for entry, _ in batch.entries]
    journal.close()
    return found


def made(path: Path, messages: Sequence[bytes | None], *, later: int = 0, **more: Any) -> Path:
    usual = {"_SYSTEMD_UNIT": "ssh.service", "_UID": 0, "_PID": 7, "SYSLOG_IDENTIFIER": "sshd"} | more
    fields: list[dict[str, Any]] = [usual | ({} if m is None else {"MESSAGE": m}) for m in messages]
    return make_journal(
        path,
        (
            {**field, "__REALTIME_TIMESTAMP": START + later + n, "__MONOTONIC_TIMESTAMP": later + n + 1}
            for n, field in enumerate(fields)
        ),
    )


def joined(path: Path, *files: Sequence[bytes]) -> Path:
    """Make a journal of several files, an hour and a boot apart."""
    folder = path / "joined"
    folder.mkdir()
    for number, messages in enumerate(files):
        name = path / str(number)
        made(name, messages, later=number * HOUR, _BOOT_ID=f"{number:032}").joinpath("made.journal").rename(
            folder / f"{number}.journal"
        )
    return folder


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
    assert journal.resume(gone, START - 5) == Gap(START - 5, START)
    assert [entry.message for entry, _ in journal.read(sift).entries] == [b"F3"]
    journal.close()


def test_what_was_vacuumed_may_have_been_missed(journald: Journald) -> None:
    journald.write("F1")
    read = entries(journald.path)[-1]
    journald.write("F2")
    journald.rotate()
    journald.write("F3")
    for file in journald.path.glob("system@*"):
        file.unlink()
    journal = opened(journald.path)
    gap = journal.resume(read.position, read.time)
    found = journal.read(sift)
    assert [entry.message for entry, _ in found.entries] == [b"F3"]
    assert gap is not None
    assert gap.since == read.time
    assert gap.until is not None
    assert read.time < gap.until <= found.entries[0][0].time
    journal.close()


@pytest.mark.parametrize("left", [True, False])
def test_only_one_file_is_gone(tmp_path: Path, *, left: bool) -> None:
    """Those before and perhaps those behind it are there: none is read twice."""
    path = joined(tmp_path, [b"F1"], [b"F2"], *([[b"x3", b"F4"]] if left else []))
    gone = entries(path)[1]
    (path / "1.journal").unlink()
    journal = opened(path)
    assert journal.resume(gone.position, gone.time) == Gap(gone.time, START + 2 * HOUR if left else None)

    async def follow() -> list[bytes]:
        async for batch in journal.follow(sift):
            return [entry.message for entry, _ in batch.entries]
        return []

    assert asyncio.run(asyncio.wait_for(follow(), 20)) == ([b"F4"] if left else [])
    assert journal.position != gone.position
    journal.close()


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """The position's file is gone, and nothing that is left is behind it: that is said, and a time will do."""
    path = joined(tmp_path, [b"F1"], [b"F2"])
    gone = entries(path)[1]
    (path / "1.journal").unlink()
    journal = opened(path)
    assert journal.resume(gone.position, gone.time) == Gap(gone.time, None)
    assert journal.read(sift).read == 0
    journal.seek_time(START)
    assert [entry.message for entry, _ in journal.read(sift).entries] == [b"F1"]
    journal.close()


def test_a_position_that_nobody_asks_for_any_more_is_not_gone(tmp_path: Path) -> None:
    path = made(tmp_path / "j", [b"F1", b"F2"], _SYSTEMD_UNIT="cron.service", SYSLOG_IDENTIFIER="cron")
    made(tmp_path / "k", [b"F3"], later=HOUR).joinpath("made.journal").rename(path / "more.journal")
    everything = Journal([replace(FILTER, units=("*",), identifiers=())], path)
    everything.seek_time(0)
    first = everything.read(sift).entries[0][0]
    everything.close()
    journal = opened(path)
    assert journal.resume(first.position, first.time) is None
    assert (journal.position, journal.read(sift, 0).time) == (first.position, first.time)
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
    async with asyncio.timeout(60):
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


@pytest.mark.parametrize(("unit", "look"), [("other.service", "_has_more"), ("ssh.service", "read")])
def test_what_is_of_no_use_is_looked_at_once_a_second(
    journald: Journald, monkeypatch: pytest.MonkeyPatch, unit: str, look: str
) -> None:
    """And what is to be read is found all the same."""
    looks: list[float] = []
    looking = getattr(Journal, look)

    def counting(journal: Journal, *arguments: Any) -> object:
        looks.append(time.monotonic())
        return looking(journal, *arguments)

    def write() -> None:
        looks.clear()
        until = time.monotonic() + 3 * DEAF
        while time.monotonic() < until:
            other.send("something else", identifier="other")
            time.sleep(0.05)
        journald.write("F0")

    async def both() -> list[bytes]:
        reading = asyncio.create_task(collect(journal, 1, lambda _: None))
        await asyncio.to_thread(write)
        return await reading

    monkeypatch.setattr(Journal, look, counting)
    with journald.writer(service(unit), comm="other") as other:
        journal = opened(journald.path)
        assert asyncio.run(both()) == [b"F0"]
        journal.close()
    assert 2 <= len(looks) <= 8  # journald gives notice four times a second


@pytest.mark.parametrize("before", [0, 1, SLICE])
def test_the_first_batches_say_when_all_was_read(tmp_path: Path, before: int) -> None:
    journal = opened(made(tmp_path / "j", [b"F"] * (before or 1)))
    if not before:
        journal.seek_time(START + 10)

    async def first() -> list[tuple[int, bool]]:
        found: list[tuple[int, bool]] = []
        async with asyncio.timeout(60):
            async for batch in journal.follow(sift):
                found.append((batch.read, batch.all_read))
                if batch.all_read or len(found) == 3:
                    break
        return found

    assert asyncio.run(first()) == ([(SLICE, False), (0, True)] if before == SLICE else [(before, True)])
    journal.close()


@pytest.mark.parametrize("patience", [0.0, NEWS])
def test_what_does_not_pass_is_told_once_in_a_while(
    journald: Journald, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """Each batch makes work: others' lines shall not, however many they are."""
    monkeypatch.setattr("banagent.sources.journal.NEWS", patience)
    journald.write("first")
    journal = opened(journald.path)
    found: list[list[bytes]] = []
    read = asyncio.Event()

    def sifting(message: bytes) -> Sequence[int]:
        read.set()
        return sift(message)

    async def write() -> None:
        for _ in range(3):
            await read.wait()
            read.clear()
            await asyncio.to_thread(journald.write, "x")
        await read.wait()
        await asyncio.to_thread(journald.write, "F")

    async def follow() -> str | None:
        async for batch in journal.follow(sifting):
            found.append([entry.message for entry, _ in batch.entries])
            if batch.entries:
                return batch.position
        return None

    async def both() -> str | None:
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            following = tasks.create_task(follow())
        return following.result()

    position = asyncio.run(both())
    journal.close()
    assert found == ([[], [b"F"]] if patience else [[], [], [], [], [b"F"]])
    assert position == entries(journald.path)[-1].position


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
    assert journal.resume("nonsense", 7) == Gap(7, START)
    assert [entry.message for entry, _ in journal.read(sift).entries] == [b"F1"]
    journal.close()


# what journald drops


def test_what_journald_dropped_is_said(journald: Journald) -> None:
    limits = "[Journal]\nRateLimitIntervalSec=300ms\nRateLimitBurst=10\n"
    write = ["sh", "-c", 'printf "$1" >/run/systemd/journald.conf.d/zz.conf', "sh", limits]
    subprocess.run(journald.argv(*write), check=True)
    journald.restart()
    journal = opened(journald.path)
    said: list[Suppressed] = []
    came: list[bytes] = []
    wrote = 0

    def sifting(message: bytes) -> Sequence[int]:
        came.append(message)
        return ()

    with journald.writer() as sshd, journald.writer(service("cron.service"), comm="cron") as cron:
        for _ in range(1000):
            sshd.syslog("x")
            cron.syslog("x", identifier="cron")
            wrote += 1
        while not said:  # it is said with the first line that is taken again
            sshd.syslog("x")
            cron.syslog("x", identifier="cron")
            wrote += 1
            journald.sync()
            while (batch := journal.read(sifting)).read:
                said += batch.suppressed
    journal.close()
    assert [item.unit for item in said] == ["ssh.service"]
    assert said[0].dropped == wrote - came.count(b"x")
    assert START < said[0].time <= time.time_ns() // 1000


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({}, 7),
        ({"MESSAGE": "Suppressed 3 messages from ssh@1.service"}, 3),
        ({"MESSAGE": "Suppressed 3 messages from cron.service"}, None),
        ({"MESSAGE": "Suppressed many messages from ssh.service"}, None),
        # somebody's own words
        ({"_TRANSPORT": "journal"}, None),
        ({"_TRANSPORT": "syslog", "_UID": 1000}, None),
    ],
)
def test_only_journald_is_believed(tmp_path: Path, fields: dict[str, Any], dropped: int | None) -> None:
    usual: dict[str, Any] = {"_TRANSPORT": "driver", "MESSAGE_ID": "a596d6fe7bfa4994828e72309e95d61e"}
    message: dict[str, Any] = {"MESSAGE": "Suppressed 7 messages from ssh.service"}
    path = made(tmp_path / "j", [None], **usual | message | fields)
    journal = opened(path)
    assert [item.dropped for item in journal.read(sift).suppressed] == ([] if dropped is None else [dropped])
    journal.close()


# entries that are meant to be trouble


@pytest.mark.parametrize("identifier", ["sshd", "other"])
def test_ten_megabytes_from_anybody(journald: Journald, identifier: str) -> None:
    with journald.writer(session(3, uid=1000), uid=1000) as user:
        user.send(b"F" + b"y" * 10_000_000, identifier=identifier)
        user.send("Fx", identifier=identifier, HUGE=os.urandom(10_000_000))
        user.send("Fy", identifier=identifier, **{f"FIELD_{n}": b"\xff\n" * 5000 for n in range(900)})
        user.send("Fz", identifier=identifier, SYSLOG_PID=b"\xff\0\n" * 100_000)
    journald.write("F last")
    asking = replace(FILTER, fields={"HUGE": ("*",), "FIELD_899": ("*",)}, units=("*",), identifiers=())
    journal = Journal([FILTER, asking], journald.path)
    journal.seek_time(0)
    found = [entry for entry, _ in journal.read(sift).entries]
    journal.close()
    assert [entry.message[:6] for entry in found] == [b"Fyyyyy", b"Fx", b"Fy", b"Fz", b"F last"]
    assert len(found[0].message) <= LONGEST
    assert [sorted(entry.more) for entry in found] == [[], ["HUGE"], ["FIELD_899"], [], []]
    assert len(found[1].more["HUGE"]) <= LONGEST


@pytest.mark.parametrize("seed", range(12))
def test_files_with_flipped_bytes(tmp_path: Path, seed: int) -> None:
    """What is whole is read, or the trouble is said; it does not crash or hang."""
    chance = random.Random(seed)
    path = made(
        tmp_path / "j", [b"F%d" % n + b"x" * (n % 700) for n in range(1000)], _TRANSPORT="stdout", _STREAM_ID="a"
    )
    (file,) = path.glob("*.journal")
    data = bytearray(file.read_bytes())
    used = len(data.rstrip(b"\0"))
    for _ in range(chance.choice((1, 50, 5000))):
        data[chance.randrange(used)] = chance.randrange(256)
    file.write_bytes(data)
    try:
        assert len(entries(path)) <= 1000
    except JournalError as error:
        assert "cannot" in str(error)  # noqa: PT017 - either outcome is right
