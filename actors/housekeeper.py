"""Housekeeper: everything periodic, one in the cluster, every step idempotent.

A step that fails is tried again in the next round and never stops the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from actors import cluster
from actors.clock import wall_ms
from orchestrator import logs
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.interview.commands import SYSTEM, Expire
from orchestrator.interview.state import GRACE_MS, snapshot_of
from orchestrator.session import Request, Session

if TYPE_CHECKING:
    from orchestrator.storage.store import Store

log = logging.getLogger(__name__)

ROUND_SECONDS = 2.0
OVERDUE_MS = 3_000
BATCH = 200
KEY_MS = 24 * 3600 * 1000


class Housekeeper:
    """Sweeps: overdue sessions, sessions that expired before their start, deletes that were cut short."""

    def __init__(self, name: str) -> None:
        logs.configure()
        self._name = name
        self._store: Store | None = None
        self._keys_due = 0
        self._main = asyncio.get_running_loop().create_task(self._work())

    def __repr__(self) -> str:
        return self._name

    async def ping(self) -> bool:
        return self._store is not None

    async def _work(self) -> None:
        steps: list[Callable[[Store], Awaitable[None]]] = [
            self._expire,
            self._finish_deletes,
            self._overdue,
            self._forget_keys,
        ]
        while True:
            for step in steps:
                try:
                    await step(await self._opened())
                except OrchestratorError as error:
                    log.debug("sweep failed", extra={"step": step.__name__, "reason": error.code})
                except Exception:
                    log.exception("sweep failed", extra={"step": step.__name__})
            await asyncio.sleep(ROUND_SECONDS)

    async def _expire(self, store: Store) -> None:
        """End sessions that were never started in time."""
        now = wall_ms()
        for snapshot in await store.expired(now, BATCH):
            try:
                session = await Session.load(store, snapshot.session_id)
                await session.execute(Request(Expire(), SYSTEM, now), now)
            except NotFound:
                continue
            await store.save_snapshot(snapshot_of(session.state))

    async def _finish_deletes(self, store: Store) -> None:
        for session_id in await store.tombstones_unfinished(BATCH):
            await store.erase(session_id)

    async def _overdue(self, store: Store) -> None:
        """Sessions in progress whose timer should have fired: have the Registry look at who holds them."""
        registry = None
        for snapshot in await store.overdue(wall_ms() - GRACE_MS - OVERDUE_MS, BATCH):
            registry = registry or await cluster.ensure_registry()
            try:
                session = await Session.load(store, snapshot.session_id)
            except NotFound:
                continue
            state = session.state
            if not state.is_overdue(wall_ms() - OVERDUE_MS):
                await store.save_snapshot(snapshot_of(state))
                continue
            log.warning("overdue", extra={"session_id": state.session_id, "epoch": state.epoch})
            if state.actor is not None:
                await cluster.call(registry, "suspect", state.session_id, state.actor, timeout=10.0)
            await cluster.call(registry, "ensure", state.session_id, timeout=10.0)

    async def _forget_keys(self, store: Store) -> None:
        """Idempotency keys are kept for a day; looked at once in ten minutes."""
        now = wall_ms()
        if now >= self._keys_due:
            await store.forget_keys(now - KEY_MS)
            self._keys_due = now + 600_000

    async def _opened(self) -> Store:
        if self._store is None:
            from actors.storage import open_store

            self._store = await open_store()
        return self._store
