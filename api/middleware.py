"""What every request passes, as plain ASGI.

    Envelope    X-Request-Id in and out; an unexpected error becomes a 500 without internals
    BodyLimit   bodies over their call's limit are answered 413, by Content-Length or while they arrive
"""

from __future__ import annotations

import logging
import re
import secrets
import traceback

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem, unexpected

log = logging.getLogger(__name__)

MB = 2**20
CREATE_BYTES = 4 * MB
OTHER_BYTES = MB
CREATE_PATH = "/api/parallel_interview/create"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def body_limit(path: str) -> int:
    """The most bytes that a call's body may have."""
    return CREATE_BYTES if path == CREATE_PATH else OTHER_BYTES


class Envelope:
    """Gives the request its id, and the answer the headers that all answers have."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers.setdefault("Cache-Control", "no-store")
                headers.setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            # The message of an unknown error may hold personal data: only its type and place are logged.
            where = "".join(traceback.format_tb(error.__traceback__))
            fields = {"request_id": request_id, "error": type(error).__name__, "where": where}
            log.error("unexpected error", extra=fields)
            if started:
                raise
            await unexpected(request_id)(scope, receive, send_with_id)


class BodyLimit:
    """Refuses bodies over the limit before they are in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = body_limit(scope["path"])
        detail = f"The body is over {limit} bytes, the most that this call takes."
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            await problem(413, "too_large", detail, scope["state"]["request_id"])(scope, receive, send)
            return
        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, detail)
            return message

        await self.app(scope, receive_within_limit, send)
