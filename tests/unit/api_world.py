"""A stand-in for the client behind the API: sessions in memory, and failures on purpose."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr

from actors.faces import assess
from actors.rooms import SessionRooms
from actors.still_checker import StillChecker
from actors.stills import SessionPictures
from api.app import create_app
from orchestrator.errors import NotFound
from orchestrator.interview.commands import Caller, Command, Create, NewLink, NoteSightings
from orchestrator.interview.decide import created, plan
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.proctoring import is_repeat
from orchestrator.interview.sightings import Sighting
from orchestrator.interview.snapshot import Snapshot
from orchestrator.interview.state import State, snapshot_of
from orchestrator.interview.view import session_view
from orchestrator.livekit import LiveKit
from orchestrator.policies import policy_of
from orchestrator.session import Reply
from orchestrator.settings import Settings
from orchestrator.vision import LbpVerifier, check_frame
from tests.unit.evidence_world import MemoryEvidence
from tests.unit.world import T0

BASE = "/api/parallel_interview"
BODY = {"name": "Ada", "email": "ada@example.com", "questions": ["Q1", "Q2"]}
SECRET = b"s" * 32


class MemoryStore(MemoryEvidence):
    """Jobs, snapshots, journals and pictures in dictionaries."""

    secret = SECRET

    def __init__(self, states: dict[str, State]) -> None:
        super().__init__()
        self.states = states
        self.jobs: dict[str, dict[str, Any]] = {}
        self.journal: dict[str, list[Entry]] = {}

    async def entries(self, session_id: str, after: int = 0, limit: int = 500) -> list[Entry]:
        found = [entry for entry in self.journal.get(session_id, []) if entry.seq > after]
        return found[:limit] if limit else found

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


class MemoryPictures(SessionPictures):
    """With a FaceActor in this very process. `away`: it raises this; `called`: what it was asked."""

    def __init__(self, settings: Settings, client: Any) -> None:
        super().__init__(settings, client, SECRET)
        self.verifier = LbpVerifier()
        self.checker = StillChecker(client.store, client, self._check)
        self.away: Exception | None = None
        self.called: list[str] = []
        self.work: asyncio.Task[None] | None = None

    def _check(self, image: bytes, template: bytes | None) -> Any:
        return check_frame(image, template, self.verifier)

    async def _call(self, session_id: str, method: str, *args: Any, timeout: float, patient: bool = False) -> Any:
        self.called.append(method)
        if self.away is not None:
            raise self.away
        if method == "assess":
            return await asyncio.to_thread(assess, args[0], self.verifier)
        if method == "forget":
            return self.checker.forget(args[0])
        if self.work is None:
            self.work = asyncio.get_running_loop().create_task(self.checker.work())
        return await self.checker.look(args[0])


@dataclass
class MemoryClient:
    """What routes call. `failure` is raised by the next command. `clock`: the time of commands, in ms."""

    failure: Exception | None = None
    states: dict[str, State] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    settings: Settings = field(default_factory=lambda: Settings(_env_file=None))  # pyright: ignore[reportCallIssue]
    clock: Callable[[], int] | None = None

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.states)
        self.livekit = LiveKit(self.settings, SECRET)
        self.rooms = SessionRooms(self.livekit, self, 180_000)
        self.pictures = MemoryPictures(self.settings, self)

    async def create(self, command: Create, caller: Caller, command_id: str | None) -> Reply:
        replayed = command_id in self.keys
        session_id = self.keys.get(command_id or "") or str(uuid.uuid4())
        if command_id is not None:
            self.keys[command_id] = session_id
        if not replayed:
            room = await self.rooms.first(session_id, command.scheduled_at)
            how = {"policy": self.settings.proctoring_policy, "frame_seconds": self.settings.frame_seconds}
            now = self.clock() if self.clock else T0 + len(self.states)
            self._append(session_id, new_entry(session_id, 1, 0, now, created(command, room, how), by=caller.principal))
        return self._reply(session_id, caller, replayed)

    async def send(
        self, session_id: str, command: Command, caller: Caller, command_id: str | None = None, *_: Any
    ) -> Reply:
        if self.failure is not None:
            raise self.failure
        state = await self.read(session_id)
        planned = plan(state, command, caller, command_id, self.now())
        if planned.events:
            self._append(
                session_id,
                new_entry(
                    session_id,
                    state.next_seq,
                    0,
                    self.now(),
                    planned.events,
                    by=caller.principal,
                    command=planned.command,
                ),
            )
        return self._reply(session_id, caller, planned.replayed)

    async def note(
        self, session_id: str, sightings: tuple[Sighting, ...], caller: Caller, identity: tuple[str, str] | None
    ) -> Reply:
        state = await self.read(session_id)
        if is_repeat(state, identity):
            return self._reply(session_id, caller, True)
        keyed = ((*identity, sightings),) if identity is not None else ()
        return await self.send(session_id, NoteSightings(() if keyed else sightings, keyed), caller)

    def now(self) -> int:
        return self.clock() if self.clock else T0 + 1000

    def _append(self, session_id: str, entry: Entry) -> None:
        self.states[session_id] = fold(self.states.get(session_id), entry)
        self.store.journal.setdefault(session_id, []).append(entry)

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
        if self.pictures.work is not None:
            self.pictures.work.cancel()

    def _reply(self, session_id: str, caller: Caller, replayed: bool) -> Reply:
        state = self.states[session_id]
        return Reply(session_view(state, self.now(), caller.role, policy_of(state)), state.version, replayed)


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
