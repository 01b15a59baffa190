"""Answers that are not kept for longer: gone from everywhere, and the chain still verifies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from actors.answer_keeper import AnswerKeeper
from actors.report_maker import make_report
from orchestrator.errors import Unavailable
from orchestrator.interview.commands import SYSTEM, Answer, End, NoteErased, Review, Start
from orchestrator.interview.snapshot import Snapshot
from orchestrator.interview.state import snapshot_of
from orchestrator.session import Request, Session
from orchestrator.storage.store import Store
from tests.services.test_storage_contract import created
from tests.unit.world import STAFF, T0

pytestmark = pytest.mark.services

SECRET_WORDS = "words of my own"


class Client:
    """As InterviewClient runs commands on completed sessions. `failing`: sessions of which it cannot."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failing: set[str] = set()

    async def send(self, session_id: str, command: Any, caller: Any) -> None:
        if session_id in self.failing:
            raise RuntimeError("away")
        session = await Session.load(self.store, session_id)
        await session.execute(Request(command, caller, session.state.at + 1), session.state.at + 1)
        await self.store.save_snapshot(snapshot_of(session.state))


async def each(work: Any, items: Iterable[Any]) -> None:
    for result in await asyncio.gather(*map(work, items), return_exceptions=True):
        assert result is None or isinstance(result, RuntimeError | Unavailable), result


async def interviewed(store: Store, session_id: str, at: int = T0) -> None:
    await created(store, session_id, at, questions=2)
    session = await Session.load(store, session_id)
    for command in (Start(), Answer(0, f"{SECRET_WORDS} 1"), Answer(1, f"{SECRET_WORDS} 2")):
        await session.execute(Request(command, STAFF, at + 1000), at + 1000)
    await store.save_snapshot(snapshot_of(session.state))
    await make_report(store, session_id)


async def everything(store: Store) -> str:
    found = [await store._db[name].find({}).to_list(None) for name in ("journal", "snapshots", "drafts")]
    reports = [await store.report_of(one["_id"]) for one in await store._db.reports.find({}).to_list(None)]
    return str(found) + str([report.content() for report in reports if report is not None])


async def test_answers_go_and_the_interview_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(store)
    await interviewed(store, "s1")
    await interviewed(store, "s2", T0 + 86_400_000)
    keeper = AnswerKeeper(client, each)  # type: ignore[arg-type]
    await keeper.erase(T0)
    assert (await everything(store)).count(f"{SECRET_WORDS} 1") >= 4, "it is too early"
    await keeper.erase(T0 + 86_400_000)
    session = await Session.load(store, "s1")
    assert [a.answer for a in session.state.answers] == ["", ""] and session.state.answers_erased_at is not None
    assert SECRET_WORDS not in str(session.view(T0, "staff"))
    for part in (await store.entries("s1", 0, 0), await store.report_of("s1")):
        assert SECRET_WORDS not in str(part)
    chain = await store.verify("s1")
    assert chain["ok"], chain
    assert SECRET_WORDS in str(await store.entries("s2", 0, 0)), "it ended later"
    await client.send("s1", Review("advance", "good"), STAFF)
    assert await make_report(store, "s1") is not None, "there is something new to tell"
    report = await store.report_of("s1")
    assert report is not None
    content = report.content()
    assert [q["answer"] for q in content["questions"]] == [None, None]
    assert [q["status"] for q in content["questions"]] == ["answered", "answered"]
    assert content["questions"][0]["scores"][0]["value"] == 100.0 or content["questions"][0]["scores"][0]["value"] > 0
    assert content["journal"]["verified"] and content["interview"]["answers_erased_at"]
    await keeper.erase(T0 + 2 * 86_400_000)
    assert SECRET_WORDS not in await everything(store)


async def test_what_was_changed_after_it_was_redacted_is_noticed(store: Store) -> None:
    await interviewed(store, "s1")
    await Client(store).send("s1", NoteErased("answers", "retention"), SYSTEM)
    await store.redact_answers("s1")
    await store.redact_answers("s1")
    assert (await store.verify("s1"))["ok"]
    entry = next(e for e in await store.entries("s1", 0, 0) if e.redaction)
    forged = entry.body.replace('"source":"submitted"', '"source":"timeout"')
    await store._db.journal.update_one({"_id": entry.key}, {"$set": {"body": forged}})
    assert (await store.verify("s1"))["broken_at"] == entry.seq


async def test_nothing_that_is_left_tells_of_an_answer(store: Store) -> None:
    """Neither the nonce, without which the digest could be tried out, nor the hash of the command."""
    await interviewed(store, "s1")
    await AnswerKeeper(Client(store), each).erase(T0 + 86_400_000)  # type: ignore[arg-type]
    redacted = [e.content() for e in await store.entries("s1", 0, 0) if e.redaction]
    assert len(redacted) == 2
    assert all(content["nonce"] == "" and not (content["command"] or ["", ""])[1] for content in redacted)
    assert (await Session.load(store, "s1")).state.commands == ()


async def test_a_body_that_was_blanked_by_somebody_is_noticed(store: Store) -> None:
    await interviewed(store, "s1")
    third = (await store.entries("s1", 0, 0))[2]
    await store._db.journal.update_one({"_id": third.key}, {"$set": {"body": ""}})
    assert (await store.verify("s1"))["broken_at"] == third.seq


async def test_a_snapshot_that_could_not_be_saved_is_made_up_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await interviewed(store, "s1")
    client = Client(store)
    saves, failures = store.save_snapshot, [Unavailable("away")] * 2

    async def sometimes(snapshot: Snapshot) -> bool:
        if failures:
            raise failures.pop()
        return await saves(snapshot)

    monkeypatch.setattr(store, "save_snapshot", sometimes)
    keeper = AnswerKeeper(client, each)  # type: ignore[arg-type]
    for _ in range(3):
        await keeper.erase(T0 + 86_400_000)
    assert SECRET_WORDS not in await everything(store)


async def test_one_that_fails_is_tried_again(store: Store) -> None:
    client = Client(store)
    for number in range(3):
        await interviewed(store, f"s{number}", T0 + number * 10_000)
    keeper = AnswerKeeper(client, each)  # type: ignore[arg-type]
    client.failing = {"s1"}
    await keeper.erase(T0 + 86_400_000)
    client.failing = set()
    await keeper.erase(T0 + 86_400_000)
    assert SECRET_WORDS not in await everything(store)


async def test_only_a_completed_interview_loses_its_answers(store: Store) -> None:
    await created(store, "s1", questions=2)
    session = await Session.load(store, "s1")
    for command in (Start(), Answer(0, SECRET_WORDS), NoteErased("answers", "retention")):
        await session.execute(Request(command, SYSTEM if isinstance(command, NoteErased) else STAFF, T0), T0)
    assert session.state.answers_erased_at is None and session.state.answers[0].answer == SECRET_WORDS
    await session.execute(Request(End(), STAFF, T0 + 1), T0 + 1)
    await session.execute(Request(NoteErased("answers", "retention"), SYSTEM, T0 + 2), T0 + 2)
    assert session.state.answers[0].answer == ""
