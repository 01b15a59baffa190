"""What a replica set's primary has, and no majority has confirmed, is acknowledged to nobody."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from orchestrator.errors import CommandIdReused, OutcomeUnknown, Unavailable
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.journal import Appended, Collision
from orchestrator.storage.store import Store


class Collection:
    """As a primary has it. An insert lands at once, and is acknowledged only while `has_majority`."""

    def __init__(self, reads: ReadConcern | None) -> None:
        self.reads = reads
        self.landed: dict[str, dict[str, Any]] = {}
        self.confirmed: dict[str, dict[str, Any]] = {}
        self.has_majority = False

    async def insert_one(self, document: dict[str, Any]) -> None:
        if document["_id"] in self.landed:
            raise DuplicateKeyError("E11000")
        self.landed[document["_id"]] = document
        if not self.has_majority:
            await asyncio.Event().wait()
        self.confirm()

    async def find_one(self, query: dict[str, Any], fields: Any = None) -> dict[str, Any] | None:
        sees_all = self.reads is None or self.reads.level in (None, "local")
        return (self.landed if sees_all else self.confirmed).get(query["_id"])

    def confirm(self) -> None:
        self.has_majority = True
        self.confirmed = dict(self.landed)

    def fail_over(self) -> None:
        self.landed = dict(self.confirmed)


class ReplicaSet:
    """A client of one."""

    def __init__(self) -> None:
        self.collections: dict[str, Collection] = {}
        self.reads: ReadConcern | None = None

    def get_database(self, name: str, **options: Any) -> Self:
        self.reads = options.get("read_concern")
        return self

    def __getattr__(self, name: str) -> Collection:
        return self.collections.setdefault(name, Collection(self.reads))


@pytest.fixture
def replica_set() -> ReplicaSet:
    return ReplicaSet()


@pytest.fixture
def store(replica_set: ReplicaSet) -> Store:
    store = Store(replica_set, "interviews", 0.05)
    store.secret = b"s" * 32
    return store


def entry(by: str = "candidate") -> Entry:
    return new_entry("s1", 1, 1, 0, [], by=by)


async def test_a_repeat_is_no_success_before_a_majority_has_its_first_write(
    store: Store, replica_set: ReplicaSet
) -> None:
    answer = entry()
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await store.append(answer, "")
    replica_set.journal.fail_over()
    replica_set.journal.has_majority = True
    assert isinstance(await store.append(answer, ""), Appended), "what the failover took back is written again"
    assert list(replica_set.journal.confirmed) == [answer.key]


async def test_once_confirmed_the_repeat_is_a_success_and_another_write_collides(
    store: Store, replica_set: ReplicaSet
) -> None:
    answer = entry()
    with pytest.raises(OutcomeUnknown):
        await store.append(answer, "")
    with pytest.raises(OutcomeUnknown):
        await store.append(entry("staff"), "")
    replica_set.journal.confirm()
    assert isinstance(await store.append(answer, ""), Appended)
    assert isinstance(await store.append(entry("staff"), ""), Collision)


async def test_a_key_is_known_once_it_is_confirmed(store: Store, replica_set: ReplicaSet) -> None:
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await store.remember_key("staff", "k", "body", 0)
    replica_set.keys.confirm()
    assert await store.remember_key("staff", "k", "body", 0) is True
    with pytest.raises(CommandIdReused):
        await store.remember_key("staff", "k", "another", 0)


async def test_a_job_is_there_already_once_it_is_confirmed(store: Store, replica_set: ReplicaSet) -> None:
    job = {"job_id": "j1", "version": 1}
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await store.put_job(job, create=True)
    replica_set.jobs.confirm()
    assert await store.put_job(job, create=True) is False


async def test_nobody_works_with_a_secret_that_may_be_taken_back(store: Store, replica_set: ReplicaSet) -> None:
    for _ in range(2):
        with pytest.raises(Unavailable):
            await store._stored_secret()
    replica_set.secrets.confirm()
    assert len(await store._stored_secret()) == 32
