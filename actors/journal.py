"""The node's way to the journal: JournalActor, and the proxy through which owners of sessions see it.

One JournalActor a node, so that connections to MongoDB grow with nodes and not with sessions. It commits
in groups: while one insert is under way the next batch gathers. It writes the node's proof of life, and tells
the owners of sessions when the storage was away, since the clocks of those who did nothing meanwhile stand
still too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from actors import cluster, metrics
from actors.clock import wall_ms
from orchestrator import logs
from orchestrator.errors import OrchestratorError, OutcomeUnknown, Retryable, Unavailable
from orchestrator.interview.entry import Entry
from orchestrator.interview.snapshot import Draft, Snapshot
from orchestrator.journal import Appended, Collision, Loaded, Outage

if TYPE_CHECKING:
    from orchestrator.storage.store import Store

log = logging.getLogger(__name__)

ALIVE_SECONDS = 1.0
MAX_BATCH = 200
CALL_SECONDS = 3.5

OUTAGE_MS = 3_000
"""The proof of life is written every second: nothing written for so long is more than a hiccup."""
OUTAGE_POLL_SECONDS = 60.0
REFUSED_SECONDS = 0.5
"""A storage that answers sooner, with an error, is not away."""

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


class Outages:
    """When the storage was last away, from the times at which it was last used with success."""

    def __init__(self) -> None:
        self.last_success: int | None = None
        self.last: Outage | None = None
        self._over = asyncio.Event()

    def success(self, now: int) -> None:
        """The storage has just done something, at `now` (ms)."""
        before, self.last_success = self.last_success, now
        if before is not None and now - before > OUTAGE_MS:
            self.last = Outage(before, now)
            log.warning("storage was away", extra={"seconds": (now - before) / 1000})
            self._over.set()
            self._over = asyncio.Event()

    def is_away(self, now: int) -> bool:
        """Whether, as far as is known at `now` (ms), the storage is away for longer than a hiccup."""
        return self.last_success is not None and now - self.last_success > OUTAGE_MS

    def ended_after(self, after: int) -> Outage | None:
        """The last outage, if it ended after `after` (ms)."""
        return self.last if self.last is not None and self.last.until > after else None

    async def next(self, after: int) -> Outage | None:
        """The last outage if it ended after `after` (ms), or the next one; None after a while without one."""
        if self.ended_after(after) is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), OUTAGE_POLL_SECONDS)
        return self.ended_after(after)


class JournalActor:
    """The journal of one node. Errors are returned as values."""

    def __init__(self, name: str) -> None:
        self._name = name
        logs.configure(lambda: {"actor": self._name})
        cluster.raise_priority(0)
        self._store: Store | None = None
        self._opening = asyncio.Lock()
        self._commit = GroupCommit(self._write_batch)
        self._node = cluster.own_node_id()
        self._outages = Outages()
        self._proof: asyncio.Task[OrchestratorError | None] | None = None
        loop = asyncio.get_running_loop()
        self._alive = loop.create_task(self._stay_alive())
        self._reports = loop.create_task(metrics.report("JournalActor", metrics.FENCED_WRITES, metrics.CREDITED))

    def __repr__(self) -> str:
        return self._name

    async def ping(self) -> str:
        return self._node

    async def append(self, entry: Entry, prev_mac: str, heard: int | None = None) -> AppendResult | Outage:
        """Append an entry. An owner who has heard of outages until `heard` (ms) is told of a later one first."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        result = await self._unheard(heard) if heard is not None else None
        if result is None:
            result = await self._commit.append(entry, prev_mac)
        metrics.observe(metrics.APPEND, loop.time() - began, outcome=_word(result))
        if isinstance(result, Appended):
            metrics.note_entry(entry.body)
        return result

    async def load(self, session_id: str) -> Loaded | OrchestratorError | None:
        return await self._answer(lambda store: store.load(session_id))

    async def save_snapshot(self, snapshot: Snapshot) -> bool | OrchestratorError:
        return await self._answer(lambda store: store.save_snapshot(snapshot))

    async def insert_snapshot(self, snapshot: Snapshot) -> bool | OrchestratorError:
        return await self._answer(lambda store: store.insert_snapshot(snapshot))

    async def save_draft(self, draft: Draft) -> bool | OrchestratorError:
        return await self._answer(lambda store: store.save_draft(draft))

    async def next_outage(self, after: int) -> Outage | None:
        return await self._outages.next(after)

    async def _unheard(self, heard: int) -> Outage | OrchestratorError | None:
        try:
            await self._opened()  # which tells when the node was last alive
        except OrchestratorError as error:
            return Unavailable(error.detail, retry_after=1)  # nothing was written
        if self._outages.is_away(wall_ms()):
            error = await self._prove_life()
            if error is not None:
                self._say_since(error)
                return error
        return self._outages.ended_after(heard)

    async def _write_batch(self, batch: list[tuple[Entry, str]]) -> list[AppendResult]:
        results = await self._append(batch)
        metrics.observe(metrics.BATCH, len(batch))
        for (entry, _), result in zip(batch, results, strict=True):
            if isinstance(result, Retryable):
                self._say_since(result)
            elif isinstance(result, Collision) and result.stored.epoch > entry.epoch:
                log.warning("fenced write", extra={"session_id": entry.session_id, "epoch": entry.epoch})
                metrics.count(metrics.FENCED_WRITES)
        if not all(isinstance(result, Retryable) for result in results):
            self._outages.success(wall_ms())
        return results

    async def _append(self, batch: list[tuple[Entry, str]]) -> list[AppendResult]:
        try:
            store = await self._opened()
            return await store.append_many(batch) if len(batch) > 1 else [await store.append(*batch[0])]
        except OrchestratorError as error:
            return [error] * len(batch)

    async def _answer(self, call: Callable[[Store], Awaitable[Any]]) -> Any:
        try:
            return await call(await self._opened())
        except OrchestratorError as error:
            self._say_since(error)
            return error

    def _say_since(self, error: OrchestratorError) -> None:
        """Put into the error since when (ms) the storage cannot be used."""
        if self._outages.last_success is not None:
            error.fields.setdefault("since", self._outages.last_success)

    async def _opened(self) -> Store:
        if self._store is None:
            async with self._opening:
                if self._store is None:
                    from actors.storage import open_store

                    store = await open_store()
                    self._outages.last_success = await store.last_alive(self._node)
                    self._store = store
        return self._store

    async def _stay_alive(self) -> None:
        while True:
            await self._prove_life()
            await asyncio.sleep(ALIVE_SECONDS)

    async def _prove_life(self) -> OrchestratorError | None:
        """Write the node's proof of life, once for all who ask meanwhile. Returns why it could not be written."""
        if self._proof is None or self._proof.done():
            self._proof = asyncio.create_task(self._write_proof())
        return await asyncio.shield(self._proof)

    async def _write_proof(self) -> OrchestratorError | None:
        began = asyncio.get_running_loop().time()
        try:
            await (await self._opened()).alive(self._node, wall_ms())
        except OrchestratorError as error:
            log.debug("no proof of life written", extra={"reason": error.code})
            took = asyncio.get_running_loop().time() - began
            if isinstance(error, OutcomeUnknown) and took < REFUSED_SECONDS:
                return None  # the storage is there, and refuses this; what it says to an entry is to be seen
            return Unavailable("The storage is away.", retry_after=1)  # nothing of what waits was written
        except Exception:
            log.exception("no proof of life written")
            return None
        self._outages.success(wall_ms())
        return None


def _word(result: AppendResult | Outage) -> str:
    match result:
        case Appended():
            return "appended"
        case Collision():
            return "collision"
        case Outage():
            return "told"
        case _:
            return "failed"


class NodeJournal:
    """The Journal protocol over the node's JournalActor. Appends are repeated unchanged while it restarts."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._actor: Any = None
        self._heard: int | None = None
        """Until when (ms) the owner has heard of outages; None before it watches for them."""

    async def connect(self) -> None:
        """Find the JournalActor and use it once, so that the first append is as quick as the next."""
        with contextlib.suppress(Retryable):
            await self._call("load", "")

    async def append(self, entry: Entry, prev_mac: str) -> Appended | Collision | Outage:
        result = await self._call("append", entry, prev_mac, self._heard)
        if isinstance(result, Outage):
            self._hear(result.until)
        return result

    async def load(self, session_id: str) -> Loaded | None:
        return await self._call("load", session_id)

    async def save_snapshot(self, snapshot: Snapshot) -> bool:
        return await self._call("save_snapshot", snapshot)

    async def insert_snapshot(self, snapshot: Snapshot) -> bool:
        return await self._call("insert_snapshot", snapshot)

    async def save_draft(self, draft: Draft) -> bool:
        return await self._call("save_draft", draft)

    async def next_outage(self, after: int) -> Outage | None:
        self._hear(after)
        if self._actor is None:
            self._actor = await cluster.ensure_journal(self._node_id)
        return await cluster.call(self._actor, "next_outage", after, timeout=OUTAGE_POLL_SECONDS + 5)

    def _hear(self, until: int) -> None:
        self._heard = max(until, self._heard or until)

    async def _call(self, method: str, *args: Any) -> Any:
        """Every call here may be repeated: appends are known by their digest, saves are conditional."""
        give_up = asyncio.get_running_loop().time() + CALL_SECONDS
        repeated = False
        while True:
            left = give_up - asyncio.get_running_loop().time()
            try:
                if self._actor is None:
                    self._actor = await cluster.ensure_journal(self._node_id)
                return await cluster.call(self._actor, method, *args, timeout=max(0.1, left))
            except (cluster.ActorGone, cluster.ActorSilent) as error:
                if isinstance(error, cluster.ActorGone):  # one that is only slow, or restarts, is still the same
                    self._actor = None
                repeated = True
                if asyncio.get_running_loop().time() + 0.1 >= give_up:
                    raise _outcome(method, error) from error
                await asyncio.sleep(0.1)
            except Unavailable as error:
                if repeated:  # the call before may have written it
                    raise _outcome(method, error) from error
                raise


def _outcome(method: str, error: Retryable) -> Retryable:
    if method == "append":
        known = {name: value for name, value in error.fields.items() if name == "since"}
        return OutcomeUnknown(
            "The write may or may not have landed; repeat the request with the same key.", retry_after=1, **known
        )
    return Unavailable(f"The journal cannot be reached: {error.code}.", retry_after=1)
