"""What `Session` does when appends collide, replies are lost and the storage is away."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.errors import CommandIdReused, Fenced, NotFound, OutcomeUnknown, StaleVersion, StateConflict
from orchestrator.interview import commands as c
from orchestrator.session import Request, Session
from tests.unit.world import CANDIDATE, STAFF, T0, MemoryJournal, new_session


def request(command: c.Command, at: int, command_id: str | None = None, if_match: int | None = None) -> Request:
    return Request(command, STAFF, at, command_id, if_match)


async def held(journal: MemoryJournal, actor: str = "a1", at: int = T0) -> Session:
    """A session that an actor has just taken: started, or activated again."""
    session = await Session.load(journal, "s1")
    starts = session.state.status == "initialized"
    await session.activate(
        c.Activate(actor, "n", "start" if starts else "crash", None if starts else session.state.at),
        request(c.Start(), at) if starts else None,
        at,
    )
    return session


async def test_start_and_activation_are_one_entry() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    assert len(journal.entries) == 2 and session.owned and session.state.epoch == 1


async def test_a_lost_reply_succeeds_once_when_repeated() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    journal.faults = ["lost_reply"]
    answer = request(c.Answer(0, "a"), T0 + 5_000, "k1")
    with pytest.raises(OutcomeUnknown):
        await session.execute(answer, T0 + 5_000)
    reply = await session.execute(answer, T0 + 6_000)
    assert reply.replayed and reply.session["current_question_count"] == 1
    assert sum("question_closed" in e.body for e in journal.entries.values()) == 1


async def test_time_without_storage_is_credited_to_the_open_question() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    journal.faults = ["away", "away"]
    for at in (10_000, 40_000):
        with pytest.raises(OutcomeUnknown):
            await session.execute(request(c.Answer(0, "a"), T0 + at), T0 + at)
    await session.execute(request(c.Answer(0, "a"), T0 + 70_000), T0 + 70_000)
    assert [(line.ms, line.cause) for line in session.state.ledger] == [(60_000, "storage_unavailable")]
    assert session.state.open is not None
    assert session.state.open.remaining_ms(T0 + 70_000) == 300_000
    assert session.state.answers[0].elapsed_ms == 10_000


async def test_a_deadline_does_not_fire_in_the_time_the_storage_was_away() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    journal.faults = ["away"]
    with pytest.raises(OutcomeUnknown):
        await session.execute(request(c.Extend(1, "x"), T0 + 100_000), T0 + 100_000)
    await session.execute(request(c.Expire(), T0 + 160_000), T0 + 160_000)
    assert session.state.answers == () and session.state.open is not None
    assert session.state.open.remaining_ms(T0 + 160_000) == 21_000


async def test_a_stale_owner_is_fenced_and_writes_nothing() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    old = await held(journal, "a1")
    new = await held(journal, "a2", T0 + 1_000)
    entries = len(journal.entries)
    with pytest.raises(Fenced):
        await old.execute(request(c.Answer(0, "a"), T0 + 2_000), T0 + 2_000)
    assert old.fenced and len(journal.entries) == entries
    await new.execute(request(c.Answer(0, "b"), T0 + 3_000), T0 + 3_000)
    with pytest.raises(Fenced):
        await old.execute(request(c.Pause(), T0 + 4_000), T0 + 4_000)


async def test_a_deleted_session_stops_its_owner() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    owner = await held(journal)
    other = await Session.load(journal, "s1")
    await other.execute(request(c.Delete(), T0), T0)
    with pytest.raises(NotFound):
        await owner.execute(request(c.Pause(), T0 + 1), T0 + 1)
    assert owner.fenced
    with pytest.raises(NotFound):
        await Session.load(journal, "s1")


async def test_two_front_ends_racing_on_a_waiting_session_have_one_winner() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    first, second = await Session.load(journal, "s1"), await Session.load(journal, "s1")
    await first.execute(request(c.End(), T0 + 1), T0 + 1)
    with pytest.raises(StateConflict):
        await second.execute(request(c.Update({"name": "Eve"}), T0 + 2), T0 + 2)
    assert second.state.status == "completed"


async def test_one_command_id_is_one_command() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    first = await session.execute(request(c.Extend(30, "x"), T0 + 1, "k"), T0 + 1)
    again = await session.execute(request(c.Extend(30, "x"), T0 + 2, "k"), T0 + 2)
    assert not first.replayed and again.replayed and len(session.state.ledger) == 1
    with pytest.raises(CommandIdReused):
        await session.execute(request(c.Extend(31, "x"), T0 + 3, "k"), T0 + 3)
    other = Request(c.Extend(30, "x"), CANDIDATE, T0 + 4, "k")
    assert not (await session.execute(other, T0 + 4)).replayed


async def test_a_stale_if_match_is_refused() -> None:
    journal = MemoryJournal()
    state = await new_session(journal)
    session = await Session.load(journal, "s1")
    with pytest.raises(StaleVersion):
        await session.execute(request(c.End(), T0, if_match=state.version + 1), T0)
    await session.execute(request(c.End(), T0, if_match=state.version), T0)


async def test_drafts_keep_the_highest_revision_and_become_the_answer() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    assert (await session.save_draft(0, "one", None, T0 + 1)).revision == 1
    assert (await session.save_draft(0, "five", 5, T0 + 2)).saved
    stale = await session.save_draft(0, "three", 3, T0 + 3)
    assert (stale.revision, stale.saved) == (5, False)
    with pytest.raises(StateConflict):
        await session.save_draft(1, "next", None, T0 + 4)
    await session.execute(request(c.Expire(), T0 + 130_000), T0 + 130_000)
    assert session.state.answers[0].answer == "five"


async def test_commands_on_one_session_run_one_at_a_time() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)

    async def extend(n: int) -> None:
        async with session.lock:
            await session.execute(request(c.Extend(1, "x"), T0 + n, str(n)), T0 + n)

    await asyncio.gather(*(extend(n) for n in range(20)))
    assert len(session.state.ledger) == 20
