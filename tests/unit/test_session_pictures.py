"""SessionPictures: how stills and reference faces are taken in, and what is left of them when something goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from actors import cluster, stills
from actors.faces import Assessed
from actors.still_checker import DAY_MS, Glance
from actors.stills import (
    AWAY_SECONDS,
    BURST,
    HUMAN_ROUTE,
    OLD_MS,
    UNCONFIRMED_MS,
    SessionPictures,
    Taken,
    shard_of,
)
from orchestrator.errors import (
    CommandIdReused,
    InvalidInput,
    NotAnImage,
    NotFound,
    OrchestratorError,
    StateConflict,
    TooLarge,
    TooManyRequests,
    Unavailable,
)
from orchestrator.interview import commands as c
from orchestrator.interview.allowed import ALLOWED_ACTIONS as ALLOWED
from orchestrator.interview.evidence import MAX_PENDING
from orchestrator.media import MAX_BYTES
from orchestrator.session import Reply
from orchestrator.settings import Settings
from tests.unit.api_world import SECRET, MemoryClient
from tests.unit.evidence_world import a_still
from tests.unit.world import T0, Clock, create_command

JPEG, OTHER = b"\xff\xd8\xff one", b"\xff\xd8\xff another"
WHO = c.Caller("candidate:s1", "candidate")
QUALITY: dict[str, Any] = {"faces": 1, "problems": []}
GOOD = Assessed(QUALITY, "image/jpeg", b"template", "lbp-chi2", "1")
BLURRED = Assessed({"faces": 1, "problems": [{"code": "blurred", "advice": "Hold still."}]}, "image/jpeg")
GLANCE = Glance("ok", 1, False)


class Client(MemoryClient):
    """One whose commands fail on purpose. `before`: what happens just before the next one."""

    before: Callable[[], Awaitable[Any]] | None = None
    refusal: OrchestratorError | None = None

    async def send(
        self, session_id: str, command: c.Command, caller: c.Caller, command_id: str | None = None, *more: Any
    ) -> Reply:
        if self.before is not None:
            before, self.before = self.before, None
            await before()
        if self.refusal is not None:
            raise self.refusal
        return await super().send(session_id, command, caller, command_id, *more)


class World:
    """Pictures of a front end, whose FaceActor answers what `answers` says. `asked`: the calls it gets."""

    def __init__(self, clock: Clock, **settings: Any) -> None:
        self.clock = clock
        self.settings = Settings(**settings, _env_file=None)  # pyright: ignore[reportCallIssue]
        self.client = Client(settings=self.settings, clock=clock)
        self.store = self.client.store
        self.pictures = SessionPictures(self.settings, self.client, SECRET)
        self.answers: dict[str, Any] = {"look": GLANCE, "assess": GOOD, "forget": None}
        self.asked: list[str] = []
        self.made: list[int] = []
        self.session_id = ""

    async def call(self, actor: Any, method: str, *args: Any, label: str | None = None, timeout: float) -> Any:
        self.asked.append(method)
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ensure(self, number: int, of: int, cpus: float) -> int:
        self.made.append(number)
        return number

    async def session(self, **more: Any) -> str:
        reply = await self.client.create(create_command(**more), c.Caller("staff", "staff"), None)
        self.session_id = str(reply.session["session_id"])
        return self.session_id

    async def still(self, image: bytes = JPEG, at: int | None = None, key: str | None = None) -> Taken:
        self.clock.advance(0.001)
        return await self.pictures.still(self.session_id, image, at, WHO, key)

    async def reference(self, image: bytes = JPEG, key: str | None = None) -> tuple[Reply, dict[str, Any]]:
        return await self.pictures.reference(self.session_id, image, WHO, key)

    async def do(self, command: c.Command) -> None:
        await MemoryClient.send(self.client, self.session_id, command, c.Caller("staff", "staff"))

    def events(self) -> list[str]:
        entries = self.store.journal[self.session_id]
        return [event["type"] for entry in entries for event in entry.content()["events"]]

    def full_bucket(self) -> None:
        self.pictures._stills._levels.clear()

    def empty_bucket(self, ago: float) -> None:
        """As if the last still that could be taken had been taken so many seconds ago."""
        self.pictures._stills._levels[self.session_id] = (0.0, asyncio.get_running_loop().time() - ago)

    def face_expires_in(self) -> int:
        return self.store.faces[self.session_id].expires_at - self.clock()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stills, "wall_ms", clock)
    return clock


@pytest.fixture
async def world(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> World:
    world = made(clock, monkeypatch)
    await world.session()
    return world


def made(clock: Clock, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> World:
    world = World(clock, **settings)
    monkeypatch.setattr(cluster, "call", world.call)
    monkeypatch.setattr(cluster, "ensure_face_actor", world.ensure)
    return world


# Stills


async def test_a_still_is_stored_before_anybody_looks_at_it(world: World) -> None:
    taken = await world.still()
    sha = hashlib.sha256(JPEG).hexdigest()
    assert taken == Taken(taken.id, world.clock(), sha, GLANCE, 15.0)
    row = world.store.rows[taken.id]
    assert (row.still.image, row.still.sha256, row.still.media_type) == (JPEG, sha, "image/jpeg")
    assert row.still.expires_at == world.clock() + DAY_MS and row.still.session_id == world.session_id
    assert world.asked == ["look"]
    world.store.failing["add_still"] = [Unavailable("away")]
    with pytest.raises(Unavailable):
        await world.still()
    assert world.asked == ["look"]


async def test_the_next_one_is_wanted_sooner_while_something_is_seen(world: World) -> None:
    world.answers["look"] = Glance("face_absent", 0, True)
    assert (await world.still()).next_seconds == 5.0


@pytest.mark.parametrize(
    ("image", "error"),
    [(b"", InvalidInput), (b"GIF89a", NotAnImage), (b"<svg/>", NotAnImage), (JPEG + bytes(MAX_BYTES), TooLarge)],
)
async def test_what_is_no_picture_by_its_first_bytes_is_not_stored(
    world: World, image: bytes, error: type[OrchestratorError]
) -> None:
    with pytest.raises(error):
        await world.still(image)
    with pytest.raises(error):
        await world.reference(image)
    assert world.store.calls == [] and world.asked == []


async def test_one_that_cannot_be_read_is_refused(world: World) -> None:
    world.answers["look"] = Glance("unreadable", None, False, InvalidInput.at("/image", "damaged"))
    with pytest.raises(InvalidInput, match="damaged"):
        await world.still()


@pytest.mark.parametrize(
    ("told", "expected"),
    [(None, 0), (0, 0), (-5_000, -5_000), (-OLD_MS, -OLD_MS), (-OLD_MS - 1, 0), (1, 0), (10**9, 0), (-(10**12), 0)],
)
async def test_times_that_cannot_be_are_taken_for_a_wrong_clock(world: World, told: int | None, expected: int) -> None:
    now = world.clock() + 1
    assert (await world.still(at=None if told is None else now + told)).at == now + expected


async def test_too_many_stills_of_one_session_are_429(world: World) -> None:
    for _ in range(int(BURST)):
        await world.still()
    for _ in range(3):
        with pytest.raises(TooManyRequests) as caught:
            await world.still()
        assert caught.value.retry_after == pytest.approx(2, abs=0.1)
    first = world.session_id
    await world.session()
    assert (await world.still()).glance == GLANCE, "other sessions are free"
    world.session_id = first
    world.empty_bucket(ago=2.1)
    await world.still()
    with pytest.raises(TooManyRequests):
        await world.still()


@pytest.mark.parametrize(("frame_seconds", "rate"), [(15, 0.5), (8, 0.5), (5, 0.8)])
async def test_a_page_that_does_as_it_is_told_is_not_refused(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, frame_seconds: float, rate: float
) -> None:
    world = made(clock, monkeypatch, frame_seconds=frame_seconds)
    await world.session()
    for _ in range(int(BURST)):
        await world.still()
    world.empty_bucket(ago=1.01 / rate)
    await world.still()
    world.empty_bucket(ago=0.97 / rate)
    with pytest.raises(TooManyRequests):
        await world.still()


async def test_stills_do_not_use_up_what_references_may_take(world: World) -> None:
    for _ in range(int(BURST)):
        await world.still()
    for _ in range(int(BURST)):
        await world.reference()
    with pytest.raises(TooManyRequests):
        await world.reference()
    with pytest.raises(TooManyRequests):
        await world.still()
    assert world.asked.count("assess") == BURST


async def test_a_key_sent_again_is_the_same_still(world: World) -> None:
    first = await world.still(key="k1")
    again = await world.still(key="k1")
    assert again.replayed and again.id == first.id and len(world.store.rows) == 1 and world.asked == ["look"]
    with pytest.raises(CommandIdReused):
        await world.still(OTHER, key="k1")
    assert (await world.still(OTHER, key="k2")).id != first.id
    mine = await world.pictures.still(world.session_id, JPEG, None, c.Caller("key:x", "staff"), "k1")
    assert mine.id != first.id, "keys are of one caller"
    world.full_bucket()
    await world.session()
    assert (await world.still(key="k1")).id != first.id, "and of one session"


async def test_of_too_many_that_wait_every_second_one_goes_and_is_counted(world: World) -> None:
    world.answers["look"] = None
    for n in range(MAX_PENDING):
        await world.store.add_still(a_still(f"p{n}", T0 + n, world.session_id, thinned=n))
    taken = await world.still()
    assert list(world.store.rows) == ["p0", "p2", "p4", taken.id]
    assert world.store.rows[taken.id].still.thinned == 3 + 1 + 3 + 5
    for _ in range(3):
        taken = await world.still()
    assert len(world.store.rows) <= MAX_PENDING
    assert sum(row.still.thinned for row in world.store.rows.values()) + len(world.store.rows) == 6 + 4 + 15


async def test_a_session_deleted_meanwhile_keeps_no_still(world: World) -> None:
    world.store.deleted.add(world.session_id)
    with pytest.raises(NotFound):
        await world.still()
    assert world.store.rows == {} and world.asked == []


async def test_of_a_session_that_is_not_there_nothing_is_stored(world: World) -> None:
    world.session_id = "nobody"
    for call in (world.still, world.reference):
        with pytest.raises(NotFound):
            await call()
    assert world.store.rows == {} and world.store.faces == {}


async def test_where_no_consent_was_asked_for_a_still_is_consent_before_it_is_stored(world: World) -> None:
    world.client.refusal = Unavailable("away")
    with pytest.raises(Unavailable):
        await world.still()
    assert world.store.rows == {} and world.asked == []
    world.client.refusal = None
    for _ in range(2):
        await world.still()
    assert world.events() == ["created", "consent_given"], "once"
    entry = world.store.journal[world.session_id][-1].content()
    assert entry["events"][0]["policy"] is None and entry["by"] == WHO.principal


# FaceActors


async def test_the_name_of_a_face_actor_says_which_of_how_many_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    async def ensure(actor_class: type, name: str, *_: Any, **__: Any) -> None:
        names.append(name)

    monkeypatch.setattr(cluster, "_ensure", ensure)
    for number, of in ((0, 1), (0, 2), (1, 2)):
        await cluster.ensure_face_actor(number, of, 0.5)
    assert names == ["FaceActor-0-of-1", "FaceActor-0-of-2", "FaceActor-1-of-2"], (
        "one of another number looks at others"
    )


async def test_while_the_face_actor_is_silent_nobody_waits_for_it_again_and_again(world: World) -> None:
    world.answers["look"] = cluster.ActorSilent("silent", retry_after=1)
    assert (await world.still()).glance is None
    assert (await world.still()).glance is None
    assert world.asked == ["look"], "the second one did not ask"
    assert len(world.store.rows) == 2
    world.pictures._away_until[0] -= AWAY_SECONDS
    world.answers["look"] = GLANCE
    assert (await world.still()).glance == GLANCE


async def test_a_reference_asks_although_the_face_actor_was_silent(world: World) -> None:
    world.answers["look"] = cluster.ActorSilent("silent", retry_after=1)
    await world.still()
    await world.reference()
    assert world.asked == ["look", "assess"], "nobody is told to forget either; it reads it again in a minute"


async def test_a_face_actor_that_is_gone_is_looked_for_anew(world: World) -> None:
    world.answers["look"] = cluster.ActorGone("gone", retry_after=1)
    for _ in range(2):
        assert (await world.still()).glance is None
    assert world.made == [0, 0]
    world.answers["look"] = GLANCE
    for _ in range(2):
        assert (await world.still()).glance == GLANCE
    assert world.made == [0, 0, 0]


@pytest.mark.parametrize("error", [cluster.ActorGone, cluster.ActorSilent, cluster.ActorAway])
async def test_without_a_face_actor_a_reference_is_503_and_nothing_is_stored(
    world: World, error: type[OrchestratorError]
) -> None:
    world.answers["assess"] = error("away", retry_after=1)
    with pytest.raises(OrchestratorError) as caught:
        await world.reference()
    assert caught.value.code == "unavailable" and world.store.faces == {}


async def test_where_there_are_no_face_actors_stills_wait(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    world = made(clock, monkeypatch, face_actors=0)
    await world.session()
    assert (await world.still()).glance is None and world.asked == world.made == []
    with pytest.raises(Unavailable):
        await world.reference()


async def test_each_session_has_its_face_actor(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    world = made(clock, monkeypatch, face_actors=3)
    for _ in range(12):
        session_id = await world.session()
        await world.still()
        assert shard_of(session_id, 3) in world.made
    assert sorted(world.made) == [0, 1, 2]


# The reference face


async def test_a_reference_is_stored_until_it_expires_and_the_journal_says_so(world: World) -> None:
    reply, quality = await world.reference()
    face = world.store.faces[world.session_id]
    assert (face.image, face.template, face.engine, face.engine_version) == (JPEG, b"template", "lbp-chi2", "1")
    assert face.expires_at - world.clock() == 7 * DAY_MS and face.at == world.clock()
    assert quality == QUALITY and world.asked == ["assess", "forget"]
    assert world.events() == ["created", "consent_given", "reference_captured"]
    proctoring: Any = reply.session["proctoring"]
    assert proctoring["reference_captured_at"] is not None
    await world.reference(OTHER)
    assert world.events()[-2:] == ["reference_captured", "reference_captured"], "consent is given once"


async def test_one_that_cannot_serve_says_what_to_change_and_is_not_stored(world: World) -> None:
    world.answers["assess"] = BLURRED
    with pytest.raises(InvalidInput) as caught:
        await world.reference()
    error = caught.value
    assert error.detail == f"Hold still. {HUMAN_ROUTE}"
    assert error.errors == [{"pointer": "/image", "detail": "Hold still."}]
    assert error.fields["quality"] == BLURRED.quality
    assert world.store.faces == {} and world.events() == ["created"]


async def test_a_reference_of_a_session_deleted_meanwhile_is_erased_again(world: World) -> None:
    async def delete() -> None:
        del world.client.states[world.session_id]

    world.client.before = delete
    with pytest.raises(NotFound):
        await world.reference()
    assert world.store.faces == {}


async def test_a_reference_of_unknown_outcome_stays_until_it_is_sent_again(world: World) -> None:
    world.client.refusal = Unavailable("away")
    with pytest.raises(Unavailable):
        await world.reference(key="k1")
    world.client.refusal = None
    await world.reference(key="k1")
    reply, _ = await world.reference(key="k1")
    assert reply.replayed and world.events().count("reference_captured") == 1
    assert world.session_id in world.store.faces


async def test_a_reference_that_no_journal_knows_of_does_not_stay_for_long(world: World) -> None:
    world.client.refusal = Unavailable("away")
    with pytest.raises(Unavailable):
        await world.reference(key="k1")
    assert world.face_expires_in() == UNCONFIRMED_MS and "reference_captured" not in world.events()
    world.client.refusal = None
    await world.reference(key="k1")
    assert world.face_expires_in() == 7 * DAY_MS


async def test_it_is_never_kept_for_longer_than_references_are(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    world = made(clock, monkeypatch, reference_days=UNCONFIRMED_MS / DAY_MS / 2)
    await world.session()
    seen: list[int] = []

    async def look() -> None:
        seen.append(world.face_expires_in())

    world.client.before = look
    await world.reference()
    assert [*seen, world.face_expires_in()] == [UNCONFIRMED_MS // 2] * 2


async def test_a_repeat_of_what_landed_has_the_reference_kept(world: World) -> None:
    world.client.before = lambda: _fail_next_save(world)
    with pytest.raises(Unavailable):
        await world.reference(key="k1")
    assert world.events()[-1] == "reference_captured" and world.face_expires_in() == UNCONFIRMED_MS
    reply, _ = await world.reference(key="k1")
    assert reply.replayed
    assert world.face_expires_in() == 7 * DAY_MS


async def _fail_next_save(world: World) -> None:
    world.store.failing["save_reference"] = [Unavailable("away")]


async def test_a_first_reference_after_the_start_may_be_sent_again_with_its_key(world: World) -> None:
    await world.do(c.Start())
    await world.reference(key="k1")
    reply, _ = await world.reference(key="k1")
    assert reply.replayed


async def test_a_candidate_cannot_replace_a_reference_once_started(world: World) -> None:
    await world.reference(JPEG)
    await world.do(c.Start())
    asked = len(world.asked)
    with pytest.raises(StateConflict) as caught:
        await world.reference(OTHER)
    assert caught.value.fields == {
        "current_status": "in_progress",
        "allowed_actions": [*ALLOWED["in_progress"]],
    }
    assert world.store.faces[world.session_id].image == JPEG and len(world.asked) == asked
    await world.pictures.reference(world.session_id, OTHER, c.Caller("staff", "staff"), None)
    assert world.store.faces[world.session_id].image == OTHER


async def test_one_that_begins_meanwhile_keeps_the_reference_from_before(world: World) -> None:
    await world.reference(JPEG)
    before = world.store.faces[world.session_id]
    world.client.before = lambda: world.do(c.Start())
    with pytest.raises(StateConflict):
        await world.reference(OTHER)
    assert world.store.faces[world.session_id] == before


# Consent withdrawn


async def test_withdrawing_erases_in_the_journal_and_in_the_storage(world: World) -> None:
    await world.reference()
    taken = await world.still()
    waiting = await world.still(OTHER)
    await world.store.finish_still(taken.id, "ok", "the first one")
    world.asked.clear()
    await world.pictures.withdraw(world.session_id, WHO)
    assert world.store.rows == {} and world.store.faces == {} and waiting.id != taken.id
    assert world.asked == ["forget"], "its FaceActor does not compare with that face any more"
    told = [event for entry in world.store.journal[world.session_id] for event in entry.content()["events"]]
    assert [event for event in told if event["type"] == "erased"] == [
        {"type": "erased", "what": "reference", "because": "consent withdrawn"},
        {"type": "erased", "what": "stills", "because": "consent withdrawn", "stills": [taken.id]},
    ]
    assert world.client.states[world.session_id].consent_at is None


async def test_withdrawing_that_failed_half_way_can_be_repeated(world: World) -> None:
    await world.reference()
    taken = await world.still()
    await world.store.finish_still(taken.id, "ok", "the first one")
    world.store.failing["erase_evidence"] = [Unavailable("away")]
    with pytest.raises(Unavailable):
        await world.pictures.withdraw(world.session_id, WHO)
    await world.pictures.withdraw(world.session_id, WHO)
    assert world.store.rows == {} and world.store.faces == {}
    assert world.client.states[world.session_id].consent_at is None


async def test_a_reference_that_the_session_refused_is_not_kept(world: World) -> None:
    world.client.before = lambda: world.do(c.End())
    with pytest.raises(StateConflict):
        await world.reference()
    assert world.store.faces == {}, "biometric data that the journal does not know of"


async def test_a_key_used_again_with_another_picture_does_not_replace_the_reference(world: World) -> None:
    await world.reference(JPEG, "k1")
    with pytest.raises(CommandIdReused):
        await world.reference(OTHER, "k1")
    sha = world.client.states[world.session_id].proctoring.reference_sha256
    assert world.store.faces[world.session_id].sha256 == sha


async def test_a_repeat_does_not_prolong_how_long_a_reference_is_kept(world: World) -> None:
    await world.reference(JPEG, "k1")
    expires_at = world.store.faces[world.session_id].expires_at
    world.clock.advance(3600)
    await world.reference(JPEG, "k1")
    assert world.store.faces[world.session_id].expires_at == expires_at


# Whether pictures may be taken


async def test_with_a_privacy_policy_nothing_is_taken_before_consent(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = made(clock, monkeypatch, privacy_policy="privacy-3")
    await world.session()
    for call in (world.still, world.reference):
        with pytest.raises(StateConflict) as caught:
            await call()
        assert caught.value.fields == {
            "current_status": "initialized",
            "allowed_actions": [*ALLOWED["initialized"]],
        }
    assert world.store.calls == [] and world.asked == []
    assert world.events() == ["created"]
    await world.do(c.Consent("privacy-3"))
    await world.still()
    await world.reference()
    assert world.events() == ["created", "consent_given", "reference_captured"]


@pytest.mark.parametrize("why", ["exempt", "completed"])
async def test_no_pictures_of_who_is_exempt_or_has_ended(world: World, why: str) -> None:
    if why == "exempt":
        await world.session(accommodations=replace(create_command().accommodations, camera_exempt=True))
    else:
        await world.do(c.End())
    for call in (world.still, world.reference):
        with pytest.raises(StateConflict) as caught:
            await call()
        status = "initialized" if why == "exempt" else "completed"
        assert caught.value.fields["allowed_actions"] == [*ALLOWED[status]]
    assert world.store.calls == [] and world.asked == []


async def test_calls_at_once_lose_no_still(world: World) -> None:
    taken = await asyncio.gather(*(world.still(key=f"k{n}") for n in range(int(BURST))))
    assert {one.id for one in taken} == set(world.store.rows)
    assert world.events() == ["created", "consent_given"]
