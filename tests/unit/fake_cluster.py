"""A cluster in one process: interview actors are real objects, their processes can be killed and stopped.

What `actors.cluster` does with Ray is done here with tasks; everything that Registry needs of the Store is in
memory. Whatever an actor does to the storage passes through its process, so a dead one writes nothing and a
stopped one waits.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, TypeVar

import pytest

from actors import cluster, registry, size, supervisor
from actors.interview import Activation, InterviewActor
from actors.journal import Outages
from actors.registry import Registry
from actors.scaling import Amount, NodeRoom
from actors.supervisor import Placement
from orchestrator.errors import OrchestratorError, Unavailable
from orchestrator.interview.commands import Command, Start
from orchestrator.interview.entry import Entry
from orchestrator.interview.snapshot import Draft, Snapshot
from orchestrator.interview.state import State, dump_state
from orchestrator.journal import Appended, Collision, Loaded, Outage
from orchestrator.session import Reply, Request, Session
from orchestrator.settings import Settings
from tests.unit.world import STAFF, MemoryJournal, new_session

T = TypeVar("T")
Clock = Callable[[], int]


class MemoryStore(MemoryJournal):
    """The Store, as far as the Registry uses it, and what a JournalActor tells of it.

    `away`: every call fails. `drafts_away`: drafts cannot be saved.
    """

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.proofs: dict[str, int] = {}
        self.draining: set[str] = set()
        self.drafts_away = False
        self.outages = Outages()

    def _check(self) -> None:
        if self.away:
            raise Unavailable("The storage is away.", retry_after=1, since=self.outages.last_success)

    def prove_life(self, nodes: Iterable[str], now: int) -> None:
        if not self.away:
            self.proofs |= dict.fromkeys(nodes, now)
            self.outages.success(now)

    async def next_outage(self, after: int) -> Outage | None:
        return await self.outages.next(after)

    async def append(self, entry: Entry, prev_mac: str) -> Appended | Collision | Outage:
        self._check()
        return await super().append(entry, prev_mac)

    async def load(self, session_id: str) -> Loaded | None:
        self._check()
        return await super().load(session_id)

    async def save_snapshot(self, snapshot: Snapshot) -> bool:
        self._check()
        return await super().save_snapshot(snapshot)

    async def save_draft(self, draft: Draft) -> bool:
        self._check()
        if self.drafts_away:
            raise Unavailable("The draft is being written by others.", retry_after=1)
        return await super().save_draft(draft)

    async def in_progress(self, limit: int) -> list[str]:
        self._check()
        found = [s for s in self.snapshots.values() if s.status == "in_progress" and s.status_detail != "parked"]
        found.sort(key=lambda s: (s.deadline is None, s.deadline or 0))
        return [s.session_id for s in found][:limit]

    async def count_scheduled(self, since: int, until: int) -> int:
        self._check()
        waiting = [s for s in self.snapshots.values() if s.status == "initialized" and s.scheduled_at is not None]
        return sum(since <= (s.scheduled_at or 0) < until for s in waiting)

    async def alive(self, holder: str, now: int) -> None:
        self._check()
        self.proofs[holder] = now

    async def last_alive(self, holder: str) -> int | None:
        self._check()
        return self.proofs.get(holder)

    async def set_draining(self, node: str, draining: bool) -> None:
        self._check()
        (self.draining.add if draining else self.draining.discard)(node)

    async def draining_nodes(self) -> set[str]:
        self._check()
        return set(self.draining)


class Process:
    """One actor's process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.node = ""
        self.spread = False
        self.actor: Any = None
        self.doomed = False
        self.running = asyncio.Event()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.cut_off: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return self.name

    @property
    def dead(self) -> bool:
        return self.ended.done()

    def kill(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def kill_if_reached(self) -> None:
        """As Ray does: one that is cut off ends when it can be reached again."""
        self.doomed = True
        if not self.cut_off.done():
            self.kill()

    def stop(self) -> None:
        """As by SIGSTOP: calls and the storage's answers wait until it goes on. (Its timers do not.)"""
        self.running.clear()

    def go_on(self) -> None:
        self.running.set()

    def cut(self) -> None:
        """Nobody can reach it, though it runs and reaches the storage."""
        if not self.cut_off.done():
            self.cut_off.set_result(None)

    def mend(self) -> None:
        self.cut_off = asyncio.get_running_loop().create_future()
        if self.doomed:
            self.kill()

    async def serve(self, method: str, args: tuple[Any, ...]) -> Any:
        await self.running.wait()
        result = await getattr(self.actor, method)(*args)
        await self.running.wait()
        return result


class ProcessJournal:
    """The storage as one process sees it: a dead process gets no answer, and sends nothing either."""

    def __init__(self, process: Process, world: World) -> None:
        self._process, self._world = process, world
        self._heard: int | None = None

    async def _pass(self, work: Callable[[], Awaitable[T]]) -> T:
        await self._alive()
        result = await work()
        await self._alive()
        return result

    async def _alive(self) -> None:
        await self._process.running.wait()
        if self._process.dead:
            await asyncio.get_running_loop().create_future()

    async def append(self, entry: Entry, prev_mac: str) -> Appended | Collision | Outage:
        if self._heard is not None and (news := self._world.store.outages.ended_after(self._heard)) is not None:
            self._heard = news.until
            return await self._pass(lambda: asyncio.sleep(0, news))
        activates = '"activated"' in entry.body
        if activates and entry.session_id in self._world.kills_before:
            self._process.kill()
        result = await self._pass(lambda: self._world.store.append(entry, prev_mac))
        if activates and isinstance(result, Appended) and entry.session_id in self._world.kills_after:
            self._process.kill()
            await self._alive()
        return result

    async def load(self, session_id: str) -> Loaded | None:
        return await self._pass(lambda: self._world.store.load(session_id))

    async def save_snapshot(self, snapshot: Snapshot) -> bool:
        return await self._pass(lambda: self._world.store.save_snapshot(snapshot))

    async def insert_snapshot(self, snapshot: Snapshot) -> bool:
        return await self._pass(lambda: self._world.store.insert_snapshot(snapshot))

    async def save_draft(self, draft: Draft) -> bool:
        return await self._pass(lambda: self._world.store.save_draft(draft))

    async def next_outage(self, after: int) -> Outage | None:
        self._heard = max(after, self._heard or after)
        return await self._pass(lambda: self._world.store.next_outage(after))


class _Housekeeper:
    async def ping(self) -> bool:
        return True


class World:
    """Nodes, the storage, a Registry, and the processes that it has started."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        clock: Clock,
        *,
        places: dict[str, int] | None = None,
        warm: int = 2,
        **more: Any,
    ) -> None:
        self.clock = clock
        self.store = MemoryStore()
        self.places = places or {"node-1": 100}
        self.boot_seconds = 1.0
        self.processes: list[Process] = []
        self.ending: set[str] = set()
        self.requests: list[int] = []
        self.scaling_breaks = False
        """Places in all that were asked for."""
        self.journals_ended: set[str] = set()
        self.kills_before: set[str] = set()
        self.kills_after: set[str] = set()
        self.registry: Registry
        self._numbers = itertools.count(1)
        self._housekeeper = Process("Housekeeper")
        self._housekeeper.actor = _Housekeeper()
        self._housekeeper.go_on()
        self._tasks = {asyncio.create_task(self._prove_life())}
        settings = Settings(warm_actors=warm, actor_cpus=1.0, actor_memory_mb=1, _env_file=None, **more)  # pyright: ignore[reportCallIssue]
        monkeypatch.setattr(registry, "get_settings", lambda: settings)
        monkeypatch.setattr(registry, "wall_ms", clock)
        monkeypatch.setattr(supervisor, "wall_ms", clock)
        monkeypatch.setattr(registry.logs, "configure", lambda *_: None)
        monkeypatch.setattr("actors.storage.open_store", self._open_store)
        monkeypatch.setattr(cluster, "call", self._call)
        monkeypatch.setattr(cluster, "find", self._find)
        monkeypatch.setattr(cluster, "names", self._names)
        monkeypatch.setattr(cluster, "kill", Process.kill_if_reached)
        monkeypatch.setattr(cluster, "restart", Process.kill_if_reached)
        monkeypatch.setattr(cluster, "start_interview_actor", self._start)
        monkeypatch.setattr(cluster, "rooms", self._rooms)
        monkeypatch.setattr(cluster, "ending_nodes", self._ending_nodes)
        monkeypatch.setattr(cluster, "request_total", self._request_total)
        monkeypatch.setattr(cluster, "request_is_infeasible", self._request_is_infeasible)
        monkeypatch.setattr(cluster, "end_journal", self._end_journal)
        monkeypatch.setattr(size, "wall_ms", clock)
        monkeypatch.setattr(cluster, "ensure_housekeeper", self._ensure_housekeeper)
        monkeypatch.setattr(cluster, "record", lambda *_: None)
        monkeypatch.setattr(cluster, "raise_priority", lambda _: None)

    # What stands in for Ray

    async def _open_store(self) -> MemoryStore:
        return self.store

    async def _call(
        self, handle: Process, method: str, *args: Any, label: str | None = None, timeout: float | None = 5.0
    ) -> Any:
        assert method == "ping" or (label or "").startswith("interview "), "Ray's dashboard shows calls by their names"
        if handle.dead:
            raise cluster.ActorGone("The actor's process has ended.")
        cut_off = handle.cut_off
        if cut_off.done():
            raise cluster.ActorAway("The actor cannot be reached.")
        task = asyncio.ensure_future(handle.serve(method, args))
        ends = {task, handle.ended, cut_off}
        done, _ = await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if handle.dead:
            raise cluster.ActorGone("The actor's process has ended.")
        if cut_off.done():
            raise cluster.ActorAway("The actor cannot be reached.")
        if task not in done:
            raise cluster.ActorSilent(f"No answer to {method}.")
        if isinstance(task.result(), OrchestratorError):
            raise task.result()
        return task.result()

    async def _find(self, name: str) -> Process | None:
        return next((p for p in self.processes if p.name == name and not p.dead), None)

    async def _names(self) -> list[str]:
        return ["Registry", *(p.name for p in self.processes if not p.dead)]

    def _start(self, name: str, cpus: float, memory: int, avoid: Collection[str], *_: Any, spread: bool) -> Process:
        process = Process(name)
        process.spread = spread
        self.processes.append(process)
        self._spawn(self._boot(process, avoid))
        return process

    async def _boot(self, process: Process, avoid: Collection[str]) -> None:
        while not process.dead:
            room = [node for node in self.places if self._free(node) and node not in avoid]
            if room:
                process.node = max(room, key=self._free)
                await asyncio.sleep(self.boot_seconds)
                actor = InterviewActor(process.name, ProcessJournal(process, self), process.node, self.clock)
                actor._exit = process.kill
                process.actor = actor
                process.go_on()
                return
            await asyncio.sleep(0.1)

    def _free(self, node: str) -> int:
        return self.places[node] - sum(p.node == node and not p.dead for p in self.processes)

    async def _rooms(self, _: str | None) -> dict[str, NodeRoom]:
        return {
            node: NodeRoom(Amount(n, n * 2.0**20), Amount(self._free(node), self._free(node) * 2.0**20))
            for node, n in self.places.items()
        }

    async def _ending_nodes(self) -> set[str]:
        if self.scaling_breaks:
            raise RuntimeError("a Ray of another version")
        return set(self.ending)

    async def _request_total(self, pieces: list[tuple[Amount, int]], _: str | None) -> None:
        self.requests.append(round(sum(amount.cpu * count for amount, count in pieces)))

    async def _request_is_infeasible(self) -> bool:
        return False

    async def _end_journal(self, node: str) -> None:
        self.journals_ended.add(node)

    async def _ensure_housekeeper(self) -> Process:
        return self._housekeeper

    async def _prove_life(self) -> None:
        while True:
            self.store.prove_life(self.places, self.clock())
            await asyncio.sleep(1)

    # What tests do

    async def start_registry(self) -> None:
        """A Registry; the one before it, if any, dies with all that it was about to do."""
        if hasattr(self, "registry"):
            self.kill_registry()
        self.registry = Registry("Registry")
        while not await self.registry.ping():
            await asyncio.sleep(0.05)

    def kill_registry(self) -> None:
        for task in (
            self.registry._main,
            *self.registry._supervisor._tasks,
            *self.registry._supervisor.activating.values(),
        ):
            task.cancel()

    async def start(self, session_id: str = "s1", **changes: Any) -> Process:
        """Start an interview: the process that holds it."""
        state = await new_session(self.store, session_id, self.clock(), **changes)
        placement = await self.registry.activate(self.starts(state))
        assert isinstance(placement, Placement) and isinstance(placement.reply, Reply), placement
        return await self.holder(session_id)

    def starts(self, state: State) -> Activation:
        return Activation(state.session_id, dump_state(state), "start", Request(Start(), STAFF, self.clock()))

    async def send(self, command: Command, session_id: str = "s1", process: Process | None = None) -> Any:
        """What a front end does, once: the reply, or the error."""
        process = process or await self.holder(session_id)
        try:
            request, label = Request(command, STAFF, self.clock()), f"interview {session_id}: command"
            return await self._call(process, "execute", session_id, request, label=label, timeout=2.0)
        except OrchestratorError as error:
            return error

    async def state(self, session_id: str = "s1") -> State:
        away, self.store.away = self.store.away, False
        state = (await Session.load(self.store, session_id)).state
        self.store.away = away
        return state

    async def holder(self, session_id: str = "s1") -> Process:
        """The process that the journal names as the session's owner."""
        name = (await self.state(session_id)).actor
        return next(p for p in self.processes if p.name == name)

    async def held_by(self, session_id: str = "s1", *, other_than: Process, seconds: float = 30) -> Process:
        """Wait until another process holds the session."""
        async with asyncio.timeout(seconds):
            while (await self.state(session_id)).actor in (None, other_than.name):
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        return await self.holder(session_id)

    def alive(self) -> list[Process]:
        return [p for p in self.processes if not p.dead]

    async def credits(self, session_id: str = "s1") -> dict[str, int]:
        """What was credited, by cause (ms)."""
        total: dict[str, int] = {}
        for line in (await self.state(session_id)).ledger:
            total[line.cause] = total.get(line.cause, 0) + line.ms
        return total

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
