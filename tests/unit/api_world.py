"""A stand-in for the client behind the API: sessions in memory, and failures on purpose."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from actors.faces import assess
from actors.rooms import SessionRooms
from actors.still_checker import StillChecker
from actors.stills import SessionPictures
from actors.tail import JournalTail
from api.app import create_app
from orchestrator.errors import NotFound
from orchestrator.interview.allowed import conflict
from orchestrator.interview.commands import SYSTEM, Caller, Command, Create, Delete, NewLink, NoteSightings
from orchestrator.interview.decide import created, plan
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.presence import sign
from orchestrator.interview.proctoring import is_repeat
from orchestrator.interview.sightings import Sighting
from orchestrator.interview.snapshot import Draft, Snapshot
from orchestrator.interview.state import State, snapshot_of
from orchestrator.interview.view import session_view
from orchestrator.livekit import LiveKit
from orchestrator.policies import policy_of
from orchestrator.session import Reply
from orchestrator.settings import Settings
from orchestrator.storage.queries import ALL, Brief, Wanted
from orchestrator.storage.reports import StoredReport
from orchestrator.vision import LbpVerifier, check_frame
from tests.documented import check_answer
from tests.unit.evidence_world import MemoryEvidence
from tests.unit.key_world import MemoryKeys
from tests.unit.virtual import run_virtual
from tests.unit.webhook_world import MemoryWebhooks
from tests.unit.world import T0

P = ParamSpec("P")

BASE = "/api/parallel_interview"
BODY = {"name": "Ada", "email": "ada@example.com", "questions": ["Q1", "Q2"]}
SECRET = b"s" * 32
TELLING_TIME = ("actors.board", "actors.channels", "api.live", "api.routes.sessions", "api.routes.proctoring")
AS_DOCUMENTED = {"response": [check_answer]}
"""Every answer that a test gets is held against /openapi.json."""


class MemoryStore(MemoryWebhooks, MemoryEvidence, MemoryKeys):
    """Jobs, snapshots, journals, drafts, proofs of life and pictures in dictionaries. `away`: journals cannot be read,
    and this is raised."""

    secret = SECRET

    def __init__(self, states: dict[str, State]) -> None:
        super().__init__()
        MemoryKeys.__init__(self)
        self.states = states
        self.jobs: dict[str, dict[str, Any]] = {}
        self.job_versions: dict[tuple[str, int], dict[str, Any]] = {}
        self.journal: dict[str, list[Entry]] = {}
        self.drafts: dict[tuple[str, int], Draft] = {}
        self.proofs: dict[str, int] = {}
        self.reports: dict[str, StoredReport] = {}
        self.erased: list[dict[str, Any]] = []
        self.hooks = {}
        self.messages_by_id = {}
        self.away: Exception | None = None

    async def entries(self, session_id: str, after: int = 0, limit: int = 500) -> list[Entry]:
        self._check()
        found = [entry for entry in self.journal.get(session_id, []) if entry.seq > after]
        return found[:limit] if limit else found

    async def draft_of(self, session_id: str) -> Draft | None:
        found = [draft for (known, _), draft in self.drafts.items() if known == session_id]
        return found[-1] if found else None

    async def entries_beyond(self, session_id: str, after: int, limit: int) -> list[Entry]:
        before = [entry.seq for entry in self.journal.get(session_id, []) if entry.seq <= after]
        return await self.entries(session_id, before[-1] - 1 if before else 0, limit)

    async def grown(self, seqs: dict[str, int]) -> set[str]:
        self._check()
        return {s for s, seq in seqs.items() if any(entry.seq == seq + 1 for entry in self.journal.get(s, []))}

    def _check(self) -> None:
        if self.away is not None:
            raise self.away

    async def verify(self, session_id: str) -> dict[str, Any]:
        return {"ok": True, "entries": len(self.journal[session_id]), "head": "00", "broken_at": None}

    async def save_report(self, report: StoredReport) -> bool:
        known = self.reports.get(report.session_id)
        if known is not None and known.as_of >= report.as_of:
            return False
        self.reports[report.session_id] = report
        return True

    async def report_of(self, session_id: str) -> StoredReport | None:
        return self.reports.get(session_id)

    async def erase_report(self, session_id: str) -> None:
        self.reports.pop(session_id, None)

    async def note_erasure(self, at: int, by: str, sessions: int) -> None:
        self.erased.append({"at": at, "by": by, "sessions": sessions})

    async def erasures(self) -> list[dict[str, Any]]:
        return self.erased

    async def sessions_with_report(self, work: str, limit: int) -> list[str]:
        return [s for s, state in self.states.items() if state.report_work == work][:limit]

    async def alive(self, holder: str, now: int) -> None:
        self.proofs[holder] = now

    async def last_alive(self, holder: str) -> int | None:
        return self.proofs.get(holder)

    async def proofs_of_life(self, prefix: str) -> dict[str, int]:
        return {holder: at for holder, at in self.proofs.items() if holder.startswith(prefix)}

    async def forget_alive(self, holder: str) -> None:
        self.proofs.pop(holder, None)

    async def held_by_front_end(self, front_end: str, limit: int) -> list[str]:
        return [s for s, state in self.states.items() if state.presence.front_end == front_end][:limit]

    async def put_job(self, job: dict[str, Any], *, create: bool) -> bool:
        known = self.jobs.get(job["job_id"])
        if create == (known is not None) or (known and known["version"] != job["version"] - 1):
            return False
        self.jobs[job["job_id"]] = job
        self.job_versions[job["job_id"], job["version"]] = job
        return True

    async def list_jobs(self) -> list[dict[str, Any]]:
        return sorted(self.jobs.values(), key=lambda job: job["job_id"])

    async def get_job_version(self, job_id: str, version: int) -> dict[str, Any] | None:
        return self.job_versions.get((job_id, version)) if job_id in self.jobs else None

    async def get_job(self, job_id: str) -> dict[str, Any] | None:
        return self.jobs.get(job_id)

    async def list_snapshots(
        self, wanted: Wanted = ALL, *, limit: int, before: tuple[int, str] | None = None
    ) -> list[Snapshot]:
        found = sorted(map(snapshot_of, self.states.values()), key=_place, reverse=True)
        wanted_ones = [s for s in found if wanted.email in (None, s.email) and wanted.status in (None, s.status)]
        return [s for s in wanted_ones if before is None or _place(s) < before][:limit]

    async def count_snapshots(self, wanted: Wanted = ALL) -> int:
        return len(await self.list_snapshots(wanted, limit=10**9))

    async def changed_since(self, at: int, limit: int) -> list[Brief]:
        """All: whoever asks has to see what of it is news."""
        self._check()
        return self._briefs(list(self.states))[:limit]

    async def live(self, limit: int) -> list[Brief]:
        self._check()
        return [brief for brief in self._briefs(list(self.states)) if brief.status == "in_progress"][:limit]

    async def ended_since(self, at: int, limit: int) -> list[Brief]:
        self._check()
        found = [brief for brief in self._briefs(list(self.states)) if (brief.ended_at or 0) >= at]
        return sorted(found, key=lambda brief: brief.ended_at or 0, reverse=True)[:limit]

    async def still_there(self, session_ids: list[str]) -> list[Brief]:
        return self._briefs(session_ids)

    async def snapshots_of(self, session_ids: list[str]) -> list[Snapshot]:
        self._check()
        return [snapshot_of(self.states[session_id]) for session_id in session_ids if session_id in self.states]

    def _briefs(self, session_ids: list[str]) -> list[Brief]:
        states = [self.states[session_id] for session_id in session_ids if session_id in self.states]
        return [Brief(s.session_id, s.seq, s.status, s.started_at, s.completed_at) for s in states]


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
        self.tail = JournalTail(self.store)
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
        reply = await self.elsewhere(session_id, command, caller, command_id)
        self.tail.nudge(session_id)
        return reply

    async def elsewhere(
        self, session_id: str, command: Command, caller: Caller = SYSTEM, command_id: str | None = None
    ) -> Reply:
        """As another front end or an actor does it: nobody here is told."""
        state = await self.read(session_id)
        draft = self.store.drafts.get((session_id, state.open.index)) if state.open is not None else None
        planned = plan(state, command, caller, command_id, self.now(), draft)
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
                    tombstone=isinstance(command, Delete),
                ),
            )
        return self._reply(session_id, caller, planned.replayed)

    async def draft(
        self, session_id: str, index: int, text: str, revision: int | None, caller: Caller
    ) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        state = await self.read(session_id)
        if state.open is None or state.open.index != index:
            raise conflict(state, f"Question {index} is not open; drafts are kept for the open question only.")
        if back := sign(state, self.now()):
            self._append(session_id, new_entry(session_id, state.next_seq, 0, self.now(), back))
        stored = self.store.drafts.get((session_id, index))
        known = stored.revision if stored is not None else 0
        wanted = known + 1 if revision is None else revision
        if wanted < known:
            return {"revision": known, "saved": False}
        self.store.drafts[session_id, index] = Draft(session_id, index, 0, wanted, text, self.now())
        return {"revision": wanted, "saved": True}

    async def delete(self, session_id: str, caller: Caller, if_match: int | None = None) -> None:
        await self.send(session_id, Delete(), caller)
        del self.states[session_id]
        self.store.journal[session_id] = [replace(entry, body="") for entry in self.store.journal[session_id]]

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

    async def cluster(self) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        return {"live_actors": 0, "warm_actors": 0, "capacity": 8, "nodes": [], "parked": []}

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
async def serving(
    client: MemoryClient | None = None, key: str | None = None, **changes: Any
) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient, MemoryClient]]:
    """The application over ASGI, started and stopped. Its answers have to be as documented. `changes`: of its
    settings."""
    settings = Settings(_env_file=None, mongodb_url=None)  # pyright: ignore[reportCallIssue]
    settings = settings.model_copy(update={"api_key": SecretStr(key) if key else None, **changes})
    behind = client or MemoryClient()
    app = create_app(settings, behind)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", event_hooks=AS_DOCUMENTED) as http,
    ):
        yield app, http, behind


@asynccontextmanager
async def api(
    client: MemoryClient | None = None, key: str | None = None, **changes: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, MemoryClient]]:
    """What tests call, and what is behind it."""
    async with serving(client, key, **changes) as (_, http, behind):
        yield http, behind


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test on a virtual loop, with the wall clock that goes with it in the live channel."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def scenario(clock: Callable[[], int]) -> None:
            with pytest.MonkeyPatch.context() as patch:
                for module in TELLING_TIME:
                    patch.setattr(f"{module}.wall_ms", clock)
                await test(*args, **kwargs)

        run_virtual(scenario)

    return run


async def make(http: httpx.AsyncClient, **headers: str) -> dict[str, Any]:
    """Create a session; the whole answer."""
    answer = await http.post(f"{BASE}/create", json=BODY, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _place(snapshot: Snapshot) -> tuple[int, str]:
    return snapshot.created_at, snapshot.session_id
