# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

from typing import Any

import pytest

from banagent.sources.matches import DROPPED, MOST_TERMS, terms
from sources.journals import wanting

IDENTIFIED: dict[str, Any] = {"identifiers": ("a",)}


@pytest.mark.parametrize(
    ("keys", "looked_for"),
    [
        ({}, {}),
        ({"units": ("a.service", "b.service")}, {"_SYSTEMD_UNIT": {"a.service", "b.service"}}),
        ({"units": ("a.service",), **IDENTIFIED}, {"_SYSTEMD_UNIT": {"a.service"}, "SYSLOG_IDENTIFIER": {"a"}}),
        # a glob's entries are found by their identifier, or else nothing can be left out
        ({"units": ("a@*.service",), **IDENTIFIED}, {"SYSLOG_IDENTIFIER": {"a"}}),
        ({"slices": ("a-?.slice",), **IDENTIFIED}, {"SYSLOG_IDENTIFIER": {"a"}}),
        ({"units": ("a@*.service",)}, None),
        ({"slices": ("a-[12].slice",)}, None),
        ({"units": ("a.service",), "identifiers": ("a/*",)}, None),
        ({"containers": ("w*",), **IDENTIFIED}, None),
        ({"slices": ("a.slice",), "containers": ("w",)}, {"_SYSTEMD_SLICE": {"a.slice"}, "CONTAINER_NAME": {"w"}}),
        # fields alone: one that is exact is enough
        ({"fields": {"_TRANSPORT": ("kernel",)}}, {"_TRANSPORT": {"kernel"}}),
        ({"fields": {"_EXE": ("/usr/*",), "_COMM": ("a", "b")}}, {"_COMM": {"a", "b"}}),
        ({"fields": {"_EXE": ("/usr/*",)}}, None),
        # fields beside units
        ({"units": ("a.service",), "fields": {"_COMM": ("a*",)}}, {"_SYSTEMD_UNIT": {"a.service"}}),
        (
            {"units": ("a.service",), "fields": {"_TRANSPORT": ("k*", "syslog")}},
            {"_SYSTEMD_UNIT": {"a.service"}, "_TRANSPORT": {"kernel"}},
        ),
        (
            {"units": ("*.service",), "identifiers": ("*",), "fields": {"_TRANSPORT": ("syslog",)}},
            {"_TRANSPORT": {"syslog"}},
        ),
    ],
)
def test_what_is_looked_for(keys: dict[str, Any], looked_for: dict[str, set[str]] | None) -> None:
    assert terms([wanting(**keys)]) == (None if looked_for is None else {"MESSAGE_ID": {DROPPED}, **looked_for})


def test_several_filters_and_too_many_of_them() -> None:
    units = [wanting(units=(f"{number}.service",)) for number in range(MOST_TERMS - 1)]
    assert terms(units) == {"MESSAGE_ID": {DROPPED}, "_SYSTEMD_UNIT": {item.units[0] for item in units}}
    assert terms([*units, units[0]]) == terms(units)
    assert terms([*units, wanting(units=("other.service",))]) is None
    assert terms([*units[:2], wanting(units=("*.service",))]) is None
