# SPDX-License-Identifier: LGPL-2.1-or-later
"""The walk-through in the README is what one sees: the same steps, played again, print the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from system import walkthrough

if TYPE_CHECKING:
    from system.bed.root import Root
    from system.conftest import Boot


@pytest.mark.parametrize("root", [walkthrough.SUITE], indirect=True)
def test_the_readme_has_what_is_printed(boot: Boot, agent_root: Root) -> None:
    recorded = walkthrough.recorded(walkthrough.README.read_text())
    played = walkthrough.play(boot(agent_root))
    print(played)  # what tests/system/walkthrough.py would write
    assert walkthrough.shape(played) == walkthrough.shape(recorded)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("up 1s, newest entry 4s ago", "up 2m 3s, newest entry 59s ago"),
        ("until 2026-11-22 05:00:58; it\nbegan 1s ago", "until 2026-11-23 06:01:00; it began\n12s ago"),
        ("from 198.18.7.9 port 464…", "from 198.18.7.9 port 571…"),
        ("LEFT\n59m 5s", "     LEFT\n  59m 58s"),
    ],
)
def test_what_varies_is_no_difference(one: str, other: str) -> None:
    assert walkthrough.masked(one) == walkthrough.masked(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("3 in 1h  1h  22", "3 in 1h  2h  22"), ("port 22: ", "port 23: "), ("5 failures in 1h.", "5 failures in 2h.")],
)
def test_what_does_not_vary_is_one(one: str, other: str) -> None:
    assert walkthrough.masked(one) != walkthrough.masked(other)
