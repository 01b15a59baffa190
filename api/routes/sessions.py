"""Sessions: /api/parallel_interview/create, /sessions and /session/{session_id}/..."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from actors.client import InterviewClient
from actors.clock import wall_ms
from api import schemas
from api.answers import sessions as views
from api.answers.journal import JournalAnswer
from api.described import answers
from api.headers import CommandId, IfMatch, RequiredCommandId, etag, not_modified, session_answer
from api.security import (
    ActingParticipant,
    Manager,
    Reader,
    ReadingParticipant,
    SupervisedParticipant,
    Supervisor,
    candidate_token,
    require_scope,
)
from orchestrator.errors import Forbidden, InvalidInput, NotFound
from orchestrator.interview import commands
from orchestrator.interview.commands import Caller
from orchestrator.interview.snapshot import searched_words
from orchestrator.interview.state import EndReason, State, load_state
from orchestrator.interview.view import event_views, iso, participant_name, room_name, session_view
from orchestrator.jobs import DEFAULT_JOB_ID, draw, seed_of
from orchestrator.livekit import RoomState, Ticket
from orchestrator.policies import policy_of
from orchestrator.session import Reply
from orchestrator.storage.queries import Wanted

router = APIRouter(prefix="/api/parallel_interview", tags=["sessions"])

A_TIME = {"format": "date-time", "pattern": schemas.YEARS}
VARY = "Authorization, X-API-Key"
"""Staff and candidates see the same version differently."""


async def client_of(request: Request) -> InterviewClient:
    return request.app.state.client


Client = Annotated[InterviewClient, Depends(client_of)]


async def filters(
    status: Annotated[Literal["initialized", "in_progress", "completed"] | None, Query()] = None,
    job_id: Annotated[str | None, Query(max_length=200)] = None,
    email: Annotated[str | None, Query(max_length=320)] = None,
    end_reason: Annotated[EndReason | None, Query()] = None,
    created_from: Annotated[str | None, Query(max_length=40, json_schema_extra=A_TIME)] = None,
    created_until: Annotated[str | None, Query(max_length=40, json_schema_extra=A_TIME)] = None,
    q: Annotated[str, Query(max_length=200)] = "",
    min_score: Annotated[float | None, Query(ge=0, le=100)] = None,
    max_score: Annotated[float | None, Query(ge=0, le=100)] = None,
) -> Wanted:
    """Which sessions. `q`: words, each the beginning of one in the candidate's name or email. Scores are integrity
    scores, which there are once an interview has its report."""
    if q.strip() and not searched_words(q):
        raise InvalidInput.at("/q", "q has no letters or digits in it.")
    since = schemas.moment_ms(created_from, "/created_from") if created_from is not None else None
    until = schemas.moment_ms(created_until, "/created_until") if created_until is not None else None
    return Wanted(status, job_id, email, end_reason, since, until, q, min_score, max_score)


Filters = Annotated[Wanted, Depends(filters)]


@router.post("/create")
@answers(views.Created, 404, 409)
async def create_session(
    body: schemas.CreateBody, request: Request, client: Client, caller: Manager, key: CommandId
) -> Response:
    """Make a new session."""
    reply, more = await make(body, request, client, caller, key)
    return session_answer(reply, **more)


async def questions_of(
    body: schemas.SessionBody, client: InterviewClient, seed: int = 0
) -> tuple[tuple[commands.Question, ...], dict[str, Any] | None]:
    """What is to be asked: its own questions, or some of a bank, and how they were drawn. Raises NotFound."""
    own = body.own_questions()
    if own is not None:
        return own, None
    job_id = body.job_id or DEFAULT_JOB_ID
    job = await client.store.get_job(job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id!r}; give questions, or the id of a job that exists.")
    questions, drawn = draw(job, seed)
    return tuple(
        commands.Question(q["text"], q.get("type", "text"), q.get("time_limit_seconds")) for q in questions
    ), drawn


async def make(
    body: schemas.CreateBody, request: Request, client: InterviewClient, caller: Caller, key: str | None
) -> tuple[Reply, dict[str, Any]]:
    """Make a session: the reply, and what create answers beside the session."""
    seed = seed_of(client.store.secret, caller.principal, key)
    reply = await client.create(body.command(*await questions_of(body, client, seed)), caller, key)
    session_id = str(reply.session["session_id"])
    generation = (await client.read(session_id)).link_generation if reply.replayed else 1
    token = candidate_token(client.store.secret, session_id, generation)
    proctoring: Any = reply.session["proctoring"]
    shown = ("session_id", "status", "policy", "watches", "exemptions", "frame_seconds")
    return reply, {
        "session_id": session_id,
        "livekit": _livekit(reply.session, client, generation),
        "proctoring": {name: proctoring[name] for name in shown},
        "candidate_token": token,
        "links": _links(request, session_id, token),
    }


@router.get("/sessions")
@answers(views.SessionList)
async def list_sessions(
    client: Client,
    caller: Reader,
    wanted: Filters,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    include: Annotated[Literal["total"] | None, Query()] = None,
) -> dict[str, Any]:
    """Sessions, newest first, a page at a time."""
    before = _read_cursor(client.store.secret, cursor) if cursor is not None else None
    await client.catch_up()
    found = await client.store.list_snapshots(wanted, limit=limit + 1, before=before)
    page, more = found[:limit], len(found) > limit
    now = wall_ms()
    answer: dict[str, Any] = {
        "status": "success",
        "sessions": [_staff_view(load_state(s.state), now) for s in page],
        "count": len(page),
        "next_cursor": _cursor(client.store.secret, page[-1].created_at, page[-1].session_id) if more else None,
        "has_more": more,
    }
    if include == "total":
        answer["total"] = await client.store.count_snapshots(wanted)
    return answer


@router.get("/session/{session_id}")
@answers(views.SessionAnswer, models={304: None})
async def get_session(session_id: str, request: Request, client: Client, caller: ReadingParticipant) -> Response:
    """One session."""
    state = await client.read(session_id)
    headers = {"ETag": etag(state.version), "Cache-Control": "private, no-cache", "Vary": VARY}
    if not_modified(request, state.version):
        return Response(status_code=304, headers=headers)
    view = session_view(state, wall_ms(), caller.role, policy_of(state))
    return JSONResponse({"status": "success", "session": view}, headers=headers)


@router.patch("/session/{session_id}")
@answers(views.StaffSessionAnswer, 409)
async def update_session(
    session_id: str, body: schemas.UpdateBody, client: Client, caller: Manager, version: IfMatch
) -> Response:
    """Change a session that has not started."""
    command = body.command()
    if body.job_id is not None and body.questions is None and "job_id" in body.model_fields_set:
        questions, command.changes["drawn"] = await questions_of(
            body, client, seed_of(client.store.secret, caller.principal, None)
        )
        command.changes["questions"] = [
            {"text": q.text, "type": q.type, "time_limit_seconds": q.time_limit_seconds} for q in questions
        ]
    return session_answer(await client.send(session_id, command, caller, None, version))


@router.delete("/session/{session_id}")
@answers(views.SessionDeleted)
async def delete_session(session_id: str, client: Client, caller: Manager, version: IfMatch) -> dict[str, Any]:
    """Remove a session for good, ending it first if it is live."""
    await client.delete(session_id, caller, version)
    return {"status": "success", "session_id": session_id, "deleted": True}


@router.post("/session/{session_id}/start")
@answers(views.SessionAnswer, 409)
async def start_session(
    session_id: str,
    client: Client,
    caller: ActingParticipant,
    key: CommandId,
    version: IfMatch,
    body: schemas.EmptyBody | None = None,
) -> Response:
    """Open the first question."""
    return session_answer(await client.send(session_id, commands.Start(), caller, key, version))


@router.post("/session/{session_id}/answer")
@answers(views.SessionAnswer, 409)
async def answer_question(
    session_id: str,
    body: schemas.AnswerBody,
    client: Client,
    caller: ActingParticipant,
    key: CommandId,
    version: IfMatch,
) -> Response:
    """Answer the open question; the next one opens, or the session completes."""
    command = commands.Answer(body.question_index, body.answer, body.language)
    return session_answer(await client.send(session_id, command, caller, key, version))


@router.put("/session/{session_id}/draft")
@answers(views.DraftAnswer, 409)
async def save_draft(
    session_id: str, body: schemas.DraftBody, client: Client, caller: ActingParticipant
) -> dict[str, Any]:
    """Keep the text in progress; it becomes the answer when time runs out."""
    saved = await client.draft(session_id, body.question_index, body.draft, body.revision, caller)
    return {"status": "success", "question_index": body.question_index, **saved}


@router.post("/session/{session_id}/end")
@answers(views.SessionAnswer)
async def end_session(
    session_id: str,
    client: Client,
    caller: SupervisedParticipant,
    key: CommandId,
    version: IfMatch,
    body: schemas.ReasonBody | None = None,
) -> Response:
    """End a session, whatever its state."""
    command = commands.End(body.reason if body else None)
    return session_answer(await client.send(session_id, command, caller, key, version))


@router.post("/session/{session_id}/pause")
@answers(views.StaffSessionAnswer, 409)
async def pause_session(
    session_id: str,
    client: Client,
    caller: Supervisor,
    key: CommandId,
    version: IfMatch,
    body: schemas.ReasonBody | None = None,
) -> Response:
    """Stop the clock."""
    command = commands.Pause(body.reason if body else None)
    return session_answer(await client.send(session_id, command, caller, key, version))


@router.post("/session/{session_id}/resume")
@answers(views.StaffSessionAnswer, 409)
async def resume_session(
    session_id: str,
    client: Client,
    caller: Supervisor,
    key: CommandId,
    version: IfMatch,
    body: schemas.EmptyBody | None = None,
) -> Response:
    """Let the clock go on."""
    return session_answer(await client.send(session_id, commands.Resume(), caller, key, version))


@router.post("/session/{session_id}/extend")
@answers(views.StaffSessionAnswer, 409)
async def extend_question(
    session_id: str,
    client: Client,
    caller: Supervisor,
    key: RequiredCommandId,
    version: IfMatch,
    body: schemas.ExtendBody,
) -> Response:
    """More time for the open question."""
    command = commands.Extend(body.seconds, body.reason)
    return session_answer(await client.send(session_id, command, caller, key, version))


@router.post("/session/{session_id}/consent")
@answers(views.SessionAnswer, 409)
async def give_consent(
    session_id: str,
    body: schemas.ConsentBody,
    client: Client,
    caller: ActingParticipant,
    key: CommandId,
    version: IfMatch,
) -> Response:
    """The candidate agrees to the privacy policy."""
    in_force = client.settings.privacy_policy
    if in_force is not None and body.policy not in (None, in_force):
        raise InvalidInput.at("/policy", f"The privacy policy in force is {in_force!r}.")
    return session_answer(
        await client.send(session_id, commands.Consent(body.policy or in_force), caller, key, version)
    )


@router.post("/session/{session_id}/link")
@answers(views.LinkAnswer)
async def renew_link(
    session_id: str,
    request: Request,
    client: Client,
    caller: Manager,
    key: CommandId,
    version: IfMatch,
    body: schemas.EmptyBody | None = None,
) -> Response:
    """A new candidate link; older ones stop working."""
    reply = await client.send(session_id, commands.NewLink(), caller, key, version)
    client.rooms.put_out_soon(session_id)
    state = await client.read(session_id)
    token = candidate_token(client.store.secret, session_id, state.link_generation)
    return session_answer(reply, candidate_token=token, links=_links(request, session_id, token))


@router.post("/session/{session_id}/token")
@answers(views.TokenAnswer, 409, never=(422,))
async def make_livekit_token(
    session_id: str,
    request: Request,
    client: Client,
    caller: SupervisedParticipant,
    key: CommandId,
    body: schemas.TokenBody | None = None,
) -> dict[str, Any]:
    """A fresh LiveKit token, while the session is not completed. An observer's needs the scope proctor, and the
    candidate's, for staff, the scope manage."""
    observer = body is not None and body.role == "observer"
    if observer and caller.role != "staff":
        raise Forbidden("An observer's token is for staff.")
    if caller.role == "staff":  # one sees the camera unseen, with the other one is the candidate in the room
        require_scope(request, "proctor" if observer else "manage")
    room, ticket = await client.rooms.ticket(session_id, observer=observer)
    participant = ticket.participant if ticket else participant_name(session_id)
    return {"status": "success", "livekit": _joining(session_id, room, participant, ticket)}


@router.get("/session/{session_id}/journal")
@answers(JournalAnswer)
async def get_journal(
    session_id: str,
    client: Client,
    caller: Reader,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> dict[str, Any]:
    """The session's events after `after`, in order."""
    await client.read(session_id)
    entries = await client.store.entries_beyond(session_id, after, limit + 1)
    events = [event for event in event_views(entries, caller.role) if event["seq"] > after][:limit]
    return {"status": "success", "events": events, "count": len(events)}


@router.get("/session/{session_id}/journal/verify")
@answers(views.VerifyAnswer)
async def verify_journal(session_id: str, client: Client, caller: Reader) -> dict[str, Any]:
    """Whether the chain over the session's journal is whole."""
    await client.read(session_id)
    return {"status": "success", "journal": await client.store.verify(session_id)}


def _staff_view(state: State, now: int) -> dict[str, Any]:
    return session_view(state, now, "staff", policy_of(state))


def _livekit(session: dict[str, Any], client: InterviewClient, link: int) -> dict[str, Any]:
    """What create answers: the room, and the first token if the room is there and will be needed."""
    session_id, seen = session["session_id"], session["livekit"]
    room = RoomState(seen["mode"], seen["url"], seen["reason"])
    needed = room.mode == "live" and room.reason is None and session["status"] != "completed"
    ticket = client.livekit.candidate_ticket(session_id, link) if needed and client.livekit.configured else None
    return _joining(session_id, room, participant_name(session_id), ticket)


def _joining(session_id: str, room: RoomState, participant: str, ticket: Ticket | None) -> dict[str, Any]:
    return {
        "mode": room.mode,
        "url": room.url,
        "room": room_name(session_id),
        "participant": participant,
        "token": ticket.token if ticket else None,
        "expires_at": iso(ticket.expires_at) if ticket else None,
        "reason": room.reason,
    }


def _links(request: Request, session_id: str, token: str) -> dict[str, str]:
    base = request.app.state.settings.public_url.rstrip("/")
    return {
        "candidate": f"{base}/interview/{session_id}#{token}",
        "report": f"{base}/api/reports/{session_id}",
        "live": f"{base}/sessions/{session_id}/live",
    }


def _cursor(secret: bytes, created_at: int, session_id: str) -> str:
    content = json.dumps([created_at, session_id]).encode()
    return base64.urlsafe_b64encode(_cursor_mac(secret, content) + content).decode().rstrip("=")


def _read_cursor(secret: bytes, text: str) -> tuple[int, str]:
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        data = b""
    mac, content = data[:16], data[16:]
    if not hmac.compare_digest(mac, _cursor_mac(secret, content)):
        raise InvalidInput.at("/cursor", "cursor is not one that this service gave out.")
    created_at, session_id = json.loads(content)
    return created_at, session_id


def _cursor_mac(secret: bytes, content: bytes) -> bytes:
    key = hmac.digest(secret, b"cursor", hashlib.sha256)
    return hmac.digest(key, content, hashlib.sha256)[:16]
