# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is packed by hand, against pyroute2's encoding; names and ports. No kernel."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink.nftsocket import nft_set_elem_list_msg

from banagent.core.address import Network, parse_network
from banagent.core.bans import Standing
from banagent.sinks.nft import Firewall, elements, skeleton
from banagent.sinks.nft.netlink import attribute, attributes, messages
from banagent.sinks.nft.wanted import FOREVER, Length, Wanted, merge

if TYPE_CHECKING:
    from banagent.sinks.nft import Ports

NOW = 1_700_000_000_000_000
SECOND = 1_000_000
MAX = 9_223_372_036_854  # ms, as measured

keys = st.sampled_from((4, 16)).flatmap(lambda size: st.lists(st.binary(min_size=size, max_size=size), min_size=1))


def reference(key: bytes, left: int | None) -> bytes:
    """Give pyroute2's encoding of an element."""
    times = [] if left is None else [("NFTA_SET_ELEM_TIMEOUT", left), ("NFTA_SET_ELEM_EXPIRATION", left)]
    element = {"attrs": [("NFTA_SET_ELEM_KEY", {"attrs": [("NFTA_DATA_VALUE", key)]}), *times]}
    message = nft_set_elem_list_msg()
    message["attrs"] = [("NFTA_SET_ELEM_LIST_ELEMENTS", [element])]
    message.encode()
    return bytes(message.data[20 + 4 :])  # less the headers of the message and of the list


@given(keys, st.one_of(st.none(), st.integers(1, MAX)))
def test_elements_are_encoded_as_by_pyroute2(packed: list[bytes], left: int | None) -> None:
    end = FOREVER if left is None else NOW + left * 1000
    mine = b"".join(elements.pack([(key, end) for key in packed], len(packed[0]), NOW))
    assert mine == b"".join(reference(key, left) for key in packed)


@given(keys)
def test_keys_are_encoded_as_by_pyroute2(packed: list[bytes]) -> None:
    mine = b"".join(elements.pack_keys(packed, len(packed[0])))
    assert mine == b"".join(reference(key, None) for key in packed)


@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.one_of(st.none(), st.integers(1, MAX)))))
def test_what_is_packed_is_parsed(ends: list[tuple[bytes, int | None]]) -> None:
    packed = elements.pack([(key, FOREVER if left is None else NOW + left * 1000) for key, left in ends], 16, NOW)
    for data in packed:
        assert list(elements.parse(memoryview(data), 16)) == ends


def test_elements_with_more_to_them_are_parsed() -> None:
    (plain,) = elements.pack([(b"1234", NOW + 5000)], 4, NOW)
    comment = attribute(6, b"\0\3hi\0")
    long = attribute(1, plain[4:16] + comment + plain[16:])
    assert list(elements.parse(memoryview(plain + long + plain), 4)) == [(b"1234", 5)] * 3


@pytest.mark.parametrize(
    ("end", "left"),
    [
        (NOW + 1, 1),  # rounded up: a ban doesn't end early
        (NOW + 1000, 1),
        (NOW + 1001, 2),
        (NOW + 3600 * SECOND, 3_600_000),
        (NOW + MAX * 1000, MAX),
        (NOW + MAX * 1000 + 1, MAX),  # longer than the kernel takes
        (FOREVER - 1, MAX),
        (FOREVER, None),
    ],
)
def test_timeouts(end: int, left: int | None) -> None:
    (packed,) = elements.pack([(bytes(4), end)], 4, NOW)
    assert list(elements.parse(memoryview(packed), 4)) == [(bytes(4), left)]


@pytest.mark.parametrize("end", [0, NOW - 1, NOW])
def test_what_ended_is_left_out(end: int) -> None:
    assert list(elements.pack([(bytes(4), end)], 4, NOW)) == []


@pytest.mark.parametrize("size", [4, 16])
def test_lists_fit_their_messages(size: int) -> None:
    many = [number.to_bytes(size, "big") for number in range(5000)]
    for lists in (
        list(elements.pack([(key, NOW + 1) for key in many], size, NOW)),
        list(elements.pack_keys(many, size)),
    ):
        assert max(map(len, lists)) + 4 <= 0xFFFF
        assert min(map(len, lists[:-1])) > 0xFF00  # and are well filled
        assert [key for packed in lists for key, _ in elements.parse(memoryview(packed), size)] == many


@given(st.lists(st.tuples(st.integers(1, 99), st.binary(max_size=20)), unique_by=lambda pair: pair[0]))
def test_attributes(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, value) for kind, value in pairs)
    assert len(data) % 4 == 0
    assert {kind: bytes(value) for kind, value in attributes(memoryview(data)).items()} == dict(pairs)


@given(st.binary(max_size=60))
def test_any_bytes_are_parsed_to_an_end(data: bytes) -> None:
    assert len(attributes(memoryview(data))) <= len(data)
    assert len(list(messages(memoryview(data)))) <= len(data)


# ports


@pytest.mark.parametrize("ports", [(), ((22, 21),), ((-1, 3),), ((1, 65536),)])
def test_ports_that_can_not_be(ports: Ports) -> None:
    with pytest.raises(ValueError, match="port"):
        Firewall({"sshd": ports})


# names


@pytest.mark.parametrize("name", ["", "SSHD", "1a", "a.b", "a b", "-a", "a\n", 'a"', "ä"])
def test_names_that_can_not_be(name: str) -> None:
    with pytest.raises(ValueError, match="can't be a jail's name"):
        Firewall({name: None})


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("sshd.ipv4.32", ("sshd", Length(4, 32))),
        ("a-b_1.ipv6.0", ("a-b_1", Length(6, 0))),
        ("ipv4.ipv4.24", ("ipv4", Length(4, 24))),
        ("ipv4.32", None),
        ("sshd.dport", None),
        ("protocols", None),
        ("sshd.ipv4.33", None),
        ("sshd.ipv6.129", None),
        ("sshd.ipv5.32", None),
        ("sshd.ipv4.32.x", None),
    ],
)
def test_sets_of_bans_are_known_by_their_names(name: str, parsed: tuple[str, Length] | None) -> None:
    assert skeleton.parse_set(name) == parsed
    if parsed is not None:
        assert skeleton.set_of(*parsed) == name


# what is wanted


def test_wanted() -> None:
    network = parse_network("192.0.2.0/24")
    host = Network(network.packed, 32)
    first = [Standing("a", network, 5), Standing("b", network, None), Standing("a", host, 7)]
    wanted = Wanted(first)
    assert sorted(wanted, key=str) == sorted(first, key=str)
    assert len(wanted) == 3
    assert all(ban in wanted for ban in first)
    assert Standing("a", network, 6) not in wanted
    assert wanted.latest(network) == FOREVER
    wanted.remove("b", network)
    wanted.remove("b", network)
    assert wanted.latest(network) == 5
    wanted.put(Standing("a", network, 9))
    assert wanted.end("a", network) == 9
    assert wanted.end("b", network) == 0
    assert wanted.latest(parse_network("203.0.113.1")) == 0
    assert {length: list(jails) for length, jails in wanted.by_length()} == {Length(4, 24): ["a"], Length(4, 32): ["a"]}


def test_the_latest_end_wins() -> None:
    assert merge({"a": {b"1": 5, b"2": FOREVER}, "b": {b"1": 7, b"2": 3}}) == {b"1": 7, b"2": FOREVER}


def test_wanted_without_others() -> None:
    network, host = parse_network("192.0.2.0/24"), parse_network("192.0.2.0")
    wanted = Wanted([Standing("a", network, 5), Standing("b", network, None), Standing("a", host, 7)])
    others = Wanted([Standing("a", network, 6), Standing("c", host, 7)])
    assert sorted(wanted.without(others)) == [Standing("a", host, 7), Standing("b", network, None)]
    assert wanted.without(wanted) == []
    assert sorted(wanted.without(Wanted()), key=str) == sorted(wanted, key=str)


def test_pyroute2_is_not_imported_whole() -> None:
    """Unless somebody else wants it, who then gets it."""
    program = (
        "import sys, banagent.sinks.nft\n"
        "print(sum(name.startswith('pyroute2.') for name in sys.modules) < 30)\n"
        "import pyroute2\n"
        "print(pyroute2.IPRoute.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == ["True", "IPRoute"]
