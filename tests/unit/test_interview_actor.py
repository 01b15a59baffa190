"""InterviewActor as a plain class: a journal in memory, and a clock that jumps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from actors.interview import Activation, DeactivationReason, Holding, InterviewActor
from orchestrator.errors import Moved, OrchestratorError, StateConflict
from orchestrator.interview.commands import Answer, Command, End, Pause, Start
from orchestrator.interview.state import State, dump_state
from orchestrator.journal import Loaded
from orchestrator.session import DraftSaved, Reply, Request, Session, delete_request, state_of
from tests.unit.virtual import run_virtual
from tests.unit.world import CANDIDATE, STAFF, MemoryJournal, new_session

Clock = Callable[[], int]


class World:
    """One session, and the actor that takes it."""

    def __init__(self, clock: Clock, journal: MemoryJournal, state: State) -> None:
        self.clock, self.journal, self.state = clock, journal, state
        self.actor = self.new_actor("InterviewActor-a")

    @classmethod
    async def make(cls, clock: Clock, **changes: Any) -> World:
        journal = MemoryJournal()
        return cls(clock, journal, await new_session(journal, at=clock(), **changes))

    def new_actor(self, name: str) -> InterviewActor:
        return InterviewActor(name, self.journal, "node-1", self.clock)

    async def start(self) -> asyncio.Task[DeactivationReason]:
        request = Request(Start(), CANDIDATE, self.clock(), "start")
        run = asyncio.create_task(self.actor.run(Activation("s1", dump_state(self.state), "start", request)))
        await asyncio.sleep(0)
        reply = await self.actor.activated()
        assert isinstance(reply, Reply)
        return run

    async def send(self, command: Command, actor: InterviewActor | None = None) -> Reply | OrchestratorError:
        return await (actor or self.actor).execute("s1", Request(command, STAFF, self.clock()))

    async def stored(self) -> State:
        loaded = await self.journal.load("s1")
        assert isinstance(loaded, Loaded)
        return state_of(loaded)


def test_a_whole_life() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock, questions=2)
        assert (await world.actor.ping()).session_id is None
        run = await world.start()
        assert await world.actor.ping() == Holding("s1", 1, "node-1")
        for index in range(2):
            assert isinstance(await world.send(Answer(index, "x")), Reply)
        assert await run == DeactivationReason.COMPLETED
        assert (await world.stored()).end_reason == "finished"
        assert world.journal.snapshots["s1"].status == "completed"

    run_virtual(scenario)


def test_a_start_is_one_entry_with_the_activation() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        entries = (await world.journal.load("s1")).entries  # type: ignore[union-attr]
        types = [event["type"] for event in entries[-1].content()["events"]]
        assert len(entries) == 2 and types[0] == "activated" and "question_opened" in types

    run_virtual(scenario)


def test_timers_fire_by_themselves_and_take_the_draft() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock, questions=3)
        began = clock()
        run = await world.start()
        saved = await world.actor.save_draft("s1", 0, "half an", 1, clock())
        assert saved == DraftSaved(1, True)
        assert await run == DeactivationReason.COMPLETED
        state = await world.stored()
        assert [a.source for a in state.answers] == ["draft", "timeout", "timeout"]
        assert state.answers[0].answer == "half an"
        limits = (120 + 300 + 120) * 1000
        assert limits <= clock() - began < limits + 20_000

    run_virtual(scenario)


def test_another_sessions_commands_are_not_executed() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        assert isinstance(await world.actor.execute("s2", Request(End(None), STAFF, clock())), Moved)

    run_virtual(scenario)


def test_errors_are_values_and_leave_the_interview_alone() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        run = await world.start()
        await world.send(Pause(None))
        assert isinstance(await world.send(Answer(0, "x")), StateConflict)
        assert not run.done()

    run_virtual(scenario)


def test_an_owner_that_was_replaced_ends_itself() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        run = await world.start()
        second = world.new_actor("InterviewActor-b")
        other = asyncio.create_task(second.run(Activation("s1", None, "hung", silent_since=clock() - 3000)))
        await asyncio.sleep(0)
        assert isinstance(await second.activated(), Reply)
        late = await world.send(Answer(0, "late"))
        assert isinstance(late, OrchestratorError) and late.code == "fenced"
        assert await run == DeactivationReason.FENCED
        assert isinstance(await world.send(Answer(0, "mine"), second), Reply)
        state = await world.stored()
        assert [a.answer for a in state.answers] == ["mine"]
        other.cancel()

    run_virtual(scenario)


def test_an_owner_of_a_deleted_session_ends_itself() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        run = await world.start()
        deleting = await Session.load(world.journal, "s1")
        await deleting.execute(delete_request(STAFF, clock()), clock())
        assert isinstance(await world.send(Answer(0, "x")), OrchestratorError)
        assert await run == DeactivationReason.DELETED

    run_virtual(scenario)


def test_a_lost_reply_is_settled_by_itself() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        world.journal.faults = ["lost_reply", "away", "away"]
        outcome = await world.send(Answer(0, "x"))
        assert isinstance(outcome, OrchestratorError) and outcome.code == "outcome_unknown"
        await asyncio.sleep(5)
        again = await world.send(Answer(0, "x"))
        assert isinstance(again, Reply)
        assert [a.answer for a in (await world.stored()).answers] == ["x"]

    run_virtual(scenario)


def test_the_time_until_the_repeat_has_landed_is_credited() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        world.journal.faults = ["away"]
        sent = clock()
        assert isinstance(await world.send(Answer(0, "x")), OrchestratorError)
        world.journal.slow = 3.0
        while not (await world.stored()).answers:
            await asyncio.sleep(0.1)
        landed = clock()
        await asyncio.sleep(5)
        [credit] = (await world.stored()).ledger
        assert credit.cause == "storage_unavailable"
        assert landed - sent - 200 <= credit.ms <= landed - sent + 3500

    run_virtual(scenario)


def test_a_released_session_can_be_taken_by_another() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        run = await world.start()
        await world.actor.release("drain")
        assert await run == DeactivationReason.RELEASED
        assert isinstance(await world.send(Answer(0, "x")), Moved)
        second = world.new_actor("InterviewActor-b")
        other = asyncio.create_task(second.run(Activation("s1", None, "released")))
        await asyncio.sleep(0)
        assert isinstance(await second.activated(), Reply)
        assert isinstance(await world.send(Answer(0, "x"), second), Reply)
        other.cancel()

    run_virtual(scenario)


def test_two_runs_are_one() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock, questions=1)
        first = await world.start()
        second = asyncio.create_task(world.actor.run(Activation("s1", None, "again")))
        await world.send(Answer(0, "x"))
        assert await first == await second == await world.actor.joined() == DeactivationReason.COMPLETED

    run_virtual(scenario)


def test_an_activation_that_comes_too_late_is_refused() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        session = await Session.load(world.journal, "s1")
        await session.execute(Request(End(None), STAFF, clock()), clock())
        request = Request(Start(), CANDIDATE, clock())
        run = asyncio.create_task(world.actor.run(Activation("s1", dump_state(world.state), "start", request)))
        await asyncio.sleep(0)
        assert isinstance(await world.actor.activated(), StateConflict)
        assert await run == DeactivationReason.REFUSED

    run_virtual(scenario)
