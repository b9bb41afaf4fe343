# SPDX-License-Identifier: LGPL-2.1-or-later
"""The exceptions that banagent raises on purpose.

BanagentError
├── ConfigError          all mistakes of a configuration at once
├── JournalError         the journal can't be read
├── FirewallError        the kernel refused or did not answer
│   └── NotPermittedError   CAP_NET_ADMIN is missing
└── HistoryError         the database can't be read or written

Each message is one line that says what is wrong and what to do.
"""

from __future__ import annotations

from typing import NamedTuple


class BanagentError(Exception):
    """A trouble with a cause outside of the program; its text is for the admin."""


class Mistake(NamedTuple):
    """One mistake in a configuration file: where it is, what is written there and what is wrong with it."""

    file: str
    line: int  # from 1; 0 if it belongs to no line
    key: str  # dotted, as the admin would write it: "jails.sshd.maxretry"; empty for a syntax error
    value: str | None  # as written in the file's own notation; None if there is none to show
    text: str  # what is wrong, what is allowed

    def __str__(self) -> str:
        """Give ``FILE:LINE: KEY = VALUE: TEXT``, less what is not known."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        what = f"{self.key} = {self.value}" if self.key and self.value is not None else self.key
        return ": ".join(part for part in (where, what, self.text) if part)


class ConfigError(BanagentError):
    """A configuration with mistakes; `mistakes` has all of them, at least one."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes


class JournalError(BanagentError):
    """The journal can't be read."""


class FirewallError(BanagentError):
    """The kernel refused a change to nftables, or did not answer in time."""


class NotPermittedError(FirewallError):
    """The process has no CAP_NET_ADMIN in its network namespace."""


class HistoryError(BanagentError):
    """The history can't be read or written."""
