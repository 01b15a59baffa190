"""SessionPictures: stills and reference faces as a front end takes them.

    a still      stored first, so that it is not lost; then a FaceActor may say at once what it shows
    a reference  a FaceActor looks at it first, since the candidate has to know what to change; then it is stored

No picture is decoded here. While no FaceActor answers, stills wait, and a reference face cannot be captured. Of too
many that wait for one session every second one is dropped, and the next one carries how many that were.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import zlib
from dataclasses import dataclass, replace
from typing import Any, Protocol

from actors import cluster
from actors.buckets import Buckets
from actors.clock import wall_ms
from actors.faces import Assessed
from actors.still_checker import DAY_MS, Glance
from orchestrator.errors import (
    CommandIdReused,
    InvalidInput,
    NotAnImage,
    NotFound,
    OrchestratorError,
    Retryable,
    TooLarge,
    Unavailable,
)
from orchestrator.interview.commands import (
    Caller,
    Command,
    Consent,
    NoteErased,
    NoteReference,
    check_same_body,
    command_hash,
    command_key,
)
from orchestrator.interview.evidence import DENSER, next_seconds, skipped
from orchestrator.interview.proctoring import check_pictures, check_replacement
from orchestrator.interview.sightings import WITHDRAWN
from orchestrator.interview.state import State
from orchestrator.media import MAX_BYTES, MediaType, media_type
from orchestrator.session import Reply
from orchestrator.settings import Settings
from orchestrator.storage.evidence import Reference, Still

LOOK_SECONDS = 1.2
"""How long the sender of a still waits to learn what it shows."""
ASSESS_SECONDS = 10.0
AWAY_SECONDS = 5.0
"""After a FaceActor did not answer, nobody waits for it for so long."""
BURST = 6.0
STILLS_A_SECOND = 0.5
STILLS_AN_INTERVAL = DENSER + 1
"""A page that does as it is told sends no more than DENSER."""
OLD_MS = 60_000
"""A still may have been taken this long before it arrives; an older time is taken for a wrong clock."""
PENDING_DAYS = 1.0
UNCONFIRMED_MS = 600_000
HUMAN_ROUTE = "If it keeps failing, tell the people who invited you; the interview can go on without it."


class Sessions(Protocol):
    """The part of InterviewClient that is needed here."""

    store: Any

    async def read(self, session_id: str) -> State: ...

    async def send(self, session_id: str, command: Command, caller: Caller, command_id: str | None = None) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """A still that was taken in. `glance`: None if nobody has looked at it yet. `next_seconds`: until the next one."""

    id: str
    at: int
    sha256: str
    glance: Glance | None
    next_seconds: float
    replayed: bool = False


def shard_of(session_id: str, of: int) -> int:
    """Which of so many FaceActors looks at this session's pictures."""
    return zlib.crc32(session_id.encode()) % of


class SessionPictures:
    """One front end's. Holds how often each session has sent pictures lately, and no other state that matters."""

    def __init__(self, settings: Settings, sessions: Sessions, secret: bytes) -> None:
        self._settings = settings
        self._sessions = sessions
        self._secret = secret
        self._actors: dict[int, Any] = {}
        self._away_until: dict[int, float] = {}
        self._stills = Buckets(BURST, max(STILLS_A_SECOND, STILLS_AN_INTERVAL / settings.frame_seconds))
        self._references = Buckets(BURST, STILLS_A_SECOND)

    async def still(
        self, session_id: str, image: bytes, at: int | None, caller: Caller, command_id: str | None
    ) -> Taken:
        """Take a still in; it is durable on return. `at`: when it was taken, in ms.

        Raises NotAnImage, TooLarge, InvalidInput (if it could be looked at at once and cannot be read), StateConflict,
        TooManyRequests, NotFound, or a Retryable.
        """
        kind = _kind(image)
        state = await self._sessions.read(session_id)
        check_pictures(state, self._settings.privacy_policy)
        self._stills.take(session_id)
        if state.consent_at is None:
            await self._sessions.send(session_id, Consent(), caller)  # where none was asked for, sending counts as that
        now = wall_ms()
        taken_at = at if at is not None and now - OLD_MS <= at <= now else now
        sha256 = hashlib.sha256(image).hexdigest()
        still_id = self._id(session_id, caller, command_id)
        if command_id is not None and (known := await self._sessions.store.still_sha256(still_id)) is not None:
            if known != sha256:
                raise CommandIdReused("This Idempotency-Key was used before with another still.")
            return Taken(still_id, taken_at, sha256, None, state.proctoring.frame_seconds, replayed=True)
        expires_at = now + round(PENDING_DAYS * DAY_MS)
        thinned = await self._thin(session_id)
        still = Still(still_id, session_id, taken_at, now, sha256, kind, image, expires_at, thinned)
        await self._sessions.store.add_still(still)
        if await self._sessions.store.is_deleted(session_id):
            await self._sessions.store.drop_stills([still_id])
            raise NotFound.session(session_id)
        glance = await self._look(still)
        if glance is not None and glance.error is not None:
            raise glance.error
        seconds = next_seconds(state.proctoring.frame_seconds, dense=glance is not None and glance.dense)
        return Taken(still_id, taken_at, sha256, glance, seconds)

    async def reference(
        self, session_id: str, image: bytes, caller: Caller, command_id: str | None
    ) -> tuple[Reply, dict[str, Any]]:
        """Capture the face that stills are compared with: the session, and the picture's quality.

        Raises InvalidInput (with `quality`) if the picture cannot serve, and what `still` raises.
        """
        kind = _kind(image)
        state = await self._sessions.read(session_id)
        check_pictures(state, self._settings.privacy_policy)
        key = command_key(caller, NoteReference("", "", ""), command_id) if command_id is not None else ""
        if state.remembered(key, wall_ms()) is None:
            check_replacement(state, caller)
        self._references.take(session_id)
        assessed = await self._assess(session_id, image)
        if assessed.template is None:
            advice = " ".join(problem["advice"] for problem in assessed.quality["problems"])
            detail = f"{advice} {HUMAN_ROUTE}"
            raise InvalidInput(detail, errors=[{"pointer": "/image", "detail": advice}], quality=assessed.quality)
        now, sha256 = wall_ms(), hashlib.sha256(image).hexdigest()
        reference = Reference(
            session_id=session_id,
            image=image,
            media_type=kind,
            sha256=sha256,
            template=assessed.template,
            engine=assessed.engine,
            engine_version=assessed.engine_version,
            at=now,
            expires_at=now + round(self._settings.reference_days * DAY_MS),
        )
        command = NoteReference(sha256, assessed.engine, assessed.engine_version, assessed.quality)
        if (known := state.remembered(key, now)) is not None:
            check_same_body(known, command_hash(command))
            reply = await self._sessions.send(session_id, command, caller, command_id)
            await self._confirm(session_id, sha256)
            return reply, assessed.quality
        reply = await self._replaced(reference, command, caller, command_id)
        await self._forget(session_id)
        return reply, assessed.quality

    async def _replaced(
        self, reference: Reference, command: NoteReference, caller: Caller, command_id: str | None
    ) -> Reply:
        """Store a reference face and have the journal say so; what the session refuses is not kept."""
        store, session_id = self._sessions.store, reference.session_id
        before = await store.reference_of(session_id)
        # If nobody learns whether the journal has it, it does not stay for long; FaceActors compare with none but that
        # of which the journal tells.
        soon = min(reference.expires_at, wall_ms() + UNCONFIRMED_MS)
        await store.save_reference(replace(reference, expires_at=soon))
        try:
            reply = await self._sessions.send(session_id, command, caller, command_id)
            await store.save_reference(reference)
            return reply
        except Retryable:
            raise  # it may have been written; whoever repeats the call stores the same again
        except OrchestratorError as error:
            if before is None or isinstance(error, NotFound):
                await store.erase_reference(session_id)
            else:
                await store.save_reference(before)
            raise

    async def _confirm(self, session_id: str, sha256: str) -> None:
        """Keep a reference face that the journal has for its full time, counted from when it was captured."""
        stored = await self._sessions.store.reference_of(session_id)
        told = (await self._sessions.read(session_id)).proctoring.reference_sha256
        if stored is None or not stored.sha256 == told == sha256:
            return
        full = stored.at + round(self._settings.reference_days * DAY_MS)
        if stored.expires_at < full:
            await self._sessions.store.save_reference(replace(stored, expires_at=full))

    async def withdraw(self, session_id: str, caller: Caller) -> None:
        """Erase the session's pictures, reference face first, as its candidate wants it. Can be repeated."""
        store = self._sessions.store
        kept = tuple(still.id for still in await store.kept_of(session_id))
        await self._sessions.send(session_id, NoteErased("reference", WITHDRAWN), caller)
        if kept:
            await self._sessions.send(session_id, NoteErased("stills", WITHDRAWN, kept), caller)
        await store.erase_evidence(session_id)
        await self._forget(session_id)

    def _id(self, session_id: str, caller: Caller, command_id: str | None) -> str:
        """The still's id: the same for the same call."""
        if command_id is None:
            return secrets.token_hex(16)
        identity = "\0".join(("still", session_id, caller.principal, command_id)).encode("utf-8", "surrogatepass")
        return hmac.digest(self._secret, identity, hashlib.sha256)[:16].hex()

    async def _thin(self, session_id: str) -> int:
        """Make room for one more still: how many have gone that nobody had looked at."""
        going = skipped(await self._sessions.store.pending_of(session_id))
        if going:
            await self._sessions.store.drop_stills([still_id for still_id, _, _ in going])
        return len(going) + sum(thinned for _, _, thinned in going)

    # FaceActors

    async def _look(self, still: Still) -> Glance | None:
        try:
            return await self._call(still.session_id, "look", still, timeout=LOOK_SECONDS)
        except Retryable:
            return None

    async def _assess(self, session_id: str, image: bytes) -> Assessed:
        try:
            return await self._call(session_id, "assess", image, timeout=ASSESS_SECONDS, patient=True)
        except (cluster.ActorGone, cluster.ActorSilent) as error:
            raise Unavailable("Nobody can look at pictures just now; try again soon.", retry_after=5) from error

    async def _forget(self, session_id: str) -> None:
        try:
            await self._call(session_id, "forget", session_id, timeout=1.0)
        except Retryable:
            return  # it reads the reference again within a minute

    async def _call(self, session_id: str, method: str, *args: Any, timeout: float, patient: bool = False) -> Any:
        """Call the FaceActor of a session; while it is away only those who are patient wait for it."""
        loop = asyncio.get_running_loop()
        of = self._settings.face_actors
        number = shard_of(session_id, of) if of else 0
        if of < 1 or (loop.time() < self._away_until.get(number, 0.0) and not patient):
            raise Unavailable("Nobody looks at pictures here.", retry_after=AWAY_SECONDS)
        try:
            if number not in self._actors:
                self._actors[number] = await cluster.ensure_face_actor(number, of, self._settings.face_cpus)
            label = f"interview {session_id}: {method}"
            return await cluster.call(self._actors[number], method, *args, label=label, timeout=timeout)
        except cluster.ActorGone:
            self._actors.pop(number, None)
            raise
        except cluster.ActorSilent:
            self._away_until[number] = loop.time() + AWAY_SECONDS
            raise


def _kind(image: bytes) -> MediaType:
    """The picture's media type by its first bytes. Raises InvalidInput, TooLarge or NotAnImage."""
    if not image:
        raise InvalidInput.at("/image", "The image is empty.")
    if len(image) > MAX_BYTES:
        raise TooLarge(f"The image has more than {MAX_BYTES // 1_000_000} MB.")
    kind = media_type(image)
    if kind is None:
        raise NotAnImage("The image is not a JPEG, PNG or WebP file.")
    return kind
