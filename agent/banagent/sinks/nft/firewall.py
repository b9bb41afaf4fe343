# SPDX-License-Identifier: LGPL-2.1-or-later
"""The firewall: what is to be banned, in the kernel."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from banagent.errors import FirewallError
from banagent.sinks.nft import elements, skeleton
from banagent.sinks.nft.changes import Change, Watch
from banagent.sinks.nft.netlink import (
    CREATE,
    DELSETELEM,
    GETCHAIN,
    GETRULE,
    GETSET,
    GETSETELEM,
    GETTABLE,
    NEWSETELEM,
    Kernel,
    Message,
    attribute,
    attributes,
    text,
)
from banagent.sinks.nft.wanted import FOREVER, Length, Wanted, length_of, merge

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from banagent.core.address import Network
    from banagent.core.bans import Standing
    from banagent.sinks.nft.skeleton import Ports

_TABLE: Final = attribute(1, skeleton.TABLE.encode() + b"\0")  # of tables, sets, chains, rules and lists of elements
_NAME: Final = 1
_USERDATA: Final = 6
_SET_NAME: Final = 2
_SET_FLAGS: Final = 3
_SET_KEY_SIZE: Final = 5
_LIST_SET: Final = 2
_LIST_ELEMENTS: Final = 3
_EXPRESSIONS: Final = 4
_COUNTER: Final = b"counter\0"
_TIMEOUT_FLAG: Final = (0x10).to_bytes(4, "big")  # NFT_SET_TIMEOUT alone: a plain hash set

# What tells an object from one that was put in its place, or was changed; counters and numbers of users are not in it.
_IDENTITY: Final = {
    GETTABLE: (1, 2, 4, 6),  # name, flags, handle, userdata
    GETCHAIN: (1, 2, 3, 4, 5, 7, 10),  # table, handle, name, hook, policy, type, flags
    GETSET: (1, 2, 3, 4, 5, 9, 11, 12, 16),  # table, name, flags, key's type and size, desc, timeout, gc, handle
    GETRULE: (1, 2, 3, 4),  # table, chain, handle, expressions: a rule that replaces another has its handle
}
_LOOKS: Final = 5  # how often to try to see the table at rest
_GENERATIONS: Final = 1 << 16  # 16 bits of their number are told

_Parts: TypeAlias = tuple[tuple[bytes, ...], ...]
_Ends: TypeAlias = dict[tuple[str, Length], dict[bytes, int]]  # by set, and by the element's key


class _Look(NamedTuple):
    """What the table was at a generation of the ruleset, less its elements."""

    generation: int
    parts: _Parts


class Firewall:
    """The table `inet banagent`. `restore()` has to come before the first ban.

    What is asked for is kept, also if the kernel refuses it: after a FirewallError, `restore(standing(), now)` is
    what makes the kernel agree again. Times are in µs since the epoch; `now` is always the caller's.
    """

    def __init__(self, jails: Mapping[str, Ports | None]) -> None:
        """Take the ports of each jail, None: all of them. Raises ValueError for a name or ports that can't be."""
        for jail, ports in jails.items():
            if not skeleton.is_jail(jail):
                raise ValueError(f"{jail!r} can't be a jail's name: a lower-case letter first, then also 0-9, _ and -")
            if ports is not None:
                skeleton.dport(jail, ports)
        self._jails = dict(jails)
        self._kinds = tuple(sorted({skeleton.kind_of(ports) for ports in jails.values()}))
        self._wanted = Wanted()
        self._grown: frozenset[str] = frozenset()  # sets and chains in the table that come with the bans
        self._made: _Parts = ()  # the table as we made it; empty: not known, or another program came between
        self._sockets = ExitStack()
        self._kernel: Kernel
        self._watch: Watch

    def open(self) -> None:
        """Open the sockets. Raises NotPermittedError; FirewallError if the kernel has no nf_tables."""
        with ExitStack() as opened:
            self._kernel = opened.enter_context(closing(Kernel()))
            self._watch = opened.enter_context(closing(Watch(self._kernel.port)))
            self._sockets = opened.pop_all()

    def close(self) -> None:
        """Close the sockets; the bans go on standing."""
        self._sockets.close()

    def standing(self) -> Collection[Standing]:
        """Give the bans that should stand: also those that ended, until they are unbanned. It changes with them."""
        return self._wanted

    def read(self, now: int) -> list[Standing]:
        """Give the bans that stand in the kernel, also those of jails that aren't ours; ends are exact to some ms.

        There are none if there is no table, or one of a layout that this version doesn't know. Raises FirewallError.
        """
        return list(self._read(now))

    def besides(self, bans: Iterable[Standing], now: int) -> tuple[list[Standing], int]:
        """Give the bans that stand in the kernel and are not among `bans`, and how many of `bans` do stand there.

        Raises FirewallError.
        """
        found = self._read(now)
        others = found.without(Wanted(bans)) if found else []
        return others, len(found) - len(others)

    def _read(self, now: int) -> Wanted:
        doing = "read the bans in nftables"
        userdata = bytes((0, len(skeleton.LAYOUT) + 1)) + skeleton.LAYOUT.encode() + b"\0"
        tables = [attributes(answer.attributes) for answer in self._kernel.dump(GETTABLE, b"", doing)]
        layouts = [bytes(table.get(_USERDATA, b"")) for table in tables if text(table[_NAME]) == skeleton.TABLE]
        bans = Wanted()
        if layouts != [userdata]:
            return bans
        for answer in self._kernel.dump(GETSET, _TABLE, doing):
            found = attributes(answer.attributes)
            name = text(found[_SET_NAME])
            parsed = skeleton.parse_set(name)
            if parsed is None or bytes(found[_SET_FLAGS]) != _TIMEOUT_FLAG:
                continue
            jail, length = parsed
            if int.from_bytes(found[_SET_KEY_SIZE], "big") == length.bits // 8:
                left = self._read_elements(name, length, doing)
                ends = {key: FOREVER if ms is None else now + ms * 1000 for key, ms in left.items()}
                bans.put_all(jail, length, ends)
        return bans

    def _read_elements(self, name: str, length: Length, doing: str) -> dict[bytes, int | None]:
        """Give the time left of each element.

        The kernel resumes a dump by counting. If it resizes the hash table meanwhile, as it does some ms after much
        was added, the dump misses as many elements as it gives twice; so it is whole if it gives none twice.
        """
        selector = _TABLE + attribute(_LIST_SET, name.encode() + b"\0")
        found: dict[bytes, int | None] = {}
        for _ in range(_LOOKS):
            dumped = [
                element
                for answer in self._kernel.dump(GETSETELEM, selector, doing)
                for element in elements.parse(attributes(answer.attributes)[_LIST_ELEMENTS], length.bits // 8)
            ]
            distinct = dict(dumped)
            found |= distinct
            if len(distinct) == len(dumped):
                break
        return found

    def restore(self, bans: Iterable[Standing], now: int) -> None:
        """Replace the table by one with exactly `bans`, less those that ended; the counters begin anew.

        It is one transaction, in which no packet meets less than the old bans or the new ones, up to about 200,000
        bans; the ones after that are added in more. Raises ValueError for a jail that isn't ours, FirewallError.
        """
        wanted = Wanted(ban for ban in bans if ban.end is None or ban.end > now)
        self._check(jail for _, jails in wanted.by_length() for jail in jails)
        self._wanted = wanted
        with self._watch.paused():
            self._rebuild(now)
        if not self._made:  # another program came between, unseen
            self._rebuild(now)

    def _rebuild(self, now: int) -> None:
        """Make the table anew, with what `standing()` has."""
        grown = {length.name for length in skeleton.LENGTHS}
        changes = chain(skeleton.table(self._kinds), self._fill(grown, now))
        self._made = ()
        stands = self._look().parts != ()  # otherwise there is nothing to be replaced in one transaction
        generation = self._kernel.generation()
        count = self._kernel.transact(changes, f"put {len(self._wanted)} bans into nftables", whole=stands)
        self._grown = frozenset(grown)
        self._remember(generation + count)

    def ban(self, bans: Sequence[Standing], now: int) -> None:
        """Put `bans` in place of what their jails have for the same networks, in one transaction.

        Those that ended are kept in `standing()` alone. Raises ValueError for a jail that isn't ours, FirewallError.
        """
        self._check(ban.jail for ban in bans)
        touched = [(ban.jail, ban.address) for ban in bans]
        before = self._ends(touched)
        for ban in bans:
            self._wanted.put(ban)
        grown = set(self._grown)
        growth = [message for jail, network in touched for message in self._grow(jail, length_of(network), grown)]
        changes = chain(growth, _difference(before, self._ends(touched), now))
        doing = f"ban {_names(touched)}"
        if growth:
            self._extend(changes, doing)
            self._grown = frozenset(grown)
        else:
            self._kernel.transact(changes, doing)

    def unban(self, bans: Sequence[tuple[str, Network]], now: int) -> None:
        """Lift the ban of each jail and network, in one transaction; what isn't banned is no error.

        Raises FirewallError.
        """
        before = self._ends(bans)
        for jail, network in bans:
            self._wanted.remove(jail, network)
        self._kernel.transact(_difference(before, self._ends(bans), now), f"unban {_names(bans)}")

    def fileno(self) -> int:
        """Give the descriptor that becomes readable when `changes()` has something."""
        return self._watch.fileno()

    def changes(self) -> list[Change]:
        """Give the transactions of other programs since the last call, without waiting. Raises FirewallError.

        Ours is damaged if one of them touched elements, or if the table isn't `intact()`.
        """
        return self._watch.changes()

    def intact(self) -> bool:
        """Whether the table, its chains, sets and rules are the ones we made; elements are not looked at.

        Raises FirewallError.
        """
        return self._made != () and self._look().parts == self._made

    def _check(self, jails: Iterable[str]) -> None:
        for jail in jails:
            if jail not in self._jails:
                raise ValueError(f"{jail!r} is not a jail of this firewall; there are {', '.join(self._jails)}")

    def _grow(self, jail: str, length: Length, grown: set[str]) -> Iterator[Message]:
        """Add what is missing in `grown` for bans of `length` in `jail`, there and in the kernel."""
        ports = self._jails[jail]
        kind = skeleton.kind_of(ports)
        if length.name not in grown:
            yield from skeleton.level(length, self._kinds)
        if ports is not None and skeleton.dport_of(jail) not in grown:
            yield from skeleton.dport(jail, ports)
            grown.add(skeleton.dport_of(jail))
        if skeleton.set_of(jail, length) not in grown:
            yield from skeleton.jail(jail, length, kind)
        grown |= {length.name, skeleton.set_of(jail, length)}

    def _fill(self, grown: set[str], now: int) -> Iterator[Message]:
        """Add all bans to a new table that has `grown`."""
        for length, jails in self._wanted.by_length():
            for jail, ends in jails.items():
                yield from self._grow(jail, length, grown)
                for packed in elements.pack(ends.items(), length.bits // 8, now):
                    yield _list(NEWSETELEM, CREATE, skeleton.set_of(jail, length), packed)
                    if len(jails) == 1:  # then what is banned somewhere is just that, and needn't be packed twice
                        yield _list(NEWSETELEM, CREATE, length.name, packed)
            if len(jails) > 1:
                yield from _add(length.name, length, merge(jails), now)

    def _ends(self, bans: Iterable[tuple[str, Network]]) -> _Ends:
        """Give the end of each of these in its jail's set and in that of its length; 0: it isn't to be there."""
        ends: _Ends = {}
        for jail, network in bans:
            length, packed = length_of(network), network.packed
            ends.setdefault((skeleton.set_of(jail, length), length), {})[packed] = self._wanted.end(jail, network)
            ends.setdefault((length.name, length), {})[packed] = self._wanted.latest(network)
        return ends

    def _extend(self, changes: Iterable[Message], doing: str) -> None:
        """Execute changes that add sets and rules to the table."""
        before = self._look()
        count = self._kernel.transact(changes, doing)
        if before.parts == self._made:
            self._remember(before.generation + count)
        else:
            self._made = ()

    def _remember(self, generation: int) -> None:
        """Take the table for ours, if it is of `generation`: if nobody changed anything since our transaction."""
        look = self._look()
        self._made = look.parts if look.generation == generation % _GENERATIONS else ()

    def _look(self) -> _Look:
        """Read the table without its elements."""
        doing = "read our table in nftables"
        for _ in range(_LOOKS):
            generations: set[int] = set()
            parts: list[tuple[bytes, ...]] = []
            for kind, identity in _IDENTITY.items():
                for answer in self._kernel.dump(kind, b"" if kind == GETTABLE else _TABLE, doing):
                    generations.add(answer.generation)
                    found = attributes(answer.attributes)
                    if kind == GETRULE:
                        found[_EXPRESSIONS] = _without_counters(found.get(_EXPRESSIONS, memoryview(b"")))
                    if text(found[_NAME]) == skeleton.TABLE:
                        parts.append(tuple(bytes(found.get(attribute, b"")) for attribute in identity))
            if len(generations) <= 1:
                return _Look(generations.pop() if generations else -1, tuple(parts))
        raise FirewallError(f"can't {doing}: other programs change the ruleset all the time; try again when they rest")


def _names(bans: Sequence[tuple[str, Network]]) -> str:
    return f"{bans[0][1]} in {bans[0][0]}" if len(bans) == 1 else f"{len(bans)} addresses"


def _difference(before: _Ends, after: _Ends, now: int) -> Iterator[Message]:
    """Give the changes that lead from `before`, which may have ended since, to `after`; both have the same sets."""
    for (name, length), ends in after.items():
        stale = [packed for packed, end in before[name, length].items() if end]
        yield from _clear(name, length, stale)
        yield from _add(name, length, ends, now)


def _without_counters(expressions: memoryview) -> memoryview:
    """Leave out of a rule what changes with each packet."""
    kept = bytearray()
    position = 0
    while position + 4 <= len(expressions):
        size = int.from_bytes(expressions[position : position + 2], sys.byteorder)
        expression = expressions[position : position + size]
        if bytes(expression[8 : 8 + len(_COUNTER)]) != _COUNTER:  # after its own header and that of its name
            kept += expression
        position += max((size + 3) & ~3, 4)
    return memoryview(kept)


def _clear(name: str, length: Length, keys: Iterable[bytes]) -> Iterator[Message]:
    """Delete elements that may be there or not: added first, none of them can be missing.

    Adding alone would do where an element stands, but Linux before 6.12 then leaves it its old timeout.
    """
    for packed in elements.pack_keys(keys, length.bits // 8):
        yield _list(NEWSETELEM, CREATE, name, packed)
        yield _list(DELSETELEM, 0, name, packed)


def _add(name: str, length: Length, ends: Mapping[bytes, int], now: int) -> Iterator[Message]:
    for packed in elements.pack(ends.items(), length.bits // 8, now):
        yield _list(NEWSETELEM, CREATE, name, packed)


def _list(kind: int, flags: int, name: str, packed: bytes) -> Message:
    set_name = attribute(_LIST_SET, name.encode() + b"\0")
    return Message(kind, flags, _TABLE + set_name + attribute(_LIST_ELEMENTS, packed))
