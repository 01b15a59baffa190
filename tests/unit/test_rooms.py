"""Sessions and their LiveKit rooms: the calls that give tokens, webhooks, and what is found out without them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import jwt
import pytest
from pydantic import SecretStr

from actors import room_keeper, rooms
from actors.housekeeper import _each
from actors.room_keeper import AWAY_SECONDS, FULL_LOOK_EVERY, MISSING_MS, NEW_ROOM_MS, RoomKeeper
from orchestrator.errors import NotFound, Unavailable
from orchestrator.interview import commands as c
from orchestrator.interview.decide import created, decide, plan, room_event
from orchestrator.interview.entry import new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.snapshot import Snapshot
from orchestrator.interview.state import State, snapshot_of
from orchestrator.interview.view import NO_LIVEKIT, room_name
from orchestrator.journal import Loaded
from orchestrator.livekit import LiveKit, LiveKitAway, RoomInfo, RoomState
from orchestrator.session import Reply
from orchestrator.settings import Settings
from tests.unit.api_world import BASE, BODY, MemoryClient, MemoryStore, api, make
from tests.unit.test_imports import ROOT, SOURCES, tops
from tests.unit.world import STAFF, T0, Clock, create_command

KEY, SECRET = "devkey", "s" * 32
URL = "ws://livekit.test"
LIVE = RoomState("live", url=URL)
AWAY = RoomState("fallback", reason="LiveKit does not answer.")
WEBHOOK = f"{BASE}/livekit/webhook"


def livekit_settings(**more: Any) -> Settings:
    given = {"livekit_url": URL, "livekit_api_key": KEY, "livekit_api_secret": SecretStr(SECRET), **more}
    return Settings(**given, _env_file=None)  # pyright: ignore[reportCallIssue]


class Store(MemoryStore):
    """With sessions that were deleted."""

    def __init__(self, states: dict[str, State]) -> None:
        super().__init__(states)
        self.deleted: set[str] = set()

    async def is_deleted(self, session_id: str) -> bool:
        return session_id in self.deleted


class Client(MemoryClient):
    """What routes call, where a command's id is kept; `sent` is what was asked of sessions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.store = self.kept = Store(self.states)
        self.sent: list[c.Command] = []

    async def send(
        self, session_id: str, command: c.Command, caller: c.Caller, command_id: str | None = None, *_: Any
    ) -> Reply:
        self.sent.append(command)
        if self.failure is not None:
            raise self.failure
        state = await self.read(session_id)
        planned = plan(state, command, caller, command_id, T0 + 1000)
        if planned.events:
            entry = new_entry(session_id, state.next_seq, 0, T0 + 1000, planned.events, command=planned.command)
            self.states[session_id] = fold(state, entry)
        return self._reply(session_id, caller, planned.replayed)


class Server:
    """What stands in for LiveKit: `room` is what opening one comes to, None: as the gateway itself does it."""

    def __init__(self) -> None:
        self.room: RoomState | None = LIVE
        self.closes = True
        self.opened: list[str] = []
        self.closed: list[str] = []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    stand_in, real = Server(), LiveKit.open_room

    async def open_room(self: LiveKit, session_id: str) -> RoomState:
        stand_in.opened.append(session_id)
        return await real(self, session_id) if stand_in.room is None else stand_in.room

    async def close_room(self: LiveKit, session_id: str) -> bool:
        stand_in.closed.append(session_id)
        return stand_in.closes

    monkeypatch.setattr(LiveKit, "open_room", open_room)
    monkeypatch.setattr(LiveKit, "close_room", close_room)
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "INTERVIEW_LIVEKIT_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    return stand_in


def with_livekit() -> Client:
    return Client(settings=livekit_settings())


def without_livekit() -> Client:
    return Client(settings=Settings(_env_file=None))  # pyright: ignore[reportCallIssue]


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, SECRET, algorithms=["HS256"])


async def create(http: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await http.post(f"{BASE}/create", json={**BODY, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def call(http: httpx.AsyncClient, session_id: str, what: str, body: Any = None, **headers: str) -> httpx.Response:
    return await http.post(f"{BASE}/session/{session_id}/{what}", json=body, headers=headers)


async def ticket(http: httpx.AsyncClient, session_id: str, body: Any = None) -> dict[str, Any]:
    answer = await call(http, session_id, "token", body)
    assert answer.status_code == 200, answer.text
    return answer.json()["livekit"]


# Creating a session


async def test_a_new_session_has_its_room_and_the_first_token(server: Server) -> None:
    async with api(with_livekit()) as (http, client):
        answer = await create(http)
        session_id, given = answer["session_id"], answer["livekit"]
        assert server.opened == [session_id]
        assert claims_of(given.pop("token"))["video"]["room"] == room_name(session_id)
        expires = datetime.fromisoformat(given.pop("expires_at"))
        assert timedelta(minutes=59) < expires - datetime.now(UTC) <= timedelta(hours=1, seconds=1)
        assert given == {
            "mode": "live",
            "url": URL,
            "room": room_name(session_id),
            "participant": f"candidate-{session_id}",
            "reason": None,
        }
        state = client.states[session_id]
        assert (state.room.mode, state.room.url, state.room_work) == ("live", URL, "open")
        assert answer["session"]["livekit"]["mode"] == "live"


async def test_a_session_is_made_without_a_room_if_there_can_be_none(server: Server) -> None:
    server.room = AWAY
    async with api(with_livekit()) as (http, client):
        answer = await create(http)
        given = answer["livekit"]
        assert (given["mode"], given["url"], given["reason"]) == ("fallback", None, AWAY.reason)
        assert given["token"] is None and given["expires_at"] is None
        assert answer["session"]["livekit"]["token_url"] is None
        assert client.states[answer["session_id"]].room_work == "wanted"


async def test_without_livekit_nothing_is_said_in_the_journal(server: Server) -> None:
    async with api(without_livekit()) as (http, client):
        answer = await create(http)
        given = answer["livekit"]
        assert (given["mode"], given["token"], given["reason"]) == ("fallback", None, NO_LIVEKIT)
        assert server.opened == [] and client.states[answer["session_id"]].seq == 1


async def test_the_room_of_a_session_of_tomorrow_is_made_when_it_is_needed(server: Server) -> None:
    async with api(with_livekit()) as (http, client):
        answer = await create(http, scheduled_at=in_hours(24))
        session_id, given = answer["session_id"], answer["livekit"]
        assert server.opened == [] and (given["mode"], given["url"], given["token"]) == ("live", URL, None)
        assert given["reason"] and answer["session"]["livekit"]["token_url"]
        assert client.states[session_id].room_work == "later"
        soon = await create(http, scheduled_at=in_hours(0.05))
        assert server.opened == [soon["session_id"]] and soon["livekit"]["token"]
        server.opened.clear()
        assert (await ticket(http, session_id))["mode"] == "live"
        assert server.opened == [session_id] and client.states[session_id].room.mode == "live"


async def test_creating_again_with_the_same_key_gives_a_token_for_the_same_room(server: Server) -> None:
    async with api(with_livekit()) as (http, _):
        first, again = [await make(http, **{"Idempotency-Key": "k"}) for _ in range(2)]
        assert first["session_id"] == again["session_id"] and len(server.opened) == 1
        assert claims_of(again["livekit"]["token"])["sub"] == f"candidate-{first['session_id']}"
        await call(http, first["session_id"], "end")
        ended = await make(http, **{"Idempotency-Key": "k"})
        assert ended["livekit"]["token"] is None


# Tokens


async def test_a_fresh_token_writes_nothing_while_the_room_is_as_it_was(server: Server) -> None:
    async with api(with_livekit()) as (http, client):
        session_id = (await create(http))["session_id"]
        before = client.states[session_id]
        for _ in range(2):
            given = await ticket(http, session_id, {"role": "candidate"})
            assert claims_of(given["token"])["sub"] == given["participant"] == f"candidate-{session_id}"
        assert client.states[session_id] == before and len(server.opened) == 3


async def test_the_journal_says_when_there_was_no_video(server: Server) -> None:
    async with api(with_livekit()) as (http, client):
        session_id = (await create(http))["session_id"]
        server.room = AWAY
        for _ in range(2):
            given = await ticket(http, session_id)
            assert (given["mode"], given["token"], given["url"]) == ("fallback", None, None)
            assert given["reason"] == AWAY.reason and given["participant"] == f"candidate-{session_id}"
        assert client.states[session_id].seq == 3 and client.states[session_id].room.mode == "fallback"
        server.room = LIVE
        assert (await ticket(http, session_id))["token"]
        assert client.states[session_id].seq == 4 and client.states[session_id].room.url == URL


async def test_a_token_without_livekit(server: Server) -> None:
    server.room = None
    async with api(without_livekit()) as (http, client):
        session_id = (await create(http))["session_id"]
        given = await ticket(http, session_id)
        assert (given["mode"], given["token"], given["reason"]) == ("fallback", None, NO_LIVEKIT)
        assert client.states[session_id].seq == 1


async def test_a_room_of_before_livekit_was_taken_away_is_said_to_be_gone(server: Server) -> None:
    server.room = None
    client = without_livekit()
    known = "0d3c1f7e-5b61-4a53-9f0e-7b1f2f7a9c11"
    client.states[known] = waiting(known, room_event("live", URL, None))
    async with api(client) as (http, _):
        given = await ticket(http, known)
        assert (given["mode"], given["reason"]) == ("fallback", NO_LIVEKIT)
        assert client.states[known].room.mode == "fallback"


async def test_after_the_end_there_is_no_token_and_no_room_is_made(server: Server) -> None:
    async with api(with_livekit()) as (http, _):
        session_id = (await create(http))["session_id"]
        await call(http, session_id, "end")
        server.opened.clear()
        answer = await call(http, session_id, "token")
        assert answer.status_code == 409 and answer.json()["current_status"] == "completed"
        assert "token" not in answer.json()["allowed_actions"] and server.opened == []


async def test_an_observers_token_is_for_staff(server: Server) -> None:
    async with api(with_livekit(), key="staff-key") as (http, _):
        answer = await make(http, **{"X-API-Key": "staff-key"})
        session_id, candidate = answer["session_id"], {"Authorization": f"Bearer {answer['candidate_token']}"}
        refused = await call(http, session_id, "token", {"role": "observer"}, **candidate)
        assert refused.status_code == 403
        own = await call(http, session_id, "token", None, **candidate)
        assert claims_of(own.json()["livekit"]["token"])["sub"] == f"candidate-{session_id}"
        staff = await call(http, session_id, "token", {"role": "observer"}, **{"X-API-Key": "staff-key"})
        given = staff.json()["livekit"]
        claims = claims_of(given["token"])
        assert claims["video"]["hidden"] and claims["sub"] == given["participant"] != f"candidate-{session_id}"
        assert (await call(http, session_id, "token")).status_code == 401


async def test_tokens_that_are_asked_for_wrongly(server: Server) -> None:
    async with api(with_livekit()) as (http, _):
        session_id = (await create(http))["session_id"]
        assert (await call(http, "11111111-2222-4333-8444-555555555555", "token")).status_code == 404
        assert (await call(http, session_id, "token", {"role": "admin"})).status_code == 400
        assert len(server.opened) == 1


async def test_a_token_while_the_session_cannot_be_reached(server: Server) -> None:
    async with api(with_livekit()) as (http, client):
        session_id = (await create(http))["session_id"]
        client.failure = Unavailable("away", retry_after=1)
        assert (await ticket(http, session_id))["token"], "nothing is to be written, so nothing is needed of it"


# Webhooks


def news(session_id: str, event: str = "participant_joined", event_id: str = "EV_1", **more: Any) -> dict[str, Any]:
    identity = more.pop("identity", f"candidate-{session_id}")
    participant = {"sid": more.pop("sid", "PA_1"), "identity": identity, "kind": "STANDARD"}
    if "reason" in more:
        participant["disconnectReason"] = more.pop("reason")
    at = str(more.pop("at", int(time.time())))
    return {"event": event, "id": event_id, "createdAt": at, "room": {"name": room_name(session_id)}} | {
        "participant": participant,
        **more,
    }


async def post(http: httpx.AsyncClient, content: dict[str, Any], secret: str = SECRET) -> httpx.Response:
    body = json.dumps(content).encode()
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    token = jwt.encode({"iss": KEY, "exp": int(time.time()) + 300, "sha256": digest}, secret, "HS256")
    headers = {"Authorization": token, "Content-Type": "application/webhook+json"}
    return await http.post(WEBHOOK, content=body, headers=headers)


async def noted(http: httpx.AsyncClient, content: dict[str, Any]) -> bool:
    answer = await post(http, content)
    assert answer.status_code == 200 and answer.json()["status"] == "success", answer.text
    await asyncio.sleep(0.01)  # a room is removed after the answer
    return answer.json()["noted"]


async def test_webhooks_tell_who_is_there(server: Server) -> None:
    async with api(with_livekit(), key="staff-key") as (http, client):
        session_id = (await make(http, **{"X-API-Key": "staff-key"}))["session_id"]
        assert await noted(http, news(session_id))
        assert client.states[session_id].presence.here == (("livekit", "PA_1"),)
        assert await noted(http, news(session_id, "participant_left", "EV_2", reason="CLIENT_INITIATED"))
        assert client.states[session_id].presence.here == ()
        assert server.closed == []


async def test_a_lost_connection_stops_the_clock_and_the_next_one_lets_it_go_on(server: Server) -> None:
    async with api(with_livekit()) as (http, client):
        session_id = (await create(http))["session_id"]
        await noted(http, news(session_id))
        await call(http, session_id, "start")
        await noted(http, news(session_id, "participant_left", "EV_2", reason="CONNECTION_TIMEOUT"))
        question = client.states[session_id].open
        assert question is not None and question.lost_at is not None and question.lost_limit_ms == 180_000
        await noted(http, news(session_id, "participant_joined", "EV_3", sid="PA_2"))
        question = client.states[session_id].open
        assert question is not None and question.lost_at is None


async def test_a_webhook_that_comes_again_changes_nothing(server: Server) -> None:
    async with api(with_livekit()) as (http, client):
        session_id = (await create(http))["session_id"]
        await noted(http, news(session_id))
        await noted(http, news(session_id, "participant_left", "EV_2", reason="SIGNAL_CLOSE", at=1_700_000_000))
        before = client.states[session_id]
        await noted(http, news(session_id))
        await noted(http, news(session_id, "participant_left", "EV_2", reason="SIGNAL_CLOSE", at=1_700_000_000))
        assert not await noted(http, news(session_id, sid="PA_9")), "an id that was given twice"
        assert client.states[session_id] == before


async def test_webhooks_that_are_not_livekits_are_refused(server: Server) -> None:
    async with api(with_livekit()) as (http, client):
        answer = await create(http)
        session_id = answer["session_id"]
        refused = await post(http, news(session_id), secret="t" * 32)
        assert refused.status_code == 401 and refused.headers["content-type"] == "application/problem+json"
        for authorization in ("", "x", answer["livekit"]["token"], answer["candidate_token"]):
            headers = {"Authorization": authorization}
            assert (await http.post(WEBHOOK, json=news(session_id), headers=headers)).status_code == 401
        assert (await http.post(WEBHOOK, json=news(session_id))).status_code == 401
        assert (await http.get(WEBHOOK)).status_code == 405
        assert client.states[session_id].presence.here == () and cast(Client, client).sent == []


async def test_without_livekit_there_are_no_webhooks(server: Server) -> None:
    async with api(without_livekit()) as (http, _):
        session_id = (await create(http))["session_id"]
        assert (await post(http, news(session_id))).status_code == 401


@pytest.mark.parametrize(
    "more",
    [
        {"event": "track_published"},
        {"event": "room_started"},
        {"event": "room_finished"},
        {"event": "something_new"},
        {"event": ""},
        {"identity": "observer-1"},
        {"sid": ""},
        {"room": {"name": "lobby"}},
        {"room": {}},
    ],
)
async def test_what_means_nothing_is_taken_and_forgotten(server: Server, more: dict[str, Any]) -> None:
    async with api(with_livekit()) as (http, client):
        session_id = (await create(http))["session_id"]
        assert not await noted(http, news(session_id, **more))
        assert cast(Client, client).sent == [] and server.closed == []


async def test_news_of_sessions_that_are_not_ours(server: Server) -> None:
    async with api(with_livekit()) as (http, client):
        unknown, deleted = "11111111-2222-4333-8444-555555555555", "21111111-2222-4333-8444-555555555555"
        cast(Client, client).kept.deleted.add(deleted)
        for event in ("participant_joined", "participant_left", "room_started"):
            assert not await noted(http, news(unknown, event, f"EV_{event}"))
        assert server.closed == []
        assert not await noted(http, news(deleted))
        assert not await noted(http, news(deleted, "room_started", "EV_2"))
        assert not await noted(http, news(deleted, "participant_left", "EV_3"))
        assert server.closed == [deleted, deleted]


async def test_whoever_comes_in_again_after_the_end_is_put_out(server: Server) -> None:
    async with api(with_livekit()) as (http, client):
        session_id = (await create(http))["session_id"]
        await call(http, session_id, "end")
        before = client.states[session_id]
        assert not await noted(http, news(session_id, "participant_left", "EV_1"))
        assert server.closed == []
        assert not await noted(http, news(session_id, "participant_joined", "EV_2"))
        assert not await noted(http, news(session_id, "room_started", "EV_3"))
        assert not await noted(http, news(session_id, "participant_joined", "EV_4", identity="observer-1"))
        assert server.closed == [session_id] * 3
        assert client.states[session_id] == before


async def test_livekit_sends_again_what_could_not_be_noted(server: Server) -> None:
    async with api(with_livekit()) as (http, client):
        session_id = (await create(http))["session_id"]
        client.failure = Unavailable("away", retry_after=1)
        answer = await post(http, news(session_id))
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        client.failure = None
        assert await noted(http, news(session_id))


async def test_a_livekit_whose_clock_is_wrong(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(rooms, "wall_ms", clock)
    async with api(with_livekit()) as (http, client):
        session_id = (await create(http))["session_id"]
        times = {0: 5, 1: 40, 2: 90, 3: -100}
        for n, earlier in times.items():
            content = news(session_id, "participant_left", f"EV_{n}", sid=f"PA_{n}", at=T0 // 1000 - earlier)
            await noted(http, content)
        sent = [cmd.at - T0 for cmd in cast(Client, client).sent if isinstance(cmd, c.NoteDisconnected)]
        assert sent == [-5_000, -40_000, 0, 0]


async def test_a_room_is_closed_in_the_background_and_never_without_livekit(server: Server) -> None:
    client = with_livekit()
    client.rooms.close_soon("s1")
    assert server.closed == []
    await asyncio.sleep(0.01)
    assert server.closed == ["s1"]
    without_livekit().rooms.close_soon("s2")
    await asyncio.sleep(0.01)
    assert server.closed == ["s1"]


# What is found out without webhooks


def waiting(session_id: str, *events: dict[str, Any], at: int = T0, **changes: Any) -> State:
    first, *more = created(create_command(**changes))
    return fold(None, new_entry(session_id, 1, 0, at, [first, *more, *events]))


class FakeLiveKit:
    """LiveKit as a RoomKeeper sees it: rooms, and who is in them."""

    def __init__(self) -> None:
        self.configured = True
        self.away: str | None = None
        self.away_since = 0.0
        self.there: dict[str, list[str]] = {}
        self.others: dict[str, int] = {}
        """How many more are in a room."""
        self.foreign: set[str] = set()
        self.made_at: dict[str, int] = {}
        self.broken: set[str] = set()
        """Sessions whose room cannot be made, looked into or removed."""
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.looked: list[str] = []
        self.records = False

    def _check(self) -> None:
        if self.away is not None:
            raise LiveKitAway(self.away)

    async def open_room(self, session_id: str) -> RoomState:
        self.opened.append(session_id)
        if self.away is not None or session_id in self.broken:
            return RoomState("fallback", reason=self.away or "broken")
        self.there.setdefault(session_id, [])
        return LIVE

    async def close_room(self, session_id: str) -> bool:
        self.closed.append(session_id)
        if self.away is not None or session_id in self.broken:
            return False
        self.there.pop(session_id, None)
        return True

    async def rooms(self) -> list[RoomInfo]:
        self._check()
        return [
            RoomInfo(s, len(there) + self.others.get(s, 0), s not in self.foreign, self.made_at.get(s, T0), len(there))
            for s, there in self.there.items()
        ]

    async def connections(self, session_id: str, link: int) -> list[str]:
        assert link == 1
        self.looked.append(session_id)
        self._check()
        if session_id in self.broken:
            raise LiveKitAway("broken")
        return list(self.there.get(session_id, []))


class KeptStore:
    """Snapshots, which may be behind the sessions."""

    def __init__(self, world: Keeping) -> None:
        self._world = world
        self.snapshots: dict[str, Snapshot] = {}
        self.deleted: set[str] = set()
        self.reads = 0

    async def sessions_with_room(self, work: str, limit: int) -> list[str]:
        self.reads += 1
        return [s.session_id for s in self.snapshots.values() if s.room == work][:limit]

    async def open_rooms_in_progress(self, limit: int) -> list[Snapshot]:
        self.reads += 1
        return [s for s in self.snapshots.values() if s.room == "open" and s.status == "in_progress"][:limit]

    async def room_work(self, session_ids: list[str]) -> dict[str, tuple[str, str | None]]:
        self.reads += 1
        return {s.session_id: (s.status, s.room) for s in self.snapshots.values() if s.session_id in session_ids}

    async def save_snapshot(self, snapshot: Snapshot) -> bool:
        old = self.snapshots.get(snapshot.session_id)
        if old is not None and old.seq >= snapshot.seq:
            return False
        self.snapshots[snapshot.session_id] = snapshot
        return True

    async def load_without_draft(self, session_id: str) -> Loaded | None:
        return Loaded(None, [], None) if session_id in self._world.states else None

    async def is_deleted(self, session_id: str) -> bool:
        return session_id in self.deleted


class Keeping:
    """A RoomKeeper with the client, the store and LiveKit that it works on. `behind`: snapshots are not saved."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.livekit = FakeLiveKit()
        self.settings = livekit_settings(network_credit_seconds=90)
        self.states: dict[str, State] = {}
        self.store = KeptStore(self)
        self.sent: list[tuple[str, c.Command]] = []
        self.failing: set[str] = set()
        self.behind = False
        self.keeper = RoomKeeper(cast(Any, self), _each)

    async def read(self, session_id: str) -> State:
        if session_id not in self.states:
            raise NotFound.session(session_id)
        return self.states[session_id]

    async def send(self, session_id: str, command: c.Command, caller: c.Caller, *_: Any) -> None:
        assert caller.role == "system"
        if session_id in self.failing:
            raise Unavailable("away")
        self.sent.append((session_id, command))
        await self.do(session_id, command, caller)

    async def do(self, session_id: str, command: c.Command, caller: c.Caller = STAFF) -> None:
        state = await self.read(session_id)
        events = decide(state, command, caller, self.clock())
        if events:
            entry = new_entry(session_id, state.next_seq, state.epoch, self.clock(), events)
            self.states[session_id] = fold(state, entry)
        if not self.behind:
            await self.store.save_snapshot(snapshot_of(self.states[session_id]))

    async def add(self, session_id: str, *, live: bool = True, started: bool = False, **changes: Any) -> None:
        events = [room_event("live", URL, None)] if live else []
        self.states[session_id] = waiting(session_id, *events, at=self.clock(), **changes)
        await self.store.save_snapshot(snapshot_of(self.states[session_id]))
        if live:
            self.livekit.there[session_id] = []
        if started:
            await self.do(session_id, c.Start())

    async def interview(self, session_id: str = "s1", *connections: str) -> None:
        """One in progress, with these connections in its room."""
        await self.add(session_id, started=True)
        for connection in connections:
            await self.do(session_id, c.NoteConnected(connection))
        self.livekit.there[session_id] = list(connections)

    def here(self, session_id: str = "s1") -> list[str]:
        return [connection for _, connection in self.states[session_id].presence.here]

    def commands(self, kind: type[Any]) -> list[Any]:
        return [command for _, command in self.sent if isinstance(command, kind)]

    async def look(self, seconds: float = 5) -> None:
        """Another round, so much later."""
        self.clock.advance(seconds)
        await self.keeper.compare()


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> Keeping:
    clock = Clock()
    monkeypatch.setattr(room_keeper, "wall_ms", clock)
    return Keeping(clock)


async def test_rooms_that_are_wanted_are_made(keeping: Keeping) -> None:
    for n in range(3):
        await keeping.add(f"s{n}", live=False, started=n == 1)
    await keeping.do("s2", c.NoteRoom("fallback", reason="away"))
    await keeping.keeper.make()
    assert sorted(keeping.livekit.opened) == ["s1", "s2"]
    assert [keeping.states[s].room.mode for s in ("s0", "s1", "s2")] == ["none", "live", "live"]
    assert keeping.states["s1"].room.url == URL
    await keeping.keeper.make()
    assert len(keeping.livekit.opened) == 2, "once"


async def test_rooms_of_later_are_made_at_the_start(keeping: Keeping) -> None:
    await keeping.add("s1", live=False, scheduled_at=T0 + 3_600_000)
    await keeping.keeper.make()
    assert keeping.livekit.opened == []
    await keeping.do("s1", c.Start())
    await keeping.keeper.make()
    assert keeping.livekit.opened == ["s1"]


async def test_a_room_that_cannot_be_made_is_tried_again_and_stops_no_other(keeping: Keeping) -> None:
    for name in ("s1", "s2", "s3", "s4"):
        await keeping.add(name, live=False, started=True)
    keeping.livekit.broken.add("s1")
    keeping.failing.add("s2")
    del keeping.states["s3"]
    await keeping.keeper.make()
    assert [keeping.states[s].room.mode for s in ("s1", "s2", "s4")] == ["none", "none", "live"]
    keeping.livekit.broken.clear()
    keeping.failing.clear()
    await keeping.keeper.make()
    assert [keeping.states[s].room.mode for s in ("s1", "s2")] == ["live", "live"]


async def test_while_livekit_is_away_nothing_is_made_or_removed(keeping: Keeping) -> None:
    await keeping.add("s1", live=False)
    await keeping.add("s2")
    await keeping.do("s2", c.End())
    keeping.livekit.away = "LiveKit does not answer."
    await keeping.keeper.make()
    await keeping.keeper.close()
    await keeping.keeper.compare()
    assert (keeping.livekit.opened, keeping.livekit.closed, keeping.sent) == ([], [], [])


async def test_a_wanted_room_that_is_there_by_now_only_brings_the_snapshot_up_to_date(keeping: Keeping) -> None:
    await keeping.add("s1", live=False, started=True)
    keeping.behind = True
    await keeping.do("s1", c.NoteRoom("live", URL))
    assert keeping.store.snapshots["s1"].room == "wanted"
    await keeping.keeper.make()
    assert keeping.livekit.opened == [] and keeping.store.snapshots["s1"].room == "open"


async def test_rooms_of_sessions_that_have_ended_are_removed_until_they_are_gone(keeping: Keeping) -> None:
    await keeping.add("s1")
    await keeping.add("s2", started=True)
    for name in ("s1", "s2"):
        await keeping.do(name, c.End())
    keeping.livekit.broken.add("s1")
    await keeping.keeper.close()
    assert sorted(keeping.livekit.closed) == ["s1", "s2"]
    assert (keeping.states["s1"].room_work, keeping.states["s2"].room_work) == ("closing", None)
    keeping.livekit.broken.clear()
    await keeping.keeper.close()
    await keeping.keeper.close()
    assert sorted(keeping.livekit.closed) == ["s1", "s1", "s2"] and keeping.livekit.there == {}
    assert keeping.commands(c.NoteRoom) == [c.NoteRoom("closed")] * 2


async def test_a_room_that_was_removed_but_not_noted_is_noted_later(keeping: Keeping) -> None:
    await keeping.add("s1")
    await keeping.do("s1", c.End())
    keeping.failing.add("s1")
    await keeping.keeper.close()
    assert keeping.states["s1"].room_work == "closing"
    keeping.failing.clear()
    await keeping.keeper.close()
    assert keeping.states["s1"].room_work is None


async def test_a_closed_room_only_brings_the_snapshot_up_to_date(keeping: Keeping) -> None:
    await keeping.add("s1")
    await keeping.do("s1", c.End())
    keeping.behind = True
    await keeping.do("s1", c.NoteRoom("closed"))
    await keeping.keeper.close()
    assert keeping.livekit.closed == [] and keeping.store.snapshots["s1"].room is None


async def test_sessions_say_that_they_are_without_video_after_five_seconds(keeping: Keeping) -> None:
    await keeping.interview("s1")
    await keeping.add("s2")
    keeping.livekit.away = "LiveKit does not answer."
    loop = asyncio.get_running_loop()
    keeping.livekit.away_since = loop.time() - AWAY_SECONDS + 1
    await keeping.keeper.fall_back()
    assert keeping.sent == []
    keeping.livekit.away_since = loop.time() - AWAY_SECONDS - 0.1
    for _ in range(2):
        await keeping.keeper.fall_back()
    assert keeping.sent == [("s1", c.NoteRoom("fallback", reason="LiveKit does not answer."))]
    assert keeping.states["s2"].room.mode == "live", "nobody is missed there yet"
    keeping.livekit.away = None
    await keeping.keeper.fall_back()
    await keeping.keeper.make()
    assert keeping.states["s1"].room.mode == "live" and keeping.livekit.opened == ["s1"]


async def test_without_livekit_there_is_nothing_to_look_at(keeping: Keeping) -> None:
    await keeping.interview("s1", "PA_1")
    keeping.livekit.configured, keeping.livekit.away = False, NO_LIVEKIT
    keeping.livekit.away_since = -1_000
    keeper = keeping.keeper
    for step in (keeper.make, keeper.close, keeper.fall_back, keeper.compare):
        await step()
    assert keeping.sent == [] and keeping.store.reads == 0


async def test_a_session_that_ended_a_moment_ago_falls_back_no_more(keeping: Keeping) -> None:
    await keeping.interview("s1")
    keeping.behind = True
    await keeping.do("s1", c.End())
    keeping.livekit.away, keeping.livekit.away_since = "away", asyncio.get_running_loop().time() - 60
    await keeping.keeper.fall_back()
    assert keeping.sent == [] and keeping.store.snapshots["s1"].status == "completed"


async def test_a_candidate_who_joined_unheard_is_seen_at_once(keeping: Keeping) -> None:
    await keeping.interview("s1")
    keeping.livekit.there["s1"] = ["PA_1"]
    await keeping.look()
    assert keeping.here() == ["PA_1"]
    await keeping.look()
    assert len(keeping.sent) == 1


async def test_a_candidate_who_left_unheard_is_missed_after_fifteen_seconds(keeping: Keeping) -> None:
    await keeping.interview("s1", "PA_1")
    keeping.livekit.there["s1"] = []
    await keeping.look()
    missed_at = keeping.clock()
    for _ in range(MISSING_MS // 5_000):
        assert keeping.sent == []
        await keeping.look()
    assert keeping.sent == [], "a webhook may still come"
    await keeping.look()
    assert keeping.commands(c.NoteDisconnected) == [c.NoteDisconnected("PA_1", "not_in_room", missed_at, 90_000)]
    question = keeping.states["s1"].open
    assert question is not None and question.lost_at == missed_at and question.lost_limit_ms == 90_000
    await keeping.look()
    await keeping.look(60)
    assert len(keeping.sent) == 1


async def test_a_candidate_who_joined_again_unheard(keeping: Keeping) -> None:
    await keeping.interview("s1", "PA_1")
    keeping.livekit.there["s1"] = ["PA_2"]
    for _ in range(FULL_LOOK_EVERY):
        await keeping.look()
    assert keeping.here() == ["PA_2"], "though as many are there as were expected"
    for _ in range(FULL_LOOK_EVERY):
        await keeping.look()
    question = keeping.states["s1"].open
    assert question is not None and question.lost_at is None and len(keeping.sent) == 1


async def test_news_of_joining_in_the_wrong_order_are_put_right(keeping: Keeping) -> None:
    await keeping.interview("s1", "PA_2")
    await keeping.do("s1", c.NoteConnected("PA_1"))
    for _ in range(FULL_LOOK_EVERY + 2 * MISSING_MS // 5_000):
        await keeping.look()
    assert keeping.here() == ["PA_2"]
    question = keeping.states["s1"].open
    assert question is not None and question.lost_at is None


async def test_a_webhook_that_comes_after_all_is_in_time(keeping: Keeping) -> None:
    await keeping.interview("s1", "PA_1")
    keeping.livekit.there["s1"] = []
    await keeping.look()
    await keeping.look()
    await keeping.do("s1", c.NoteDisconnected("PA_1", "client_initiated", keeping.clock(), 90_000))
    for _ in range(5):
        await keeping.look()
    assert keeping.sent == []


@pytest.mark.parametrize("watched", [True, False])
async def test_one_who_was_out_of_sight_for_a_moment_is_not_missed_since_then(keeping: Keeping, watched: bool) -> None:
    """While staff watch, the room is looked into in every round."""
    await keeping.interview("s1", "PA_1")
    keeping.livekit.others["s1"] = int(watched)
    keeping.livekit.there["s1"] = []
    await keeping.look()
    keeping.livekit.there["s1"] = ["PA_1"]
    for _ in range(3):
        await keeping.look()
    keeping.livekit.there["s1"] = []
    await keeping.look()
    assert keeping.sent == [], "missing for no time yet"


async def test_a_room_is_not_looked_into_while_as_many_are_there_as_expected(keeping: Keeping) -> None:
    await keeping.interview("s1", "PA_1")
    for _ in range(FULL_LOOK_EVERY):
        await keeping.look()
    assert len(keeping.livekit.looked) == 1 and keeping.sent == []
    keeping.livekit.others["s1"] = 1
    await keeping.look()
    assert len(keeping.livekit.looked) == 2 and keeping.sent == []


async def test_a_live_channel_is_not_looked_for_in_the_room(keeping: Keeping) -> None:
    await keeping.interview("s1")
    await keeping.do("s1", c.NoteConnected("channel-1", "channel"))
    for _ in range(FULL_LOOK_EVERY * 2):
        await keeping.look()
    assert keeping.sent == [] and keeping.here() == ["channel-1"]


async def test_rooms_that_have_vanished_are_made_again(keeping: Keeping) -> None:
    await keeping.interview("s1", "PA_1")
    await keeping.interview("s2", "PA_2")
    del keeping.livekit.there["s1"]
    await keeping.look()
    assert keeping.livekit.opened == ["s1"] and "s1" in keeping.livekit.there
    assert keeping.sent == []
    for _ in range(4):
        await keeping.look()
    assert keeping.livekit.opened == ["s1"]
    assert [s for s, command in keeping.sent if isinstance(command, c.NoteDisconnected)] == ["s1"]


async def test_one_room_that_cannot_be_looked_into_stops_no_other(keeping: Keeping) -> None:
    await keeping.interview("s1")
    await keeping.interview("s2")
    keeping.livekit.there |= {"s1": ["PA_1"], "s2": ["PA_2"]}
    keeping.livekit.broken.add("s1")
    await keeping.look()
    assert (keeping.here("s1"), keeping.here("s2")) == ([], ["PA_2"])
    keeping.livekit.broken.clear()
    await keeping.look()
    assert keeping.here("s1") == ["PA_1"]


async def test_no_room_is_made_for_a_session_that_has_ended_behind_its_snapshot(keeping: Keeping) -> None:
    await keeping.interview("s1", "PA_1")
    keeping.behind = True
    await keeping.do("s1", c.End())
    await keeping.do("s1", c.NoteRoom("closed"))
    del keeping.livekit.there["s1"]
    await keeping.look()
    assert keeping.livekit.opened == [] and "s1" not in keeping.livekit.there
    assert keeping.store.snapshots["s1"].status == "completed"


async def test_news_that_are_behind_the_session_change_nothing(keeping: Keeping) -> None:
    await keeping.interview("s1", "PA_1")
    keeping.behind = True
    await keeping.do("s1", c.NoteDisconnected("PA_1", "client_initiated", keeping.clock(), 90_000))
    await keeping.do("s1", c.NoteConnected("PA_2"))
    before = keeping.states["s1"]
    keeping.livekit.there["s1"] = ["PA_2"]
    for _ in range(FULL_LOOK_EVERY * 2):
        await keeping.look()
    assert keeping.states["s1"] == before


async def test_strays_are_removed_if_they_are_ours(keeping: Keeping) -> None:
    old, young = T0 - NEW_ROOM_MS, T0 - 1_000
    livekit = keeping.livekit
    await keeping.interview("s1")
    await keeping.add("waiting")
    await keeping.add("ended")
    await keeping.do("ended", c.End())
    await keeping.do("ended", c.NoteRoom("closed"))
    await keeping.add("closing")
    await keeping.do("closing", c.End())
    await keeping.add("without", live=False)
    rooms = ("unknown", "just made", "foreign", "deleted", "deleted and foreign", "ended", "without")
    livekit.there |= {name: [] for name in rooms}
    livekit.made_at |= dict.fromkeys(rooms, old) | {"just made": young}
    livekit.foreign = {"foreign", "deleted and foreign", "ended"}
    keeping.store.deleted = {"deleted", "deleted and foreign"}
    await keeping.look(1)
    assert sorted(livekit.closed) == ["deleted", "deleted and foreign", "ended", "unknown"]
    assert {"s1", "waiting", "closing", "just made", "foreign", "without"} == livekit.there.keys()
    livekit.others["just made"] = 1
    for _ in range(FULL_LOOK_EVERY):
        await keeping.look(NEW_ROOM_MS / 1000)
    assert livekit.closed[-1] != "just made", "somebody is in it"
    livekit.others.clear()
    for _ in range(FULL_LOOK_EVERY):
        await keeping.look()
    assert livekit.closed[-1] == "just made"


async def test_a_stray_that_cannot_be_removed_is_tried_again(keeping: Keeping) -> None:
    keeping.livekit.there = {"a": [], "b": []}
    keeping.livekit.broken = {"a"}
    await keeping.look(NEW_ROOM_MS)
    assert keeping.livekit.there.keys() == {"a"}
    keeping.livekit.broken.clear()
    for _ in range(FULL_LOOK_EVERY):
        await keeping.look()
    assert keeping.livekit.there == {}


# Who imports it


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_gateway_knows_livekits_package(path: Path) -> None:
    assert "livekit" not in tops(path) or str(path.relative_to(ROOT)) == "orchestrator/livekit.py"
