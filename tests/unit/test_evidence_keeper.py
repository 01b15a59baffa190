"""EvidenceKeeper: pictures go when their time has come, reference faces first, and the journal says so."""

from __future__ import annotations

import hashlib
from typing import Any, cast

import pytest

from actors.client import InterviewClient
from actors.evidence_keeper import EvidenceKeeper
from actors.housekeeper import _each
from orchestrator.errors import NotFound, Unavailable
from orchestrator.interview import commands as c
from orchestrator.interview.integrity import timeline
from orchestrator.session import Reply
from tests.unit.api_world import MemoryClient
from tests.unit.evidence_world import Row, a_reference, a_still
from tests.unit.world import T0, Clock, create_command

STAFF = c.Caller("staff", "staff")
SOON, LATER = T0 + 1_000, T0 + 100_000


def digest(number: int) -> str:
    """An id like those of stills: 32 hex digits."""
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


class World:
    def __init__(self) -> None:
        self.clock = Clock(T0 + 2_000)
        self.client = MemoryClient(clock=self.clock)
        self.store = self.client.store
        self.keeper = EvidenceKeeper(cast(InterviewClient, self.client), _each)
        self.sent: list[c.Command] = []
        self._send: Any = self.client.send
        self.client.send = self.send  # pyright: ignore[reportAttributeAccessIssue]

    async def send(self, session_id: str, command: c.Command, *args: Any) -> Reply:
        self.sent.append(command)
        return await self._send(session_id, command, *args)

    async def session(self, captured: bool = True) -> str:
        reply = await self.client.create(create_command(), STAFF, None)
        session_id = str(reply.session["session_id"])
        if captured:
            await self._send(session_id, c.NoteReference("sha", "lbp", "1"), STAFF)
            self.store.faces[session_id] = a_reference(session_id, expires_at=SOON)
        return session_id

    def keep(self, session_id: str, *ids: str, expires_at: int = SOON) -> None:
        for still_id in ids:
            self.store.rows[still_id] = Row(
                a_still(still_id, session_id=session_id), False, "ok", "first", False, expires_at
            )

    def erasures(self, session_id: str) -> list[tuple[str, list[str]]]:
        line = timeline(self.store.journal[session_id], self.clock())
        return [(note["what"], note.get("stills", [])) for note in line.notes if note["type"] == "erased"]


@pytest.fixture
def world() -> World:
    return World()


async def test_what_has_expired_is_erased_reference_faces_first_and_the_journal_says_so(world: World) -> None:
    first, second = await world.session(), await world.session()
    world.keep(first, "a", "b")
    world.keep(first, "c", expires_at=LATER)
    world.keep(second, "d", expires_at=LATER)
    world.store.faces[second] = a_reference(second, expires_at=LATER)
    await world.keeper.erase_expired(T0 + 2_000)
    assert set(world.store.rows) == {"c", "d"} and set(world.store.faces) == {second}
    assert world.erasures(first) == [("reference", []), ("stills", ["a", "b"])]
    assert world.erasures(second) == []
    assert world.client.states[first].proctoring.reference_at is None
    assert [c for c in world.store.calls if c in ("erase_reference", "drop_stills")] == [
        "erase_reference",
        "drop_stills",
    ]
    await world.keeper.erase_expired(T0 + 2_000)
    assert len(world.sent) == 2, "nothing is left to do"


async def test_what_a_crash_cuts_short_is_found_again_and_noted_once(world: World) -> None:
    session_id = await world.session()
    world.keep(session_id, "a", "b")
    world.store.failing = {"erase_reference": [Unavailable("away")], "drop_stills": [Unavailable("away")]}
    await world.keeper.erase_expired(T0 + 2_000)
    assert set(world.store.rows) == {"a", "b"} and session_id in world.store.faces
    world.clock.advance(30)
    await world.keeper.erase_expired(T0 + 32_000)
    assert world.store.rows == {} and world.store.faces == {}
    assert world.erasures(session_id) == [("reference", []), ("stills", ["a", "b"])]


async def test_pictures_of_deleted_sessions_go_anyway(world: World) -> None:
    gone, there = "gone", await world.session()
    world.keep(gone, "a")
    world.keep(there, "b")
    world.store.faces[gone] = a_reference(gone, expires_at=SOON)
    with pytest.raises(NotFound):
        await world.client.read(gone)
    await world.keeper.erase_expired(T0 + 2_000)
    assert world.store.rows == {} and world.store.faces == {}
    assert world.erasures(there) == [("reference", []), ("stills", ["b"])]


async def test_one_session_that_cannot_be_told_stops_no_other(world: World) -> None:
    first, second = await world.session(), await world.session()
    real, failing = world._send, {first}

    async def send(session_id: str, command: c.Command, *args: Any) -> Reply:
        if session_id in failing:
            raise Unavailable("away")
        return await real(session_id, command, *args)

    world._send = send
    world.keep(first, "a")
    world.keep(second, "b")
    await world.keeper.erase_expired(T0 + 2_000)
    assert set(world.store.rows) == {"a"} and set(world.store.faces) == {first}, "told first, erased then"
    failing.clear()
    await world.keeper.erase_expired(T0 + 2_000)
    assert world.store.rows == {} and world.store.faces == {}


async def test_completed_interviews_are_told_too(world: World) -> None:
    session_id = await world.session()
    await world._send(session_id, c.End(), STAFF)
    world.keep(session_id, "a")
    await world.keeper.erase_expired(T0 + 2_000)
    assert world.store.rows == {} and len(world.erasures(session_id)) == 2


async def test_stills_that_nobody_looked_at_expire_too(world: World) -> None:
    session_id = await world.session(captured=False)
    await world.store.add_still(a_still("a", session_id=session_id, expires_at=SOON))
    await world.keeper.erase_expired(T0 + 2_000)
    assert world.store.rows == {}


async def test_more_that_has_expired_since_a_crash_is_erased_with_it(world: World) -> None:
    session_id = await world.session(captured=False)
    ids = sorted(digest(n) for n in range(8))
    world.keep(session_id, *ids[:7])
    world.store.failing = {"drop_stills": [Unavailable("away")]}
    await world.keeper.erase_expired(T0 + 2_000)
    world.keep(session_id, ids[7], expires_at=SOON + 500)
    await world.keeper.erase_expired(T0 + 2_000)
    assert world.store.rows == {}


async def test_a_second_reference_face_that_expires_within_a_day_is_noted_too(world: World) -> None:
    session_id = await world.session()
    await world.keeper.erase_expired(T0 + 2_000)
    world.clock.advance(3600)
    await world._send(session_id, c.NoteReference("sha2", "lbp", "1"), STAFF)
    world.store.faces[session_id] = a_reference(session_id, expires_at=SOON + 1)
    await world.keeper.erase_expired(world.clock())
    assert world.store.faces == {} and len(world.erasures(session_id)) == 2
    assert world.client.states[session_id].proctoring.reference_at is None
