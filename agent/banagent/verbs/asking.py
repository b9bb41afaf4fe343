# SPDX-License-Identifier: LGPL-2.1-or-later
"""How verbs reach the agent."""

from __future__ import annotations

from banagent.control.client import PATIENCE, SOCKET, Agent, NoAnswer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from typing import Any, TypeGuard


class Facts(dict[str, object]):
    """An object of a reply. That it lacks something is said to the admin: an older agent may be running still."""

    def __missing__(self, key: str) -> None:
        raise NoAnswer(f"the agent does not tell {key}: it is of another version; systemctl restart banagent")


def agent(arguments: Namespace, patience: float | None = PATIENCE) -> Agent:
    """Connect to the agent at its socket, or at the one that was named. Raises ControlError."""
    return Agent(arguments.socket or SOCKET, patience=patience)


def call(arguments: Namespace, method: str, *, patience: float = PATIENCE, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON has
    """Connect, call a method and give its reply. Raises ControlError."""
    with agent(arguments, patience) as connected:
        reply: dict[str, Any] = _facts(connected.call(method, **parameters))
        return reply


def listing(connected: Agent, method: str, name: str, **parameters: Any) -> Iterator[list[dict[str, Any]]]:  # noqa: ANN401
    """Give the portions of a listing. Raises ControlError."""
    for reply in connected.stream(method, **parameters):
        yield _facts(reply)[name]


def _facts(value: object) -> Any:  # noqa: ANN401
    if _is_object(value):
        return Facts({key: _facts(inner) for key, inner in value.items()})
    return [_facts(inner) for inner in value] if _is_list(value) else value


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)
