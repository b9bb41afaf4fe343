# SPDX-License-Identifier: LGPL-2.1-or-later
"""banagent as `make install` puts it on a machine, and what it has done there."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from system.bed.machine import ADDRESS, ADDRESS6, Fields, Machine
from system.bed.root import PROJECT, Root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UNIT: Final = "banagent.service"
COMMAND: Final = "/usr/local/bin/banagent"
MAXRETRY: Final = 3
# all that an installation needs of the project, which proves that it needs no more
_SOURCE: Final = ("LICENSE", "Makefile", "README.md", "pyproject.toml", "agent", "filters", "man", "units")
# without network, as from a mirror of one's own
INSTALL: Final = "PIP_NO_INDEX=1 PIP_FIND_LINKS=/opt/wheels make --no-print-directory -C /src install"
UNINSTALL: Final = "make --no-print-directory -C /src uninstall"

_BANNED: Final = "MESSAGE_ID=5bc45f3cf7f94d3b9e1c8b6a3e0fd001"
# From 9.8 on sshd itself shuts out for some seconds who fails: that must not be taken for a ban. And it is not to
# choose at random whom it serves.
_SSHD: Final = """
echo MaxStartups 1000 >/etc/ssh/sshd_config.d/bed.conf
if sshd -T -o PerSourcePenalties=no >/dev/null 2>&1; then
    echo PerSourcePenalties no >>/etc/ssh/sshd_config.d/bed.conf
fi
"""


def copy_source(target: Path) -> Path:
    """Copy what is installed, so that it stays as it is while others edit it."""
    ignore = shutil.ignore_patterns("__pycache__")
    target.mkdir()
    for name in _SOURCE:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, target / name, ignore=ignore)
        else:
            shutil.copy(PROJECT / name, target)
    return target


def root_with_agent(base: Root, source: Path) -> Root:
    """Give `base` with banagent from `source` installed, not enabled; and an sshd that leaves banning to it."""
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path.relative_to(source)}\0{len(content)}\0".encode() + content)
    script = f"{INSTALL}\nmkdir -p /run/sshd\n{_SSHD}"
    return base.layer(f"{base.suite}-agent", script, key=digest.hexdigest(), binds={source: "/src"})


class Agent:
    """banagent on a machine, where three failures lead to a ban of an hour unless `configure` says otherwise."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.configure()

    def configure(self, *lines: str, maxretry: int = MAXRETRY) -> None:
        """Write banagent.toml; `lines` are for the jail sshd."""
        text = "\n".join(["[jails.sshd]", "enabled = true", f"maxretry = {maxretry}", *lines, ""])
        self.write("/etc/banagent/banagent.toml", text)

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine, with the folders that it needs."""
        self.machine.run(["install", "-D", "-m", "644", "/dev/stdin", path], stdin=text)

    def drop_in(self, text: str) -> None:
        """Change the unit as an admin would."""
        self.write(f"/etc/systemd/system/{UNIT}.d/bed.conf", f"[Service]\n{text}\n")
        self.systemctl("daemon-reload")

    def systemctl(self, *words: str) -> str:
        """Run systemctl; give what it prints. Raises CalledProcessError."""
        return self.machine.run(["systemctl", *words]).stdout

    def start(self) -> None:
        """Enable and start it, and wait until it is ready."""
        self.systemctl("enable", "--quiet", "--now", UNIT)

    def show(self, name: str) -> str:
        """Give a property of the unit."""
        return self.systemctl("show", "--value", f"--property={name}", UNIT).strip()

    def attack(self, source: str, attempts: int = MAXRETRY, *, user: str = "alice") -> None:
        """Guess a password wrong, with a client of its own each time."""
        for _ in range(attempts):
            attempt = self.machine.ssh_attempt(source, user, "wrong")
            assert "Permission denied" in attempt.words, attempt

    def logged(
        self, *matches: str, after: str | None = None, fits: Callable[[Fields], bool] = lambda _: True
    ) -> Fields:
        """Wait for an entry of its log."""
        return self.machine.wait_for_entry(*matches, unit=UNIT, after=after, fits=fits)

    def jail(self, jail: str) -> dict[str, Any]:
        """Give what `banagent status JAIL` says."""
        said: dict[str, Any] = json.loads(self.machine.run([COMMAND, "status", jail, "--json"]).stdout)
        return said

    def banned(self, source: str, *, jail: str = "sshd", after: str | None = None) -> Fields:
        """Wait until the address or network is banned, and see it in the kernel; give the entry that tells of it."""
        entry = self.logged(_BANNED, f"BANAGENT_ADDRESS={source}", f"BANAGENT_JAIL={jail}", after=after)
        assert source in self.bans(jail)
        return entry

    def bans(self, jail: str = "sshd") -> dict[str, float]:
        """Give how many seconds each ban of the jail has left, as the kernel has them."""
        listed = self.machine.run(["nft", "list", "table", "inet", "banagent"], check=False)
        if listed.returncode:
            return {}
        sets = [item["set"] for item in self.machine.nft("list", "table", "inet", "banagent") if "set" in item]
        return {
            _network(element["elem"]["val"], part["name"]): element["elem"]["expires"]
            for part in sets
            if part["name"].startswith(f"{jail}.")
            for element in part.get("elem", ())
        }

    def dropped(self, jail: str = "sshd") -> int:
        """Give how many packets the jail's rules have dropped."""
        rules: list[list[dict[str, Any]]] = [
            item["rule"]["expr"]
            for item in self.machine.nft("list", "chain", "inet", "banagent", f"{jail}.dport")
            if "rule" in item
        ]
        return sum(part["counter"]["packets"] for rule in rules for part in rule if "counter" in part)

    def see_blocked(self, source: str, *, jail: str = "sshd", port: int = 22) -> None:
        """See that packets vanish, and that it is a ban's rule that drops them."""
        before = self.dropped(jail)
        assert not self.machine.connects(source, port, timeout=0.3)
        assert self.dropped(jail) > before


def remaining(entry: Fields, machine: Machine) -> float:
    """Give the seconds that a ban has left by what its entry says."""
    now = float(machine.run(["date", "+%s.%N"]).stdout)
    return datetime.fromisoformat(entry["BANAGENT_END"]).timestamp() - now


def target_of(source: str) -> str:
    """Give the machine's address of the same family."""
    return ADDRESS6 if ":" in source else ADDRESS


def _network(address: str, name: str) -> str:
    """Give what the log calls an element of the set `name`."""
    prefix = name.rpartition(".")[2]
    return address if prefix in ("32", "128") else f"{address}/{prefix}"
