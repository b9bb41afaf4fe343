# SPDX-License-Identifier: LGPL-2.1-or-later
"""Addresses and networks as the packets carry them: big-endian bytes and a prefix length.

`inet_pton` and `inet_ntop` (POSIX) do the parsing: strict, numeric, no names, no octal or short forms.
"""

from __future__ import annotations

import re
from contextlib import suppress
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final, NamedTuple

_PORT: Final = re.compile(r"::?\d{1,5}$")
_MAPPED = b"\0" * 10 + b"\xff\xff"  # RFC 4291, 2.5.5.2: ::ffff:a.b.c.d


class Network(NamedTuple):
    """An address (all of its bits significant) or a network; `packed` has 4 or 16 bytes, host bits zero."""

    packed: bytes
    prefix: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self.packed) == 4 else 6

    @property
    def is_host(self) -> bool:
        """Whether it is a single address."""
        return self.prefix == len(self.packed) * 8

    def covers(self, other: Network) -> bool:
        """Whether each address of `other` is one of this network's."""
        if len(self.packed) != len(other.packed) or self.prefix > other.prefix:
            return False
        shift = len(self.packed) * 8 - self.prefix
        return int.from_bytes(self.packed, "big") >> shift == int.from_bytes(other.packed, "big") >> shift

    def widen(self, prefix: int) -> Network:
        """Give the network of `prefix` bits around this one; `prefix` must not be larger than its own."""
        bits = len(self.packed) * 8
        value = int.from_bytes(self.packed, "big") >> (bits - prefix) << (bits - prefix)
        return Network(value.to_bytes(bits // 8, "big"), prefix)

    def __str__(self) -> str:
        """Give the usual notation (RFC 5952): `192.0.2.1`, `2001:db8::/64`."""
        text = inet_ntop(AF_INET if len(self.packed) == 4 else AF_INET6, self.packed)
        return text if self.is_host else f"{text}/{self.prefix}"


def parse_address(text: str) -> Network:
    """Parse a numeric address; an IPv4 address mapped into IPv6 becomes IPv4. Raises ValueError."""
    try:
        if ":" not in text:
            return Network(inet_pton(AF_INET, text), 32)
        packed = inet_pton(AF_INET6, text)
    except (OSError, ValueError):  # ValueError: an embedded NUL, or a lone surrogate
        raise ValueError(f"{text!r} is not an address") from None
    if packed.startswith(_MAPPED):
        return Network(packed[12:], 32)
    return Network(packed, 128)


def parse_network(text: str) -> Network:
    """Parse an address or `ADDRESS/PREFIX`; host bits that are set are cleared. Raises ValueError."""
    address_text, slash, prefix_text = text.partition("/")
    address = parse_address(address_text)
    if not slash:
        return address
    if not (prefix_text.isascii() and prefix_text.isdigit() and len(prefix_text) <= 3):
        raise ValueError(f"{text!r} is not a network: its prefix length must be a number")
    prefix = int(prefix_text)
    if address.version == 4 and ":" in address_text:
        prefix -= 96  # ::ffff:192.0.2.0/120 is 192.0.2.0/24
    if not 0 <= prefix <= address.prefix:
        raise ValueError(f"{text!r} is not a network: its prefix length must be from 0 to {address.prefix}")
    return address.widen(prefix)


def parse_host(text: str) -> Network:
    """Parse what a service logs of a peer: an address or a network in any notation, also with a port behind it.

    The port may stand behind one colon or two, unless the address is a bare IPv6 one, of which it can't be told then.
    Raises ValueError: a host name, or a network that is too large to be somebody's.
    """
    try:
        return parse_address(text)  # as most are
    except ValueError:
        pass
    with suppress(ValueError):
        return _small(parse_network(text))
    address = text.rstrip(".").removesuffix(":")  # the punctuation of a sentence
    return _small(parse_network(_PORT.sub("", address) if "." in address else address))


def _small(network: Network) -> Network:
    least = 16 if network.version == 4 else 32
    if network.prefix < least:
        raise ValueError(f"{network} is too large to be somebody's")
    return network
