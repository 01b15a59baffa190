"""Registry: activates interviews, supervises them, and keeps a pool of warm actors. One in the cluster.

It holds nothing that cannot be found again: who holds which session is asked of the live actors when it
starts, and the journal is the only lock. Supervising one interview is one await of its actor's `run`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors import cluster
from actors.clock import wall_ms
from actors.interview import Activation, DeactivationReason
from actors.pool import WarmPool
from orchestrator import logs
from orchestrator.errors import ClusterFull, NotFound, OrchestratorError, Retryable, Unavailable
from orchestrator.session import Reply, state_of
from orchestrator.settings import get_settings

if TYPE_CHECKING:
    from orchestrator.storage.store import Store

log = logging.getLogger(__name__)

PING_SECONDS = 1.0
ACTIVATION_SECONDS = 8.0
RECOVER_AT_ONCE = 4
RECOVER_EVERY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a session is held now, and what became of the command that caused the activation."""

    actor: str
    reply: Reply | None


@dataclass(slots=True)
class Live:
    """One interview under supervision."""

    session_id: str
    actor: str
    handle: Any
    since: int


class Registry:
    """The supervisor. Errors are returned as values."""

    def __init__(self, name: str) -> None:
        logs.configure()
        cluster.raise_priority(0)
        self._name = name
        self._settings = get_settings()
        self._store: Store | None = None
        self._live: dict[str, Live] = {}
        self._activating: dict[str, asyncio.Task[Placement | OrchestratorError]] = {}
        self._supervisors: set[asyncio.Task[None]] = set()
        self._pool = WarmPool(
            start=self._start_actor,
            wanted=self._settings.warm_actors,
            at_once=max(1, min(os.cpu_count() or 1, 4)),
        )
        self._free: tuple[float, float] = (0.0, 0.0)
        self._free_until = 0.0
        self._ready = asyncio.Event()
        self._main = asyncio.get_running_loop().create_task(self._recover_then_watch())

    def __repr__(self) -> str:
        return self._name

    async def ping(self) -> bool:
        return self._ready.is_set()

    async def activate(self, activation: Activation) -> Placement | OrchestratorError:
        """Make sure that a session in progress (or about to start) is held. Single-flight per session.

        Returns where it is held and, if this call did the activation, the reply of its command.
        """
        await self._ready.wait()
        session_id = activation.session_id
        live = self._live.get(session_id)
        if live is not None:
            return Placement(live.actor, None)
        task = self._activating.get(session_id)
        if task is not None:
            result = await asyncio.shield(task)
            return result if isinstance(result, OrchestratorError) else Placement(result.actor, None)
        task = asyncio.get_running_loop().create_task(self._activate_or_error(activation))
        self._activating[session_id] = task
        task.add_done_callback(lambda _: self._activating.pop(session_id, None))
        return await asyncio.shield(task)

    async def ensure(self, session_id: str) -> Placement | OrchestratorError:
        """Where a session in progress is held; it is activated first if nobody holds it."""
        await self._ready.wait()
        live = self._live.get(session_id)
        if live is not None:
            return Placement(live.actor, None)
        try:
            activation = await self._recovery_of(session_id, "recovered")
        except OrchestratorError as error:
            return error
        if activation is None:
            return NotFound("No actor holds this session, and it needs none.", session_id=session_id)
        return await self.activate(activation)

    async def suspect(self, session_id: str, actor: str) -> bool:
        """A front end got no answer from this actor. Ping it; take its session over if it is hung."""
        live = self._live.get(session_id)
        if live is None or live.actor != actor:
            return True
        try:
            await cluster.call(live.handle, "ping", timeout=1.0)
            return False
        except cluster.ActorGone:
            return True
        except Retryable:
            log.warning("actor hung", extra={"session_id": session_id, "actor": actor})
            silent_since = wall_ms() - 3_000
            self._live.pop(session_id, None)
            await self._activate_or_error(Activation(session_id, None, "hung", silent_since=silent_since))
            cluster.kill(live.handle)
            return True

    async def status(self) -> dict[str, Any]:
        """Live and warm actors, room for more, and the sessions held (ids only)."""
        return {
            "live_actors": len(self._live),
            "warm_actors": self._pool.ready,
            "starting_actors": self._pool.starting,
            "capacity": len(self._live) + self._pool.ready + self._pool.starting + await self._free_places(),
            "placements": {live.actor: live.session_id for live in self._live.values()},
        }

    async def end(self, session_id: str) -> None:
        """End the actor of a session that was deleted."""
        live = self._live.pop(session_id, None)
        if live is not None:
            cluster.kill(live.handle)

    async def _activate_or_error(self, activation: Activation) -> Placement | OrchestratorError:
        try:
            return await self._activate(activation)
        except OrchestratorError as error:
            return error

    async def _activate(self, activation: Activation) -> Placement:
        """Try warm actors until one has taken the session; dead or silent ones are thrown away."""
        give_up = asyncio.get_running_loop().time() + ACTIVATION_SECONDS
        while True:
            name, handle = await self._take_actor()
            run = asyncio.ensure_future(cluster.call(handle, "run", activation, label=_label(activation), timeout=None))
            left = max(0.5, give_up - asyncio.get_running_loop().time())
            try:
                reply: Reply = await cluster.call(handle, "activated", timeout=left)
            except (cluster.ActorGone, cluster.ActorSilent) as error:
                run.cancel()
                cluster.kill(handle)
                if asyncio.get_running_loop().time() >= give_up:
                    raise Unavailable("No actor could take the session in time.", retry_after=1) from error
                continue
            except OrchestratorError:
                run.cancel()
                cluster.kill(handle)
                raise
            live = Live(activation.session_id, name, handle, wall_ms())
            self._live[activation.session_id] = live
            self._watch(live, run)
            return Placement(name, reply)

    async def _take_actor(self) -> tuple[str, Any]:
        if not self._pool.ready and not self._pool.starting and await self._free_places() < 1:
            raise ClusterFull("Every place for a live interview is taken; try again soon.", retry_after=5)
        return await self._pool.take(self._settings.start_wait_seconds)

    def _watch(self, live: Live, run: asyncio.Future[Any]) -> None:
        task = asyncio.get_running_loop().create_task(self._supervise(live, run))
        self._supervisors.add(task)
        task.add_done_callback(self._supervisors.discard)

    async def _supervise(self, live: Live, run: asyncio.Future[Any]) -> None:
        """Await the end of one run, and see to it that a session in progress is held again."""
        reason = await self._end_of(live, run)
        if self._live.get(live.session_id) is not live:
            return
        del self._live[live.session_id]
        log.info("run ended", extra={"session_id": live.session_id, "reason": reason})
        cluster.kill(live.handle)
        self._pool.refill()
        if reason in (DeactivationReason.COMPLETED, DeactivationReason.DELETED, DeactivationReason.REFUSED):
            return
        cause = reason.value if isinstance(reason, DeactivationReason) else "crash"
        await self._reactivate(live.session_id, cause)

    async def _end_of(self, live: Live, run: asyncio.Future[Any]) -> DeactivationReason | None:
        """Why the run ended; None if the process is dead."""
        while True:
            try:
                return await run
            except cluster.ActorGone:
                return None
            except OrchestratorError:
                await asyncio.sleep(0.2)
                run = asyncio.ensure_future(cluster.call(live.handle, "joined", timeout=None))

    async def _reactivate(self, session_id: str, cause: str) -> None:
        """Take a session up again after its holder was lost; keep trying while it is in progress."""
        delay = 0.1
        while True:
            try:
                activation = await self._recovery_of(session_id, cause)
                if activation is None:
                    return
                result = await self.activate(activation)
            except OrchestratorError as error:
                result = error
            if not isinstance(result, Retryable):
                return
            log.warning("not re-activated yet", extra={"session_id": session_id, "reason": result.code})
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _recovery_of(self, session_id: str, cause: str) -> Activation | None:
        """What a new holder needs; None if the session needs none. Reads the last proof of life."""
        store = await self._opened()
        loaded = await store.load(session_id)
        if loaded is None:
            return None
        try:
            state = state_of(loaded)
        except NotFound:
            return None
        if state.status != "in_progress" or state.parked is not None:
            return None
        silent_since = await store.last_alive(state.node) if state.node else None
        return Activation(session_id, None, cause, silent_since=silent_since if silent_since is not None else state.at)

    async def _recover_then_watch(self) -> None:
        while not self._ready.is_set():
            try:
                await self._adopt()
                self._ready.set()
            except Exception as error:
                log.warning("registry start failed, trying again", extra={"reason": repr(error)})
                await asyncio.sleep(1)
        self._pool.refill()
        loop = asyncio.get_running_loop()
        next_recovery = loop.time()
        while True:
            try:
                if loop.time() >= next_recovery:
                    next_recovery = loop.time() + RECOVER_EVERY_SECONDS
                    await self._recover()
                await self._pool.check()
                self._pool.refill()
            except OrchestratorError as error:
                log.debug("registry round failed", extra={"reason": error.code})
            except Exception:
                log.exception("registry round failed")
            await asyncio.sleep(PING_SECONDS)

    async def _adopt(self) -> None:
        """Ask the actors that an earlier Registry left what they hold; join those, end the rest."""
        names = [name for name in await cluster.names() if name.startswith(ACTOR_PREFIX)]
        await asyncio.gather(*(self._adopt_one(name) for name in names))

    async def _adopt_one(self, name: str) -> None:
        handle = await cluster.find(name)
        if handle is None:
            return
        try:
            session_id = await cluster.call(handle, "ping", timeout=1.0)
        except Retryable:
            return
        if session_id is None:
            self._pool.add(name, handle)
            return
        live = Live(session_id, name, handle, wall_ms())
        self._live[session_id] = live
        self._watch(live, asyncio.ensure_future(cluster.call(handle, "joined", timeout=None)))

    async def _recover(self) -> None:
        """Activate sessions in progress that nobody holds, soonest deadline first, a few at a time."""
        store = await self._opened()
        held = self._live.keys() | self._activating.keys()
        orphans = [session_id for session_id in await store.in_progress(10_000) if session_id not in held]
        slots = asyncio.Semaphore(RECOVER_AT_ONCE)

        async def recover_one(session_id: str) -> None:
            async with slots:
                if session_id not in self._live and session_id not in self._activating:
                    await self._reactivate(session_id, "recovered")

        await asyncio.gather(*map(recover_one, orphans))

    async def _free_places(self) -> int:
        """Interview actors that could be started now, by what Ray said at most a second ago."""
        now = asyncio.get_running_loop().time()
        if now >= self._free_until:
            self._free, self._free_until = await cluster.free_resources(), now + 1.0
        cpu, memory = self._free
        by_cpu = cpu / self._settings.actor_cpus if self._settings.actor_cpus else memory
        return max(0, int(min(by_cpu, memory / self._actor_memory)))

    @property
    def _actor_memory(self) -> int:
        return self._settings.actor_memory_mb * 2**20

    def _start_actor(self) -> tuple[str, Any]:
        name = f"{ACTOR_PREFIX}{secrets.token_hex(4)}"
        return name, cluster.start_interview_actor(name, self._settings.actor_cpus, self._actor_memory)

    async def _opened(self) -> Store:
        if self._store is None:
            from actors.storage import open_store

            self._store = await open_store()
        return self._store


ACTOR_PREFIX = "InterviewActor-"


def _label(activation: Activation) -> str:
    return f"interview {activation.session_id}: run"
