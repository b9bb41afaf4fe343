# SPDX-License-Identifier: LGPL-2.1-or-later
"""Other users: what the kernel sees of this process is changed for a moment."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence


@contextmanager
def user(uid: int, gid: int, groups: Sequence[int] = ()) -> Generator[None]:
    """Be somebody else, in all threads. A socket that is connected, or listens, meanwhile is that user's for ever."""
    former = os.getgroups(), os.getegid(), os.geteuid()
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(former[2])
        os.setegid(former[1])
        os.setgroups(former[0])
