"""Idempotency-Key, ETag, If-Match, If-None-Match: read here, written here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.dependencies.models import Dependant
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from orchestrator.errors import InvalidInput
from orchestrator.session import Reply

KEY = "Repeating a call with the same key, 1 to 255 visible ASCII characters, has the same outcome."
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


async def idempotency_key(
    value: Annotated[
        str | None,
        Header(alias="Idempotency-Key", description=KEY, json_schema_extra={"pattern": r"^[\x21-\x7e]{1,255}$"}),
    ] = None,
) -> str | None:
    """The command's id, quoted or bare. Raises InvalidInput for anything but 1-255 visible characters."""
    if value is None:
        return None
    key = value[1:-1] if len(value) > 2 and value[0] == value[-1] == '"' else value
    if not _KEY.match(key):
        raise InvalidInput("Idempotency-Key must be 1 to 255 visible ASCII characters without spaces.")
    return key


async def only_known_parameters(request: Request) -> None:
    """Refuse query parameters that the call does not take, so that a typing error is not ignored."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = set(_query_parameters(route.dependant))
    for name in request.query_params:
        if name not in known:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            shown = name.encode("utf-8", "replace").decode()[:100]
            raise InvalidInput.at(f"/{shown}", f"{shown} is not a query parameter of this call; {takes}.")


def _query_parameters(dependant: Dependant) -> Iterator[str]:
    """Of a call and of what it depends on."""
    yield from (parameter.alias for parameter in dependant.query_params)
    for needed in dependant.dependencies:
        yield from _query_parameters(needed)


async def required_key(key: Annotated[str | None, Depends(idempotency_key)]) -> str:
    if key is None:
        raise InvalidInput("Idempotency-Key is required here, so that a repeat never adds time twice.")
    return key


async def if_match(
    value: Annotated[str | None, Header(alias="If-Match", description="The ETag of what the caller has seen.")] = None,
) -> int | None:
    """The version that the caller means to change. `*` means any."""
    if value is None or value.strip() == "*":
        return None
    text = value.strip().removeprefix('"').removesuffix('"')
    return int(text) if text.isdigit() and len(text) < 16 else -1


CommandId = Annotated[str | None, Depends(idempotency_key)]
RequiredCommandId = Annotated[str, Depends(required_key)]
IfMatch = Annotated[int | None, Depends(if_match)]


def etag(version: int) -> str:
    return f'"{version}"'


def not_modified(request: Request, version: int) -> bool:
    """Whether the caller has this version already."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return given.strip() == "*" or etag(version) in tags


def session_answer(reply: Reply, **more: Any) -> Response:
    """The answer to a command: the session, its ETag, and whether it was a repeat."""
    headers = {"ETag": etag(reply.version)}
    if reply.replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse({"status": "success", "session": reply.session, **more}, headers=headers)
