# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process of its own for what may end it."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable


def in_child(act: Callable[[], None]) -> int:
    """Run `act` in a process of its own; give the signal that ended it, 0 if none did."""
    pid = os.fork()
    if pid == 0:
        try:
            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
            act()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent tells by the status
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
