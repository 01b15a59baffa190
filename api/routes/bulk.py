"""Many sessions by one call: /api/parallel_interview/sessions/bulk."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError

from api import schemas
from api.answers import sessions as views
from api.described import answers
from api.errors import UNEXPECTED, broken_rules, log_unexpected, members, status_of
from api.headers import CommandId
from api.routes.sessions import Client, make, questions_of
from api.security import Manager
from orchestrator.errors import OrchestratorError, Retryable
from orchestrator.interview.commands import Caller

router = APIRouter(prefix="/api/parallel_interview", tags=["sessions"])

AT_ONCE = 8


@router.post("/sessions/bulk")
@answers(views.BulkAnswer, never=(422,))
async def create_sessions(
    body: schemas.BulkBody, request: Request, client: Client, caller: Manager, key: CommandId
) -> dict[str, Any]:
    """Up to 1,000 creations, each with its own result, in order; one that fails stops no other.

    An item's own `idempotency_key` makes it safe to send again, in whatever call; else the header's and its place do.
    `dry_run`: only say what is wrong with them.
    """
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(index: int, item: dict[str, Any]) -> dict[str, Any]:
        async with slots:
            await asyncio.sleep(0)  # others have their turn, however much is wrong with these
            return {"index": index, **await _one(index, item)}

    async def _one(index: int, item: dict[str, Any]) -> dict[str, Any]:
        try:
            item_key, made = _parsed(item)
            if body.dry_run:
                await questions_of(made, client)
                return {"status": "success"}
            return await _created(made, request, client, caller, item_key or (f"{key}:{index}" if key else None))
        except OrchestratorError as error:
            return _failed(error)
        except Exception as error:
            log_unexpected(error)
            return {"status": "error", "code": "internal_error", "http_status": 500, "detail": UNEXPECTED}

    results = await asyncio.gather(*(one(index, item) for index, item in enumerate(body.sessions)))
    failed = sum(result["status"] == "error" for result in results)
    return {
        "status": "success",
        "results": results,
        "created": 0 if body.dry_run else sum(result.get("replayed") is False for result in results),
        "replayed": sum(result.get("replayed") is True for result in results),
        "failed": failed,
    }


def _parsed(item: dict[str, Any]) -> tuple[str | None, schemas.CreateBody]:
    """The key and the body of an item. Raises InvalidInput."""
    fields = dict(item)
    try:
        head = schemas.BulkItem(idempotency_key=fields.pop("idempotency_key", None))
        return head.idempotency_key, schemas.CreateBody.model_validate(fields)
    except ValidationError as error:
        raise broken_rules(error.errors()) from None


async def _created(
    body: schemas.CreateBody, request: Request, client: Client, caller: Caller, key: str | None
) -> dict[str, Any]:
    reply, more = await make(body, request, client, caller, key)
    shown = {name: more[name] for name in ("session_id", "candidate_token", "links")}
    return {"status": "success", **shown, "replayed": reply.replayed}


def _failed(error: OrchestratorError) -> dict[str, Any]:
    shown = {"status": "error", "code": error.code, "http_status": status_of(error), "detail": error.detail}
    if isinstance(error, Retryable):
        shown["retry_after"] = error.retry_after
    return shown | members(error)
