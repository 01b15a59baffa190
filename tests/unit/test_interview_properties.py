"""Random commands at random times never break what must always hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import OrchestratorError
from orchestrator.interview import commands as c
from orchestrator.interview.decide import decide, plan
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.interview.fold import fold, fold_all
from orchestrator.interview.snapshot import Draft
from orchestrator.interview.state import State, dump_state, load_state
from orchestrator.interview.view import session_view
from tests.unit.test_interview_actor import World
from tests.unit.virtual import run_virtual
from tests.unit.world import CANDIDATE, STAFF, T0, first_entry

texts = st.text(max_size=8)
command = st.one_of(
    st.just(c.Start()),
    st.builds(c.Answer, st.integers(0, 4), texts),
    st.just(c.Pause()),
    st.just(c.Resume()),
    st.builds(c.Extend, st.floats(-1, 60), texts),
    st.just(c.End()),
    st.just(c.Consent()),
    st.just(c.NewLink()),
    st.builds(c.Update, st.fixed_dictionaries({}, optional={"name": texts, "max_questions": st.integers(1, 5)})),
    st.builds(c.Activate, st.just("a"), st.just("n"), st.just("crash"), st.none() | st.integers(T0, T0 + 600_000)),
    st.just(c.Deactivate("drain")),
    st.builds(c.Credit, st.integers(T0, T0 + 600_000), st.just("storage_unavailable")),
    st.just(c.Expire()),
)
step = st.tuples(
    command,
    st.integers(-5_000, 200_000),
    st.sampled_from([STAFF, CANDIDATE]),
    st.none() | st.integers(0, 5).map(str),
    st.none() | texts,
)


def check(state: State, before: State) -> None:
    """What must always hold, and between a state and the one before it."""
    assert state.at >= before.at and state.seq > before.seq
    assert state.version >= before.version
    assert (state.open is not None) == (state.status == "in_progress")
    assert state.answers[: len(before.answers)] == before.answers
    assert [a.question_index for a in state.answers] == list(range(len(state.answers)))
    view = session_view(state, state.at)
    assert view["current_question_count"] == len(state.answers) <= state.max_questions
    if state.open is not None:
        assert state.open.index == len(state.answers)
        assert state.open.stopped_ms >= 0
        assert state.open.remaining_ms(state.at) >= 0
        if before.open is not None and before.open.index == state.open.index:
            assert state.open.stopped_ms >= before.open.stopped_ms
            assert (
                state.open.remaining_ms(state.at)
                <= before.open.remaining_ms(before.at) + (state.open.extended_ms - before.open.extended_ms)
                or state.open.stopped_ms > before.open.stopped_ms
            )
    if before.status == "completed":
        assert state.status == "completed"
        assert (state.end_reason, state.answers) == (before.end_reason, before.answers)
    assert sum(line.ms for line in state.ledger) >= sum(line.ms for line in before.ledger)


@settings(max_examples=300, deadline=None)
@given(st.lists(step, max_size=40), st.integers(1, 5))
def test_invariants_hold_and_replaying_the_journal_gives_the_same_state(
    steps: list[tuple[c.Command, int, c.Caller, str | None, str | None]], questions: int
) -> None:
    journal: list[Entry] = [first_entry(questions=questions)]
    state = fold(None, journal[0])
    now = T0
    for what, later, caller, command_id, text in steps:
        now = max(0, now + later)
        draft = Draft("s1", state.open.index, state.epoch, 1, text, now) if text and state.open else None
        try:
            planned = plan(state, what, caller, command_id, max(now, state.at), draft)
        except OrchestratorError:
            continue
        if not planned.events:
            continue
        entry = new_entry(
            "s1", state.next_seq, state.epoch, max(now, state.at), planned.events, command=planned.command
        )
        before, state = state, fold(state, entry)
        journal.append(entry)
        check(state, before)
        if command_id is not None:
            repeat = plan(state, what, caller, command_id, max(now, state.at), draft)
            assert repeat.replayed and repeat.events == []
    assert fold_all(None, journal) == state
    middle = len(journal) // 2
    halfway = fold_all(None, journal[:middle])
    assert fold_all(load_state(dump_state(halfway)) if halfway else None, journal[middle:]) == state


@settings(max_examples=200, deadline=None)
@given(st.lists(step, max_size=20))
def test_time_that_was_not_ours_is_never_credited(
    steps: list[tuple[c.Command, int, c.Caller, str | None, str | None]],
) -> None:
    """Without faults (activations with silence, credits) and extensions the ledger stays empty."""
    state, now = fold(None, first_entry()), T0
    for what, later, caller, _, _ in steps:
        now += abs(later)
        if isinstance(what, c.Activate | c.Credit | c.Extend):
            continue
        try:
            events = decide(state, what, caller, now)
        except OrchestratorError:
            continue
        if events:
            state = fold(state, new_entry("s1", state.next_seq, state.epoch, now, events))
    assert state.ledger == ()


client_step = st.tuples(
    st.one_of(
        st.builds(c.Answer, st.integers(0, 3), texts),
        st.builds(c.Answer, st.integers(0, 3), texts),
        st.just(c.Pause()),
        st.just(c.Resume()),
        st.builds(c.Extend, st.integers(1, 60), texts),
        st.just(c.Consent()),
        st.just(c.NewLink()),
        st.just(c.End()),
        texts,  # a draft
    ),
    st.integers(0, 150),
    st.sampled_from([STAFF, CANDIDATE]),
)
ClientStep = tuple[c.Command | str, int, c.Caller]


def life(steps: list[ClientStep]) -> dict[str, Any]:
    """What a client sees after some commands, each so many seconds after the one before."""

    async def scenario(clock: Callable[[], int]) -> dict[str, Any]:
        world = await World.make(clock, questions=4)
        await world.start()
        for what, later, caller in steps:
            await asyncio.sleep(later)
            question = (await world.stored()).open
            if not isinstance(what, str):
                await world.send(what, caller=caller)
            elif question is not None:
                await world.save_draft(question.index, what)
        await asyncio.sleep(0.1)
        return session_view(await world.stored(), clock())

    return run_virtual(scenario)


@settings(max_examples=40, deadline=None)
@given(st.lists(client_step, max_size=10))
def test_a_session_handed_over_after_every_command_looks_the_same_to_clients(steps: list[ClientStep]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        seen = life(steps)
        patch.setattr(World, "hands_over", True)
        seen_handed_over = life(steps)
    del seen["placement"], seen_handed_over["placement"]
    assert seen_handed_over == seen
