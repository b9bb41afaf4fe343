# SPDX-License-Identifier: LGPL-2.1-or-later
"""A filter: which entries it trusts, and the patterns that recognise failures in them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import re2

from banagent.core.events import JOURNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from banagent.core.events import Entry

# which patterns a jail's `mode` uses; fail2ban's words and meaning, but that normal has all parts
ANY: Final = "any"  # the mode of patterns that tell of no failure
_PARTS: Final = ("auth", "rbl", "errors")
_NORMAL: Final = frozenset({ANY, "normal", *_PARTS})
MODES: Final = {
    "normal": _NORMAL,
    "ddos": _NORMAL | {"ddos"},
    "extra": _NORMAL | {"extra"},
    "aggressive": _NORMAL | {"ddos", "extra", "aggressive"},
    **{part: frozenset({ANY, part}) for part in _PARTS},
}
REMEMBERED: Final = 1000  # answers of Trust; the senders of a machine are few
UNIT_SLICE: Final = "_SYSTEMD_SLICE"  # fields of the journal
CONTAINER: Final = "CONTAINER_NAME"
TRANSPORT: Final = "_TRANSPORT"
KERNEL: Final = "kernel"  # a transport
SESSIONS: Final = ("pid", "id")
SOURCES: Final = ("auto", "journal", "files")
FORMATS: Final = (  # how the lines of log files begin; see sources/formats.py
    *("syslog", "nginx-error", "apache-error", "access", "dovecot", "exim", "vsftpd", "proftpd", "mysql", "named"),
    *("iso", "json", "docker", "plain"),
)
PROVENANCES: Final = ("source", "package", "docs", "samples")

# An address in any of its forms, or a host name; it is parsed strictly afterwards (address.parse_host), so the pattern
# may be loose and small.
HOST: Final = r"\[?(?P<address>[0-9A-Za-z:._-]+(?:/\d{1,3})?)(?:%[0-9A-Za-z_.-]+)?\]?(?:(?:#|::?)\d{1,5})?"
PIECE: Final = re.compile(r"(?<!\?P)<([A-Za-z_][A-Za-z0-9_]*)>")  # "(?P<user>" is a group's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A line as the service writes it, and what the filter must make of it."""

    line: str
    address: str | None = None
    user: str | None = None
    count: int = 1
    source: str | None = None  # where the line is from; `from` in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """Lines of one session, in order, and what the filter must make of all of them together."""

    lines: tuple[str, ...]
    failures: int
    address: str | None = None
    user: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failregex:
    """A pattern that recognises a failure; `regex` is whole: pieces and <HOST> are in place."""

    name: str
    regex: str  # empty where `json` is given
    json: Mapping[str, str] = field(default_factory=dict[str, str])  # path of a field: what its value must be, whole
    mode: str = "normal"
    weight: int = 1
    once: bool = False  # however often it is seen in a session, it tells of one attempt
    forgeable: bool = False  # a peer can make up the address that it finds
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignoreregex:
    """A pattern for lines that are no failures though a failregex matches them."""

    regex: str
    json: Mapping[str, str] = field(default_factory=dict[str, str])
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a filter file says."""

    name: str
    file: str
    description: str
    units: tuple[str, ...] = ()
    uids: tuple[int | str, ...] = (0,)  # text: the name of a user whom this machine does not have
    identifiers: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    logpath: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("syslog",)
    source: str = "auto"
    ports: tuple[str | int, ...] = ()
    provenance: str = "samples"
    forgeable: bool = False  # all that its patterns find
    session: str | None = None
    failregexes: tuple[Failregex, ...] = ()
    links: tuple[Failregex, ...] = ()  # they tell of no failure, but whose a session is
    successes: tuple[Failregex, ...] = ()  # they tell who logged in from where
    ignoreregexes: tuple[Ignoreregex, ...] = ()
    nomatch: tuple[Sample, ...] = ()
    sequences: tuple[Sequence, ...] = ()

    def is_credible(self, pattern: Failregex) -> bool:
        """Whether the address that a pattern finds is not of a peer's choice."""
        return not (self.forgeable or pattern.forgeable)

    def may_close(self, mode: str) -> bool:
        """Whether its bans may be on all ports: root alone writes its entries, and no peer chooses an address."""
        return self.uids == (0,) and all(map(self.is_credible, self.used(mode)))

    def used(self, mode: str) -> list[Failregex]:
        """Give the patterns that a jail in a mode uses: those of failures, then those that link."""
        return [one for one in (*self.failregexes, *self.links) if one.mode in MODES[mode]]


class Trust:
    """Whose entries count for a filter: those of its units, slices or containers, by its uids, as journald vouches.

    - An entry that lost its unit (its process was gone before journald looked) counts if root wrote it under one of
      the filter's identifiers.
    - CONTAINER_NAME is the sender's word. It is believed of the programs that collect what containers write, as root.
    - A line of the kernel has neither unit nor uid. It counts for a filter whose `fields` ask for its _TRANSPORT.
    - Nobody vouches for what stands in a log file: there, an identifier that fits is enough.
    - A continuation never counts: an enemy may have chosen where it begins.
    """

    def __init__(self, item: Filter) -> None:
        self.goes_by = lru_cache(REMEMBERED)(fitting(item.identifiers))  # whether an identifier is one of the filter's
        self.anywhere = bool(item.fields) and not (item.units or item.slices or item.containers)
        self._asked = asked_for(item)
        self._units = fitting(item.units)
        self._slices = fitting(item.slices)
        self._containers = fitting(item.containers)
        self._fields = {name: fitting(values) for name, values in item.fields.items()}
        self._collected = bool(item.containers)
        self._uids = frozenset(item.uids)
        self._of_root = item.uids == (0,)
        self._known: dict[tuple[str | int | None, ...], bool] = {}

    def __call__(self, entry: Entry) -> bool:
        """Whether `entry` counts."""
        if entry.continuation:
            return False
        if entry.source != JOURNAL:
            return not entry.identifier or self.goes_by(entry.identifier)
        key: tuple[str | int | None, ...] = (entry.unit, entry.uid, entry.identifier if entry.unit is None else None)
        if self._asked:
            key += tuple(map(entry.more.get, self._asked))
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[key] = self._decide(entry)
        return known

    def vouches(self, entry: Entry) -> bool:
        """Whether an entry that counts is the service's own word: no user of the machine can have written it.

        Where root is not the only one who is believed, that can't be told of a log file: a web server's may belong to
        the user under which the programs of its customers run.
        """
        if entry.source != JOURNAL:
            return entry.identifier is None and self._of_root  # anybody can write to syslog's files, also without a tag
        if entry.uid is None or entry.uid == 0:
            return True
        return entry.unit is not None and not _shared(entry.unit)

    @property
    def kernel(self) -> bool:
        """Whether lines of the kernel may count."""
        return TRANSPORT in self._fields and self._fields[TRANSPORT](KERNEL)

    def watches(self, unit: str, in_slice: str | None) -> bool:
        """Whether entries of a unit in a slice may count."""
        return self._comes_from(unit, in_slice) or (self._collected and _collects(unit))

    def _comes_from(self, unit: str, in_slice: str | None) -> bool:
        return self._units(unit) or self._slices(in_slice)

    def _decide(self, entry: Entry) -> bool:
        more = entry.more
        if not all(fits(more.get(name)) for name, fits in self._fields.items()):
            return False
        if entry.unit is None:
            if entry.uid is None:
                return more.get(TRANSPORT) == KERNEL and TRANSPORT in self._fields
            lost = entry.uid == 0 and self.goes_by(entry.identifier)
            return lost or (self.anywhere and entry.uid in self._uids)
        if entry.uid == 0 and self._containers(more.get(CONTAINER)) and _collects(entry.unit):
            return True
        from_it = self.anywhere or self._comes_from(entry.unit, more.get(UNIT_SLICE))
        return from_it and entry.uid in self._uids


def asked_for(item: Filter) -> tuple[str, ...]:
    """Give the fields that Trust wants in `Entry.more`."""
    names = {*item.fields, *([UNIT_SLICE] if item.slices else ()), *([CONTAINER] if item.containers else ())}
    return tuple(sorted(names))


def is_glob(word: str) -> bool:
    """Whether `word` stands for more than itself."""
    return not {"*", "?", "["}.isdisjoint(word)


def fitting(globs: Iterable[str]) -> Callable[[str | None], bool]:
    """Give what tells whether a word fits one of `globs`; none at all fits nothing."""
    fullmatch = re.compile("|".join(map(translate, globs)) or r"(?!)").fullmatch
    return lambda word: word is not None and fullmatch(word) is not None


# What a container itself runs is in another scope (docker-ID.scope, libpod-ID.scope), and may be root as well.
_collects: Final = fitting(("docker.service", "libpod-conmon-*.scope"))
# Where programs of many run under one user: web applications, jobs, logins.
_shared: Final = fitting(
    (
        *("apache2*.service", "httpd*.service", "lighttpd*.service", "php*fpm*.service", "fcgiwrap*.service"),
        *("cron*.service", "atd.service", "user@*.service", "*.scope"),
    )
)


def expand(regex: str, pieces: Mapping[str, str]) -> str:
    """Put pieces and <HOST> into `regex`. Raises ValueError: an unknown piece, or a ring of them."""
    known = {**pieces, "HOST": HOST}
    for _ in range(8):
        unknown = [name for name in PIECE.findall(regex) if name not in known]
        if unknown:
            names = ", ".join(f"<{name}>" for name in known)
            raise ValueError(f"<{unknown[0]}> is not a piece of this file; there are {names}")
        whole = PIECE.sub(lambda match: known[match[1]], regex)
        if whole == regex:
            return whole
        regex = whole
    raise ValueError("its pieces contain one another")


def options(memory: int = 8 << 20) -> re2.Options:
    """How patterns are compiled: on bytes, `.` matches any of them, and no complaints on stderr."""
    chosen = re2.Options()
    chosen.max_mem = memory
    chosen.encoding = chosen.Encoding.LATIN1
    chosen.dot_nl = True
    chosen.log_errors = False
    return chosen
