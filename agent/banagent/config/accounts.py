# SPDX-License-Identifier: LGPL-2.1-or-later
"""The users whom a list of users and groups means on this machine."""

from __future__ import annotations

import grp
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def resolved(names: Iterable[str]) -> frozenset[str]:
    """Give the users themselves, and the members of the groups, which have an @ before their name.

    A group that this machine does not have has no members: which one lets its members become root differs.
    """
    return frozenset(user for name in names for user in (_members(name[1:]) if name.startswith("@") else (name,)))


def _members(group: str) -> list[str]:
    try:
        return grp.getgrnam(group).gr_mem
    except KeyError:
        return []
