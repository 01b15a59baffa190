"""SightingBuffer: gathers what is seen of an interview, so that a flood of it costs no more than one entry a second.

When it is quiet, what is sent is written at once. While a write is under way, and for a pause after it, what comes is
gathered; then it is one entry. Whoever sent it waits until it is durable. Before an answer or the end, what waits is
written first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from orchestrator.errors import OrchestratorError, Retryable, TooManyRequests
from orchestrator.interview.commands import SYSTEM, Caller, NoteSightings, check_same_body
from orchestrator.interview.sightings import Sighting

PAUSES = ((300, 1.0), (1_000_000, 1.5))
"""(so many entries, pause in s after each): a flood that goes on for minutes is written less often."""
FLUSH_SECONDS = 0.3
MAX_WAITING = 64
"""Calls that wait for their entry."""

Identity = tuple[str, str]


@dataclass(slots=True)
class _Batch:
    received_at: int
    sightings: list[Sighting] = field(default_factory=list)
    keyed: list[tuple[str, str, tuple[Sighting, ...]]] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def command(self) -> NoteSightings:
        return NoteSightings(tuple(self.sightings), tuple(self.keyed), self.received_at)


class SightingBuffer:
    """One interview's. `write` makes one command durable. `clock` gives ms."""

    def __init__(self, write: Callable[[Caller, NoteSightings], Awaitable[None]], clock: Callable[[], int]) -> None:
        self._write = write
        self._clock = clock
        self._batches: dict[Caller, _Batch] = {}
        self._calls: dict[str, tuple[str, asyncio.Future[None]]] = {}
        """Calls with a key that are not durable yet: (hash, when they are) by key."""
        self._writer: asyncio.Task[None] | None = None
        self._written = 0
        self._free_at = 0.0
        self._hurry = asyncio.Event()
        self._writing: list[asyncio.Future[None]] = []

    async def add(self, caller: Caller, sightings: tuple[Sighting, ...], identity: Identity | None) -> bool:
        """Durable on return. True: a call with this key was under way already.

        Raises TooManyRequests, CommandIdReused, or what the write raised.
        """
        if identity is not None and identity[0] in self._calls:
            known, done = self._calls[identity[0]]
            check_same_body(known, identity[1])
            await asyncio.shield(done)
            return True
        if caller != SYSTEM and sum(len(batch.waiting) for batch in self._batches.values()) >= MAX_WAITING:
            raise TooManyRequests(
                "Too many calls at once for one interview; send several events in one.", retry_after=1
            )
        batch = self._batches.setdefault(caller, _Batch(self._clock()))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        batch.waiting.append(future)
        if identity is None:
            batch.sightings += sightings
        else:
            batch.keyed.append((*identity, sightings))
            self._calls[identity[0]] = (identity[1], future)
        self._start()
        await asyncio.shield(future)
        return False

    async def flush(self) -> None:
        """Have what waits written now, and wait for that, but not long; how it went is told to those who sent it."""
        waiting = [future for batch in self._batches.values() for future in batch.waiting]
        if waiting:
            self._start()
            self._hurry.set()
        if awaited := {*self._writing, *waiting}:
            await asyncio.wait(awaited, timeout=FLUSH_SECONDS)

    def _start(self) -> None:
        if self._writer is None or self._writer.done():
            self._hurry.clear()
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._batches:
            if loop.time() < self._free_at:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), self._free_at - loop.time())
            batches, self._batches = self._batches, {}
            self._hurry.clear()
            self._writing = [future for batch in batches.values() for future in batch.waiting]
            for caller, batch in batches.items():
                await self._write_one(caller, batch)
            self._writing = []
            pause = next(pause for most, pause in PAUSES if self._written < most)
            self._free_at = loop.time() + pause

    async def _write_one(self, caller: Caller, batch: _Batch) -> None:
        error: OrchestratorError | None = None
        self._written += 1
        try:
            await self._write(caller, batch.command())
        except OrchestratorError as failed:
            error = failed
        except Exception as failed:
            error = Retryable(f"The events could not be noted: {type(failed).__name__}.", retry_after=1)
        for future in batch.waiting:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # whoever sent it may be gone
        for key, _, _ in batch.keyed:
            self._calls.pop(key, None)
