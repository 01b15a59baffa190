"""The gateway to LiveKit, against a stand-in on loopback that can fail in every way: tokens, webhooks, the breaker."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from aiohttp import web
from google.protobuf.message import Message
from livekit import api as lk
from pydantic import SecretStr

from orchestrator import livekit
from orchestrator.errors import Unauthorized
from orchestrator.interview.view import NO_LIVEKIT, room_name
from orchestrator.livekit import CALL_SECONDS, LiveKit, LiveKitAway, RoomEvent, RoomInfo, RoomState
from orchestrator.settings import Settings

KEY, SECRET, DEPLOYMENT = "devkey", "s" * 32, b"d" * 32
SESSION = "11111111-2222-4333-8444-555555555555"
ROOM = f"interview-{SESSION}"
IDENTITY = f"candidate-{SESSION}"
NOBODY = "ws://127.0.0.1:1"
ACTIVE, JOINED = lk.ParticipantInfo.State.ACTIVE, lk.ParticipantInfo.State.JOINED


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is set around here, and shorter waits."""
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "INTERVIEW_LIVEKIT_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(livekit, "CALL_SECONDS", 0.3)
    monkeypatch.setattr(livekit, "PROBE_SECONDS", (0.05, 0.1))


def gateway(url: str | None = NOBODY, key: str | None = KEY, secret: str | None = SECRET, **more: Any) -> LiveKit:
    hidden = SecretStr(secret) if secret else None
    given = Settings(livekit_url=url, livekit_api_key=key, livekit_api_secret=hidden, _env_file=None, **more)  # pyright: ignore[reportCallIssue]
    return LiveKit(given, DEPLOYMENT)


# Tokens


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, SECRET, algorithms=["HS256"])


def check_times(claims: dict[str, Any], expires_at: int) -> None:
    issued, expires = claims.pop("nbf"), claims.pop("exp")
    assert expires - issued in (3600, 3601), "the two are read off the clock one after the other"
    assert abs(issued - time.time()) < 5 and expires_at == expires * 1000


def test_the_candidates_token_says_this_and_nothing_else() -> None:
    ticket = gateway().candidate_ticket(SESSION)
    claims = claims_of(ticket.token)
    check_times(claims, ticket.expires_at)
    assert claims == {
        "iss": KEY,
        "sub": IDENTITY,
        "video": {
            "roomJoin": True,
            "room": ROOM,
            "canPublish": True,
            "canSubscribe": True,
            "canPublishData": True,
            "canPublishSources": ["camera", "microphone", "screen_share"],
        },
    }
    assert ticket.participant == IDENTITY
    assert jwt.get_unverified_header(ticket.token) == {"alg": "HS256", "typ": "JWT"}


def test_an_observer_is_hidden_and_cannot_publish() -> None:
    one, other = gateway().observer_ticket(SESSION), gateway().observer_ticket(SESSION)
    claims = claims_of(one.token)
    check_times(claims, one.expires_at)
    assert claims == {
        "iss": KEY,
        "sub": one.participant,
        "video": {
            "roomJoin": True,
            "room": ROOM,
            "hidden": True,
            "canPublish": False,
            "canSubscribe": True,
            "canPublishData": False,
        },
    }
    assert one.participant.startswith("observer-") and one.participant != other.participant


# Webhooks


def signature(body: bytes, key: str = KEY, secret: str = SECRET, **claims: Any) -> str:
    now = int(time.time())
    content = {"iss": key, "nbf": now, "exp": now + 300, "sha256": _digest(body), **claims}
    return jwt.encode({name: value for name, value in content.items() if value is not None}, secret, "HS256")


def _digest(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def webhook(event: str = "participant_joined", **more: Any) -> bytes:
    """As LiveKit writes it: protobuf's JSON."""
    participant = {"sid": "PA_1", "identity": IDENTITY, "state": "ACTIVE", "kind": "STANDARD"}
    participant |= more.pop("participant", {})
    content = {
        "event": event,
        "room": {"sid": "RM_1", "name": ROOM},
        "participant": participant,
        "id": "EV_1",
        "createdAt": "1700000000",
        **more,
    }
    return json.dumps(content).encode()


def received(body: bytes, authorization: str | None = None) -> RoomEvent:
    return gateway().receive(body, signature(body) if authorization is None else authorization)


def seen(event: RoomEvent) -> tuple[str, str | None, str | None, str]:
    return event.type, event.session_id, event.connection, event.reason


def refuses(body: bytes, authorization: str) -> bool:
    with pytest.raises(Unauthorized):
        gateway().receive(body, authorization)
    return True


def test_a_webhook_with_our_signature_is_read() -> None:
    event = received(webhook())
    assert seen(event) == ("participant_joined", SESSION, "PA_1", "unknown_reason")
    assert (event.id, event.at) == ("EV_1", 1_700_000_000_000)
    left = received(webhook("participant_left", participant={"disconnectReason": "SIGNAL_CLOSE"}))
    assert seen(left) == ("participant_left", SESSION, "PA_1", "signal_close")


def test_the_signature_may_come_as_a_bearer_token() -> None:
    body = webhook()
    for written in (f"Bearer {signature(body)}", f"Bearer  {signature(body)} ", f" {signature(body)}"):
        assert seen(received(body, written))[2] == "PA_1"


@pytest.mark.filterwarnings("ignore:The HMAC key")
def test_a_signature_that_is_not_ours_is_refused() -> None:
    body = webhook()
    assert refuses(body, signature(body, secret="t" * 32))
    assert refuses(body, signature(body, key="otherkey"))
    assert refuses(body, signature(body, iss=None))
    unsigned = jwt.encode({"iss": KEY, "exp": int(time.time()) + 300, "sha256": _digest(body)}, "", "none")
    assert refuses(body, unsigned)
    assert refuses(
        body, jwt.encode({"iss": KEY, "exp": int(time.time()) + 300, "sha256": _digest(body)}, SECRET, "HS512")
    )


def test_a_signature_counts_for_exactly_the_body_it_was_made_for() -> None:
    body = webhook()
    for tampered in (body + b" ", body.replace(b"PA_1", b"PA_2"), b"", b"{}"):
        assert refuses(tampered, signature(body))


@pytest.mark.parametrize("digest", [None, "", "x", "!!", "é", 5, ["x"], {"x": 1}, True, _digest(b"another")])
def test_a_token_without_the_bodys_digest_is_refused(digest: Any) -> None:
    body = webhook()
    assert refuses(body, signature(body, sha256=digest))


def test_a_digest_in_another_notation_is_refused() -> None:
    body = webhook()
    assert refuses(body, signature(body, sha256=hashlib.sha256(body).hexdigest()))
    assert refuses(body, signature(body, sha256=_digest(body).rstrip("=")))
    assert refuses(body, signature(body, sha256=f" {_digest(body)}"))


def test_tokens_for_rooms_are_no_webhook_tokens() -> None:
    for body in (webhook(), b""):
        assert refuses(body, gateway().candidate_ticket(SESSION).token)
        assert refuses(body, gateway().observer_ticket(SESSION).token)


def test_a_token_counts_for_its_time_and_a_minute_around_it() -> None:
    body, now = webhook(), int(time.time())
    assert received(body, signature(body, exp=now - 30))
    assert refuses(body, signature(body, exp=now - 90))
    assert received(body, signature(body, nbf=now + 30))
    assert refuses(body, signature(body, nbf=now + 90))
    assert refuses(body, signature(body, exp=None))
    assert refuses(body, signature(body, exp="soon"))
    assert refuses(body, signature(body, exp=float("inf")))


@pytest.mark.parametrize(
    "authorization",
    ["", " ", "Bearer", "Bearer ", "Basic eDp5", "x", "a.b.c", "..", "é.é.é", "\ud800", "\0", "ключ", "9" * 100_000],
)
def test_garbage_is_refused(authorization: str) -> None:
    assert refuses(webhook(), authorization)
    assert refuses(b"", authorization)


def test_a_token_made_to_exhaust_the_reader_is_refused() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 30_000).decode().rstrip("=")
    assert refuses(webhook(), f"{deep}.e30.x")
    assert refuses(webhook(), f"e30.{deep}.x")


def test_without_a_key_nothing_is_a_webhook() -> None:
    body = webhook()
    for half in (gateway(key=None), gateway(secret=None), gateway(url=None), gateway(None, None, None)):
        for given in (signature(body), signature(body, key=""), ""):
            with pytest.raises(Unauthorized):
                half.receive(body, given)


def nothing(event: RoomEvent) -> bool:
    return event.session_id is None and event.connection is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"1", b'"x"', b'{"room": 5}', b'{"createdAt": "9" }', b"[" * 5_000, b"\xef\xbb\xbf{}"],
)
def test_a_signed_body_that_is_no_event_is_an_event_of_nothing(body: bytes) -> None:
    assert nothing(received(body))


@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"event": "\xff"}', webhook().replace(b"PA_1", b"\xc3\x28")])
def test_a_body_that_is_no_utf8(body: bytes) -> None:
    assert refuses(body, signature(b"{}"))
    assert nothing(received(body))


def test_events_and_fields_of_tomorrow_are_taken() -> None:
    body = webhook("room_dreamt_of", dream={"of": ["sheep"]}, participant={"mood": "good", "disconnectReason": "MOON"})
    assert seen(received(body)) == ("room_dreamt_of", SESSION, "PA_1", "unknown_reason")
    assert received(webhook(participant={"disconnectReason": 999})).reason == "unknown_reason"


@pytest.mark.parametrize(
    "name",
    ["", "lobby", f"x{ROOM}", f"{ROOM}x", f"{ROOM}\n", ROOM.upper(), "interview-", "interview-1", f" {ROOM}", SESSION],
)
def test_rooms_that_are_no_interviews(name: str) -> None:
    event = received(webhook(room={"name": name}))
    assert nothing(event) and event.type == "participant_joined"


OTHER = str(uuid.UUID(int=7))


@pytest.mark.parametrize(
    "participant",
    [
        {"identity": "observer-1"},
        {"identity": ""},
        {"identity": f"candidate-{OTHER}"},
        {"identity": f"{IDENTITY} "},
        {"identity": IDENTITY.upper()},
        {"sid": ""},
        {"kind": "AGENT"},
        {"kind": "EGRESS"},
        {"kind": "INGRESS"},
        {"kind": "SIP"},
        {"kind": 77},
    ],
)
def test_others_in_the_room_are_not_the_candidate(participant: dict[str, Any]) -> None:
    event = received(webhook(participant=participant))
    assert (event.session_id, event.connection) == (SESSION, None)


def test_news_of_a_room_are_about_nobody() -> None:
    body = json.dumps({"event": "room_started", "room": {"name": ROOM}, "id": "EV_2", "createdAt": "5"}).encode()
    assert seen(received(body)) == ("room_started", SESSION, None, "unknown_reason")


# Calls


class Server:
    """LiveKit's room service, as far as it is needed. `mode` says what happens to calls."""

    def __init__(self) -> None:
        self.mode = "ok"
        self.calls: list[tuple[str, bytes, str]] = []
        self.rooms: list[lk.Room] = []
        self.participants: list[lk.ParticipantInfo] = []
        self.known = True
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, method: str) -> int:
        return sum(called == method for called, _, _ in self.calls)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/twirp/livekit.RoomService/{method}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def becomes(self, mode: str) -> None:
        """`refuse` is nobody listening."""
        self.mode = mode
        if mode == "refuse":
            await self.stop()
        elif self._runner is None:
            await self.start()

    async def _serve(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        self.calls.append((method, await request.read(), request.headers.get("Authorization", "")))
        if self.mode == "hang":
            await asyncio.sleep(30)
        if self.mode == "once 500":
            self.mode = "ok"
            return self._error(500, "internal")
        answers = {
            "500": lambda: self._error(500, "internal"),
            "503 html": lambda: web.Response(status=503, text="<html>", content_type="text/html"),
            "401": lambda: web.Response(status=401, text="invalid API key: devkey"),
            "unauthenticated": lambda: self._error(401, "unauthenticated"),
            "permission_denied": lambda: self._error(403, "permission_denied"),
            "404 html": lambda: web.Response(status=404, text="<html>nothing here</html>", content_type="text/html"),
            "bad_route": lambda: self._error(404, "bad_route"),
            "429": lambda: self._error(429, "resource_exhausted"),
            "200 html": lambda: web.Response(text="<!doctype html><html>Welcome</html>", content_type="text/html"),
            "404 list": lambda: web.json_response(["x"], status=404),
            "503 null": lambda: web.json_response(None, status=503),
            "half": lambda: self._answer(method) if method == "ListRooms" else self._error(500, "internal"),
            "invalid": lambda: self._error(400, "invalid_argument"),
        }
        return answers[self.mode]() if self.mode in answers else self._answer(method)

    def _answer(self, method: str) -> web.Response:
        if method in ("DeleteRoom", "ListParticipants") and not self.known:
            return self._error(404, "not_found")
        answers: dict[str, Message] = {
            "CreateRoom": lk.Room(name="x"),
            "DeleteRoom": lk.DeleteRoomResponse(),
            "ListRooms": lk.ListRoomsResponse(rooms=self.rooms),
            "ListParticipants": lk.ListParticipantsResponse(participants=self.participants),
        }
        return web.Response(body=answers[method].SerializeToString(), content_type="application/protobuf")

    @staticmethod
    def _error(status: int, code: str) -> web.Response:
        return web.json_response({"code": code, "msg": "why"}, status=status)


@asynccontextmanager
async def world(**more: Any) -> AsyncIterator[tuple[Server, LiveKit]]:
    server = Server()
    await server.start()
    client = gateway(server.url, **more)
    try:
        yield server, client
    finally:
        await client.close()
        await server.stop()


async def until_away(client: LiveKit) -> None:
    async with asyncio.timeout(3):
        while client.away is None:
            await asyncio.sleep(0.01)


async def until_back(client: LiveKit) -> None:
    async with asyncio.timeout(3):
        while client.away is not None:
            await asyncio.sleep(0.01)


async def timed(call: Any) -> tuple[float, Any]:
    began = time.monotonic()
    result = await call
    return time.monotonic() - began, result


async def test_a_room_is_asked_for_as_it_is_to_be() -> None:
    async with world() as (server, client):
        room = await client.open_room(SESSION)
        assert room == RoomState("live", server.url.replace("http", "ws"))
        (method, body, authorization), *more = server.calls
        assert method == "CreateRoom" and more == []
        asked = lk.CreateRoomRequest.FromString(body)
        assert asked.name == ROOM and asked.empty_timeout >= 3600 and asked.departure_timeout > 180
        assert set(json.loads(asked.metadata)) == {"deployment"}
        claims = claims_of(authorization.removeprefix("Bearer "))
        assert claims["iss"] == KEY and claims["video"]["roomCreate"] is True
        assert client.status == "ok"


async def test_a_room_is_removed_whether_it_is_there_or_not() -> None:
    async with world() as (server, client):
        assert await client.close_room(SESSION)
        assert lk.DeleteRoomRequest.FromString(server.calls[0][1]).room == ROOM
        server.known = False
        assert await client.close_room(SESSION)
        for mode in ("404 html", "invalid", "500"):
            server.mode = mode
            assert not await client.close_room(SESSION)


async def test_rooms_are_told_apart() -> None:
    async with world() as (server, client):
        await client.open_room(SESSION)
        ours = lk.CreateRoomRequest.FromString(server.calls[0][1]).metadata
        theirs = [OTHER, *(str(uuid.UUID(int=n)) for n in range(8, 13))]
        strange = ['{"deployment": "another"}', "", "no json", "[]", "5", '{"deployment": 5}']
        server.rooms = [
            lk.Room(name=ROOM, num_participants=2, creation_time=1_700_000_000, metadata=ours),
            *(lk.Room(name=room_name(s), metadata=m) for s, m in zip(theirs, strange, strict=True)),
            lk.Room(name="lobby", metadata=ours),
        ]
        rooms = await client.rooms()
        assert rooms[0] == RoomInfo(SESSION, 2, True, 1_700_000_000_000)
        assert [(room.session_id, room.ours) for room in rooms[1:]] == [(s, False) for s in theirs]


async def test_the_candidates_connections_are_those_that_are_up() -> None:
    async with world() as (server, client):
        server.participants = [
            lk.ParticipantInfo(sid="PA_1", identity=IDENTITY, state=ACTIVE),
            lk.ParticipantInfo(sid="PA_2", identity=IDENTITY, state=JOINED),
            lk.ParticipantInfo(sid="PA_3", identity=IDENTITY, state=ACTIVE, kind=lk.ParticipantInfo.Kind.AGENT),
            lk.ParticipantInfo(sid="PA_4", identity="observer-1", state=ACTIVE),
            lk.ParticipantInfo(sid="PA_5", identity=f"candidate-{OTHER}", state=ACTIVE),
        ]
        assert await client.connections(SESSION) == ["PA_1"]
        server.known = False
        assert await client.connections(SESSION) == []
        server.mode = "500"
        with pytest.raises(LiveKitAway):
            await client.connections(SESSION)


FAILURES = {
    "hang": "LiveKit does not answer.",
    "refuse": "LiveKit cannot be reached.",
    "500": "LiveKit answers 500 (internal).",
    "503 html": "LiveKit answers 503 (unknown).",
    "bad_route": "LiveKit answers 404 (bad_route).",
    "429": "LiveKit answers 429 (resource_exhausted).",
}


@pytest.mark.parametrize("mode", FAILURES)
async def test_nobody_waits_for_a_livekit_that_is_away_and_it_is_found_again(mode: str) -> None:
    async with world() as (server, client):
        assert (await client.open_room(SESSION)).mode == "live"
        await server.becomes(mode)
        took, room = await timed(client.open_room(SESSION))
        assert room == RoomState("fallback", reason=FAILURES[mode]) and took < 0.3 + 0.2
        await until_away(client)
        assert client.status == f"fallback: {FAILURES[mode]}" and client.problem is None
        asked = server.count("CreateRoom")
        took, rooms = await timed(asyncio.gather(*(client.open_room(SESSION) for _ in range(50))))
        assert took < 0.05 and {room.mode for room in rooms} == {"fallback"}
        assert not await client.close_room(SESSION)
        with pytest.raises(LiveKitAway):
            await client.rooms()
        assert server.count("CreateRoom") == asked, "only the probe asks"
        await server.becomes("ok")
        await until_back(client)
        assert client.status == "ok"
        assert (await client.open_room(SESSION)).mode == "live"


async def test_calls_at_once_wait_at_once() -> None:
    async with world() as (server, client):
        server.mode = "hang"
        took, rooms = await timed(asyncio.gather(*(client.open_room(SESSION) for _ in range(50))))
        assert took < 0.3 + 0.3 and {room.mode for room in rooms} == {"fallback"}


async def test_the_longest_that_anybody_waits_is_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livekit, "CALL_SECONDS", CALL_SECONDS)
    async with world() as (server, client):
        server.mode = "hang"
        took, room = await timed(client.open_room(SESSION))
        assert took < 2.0 and room.reason == "LiveKit does not answer."


async def test_one_call_that_failed_is_not_a_livekit_that_is_away() -> None:
    async with world() as (server, client):
        server.mode = "once 500"
        assert (await client.open_room(SESSION)).mode == "fallback"
        await asyncio.sleep(0.1)
        assert server.count("ListRooms") == 1, "it was seen at once that it can be used"
        assert client.away is None and (await client.open_room(SESSION)).mode == "live"


@pytest.mark.parametrize("mode", ["401", "unauthenticated", "permission_denied"])
async def test_a_key_that_is_refused_is_a_configuration_error_until_it_is_not(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(livekit, "CALL_SECONDS", CALL_SECONDS)
    async with world() as (server, client):
        server.mode = mode
        room = await client.open_room(SESSION)
        assert room.mode == "fallback" and "configuration error" in (room.reason or "")
        await until_away(client)
        assert client.problem is not None and "LIVEKIT_API_SECRET" in client.problem
        assert client.status.startswith("configuration error: ")
        assert SECRET not in client.status and SECRET not in (room.reason or "")
        server.mode = "500"
        async with asyncio.timeout(3):
            while client.problem is not None:
                await asyncio.sleep(0.01)
        assert client.status == "fallback: LiveKit answers 500 (internal)."
        server.mode = "ok"
        await until_back(client)
        assert client.problem is None and client.status == "ok"


async def test_a_key_that_is_accepted_again_is_a_problem_no_more() -> None:
    async with world() as (server, client):
        server.mode = "401"
        client.start()
        await until_away(client)
        assert client.problem is not None
        server.mode = "ok"
        await until_back(client)
        assert client.problem is None and client.status == "ok"


@pytest.mark.parametrize("mode", ["404 html", "200 html", "404 list", "503 null"])
async def test_an_address_where_something_else_lives(mode: str) -> None:
    async with world() as (server, client):
        server.mode = mode
        room = await client.open_room(SESSION)
        assert room.mode == "fallback" and room.reason
        assert not await client.close_room(SESSION)
        client.start()
        await until_away(client)
        assert client.status.startswith("fallback: ")
        server.mode = "ok"
        await until_back(client)
        assert (await client.open_room(SESSION)).mode == "live"


async def test_small_questions_are_answered_but_no_room_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livekit, "COOLING_SECONDS", 0.3)
    async with world() as (server, client):
        server.mode = "half"
        for _ in range(livekit.FAILURES):
            assert client.away is None
            await client.open_room(SESSION)
            await asyncio.sleep(0.05)
        assert client.away is not None and server.count("CreateRoom") == livekit.FAILURES
        await client.open_room(SESSION)
        assert server.count("CreateRoom") == livekit.FAILURES, "nobody waits for it"
        await until_back(client)
        await client.open_room(SESSION)
        await until_away(client)
        server.mode = "ok"
        await until_back(client)
        assert (await client.open_room(SESSION)).mode == "live"


def test_a_token_of_a_newer_link_says_so_and_webhooks_tell_it() -> None:
    ticket = gateway().candidate_ticket(SESSION, 3)
    assert jwt.decode(ticket.token, options={"verify_signature": False})["attributes"] == {"link": "3"}
    assert received(webhook()).link == 1
    assert received(webhook(participant={"attributes": {"link": "3"}})).link == 3
    assert received(webhook(participant={"attributes": {"link": "x"}})).link == 0


async def test_who_came_in_by_an_older_link_is_not_the_candidate() -> None:
    async with world() as (server, client):
        for sid, link in (("PA_1", None), ("PA_2", "2")):
            one = lk.ParticipantInfo(sid=sid, identity=IDENTITY, state=lk.ParticipantInfo.State.ACTIVE)
            if link:
                one.attributes["link"] = link
            server.participants.append(one)
        assert await client.connections(SESSION) == ["PA_1"]
        assert await client.connections(SESSION, 2) == ["PA_2"]


async def test_a_room_that_cannot_be_made_says_nothing_about_livekit() -> None:
    async with world() as (server, client):
        server.mode = "invalid"
        room = await client.open_room(SESSION)
        assert room == RoomState("fallback", reason="LiveKit did not make the room (invalid_argument).")
        assert client.away is None and server.count("ListRooms") == 0


async def test_it_is_looked_for_at_the_start() -> None:
    async with world() as (server, client):
        await server.becomes("refuse")
        client.start()
        await until_away(client)
        assert (await timed(client.open_room(SESSION)))[0] < 0.05
        await server.becomes("ok")
        await until_back(client)


async def test_how_long_it_is_away_is_counted_from_the_first_failure() -> None:
    async with world() as (server, client):
        server.mode = "500"
        client.start()
        await until_away(client)
        since = client.away_since
        assert abs(asyncio.get_running_loop().time() - since) < 0.5
        server.mode = "401"
        async with asyncio.timeout(3):
            while client.problem is None:
                await asyncio.sleep(0.01)
        assert client.away_since == since


async def test_closing_ends_the_probe() -> None:
    async with world() as (server, client):
        server.mode = "500"
        client.start()
        await until_away(client)
        await client.close()
        await asyncio.sleep(0)
        asked = len(server.calls)
        await asyncio.sleep(0.3)
        assert len(server.calls) == asked


# Configuration


async def test_without_livekit_everything_is_fallback() -> None:
    client = gateway(None, None, None)
    client.start()
    assert not client.configured and client.problem is None and client.status == "not configured"
    assert await client.open_room(SESSION) == RoomState("fallback", reason=NO_LIVEKIT)
    assert not await client.close_room(SESSION)
    with pytest.raises(LiveKitAway):
        await client.rooms()
    with pytest.raises(LiveKitAway):
        await client.connections(SESSION)
    await client.close()


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ((NOBODY, KEY, None), "LIVEKIT_API_SECRET is not set"),
        ((NOBODY, None, SECRET), "LIVEKIT_API_KEY is not set"),
        ((None, KEY, SECRET), "LIVEKIT_URL is not set"),
        ((NOBODY, None, None), "LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set"),
        ((None, None, SECRET), "LIVEKIT_URL and LIVEKIT_API_KEY are not set"),
    ],
)
async def test_half_a_configuration_is_an_error_that_names_what_is_missing(
    given: tuple[str | None, str | None, str | None], missing: str
) -> None:
    client = gateway(*given)
    client.start()
    assert client.status.startswith(f"configuration error: {missing}")
    room = await client.open_room(SESSION)
    assert room.mode == "fallback" and (room.reason or "").startswith(missing)
    await client.close()


@pytest.mark.parametrize(
    ("url", "public", "expected"),
    [
        ("http://livekit:7880", None, "ws://livekit:7880"),
        ("https://livekit.example.com", None, "wss://livekit.example.com"),
        ("ws://livekit:7880", None, "ws://livekit:7880"),
        ("wss://livekit.example.com/x", None, "wss://livekit.example.com/x"),
        ("http://livekit:7880", "wss://video.example.com", "wss://video.example.com"),
        ("http://livekit:7880", "https://video.example.com/lk", "wss://video.example.com/lk"),
    ],
)
def test_clients_are_given_a_websocket_address(url: str, public: str | None, expected: str) -> None:
    assert gateway(url, livekit_public_url=public).public_url == expected


async def test_calls_go_to_our_address_and_clients_to_the_public_one() -> None:
    async with world(livekit_public_url="https://video.example.com") as (server, client):
        assert await client.open_room(SESSION) == RoomState("live", "wss://video.example.com")
        assert server.count("CreateRoom") == 1


@pytest.mark.parametrize("url", ["127.0.0.1:1", "ws://", "nonsense", "http://[::1", "ws://127.0.0.1:99999", "ftp://x"])
async def test_an_address_that_is_none_is_fallback_too(url: str) -> None:
    client = gateway(url)
    took, room = await timed(client.open_room(SESSION))
    assert room.mode == "fallback" and room.reason and took < 0.6
    await until_away(client)
    await client.close()
