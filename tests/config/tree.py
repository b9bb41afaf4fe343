# SPDX-License-Identifier: LGPL-2.1-or-later
"""A root directory in which tests write configuration files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from banagent.config import Config, JailConfig, load
from banagent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MODE = 'must be "normal", "ddos", "extra", "aggressive", "auth", "rbl" or "errors"'
FILTER = r"""
description = "a service"
units = ["a.service"]
ports = [1234]
[[failregex]]
name = "failed"
regex = '^failed (?P<user>\S+) <HOST>$'
"""


class Tree:
    """Writes files below a root directory, and loads them; file names in messages are relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def admin(self, content: str | bytes) -> None:
        """Write the admin's file, and take away a newline that stands before its first line."""
        self.write("etc/banagent/banagent.toml", content.removeprefix("\n") if isinstance(content, str) else content)

    def filter(self, name: str, content: str | bytes = FILTER) -> None:
        self.write(
            f"etc/banagent/filters/{name}.toml", content.removeprefix("\n") if isinstance(content, str) else content
        )

    def load(self, *, config: str | None = None, filters: str | None = None) -> Config:
        return load(
            config=self.root / config if config else None,
            filters=self.root / filters if filters else None,
            root=self.root,
        )

    def jail(self, name: str) -> JailConfig:
        return next(jail for jail in self.load().jails if jail.name == name)

    def mistakes(self, *, config: str | None = None, filters: str | None = None) -> list[str]:
        """Load what must be refused; give the lines of the message, less the directories of /etc."""
        with pytest.raises(ConfigError) as caught:
            self.load(config=config, filters=filters)
        lines = str(caught.value).split("\n")
        assert len(lines) == len(caught.value.mistakes)
        return [line.removeprefix(f"{self.root}/").removeprefix("etc/banagent/") for line in lines]
