"""The console's page and its feed: who is let in, what opens it, and what ends it.

The transport gives an answer when it has ended, so each of these feeds is ended by something.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from actors.clock import wall_ms
from orchestrator.keys import SCOPES, Scope
from tests.unit.api_world import BASE, make, serving
from tests.unit.test_keys import bearing

EVENTS = f"{BASE}/console/events"


def events(answer: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in answer.text.split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((lines["event"], json.loads(lines["data"])))
    return found


async def watched(app: FastAPI, http: httpx.AsyncClient, **more: Any) -> httpx.Response:
    """What a console gets that is told everything before the front end is on its way out."""
    feed = asyncio.create_task(http.get(EVENTS, **more))
    async with asyncio.timeout(30):
        while not any(console.is_up_to_date for console in app.state.board.watching):
            await asyncio.sleep(0.01)
        app.state.draining = True
        return await feed


async def test_a_console_is_told_who_it_is_and_everything() -> None:
    async with serving() as (app, http, _):
        made = await make(http)
        answer = await watched(app, http)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    (hello, who), (everything, data), *_ = events(answer)
    assert (hello, everything) == ("hello", "all")
    assert who == {"principal": "open", "scopes": ["admin", "manage", "proctor", "read"]}
    assert [row["session_id"] for row in data["rows"]] == [made["session_id"]]


@pytest.mark.parametrize("scope", SCOPES)
async def test_every_key_opens_it_and_is_told_its_scopes(scope: Scope) -> None:
    async with serving(key="k3y") as (app, http, client):
        answer = await watched(app, http, headers=bearing(client, scope))
    assert answer.status_code == 200
    assert scope in events(answer)[0][1]["scopes"]


async def test_nobody_else_is_let_in() -> None:
    async with serving(key="k3y") as (_, http, _):
        assert (await http.get(EVENTS)).status_code == 401
        assert (await http.get(EVENTS, params={"key": "k3y"})).status_code == 401, "a key in an address is none"
        made = await make(http, **{"X-API-Key": "k3y"})
        candidate = {"Authorization": f"Bearer {made['candidate_token']}"}
        assert (await http.get(EVENTS, headers=candidate)).status_code == 403


async def test_a_feed_ends_soon_after_its_key_does() -> None:
    async with serving(key="k3y") as (_, http, client):
        headers = bearing(client, "read", expires_at=wall_ms() + 1_000)
        began = time.monotonic()
        async with asyncio.timeout(6):
            answer = await http.get(EVENTS, headers=headers)
        assert answer.status_code == 200 and time.monotonic() - began < 5
        assert (await http.get(EVENTS, headers=headers)).status_code == 401


async def test_a_front_end_on_its_way_out_sends_consoles_elsewhere() -> None:
    async with serving() as (app, http, _):
        app.state.draining = True
        answer = await http.get(EVENTS)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"


async def test_the_page_holds_nothing() -> None:
    async with serving(key="k3y") as (_, http, _):
        answer = await http.get("/")
    assert answer.status_code == 200 and "/assets/console.js" in answer.text
    assert "'unsafe" not in answer.headers["content-security-policy"]
