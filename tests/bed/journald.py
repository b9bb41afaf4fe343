# SPDX-License-Identifier: LGPL-2.1-or-later
"""A private journald, and journal files with any content: real journals that have nothing to do with the machine's.

The journald runs in mount, pid and cgroup namespaces of its own, so that it vouches for the unit and the uid of whoever
writes to it there. All of it ends with its block, and also when this process is killed. Needs root and a cgroup2 mount.
"""

from __future__ import annotations

import binascii
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from bed import cgroups

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    Value = bytes | str | int
    Fields = Mapping[str, Value | Sequence[bytes]]

HERE: Final = Path(__file__).parent
JOURNALD: Final = "/lib/systemd/systemd-journald"
PATIENCE: Final = 60.0  # seconds until something that takes milliseconds is taken for hung
_MAX_DATAGRAM: Final = 4096
_UCRED: Final = struct.Struct("=iII")  # unix(7): pid, uid, gid


def service(name: str) -> str:
    """Give the cgroup of a system service, such as `ssh.service`."""
    return f"system.slice/{name}"


def session(number: int, *, uid: int) -> str:
    """Give the cgroup of a login session, as logind names it: `_SYSTEMD_UNIT` is then `session-N.scope`."""
    return f"user.slice/user-{uid}.slice/session-{number}.scope"


def user_unit(name: str, *, uid: int) -> str:
    """Give the cgroup of a user's own unit: `_SYSTEMD_UNIT` is then `user@UID.service`."""
    return f"user.slice/user-{uid}.slice/user@{uid}.service/app.slice/{name}"


def encode(fields: Fields) -> bytes:
    """Encode an entry as the native protocol and the export format have it; a list is a field with several values."""
    out = bytearray()
    for name, value in fields.items():
        for data in [value] if isinstance(value, bytes | str | int) else value:
            raw = data if isinstance(data, bytes) else str(data).encode()
            if all(byte >= 32 or byte == 9 for byte in raw):  # no control character but the tab
                out += b"%s=%s\n" % (name.encode(), raw)
            else:
                out += b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(raw)), raw)
    return bytes(out)


def journal_remote() -> str | None:
    """Find systemd-journal-remote, which is in no PATH unless `enter` put it there; None: it is missing."""
    return shutil.which("systemd-journal-remote", path=f"{os.environ['PATH']}:/lib/systemd")


def make_journal(directory: Path, entries: Iterable[Fields]) -> Path:
    """Write `entries` into journal files in `directory`, exactly as they are, trusted fields too; give `directory`.

    `__REALTIME_TIMESTAMP` (microseconds) is wanted in each; what else journald always adds is filled in.
    """
    directory.mkdir(parents=True, exist_ok=True)
    command = [journal_remote() or "systemd-journal-remote", "--output", str(directory / "made.journal"), "-"]
    quiet = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    usual = {"_BOOT_ID": "b" * 32, "_MACHINE_ID": "a" * 32}
    with tempfile.TemporaryFile() as complaints:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=complaints, stderr=complaints, env=quiet
        ) as remote:
            assert remote.stdin
            with suppress(BrokenPipeError), remote.stdin as pipe:
                for number, entry in enumerate(entries, start=1):
                    pipe.write(encode({"__MONOTONIC_TIMESTAMP": number, **usual, **entry}) + b"\n")
        complaints.seek(0)
        said = complaints.read().decode(errors="replace").strip()
    if remote.returncode or said:
        raise RuntimeError(f"systemd-journal-remote: status {remote.returncode}: {said}")
    return directory


class Journald:
    """A journald of one's own, between `with` and its end; its files are in `path`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.machine_id = uuid.uuid4().hex
        self.path = directory / "log" / "journal" / self.machine_id
        self.cgroup = cgroups.new_name()

    def __enter__(self) -> Self:
        """Start it; its journal can be opened and written to."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._notices.settimeout(PATIENCE)
        with _short(self.directory) as directory:
            self._notices.bind(f"{directory}/notify")
        unshare = ["unshare", "--mount", "--pid", "--cgroup", "--fork", "--kill-child=KILL", "--propagation", "private"]
        init = [*unshare, str(HERE / "journald-init.sh"), str(self.directory), self.machine_id]
        with (self.directory / "output").open("wb") as output:
            self._holder = subprocess.Popen(
                [str(HERE / "hold.sh"), str(self.cgroup), *init],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # so that an interrupt at the terminal leaves it time to clean up
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, and whatever else was started in it."""
        if init := getattr(self, "init", None):
            _end(init)
        assert self._holder.stdin
        self._holder.stdin.close()
        status = self._holder.wait(PATIENCE)
        self._notices.close()
        if status:
            raise RuntimeError(f"the journald's cgroup {self.cgroup} is not empty")

    def sync(self) -> None:
        """Wait until all that was sent is in the files."""
        self._call("journalctl", "--sync")

    def rotate(self) -> None:
        """Begin new files, as journald does when one is full."""
        self._call("journalctl", "--rotate")

    def restart(self) -> None:
        """Kill the journald; it is up again at the return."""
        os.kill(self.pid, signal.SIGKILL)
        self._wait_until_up()

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Keep journald from working: who logs and ends in this block loses its unit, as in a flood."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def argv(self, *command: str, cgroup: str = "", uid: int = 0) -> list[str]:
        """Give the command that runs `command` in the namespaces and in `cgroup`, as `uid`; it ends with its parent."""
        path = self.cgroup / cgroup
        path.mkdir(parents=True, exist_ok=True)
        who = ["--reuid", str(uid), "--regid", str(uid), "--clear-groups"] if uid else []
        return [
            *("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(path)),
            *("nsenter", "--target", str(self.init), "--mount", "--root", "--pid", "--cgroup", "--"),
            *("setpriv", "--pdeathsig", "KILL", *who, "--", *command),
        ]

    @contextmanager
    def writer(
        self, cgroup: str = service("ssh.service"), *, uid: int = 0, comm: str = "sshd", brief: bool = False
    ) -> Generator[Writer]:
        """Give a process that logs; it lives until the end of the block and until journald has read what it wrote.

        If `brief` it ends at the end of the block, whether journald has looked at it or not.
        """
        command = self.argv("/usr/bin/python3", "-I", "-S", str(HERE / "writer.py"), comm, cgroup=cgroup, uid=uid)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            yield Writer(process)
            if not brief:
                self.sync()

    def write(
        self,
        message: bytes | str | None,
        *,
        cgroup: str = service("ssh.service"),
        uid: int = 0,
        identifier: str | None = "sshd",
        **fields: Value,
    ) -> None:
        """Log `message` from a process of its own, by the native protocol; it is in the files at the return."""
        with self.writer(cgroup, uid=uid) as writer:
            writer.send(message, identifier=identifier, **fields)

    def _wait_until_up(self) -> None:
        try:
            while True:
                notice, ancillary, _, _ = self._notices.recvmsg(_MAX_DATAGRAM, socket.CMSG_SPACE(_UCRED.size))
                if b"READY=1" in notice:
                    break
        except TimeoutError:
            output = (self.directory / "output").read_text(errors="replace")
            raise RuntimeError(f"journald did not start: {output}") from None
        self.pid: int = _UCRED.unpack(ancillary[0][2])[0]
        status = Path(f"/proc/{self.pid}/status").read_text()
        self.init = int(next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1])

    def _call(self, *command: str) -> None:
        """Run `command` in the namespaces: journald hangs up on callers whose pid it can't see."""
        done = subprocess.run(self.argv(*command), capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()}")


class Writer:
    """A process that logs into a private journald, and stays until its block ends."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._streams = False

    def send(self, message: bytes | str | None, *, identifier: str | None = "sshd", **fields: Value) -> None:
        """Send an entry by the native protocol, with the fields as they are; None: without that field."""
        usual: dict[str, Value] = {"PRIORITY": 6}
        if message is not None:
            usual["MESSAGE"] = message
        if identifier is not None:
            usual["SYSLOG_IDENTIFIER"] = identifier
        self._request("native", encode({**usual, **fields}))

    def syslog(self, message: bytes | str, *, identifier: str = "sshd", pid: int = 4711) -> None:
        """Send a line as syslog(3) does; the pid is the one that it claims to have."""
        raw = message if isinstance(message, bytes) else message.encode()
        self._request("syslog", b"<38>Nov 22 01:02:03 %s[%d]: %s" % (identifier.encode(), pid, raw))

    def stdout(self, data: bytes, *, identifier: str = "sshd") -> None:
        """Write `data` as a service does whose standard output is the journal; all pieces are one stream."""
        if not self._streams:
            self._streams = True
            # identifier, unit (journald takes it from root only), priority, and four switches; sd_journal_stream_fd(3)
            self._request("stdout", f"{identifier}\n\n6\n0\n0\n0\n0\n".encode())
        self._request("stdout", data)

    def _request(self, way: str, data: bytes) -> None:
        process = self._process
        assert process.stdin
        assert process.stdout
        process.stdin.write(way.encode() + b" " + binascii.b2a_base64(data))
        process.stdin.flush()
        if process.stdout.readline() != b"sent\n":
            raise RuntimeError(f"the writer ended with status {process.wait(PATIENCE)}")


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Ask what was started with `Journald.argv` to end, and wait until it has.

    The signal goes to the command. Were it nsenter in front of it that ended first, the command would be an orphan, and
    the namespace could not end before somebody outside takes its status.
    """
    if process.poll() is None:
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(pid), signal.SIGTERM)
    process.wait(PATIENCE)


def _end(pid: int) -> None:
    """Ask a process that is no child of ours to end, and wait until it is gone or patience is."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        select.select([process], [], [], PATIENCE)
    finally:
        os.close(process)


@contextmanager
def _short(directory: Path) -> Generator[str]:
    """Give a short name for `directory`, as the path of a socket must have."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
