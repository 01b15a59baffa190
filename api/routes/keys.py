"""Staff keys: /api/parallel_interview/keys. A key is shown once, when it is made; only its digest is kept."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from actors.clock import wall_ms
from api import schemas
from api.answers import work as views
from api.described import answers
from api.headers import CommandId
from api.keyring import KNOWN_SECONDS
from api.routes.sessions import Client
from api.security import Admin
from orchestrator.errors import InvalidInput, StateConflict
from orchestrator.interview.commands import check_same_body, content_hash
from orchestrator.interview.view import iso
from orchestrator.keys import MAX_KEYS, RESERVED, StaffKey, new_key

router = APIRouter(prefix="/api/parallel_interview/keys", tags=["keys"])

NO_STORE = {"Cache-Control": "no-store"}


@router.post("")
@answers(views.KeyMade, 409)
async def create_key(
    body: schemas.KeyBody, request: Request, client: Client, caller: Admin, command_id: CommandId
) -> Response:
    """A new key. `secret` is the whole key, and nobody sees it again; a repeated call does not show it either.

    The first key closes a service that was open to everyone, so it must have the scope admin. When this answers, every
    front end knows the key.
    """
    now = wall_ms()
    expires_at = schemas.ms_of(body.expires_at)
    if expires_at is not None and expires_at <= now:
        raise InvalidInput.at("/expires_at", "expires_at is in the past.")
    if body.name in RESERVED:
        raise InvalidInput.at("/name", f"{body.name} is not a name for a key; it stands for something else.")
    known = await client.store.staff_keys()
    key, secret = new_key(
        body.name,
        tuple(body.scopes),
        now,
        caller.principal,
        expires_at=expires_at,
        id=_id(caller.principal, command_id),
    )
    before = next((one for one in known if one.id == key.id), None)
    if before is not None:
        return _repeated(before, key)
    if not _opens_admin(request, [*known, key], now):
        raise InvalidInput.at(
            "/scopes", "The first key needs the scope admin and no end: nobody could make another one without."
        )
    if sum(one.revoked_at is None for one in known) >= MAX_KEYS:
        raise StateConflict(f"There are {MAX_KEYS} keys already, which are the most; revoke some.")
    if not await client.store.add_staff_key(key):
        return _repeated(next(one for one in await client.store.staff_keys() if one.id == key.id), key)
    await _known_everywhere(request)
    return _answer(key, secret=secret)


@router.get("")
@answers(views.KeyList)
async def list_keys(client: Client, caller: Admin) -> dict[str, Any]:
    """All keys that were ever made, oldest first, and never their secrets."""
    found = await client.store.staff_keys()
    return {"status": "success", "keys": [_view(key) for key in found], "count": len(found)}


@router.delete("/{key_id}")
@answers(views.KeyAnswer, 409)
async def revoke_key(key_id: str, request: Request, client: Client, caller: Admin) -> Response:
    """Revoke a key; again: nothing changes. When this answers, it opens nothing any more. Journals keep its name."""
    now = wall_ms()
    known = await client.store.staff_keys()
    others = [one for one in known if one.id != key_id]
    if any(one.id == key_id and one.is_good(now) for one in known) and not _opens_admin(request, others, now):
        raise StateConflict("This is the last key with the scope admin; make another first.")

    def revoked(key: StaffKey) -> StaffKey:
        return key if key.revoked_at is not None else replace(key, revoked_at=now, revoked_by=caller.principal)

    key = await client.store.change_staff_key(key_id, revoked)
    await _known_everywhere(request)
    return _answer(key)


def _opens_admin(request: Request, keys: list[StaffKey], now: int) -> bool:
    """Whether somebody could still make keys with these, for ever."""
    return request.app.state.settings.api_key is not None or any(key.makes_others(now) for key in keys)


async def _known_everywhere(request: Request) -> None:
    request.app.state.keyring.forget()
    await asyncio.sleep(KNOWN_SECONDS)


def _id(principal: str, command_id: str | None) -> str | None:
    """The same for the same Idempotency-Key of the same caller, so that a repeated call makes no second key."""
    if command_id is None:
        return None
    return hashlib.sha256(f"{principal}\0{command_id}".encode()).hexdigest()[:12]


def _repeated(before: StaffKey, key: StaffKey) -> Response:
    check_same_body(_said(before), _said(key))
    response = _answer(before, secret=None)
    response.headers["Idempotency-Replayed"] = "true"
    return response


def _said(key: StaffKey) -> str:
    return content_hash([key.name, list(key.scopes), key.expires_at])


def _answer(key: StaffKey, **more: Any) -> Response:
    return JSONResponse({"status": "success", "key": _view(key), **more}, headers=NO_STORE)


def _view(key: StaffKey) -> dict[str, Any]:
    return {
        "key_id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "state": "revoked" if key.revoked_at is not None else "good" if key.is_good(wall_ms()) else "expired",
        "created_at": iso(key.created_at),
        "created_by": key.created_by,
        "expires_at": iso(key.expires_at),
        "revoked_at": iso(key.revoked_at),
        "revoked_by": key.revoked_by,
    }
