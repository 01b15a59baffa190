"""The events of a journal, as the journal call answers them: one model for each type."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.answers.common import Answer, Count, Milliseconds, Score, Seq, Sha256, StillId, Success, Time, sometimes
from api.answers.proctoring import Quality, Source
from api.answers.sessions import Kind, RecordingFile, Verdict
from api.answers.work import Drawn
from orchestrator.interview.state import EndReason


class Event(Answer):
    """`at`: when it was entered; `by`: who acted; `epoch`: of the actor that held the session."""

    seq: Seq
    epoch: Count
    at: Time
    by: str


class AskedQuestion(Answer):
    text: str
    type: Kind
    time_limit_seconds: float | None


class GrantedAccommodations(Answer):
    time_multiplier: float
    camera_exempt: bool
    sensitivity: str | None


class HowProctored(Answer):
    policy: str | None = sometimes()
    frame_seconds: float = sometimes()


class CreatedEvent(Event):
    """Times in ms, as they were entered."""

    type: Literal["created"]
    name: str
    email: str
    questions: list[AskedQuestion]
    phone: str | None
    job_id: str | None
    max_questions: int | None
    text_question_timer: int
    coding_question_timer: int
    scheduled_at: Milliseconds | None
    expires_at: Milliseconds | None
    accommodations: GrantedAccommodations
    metadata: dict[str, str]
    drawn: Drawn | None = sometimes()
    proctoring: HowProctored = sometimes()


class UpdatedEvent(Event):
    """`changes`: by the names of create's fields, as they were entered."""

    type: Literal["updated"]
    changes: dict[str, Any]


class PlainEvent(Event):
    type: Literal["started", "resumed", "room_closed", "candidate_seen", "deleted"]


class QuestionOpenedEvent(Event):
    type: Literal["question_opened"]
    index: Count
    limit_ms: Milliseconds


class QuestionClosedEvent(Event):
    """`late_by`: ms between the end of the time and the entry, for a question that ran out."""

    type: Literal["question_closed"]
    index: Count
    elapsed_ms: Milliseconds
    answer: str
    language: str | None
    source: Literal["submitted", "draft", "timeout"]
    late_by: Milliseconds = sometimes()


class PausedEvent(Event):
    type: Literal["paused"]
    reason: str | None


class ExtendedEvent(Event):
    type: Literal["extended"]
    ms: Milliseconds
    reason: str


class CompletedEvent(Event):
    type: Literal["completed"]
    reason: EndReason
    note: str = sometimes()


class ConsentGivenEvent(Event):
    type: Literal["consent_given"]
    policy: str | None


class LinkRenewedEvent(Event):
    type: Literal["link_renewed"]
    generation: Annotated[int, Field(ge=2)]


class ActivatedEvent(Event):
    """An actor has taken the session. `epoch` is its own."""

    type: Literal["activated"]
    actor: str
    node: str | None
    cause: str
    dashboard_url: str = sometimes()


class DeactivatedEvent(Event):
    type: Literal["deactivated"]
    reason: str


class ParkedEvent(Event):
    type: Literal["parked"]
    reason: str
    since: Milliseconds


class ClockCreditedEvent(Event):
    """`back`: of a lost connection: because the candidate is back."""

    type: Literal["clock_credited"]
    ms: Milliseconds
    cause: str
    until: Milliseconds = sometimes()
    back: bool = sometimes()


class ClockStoppedEvent(Event):
    type: Literal["clock_stopped"]
    cause: str
    since: Milliseconds
    limit_ms: Milliseconds
    again: Literal[True] = sometimes()


class LivekitEvent(Event):
    type: Literal["livekit"]
    mode: Literal["none", "deferred", "live", "fallback"]
    url: str | None
    reason: str | None
    record: Literal[True] = sometimes()


class RecordingEvent(Event):
    type: Literal["recording"]
    status: Literal["active", "ended", "failed"]
    egress_id: str | None
    reason: str | None
    files: list[RecordingFile]


class ConnectedEvent(Event):
    type: Literal["participant_joined", "channel_opened"]
    connection: str


class DisconnectedEvent(Event):
    type: Literal["participant_left", "connection_lost", "channel_closed", "channel_lost"]
    connection: str
    reason: str
    credit_ms: Milliseconds = sometimes()


class ProctoringEvent(Event):
    """Something that was seen. `seen_at`: when. `count`, `until` and `ms`: of what is told as a whole; `phase` and `of`
    (the seq of the beginning): of one end of what lasts."""

    type: Literal["proctoring_event"]
    event: str
    source: Source
    seen_at: Time = sometimes()
    phase: Literal["began", "ended"] = sometimes()
    of: Seq = sometimes()
    count: Annotated[int, Field(ge=1)] = sometimes()
    until: Milliseconds = sometimes()
    ms: Milliseconds = sometimes()
    detail: dict[str, Any] = sometimes()


class CommandsNotedEvent(Event):
    """Idempotency keys of calls that told what was seen, with the hash of each."""

    type: Literal["commands_noted"]
    commands: list[list[str]]


class FramesEvent(Event):
    """Stills that were looked at. `times`: when they were taken."""

    type: Literal["frames"]
    batch: str
    times: list[Milliseconds]
    late: Count
    dropped: Count
    unreadable: Count


class KeptStill(Answer):
    id: StillId
    at: Milliseconds
    sha256: Sha256
    because: str
    verdict: str


class EvidenceKeptEvent(Event):
    type: Literal["evidence_kept"]
    stills: list[KeptStill]


class EvidenceThinnedEvent(Event):
    type: Literal["evidence_thinned"]
    stills: list[StillId]
    because: str


class ReferenceCapturedEvent(Event):
    type: Literal["reference_captured"]
    sha256: Sha256
    engine: str
    engine_version: str
    quality: Quality


class ErasedEvent(Event):
    type: Literal["erased"]
    what: Literal["reference", "stills", "answers"]
    because: str
    stills: list[StillId] = sometimes()


class HookFailedEvent(Event):
    type: Literal["hook_failed"]
    hook: str
    reason: str
    off: bool


class HooksSuspendedEvent(Event):
    type: Literal["hooks_suspended"]
    losses: Count


class EventDisputedEvent(Event):
    type: Literal["event_disputed"]
    of: Seq
    statement: str


class VerdictGivenEvent(Event):
    type: Literal["verdict_given"]
    verdict: Verdict
    reason: str


class ReportMadeEvent(Event):
    type: Literal["report_made"]
    as_of: Seq
    sha256: Sha256
    score: Score | None


class ReviewDecidedEvent(Event):
    type: Literal["review_decided"]
    verdict: Literal["advance", "hold", "reject"]
    note: str


JournalEvent = Annotated[
    CreatedEvent
    | UpdatedEvent
    | PlainEvent
    | QuestionOpenedEvent
    | QuestionClosedEvent
    | PausedEvent
    | ExtendedEvent
    | CompletedEvent
    | ConsentGivenEvent
    | LinkRenewedEvent
    | ActivatedEvent
    | DeactivatedEvent
    | ParkedEvent
    | ClockCreditedEvent
    | ClockStoppedEvent
    | LivekitEvent
    | RecordingEvent
    | ConnectedEvent
    | DisconnectedEvent
    | ProctoringEvent
    | CommandsNotedEvent
    | FramesEvent
    | EvidenceKeptEvent
    | EvidenceThinnedEvent
    | ReferenceCapturedEvent
    | ErasedEvent
    | HookFailedEvent
    | HooksSuspendedEvent
    | EventDisputedEvent
    | VerdictGivenEvent
    | ReportMadeEvent
    | ReviewDecidedEvent,
    Field(discriminator="type"),
]


class JournalAnswer(Success):
    events: list[JournalEvent]
    count: Count
