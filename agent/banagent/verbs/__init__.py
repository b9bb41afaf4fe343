# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be asked and told at the prompt.

A verb is a generator: it gives pieces of text, each to be printed at once with a line end behind it, and returns the
exit status. It prints nothing itself. What it raises on purpose has a text of one line or more for the admin.

A prompt waits for these modules: on the way of the quick verbs none imports typing, pathlib or anything that does.
"""

from __future__ import annotations

TYPE_CHECKING = False  # see above
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Generator
    from typing import TypeAlias

    from banagent.verbs.terminal import Terminal

    Said: TypeAlias = Generator[str, None, int]
    Verb: TypeAlias = Callable[[Namespace, Terminal], Said]

DONE = 0
REFUSED = 1  # or nothing was found
USAGE = 2
NOT_RUNNING = 3
NOT_PERMITTED = 4


class Stopped(Exception):  # noqa: N818 - not always an error
    """A verb can't go on; its text is for the admin, `status` the exit status."""

    def __init__(self, text: str, status: int = REFUSED) -> None:
        super().__init__(text)
        self.status = status
