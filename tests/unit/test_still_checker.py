"""StillChecker on the virtual clock: who is looked at when, what is entered, what is kept. No picture is decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from actors import still_checker
from actors.still_checker import (
    BATCH_MS,
    IDLE_MS,
    LATE_MS,
    LEFTOVER_MS,
    MAX_ATTEMPTS,
    MAX_GIVEN,
    REFERENCE_MS,
    Glance,
    StillChecker,
)
from orchestrator.errors import (
    InvalidInput,
    NotAnImage,
    NotFound,
    OrchestratorError,
    OutcomeUnknown,
    Unavailable,
    UnusableTemplate,
)
from orchestrator.interview.commands import Caller, Command, NoteErased, NoteFrames, NoteReference, NoteSightings, Start
from orchestrator.interview.decide import created, decide
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.interview.evidence import MAX_KEPT
from orchestrator.interview.flags import Verdict
from orchestrator.interview.fold import fold
from orchestrator.interview.integrity import timeline
from orchestrator.interview.state import State
from orchestrator.storage.evidence import Still
from orchestrator.vision import FrameResult
from tests.unit.evidence_world import MemoryEvidence, a_reference, a_result, a_still
from tests.unit.virtual import VirtualLoop, run_virtual
from tests.unit.world import CANDIDATE, T0, create_command

OK, ABSENT, TWO = "ok", "face_absent", "multiple_faces"
DAY_MS = 24 * 3_600_000


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the virtual loop nothing may wait for the outside."""

    async def directly(work: Callable[..., Any], *args: Any) -> Any:
        return work(*args)

    monkeypatch.setattr(still_checker.asyncio, "to_thread", directly)


class Sessions:
    """Interviews by their rules. `failing`: what the next commands raise; one with `landed` has been entered."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.states: dict[str, State] = {}
        self.entries: dict[str, list[Entry]] = {}
        self.sent: list[tuple[str, Command]] = []
        self.failing: list[OrchestratorError] = []
        self.reads = 0

    def add(self, session_id: str, frame_seconds: float = 15.0) -> None:
        events = created(create_command(), None, {"policy": "standard-1", "frame_seconds": frame_seconds})
        self._append(session_id, new_entry(session_id, 1, 0, T0, events))
        self._do(session_id, Start(), CANDIDATE)

    async def read(self, session_id: str) -> State:
        self.reads += 1
        if session_id not in self.states:
            raise NotFound.session(session_id)
        return self.states[session_id]

    async def send(self, session_id: str, command: Command, caller: Caller) -> None:
        self.sent.append((session_id, command))
        error = self.failing.pop(0) if self.failing else None
        if error is None or error.fields.get("landed"):
            await self.read(session_id)
            self._do(session_id, command, caller)
        if error is not None:
            raise error

    def note(self, session_id: str, command: Command) -> None:
        """A command that somebody else sends; it does not fail, and is not in `sent`."""
        self._do(session_id, command, Caller("system", "system"))

    def _do(self, session_id: str, command: Command, caller: Caller) -> None:
        state = self.states[session_id]
        events = decide(state, command, caller, self.clock())
        if events:
            self._append(session_id, new_entry(session_id, state.next_seq, 0, self.clock(), events))

    def _append(self, session_id: str, entry: Entry) -> None:
        self.states[session_id] = fold(self.states.get(session_id), entry)
        self.entries.setdefault(session_id, []).append(entry)


class World:
    """A checker, its storage and the interviews. A still's bytes say what checking it comes to."""

    def __init__(self, clock: Callable[[], int], **options: Any) -> None:
        self.clock = clock
        self.store = MemoryEvidence()
        self.sessions = Sessions(clock)
        self.store.journals = self.sessions.entries
        self.checked: list[tuple[bytes, bytes | None]] = []
        self.seconds = 0.0
        self.unusable = b""
        self.options = options
        self.tasks: list[asyncio.Task[Any]] = []
        self.sessions.add("s1")
        self.start()

    def start(self) -> None:
        """A checker that knows nothing yet, in the place of the one before."""
        for task in self.tasks:
            task.cancel()
        cpu = asyncio.get_running_loop().time  # all the time that passes here is spent on checking
        self.checker = StillChecker(self.store, self.sessions, self.check, clock=self.clock, cpu=cpu, **self.options)
        self.tasks = [asyncio.get_running_loop().create_task(self.checker.work())]

    def check(self, image: bytes, template: bytes | None) -> FrameResult:
        self.checked.append((image, template))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.advance(self.seconds)
        match image:
            case b"damaged":
                raise InvalidInput.at("/image", "The image is damaged or not complete.")
            case b"text":
                raise NotAnImage("The image is not a JPEG, PNG or WebP file.")
            case b"huge":
                raise MemoryError
            case b"crash":
                raise ZeroDivisionError
            case _:
                pass
        if template is not None and template == self.unusable:
            raise UnusableTemplate("This is no template of this engine.")
        return a_result(Verdict(image.decode()), None if template is None else 0.1)

    async def give(self, id: str, shows: str = OK, at: int | None = None, **more: Any) -> Glance | None:
        """What a front end does: store it, then have it looked at."""
        still = a_still(id, self.clock() if at is None else at, image=shows.encode(), **more)
        await self.store.add_still(still)
        return await asyncio.wait_for(self.checker.look(still), 60)

    async def capture(self, **more: Any) -> None:
        """A reference face, in the storage and in the journal."""
        reference = a_reference(**more)
        await self.store.save_reference(reference)
        self.sessions.note("s1", NoteReference(reference.sha256, reference.engine, reference.engine_version))

    async def store_only(self, id: str, shows: str = OK, at: int | None = None, **more: Any) -> None:
        await self.store.add_still(a_still(id, self.clock() if at is None else at, image=shows.encode(), **more))

    async def series(self, *shows: str, every: float = 15.0, prefix: str = "p") -> list[Glance | None]:
        found = []
        for number, verdict in enumerate(shows):
            found.append(await self.give(f"{prefix}{number}", verdict))
            await asyncio.sleep(every)
        return found

    async def begin(self, session_id: str = "s1") -> None:
        """The session's first still, which is kept and so noted at once; `sent` is as if it had not been."""
        await self.give(f"first-{session_id}", session_id=session_id)
        await asyncio.sleep(0.01)
        whose, noted = self.sessions.sent.pop()
        assert whose == session_id and isinstance(noted, NoteFrames)
        assert [kept["because"] for kept in noted.kept] == ["the first one"]

    async def sweep(self) -> None:
        await self.checker.sweep()
        await asyncio.sleep(0.01)

    async def sweep_for(self, seconds: int) -> None:
        """As a FaceActor does, every 5 s."""
        for _ in range(seconds // 5):
            await asyncio.sleep(5)
            await self.sweep()

    @property
    def frames(self) -> list[NoteFrames]:
        return [command for _, command in self.sessions.sent if isinstance(command, NoteFrames)]

    def state(self, session_id: str = "s1") -> State:
        return self.sessions.states[session_id]

    def seen(self) -> list[tuple[str, int, int | None]]:
        """(kind, began, until) in s of the timeline, from the interview's journal."""
        line = timeline(self.sessions.entries["s1"], self.clock())
        return [(one.kind, one.at - T0, None if one.until is None else one.until - T0) for one in line.seen]

    def kept(self) -> dict[str, str | None]:
        return {id: row.kept for id, row in self.store.rows.items() if row.kept is not None}

    def noted_as_kept(self) -> dict[str, str]:
        return {kept["id"]: kept["because"] for frames in self.frames for kept in frames.kept}


def run(scenario: Callable[[World], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def with_world(clock: Callable[[], int]) -> None:
        await scenario(World(clock, **options))

    run_virtual(with_world)


def verdicts(glances: list[Glance | None]) -> list[str | None]:
    return [glance.verdict if glance else None for glance in glances]


# What a still shows


def test_whoever_waits_learns_what_the_still_shows() -> None:
    async def scenario(world: World) -> None:
        assert await world.give("p1", OK) == Glance("ok", 1, False)
        assert await world.give("p2", TWO, T0 + 1) == Glance("multiple_faces", 2, True)
        assert not world.checker._waiting and not list(world.store._pending())

    run(scenario)


def test_one_bad_still_is_no_event_and_two_of_three_are_one_from_the_first_on() -> None:
    async def scenario(world: World) -> None:
        glances = await world.series(OK, ABSENT, OK, OK, OK)
        assert verdicts(glances) == [OK, ABSENT, OK, OK, OK]
        assert [g.dense for g in glances if g] == [False, True, True, True, False]
        await world.give("q1", ABSENT)
        await asyncio.sleep(15)
        assert all(frames.sightings == () for frames in world.frames) and world.seen() == []
        await world.give("q2", ABSENT)
        assert [session_id for session_id, _ in world.sessions.sent] == ["s1"] * len(world.frames)
        [sighting] = world.frames[-1].sightings
        assert (sighting.kind, sighting.source, sighting.phase) == (ABSENT, "frames", "began")
        assert sighting.at == T0 + 75_000 and sighting.detail == {"still": "q2", "sha256": "sha-q2", "faces": 0}
        noted = [[(at - T0) // 1000 for at in frames.times] for frames in world.frames]
        assert noted == [[0], [15], [30], [45, 60, 75], [90]], "what was seen before goes with one that is kept"
        assert world.seen() == [(ABSENT, 75_000, None)]

    run(scenario)


def test_it_ends_with_the_first_still_without_it() -> None:
    async def scenario(world: World) -> None:
        await world.series(ABSENT, ABSENT, OK, OK)
        assert world.seen() == [(ABSENT, 0, 30_000)]
        assert [len(frames.sightings) for frames in world.frames] == [0, 1, 0, 1]

    run(scenario)


def test_the_event_says_how_far_the_face_was_and_by_which_engine() -> None:
    async def scenario(world: World) -> None:
        await world.capture()
        await world.series("face_mismatch", "face_mismatch")
        [sighting] = [sighting for frames in world.frames for sighting in frames.sightings]
        detail = sighting.detail
        assert detail["distance"] == 0.1 and detail["threshold"] == 0.26
        assert (detail["engine"], detail["engine_version"]) == ("lbp-chi2", "1")

    run(scenario)


# When it is entered


def test_stills_in_which_nothing_was_seen_are_noted_by_the_sweep_within_thirty_seconds() -> None:
    async def scenario(world: World) -> None:
        await world.begin()
        began = world.clock()
        for number in range(3):
            await world.give(f"p{number}")
            await asyncio.sleep(10)
            await world.sweep()
            assert world.frames == [] or number == 2
        [frames] = world.frames
        assert frames.times == (began, began + 10_010, began + 20_020)
        assert frames.sightings == frames.kept == () and world.clock() - began <= BATCH_MS + 100
        assert world.state().proctoring.stills_checked == 1 + 3
        await asyncio.sleep(100)
        await world.sweep()
        assert len(world.sessions.sent) == 1, "nothing is noted twice, and nothing is nothing"

    run(scenario)


def test_stills_that_were_looked_at_late_are_counted() -> None:
    async def scenario(world: World) -> None:
        await world.begin()
        await world.store_only("p1")
        await asyncio.sleep(LATE_MS / 1000 + 1)
        await world.store_only("p2", thinned=4)
        await world.sweep()
        await asyncio.sleep(BATCH_MS / 1000)
        await world.sweep()
        [frames] = world.frames
        assert (len(frames.times), frames.late, frames.dropped) == (2, 1, 4)

    run(scenario)


@pytest.mark.parametrize(("file", "error"), [("damaged", InvalidInput), ("text", NotAnImage), ("huge", InvalidInput)])
def test_what_cannot_be_read_is_counted_and_whoever_waits_is_told(file: str, error: type[Exception]) -> None:
    async def scenario(world: World) -> None:
        glance = await world.give("p1", file, thinned=2)
        assert glance is not None and type(glance.error) is error
        assert (glance.verdict, glance.faces) == ("unreadable", None)
        assert world.store.rows == {}
        await world.give("p2")
        assert world.kept() == {"p2": "the first one"}
        await asyncio.sleep(31)
        await world.sweep()
        [frames] = world.frames
        assert (len(frames.times), frames.unreadable, frames.dropped) == (1, 1, 2)

    run(scenario)


def test_a_still_that_has_taken_checkers_down_is_not_looked_at() -> None:
    async def scenario(world: World) -> None:
        await world.store_only("p1", "crash", attempts=MAX_ATTEMPTS)
        await world.store_only("p2", OK, at=T0 + 1)
        await world.sweep()
        assert world.checked == [(b"ok", None)]
        assert "p1" not in world.store.rows
        await asyncio.sleep(31)
        await world.sweep()
        assert (world.frames[0].unreadable, len(world.frames[0].times)) == (1, 1)

    run(scenario)


def test_a_check_that_fails_is_tried_again_and_then_called_unreadable() -> None:
    async def scenario(world: World) -> None:
        assert MAX_ATTEMPTS == 4
        await world.store_only("p1", "crash")
        await world.store_only("p2", OK, at=T0 + 1)
        for _ in range(MAX_ATTEMPTS + 1):
            await world.sweep()
            await asyncio.sleep(1)
        assert world.checked == [(b"crash", None)] * MAX_ATTEMPTS + [(b"ok", None)]

    run(scenario)


def test_what_was_dropped_meanwhile_is_not_kept() -> None:
    async def scenario(world: World) -> None:
        assert verdicts([await world.checker.look(a_still("p1"))]) == [OK]
        await asyncio.sleep(31)
        await world.sweep()
        assert world.kept() == world.noted_as_kept() == {}

    run(scenario)


# Evidence


def test_the_first_is_kept_and_those_around_what_was_seen_and_why() -> None:
    async def scenario(world: World) -> None:
        await world.series(OK, OK, OK, ABSENT, ABSENT, OK, OK, OK)
        expected = {
            "p0": "the first one",
            "p2": "the last one before",
            "p3": "it shows face_absent",
            "p4": "it shows face_absent",
            "p5": "the next one after something was seen",
        }
        assert world.kept() == expected
        assert set(world.store.rows) == {*expected, "p7"}, "the others are gone, but for the last one"
        assert world.noted_as_kept() == expected
        for row in world.store.rows.values():
            kept_for = None if row.expires_at is None else row.expires_at - T0
            assert kept_for is None if row.kept is None else 30 * DAY_MS <= (kept_for or 0) < 31 * DAY_MS
        await world.checker.sweep()
        line = timeline(world.sessions.entries["s1"], world.clock())
        assert [one["id"] for one in line.evidence] == ["p0", "p2", "p3", "p4", "p5"]

    run(scenario)


def test_the_last_one_goes_too_if_nothing_comes_after_it() -> None:
    async def scenario(world: World) -> None:
        await world.series(OK, OK)
        await asyncio.sleep(LEFTOVER_MS / 1000)
        await world.sweep()
        assert set(world.store.rows) == {"p0"}

    run(scenario)


def test_a_checker_that_starts_anew_keeps_no_second_first_one() -> None:
    async def scenario(world: World) -> None:
        await world.series(OK, OK)
        world.start()
        await world.series(OK, prefix="q")
        assert world.kept() == {"p0": "the first one"}

    run(scenario)


def test_too_much_evidence_is_thinned_and_the_journal_says_so() -> None:
    async def scenario(world: World) -> None:
        await world.series(*[TWO] * MAX_KEPT)
        assert len(world.kept()) == MAX_KEPT
        await world.series(TWO, prefix="q")
        left = [*(f"p{n}" for n in range(0, MAX_KEPT, 2)), "q0"]
        assert list(world.kept()) == left
        await asyncio.sleep(31)
        await world.sweep()
        assert world.frames[-1].thinned == tuple(f"p{n}" for n in range(1, MAX_KEPT, 2))
        line = timeline(world.sessions.entries["s1"], world.clock())
        assert [one["id"] for one in line.evidence if one["gone"] is None] == left
        assert {one["gone"] for one in line.evidence} == {None, "cap"}

    run(scenario)


# The reference face


def test_a_template_that_cannot_be_used_is_left_out() -> None:
    async def scenario(world: World) -> None:
        world.unusable = b"t1"
        await world.capture()
        assert await world.give("p1") == Glance("ok", 1, False)
        await world.give("p2", at=T0 + 1)
        assert world.checked == [(b"ok", b"t1"), (b"ok", None), (b"ok", None)]

    run(scenario)


def test_a_reference_captured_later_is_used_soon_and_at_once_if_told() -> None:
    async def scenario(world: World) -> None:
        await world.give("p1")
        await world.capture()
        await world.give("p2", at=T0 + 1)
        world.checker.forget("s1")
        world.checker.forget("nobody")
        await world.give("p3", at=T0 + 2)
        await world.capture(template=b"t2", sha256="sha2")
        await world.give("p4", at=T0 + 3)
        await asyncio.sleep(REFERENCE_MS / 1000 + 1)
        await world.give("p5")
        await world.store.erase_reference("s1")
        await asyncio.sleep(REFERENCE_MS / 1000 + 1)
        await world.give("p6")
        assert [template for _, template in world.checked] == [None, None, b"t1", b"t1", b"t2", None]

    run(scenario)


def test_a_reference_of_which_the_journal_does_not_tell_is_not_compared_with() -> None:
    async def scenario(world: World) -> None:
        await world.store.save_reference(a_reference())
        await world.give("p1")
        await world.capture()
        world.checker.forget("s1")
        await world.give("p2", at=T0 + 1)
        await world.store.save_reference(a_reference(template=b"t2", sha256="sha2"))  # of unknown outcome
        world.checker.forget("s1")
        await world.give("p3", at=T0 + 2)
        world.sessions.note("s1", NoteReference("sha2", "lbp", "1"))  # it had landed
        await asyncio.sleep(REFERENCE_MS / 1000 + 1)
        await world.give("p4")
        world.sessions.note("s1", NoteErased("reference", "consent withdrawn"))
        await asyncio.sleep(REFERENCE_MS / 1000 + 1)
        await world.give("p5")
        assert [template for _, template in world.checked] == [None, b"t1", None, b"t2", None]

    run(scenario)


# When something is away


def test_a_batch_of_unknown_outcome_is_sent_again_unchanged_and_first() -> None:
    async def scenario(world: World) -> None:
        for landed in (True, False):
            await world.series(OK, ABSENT, prefix=f"{landed}a")
            world.sessions.failing = [Unavailable("away", landed=landed) for _ in range(2)]
            before = len(world.sessions.sent)
            await world.series(ABSENT, OK, OK, OK, prefix=f"{landed}b")
            sent = [command for _, command in world.sessions.sent[before:]]
            assert isinstance(sent[0], NoteFrames) and [one.phase for one in sent[0].sightings] == ["began"]
            assert sent[0] == sent[1] == sent[2], "the same once more, until it is known"
            assert isinstance(sent[3], NoteFrames) and sent[3].times[0] > sent[2].times[-1]  # pyright: ignore[reportAttributeAccessIssue]
            await asyncio.sleep(31)
            await world.sweep()
        assert world.state().proctoring.stills_checked == 12
        assert [kind for kind, _, _ in world.seen()] == [ABSENT, ABSENT]
        assert world.state().proctoring.tally(ABSENT).count == 2
        ids = [one["id"] for one in timeline(world.sessions.entries["s1"], world.clock()).evidence]
        assert len(ids) == len(set(ids)) == len(world.kept())

    run(scenario)


def test_the_sweep_sends_what_is_left_once_the_session_answers_again() -> None:
    async def scenario(world: World) -> None:
        world.sessions.failing = [Unavailable("away") for _ in range(2)]
        await world.series(ABSENT, ABSENT)
        assert world.seen() == [] and world.sessions.failing == []
        await world.sweep()
        assert world.seen() == [(ABSENT, 0, None)]

    run(scenario)


def test_pictures_of_a_session_that_is_gone_are_erased() -> None:
    async def scenario(world: World) -> None:
        await world.store.save_reference(a_reference())
        await world.store.add_still(a_still("other", session_id="s2"))
        await world.series(OK, ABSENT)
        del world.sessions.states["s1"]
        await world.give("p9", ABSENT)
        assert set(world.store.rows) == {"other"} and world.store.faces == {}

    run(scenario)


def test_pictures_of_a_session_that_was_gone_before_anybody_looked_are_erased() -> None:
    async def scenario(world: World) -> None:
        await world.store.save_reference(a_reference())
        for id in ("p1", "p2"):
            await world.store_only(id)
        await world.store.add_still(a_still("other", session_id="s2"))
        del world.sessions.states["s1"]
        world.store.failing["erase_evidence"] = [Unavailable("away")]
        for _ in range(2):
            assert "p2" in world.store.rows
            await world.sweep()
        assert set(world.store.rows) == {"other"} and world.store.faces == {} and world.checked == []
        await world.sweep()
        assert "s1" not in world.checker._behind, "and that is all"

    run(scenario, mine=lambda session_id: session_id == "s1")


def test_stills_wait_in_the_storage_while_it_is_away_and_are_looked_at_later() -> None:
    async def scenario(world: World) -> None:
        await world.store_only("p1")
        world.store.failing["reference_of"] = [Unavailable("away")]
        await world.sweep()
        assert world.checked == []
        await asyncio.sleep(1)
        await world.sweep()
        assert len(world.checked) == 1

    run(scenario)


def test_what_was_seen_ends_in_silence_although_the_storage_failed_at_the_last_still() -> None:
    async def scenario(world: World) -> None:
        await world.series(ABSENT, ABSENT)
        world.store.failing["finish_still"] = [Unavailable("away")]
        await world.store_only("last", ABSENT)
        await world.sweep_for(200)
        assert world.seen() == [(ABSENT, 0, 30_000)]

    run(scenario)


@pytest.mark.parametrize("gone", ["finish_still", "session"])
def test_nobody_waits_for_ever_for_a_still_that_could_not_be_looked_at(gone: str) -> None:
    async def scenario(world: World) -> None:
        still = a_still("p1")
        await world.store.add_still(still)
        if gone == "session":  # deleted between the front end's read and this
            del world.sessions.states["s1"]
            world.store.rows.clear()
        else:
            world.store.failing[gone] = [Unavailable("away")]
        waiting = asyncio.create_task(world.checker.look(still))
        await world.sweep_for(30)
        held, done = len(world.checker._waiting), waiting.done()
        waiting.cancel()
        assert done and held == 0

    run(scenario)


def test_a_still_is_noted_as_kept_although_the_storage_failed_in_between() -> None:
    async def scenario(world: World) -> None:
        world.store.failing["finish_still"] = [Unavailable("away")]
        await world.store_only("p1")
        await world.sweep_for(45)
        assert world.noted_as_kept() == world.kept() == {"p1": "the first one"}

    run(scenario)


def test_a_still_whose_sighting_was_noted_before_it_was_kept_is_noted_as_kept_too() -> None:
    """The storage fails between the two, and the sweep notes what was seen meanwhile."""

    async def scenario(world: World) -> None:
        await world.series(OK, ABSENT)
        world.store.failing["finish_still"] = [Unavailable("away")]
        await world.store_only("last", ABSENT)
        await world.sweep_for(150)
        assert world.store.failing["finish_still"] == [] and "last" in world.kept()
        assert world.noted_as_kept() == world.kept()

    run(scenario)


@pytest.mark.parametrize("lost", ["finish_still", "keep_still", "drop_stills"])
def test_a_still_is_noted_as_kept_although_the_reply_was_lost(monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """The storage has done what it was told, so that the still is not among those that wait any more."""

    async def scenario(world: World) -> None:
        real = getattr(world.store, lost)
        await world.series(OK, OK)

        async def loses(*args: Any) -> None:
            monkeypatch.setattr(world.store, lost, real)
            await real(*args)
            raise OutcomeUnknown("the reply was lost")

        monkeypatch.setattr(world.store, lost, loses)
        await world.store_only("q0", OK if lost == "drop_stills" else ABSENT)
        await world.sweep_for(15)
        assert getattr(world.store, lost) == real
        await world.series(ABSENT, OK, OK, prefix="r")
        await world.sweep_for(45)
        before = "q0" if lost == "drop_stills" else "p1"
        assert world.kept().keys() >= {"p0", before, "r0", "r1"}
        assert world.noted_as_kept() == world.kept()
        noted = [kept["id"] for frames in world.frames for kept in frames.kept]
        assert len(noted) == len(set(noted)), "each of them once"
        assert world.state().proctoring.stills_checked == 6
        assert [shows for shows, _ in world.checked] == [shows.encode() for shows in shown(lost)], "and looked at once"

    def shown(lost: str) -> list[str]:
        return [OK, OK, OK if lost == "drop_stills" else ABSENT, ABSENT, OK, OK]

    run(scenario)


# Whose turn it is


def test_with_too_many_that_wait_the_next_waits_in_the_storage_and_is_looked_at_from_there() -> None:
    async def scenario(world: World) -> None:
        world.tasks.pop().cancel()
        for number in range(MAX_GIVEN + 1):
            world.sessions.add(f"a{number}")
        calls = [asyncio.create_task(world.give(f"p{n}", session_id=f"a{n}")) for n in range(MAX_GIVEN)]
        await asyncio.sleep(0.001)
        assert len(world.checker._waiting) == MAX_GIVEN
        began = world.clock()
        assert await world.give("late", session_id=f"a{MAX_GIVEN}", at=T0 + 1) is None
        assert world.clock() == began, "it is told at once"
        world.tasks.append(asyncio.create_task(world.checker.work()))
        assert verdicts(await asyncio.gather(*calls)) == [OK] * MAX_GIVEN
        await asyncio.sleep(5)
        assert not world.store.rows["late"].pending, "no sweep was needed"
        assert (await world.give("later", session_id=f"a{MAX_GIVEN}")) is not None

    run(scenario)


def test_sessions_take_turns() -> None:
    async def scenario(world: World) -> None:
        world.seconds = 0.1
        world.sessions.add("s2")
        for n in range(4):
            await world.store_only(f"p{n}", OK, T0 + n)
        await world.store_only("q0", ABSENT, T0 + 2, session_id="s2")
        await world.store_only("q1", ABSENT, T0 + 3, session_id="s2")
        await world.sweep()
        await asyncio.sleep(5)
        looked_at = [image for image, _ in world.checked]
        assert looked_at[:4] in ([b"ok", b"face_absent"] * 2, [b"face_absent", b"ok"] * 2)
        assert looked_at[4:] == [b"ok"] * 2

    run(scenario)


def test_out_of_the_storage_whoever_has_waited_longest_has_the_first_turn() -> None:
    async def scenario(world: World) -> None:
        waiting = [f"a{n}" for n in range(20)]
        for n, session_id in enumerate(waiting):
            world.sessions.add(session_id)
            await world.store_only(f"p{n}", OK, T0 + n, session_id=session_id)
        await world.sweep()
        await asyncio.sleep(5)
        assert list(world.checker._watches) == waiting, "each was looked at once"

    run(scenario)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 20_000), (0.25, 40_000), (1.0, 10_000), (4.0, 10_000)])
def test_it_idles_for_what_is_not_its_share(share: float, expected: int) -> None:
    async def scenario(world: World) -> None:
        world.seconds = 1.0
        for n in range(10):
            await world.store_only(f"p{n}", OK, T0 + n)
        began = world.clock()
        await world.checker.sweep()
        while list(world.store._pending()) or world.checker._turns:
            await asyncio.sleep(0.01)
        assert expected - 1_100 / share <= world.clock() - began <= expected + 1_200

    run(scenario, share=share)


def test_stills_that_are_anothers_are_left_alone() -> None:
    async def scenario(world: World) -> None:
        await world.store_only("p1")
        await world.store_only("p2", session_id="s2")
        await world.sweep()
        assert world.checked == [] and world.sessions.reads == 0

    run(scenario, mine=lambda session_id: False)


def test_stills_out_of_the_storage_come_oldest_first() -> None:
    async def scenario(world: World) -> None:
        for id, at, shows in (("p2", 2, ABSENT), ("p1", 1, ABSENT), ("p3", 3, OK)):
            await world.store_only(id, shows, T0 + at)
        await asyncio.sleep(1)
        await world.sweep()
        assert world.seen() == [(ABSENT, 1, None)]

    run(scenario)


# Silence, restarts


def test_silence_ends_what_was_seen_with_the_last_still() -> None:
    async def scenario(world: World) -> None:
        await world.series(ABSENT, ABSENT)
        await asyncio.sleep(31)
        await world.sweep()
        assert world.seen() == [(ABSENT, 0, None)]
        await asyncio.sleep(31)
        await world.sweep()
        assert world.seen() == [(ABSENT, 0, 15_000)]
        assert isinstance(world.sessions.sent[-1][1], NoteSightings)
        assert world.state().proctoring.stills_checked == 2

    run(scenario)


def test_a_checker_that_starts_anew_ends_what_another_saw_begin() -> None:
    async def scenario(world: World) -> None:
        await world.series(ABSENT, ABSENT)
        world.start()
        glances = await world.series(OK, OK, prefix="q")
        assert world.seen() == [(ABSENT, 0, 30_000)]
        assert all(glance is not None and glance.dense for glance in glances[:1])

    run(scenario)


def test_a_checker_that_starts_anew_knows_when_the_last_still_was_taken() -> None:
    async def scenario(world: World) -> None:
        await world.series(ABSENT, ABSENT)
        assert world.state().proctoring.last_still_at == T0 + 15_000
        world.start()
        await world.give("q1", "damaged")  # it shows nothing, so that nothing is known but what the state tells
        await asyncio.sleep(62)
        await world.sweep()
        assert world.seen() == [(ABSENT, 0, 15_000)]

    run(scenario)


def test_a_checker_that_starts_anew_does_not_begin_what_goes_on() -> None:
    async def scenario(world: World) -> None:
        await world.series(ABSENT, ABSENT)
        world.start()
        await world.series(ABSENT, ABSENT, OK, OK, prefix="q")
        assert world.seen() == [(ABSENT, 0, 60_000)]

    run(scenario)


def test_what_was_kept_is_noted_although_its_checker_died_before_it_could() -> None:
    async def scenario(world: World) -> None:
        await world.series(OK, OK)
        await asyncio.sleep(31)
        await world.sweep()  # p1 is no evidence yet, and its time is noted
        world.sessions.failing = [Unavailable("away") for _ in range(20)]
        await world.series(ABSENT, ABSENT, OK, prefix="q")
        world.start()
        world.sessions.failing = []
        await world.series(OK, OK, prefix="r")
        await asyncio.sleep(31)
        await world.sweep()
        assert [(kind, round(at, -2), round(until or 0, -2)) for kind, at, until in world.seen()] == [
            (ABSENT, 61_000, 91_000)
        ]
        evidence = [one["id"] for one in timeline(world.sessions.entries["s1"], world.clock()).evidence]
        assert evidence == list(world.kept()) == ["p0", "p1", "q0", "q1", "q2"]
        assert world.state().proctoring.stills_checked == 7

    run(scenario)


def test_the_one_before_is_kept_although_the_storage_failed_at_it() -> None:
    async def scenario(world: World) -> None:
        await world.series(OK, OK)
        world.store.failing["keep_still"] = [Unavailable("away")]
        await world.store_only("q0", ABSENT)
        await world.sweep_for(45)
        kept = {"p0": "the first one", "p1": "the last one before", "q0": "it shows face_absent"}
        assert world.noted_as_kept() == world.kept() == kept

    run(scenario)


def test_who_is_idle_is_forgotten_and_known_again() -> None:
    async def scenario(world: World) -> None:
        await world.series(OK)
        reads = world.sessions.reads
        await asyncio.sleep(IDLE_MS / 1000 + 1)
        await world.sweep()
        assert world.checker._watches == {}
        await world.give("p9")
        assert world.sessions.reads > reads and world.kept() == {"p0": "the first one"}

    run(scenario)


def test_the_oldest_of_too_many_sessions_is_noted_before_it_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(still_checker, "MAX_WATCHES", 2)

    async def scenario(world: World) -> None:
        for n in (2, 3):
            world.sessions.add(f"s{n}")
        for n in (1, 2):
            await world.begin(f"s{n}")
            await world.give(f"p{n}", session_id=f"s{n}")
        await asyncio.sleep(1)
        assert world.sessions.sent == [] and world.state().proctoring.stills_checked == 1
        await world.begin("s3")
        [(session_id, noted)] = world.sessions.sent
        assert session_id == "s1" and isinstance(noted, NoteFrames) and len(noted.times) == 1
        assert world.state().proctoring.stills_checked == 2
        assert list(world.checker._watches) == ["s2", "s3"]

    run(scenario)


def test_stills_that_are_looked_at_late_are_no_silence() -> None:
    async def scenario(world: World) -> None:
        for n in range(6):
            await world.store_only(f"p{n}", ABSENT, T0 + n * 15_000)
        await asyncio.sleep(150)
        world.seconds = 3.0
        for _ in range(10):
            await world.checker.sweep()
            await asyncio.sleep(3)
        assert len(world.checked) == 6
        assert [(kind, began) for kind, began, _ in world.seen()] == [(ABSENT, 0)]

    run(scenario)


def test_an_absence_is_seen_however_seldom_stills_are_sent() -> None:
    async def scenario(world: World) -> None:
        del world.sessions.states["s1"], world.sessions.entries["s1"]
        world.sessions.add("s1", frame_seconds=90.0)
        await world.series(*[ABSENT] * 5, every=90.0)
        assert [(kind, began) for kind, began, _ in world.seen()] == [(ABSENT, 0)]

    run(scenario)


def test_an_older_still_that_waited_in_the_storage_is_not_lost() -> None:
    """The checker was away; it is given a new still before its sweep has found the older one."""

    async def scenario(world: World) -> None:
        await world.store_only("older", TWO, T0)
        await asyncio.sleep(15)
        await world.give("newer")
        await asyncio.sleep(31)
        await world.checker.sweep()
        await asyncio.sleep(31)
        await world.sweep()
        assert world.kept().keys() == {"older", "newer"}
        assert world.state().proctoring.stills_checked == 2
        line = timeline(world.sessions.entries["s1"], world.clock())
        assert {one["id"] for one in line.evidence} == {"older", "newer"}

    run(scenario)


def test_the_one_before_is_kept_however_seldom_stills_are_sent() -> None:
    async def scenario(world: World) -> None:
        for n, shows in enumerate((OK, OK, ABSENT)):
            await world.give(f"p{n}", shows)
            for _ in range(60):
                await asyncio.sleep(5)
                await world.checker.sweep()
        assert world.kept().get("p1") == "the last one before"

    run(scenario)


def test_a_session_whose_command_is_refused_is_erased_only_if_it_is_gone() -> None:
    async def scenario(world: World) -> None:
        await world.begin()
        assert "erase_evidence" not in world.store.calls and world.kept() == {"first-s1": "the first one"}
        world.sessions.failing = [NotFound.session("s1")]
        await world.series(ABSENT)
        assert "erase_evidence" in world.store.calls and world.store.rows == {}
        assert "s1" not in world.checker._watches

    run(scenario)


def test_an_erased_reference_is_no_business_of_the_batch() -> None:
    async def scenario(world: World) -> None:
        await world.sessions.send("s1", NoteErased("reference", "retention"), Caller("system", "system"))
        assert await world.give("p1") == Glance("ok", 1, False)

    run(scenario)


def test_a_still_is_the_same_after_a_round_through_the_storage() -> None:
    async def scenario(world: World) -> None:
        still: Still = a_still("p1", thinned=3)
        await world.store.add_still(still)
        assert await world.store.next_pending("s1") == replace(still, attempts=1)

    run(scenario)
