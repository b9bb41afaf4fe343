# SPDX-License-Identifier: LGPL-2.1-or-later
"""`set --persist`: a file in conf.d that has what was set, written by root, as the agent may not."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Final

import tomli

from banagent import config
from banagent.config.running import over
from banagent.config.toml import is_table, read
from banagent.config.writing import written
from banagent.errors import ConfigError
from banagent.verbs import DONE, REFUSED, Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from banagent.verbs import Said
    from banagent.verbs.terminal import Terminal

FILE: Final = Path("/etc/banagent/conf.d/90-set.toml")
_HEAD: Final = """\
# Written by `banagent set --persist`, which keeps what is set here but no comments. To take a value
# back, remove its line; `banagent reload` makes it so. What files with later names set wins over this.
"""


def persist(text: str, terminal: Terminal) -> Said:
    """Merge a TOML document into the file, and show what changes in it."""
    new = tomli.loads(text)
    try:
        former = read(FILE).data if FILE.exists() else {}
    except ConfigError as error:
        raise Stopped(f"{error}\nit is in force, but not written down; mend that file first") from None
    before = FILE.read_text() if FILE.exists() else ""
    after = f"{_HEAD}\n{written(over(former, new))}"
    _write(after)
    yield from (terminal.show(line) for line in _difference(before, after))
    overruled = list(_overruled(new))
    yield from (terminal.show(line) for line in overruled)
    return REFUSED if overruled else DONE


def _difference(before: str, after: str) -> Iterator[str]:
    lines = list(unified_diff(before.splitlines(), after.splitlines(), str(FILE), str(FILE), lineterm="", n=1))
    yield from lines or [f"{FILE} has it already"]


def _write(text: str) -> None:
    """Put a new file in place of the old one, as a whole. Raises Stopped."""
    scratch: str | None = None
    try:
        FILE.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(prefix=".90-set.", dir=FILE.parent)  # hidden: it is not read
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        Path(scratch).rename(FILE)
    except OSError as error:
        with suppress(OSError):
            Path(scratch or "").unlink()
        raise Stopped(f"it is in force, but {FILE} can't be written: {error.strerror}") from error


def _overruled(new: Mapping[str, object]) -> Iterator[str]:
    """Say of each value that another file has the last word on it at the next start."""
    try:
        jails = {jail.name: jail for jail in config.load(whole=False).jails}
    except ConfigError as error:
        yield f"{error}\nthe configuration has mistakes: a restart fails"
        return
    for name, table in (new["jails"] if is_table(new["jails"]) else {}).items():
        for key in _leaves(table, ""):
            origin = jails[name].origins.get(key) if name in jails else None
            if origin is not None and origin.file != str(FILE):
                yield f"but after a restart {origin.file}:{origin.line} has the last word: {key} = {origin.value}"


def _leaves(value: object, name: str) -> Iterator[str]:
    if is_table(value):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name
