"""News of the room, forged, changed, replayed, late and out of order: no clock stands still for them."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from orchestrator.interview.presence import MAX_STOPS
from orchestrator.interview.view import participant_name, room_name
from orchestrator.livekit import RoomState
from tests.attacks.world import BASE, Closed, closed
from tests.unit.test_livekit_gateway import KEY, SECRET, signature, webhook

WEBHOOK = f"{BASE}/livekit/webhook"
NOW = 1_700_000_000_000


@asynccontextmanager
async def started() -> AsyncIterator[tuple[Closed, dict[str, Any]]]:
    """An interview in progress whose clock is moved by `world.client.clock`."""
    from orchestrator.settings import Settings
    from tests.unit.api_world import MemoryClient

    settings = Settings(_env_file=None, mongodb_url=None).model_copy(  # pyright: ignore[reportCallIssue]
        update={
            "livekit_url": "ws://127.0.0.1:1",
            "livekit_api_key": KEY,
            "livekit_api_secret": SecretStr(SECRET),
        }
    )
    client = MemoryClient(settings=settings)
    client.livekit.open_room = lambda _: _live()  # type: ignore[method-assign, assignment]
    async with closed(client=client) as world:
        session_id = world.mine["session_id"]
        answer = await world.http.post(f"{BASE}/session/{session_id}/start", headers=world.token)
        assert answer.status_code == 200
        yield world, world.client.store.journal[session_id]  # type: ignore[misc]


async def _live() -> RoomState:
    return RoomState("live", "ws://127.0.0.1:1")


def news(world: Closed, event: str, id: str, sid: str = "PA_1", reason: str = "SIGNAL_CLOSE", **more: Any) -> bytes:
    session_id = world.mine["session_id"]
    participant = {"sid": sid, "identity": participant_name(session_id), "disconnectReason": reason}
    return webhook(event, id=id, room={"sid": "RM_1", "name": room_name(session_id)}, participant=participant, **more)


async def tell(world: Closed, body: bytes, authorization: str | None = None) -> httpx.Response:
    headers = {"Authorization": signature(body) if authorization is None else authorization}
    return await world.http.post(WEBHOOK, content=body, headers=headers | {"Content-Type": "application/webhook+json"})


@pytest.mark.filterwarnings("ignore:The HMAC key")
async def test_forged_news_are_401_and_change_nothing() -> None:
    async with started() as (world, journal):
        before = len(journal)
        body, other = news(world, "participant_left", "E1"), news(world, "participant_left", "E2", "PA_2")
        now = int(time.time())
        for authorization in (
            "",
            "x.y.z",
            signature(body, secret="t" * 32),
            signature(body, key="someone"),
            signature(other),
            signature(b""),
            signature(body, exp=now - 3_600, nbf=now - 7_200),
            signature(body, nbf=now + 3_600),
            world.mine["candidate_token"],
            f"Bearer {world.mine['candidate_token']}",
            world.client.livekit.candidate_ticket(world.mine["session_id"]).token,
            world.client.livekit.observer_ticket(world.mine["session_id"]).token,
        ):
            assert (await tell(world, body, authorization)).status_code == 401
        assert len(journal) == before


async def test_news_that_come_again_change_nothing() -> None:
    async with started() as (world, journal):
        joined, left = news(world, "participant_joined", "E1"), news(world, "participant_left", "E2")
        for body in (joined, left):
            assert (await tell(world, body)).status_code == 200
        before = len(journal)
        for body in (joined, left, left, joined, left):
            assert (await tell(world, body)).status_code == 200
        assert len(journal) == before
        state = world.client.states[world.mine["session_id"]]
        assert state.presence.stops == 1, "one stop, however often it is told"


async def test_news_under_new_ids_give_no_more_than_one_stop_for_one_connection() -> None:
    async with started() as (world, _):
        await tell(world, news(world, "participant_joined", "E0"))
        for number in range(10):
            assert (await tell(world, news(world, "participant_left", f"E{number + 1}"))).status_code == 200
        state = world.client.states[world.mine["session_id"]]
        assert state.presence.stops == 1


async def test_news_in_any_order_end_in_the_same_presence() -> None:
    ends: set[str] = set()
    joined, left = "participant_joined", "participant_left"
    told = [(joined, "E1", "PA_1"), (left, "E2", "PA_1"), (joined, "E3", "PA_2")]
    for order in itertools.permutations(told):
        async with started() as (world, _):
            for event, id, sid in order:
                assert (await tell(world, news(world, event, id, sid))).status_code == 200
            state = world.client.states[world.mine["session_id"]]
            assert ("livekit", "PA_1") not in state.presence.here, "it is gone, whenever that was told"
            ends.add(str(sorted(state.presence.here)))
    assert len(ends) <= 2


async def test_old_news_count_from_when_they_come() -> None:
    """A signature of today over an event of years ago stops no clock in the past."""
    async with started() as (world, _):
        await tell(world, news(world, "participant_joined", "E1"))
        await tell(world, news(world, "participant_left", "E2", createdAt="1000000000"))
        state = world.client.states[world.mine["session_id"]]
        assert state.open is not None and state.open.lost_at is not None
        assert state.open.lost_at >= state.open.opened_at


async def test_a_connection_that_comes_and_goes_stops_the_clock_a_few_times_only() -> None:
    async with started() as (world, _):
        for number in range(10):
            await tell(world, news(world, "participant_joined", f"J{number}", f"PA_{number}"))
            await tell(world, news(world, "participant_left", f"L{number}", f"PA_{number}"))
        state = world.client.states[world.mine["session_id"]]
        assert state.presence.stops <= MAX_STOPS


async def test_news_of_another_room_or_of_staff_are_nothing() -> None:
    async with started() as (world, journal):
        before = len(journal)
        for body in (
            webhook("participant_left", id="E1", room={"name": "lobby"}),
            webhook("participant_left", id="E2", room={"name": room_name(world.mine["session_id"])}),
            news(world, "room_finished", "E3"),
            news(world, "room_dreamt_of", "E4"),
        ):
            assert (await tell(world, body)).status_code == 200
        assert len(journal) == before
