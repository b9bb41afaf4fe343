# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the configuration share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from config.tree import FILTER, Tree

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A root with the filters sshd and web, and a vendor's file that enables sshd."""
    tree = Tree(tmp_path)
    tree.write("usr/lib/banagent/banagent.toml", "[jails.sshd]\nenabled = true\n")
    tree.write("usr/lib/banagent/filters/sshd.toml", FILTER.replace("[1234]", '["ssh"]'))
    tree.write("usr/lib/banagent/filters/web.toml", FILTER)
    return tree
