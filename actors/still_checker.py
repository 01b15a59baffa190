"""StillChecker: looks at the stills of many sessions, without Ray; a FaceActor has one.

    given by a front end that waits ──┐
                                      ├──> one still after another, each session in turn ──> its verdict
    stored, session by session, ──────┘            │
    oldest first, after a sweep                    └──> a Batch for each session ──NoteFrames──> the session

It holds one `Watch` for each session whose stills come here. Which stills are kept is a rule (`interview/evidence.py`),
and so is what counts as seen (`interview/flags.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from actors.clock import wall_ms
from orchestrator.errors import InvalidInput, NotAnImage, NotFound, OrchestratorError, Retryable, UnusableTemplate
from orchestrator.interview.commands import SYSTEM, Caller, Command, NoteFrames, NoteSightings
from orchestrator.interview.evidence import BEFORE, UNREADABLE, noted_as_kept, reason_to_keep, thinned
from orchestrator.interview.flags import Change, Flagger, Verdict, silence_ms
from orchestrator.interview.sightings import Sighting
from orchestrator.interview.state import State
from orchestrator.storage.evidence import Kept, Still

if TYPE_CHECKING:
    from orchestrator.vision import FrameResult

log = logging.getLogger(__name__)

MAX_GIVEN = 6
"""Stills that are held in memory for front ends that wait; with more, they wait in the storage, and nobody for them."""
MAX_WATCHES = 2_000
BATCH_MS = 30_000
"""Stills in which nothing was seen are noted this late at most."""
LATE_MS = 30_000
IDLE_MS = 600_000
REFERENCE_MS = 60_000
"""A reference face that was captured anew or erased is known here after this."""
LEFTOVER_MS = 660_000
"""Longer than two stills may be apart: the one before is still wanted when something is seen."""
MAX_ATTEMPTS = 4
"""A still that has taken down the checker that it was given to, and this many after it, is called unreadable."""
DAY_MS = 24 * 3_600_000

Check = Callable[[bytes, "bytes | None"], "FrameResult"]


@dataclass(frozen=True, slots=True)
class Glance:
    """What one still shows. `dense`: the next one is wanted sooner. `error`: it could not be read."""

    verdict: str
    faces: int | None
    dense: bool
    error: OrchestratorError | None = None


class Sessions(Protocol):
    """The part of InterviewClient that is needed here."""

    async def read(self, session_id: str) -> State: ...

    async def send(self, session_id: str, command: Command, caller: Caller) -> Any: ...


@dataclass(slots=True)
class Batch:
    """What is to be noted with the next command."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    since: int | None = None
    times: list[int] = field(default_factory=list)
    late: int = 0
    dropped: int = 0
    unreadable: int = 0
    sightings: list[Sighting] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    thinned: list[str] = field(default_factory=list)

    def command(self) -> NoteFrames | NoteSightings:
        """Silence ends what was seen without a still to say so."""
        if self.since is None:
            return NoteSightings(tuple(self.sightings))
        return NoteFrames(
            self.id,
            tuple(self.times),
            tuple(self.sightings),
            self.late,
            self.dropped,
            self.unreadable,
            tuple(sorted(self.kept, key=lambda kept: kept["at"])),
            tuple(self.thinned),
        )


@dataclass(frozen=True, slots=True)
class Checked:
    """A still that was looked at, without its image, and what it came to."""

    id: str
    at: int
    sha256: str
    verdict: str
    because: str | None


@dataclass(slots=True)
class Watch:
    """One session whose stills come here. `before`: the last still, if it was not kept. `entered`: the last still.
    `unfinished`: the last still, while nobody knows whether the storage has what it came to."""

    flagger: Flagger
    kept: list[str]
    template: bytes | None = None
    reference_at: int | None = None
    used_at: int = 0
    before: Checked | None = None
    trouble: bool = False
    entered: str = ""
    unfinished: Checked | None = None
    batch: Batch = field(default_factory=Batch)
    unsent: NoteFrames | NoteSightings | None = None


class StillChecker:
    """`check` looks at one picture, in a thread. `share`: of one core, that checking may use. `cpu`: the processor time
    that this process has used, in s."""

    def __init__(
        self,
        store: Any,
        sessions: Sessions,
        check: Check,
        *,
        share: float = 1.0,
        evidence_days: float = 30.0,
        mine: Callable[[str], bool] = lambda session_id: True,
        clock: Callable[[], int] = wall_ms,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._check = check
        self._share = min(1.0, share)
        self._keep_ms = round(evidence_days * DAY_MS)
        self._mine = mine
        self._clock = clock
        self._cpu = cpu
        self._watches: OrderedDict[str, Watch] = OrderedDict()
        self._given: dict[str, deque[Still]] = {}
        self._waiting: dict[str, tuple[str, asyncio.Future[Glance]]] = {}
        self._turns: OrderedDict[str, None] = OrderedDict()
        self._behind: dict[str, None] = {}
        self._more = asyncio.Event()

    async def look(self, still: Still) -> Glance | None:
        """Look at a still that has just been stored; None if it has to wait its turn in the storage."""
        session_id = still.session_id
        if len(self._waiting) >= MAX_GIVEN or session_id in self._behind:
            self._behind.setdefault(session_id)
            self._turn(session_id)
            return None
        future: asyncio.Future[Glance] = asyncio.get_running_loop().create_future()
        self._waiting[still.id] = (session_id, future)
        self._given.setdefault(session_id, deque()).append(still)
        self._turn(session_id)
        try:
            return await future
        finally:
            self._waiting.pop(still.id, None)

    def forget(self, session_id: str) -> None:
        """The session's reference face is another one now."""
        if session_id in self._watches:
            self._watches[session_id].reference_at = None

    async def work(self) -> None:
        """Look at one still after another, for ever; each session in turn."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._turns:
                self._more.clear()
                await self._more.wait()
            session_id, _ = self._turns.popitem(last=False)
            began, used = loop.time(), self._cpu()
            try:
                again = await self._one(session_id)
            except NotFound:
                self._put_off(session_id)
                with contextlib.suppress(OrchestratorError):
                    await self._store.erase_evidence(session_id)
                continue
            except OrchestratorError as error:
                log.info("a still is looked at later", extra={"session_id": session_id, "reason": error.code})
                self._put_off(session_id)
                await asyncio.sleep(0.5)
                continue
            except Exception:
                log.exception("a still could not be looked at", extra={"session_id": session_id})
                self._put_off(session_id)
                await asyncio.sleep(0.5)
                continue
            if again:
                self._turn(session_id)
            used = self._cpu() - used
            await asyncio.sleep(max(0.0, used / self._share - (loop.time() - began)))

    async def sweep(self) -> None:
        """Find what waits in the storage, note what is due, forget who is idle."""
        for session_id in await self._store.pending_sessions(MAX_WATCHES):
            if self._mine(session_id) and session_id not in self._given:
                self._behind.setdefault(session_id)
        for session_id in self._behind:
            self._turn(session_id)
        for session_id, watch in list(self._watches.items()):
            try:
                await self._look_after(session_id, watch)
            except OrchestratorError as error:
                log.info("a session is looked after later", extra={"session_id": session_id, "reason": error.code})
        await self._store.drop_leftovers(self._clock() - LEFTOVER_MS)

    async def _look_after(self, session_id: str, watch: Watch) -> None:
        """Note what is due of one session, and forget it once it is idle."""
        now = self._clock()
        if session_id not in self._behind and session_id not in self._given:
            watch.batch.sightings += [_sighting(change, {}) for change in watch.flagger.silent(now)]
        due = watch.batch.since is not None and now - watch.batch.since >= BATCH_MS
        if due or watch.unsent is not None or watch.batch.sightings:
            await self._note(session_id, watch)
        if now - watch.used_at > IDLE_MS and watch.unsent is None and watch.unfinished is None:
            self._watches.pop(session_id, None)

    def _turn(self, session_id: str) -> None:
        self._turns.setdefault(session_id, None)
        self._more.set()

    def _put_off(self, session_id: str) -> None:
        """Nobody waits for this session's stills any more; they come in their order from the storage, after a sweep."""
        self._given.pop(session_id, None)
        for whose, waiting in self._waiting.values():
            if whose == session_id and not waiting.done():
                waiting.set_exception(Retryable("The still is looked at later.", retry_after=1))
        self._behind.setdefault(session_id)

    async def _one(self, session_id: str) -> bool:
        """Look at the session's next still, or finish the one before it. Whether there may be another one."""
        known = self._watches.get(session_id)
        if known is not None and known.unfinished is not None:
            await self._finish(known, known.unfinished)
            await self._note_seen(session_id, known)
            return True
        given = self._given.get(session_id)
        if session_id in self._behind:
            still = await self._store.next_pending(session_id)
            if still is None:
                self._put_off(session_id)
                self._behind.pop(session_id, None)
                return False
        elif given:
            still = given.popleft()
        else:
            self._given.pop(session_id, None)
            return False
        watch = await self._watch(session_id)
        glance = await self._glance(watch, still)
        _, waiting = self._waiting.get(still.id, ("", None))
        if waiting is not None and not waiting.done():
            waiting.set_result(glance)
        await self._note_seen(session_id, watch)
        return True

    async def _watch(self, session_id: str) -> Watch:
        now, state = self._clock(), None
        watch = self._watches.get(session_id)
        if watch is None:
            state = await self._sessions.read(session_id)
            p = state.proctoring
            already = [Verdict(o.kind) for o in (*p.open, *p.open_at_end) if o.source == "frames"]
            kept = await self._store.kept_of(session_id)
            flagger = Flagger(silence_ms=silence_ms(p.frame_seconds), already=already, last_ms=p.last_still_at or None)
            noted = noted_as_kept(await self._store.entries(session_id, 0, 0)) if kept else set()
            watch = self._watches[session_id] = Watch(flagger, [still.id for still in kept])
            for still in kept:
                if still.id not in noted:
                    self._enter_again(watch, still, timed=still.at <= p.last_still_at)
            if len(self._watches) > MAX_WATCHES:
                await self._forget_oldest()
        if watch.reference_at is None or now - watch.reference_at > REFERENCE_MS:
            state = state or await self._sessions.read(session_id)
            reference = await self._store.reference_of(session_id)
            told = reference is not None and reference.sha256 == state.proctoring.reference_sha256
            watch.template = reference.template if reference is not None and told else None
            watch.reference_at = now
        watch.used_at = now
        self._watches[session_id] = watch  # it may have been forgotten while the storage was asked
        self._watches.move_to_end(session_id)
        return watch

    async def _forget_oldest(self) -> None:
        session_id, watch = next(iter(self._watches.items()))
        await self._note(session_id, watch)
        if watch.unsent is None:
            self._watches.pop(session_id, None)

    async def _glance(self, watch: Watch, still: Still) -> Glance:
        """Look at one still, and enter what it shows into the batch; once, though the storage may fail in between."""
        error: OrchestratorError | None = None
        result: FrameResult | None = None
        if still.attempts <= MAX_ATTEMPTS:
            try:
                result = await self._checked(watch, still)
            except (InvalidInput, NotAnImage) as unreadable:
                error = unreadable
            except MemoryError:
                error = InvalidInput.at("/image", "The image takes too much memory to be looked at.")
        verdict = result.verdict.value if result is not None else UNREADABLE
        first = not watch.kept and watch.before is None
        because = reason_to_keep(verdict, first=first, after_trouble=watch.trouble)
        if watch.entered != still.id:
            watch.entered = still.id
            self._enter(watch, still, result)
        watch.unfinished = Checked(still.id, still.at, still.sha256, verdict, because)
        await self._finish(watch, watch.unfinished)
        faces = len(result.faces) if result is not None else None
        return Glance(verdict, faces, watch.flagger.dense, error)

    async def _finish(self, watch: Watch, checked: Checked) -> None:
        """Have the storage write down what a still came to, and keep it if it is to be kept. If the storage fails in
        between, the session's next turn does it again: this still is perhaps not among those that wait any more."""
        until = self._clock() + self._keep_ms
        found = await self._store.finish_still(checked.id, checked.verdict, checked.because, until)
        if checked.verdict == UNREADABLE:
            await self._store.drop_stills([checked.id])
        elif found:
            await self._keep(watch, checked)
        watch.unfinished = None

    def _enter(self, watch: Watch, still: Still, result: FrameResult | None) -> None:
        batch, now = watch.batch, self._clock()
        batch.since = now if batch.since is None else batch.since
        batch.dropped += still.thinned
        if result is None:
            batch.unreadable += 1
            return
        batch.times.append(still.at)
        batch.late += now - still.received_at > LATE_MS
        detail = _detail(still, result)
        batch.sightings += [_sighting(change, detail) for change in watch.flagger.add(still.at, result.verdict)]

    def _enter_again(self, watch: Watch, still: Kept, *, timed: bool) -> None:
        """Enter a still that another process has kept, and died before the journal had it; `timed`: its time is there.

        If that process's last command is still on its way, the journal has it twice.
        """
        verdict = Verdict(still.verdict or Verdict.OK)
        self._note_kept(watch, Checked(still.id, still.at, still.sha256, verdict, still.because))
        if not timed:
            watch.batch.times.append(still.at)
        detail = {"still": still.id, "sha256": still.sha256}
        watch.batch.sightings += [_sighting(change, detail) for change in watch.flagger.add(still.at, verdict)]
        watch.trouble = verdict is not Verdict.OK

    async def _checked(self, watch: Watch, still: Still) -> FrameResult:
        try:
            return await asyncio.to_thread(self._check, still.image, watch.template)
        except UnusableTemplate as error:
            log.warning("reference unusable", extra={"session_id": still.session_id, "reason": error.detail})
            watch.template = None
            return await asyncio.to_thread(self._check, still.image, None)

    async def _keep(self, watch: Watch, checked: Checked) -> None:
        """Note this one if it is kept. The one before is kept too if something is seen now, else it goes. Can be
        repeated if the storage fails."""
        watch.trouble = checked.verdict != Verdict.OK
        if checked.because is not None and checked.id not in watch.kept:
            watch.kept.append(checked.id)
            self._note_kept(watch, checked)
        if (before := watch.before) is not None:
            if not watch.trouble:
                await self._store.drop_stills([before.id])
            elif await self._store.keep_still(before.id, BEFORE, self._clock() + self._keep_ms):
                watch.kept.insert(-1, before.id)
                self._note_kept(watch, replace(before, because=BEFORE))
            watch.before = None
        if going := thinned(watch.kept):
            await self._store.drop_stills(going)
            watch.kept = [kept for kept in watch.kept if kept not in set(going)]
            watch.batch.thinned += going
        if checked.because is None:
            watch.before = checked

    def _note_kept(self, watch: Watch, checked: Checked) -> None:
        if watch.batch.since is None:  # the one that it came with was noted meanwhile
            watch.batch.since = self._clock()
        watch.batch.kept.append(asdict(checked))

    async def _note_seen(self, session_id: str, watch: Watch) -> None:
        """Note at once what somebody waits for."""
        if watch.batch.sightings or watch.batch.kept:
            await self._note(session_id, watch)

    async def _note(self, session_id: str, watch: Watch) -> None:
        """Enter the batch into the session's journal. One of unknown outcome is sent again unchanged, first of all."""
        for _ in range(2):
            if watch.unsent is None:
                if watch.batch.since is None and not watch.batch.sightings:
                    return
                watch.unsent, watch.batch = watch.batch.command(), Batch()
            try:
                await self._sessions.send(session_id, watch.unsent, SYSTEM)
            except NotFound:
                self._watches.pop(session_id, None)
                await self._store.erase_evidence(session_id)
                return
            except Retryable as error:
                log.info("stills are noted later", extra={"session_id": session_id, "reason": error.code})
                return
            watch.unsent = None


def _detail(still: Still, result: FrameResult) -> dict[str, Any]:
    """What an event says of the still by which it began or ended."""
    detail: dict[str, Any] = {"still": still.id, "sha256": still.sha256, "faces": len(result.faces)}
    if result.engine is not None:
        detail |= {"engine": result.engine, "engine_version": result.engine_version, "threshold": result.threshold}
    if result.distance is not None:
        detail["distance"] = round(result.distance, 4)
    return detail


def _sighting(change: Change, detail: dict[str, Any]) -> Sighting:
    return Sighting(change.kind.value, "frames", change.at_ms, change.edge, detail=detail)
