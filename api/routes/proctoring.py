"""Proctoring: /capture_reference_face and /api/parallel_interview/session/{session_id}/proctoring/..."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from actors.clock import wall_ms
from api import images, schemas
from api.answers import proctoring as views
from api.answers.sessions import SessionAnswer, StaffSessionAnswer
from api.described import answers, binary
from api.headers import CommandId, IfMatch, session_answer
from api.routes.sessions import Client
from api.security import (
    ActingParticipant,
    AnyCaller,
    PicturedParticipant,
    Proctor,
    ReadingParticipant,
    SupervisedParticipant,
    require_participant,
)
from orchestrator.errors import Forbidden, InvalidInput, NotFound
from orchestrator.interview import commands
from orchestrator.interview.integrity import Timeline, judged, timeline
from orchestrator.interview.proctoring_view import proctoring_of
from orchestrator.interview.view import iso
from orchestrator.policies import policy, policy_of

router = APIRouter(tags=["proctoring"])

SESSION = "/api/parallel_interview/session/{session_id}/proctoring"
_reader = ThreadPoolExecutor(1, "timeline")
PICTURES = dict.fromkeys(("image/jpeg", "image/png", "image/webp"), binary("The picture as it was sent."))
PICTURE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, no-store",
}


@router.post("/capture_reference_face", openapi_extra=images.documented("session_id"))
@answers(views.ReferenceCaptured, 404, 409, 415, scopes=(("manage", "proctor"), True))
async def capture_reference_face(request: Request, client: Client, caller: AnyCaller, key: CommandId) -> Response:
    """Capture the face that stills are compared with; 400 with `quality` says what to change."""
    sent = await images.upload(request, ("session_id",))
    session_id = sent.fields.get("session_id")
    if not session_id:
        raise InvalidInput.at("/session_id", "session_id is required.")
    await require_participant(request, caller, session_id, "manage", "proctor")
    reply, quality = await client.pictures.reference(session_id, sent.image, caller, key)
    return session_answer(reply, session_id=session_id, captured=True, quality=quality)


@router.post(SESSION + "/events")
@answers(views.EventsReceived, 409)
async def add_proctoring_events(
    session_id: str, body: schemas.SightingsBody, client: Client, caller: SupervisedParticipant, key: CommandId
) -> Response:
    """What the candidate's page (or somebody who watches) has seen: at most 100 events a call."""
    source = "page" if caller.role == "candidate" else body.source
    sightings = body.seen(source, wall_ms())
    identity = body.identity(caller, key) if key is not None else None
    reply = await client.note(session_id, sightings, caller, identity)
    return session_answer(reply, received=len(sightings))


@router.post(SESSION + "/frame", openapi_extra=images.documented(optional=("at",)))
@answers(views.FrameAnswer, 409, 415)
async def add_frame(
    session_id: str, request: Request, client: Client, caller: SupervisedParticipant, key: CommandId
) -> Response:
    """A still of the candidate's camera. `frame.verdict` is null if nobody could look at it at once; it is looked at
    later then."""
    sent = await images.upload(request, ("at",))
    at = schemas.moment_ms(sent.fields["at"], "/at") if "at" in sent.fields else None
    taken = await client.pictures.still(session_id, sent.image, at, caller, key)
    shown = {
        "id": taken.id,
        "at": iso(taken.at),
        "sha256": taken.sha256,
        "checked": taken.glance is not None,
        "verdict": taken.glance.verdict if taken.glance else None,
        "faces": taken.glance.faces if taken.glance else None,
    }
    headers = {"Idempotency-Replayed": "true"} if taken.replayed else {}
    return JSONResponse({"status": "success", "frame": shown, "next_in_seconds": taken.next_seconds}, headers=headers)


@router.get(SESSION)
@answers(views.ProctoringAnswer)
async def get_proctoring(
    session_id: str,
    client: Client,
    caller: ReadingParticipant,
    version: Annotated[str | None, Query(alias="policy", max_length=100)] = None,
) -> dict[str, Any]:
    """The timeline, what is kept as evidence, coverage, and for staff the score with the points of each event.

    Everything is made anew from the journal; `policy` makes the score by another policy.
    """
    if version is not None and caller.role != "staff":
        raise Forbidden("Scores are for staff.")
    line = await _timeline(client, session_id)
    stored = {still.id: still for still in await client.store.kept_of(session_id)}
    chosen = policy(version) if version is not None else policy_of(line.state)
    integrity = judged(line, chosen) if chosen is not None else None
    return {"status": "success", "proctoring": proctoring_of(line, integrity, stored, caller.role)}


@router.get(SESSION + "/evidence/{still_id}", response_class=Response)
@answers(None, media=PICTURES)
async def get_evidence(session_id: str, still_id: str, client: Client, caller: Proctor) -> Response:
    """One still that was kept."""
    await client.read(session_id)
    found = await client.store.kept_image(session_id, still_id)
    if found is None:
        raise NotFound("There is no such still; it was never kept, or it was erased.")
    image, kind = found
    return Response(image, media_type=kind, headers=PICTURE_HEADERS)


@router.get(SESSION + "/reference", response_class=Response)
@answers(None, media=PICTURES)
async def get_reference_face(session_id: str, client: Client, caller: Proctor) -> Response:
    """The picture of the reference face, while it is kept."""
    await client.read(session_id)
    found = await client.store.reference_of(session_id)
    if found is None:
        raise NotFound("There is no reference face; none was captured, or it was erased.")
    return Response(found.image, media_type=found.media_type, headers=PICTURE_HEADERS)


@router.post(SESSION + "/verdict")
@answers(StaffSessionAnswer)
async def give_verdict(
    session_id: str, body: schemas.VerdictBody, client: Client, caller: Proctor, key: CommandId, version: IfMatch
) -> Response:
    """What a person makes of it. A score decides nothing; this is an entry of its own."""
    command = commands.GiveVerdict(body.verdict, body.reason)
    return session_answer(await client.send(session_id, command, caller, key, version))


@router.post(SESSION + "/events/{event_id}/dispute")
@answers(SessionAnswer, 409)
async def dispute_event(
    session_id: str,
    event_id: Annotated[int, Path(ge=1, le=2**53)],
    body: schemas.DisputeBody,
    client: Client,
    caller: ActingParticipant,
    key: CommandId,
) -> Response:
    """The candidate objects to an event of their timeline. It stands beside the event."""
    if all(event.id != event_id for event in (await _timeline(client, session_id)).seen):
        raise NotFound(f"There is no event {event_id} in this session's timeline.")
    return session_answer(await client.send(session_id, commands.Dispute(event_id, body.statement), caller, key))


@router.delete(SESSION + "/pictures")
@answers(views.PicturesErased)
async def erase_pictures(session_id: str, client: Client, caller: PicturedParticipant) -> dict[str, Any]:
    """Erase every picture of the candidate: consent is withdrawn, by the candidate or by staff on their behalf. The
    journal keeps that they were there, and who did it."""
    await client.pictures.withdraw(session_id, caller)
    return {"status": "success", "session_id": session_id, "erased": True}


async def _timeline(client: Client, session_id: str) -> Timeline:
    """The whole journal is read again, in one thread, so that whoever asks for it often holds up nobody else."""
    await client.read(session_id)
    entries = await client.store.entries(session_id, 0, 0)
    return await asyncio.get_running_loop().run_in_executor(_reader, timeline, entries, wall_ms())
