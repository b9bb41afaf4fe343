# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `check` says of log files: tried by a real child with the rights of a user who has none."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from banagent import config
from banagent.verbs import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.kernel  # it needs root

AGENT: Final = "nobody"
UNIT: Final = "SupplementaryGroups=systemd-journal adm\nAmbientCapabilities=cap_net_admin\nProtectHome=yes\n"
JAIL: Final = "[jails.sshd]\nenabled = true\nsource = 'files'\nlogpath = ['{}']\n"


class Place:
    """A folder that everybody can look into, and an agent whose unit is as `unit` says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir(mode=0o755)
        (folder / "bin").mkdir()
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        monkeypatch.setattr(readable, "USER", AGENT)
        self.unit(UNIT)

    def unit(self, shown: str) -> None:
        """Have systemctl show these properties."""
        systemctl = self.folder / "bin/systemctl"
        systemctl.write_text(f"#!/bin/sh\ncat <<'E'\n{shown}E\n")
        systemctl.chmod(0o755)

    def log(self, mode: int, *, owner: str = "root", group: str = "root", name: str = "x.log") -> Path:
        """Make a log file."""
        path = self.logs / name
        path.touch()
        shutil.chown(path, owner, group)
        path.chmod(mode)
        return path

    def told(self, jails: str | None = None) -> list[str]:
        """Give what is told of the jails, or else of one that reads all logs."""
        file = self.folder / "banagent.toml"
        file.write_text(jails or JAIL.format(self.logs / "*.log"))
        return list(readable.unreadable(config.load(config=file)))

    def asked_for(self) -> list[str]:
        """Give what setfacl is to be told, less the user."""
        lines = [line.split() for told in self.told() for line in told.splitlines() if line.startswith("    setfacl")]
        assert all(line[:2] == ["setfacl", "--modify"] for line in lines)
        return [line[2].removeprefix(f"user:{AGENT}:") + " " + " ".join(line[3:]) for line in lines]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own can only be looked into by root
        Path(folder).chmod(0o755)
        yield Place(Path(folder), monkeypatch)


@pytest.mark.parametrize(
    ("mode", "owner", "group"),
    [
        (0o644, "root", "root"),
        (0o640, "root", "adm"),
        (0o640, "root", "nogroup"),  # the user's own
        (0o400, AGENT, "root"),
    ],
)
def test_what_can_be_read_is_not_told(place: Place, mode: int, owner: str, group: str) -> None:
    place.log(mode, owner=owner, group=group)
    assert place.told() == []


def test_what_cannot_be_read_is_told_with_the_remedies(place: Place) -> None:
    path = place.log(0o640, owner="daemon", group="root")
    told = (
        f"jail sshd: the agent can't read {path}, which is daemon:root, mode 0640. "
        "Let it read this file (setfacl is in the package acl):\n"
        f"    setfacl --modify user:nobody:r {path}\n"
        'and so that it can read the one that logrotate puts in its place, have "create" there name no mode, or else:\n'
        "    create 640 daemon adm\n"
        "Or let it read every file of the machine (systemd-analyze security: 1.4 instead of 1.2); "
        "write into /etc/systemd/system/banagent.service.d/read.conf:\n"
        "    [Service]\n"
        "    AmbientCapabilities=CAP_DAC_READ_SEARCH\n"
        "    CapabilityBoundingSet=CAP_DAC_READ_SEARCH\n"
        "and then: systemctl daemon-reload && systemctl restart banagent"
    )
    assert place.told() == [told]


def shut_folder(place: Place) -> list[str]:
    place.log(0o644)
    place.logs.chmod(0o700)
    return [f"rx {place.logs}"]


def shut_folder_and_file(place: Place) -> list[str]:
    path = place.log(0o600)
    place.logs.chmod(0o711)
    return [f"rx {place.logs}", f"r {path}"]


def blank(place: Place) -> list[str]:
    return [f"r '{place.log(0o600, name='a b.log')}'"]


def link(place: Place) -> list[str]:
    """What it leads to is what has to be opened."""
    target = place.log(0o600, name="true")
    (place.logs / "x.log").symlink_to(target)
    return [f"r {target}"]


def shut_for_a_group_of_the_user(place: Place) -> list[str]:
    """Whoever owns or is in the group of a file has the rights of that, not of the others."""
    return [f"r {place.log(0o604, group='nogroup')}"]


@pytest.mark.parametrize("make", [shut_folder, shut_folder_and_file, blank, link, shut_for_a_group_of_the_user])
def test_nothing_but_what_is_lacking_is_asked_for(place: Place, make: Callable[[Place], list[str]]) -> None:
    assert make(place) == place.asked_for()


def test_what_a_drop_in_changed_counts(place: Place) -> None:
    place.log(0o640, group="daemon")
    assert place.told() != []
    place.unit(UNIT.replace("adm", "adm daemon"))
    assert place.told() == []
    place.log(0o600)
    assert place.told() != []
    place.unit(UNIT.replace("cap_net_admin", "cap_dac_read_search cap_net_admin"))
    assert place.told() == []


def test_homes_are_hidden_from_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.log(0o644)
    monkeypatch.setattr(readable, "HOMES", (f"{place.logs}/",))
    told = (
        f"jail sshd: the agent can't read {path}: its unit has ProtectHome=yes. To change that, write into "
        "/etc/systemd/system/banagent.service.d/read.conf:\n    [Service]\n    ProtectHome=read-only\n"
        "and then: systemctl daemon-reload && systemctl restart banagent"
    )
    assert place.told() == [told]
    place.unit(UNIT.replace("=yes", "=read-only"))
    assert place.told() == []


def test_where_systemctl_says_nothing_the_unit_is_the_packages(place: Place) -> None:
    place.log(0o640, group="adm")
    place.unit("")
    assert place.told() == []


def test_what_no_enabled_jail_reads_is_not_told(place: Place) -> None:
    jail = JAIL.format(place.log(0o600))
    assert place.told(jail) != []
    assert place.told(jail.replace("true", "false")) == []
    assert place.told(jail.replace("'files'", "'journal'")) == []
    assert place.told(jail.replace("'files'", "'auto'")) != []
    (place.logs / "folder.log").mkdir(mode=0o700)
    assert place.told(JAIL.format(place.logs / "folder.log")) == []


def test_without_its_user_nothing_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.log(0o600)
    assert place.told() != []
    monkeypatch.setattr(readable, "USER", "nobody-is-called-so")
    assert place.told() == []
