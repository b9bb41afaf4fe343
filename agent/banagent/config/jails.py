# SPDX-License-Identifier: LGPL-2.1-or-later
"""The jails that several files together describe, each key with the file that it is from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from banagent.config import accounts, checks, growth, keys, porting
from banagent.config.table import Values, suggest
from banagent.config.toml import Origin, dotted, is_table
from banagent.core.breaker import Limits
from banagent.core.filter import ANY, MODES
from banagent.core.guard import Guarding
from banagent.core.keeping import Keeping
from banagent.core.recidive import BANS
from banagent.errors import Mistake

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from banagent.config.table import Key
    from banagent.config.toml import Document
    from banagent.core.address import Network
    from banagent.core.filter import Filter
    from banagent.core.growth import Growth

_NOTHING: Final = Values({})


@dataclass(frozen=True, slots=True, kw_only=True)
class JailConfig:
    """What a jail is told to do; durations in seconds."""

    name: str
    filter: Filter
    enabled: bool
    ports: tuple[tuple[int, int], ...] | None  # ranges, sorted and apart; None: all
    counts_bans: bool  # by other jails, instead of failures; then `filter` stands for none
    bantime: int | None  # of a first ban; None: for ever
    growth: Growth | None  # None: each ban lasts as long
    findtime: int
    maxretry: int
    remember: int  # addresses with failures
    ignoreip: tuple[Network, ...]
    ignore_files: tuple[str, ...] = ()  # paths of files that have more of them
    mode: str
    guard: Guarding
    networks: int  # addresses of one that fail until it is banned; 0: it never is
    breaker: Limits
    origins: Mapping[str, Origin] = field(compare=False, repr=False)  # by dotted key, of all that a file sets


class Layer(NamedTuple):
    """What one file says of the jails."""

    document: Document
    values: Values


class Source(NamedTuple):
    """A filter's file and what it makes; None if it can't be read, or has mistakes."""

    document: Document | None
    filter: Filter | None
    bases: tuple[Document, ...] = ()  # those that the file extends, the nearest first

    @property
    def parts(self) -> tuple[Document, ...]:
        """All its files, the one with the last word first."""
        return (self.document, *self.bases) if self.document else ()


def needed(layers: Sequence[Layer], filters: Collection[str]) -> set[str]:
    """Give the names of the filters that the enabled jails need, of those that there are."""
    values = _NOTHING
    for layer in layers:
        values = layer.values.over(values)
    jails = {
        name: _effective(values, name) for name in (*filters, *(name for layer in layers for name in _written(layer)))
    }
    return {jail[keys.FILTER] or name for name, jail in jails.items() if jail[keys.ENABLED]} & {*filters}


def build(
    layers: Sequence[Layer], filters: Mapping[str, Source], names: Collection[str], mistakes: list[Mistake]
) -> tuple[JailConfig, ...]:
    """Merge the files, later over earlier; give a jail for each name in them and for each filter, by name.

    What is wrong with a jail is added to `mistakes`, and it is left out, as are those whose filter has mistakes, or is
    not in `filters`, though it is one of the `names` that there are.
    """
    values, origins = _NOTHING, _NOTHING
    for layer in layers:
        values = layer.values.over(values)
        origins = layer.values.map(layer.document.origin).over(origins)
    jails: list[JailConfig] = []
    for name in sorted({*filters, *(name for layer in layers for name in _written(layer))}):
        jail = _effective(values, name)
        filter_name = jail[keys.FILTER] or name
        source = filters.get(filter_name)
        if jail[keys.COUNTS] == "bans":
            mistakes.extend(_of_no_use(layers, name))
            set_by = dict(_effective(origins, name).leaves())
            ports = _merged(jail[keys.PORTS]) if keys.PORTS in jail else None
            jails.append(_jail(name, jail, BANS, ports, set_by))
        elif filter_name not in names:
            mistakes.extend(_without_filter(layers, name, filter_name, names))
        elif source is not None and source.filter is not None and source.document is not None:
            filter_ = _changed(source.filter, jail)
            ports = _ports(jail, filter_, source.parts, mistakes)
            set_by = dict(_effective(origins, name).over(_of_filter(source.parts)).leaves())
            jails.append(_jail(name, jail, filter_, ports, set_by))
            if jail[keys.ENABLED]:
                mistakes.extend(_useless(jails[-1]))
    mistakes.extend(growth.mistakes(jails))
    return tuple(jails)


def history(layers: Sequence[Layer]) -> Keeping:
    """Merge what the files say of the history."""
    values = _NOTHING
    for layer in layers:
        values = layer.values.over(values)
    return Keeping(values[keys.HISTORY][keys.KEEP], values[keys.HISTORY][keys.MOST])


def _jail(
    name: str,
    jail: Values,
    filter: Filter,  # noqa: A002 - the trade's word
    ports: tuple[tuple[int, int], ...] | None,
    origins: dict[str, object],
) -> JailConfig:
    return JailConfig(
        name=name,
        filter=filter,
        enabled=jail[keys.ENABLED],
        ports=ports,
        counts_bans=filter is BANS,
        bantime=jail[keys.BANTIME][keys.BANTIME_TIME],
        growth=growth.build(jail, origins, name, forgeable=filter.forgeable),
        findtime=jail[keys.FINDTIME],
        maxretry=jail[keys.MAXRETRY],
        remember=jail[keys.REMEMBER],
        ignoreip=tuple(item for item in jail[keys.IGNOREIP] if not isinstance(item, str)),
        ignore_files=tuple(item for item in jail[keys.IGNOREIP] if isinstance(item, str)),
        mode=jail[keys.MODE],
        guard=Guarding(
            users=accounts.resolved(jail[keys.GUARD][keys.GUARD_USERS]),
            grace=jail[keys.GUARD][keys.GUARD_GRACE],
            factor=jail[keys.GUARD][keys.GUARD_FACTOR],
        ),
        networks=jail[keys.NETWORKS][keys.NETWORKS_ADDRESSES],
        breaker=Limits(jail[keys.BREAKER][keys.BREAKER_BANS], jail[keys.BREAKER][keys.BREAKER_USERS]),
        origins=MappingProxyType({key: origin for key, origin in origins.items() if isinstance(origin, Origin)}),
    )


def _of_no_use(layers: Sequence[Layer], name: str) -> Iterator[Mistake]:
    """Say of what a jail that counts bans says of what it reads that it reads nothing."""
    names = {key.name for key in (keys.FILTER, keys.MODE, *keys.OF_FILTER)}
    for layer in layers:
        for key in _written(layer).get(name, {}):
            if key in names:
                yield layer.document.mistake(("jails", name, key), "the jail counts bans, and reads nothing; remove it")


def _changed(filter: Filter, jail: Values) -> Filter:  # noqa: A002 - the trade's word
    """Give a filter with what the jail says in its place."""
    changes: dict[str, Any] = {key.name: jail[key] for key in keys.OF_FILTER if key in jail}
    return replace(filter, **changes) if changes else filter


def _useless(jail: JailConfig) -> Iterator[Mistake]:
    """Say of a jail that runs what it can't do with its filter, where that is set."""
    if jail.ports is None and not jail.filter.may_close(jail.mode):
        text = "its filter's entries can be made up, or are of a program that is not root's: name the service's ports"
        yield _wrong(jail, keys.PORTS, text)
    if all(one.mode == ANY for one in jail.filter.used(jail.mode)):
        having = {one.mode for one in jail.filter.failregexes}
        there = ", ".join(mode for mode in MODES if mode in having)
        yield _wrong(jail, keys.MODE, f"its filter has no pattern for this mode; there are {there}")


def _wrong(jail: JailConfig, key: Key[Any], text: str) -> Mistake:
    at = jail.origins.get(key.name) or jail.origins[keys.ENABLED.name]
    whose = "" if at.path[:2] == ("jails", jail.name) else f"jail {jail.name}: "
    return Mistake(at.file, at.line, dotted(at.path), at.value, whose + text)


def _of_filter(parts: Sequence[Document]) -> Values:
    """Give the origins of what holds for a jail as its filter says it."""
    origins = _NOTHING
    for document in reversed(parts):
        names = [key.name for key in keys.JAILS.keys if key.since == "now" and key.name in document.data]
        origins = Values({name: document.origin((name,)) for name in names}).over(origins)
    return origins


def _effective(values: Values, name: str) -> Values:
    """Give what holds for a jail: its own values over the defaults."""
    return values[keys.JAILS].inner(name).over(values[keys.DEFAULTS])


def _written(layer: Layer) -> dict[str, dict[str, object]]:
    """Give the tables of the jails as they stand in the file, but for what is no table or has no jail's name."""
    jails = layer.document.data.get("jails")
    tables = jails.items() if is_table(jails) else ()
    return {name: table for name, table in tables if checks.NAME.fullmatch(name) and is_table(table)}


def _without_filter(
    layers: Sequence[Layer], name: str, filter_name: str, filters: Collection[str]
) -> Iterator[Mistake]:
    """Say that there is no such filter, where the file that has the last word names it."""
    tables = [(layer.document, _written(layer)[name]) for layer in layers if name in _written(layer)]
    naming = [(document, table["filter"]) for document, table in tables if "filter" in table]
    ported = porting.JAILS.get(filter_name)
    hint = f"; write {ported}" if ported else suggest(filter_name, filters)
    if not naming:
        remedy = f"; give the jail a filter, or write filters/{filter_name}.toml"
        yield tables[-1][0].mistake(("jails", name), f"no filter has this name{hint or remedy}")
    elif naming[-1][1] == filter_name:  # else it is a mistake in itself, and said
        known = f"; there are {', '.join(sorted(filters)) or 'none'}"
        yield naming[-1][0].mistake(("jails", name, "filter"), f"no such filter{hint or known}")


def _ports(
    jail: Values,
    filter: Filter,  # noqa: A002 - the trade's word
    parts: Sequence[Document],
    mistakes: list[Mistake],
) -> tuple[tuple[int, int], ...] | None:
    """Give the jail's ports, else its filter's.

    A service that this machine knows no number for is a mistake only if the jail runs: its filter may be of a package
    that is not installed here.
    """
    if keys.PORTS in jail:
        return _merged(jail[keys.PORTS])
    if not filter.ports:
        return None
    saying = next(document for document in parts if "ports" in document.data)
    ranges: list[tuple[int, int]] = []
    for index, port in enumerate(filter.ports):
        try:
            ranges.append(checks.port(port))
        except ValueError as error:
            if jail[keys.ENABLED]:
                mistakes.append(saying.mistake(("ports", index), str(error)))
    return _merged(ranges)


def _merged(ranges: Iterable[tuple[int, int]] | None) -> tuple[tuple[int, int], ...] | None:
    """Sort ranges and join those that touch: a set of the kernel's refuses what overlaps."""
    if ranges is None:
        return None
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)
