"""What happens to every request before a route sees it, and to every answer before it goes: an id, limits to the body's
size and to how slowly it comes, headers that browsers keep us safe by, and what a caller has left of its rate."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.bodies import check_json
from api.errors import on_orchestrator_error
from api.security import authenticated
from orchestrator.errors import OrchestratorError, TooLarge

CREATE_BYTES = 4 * 2**20
BULK_BYTES = 8 * 2**20
OTHER_BYTES = 2**20
PICTURE_BYTES = 7 * 2**20
"""5 MB in base64, and what is around it."""
DRAIN_BYTES = 16 * 2**20
ANSWER_BYTES = 64 * 2**10
"""Of UTF-8 text; checked again in the schema, since JSON escapes make the body longer than the text."""

LARGE_BYTES = 64 * 2**10
"""A larger body is read, and looked into, only when the caller is known."""

SLOW_SECONDS, SLOWEST_BYTES_A_SECOND = 20.0, 4_096
"""A body may take so long, and longer as long as it comes at least so fast and does not stop for so long."""
LONGEST_SECONDS = 120.0
"""However fast it comes."""

SIGNED = "/livekit/webhook"
"""What comes there is taken as it is: its signature is over the bytes."""

DEFAULT_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}
"""Of answers that do not say otherwise themselves."""
HSTS = (b"strict-transport-security", b"max-age=31536000")

CLOSE = (b"connection", b"close")
"""Of a front end that is on its way out: whoever keeps the connection would meet its end."""

_DETAIL = "The body is larger than {} bytes, the most that this call takes."
_REQUEST_ID = re.compile(r"[\w.:-]{1,100}\Z", re.ASCII)


class RequestLimits:
    """Gives a request its id and answers 413 once its body is over the limit, and 408 once it comes too slowly, however
    it is sent. `https`: whether browsers reach us by it."""

    def __init__(self, app: ASGIApp, https: bool = False) -> None:
        self._app = app
        self._always = [HSTS] if https else []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))  # of several the first counts, as for the routes
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.match(given) else secrets.token_hex(8)
        scope["request_id"] = request_id
        state: dict[str, Any] = scope.setdefault("state", {})

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                defaults = [header for header in DEFAULT_HEADERS.items() if header[0] not in given]
                message["headers"] = [
                    *message["headers"],
                    *defaults,
                    *self._always,
                    *state.get("rate_headers", ()),
                    *([CLOSE] if self._is_leaving(scope) else []),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        receive = _in_time(receive)

        limit = _limit(scope["path"])
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 20 or int(length) > limit:
            await _drain(receive)
            await _refuse(send_with_id, 413, "too_large", _DETAIL.format(limit), request_id)
            return
        has_body = int(length) > 0 or b"transfer-encoding" in headers
        if scope["method"] in ("GET", "HEAD") or not has_body:
            await self._app(scope, receive, send_with_id)
            return
        if _is_picture(scope["path"]):  # its route reads it itself, once the caller is known
            await self._app(scope, _counted(receive, limit), send_with_id)
            return
        with contextlib.ExitStack() as held:
            try:
                body = await _whole(scope, receive, limit, int(length), held)
                if body is None:
                    return
                await _check(scope, headers.get(b"content-type", b""), body)
            except HTTPException as error:
                await _refuse(send_with_id, error.status_code, "request_timeout", error.detail, request_id)
                return
            except TooLarge as error:
                await _refuse(send_with_id, 413, "too_large", error.detail, request_id)
                return
            except OrchestratorError as error:
                answer = await on_orchestrator_error(Request(scope), error)
                await answer(scope, receive, send_with_id)
                return
            await self._app(scope, _replay(body, receive), send_with_id)

    @staticmethod
    def _is_leaving(scope: Scope) -> bool:
        app = scope.get("app")
        return app is not None and app.state.draining


async def _whole(scope: Scope, receive: Receive, limit: int, told: int, held: contextlib.ExitStack) -> bytes | None:
    """The body; None if its sender has gone. More than a little of it is read of callers only whom we know, and of a
    candidate a few at once, until `held` is closed.

    `told`: how long it is said to be. Raises TooLarge, TooManyRequests, a 408, and what `authenticated` does.
    """
    body, more = bytearray(), True
    known = scope["path"].endswith(SIGNED)
    while more:
        if not known and max(told, len(body)) > LARGE_BYTES:
            held.enter_context(scope["app"].state.large_bodies.one(await authenticated(Request(scope))))
            known = True
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            if more:
                await _drain(receive)
            raise TooLarge(_DETAIL.format(limit))
    return bytes(body)


async def _check(scope: Scope, content_type: bytes, body: bytes) -> None:
    """Look into JSON before it is parsed in earnest. What is wrong with it is told only to those who may call.

    Raises InvalidInput, and what `authenticated` does.
    """
    if b"json" not in content_type.lower() or scope["path"].endswith(SIGNED):
        return
    if len(body) > LARGE_BYTES:
        await authenticated(Request(scope))
    try:
        check_json(body, bulk=_is_bulk(scope["path"]))
    except OrchestratorError:
        await authenticated(Request(scope))
        raise


def _is_bulk(path: str) -> bool:
    return path.endswith("/sessions/bulk")


def _is_picture(path: str) -> bool:
    return path.endswith(("/proctoring/frame", "/capture_reference_face"))


def _limit(path: str) -> int:
    if _is_picture(path):
        return PICTURE_BYTES
    if _is_bulk(path):
        return BULK_BYTES
    return CREATE_BYTES if path.endswith("/create") else OTHER_BYTES


def _in_time(receive: Receive) -> Receive:
    """Passes a body on as long as it comes in time; else reading it raises a 408."""
    loop = asyncio.get_running_loop()
    began, came, complete = loop.time(), 0, False
    last = began

    async def in_time() -> Message:
        nonlocal came, complete, last
        if complete:
            return await receive()
        for_all = min(SLOW_SECONDS + came / SLOWEST_BYTES_A_SECOND, LONGEST_SECONDS)
        try:
            async with asyncio.timeout_at(min(began + for_all, last + SLOW_SECONDS)):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "The body came too slowly; send it again.", {"Connection": "close"}) from None
        came, last = came + len(message.get("body", b"")), loop.time()
        complete = not message.get("more_body", False)
        return message

    return in_time


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
        try:
            message = await receive()
        except HTTPException:
            return
        left -= len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


async def _refuse(send: Send, status: int, code: str, detail: str, request_id: str) -> None:
    body: dict[str, Any] = {
        "type": f"urn:parallel-interview:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
    headers = [(b"content-type", b"application/problem+json"), CLOSE]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
