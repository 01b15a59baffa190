"""A stand-in for the client behind the API: sessions in memory, and failures on purpose."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr

from actors.rooms import SessionRooms
from api.app import create_app
from orchestrator.errors import NotFound
from orchestrator.interview.commands import Caller, Command, Create, NewLink
from orchestrator.interview.decide import created, decide
from orchestrator.interview.entry import new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.snapshot import Snapshot
from orchestrator.interview.state import State, snapshot_of
from orchestrator.interview.view import session_view
from orchestrator.livekit import LiveKit
from orchestrator.session import Reply
from orchestrator.settings import Settings
from tests.unit.world import T0

BASE = "/api/parallel_interview"
BODY = {"name": "Ada", "email": "ada@example.com", "questions": ["Q1", "Q2"]}
SECRET = b"s" * 32


class MemoryStore:
    """Jobs and snapshots in dictionaries."""

    secret = SECRET

    def __init__(self, states: dict[str, State]) -> None:
        self.states = states
        self.jobs: dict[str, dict[str, Any]] = {}

    async def put_job(self, job: dict[str, Any], *, create: bool) -> bool:
        if create == (job["job_id"] in self.jobs):
            return False
        self.jobs[job["job_id"]] = job
        return True

    async def get_job(self, job_id: str) -> dict[str, Any] | None:
        return self.jobs.get(job_id)

    async def list_snapshots(self, *, limit: int, before: tuple[int, str] | None, **_: Any) -> list[Snapshot]:
        found = sorted(map(snapshot_of, self.states.values()), key=_place, reverse=True)
        return [s for s in found if before is None or _place(s) < before][:limit]


@dataclass
class MemoryClient:
    """What routes call. `failure` is raised by the next command."""

    failure: Exception | None = None
    states: dict[str, State] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    settings: Settings = field(default_factory=lambda: Settings(_env_file=None))  # pyright: ignore[reportCallIssue]

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.states)
        self.livekit = LiveKit(self.settings, SECRET)
        self.rooms = SessionRooms(self.livekit, self, 180_000)

    async def create(self, command: Create, caller: Caller, command_id: str | None) -> Reply:
        replayed = command_id in self.keys
        session_id = self.keys.get(command_id or "") or str(uuid.uuid4())
        if command_id is not None:
            self.keys[command_id] = session_id
        if not replayed:
            room = await self.rooms.first(session_id, command.scheduled_at)
            entry = new_entry(session_id, 1, 0, T0 + len(self.states), created(command, room))
            self.states[session_id] = fold(None, entry)
        return self._reply(session_id, caller, replayed)

    async def send(
        self, session_id: str, command: Command, caller: Caller, command_id: str | None = None, *_: Any
    ) -> Reply:
        if self.failure is not None:
            raise self.failure
        state = await self.read(session_id)
        events = decide(state, command, caller, T0 + 1000)
        if events:
            entry = new_entry(session_id, state.next_seq, 0, T0 + 1000, events)
            self.states[session_id] = fold(state, entry)
        return self._reply(session_id, caller, False)

    async def renew_link(self, session_id: str) -> None:
        await self.send(session_id, NewLink(), Caller("staff", "staff"))

    async def read(self, session_id: str) -> State:
        await asyncio.sleep(0)
        if session_id not in self.states:
            raise NotFound.session(session_id)
        return self.states[session_id]

    async def catch_up(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _reply(self, session_id: str, caller: Caller, replayed: bool) -> Reply:
        state = self.states[session_id]
        return Reply(session_view(state, T0 + 1000, caller.role), state.version, replayed)


@asynccontextmanager
async def api(
    client: MemoryClient | None = None, key: str | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, MemoryClient]]:
    """The application over ASGI, started and stopped."""
    settings = Settings(_env_file=None, mongodb_url=None)  # pyright: ignore[reportCallIssue]
    settings = settings.model_copy(update={"api_key": SecretStr(key) if key else None})
    behind = client or MemoryClient()
    app = create_app(settings, behind)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        yield http, behind


async def make(http: httpx.AsyncClient, **headers: str) -> dict[str, Any]:
    """Create a session; the whole answer."""
    answer = await http.post(f"{BASE}/create", json=BODY, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _place(snapshot: Snapshot) -> tuple[int, str]:
    return snapshot.created_at, snapshot.session_id
