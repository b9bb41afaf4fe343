# SPDX-License-Identifier: LGPL-2.1-or-later
"""Log files: each line once, whatever happens to the files and to the reader."""

from __future__ import annotations

import gzip
import os
import tempfile
import threading
import tracemalloc
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banagent.core.events import SECOND
from banagent.sources import lines
from banagent.sources.decoder import read_stream
from banagent.sources.logfile import LogFile
from banagent.sources.rotation import base
from sources.logs import COMPRESSED, Reader, Service, everything, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from banagent.core.events import Entry

MEGABYTE: Final = 1 << 20
HOUR: Final = 3600 * SECOND
START: Final = 1_795_316_400 * SECOND  # 2026-11-22T03:00:00Z

ACTS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 30)),
    st.tuples(
        st.sampled_from(["begin_line", "end_line", "hup", "rotate", "copytruncate", "save", "restart"]), st.none()
    ),
    st.tuples(st.just("rotate without create"), st.none()),
    st.tuples(st.just("compress"), st.sampled_from(sorted(COMPRESSED))),
    st.tuples(st.just("read"), st.integers(1, 5)),
    st.tuples(st.just("read all"), st.none()),
)


@pytest.fixture
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK", 64)
    monkeypatch.setattr(lines, "LONGEST", 64)


@given(acts=st.lists(ACTS, max_size=60), dated=st.booleans())
@settings(max_examples=400, deadline=None)
@pytest.mark.usefixtures("_small_slices")
def test_each_line_is_read_once_and_in_order(acts: list[tuple[str, object]], *, dated: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        service, reader = begun(Path(folder) / "a.log", dated=dated)
        for act, argument in acts:
            perform(service, reader, act, argument)
        service.hup()
        service.close()
        reader.read()
        reader.close()
        assert reader.lines == service.written
        assert len({entry.position for entry in reader.entries}) == len(service.written)
        assert reader.missed == []


# what it found, in some ten thousand examples


@pytest.mark.parametrize(
    "acts",
    [
        pytest.param(
            "write copytruncate compress write rotate rotate-without-create compress", id="a copy of an unread file"
        ),
        pytest.param(
            "write rotate-without-create hup write copytruncate compress compress read save restart",
            id="a copy newer than a file that stays open",
        ),
    ],
)
@pytest.mark.usefixtures("_small_slices")
def test_rare_rotations(tmp_path: Path, acts: str) -> None:
    service, reader = begun(tmp_path / "a.log")
    arguments = {"write": 1, "compress": ".bz2"}
    for act in acts.split():
        perform(service, reader, {"read": "read all"}.get(act, act.replace("-", " ")), arguments.get(act))
    service.hup()
    service.close()
    reader.read()
    reader.close()
    assert reader.lines == service.written


def begun(path: Path, *, dated: bool = False) -> tuple[Service, Reader]:
    """Give a service and a reader that has seen its log."""
    service, reader = Service(path, dated=dated), Reader(path)
    reader.read()
    reader.save()
    return service, reader


def perform(service: Service, reader: Reader, act: str, argument: object) -> None:
    if act == "read all":
        reader.read()
    elif act == "rotate without create":
        service.rotate(create=False)
    elif hasattr(reader, act):
        getattr(reader, act)(*([argument] if argument is not None else []))
    else:
        getattr(service, act)(*([argument] if argument is not None else []))


# what the files go through


@pytest.mark.parametrize("suffix", sorted(COMPRESSED))
def test_what_was_rotated_and_compressed_while_nobody_read(tmp_path: Path, suffix: str) -> None:
    service, reader = begun(tmp_path / "a.log")
    service.write(10, padding=10_000)
    reader.read(1)
    reader.save()
    for _ in range(5):
        service.write(20_000)
        service.rotate()
        service.hup()
        service.write(1)
    for _ in range(4):
        service.compress(suffix)
    reader.restart()
    reader.read()
    assert reader.lines == service.written
    assert reader.missed == []
    service.close()
    reader.close()


def test_positions_and_times_stay_the_same_when_lines_are_read_again(tmp_path: Path) -> None:
    """Whatever became of the file meanwhile."""
    path = tmp_path / "a.log"
    path.touch()
    reader = Reader(path, ("syslog",))
    reader.read()
    reader.save()
    path.write_bytes(b"".join(b"2026-11-22T03:00:%02dZ h sshd[1]: %d\n" % (n, n) for n in range(60)))
    former: list[Entry] = []
    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: path.rename(f"{path}.1"),
        lambda: Path(f"{path}.1.gz").write_bytes(gzip.compress(Path(f"{path}.1").read_bytes())),
        lambda: Path(f"{path}.1").unlink(),
    ]
    for change in changes:
        change()
        reader.restart()
        reader.read()
        found = [(entry.time, entry.position.partition(":")[2], entry.message) for entry in reader.entries]
        assert len(found) == 60
        assert [(e.time, e.position.partition(":")[2], e.message) for e in former] in ([], found)
        former = reader.entries
    reader.close()


def test_entries_are_named_by_the_file_that_they_were_in_first(tmp_path: Path) -> None:
    service, reader = begun(tmp_path / "a.log")
    service.write(3)
    reader.read()
    reader.save()
    service.write(3)
    reader.read()
    before = [entry.position for entry in reader.entries]
    service.copytruncate()
    service.compress(".gz")
    reader.restart()
    reader.read()
    assert [entry.position for entry in reader.entries] == before
    service.close()
    reader.close()


def test_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "a.log")
    assert reader.read().position is None
    (tmp_path / "a.log").write_bytes(b"1\n")
    reader.read()
    assert reader.lines == [b"1"]
    reader.close()


def test_an_unfinished_line_waits_for_its_end_or_a_newer_file(tmp_path: Path) -> None:
    service, reader = begun(tmp_path / "a.log")
    service.begin_line()
    reader.read()
    assert reader.lines == []
    service.end_line()
    service.begin_line()
    reader.read()
    assert reader.lines == [b"line 0 begun"]
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    (tmp_path / "a.log").touch()
    reader.read()
    assert reader.lines == [b"line 0 begun"], "its writer may not know yet"
    (tmp_path / "a.log").write_bytes(b"newer\n")
    reader.read()
    assert reader.lines == [b"line 0 begun", b"line 1 beg", b"newer"]
    service.end_line()
    service.write()
    reader.read()
    assert reader.lines[3:] == [b"line 2 "], "no line begins in the midst of another"
    service.close()
    reader.close()


@pytest.mark.parametrize("length", [lines.LONGEST - 1, lines.LONGEST, lines.LONGEST + 1, 3 * lines.LONGEST, MEGABYTE])
def test_long_lines(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"before\n" + b"x" * length + b"\nbehind\n")
    reader = Reader(path)
    reader.read()
    assert [len(line) for line in reader.lines] == [6, min(length, lines.LONGEST), 6]
    assert [int(entry.position.rpartition(":")[2]) for entry in reader.entries] == [0, 7, 8 + length]
    reader.close()


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.touch()
    os.truncate(path, 100 * MEGABYTE)
    with path.open("ab") as file:
        file.write(b"x" * MEGABYTE)
    reader = Reader(path)
    tracemalloc.start()
    reader.read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEGABYTE
    assert reader.lines == []
    with path.open("ab") as file:
        file.write(b"\nnext\n")
    reader.read()
    assert reader.lines == [b"x" * lines.LONGEST, b"next"]
    reader.close()


def test_a_hole_of_a_writer_that_does_not_append(tmp_path: Path) -> None:
    """It writes on where it was before the file was truncated."""
    path = tmp_path / "a.log"
    reader = Reader(path, ("syslog",))
    with path.open("wb", buffering=0) as file:
        file.write(b"2026-11-22T03:00:00Z h sshd[1]: one\n" * 10_000)
        reader.read()
        path.with_suffix(".log.1").write_bytes(path.read_bytes())
        os.truncate(path, 0)
        file.write(b"2026-11-22T03:00:00Z h sshd[1]: two\n" * 2)
    reader.read()
    assert reader.lines == [b"one"] * 10_000 + [b"two"] * 2
    assert reader.missed == []
    reader.close()


def test_rubbish_stays_as_it_is(tmp_path: Path) -> None:
    rubbish = [b"\xff\xfe", b"", b"\r", b"a\0b", b"\x1b[2J", os.urandom(50).replace(b"\n", b"")]
    (tmp_path / "a.log").write_bytes(b"\n".join(rubbish) + b"\n")
    reader = Reader(tmp_path / "a.log")
    reader.read()
    assert reader.lines == rubbish
    reader.close()


def test_other_files_beside_it_are_left_alone(tmp_path: Path) -> None:
    service, reader = begun(tmp_path / "a.log")
    service.write()
    reader.read()
    reader.save()
    service.rotate()
    service.hup()
    for name in ("a.log.err", "a.log.swp", "a.logs.1", "b.log.1", "a.log.2x"):
        (tmp_path / name).write_bytes(b"other\n")
    (tmp_path / "a.log.5").mkdir()
    (tmp_path / "a.log.6").symlink_to("a.log.err")
    service.write()
    reader.restart()
    reader.read()
    assert reader.lines == service.written
    service.close()
    reader.close()


def test_a_renamed_file_of_any_name_is_read_to_its_end(tmp_path: Path) -> None:
    service, reader = begun(tmp_path / "a.log")
    service.write()
    reader.read()
    reader.save()
    service.write()
    service.path.rename(f"{service.path}.old")
    service.hup()
    service.write()
    reader.restart()
    reader.read()
    assert reader.lines == service.written
    service.close()
    reader.close()


# what can't be recovered is said


def test_what_nobody_can_read_is_said(tmp_path: Path) -> None:
    service, reader = begun(tmp_path / "a.log")
    service.write()
    reader.read()
    reader.save()
    service.rotate()
    service.hup()
    service.write()
    (tmp_path / "a.log.1").rename(tmp_path / "a.log.1.zst")
    (tmp_path / "a.log.1.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    reader.restart()
    reader.read()
    assert reader.lines == service.written
    why, what = reader.missed
    assert "a.log.1.zst can't be decompressed here" in why
    assert "was rotated, and where it was read last is not found: lines since 20" in what
    service.close()
    reader.close()


def test_a_damaged_file_is_said_and_the_next_ones_are_read(tmp_path: Path) -> None:
    service, reader = begun(tmp_path / "a.log")
    service.write()
    reader.read()
    reader.save()
    service.rotate()
    service.hup()
    service.write(50_000)
    service.rotate()
    service.hup()
    service.write()
    whole = gzip.compress((tmp_path / "a.log.1").read_bytes())
    (tmp_path / "a.log.1").unlink()
    (tmp_path / "a.log.1.gz").write_bytes(whole[: len(whole) // 2])
    reader.restart()
    reader.read()
    assert reader.lines[0] == service.written[0]
    assert reader.lines[-1] == service.written[-1]
    [said] = reader.missed
    assert "a.log.1.gz can't be decompressed" in said
    service.close()
    reader.close()


def test_a_truncation_without_a_copy_is_said(tmp_path: Path) -> None:
    service, reader = begun(tmp_path / "a.log")
    service.write()
    reader.read()
    os.truncate(service.path, 0)
    service.write()
    reader.read()
    assert reader.lines == service.written
    assert len(reader.missed) == 1
    service.close()
    reader.close()


@pytest.mark.parametrize(
    "position", ["", "x", "{}", "[]", '{"seen":1,"parts":[1],"since":0}', "null", '{"parts":[[]]}']
)
def test_a_position_that_is_none(tmp_path: Path, position: str) -> None:
    file = LogFile(str(tmp_path / "a.log"))
    assert not file.resume(position)
    assert len(file.missed) == 1


# entries


def entries(path: Path, *formats: str, at: int = START + HOUR) -> list[Entry]:
    file = LogFile(str(path), formats, UTC)
    found = read(file, at)
    file.close()
    return found


def read(file: LogFile, at: int) -> list[Entry]:
    """Read what there is at a time."""
    found: list[Entry] = []
    while True:
        batch = file.read(everything, at)
        found += [entry for entry, _ in batch.entries]
        if batch.all_read:
            return found


def test_an_entry_says_where_it_is_from(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"2026-11-22T03:00:00Z h sshd[7]: one\nNov 22 03:00:01 h no tag: two\n<3>1 - - x - - - three\n")
    one, two, three = entries(path, "syslog")
    assert (one.time, one.message, one.identifier, one.pid) == (START, b"one", "sshd", 7)
    assert (one.uid, one.unit, one.source, one.continuation) == (None, None, str(path), False)
    assert (two.time, two.message, two.identifier, two.pid) == (START + SECOND, b"no tag: two", "", None)
    assert (three.time, three.message, three.identifier) == (START + HOUR, b"three", "x")
    assert one.position.startswith(f"{path}@")
    assert len({one.position, two.position, three.position}) == 3


def test_formats_are_tried_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(
        b"2026-11-22T03:00:00Z h nginx: one\n2026/11/22 03:00:00 [error] two\n2026/11/22 03:00:00 [error] three\n"
        b"of no format\n2026-11-22T03:00:00Z h nginx: four\n"
    )
    messages = [entry.message for entry in entries(path, "syslog", "nginx-error")]
    assert messages == [b"one", b"[error] two", b"[error] three", b"four"]
    assert [entry.message for entry in entries(path, "nginx-error")] == [b"[error] two", b"[error] three"]


def test_an_odd_line_does_not_hide_the_format_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"odd\n2026/11/22 03:00:00 [error] one\nodd too\n2026/11/22 03:00:00 [error] two\n")
    messages = [entry.message for entry in entries(path, "nginx-error", "plain")]
    assert messages == [b"odd", b"[error] one", b"odd too", b"[error] two"]


def test_a_file_in_another_format_is_a_trouble(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"something\n")
    reader = Reader(path, ("nginx-error", "syslog"))
    reader.read()
    troubles = [reader.trouble]
    with path.open("ab") as file:
        file.write(b"2026/11/22 03:00:00 [error] one\n")
    reader.read()
    troubles.append(reader.trouble)
    assert troubles == [f"the lines of {path} are in none of the filter's formats; see banagent-filter(5)", None]
    reader.close()


def test_a_stamp_without_zone_is_not_older_than_the_last_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"Nov 22 03:00:00 h sshd[7]: one\n")
    file = LogFile(str(path), ("syslog",), UTC)
    times = [entry.time for entry in read(file, START + 5 * SECOND)]
    with path.open("ab") as log:
        log.write(b"Nov 22 03:00:06 h sshd[7]: two\nNov 22 02:00:00 h sshd[7]: in another zone\n")
    times += [entry.time for entry in read(file, START + 10 * SECOND)]
    assert times == [START, START + 6 * SECOND, START + 10 * SECOND]
    file.close()


def docker(text: str, end: str = "\\n") -> bytes:
    return f'{{"log":"{text}{end}","stream":"stdout","time":"2026-11-22T03:00:00Z"}}\n'.encode()


def test_a_piece_of_a_docker_line_is_marked_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(docker("one") + docker("two", ""))
    reader = Reader(path, ("docker",))
    reader.read()
    reader.save()
    reader.restart()
    with path.open("ab") as file:
        file.write(docker("three") + docker("four"))
    reader.read()
    found = [(entry.message, entry.continuation) for entry in reader.entries]
    assert found == [(b"one", False), (b"two", True), (b"three", True), (b"four", False)]
    reader.close()


# the first start


def stamped(kind: str, number: int) -> bytes:
    at = datetime.fromtimestamp(START / SECOND + number, UTC)
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ" if kind == "rfc3339" else "%b %d %H:%M:%S")
    return f"{stamp} h sshd[1]: {number}\n".encode()


@pytest.mark.parametrize("kind", ["rfc3339", "rfc3164"])
@pytest.mark.parametrize("since", [-5, 0, 1, 777, 2999, 3000])
def test_the_first_start_begins_with_a_time(tmp_path: Path, kind: str, since: int) -> None:
    """Lines without a stamp in between are no hindrance."""
    path = tmp_path / "a.log"
    path.write_bytes(b"".join(stamped(kind, number) + b"  at x\n" * (number % 3) for number in range(3000)))
    file = LogFile(str(path), ("syslog",), UTC)
    file.seek_time(START + since * SECOND, START + HOUR)
    found = [int(entry.message) for entry in read(file, START + HOUR)]
    assert found == list(range(max(since, 0), 3000))
    file.close()


def test_the_first_start_without_times_begins_at_the_last_lines_end(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"old\n" * 100 + b"begun")
    file = LogFile(str(path), ("plain",))
    file.seek_time(0, now())
    with path.open("ab") as log:
        log.write(b" now\nnew\n")
    assert [entry.message for entry in read(file, now())] == [b"begun now", b"new"]
    file.close()


# streams


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_stream_is_read_to_its_end(end: bytes) -> None:
    stream = BytesIO(b"Nov 22 03:00:00 h sshd[1]: one\n" + b"x" * 200_000 + b"\n2026-11-22T03:00:00Z h a: last" + end)
    batches = list(read_stream(stream, ("syslog",), everything, lambda: START))
    assert [entry.message for batch in batches for entry, _ in batch.entries] == [b"one", b"last"]
    assert sum(batch.read for batch in batches) == 3
    assert [batch.all_read for batch in batches][-2:] == [False, True]


def test_a_pipe_is_read_as_it_comes() -> None:
    reading, writing = os.pipe()
    came = threading.Event()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            pipe.write(b"one\ntw")
            came.wait(20)
            pipe.write(b"o\n")

    writer = threading.Thread(target=write)
    writer.start()
    found: list[bytes] = []
    with os.fdopen(reading, "rb") as pipe:
        for batch in read_stream(pipe, ("plain",), everything, now):
            found += [entry.message for entry, _ in batch.entries]
            if found:
                came.set()
    writer.join()
    assert found == [b"one", b"two"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/log/auth.log.1", "/var/log/auth.log"),
        ("/var/log/auth.log.2.gz", "/var/log/auth.log"),
        ("/var/log/auth.log-20261122", "/var/log/auth.log"),
        ("/var/log/auth.log-20261122-1795316400.xz", "/var/log/auth.log"),
        ("/var/log/auth.log", None),
        ("/var/log/app-2026-11-22.log", None),
        ("/var/log/1", None),
        ("/var/log/auth.log.old", None),
    ],
)
def test_the_names_of_rotated_files(path: str, expected: str | None) -> None:
    assert base(path) == expected
