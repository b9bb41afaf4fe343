# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian roots to boot, and layers above them: made once, kept by a hash of what they are made from while in use."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

HERE: Final = Path(__file__).parent
PROJECT: Final = HERE.parents[2]
CACHE: Final = Path(os.environ.get("BANAGENT_CACHE", PROJECT / "build" / "cache"))
UNUSED: Final = 6 * 3600  # seconds after which what nobody used makes room for its successor
SUITES: Final = ("trixie", "bookworm")  # Debian 13: what most users run, and Debian 12: the oldest that must do

PACKAGES: Final = (
    "dbus",
    "iproute2",
    "libcap2-bin",
    "libpam-systemd",
    "logrotate",
    "make",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-systemd",
    "python3-venv",
    "rsyslog",
    "systemd",
    "systemd-journal-remote",
    "systemd-sysv",
)

# In a mount namespace of its own, whose mounts go with it: a throw-away upper layer above the lower ones. What the
# script changed is copied out, because an upper layer can't lie on an overlay (the disk of many a CI machine is one).
_LAYER_SH: Final = """
set -eu
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/upper /run/work /run/root
mount -t overlay -o "lowerdir=$1,upperdir=/run/upper,workdir=/run/work" overlay /run/root
mount -t proc proc /run/root/proc
mount -t tmpfs tmpfs /run/root/tmp
mount --rbind /dev /run/root/dev
target=$2 script=$3
shift 3
for bind; do
    mkdir -p "/run/root${bind#*:}"
    mount --bind -o ro "${bind%%:*}" "/run/root${bind#*:}"
done
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 chroot /run/root sh -euc "$script"
cp -a /run/upper/. "$target"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A root that can be booted: folders to stack, the uppermost first, none of which is ever written to again."""

    suite: str
    layers: tuple[Path, ...]

    @property
    def python(self) -> str:
        """The version of its Python: `3.13`."""
        return (self.layers[-1] / "usr/bin/python3").readlink().name.removeprefix("python")

    def layer(self, name: str, script: str, *, key: str, binds: Mapping[Path, str] | None = None) -> Root:
        """Put what the shell `script` does, as root in a chroot, above this root.

        `binds` maps folders of the host to where the script finds them, read-only. The result is kept under `key` (all
        that decides it, apart from the script and this root), and made again only after it was not used for long.
        """
        name = f"{name}-{_hash(*(layer.name for layer in self.layers), script, key)}"

        def make(target: Path) -> None:
            pairs = [f"{source}:{inside}" for source, inside in (binds or {}).items()]
            lower = ":".join(map(str, self.layers))
            _in_mount_namespace("sh", "-c", _LAYER_SH, "sh", lower, str(target), script, *pairs, log=name)

        return Root(suite=self.suite, layers=(_cached(name, make), *self.layers))


def bare_root(suite: str) -> Root:
    """Give a Debian of `suite` with systemd, sshd, nftables and rsyslog; the first time it takes a minute or two."""
    name = f"{suite}-{_hash(*PACKAGES, (HERE / 'root.sh').read_text())}"
    debs = CACHE / "deb"

    def make(target: Path) -> None:
        debs.mkdir(parents=True, exist_ok=True)
        options = ("--variant=minbase", f"--cache-dir={debs}", f"--include={','.join(PACKAGES)}")
        _in_mount_namespace("debootstrap", *options, suite, str(target), _mirror(), log=name)
        script = (HERE / "root.sh").read_text()
        _in_mount_namespace("chroot", str(target), "/bin/sh", "-c", script, log=name)

    return Root(suite=suite, layers=(_cached(name, make),))


def root_with_wheels(suite: str) -> Root:
    """Give `bare_root` with what banagent imports and is built with: wheels in /opt/wheels, installed in /opt/venv.

    systemd-python is Debian's own package: it is no wheel, and compiling it would need a compiler in the root.
    """
    bare = bare_root(suite)
    requirements = _requirements()

    def download(target: Path) -> None:
        pip = next((bare.layers[-1] / "usr/share/python-wheels").glob("pip-*.whl")) / "pip"
        machine = platform.machine()
        platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(17, 37)]  # bookworm's glibc is 2.36
        platforms.append(f"--platform=manylinux2014_{machine}")
        where = ["--implementation=cp", f"--python-version={bare.python}", *platforms]
        argv = [sys.executable, str(pip), "download", "--quiet", "--only-binary=:all:", f"--dest={target}", *where]
        _logged([*argv, *requirements], log=f"wheels-{bare.python}")

    wheels = _cached(f"wheels-{bare.python}-{_hash(*requirements)}", download)
    script = """
        cp -r /mnt /opt/wheels
        python3 -m venv --system-site-packages /opt/venv
        /opt/venv/bin/pip install --quiet --no-index --no-deps /opt/wheels/*.whl
    """
    return bare.layer(f"{suite}-wheels", script, key=wheels.name, binds={wheels: "/mnt"})


def root_with_servers(base: Root) -> Root:
    """Give `base` with nginx, dovecot, postfix and vsftpd, none of them enabled; the first time it takes a while."""
    return base.layer(f"{base.suite}-servers", (HERE / "servers.sh").read_text(), key="")


def _requirements() -> list[str]:
    """What pyproject.toml says is needed to build and to run, less what Debian's python3-systemd is."""
    project: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    needed = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    return sorted(requirement for requirement in needed if not requirement.startswith("systemd-python"))


def _mirror() -> str:
    """The archive that apt itself uses. Raises LookupError."""
    for known in (["Label: Debian"], []):  # the label is in the lists, which nobody may have fetched yet
        argv = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", *known]
        if found := subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split():
            return found[0]
    raise LookupError("apt has no sources: the root of the system tier is made from the archive that apt uses")


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _cached(name: str, make: Callable[[Path], None]) -> Path:
    """Give CACHE/name; `make` fills it if it isn't there. Of several processes one works and the others wait."""
    done = CACHE / name
    with _locked(name):
        if not done.exists():
            with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=CACHE) as scratch:
                part = Path(scratch) / "root"
                part.mkdir(mode=0o755)
                make(part)
                part.rename(done)
            _forget_unused(name)
    return done


def _forget_unused(name: str) -> None:
    """Remove what stands in for `name` no more: each state of the sources makes layers of its own."""
    for lock in CACHE.glob(f"{name.rpartition('-')[0]}-*.lock"):
        if lock.stat().st_mtime < time.time() - UNUSED:  # a lock is written to each time
            other = lock.with_suffix("")
            with _locked(other.name):
                shutil.rmtree(other, ignore_errors=True)
            for file in (lock, lock.with_suffix(".log")):
                file.unlink(missing_ok=True)


@contextmanager
def _locked(name: str) -> Generator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _in_mount_namespace(*argv: str, log: str) -> None:
    """Run `argv` where what it mounts is seen by nobody else and goes when it ends."""
    namespace = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]
    _logged([*namespace, "--mount-proc", "--propagation=private", "--", *argv], log=log)


def _logged(argv: list[str], *, log: str) -> None:
    """Run `argv` with its output in CACHE/log.log. Raises RuntimeError with the end of it."""
    path = CACHE / f"{log}.log"
    with path.open("ab") as output:
        result = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    if result.returncode:
        end = "\n".join(path.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"{argv[0]} failed with status {result.returncode}; {path} ends with:\n{end}")
