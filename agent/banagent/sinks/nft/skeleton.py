# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table without its bans: sets, chains and rules, encoded by pyroute2.

A packet from an address that isn't banned meets one lookup per length in `prerouting.*`; only a hit leads on to the
jails. What is read as `nft list table inet banagent`, with the jails sshd (ports 22) and recidive (all ports):

    set ipv4.32, ipv6.64, ipv6.128      banned somewhere
    set sshd.ipv4.32                    made with the first ban of that length in that jail
    chain prerouting.ports              hook prerouting, priority -300: before conntrack and NAT
        iif "lo" accept
        ip saddr @ipv4.32 jump ports.ipv4
    chain ports.ipv4
        meta l4proto != @protocols return
        fib daddr type != local return
        ip saddr @sshd.ipv4.32 jump sshd.dport
    chain sshd.dport
        th dport 22 counter drop
    chain prerouting.all                hook prerouting, priority -150: after conntrack, before NAT
        …
    chain all.ipv4
        fib daddr type != local return
        ct direction reply return
        ip saddr @recidive.ipv4.32 counter drop

All sets are plain: when a table with interval sets is replaced, Linux 6.18 puts its rules in force some 0.1 ms before
such a set can be looked up, and what was banned passes meanwhile. Hence rules for the ports, not a set.

The names have dots because a jail's can't: nothing collides, and no word of nft's language is among them ("chain all"
is a syntax error to nft).
"""

from __future__ import annotations

import re
import sys
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

from banagent.sinks.nft.encoder import (
    genex,
    nft_chain_msg,
    nft_rule_msg,
    nft_set_elem_list_msg,
    nft_set_msg,
    nft_table_msg,
)
from banagent.sinks.nft.netlink import (
    APPEND,
    CREATE,
    DELTABLE,
    NEWCHAIN,
    NEWRULE,
    NEWSET,
    NEWSETELEM,
    NEWTABLE,
    Message,
)
from banagent.sinks.nft.wanted import Length

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyroute2.netlink import nlmsg

Ports: TypeAlias = tuple[tuple[int, int], ...]  # ranges, both ends included
_Expression: TypeAlias = dict[str, object]

TABLE: Final = "banagent"
# To be counted up when a newer version reads its sets in another way. `nft list` shows it as the table's comment.
LAYOUT: Final = "layout 1"

# They always have a set, so that the first ban costs what any other does; others come with their first ban.
LENGTHS: Final = (Length(4, 32), Length(6, 64), Length(6, 128))

_PRIORITIES: Final = {"ports": -300, "all": -150}  # NF_IP_PRI_RAW; NF_IP_PRI_MANGLE
_FAMILIES: Final = {4: "ipv4", 6: "ipv6"}

# types of nft's language, so that `nft list` shows values as such; include/datatype.h of nftables
_ADDRESS: Final = {4: 7, 6: 8}
_INET_PROTO: Final = 12
_ICMPV6_TYPE: Final = 29

_REGISTER: Final = 1
_VERDICT_REGISTER: Final = 0
_EQUAL: Final = 0
_NOT_EQUAL: Final = 1
_AT_MOST: Final = 3
_AT_LEAST: Final = 5
_META_IIF: Final = 4
_META_NFPROTO: Final = 15
_META_L4PROTO: Final = 16
_NFPROTO: Final = {4: 2, 6: 10}
_NETWORK_HEADER: Final = 1
_TRANSPORT_HEADER: Final = 2
_SOURCE: Final = {4: 12, 6: 8}  # where the source address is in the header
_LOOPBACK: Final = 1  # LOOPBACK_IFINDEX, in every network namespace
_CT_DIRECTION: Final = 1
_CT_REPLY: Final = 1
_FIB_DADDR: Final = 2
# pyroute2 takes the result for flags: bits 0 and 1 make 3, which is NFT_FIB_RESULT_ADDRTYPE
_FIB_TYPE: Final = frozenset({"NFT_FIB_RESULT_UNSPEC", "NFT_FIB_RESULT_OIF"})
_RTN_LOCAL: Final = 2
_ACCEPT: Final = 1
_DROP: Final = 0
_JUMP: Final = -3
_RETURN: Final = -5

_TCP, _UDP, _DCCP, _ICMPV6, _SCTP, _UDPLITE = 6, 17, 33, 58, 132, 136
# Their headers begin alike: source port, destination port.
_PROTOCOLS: Final = bytes((_TCP, _UDP, _DCCP, _SCTP, _UDPLITE))
# Packet too big, and neighbour discovery (RFC 4861): without these the host loses the network or its connections.
_ICMPV6_PASSING: Final = bytes((2, 133, 134, 135, 136, 137))

_LAST_PORT: Final = 0xFFFF

_HEADERS: Final = 20  # of the message and of nfnetlink, which the batch writes

_JAIL: Final = re.compile(r"[a-z][a-z0-9_-]*")
_SET: Final = re.compile(rf"({_JAIL.pattern})\.ipv([46])\.(\d+)")


def is_jail(name: str) -> bool:
    """Whether a jail can be called that."""
    return _JAIL.fullmatch(name) is not None


def set_of(jail: str, length: Length) -> str:
    """Give the name of the set with the bans of `jail`."""
    return f"{jail}.{length.name}"


def dport_of(jail: str) -> str:
    """Give the name of the chain that drops what goes to the ports of `jail`."""
    return f"{jail}.dport"


def parse_set(name: str) -> tuple[str, Length] | None:
    """Give the jail and the length whose bans the set `name` has; None: it is another set."""
    if (match := _SET.fullmatch(name)) is None:
        return None
    length = Length(int(match[2]), int(match[3]))
    return (match[1], length) if length.prefix <= length.bits else None


def kind_of(ports: Ports | None) -> str:
    """Give which of the chains a jail's rules are in."""
    return "all" if ports is None else "ports"


def table(kinds: Iterable[str]) -> Iterator[Message]:
    """Replace the table by one that has the chains of `kinds`, and the sets that always are."""
    yield from _table()
    for kind in kinds:
        yield from _chains(kind)
    for length in LENGTHS:
        yield from level(length, kinds)


def level(length: Length, kinds: Iterable[str]) -> Iterator[Message]:
    """Add the set of what is banned somewhere, and let the chains of `kinds` look it up."""
    yield _ban_set(length.name, length)
    for kind in kinds:
        yield _lookup_rule(length, kind)


@cache
def dport(jail: str, ports: Ports) -> tuple[Message, ...]:
    """Add the chain that drops what goes to the ports of `jail`. Raises ValueError if there is none, or it can't be."""
    name = dport_of(jail)
    joined = _join(ports)
    if not joined:
        raise ValueError(f"the jail {jail} has no ports")
    return _chain(name), *(_rule(name, [*_destination(first, last), *_drop()]) for first, last in joined)


@cache
def jail(name: str, length: Length, kind: str) -> tuple[Message, ...]:
    """Add the set for a jail's bans of a length, and the rule that looks it up."""
    banned = [*_source(length), _lookup(set_of(name, length))]
    verdict = [_verdict(_JUMP, dport_of(name))] if kind == "ports" else _drop()
    return _ban_set(set_of(name, length), length), _rule(f"{kind}.{_FAMILIES[length.version]}", [*banned, *verdict])


def _join(ports: Ports) -> Ports:
    """Make one of ranges that overlap or touch."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ports):
        if not 0 <= first <= last <= _LAST_PORT:
            raise ValueError(f"{first}-{last} is not a range of ports")
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


@cache
def _table() -> tuple[Message, ...]:
    new = _message(
        nft_table_msg,
        NEWTABLE,
        [("NFTA_TABLE_NAME", TABLE), ("NFTA_TABLE_USERDATA", {"value": LAYOUT})],
        CREATE,
    )
    return (
        new,  # so that there is one to delete
        _message(nft_table_msg, DELTABLE, [("NFTA_TABLE_NAME", TABLE)], 0),
        new,
        _set("protocols", _INET_PROTO, 1),
        _constants("protocols", _PROTOCOLS),
        _set("icmpv6.passing", _ICMPV6_TYPE, 1),
        _constants("icmpv6.passing", _ICMPV6_PASSING),
    )


@cache
def _chains(kind: str) -> tuple[Message, ...]:
    base = f"prerouting.{kind}"
    return (
        *(_chain(f"{kind}.{family}") for family in _FAMILIES.values()),
        *(_rule(f"{kind}.{_FAMILIES[version]}", rule) for version in _FAMILIES for rule in _passing(kind, version)),
        _chain(base, _PRIORITIES[kind]),
        _rule(base, [_meta(_META_IIF), _compare(_EQUAL, _native(_LOOPBACK)), _verdict(_ACCEPT)]),
    )


def _passing(kind: str, version: int) -> Iterator[list[_Expression]]:
    """Give the rules by which a packet from a banned address gets by."""
    if kind == "ports":
        yield [_meta(_META_L4PROTO), _lookup("protocols", inverted=True), _verdict(_RETURN)]
    elif version == 6:
        yield [
            _meta(_META_L4PROTO),
            _compare(_EQUAL, bytes((_ICMPV6,))),
            _payload(_TRANSPORT_HEADER, 0, 1),
            _lookup("icmpv6.passing"),
            _verdict(_RETURN),
        ]
    # what is routed through this host, to guests and containers with addresses of their own, is not ours to decide
    yield [
        genex("fib", {"dreg": _REGISTER, "result": _FIB_TYPE, "flags": _FIB_DADDR}),
        _compare(_NOT_EQUAL, _native(_RTN_LOCAL)),
        _verdict(_RETURN),
    ]
    if kind == "all":
        # Answers to the host's own connections pass. "ct direction original drop" would let pass what has no
        # connection: packets that conntrack calls invalid.
        yield [
            genex("ct", {"dreg": _REGISTER, "key": _CT_DIRECTION}),
            _compare(_EQUAL, bytes((_CT_REPLY,))),
            _verdict(_RETURN),
        ]


@cache
def _lookup_rule(length: Length, kind: str) -> Message:
    jump = _verdict(_JUMP, f"{kind}.{_FAMILIES[length.version]}")
    return _rule(f"prerouting.{kind}", [*_source(length), _lookup(length.name), jump])


def _source(length: Length) -> Iterator[_Expression]:
    """Load the packet's source address, masked."""
    size = length.bits // 8
    yield _meta(_META_NFPROTO)
    yield _compare(_EQUAL, bytes((_NFPROTO[length.version],)))
    yield _payload(_NETWORK_HEADER, _SOURCE[length.version], size)
    if length.prefix < length.bits:
        ones = (1 << length.prefix) - 1 << length.bits - length.prefix
        yield genex(
            "bitwise",
            {
                "sreg": _REGISTER,
                "dreg": _REGISTER,
                "len": size,
                "mask": _value(ones.to_bytes(size, "big")),
                "xor": _value(bytes(size)),
            },
        )


def _destination(first: int, last: int) -> Iterator[_Expression]:
    """Go on with packets to these ports."""
    yield _payload(_TRANSPORT_HEADER, 2, 2)
    if first == last:
        yield _compare(_EQUAL, first.to_bytes(2, "big"))
    else:
        yield _compare(_AT_LEAST, first.to_bytes(2, "big"))
        yield _compare(_AT_MOST, last.to_bytes(2, "big"))


def _drop() -> list[_Expression]:
    return [genex("counter", {}), _verdict(_DROP)]


def _native(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)


def _value(data: bytes) -> _Expression:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def _meta(key: int) -> _Expression:
    return genex("meta", {"dreg": _REGISTER, "key": key})


def _compare(operator: int, data: bytes) -> _Expression:
    return genex("cmp", {"sreg": _REGISTER, "op": operator, "data": _value(data)})


def _payload(base: int, offset: int, size: int) -> _Expression:
    return genex("payload", {"dreg": _REGISTER, "base": base, "offset": offset, "len": size})


def _lookup(name: str, *, inverted: bool = False) -> _Expression:
    flags = {"NFT_LOOKUP_F_INV"} if inverted else set[str]()
    return genex("lookup", {"set": name, "sreg": _REGISTER, "flags": flags})


def _verdict(code: int, chain: str | None = None) -> _Expression:
    attributes: list[tuple[str, object]] = [("NFTA_VERDICT_CODE", code)]
    if chain is not None:
        attributes.append(("NFTA_VERDICT_CHAIN", chain))
    verdict = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": attributes})]}
    return genex("immediate", {"dreg": _VERDICT_REGISTER, "data": verdict})


def _ban_set(name: str, length: Length) -> Message:
    return _set(name, _ADDRESS[length.version], length.bits // 8, "NFT_SET_TIMEOUT")


def _set(name: str, key_type: int, size: int, *flags: str) -> Message:
    attributes = [
        ("NFTA_SET_TABLE", TABLE),
        ("NFTA_SET_NAME", name),
        ("NFTA_SET_FLAGS", set(flags)),
        ("NFTA_SET_KEY_TYPE", key_type),
        ("NFTA_SET_KEY_LEN", size),
        ("NFTA_SET_ID", 1),  # demanded, and not used: all sets are called by name
    ]
    return _message(nft_set_msg, NEWSET, attributes, CREATE)


def _constants(name: str, values: bytes) -> Message:
    attributes = [
        ("NFTA_SET_ELEM_LIST_TABLE", TABLE),
        ("NFTA_SET_ELEM_LIST_SET", name),
        (
            "NFTA_SET_ELEM_LIST_ELEMENTS",
            [{"attrs": [("NFTA_SET_ELEM_KEY", _value(bytes((value,))))]} for value in values],
        ),
    ]
    return _message(nft_set_elem_list_msg, NEWSETELEM, attributes, CREATE)


def _chain(name: str, priority: int | None = None) -> Message:
    attributes: list[tuple[str, object]] = [("NFTA_CHAIN_TABLE", TABLE), ("NFTA_CHAIN_NAME", name)]
    if priority is not None:
        hook = {"attrs": [("NFTA_HOOK_HOOKNUM", 0), ("NFTA_HOOK_PRIORITY", priority)]}
        attributes += [("NFTA_CHAIN_TYPE", "filter"), ("NFTA_CHAIN_HOOK", hook), ("NFTA_CHAIN_POLICY", _ACCEPT)]
    return _message(nft_chain_msg, NEWCHAIN, attributes, CREATE)


def _rule(chain: str, expressions: Sequence[_Expression]) -> Message:
    attributes = [
        ("NFTA_RULE_TABLE", TABLE),
        ("NFTA_RULE_CHAIN", chain),
        ("NFTA_RULE_EXPRESSIONS", expressions),
    ]
    return _message(nft_rule_msg, NEWRULE, attributes, CREATE | APPEND)


def _message(of: type[nlmsg], kind: int, attributes: Sequence[tuple[str, object]], flags: int) -> Message:
    message = of()
    message["attrs"] = attributes
    message.encode()
    return Message(kind, flags, bytes(message.data[_HEADERS:]))
