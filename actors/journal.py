"""The node's way to the journal: JournalActor, and the proxy through which owners of sessions see it.

One JournalActor a node, so that connections to MongoDB grow with nodes and not with sessions. It commits
in groups: while one insert is under way the next batch gathers. It writes the node's proof of life.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from actors import cluster
from actors.clock import wall_ms
from orchestrator import logs
from orchestrator.errors import OrchestratorError, OutcomeUnknown, Retryable, Unavailable
from orchestrator.interview.entry import Entry
from orchestrator.interview.snapshot import Draft, Snapshot
from orchestrator.journal import Appended, Collision, Loaded

if TYPE_CHECKING:
    from orchestrator.storage.store import Store

log = logging.getLogger(__name__)

ALIVE_SECONDS = 1.0
MAX_BATCH = 200
CALL_SECONDS = 3.5

AppendResult = Appended | Collision | OrchestratorError


class GroupCommit:
    """Gathers appends while one batch is being written; each caller gets its own entry's result."""

    def __init__(self, write: Callable[[list[tuple[Entry, str]]], Awaitable[list[AppendResult]]]) -> None:
        self._write = write
        self._waiting: list[tuple[Entry, str, asyncio.Future[AppendResult]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def append(self, entry: Entry, prev_mac: str) -> AppendResult:
        future: asyncio.Future[AppendResult] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, prev_mac, future))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())
        return await future

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            try:
                results = await self._write([(entry, mac) for entry, mac, _ in batch])
            except Exception as error:
                log.warning("journal batch failed", extra={"reason": type(error).__name__})
                unknown = OutcomeUnknown("The write may or may not have landed.", retry_after=1)
                results = [error if isinstance(error, OrchestratorError) else unknown] * len(batch)
            for (_, _, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


class JournalActor:
    """The journal of one node. Errors are returned as values."""

    def __init__(self, name: str) -> None:
        logs.configure()
        cluster.raise_priority(0)
        self._name = name
        self._store: Store | None = None
        self._opening = asyncio.Lock()
        self._commit = GroupCommit(self._write_batch)
        self._node = cluster.own_node_id()
        self._alive = asyncio.get_running_loop().create_task(self._stay_alive())

    def __repr__(self) -> str:
        return self._name

    async def ping(self) -> str:
        return self._node

    async def append(self, entry: Entry, prev_mac: str) -> AppendResult:
        return await self._commit.append(entry, prev_mac)

    async def load(self, session_id: str) -> Loaded | OrchestratorError | None:
        return await self._answer(lambda store: store.load(session_id))

    async def save_snapshot(self, snapshot: Snapshot) -> bool | OrchestratorError:
        return await self._answer(lambda store: store.save_snapshot(snapshot))

    async def insert_snapshot(self, snapshot: Snapshot) -> bool | OrchestratorError:
        return await self._answer(lambda store: store.insert_snapshot(snapshot))

    async def save_draft(self, draft: Draft) -> bool | OrchestratorError:
        return await self._answer(lambda store: store.save_draft(draft))

    async def _write_batch(self, batch: list[tuple[Entry, str]]) -> list[AppendResult]:
        store = await self._opened()
        if len(batch) > 1:
            return await store.append_many(batch)
        return [await store.append(*batch[0])]

    async def _answer(self, call: Callable[[Store], Awaitable[Any]]) -> Any:
        try:
            return await call(await self._opened())
        except OrchestratorError as error:
            return error

    async def _opened(self) -> Store:
        if self._store is None:
            async with self._opening:
                if self._store is None:
                    from actors.storage import open_store

                    self._store = await open_store()
        return self._store

    async def _stay_alive(self) -> None:
        while True:
            try:
                await (await self._opened()).alive(self._node, wall_ms())
            except OrchestratorError as error:
                log.debug("no proof of life written", extra={"reason": error.code})
            except Exception:
                log.exception("no proof of life written")
            await asyncio.sleep(ALIVE_SECONDS)


class NodeJournal:
    """The Journal protocol over the node's JournalActor. Appends are repeated unchanged while it restarts."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._actor: Any = None

    async def connect(self) -> None:
        """Find the JournalActor and use it once, so that the first append is as quick as the next."""
        with contextlib.suppress(Retryable):
            await self._call("load", "")

    async def append(self, entry: Entry, prev_mac: str) -> Appended | Collision:
        return await self._call("append", entry, prev_mac)

    async def load(self, session_id: str) -> Loaded | None:
        return await self._call("load", session_id)

    async def save_snapshot(self, snapshot: Snapshot) -> bool:
        return await self._call("save_snapshot", snapshot)

    async def insert_snapshot(self, snapshot: Snapshot) -> bool:
        return await self._call("insert_snapshot", snapshot)

    async def save_draft(self, draft: Draft) -> bool:
        return await self._call("save_draft", draft)

    async def _call(self, method: str, *args: Any) -> Any:
        """Every call here may be repeated: appends are known by their digest, saves are conditional."""
        give_up = asyncio.get_running_loop().time() + CALL_SECONDS
        while True:
            left = give_up - asyncio.get_running_loop().time()
            try:
                if self._actor is None:
                    self._actor = await cluster.ensure_journal(self._node_id)
                return await cluster.call(self._actor, method, *args, timeout=max(0.1, left))
            except (cluster.ActorGone, cluster.ActorSilent) as error:
                self._actor = None
                if asyncio.get_running_loop().time() + 0.1 >= give_up:
                    raise _outcome(method, error) from error
                await asyncio.sleep(0.1)


def _outcome(method: str, error: Retryable) -> Retryable:
    if method == "append":
        return OutcomeUnknown("The write may or may not have landed; repeat with the same key.", retry_after=1)
    return Unavailable(f"The journal cannot be reached: {error.code}.", retry_after=1)
