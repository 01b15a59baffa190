"""What happens to every request before a route sees it: an id, and a limit to its body."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.errors import TooLarge

CREATE_BYTES = 4 * 2**20
BULK_BYTES = 8 * 2**20
OTHER_BYTES = 2**20
PICTURE_BYTES = 7 * 2**20
"""5 MB in base64, and what is around it."""
DRAIN_BYTES = 16 * 2**20
ANSWER_BYTES = 64 * 2**10
"""Of UTF-8 text; checked again in the schema, since JSON escapes make the body longer than the text."""

_DETAIL = "The body is larger than {} bytes, the most that this call takes."
_REQUEST_ID = re.compile(r"[\w.:-]{1,100}\Z", re.ASCII)


class RequestLimits:
    """Gives a request its id and answers 413 once its body is over the limit, however it is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {key: value for key, value in scope["headers"]}
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.match(given) else secrets.token_hex(8)
        scope["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        limit = _limit(scope["path"])
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            await _drain(receive)
            await _too_large(send_with_id, limit, request_id)
            return
        if scope["method"] in ("GET", "HEAD") or b"transfer-encoding" not in headers:
            await self._app(scope, receive, send_with_id)
            return
        if _is_picture(scope["path"]):  # its route reads it itself, once the caller is known
            await self._app(scope, _counted(receive, limit), send_with_id)
            return
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > limit:
                if more:
                    await _drain(receive)
                await _too_large(send_with_id, limit, request_id)
                return
        await self._app(scope, _replay(bytes(body), receive), send_with_id)


def _is_picture(path: str) -> bool:
    return path.endswith(("/proctoring/frame", "/capture_reference_face"))


def _limit(path: str) -> int:
    if _is_picture(path):
        return PICTURE_BYTES
    if path.endswith("/sessions/bulk"):
        return BULK_BYTES
    return CREATE_BYTES if path.endswith("/create") else OTHER_BYTES


def _counted(receive: Receive, limit: int) -> Receive:
    """Passes a body on as it comes; reading beyond the limit raises TooLarge."""
    left = limit

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            if message.get("more_body", False):
                await _drain(receive)
            raise TooLarge(_DETAIL.format(limit))
        return message

    return counted


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _drain(receive: Receive) -> None:
    """Read on for a while and forget it: a client that is still sending would not see an answer."""
    left = DRAIN_BYTES
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


async def _too_large(send: Send, limit: int, request_id: str) -> None:
    body: dict[str, Any] = {
        "type": "urn:parallel-interview:problem:too_large",
        "title": "Content Too Large",
        "status": 413,
        "detail": _DETAIL.format(limit),
        "code": "too_large",
        "request_id": request_id,
    }
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
