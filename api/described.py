"""What a route says of its own answers in /docs. Most is derived from the route; see `api/openapi.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from orchestrator.keys import Scope

Function = TypeVar("Function", bound=Callable[..., Any])
Scopes = tuple[tuple[Scope, ...], bool]
"""One of these opens the call, or (True) the session's candidate token."""


@dataclass(frozen=True, slots=True)
class Described:
    """`model`: of the 200 answer as JSON; None: it has none. `media`: schemas of what else it may be, by media type.

    `also`: statuses that cannot be derived, `never`: derived ones that do not come. `models`: of further answers that
    are no problems; None: without a body. `pages`: problem statuses that may come as a page for people. `scopes`: where
    the route asks for them itself. `signed`: the caller is known by a signature instead.
    """

    model: type[BaseModel] | None
    also: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
    media: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[int, type[BaseModel] | None] = field(default_factory=dict)
    pages: tuple[int, ...] = ()
    scopes: Scopes | None = None
    signed: bool = False
    headers: tuple[str, ...] = ()


DESCRIBED: dict[Callable[..., Any], Described] = {}


def answers(model: type[BaseModel] | None, *also: int, **more: Any) -> Callable[[Function], Function]:
    """Put below a route's decorator: what it answers, beside what can be derived. For `more` see Described."""

    def note(function: Function) -> Function:
        DESCRIBED[function] = Described(model, also, **more)
        return function

    return note


def binary(description: str) -> dict[str, Any]:
    """The schema of bytes."""
    return {"type": "string", "format": "binary", "description": description}
