# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the lines of log files begin: where the MESSAGE is, and what stands before it.

A format has two methods. `cut` is for each line and quick: it gives the MESSAGE, or None if the line is not of this
format. `parse` is for the few lines that passed: it is exact, and reads the stamp and the tag too; what it says of the
message goes before what `cut` said. Lines are an enemy's: every expression here is linear in their length.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from banagent.core.events import SECOND
from banagent.sources import stamps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from banagent.sources.stamps import Found, Local

NO_TAG: Final = ""  # the identifier of a line of syslog that has none


class Parsed(NamedTuple):
    """What a line says."""

    message: bytes
    stamp: int | Local | None = None  # µs since the epoch, or not complete; None: it has none
    identifier: str | None = None  # None: lines of this format have none
    pid: int | None = None
    continuation: bool = False  # a piece of a longer line


class Format(Protocol):
    """One way in which lines begin."""

    def cut(self, line: bytes) -> bytes | None:
        """Give the MESSAGE; None: the line is of another format."""
        ...

    def parse(self, line: bytes) -> Parsed | None:
        """Give all that the line says; None: it is of another format after all."""
        ...


class Syslog:
    """RFC 3164, RFC 5424, and RFC 3339 stamps as rsyslog writes them; each line may be of another of these.

    The MESSAGE is as journald has it of the same line: less one blank after the tag's colon, and those at the end.
    """

    _HOST: Final = re.compile(rb" \S{1,255} ")
    # a host's name, then a tag as in "postfix/smtpd[123]:"
    TAG: Final = re.compile(_HOST.pattern + rb"(\S{1,255}?)(?:\[(\d{1,10})\])?:(?: |$)")
    _PRIORITY: Final = re.compile(rb"<\d{1,3}>")
    _RFC5424: Final = re.compile(  # section 6: VERSION TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG
        rb"\d{1,2} (\S{1,64}) \S{1,255} (\S{1,48}) (\S{1,128}) \S{1,32} "
        rb'(?:-|(?:\[[^ \]="]{1,32}(?: [^ \]="]{1,32}="(?:[^"\\\]]|\\.)*+")*+\])++)(?: (?:\xef\xbb\xbf)?|$)',
        re.DOTALL,
    )

    def cut(self, line: bytes) -> bytes | None:
        """Find the tag's end. Where a stamp ends and a host begins is looked at only by a byte or two."""
        at = line.find(b": ", 15)
        if at > 0 and (line[10] == 84 or line[15] == 32 == line[3]):  # the T and the blanks of the stamps
            return line[at + 2 :].rstrip()
        parsed = self.parse(line)
        return None if parsed is None else parsed.message

    def parse(self, line: bytes) -> Parsed | None:
        """Read stamp and tag; where there is no tag, the message begins behind the host."""
        line = line.rstrip()
        end, quick = (32, stamps.rsyslog) if line[4:5] == b"-" else (15, stamps.traditional)
        at = line.find(b": ", end)
        if at > 0 and (stamp := quick(line[:end])) is not None and (tag := _tag(line[end : at + 1])) is not None:
            return Parsed(line[at + 2 :], stamp, *tag)  # as most lines are
        return self._parse_unusual(line)

    def _parse_unusual(self, line: bytes) -> Parsed | None:
        at = 0
        if line.startswith(b"<") and (priority := self._PRIORITY.match(line)):
            if match := self._RFC5424.match(line, priority.end()):
                return self._rfc5424(line, match)
            at = priority.end()
        is_rfc3339 = line[at + 4 : at + 5] == b"-" and line[at + 10 : at + 11] == b"T"
        found = stamps.iso(line, at) if is_rfc3339 else stamps.syslog(line, at)
        if found is None:
            return None
        if tag := self.TAG.match(line, found.end):
            identifier, pid = tag.groups()
            return Parsed(line[tag.end() :], found.stamp, _text(identifier), int(pid) if pid else None)
        if host := self._HOST.match(line, found.end):
            return Parsed(line[host.end() :], found.stamp, NO_TAG)
        return None

    @staticmethod
    def _rfc5424(line: bytes, match: re.Match[bytes]) -> Parsed:
        stamp, identifier, pid = match.groups()
        found = stamps.iso(stamp)
        return Parsed(
            line[match.end() :],
            found and found.stamp,
            NO_TAG if identifier == b"-" else _text(identifier),
            int(pid) if pid.isdigit() and len(pid) <= 10 else None,
        )


class NginxError:
    """nginx's error log: "2026/11/22 03:00:00 [error] 12#12: *7 …"; the level is the MESSAGE's first word."""

    def cut(self, line: bytes) -> bytes | None:
        """Skip the date, which has a fixed length."""
        return line[20:] if line[4:5] == b"/" and line[19:21] == b" [" else None

    def parse(self, line: bytes) -> Parsed | None:
        """Read the date too."""
        message = self.cut(line)
        found = stamps.iso(line)
        return Parsed(message, found.stamp) if message is not None and found and found.end == 19 else None


class ApacheError:
    """Apache's error log: "[Sun Nov 22 03:00:00.123456 2026] [auth_basic:error] …", as it writes to syslog undated."""

    def cut(self, line: bytes) -> bytes | None:
        """Skip the first brackets."""
        end = line.find(b"] [", 20, 48)
        return line[end + 2 :] if end > 0 and line[0] == 91 and line[4] == 32 else None  # "[" and the blank

    def parse(self, line: bytes) -> Parsed | None:
        """Read the date too."""
        found = stamps.ctime(line, 1)
        if found is None or not line.startswith(b"] [", found.end):
            return None
        return Parsed(line[found.end + 2 :], found.stamp)


class Access:
    """Access logs in the formats common, combined and vhost_combined; the MESSAGE is the whole line.

    Quotes within a user's name are escaped by both nginx and Apache, so the first `] "` is behind the true date.
    """

    def cut(self, line: bytes) -> bytes | None:
        """Look whether it has a date before something in quotes."""
        return line if b'] "' in line else None

    def parse(self, line: bytes) -> Parsed | None:
        """Read the date too."""
        begin = line.find(b'] "') - len(b"22/Nov/2026:03:00:00 +0000")
        found = stamps.access(line, begin) if begin > 0 and line[begin - 1] == 91 else None  # "["
        return Parsed(line, found.stamp) if found else None


class Prefixed:
    """Lines that begin with what an expression matches: a stamp, and then maybe group 1, a process id."""

    def __init__(self, prefix: bytes, *kinds: Callable[[bytes, int], Found | None], at: int = 0) -> None:
        self._prefix = re.compile(prefix)
        self._kinds = kinds
        self._at = at  # where the stamp begins

    def cut(self, line: bytes) -> bytes | None:
        """Skip the prefix."""
        match = self._prefix.match(line)
        return line[match.end() :] if match else None

    def parse(self, line: bytes) -> Parsed | None:
        """Read the stamp and the process id too."""
        match = self._prefix.match(line)
        if match is None:
            return None
        pid = match[1] if match.re.groups else None
        found = next((found for kind in self._kinds if (found := kind(line, self._at))), None)
        return Parsed(line[match.end() :], found.stamp, None, int(pid) if pid else None) if found else None


class Iso:
    """Lines that begin with an ISO 8601 stamp, in brackets or not; a colon may follow."""

    _AFTER: Final = re.compile(rb"\]?:? *")

    def cut(self, line: bytes) -> bytes | None:
        """Skip the stamp, and the blanks behind it."""
        parsed = self.parse(line)
        return None if parsed is None else parsed.message

    def parse(self, line: bytes) -> Parsed | None:
        """Read the stamp too."""
        found = stamps.iso(line, 1 if line.startswith(b"[") else 0)
        if found is None:
            return None
        after = self._AFTER.match(line, found.end)
        return Parsed(line[found.end if after is None else after.end() :], found.stamp)


class Plain:
    """Lines that say no time; the MESSAGE is the whole line."""

    def cut(self, line: bytes) -> bytes | None:
        """Give the line."""
        return line

    def parse(self, line: bytes) -> Parsed | None:
        """Give the line."""
        return Parsed(line)


class Json:
    """JSON lines, as of caddy, traefik, mongodb and nextcloud; the MESSAGE is the whole line."""

    # where a time is looked for, in this order; pino, gin, caddy, traefik, logstash, mongodb
    _KEYS: Final = ("time", "ts", "timestamp", "@timestamp", "t", "datetime", "date", "StartUTC")

    def cut(self, line: bytes) -> bytes | None:
        """Look at the first byte."""
        return line if line.startswith(b"{") else None

    def parse(self, line: bytes) -> Parsed | None:
        """Read the time too; a line that is no JSON, because it was cut, has none."""
        if not line.startswith(b"{"):
            return None
        fields = _object(line)
        value = next((fields[key] for key in self._KEYS if key in fields), None)
        if isinstance(value, dict):  # mongodb: {"t": {"$date": "…"}}
            value = cast("dict[str, object]", value).get("$date")
        return Parsed(line, _json_time(value))


class Docker:
    r"""Docker's json-file: {"log": "…\n", "stream": "stdout", "time": "…"}; the MESSAGE is `log` without the newline.

    Docker cuts lines at 16 KB. A piece, which has no newline at its end, and the next one of its stream are both marked
    as continuations. So this one is a file's own and remembers the streams whose line has not ended.
    """

    def __init__(self) -> None:
        self.open: set[str] = set()
        self._parsed: tuple[bytes, Parsed] | None = None  # what `cut` was last asked

    def cut(self, line: bytes) -> bytes | None:
        """Decode the line, and take note of whether its stream's line goes on."""
        self._parsed = None
        fields = _object(line) if line.startswith(b"{") else {}
        log, stream = fields.get("log"), fields.get("stream")
        if not isinstance(log, str) or stream not in ("stdout", "stderr"):
            return None
        piece = not log.endswith("\n")
        continuation = piece or stream in self.open
        if piece:
            self.open.add(stream)
        else:
            self.open.discard(stream)
        found = stamps.iso(_bytes(fields.get("time")))
        message = _bytes(log if piece else log[:-1])
        self._parsed = line, Parsed(message, found and found.stamp, continuation=continuation)
        return message

    def parse(self, line: bytes) -> Parsed | None:
        """Give what `cut` found; a line that it was not asked about changes nothing."""
        if self._parsed is not None and self._parsed[0] is line:
            return self._parsed[1]
        other = Docker()
        other.cut(line)
        return other._parsed[1] if other._parsed else None


_DATE: Final = rb"\d{4}-\d\d-\d\d[T ][ \d]?\d:\d\d:\d\d"
_SYSLOG: Final = rb"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
_CTIME: Final = rb"[A-Z][a-z]{2} [A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d \d{4}"

MAKERS: Final[Mapping[str, Callable[[], Format]]] = {
    "syslog": Syslog,
    "nginx-error": NginxError,
    "apache-error": ApacheError,
    "access": Access,
    # log_timestamp, then the name of one of its processes; in lines of syslog the host's comes there
    "dovecot": lambda: Prefixed(_SYSLOG + rb" (?=[a-z][a-z0-9-]{0,40}[(<:])", stamps.syslog),
    # "2026-11-22 03:00:00.123 +0000 [123] ": all but date and time are options (log_selector, log_timezone)
    "exim": lambda: Prefixed(_DATE + rb"(?:\.\d{1,6})? (?:[+-]\d{4} )?(?:\[(\d{1,10})\] )?", stamps.iso),
    # "Sun Nov 22 03:00:00 2026 [pid 123] ", and without that what it writes to syslog
    "vsftpd": lambda: Prefixed(_CTIME + rb" (?:\[pid (\d{1,10})\] )?", stamps.ctime),
    # SystemLog: "2026-11-22 03:00:00,123 host proftpd[123] "; "Nov 22 03:00:00 host proftpd[123]: " up to 1.3.4
    "proftpd": lambda: Prefixed(
        rb"(?:" + _DATE + rb"(?:[.,]\d{1,6})?|" + _SYSLOG + rb") \S{1,255} [a-z]{1,32}\[(\d{1,10})\]:? ",
        stamps.iso,
        stamps.syslog,
    ),
    # "2026-11-22T03:00:00.123456Z " of MySQL, "2026-11-22  3:00:00 " of MariaDB, "261122  3:00:00 " of old ones; what
    # is left begins with the connection's number, or with the level in brackets
    "mysql": lambda: Prefixed(
        rb"(?:" + _DATE + rb"(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)?|\d{6} [ \d]\d:\d\d:\d\d) +",
        stamps.iso,
        stamps.old_mysql,
    ),
    # the channels of a logging statement: "22-Nov-2026 03:00:00.123 ", or print-time iso8601 and iso8601-utc
    "named": lambda: Prefixed(
        rb"(?:\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d\.\d{3}|" + _DATE + rb"\.\d{3}(?:Z|[+-]\d\d:?\d\d)?) ",
        stamps.named,
        stamps.iso,
    ),
    "json": Json,
    "docker": Docker,
    "plain": Plain,
    "iso": Iso,
}
NAMES: Final = tuple(MAKERS)


@lru_cache(256)  # all lines of a process have the same
def _tag(text: bytes) -> tuple[str, int | None] | None:
    """Read " host sshd[123]:"; None: it is something else."""
    match = Syslog.TAG.fullmatch(text)
    return (_text(match[1]), int(match[2]) if match[2] else None) if match else None


@lru_cache(256)
def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _bytes(text: object) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b""


def _object(line: bytes) -> dict[str, Any]:
    """Decode a JSON object; one that can't be is empty: an enemy can nest it too deep, or write too long a number."""
    try:
        value = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _json_time(value: object) -> int | Local | None:
    """Read a stamp, or a number of seconds, milliseconds, microseconds or nanoseconds since the epoch."""
    if isinstance(value, str):
        text = _bytes(value)
        found = stamps.iso(text) or stamps.access(text)
        return found and found.stamp
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e20:
        return None
    unit = next(unit for limit, unit in ((1e11, SECOND), (1e14, 1000), (1e17, 1), (1e20, 0.001)) if value < limit)
    return int(value * unit)
