# SPDX-License-Identifier: LGPL-2.1-or-later
"""What fail2ban's configuration has and this one doesn't, and what to write here in its place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_REMOVE: Final = "remove it"
_NO_MAIL: Final = "there is no mail yet, but a script can follow `banagent events --follow --json`; remove it"
_NOTHING_ELSE: Final = "bans go into nftables"
_OF_FILTER: Final = "patterns are in filters/NAME.toml, see banagent-filter(5)"
_NFTABLES: Final = f"{_NOTHING_ELSE}; {_REMOVE}"
_LOG: Final = f"the log is the journal; {_REMOVE}"
_DATABASE: Final = f"[history] says what is remembered; {_REMOVE}"

KEYS: Final = {
    "port": "write ports",
    "action": f"{_NOTHING_ELSE}, and a script can follow `banagent events --follow --json`; {_REMOVE}",
    "banaction": _NFTABLES,
    "banaction_allports": f'{_NOTHING_ELSE}: write ports = "all" where all are to be closed',
    "chain": f"{_NOTHING_ELSE}, into a table of banagent's own; {_REMOVE}",
    "blocktype": f"{_NOTHING_ELSE}, and packets are dropped; {_REMOVE}",
    "protocol": f"ports are closed for TCP, UDP, DCCP, SCTP and UDP-Lite; {_REMOVE}",
    "backend": "write source",
    "usedns": f"names are never looked up; {_REMOVE}",
    "journalmatch": "a filter's units, uids and identifiers say what is read",
    "failregex": _OF_FILTER,
    "ignoreregex": _OF_FILTER,
    "prefregex": f"a pattern sees the message alone, and pieces are its common parts; {_OF_FILTER}",
    "datepattern": "formats says how the lines of a log file begin; other dates can't be read",
    "maxlines": "a pattern sees one entry; a filter's session and [[link]] put together what several tell",
    "maxmatches": f"the history has the entries that led to a ban; {_REMOVE}",
    "logencoding": f"patterns work on bytes, whatever the encoding; {_REMOVE}",
    "logtimezone": f"times without a zone are those of this machine; {_REMOVE}",
    "skip_if_nologs": f"a jail waits for its log files; {_REMOVE}",
    "ignoreself": f"this machine's own addresses are never banned; {_REMOVE}",
    "ignorecommand": 'no program is run; write "file:PATH" into ignoreip, and let a timer write the file',
    "ignorecache": f"no program is run; {_REMOVE}",
    "destemail": _NO_MAIL,
    "sender": _NO_MAIL,
    "sendername": _NO_MAIL,
    "mta": _NO_MAIL,
    "allowipv6": f"IPv6 is always there; {_REMOVE}",
    "dbpurgeage": "write keep in [history], and bantime.forget for how long a ban makes the next one longer",
    "dbfile": _DATABASE,
    "dbmaxmatches": _DATABASE,
    "loglevel": _LOG,
    "logtarget": _LOG,
}
# those of fail2ban's jails that have no filter of their name here
JAILS: Final = {
    "postfix-sasl": 'filter = "postfix" and mode = "auth"',
    "postfix-rbl": 'filter = "postfix" and mode = "rbl"',
    "sshd-ddos": 'filter = "sshd" and mode = "ddos"',
    "mysqld": 'filter = "mysqld-auth"',
}

_TAG: Final = re.compile(r"<(?i:/?(F-[a-z0-9_-]+)/?|(?<!\?P<)(ADDR|IP4|IP6|SUBNET|CIDR|DNS|SKIPLINES))>")
_INTERPOLATED: Final = re.compile(r"%\(([A-Za-z_][\w/.-]*)\)s", re.ASCII)
_HOST: Final = "write <HOST>: an IPv4 or IPv6 address or network, or a host name"
_TAGS: Final = {
    "F-USER": "write (?P<user>…)",
    "F-ALT_USER": "write (?P<user>…) around one of them",
    "F-ID": "write <HOST>: only addresses and networks are banned",
    "F-IP4": _HOST,
    "F-IP6": _HOST,
    "F-MLFID": 'write (?P<session>…) and session = "id", or session = "pid" alone',
    "F-NOFAIL": "a line that is no failure but tells the address is a [[link]]",
    "F-MLFFORGET": "leave it out: sessions end by themselves",
    "F-MLFGAINED": "a line that tells of a login is a [[success]]",
    "F-CONTENT": "leave it out: a pattern sees the message alone, without the line's beginning",
    "SKIPLINES": "a pattern sees one entry; what other lines tell is for session and [[link]]",
}
_FILTER: Final = re.compile(r"([a-z][a-z0-9_-]*)\[(.*)\]", re.DOTALL)
_MODE: Final = re.compile(r"""(?:^|,)\s*mode\s*=\s*["']?([a-z]+)["']?\s*(?:,|$)""")

_STATEMENT: Final = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=\s*(\S.*?)\s*(?:#.*)?")
_COMMENT: Final = re.compile(r"""\s*(?:[A-Za-z0-9_.-]+\s*=\s*(?:true|false|[0-9]+|["'\[{].*)\s+)?;""")
_BANTIME: Final = re.compile(r"\s*((?:[A-Za-z0-9_-]+\.)*bantime)\s*=\s*([^\s#]+)")
_HEADER: Final = re.compile(r"\s*\[([^\]]*)\]")
_LISTS: Final = {"ignoreip", "port", "ports", "logpath"}
_BOOLEANS: Final = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
_UNQUOTED: Final = ("Invalid value", "Expected newline")  # what tomli says of values without quotes
_TWICE: Final = ("Cannot overwrite", "Cannot mutate")  # and of one that is there
_LONGEST: Final = 200  # characters of a line that is looked at


def tag(regex: str, pieces: Mapping[str, str]) -> str | None:
    """Say of the first of fail2ban's tags and interpolations in a pattern what to write; None: it has none."""
    if found := _INTERPOLATED.search(regex):
        if "prefix" in found[1]:
            remedy = "leave it out: a pattern sees the message alone, without the line's beginning"
        else:
            remedy = "write what it stands for, or a piece of this file, as <NAME>"
        return f"has fail2ban's {found[0]}; {remedy}"
    for found in _TAG.finditer(regex):
        name = (found[1] or found[2]).upper()
        if found[2] and found[2] not in pieces:
            return f"has fail2ban's {found[0]}; {_TAGS.get(name, _HOST)}"
        if found[1]:
            name = "F-ALT_USER" if name.startswith("F-ALT_USER") else name
            remedy = _TAGS.get(name, "leave it out: nothing but address, user, session and count is captured")
            return f"has fail2ban's {found[0]}; {remedy}"
    return None


def filter_with_options(value: str) -> str | None:
    """Say what to write for `NAME[mode=MODE]`; None: it is nothing of the kind."""
    found = _FILTER.fullmatch(value)
    if found is None:
        return None
    mode = _MODE.search(found[2])
    rest = f', mode = "{mode[1]}"' if mode else "; what is in brackets has no meaning"
    return f'write filter = "{found[1]}"{rest}'


def toml_remedy(text: str, number: int, complaint: str) -> str | None:
    """Say what to write in the line, from 1, at which tomli gave up with `complaint`; None: it can't be told.

    It is what those write who come from fail2ban: values without quotes, and `bantime` beside `bantime.increment`.
    """
    lines = text.split("\n", number)[:number]
    line = lines[-1].rstrip("\r")
    if len(line) > _LONGEST:
        return None
    if complaint.startswith(_TWICE):
        return _bantime_twice(lines)
    if _COMMENT.match(line):
        return 'a comment begins with "#"'
    statement = _STATEMENT.fullmatch(line)
    return _quoted(statement[1], statement[2]) if statement and complaint.startswith(_UNQUOTED) else None


def _quoted(key: str, value: str) -> str | None:
    if value[0] in "\"'{":
        return None
    if value[0] == "[":
        return 'text stands in quotes, as in ["ssh", 2222]'
    if value.lower() in _BOOLEANS:
        return f"write {key} = {_BOOLEANS[value.lower()]}"
    if key.rpartition(".")[2] not in _LISTS:
        return f'text stands in quotes: write {key} = "{value}"'
    items = (item if item.isdecimal() else f'"{item}"' for item in re.split(r"[\s,]+", value))
    return f"text stands in quotes: write {re.sub('port$', 'ports', key)} = [{', '.join(items)}]"


def _bantime_twice(lines: list[str]) -> str | None:
    """Say how the keys of `bantime` are written together: one is in the last of the lines, another one above it."""
    *above, line = lines
    first = next((found for line in reversed(above) if (found := _BANTIME.match(line))), None)
    header = _HEADER.match(line)
    if header and first and header[1].rpartition(".")[2] == "bantime":
        return f"write time = {first[2]} below it, in place of {first[0].strip()}"
    statement = _STATEMENT.fullmatch(line)
    if statement is None:
        return None
    key, value = statement[1], statement[2]
    table, _, last = key.rpartition(".")
    if table.rpartition(".")[2] == "bantime" and first is not None:
        if first[2].startswith("{"):
            return f"write {last} = {value} within the braces of {first[1]}"
        return f"write {first[1]} = {{ time = {first[2]}, {last} = {value} }}, or {first[1]}.time = {first[2]} above"
    if last == "bantime" and first is None:
        return f"write {key}.time = {value}"
    return "a key stands once"
