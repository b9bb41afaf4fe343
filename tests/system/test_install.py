# SPDX-License-Identifier: LGPL-2.1-or-later
"""`make install` and `make uninstall`: what they put where, and that nothing but what they say is left."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import pytest

from system.bed.agent import INSTALL, UNINSTALL, UNIT, Agent

if TYPE_CHECKING:
    from pathlib import Path

    from system.bed.machine import Machine
    from system.conftest import Boot

LEFT: Final = {"/etc/banagent", "/etc/banagent/banagent.toml", "/var/lib/banagent", "/var/lib/banagent/history.db"}
# the accounts of all, and the catalogs of all in one file
COMMON: Final = re.compile(
    r"/etc/(?:group|gshadow|passwd|shadow|subuid|subgid)-?|/etc/\.pwd\.lock|/var/lib/systemd/catalog/database"
)
COMMAND: Final = "/usr/local/bin/banagent"


@pytest.fixture
def bare(boot: Boot, source: Path) -> Machine:
    """Give a machine without banagent, that has its source."""
    return boot(binds={source: "/src"})


def files(machine: Machine) -> set[str]:
    """List what could be of an installation, with when it was changed."""
    places = ["/etc", "/opt", "/usr", "/var/lib", "/var/cache"]
    found = set(machine.run(["find", *places, "-xdev", "-printf", "%p %y %T@ %s\\n"]).stdout.splitlines())
    return {line.partition(" ")[0] if " d " in line else line for line in found}


def paths(lines: set[str]) -> set[str]:
    """Give the paths of files that are one program's own."""
    return {path for path in (line.partition(" ")[0] for line in lines) if not COMMON.fullmatch(path)}


def shell(machine: Machine, script: str) -> str:
    return machine.run(["sh", "-euc", script], timeout=200).stdout


def test_it_comes_runs_and_goes(bare: Machine) -> None:
    before = files(bare)
    assert shell(bare, INSTALL).splitlines()[-1].endswith("systemctl enable --now banagent")
    agent = Agent(bare)
    assert bare.run([COMMAND, "--version"]).stdout.startswith("banagent ")
    assert "enabled: sshd" in bare.run([COMMAND, "check"]).stdout
    assert bare.run(["id", "-nu", "banagent"]).stdout == "banagent\n"
    assert "is banned by the jail" in bare.run(["journalctl", "--dump-catalog"]).stdout
    agent.start()
    assert agent.show("ActiveState") == "active"
    assert agent.show("FragmentPath") == f"/usr/local/lib/systemd/system/{UNIT}"
    verified = bare.run(["systemd-analyze", "verify", "--man=no", UNIT])
    assert (verified.stdout, verified.stderr) == ("", "")

    assert "systemctl restart banagent" in shell(bare, INSTALL)  # once more, above itself
    agent.systemctl("restart", UNIT)

    said = shell(bare, UNINSTALL)
    assert bare.run(["systemctl", "is-active", UNIT], check=False).stdout == "inactive\n"
    after = files(bare)
    assert paths(after - before) == LEFT
    assert paths(before - after) == set()
    assert {"/etc/banagent", "/var/lib/banagent"} <= set(re.findall(r"/[a-z/]+", said))
    assert "banagent" not in bare.run(["journalctl", "--dump-catalog"]).stdout
    assert bare.run(["systemctl", "cat", UNIT], check=False).returncode


def test_a_package_is_made_below_destdir(bare: Machine, source: Path) -> None:
    before = files(bare)
    shell(bare, f"{INSTALL} DESTDIR=/tmp/package PREFIX=/usr")
    assert files(bare) == before
    there = set(shell(bare, "cd /tmp/package && find -type f -o -type l").split())
    outside = {path for path in there if not path.startswith("./usr/lib/banagent/")}
    assert outside == {
        "./usr/bin/banagent",
        "./usr/lib/systemd/catalog/banagent.catalog",
        "./usr/lib/systemd/system/banagent.service",
        "./usr/lib/sysusers.d/banagent.conf",
        *(f"./usr/share/man/man{page.suffix[1:]}/{page.name}" for page in (source / "man").iterdir()),
        *(["./usr/lib/systemd/system/banagent.service.d/10-restart.conf"] if bare.root.suite == "trixie" else []),
    }
    assert shell(bare, "grep -rl /tmp/package /tmp/package || true") == ""
    # it is what a package would unpack
    shell(bare, "cp -a /tmp/package/. / && systemd-sysusers && systemctl daemon-reload && banagent check")
    Agent(bare).start()
    shell(bare, f"{UNINSTALL} DESTDIR=/tmp/package PREFIX=/usr")
    assert shell(bare, "ls -A /tmp/package") == ""


LOADED: Final = """
import sys
import banagent.daemon
print(*filter(None, (getattr(module, "__cached__", None) for module in sys.modules.values())))
"""


def test_it_is_compiled(agent: Agent) -> None:
    """The service can't write what Python would compile, and would do so at each start."""
    loaded = agent.machine.run(["/usr/local/lib/banagent/bin/python", "-I", "-c", LOADED]).stdout.split()
    assert len([path for path in loaded if path.startswith("/usr/local/lib/banagent/")]) > 30
    shell(agent.machine, f"ls {shlex.join(loaded)}")
    traced = "import banagent.cli; print(banagent.cli.main.__code__.co_filename)"
    origin = agent.machine.run(["/usr/local/lib/banagent/bin/python", "-I", "-c", traced]).stdout
    assert origin.startswith("/usr/local/lib/banagent/lib/python3.")


REFUSED: Final = {
    "make -C /src install PREFIX=/opt/banagent": "systemd looks for units only in /usr and /usr/local",
    "setpriv --reuid=1000 --clear-groups make -C /src install": 'run "sudo make install"',
    "PIP_NO_INDEX=1 make -C /src install": "pip failed, see above",
    "make -C /src uninstall": "/usr/local/lib/banagent/made is missing",
    "mkdir /usr/local/lib/banagent && make -C /src install": "is there, and not from here",
}


def test_it_is_refused(bare: Machine) -> None:
    before = files(bare)
    for words, complaint in REFUSED.items():
        refused = bare.run(["sh", "-c", words], check=False)
        assert refused.returncode
        assert complaint in refused.stderr
    assert files(bare) - before == {"/usr/local/lib/banagent"}
