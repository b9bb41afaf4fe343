# SPDX-License-Identifier: LGPL-2.1-or-later
"""Log files: each line once, whatever happens to the files and to the reader."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banagent.sources import lines
from sources.logs import COMPRESSED, Reader, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

ACTS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 30)),
    st.tuples(
        st.sampled_from(["begin_line", "end_line", "hup", "rotate", "copytruncate", "save", "restart"]), st.none()
    ),
    st.tuples(st.just("rotate without create"), st.none()),
    st.tuples(st.just("compress"), st.sampled_from(sorted(COMPRESSED))),
    st.tuples(st.just("read"), st.integers(1, 5)),
    st.tuples(st.just("read all"), st.none()),
)


@pytest.fixture
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK", 64)
    monkeypatch.setattr(lines, "LONGEST", 64)


@given(st.lists(ACTS, max_size=40), st.booleans())
@settings(max_examples=300, deadline=None)
@pytest.mark.usefixtures("_small_slices")
def test_each_line_is_read_once_and_in_order(acts: list[tuple[str, object]], dated: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.log"
        service, reader = Service(path, dated=dated), Reader(path)
        reader.read()
        reader.save()
        for act, argument in acts:
            perform(service, reader, act, argument)
        service.hup()
        service.close()
        reader.read()
        reader.close()
        assert reader.lines == service.written
        assert len({entry.position for entry in reader.entries}) == len(service.written)
        assert reader.missed == []


def perform(service: Service, reader: Reader, act: str, argument: object) -> None:
    if act == "read all":
        reader.read()
    elif act == "rotate without create":
        service.rotate(create=False)
    elif hasattr(reader, act):
        getattr(reader, act)(*([argument] if argument is not None else []))
    else:
        getattr(service, act)(*([argument] if argument is not None else []))
