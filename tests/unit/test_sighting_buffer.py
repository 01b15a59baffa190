"""SightingBuffer on the virtual clock: what waits for what, and how often is written."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from actors import sightings
from actors.sightings import FLUSH_SECONDS, MAX_WAITING, Identity, SightingBuffer
from api.errors import status_of
from orchestrator.errors import CommandIdReused, Moved, OrchestratorError, Retryable, TooManyRequests
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
        return [s for _, _, command in self.written for s in told(command)]


def told(command: NoteSightings) -> list[Sighting]:
    """All that a command notes."""
    return [*command.sightings, *(s for _, _, sightings in command.keyed for s in sightings)]


def numbered(n: int) -> tuple[Sighting, ...]:
    return (Sighting("paste", "page", n),)


async def add(buffer: SightingBuffer, caller: Caller = CANDIDATE, identity: Identity | None = None) -> None:
    await buffer.add(caller, (PASTE,), identity)


async def outcomes(calls: list[asyncio.Task[None]]) -> list[BaseException | None]:
    return await asyncio.gather(*calls, return_exceptions=True)


def test_the_first_call_is_written_at_once() -> None:
    async def scenario(clock: Clock) -> None:
        writer, began = Writer(clock), clock()
        await SightingBuffer(writer, clock).add(CANDIDATE, (PASTE,), ("k1", "h1"))
        command = NoteSightings((), (("k1", "h1", (PASTE,)),), began)
        assert writer.written == [(began, CANDIDATE, command)]

    run_virtual(scenario)


def test_so_is_one_that_comes_after_a_quiet_time() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock)
        buffer = SightingBuffer(writer, clock)
        await add(buffer)
        await asyncio.sleep(30)
        sent = clock()
        await add(buffer)
        assert writer.written[-1][0] == sent

    run_virtual(scenario)


def test_a_thousand_calls_in_a_minute_are_some_sixty_entries_and_each_waits_for_its_own() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock, seconds=0.01)
        buffer = SightingBuffer(writer, clock)

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
        buffer = SightingBuffer(writer, clock)
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
        buffer = SightingBuffer(writer, clock)
        await add(buffer)
        calls = [(CANDIDATE, "a"), (STAFF, "b"), (Caller("candidate-2", "candidate"), "c"), (CANDIDATE, "d")]
        await asyncio.gather(*(add(buffer, caller, (key, "h")) for caller, key in calls))
        batches = [(caller.principal, command.keyed) for _, caller, command in writer.written[1:]]
        assert batches == [
            ("candidate", (("a", "h", (PASTE,)), ("d", "h", (PASTE,)))),
            ("staff", (("b", "h", (PASTE,)),)),
            ("candidate-2", (("c", "h", (PASTE,)),)),
        ]
        assert [len(told(command)) for _, _, command in writer.written] == [1, 2, 1, 1]

    run_virtual(scenario)


def test_an_error_reaches_all_who_waited_and_later_writes_go_on() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock)
        buffer = SightingBuffer(writer, clock)
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

        buffer = SightingBuffer(write, clock)
        calls = [asyncio.create_task(add(buffer, caller)) for caller in (STAFF, CANDIDATE, SYSTEM)]
        assert [type(e) for e in await outcomes(calls)] == [Moved, type(None), type(None)]
        assert written == [CANDIDATE, SYSTEM]

    run_virtual(scenario)


def test_what_is_not_ours_is_told_as_an_error_that_can_be_tried_again() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock, error=ZeroDivisionError())
        with pytest.raises(Retryable, match="ZeroDivisionError"):
            await add(SightingBuffer(writer, clock))

    run_virtual(scenario)


def test_more_than_may_wait_are_refused_with_a_429() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock)
        buffer = SightingBuffer(writer, clock)
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
        buffer = SightingBuffer(writer, clock)
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
        buffer = SightingBuffer(writer, clock)
        while len(writer.written) < 310:
            await add(buffer)
        times = [at for at, _, _ in writer.written]
        pauses = [(b - a) / 1000 for a, b in itertools.pairwise(times)]
        assert pauses[:299] == [1.0] * 299
        assert pauses[299:] == [1.5] * 10
        assert sightings.PAUSES[0] == (300, 1.0)

    run_virtual(scenario)


def test_a_command_says_when_the_first_of_its_calls_came() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock)
        buffer = SightingBuffer(writer, clock)
        await add(buffer)
        await asyncio.sleep(0.2)
        first = clock()
        calls = [asyncio.create_task(add(buffer))]
        await asyncio.sleep(0.3)
        await asyncio.gather(add(buffer, identity=("k", "h")), *calls)
        assert [command.received_at for _, _, command in writer.written][1] == first and len(writer.written) == 2

    run_virtual(scenario)


@pytest.mark.parametrize("later", [0.0, 0.5, 1.1], ids=["waits", "waits_longer", "is_written"])
def test_a_call_that_is_under_way_is_not_written_twice(later: float) -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock, seconds=0.2)
        buffer = SightingBuffer(writer, clock)
        await add(buffer)
        first = asyncio.create_task(buffer.add(CANDIDATE, numbered(1), ("k", "h")))
        await asyncio.sleep(later)
        again = asyncio.create_task(buffer.add(CANDIDATE, numbered(1), ("k", "h")))
        await asyncio.sleep(0)
        with pytest.raises(CommandIdReused):
            await buffer.add(CANDIDATE, numbered(2), ("k", "other"))
        assert not first.done() and (await first, await again) == (False, True)
        assert writer.sightings == [PASTE, *numbered(1)]
        assert await buffer.add(CANDIDATE, numbered(1), ("k", "h")) is False, "what is durable the caller looks up"

    run_virtual(scenario)


def test_an_error_reaches_the_repeat_too_and_then_the_call_may_come_again() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock, seconds=0.1, error=Moved("gone", session_id="s1"))
        buffer = SightingBuffer(writer, clock)
        calls = [asyncio.create_task(add(buffer, identity=("k", "h"))) for _ in range(2)]
        assert [type(e) for e in await outcomes(calls)] == [Moved, Moved]
        writer.error = None
        assert await buffer.add(CANDIDATE, (PASTE,), ("k", "h")) is False
        assert len(writer.written) == 1

    run_virtual(scenario)


def test_what_this_process_has_to_say_is_never_too_much() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock)
        buffer = SightingBuffer(writer, clock)
        await add(buffer)
        calls = [asyncio.create_task(add(buffer)) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        own = [asyncio.create_task(add(buffer, SYSTEM)) for _ in range(20)]
        assert await outcomes([*calls, *own]) == [None] * (MAX_WAITING + 20)

    run_virtual(scenario)


# In a hurry


def test_a_flush_of_nothing_takes_no_time() -> None:
    async def scenario(clock: Clock) -> None:
        writer, began = Writer(clock), clock()
        buffer = SightingBuffer(writer, clock)
        await buffer.flush()
        await add(buffer)
        await buffer.flush()
        assert clock() == began and len(writer.written) == 1

    run_virtual(scenario)


def test_a_flush_does_not_wait_for_the_pause() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock, seconds=0.05)
        buffer = SightingBuffer(writer, clock)
        await add(buffer)
        call, sent = asyncio.create_task(add(buffer)), clock()
        await asyncio.sleep(0)
        await buffer.flush()
        assert clock() - sent == 50 and len(writer.written) == 2
        await call

    run_virtual(scenario)


def test_a_flush_waits_for_the_write_under_way_and_one_more() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock, seconds=0.1)
        buffer = SightingBuffer(writer, clock)
        first, sent = asyncio.create_task(buffer.add(CANDIDATE, numbered(1), None)), clock()
        await asyncio.sleep(0.04)
        second = asyncio.create_task(buffer.add(CANDIDATE, numbered(2), None))
        await asyncio.sleep(0)
        await buffer.flush()
        assert clock() - sent == 200 and writer.sightings == [*numbered(1), *numbered(2)]
        await asyncio.gather(first, second)

    run_virtual(scenario)


def test_a_flush_does_not_wait_long_and_what_it_has_hurried_is_written_all_the_same() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock, seconds=1.0)
        buffer = SightingBuffer(writer, clock)
        first, began = asyncio.create_task(buffer.add(CANDIDATE, numbered(1), None)), clock()
        await asyncio.sleep(0.4)
        second, sent = asyncio.create_task(buffer.add(CANDIDATE, numbered(2), None)), clock()
        await asyncio.sleep(0)
        await buffer.flush()
        assert clock() - sent == FLUSH_SECONDS * 1000 == 300
        assert not first.done() and not second.done() and not writer.written
        await asyncio.gather(first, second)
        assert writer.sightings == [*numbered(1), *numbered(2)] and clock() - began == 2_000

    run_virtual(scenario)


def test_an_error_is_told_to_those_who_sent_it_and_not_to_who_flushes() -> None:
    async def scenario(clock: Clock) -> None:
        writer = Writer(clock, error=Moved("gone", session_id="s1"))
        buffer = SightingBuffer(writer, clock)
        call = asyncio.create_task(add(buffer))
        await asyncio.sleep(0)
        await buffer.flush()
        assert [type(e) for e in await outcomes([call])] == [Moved]

    run_virtual(scenario)


async def flood(buffer: SightingBuffer, until: asyncio.Event) -> None:
    """Calls that come fifty times a second, whatever became of the ones before."""
    calls: list[asyncio.Task[None]] = []
    while not until.is_set():
        calls.append(asyncio.create_task(add(buffer)))
        await asyncio.sleep(0.02)
    assert await outcomes(calls) == [None] * len(calls)


def test_a_flush_waits_for_no_more_than_that_however_much_goes_on_coming() -> None:
    async def scenario(clock: Clock) -> None:
        buffer, enough = SightingBuffer(Writer(clock, seconds=0.05), clock), asyncio.Event()
        clients = asyncio.create_task(flood(buffer, enough))
        await asyncio.sleep(5.3)
        sent = clock()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(buffer.flush(), 10)
        took = clock() - sent
        enough.set()
        await clients
        assert took <= 100

    run_virtual(scenario)


def test_after_a_flush_a_flood_is_written_once_a_second_again() -> None:
    async def scenario(clock: Clock) -> None:
        writer, enough = Writer(clock, seconds=0.05), asyncio.Event()
        buffer = SightingBuffer(writer, clock)
        clients = asyncio.create_task(flood(buffer, enough))
        await asyncio.sleep(5.3)
        flushing = asyncio.create_task(buffer.flush())
        await asyncio.sleep(1)
        written = len(writer.written)
        await asyncio.sleep(10)
        more = len(writer.written) - written
        enough.set()
        await asyncio.gather(clients, flushing)
        assert 9 <= more <= 11

    run_virtual(scenario)
