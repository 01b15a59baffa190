"""What earlier versions stored is read, shown as then, verified and gone on with; what later ones store is refused.

tests/fixtures/stored/<schema>-<letter>.json are documents of the database as a service of that time left them, and the
sessions as it showed them: one completed, one in progress, one that waits, and the tombstone of one that was deleted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bson import json_util

from actors.report_maker import make_report
from orchestrator.errors import NewerSchema, NotFound
from orchestrator.interview.commands import Answer, End
from orchestrator.session import Request, Session
from orchestrator.storage.documents import SCHEMA
from orchestrator.storage.store import Store
from tests.servers import MongoServer
from tests.unit.world import STAFF

pytestmark = pytest.mark.services

SAMPLES = sorted((Path(__file__).parents[1] / "fixtures/stored").glob("*.json"))
NOT_COMPARED = frozenset({"proctoring", "placement", "livekit"})
"""Scores are made anew by every version, where somebody looks."""


@pytest.fixture(params=SAMPLES, ids=[path.stem for path in SAMPLES])
def sample(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json.loads(request.param.read_text())


@pytest.fixture
async def store(server: MongoServer, database: str, sample: dict[str, Any]) -> Any:
    """A store over a database with the sample in it."""
    first = await Store.open(server.url, database)
    for collection, documents in sample["stored"].items():
        await first._db[collection].delete_many({})
        await first._db[collection].insert_many(json_util.loads(json.dumps(documents)))
    await first.close()
    store = await Store.open(server.url, database)
    yield store
    await store._client.drop_database(database)
    await store.close()


def test_there_is_a_sample_of_every_version() -> None:
    assert {int(path.stem.partition("-")[0]) for path in SAMPLES} == set(range(1, SCHEMA + 1))


def test_a_sample_has_the_version_that_it_is_named_for(sample: dict[str, Any], request: pytest.FixtureRequest) -> None:
    stored = [d for name in ("journal", "snapshots", "drafts") for d in sample["stored"][name]]
    assert {d.get("schema", 1) for d in stored} == {int(request.node.callspec.id.partition("-")[0])}


async def test_sessions_are_what_they_were(store: Store, sample: dict[str, Any]) -> None:
    for status, then in sample["sessions"].items():
        for snapshot in (True, False):
            if not snapshot:
                await store._db.snapshots.delete_one({"_id": then["session_id"]})
            session = await Session.load(store, then["session_id"])
            now = json.loads(json.dumps(session.view(session.state.at, "staff")))
            for name in then.keys() - NOT_COMPARED:
                assert _lasting(now[name]) == _lasting(then[name]), (status, name)
        assert (await store.verify(then["session_id"]))["ok"]


async def test_what_is_in_progress_goes_on(store: Store, sample: dict[str, Any]) -> None:
    session_id = sample["sessions"]["in_progress"]["session_id"]
    session = await Session.load(store, session_id)
    assert session.draft is not None and session.draft.text == "half a thou"
    for command in (Answer(1, "a whole thought", "python"), End()):
        at = session.state.at + 1000
        await session.execute(Request(command, STAFF, at), at)
    again = await Session.load(store, session_id)
    assert [answer.answer for answer in again.state.answers] == ["one", "a whole thought"]
    assert again.state.status == "completed" and (await store.verify(session_id))["ok"]
    report = await make_report(store, session_id)
    assert report is not None and "a whole thought" in report.text


async def test_what_was_deleted_stays_so(store: Store, sample: dict[str, Any]) -> None:
    known = {session["session_id"] for session in sample["sessions"].values()}
    deleted = {document["session_id"] for document in sample["stored"]["journal"]} - known
    assert len(deleted) == 1
    with pytest.raises(NotFound):
        await Session.load(store, deleted.pop())


@pytest.mark.parametrize("collection", ["journal", "snapshots", "drafts"])
async def test_what_a_later_version_stored_is_refused(store: Store, sample: dict[str, Any], collection: str) -> None:
    session_id = sample["sessions"]["in_progress"]["session_id"]
    if collection == "journal":
        await store._db.snapshots.delete_one({"_id": session_id})
    await store._db[collection].update_many({"session_id": session_id}, {"$set": {"schema": SCHEMA + 1}})
    with pytest.raises(NewerSchema, match="to be upgraded"):
        await Session.load(store, session_id)


def _lasting(value: Any) -> Any:
    """A part of the view without what the time of looking makes of it."""
    if isinstance(value, dict):
        return {name: _lasting(part) for name, part in value.items() if name != "remaining_seconds"}
    return value
