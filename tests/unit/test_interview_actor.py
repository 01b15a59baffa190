"""InterviewActor as a plain class: a journal in memory, and a clock that jumps.

Every test runs twice: with one actor that holds the session all the time, and with the session handed over to
another actor after every command. A command that is sent to a named actor (`send(command, actor)`) is not
followed by a hand-over: there the very actor is the subject.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors import interview
from actors.interview import MAX_CALLS, Activation, DeactivationReason, Holding, InterviewActor
from orchestrator.errors import Moved, OrchestratorError, OutcomeUnknown, Retryable, StateConflict, Unavailable
from orchestrator.interview.commands import (
    Activate,
    Answer,
    Caller,
    Command,
    Consent,
    Deactivate,
    End,
    Extend,
    Pause,
    Start,
)
from orchestrator.interview.entry import Entry
from orchestrator.interview.snapshot import Draft
from orchestrator.interview.state import State, dump_state
from orchestrator.journal import Appended, Collision, Loaded, Outage
from orchestrator.session import DraftSaved, Reply, Request, Session, delete_request, state_of
from tests.unit.virtual import VirtualLoop, run_virtual
from tests.unit.world import CANDIDATE, STAFF, MemoryJournal, new_session

Clock = Callable[[], int]


@pytest.fixture(params=["held", "handed over"], autouse=True)
def hand_over_mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "hands_over", request.param == "handed over")


class World:
    """One session, the actor that holds it now, and that actor's run."""

    hands_over = False

    def __init__(self, clock: Clock, journal: MemoryJournal, state: State) -> None:
        self.clock, self.journal, self.state = clock, journal, state
        self.actors = 0
        self.actor = self.new_actor()
        self.run: asyncio.Task[DeactivationReason] | None = None

    @classmethod
    async def make(cls, clock: Clock, **changes: Any) -> World:
        journal = MemoryJournal()
        return cls(clock, journal, await new_session(journal, at=clock(), **changes))

    def new_actor(self, name: str | None = None) -> InterviewActor:
        self.actors += 1
        return InterviewActor(name or f"InterviewActor-{self.actors}", self.journal, "node-1", self.clock)

    async def start(self) -> asyncio.Task[DeactivationReason]:
        request = Request(Start(), CANDIDATE, self.clock(), "start")
        return await self.give(self.actor, Activation("s1", dump_state(self.state), "start", request))

    async def give(self, actor: InterviewActor, activation: Activation) -> asyncio.Task[DeactivationReason]:
        """Have an actor take the session; it is the one that holds it from now on."""
        self.actor = actor
        self.run = asyncio.create_task(actor.run(activation))
        await asyncio.sleep(0)
        assert isinstance(await actor.activated("s1"), Reply)
        return self.run

    async def take_over(self) -> asyncio.Task[DeactivationReason]:
        """Have another actor take the session from one that does not know of it."""
        return await self.give(self.new_actor(), Activation("s1", None, "hung", silent_since=self.clock() - 3000))

    async def send(
        self, command: Command, actor: InterviewActor | None = None, caller: Caller = STAFF
    ) -> Reply | OrchestratorError:
        reply = await (actor or self.actor).execute("s1", Request(command, caller, self.clock()))
        if actor is None:
            await self._hand_over(reply)
        return reply

    async def save_draft(self, index: int, text: str, revision: int | None = None) -> DraftSaved | OrchestratorError:
        saved = await self.actor.save_draft("s1", index, text, revision, self.clock())
        await self._hand_over(saved)
        return saved

    async def _hand_over(self, after: object) -> None:
        if not self.hands_over or self.run is None or (await self.stored()).status != "in_progress":
            return
        while (error := await self.actor.release("test")) is not None:
            assert isinstance(error, Retryable) and isinstance(after, Retryable)
            await asyncio.sleep(0.5)
        assert await self.run == DeactivationReason.RELEASED
        await self.give(self.new_actor(), Activation("s1", None, "released", silent_since=self.clock()))

    async def ended(self) -> DeactivationReason:
        """Why the actor that holds the session let it go."""
        assert self.run is not None
        return await self.run

    async def stored(self) -> State:
        loaded = await self.journal.load("s1")
        assert isinstance(loaded, Loaded)
        return state_of(loaded)

    def ledger(self, state: State) -> list[tuple[str, int]]:
        return [(line.cause, line.ms) for line in state.ledger]


async def stall(seconds: float) -> None:
    """Block the loop, as a stopped process does: from inside a callback, time jumps."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.call_soon(loop.advance, seconds)
    await asyncio.sleep(0)


def test_a_whole_life() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock, questions=2)
        assert (await world.actor.ping()).session_id is None
        await world.start()
        assert await world.actor.ping() == Holding("s1", 1, "node-1")
        for index in range(2):
            assert isinstance(await world.send(Answer(index, "x")), Reply)
        assert await world.ended() == DeactivationReason.COMPLETED
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
        await world.start()
        saved = await world.save_draft(0, "half an", 1)
        assert saved == DraftSaved(1, True)
        assert await world.ended() == DeactivationReason.COMPLETED
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
        await world.start()
        await world.send(Pause(None))
        assert isinstance(await world.send(Answer(0, "x")), StateConflict)
        assert world.run is not None and not world.run.done()

    run_virtual(scenario)


def test_an_owner_that_was_replaced_ends_itself() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        run, first = await world.start(), world.actor
        await world.take_over()
        late = await world.send(Answer(0, "late"), first)
        assert isinstance(late, OrchestratorError) and late.code == "fenced"
        assert await run == DeactivationReason.FENCED
        assert isinstance(await world.send(Answer(0, "mine")), Reply)
        state = await world.stored()
        assert [a.answer for a in state.answers] == ["mine"]

    run_virtual(scenario)


def test_an_owner_that_was_replaced_does_not_refuse_commands_by_what_it_remembers() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        old = world.actor
        await world.take_over()
        assert isinstance(await world.send(Answer(0, "x")), Reply)
        late = await world.send(Answer(1, "y"), old)
        assert isinstance(late, Retryable), late.detail if isinstance(late, OrchestratorError) else late

    run_virtual(scenario)


def test_a_command_that_waited_for_a_stopped_owner_is_not_refused_by_what_it_remembers() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        old = world.actor
        taking = await Session.load(world.journal, "s1")
        await taking.activate(Activate("InterviewActor-other", "node-2", "hung", clock()), None, clock() + 1000)
        await taking.execute(Request(Answer(0, "x"), STAFF, clock() + 2000), clock() + 2000)
        await asyncio.sleep(0.5)
        waiting = asyncio.create_task(world.send(Answer(1, "y"), old))
        await stall(20)
        late = await waiting
        assert isinstance(late, Retryable), late.detail if isinstance(late, OrchestratorError) else late

    run_virtual(scenario)


def test_an_owner_of_a_deleted_session_ends_itself() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        run = await world.start()
        deleting = await Session.load(world.journal, "s1")
        await deleting.execute(delete_request(STAFF, clock()), clock())
        assert isinstance(await world.send(Answer(0, "x"), world.actor), OrchestratorError)
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
        assert isinstance(await world.send(Answer(0, "x"), world.actor), OrchestratorError)
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
        run, first = await world.start(), world.actor
        await first.release("drain")
        assert await run == DeactivationReason.RELEASED
        assert isinstance(await world.send(Answer(0, "x"), first), Moved)
        await world.give(world.new_actor(), Activation("s1", None, "released"))
        assert isinstance(await world.send(Answer(0, "x")), Reply)

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
        assert isinstance(await world.actor.activated("s1"), StateConflict)
        assert await run == DeactivationReason.REFUSED

    run_virtual(scenario)


# Time that the process itself has lost


def test_time_in_which_the_loop_was_blocked_is_credited() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await world.send(Consent())
        await asyncio.sleep(10)
        await stall(30)
        await asyncio.sleep(5)
        [(cause, ms)] = world.ledger(await world.stored())
        assert cause == "storage_unavailable" and 30_000 <= ms <= 32_600

    run_virtual(scenario)


def test_a_deadline_within_a_stall_does_not_fire() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await world.send(Consent())
        await asyncio.sleep(115.5)
        await stall(60)
        await asyncio.sleep(2)
        state = await world.stored()
        assert state.answers == () and state.open is not None
        assert state.open.remaining_ms(clock()) > 1_500
        assert isinstance(await world.send(Answer(0, "in time")), Reply)

    run_virtual(scenario)


@pytest.mark.parametrize(
    ("begins", "command"),
    [(110, None), (110, Answer(0, "x")), (50, Pause(None)), (110, Deactivate("drain"))],
    ids=["draft", "answer", "pause", "release"],
)
def test_what_came_during_a_stall_is_judged_with_its_credit(begins: int, command: Command | None) -> None:
    """Calls are served before the timers that have waited as long."""

    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await world.send(Consent(), world.actor)
        await asyncio.sleep(begins + 0.3)
        loop, received_at = asyncio.get_running_loop(), clock() + 15_000
        assert isinstance(loop, VirtualLoop)
        calls: list[asyncio.Task[Any]] = []

        def call() -> None:
            if command is None:
                calls.append(loop.create_task(world.actor.save_draft("s1", 0, "text", 1, received_at)))
            elif isinstance(command, Deactivate):
                calls.append(loop.create_task(world.actor.release("drain")))
            else:
                request = Request(command, CANDIDATE, received_at)
                calls.append(loop.create_task(world.actor.execute("s1", request)))

        def block() -> None:
            loop.advance(30)
            loop.call_soon(call)

        loop.call_soon(block)
        await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert not isinstance(await calls[0], OrchestratorError)
        state = await world.stored()
        [(cause, ms)] = world.ledger(state)
        assert cause == "storage_unavailable" and 30_000 <= ms <= 32_600
        assert [a.answer for a in state.answers] == (["x"] if isinstance(command, Answer) else [])
        if isinstance(command, Pause):
            assert state.open is not None and 67_000 <= state.open.remaining_ms(clock()) <= 72_500

    run_virtual(scenario)


def test_a_hiccup_of_the_loop_is_not_written_down() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await asyncio.sleep(10.5)
        await stall(1.3)
        await asyncio.sleep(5)
        assert (await world.stored()).ledger == ()

    run_virtual(scenario)


def test_a_stall_while_paused_is_not_credited() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await world.send(Pause(None))
        await stall(30)
        await asyncio.sleep(5)
        assert (await world.stored()).ledger == ()

    run_virtual(scenario)


@pytest.mark.parametrize("seconds", [20, 400], ids=["before the deadline", "past the deadline"])
def test_an_actor_that_lost_its_session_in_a_stall_writes_nothing_and_ends(seconds: int) -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await world.send(Consent())
        run, stalled, exits = world.run, world.actor, []
        stalled._exit = lambda: exits.append(clock())
        await asyncio.sleep(10.5)
        taking = await Session.load(world.journal, "s1")
        command = Activate("InterviewActor-other", "node-2", "hung", clock())
        await taking.activate(command, None, clock() + 1000)
        entries = dict(world.journal.entries)
        await stall(seconds)
        assert run is not None and await run == DeactivationReason.FENCED
        ended = clock()
        await asyncio.sleep(60)
        assert world.journal.entries == entries
        [exited] = exits
        assert exited - ended == interview.EXIT_SECONDS * 1000
        assert isinstance(await world.send(Answer(0, "x"), stalled), OrchestratorError)

    run_virtual(scenario)


# Outages that the actor only hears of


async def outage(world: World, seconds: float) -> None:
    """The storage was away for a while, in which this interview wrote nothing."""
    since = world.clock()
    await asyncio.sleep(seconds)
    world.journal.outage = Outage(since, world.clock())
    await asyncio.sleep(2)


def test_an_outage_is_credited_to_an_idle_interview() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await world.send(Consent())
        await asyncio.sleep(10)
        await outage(world, 40)
        [(cause, ms)] = world.ledger(await world.stored())
        assert cause == "storage_unavailable" and 40_000 <= ms <= 41_500

    run_virtual(scenario)


def test_an_outage_is_not_credited_to_a_paused_interview() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await world.send(Pause(None))
        await asyncio.sleep(10)
        await outage(world, 40)
        assert (await world.stored()).ledger == ()

    run_virtual(scenario)


def test_an_outage_that_the_actor_noticed_itself_is_not_credited_twice() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await asyncio.sleep(10)
        since = clock()
        world.journal.faults = ["away"] * 20
        assert isinstance(await world.send(Extend(1, "x")), Retryable)
        while world.journal.faults:
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        world.journal.outage = Outage(since, clock() - 1000)
        took = clock() - since
        await asyncio.sleep(10)
        credits = [ms for cause, ms in world.ledger(await world.stored()) if cause == "storage_unavailable"]
        assert took - 2000 <= sum(credits) <= took

    run_virtual(scenario)


def test_each_of_several_outages_is_credited() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        for seconds in (5, 20, 5):
            await asyncio.sleep(10)
            await outage(world, seconds)
        credits = [ms for _, ms in world.ledger(await world.stored())]
        assert [round(ms / 1000) for ms in credits] == pytest.approx([5, 20, 5], abs=1)

    run_virtual(scenario)


def test_an_outage_in_which_a_deadline_passed_unknown_to_all_is_given_to_the_next_question() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await asyncio.sleep(100)
        since = clock()
        world.journal.faults = ["away"] * 60
        while world.journal.faults:
            await asyncio.sleep(0.2)
        world.journal.outage = Outage(since, clock())
        await asyncio.sleep(3)
        state = await world.stored()
        # The close is of unknown outcome, so it has to be repeated; what it cost is given to the next question.
        assert [a.source for a in state.answers] == ["timeout"] and state.open is not None
        assert state.open.remaining_ms(clock()) >= 295_000

    run_virtual(scenario)


def test_an_outage_is_credited_although_a_command_came_before_the_news_of_it() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await asyncio.sleep(10)
        since = clock()
        await asyncio.sleep(40)
        assert isinstance(await world.send(Consent(), world.actor), Reply)
        await asyncio.sleep(0.01)
        world.journal.outage = Outage(since, clock())
        await asyncio.sleep(5)
        assert sum(ms for _, ms in world.ledger(await world.stored())) >= 40_000

    run_virtual(scenario)


def test_the_news_of_an_outage_that_comes_while_a_part_of_it_is_credited_is_kept() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await asyncio.sleep(10)
        since = clock()
        world.journal.faults = ["unavailable"] * 3
        world.journal.slow, world.journal.news_seconds = 1.0, 0.1
        assert isinstance(await world.send(Extend(1, "x"), world.actor), Retryable)
        await asyncio.sleep(4)
        assert not world.journal.faults and world.ledger(await world.stored()) == [], "its credit is under way"
        until = clock() + 200
        world.journal.slow, world.journal.outage = 0.0, Outage(since, until)
        await asyncio.sleep(10)
        credits = [ms for cause, ms in world.ledger(await world.stored()) if cause == "storage_unavailable"]
        assert sum(credits) == until - since

    run_virtual(scenario)


@pytest.mark.parametrize("command", [None, Pause(None), Extend(1, "x"), Answer(0, "x")], ids=type)
def test_what_comes_before_the_news_of_an_outage_is_judged_with_its_credit(command: Command | None) -> None:
    """A deadline of 120 s that passes just after an outage of 40 s, or a command at that time."""

    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        world.journal.news_seconds = 1000.0
        await world.start()
        await asyncio.sleep(79.5)
        since = clock()
        await asyncio.sleep(40)
        world.journal.outage = Outage(since, clock())
        if command is not None:
            assert isinstance(await world.send(command, world.actor), Reply)
        await asyncio.sleep(10)  # past the grace
        state = await world.stored()
        assert world.ledger(state)[0] == ("storage_unavailable", 40_000)
        if not isinstance(command, Answer):
            assert state.answers == () and state.open is not None
            left = 40_500 if isinstance(command, Pause) else 30_500 + (1_000 if isinstance(command, Extend) else 0)
            assert state.open.remaining_ms(clock()) == pytest.approx(left, abs=100)

    run_virtual(scenario)


def test_the_part_of_an_outage_before_a_pause_of_unknown_outcome_is_credited() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await world.send(Consent(), world.actor)
        await asyncio.sleep(10)
        since = clock()
        await asyncio.sleep(8)
        world.journal.faults = ["away"] * 20
        assert isinstance(await world.send(Pause(None), world.actor), Retryable)
        while world.journal.faults:
            await asyncio.sleep(0.1)
        world.journal.outage = Outage(since, clock())
        await asyncio.sleep(5)
        state = await world.stored()
        assert state.open is not None and state.open.remaining_ms(clock()) == 110_000
        assert world.ledger(state) == [("storage_unavailable", 8_000)]

    run_virtual(scenario)


@pytest.mark.parametrize("landed", [True, False])
def test_an_expiry_of_unknown_outcome_is_judged_again_after_the_outage(landed: bool) -> None:
    """It is repeated unchanged only if it is there already."""

    class Hangs(MemoryJournal):
        away = False

        async def append(self, entry: Entry, prev_mac: str) -> Appended | Collision | Outage:
            if self.away:
                if landed:
                    await super().append(entry, prev_mac)
                raise OutcomeUnknown("no answer")
            return await super().append(entry, prev_mac)

    async def scenario(clock: Clock) -> None:
        journal = Hangs(news_seconds=1000.0)
        world = World(clock, journal, await new_session(journal, at=clock()))
        await world.start()
        await world.send(Consent(), world.actor)
        await asyncio.sleep(110)
        since, journal.away = clock(), True
        await asyncio.sleep(40)
        journal.away, journal.outage = False, Outage(since, clock())
        await asyncio.sleep(5)
        state = await world.stored()
        assert state.open is not None
        assert [a.source for a in state.answers] == (["timeout"] if landed else [])
        assert state.open.remaining_ms(clock()) == pytest.approx(295_000 if landed else 5_000, abs=600)

    run_virtual(scenario)


class HangsInAnOutage(MemoryJournal):
    """Every call takes 3 s to fail while it is away, and the calls under way when it is back fail too."""

    since: int | None = None
    away = False

    async def _pass(self) -> None:
        if self.away:
            await asyncio.sleep(3)
            raise Unavailable("away", since=self.since)

    async def append(self, entry: Entry, prev_mac: str) -> Appended | Collision | Outage:
        await self._pass()
        return await super().append(entry, prev_mac)

    async def save_draft(self, draft: Draft) -> bool:
        await self._pass()
        return await super().save_draft(draft)


@pytest.mark.parametrize("seconds", [20, 20.5, 23.5, 24, 30, 31.5])
def test_drafts_that_wait_for_each_other_in_an_outage_take_nothing_of_its_credit(seconds: float) -> None:
    async def scenario(clock: Clock) -> None:
        journal = HangsInAnOutage()
        world = World(clock, journal, await new_session(journal, at=clock()))
        await world.start()
        await asyncio.sleep(20)
        journal.since, journal.away = clock(), True
        since = clock()
        revision = 0
        typing: list[asyncio.Task[Any]] = []
        while clock() - since < seconds * 1000:
            revision += 1
            typing.append(asyncio.create_task(world.actor.save_draft("s1", 0, f"t{revision}", revision, clock())))
            await asyncio.sleep(min(3.5, since / 1000 + seconds - clock() / 1000))
        journal.away, journal.outage = False, Outage(since, clock())
        await asyncio.sleep(15)
        credited = sum(ms for _, ms in world.ledger(await world.stored()))
        assert seconds * 1000 <= credited <= seconds * 1000 + 4_000

    run_virtual(scenario)


def test_a_wait_and_then_a_slow_append_are_both_credited() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        await world.send(Consent(), world.actor)
        await asyncio.sleep(10)
        world.journal.slow = 2.9
        before = asyncio.create_task(world.send(Extend(1, "x"), world.actor))
        await asyncio.sleep(0.1)
        assert isinstance(await world.send(Answer(0, "x"), world.actor), Reply)
        answered_at, world.journal.slow = clock(), 0.0
        await before
        await asyncio.sleep(3)
        state = await world.stored()
        assert state.open is not None and state.open.index == 1
        assert state.open.remaining_ms(clock()) >= 300_000 - (clock() - answered_at)

    run_virtual(scenario)


# Activation and release


def test_a_command_that_comes_during_the_activation_waits_for_it() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        world.journal.slow = 2.0
        starting = asyncio.create_task(world.start())
        await asyncio.sleep(0.5)
        answer = asyncio.create_task(world.actor.execute("s1", Request(Answer(0, "x"), STAFF, clock())))
        await asyncio.sleep(0.5)
        assert not answer.done() and not starting.done()
        await starting
        assert isinstance(await answer, Reply)
        assert [a.answer for a in (await world.stored()).answers] == ["x"]

    run_virtual(scenario)


def test_a_command_that_comes_during_an_activation_that_fails_has_not_happened() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        world.journal.slow, world.journal.faults = 1.0, ["away"]
        request = Request(Start(), CANDIDATE, clock())
        run = asyncio.create_task(world.actor.run(Activation("s1", dump_state(world.state), "start", request)))
        await asyncio.sleep(0.5)
        assert isinstance(await world.send(Answer(0, "x"), world.actor), Moved)
        assert await run == DeactivationReason.REFUSED

    run_virtual(scenario)


def test_a_session_that_cannot_be_released_is_kept_until_it_can() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        run = await world.start()
        world.journal.faults = ["unavailable"]
        assert isinstance(await world.actor.release("drain"), Retryable)
        assert not run.done()
        assert isinstance(await world.send(Answer(0, "x"), world.actor), Reply)
        assert await world.actor.release("drain") is None
        assert await run == DeactivationReason.RELEASED
        await world.give(world.new_actor(), Activation("s1", None, "released", silent_since=clock()))
        assert isinstance(await world.send(Answer(1, "y")), Reply)
        assert [a.answer for a in (await world.stored()).answers] == ["x", "y"]

    run_virtual(scenario)


def test_a_release_of_unknown_outcome_is_carried_through() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        run = await world.start()
        world.journal.faults = ["away"]
        assert isinstance(await world.actor.release("drain"), Retryable)
        assert await asyncio.wait_for(run, 5) == DeactivationReason.RELEASED
        assert isinstance(await world.send(Extend(1, "x"), world.actor), Moved)
        await world.give(world.new_actor(), Activation("s1", None, "released", silent_since=clock()))
        assert isinstance(await world.send(Extend(1, "x")), Reply)

    run_virtual(scenario)


def test_a_release_during_the_activation_is_not_lost() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        world.journal.slow = 1.0
        starting = asyncio.create_task(world.start())
        await asyncio.sleep(0.5)
        error = await world.actor.release("drain")
        run = await starting
        await asyncio.sleep(2)
        assert (error is None) == run.done()

    run_virtual(scenario)


def test_the_time_of_a_slow_start_is_credited() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        world.journal.slow = 2.0
        await world.start()
        world.journal.slow = 0.0
        began = clock()
        await world.send(Extend(1, "x"), world.actor)
        await asyncio.sleep(2)
        question = (await world.stored()).open
        assert question is not None and question.remaining_ms(began) >= 120_000

    run_virtual(scenario)


def test_a_session_that_kills_its_actors_is_parked_by_the_next_one() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        for n in range(2):
            taking = await Session.load(world.journal, "s1")
            await taking.activate(Activate(f"InterviewActor-dead-{n}", "node-1", "crash", clock()), None, clock())
        await asyncio.sleep(5)
        died = clock() - 5000
        await world.give(world.new_actor(), Activation("s1", None, "crash", silent_since=died))
        assert await world.ended() == DeactivationReason.PARKED
        state = await world.stored()
        assert state.status_detail == "parked" and state.parked_since == died

    run_virtual(scenario)


def test_a_flood_of_calls_is_refused_and_is_no_hang() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        world.journal.slow = 0.01
        actor = world.actor
        calls = [actor.execute("s1", Request(Extend(1, "x"), STAFF, clock(), f"k{n}")) for n in range(2 * MAX_CALLS)]
        results = await asyncio.gather(*calls)
        assert sum(isinstance(result, Reply) for result in results) == MAX_CALLS
        assert {type(result) for result in results} == {Reply, Unavailable}
        assert (await actor.ping()).session_id == "s1"

    run_virtual(scenario)


def test_an_actor_that_holds_one_session_takes_no_other() -> None:
    async def scenario(clock: Clock) -> None:
        world = await World.make(clock)
        await world.start()
        actor = world.actor
        assert await actor.run(Activation("s2", None, "start")) == DeactivationReason.REFUSED
        assert isinstance(await actor.activated("s2"), Moved)
        assert isinstance(await actor.activated("s1"), Reply)

    run_virtual(scenario)
