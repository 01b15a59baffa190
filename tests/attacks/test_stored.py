"""Somebody with words for the database in what they send, and somebody with the database itself: on every server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import InvalidInput, NotFound
from orchestrator.interview.snapshot import Draft
from orchestrator.interview.state import load_state
from orchestrator.keys import new_key
from orchestrator.storage.queries import Wanted
from orchestrator.storage.store import Store
from tests.servers import MONGO_SERVERS, MongoServer, mongo_server
from tests.services.conftest import drop
from tests.services.test_storage_contract import append, created, entry_at
from tests.unit.world import T0

pytestmark = pytest.mark.services

OPERATORS = [
    '{"$gt": ""}',
    '{"$ne": null}',
    "$where",
    "$gt",
    "[$ne]",
    ".*",
    "^",
    "*",
    "1; return true",
    "' || '1'=='1",
    "a\0b",
]


@pytest.fixture(scope="module", params=MONGO_SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    server = mongo_server(request.param, tmp_path_factory.mktemp(request.param))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def store(server: MongoServer) -> AsyncIterator[Store]:
    store = await Store.open(server.url, "attacked")
    yield store
    await drop(store)
    await store.close()


async def test_words_for_the_database_are_values_like_others(store: Store) -> None:
    """Wherever text of a caller's meets the database: it finds what has this very text, and nothing else."""
    await created(store, "s1", email="ada@example.com", job_id="backend")
    key, _ = new_key("x", ("admin",), T0, "open")
    await store.add_staff_key(key)
    for text in OPERATORS:
        for wanted in (Wanted(email=text), Wanted(job_id=text), Wanted(status=text), Wanted(end_reason=text)):
            assert await store.list_snapshots(wanted) == [], text
            assert await store.count_snapshots(wanted) == 0, text
        assert await store.load(text) is None and await store.draft_of(text) is None
        assert await store.get_job(text) is None and not await store.delete_job(text)
        assert await store.report_of(text) is None and await store.reference_of(text) is None
        assert await store.kept_of(text) == [] and await store.kept_image("s1", text) is None
        assert await store.entries(text) == [] and not await store.is_deleted(text)
        assert await store.message(text) is None
        with pytest.raises(NotFound):
            await store.endpoint(text)
        with pytest.raises(NotFound):
            await store.change_staff_key(text, lambda one: replace(one, name="mine"))
        await store.erase(text)
    assert len(await store.list_snapshots()) == 1 and await store.staff_keys() == [key]
    assert (await store.verify("s1"))["ok"]


@pytest.mark.parametrize("text", [".*", "^ada", "a|b", "(", "[a", "ada$", "a{1,99999}", "(a+)+$", "\\w"])
async def test_words_that_are_searched_for_are_no_patterns(store: Store, text: str) -> None:
    await created(store, "s1", name="Grace Hopper", email="grace@example.com")
    assert await store.list_snapshots(Wanted(text=text)) == [] or not any(c.isalnum() for c in text)


async def test_names_that_mean_something_to_the_database_are_kept_as_they_are(store: Store) -> None:
    odd = {"$set": "x", "$where": "sleep(1)", "a.b.c": "y", "_id": "z", "__proto__": "p", "": "e", "tombstone": "1"}
    await created(store, "s1", metadata=odd, job_id="$where", name="{'$gt': ''}")
    snapshot = (await store.list_snapshots())[0]
    assert load_state(snapshot.state).metadata == odd and snapshot.job_id == "$where"
    assert len(await store.list_snapshots(Wanted(job_id="$where"))) == 1
    job = {"job_id": "$where", "title": "{$gt: 1}", "questions": [{"text": "$ne", "type": "text"}], "version": 1}
    assert await store.put_job(job, create=True)
    assert await store.get_job("$where") == job
    draft = Draft("s1", 0, 0, 1, '{"$gt": ""}', T0)
    assert await store.save_draft(draft) and await store.draft_of("s1") == draft


async def test_a_value_that_is_no_text_is_never_asked_for(store: Store) -> None:
    """Should an object ever get as far as this, it is refused or found nowhere."""
    await created(store, "s1")
    for operator in ({"$gt": ""}, {"$ne": None}, {"$regex": ".*"}):
        wanted: Any = Wanted(job_id="x")
        object.__setattr__(wanted, "email", operator)
        with pytest.raises((AttributeError, TypeError, InvalidInput)):
            await store.list_snapshots(wanted)


# Somebody who can write to the database


async def chained(store: Store, session_id: str, entries: int = 5) -> list[str]:
    """A journal of some entries; their macs."""
    macs: list[str] = []
    for seq in range(1, entries + 1):
        macs.append(
            await append(store, entry_at(session_id, seq, text=f"{session_id} {seq}"), macs[-1] if macs else "")
        )
    return macs


async def broken(store: Store, session_id: str = "s1") -> int | None:
    return (await store.verify(session_id))["broken_at"]


async def test_a_changed_entry_is_found(store: Store) -> None:
    for field, value in (("body", '{"events": []}'), ("at", 1), ("epoch", 7), ("digest", "0" * 64), ("mac", "0" * 64)):
        session_id = f"s-{field}"
        await chained(store, session_id)
        assert await broken(store, session_id) is None
        await store._db.journal.update_one({"_id": f"{session_id}:3"}, {"$set": {field: value}})
        assert await broken(store, session_id) == 3, field


async def test_a_changed_entry_with_its_digest_made_anew_is_found(store: Store) -> None:
    await chained(store, "s1")
    forged = entry_at("s1", 3, text="forged")
    await store._db.journal.update_one({"_id": "s1:3"}, {"$set": {"body": forged.body, "digest": forged.digest}})
    assert await broken(store) == 3


async def test_an_entry_that_was_taken_out_exchanged_or_copied_from_another_session_is_found(store: Store) -> None:
    for session_id in ("s1", "s2", "s3", "s4"):
        await chained(store, session_id)
    journal = store._db.journal
    await journal.delete_one({"_id": "s1:3"})
    assert await broken(store, "s1") == 4
    parts = ("body", "digest", "mac", "at", "epoch")
    third, fourth = [await journal.find_one({"_id": f"s2:{seq}"}) for seq in (3, 4)]
    for key, other in (("s2:3", fourth), ("s2:4", third)):
        await journal.update_one({"_id": key}, {"$set": {part: other[part] for part in parts}})
    assert await broken(store, "s2") == 3
    theirs = await journal.find_one({"_id": "s4:3"})
    await journal.update_one({"_id": "s3:3"}, {"$set": {part: theirs[part] for part in parts}})
    assert await broken(store, "s3") == 3


async def test_an_emptied_or_redacted_entry_that_we_did_not_make_is_found(store: Store) -> None:
    await chained(store, "s1")
    await chained(store, "s2")
    await store._db.journal.update_one({"_id": "s1:3"}, {"$set": {"body": ""}})
    await store._db.journal.update_one({"_id": "s2:3"}, {"$set": {"body": "{}", "redaction": "0" * 64}})
    assert await broken(store, "s1") == 3 and await broken(store, "s2") == 3


async def test_what_was_cut_off_at_the_end_shows_only_to_those_who_kept_the_head(store: Store) -> None:
    """What is left: the chain alone does not tell how long it was."""
    macs = await chained(store, "s1")
    await store._db.journal.delete_one({"_id": "s1:5"})
    verified = await store.verify("s1")
    assert verified["ok"] and verified["head"] == macs[3] != macs[4]


async def test_no_key_can_be_read_out_of_the_database_and_the_signing_secret_can(store: Store) -> None:
    """Unless INTERVIEW_SECRET is set: then whoever has the files has no secret to sign with."""
    key, text = new_key("x", ("admin",), T0, "open")
    await store.add_staff_key(key)
    assert text[17:] not in str(await store._db.staff_keys.find({}).to_list(None))
    kept = await store._db.secrets.find_one({"_id": "signing"})
    assert bytes.fromhex(kept["value"]) == store.secret


async def test_a_secret_of_the_settings_is_not_kept_in_the_database(server: MongoServer) -> None:
    store = await Store.open(server.url, "attacked_with_secret", "a secret of the settings, 32 bytes")
    try:
        assert await store._db.secrets.find({}).to_list(None) == []
    finally:
        await drop(store)
        await store.close()
