# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from re2 import _re2

from banagent.core.address import Network, parse_address, parse_host, parse_network
from banagent.core.filter import HOST, options


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # what services log of a peer
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        # with a port
        ("192.0.2.1:22", "192.0.2.1"),
        ("192.0.2.1::22", "192.0.2.1"),
        ("::ffff:192.0.2.1:22", "192.0.2.1"),
        ("::ffff:192.0.2.1::65535", "192.0.2.1"),
        # which can't be told from the last part of a bare IPv6 address
        ("2001:db8::1:22", "2001:db8::1:22"),
        ("2001:db8:0:0:0:0:0:1:22", None),
        # in a sentence
        ("192.0.2.1.", "192.0.2.1"),
        ("192.0.2.1:", "192.0.2.1"),
        ("2001:db8::1:", "2001:db8::1"),
        ("2001:db8::1.", "2001:db8::1"),
        ("2001:db8::", "2001:db8::"),
        ("2001:db8:::", "2001:db8::"),
        # networks, but none that is too large to be somebody's
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.77/24", "192.0.2.0/24"),
        ("198.51.0.0/16", "198.51.0.0/16"),
        ("2001:db8::/64", "2001:db8::/64"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("198.50.0.0/15", None),
        ("0.0.0.0/0", None),
        ("2001:d00::/31", None),
        ("::/0", None),
        ("192.0.2.0/33", None),
        ("192.0.2.0/", None),
        # names, and what looks like an address
        *((name, None) for name in ("", ":", ".", "UNKNOWN", "-", "host.example", "dead.beef", "1.2.3", "1.2.3.4.5")),
        *((name, None) for name in ("192.0.2.1.example", "192-0-2-1", "192.0.2.256", "010.0.0.1", "192.0.2.1:x")),
        *((name, None) for name in ("x:22", ":22", "192.0.2.1:1:2", "192.0.2.1:123456", "[192.0.2.1]")),
    ],
)
def test_parse_host(text: str, expected: str | None) -> None:
    if expected is not None:
        assert str(parse_host(text)) == expected
    else:
        with pytest.raises(ValueError, match=r"is not|is too large"):
            parse_host(text)


HOST_PATTERN = _re2.RE2(rf"^from {HOST} end$".encode(), options())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("[192.0.2.1]", "192.0.2.1"),
        ("192.0.2.1:22", "192.0.2.1"),
        ("192.0.2.1::22", "192.0.2.1"),
        ("192.0.2.1#53", "192.0.2.1"),
        ("[192.0.2.1]:22", "192.0.2.1"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.1/32:22", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:22", "2001:db8::1"),
        ("[2001:db8::1]::22", "2001:db8::1"),
        ("2001:db8::1#53", "2001:db8::1"),
        ("[2001:db8::/64]", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%eth0.5#53", "fe80::1"),
        ("[fe80::1%eth0]:22", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:22", "192.0.2.1"),
    ],
)
def test_host_in_a_line(text: str, expected: str) -> None:
    """All forms of `<HOST>`, as patterns find them."""
    line = f"from {text} end".encode()
    spans = HOST_PATTERN.Match(_re2.RE2.Anchor.UNANCHORED, line, 0, len(line))
    start, end = spans[1]
    assert str(parse_host(line[start:end].decode())) == expected


@given(st.ip_addresses(), st.integers(0, 65535))
def test_parse_host_agrees_with_ipaddress(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    assert parse_host(str(address)) == parse_address(str(address))
    if address.version == 4:
        assert parse_host(f"{address}:{port}") == parse_host(f"{address}::{port}") == parse_address(str(address))


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
