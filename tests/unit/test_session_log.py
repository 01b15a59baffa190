"""What `Session` does when appends collide, replies are lost and the storage is away.

Every test runs twice: with one owner, and with the session handed over to another after every command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import (
    CommandIdReused,
    Fenced,
    Moved,
    NotFound,
    OutcomeUnknown,
    StaleVersion,
    StateConflict,
    Unavailable,
)
from orchestrator.interview import commands as c
from orchestrator.interview.entry import Entry
from orchestrator.interview.snapshot import Draft
from orchestrator.interview.state import State
from orchestrator.journal import Appended, Collision, Outage
from orchestrator.session import DraftSaved, Reply, Request, Session
from tests.unit.virtual import run_virtual
from tests.unit.world import CANDIDATE, STAFF, T0, MemoryJournal, new_session


def request(command: c.Command, at: int, command_id: str | None = None, if_match: int | None = None) -> Request:
    return Request(command, STAFF, at, command_id, if_match)


async def held(journal: MemoryJournal, actor: str = "a1", at: int = T0, cause: str = "crash") -> Session:
    """A session that an actor has just taken: started, or activated again."""
    session = await Session.load(journal, "s1")
    starts = session.state.status == "initialized"
    await session.activate(
        c.Activate(actor, "n", "start" if starts else cause, None if starts else session.state.at),
        request(c.Start(), at) if starts else None,
        at,
    )
    return session


class Held:
    """A session in progress: in the hands of one owner, or handed over to another after every command.

    Tests whose very subject is one owner among several, or one that is refused, use `held`.
    """

    hands_over = False

    def __init__(self, journal: MemoryJournal, session: Session) -> None:
        self.journal, self.session, self.owners = journal, session, 1
        self.lock = asyncio.Lock()

    @property
    def state(self) -> State:
        return self.session.state

    async def execute(self, request: Request, now: int) -> Reply:
        try:
            return await self.session.execute(request, now)
        finally:
            await self._hand_over(now)

    async def save_draft(self, index: int, text: str, revision: int | None, now: int) -> DraftSaved:
        try:
            return await self.session.save_draft(index, text, revision, now)
        finally:
            await self._hand_over(now)

    async def _hand_over(self, now: int) -> None:
        session = self.session
        blocked = not session.is_settled
        if not self.hands_over or blocked or session.state.status != "in_progress":
            return
        await session.execute(Request(c.Deactivate("test"), c.SYSTEM, now), now)
        self.owners += 1
        fresh = await Session.load(self.journal, "s1")
        await fresh.activate(c.Activate(f"a{self.owners}", "n", "released", now), None, now)
        assert fresh.owned
        self.session = fresh


async def in_hands(journal: MemoryJournal) -> Held:
    return Held(journal, await held(journal))


@pytest.fixture(params=["held", "handed over"], autouse=True)
def hand_over_mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Held, "hands_over", request.param == "handed over")


async def test_start_and_activation_are_one_entry() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    assert len(journal.entries) == 2 and session.owned and session.state.epoch == 1


async def test_a_lost_reply_succeeds_once_when_repeated() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await in_hands(journal)
    journal.faults = ["lost_reply"]
    answer = request(c.Answer(0, "a"), T0 + 5_000, "k1")
    with pytest.raises(OutcomeUnknown):
        await session.execute(answer, T0 + 5_000)
    reply = await session.execute(answer, T0 + 6_000)
    assert reply.replayed and reply.session["current_question_count"] == 1
    assert sum("question_closed" in e.body for e in journal.entries.values()) == 1


def near(ms: int) -> Any:
    """Also the real time that the repeated append took is credited, as it should be; on a busy machine some ms."""
    return pytest.approx(ms, abs=100)


async def test_time_without_storage_is_credited_to_the_open_question() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await in_hands(journal)
    journal.faults = ["away", "away"]
    for at in (10_000, 40_000):
        with pytest.raises(OutcomeUnknown):
            await session.execute(request(c.Answer(0, "a"), T0 + at), T0 + at)
    await session.execute(request(c.Answer(0, "a"), T0 + 70_000), T0 + 70_000)
    assert [(line.ms, line.cause) for line in session.state.ledger] == [(near(60_000), "storage_unavailable")]
    assert session.state.open is not None
    assert session.state.open.remaining_ms(T0 + 70_000) == near(300_000)
    assert session.state.answers[0].elapsed_ms == 10_000


async def test_a_deadline_does_not_fire_in_the_time_the_storage_was_away() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await in_hands(journal)
    journal.faults = ["away"]
    with pytest.raises(OutcomeUnknown):
        await session.execute(request(c.Extend(1, "x"), T0 + 100_000), T0 + 100_000)
    await session.execute(request(c.Expire(), T0 + 160_000), T0 + 160_000)
    assert session.state.answers == () and session.state.open is not None
    assert session.state.open.remaining_ms(T0 + 160_000) == near(21_000)


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
    session = await in_hands(journal)
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
    session = await in_hands(journal)
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
    session = await in_hands(journal)

    async def extend(n: int) -> None:
        async with session.lock:
            await session.execute(request(c.Extend(1, "x"), T0 + n, str(n)), T0 + n)

    await asyncio.gather(*(extend(n) for n in range(20)))
    assert len(session.state.ledger) == 20


# Time given back


def test_a_slow_append_is_credited_at_the_next_settle() -> None:
    async def scenario(clock: Callable[[], int]) -> None:
        journal = MemoryJournal()
        await new_session(journal, at=clock())
        session = await held(journal, at=clock())  # who is handed over is credited by the next activation
        journal.slow = 2.0
        await session.execute(request(c.Answer(0, "a"), clock()), clock())
        assert session.state.ledger == ()
        journal.slow = 0.0
        await session.settle(clock())
        assert [(line.ms, line.cause) for line in session.state.ledger] == [(2_000, "storage_unavailable")]
        assert session.state.open is not None and session.state.open.remaining_ms(clock()) == 300_000
        await session.settle(clock() + 10_000)
        assert len(session.state.ledger) == 1

    run_virtual(scenario)


def test_an_append_that_takes_as_long_as_any_is_not_credited() -> None:
    async def scenario(clock: Callable[[], int]) -> None:
        journal = MemoryJournal(slow=0.4)
        await new_session(journal, at=clock())
        session = await held(journal, at=clock())
        await session.execute(request(c.Answer(0, "a"), clock()), clock())
        await session.settle(clock())
        assert session.state.ledger == ()

    run_virtual(scenario)


class AwaySince(MemoryJournal):
    """Knows since when it could not be used, as a JournalActor does."""

    since: int | None = None

    async def append(self, entry: Entry, prev_mac: str) -> Appended | Collision | Outage:
        if self.since is not None:
            raise Unavailable("away", since=self.since)
        return await super().append(entry, prev_mac)

    async def save_draft(self, draft: Draft) -> bool:
        if self.since is not None:
            raise Unavailable("away", since=self.since)
        return await super().save_draft(draft)


async def _answer(session: Held, now: int) -> None:
    await session.execute(request(c.Extend(1, "x"), now), now)


async def _save(session: Held, now: int) -> None:
    await session.save_draft(0, "text", None, now)


@pytest.mark.parametrize("work", [_answer, _save], ids=["append", "draft"])
async def test_an_error_that_says_since_when_is_credited_from_then(work: Any) -> None:
    journal = AwaySince()
    await new_session(journal)
    session = await in_hands(journal)
    journal.since = T0 + 10_000
    with pytest.raises(Unavailable):
        await work(session, T0 + 30_000)
    journal.since = None
    await session.execute(request(c.Consent(), T0 + 40_000), T0 + 40_000)
    credits = [line.ms for line in session.state.ledger if line.cause == "storage_unavailable"]
    assert credits == [30_000]


async def test_a_deadline_does_not_fire_in_an_outage_that_nobody_had_noticed() -> None:
    journal = AwaySince()
    await new_session(journal)
    session = await in_hands(journal)
    journal.since = T0 + 100_000
    with pytest.raises(Unavailable):
        await session.execute(request(c.Expire(), T0 + 122_100), T0 + 122_100)
    journal.since = None
    await session.execute(request(c.Expire(), T0 + 160_000), T0 + 160_000)
    assert session.state.answers == () and session.state.open is not None
    assert session.state.open.remaining_ms(T0 + 160_000) == 20_000


# Drafts and a change of owner


class LostDraft(MemoryJournal):
    """Saves drafts; the reply to one is lost."""

    lose = False

    async def save_draft(self, draft: Draft) -> bool:
        saved = await super().save_draft(draft)
        if self.lose:
            self.lose = False
            raise OutcomeUnknown("the reply was lost")
        return saved


async def test_an_older_revision_after_a_lost_reply_does_not_fence_its_owner() -> None:
    journal = LostDraft()
    await new_session(journal)
    session = await held(journal)
    await session.save_draft(0, "four", 4, T0 + 1_000)
    journal.lose = True
    with pytest.raises(OutcomeUnknown):
        await session.save_draft(0, "six", 6, T0 + 2_000)
    assert await session.save_draft(0, "five", 5, T0 + 3_000) == DraftSaved(6, False)
    assert not session.fenced


async def test_a_draft_whose_reply_was_lost_is_saved_again() -> None:
    journal = LostDraft()
    await new_session(journal)
    session = await held(journal)
    journal.lose = True
    with pytest.raises(OutcomeUnknown):
        await session.save_draft(0, "six", 6, T0 + 2_000)
    assert await session.save_draft(0, "six", 6, T0 + 3_000) == DraftSaved(6, True)


async def test_a_draft_of_the_owner_before_becomes_the_answer() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    old = await held(journal, "old")
    await old.save_draft(0, "so far", 7, T0 + 1_000)
    new = await held(journal, "new", T0 + 2_000)
    await new.execute(request(c.Expire(), T0 + 200_000), T0 + 200_000)
    [answer] = new.state.answers
    assert (answer.answer, answer.source) == ("so far", "draft")


async def test_a_replaced_owner_cannot_save_a_draft() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    old = await held(journal, "old")
    await old.save_draft(0, "so far", 7, T0 + 1_000)
    new = await held(journal, "new", T0 + 2_000)
    await new.settle(T0 + 2_000)
    with pytest.raises(Fenced):
        await old.save_draft(0, "late", 8, T0 + 3_000)
    assert old.fenced and journal.drafts[("s1", 0)].text == "so far"
    assert (await new.save_draft(0, "more", 8, T0 + 4_000)).saved


async def test_who_finds_the_draft_in_newer_hands_is_sent_there_and_not_told_that_it_is_not_saved() -> None:
    """A front end that has read a session without an actor, which is taken up before it writes."""
    journal = MemoryJournal()
    await new_session(journal)
    await (await held(journal, "old")).save_draft(0, "so far", 7, T0 + 1_000)
    front_end = await Session.load(journal, "s1")
    new = await held(journal, "new", T0 + 2_000)
    await new.settle(T0 + 2_000)
    with pytest.raises(Moved):
        await front_end.save_draft(0, "so far, and more", 8, T0 + 3_000)
    assert await new.save_draft(0, "so far, and more", 8, T0 + 3_000) == DraftSaved(8, True)


async def test_a_replaced_owner_cannot_save_the_first_draft_either() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    old = await held(journal, "old")
    new = await held(journal, "new", T0 + 2_000)
    await new.settle(T0 + 2_000)
    with pytest.raises(Fenced):
        await old.save_draft(0, "late", 8, T0 + 3_000)
    assert (await new.save_draft(0, "mine", 1, T0 + 4_000)).saved


async def test_a_draft_saved_between_the_load_and_the_activation_is_not_lost() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    old = await held(journal, "old")
    new = await Session.load(journal, "s1")
    assert (await old.save_draft(0, "between", None, T0 + 1_000)).saved
    await new.activate(c.Activate("new", "n", "hung", T0 + 500), None, T0 + 2_000)
    await new.execute(request(c.Expire(), T0 + 200_000), T0 + 200_000)
    assert [(a.answer, a.source) for a in new.state.answers] == [("between", "draft")]


async def test_a_draft_saved_between_the_activation_and_the_claim_is_not_lost() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    old = await held(journal, "old")
    new = await held(journal, "new", T0 + 1_000)
    assert (await old.save_draft(0, "just", 3, T0 + 1_001)).saved
    assert (await new.save_draft(0, "older", 2, T0 + 2_000)).revision == 3
    await new.execute(request(c.Expire(), T0 + 200_000), T0 + 200_000)
    assert [(a.answer, a.source) for a in new.state.answers] == [("just", "draft")]


async def test_a_claimed_draft_without_text_is_no_answer() -> None:
    journal = MemoryJournal()
    await new_session(journal, questions=1)
    await held(journal, "old")
    new = await held(journal, "new", T0 + 1_000)
    await new.execute(request(c.Expire(), T0 + 200_000), T0 + 200_000)
    assert [a.source for a in new.state.answers] == ["timeout"] and new.state.end_reason == "abandoned"


# Looking whether the session is still one's own


async def test_confirming_fences_a_replaced_owner() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    old = await held(journal, "old")
    await old.confirm()
    await held(journal, "new", T0 + 1_000)
    with pytest.raises(Fenced):
        await old.confirm()
    assert old.fenced


async def test_confirming_sees_that_the_session_was_deleted() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    other = await Session.load(journal, "s1")
    await other.execute(request(c.Delete(), T0), T0)
    with pytest.raises(NotFound):
        await session.confirm()
    assert session.fenced


async def test_confirming_picks_up_what_others_wrote() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    other = await Session.load(journal, "s1")
    await other.execute(request(c.End(), T0 + 1_000), T0 + 1_000)
    await session.confirm()
    assert session.state == other.state and not session.fenced


async def test_confirming_with_an_append_of_unknown_outcome_keeps_it() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    journal.faults = ["lost_reply"]
    with pytest.raises(OutcomeUnknown):
        await session.execute(request(c.Extend(5, "x"), T0 + 1_000), T0 + 1_000)
    await session.confirm()
    await session.settle(T0 + 2_000)
    assert [line.cause for line in session.state.ledger] == ["extended", "storage_unavailable"]


async def test_a_running_clock_is_judged_by_its_owner_alone() -> None:
    """Who holds nothing does not know what has to be credited first."""
    journal = MemoryJournal()
    await new_session(journal)
    await held(journal)
    visitor = await Session.load(journal, "s1")
    await visitor.execute(request(c.NewLink(), T0 + 900_000), T0 + 900_000)
    assert visitor.state.answers == () and visitor.state.status == "in_progress"


async def test_a_front_end_whose_clock_is_fast_closes_no_question_early() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    await session.execute(request(c.Consent(), T0 + 200_000), T0 + 5_000)
    assert session.state.answers == () and session.state.at == T0 + 5_000


async def test_the_time_that_a_command_was_on_its_way_is_given_to_the_question_that_it_opened() -> None:
    journal = MemoryJournal()
    await new_session(journal)
    session = await held(journal)
    await session.execute(request(c.Answer(0, "a"), T0 + 10_000), T0 + 13_400)
    await session.settle(T0 + 13_500)
    assert [line.ms for line in session.state.ledger] == [3_400]
    assert session.state.open is not None and session.state.open.remaining_ms(T0 + 13_400) == 300_000
