"""WarmPool: actors started ahead, so that an interview starts in milliseconds. Knows nothing of Ray calls
beyond `cluster.call`; each actor is taken once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from actors import cluster
from orchestrator.errors import ClusterFull, Retryable

log = logging.getLogger(__name__)

START_SECONDS = 30.0
REFILL_AFTER_SECONDS = 0.3
"""Starting a process takes a core for a while; the interview that was just given an actor goes first."""


class WarmPool:
    """Keeps `wanted` actors ready, and starts more while somebody waits; `at_once` start at a time."""

    def __init__(self, start: Callable[[], tuple[str, Any]], wanted: int, at_once: int) -> None:
        self._start = start
        self._wanted = wanted
        self._at_once = at_once
        self._ready: deque[tuple[str, Any]] = deque()
        self._waiting: deque[asyncio.Future[tuple[str, Any]]] = deque()
        self._starting: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> int:
        return len(self._ready)

    @property
    def starting(self) -> int:
        return len(self._starting)

    def add(self, name: str, handle: Any) -> None:
        """Give an actor that is up to whoever waits longest, or keep it."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result((name, handle))
                return
        self._ready.append((name, handle))

    async def take(self, wait_seconds: float) -> tuple[str, Any]:
        """One warm actor, used from now on. Raises ClusterFull after `wait_seconds`."""
        if self._ready:
            taken = self._ready.popleft()
            asyncio.get_running_loop().call_later(REFILL_AFTER_SECONDS, self.refill)
            return taken
        waiter: asyncio.Future[tuple[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self.refill()
        try:
            return await asyncio.wait_for(waiter, wait_seconds)
        except TimeoutError:
            raise ClusterFull("No actor was free in time; try again soon.", retry_after=2) from None

    def refill(self) -> None:
        """Start what is missing: as many at a time as may be while somebody waits, else one by one."""
        waiting = sum(not w.done() for w in self._waiting)
        missing = self._wanted + waiting - len(self._ready) - len(self._starting)
        at_once = self._at_once if waiting else 1
        for _ in range(min(missing, at_once - len(self._starting))):
            task = asyncio.get_running_loop().create_task(self._start_one())
            self._starting.add(task)
            task.add_done_callback(self._started)

    async def check(self) -> None:
        """Ping the ready actors; throw away those that are dead or silent."""
        for name, handle in list(self._ready):
            try:
                await cluster.call(handle, "ping", timeout=2.0)
            except Retryable:
                if (name, handle) in self._ready:
                    self._ready.remove((name, handle))
                    cluster.kill(handle)

    async def _start_one(self) -> None:
        name, handle = self._start()
        try:
            await cluster.call(handle, "ping", timeout=START_SECONDS)
        except Retryable as error:
            log.warning("a warm actor did not come up", extra={"actor": name, "reason": error.code})
            cluster.kill(handle)
            await asyncio.sleep(1)
            return
        self.add(name, handle)

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("a warm actor could not be started", extra={"reason": repr(task.exception())})
            return
        self.refill()
