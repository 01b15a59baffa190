"""/ws/interview: who comes in, what is said and done there, and how it ends. The application is driven over ASGI, on a
virtual clock, by a peer that behaves as uvicorn's WebSockets do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Self
from urllib.parse import urlencode

import httpx
import jwt
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from actors.channels import CHANNEL, LIVELY_MS, Channels
from actors.tail import POLL_SECONDS
from api.app import create_app
from api.client_frames import FRAME_BYTES
from api.keyring import Keyring
from api.live import (
    BAD_FRAME,
    BAD_TOKEN,
    COMPLETED,
    FRAMES_AT_ONCE,
    MAX_BAD_FRAMES,
    MAX_COMMANDS,
    NO_ANSWER,
    POLICY,
    RECONNECT,
    REPLACED,
    REVOKED_SECONDS,
    SEND_SECONDS,
    TAKEN_FOR_LOST,
    UNKNOWN_SESSION,
)
from api.routes.live import AUTH_SECONDS, OPEN_SECONDS
from api.security import candidate_token, token_key
from orchestrator.errors import OutcomeUnknown, Unavailable
from orchestrator.interview import commands as c
from orchestrator.interview.state import GRACE_MS
from orchestrator.interview.view import event_views, session_view
from orchestrator.keys import Scope, StaffKey, new_key
from orchestrator.policies import policy_of
from orchestrator.session import Reply
from orchestrator.settings import Settings
from tests.unit.api_world import BASE, BODY, SECRET, MemoryClient, serving, virtual
from tests.unit.virtual import VirtualLoop

KEY = "k3y"
STAFF = c.Caller("staff", "staff")
Frame = dict[str, Any]
REPLIES = ("ok", "error", "draft_saved", "pong")
LONGEST_REASON = 123
"""Bytes that fit into a close frame beside its code."""


def now() -> int:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.wall_ms()


class Peer:
    """A client of the live channel. Everything that comes is kept, in order.

    `closed`: the code by which the server has closed it; `refused`: it was not even accepted.
    """

    def __init__(self, app: FastAPI, query: str, headers: dict[str, str]) -> None:
        self._app = app
        self._scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "server": ("test", 80),
            "client": ("127.0.0.1", 1),
            "root_path": "",
            "path": "/ws/interview",
            "raw_path": b"/ws/interview",
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in {"host": "test", **headers}.items()],
            "subprotocols": [],
            "state": {},
            "extensions": {"websocket.http.response": {}},
        }
        self._inbox: asyncio.Queue[Frame] = asyncio.Queue()
        self._news = asyncio.Event()
        self._looked_at = 0
        self._gone = False
        self._ids = 0
        self._task: asyncio.Task[None] | None = None
        self.takes_in = asyncio.Event()
        self.takes_in.set()
        self.accepted = self.refused = False
        self.frames: list[Frame] = []
        self.closed: int | None = None
        self.reason = ""

    async def open(self) -> Self:
        self._inbox.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._app(self._scope, self._inbox.get, self._send))
        self._task.add_done_callback(lambda _: self._news.set())
        await self.until(lambda: self.accepted or self.refused or self._ended)
        return self

    @property
    def _ended(self) -> bool:
        return self._task is not None and self._task.done()

    async def _send(self, message: Any) -> None:
        await self.takes_in.wait()
        if self._gone:
            raise OSError("ClientDisconnected")
        if message["type"] == "websocket.accept":
            self.accepted = True
        elif message["type"] == "websocket.close" and not self.accepted:
            self.refused = True
        elif self.closed is not None:
            raise RuntimeError("after sending 'websocket.close'")
        elif message["type"] == "websocket.close":
            self.closed, self.reason = message["code"], message["reason"]
            self._inbox.put_nowait({"type": "websocket.disconnect", "code": self.closed, "reason": self.reason})
        else:
            self.frames.append(json.loads(message["text"].encode()))
        self._news.set()

    # What it does

    async def send(self, type: str, **members: Any) -> None:
        self.send_text(json.dumps({"type": type, **members}))

    def send_text(self, text: str) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})

    def send_bytes(self, data: bytes) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "bytes": data})

    def leave(self, code: int = 1000, reason: str = "") -> None:
        """Close it, by a closing handshake."""
        self._gone = True
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    def lose(self, code: int = 1006) -> None:
        """The connection is lost, or (1011) gave no answer, or (1012) the server shuts down."""
        self._gone = True
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": code})

    def break_off(self) -> None:
        """What is sent from here on fails; why is in nothing that could be read yet."""
        self._gone = True

    async def call(self, type: str, **members: Any) -> Frame:
        """Send a command, by default with an id of its own, and wait for its reply."""
        self._ids += 1
        members.setdefault("command_id", f"command-{self._ids}-{id(self)}")
        await self.send(type, **members)
        return await self.reply(members["command_id"])

    # What comes

    async def reply(self, command_id: str) -> Frame:
        began = self._looked_at

        def found() -> Frame | None:
            rest = self.frames[began:]
            return next((f for f in rest if f["type"] in REPLIES and f.get("command_id") == command_id), None)

        frame = await self.until(found)
        self._looked_at = max(self._looked_at, self.frames.index(frame) + 1)
        return frame

    async def next(self, type: str, seconds: float = 30, **members: Any) -> Frame:
        """The next frame of that type with those members, after the one that was waited for last."""

        def found() -> Frame | None:
            for number in range(self._looked_at, len(self.frames)):
                frame = self.frames[number]
                if frame["type"] == type and all(frame.get(name) == value for name, value in members.items()):
                    self._looked_at = number + 1
                    return frame
            return None

        return await self.until(found, seconds)

    async def until(self, condition: Callable[[], Any], seconds: float = 30) -> Any:
        try:
            async with asyncio.timeout(seconds):
                while not (found := condition()):
                    assert not self._ended, f"it has ended with {self.closed} {self.reason!r}; it said {self.types}"
                    self._news.clear()
                    await self._news.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"it did not come; it said {self.types}") from None

    async def ended(self, seconds: float = 30) -> int | None:
        """The code with which the server has closed it; None: the peer was the first to go."""
        assert self._task is not None
        done, _ = await asyncio.wait([self._task], timeout=seconds)
        assert done, f"it has not ended; it said {self.types}"
        await self._task
        assert len(self.reason.encode()) <= LONGEST_REASON, "no such frame can be sent"
        return self.closed

    @property
    def is_open(self) -> bool:
        return self.accepted and self.closed is None and not self._ended

    @property
    def types(self) -> list[str]:
        return [frame["type"] for frame in self.frames]

    @property
    def seqs(self) -> list[int]:
        return [frame["seq"] for frame in self.frames if "seq" in frame]

    def of(self, *types: str) -> list[Frame]:
        return [frame for frame in self.frames if frame["type"] in types]


@dataclass
class Live:
    """A session, and the application with which peers talk about it."""

    app: FastAPI
    http: httpx.AsyncClient
    client: MemoryClient
    session_id: str = ""
    token: str = ""
    peers: list[Peer] = field(default_factory=list)

    def peer(self, headers: dict[str, str] | None = None, **query: Any) -> Peer:
        """One that is not yet connected."""
        given = {"session_id": self.session_id, **query}
        return self.peer_of(urlencode({k: v for k, v in given.items() if v is not None}), headers or {})

    def peer_of(self, query: str, headers: dict[str, str] | None = None) -> Peer:
        self.peers.append(Peer(self.app, query, headers or {}))
        return self.peers[-1]

    async def join(self, **query: Any) -> Peer:
        """The candidate, with the first state seen."""
        peer = await self.peer(**{"token": self.token, **query}).open()
        await peer.next("state")
        return peer

    async def watch(self, **query: Any) -> Peer:
        return await self.join(token=KEY, role="observer", **query)

    async def begin(self, **query: Any) -> Peer:
        """The candidate, whose first question is open."""
        peer = await self.join(**query)
        assert (await peer.call("start"))["type"] == "ok"
        return peer

    async def create(self, questions: int) -> None:
        body = {**BODY, "questions": [f"Question {n}?" for n in range(questions)], "text_question_timer": 600}
        answer = await self.http.post(f"{BASE}/create", json=body, headers={"X-API-Key": KEY})
        self.session_id, self.token = answer.json()["session_id"], answer.json()["candidate_token"]

    async def post(self, what: str, body: Any = None, key: str | None = None, token: str | None = None) -> Any:
        """A REST call, as staff unless a token is given."""
        headers = {"Authorization": f"Bearer {token or KEY}"} | ({"Idempotency-Key": key} if key else {})
        method = "PUT" if what == "draft" else "POST"
        url = f"{BASE}/session/{self.session_id}/{what}"
        content = None if body is None else json.dumps(body)  # as it is, with lone surrogates too
        return await self.http.request(
            method, url, content=content, headers={**headers, "Content-Type": "application/json"}
        )

    async def elsewhere(self, command: c.Command, caller: c.Caller = c.SYSTEM) -> None:
        """As another front end, or an actor, does it."""
        await self.client.elsewhere(self.session_id, command, caller)

    async def opened_elsewhere(self) -> str:
        """The candidate comes to another front end."""
        await self.elsewhere(c.NoteConnected("front-end-other:1", "channel"), CHANNEL)
        return "front-end-other:1"

    def events(self, *types: str) -> list[dict[str, Any]]:
        found = event_views(self.client.store.journal[self.session_id])
        return [e for e in found if not types or e["type"] in types]

    def connections(self) -> list[tuple[str, str | None]]:
        """(type, reason) of what the journal says of live channels."""
        found = self.events("channel_opened", "channel_closed", "channel_lost", "clock_stopped")
        return [(e["type"], e.get("reason")) for e in found]


@lru_cache
def application(key: str | None) -> FastAPI:
    """Made once: FastAPI takes its time over it."""
    settings = Settings(_env_file=None, mongodb_url=None)  # pyright: ignore[reportCallIssue]
    more = {"api_key": SecretStr(key) if key else None, "public_url": "https://interviews.example/"}
    return create_app(settings.model_copy(update=more))


@asynccontextmanager
async def living(key: str | None = KEY, questions: int = 3, client: MemoryClient | None = None) -> AsyncIterator[Live]:
    """The application, with a session that waits to be started."""
    app, behind = application(key), client or MemoryClient()
    behind.clock = now
    app.state.client, app.state.channels = behind, Channels(behind)
    app.state.keyring = Keyring(behind.store)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        live = Live(app, http, behind)
        await live.create(questions)
        yield live
    for peer in live.peers:
        assert peer.seqs == sorted(set(peer.seqs)), "each event once, and in order"
    await app.state.channels.close()


async def settled(seconds: float = 0.1) -> None:
    """Let what happens in the background happen."""
    await asyncio.sleep(seconds)


# Coming in

WAYS: dict[str, Callable[[str], tuple[dict[str, str], dict[str, str], Frame | None]]] = {
    "query": lambda credential: ({"token": credential}, {}, None),
    "bearer": lambda credential: ({}, {"authorization": f"Bearer {credential}"}, None),
    "x-api-key": lambda credential: ({}, {"x-api-key": credential}, None),
    "first frame": lambda credential: ({}, {}, {"type": "auth", "token": credential}),
}


async def come_in(live: Live, way: str, credential: str, **query: Any) -> Peer:
    more, headers, frame = WAYS[way](credential)
    peer = await live.peer(headers, **query, **more).open()
    if frame is not None:
        await peer.send(**frame)
    return peer


@pytest.mark.parametrize("role", [None, "candidate"])
@pytest.mark.parametrize("way", WAYS)
@virtual
async def test_the_candidate_comes_in_with_the_token(way: str, role: str | None) -> None:
    async with living() as live:
        peer = await come_in(live, way, live.token, role=role)
        frame = await peer.next("state", seconds=1)
        assert frame["as_of"] == 1 and frame["network_credit_left_seconds"] == 180
        assert frame["session"] == session_view(live.client.states[live.session_id], now(), "candidate")
        await settled()
        assert live.connections() == [("channel_opened", None)]


@pytest.mark.parametrize("role", [None, "observer"])
@pytest.mark.parametrize("way", WAYS)
@virtual
async def test_staff_come_in_with_the_key(way: str, role: str | None) -> None:
    async with living() as live:
        peer = await come_in(live, way, KEY, role=role)
        frame = await peer.next("state", seconds=1)
        assert [q["text"] for q in frame["session"]["questions"]] == ["Question 0?", "Question 1?", "Question 2?"]
        await settled()
        assert live.connections() == ([] if role == "observer" else [("channel_opened", None)])


def _claims(live: Live, **changes: Any) -> str:
    claims = jwt.decode(live.token, token_key(SECRET), algorithms=["HS256"]) | changes
    return jwt.encode(claims, token_key(SECRET), "HS256")


BAD: dict[str, Callable[[Live], str]] = {
    "nothing": lambda live: "",
    "wrong": lambda live: "wrong",
    "no token": lambda live: "a.b.c",
    "expired": lambda live: _claims(live, exp=1),
    "for something else": lambda live: _claims(live, use="livekit"),
    "another session's": lambda live: candidate_token(SECRET, "11111111-2222-4333-8444-555555555555", 1),
    "signed by others": lambda live: candidate_token(b"o" * 32, live.session_id, 1),
    "an older link's": lambda live: _claims(live, gen=0),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("credential", BAD)
@virtual
async def test_others_do_not_come_in(way: str, credential: str) -> None:
    async with living() as live:
        peer = await come_in(live, way, BAD[credential](live))
        assert await peer.ended() == BAD_TOKEN
        await settled()
        assert peer.frames == [] and peer.reason and len(live.events()) == 1


@pytest.mark.parametrize(
    ("credential", "role"),
    [("token", "observer"), ("key", "candidate"), ("another session's", "observer")],
)
@pytest.mark.parametrize("way", WAYS)
@virtual
async def test_a_role_is_for_whom_it_is(way: str, credential: str, role: str) -> None:
    async with living() as live:
        given = {"token": live.token, "key": KEY, "another session's": BAD["another session's"](live)}[credential]
        peer = await come_in(live, way, given, role=role)
        assert await peer.ended() == BAD_TOKEN and peer.frames == []


@pytest.mark.parametrize(("key", "role"), [(KEY, None), (KEY, "observer"), (KEY, "candidate"), (None, "candidate")])
@virtual
async def test_a_token_is_waited_for_for_some_time(key: str | None, role: str | None) -> None:
    async with living(key) as live:
        began = now()
        peer = await live.peer(role=role).open()
        assert await peer.ended() == BAD_TOKEN and now() - began == AUTH_SECONDS * 1000
        late = await live.peer(role="candidate").open()
        await settled(AUTH_SECONDS - 1)
        await late.send("auth", token=live.token)
        await late.next("state")


@pytest.mark.parametrize("text", ['{"type": "ping"}', '{"type": "auth"}', "hello", '{"type": "start"}', "[]"])
@virtual
async def test_the_first_frame_has_to_be_the_token_where_one_is_needed(text: str) -> None:
    async with living() as live:
        peer = await live.peer().open()
        peer.send_text(text)
        assert await peer.ended(1) == BAD_TOKEN and peer.frames == []
        assert len(live.events()) == 1


@pytest.mark.parametrize("key", [KEY, None])
@virtual
async def test_a_first_frame_of_bytes_is_none(key: str | None) -> None:
    async with living(key) as live:
        peer = await live.peer().open()
        peer.send_bytes(b"{}")
        assert await peer.ended(1) == BAD_FRAME


@pytest.mark.parametrize("key", [KEY, None])
@virtual
async def test_who_goes_before_they_have_said_who_they_are_was_never_there(key: str | None) -> None:
    async with living(key) as live:
        for go in (Peer.leave, Peer.lose):
            peer = await live.peer().open()
            go(peer)
            assert await peer.ended(1) is None
        assert len(live.events()) == 1


@virtual
async def test_a_token_that_comes_later_is_an_error() -> None:
    async with living() as live:
        peer = await live.join()
        reply = await peer.call("auth", token=live.token)
        assert (reply["code"], reply["errors"][0]["pointer"]) == ("invalid_input", "/type")
        assert peer.is_open


# While no key is set


@pytest.mark.parametrize("role", [None, "observer"])
@virtual
async def test_without_a_key_everyone_is_staff_after_a_moment_of_silence(role: str | None) -> None:
    async with living(None) as live:
        began = now()
        peer = await live.peer(role=role).open()
        frame = await peer.next("state")
        assert "questions" in frame["session"] and now() - began == pytest.approx(OPEN_SECONDS * 1000)
        assert (await peer.call("start"))["type"] == ("error" if role else "ok")


@virtual
async def test_without_a_key_the_first_frame_may_be_a_command() -> None:
    async with living(None) as live:
        peer = await live.peer().open()
        assert (await peer.call("start"))["type"] == "ok"
        assert live.client.states[live.session_id].status == "in_progress"


@pytest.mark.parametrize("way", WAYS)
@virtual
async def test_a_token_makes_a_candidate_even_when_everything_is_open(way: str) -> None:
    async with living(None) as live:
        for role in (None, "candidate"):
            peer = await come_in(live, way, live.token, role=role)
            assert "questions" not in (await peer.next("state"))["session"]
        assert await (await come_in(live, way, BAD["expired"](live))).ended() == BAD_TOKEN


@virtual
async def test_without_a_key_a_first_frame_that_is_none_is_answered() -> None:
    async with living(None) as live:
        peer = await live.peer().open()
        peer.send_text("hello")
        assert (await peer.next("error"))["code"] == "invalid_input"
        assert peer.is_open and "state" in peer.types


# What is asked for


@virtual
async def test_a_session_that_is_not_there() -> None:
    async with living() as live:
        unknown = await live.peer(session_id="11111111-2222-4333-8444-555555555555", token=KEY).open()
        assert await unknown.ended() == UNKNOWN_SESSION and unknown.frames == []
        await live.client.delete(live.session_id, STAFF)
        for token in (KEY, live.token):
            assert await (await live.peer(token=token).open()).ended() == UNKNOWN_SESSION


@pytest.mark.parametrize(
    "more",
    [
        "after=x",
        "after=-1",
        "after=1.5",
        "after=",
        "after=%D9%A3",
        "after=" + "1" * 17,
        "after=" + "0" * 20 + "9" * 30,
        "after=" + "0" * 5_000,
        "role=admin",
        "role=Observer",
        "api_key=x",
        "sessionid=1",
        "%F0%9F%98%80" * 60 + "=1",
        "x" * 5_000 + "=1",
    ],
    ids=lambda more: more[:24],
)
@virtual
async def test_what_cannot_be_asked_for(more: str) -> None:
    async with living() as live:
        peer = await live.peer_of(f"session_id={live.session_id}&token={KEY}&{more}").open()
        assert await peer.ended() == BAD_FRAME and peer.frames == [] and peer.reason


@pytest.mark.parametrize("query", ["", "session_id=", "token=k3y"])
@virtual
async def test_a_session_has_to_be_named(query: str) -> None:
    async with living() as live:
        assert await (await live.peer_of(query).open()).ended() == BAD_FRAME


@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        ("http://test", True),
        ("https://test", True),
        ("https://interviews.example", True),
        (None, True),
        ("https://evil.example", False),
        ("https://test.evil.example", False),
        ("https://eviltest", False),
        ("https://evilinterviews.example", False),
        ("https://interviews.example.evil.example", False),
        ("https://test@evil.example", False),
        ("http://test:81", False),
        ("null", False),
        ("", False),
        ("file://", False),
        ("http://[", False),
    ],
)
@virtual
async def test_a_page_of_another_site_is_refused(origin: str | None, let_in: bool) -> None:
    async with living() as live:
        peer = await live.peer({} if origin is None else {"origin": origin}, token=live.token).open()
        await settled()
        assert (peer.accepted, peer.refused) == (let_in, not let_in)
        assert len(live.events()) == 1 + let_in


@virtual
async def test_while_the_storage_is_away_one_is_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(_: str) -> None:
        raise Unavailable("The storage is away.", retry_after=1)

    async with living() as live:
        monkeypatch.setattr(live.client, "read", read)
        for token in (KEY, live.token):
            assert await (await live.peer(token=token).open()).ended() == RECONNECT


# Commands and what comes of them


@virtual
async def test_a_whole_interview() -> None:
    async with living(questions=2) as live:
        peer = await live.join()
        watching = await live.watch()
        await settled()
        assert peer.types == ["state", "connection"]
        assert await peer.call("start", command_id="c1") == {
            "type": "ok",
            "server_time": peer.frames[-1]["server_time"],
            "command_id": "c1",
            "command": "start",
            "replayed": False,
            "version": live.client.states[live.session_id].version,
        }
        assert peer.types[2:] == ["state", "question", "ok"]
        await asyncio.sleep(5)
        first = await peer.call("answer", command_id="c2", question_index=0, answer="I like engines.")
        assert (first["type"], first["command"], peer.types[5:]) == ("ok", "answer", ["answer_saved", "question", "ok"])
        assert (peer.frames[5]["command_id"], peer.frames[5]["question_index"]) == ("c2", 0)
        assert peer.frames[5]["answer"]["elapsed_seconds"] == 5
        last = await peer.call("answer", command_id="c3", question_index=1, answer="x", language="python")
        assert last["type"] == "ok" and peer.types[8:] == ["answer_saved", "completed", "ok"]
        assert await peer.ended(1) == COMPLETED and await watching.ended(1) == COMPLETED
        assert peer.frames[9]["end_reason"] == "finished" and peer.frames[9]["session"]["status"] == "completed"
        every = list(range(watching.frames[0]["as_of"] + 1, live.client.states[live.session_id].seq + 1))
        assert watching.seqs == every, "staff see every event"
        assert all("command_id" not in frame for frame in watching.frames)


@pytest.mark.parametrize("who", ["token", "key"])
@virtual
async def test_the_frames_of_a_reader_are_for_their_role(who: str) -> None:
    async with living() as live:
        peer = await live.begin(token=live.token if who == "token" else KEY)
        for frame in peer.frames:
            assert ("by" in frame) == (who == "key" and "seq" in frame)
            assert ("questions" in frame.get("session", {})) == (who == "key" and "session" in frame)


@virtual
async def test_an_answer_is_known_by_its_id_to_who_sent_it_only() -> None:
    async with living() as live:
        peer, watching = await live.begin(), await live.watch()
        await peer.call("answer", command_id="mine", question_index=0, answer="a")
        [mine], [theirs] = peer.of("answer_saved"), [await watching.next("answer_saved")]
        assert mine["command_id"] == "mine" and "command_id" not in theirs
        await live.post("answer", {"question_index": 1, "answer": "by REST"}, key="rest", token=live.token)
        assert "command_id" not in await peer.next("answer_saved", question_index=1)


@virtual
async def test_a_command_needs_no_id() -> None:
    async with living() as live:
        peer = await live.join()
        for type, reply in [("start", "ok"), ("ping", "pong"), ("answer", "error")]:
            await peer.send(type)
            assert "command_id" not in await peer.next(reply)
        await peer.send("answer", question_index=0, answer="a")
        assert "command_id" not in await peer.next("answer_saved")


@virtual
async def test_drafts() -> None:
    async with living(questions=1) as live:
        peer = await live.begin()
        reply = await peer.call("draft", command_id="d", question_index=0, draft="half")
        assert {k: v for k, v in reply.items() if k != "server_time"} == {
            "type": "draft_saved",
            "command_id": "d",
            "question_index": 0,
            "revision": 1,
            "saved": True,
        }
        reply = await peer.call("draft", question_index=0, draft="half a", revision=7)
        assert (reply["revision"], reply["saved"]) == (7, True)
        reply = await peer.call("draft", question_index=0, draft="an older one", revision=6)
        assert (reply["revision"], reply["saved"]) == (7, False)
        await peer.call("end")
        assert peer.types[-3:] == ["answer_saved", "completed", "ok"]
        assert (peer.frames[-3]["answer"]["answer"], peer.frames[-3]["answer"]["source"]) == ("half a", "draft")
        assert "command_id" not in peer.frames[-3] and await peer.ended() == COMPLETED


@virtual
async def test_what_the_page_has_seen() -> None:
    async with living() as live:
        peer, watching = await live.begin(), await live.watch()
        reply = await peer.call("proctoring_event", event={"type": "paste", "detail": {"size": 5}})
        assert (reply["type"], reply["command"]) == ("ok", "proctoring_event")
        began, ended = {"type": "tab_hidden", "phase": "began"}, {"type": "tab_hidden", "phase": "ended"}
        await peer.call("proctoring_event", events=[{"type": "copy"}, began])
        await peer.call("proctoring_event", events=[ended])
        told = [frame["event"] for frame in peer.of("proctoring")]
        assert told == [
            {"type": "paste", "count": 1, "detail": {"size": 5}},
            {"type": "copy", "count": 1},
            began,
            ended,
        ]
        await settled()
        assert [f["event"]["event"] for f in watching.of("proctoring")] == ["paste", "copy", "tab_hidden", "tab_hidden"]
        assert {f["event"]["source"] for f in watching.of("proctoring")} == {"page"}


@pytest.mark.parametrize(("who", "reason"), [("token", "ended_by_candidate"), ("key", "ended_by_staff")])
@virtual
async def test_ending_is_answered_before_it_is_closed(who: str, reason: str) -> None:
    async with living() as live:
        peer = await live.begin(token=live.token if who == "token" else KEY)
        assert (await peer.call("end"))["type"] == "ok"
        assert await peer.ended(1) == COMPLETED
        assert peer.types[-2:] == ["completed", "ok"] and peer.frames[-2]["end_reason"] == reason
        assert live.connections() == [("channel_opened", None)]


@virtual
async def test_observers_send_no_commands() -> None:
    async with living() as live:
        peer = await live.watch()
        for type in ("start", "end", "answer", "draft", "proctoring_event"):
            members: dict[str, Any] = {"question_index": 0, "answer": "a"} if type == "answer" else {}
            members |= {"question_index": 0, "draft": "a"} if type == "draft" else {}
            members |= {"event": {"type": "paste"}} if type == "proctoring_event" else {}
            reply = await peer.call(type, **members)
            assert (reply["code"], reply["status"]) == ("forbidden", 403)
        assert (await peer.call("ping"))["type"] == "pong"
        await settled()
        assert len(live.events()) == 1 and peer.is_open


def staff_key(live: Live, scope: Scope) -> tuple[StaffKey, str]:
    key, secret = new_key("some", (scope,), 0, "open")
    live.client.store.staff[key.id] = key
    live.app.state.keyring.forget()
    return key, secret


@virtual
async def test_a_revoked_key_watches_no_longer() -> None:
    async with living() as live:
        key, secret = staff_key(live, "read")
        watching, other = await live.join(token=secret, role="observer"), await live.watch()
        await settled(3 * REVOKED_SECONDS)
        assert watching.is_open
        live.client.store.staff[key.id] = replace(key, revoked_at=1)
        live.app.state.keyring.forget()
        assert await watching.ended(2 * REVOKED_SECONDS) == BAD_TOKEN
        assert other.is_open


@virtual
async def test_a_key_that_only_reads_leads_no_interview() -> None:
    async with living() as live:
        peer = await live.peer(token=staff_key(live, "read")[1]).open()
        assert await peer.ended(5) == BAD_TOKEN and "scope manage" in peer.reason
        peer = await live.join(token=staff_key(live, "manage")[1])
        assert (await peer.call("start"))["type"] == "ok"


@virtual
async def test_not_too_many_watch_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.channels.MAX_OBSERVERS", 2)
    async with living() as live:
        first, second = await live.watch(), await live.watch()
        third = await live.peer(token=KEY, role="observer").open()
        assert await third.ended(5) == RECONNECT and third.reason == "too_many_requests"
        first.leave()
        assert await first.ended(5) is None
        assert (await live.watch()).is_open and second.is_open


# A command that is sent again


@virtual
async def test_a_command_that_is_sent_again_has_one_outcome() -> None:
    async with living() as live:
        peer = await live.begin()
        for replayed in (False, True):
            reply = await peer.call("answer", command_id="a", question_index=0, answer="mine")
            assert (reply["type"], reply["replayed"]) == ("ok", replayed)
        assert len(peer.of("answer_saved")) == 1
        other = await peer.call("answer", command_id="a", question_index=0, answer="another")
        assert (other["code"], other["status"]) == ("idempotency_key_reused", 422)


ONE_COMMAND = [
    ("answer", {"question_index": 0, "answer": "mine", "language": "c"}, "answer", ["question_closed"]),
    (
        "proctoring_event",
        {"events": [{"type": "paste"}, {"type": "copy", "detail": "x"}]},
        "proctoring/events",
        ["proctoring_event"] * 2,
    ),
    (
        "proctoring_event",
        {"events": [{"type": "paste"}], "sent_at": "2023-11-14T22:13:20Z"},
        "proctoring/events",
        ["proctoring_event"],
    ),
]


@pytest.mark.parametrize("first", ["here", "by REST"])
@pytest.mark.parametrize(("type", "members", "path", "written"), ONE_COMMAND)
@virtual
async def test_the_same_id_here_and_by_rest_is_one_command(
    first: str, type: str, members: dict[str, Any], path: str, written: list[str]
) -> None:
    async with living() as live:
        peer = await live.begin()
        for way in ("here", "by REST") if first == "here" else ("by REST", "here"):
            if way == "here":
                reply = await peer.call(type, command_id="k", **members)
                assert (reply["type"], reply["replayed"]) == ("ok", way != first)
            else:
                answer = await live.post(path, members, key="k", token=live.token)
                assert answer.status_code == 200 and ("idempotency-replayed" in answer.headers) == (way != first)
        assert [e["type"] for e in live.events("question_closed", "proctoring_event")] == written


@virtual
async def test_an_end_that_is_sent_again_by_rest_is_a_repeat() -> None:
    async with living() as live:
        peer = await live.begin()
        assert (await peer.call("end", command_id="k"))["replayed"] is False
        answer = await live.post("end", key="k", token=live.token)
        assert answer.headers["idempotency-replayed"] == "true"


@virtual
async def test_a_start_by_another_principal_is_another_command() -> None:
    async with living() as live:
        peer = await live.begin()
        assert (await live.post("start", key="k")).status_code == 200
        reply = await peer.call("start", command_id="k")
        assert (reply["type"], reply["replayed"]) == ("ok", False), "nothing to do, but not a repeat either"


# Errors


@pytest.mark.parametrize(
    ("type", "members", "path", "code"),
    [
        ("answer", {"question_index": 7, "answer": "a"}, "answer", "invalid_input"),
        ("answer", {"question_index": 1, "answer": "a"}, "answer", "state_conflict"),
        ("answer", {"question_index": "1", "answer": "a", "more": 1}, "answer", "invalid_input"),
        ("answer", {}, "answer", "invalid_input"),
        ("answer", {"question_index": 0, "answer": "\ud800"}, "answer", "invalid_input"),
        ("answer", {"question_index": 0, "answer": "ä" * 40_000}, "answer", "too_large"),
        ("draft", {"question_index": 1, "draft": "a"}, "draft", "state_conflict"),
        ("draft", {"question_index": 0, "draft": "a", "revision": -1}, "draft", "invalid_input"),
        ("proctoring_event", {"events": [{"type": "unheard_of"}]}, "proctoring/events", "invalid_input"),
        ("proctoring_event", {"events": [{"type": "paste", "phase": "began"}]}, "proctoring/events", "invalid_input"),
        ("proctoring_event", {"events": [{"type": "paste"}] * 101}, "proctoring/events", "invalid_input"),
    ],
)
@virtual
async def test_errors_say_what_the_problem_document_says(
    type: str, members: dict[str, Any], path: str, code: str
) -> None:
    async with living() as live:
        peer = await live.begin()
        reply = await peer.call(type, command_id="c", **members)
        problem = (await live.post(path, members, token=live.token)).json()
        assert reply["code"] == problem["code"] == code
        expected = {k: v for k, v in problem.items() if k not in ("type", "title", "request_id")}
        got = {k: v for k, v in reply.items() if k not in ("type", "server_time", "command_id")}
        assert got == expected and (reply["type"], reply["command_id"]) == ("error", "c")
        assert peer.is_open


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("The storage is away.", retry_after=1.5),
        OutcomeUnknown("It may have been written.", retry_after=2),
    ],
)
@virtual
async def test_what_can_be_sent_again_says_when(error: Unavailable | OutcomeUnknown) -> None:
    async with living() as live:
        peer = await live.begin()
        live.client.failure = error
        for type, members in [("answer", {"answer": "a"}), ("draft", {"draft": "a"})]:
            reply = await peer.call(type, question_index=0, **members)
            assert (reply["type"], reply["code"], reply["detail"]) == ("error", error.code, error.detail)
            assert (reply["retry_after"], reply["status"]) == (error.retry_after, 503)
        live.client.failure = None
        assert (await peer.call("answer", question_index=0, answer="a"))["type"] == "ok"


@virtual
async def test_a_fault_of_ours_is_answered_without_its_message() -> None:
    async with living() as live:
        peer = await live.begin()
        live.client.failure = RuntimeError("with personal data")
        reply = await peer.call("answer", question_index=0, answer="a")
        problem = (await live.post("answer", {"question_index": 0, "answer": "a"}, token=live.token)).json()
        assert (reply["type"], reply["code"], reply["detail"]) == ("error", "internal_error", problem["detail"])
        assert reply.get("status") == problem["status"] == 500
        assert "personal" not in json.dumps(peer.frames)
        live.client.failure = None
        assert (await peer.call("answer", question_index=0, answer="a"))["type"] == "ok"


# One after another


class Gated(MemoryClient):
    """Commands of clients take until the gate is opened. `ran`: those that were let through."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.ran: list[c.Command] = []

    async def send(
        self, session_id: str, command: c.Command, caller: c.Caller, command_id: str | None = None, *_: Any
    ) -> Reply:
        if caller.role != "system":
            await self.gate.wait()
            self.ran.append(command)
        return await super().send(session_id, command, caller, command_id)


@virtual
async def test_commands_run_one_after_another_and_pings_do_not_wait_for_them() -> None:
    client = Gated()
    async with living(questions=5, client=client) as live:
        peer = await live.begin()
        client.gate.clear()
        for index in range(3):
            await peer.send("answer", command_id=f"a{index}", question_index=index, answer="a")
        await peer.send("draft", command_id="d", question_index=3, draft="half")
        for _ in range(3):
            began = now()
            assert (await peer.call("ping"))["type"] == "pong" and now() == began
            await asyncio.sleep(10)
        said = len(peer.frames)
        client.gate.set()
        await peer.reply("d")
        assert peer.types[said:] == ["answer_saved", "question", "ok"] * 3 + ["draft_saved"]
        assert [f.get("command_id") for f in peer.of("answer_saved", "ok", "draft_saved")[1:]] == [
            *("a0", "a0", "a1", "a1", "a2", "a2", "d"),
        ]
        assert [getattr(command, "question_index", None) for command in client.ran] == [None, 0, 1, 2]


@virtual
async def test_what_others_do_is_told_while_a_command_hangs() -> None:
    client = Gated()
    async with living(client=client) as live:
        peer = await live.begin()
        client.gate.clear()
        await peer.send("answer", command_id="a", question_index=0, answer="a")
        await live.elsewhere(c.Extend(30, "x"), STAFF)
        await peer.next("extended", seconds=1)
        client.gate.set()
        assert (await peer.reply("a"))["type"] == "ok"


@virtual
async def test_not_too_many_commands_wait() -> None:
    client = Gated()
    async with living(client=client) as live:
        peer = await live.begin()
        await asyncio.sleep(10)
        client.gate.clear()
        for number in range(MAX_COMMANDS + 3):
            await peer.send("start", command_id=f"s{number}")
            await asyncio.sleep(0.1)
        refused = peer.of("error")
        assert [f["command_id"] for f in refused] == [f"s{MAX_COMMANDS + 1}", f"s{MAX_COMMANDS + 2}"]
        assert {(f["code"], f["retry_after"], f["status"]) for f in refused} == {("too_many_requests", 1, 429)}
        client.gate.set()
        await peer.reply(f"s{MAX_COMMANDS}")
        assert [f["command_id"] for f in peer.of("ok")[1:]] == [f"s{n}" for n in range(MAX_COMMANDS + 1)]


# Frames that are none, and too many


BAD_FRAMES = [
    "",
    "hello",
    "[]",
    "null",
    '"ping"',
    "{}",
    '{"type": 1}',
    '{"type": "shout"}',
    '{"type": "ping", "more": 1}',
    '{"type": "ping", "command_id": "with space"}',
    '{"type": "ping", "command_id": ""}',
    '{"type": "ping", "command_id": 7}',
    '{"type": "answer", "question_index": 0}',
    '{"type": "answer", "question_index": 0, "answer": "a", "language": NaN}',
    '{"type": "proctoring_event"}',
    '{"type": "proctoring_event", "event": {"type": "paste"}, "events": []}',
    '{"type": "proctoring_event", "events": [], "source": "staff"}',
    '{"type": "\\ud800"}',
    "[" * 100_000,
    '{"type": "ping", "command_id": "' + "x" * 256 + '"}',
]


@pytest.mark.parametrize("text", BAD_FRAMES, ids=lambda text: text[:40])
@virtual
async def test_a_frame_that_is_none_gets_an_error(text: str) -> None:
    async with living() as live:
        peer = await live.join()
        peer.send_text(text)
        frame = await peer.next("error", seconds=1)
        assert (frame["code"], frame["status"]) == ("invalid_input", 400)
        assert frame["detail"] and frame["errors"]
        assert (await peer.call("ping"))["type"] == "pong"


@virtual
async def test_an_error_names_the_command_if_that_can_be_read() -> None:
    async with living() as live:
        peer = await live.join()
        for text in ('{"type": "shout", "command_id": "c1"}', '{"type": "answer", "command_id": "c2", "x": 1}'):
            peer.send_text(text)
        assert [(await peer.next("error"))["command_id"] for _ in range(2)] == ["c1", "c2"]


@virtual
async def test_bytes_are_no_frame() -> None:
    async with living() as live:
        peer = await live.join()
        peer.send_bytes(b'{"type": "ping"}')
        assert (await peer.next("error"))["code"] == "invalid_input"
        assert peer.is_open and not peer.of("pong")


@pytest.mark.parametrize("filler", [" ", "ä"])
@virtual
async def test_a_frame_may_be_so_large_and_not_larger(filler: str) -> None:
    async with living() as live:
        peer = await live.join()
        head = '{"type": "ping", "command_id": "c1"}' if filler == " " else '{"type": "ping", "x": "'
        tail = "" if filler == " " else '"}'
        room = FRAME_BYTES - len(head) - len(tail)
        room -= room % len(filler.encode())
        peer.send_text(head + filler * (room // len(filler.encode())) + tail)
        first = await peer.next("pong" if filler == " " else "error")
        assert first["type"] == "pong" or "x is not a known field" in first["detail"]
        peer.send_text(head + filler * (room // len(filler.encode()) + 2) + tail)
        assert str(FRAME_BYTES) in (await peer.next("error"))["detail"] and peer.is_open


@virtual
async def test_after_so_many_bad_frames_in_a_row_it_is_closed() -> None:
    async with living() as live:
        peer = await live.join()
        for number in range(MAX_BAD_FRAMES):
            assert peer.is_open, number
            peer.send_text("hello")
            await settled()
        assert await peer.ended(1) == BAD_FRAME and len(peer.of("error")) == MAX_BAD_FRAMES
        await settled()
        assert live.connections()[-1][0] == "channel_closed", "and the clock goes on"
        assert (await live.join(after=0)).is_open, "the interview does, too"


@pytest.mark.parametrize("good", ["ping", "start"])
@virtual
async def test_a_good_frame_in_between_makes_up_for_a_bad_one(good: str) -> None:
    async with living() as live:
        peer = await live.join()
        for _ in range(2 * MAX_BAD_FRAMES):
            peer.send_text("hello")
            await settled(0.2)
            await peer.call(good)
        assert peer.is_open
        for _ in range(MAX_BAD_FRAMES - 2):
            await peer.call(good)
            await settled(0.2)
            for _ in range(2):
                peer.send_text("hello")
                await settled(0.2)
        assert peer.is_open
        peer.send_text("hello")
        assert await peer.ended(1) == BAD_FRAME, "one good frame does not make up for many"


@virtual
async def test_so_many_frames_may_come_at_once_and_so_many_a_second() -> None:
    async with living() as live:
        peer = await live.join()
        for _ in range(int(FRAMES_AT_ONCE)):
            await peer.send("ping")
        await settled(1)
        assert len(peer.of("pong")) == FRAMES_AT_ONCE and not peer.of("error")
        for _ in range(10):
            await peer.send("ping")
        await peer.send("ping", command_id="one more")
        error = await peer.next("error")
        assert (error["code"], error["command_id"], error["status"]) == ("too_many_requests", "one more", 429)
        assert error["retry_after"] == 1
        for _ in range(100):
            await settled(0.101)
            await peer.send("ping")
        await settled()
        assert len(peer.of("error")) == 1 and peer.is_open


@virtual
async def test_a_flood_ends_it() -> None:
    async with living() as live:
        peer = await live.join()
        await settled()
        for _ in range(int(FRAMES_AT_ONCE) + MAX_BAD_FRAMES):
            await peer.send("ping")
        assert await peer.ended(1) == POLICY
        assert peer.types[-MAX_BAD_FRAMES:] == ["error"] * MAX_BAD_FRAMES
        assert {f["code"] for f in peer.of("error")} == {"too_many_requests"}


@virtual
async def test_each_channel_has_its_own_bucket() -> None:
    async with living() as live:
        one, two = await live.watch(), await live.watch()
        for _ in range(int(FRAMES_AT_ONCE)):
            await one.send("ping")
        assert (await two.call("ping"))["type"] == "pong"


# How it ends


@virtual
async def test_when_the_link_is_renewed_the_candidate_needs_the_new_one() -> None:
    async with living() as live:
        peer, watching = await live.begin(), await live.watch()
        answer = await live.post("link")
        assert await peer.ended(1) == BAD_TOKEN
        await settled()
        assert watching.is_open and watching.frames[-1]["type"] == "connection"
        assert live.connections()[-1] == ("channel_closed", "participant_removed")
        back = await live.join(token=answer.json()["candidate_token"])
        assert (await back.call("ping"))["type"] == "pong"


@virtual
async def test_a_link_renewed_elsewhere_is_noticed_within_a_poll() -> None:
    async with living() as live:
        peer = await live.begin()
        await live.elsewhere(c.NewLink(), STAFF)
        assert await peer.ended(POLL_SECONDS * 1.1) == BAD_TOKEN


@virtual
async def test_when_the_session_is_deleted_it_is_gone() -> None:
    async with living() as live:
        peer, watching = await live.begin(), await live.watch()
        answer = await live.http.delete(f"{BASE}/session/{live.session_id}", headers={"X-API-Key": KEY})
        assert answer.status_code == 200
        assert await peer.ended(1) == UNKNOWN_SESSION and await watching.ended(1) == UNKNOWN_SESSION
        await settled()


@virtual
async def test_the_end_by_others_is_told_and_closes_it() -> None:
    async with living() as live:
        peer, watching = await live.begin(), await live.watch()
        await live.elsewhere(c.End(), STAFF)
        assert await peer.ended(1) == COMPLETED and await watching.ended(1) == COMPLETED
        assert peer.types[-1] == watching.types[-1] == "completed"


@pytest.mark.parametrize("who", ["candidate", "observer"])
@virtual
async def test_a_completed_session_is_shown_and_closed(who: str) -> None:
    async with living(questions=1) as live:
        await (await live.begin()).call("answer", question_index=0, answer="a")
        await settled()
        before = live.events()
        later = live.app.state.channels = Channels(live.client)
        role = "observer" if who == "observer" else None
        peer = await live.peer(token=KEY if role else live.token, role=role).open()
        assert await peer.ended(1) == COMPLETED and peer.types == ["state"]
        assert peer.frames[0]["session"]["status"] == "completed"
        assert peer.frames[0]["session"] == session_view(
            live.client.states[live.session_id],
            now(),
            "candidate" if who == "candidate" else "staff",
            policy_of(live.client.states[live.session_id]),
        )
        await settled()
        assert live.events() == before and later.front_end not in live.client.store.proofs, "no connection is noted"


@virtual
async def test_a_newer_connection_here_takes_over() -> None:
    async with living() as live:
        older, watching = await live.begin(), await live.watch()
        newer = await live.join()
        assert await older.ended(1) == REPLACED
        await settled()
        assert newer.is_open and watching.is_open
        assert live.connections() == [
            ("channel_opened", None),
            ("channel_closed", "duplicate_identity"),
            ("channel_opened", None),
        ]
        assert [e["event"] for e in live.events("proctoring_event")] == ["second_device"]
        assert (await newer.call("answer", question_index=0, answer="a"))["type"] == "ok"


@pytest.mark.parametrize("pings", [True, False])
@virtual
async def test_a_page_that_comes_back_after_a_silence_is_no_second_device(pings: bool) -> None:
    async with living() as live:
        older = await live.begin()
        if pings:
            await older.call("ping")
        silent_at = now()
        await asyncio.sleep(LIVELY_MS / 1000 + 2)
        await live.join()
        assert await older.ended(1) == REPLACED
        await settled()
        assert live.connections()[1][1] == ("no_heartbeat" if pings else "duplicate_identity")
        assert [e["since"] for e in live.events("clock_stopped")] == [silent_at] * pings


@virtual
async def test_a_newer_connection_elsewhere_takes_over() -> None:
    async with living() as live:
        peer, watching = await live.begin(), await live.watch()
        await live.opened_elsewhere()
        assert await peer.ended(POLL_SECONDS * 1.1) == REPLACED
        await settled(1)
        assert watching.is_open
        assert live.connections()[1:] == [("channel_opened", None), ("channel_closed", "duplicate_identity")]
        assert live.client.states[live.session_id].presence.here == (("channel", "front-end-other:1"),)


@virtual
async def test_a_newer_connection_elsewhere_takes_over_from_one_that_was_taken_for_lost() -> None:
    """This front end had hung, or was cut off from the storage, for longer than others believed in it."""
    async with living() as live:
        peer = await live.begin()
        [opened] = live.events("channel_opened")
        lost = c.NoteDisconnected(opened["connection"], "server_shutdown", now(), 180_000, "channel")
        await live.elsewhere(lost, CHANNEL)
        await live.opened_elsewhere()
        assert await peer.ended(1) == REPLACED


@virtual
async def test_a_connection_that_was_taken_for_lost_comes_back_under_another_name() -> None:
    """Under its own nobody would notice that it is lost once more."""
    async with living() as live:
        peer = await live.begin()
        [opened] = live.events("channel_opened")
        lost = c.NoteDisconnected(opened["connection"], "server_shutdown", now(), 180_000, "channel")
        await live.elsewhere(lost, CHANNEL)
        assert await peer.ended(1) == RECONNECT


@virtual
async def test_connections_before_it_came_do_not_matter_to_it() -> None:
    async with living() as live:
        await live.opened_elsewhere()
        peer = await live.begin(after=0)
        await settled(1)
        assert peer.is_open
        assert [f["state"] for f in peer.of("connection")] == ["opened", "opened"]


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 1012, 3000])
@virtual
async def test_who_says_goodbye_has_gone(code: int) -> None:
    async with living() as live:
        peer = await live.begin()
        await settled(20)
        peer.leave(code)
        assert await peer.ended(1) is None
        await settled()
        assert live.connections()[1:] == [("channel_closed", "client_initiated")]


@pytest.mark.parametrize(
    ("code", "reason", "silent"),
    [(1006, "signal_close", 0), (NO_ANSWER, "no_heartbeat", 4_000), (RECONNECT, "server_shutdown", 0)],
)
@virtual
async def test_who_goes_without_goodbye_is_lost(code: int, reason: str, silent: int) -> None:
    async with living() as live:
        peer = await live.begin()
        await settled(20)
        await peer.call("ping")
        await asyncio.sleep(4)
        lost_at = now()
        peer.lose(code)
        assert await peer.ended(1) is None
        await settled()
        assert live.connections()[1:] == [("channel_lost", reason), ("clock_stopped", None)]
        assert live.events("clock_stopped")[0]["since"] == lost_at - silent
        await settled(10)
        back = await live.join(after=0)
        credited = await back.next("clock_credited")
        assert credited["seconds"] == pytest.approx((10_100 + silent) / 1000, abs=0.01)
        assert credited["cause"] == "network"


@virtual
async def test_a_client_that_takes_its_connection_for_lost_is_lost_since_its_last_sign() -> None:
    async with living() as live:
        peer = await live.begin()
        await settled(20)
        await peer.call("ping")
        heard_at = now()
        await asyncio.sleep(6)
        peer.leave(TAKEN_FOR_LOST, "silence")
        assert await peer.ended(1) is None
        await settled()
        assert live.connections()[1:] == [("channel_lost", "no_heartbeat"), ("clock_stopped", None)]
        assert live.events("clock_stopped")[0]["since"] == heard_at


@virtual
async def test_a_reader_that_takes_nothing_in_comes_back_later() -> None:
    async with living() as live:
        peer, watching = await live.begin(), await live.watch()
        await peer.call("ping")
        heard_at = now()
        peer.takes_in.clear()
        await live.post("extend", {"seconds": 30, "reason": "x"}, key="e")
        began = now()
        while not peer._ended:
            await settled()
        assert SEND_SECONDS <= (now() - began) / 1000 <= SEND_SECONDS + 1
        await settled()
        assert live.connections()[1:] == [("channel_lost", "no_heartbeat"), ("clock_stopped", None)]
        assert live.events("clock_stopped")[0]["since"] == heard_at
        assert await watching.next("extended")
        back = await live.join(after=peer.seqs[-1])
        await back.next("extended")


@virtual
async def test_a_slow_reader_is_told_why() -> None:
    async with living() as live:
        watching = await live.watch()
        watching.takes_in.clear()
        await live.elsewhere(c.NewLink(), STAFF)
        await asyncio.sleep(POLL_SECONDS + SEND_SECONDS + 0.1)
        watching.takes_in.set()
        assert await watching.ended(1) == RECONNECT


@pytest.mark.parametrize(
    ("go", "noted"),
    [
        (Peer.lose, [("channel_lost", "signal_close"), ("clock_stopped", None)]),
        (Peer.leave, [("channel_closed", "client_initiated")]),
    ],
)
@virtual
async def test_that_sending_fails_does_not_say_why(go: Callable[[Peer], None], noted: list[tuple[str, str]]) -> None:
    """Why is what is read next."""
    async with living() as live:
        peer, watching = await live.begin(), await live.watch()
        peer.break_off()
        await live.post("extend", {"seconds": 30, "reason": "x"}, key="e")
        await watching.next("extended", seconds=1)
        go(peer)
        assert await peer.ended(1) is None
        await settled()
        assert live.connections()[1:] == noted


@virtual
async def test_an_observer_that_goes_leaves_no_trace() -> None:
    async with living() as live:
        await live.begin()
        before = live.events()
        for go in (Peer.leave, Peer.lose):
            watching = await live.watch()
            go(watching)
            assert await watching.ended(1) is None
        await settled()
        assert live.events() == before


@virtual
async def test_when_the_front_end_ends_its_connections_are_noted() -> None:
    async with serving(MemoryClient(clock=now), KEY) as (app, http, client):
        live = Live(app, http, client)
        await live.create(3)
        await live.begin()
    assert live.connections()[1:] == [("channel_lost", "server_shutdown"), ("clock_stopped", None)]


# Following


@virtual
async def test_what_happens_elsewhere_is_told_within_a_poll() -> None:
    async with living() as live:
        peer = await live.begin()
        for command, type in [(c.Pause("x"), "paused"), (c.Resume(), "resumed"), (c.Extend(5, "x"), "extended")]:
            await settled(1)
            await live.elsewhere(command, STAFF)
            frame = await peer.next(type, seconds=POLL_SECONDS * 1.01)
            assert frame["question"]["index"] == 0


@virtual
async def test_a_question_that_runs_out_is_told_when_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, though polls do not find it: it is known when a timer fires."""

    async def grown(_: object) -> set[str]:
        return set()

    async with living() as live:
        monkeypatch.setattr(live.client.store, "grown", grown)
        peer = await live.begin()
        await peer.call("draft", question_index=0, draft="half")
        due_at = live.client.states[live.session_id].due_at
        assert due_at is not None and due_at - now() == 600_000 + GRACE_MS
        await asyncio.sleep((due_at + 10 - now()) / 1000)
        await live.elsewhere(c.Expire())
        frame = await peer.next("question_expired", seconds=0.2)
        assert (frame["answer"]["answer"], frame["answer"]["source"]) == ("half", "draft")
        await peer.next("question", seconds=0)


@virtual
async def test_while_the_storage_is_away_it_waits_and_goes_on_afterwards() -> None:
    async with living() as live:
        peer = await live.begin()
        live.client.store.away = Unavailable("The storage is away.", retry_after=1)
        live.client.tail.nudge(live.session_id)
        await live.elsewhere(c.Extend(30, "x"), STAFF)
        await asyncio.sleep(20)
        assert peer.is_open and not peer.of("extended")
        assert (await peer.call("ping"))["type"] == "pong"
        live.client.store.away = None
        await peer.next("extended", seconds=1)


@virtual
async def test_a_fault_of_ours_is_for_the_client_to_come_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with living() as live:
        peer = await live.begin()
        monkeypatch.setattr(live.client.store, "entries", lambda *_: 1 / 0)
        live.client.tail.nudge(live.session_id)
        assert await peer.ended(1) == RECONNECT
        assert "unexpected error" in caplog.text


@virtual
async def test_many_events_at_once_are_told_in_order() -> None:
    async with living(questions=30) as live:
        peer, watching = await live.begin(), await live.watch()
        for index in range(25):
            await live.elsewhere(c.Answer(index, str(index)), c.Caller(f"candidate:{live.session_id}", "candidate"))
        await settled(1)
        for reader in (peer, watching):
            assert [f["question_index"] for f in reader.of("answer_saved")] == list(range(25))


# Coming back


async def history(live: Live) -> list[Frame]:
    """An interview in which a good deal happens, to its end; and what the candidate saw of it."""
    peer = await live.join()
    await peer.call("start")
    await peer.call("answer", question_index=0, answer="a")
    await peer.call("proctoring_event", events=[{"type": "paste"}, {"type": "copy"}, {"type": "custom:x"}])
    await live.elsewhere(c.Pause("x"), STAFF)
    await live.elsewhere(c.Resume(), STAFF)
    await peer.call("draft", question_index=1, draft="half")
    await live.elsewhere(c.NewLink(), STAFF)
    await live.elsewhere(c.End(), STAFF)
    await settled(1)
    live.token = candidate_token(SECRET, live.session_id, 2)
    whole = await live.join(after=0)
    assert await whole.ended(1) == COMPLETED
    assert [f["type"] for f in whole.frames if "seq" in f] == [
        *("connection", "state", "question", "answer_saved", "question", "proctoring", "proctoring", "proctoring"),
        *("paused", "resumed", "answer_saved", "completed"),
    ]
    return whole.frames[1:]


@pytest.mark.parametrize("who", ["candidate", "observer"])
@virtual
async def test_who_comes_back_gets_exactly_what_was_missed(who: str) -> None:
    async with living(questions=3) as live:
        frames = await history(live)
        credentials = {"token": KEY, "role": "observer"} if who == "observer" else {}
        end = live.client.states[live.session_id].seq
        if who == "observer":
            frames = (await live.join(after=0, **credentials)).frames[1:]
            await settled()
            assert [f["seq"] for f in frames] == list(range(1, end + 1))
        for after in range(end + 3):
            peer = await live.join(after=after, **credentials)
            assert await peer.ended(1) == COMPLETED
            assert peer.frames[0]["as_of"] == end
            expected = [(f["seq"], f["type"]) for f in frames if f["seq"] > after]
            assert [(f["seq"], f["type"]) for f in peer.frames[1:]] == expected, after


@virtual
async def test_without_after_there_is_the_state_only() -> None:
    async with living() as live:
        await live.begin()
        watching = await live.watch()
        assert watching.types == ["state"] and watching.frames[0]["as_of"] == live.client.states[live.session_id].seq
        await settled(5)
        assert watching.types == ["state"]


@virtual
async def test_an_after_that_is_still_to_come_is_none() -> None:
    async with living() as live:
        peer = await live.begin(after=2**53)
        assert peer.types[-3:] == ["state", "question", "ok"]


@pytest.mark.parametrize("missing", [1, 12, 39])
@virtual
async def test_who_was_cut_off_within_a_large_entry_gets_the_rest_of_it(missing: int) -> None:
    """A page may tell of forty kinds of events at once."""
    async with living() as live:
        peer = await live.begin()
        kinds = [f"custom:kind_{n}" for n in range(40)]
        reply = await peer.call("proctoring_event", events=[{"type": kind} for kind in kinds])
        assert reply["type"] == "ok" and len(peer.of("proctoring")) == 40
        last = peer.seqs[-1]
        await settled(1)
        peer.lose()
        await peer.ended()
        back = await live.join(after=last - missing)
        await settled(1)
        assert [f["event"]["type"] for f in back.of("proctoring")] == kinds[-missing:]


# What comes at the same time


@pytest.mark.parametrize("key", [KEY, None])
@virtual
async def test_the_first_frame_is_the_state_whatever_is_sent_at_once(key: str | None) -> None:
    async with living(key) as live:
        peer = live.peer(token=live.token if key else None)
        await peer.open()
        await peer.send("ping")
        await peer.send("start", command_id="s")
        await peer.reply("s")
        assert peer.types[0] == "state"


@virtual
async def test_commands_that_are_sent_again_at_once_do_not_overtake_what_was_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client comes back with `after` and an unanswered command, while the storage takes its time."""
    async with living() as live:
        first = await live.begin()
        await first.call("answer", question_index=0, answer="a")
        first.lose()
        await settled(1)
        entries, slow = live.client.store.entries, [True]

        async def slowly(session_id: str, after: int = 0, limit: int = 500) -> Any:
            found = await entries(session_id, after, limit)
            if slow and after < live.client.states[live.session_id].seq:
                slow.clear()
                await asyncio.sleep(0.5)
                found = await entries(session_id, after, limit)
            return found

        monkeypatch.setattr(live.client.store, "entries", slowly)
        back = await live.peer(token=live.token, after=0).open()
        await back.send("answer", command_id="again", question_index=1, answer="b")
        assert (await back.reply("again"))["type"] == "ok"
        await settled(2)
        assert [f["question_index"] for f in back.of("answer_saved")] == [0, 1]
        assert back.seqs == sorted(set(back.seqs))


@virtual
async def test_the_end_closes_it_even_if_a_command_was_the_first_to_see_it() -> None:
    async with living() as live:
        peer = await live.begin()
        await settled(1)
        await live.elsewhere(c.End(), STAFF)
        reply = await peer.call("draft", question_index=0, draft="too late")
        assert (reply["code"], reply["current_status"]) == ("state_conflict", "completed")
        assert peer.types[-2:] == ["completed", "error"]
        assert await peer.ended(1) == COMPLETED


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("first", ["the loss", "the news"])
@virtual
async def test_a_loss_at_the_very_moment_of_news_is_noted(turns: int, first: str) -> None:
    async with living() as live:
        peer = await live.begin()
        await settled(1)
        events: list[Callable[[], object]] = [peer.lose, lambda: live.client.tail.nudge(live.session_id)]
        for event in events if first == "the loss" else events[::-1]:
            event()
            for _ in range(turns):
                await asyncio.sleep(0)
        await settled(1)
        assert live.connections()[1:] == [("channel_lost", "signal_close"), ("clock_stopped", None)]


@pytest.mark.parametrize("turns", range(8))
@virtual
async def test_a_goodbye_at_the_very_moment_of_news_is_a_goodbye(turns: int) -> None:
    """Sending to one that has just closed fails, but it has not been lost."""
    for _ in range(5):
        async with living() as live:
            peer = await live.begin()
            await settled(1)
            await live.elsewhere(c.Extend(30, "x"), STAFF)
            live.client.tail.nudge(live.session_id)
            for _ in range(turns):
                await asyncio.sleep(0)
            peer.leave()
            assert await peer.ended(1) is None
            await settled()
            assert live.connections()[1:] == [("channel_closed", "client_initiated")]
