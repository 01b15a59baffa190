"""SightingBuffer on the virtual clock: what waits for what, and how often is written."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from actors import sightings
from actors.sightings import MAX_WAITING, Identity, SightingBuffer
from api.errors import status_of
from orchestrator.errors import Moved, OrchestratorError, Retryable, TooManyRequests
from orchestrator.interview.commands import SYSTEM, Caller, NoteSightings
from orchestrator.interview.sightings import Sighting
from tests.unit.virtual import run_virtual
from tests.unit.world import CANDIDATE, STAFF

Clock = Callable[[], int]
PASTE = Sighting("paste", "page", 0)


@dataclass
class Writer:
    """Makes commands durable: each takes so many seconds, and fails with what is set."""

    clock: Clock
    seconds: float = 0.0
    error: Exception | None = None
    written: list[tuple[int, Caller, NoteSightings]] = field(default_factory=list)

    async def __call__(self, caller: Caller, command: NoteSightings) -> None:
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self.written.append((self.clock(), caller, command))

    @property
    def sightings(self) -> list[Sighting]:
        return [s for _, _, command in self.written for s in command.sightings]


def numbered(n: int) -> tuple[Sighting, ...]:
    return (Sighting("paste", "page", n),)


async def add(buffer: SightingBuffer, caller: Caller = CANDIDATE, identity: Identity | None = None) -> None:
    await buffer.add(caller, (PASTE,), identity)


async def outcomes(calls: list[asyncio.Task[None]]) -> list[BaseException | None]:
    return await asyncio.gather(*calls, return_exceptions=True)


def test_the_first_call_is_written_at_once() -> None:
    async def scenario(clock: Clock) -> None:
        writer, began = Writer(clock), clock()
        await SightingBuffer(writer).add(CANDIDATE, (PASTE,), ("k1", "h1"))
        assert writer.written == [(began, CANDIDATE, NoteSightings((PASTE,), (("k1", "h1"),)))]

    run_virtual(scenario)


def test_so_is_one_that_comes_after_a_quiet_time() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock)
        buffer = SightingBuffer(writer)
        await add(buffer)
        await asyncio.sleep(30)
        sent = clock()
        await add(buffer)
        assert writer.written[-1][0] == sent

    run_virtual(scenario)


def test_a_thousand_calls_in_a_minute_are_some_sixty_entries_and_each_waits_for_its_own() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock, seconds=0.01)
        buffer = SightingBuffer(writer)

        async def call(n: int) -> None:
            await asyncio.sleep(n * 0.06)
            sent = clock()
            await buffer.add(CANDIDATE, numbered(n), None)
            assert numbered(n)[0] in writer.sightings
            assert clock() - sent <= 1_100

        await asyncio.gather(*(call(n) for n in range(1_000)))
        assert 50 <= len(writer.written) <= 62
        assert [s.at for s in writer.sightings] == list(range(1_000))

    run_virtual(scenario)


def test_what_comes_during_a_write_is_not_in_it_and_waits_for_the_next() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock, seconds=5.0)
        buffer = SightingBuffer(writer)
        first = asyncio.create_task(buffer.add(CANDIDATE, numbered(1), None))
        await asyncio.sleep(1)
        second = asyncio.create_task(buffer.add(CANDIDATE, numbered(2), None))
        await first
        assert not second.done() and writer.sightings == [*numbered(1)]
        await second
        assert writer.sightings == [*numbered(1), *numbered(2)]

    run_virtual(scenario)


def test_callers_of_different_principals_get_a_command_of_their_own() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock)
        buffer = SightingBuffer(writer)
        await add(buffer)
        calls = [(CANDIDATE, "a"), (STAFF, "b"), (Caller("candidate-2", "candidate"), "c"), (CANDIDATE, "d")]
        await asyncio.gather(*(add(buffer, caller, (key, "h")) for caller, key in calls))
        batches = [(caller.principal, command.commands) for _, caller, command in writer.written[1:]]
        assert batches == [
            ("candidate", (("a", "h"), ("d", "h"))),
            ("staff", (("b", "h"),)),
            ("candidate-2", (("c", "h"),)),
        ]
        assert [len(command.sightings) for _, _, command in writer.written] == [1, 2, 1, 1]

    run_virtual(scenario)


def test_an_error_reaches_all_who_waited_and_later_writes_go_on() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock)
        buffer = SightingBuffer(writer)
        await add(buffer)
        writer.error = Moved("gone", session_id="s1")
        calls = [asyncio.create_task(add(buffer)) for _ in range(5)]
        assert [type(e) for e in await outcomes(calls)] == [Moved] * 5
        writer.error = None
        await add(buffer)
        assert len(writer.written) == 2

    run_virtual(scenario)


def test_one_principals_error_is_not_anothers() -> None:
    async def scenario(clock: Clock) -> None:
        written: list[Caller] = []

        async def write(caller: Caller, command: NoteSightings) -> None:
            if caller == STAFF:
                raise Moved("gone", session_id="s1")
            written.append(caller)

        buffer = SightingBuffer(write)
        calls = [asyncio.create_task(add(buffer, caller)) for caller in (STAFF, CANDIDATE, SYSTEM)]
        assert [type(e) for e in await outcomes(calls)] == [Moved, type(None), type(None)]
        assert written == [CANDIDATE, SYSTEM]

    run_virtual(scenario)


def test_what_is_not_ours_is_told_as_an_error_that_can_be_tried_again() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock, error=ZeroDivisionError())
        with pytest.raises(Retryable, match="ZeroDivisionError"):
            await add(SightingBuffer(writer))

    run_virtual(scenario)


def test_more_than_may_wait_are_refused_with_a_429() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock)
        buffer = SightingBuffer(writer)
        await add(buffer)
        results = await outcomes([asyncio.create_task(add(buffer)) for _ in range(MAX_WAITING + 10)])
        refused = [e for e in results if e is not None]
        assert len(refused) == 10 and {type(e) for e in refused} == {TooManyRequests}
        error = refused[0]
        assert isinstance(error, OrchestratorError) and status_of(error) == 429
        assert isinstance(error, Retryable) and error.retry_after == 1
        assert len(writer.sightings) == 1 + MAX_WAITING

    run_virtual(scenario)


def test_a_caller_that_has_gone_does_not_keep_the_others_from_theirs() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock)
        buffer = SightingBuffer(writer)
        await add(buffer)
        gone, stays = asyncio.create_task(add(buffer)), asyncio.create_task(add(buffer))
        await asyncio.sleep(0.1)
        gone.cancel()
        await stays
        assert len(writer.sightings) == 3

    run_virtual(scenario)


def test_a_flood_that_goes_on_is_written_less_often() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock)
        buffer = SightingBuffer(writer)
        while len(writer.written) < 310:
            await add(buffer)
        times = [at for at, _, _ in writer.written]
        pauses = [(b - a) / 1000 for a, b in itertools.pairwise(times)]
        assert pauses[:299] == [1.0] * 299
        assert pauses[299:] == [3.0] * 10
        assert sightings.PAUSES[0] == (300, 1.0)

    run_virtual(scenario)
