# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real sshd on a bed's host, with one account, and a real ssh that logs in to it from anywhere in the world."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from bed.journald import HERE, PATIENCE, Journald, service, terminate
from bed.netns import HOST, Namespace

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

USER: Final = "alice"
PASSWORD: Final = "correct horse"

_PASSWD: Final = f"""\
root:x:0:0:root:/:/bin/sh
sshd:x:100:65534:privilege separation of sshd:/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
{USER}:x:1000:1000:somebody who may log in:/:/bin/sh
"""
_GROUP: Final = f"root:x:0:\nnogroup:x:65534:\n{USER}:x:1000:\n"
# a wrong password is answered at once, not after some seconds
_PAM: Final = "auth required pam_unix.so nodelay\naccount required pam_unix.so\nsession required pam_permit.so\n"
_CONFIG: Final = """\
HostKey {directory}/host_key
PidFile none
UsePAM yes
UseDNS no
PrintMotd no
KbdInteractiveAuthentication no
"""


class Said(NamedTuple):
    """How a login ended."""

    status: int  # of ssh: that of the command, 255 if there was no login
    text: str  # the last line that it said


@contextmanager
def sshd(directory: Path, journald: Journald, host: Namespace) -> Generator[None]:
    """Run an sshd on port 22 of `host`, in the cgroup of ssh.service; it logs to `journald`."""
    _set_up(directory)
    command = journald.argv("unshare", "--mount", str(HERE / "sshd.sh"), str(directory), cgroup=service("ssh.service"))
    with (directory / "output").open("wb") as output:
        server = subprocess.Popen(host.argv(*command), stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + PATIENCE
        while host.connect(HOST, 22, source=HOST) != "connected":  # it does not tell when it listens
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd did not start: {(directory / 'output').read_text(errors='replace')}")
            time.sleep(0.01)
        yield
    finally:
        terminate(server)


def ssh(world: Namespace, directory: Path, *, source: str, password: str, patience: int = 2) -> Said:
    """Log in from `source` with `password` and say hello there."""
    askpass = directory / "askpass"
    askpass.write_text('#!/bin/sh\necho "$PASSWORD"\n')
    askpass.chmod(0o700)
    options = {
        "BindAddress": source,
        "ConnectTimeout": patience,
        "GlobalKnownHostsFile": "/dev/null",
        "IdentityAgent": "none",
        "LogLevel": "ERROR",
        "NumberOfPasswordPrompts": 1,
        "PreferredAuthentications": "password",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
    }
    given = [f"-o{key}={value}" for key, value in options.items()]
    done = subprocess.run(
        world.argv("ssh", "-F", "none", *given, f"{USER}@{HOST}", "echo", "hello"),
        env={**os.environ, "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force", "PASSWORD": password},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    return Said(done.returncode, lines[-1].strip() if lines else "")


def _set_up(directory: Path) -> None:
    directory.mkdir()
    (directory / "passwd").write_text(_PASSWD)
    (directory / "group").write_text(_GROUP)
    (directory / "shadow").touch(mode=0o600)
    (directory / "shadow").write_text(f"root:*:::::::\n{USER}:{_crypt(PASSWORD)}:::::::\n")
    (directory / "pam.d").mkdir()
    (directory / "pam.d" / "sshd").write_text(_PAM)
    (directory / "pam.d" / "other").write_text("auth required pam_deny.so\naccount required pam_deny.so\n")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "host_key"], check=True)
    config = directory / "sshd_config"
    config.write_text(_CONFIG.format(directory=directory))
    # From 9.8 on sshd itself refuses who fails often. That is not a ban; older ones don't know the word.
    penalties = [shutil.which("sshd") or "sshd", "-G", "-f", str(config), "-o", "PerSourcePenalties=no"]
    if subprocess.run(penalties, capture_output=True, check=False).returncode == 0:
        config.write_text(config.read_text() + "PerSourcePenalties no\n")


def _crypt(password: str) -> str:
    """Hash as /etc/shadow has it, by the library that PAM uses: Python has no crypt from 3.13 on."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    hashed: bytes = crypt(password.encode(), b"$6$saltsalt$")
    return hashed.decode()
