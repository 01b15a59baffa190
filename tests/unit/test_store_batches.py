"""What a batch of appends reports when the driver's answer is not a plain success."""

from __future__ import annotations

from typing import Any

from pymongo.errors import BulkWriteError

from orchestrator.errors import OutcomeUnknown
from orchestrator.interview.entry import new_entry
from orchestrator.journal import Appended
from orchestrator.storage.store import Store


class Journal:
    """A collection whose insert_many ends in an error of the driver's."""

    def __init__(self, details: dict[str, Any] | None) -> None:
        self.details = details

    async def insert_many(self, documents: list[dict[str, Any]], ordered: bool) -> None:
        assert not ordered
        if self.details is not None:
            raise BulkWriteError(self.details)


class Database:
    def __init__(self, details: dict[str, Any] | None) -> None:
        self.journal = Journal(details)


def store_over(details: dict[str, Any] | None) -> Store:
    store = Store.__new__(Store)
    store._db, store._timeout, store.secret = Database(details), 1.0, b"s" * 32
    return store


def batch() -> list[tuple[Any, str]]:
    return [(new_entry(f"s{n}", 1, 1, 0, []), "") for n in range(3)]


async def test_what_a_majority_has_not_confirmed_is_of_unknown_outcome() -> None:
    """A primary that steps down reports no write errors, and may take the writes back."""
    store = store_over({"writeErrors": [], "writeConcernErrors": [{"code": 91, "errmsg": "stepping down"}]})
    results = await store.append_many(batch())
    assert [type(result) for result in results] == [OutcomeUnknown] * 3


async def test_a_write_error_spoils_no_other_entry() -> None:
    store = store_over({"writeErrors": [{"index": 1, "code": 8000, "errmsg": "no"}], "writeConcernErrors": []})
    results = await store.append_many(batch())
    assert [type(result) for result in results] == [Appended, OutcomeUnknown, Appended]
