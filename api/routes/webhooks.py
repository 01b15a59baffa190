"""Webhooks: who is told of what happens, and what became of each message. /api/parallel_interview/webhooks"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from actors.clock import wall_ms
from api import schemas
from api.answers import work as views
from api.described import answers
from api.headers import CommandId
from api.routes.sessions import Client
from api.security import Admin
from orchestrator import webhooks
from orchestrator.errors import InvalidInput, NotFound, StateConflict
from orchestrator.interview.commands import Caller, check_same_body, content_hash
from orchestrator.interview.outbox import EVENT_TYPES
from orchestrator.interview.view import iso
from orchestrator.outbound import check_resolved, check_url
from orchestrator.webhooks import ENVIRONMENT, MAX_ENDPOINTS, Endpoint, Message

router = APIRouter(prefix="/api/parallel_interview/webhooks", tags=["webhooks"])

PAGE = 200
MAX_REPLAYED = 1_000
NO_STORE = {"Cache-Control": "no-store"}
"""For answers with a secret in them."""


@router.post("")
@answers(views.WebhookMade, 409)
async def add_webhook(body: schemas.WebhookBody, client: Client, caller: Admin, key: CommandId) -> Response:
    """A new endpoint, with the secret that its messages are signed with. It is told of what happens from now on."""
    await _check_url(body.url, client)
    name = _new_id(caller, key)
    others = [one for one in await client.store.endpoints() if one.id != name]
    if len(others) >= MAX_ENDPOINTS:
        raise StateConflict(f"There are {len(others)} webhooks already; {MAX_ENDPOINTS} are the most.")
    secret = webhooks.check_secret(body.secret) if body.secret is not None else webhooks.new_secret()
    events = webhooks.check_events(body.events)
    endpoint = Endpoint(name, body.url, secret, wall_ms(), events, body.description)
    if not await client.store.add_endpoint(endpoint):
        before = await client.store.endpoint(endpoint.id)
        check_same_body(_said(before), _said(endpoint))
        response = _answer(before, secret=before.secret)
        response.headers["Idempotency-Replayed"] = "true"
        return response
    return _answer(endpoint, secret=secret)


@router.get("")
@answers(views.WebhookList)
async def list_webhooks(client: Client, caller: Admin) -> dict[str, Any]:
    """All endpoints, and the types of events that there are."""
    found = await client.store.endpoints()
    return {
        "status": "success",
        "webhooks": [_view(endpoint) for endpoint in found],
        "count": len(found),
        "event_types": list(EVENT_TYPES),
    }


@router.get("/{webhook_id}")
@answers(views.WebhookAnswer)
async def get_webhook(webhook_id: str, client: Client, caller: Admin) -> Response:
    """One endpoint."""
    return _answer(await client.store.endpoint(webhook_id))


@router.patch("/{webhook_id}")
@answers(views.WebhookAnswer, 409)
async def change_webhook(webhook_id: str, body: schemas.WebhookChanges, client: Client, caller: Admin) -> Response:
    """Change its address, its events, or whether it is enabled. What waits goes to the new address."""
    changes = body.model_dump(exclude_unset=True)
    if webhook_id == ENVIRONMENT and "url" in changes:
        raise StateConflict("The address of this webhook comes from the settings.")
    if "url" in changes:
        await _check_url(changes["url"], client)
    if "events" in changes:
        changes["events"] = webhooks.check_events(changes["events"])
    if changes.get("enabled"):
        changes["disabled_because"] = None
    changed = await client.store.change_endpoint(webhook_id, lambda one: replace(one, **changes))
    if changed.enabled:
        await client.store.wake(webhook_id, wall_ms())
    return _answer(changed)


@router.delete("/{webhook_id}")
@answers(views.WebhookDeleted, 409)
async def delete_webhook(webhook_id: str, client: Client, caller: Admin) -> dict[str, Any]:
    """Remove an endpoint, and what was still to be sent to it."""
    if webhook_id == ENVIRONMENT:
        raise StateConflict("This webhook comes from the settings: it can be disabled, or taken out of them.")
    if not await client.store.delete_endpoint(webhook_id):
        raise NotFound(f"There is no webhook {webhook_id[:100]!r}.")
    return {"status": "success", "webhook_id": webhook_id, "deleted": True}


@router.get("/{webhook_id}/secret")
@answers(views.SecretAnswer)
async def get_webhook_secret(webhook_id: str, client: Client, caller: Admin) -> Response:
    """The secret that messages are signed with."""
    endpoint = await client.store.endpoint(webhook_id)
    return JSONResponse({"status": "success", "webhook_id": endpoint.id, "secret": endpoint.secret}, headers=NO_STORE)


@router.post("/{webhook_id}/rotate")
@answers(views.WebhookMade, 409)
async def rotate_webhook_secret(
    webhook_id: str, client: Client, caller: Admin, body: schemas.RotateBody | None = None
) -> Response:
    """A new secret. For 24 hours messages carry a signature by the old one too."""
    if webhook_id == ENVIRONMENT and client.settings.webhook_secret is not None:
        raise StateConflict("The secret of this webhook comes from the settings.")
    given = body.secret if body is not None else None
    fresh = webhooks.check_secret(given) if given is not None else webhooks.new_secret()
    now = wall_ms()
    endpoint = await client.store.change_endpoint(webhook_id, lambda one: one.rotated(now, fresh))
    return _answer(endpoint, secret=fresh)


@router.post("/{webhook_id}/test")
@answers(views.DeliveryAnswer, 409)
async def send_test_message(webhook_id: str, client: Client, caller: Admin) -> Response:
    """Send a message of the type `webhook.test`; look at the deliveries for what became of it."""
    endpoint = await client.store.endpoint(webhook_id)
    if not endpoint.enabled:
        raise StateConflict("This webhook is disabled.")
    message = webhooks.test_message(endpoint, wall_ms())
    await client.store.add_messages([message])
    return JSONResponse({"status": "success", "delivery": _delivery(message)})


@router.get("/{webhook_id}/deliveries")
@answers(views.DeliveryList)
async def list_deliveries(
    webhook_id: str,
    client: Client,
    caller: Admin,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> dict[str, Any]:
    """What was sent, or is to be, newest first, with the last 20 tries of each. Kept for 7 days after its end."""
    endpoint = await client.store.endpoint(webhook_id)
    if cursor is not None and not cursor.startswith(f"{endpoint.id}:"):
        raise InvalidInput.at("/cursor", "This cursor is not one of this webhook's deliveries.")
    found = await client.store.messages(endpoint.id, limit + 1, cursor)
    shown = found[:limit]
    return {
        "status": "success",
        "deliveries": [_delivery(message) for message in shown],
        "count": len(shown),
        "has_more": len(found) > limit,
        "next_cursor": shown[-1].position if len(found) > limit else None,
    }


@router.post("/{webhook_id}/deliveries/{delivery_id}/replay")
@answers(views.DeliveryAnswer, 409)
async def replay_delivery(webhook_id: str, delivery_id: str, client: Client, caller: Admin) -> Response:
    """Send one message once more, under its old id."""
    endpoint = await client.store.endpoint(webhook_id)
    message = await client.store.message(delivery_id)
    if message is None or message.endpoint_id != endpoint.id:
        raise NotFound(f"There is no delivery {delivery_id[:200]!r} of this webhook.")
    again = message.again(wall_ms())
    if not await client.store.change_message(message, again):
        raise StateConflict("This message is being sent just now.")
    return JSONResponse({"status": "success", "delivery": _delivery(again)})


@router.post("/{webhook_id}/replay")
@answers(views.ReplayAnswer)
async def replay_deliveries(webhook_id: str, body: schemas.ReplayBody, client: Client, caller: Admin) -> Response:
    """Send again what happened since a time: what was given up, or everything. Receivers know repeats by their ids.

    A thousand at a time, oldest first; `next_since` is where to go on, null when that was all.
    """
    endpoint = await client.store.endpoint(webhook_id)
    since, now = schemas.moment_ms(body.since, "/since"), wall_ms()
    replayed, after, following, lanes = 0, "", None, set[str]()
    while found := await client.store.messages_since(endpoint.id, since, PAGE, after):
        for message in found:
            if not message.is_open and (body.delivered or message.state == "failed"):
                replayed += await client.store.change_message(message, message.again(now).due(None))
                lanes.add(message.lane)
        after = found[-1].position
        if replayed >= MAX_REPLAYED:
            following = iso(found[-1].at)
            break
    await client.store.queue_heads(lanes, now)
    return JSONResponse({"status": "success", "replayed": replayed, "next_since": following})


async def _check_url(url: str, client: Any) -> None:
    private = client.settings.webhook_private_addresses
    check_url(url, private=private)
    await check_resolved(url, private=private)


def _new_id(caller: Caller, key: str | None) -> str:
    """The same for the same key of the same caller, so that a repeated call makes no second endpoint."""
    known = (
        hashlib.sha256(f"{caller.principal}\0{key}".encode()).hexdigest() if key is not None else secrets.token_hex(8)
    )
    return f"wh_{known[:16]}"


def _said(endpoint: Endpoint) -> str:
    return content_hash([endpoint.url, endpoint.events, endpoint.description])


def _answer(endpoint: Endpoint, **more: Any) -> Response:
    return JSONResponse({"status": "success", "webhook": _view(endpoint) | more}, headers=NO_STORE)


def _view(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "webhook_id": endpoint.id,
        "url": endpoint.url,
        "events": list(endpoint.events or EVENT_TYPES),
        "description": endpoint.description,
        "enabled": endpoint.enabled,
        "disabled_because": endpoint.disabled_because,
        "failing_since": iso(endpoint.failing_since),
        "created_at": iso(endpoint.created_at),
    }


def _delivery(message: Message) -> dict[str, Any]:
    return {
        "delivery_id": message.id,
        "message_id": message.key,
        "session_id": message.session_id,
        "type": message.type,
        "state": message.state,
        "at": iso(message.at),
        "next_try_at": iso(message.due_at),
        "tries": message.tries,
        "ended_at": iso(message.ended_at),
        "attempts": [
            {
                "at": iso(attempt.at),
                "status": attempt.status,
                "problem": attempt.problem,
                "ms": attempt.ms,
                "answer": attempt.answer,
            }
            for attempt in message.attempts
        ],
        "body": message.body,
    }
