# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banagent.core.address import Network, parse_address, parse_network


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # plain
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        # IPv4 mapped into IPv6 is IPv4
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        # but not what only looks like it
        ("::192.0.2.1", "::192.0.2.1"),
        ("64:ff9b::192.0.2.1", "64:ff9b::c000:201"),
    ],
)
def test_parse_address(text: str, expected: str) -> None:
    assert str(parse_address(text)) == expected


@pytest.mark.parametrize(
    "text",
    # short, octal, hexadecimal and decimal forms, names, rubbish, blanks, NULs, zones, lone surrogates, other digits
    [
        *(
            "",
            "1.2.3",
            "1.2.3.4.5",
            "010.0.0.1",
            "0x7f.1",
            "2130706433",
            "256.1.1.1",
            "localhost",
            ":",
            ":::",
            "1::2::3",
        ),
        *("192.0.2.1 ", " 192.0.2.1", "192.0.2.1\n", "192.0.2.1\0", "fe80::1%eth0", "[::1]", "1.2.3.4:22"),
        *("\udc80", "\u0661.2.3.4"),
    ],
)
def test_parse_address_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.77/24", "192.0.2.0/24"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::1/64", "2001:db8::/64"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
    ],
)
def test_parse_network(text: str, expected: str) -> None:
    assert str(parse_network(text)) == expected


@pytest.mark.parametrize(
    "text", ["192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/", "192.0.2.0/255.0.0.0", "::/129", "::/²", "::ffff:1.2.3.4/95"]
)
def test_parse_network_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is not a network"):
        parse_network(text)


@given(st.ip_addresses())
def test_agrees_with_ipaddress(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    assert parse_address(str(address)).packed == (mapped or address).packed


@given(st.ip_addresses(), st.integers(0, 128), st.ip_addresses(), st.integers(0, 128))
def test_covers_agrees_with_ipaddress(
    one: ipaddress.IPv4Address | ipaddress.IPv6Address,
    one_prefix: int,
    other: ipaddress.IPv4Address | ipaddress.IPv6Address,
    other_prefix: int,
) -> None:
    nets = [
        ipaddress.ip_network((address.packed, min(prefix, address.max_prefixlen)), strict=False)
        for address, prefix in ((one, one_prefix), (other, other_prefix))
    ]
    ours = [Network(net.network_address.packed, net.prefixlen) for net in nets]
    same = nets[0].version == nets[1].version
    assert ours[0].covers(ours[1]) == (same and nets[1].subnet_of(nets[0]))  # type: ignore[arg-type]  # same version
