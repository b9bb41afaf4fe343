# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines of 64 KB and of 1 MB, made against each pattern: none takes longer than one of 16 KB, or forges anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from filters.test_samples import in_each_mode, recognise, shipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from banagent.core.filter import Sample

LONG: Final = 1 << 16
LONGER: Final = 1_000_000
# What fits into most gaps, and what a careless pattern takes for the end of them.
STUFFINGS: Final = (b"a", b" from 192.0.2.66 port 22 ssh2", b", rip=192.0.2.66, lip=1>) [192.0.2.66]")
MOST: Final = 0.1  # seconds of CPU for a line: it takes 0.005, on machines of which some are slow and busy
TRIES: Final = 3


def prolonged(sample: Sample) -> Iterator[bytes]:
    """Give a line prolonged at its end, behind its address, and behind the user's name."""
    line = sample.line.encode()
    parts = [part.encode() for part in (sample.address, sample.user) if part]
    ends = {len(line), *(line.index(part) + len(part) for part in parts if part in line)}
    for end in ends:
        for stuffing in STUFFINGS:
            yield line[:end] + stuffing * ((LONG - len(line)) // len(stuffing) + 1) + line[end:]
    yield line + b"a" * LONGER


@pytest.mark.parametrize("name", shipped())
def test_a_long_line_takes_no_longer_and_forges_nothing(name: str) -> None:
    in_each_mode(name)
    for failregex in shipped()[name].failregexes:
        for sample in failregex.samples:
            for line in prolonged(sample):
                taken, addresses = told(name, line)
                assert addresses <= {sample.address}, (failregex.name, line[:200])
                assert taken < MOST, (failregex.name, line[:200])


def told(name: str, line: bytes) -> tuple[float, set[str | None]]:
    """Give the CPU time that the quickest of some tries took, and the addresses that were found."""
    taken: list[float] = []
    addresses: set[str | None] = set()
    while len(taken) < TRIES and (not taken or taken[-1] > MOST):
        begin = time.process_time()
        found = recognise(in_each_mode(name), line)
        taken.append(time.process_time() - begin)
        addresses |= {str(one.address) for one in found.values() if one.address and one.credible}
    return min(taken), addresses
