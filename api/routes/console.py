"""What the operators' console shows, as server-sent events: /api/parallel_interview/console/events.

It never ends by itself, so it is not among the calls of /openapi.json; docs/console.md describes it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from actors.board import Board, Console
from api.security import Reader, presented, still_known
from orchestrator.errors import Unavailable

router = APIRouter(prefix="/api/parallel_interview/console", include_in_schema=False)

TICK_SECONDS = 0.5
REVOKED_SECONDS = 2.0
"""How often it is seen whether the key is still good."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.get("/events")
async def follow_everything(request: Request, caller: Reader) -> StreamingResponse:
    """Everything once, then changes. Ends when the key does, and when this front end is on its way out."""
    if request.app.state.draining:
        raise Unavailable("This front end is on its way out; connect again.", retry_after=1)
    board: Board = request.app.state.board
    console = board.open()
    who = {"principal": caller.principal, "scopes": sorted(request.state.scopes)}
    hello = f"event: hello\ndata: {json.dumps(who)}\n\n".encode()
    return StreamingResponse(_messages(request, console, hello), media_type="text/event-stream", headers=HEADERS)


async def _messages(request: Request, console: Console, hello: bytes) -> AsyncIterator[bytes]:
    yield hello
    loop, credential = asyncio.get_running_loop(), presented(request)
    checked_at = loop.time()
    with console:
        while console.is_open and not request.app.state.draining:
            message = await console.next(TICK_SECONDS)
            if message is not None:
                yield message
            if loop.time() - checked_at >= REVOKED_SECONDS:
                if not await still_known(request, credential):
                    return
                checked_at = loop.time()
