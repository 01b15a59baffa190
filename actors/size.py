"""ClusterSize: has the cluster grow and shrink with the interviews. What is decided is in `scaling.py`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from actors import cluster, metrics
from actors.capacity import Capacity
from actors.clock import wall_ms
from actors.pool import WarmPool
from actors.scaling import Ask, Packing, Use, bundles
from actors.supervisor import Supervisor
from orchestrator.errors import OrchestratorError
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.storage.store import Store

log = logging.getLogger(__name__)

SCHEDULE_SECONDS = 10.0
LATE_MS = 300_000
"""Candidates who have not started so long after `scheduled_at` are not waited for with an actor any more."""
ASK_SECONDS = 5.0
"""Ray's autoscaler works in rounds of this length."""
EMPTY_SECONDS = 15.0
"""After this no activation that began before a node was emptied is under way on it."""


class ClusterSize:
    """One Registry's: it tells Ray's autoscaler how many places are wanted, the pool how many starts will come, and
    which nodes are to be emptied."""

    def __init__(self, pool: WarmPool, supervisor: Supervisor, capacity: Capacity, settings: Settings) -> None:
        self._pool = pool
        self._supervisor = supervisor
        self._capacity = capacity
        self._resource = settings.resource
        self._ahead_ms = round(settings.warm_ahead_seconds * 1000)
        self._packing = Packing(settings.idle_node_seconds)
        self._ask = Ask()
        self._scheduled = 0
        self._schedule_due = self._ask_due = 0.0
        self._empty_since: dict[str, float] = {}
        self.ending: set[str] = set()
        """Nodes that Ray is about to end."""

    @property
    def leaving(self) -> set[str]:
        """Nodes that are being emptied because they are not needed."""
        return self._packing.leaving

    def take_one_back(self) -> bool:
        """Have a node that is being emptied used again, if there is one."""
        if not self.leaving:
            return False
        node = min(self.leaving)
        self.leaving.discard(node)
        log.info("a node that was emptied is needed again", extra={"node": node})
        return True

    async def hear_of_endings(self) -> None:
        """Ask Ray which nodes it is about to end."""
        ending = await cluster.ending_nodes()
        for node in ending - self.ending:
            log.warning("ray ends a node", extra={"node": node})
        self.ending = ending

    async def decide(self, draining: set[str], store: Callable[[], Awaitable[Store]]) -> None:
        """One round: needs what Ray has just said of the nodes. `draining` are nodes that operators empty."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._schedule_due:
            self._schedule_due = loop.time() + SCHEDULE_SECONDS
            self._scheduled = await self._scheduled_soon(store)
        self._pool.ahead = self._scheduled + self._supervisor.refusals.count(loop.time())
        self._pack(draining | self.ending)
        await self._end_what_is_left()
        if loop.time() >= self._ask_due:
            self._ask_due = loop.time() + ASK_SECONDS
            await self._ask_for_places(draining | self.ending | self.leaving)

    async def _scheduled_soon(self, store: Callable[[], Awaitable[Store]]) -> int:
        if not self._ahead_ms:
            return 0
        now = wall_ms()
        try:
            return await (await store()).count_scheduled(now - LATE_MS, now + self._ahead_ms)
        except OrchestratorError:
            return self._scheduled

    def _pack(self, gone: set[str]) -> None:
        use = Use(self._supervisor.by_node(), self._pool.by_node())
        before, now = set(self.leaving), asyncio.get_running_loop().time()
        self._packing.look(self._capacity.rooms, gone, self._capacity.unit, use, self._pool.wanted, now)
        for node in self.leaving - before:
            log.info("an idle node is emptied", extra={"node": node})
        for node in before - self.leaving:
            log.info("a node that was emptied is gone or needed again", extra={"node": node})
        self._empty_since = {node: self._empty_since.get(node, now) for node in self.leaving}

    async def _end_what_is_left(self) -> None:
        """End the JournalActors of nodes that have been empty for a while; Ray ends the nodes then."""
        now = asyncio.get_running_loop().time()
        for node, since in self._empty_since.items():
            if since and now - since >= EMPTY_SECONDS:
                self._empty_since[node] = now
                await cluster.end_journal(node)

    async def _ask_for_places(self, avoid: set[str]) -> None:
        """What is wanted and has no room becomes visible to Ray's autoscaler."""
        up = self._pool.ready + self._pool.starting
        missing = max(0, self._pool.wanted - up - self._capacity.room(self._pool.starting))
        now = asyncio.get_running_loop().time()
        try:
            infeasible = bool(missing) and await cluster.request_is_infeasible()
            places = self._ask.places(missing, infeasible, now)
            pieces = [] if places is None else bundles(self._capacity.rooms, avoid, self._capacity.unit, places)
            if self._ask.is_news(pieces, now):
                await cluster.request_total(pieces, self._resource)
                if missing:
                    log.info("places are asked for", extra={"missing": missing, "asked": places})
        except OrchestratorError:
            self._ask.forget()
            raise
        metrics.gauge(metrics.ACTORS_WANTED, self._wanted_in_all)
        metrics.gauge(metrics.PLACES_MISSING, missing)

    @property
    def _wanted_in_all(self) -> int:
        return len(self._supervisor.live) + self._pool.wanted
