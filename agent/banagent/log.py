# SPDX-License-Identifier: LGPL-2.1-or-later
"""The agent's own log: an event in words, facts as fields; into the journal with fields, or as lines for people."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import structlog
from systemd.journal import sendv

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

# for the message catalog and for those who follow the journal; never to be changed
MESSAGE_IDS: Final = {
    "banned": "5bc45f3cf7f94d3b9e1c8b6a3e0fd001",
    "unbanned": "5bc45f3cf7f94d3b9e1c8b6a3e0fd002",
    "repaired": "5bc45f3cf7f94d3b9e1c8b6a3e0fd003",
    "trouble": "5bc45f3cf7f94d3b9e1c8b6a3e0fd004",
}
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog(3)
_NOTICE: Final = 5  # structlog has no word for it
_PLAIN: Final = re.compile(r"[!-~]+")  # what needs no quotes: printable ASCII without the blank
_QUOTED: Final = frozenset('"\\=')


def configure(*, debug: bool = False) -> None:
    """Send all log events to the journal if stderr leads there (systemd started us), else to stderr."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _to_journal if _stderr_is_journal() else _to_stderr,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("debug" if debug else "info"),
        logger_factory=lambda *_args: None,
        cache_logger_on_first_use=False,
    )


def line(event: EventDict) -> str:
    """Give an event as one line: its words, then its facts. Whatever an enemy wrote into them is harmless."""
    facts = (f"{key}={quote(value)}" for key, value in event.items() if key not in _OWN and value is not None)
    return " ".join((str(event["event"]), *facts))


def quote(value: object) -> str:
    """Give a value so that it can't be taken for something else: no control characters, no blanks outside quotes."""
    text = str(value)
    if _PLAIN.fullmatch(text) and not _QUOTED & set(text):
        return text
    return '"' + "".join(_escape(char) for char in text) + '"'


_OWN: Final = frozenset({"event", "level", "message_id", "exception"})


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def _stderr_is_journal() -> bool:
    """Whether stderr is the stream that systemd named in $JOURNAL_STREAM (systemd.exec(5))."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _to_stderr(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    level = "" if event["level"] == "info" else f"{event['level']}: "
    exception = "\n" + event["exception"] if "exception" in event else ""
    print(f"{level}{line(event)}{exception}", file=sys.stderr, flush=True)
    raise structlog.DropEvent


def _to_journal(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    kind = event.get("message_id")
    priority = _NOTICE if kind == "banned" else _PRIORITIES[event["level"]]
    fields: dict[str, Any] = {"MESSAGE": line(event), "PRIORITY": priority, "SYSLOG_IDENTIFIER": "banagent"}
    if kind is not None:
        fields["MESSAGE_ID"] = MESSAGE_IDS[kind]
    if "exception" in event:
        fields["BANAGENT_EXCEPTION"] = event["exception"]
    fields |= {
        f"BANAGENT_{key.upper()}": value for key, value in event.items() if key not in _OWN and value is not None
    }
    try:
        sendv(*(f"{key}={value}" for key, value in fields.items()))
    except OSError:  # journald is being restarted: stderr is its stream, and systemd keeps it open
        print(fields["MESSAGE"], file=sys.stderr, flush=True)
    raise structlog.DropEvent
