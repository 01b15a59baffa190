"""Every call that there is, with every credential that is not for it. The calls are taken from the application."""

from __future__ import annotations

import time
from statistics import median

import httpx
import pytest

from orchestrator.keys import SCOPES, Scope, opened_by
from tests.attacks.world import BODIES, UNKNOWN, Call, Closed, calls, closed
from tests.unit.api_world import BASE
from tests.unit.test_keys import bearing

CALLS = calls()
CANDIDATES = [call for call in CALLS if call.candidates]
STAFFS = [call for call in CALLS if not call.candidates]
SESSION = "/session/{session_id}"


def named(call: Call) -> str:
    return call.name


def comparable(answer: httpx.Response) -> tuple[int, dict[str, object]]:
    return answer.status_code, {k: v for k, v in answer.json().items() if k != "request_id"}


def says_nothing(world: Closed, answer: httpx.Response, status: int) -> bool:
    """Whether it is refused, tells nothing of the other candidate, and has changed nothing."""
    assert answer.status_code == status, f"{answer.text}: is a body of it in BODIES?"
    assert "THEIRS" not in answer.text and "grace" not in answer.text.lower()
    return world.untouched


def test_candidates_calls_are_those_that_the_contract_names() -> None:
    assert {call.name for call in CANDIDATES} == {
        f"GET {SESSION}",
        *(f"POST {SESSION}/{what}" for what in ("start", "answer", "end", "token", "consent")),
        f"PUT {SESSION}/draft",
        "POST /capture_reference_face",
        f"GET {SESSION}/proctoring",
        *(f"POST {SESSION}/proctoring/{what}" for what in ("events", "frame", "events/{event_id}/dispute")),
        f"DELETE {SESSION}/proctoring/pictures",
        "GET /api/reports/{session_id}",
    }


def test_every_call_asks_for_a_scope() -> None:
    assert [call.name for call in CALLS if not call.scopes] == []
    assert {scope for call in CALLS for scope in call.scopes} == set(SCOPES)
    assert set(BODIES) <= {call.name for call in CALLS}


@pytest.mark.parametrize("call", CALLS, ids=named)
async def test_without_a_credential_no_call_says_anything(call: Call) -> None:
    async with closed() as world:
        for session_id in (world.other["session_id"], UNKNOWN):
            assert says_nothing(world, await world.call(call, session_id, {}), 401)


@pytest.mark.parametrize("call", CANDIDATES, ids=named)
async def test_a_candidates_token_opens_no_other_session(call: Call) -> None:
    async with closed() as world:
        assert says_nothing(world, await world.call(call, world.other["session_id"], world.token), 403)


@pytest.mark.parametrize("call", CANDIDATES, ids=named)
async def test_a_foreign_session_and_none_are_told_apart_by_nothing(call: Call) -> None:
    async with closed() as world:
        foreign = await world.call(call, world.other["session_id"], world.token)
        unknown = await world.call(call, UNKNOWN, world.token)
        assert comparable(foreign) == comparable(unknown)


async def test_a_foreign_session_and_none_take_the_same_time() -> None:
    async with closed(candidate_requests_per_minute=1e9) as world:
        took: dict[str, list[float]] = {world.other["session_id"]: [], UNKNOWN: []}
        for _ in range(60):
            for session_id, times in took.items():
                began = time.perf_counter()
                await world.http.get(f"{BASE}/session/{session_id}", headers=world.token)
                times.append(time.perf_counter() - began)
        foreign, unknown = (median(times) for times in took.values())
        assert 0.5 < foreign / unknown < 2, "neither session is even looked up"


@pytest.mark.parametrize("call", STAFFS, ids=named)
async def test_a_candidates_token_opens_no_call_of_staff(call: Call) -> None:
    async with closed() as world:
        for session_id in (world.mine["session_id"], world.other["session_id"]):
            assert says_nothing(world, await world.call(call, session_id, world.token), 403)


@pytest.mark.parametrize("scope", ["read", "manage", "proctor"])
async def test_a_key_opens_nothing_beyond_its_scopes(scope: Scope) -> None:
    async with closed() as world:
        headers = bearing(world.client, scope)
        world.client.store.staff, held = {}, world.client.store.staff
        for call in CALLS:
            if call.scopes & opened_by((scope,)):
                continue
            world.client.store.staff = held
            answer = await world.call(call, world.other["session_id"], headers)
            world.client.store.staff = {}
            assert says_nothing(world, answer, 403), call.name
