"""What the storage promises about pictures, on every MongoDB-wire server there is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.session import Session, delete_request
from orchestrator.storage.evidence import Kept, Reference, Still
from orchestrator.storage.store import Store
from tests.servers import FerretDB, MongoServer
from tests.services.test_storage_contract import created, eventually
from tests.unit.world import STAFF, T0

pytestmark = pytest.mark.services

ALL_BYTES = bytes(range(256))
FOREVER = T0 + 10**9


def a_still(id: str = "p1", session_id: str = "s1", at: int = T0, **more: Any) -> Still:
    still = Still(id, session_id, at, at + 5, "abc", "image/jpeg", ALL_BYTES + id.encode(), FOREVER)
    return replace(still, **more)


def a_reference(session_id: str = "s1", **more: Any) -> Reference:
    reference = Reference(session_id, ALL_BYTES, "image/png", "abc", ALL_BYTES[::-1], "lbp", "1", T0, FOREVER)
    return replace(reference, **more)


async def finished(store: Store, still: Still, because: str | None) -> None:
    await store.add_still(still)
    assert await store.finish_still(still.id, "seen", because)


async def pictures(store: Store) -> list[str]:
    """The ids of all stills and references there are."""
    stills = await store._db.stills.find({}, {"_id": 1}).to_list(None)
    return [d["_id"] for d in stills] + [d["_id"] for d in await store._db.reference_faces.find({}).to_list(None)]


# Stills that wait


async def test_five_megabytes_come_back_as_they_went_in(store: Store) -> None:
    still = a_still(image=ALL_BYTES * (5_000_000 // 256), thinned=3)
    await store.add_still(still)
    assert await store.next_pending("s1") == replace(still, attempts=1)
    assert await store.finish_still("p1", "two_faces", "faces")
    found = await store.kept_image("s1", "p1")
    assert found is not None
    assert found == (still.image, "image/jpeg") and type(found[0]) is bytes


async def test_the_oldest_still_waits_at_the_front(store: Store) -> None:
    for id, at in (("late", T0 + 30), ("early", T0 + 10), ("middle", T0 + 20)):
        await store.add_still(a_still(id, at=at, thinned=at - T0))
    await store.add_still(a_still("other", "s2"))
    assert await store.pending_of("s1") == [("early", T0 + 10, 10), ("middle", T0 + 20, 20), ("late", T0 + 30, 30)]
    assert (await next_of(store)).id == "early"
    assert await store.finish_still("early", "seen", None)
    assert (await next_of(store)).id == "middle"
    assert await store.pending_of("nobody") == [] and await store.next_pending("nobody") is None


async def next_of(store: Store, session_id: str = "s1") -> Still:
    found = await store.next_pending(session_id)
    assert found is not None
    return found


async def test_a_repeated_still_changes_nothing(store: Store) -> None:
    await store.add_still(a_still())
    await store.next_pending("s1")
    await store.add_still(a_still(thinned=9, image=b"another"))
    assert await store.next_pending("s1") == a_still(attempts=2)
    await store.finish_still("p1", "seen", "sample")
    await store.add_still(a_still())
    assert await store.count_pending() == 0
    assert await store.still_sha256("p1") == "abc" and await store.still_sha256("p2") is None


async def test_attempts_are_counted_before_a_still_is_handed_out(
    store: Store, server: MongoServer, database: str
) -> None:
    await store.add_still(a_still())
    assert [(await next_of(store)).attempts for _ in range(3)] == [1, 2, 3]
    another = await Store.open(server.url, database)
    assert (await next_of(another)).attempts == 4
    await another.close()


async def test_sessions_that_waited_longest_come_first(store: Store) -> None:
    await store.add_still(a_still("p1", "s1", T0, received_at=T0 + 50))
    await store.add_still(a_still("p2", "s2", T0 + 9, received_at=T0 + 20))
    await store.add_still(a_still("p3", "s1", T0 + 9, received_at=T0 + 60))
    await store.add_still(a_still("p4", "s3", T0, received_at=T0 + 10))
    await store.add_still(a_still("p5", "s3", T0, received_at=T0 + 70))
    assert await store.pending_sessions(10) == ["s3", "s2", "s1"]
    assert await store.pending_sessions(2) == ["s3", "s2"]
    assert await store.count_pending() == 5
    await store.finish_still("p4", "seen", None)
    assert await store.pending_sessions(10) == ["s2", "s1", "s3"]
    assert await store.count_pending() == 4


async def test_dropped_stills_are_gone(store: Store) -> None:
    for n in range(5):
        await store.add_still(a_still(f"p{n}"))
    assert await store.drop_stills(["p0", "p1", "nothing"]) == 2
    assert await store.drop_stills(["p0", "p1"]) == 0
    assert await store.drop_stills([]) == 0
    assert [id for id, _, _ in await store.pending_of("s1")] == ["p2", "p3", "p4"]


async def test_nothing_makes_a_dropped_still_again(store: Store) -> None:
    await store.add_still(a_still())
    await store.drop_stills(["p1"])
    assert not await store.finish_still("p1", "seen", "faces")
    assert not await store.finish_still("p1", "seen", None)
    assert not await store.keep_still("p1", "sample", FOREVER)
    assert await store.next_pending("s1") is None
    assert await pictures(store) == []


# Checked stills


async def test_evidence_is_what_was_kept(store: Store) -> None:
    await finished(store, a_still("b", at=T0 + 2), "two_faces")
    await finished(store, a_still("a", at=T0 + 1), "no_face")
    await finished(store, a_still("c", at=T0 + 3), None)
    await finished(store, a_still("d", "s2"), "no_face")
    await store.add_still(a_still("e"))
    size = len(ALL_BYTES) + 1
    assert await store.kept_of("s1") == [
        Kept("a", "s1", T0 + 1, "abc", "image/jpeg", size, "no_face", "seen", FOREVER),
        Kept("b", "s1", T0 + 2, "abc", "image/jpeg", size, "two_faces", "seen", FOREVER),
    ]
    assert await store.kept_image("s1", "a") == (ALL_BYTES + b"a", "image/jpeg")
    for session_id, still_id in (("s1", "c"), ("s1", "d"), ("s1", "e"), ("s2", "a"), ("s1", "nothing")):
        assert await store.kept_image(session_id, still_id) is None
    assert [id for id, _, _ in await store.pending_of("s1")] == ["e"]


async def test_who_finishes_a_still_first_decides(store: Store) -> None:
    await finished(store, a_still("p1"), "faces")
    assert await store.finish_still("p1", "late", None), "a repeat is a success"
    assert await store.finish_still("p1", "late", "other")
    assert [(k.because, k.verdict) for k in await store.kept_of("s1")] == [("faces", "seen")]
    assert await store.drop_leftovers(FOREVER) == 0


async def test_a_still_that_is_kept_expires_when_it_is_told(store: Store) -> None:
    for id, because in (("kept", "faces"), ("plain", None)):
        await store.add_still(a_still(id))
        assert await store.finish_still(id, "seen", because, T0 + 99)
    assert [(k.id, k.expires_at) for k in await store.kept_of("s1")] == [("kept", T0 + 99)]
    assert await store.expired_stills(T0 + 100, 10) == [("s1", "kept")]


async def test_a_checked_still_can_be_kept_later(store: Store) -> None:
    await store.add_still(a_still("pending"))
    await finished(store, a_still("plain", at=T0 + 1), None)
    await finished(store, a_still("flagged", at=T0 + 2), "faces")
    assert not await store.keep_still("pending", "sample", T0 + 99)
    assert await store.keep_still("plain", "sample", T0 + 99)
    assert await store.keep_still("flagged", "sample", T0 + 99)
    assert await store.keep_still("flagged", "sample", T0 + 99)
    kept = [(k.id, k.because, k.expires_at) for k in await store.kept_of("s1")]
    assert kept == [("plain", "sample", T0 + 99), ("flagged", "faces", T0 + 99)]
    assert await store.kept_image("s1", "plain") == (a_still("plain").image, "image/jpeg")
    assert await store.drop_leftovers(FOREVER) == 0
    assert await store.drop_stills(["plain", "flagged"]) == 2
    assert await store.kept_of("s1") == []


async def test_leftovers_are_old_checked_and_not_kept(store: Store) -> None:
    for n in range(3):
        await finished(store, a_still(f"leftover-{n}", received_at=T0 + n), None)
    await finished(store, a_still("kept", received_at=T0), "faces")
    await store.add_still(a_still("pending", received_at=T0))
    assert await store.drop_leftovers(T0 + 2) == 2
    assert sorted(await pictures(store)) == ["kept", "leftover-2", "pending"]
    assert await store.drop_leftovers(T0 + 3) == 1


async def test_more_leftovers_than_a_batch_are_all_dropped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.storage.evidence.BATCH", 4)
    for n in range(9):
        await finished(store, a_still(f"p{n}"), None)
    assert await store.drop_leftovers(FOREVER) == 9
    for n in range(9):
        await store.add_still(a_still(f"p{n}"))
    assert await store.drop_stills([f"p{n}" for n in range(10)]) == 9


async def test_what_expired_is_found(store: Store) -> None:
    await store.add_still(a_still("pending", expires_at=T0 + 10))
    await finished(store, a_still("kept", "s2", expires_at=T0 + 5), "faces")
    await finished(store, a_still("plain", expires_at=T0 + 5), None)
    await finished(store, a_still("later", expires_at=T0 + 20), "faces")
    for session_id, expires_at in (("s1", T0 + 10), ("s2", T0 + 5), ("s3", T0 + 20)):
        await store.save_reference(a_reference(session_id, expires_at=expires_at))
    assert await store.expired_stills(T0 + 15, 10) == [("s2", "kept"), ("s1", "pending")]
    assert await store.expired_stills(T0 + 15, 1) == [("s2", "kept")]
    assert await store.expired_stills(T0 + 5, 10) == []
    assert await store.keep_still("plain", "sample", T0 + 1)
    assert await store.expired_stills(T0 + 2, 10) == [("s1", "plain")]
    assert await store.expired_references(T0 + 15, 10) == ["s2", "s1"]
    assert await store.expired_references(T0 + 15, 1) == ["s2"]
    assert await store.expired_references(T0 + 5, 10) == []


# Reference faces


async def test_a_reference_is_replaced_and_erased(store: Store) -> None:
    assert await store.reference_of("s1") is None
    await store.save_reference(a_reference())
    newer = a_reference(image=ALL_BYTES * 4000, template=b"", at=T0 + 1)
    await store.save_reference(newer)
    await store.save_reference(a_reference("s2"))
    found = await store.reference_of("s1")
    assert found is not None and found == newer
    assert type(found.image) is bytes and type(found.template) is bytes
    assert await store.erase_reference("s1") and not await store.erase_reference("s1")
    assert await store.reference_of("s1") is None
    assert await store.reference_of("s2") == a_reference("s2")


async def test_references_saved_together_leave_one(store: Store) -> None:
    sent = [a_reference(at=T0 + n, image=ALL_BYTES * (n + 1)) for n in range(10)]
    await asyncio.gather(*(store.save_reference(r) for r in sent))
    assert await store.reference_of("s1") in sent
    assert await pictures(store) == ["s1"]


# Erasing


async def with_pictures(store: Store, session_id: str) -> None:
    await store.save_reference(a_reference(session_id))
    await store.add_still(a_still(f"{session_id}-pending", session_id))
    await finished(store, a_still(f"{session_id}-kept", session_id), "faces")
    await finished(store, a_still(f"{session_id}-plain", session_id), None)


async def test_every_picture_of_a_session_is_erased(store: Store) -> None:
    await with_pictures(store, "s1")
    await with_pictures(store, "s2")
    for _ in range(2):
        await store.erase_evidence("s1")
        assert sorted(await pictures(store)) == ["s2", "s2-kept", "s2-pending", "s2-plain"]


async def test_a_deleted_session_leaves_no_picture(store: Store) -> None:
    await created(store)
    await with_pictures(store, "s1")
    session = await Session.load(store, "s1")
    await session.execute(delete_request(STAFF, T0 + 1), T0 + 1)
    await store.erase("s1")
    assert await pictures(store) == []
    assert await store.tombstones_unfinished(10) == []


async def test_pictures_go_first_and_an_erasure_cut_there_is_resumed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await created(store)
    await with_pictures(store, "s1")
    session = await Session.load(store, "s1")
    await session.execute(delete_request(STAFF, T0 + 1), T0 + 1)

    async def cut(_query: dict[str, Any]) -> int:
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(store, "_drop_found", cut)
        with pytest.raises(ConnectionResetError):
            await store.erase("s1")
    assert await store.reference_of("s1") is None, "the face goes before the stills"
    assert len(await pictures(store)) == 3
    assert len(await store.list_snapshots()) == 1, "pictures go before the rest"
    assert await store.tombstones_unfinished(10) == ["s1"]
    await store.erase("s1")
    assert await pictures(store) == []
    assert await store.list_snapshots() == []


# Faults and load


async def test_an_added_still_survives_kill_9(store: Store, server: MongoServer) -> None:
    if not server.can_be_killed:
        pytest.skip("this server is not ours to kill")
    still = a_still(image=ALL_BYTES * 120)
    await store.add_still(still)
    server.kill()
    server.start()
    assert await eventually(lambda: store.next_pending("s1")) == replace(still, attempts=1)
    server.kill()
    server.start()
    assert (await eventually(lambda: next_of(store))).attempts == 2
    await store.finish_still("p1", "seen", "faces")
    server.kill()
    server.start()
    assert await eventually(lambda: store.kept_image("s1", "p1")) == (still.image, "image/jpeg")


async def test_twenty_at_once_lose_nothing(store: Store) -> None:
    async def one(n: int) -> None:
        still = a_still(f"p{n}", f"s{n % 4}", T0 + n, image=ALL_BYTES * 120)
        await finished(store, still, "faces" if n % 2 else None)

    await asyncio.gather(*(one(n) for n in range(20)))
    assert await store.count_pending() == 0
    kept = [still.id for n in range(4) for still in await store.kept_of(f"s{n}")]
    assert sorted(kept) == sorted(f"p{n}" for n in range(1, 20, 2))
    for n in range(1, 20, 2):
        assert await store.kept_image(f"s{n % 4}", f"p{n}") == (ALL_BYTES * 120, "image/jpeg")
    assert await store.drop_leftovers(FOREVER) == 10


async def test_of_twenty_who_finish_one_still_one_decides(store: Store, server: MongoServer) -> None:
    if isinstance(server, FerretDB):
        pytest.skip("FerretDB 1.24 on SQLite lets several replace the same version of a document at once")
    await store.add_still(a_still())
    results = await asyncio.gather(*(store.finish_still("p1", f"verdict-{n}", f"reason-{n}") for n in range(20)))
    assert all(results)
    [kept] = await store.kept_of("s1")
    assert kept.because.removeprefix("reason-") == (kept.verdict or "").removeprefix("verdict-")
