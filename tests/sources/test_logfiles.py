# SPDX-License-Identifier: LGPL-2.1-or-later
"""Following log files: what comes and goes in their folders, what can't be read, and that silence costs nothing."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import banagent
from banagent.sources import inotify
from banagent.sources.inotify import Inotify
from banagent.sources.logfiles import MOST, LogFiles
from sources.logs import Service, everything, now

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

PATIENCE: Final = 60.0  # seconds
MEGABYTE: Final = 1 << 20
NOBODY: Final = 65534
MOST_EVENTS: Final = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


class Follower:
    """Follows files, and keeps what came."""

    def __init__(self, *globs: Path, positions: dict[str, str] | None = None, since: int = 0) -> None:
        self.files = LogFiles({str(glob): ("plain",) for glob in globs}, now, since=since, positions=positions)
        self.came: list[tuple[str, bytes]] = []
        self.read = 0
        self.silent: set[str] = set()  # paths of which all was read
        self._changed = asyncio.Event()

    async def run(self) -> None:
        async for batch in self.files.follow(lambda _: everything):
            self.came += [(Path(batch.source).name, entry.message) for entry, _ in batch.entries]
            self.read += batch.read
            (self.silent.add if batch.all_read else self.silent.discard)(batch.source)
            self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for batches until something holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def lines(self, *expected: bytes) -> None:
        """Wait for these lines, and no others."""
        await self.until(lambda: len(self.came) >= len(expected))
        assert [line for _, line in self.came] == list(expected)
        self.came.clear()


@asynccontextmanager
async def following(*globs: Path, positions: dict[str, str] | None = None, since: int = 0) -> AsyncGenerator[Follower]:
    """Follow, from when all that is there was read."""
    follower = Follower(*globs, positions=positions, since=since)
    task = asyncio.create_task(follower.run())
    try:
        await follower.until(lambda: "" in follower.silent)
        yield follower
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 3 * PATIENCE))


def write(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(data)


def test_files_and_folders_that_come_later(tmp_path: Path) -> None:
    async def test() -> None:
        globs = tmp_path / "a.log", tmp_path / "*" / "deep" / "*.log", tmp_path / "x" / "y" / "z.log"
        async with following(*globs) as follower:
            assert follower.files.waiting == tuple(map(str, globs))
            write(globs[0], b"1\n")
            await follower.lines(b"1")
            assert follower.files.waiting == tuple(map(str, globs[1:]))
            (tmp_path / "one" / "deep").mkdir(parents=True)
            write(tmp_path / "one" / "deep" / ".hidden.log", b"0\n")
            write(tmp_path / "one" / "deep" / "b.txt", b"0\n")
            write(tmp_path / "one" / "deep" / "b.log", b"2\n")
            await follower.lines(b"2")
            (tmp_path / "x" / "y").mkdir(parents=True)
            write(globs[2], b"3\n")
            await follower.lines(b"3")
            assert follower.files.waiting == ()

    run(test)


def test_a_folder_that_is_replaced(tmp_path: Path) -> None:
    async def test() -> None:
        folder = tmp_path / "app" / "logs"
        folder.mkdir(parents=True)
        (folder / "a.log").touch()
        async with following(folder / "a.log") as follower:
            write(folder / "a.log", b"1\n")
            await follower.lines(b"1")
            (tmp_path / "app").rename(tmp_path / "app.old")
            folder.mkdir(parents=True)
            write(folder / "a.log", b"2\n")
            await follower.lines(b"2")
            write(folder / "a.log", b"3\n")
            await follower.lines(b"3")

    run(test)


def test_rotations(tmp_path: Path) -> None:
    async def test() -> None:
        service = Service(tmp_path / "a.log")
        async with following(tmp_path / "*") as follower:  # what it is rotated to matches as well
            for number in range(100):
                service.write(3)
                if number % 3 == 0:
                    service.rotate()
                    service.write(2)
                    service.hup()
                elif number % 3 == 1:
                    service.copytruncate()
                await follower.until(lambda: len(follower.came) >= len(service.written))
            assert follower.came == [("a.log", line) for line in service.written]
            assert follower.files.missed == []
            assert list(follower.files.positions) == [str(service.path)]
        service.close()

    run(test)


def test_a_file_that_is_gone_is_let_go(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "a.log"
        path.touch()
        async with following(tmp_path / "*.log") as follower:
            write(path, b"1\n")
            await follower.lines(b"1")
            os.utime(path, (0, 0))  # nobody wrote to it for long
            path.unlink()
            write(tmp_path / "b.log", b"2\n")
            await follower.lines(b"2")
            assert list(follower.files.positions) == [str(tmp_path / "b.log")]
            assert not any(str(path) in target for target in open_files())
            path.write_bytes(b"3\n")
            await follower.lines(b"3")

    run(test)


def open_files() -> list[str]:
    found: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself
            found.append(str(descriptor.readlink()))
    return found


def test_saved_positions(tmp_path: Path) -> None:
    async def test() -> None:
        service = Service(tmp_path / "a.log")
        async with following(service.path) as follower:
            service.write(5)
            await follower.lines(*service.written)
            positions = follower.files.positions
        service.write(3)
        service.rotate(create=False)
        async with following(service.path, positions=positions) as follower:
            await follower.lines(*service.written[5:])
            service.hup()
            service.write()
            await follower.lines(service.written[-1])
        service.close()

    run(test)


# what can't be read


def test_what_is_no_log_file_is_said_and_stops_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        folder = tmp_path / "logs"
        folder.mkdir()
        (folder / "folder.log").mkdir()
        os.mkfifo(folder / "fifo.log")
        (tmp_path / "secret").write_bytes(b"secret\n")
        (folder / "out.log").symlink_to("../secret")
        (folder / "absolute.log").symlink_to(tmp_path / "secret")
        (folder / "dangling.log").symlink_to("nothing")
        (folder / "today").touch()
        (folder / "in.log").symlink_to("today")
        (folder / "twice.log").symlink_to("out.log")
        async with following(folder / "*.log") as follower:
            write(folder / "today", b"1\n")
            await follower.lines(b"1")
            assert follower.files.troubles == {
                f"{folder}/folder.log": f"{folder}/folder.log is a directory; name its files in logpath",
                f"{folder}/fifo.log": f"{folder}/fifo.log is a FIFO; let the service write to a file",
                f"{folder}/out.log": f"{folder}/out.log is a symbolic link out of its folder; "
                f"name the target itself in logpath: {tmp_path}/secret",
                f"{folder}/absolute.log": f"{folder}/absolute.log is a symbolic link out of its folder; "
                f"name the target itself in logpath: {tmp_path}/secret",
                f"{folder}/twice.log": f"{folder}/out.log is a symbolic link to another; "
                "name the target itself in logpath",
            }
            (folder / "tomorrow").write_bytes(b"2\n")
            (folder / "link").symlink_to("tomorrow")
            (folder / "link").rename(folder / "in.log")
            await follower.lines(b"2")
            (folder / "fifo.log").unlink()
            write(folder / "fifo.log", b"3\n")
            await follower.lines(b"3")
            assert f"{folder}/fifo.log" not in follower.files.troubles

    run(test)


@pytest.mark.kernel
def test_permissions(tmp_path: Path) -> None:
    async def test() -> None:
        path, closed, unseen = tmp_path / "a.log", tmp_path / "closed", tmp_path / "unseen"
        path.write_bytes(b"1\n")
        path.chmod(0)
        closed.mkdir(mode=0o700)
        (closed / "b.log").write_bytes(b"2\n")
        unseen.mkdir(mode=0o711)
        (unseen / "c.log").touch(0o644)
        with as_nobody(tmp_path):
            async with following(path, closed / "*.log", unseen / "c.log") as follower:
                assert follower.files.troubles == {
                    str(path): f"not permitted to read {path}; see: banagent check",
                    str(closed): f"cannot look into {closed}: Permission denied; see: banagent check",
                    str(unseen): f"cannot watch {unseen}: Permission denied; see: banagent check",
                }
                as_root(lambda: path.chmod(0o644))
                await follower.lines(b"1")
                as_root(lambda: closed.chmod(0o755))
                await follower.lines(b"2")
                as_root(lambda: write(unseen / "c.log", b"3\n"))
                await follower.lines(b"3")
                assert list(follower.files.troubles) == [str(unseen)]

    run(test)


@contextmanager
def as_nobody(path: Path) -> Generator[None]:
    """Be `nobody` for the block, as far as files are concerned, who may look as far as into `path`."""
    for folder in (path, *path.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
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


def as_root(act: Callable[[], None]) -> None:
    user = os.geteuid()
    os.seteuid(0)
    act()
    os.seteuid(user)


def test_too_many_files(tmp_path: Path) -> None:
    async def test() -> None:
        for number in range(MOST + 3):
            (tmp_path / f"{number:04}.log").touch()
        async with following(tmp_path / "*.log") as follower:
            assert len(follower.files.positions) == MOST
            assert len(follower.files.troubles) == 3

    run(test)


# events, and none


def test_lost_events(tmp_path: Path) -> None:
    """So many names come and go that the kernel drops some: then all is looked at."""

    async def test() -> None:
        path = tmp_path / "a.log"
        path.touch()
        async with following(tmp_path / "*.log") as follower:
            for _ in range(MOST_EVENTS):
                (tmp_path / "x.log").touch()
                (tmp_path / "x.log").unlink()
            write(path, b"1\n")
            write(tmp_path / "b.log", b"2\n")
            await follower.until(lambda: len(follower.came) >= 2)
            assert sorted(follower.came) == [("a.log", b"1"), ("b.log", b"2")]

    run(test)


def test_what_others_write_wakes_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "a.log").touch()
        async with following(tmp_path / "a.log") as follower:
            assert follower.files._inotify
            write(tmp_path / "b.log", b"1\n")
            (tmp_path / "b.log").rename(tmp_path / "c.log")
            for _ in range(100):
                write(tmp_path / "c.log", b"2\n")
            told = [event for event in follower.files._inotify.read() if event.name.startswith("a")]
            assert told == []
            assert not follower.files._restless
            assert not follower.files._stale
            write(tmp_path / "a.log", b"3\n")
            await follower.lines(b"3")

    run(test)


def test_much_at_once_lets_others_have_their_turn(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "a.log").touch()
        (tmp_path / "b.log").touch()
        async with following(tmp_path / "*.log") as follower:
            write(tmp_path / "a.log", (b"x" * 99 + b"\n") * (20 * MEGABYTE // 100))
            await follower.until(lambda: follower.read > 0)
            write(tmp_path / "b.log", b"1\n")
            await follower.until(lambda: ("b.log", b"1") in follower.came)
            assert follower.read < 20 * MEGABYTE // 100 / 10
            await follower.until(lambda: follower.read == 20 * MEGABYTE // 100 + 1)

    run(test)


def test_it_works_where_no_memory_can_be_made_executable() -> None:
    """As under MemoryDenyWriteExecute=; since Linux 6.3 a process can forbid it itself."""
    program = (
        "import ctypes, sys\n"
        "if ctypes.CDLL(None, use_errno=True).prctl(65, 1, 0, 0, 0): sys.exit(ctypes.get_errno())\n"
        "from banagent.sources.inotify import Inotify\n"
        "watch = Inotify(); watch.add('/', 0x100); print('works')\n"
    )
    path = str(Path(banagent.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == errno.EINVAL:
        pytest.skip("the kernel has no PR_SET_MDWE")
    assert (done.stdout, done.stderr) == ("works\n", "")


def test_inotify(tmp_path: Path) -> None:
    watch = Inotify()
    number = watch.add(str(tmp_path), inotify.CREATE | inotify.DELETE | inotify.ONLYDIR)
    assert list(watch.read()) == []
    name = "n\N{LATIN SMALL LETTER A WITH DIAERESIS}\udcff" + "x" * 200
    (tmp_path / name).touch()
    (tmp_path / "d").mkdir()
    assert [*watch.read()] == [
        inotify.Event(number, inotify.CREATE, name),
        inotify.Event(number, inotify.CREATE | inotify.IS_FOLDER, "d"),
    ]
    watch.remove(number)
    assert [event.mask for event in watch.read()] == [inotify.IGNORED]
    with pytest.raises(OSError, match="No such file"):
        watch.add(str(tmp_path / "nothing"), inotify.CREATE)
    with pytest.raises(OSError, match="Invalid argument"):
        watch.remove(number)
    watch.close()
    shutil.rmtree(tmp_path)
    assert ctypes.get_errno() in (0, errno.EINVAL, errno.ENOENT)
