"""What the attacks share: a closed service, its staff and its candidates, and every call that there is."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.app import create_app
from api.security import SCOPES_OF
from orchestrator.settings import Settings
from tests.unit.api_world import BASE, BODY, MemoryClient, make, serving

KEY = "the-staff-key-of-the-attacks-0123456789"
STAFF = {"X-API-Key": KEY}
UNKNOWN = "00000000-0000-4000-8000-000000000000"
"""The id of no session."""
BY_BODY = "/capture_reference_face"
"""A candidate's call whose session is in the body."""


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


IMAGE = {"image": "/9j/"}
QUESTION = {"text": "q"}
BODIES: dict[str, dict[str, Any]] = {
    "POST /create": {"name": "A", "email": "a@example.com"},
    "POST /sessions/bulk": {"sessions": [{"name": "A", "email": "a@example.com"}]},
    "POST /session/{session_id}/answer": {"question_index": 0, "answer": "x"},
    "PUT /session/{session_id}/draft": {"question_index": 0, "draft": "x"},
    "POST /session/{session_id}/extend": {"seconds": 60, "reason": "x"},
    "POST /session/{session_id}/consent": {"accepted": True},
    "POST /session/{session_id}/proctoring/events": {"events": [{"type": "tab_hidden"}]},
    "POST /session/{session_id}/proctoring/frame": IMAGE,
    "POST /session/{session_id}/proctoring/verdict": {"verdict": "cleared", "reason": "x"},
    "POST /session/{session_id}/proctoring/events/{event_id}/dispute": {"statement": "x"},
    "POST /api/reports/{session_id}/review": {"verdict": "hold", "note": "x"},
    "POST /jobs": {"job_id": "1", "title": "x", "questions": [QUESTION]},
    "PUT /jobs/{job_id}": {"title": "x", "questions": [QUESTION]},
    "POST /webhooks": {"url": "https://example.com/"},
    "POST /webhooks/{webhook_id}/replay": {"since": "2026-01-01T00:00:00Z"},
    "POST /keys": {"name": "x", "scopes": ["admin"]},
    "POST /cluster/drain": {"node": "0000"},
}
"""Bodies that are right, of calls that take no empty one."""
QUERIES = {"DELETE /candidates": "?email=a@example.com", "GET /candidates/export": "?email=a@example.com"}


@dataclass(frozen=True)
class Call:
    """One call of the service. `scopes`: one of them is needed; `candidates`: or a candidate's token."""

    method: str
    path: str
    scopes: frozenset[str]
    candidates: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.path.removeprefix(BASE)}"

    def url(self, session_id: str) -> str:
        """Its address, about this session."""
        return re.sub(r"\{\w+\}", "1", self.path.replace("{session_id}", session_id)) + QUERIES.get(self.name, "")

    def body(self, session_id: str) -> dict[str, Any] | None:
        if self.path == BY_BODY:
            return {"session_id": session_id, **IMAGE}
        return None if self.method == "GET" else BODIES.get(self.name, {})


ANSWERS_ALL = frozenset({"/healthz", "/readyz", f"{BASE}/livekit/webhook"})
"""Calls that ask nobody who they are; the webhook is signed."""
THEY_ASK: dict[str, frozenset[str]] = {
    BY_BODY: frozenset({"manage", "proctor"}),
    "/api/reports/{session_id}": frozenset({"read"}),
}
"""Calls that ask by themselves, and for what: their session is in the body, or browsers get a page to sign in with."""


def calls() -> list[Call]:
    """Every call that there is, taken from the application itself: a new one is attacked by itself."""
    app = create_app(Settings(_env_file=None), MemoryClient())  # pyright: ignore[reportCallIssue]
    found: list[Call] = []
    for route in routes(app):
        if not route.include_in_schema or route.path in ANSWERS_ALL:
            continue
        asked = [SCOPES_OF[check] for check in _checks(route.dependant)]
        scopes = frozenset[str](scope for given, _ in asked for scope in given)
        candidates = any(candidate for _, candidate in asked) or route.path in THEY_ASK
        found += [
            Call(method, route.path, scopes | THEY_ASK.get(route.path, frozenset()), candidates)
            for method in sorted(route.methods or ())
        ]
    assert len(found) > 50, "the calls are not found any more"
    return found


def routes(app: FastAPI) -> list[APIRoute]:
    """All routes, whatever router they were included with."""
    routers = [route.original_router for route in app.routes if hasattr(route, "original_router")]  # type: ignore[attr-defined]
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]


def _checks(dependant: Dependant) -> list[Any]:
    own = [dependant.call] if dependant.call in SCOPES_OF else []
    return own + [check for needed in dependant.dependencies for check in _checks(needed)]


@dataclass
class Closed:
    """A service with a key, and two candidates: the one who attacks, and another one."""

    http: httpx.AsyncClient
    client: MemoryClient
    mine: dict[str, Any]
    other: dict[str, Any]

    @property
    def token(self) -> dict[str, str]:
        return bearer(self.mine["candidate_token"])

    async def call(self, call: Call, session_id: str, headers: dict[str, str]) -> httpx.Response:
        """Make it with a body that is right."""
        body = call.body(session_id)
        more: dict[str, Any] = {} if body is None else {"json": body}
        headers = headers | {"Idempotency-Key": "k"}
        return await self.http.request(call.method, call.url(session_id), headers=headers, **more)

    @property
    def untouched(self) -> bool:
        """Whether nothing was written since its sessions were made."""
        store = self.client.store
        return all(len(j) == 1 for j in store.journal.values()) and not (store.staff or store.hooks or store.erased)


@asynccontextmanager
async def closed(client: MemoryClient | None = None, **settings: Any) -> AsyncIterator[Closed]:
    async with serving(client, KEY, **settings) as (_, http, client):
        mine = await make(http, **STAFF)
        other = {**BODY, "name": "Grace", "email": "grace@example.com", "questions": ["THEIRS 0", "THEIRS 1"]}
        answer = await http.post(f"{BASE}/create", json=other, headers=STAFF)
        yield Closed(http, client, mine, answer.json())
