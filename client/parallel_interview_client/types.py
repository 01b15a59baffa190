"""What goes over the wire, as typed dictionaries. Times are ISO 8601 in UTC with milliseconds; durations are seconds.

Names that a candidate's token does not show are `NotRequired`: questions to come, placement, metadata, the score.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NotRequired, Required, TypedDict

Status = Literal["initialized", "in_progress", "completed"]
StatusDetail = Literal["waiting", "question_open", "paused", "connection_lost", "recovering", "parked", "ended"]
EndReason = Literal[
    "finished",
    "ended_by_staff",
    "ended_by_candidate",
    "cancelled",
    "expired",
    "abandoned",
    "terminated",
    "failed",
]
Kind = Literal["text", "coding"]
Source = Literal["submitted", "draft", "timeout"]
Scope = Literal["read", "manage", "proctor", "admin"]
Decision = Literal["advance", "hold", "reject"]
Json = dict[str, object]
"""An object whose members depend on what it tells of."""

# --- what is sent


class Accommodations(TypedDict, total=False):
    time_multiplier: float
    camera_exempt: bool
    sensitivity: str | None


class Details(TypedDict, total=False):
    """What `create` takes beside name and email."""

    phone: str | None
    job_id: str | None
    questions: list[str]
    question_types: list[Kind]
    max_questions: int
    text_question_timer: int
    coding_question_timer: int
    scheduled_at: str | datetime | None
    expires_at: str | datetime | None
    accommodations: Accommodations
    metadata: dict[str, str]


class Changes(Details, total=False):
    """What `update` changes of a session that has not started."""

    name: str
    email: str


class NewSession(Details):
    """One of `create_many`. With an `idempotency_key` of its own it can be sent again in any call."""

    name: Required[str]
    email: Required[str]
    idempotency_key: NotRequired[str]


class Filters(TypedDict, total=False):
    """Which sessions are listed. `q`: words, each the beginning of one in the name or email."""

    status: Status
    job_id: str
    email: str
    end_reason: EndReason
    created_from: str | datetime
    created_until: str | datetime
    q: str
    min_score: float
    max_score: float


class Sighting(TypedDict, total=False):
    """An event of proctoring, as a page tells it."""

    type: Required[str]
    at: str | datetime
    phase: Literal["began", "ended"]
    duration_seconds: float
    detail: dict[str, str | int | float | bool | None] | str


class JobQuestion(TypedDict):
    text: str
    type: NotRequired[Kind]
    time_limit_seconds: NotRequired[float]


class JobOptions(TypedDict, total=False):
    """`pick`: each session gets so many of the questions, by chance. `shuffle`: in an order of its own."""

    pick: int | None
    shuffle: bool


# --- what comes back: sessions


class Person(TypedDict):
    name: str
    email: str
    phone: str | None


class CurrentQuestion(TypedDict):
    """The open question. `deadline` is None while the clock stands still."""

    index: int
    text: str
    type: Kind
    time_limit_seconds: float
    opened_at: str
    deadline: NotRequired[str | None]
    remaining_seconds: NotRequired[float]


class Question(TypedDict):
    text: str
    type: Kind
    time_limit_seconds: float


class Answer(TypedDict):
    question_index: int
    answer: str | None
    language: str | None
    submitted_at: str
    elapsed_seconds: float
    source: Source


class LedgerLine(TypedDict):
    seconds: float
    cause: str
    at: str


class Clock(TypedDict):
    credited_seconds: float
    ledger: list[LedgerLine]


class Room(TypedDict):
    """LiveKit, as a session shows it. `token_url`: where a token is to be had, None while there is no room."""

    mode: Literal["live", "fallback"]
    url: str | None
    room: str
    participant: str
    connected: bool
    since: str | None
    reason: str | None
    token_url: str | None


class Ticket(TypedDict):
    """What opens the LiveKit room."""

    mode: str
    url: str | None
    room: str
    participant: str
    token: str | None
    expires_at: str | None
    reason: str | None


class Recording(TypedDict):
    status: Literal["off", "wanted", "active", "ended", "failed"]
    reason: NotRequired[str | None]
    files: NotRequired[list[Json]]


class Score(TypedDict):
    score: float
    label: str
    policy: str


class Watch(TypedDict):
    """The proctoring of a session, in short."""

    session_id: str
    status: str
    policy: str
    watches: list[str]
    exemptions: list[str]
    frame_seconds: float


class Watched(Watch):
    started_at: str | None
    ended_at: str | None
    reference_captured_at: str | None
    hooks_suspended: bool


class Proctoring(Watched):
    integrity: NotRequired[Score | None]
    verdict: NotRequired[str | None]


class Granted(TypedDict):
    time_multiplier: float
    camera_exempt: bool
    sensitivity: NotRequired[str | None]


class Placement(TypedDict):
    actor: str
    node: str
    epoch: int
    dashboard_url: str | None


class Session(TypedDict):
    session_id: str
    status: Status
    status_detail: StatusDetail
    end_reason: EndReason | None
    version: int
    candidate: Person
    job_id: str | None
    current_question_count: int
    max_questions: int
    current_question: CurrentQuestion | None
    answers: list[Answer]
    clock: Clock
    created_at: str
    scheduled_at: str | None
    expires_at: str | None
    started_at: str | None
    completed_at: str | None
    consent_at: str | None
    livekit: Room
    recording: Recording
    proctoring: Proctoring
    accommodations: Granted
    answers_erased_at: NotRequired[str]
    questions: NotRequired[list[Question]]
    placement: NotRequired[Placement | None]
    metadata: NotRequired[dict[str, str]]


class Links(TypedDict):
    candidate: str
    report: str
    live: str


class Created(TypedDict):
    session_id: str
    session: Session
    livekit: Ticket
    proctoring: Watch
    candidate_token: str
    links: Links


class Link(TypedDict):
    session: Session
    candidate_token: str
    links: Links


class Outcome(TypedDict):
    """What became of one of `create_many`: `status` is success (then the ids) or error (then the code)."""

    index: int
    status: Literal["success", "error"]
    session_id: NotRequired[str]
    candidate_token: NotRequired[str]
    links: NotRequired[Links]
    replayed: NotRequired[bool]
    code: NotRequired[str]
    http_status: NotRequired[int]
    detail: NotRequired[str]
    retry_after: NotRequired[float]
    errors: NotRequired[list[dict[str, str]]]
    current_status: NotRequired[str | None]
    allowed_actions: NotRequired[list[str]]


class Outcomes(TypedDict):
    results: list[Outcome]
    created: int
    replayed: int
    failed: int


class Page(TypedDict):
    """A page of sessions. `total` if it was asked for."""

    sessions: list[Session]
    count: int
    next_cursor: str | None
    has_more: bool
    total: NotRequired[int]


class Draft(TypedDict):
    """`saved` is False if a draft with a higher revision is there."""

    question_index: int
    revision: int
    saved: bool


class Event(TypedDict):
    """An entry's event; further members depend on `type`."""

    seq: int
    epoch: int
    type: str
    at: str
    by: NotRequired[str]


class Verified(TypedDict):
    """Whether the chain over a journal is whole; `broken_at` is the seq of the first entry that does not fit."""

    ok: bool
    entries: int
    head: str
    broken_at: int | None


class Stats(TypedDict):
    total_sessions: int
    initialized_sessions: int
    active_sessions: int
    completed_sessions: int
    average_duration_seconds: float
    completion_rate: float
    parked_sessions: int
    by_end_reason: dict[str, int]
    live_actors: int | None
    warm_actors: int | None
    capacity: int | None


class Job(TypedDict):
    job_id: str
    title: str
    questions: list[JobQuestion]
    pick: NotRequired[int | None]
    shuffle: NotRequired[bool]
    version: NotRequired[int]
    created_at: NotRequired[str | None]
    updated_at: NotRequired[str | None]


# --- proctoring


class Captured(TypedDict):
    """`quality`: figures of the picture."""

    session_id: str
    captured: bool
    quality: Json
    session: Session


class Received(TypedDict):
    received: int
    session: Session


class Seen(TypedDict):
    """An event of the timeline. Severity and points are for staff."""

    id: int
    type: str
    source: str
    at: str
    until: str | None
    duration_seconds: float | None
    lasts: bool
    count: int
    detail: Json
    disputes: list[Json]
    severity: NotRequired[str]
    points: NotRequired[float]
    because: NotRequired[str]


class Judged(Score):
    """`confidence`: from 0 to 1, how much of the interview was seen. `points`: by type of event."""

    confidence: float
    points: dict[str, float]


class Timeline(Watched):
    """Everything that was seen, and for staff what a policy makes of it."""

    as_of: str
    reference: Json | None
    events: list[Seen]
    evidence: list[Json]
    coverage: Json
    stills: dict[str, int]
    integrity: NotRequired[Judged | None]
    verdict: NotRequired[Json | None]
    notes: NotRequired[list[Json]]


# --- reports


class ReportQuestion(TypedDict):
    index: int
    text: str
    type: Kind
    time_limit_seconds: float
    opened_at: str | None
    answer: str | None
    language: str | None
    submitted_at: str | None
    elapsed_seconds: float | None
    source: Source | None
    status: Literal["answered", "draft", "no_answer", "left_open", "not_reached"]
    late_by_seconds: float | None
    scores: NotRequired[list[Json]]


Span = TypedDict(
    "Span", {"lane": str, "kind": str, "label": str, "from": str, "until": str, "seconds": float}
)  # `from` is a word of Python's own


class ReportClock(Clock):
    paused_seconds: float


class Review(TypedDict):
    verdict: Decision
    note: str
    by: str
    at: str


class Reviewed(TypedDict):
    session_id: str
    session: Session
    review: Json


class ReportJournal(TypedDict):
    entries: int
    head: str
    verified: bool
    broken_at: int | None


class Report(TypedDict):
    """`outdated`: something has happened since it was made, and a newer one is being made."""

    session_id: str
    made_at: str
    as_of: int
    partial: bool
    outdated: bool
    candidate: Person
    job: Json
    interview: Json
    questions: list[ReportQuestion]
    clock: ReportClock
    timeline: list[Span]
    proctoring: Json
    journal: ReportJournal
    versions: Json
    recording: NotRequired[Recording]
    evaluation: NotRequired[Json]
    reviews: NotRequired[list[Review]]
    placements: NotRequired[list[Json]]


# --- webhooks and keys


class Webhook(TypedDict):
    """`secret` only where it was just made."""

    webhook_id: str
    url: str
    events: list[str]
    description: str
    enabled: bool
    disabled_because: str | None
    failing_since: str | None
    created_at: str
    secret: NotRequired[str]


class StaffKey(TypedDict):
    key_id: str
    name: str
    scopes: list[Scope]
    state: Literal["good", "expired", "revoked"]
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    revoked_by: str | None


class NewKey(TypedDict):
    """`secret` is the whole key, and None where a repeated call has found the key made already."""

    key: StaffKey
    secret: str | None


# --- the live channel


class OpenDraft(TypedDict):
    question_index: int
    text: str
    revision: int


class Told(TypedDict):
    """What frames of the live channel have in common. `seq` and `at` where one stands for an event of the journal; with
    `by` and `event` staff who look on see the event itself."""

    server_time: str
    seq: NotRequired[int]
    at: NotRequired[str]
    by: NotRequired[str]
    event: NotRequired[Json]


class StateFrame(Told):
    """The whole session: the first frame, which alone has `draft`, and changes without a frame of their own."""

    type: Literal["state"]
    as_of: int
    session: Session
    network_credit_left_seconds: float
    draft: NotRequired[OpenDraft | None]


class QuestionFrame(Told):
    """A question was opened. One that is closed again has neither `deadline` nor `remaining_seconds`."""

    type: Literal["question"]
    question: CurrentQuestion


class AnswerFrame(Told):
    """An answer is durable; `command_id` if this channel has sent it. Expired: the last draft is the answer."""

    type: Literal["answer_saved", "question_expired"]
    question_index: int
    answer: Answer
    current_question_count: int
    max_questions: int
    command_id: NotRequired[str | None]


class ClockFrame(Told):
    """The clock was changed. `question`: the open one as it is now, None if there is none."""

    type: Literal["clock_credited", "extended", "paused", "resumed"]
    question: CurrentQuestion | None
    seconds: NotRequired[float]
    cause: NotRequired[str]
    network_credit_left_seconds: NotRequired[float]


class ConnectionFrame(Told):
    """The candidate came, went or was lost, or the clock stopped for it."""

    type: Literal["connection"]
    source: Literal["channel", "livekit"] | None
    state: Literal["opened", "closed", "lost", "clock_stopped"]
    question: CurrentQuestion | None
    network_credit_left_seconds: float


class RoomFrame(Told):
    type: Literal["livekit"]
    livekit: Room


class SeenFrame(Told):
    """Something was seen (`proctoring`), or an event that has no frame of its own, for staff (`journal`)."""

    type: Literal["proctoring", "journal"]


class CompletedFrame(Told):
    type: Literal["completed"]
    end_reason: EndReason
    session: Session


class ErrorFrame(Told):
    """A frame of ours was refused that was no command."""

    type: Literal["error"]
    code: str
    detail: str
    status: NotRequired[int]
    errors: NotRequired[list[dict[str, str]]]
    retry_after: NotRequired[float]


Frame = (
    StateFrame
    | QuestionFrame
    | AnswerFrame
    | ClockFrame
    | ConnectionFrame
    | RoomFrame
    | SeenFrame
    | CompletedFrame
    | ErrorFrame
)
"""`type` tells them apart."""


class Reply(TypedDict, total=False):
    """The reply to a command: `ok`, or `draft_saved`."""

    type: Required[Literal["ok", "draft_saved"]]
    server_time: str
    command_id: str
    command: str
    replayed: bool
    version: int
    question_index: int
    revision: int
    saved: bool
