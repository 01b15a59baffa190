"""What LiveKit tells us: POST /api/parallel_interview/livekit/webhook."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from api.answers import work as views
from api.described import answers
from api.routes.sessions import Client

router = APIRouter(prefix="/api/parallel_interview/livekit", tags=["livekit"])

EVENT = {"type": "object", "description": "LiveKit's WebhookEvent."}
BODY = {"requestBody": {"required": True, "content": {"application/webhook+json": {"schema": EVENT}}}}
"""For /docs; it is read as the bytes that were signed."""


@router.post("/webhook", openapi_extra=BODY)
@answers(views.Noted, 401, signed=True)
async def receive_livekit_webhook(request: Request, client: Client) -> dict[str, Any]:
    """LiveKit's own webhook, signed with our key; the signature, raw in `Authorization`, is over the body as it came.

    Events that mean nothing here are taken and forgotten, and one that came before changes nothing.
    """
    event = client.livekit.receive(await request.body(), request.headers.get("authorization", ""))
    return {"status": "success", "noted": await client.rooms.note(event)}
