# SPDX-License-Identifier: LGPL-2.1-or-later
"""JSON for programs: a listing is one array, a stream is a line for each object. It is ASCII, escapes included."""

from __future__ import annotations

import json

from banagent.verbs import DONE, REFUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Generator, Iterable
    from typing import Any

    from banagent.verbs import Said


def wants_json(arguments: Namespace) -> bool:
    """Whether JSON was asked for; --pretty alone asks for it, too."""
    return bool(arguments.json or arguments.pretty)


def dump(value: object, arguments: Namespace) -> str:
    """Give a value in one line, or indented with --pretty."""
    return json.dumps(value, indent=2 if arguments.pretty else None)


def array(portions: Iterable[list[Any]], arguments: Namespace) -> Said:
    """Give a listing as one array; the status is that of a search.

    All of it is taken before any is given: the agent does not wait for somebody who looks at it in a pager.
    """
    pieces = [",\n".join(dump(item, arguments) for item in portion) for portion in portions if portion]
    joined = ",\n".join(pieces)
    yield f"[{joined}]"
    return DONE if pieces else REFUSED


def lines(portions: Iterable[list[Any]], arguments: Namespace) -> Generator[str, None, None]:
    """Give a stream: an object a line."""
    for portion in portions:
        if portion:
            yield "\n".join(dump(item, arguments) for item in portion)
