# SPDX-License-Identifier: LGPL-2.1-or-later
"""Set elements as the kernel reads and writes them, packed by hand: this is the hot path.

The format is that of `struct nlattr` and `enum nft_set_elem_attributes` (linux/netfilter/nf_tables.h): lengths and
types in the machine's byte order, values in the network's.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import TYPE_CHECKING, Final

from banagent.sinks.nft.netlink import attributes
from banagent.sinks.nft.wanted import FOREVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LIST_ELEM: Final = 1
_KEY: Final = 1
_TIMEOUT: Final = 4
_EXPIRATION: Final = 5
_DATA_VALUE: Final = 1

_HEADER: Final = struct.Struct("=HH")
_HEADERS: Final = struct.Struct("=HHHHHH")  # of the element, its key, and the key's value
_BARE: Final = 12  # bytes of an element beside its key: three headers
_SPAN: Final = 12  # of an attribute with a 64 bit value
_TIMED: Final = _BARE + 2 * _SPAN

# An attribute's length has 16 bits, so a list has to end before that.
_LIST_BYTES: Final = 0xFFFF - 4

# The kernel computes in nanoseconds, in 63 bits: 292 years. A longer ban gets this much.
MAX_TIMEOUT: Final = 9_223_372_036_854  # ms


def _key_headers(size: int, total: int) -> bytes:
    return _HEADERS.pack(total, _LIST_ELEM, size + 8, _KEY, size + 4, _DATA_VALUE)


def pack_keys(keys: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Give lists of elements without end, each list fit for one message; the keys have `size` bytes, 4 or 16."""
    head = _key_headers(size, size + _BARE)
    return _lists((head + key for key in keys), size + _BARE)


def pack(ends: Iterable[tuple[bytes, int]], size: int, now: int) -> Iterator[bytes]:
    """Give lists of elements, each list fit for one message, of keys of `size` bytes and their ends in µs.

    What ended by `now` is left out. The expiration is given with the timeout because the kernel doesn't start an
    element's time anew if it stands already with the same timeout.
    """
    return _lists(_elements(ends, size, now), size + _TIMED)


def _elements(ends: Iterable[tuple[bytes, int]], size: int, now: int) -> Iterator[bytes]:
    forever = _key_headers(size, size + _BARE)
    head = _key_headers(size, size + _TIMED)
    timeout, expiration = _HEADER.pack(_SPAN, _TIMEOUT), _HEADER.pack(_SPAN, _EXPIRATION)
    timed = struct.Struct(f">{len(head)}s{size}s4sQ4sQ").pack
    longest = now + MAX_TIMEOUT * 1000
    for key, end in ends:
        if end == FOREVER:
            yield forever + key
        elif end > now:
            left = -((now - min(end, longest)) // 1000)  # rounded up
            yield timed(head, key, timeout, left, expiration, left)


def _lists(elements: Iterator[bytes], largest: int) -> Iterator[bytes]:
    step = _LIST_BYTES // largest
    while chunk := b"".join(islice(elements, step)):
        yield chunk


def parse(elements: memoryview, size: int) -> list[tuple[bytes, int | None]]:
    """Give the key and the time left in ms (None: for ever) of each element in a list as the kernel dumps it.

    The keys have `size` bytes. Elements that have just a key, a timeout and an expiration, as nearly all have, are read
    in one step if there are no others.
    """
    plain = _HEADERS.pack(size + _TIMED, _LIST_ELEM, size + 8, _KEY, size + 4, _DATA_VALUE)
    usual = plain, _HEADER.pack(_SPAN, _TIMEOUT), _HEADER.pack(_SPAN, _EXPIRATION)
    timed = struct.Struct(f">{len(plain)}s{size}s4s8x4sQ")
    if len(elements) % timed.size == 0:
        rows = list(timed.iter_unpack(elements))
        if all((head, first, second) == usual for head, _, first, second, _ in rows):
            return [(key, left) for _, key, _, _, left in rows]
    return list(_parse_elements(elements))


def _parse_elements(elements: memoryview) -> Iterator[tuple[bytes, int | None]]:
    position = 0
    while position < len(elements):
        whole, _ = _HEADER.unpack_from(elements, position)
        found = attributes(elements[position + 4 : position + whole])
        if _KEY in found:  # none has what stands for all others, "*": it is not ours
            left = found.get(_EXPIRATION)
            yield bytes(attributes(found[_KEY])[_DATA_VALUE]), None if left is None else int.from_bytes(left, "big")
        position += whole
