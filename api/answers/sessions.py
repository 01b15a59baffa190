"""Sessions as staff and candidates see them, and what the calls about them answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.answers.common import (
    UUID,
    Answer,
    Count,
    Deleted,
    Score,
    Seconds,
    Seq,
    SessionId,
    Success,
    Time,
    Url,
    sometimes,
    text,
)
from orchestrator.interview.state import EndReason

Kind = Literal["text", "coding"]
Status = Literal["initialized", "in_progress", "completed"]
Room = Annotated[str, text(pattern=f"^interview-{UUID}$")]
Participant = Annotated[str, text(pattern=f"^(candidate-{UUID}|observer-[0-9a-f]{{16}})$")]
CandidateToken = Annotated[str, text(pattern=r"^[\w-]+\.[\w-]+\.[\w-]+$", description="A JWT for this session alone.")]
Cause = Annotated[
    str,
    Field(description="extended, crash, hung, recovered, released, drain, storage_unavailable, retry, network, ..."),
]


class CandidateData(Answer):
    name: str
    email: str
    phone: str | None


class CurrentQuestion(Answer):
    """The open question. `time_limit_seconds` is after the multiplier; `deadline` is null while the clock stands."""

    index: Count
    text: str
    type: Kind
    time_limit_seconds: Seconds
    opened_at: Time
    deadline: Time | None
    remaining_seconds: Seconds


class GivenAnswer(Answer):
    """`elapsed_seconds`: without pauses and credits."""

    question_index: Count
    answer: str
    language: str | None
    submitted_at: Time
    elapsed_seconds: Seconds
    source: Literal["submitted", "draft", "timeout"]


class LedgerLine(Answer):
    seconds: float
    cause: Cause
    at: Time


class Clock(Answer):
    """Time that was given to the candidate, and why."""

    credited_seconds: float
    ledger: list[LedgerLine]


class LivekitRoom(Answer):
    """The LiveKit room. `connected`: the candidate is in it. `token_url`: where to POST for a token."""

    mode: Literal["live", "fallback"]
    url: str | None
    room: Room
    participant: Participant
    connected: bool
    since: Time | None
    reason: str | None
    token_url: str | None


class RecordingFile(Answer):
    filename: str
    location: str
    size: Count
    duration_seconds: Seconds


RecordingStatus = Literal["off", "wanted", "active", "ended", "failed"]


class RecordingForCandidates(Answer):
    status: RecordingStatus


class Recording(RecordingForCandidates):
    reason: str | None
    files: list[RecordingFile]


class Watching(Answer):
    """The proctoring session that goes with an interview: what is watched, and what is not by accommodation."""

    session_id: Annotated[str, text(pattern=f"^proctoring-{UUID}$")]
    status: Literal["initialized", "active", "ended"]
    policy: str | None
    watches: list[Literal["camera", "page", "video"]]
    exemptions: list[Literal["camera"]]
    frame_seconds: Annotated[float, Field(gt=0)]


class ProctoringForCandidates(Watching):
    started_at: Time | None
    ended_at: Time | None
    reference_captured_at: Time | None
    hooks_suspended: bool


class SessionIntegrity(Answer):
    score: Score
    label: str
    policy: str


Verdict = Literal["cleared", "escalated", "unavailable"]


class SessionProctoring(ProctoringForCandidates):
    """`integrity` is null until the interview is completed."""

    integrity: SessionIntegrity | None
    verdict: Verdict | None


class AccommodationsForCandidates(Answer):
    time_multiplier: Annotated[float, Field(ge=1, le=4)]
    camera_exempt: bool


class Accommodations(AccommodationsForCandidates):
    sensitivity: str | None


class PlannedQuestion(Answer):
    text: str
    type: Kind
    time_limit_seconds: Seconds


class Placement(Answer):
    """The actor that holds the interview."""

    actor: str
    node: str | None
    epoch: Count
    dashboard_url: Annotated[str | None, Field(description="Its page in Ray's dashboard, where that is known.")]


class CandidateSession(Answer):
    """A session as its candidate sees it: no questions to come, no scores, no machines."""

    session_id: SessionId
    status: Status
    status_detail: Literal["waiting", "question_open", "paused", "connection_lost", "recovering", "parked", "ended"]
    end_reason: EndReason | None
    version: Annotated[int, Field(ge=1, description="Counts the changes that a client can see; it is the ETag.")]
    candidate: CandidateData
    job_id: str | None
    current_question_count: Annotated[int, Field(ge=0, description="How many questions are closed.")]
    max_questions: Annotated[int, Field(ge=1, le=200)]
    current_question: CurrentQuestion | None
    answers: list[GivenAnswer]
    clock: Clock
    created_at: Time
    scheduled_at: Time | None
    expires_at: Time | None
    started_at: Time | None
    completed_at: Time | None
    consent_at: Time | None
    livekit: LivekitRoom
    recording: RecordingForCandidates
    proctoring: ProctoringForCandidates
    accommodations: AccommodationsForCandidates
    answers_erased_at: Time = sometimes()


class Session(CandidateSession):
    """A session as staff see it."""

    questions: list[PlannedQuestion]
    recording: Recording  # pyright: ignore[reportIncompatibleVariableOverride]
    proctoring: SessionProctoring  # pyright: ignore[reportIncompatibleVariableOverride]
    accommodations: Accommodations  # pyright: ignore[reportIncompatibleVariableOverride]
    placement: Placement | None
    metadata: dict[str, str]


class ExportedSession(Session):
    """One line of an export."""

    duration_seconds: Seconds | None


class StaffSessionAnswer(Success):
    session: Session


class SessionAnswer(Success):
    """Candidates see less of the session than staff do."""

    session: Session | CandidateSession


class Joining(Answer):
    """How to join the LiveKit room. Without a token, `reason` says why."""

    mode: Literal["live", "fallback", "deferred", "none"]
    url: str | None
    room: Room
    participant: Participant
    token: str | None
    expires_at: Time | None
    reason: str | None


class Links(Answer):
    candidate: Url
    report: Url
    live: Url


class Created(StaffSessionAnswer):
    session_id: SessionId
    livekit: Joining
    proctoring: Watching
    candidate_token: CandidateToken
    links: Links


class LinkAnswer(StaffSessionAnswer):
    candidate_token: CandidateToken
    links: Links


class TokenAnswer(Success):
    livekit: Joining


class DraftAnswer(Success):
    """`saved` is false if a later revision is kept already; `revision` is that one."""

    question_index: Count
    revision: Count
    saved: bool


class SessionDeleted(Deleted):
    session_id: SessionId


class SessionList(Success):
    """A page. `next_cursor`: for the next one. `total`: with `include=total`."""

    sessions: list[Session]
    count: Count
    next_cursor: str | None
    has_more: bool
    total: Count = sometimes()


class BulkMade(Success):
    index: Count
    session_id: SessionId
    candidate_token: CandidateToken
    links: Links
    replayed: bool


class BulkChecked(Success):
    """With `dry_run`: nothing is wrong with it."""

    index: Count


class BrokenRule(Answer):
    """`pointer`: a JSON pointer to what is wrong."""

    pointer: str
    detail: str


class BulkFailed(Answer):
    status: Literal["error"]
    index: Count
    code: str
    http_status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    retry_after: Annotated[float, Field(ge=0)] = sometimes()
    errors: list[BrokenRule] = sometimes()
    current_status: Status | Literal["deleted"] | None = sometimes()
    allowed_actions: list[str] = sometimes()


class BulkAnswer(Success):
    results: list[BulkMade | BulkChecked | BulkFailed]
    created: Count
    replayed: Count
    failed: Count


class ChainState(Answer):
    """`broken_at`: the seq of the first entry that does not fit."""

    ok: bool
    entries: Count
    head: Annotated[str, text(pattern="^[0-9a-f]*$")]
    broken_at: Seq | None


class VerifyAnswer(Success):
    journal: ChainState


class Erased(Success):
    erased_sessions: Count


class Erasure(Answer):
    at: Time
    by: str
    sessions: Count


class Erasures(Success):
    erasures: list[Erasure]
