"""InterviewActor: what proctoring sees, and hooks beside the interview, on the virtual clock.

Hooks run at once here, in the loop's own thread: what a thread of their own changes is in `test_hooks.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from actors import hooks as runner_module
from actors import sightings as buffer_module
from actors.hooks import Failed
from actors.interview import Activation, DeactivationReason, InterviewActor
from actors.sightings import Identity
from orchestrator.errors import (
    CommandIdReused,
    Moved,
    OrchestratorError,
    OutcomeUnknown,
    StateConflict,
    TooManyRequests,
    Unavailable,
)
from orchestrator.interview import hooks
from orchestrator.interview.commands import Activate, Answer, Caller, End, Extend, NoteFrames
from orchestrator.interview.hooks import Finding, PastedUnread, ProctoringHook
from orchestrator.interview.sightings import Seen, Sighting
from orchestrator.interview.state import ClosedAnswer, State
from orchestrator.session import Reply, Session
from tests.unit.test_interview_actor import World, stall
from tests.unit.virtual import run_virtual
from tests.unit.world import CANDIDATE, STAFF

Clock = Callable[[], int]
CALLS: list[tuple[Any, ...]] = []


class Records(ProctoringHook):
    def on_start(self, state: State) -> Iterable[Finding]:
        CALLS.append(("on_start", state.epoch))
        return ()

    def on_event(self, state: State, event: Seen) -> Iterable[Finding]:
        CALLS.append(("on_event", event.kind, state.proctoring.tally(event.kind).count))
        return ()

    def on_answer(self, state: State, answer: ClosedAnswer) -> Iterable[Finding]:
        CALLS.append(("on_answer", answer.question_index, answer.source))
        return ()

    def on_tick(self, state: State, now: int) -> Iterable[Finding]:
        CALLS.append(("on_tick", now))
        return ()

    def on_end(self, state: State) -> Iterable[Finding]:
        CALLS.append(("on_end", state.status))
        return ()


class LastWords(ProctoringHook):
    def on_end(self, state: State) -> Iterable[Finding]:
        return [Finding("custom:last_words", {"answers": len(state.answers)})]


class Raises(ProctoringHook):
    def on_event(self, state: State, event: Seen) -> Iterable[Finding]:
        raise ZeroDivisionError


class SameThread:
    """In the place of HookThread: the work is done at once."""

    abandoned = False

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work())
        except Exception as error:
            future.set_result(Failed(f"it raised {type(error).__name__}"))
        return future

    def abandon(self) -> None:
        pass


@pytest.fixture(autouse=True)
def hooks_in_this_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runner_module, "HookThread", SameThread)
    monkeypatch.setattr(runner_module, "PAUSE_SECONDS", 0.0)
    CALLS.clear()
    yield
    CALLS.clear()


class Watched(World):
    """A world whose actors have hooks, and that says what is in the journal."""

    hooks: tuple[type, ...] = ()

    def new_actor(self, name: str | None = None) -> InterviewActor:
        self.actors += 1
        specs = {hook.__name__: f"{__name__}:{hook.__name__}" for hook in self.hooks}
        return InterviewActor(name or f"InterviewActor-{self.actors}", self.journal, "node-1", self.clock, specs)

    async def note(
        self,
        *sightings: Sighting,
        identity: Identity | None = None,
        caller: Caller = CANDIDATE,
        actor: InterviewActor | None = None,
    ) -> Reply | OrchestratorError:
        given = sightings or (paste(self.clock()),)
        return await (actor or self.actor).note("s1", given, caller, identity)

    def events(self, kind: str = "proctoring_event") -> list[dict[str, Any]]:
        return [e for entry in self.entries() for e in entry["events"] if e["type"] == kind]

    def entries(self) -> list[dict[str, Any]]:
        return [entry.content() for _, entry in sorted(self.journal.entries.items())]

    async def pastes(self) -> int:
        return (await self.stored()).proctoring.tally("paste").count


def paste(at: int) -> Sighting:
    return Sighting("paste", "page", at)


async def started(clock: Clock, *hooks: type, **changes: Any) -> Watched:
    class World(Watched):
        pass

    World.hooks = hooks
    world = await World.make(clock, **changes)
    assert isinstance(world, Watched)
    await world.start()
    return world


# What is seen


def test_what_was_seen_is_durable_before_the_call_returns() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        world.journal.slow = 0.2
        for n in range(3):
            reply = await world.note(identity=(f"k{n}", "h"))
            assert isinstance(reply, Reply) and not reply.replayed
            assert await world.pastes() == n + 1
        assert world.entries()[-1]["by"] == "candidate"

    run_virtual(scenario)


def test_a_repeat_says_so_and_adds_nothing() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        first = await world.note(identity=("k", "h"))
        entries = dict(world.journal.entries)
        again = await world.note(identity=("k", "h"))
        assert isinstance(first, Reply) and isinstance(again, Reply)
        assert (first.replayed, again.replayed) == (False, True) and again.version == first.version
        assert world.journal.entries == entries and await world.pastes() == 1

    run_virtual(scenario)


def test_a_repeat_with_another_body_is_refused() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        await world.note(identity=("k", "h"))
        assert isinstance(await world.note(identity=("k", "other")), CommandIdReused)
        assert await world.pastes() == 1

    run_virtual(scenario)


def test_a_repeat_that_another_actor_gets_adds_nothing_either() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        await world.note(identity=("k", "h"))
        await world.take_over()
        again = await world.note(identity=("k", "h"))
        assert isinstance(again, Reply) and again.replayed and await world.pastes() == 1

    run_virtual(scenario)


def test_a_repeat_of_a_call_that_still_waits_adds_nothing() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        await world.note()
        replies = await asyncio.gather(world.note(identity=("k", "h")), world.note(identity=("k", "h")))
        assert [reply.replayed for reply in replies if isinstance(reply, Reply)] == [False, True]
        assert await world.pastes() == 2

    run_virtual(scenario)


def test_a_repeat_of_a_call_that_is_being_written_adds_nothing() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        world.journal.slow = 0.2
        first = asyncio.create_task(world.note(identity=("k", "h")))
        await asyncio.sleep(0.1)
        again = await world.note(identity=("k", "h"))
        assert isinstance(await first, Reply) and isinstance(again, Reply)
        assert await world.pastes() == 1

    run_virtual(scenario)


def test_a_key_that_a_waiting_call_uses_is_refused_with_another_body() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        await world.note()
        outcomes = await asyncio.gather(world.note(identity=("k", "h")), world.note(identity=("k", "other")))
        assert [type(outcome) for outcome in outcomes] == [Reply, CommandIdReused]

    run_virtual(scenario)


def test_a_repeat_after_an_unknown_outcome_adds_nothing() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        world.journal.faults = ["lost_reply", "away"]
        assert isinstance(await world.note(identity=("k", "h")), OutcomeUnknown)
        again = await world.note(identity=("k", "h"))
        assert isinstance(again, Reply), again
        assert await world.pastes() == 1

    run_virtual(scenario)


def test_nothing_is_noted_of_an_interview_that_has_ended() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, questions=1)
        await world.send(End(None), world.actor)
        assert isinstance(await world.note(), StateConflict)
        assert isinstance(await world.note(caller=STAFF), StateConflict)
        assert await world.ended() == DeactivationReason.COMPLETED and await world.pastes() == 0

    run_virtual(scenario)


def test_what_was_sent_before_the_last_answer_is_kept() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, questions=1)
        await world.note(Sighting("focus_lost", "page", clock(), duration_ms=0))
        await asyncio.sleep(0.2)
        pasted = asyncio.create_task(world.note(identity=("k", "h")))
        await asyncio.sleep(0.2)
        assert isinstance(await world.send(Answer(0, "pasted"), world.actor), Reply)
        assert isinstance(await pasted, Reply)
        assert await world.pastes() == 1

    run_virtual(scenario)


def test_another_sessions_sightings_are_not_taken() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        assert isinstance(await world.actor.note("s2", (paste(clock()),), CANDIDATE, None), Moved)

    run_virtual(scenario)


def test_what_comes_during_a_hand_over_is_told_to_go_on_and_nothing_is_lost() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        old = world.actor
        await world.note()
        waiting = [asyncio.create_task(world.note(identity=(f"k{n}", "h"), actor=old)) for n in range(5)]
        await asyncio.sleep(0.1)
        world.journal.slow = 0.3
        releasing = asyncio.create_task(old.release("drain"))
        await asyncio.sleep(0.1)
        late = asyncio.create_task(world.note(identity=("k5", "h"), actor=old))
        assert await releasing is None
        assert [type(await call) for call in [*waiting, late]] == [Moved] * 6
        assert await world.pastes() == 1
        await world.give(world.new_actor(), Activation("s1", None, "released", silent_since=clock()))
        again = await asyncio.gather(*(world.note(identity=(f"k{n}", "h")) for n in range(6)))
        assert all(isinstance(reply, Reply) and not reply.replayed for reply in again)
        assert await world.pastes() == 7

    run_virtual(scenario)


def test_an_actor_that_was_replaced_notes_nothing_and_ends() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        run, old = world.run, world.actor
        await world.take_over()
        late = await world.note(actor=old)
        assert isinstance(late, OrchestratorError) and late.code == "fenced"
        assert run is not None and await run == DeactivationReason.FENCED
        assert await world.pastes() == 0

    run_virtual(scenario)


def test_an_answer_does_not_wait_for_the_pause_when_events_wait() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        world.journal.slow = 0.05
        await world.note()
        waiting = asyncio.create_task(world.note(identity=("k", "h")))
        await asyncio.sleep(0)
        sent = clock()
        assert isinstance(await world.send(Answer(0, "x"), world.actor), Reply)
        assert clock() - sent <= 100, "two appends: what waits, and the answer"
        assert waiting.done() and isinstance(await waiting, Reply)
        kinds = [[e["type"] for e in entry["events"]] for entry in world.entries()[-2:]]
        assert "proctoring_event" in kinds[0] and "question_closed" in kinds[1], kinds

    run_virtual(scenario)


def test_an_answer_amid_a_flood_of_events_waits_for_the_write_under_way_and_one_more() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        world.journal.slow = 0.05
        await world.note()
        flood = [asyncio.create_task(world.note(*[paste(clock())] * 10, identity=(f"k{n}", "h"))) for n in range(50)]
        await asyncio.sleep(0)
        sent = clock()
        assert isinstance(await world.send(Answer(0, "x"), world.actor), Reply)
        assert clock() - sent == 100
        assert all(isinstance(reply, Reply) for reply in await asyncio.gather(*flood))
        assert await world.pastes() == 501 and len(world.events()) == 2
        await asyncio.sleep(1.1)
        first = asyncio.create_task(world.note())
        await asyncio.sleep(0.01)  # now it is being written
        more = [asyncio.create_task(world.note(identity=(f"m{n}", "h"))) for n in range(50)]
        await asyncio.sleep(0.01)
        sent = clock()
        assert isinstance(await world.send(Answer(1, "x"), world.actor), Reply)
        assert 100 <= clock() - sent <= 150
        assert all(isinstance(reply, Reply) for reply in await asyncio.gather(first, *more))
        assert await world.pastes() == 552 and len(world.events()) == 4

    run_virtual(scenario)


def test_a_flood_of_calls_is_refused_and_does_not_count_as_calls_to_the_interview() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock)
        await world.note()
        flood = [asyncio.create_task(world.note()) for _ in range(500)]
        await asyncio.sleep(0)
        assert isinstance(await world.send(Extend(1, "x"), world.actor), Reply)
        results = await asyncio.gather(*flood)
        assert {type(result) for result in results} == {Reply, TooManyRequests}
        assert await world.pastes() == 1 + buffer_module.MAX_WAITING

    run_virtual(scenario)


# Hooks


def test_hooks_are_told_of_a_whole_life() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, Records, questions=2)
        await world.note()
        await asyncio.sleep(11)
        assert isinstance(await world.send(Answer(0, "x"), world.actor), Reply)
        await world.send(End(None), world.actor)
        assert await world.ended() == DeactivationReason.COMPLETED
        assert [call for call in CALLS if call[0] != "on_tick"] == [
            ("on_start", 1),
            ("on_event", "paste", 1),
            ("on_answer", 0, "submitted"),
            ("on_end", "completed"),
        ]
        assert len([call for call in CALLS if call[0] == "on_tick"]) == 1

    run_virtual(scenario)


def test_a_hook_in_an_actor_that_takes_over_is_told_that_the_interview_is_here() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, Records)
        await world.take_over()
        await asyncio.sleep(0.1)
        assert CALLS == [("on_start", 1), ("on_start", 2)]

    run_virtual(scenario)


def test_questions_that_run_out_are_told_too() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, Records, questions=1)
        await world.ended()
        assert [call for call in CALLS if call[0] != "on_tick"] == [
            ("on_start", 1),
            ("on_answer", 0, "timeout"),
            ("on_end", "completed"),
        ]

    run_virtual(scenario)


def test_a_question_that_a_refused_command_has_closed_is_told() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, Records, questions=1)
        await asyncio.sleep(121.9)
        await stall(0.9)
        late = await world.send(Answer(0, "too late"), world.actor)
        assert isinstance(late, StateConflict), late
        assert await world.ended() == DeactivationReason.COMPLETED
        assert [call[0] for call in CALLS if call[0] != "on_tick"] == ["on_start", "on_answer", "on_end"]

    run_virtual(scenario)


def test_the_last_words_of_a_hook_are_in_the_journal_although_the_interview_is_completed() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, LastWords, questions=1)
        assert isinstance(await world.send(Answer(0, "x"), world.actor), Reply)
        assert await world.ended() == DeactivationReason.COMPLETED
        [event] = world.events()
        assert (event["event"], event["source"]) == ("custom:last_words", "hook")
        assert event["detail"] == {"answers": 1, "hook": "LastWords"}
        assert world.entries()[-1]["by"] == "system"
        assert (await world.stored()).proctoring.tally("custom:last_words").count == 1

    run_virtual(scenario)


def test_so_they_are_after_a_flood_that_went_on_for_minutes() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, LastWords, questions=1, text_question_timer=900)
        for _ in range(301):
            assert isinstance(await world.note(), Reply)
        assert isinstance(await world.send(Answer(0, "x"), world.actor), Reply)
        await world.ended()
        assert world.events()[-1]["event"] == "custom:last_words"

    run_virtual(scenario)


def test_a_hook_that_fails_is_in_the_journal_and_the_interview_goes_on() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, Raises, Records)
        for _ in range(5):
            assert isinstance(await world.note(), Reply)
        await asyncio.sleep(1)
        failed = [(e["hook"], e["reason"], e["off"]) for e in world.events("hook_failed")]
        assert failed == [("Raises", "it raised ZeroDivisionError", off) for off in (False, False, True)]
        assert [call[2] for call in CALLS if call[0] == "on_event"] == [1, 2, 3, 4, 5]
        assert isinstance(await world.send(Answer(0, "x"), world.actor), Reply)

    run_virtual(scenario)


def test_hooks_are_not_called_in_a_session_that_has_lost_two_actors() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, Records, text_question_timer=900)
        await asyncio.sleep(70)
        taking = await Session.load(world.journal, "s1")
        await taking.activate(Activate("InterviewActor-dead", "node-1", "crash", clock()), None, clock())
        await asyncio.sleep(70)
        CALLS.clear()
        await world.give(world.new_actor(), Activation("s1", None, "crash", silent_since=clock()))
        assert (await world.stored()).proctoring.hooks_off and len(world.events("hooks_suspended")) == 1
        assert isinstance(await world.note(), Reply)
        assert isinstance(await world.send(Answer(0, "x"), world.actor), Reply)
        await asyncio.sleep(30)
        await world.send(End(None), world.actor)
        await world.ended()
        assert CALLS == []

    run_virtual(scenario)


def test_a_paste_that_was_waiting_when_the_answer_came_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "CHARACTERS_A_SECOND", 1.0)  # a short question takes ten seconds

    async def scenario(clock: Clock) -> None:
        world = await started(clock, PastedUnread)
        await world.note(Sighting("copy", "page", clock()))
        await asyncio.sleep(0.2)
        pasted = asyncio.create_task(world.note())
        await asyncio.sleep(0.2)
        assert not pasted.done()
        assert isinstance(await world.send(Answer(0, "x" * 100), world.actor), Reply)
        assert isinstance(await pasted, Reply)
        await asyncio.sleep(2)
        [found] = [event for event in world.events() if event["source"] == "hook"]
        assert found["event"] == "custom:pasted_unread" and found["detail"]["question_index"] == 0

    run_virtual(scenario)


# Stills


def frames(clock: Clock) -> NoteFrames:
    gone = Sighting("face_absent", "frames", clock(), duration_ms=1000)
    return NoteFrames(batch=f"batch-{clock()}", times=(clock(),), sightings=(gone,))


def test_what_stills_show_is_told_to_hooks() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, Records)
        await asyncio.sleep(5)
        assert isinstance(await world.send(frames(clock), world.actor), Reply)
        await asyncio.sleep(0.1)
        assert CALLS == [("on_start", 1), ("on_event", "face_absent", 1)]

    run_virtual(scenario)


def test_stills_that_could_not_be_noted_are_not_told_to_hooks() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, Records)
        await asyncio.sleep(5)
        world.journal.faults = ["unavailable"]
        command = frames(clock)
        assert isinstance(await world.send(command, world.actor), Unavailable)
        assert isinstance(await world.send(command, world.actor), Reply)
        await asyncio.sleep(0.1)
        assert CALLS == [("on_start", 1), ("on_event", "face_absent", 1)]

    run_virtual(scenario)


def test_stills_that_were_noted_before_are_not_told_again() -> None:
    async def scenario(clock: Clock) -> None:
        world = await started(clock, Records)
        await asyncio.sleep(5)
        command = frames(clock)
        for _ in range(2):
            assert isinstance(await world.send(command, world.actor), Reply)
        await asyncio.sleep(0.1)
        assert CALLS == [("on_start", 1), ("on_event", "face_absent", 1)]

    run_virtual(scenario)
