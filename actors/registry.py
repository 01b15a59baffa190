"""Registry: activates interviews, supervises them, and keeps a pool of warm actors. One in the cluster.

It holds nothing that cannot be found again: who holds which session is asked of the live actors when it
starts, and the journal is the only lock. `supervisor.py` holds the live interviews; here is what is asked of
the Registry, and what it does by itself: finding what nobody holds, emptying nodes, keeping the pool full.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import secrets
from typing import TYPE_CHECKING, Any

from actors import cluster, metrics
from actors.capacity import Capacity
from actors.clock import wall_ms
from actors.interview import Activation
from actors.pool import Warm, WarmPool
from actors.recovery import ACTOR_PREFIX, look_at_all
from actors.scaling import Amount
from actors.size import ClusterSize
from actors.supervisor import Placement, Supervisor
from actors.watchdog import Watchdog
from orchestrator import __version__, hooks, logs
from orchestrator.errors import NotFound, OrchestratorError, Retryable
from orchestrator.settings import get_settings

if TYPE_CHECKING:
    from orchestrator.storage.store import Store

log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
GIVE_UP_SECONDS = 60.0
RECOVER_AT_ONCE = 8
RECOVER_EVERY_SECONDS = 10.0
STARTS_PER_NODE = 4
"""Actors that are started at a time for each node, if the Registry's has so many cores: a start takes one a while."""
MAX_STARTS = 32
"""In the whole cluster: creating one holds the Registry up for some milliseconds."""


class Registry:
    """What is asked of it, and its rounds. Errors are returned as values."""

    def __init__(self, name: str) -> None:
        self._name = name
        logs.configure(lambda: {"actor": self._name})
        cluster.raise_priority(0)
        self._settings = get_settings()
        self._store: Store | None = None
        self._has_recovered = False
        self._all_held = False
        self._known: set[str] = set()
        self._silent: dict[str, float] = {}
        self._draining: set[str] = set()
        self._hooks = hooks.installed(self._settings.proctoring_hooks)
        for name in hooks.missing(self._settings.proctoring_hooks):
            log.error("a proctoring hook is not installed", extra={"hook": name})
        self._emptying: set[str] = set()
        self._recovering: asyncio.Task[dict[str, str]] | None = None
        wanted = self._settings.warm_actors
        self._starts_per_node = min(os.cpu_count() or 1, STARTS_PER_NODE)
        resource = self._settings.resource
        unit = Amount(self._settings.actor_cpus, self._actor_memory, 1.0 if resource else math.inf)
        self._capacity = Capacity(unit, resource)
        self._pool = WarmPool(
            self._start_actor,
            wanted,
            self._starts_at_once,
            reserve=(wanted + 2) // 4 if wanted > 1 else 0,
            room=self._capacity.room,
            usable=lambda node: node not in self._avoided,
        )
        self._supervisor = Supervisor(self._pool, self._opened, self._look_for_room, self._settings.start_wait_seconds)
        self._size = ClusterSize(self._pool, self._supervisor, self._capacity, self._settings)
        self._watchdog = Watchdog()
        self._ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._main = loop.create_task(self._start_then_watch())
        self._reports = loop.create_task(metrics.report("Registry", metrics.DEACTIVATIONS, metrics.REFUSED_STARTS))

    def __repr__(self) -> str:
        return self._name

    # What front ends and the Housekeeper call

    async def ping(self) -> bool:
        return self._ready.is_set()

    async def activate(self, activation: Activation) -> Placement | OrchestratorError:
        """Make sure that a session in progress (or about to start) is held. Single-flight per session.

        Returns where it is held and, if this call did the activation, the reply of its command.
        """
        await self._ready.wait()
        return await self._supervisor.once(activation.session_id, lambda: self._supervisor.activate(activation))

    async def ensure(self, session_id: str, lost: str | None = None) -> Placement | OrchestratorError:
        """Where a session in progress is held; it is taken up first if nobody holds it.

        `lost` is an actor that the caller has just seen dead, perhaps sooner than its supervisor here.
        """
        await self._ready.wait()
        await self._supervisor.until_noticed(session_id, lost)
        return await self._supervisor.once(session_id, lambda: self._supervisor.take_up(session_id, "recovered", lost))

    async def suspect(self, session_id: str, actor: str, since: int) -> bool:
        """This actor has given no sign since `since` (ms). Ping it; take its session over if it is hung.

        True: look again who holds the session.
        """
        live = self._supervisor.live.get(session_id)
        if live is None or live.actor != actor:
            task = self._supervisor.activating.get(session_id)
            if task is not None:
                await asyncio.shield(task)
            return True
        return await self._supervisor.replace_if_hung(live, since)

    async def status(self) -> dict[str, Any]:
        """Live and warm actors, room for more, and the sessions held (ids only)."""
        await self._look()
        up = len(self._supervisor.live) + self._pool.ready + self._pool.starting
        live = self._supervisor.by_node()
        return {
            "live_actors": len(self._supervisor.live),
            "warm_actors": self._pool.ready,
            "starting_actors": self._pool.starting,
            "capacity": up + self._capacity.room(self._pool.starting),
            "placements": {live.actor: live.session_id for live in self._supervisor.live.values()},
            "draining": {node: live[node] for node in self._emptied},
            "live_by_node": live,
            "warm_by_node": self._pool.by_node(),
        }

    async def held(self) -> dict[str, str]:
        """The actors that hold sessions, by the sessions' ids."""
        await self._ready.wait()
        return {live.session_id: live.actor for live in self._supervisor.live.values()}

    async def end(self, session_id: str) -> None:
        """End the actor of a session that was deleted or completed by somebody else."""
        live = self._supervisor.live.get(session_id)
        if live is not None:
            self._supervisor.lost(live, "ended")
            cluster.kill(live.handle)

    async def release(self, session_id: str, reason: str) -> OrchestratorError | None:
        """Have the holder of a session hand it over to a warm actor, which is taken first."""
        live = self._supervisor.live.get(session_id)
        if live is None:
            return NotFound("No actor holds this session.", session_id=session_id)
        try:
            await self._supervisor.move(live, reason)
        except OrchestratorError as error:
            return error
        return None

    async def drain(self, node: str, draining: bool) -> OrchestratorError | None:
        """Take no new interviews on a node and hand its live ones over, one by one; or take it into use again."""
        try:
            await (await self._opened()).set_draining(node, draining)
        except OrchestratorError as error:
            return error
        (self._draining.add if draining else self._draining.discard)(node)
        log.warning("node drain", extra={"node": node, "draining": draining})
        self._empty_draining_nodes()
        return None

    async def recover(self, dry_run: bool) -> dict[str, str] | OrchestratorError:
        """Take up every session in progress that nobody holds: what became of each, by its id."""
        await self._ready.wait()
        try:
            if dry_run:
                return dict.fromkeys(await self._orphans(), "held by nobody")
            return await self._recover()
        except OrchestratorError as error:
            return error

    # What an earlier Registry left

    async def _adopt(self) -> None:
        """Take over the actors that an earlier Registry left: join those with a session, keep the warm ones.

        One that does not answer yet is looked at again in the next round; it may be starting, or hang.
        """
        now = asyncio.get_running_loop().time()
        for found, newest in await look_at_all(self._known):
            if found.holding is None:
                if now - self._silent.setdefault(found.name, now) > GIVE_UP_SECONDS:
                    self._known.add(found.name)
                    cluster.kill(found.handle)
            elif found.holding.session_id is None:
                self._known.add(found.name)
                self._pool.add(Warm(found.name, found.handle, found.holding.node))
            elif not newest:
                cluster.kill(found.handle)
            elif (
                found.holding.session_id not in self._supervisor.live
                and found.holding.session_id not in self._supervisor.activating
            ):
                self._known.add(found.name)
                self._supervisor.join(found)

    async def _orphans(self) -> list[str]:
        """Sessions in progress that nobody holds, soonest deadline first."""
        store = await self._opened()
        held = self._supervisor.live.keys() | self._supervisor.activating.keys()
        return [session_id for session_id in await store.in_progress(10_000) if session_id not in held]

    async def _recover(self) -> dict[str, str]:
        """Take the orphans up, a few at a time. One recovery at a time; who comes second shares the result."""
        if self._recovering is None or self._recovering.done():
            self._recovering = asyncio.get_running_loop().create_task(self._recover_all())
        return await asyncio.shield(self._recovering)

    async def _recover_all(self) -> dict[str, str]:
        slots = asyncio.Semaphore(RECOVER_AT_ONCE)
        self._all_held = True

        async def recover_one(session_id: str) -> tuple[str, str]:
            async with slots:
                if session_id in self._supervisor.live or session_id in self._supervisor.activating:
                    return session_id, "held"
                taken = await self._supervisor.once(
                    session_id, lambda: self._supervisor.take_up(session_id, "recovered")
                )
                self._all_held &= not isinstance(taken, Retryable)
                return session_id, taken.code if isinstance(taken, OrchestratorError) else "held now"

        return dict(await asyncio.gather(*map(recover_one, await self._orphans())))

    # Handing over

    @property
    def _emptied(self) -> set[str]:
        """Nodes whose live interviews are handed over: by an operator's wish, or because Ray ends them."""
        return self._draining | self._size.ending

    @property
    def _avoided(self) -> set[str]:
        """Nodes that take no interviews."""
        return self._emptied | self._size.leaving

    def _empty_draining_nodes(self) -> None:
        for node in self._supervisor.by_node().keys() & (self._emptied - self._emptying):
            self._emptying.add(node)
            self._supervisor.spawn(self._empty(node))

    async def _empty(self, node: str) -> None:
        """Hand the interviews of a node over, one by one. What fails is tried again in the next round."""
        try:
            for live in [live for live in self._supervisor.live.values() if live.node == node]:
                if node in self._emptied and self._supervisor.live.get(live.session_id) is live:
                    with contextlib.suppress(OrchestratorError):
                        await self._supervisor.move(live, "drain")
        finally:
            self._emptying.discard(node)

    # The background

    async def _start_then_watch(self) -> None:
        while not self._ready.is_set():
            try:
                await self._adopt()
                held = {"live": len(self._supervisor.live), "warm": self._pool.ready}
                log.info("registry is up", extra={"version": __version__, **held})
                self._ready.set()
            except Exception as error:
                log.warning("registry start failed, trying again", extra={"reason": repr(error)})
                await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        next_recovery, drains_known = loop.time(), False
        while True:
            try:
                if loop.time() >= next_recovery:
                    next_recovery = loop.time() + RECOVER_EVERY_SECONDS
                    await self._adopt()
                    self._supervisor.spawn(self._recover_quietly())
                    self._supervisor.spawn(self._watchdog.look(cluster.HOUSEKEEPER, await cluster.ensure_housekeeper()))
                if not drains_known:
                    self._draining |= await (await self._opened()).draining_nodes()
                    drains_known = True
                await self._look()
                await self._pool.check()
                self._pool.refill()
                self._empty_draining_nodes()
                self._report()
                store = await self._opened()
                if self._has_recovered:
                    await store.alive(cluster.REGISTRY, wall_ms())
                else:
                    await store.last_alive(cluster.REGISTRY)
                self._supervisor.storage_reached_at = wall_ms()
                # Last, since interviews can do without it: an autoscaler that cannot be asked holds nothing else up.
                await self._size.hear_of_endings()
                await self._size.decide(self._draining, self._opened)
            except OrchestratorError as error:
                log.debug("registry round failed", extra={"reason": error.code})
            except Exception:
                log.exception("registry round failed")
            await asyncio.sleep(ROUND_SECONDS)

    async def _recover_quietly(self) -> None:
        """Once every interview is held, this Registry says that it lives: from then on it sees who is lost."""
        with contextlib.suppress(OrchestratorError):
            await self._recover()
            self._has_recovered |= self._all_held

    def _report(self) -> None:
        pool, live = self._pool, len(self._supervisor.live)
        actors = {"live": live, "warm": pool.ready, "starting": pool.starting}
        metrics.gauges(metrics.ACTORS, "state", actors)
        metrics.gauge(metrics.PLACES_FREE, self._capacity.room(pool.starting))
        metrics.gauge(metrics.WAITING, pool.waiting)

    @property
    def _actor_memory(self) -> int:
        return self._settings.actor_memory_mb * 2**20

    def _start_actor(self) -> tuple[str, Any]:
        name = f"{ACTOR_PREFIX}{secrets.token_hex(4)}"
        self._known.add(name)
        self._capacity.note_start()
        return name, cluster.start_interview_actor(
            name,
            self._settings.actor_cpus,
            self._actor_memory,
            frozenset(self._avoided & self._capacity.rooms.keys()),  # those that are gone would only make it long
            self._hooks,
            self._settings.resource,
            self._settings.ray_dashboard_url,
            spread=self._spreads,
        )

    @property
    def _spreads(self) -> bool:
        """Whether new actors go to all nodes alike: few interviews are lost with one then, and many start at a time.

        Where idle nodes are to be emptied, they are packed instead, so that some become idle, unless many are wanted.
        """
        pool = self._pool
        many = pool.wanted > self._settings.warm_actors and pool.missing > self._starts_per_node
        return many or self._settings.idle_node_seconds is None

    def _starts_at_once(self) -> int:
        one = self._starts_per_node
        return min(max(one, self._capacity.room_for(one)), MAX_STARTS) if self._spreads else one

    async def _opened(self) -> Store:
        if self._store is None:
            from actors.storage import open_store

            self._store = await open_store()
        return self._store

    async def _look(self) -> None:
        await self._capacity.look(self._avoided)

    async def _look_for_room(self) -> None:
        """Nodes that are being emptied, because they were not needed, are used again before anybody is refused."""
        await self._look()
        while self._capacity.room(self._pool.starting) <= self._pool.waiting and self._size.take_one_back():
            await self._look()
