"""Interviews in real LiveKit rooms: a real livekit-server, the real client SDK, and the service on top of Ray.

The candidate's client runs in a network namespace of its own, where this machine makes one, so that its cable can be
cut. Each test has a session of its own; the server may be killed, paused or started again by a test.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest
from google.protobuf.json_format import MessageToJson
from livekit import api

from orchestrator.livekit import LiveKit
from orchestrator.settings import Settings
from orchestrator.storage.embedded import free_port
from tests.chaos.conftest import until
from tests.cluster.candidate import Candidate, checked
from tests.livekit_network import CandidateNetwork
from tests.livekit_server import KEY, SECRET, Guest, LiveKitServer, guest
from tests.servers import Serve, serving

pytestmark = [pytest.mark.services, pytest.mark.timeout(150)]

LONG = {"text_question_timer": 600}
HTTP_SECONDS = 0.1


@dataclass
class World:
    livekit: LiveKitServer
    service: Serve
    network: CandidateNetwork | None

    @property
    def namespace(self) -> str | None:
        return self.network.namespace if self.network else None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, port = tmp_path_factory.mktemp("livekit"), free_port()
    with ExitStack() as stack:
        try:
            network = stack.enter_context(CandidateNetwork())
        except pytest.skip.Exception:
            network = None
        address = network.host if network else "127.0.0.1"
        webhook = f"http://127.0.0.1:{port}/api/parallel_interview/livekit/webhook"
        livekit = LiveKitServer(folder, webhook, node_ip=address, bind=address)
        stack.callback(livekit.stop)
        livekit.start()
        settings = {
            "LIVEKIT_URL": livekit.http_url,
            "LIVEKIT_API_KEY": KEY,
            "LIVEKIT_API_SECRET": SECRET,
            "INTERVIEW_LIVEKIT_PUBLIC_URL": livekit.guest_url,
            "INTERVIEW_WARM_ACTORS": "2",
            "INTERVIEW_RECORDING": "recordings/{session_id}.mp4",
        }
        yield World(livekit, stack.enter_context(serving(folder, port, **settings)), network)


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=world.service.api, timeout=30) as http:
        yield http


@pytest.fixture
async def candidate(http: httpx.AsyncClient) -> AsyncIterator[Candidate]:
    candidate = Candidate(http)
    yield candidate
    if candidate.session_id:
        await candidate.request("POST", "/end")


async def happened(candidate: Candidate, kind: str, seconds: float, /, **fields: Any) -> dict[str, Any]:
    """Wait until the session's journal has such an event."""

    async def found() -> dict[str, Any] | None:
        for one in await candidate.events():
            if one["type"] == kind and fields.items() <= one.items():
                return one
        return None

    return await until(found, seconds, f"{kind} {fields or ''} in the journal")


async def rooms(world: World) -> set[str]:
    async with world.livekit.api() as client:
        return {room.name for room in (await client.room.list_rooms(api.ListRoomsRequest())).rooms}


async def test_an_interview_whose_candidate_loses_the_network(world: World, candidate: Candidate) -> None:
    if world.network is None:
        pytest.skip("network namespaces cannot be made here")
    made = await candidate.create(2, **LONG)
    room = made["livekit"]
    assert room["mode"] == "live" and room["reason"] is None
    assert room["room"] == f"interview-{candidate.session_id}" in await rooms(world)
    async with guest(room["url"], room["token"], camera=True, namespace=world.namespace) as client:
        sid = await client.connected()
        await client.event("published")
        await happened(candidate, "participant_joined", 5, connection=sid)
        await candidate.start()
        assert (await candidate.session())["livekit"]["connected"]

        world.network.cut()
        cut_at = time.monotonic()
        lost = await happened(candidate, "connection_lost", 40, connection=sid, reason="connection_timeout")
        stopped = await candidate.session()
        assert stopped["status_detail"] == "connection_lost"
        assert stopped["current_question"]["deadline"] is None
        assert not stopped["livekit"]["connected"]
        await asyncio.sleep(1)
        still = (await candidate.session())["current_question"]["remaining_seconds"]
        assert still == stopped["current_question"]["remaining_seconds"]

        world.network.mend()
        credited = await happened(candidate, "clock_credited", 30, cause="network")
        away = time.monotonic() - cut_at
        assert credited["seq"] > lost["seq"]
        session = await candidate.session()
        assert session["status_detail"] == "question_open" and session["livekit"]["connected"]
        [line] = session["clock"]["ledger"]
        # LiveKit needs 21 s to notice, of which 20 are given back too.
        assert line["cause"] == "network" and away - 3.5 < line["seconds"] < away + 1.5
        question = session["current_question"]
        assert question["remaining_seconds"] > 590

        assert (await candidate.answer(0, "still here"))["session"]["answers"][0]["elapsed_seconds"] < 10
        await candidate.post("end")
        await until(lambda: gone(world, candidate), 5, "the room is gone")
        assert (await client.event("disconnected"))["reason"] == "ROOM_DELETED"
    await happened(candidate, "room_closed", 5)
    await candidate.check_nothing_lost()


async def gone_again(world: World, candidate: Candidate) -> bool:
    """Whether the server has made the session's room twice and has none now."""
    started = [line for line in world.livekit.log.splitlines() if '"event":"room_started"' in line.replace(" ", "")]
    made = sum(f"interview-{candidate.session_id}" in line for line in started)
    return made >= 2 and await gone(world, candidate)


async def gone(world: World, candidate: Candidate) -> bool:
    return f"interview-{candidate.session_id}" not in await rooms(world)


async def test_tokens_are_what_the_guide_says(world: World, candidate: Candidate) -> None:
    made = await candidate.create()
    session_id = candidate.session_id
    again = (await candidate.post("token"))["livekit"]
    for room in (made["livekit"], again):
        assert room["participant"] == f"candidate-{session_id}"
        claims = jwt.decode(room["token"], SECRET, algorithms=["HS256"], issuer=KEY)
        assert claims.pop("exp") - claims.pop("nbf") == 3600
        assert claims == {
            "iss": KEY,
            "sub": f"candidate-{session_id}",
            "video": {
                "roomJoin": True,
                "room": f"interview-{session_id}",
                "canPublish": True,
                "canSubscribe": True,
                "canPublishData": True,
                "canPublishSources": ["camera", "microphone", "screen_share"],
            },
        }
    await candidate.post("end")
    refused = await candidate.post("token", status=409)
    assert refused["current_status"] == "completed"


async def test_an_observer_is_not_seen_and_an_old_token_lets_nobody_back_in(world: World, candidate: Candidate) -> None:
    room = (await candidate.create(**LONG))["livekit"]
    await candidate.start()
    watching = (await candidate.post("token", {"role": "observer"}))["livekit"]
    async with guest(room["url"], room["token"], camera=True, namespace=world.namespace) as client:
        await client.event("published")
        async with guest(watching["url"], watching["token"], namespace=world.namespace) as observer:
            assert (await observer.event("subscribed"))["identity"] == room["participant"]
            await candidate.post("end")
            await client.event("disconnected")
            await observer.event("disconnected")
        assert "other_joined" not in [event["event"] for event in client.events]
    joined = [e for e in await candidate.events() if e["type"] == "participant_joined"]
    assert len(joined) == 1, "only the candidate is entered"
    # The server makes the room again for whoever has a valid token; it is removed again.
    intruder = Guest(room["url"], room["token"], namespace=world.namespace)
    await intruder.start()
    try:
        await until(lambda: gone_again(world, candidate), 10, "the room was made, and removed")
        await asyncio.sleep(1)
        assert await gone(world, candidate)
    finally:
        await intruder.kill()


async def test_a_new_link_puts_out_who_came_in_with_the_old_one(world: World, candidate: Candidate) -> None:
    old = (await candidate.create(**LONG))["livekit"]
    await candidate.start()
    async with guest(old["url"], old["token"], namespace=world.namespace) as stranger:
        await happened(candidate, "participant_joined", 5, connection=await stranger.connected())
        await candidate.post("link")
        assert (await stranger.event("disconnected"))["reason"] == "PARTICIPANT_REMOVED"
    async with guest(old["url"], old["token"], namespace=world.namespace) as stranger:
        assert (await stranger.event("disconnected"))["reason"] == "PARTICIPANT_REMOVED"
    new = (await candidate.post("token"))["livekit"]
    async with guest(new["url"], new["token"], namespace=world.namespace) as client:
        await happened(candidate, "participant_joined", 5, connection=await client.connected())
    assert [e["type"] for e in await candidate.events()].count("participant_joined") == 2


async def test_a_second_device_takes_over(world: World, candidate: Candidate) -> None:
    room = (await candidate.create(**LONG))["livekit"]
    await candidate.start()
    async with guest(room["url"], room["token"], namespace=world.namespace) as first:
        one = await first.connected()
        await happened(candidate, "participant_joined", 5, connection=one)
        async with guest(room["url"], room["token"], namespace=world.namespace) as second:
            two = await second.connected()
            await happened(candidate, "participant_joined", 5, connection=two)
            await happened(candidate, "participant_left", 5, connection=one, reason="duplicate_identity")
            await happened(candidate, "proctoring_event", 5, event="second_device")
            session = await candidate.session()
            assert session["livekit"]["connected"] and session["status_detail"] == "question_open"
            await second.leave()
        await happened(candidate, "participant_left", 5, connection=two, reason="client_initiated")
    session = await candidate.session()
    assert session["status_detail"] == "question_open" and session["clock"]["ledger"] == []


async def test_twenty_creates_while_livekit_hangs(
    world: World, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[tuple[float, dict[str, Any]]] = []
    candidates = [Candidate(http) for _ in range(20)]

    async def nothing_starts() -> bool:
        return not (await http.get("/cluster")).json()["cluster"]["starting_actors"]

    await until(nothing_starts, 30, "no actor of an earlier test is being started")
    world.livekit.pause()
    try:
        for candidate in candidates:
            began = time.monotonic()
            answer = await candidate.create(1, **LONG)
            made.append((time.monotonic() - began, answer))
        assert all(answer["livekit"]["mode"] == "fallback" and answer["livekit"]["reason"] for _, answer in made)
        assert all(answer["livekit"]["token"] is None for _, answer in made)
        times = [seconds for seconds, _ in made]
        slow = [seconds for seconds in times if seconds > HTTP_SECONDS]
        assert len(slow) <= 3 and max(times) < 2.2, times
        assert slow == times[: len(slow)], "once the breaker is open nobody waits"
        assert "LiveKit does not answer" in (await http.get(world.service.url + "/readyz")).json()["livekit"]
        session = await candidates[0].start()
        assert session["livekit"]["mode"] == "fallback"
    finally:
        world.livekit.go_on()
    back_at = time.monotonic()

    async def healed() -> bool:
        names = await rooms(world)
        return all(f"interview-{candidate.session_id}" in names for candidate in candidates)

    await until(healed, 30, "all 20 have rooms")
    rest = [seconds for seconds in times if seconds <= HTTP_SECONDS]
    with capsys.disabled():
        sys.stdout.write(
            f"\ncreates while LiveKit hangs: {len(slow)} waited, at most {max(times):.2f} s; the others "
            f"{max(rest) * 1000:.0f} ms at most; 20 rooms {time.monotonic() - back_at:.1f} s after it was back\n"
        )
    for candidate in (candidates[0], candidates[-1]):
        await happened(candidate, "livekit", 5, mode="live")
        modes = [event["mode"] for event in await candidate.events() if event["type"] == "livekit"]
        assert modes == ["fallback", "live"]
        offered = (await candidate.session())["livekit"]
        assert offered["mode"] == "live" and offered["token_url"].endswith(f"{candidate.session_id}/token")
        answer = checked(await http.post(world.service.url + offered["token_url"]), 200)["livekit"]
        assert answer["token"] and answer["url"] == world.livekit.guest_url
    await asyncio.gather(*(candidate.post("end") for candidate in candidates))

    async def all_gone() -> bool:
        return not {f"interview-{candidate.session_id}" for candidate in candidates} & await rooms(world)

    await until(all_gone, 15, "the rooms are gone")


async def test_livekit_dies_in_the_middle_and_comes_back(world: World, candidate: Candidate) -> None:
    room = (await candidate.create(2, **LONG))["livekit"]
    async with guest(room["url"], room["token"], camera=True, namespace=world.namespace) as client:
        await client.event("published")
        await candidate.start()
        world.livekit.kill()
        try:
            await happened(candidate, "livekit", 25, mode="fallback")
            assert (await candidate.answer(0, "without video"))["session"]["livekit"]["mode"] == "fallback"
        finally:
            world.livekit.start()
        await happened(candidate, "livekit", 15, mode="live")
        back = await until(lambda: _joined_again(candidate), 60, "the client is back in the room")
        assert back
        session = await candidate.session()
        assert session["livekit"]["connected"] and session["status_detail"] == "question_open"
        await client.leave()
    await candidate.answer(1, "and with it")
    await candidate.check_nothing_lost()


async def _joined_again(candidate: Candidate) -> bool:
    return [event["type"] for event in await candidate.events()].count("participant_joined") >= 2


async def test_webhooks_that_are_lost_are_made_up_for(world: World, candidate: Candidate) -> None:
    world.livekit.stop()
    webhook, world.livekit.webhook_url = world.livekit.webhook_url, None
    world.livekit.start()
    try:
        room = (await candidate.create(**LONG))["livekit"]
        await candidate.start()
        if room["token"] is None:  # the restart may have been noticed
            await happened(candidate, "livekit", 15, mode="live")
            room = (await candidate.post("token"))["livekit"]
        async with guest(room["url"], room["token"], namespace=world.namespace) as client:
            sid = await client.connected()
            await happened(candidate, "participant_joined", 15, connection=sid)
            await client.leave()
        await happened(candidate, "connection_lost", 40, connection=sid, reason="not_in_room")
        assert (await candidate.session())["status_detail"] == "connection_lost"
        session = (await candidate.answer(0, "here I am"))["session"]
        assert session["status_detail"] == "question_open"
        assert [line["cause"] for line in session["clock"]["ledger"]] == ["network"]
    finally:
        world.livekit.stop()
        world.livekit.webhook_url = webhook
        world.livekit.start()


async def test_a_webhook_that_is_not_livekits_changes_nothing(
    world: World, http: httpx.AsyncClient, candidate: Candidate
) -> None:
    room = (await candidate.create(**LONG))["livekit"]
    body = api.WebhookEvent(event="participant_left", id="EV_1")
    before = await candidate.events()
    for authorization in (None, "", "garbage", room["token"], f"Bearer {room['token']}"):
        headers = {"Authorization": authorization} if authorization is not None else {}
        answer = await http.post("/livekit/webhook", content=str(body), headers=headers)
        assert checked(answer, 401)["code"] == "unauthorized"
    assert await candidate.events() == before


async def test_a_recording_that_cannot_be_made_harms_no_interview(
    world: World, http: httpx.AsyncClient, candidate: Candidate
) -> None:
    await candidate.create(2, **LONG)
    assert (await candidate.start())["recording"]["status"] == "wanted"
    failed = await happened(candidate, "recording", 20, status="failed")
    assert "egress not connected" in failed["reason"]
    assert (await candidate.answer(0, "unrecorded"))["session"]["recording"]["status"] == "failed"

    # No egress service can be had here, so its words are ours, signed as LiveKit signs them.
    room = f"interview-{candidate.session_id}"
    begun = api.EgressInfo(room_name=room, egress_id="EG_1", status=api.EgressStatus.EGRESS_ACTIVE)
    await _send(http, api.WebhookEvent(event="egress_started", id="EV_a", egress_info=begun))
    assert (await candidate.session())["recording"]["status"] == "active"
    file = api.FileInfo(filename="a.mp4", location="s3://b/a.mp4", size=7, duration=3_000_000_000)
    over = api.EgressInfo(
        room_name=room, egress_id="EG_1", status=api.EgressStatus.EGRESS_COMPLETE, file_results=[file]
    )
    await candidate.post("end")
    await _send(http, api.WebhookEvent(event="egress_ended", id="EV_b", egress_info=over))
    kept = (await candidate.session())["recording"]
    assert kept["status"] == "ended"
    assert kept["files"] == [
        {"filename": "a.mp4", "location": "s3://b/a.mp4", "size": 7, "duration_seconds": 3.0},
    ]


async def _send(http: httpx.AsyncClient, event: api.WebhookEvent) -> None:
    body = MessageToJson(event)
    digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
    token = api.AccessToken(KEY, SECRET).with_sha256(digest).to_jwt()
    checked(await http.post("/livekit/webhook", content=body, headers={"Authorization": token}), 200)


async def test_a_deleted_session_has_no_room(world: World, http: httpx.AsyncClient) -> None:
    candidate = Candidate(http)
    await candidate.create()
    assert not await gone(world, candidate)
    checked(await candidate.request("DELETE", ""), 200)
    await until(lambda: gone(world, candidate), 5, "the room is gone")


async def test_a_session_far_ahead_has_its_room_when_it_is_needed(world: World, candidate: Candidate) -> None:
    made = await candidate.create(scheduled_at="2199-01-01T09:00:00Z", **LONG)
    assert made["livekit"]["mode"] == "live" and made["livekit"]["token"] is None
    assert await gone(world, candidate)
    assert (await candidate.post("token"))["livekit"]["token"]
    assert not await gone(world, candidate)


async def test_wrong_credentials_are_called_a_configuration_error(world: World) -> None:
    settings = Settings(_env_file=None).model_copy(  # pyright: ignore[reportCallIssue]
        update={"livekit_url": world.livekit.http_url, "livekit_api_key": KEY, "livekit_api_secret": _secret()}
    )
    livekit = LiveKit(settings, b"s" * 32)
    try:
        room = await livekit.open_room("0b7e7a0e-0000-4000-8000-000000000000")
        assert room.mode == "fallback" and "configuration error" in str(room.reason)
        await until(_async(lambda: livekit.away), 5, "nobody asks any more")
        assert livekit.status.startswith("configuration error: LiveKit refuses LIVEKIT_API_KEY")
    finally:
        await livekit.close()


def _secret() -> Any:
    from pydantic import SecretStr

    return SecretStr("another secret that is long enough for HMAC")


def _async(condition: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    async def asked() -> Any:
        return condition()

    return asked
