"""What the storage promises, on every MongoDB-wire server there is."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from actors.report_maker import make_report
from orchestrator.errors import (
    CommandIdReused,
    InvalidInput,
    NotFound,
    OrchestratorError,
    OutcomeUnknown,
    Retryable,
    Unavailable,
)
from orchestrator.interview.commands import Answer, Delete, End, Start
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.interview.fold import fold
from orchestrator.interview.snapshot import Draft, Snapshot, words_of
from orchestrator.interview.state import State, snapshot_of
from orchestrator.journal import Appended, Collision
from orchestrator.keys import StaffKey, new_key
from orchestrator.session import Request, Session, delete_request, state_of
from orchestrator.storage.queries import Brief, Wanted
from orchestrator.storage.reports import StoredReport
from orchestrator.storage.store import Store
from tests.servers import FerretDB, MongoServer, proxy_to
from tests.unit.world import STAFF, T0, first_entry

pytestmark = pytest.mark.services

SHORT_SECONDS = 0.7
"""A time limit for calls that are meant to run into it."""


def entry_at(session_id: str, seq: int, epoch: int = 0, text: str = "", **more: Any) -> Entry:
    return new_entry(session_id, seq, epoch, T0 + seq, [{"type": "noted", "text": text}], by="test", **more)


async def append(store: Store, entry: Entry, prev_mac: str = "") -> str:
    result = await store.append(entry, prev_mac)
    assert isinstance(result, Appended)
    return result.mac


async def created(store: Store, session_id: str = "s1", at: int = T0, **changes: Any) -> State:
    """A session made as `create` makes one."""
    entry = first_entry(session_id, at, **changes)
    entry = replace(entry, mac=store.mac(entry, ""))
    state = fold(None, entry)
    assert isinstance(await store.create(entry, snapshot_of(state)), Appended)
    return state


async def eventually(work: Any) -> Any:
    """The result of a call that may be repeated, once the server is back; 10 s at most."""
    give_up = time.monotonic() + 10
    while True:
        try:
            return await work()
        except Retryable:
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.05)


# Appending


async def test_entries_come_back_as_they_went_in(store: Store) -> None:
    texts = ["plain", "Ünïcödé 漢字 \u202eמימין\u202c 👩\u200d💻", 'line\nbreak\t"quotes" $set a.b', ""]
    mac = ""
    for seq, text in enumerate(texts, 1):
        mac = await append(store, entry_at("s1", seq, text=text), mac)
    found = await store.entries("s1")
    assert [e.content()["events"][0]["text"] for e in found] == texts
    assert [e.seq for e in found] == [1, 2, 3, 4]
    assert [e.seq for e in await store.entries("s1", after=2, limit=1)] == [3]
    assert await store.verify("s1") == {"ok": True, "entries": 4, "head": mac, "broken_at": None}


async def test_a_stale_owner_is_fenced(store: Store) -> None:
    mac = await append(store, entry_at("s1", 1, epoch=1))
    await append(store, entry_at("s1", 2, epoch=2), mac)
    late = await store.append(entry_at("s1", 2, epoch=1), mac)
    assert isinstance(late, Collision) and late.stored.epoch == 2


async def test_of_owners_who_race_for_a_seq_one_wins(store: Store, server: MongoServer, database: str) -> None:
    other = await Store.open(server.url, database)
    entries = [entry_at("s1", 1, text=str(i)) for i in range(20)]
    try:
        results = await asyncio.gather(*((store, other)[i % 2].append(e, "") for i, e in enumerate(entries)))
    finally:
        await other.close()
    won = [entry for entry, result in zip(entries, results, strict=True) if isinstance(result, Appended)]
    lost = [result for result in results if isinstance(result, Collision)]
    assert len(won) == 1 and len(lost) == 19
    assert all(c.stored.digest == won[0].digest for c in lost)
    assert [e.digest for e in await store.entries("s1")] == [won[0].digest]


async def test_a_lost_reply_is_one_write(store: Store, server: MongoServer, database: str) -> None:
    entry = entry_at("s1", 1)
    async with proxy_to(server.url) as proxy:
        cut_off = await Store.open(proxy.url, database, timeout_seconds=SHORT_SECONDS)
        proxy.swallow_replies = True
        with pytest.raises(OutcomeUnknown):
            await cut_off.append(entry, "")
        proxy.swallow_replies = False
        again = await eventually(lambda: cut_off.append(entry, ""))
        await cut_off.close()
    assert again == Appended(store.mac(entry, ""))
    assert len(await store.entries("s1")) == 1


async def test_an_append_that_lands_after_its_repeat_changes_nothing(
    store: Store, server: MongoServer, database: str
) -> None:
    entry = entry_at("s1", 1)
    async with proxy_to(server.url) as proxy:
        slow = await Store.open(proxy.url, database, timeout_seconds=SHORT_SECONDS)
        proxy.hold_requests()
        with pytest.raises(OutcomeUnknown):
            await slow.append(entry, "")
        assert isinstance(await store.append(entry, ""), Appended)
        proxy.release()
        assert isinstance(await eventually(lambda: slow.append(entry, "")), Appended)
        await slow.close()
    assert len(await store.entries("s1")) == 1


async def test_an_append_that_lands_after_another_owners_is_refused(
    store: Store, server: MongoServer, database: str
) -> None:
    stale, fresh = entry_at("s1", 1, epoch=1), entry_at("s1", 1, epoch=2)
    async with proxy_to(server.url) as proxy:
        slow = await Store.open(proxy.url, database, timeout_seconds=SHORT_SECONDS)
        proxy.hold_requests()
        with pytest.raises(OutcomeUnknown):
            await slow.append(stale, "")
        await append(store, fresh)
        proxy.release()
        late = await eventually(lambda: slow.append(stale, ""))
        await slow.close()
    assert isinstance(late, Collision) and late.stored.epoch == 2
    assert [e.epoch for e in await store.entries("s1")] == [2]


async def test_one_bad_entry_spoils_no_other_of_fifty(store: Store) -> None:
    taken = entry_at("s7", 1, text="first")
    await append(store, taken)
    items = [(entry_at(f"s{i}", 1), "") for i in range(50)]
    items[20] = (replace(items[20][0], body="\ud800"), "")
    results = await store.append_many(items)
    assert isinstance(results[20], InvalidInput)
    assert isinstance(results[7], Collision) and results[7].stored.digest == taken.digest
    assert sum(isinstance(r, Appended) for r in results) == 48
    assert await store.entries("s20") == []
    assert len(await store.entries("s49")) == 1


async def test_a_batch_tells_duplicates_from_its_own_earlier_write(store: Store) -> None:
    mine, theirs = entry_at("s1", 1), entry_at("s2", 1)
    await append(store, mine)
    await append(store, theirs)
    results = await store.append_many([(mine, ""), (entry_at("s2", 1), ""), (entry_at("s3", 1), "")])
    assert [type(r) for r in results] == [Appended, Collision, Appended]


async def test_what_was_acknowledged_survives_kill_9(store: Store, server: MongoServer) -> None:
    if not server.can_be_killed:
        pytest.skip("this server is not ours to kill")
    acknowledged: list[str] = []
    stopping = asyncio.Event()

    async def write(session_id: str) -> None:
        seq, mac = 1, ""
        while not stopping.is_set():
            entry = entry_at(session_id, seq, text="x" * 300)
            mac = (await eventually(partial(store.append, entry, mac))).mac
            acknowledged.append(entry.key)
            seq += 1

    async def write_batches() -> None:
        number = 0
        while not stopping.is_set():
            batch = [(entry_at(f"batch-{number}-{i}", 1), "") for i in range(20)]
            number += 1
            with contextlib.suppress(OrchestratorError):
                results = await store.append_many(batch)
                acknowledged.extend(e.key for (e, _), r in zip(batch, results, strict=True) if isinstance(r, Appended))

    writers = [asyncio.create_task(write(f"s{i}")) for i in range(8)] + [asyncio.create_task(write_batches())]
    for _ in range(2):
        await asyncio.sleep(0.4)
        before = len(acknowledged)
        server.kill()
        server.start()
        give_up = time.monotonic() + 10
        while len(acknowledged) < before + 20 and time.monotonic() < give_up:
            await asyncio.sleep(0.02)
    stopping.set()
    await asyncio.gather(*writers)
    stored = {d["_id"] async for d in store._db.journal.find({})}
    assert len(acknowledged) > 40
    assert set(acknowledged) <= stored
    assert all([(await store.verify(f"s{i}"))["ok"] for i in range(8)])


async def test_a_server_that_is_away_is_said_in_time(store: Store, server: MongoServer, database: str) -> None:
    async with proxy_to(server.url) as proxy:
        cut_off = await Store.open(proxy.url, database, timeout_seconds=SHORT_SECONDS)
        proxy.hold_requests()
        began = time.monotonic()
        with pytest.raises((Unavailable, OutcomeUnknown)):
            await cut_off.load("s1")
        with pytest.raises((Unavailable, OutcomeUnknown)):
            await cut_off.append(entry_at("s1", 1), "")
        assert time.monotonic() - began < 4 * SHORT_SECONDS
        proxy.release()
        await cut_off.close()


# Sessions


async def test_a_session_is_its_snapshot_and_what_came_after(store: Store) -> None:
    await created(store)
    session = await Session.load(store, "s1")
    for command in (Start(), Answer(0, "one"), Answer(1, "two")):
        await session.execute(Request(command, STAFF, session.state.at + 1000), session.state.at + 1000)
    assert state_of(await loaded(store)) == session.state
    await store.save_snapshot(snapshot_of(session.state))
    assert state_of(await loaded(store)) == session.state
    assert (await loaded(store)).entries == []


async def test_many_entries_after_a_snapshot_are_all_read(store: Store) -> None:
    await created(store, questions=12)
    session = await Session.load(store, "s1")
    await session.execute(Request(Start(), STAFF, T0 + 1000), T0 + 1000)
    for index in range(11):
        await session.execute(Request(Answer(index, str(index)), STAFF, T0 + 2000), T0 + 2000)
    assert len((await loaded(store)).entries) == 12
    assert state_of(await loaded(store)) == session.state


async def loaded(store: Store, session_id: str = "s1") -> Any:
    found = await store.load(session_id)
    assert found is not None
    return found


async def test_snapshots_arrive_out_of_order(store: Store) -> None:
    snapshot = snapshot_of(await created(store))
    assert await store.save_snapshot(replace(snapshot, seq=9, state='{"n": 9}'))
    assert not await store.save_snapshot(replace(snapshot, seq=5, state='{"n": 5}'))
    assert not await store.save_snapshot(replace(snapshot, seq=9, state='{"n": 0}'))
    [kept] = await store.list_snapshots()
    assert (kept.seq, kept.state) == (9, '{"n": 9}')
    assert await store.versions(["s1", "nobody"]) == {"s1": kept.version}


async def test_a_save_never_makes_a_snapshot(store: Store) -> None:
    assert not await store.save_snapshot(a_snapshot("nobody", T0))
    assert await store.list_snapshots() == []


@pytest.mark.parametrize("kept", ["entry", "snapshot"])
async def test_either_half_of_a_cut_create_is_the_session(store: Store, kept: str) -> None:
    state = await created(store)
    lost = store._db.snapshots if kept == "entry" else store._db.journal
    await lost.delete_many({})
    session = await Session.load(store, "s1")
    assert session.state == state
    assert len(await store.entries("s1")) == 1
    assert [s.session_id for s in await store.list_snapshots()] == ["s1"]
    await session.execute(Request(Start(), STAFF, T0 + 1), T0 + 1)
    assert (await store.verify("s1"))["ok"]


async def test_a_create_that_lost_leaves_the_winner_whole(store: Store) -> None:
    winner, loser = first_entry("s1"), first_entry("s1", name="Eve")
    await append(store, winner)
    loser = replace(loser, mac=store.mac(loser, ""))
    result = await store.create(loser, snapshot_of(fold(None, loser)))
    assert isinstance(result, Collision) and result.stored.digest == winner.digest
    assert (await Session.load(store, "s1")).state.candidate.name == "Ada"


async def test_a_stale_owner_writes_nothing_after_a_delete(store: Store) -> None:
    await created(store)
    stale, deleting = await Session.load(store, "s1"), await Session.load(store, "s1")
    await store.save_draft(Draft("s1", 0, 0, 1, "secret words", T0))
    await deleting.execute(delete_request(STAFF, T0 + 1), T0 + 1)
    assert await store.tombstones_unfinished(10) == ["s1"]
    await store.erase("s1")
    with pytest.raises(OrchestratorError, match="session"):
        await stale.execute(Request(Start(), STAFF, T0 + 2), T0 + 2)
    assert not await store.save_snapshot(snapshot_of(stale.state))
    assert not await store.insert_snapshot(snapshot_of(stale.state))
    assert await store.load("s1") is None
    assert await store.is_deleted("s1")
    assert await store.tombstones_unfinished(10) == []
    assert await store.list_snapshots() == []
    assert [e.body for e in await store.entries("s1")] == ["", ""]
    assert await store._db.drafts.count_documents({}) == 0
    assert (await store.verify("s1"))["ok"], "the chain outlives the bodies"


async def test_a_changed_entry_breaks_the_chain(store: Store) -> None:
    mac = ""
    for seq in (1, 2, 3):
        mac = await append(store, entry_at("s1", seq), mac)
    changed = entry_at("s1", 2, text="another answer")
    await store._db.journal.update_one({"_id": "s1:2"}, {"$set": {"body": changed.body, "digest": changed.digest}})
    assert (await store.verify("s1"))["broken_at"] == 2


# Drafts, lists, jobs, proofs of life


async def test_a_draft_gives_way_to_newer_ones_only(store: Store) -> None:
    draft = Draft("s1", 0, 1, 5, "five", T0)
    assert await store.save_draft(draft)
    assert not await store.save_draft(replace(draft, revision=4, text="four"))
    assert not await store.save_draft(replace(draft, epoch=0, revision=9))
    assert await store.save_draft(replace(draft, epoch=2, revision=6, text="six"))
    await created(store)
    session = await Session.load(store, "s1")
    await session.execute(Request(Start(), STAFF, T0 + 1), T0 + 1)
    assert (await loaded(store)).draft == replace(draft, epoch=2, revision=6, text="six")


def only_where_one_replaces_a_version(server: MongoServer) -> None:
    if isinstance(server, FerretDB):
        pytest.skip("FerretDB 1.24 on SQLite lets several replace the same version of a document at once")


async def test_drafts_sent_together_leave_the_highest(store: Store, server: MongoServer) -> None:
    only_where_one_replaces_a_version(server)
    drafts = [Draft("s1", 0, 1, n, str(n), T0) for n in range(1, 9)]
    await asyncio.gather(*(eventually(lambda d=d: store.save_draft(d)) for d in drafts))
    assert (await store._draft("s1")).text == "8"  # type: ignore[union-attr]


def a_snapshot(session_id: str, created_at: int, **changes: Any) -> Snapshot:
    entry = first_entry(session_id, created_at)
    return replace(snapshot_of(fold(None, entry)), **changes)


async def test_lists_are_filtered_and_paged(store: Store) -> None:
    for n in range(7):
        await store.insert_snapshot(
            a_snapshot(
                f"s{n}",
                T0 + n // 2,
                status="completed" if n % 3 == 0 else "in_progress",
                job_id=f"job-{n % 2}",
                email=f"{n}@example.com",
            )
        )
    pages, before = [], None
    while page := await store.list_snapshots(limit=2, before=before):
        pages += [s.session_id for s in page]
        before = (page[-1].created_at, page[-1].session_id)
    assert pages == [f"s{n}" for n in (6, 5, 4, 3, 2, 1, 0)]
    assert [s.session_id for s in await store.list_snapshots(Wanted(status="completed"))] == ["s6", "s3", "s0"]
    assert await store.count_snapshots(Wanted(status="completed", job_id="job-0")) == 2
    assert [s.session_id for s in await store.list_snapshots(Wanted(email="3@EXAMPLE.com"))] == ["s3"]
    assert (await store.stats())["by_status"] == {"completed": 3, "in_progress": 4}


async def test_people_are_found_by_what_they_are_called(store: Store) -> None:
    people = [
        ("Ada Lovelace", "ada@example.com"),
        ("Grace Hopper", "grace.hopper@navy.mil"),
        ("李 雷", "lei@example.com"),
    ]
    for n, (name, email) in enumerate(people):
        await store.insert_snapshot(a_snapshot(f"s{n}", T0 + n, words=words_of(name, email), score=90.0 - n))

    async def found(text: str, **more: Any) -> list[str]:
        return [s.session_id for s in await store.list_snapshots(Wanted(text=text, **more))]

    assert await found("love") == await found("ADA lov") == await found("ada@exa") == ["s0"]
    assert await found("example.com") == await found("example") == ["s2", "s0"]
    assert await found("hopper grace") == await found("grace hopper") == await found("navy") == ["s1"]
    assert await found("李") == ["s2"] and await found("ada hopper") == [] and await found(".*@") == []
    assert await found("", least_score=89, most_score=90) == ["s1", "s0"]
    assert await found("example", created_from=T0 + 1) == await found("", created_from=T0 + 2) == ["s2"]
    assert await found("", created_from=T0, created_until=T0 + 2) == ["s1", "s0"]


async def test_sweeps_find_what_is_due(store: Store) -> None:
    running = {"status": "in_progress"}
    await store.insert_snapshot(a_snapshot("late", T0, **running, deadline=T0 + 10))
    await store.insert_snapshot(a_snapshot("later", T0, **running, deadline=T0 + 20))
    await store.insert_snapshot(a_snapshot("paused", T0, **running, deadline=None))
    await store.insert_snapshot(a_snapshot("gone", T0, expires_at=T0 + 10))
    await store.insert_snapshot(a_snapshot("waiting", T0, expires_at=None))
    assert [s.session_id for s in await store.overdue(T0 + 15, 10)] == ["late"]
    await store.insert_snapshot(a_snapshot("parked", T0, **running, status_detail="parked"))
    assert await store.in_progress(10) == ["late", "later", "paused"]
    assert [s.session_id for s in await store.expired(T0 + 15, 10)] == ["gone"]


async def test_jobs_are_kept_as_they_were(store: Store) -> None:
    job = {"job_id": "dev", "title": "Développeur 👩‍💻", "questions": [{"text": "$where", "type": "text"}]}
    assert await store.put_job(job, create=True)
    assert not await store.put_job({**job, "title": "other"}, create=True)
    assert await store.get_job("dev") == job
    assert not await store.put_job({**job, "title": "new"}, create=False), "there is no version before it"
    assert await store.put_job({**job, "title": "new", "version": 2}, create=False)
    assert not await store.put_job({**job, "title": "late", "version": 2}, create=False)
    assert await store.get_job_version("dev", 1) == job and await store.get_job_version("dev", 3) is None
    latest = await store.get_job_version("dev", 2)
    assert latest is not None and latest["title"] == "new"
    assert [j["title"] for j in await store.list_jobs()] == ["new"]
    assert await store.delete_job("dev") and not await store.delete_job("dev")
    assert not await store.put_job({**job, "version": 2}, create=False)
    assert await store.get_job_version("dev", 1) is None
    assert await store.put_job(job, create=True)


async def test_an_idempotency_key_is_kept_with_its_body(store: Store) -> None:
    assert not await store.remember_key("staff", "k1", "body", T0)
    assert await store.remember_key("staff", "k1", "body", T0 + 1)
    assert not await store.remember_key("other", "k1", "another body", T0)
    with pytest.raises(CommandIdReused):
        await store.remember_key("staff", "k1", "another body", T0)
    await store.forget_keys(T0 + 1)
    assert not await store.remember_key("staff", "k1", "another body", T0 + 2)


def revoked(by: str) -> Callable[[StaffKey], StaffKey]:
    return lambda one: one if one.revoked_at else replace(one, revoked_at=T0 + 1, revoked_by=by)


async def test_staff_keys_are_kept_and_revoked_once(store: Store) -> None:
    key, _ = new_key("ats", ("manage", "read"), T0, "open")
    assert await store.add_staff_key(key) and not await store.add_staff_key(replace(key, name="other"))
    assert await store.staff_keys() == [key]
    ended = [await store.change_staff_key(key.id, revoked(f"key:{n}")) for n in range(2)]
    assert [one.revoked_by for one in ended] == ["key:0"] * 2 and await store.staff_keys() == [ended[0]]
    with pytest.raises(NotFound):
        await store.change_staff_key("0" * 12, revoked("x"))


async def test_one_of_many_that_revoke_a_key_together_has_revoked_it(store: Store, server: MongoServer) -> None:
    only_where_one_replaces_a_version(server)
    key, _ = new_key("ats", ("manage", "read"), T0, "open")
    await store.add_staff_key(key)
    ended = await asyncio.gather(*(store.change_staff_key(key.id, revoked(f"key:{n}")) for n in range(5)))
    assert len({one.revoked_by for one in ended}) == 1 and await store.staff_keys() == [ended[0]]


async def test_all_agree_on_one_secret(store: Store, server: MongoServer, database: str) -> None:
    others = await asyncio.gather(*(Store.open(server.url, database) for _ in range(3)))
    assert {s.secret for s in others} == {store.secret} and len(store.secret) == 32
    for other in others:
        await other.close()


async def test_the_last_proof_of_life_is_found(store: Store) -> None:
    assert await store.last_alive("node-1") is None
    for at in (T0, T0 + 1000):
        await store.alive("node-1", at)
    assert await store.last_alive("node-1") == T0 + 1000


async def test_a_report_gives_way_to_newer_ones_only(store: Store) -> None:
    assert await store.report_of("s1") is None
    text = '{"answer": "é\\u0000 ' + "x" * 5_000_000 + '"}'
    assert await store.save_report(StoredReport("s1", 5, text))
    assert not await store.save_report(StoredReport("s1", 4, "{}"))
    assert await store.report_of("s1") == StoredReport("s1", 5, text)
    for again in ("[]", "{}"):  # a task that died before it had noted the first
        assert await store.save_report(StoredReport("s1", 6, again))
    assert await store.report_of("s1") == StoredReport("s1", 6, "{}")
    await store.erase("s1")
    assert await store.report_of("s1") is None


async def test_the_largest_report_fits(store: Store) -> None:
    """200 answers of 64 KB that cannot be made smaller than their letters allow."""
    text = json.dumps([secrets.token_urlsafe(49_000) for _ in range(200)])
    assert len(text) > 13_000_000
    assert await store.save_report(StoredReport("s1", 5, text))
    assert await store.report_of("s1") == StoredReport("s1", 5, text)


async def test_a_report_is_made_of_a_stored_interview(store: Store) -> None:
    await created(store)
    session = await Session.load(store, "s1")
    for at, command in enumerate((Start(), Answer(0, "first"), End())):
        await session.execute(Request(command, STAFF, T0 + at), T0 + at)
    await store.save_snapshot(snapshot_of(session.state))
    assert await store.sessions_with_report("wanted", 10) == ["s1"]
    made = await make_report(store, "s1")
    assert made is not None and made.content()["journal"]["verified"] is True
    assert made.content()["questions"][0]["answer"] == "first"
    assert await store.sessions_with_report("wanted", 10) == []
    assert await store.report_of("s1") == made and await make_report(store, "s1") is None
    events = (await store.entries("s1", made.as_of))[0].content()["events"]
    assert events == [{"type": "report_made", "as_of": made.as_of, "sha256": sha256(made.text), "score": 100.0}]
    assert [s.session_id for s in await store.list_snapshots(Wanted(least_score=100))] == ["s1"]


async def test_scheduled_sessions_are_counted_until_they_start(store: Store) -> None:
    for name, at in (("early", T0 + 10), ("in time", T0 + 20), ("late", T0 + 30), ("any time", None)):
        await created(store, name, scheduled_at=at)
    assert await store.count_scheduled(T0 + 10, T0 + 30) == 2
    assert await store.count_scheduled(T0, T0 + 1_000) == 3
    assert await store.count_scheduled(T0, T0 + 1_000, limit=2) == 2
    state = (await Session.load(store, "in time")).state
    assert await store.save_snapshot(replace(snapshot_of(state), seq=state.seq + 1, status="in_progress"))
    assert await store.count_scheduled(T0 + 10, T0 + 30) == 1


async def test_ended_sessions_are_found_by_when_they_ended(store: Store) -> None:
    for n, ended_at in enumerate((None, T0 + 10, T0 + 20, T0 + 5)):
        await store.insert_snapshot(a_snapshot(f"s{n}", T0 + n, ended_at=ended_at))
    assert sorted(s for s, _ in await store.ended_between(0, T0 + 20, 10)) == ["s1", "s3"]


async def test_who_looks_for_what_is_new_finds_it_without_reading_all(store: Store) -> None:
    begun = {"status": "in_progress", "started_at": T0 + 1}
    old = [a_snapshot("waits", T0), a_snapshot("runs", T0, **begun)]
    ended = a_snapshot("ended", T0, status="completed", started_at=T0 + 1, ended_at=T0 + 9)
    for snapshot in (*old, ended, a_snapshot("before", T0, status="completed", ended_at=T0 + 2)):
        await store.insert_snapshot(snapshot)
    assert [one.session_id for one in await store.live(10)] == ["runs"]
    assert await store.ended_since(T0 + 9, 10) == [Brief("ended", ended.seq, "completed", T0 + 1, T0 + 9)]
    assert [one.session_id for one in await store.ended_since(1, 1)] == ["ended"], "the last ones first"
    since = round(time.time() * 1000) + 1
    await asyncio.sleep(0.01)
    assert await store.changed_since(since, 10) == []
    await store.save_snapshot(replace(old[0], seq=old[0].seq + 1, **begun))
    [changed] = await store.changed_since(since, 10)
    assert (changed.session_id, changed.seq, changed.status) == ("waits", old[0].seq + 1, "in_progress")
    assert {one.session_id for one in await store.still_there(["runs", "nobody", "ended"])} == {"runs", "ended"}
    assert {one.session_id for one in await store.snapshots_of(["waits", "nobody"])} == {"waits"}


async def test_of_a_deleted_interview_no_report_is_left(store: Store) -> None:
    await created(store)
    session = await Session.load(store, "s1")
    for at, command in enumerate((Start(), End(), Delete())):
        await session.execute(Request(command, STAFF, T0 + at), T0 + at)
    with pytest.raises(NotFound):
        await make_report(store, "s1")
    await store.erase("s1")
    assert await store.report_of("s1") is None


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
