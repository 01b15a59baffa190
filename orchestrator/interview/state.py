"""The state of a session: what its journal adds up to.

    initialized ──start──> in_progress ──last answer, end──> completed ──delete──> deleted
         └───────────────end, expiry─────────────────────────────┘

While in progress one question is open and its clock runs, unless it is paused (`paused_at`) or the
session is parked: activation was given up, nobody holds it, and its time is credited when it goes on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from orchestrator.interview import sightings
from orchestrator.interview.commands import Accommodations, Question
from orchestrator.interview.sightings import Proctoring
from orchestrator.interview.snapshot import Snapshot, words_of
from orchestrator.interview.wire import known_of

Status = Literal["initialized", "in_progress", "completed", "deleted"]
EndReason = Literal["finished", "ended_by_candidate", "ended_by_staff", "abandoned", "expired", "cancelled"]

GRACE_MS = 2_000
"""An answer received up to this long after its deadline counts, so a question is closed this late."""

MAX_NOTED = 200
"""Changes of connections that are entered in one journal, beside those on which a clock depends."""
ROOM_AHEAD_MS = 5 * 60_000
"""The LiveKit room of a session that is scheduled further ahead is made when it is needed."""
REMEMBERED_COMMANDS = 1_000
REMEMBERED_FOR_MS = 24 * 3_600_000
MAX_FRUITLESS_ACTIVATIONS = 3
FRUITLESS_WITHIN_MS = 60_000
"""An actor that was lost later than this after it took the session is not the session's fault."""


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    email: str
    phone: str | None = None


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """The question being answered. All times in ms; `stopped_ms` is pauses and credits, not to be counted
    against the candidate, and `extended_ms` is time that staff added. `lost_at`: the clock stands still since the
    candidate's connection was lost then, for `lost_limit_ms` at most."""

    index: int
    opened_at: int
    limit_ms: int
    stopped_ms: int = 0
    extended_ms: int = 0
    paused_at: int | None = None
    lost_at: int | None = None
    lost_limit_ms: int = 0

    @property
    def deadline(self) -> int | None:
        """The absolute time at which the clock runs out; None while it is stopped."""
        if self.paused_at is not None or self.lost_at is not None:
            return None
        return self.opened_at + self.limit_ms + self.extended_ms + self.stopped_ms

    def elapsed_ms(self, now: int) -> int:
        """Time used at `now`, without pauses and credits."""
        until = self.paused_at if self.paused_at is not None else now
        if self.lost_at is not None:
            until = min(until, max(self.lost_at, until - self.lost_limit_ms))
        return max(0, until - self.opened_at - self.stopped_ms)

    def remaining_ms(self, now: int) -> int:
        return max(0, self.limit_ms + self.extended_ms - self.elapsed_ms(now))


@dataclass(frozen=True, slots=True)
class ClosedAnswer:
    """An answer that can no longer change. A question that ran out without a draft has an empty one."""

    question_index: int
    answer: str
    language: str | None
    submitted_at: int
    elapsed_ms: int
    source: Literal["submitted", "draft", "timeout"]


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """Time given to the candidate, why and when."""

    ms: int
    cause: str
    at: int


@dataclass(frozen=True, slots=True)
class Room:
    """The session's LiveKit room, in this mode since `since` (ms).

    `none`: LiveKit was not configured. `deferred`: it is made at the start, or for the first token. `fallback`: it
    could not be made or reached. Once it is `closed` it is gone, after the end.
    """

    mode: Literal["none", "deferred", "live", "fallback"] = "none"
    since: int = 0
    url: str | None = None
    reason: str | None = None
    closed: bool = False

    def is_noted(self, mode: str, url: str | None) -> bool:
        """Whether this is what is known already. (Another reason for the same is no news.)"""
        return (mode, url) == (self.mode, self.url)


@dataclass(frozen=True, slots=True)
class Recording:
    """The recording of the candidate in the room: `off` unless the deployment records."""

    status: Literal["off", "wanted", "active", "ended", "failed"] = "off"
    egress_id: str | None = None
    reason: str | None = None
    files: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Presence:
    """The candidate's connections: those that are there as (source, id), and ids of those that have ended, newest last,
    and of those that a newer one has taken the place of, whose end is still to be told.

    `lost`: the last one went for a reason that is not the candidate's, and no sign was given since. `stops`: how often
    the clock stood still for it, `credit_ms`: for how long it may in all. `noted`: how many changes were noted.
    """

    here: tuple[tuple[str, str], ...] = ()
    gone: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    lost: bool = False
    stops: int = 0
    credit_ms: int = 0
    noted: int = 0

    def others(self, source: str, connection: str) -> list[str]:
        """What else there is that could serve in the place of a connection: of a live channel only another one, since
        answers go through it."""
        return [c for s, c in self.here if c != connection and (s == source or source == "livekit")]

    def leaves_alone(self, source: str, connection: str) -> bool:
        """Whether the candidate is cut off when this connection is lost."""
        return connection not in self.replaced and not self.others(source, connection)

    @property
    def front_end(self) -> str | None:
        """The front end that holds the candidate's live channel: its connections' ids begin with it."""
        return next((connection.split(":")[0] for source, connection in self.here if source == "channel"), None)

    @property
    def takes_more(self) -> bool:
        """Whether changes are still entered of which no clock depends: a client may come and go for ever."""
        return self.noted < MAX_NOTED


@dataclass(frozen=True, slots=True)
class State:
    """Everything that is known of a session after event `seq`, which was written at `at`."""

    session_id: str
    candidate: Candidate
    questions: tuple[Question, ...]
    created_at: int
    status: Status = "initialized"
    seq: int = 0
    at: int = 0
    epoch: int = 0
    version: int = 0
    mac: str = ""
    job_id: str | None = None
    requested_questions: int | None = None
    text_question_timer: int = 120
    coding_question_timer: int = 300
    scheduled_at: int | None = None
    expires_at: int | None = None
    accommodations: Accommodations = Accommodations()
    metadata: dict[str, str] = field(default_factory=dict)
    drawn: dict[str, Any] | None = None
    """How the questions were taken from their job: {version, pick, shuffle, seed}."""
    answers_erased_at: int | None = None
    """When what the candidate had answered was erased, since it is not kept for longer."""
    started_at: int | None = None
    completed_at: int | None = None
    end_reason: str | None = None
    open: OpenQuestion | None = None
    answers: tuple[ClosedAnswer, ...] = ()
    ledger: tuple[LedgerLine, ...] = ()
    paused_total_ms: int = 0
    candidate_seen: bool = False
    link_generation: int = 1
    consent_at: int | None = None
    consent_policy: str | None = None
    consent_withdrawn: bool = False
    actor: str | None = None
    node: str | None = None
    dashboard_url: str | None = None
    """The page of the actor that took it last."""
    fruitless_activations: int = 0
    activated_at: int = 0
    parked: str | None = None
    parked_since: int | None = None
    clock_settled_at: int = 0
    """Time before this (ms) has been dealt with: credited, paused, or judged by an activation."""
    room: Room = Room()
    recording: Recording = Recording()
    presence: Presence = Presence()
    proctoring: Proctoring = Proctoring()
    report_due: int = 0
    """The seq of the last event that the report of a completed interview is to tell of; 0: there is nothing to tell."""
    report_made: int = 0
    """The seq up to which one was made."""
    report_score: float | None = None
    """The integrity score that it has."""
    commands: tuple[tuple[str, str, int], ...] = ()
    """Remembered client commands, oldest first: (key, hash, at)."""

    @property
    def max_questions(self) -> int:
        wanted = self.requested_questions
        return len(self.questions) if wanted is None else min(wanted, len(self.questions))

    @property
    def next_seq(self) -> int:
        return self.seq + 1

    @property
    def paused(self) -> bool:
        return self.open is not None and self.open.paused_at is not None

    @property
    def is_watched(self) -> bool:
        """Whether what proctoring sees counts: it does not while the interview is paused or parked."""
        return self.status == "in_progress" and not self.paused and self.parked is None

    @property
    def has_video(self) -> bool:
        """Whether the candidate is in a LiveKit room."""
        return self.room.mode == "live" and any(source == "livekit" for source, _ in self.presence.here)

    @property
    def deadline(self) -> int | None:
        """The open question's deadline (ms), if its clock runs."""
        return self.open.deadline if self.open and self.parked is None else None

    def clock_time(self, now: int) -> int:
        """The time that the open question's clock shows at `now` (ms): it stands still while parked."""
        return now if self.parked_since is None else min(now, self.parked_since)

    @property
    def due_at(self) -> int | None:
        """When the next timer of this session fires (ms): the deadline and its grace, the end of a stop for a lost
        connection, or the expiry."""
        if self.status == "in_progress":
            question = self.open
            if question is not None and question.lost_at is not None and self.parked is None:
                return question.lost_at + question.lost_limit_ms
            return None if self.deadline is None else self.deadline + GRACE_MS
        return self.expires_at if self.status == "initialized" else None

    @property
    def unseen_since(self) -> int | None:
        """The start, put off by all pauses and credits (ms), while a clock runs and the candidate gave no sign."""
        if self.candidate_seen or self.started_at is None or self.deadline is None:
            return None
        credited = sum(line.ms for line in self.ledger if line.cause != "extended")
        return self.started_at + self.paused_total_ms + credited

    def is_overdue(self, now: int) -> bool:
        return self.due_at is not None and now > self.due_at

    @property
    def duration_ms(self) -> int | None:
        """Start to end less pauses, once it has ended after a start."""
        if self.started_at is None or self.completed_at is None:
            return None
        return max(0, self.completed_at - self.started_at - self.paused_total_ms)

    @property
    def status_detail(self) -> str:
        if self.status == "initialized":
            return "waiting"
        if self.status != "in_progress":
            return "ended"
        if self.parked is not None:
            return "parked"
        if self.actor is None:
            return "recovering"
        if self.open is not None and self.open.lost_at is not None:
            return "connection_lost"
        return "paused" if self.paused else "question_open"

    @property
    def room_work(self) -> str | None:
        """What there is to do about the room, for sweeps: it is `wanted`, `later`, `open`, or `closing`."""
        mode = self.room.mode
        if self.status in ("completed", "deleted"):
            return "closing" if mode in ("live", "fallback") and not self.room.closed else None
        if mode == "live":
            return "open"
        later = mode in ("deferred", "none") and self.status == "initialized"
        return "later" if later else "wanted"

    @property
    def report_work(self) -> str | None:
        """Whether a report is `wanted`, for sweeps."""
        return "wanted" if self.status == "completed" and self.report_due > self.report_made else None

    def limit_ms(self, index: int) -> int:
        """The time limit of a question after the multiplier, in ms."""
        question = self.questions[index]
        seconds = question.time_limit_seconds
        if seconds is None:
            seconds = self.coding_question_timer if question.type == "coding" else self.text_question_timer
        return round(seconds * self.accommodations.time_multiplier * 1000)

    def remembered(self, key: str, now: int) -> str | None:
        """The hash of an earlier command with this key, if it is still remembered."""
        for known, body_hash, at in reversed(self.commands):
            if known == key:
                return body_hash if now - at <= REMEMBERED_FOR_MS else None
        return None


def snapshot_of(state: State) -> Snapshot:
    """The snapshot document of a state, with the fields that lists and sweeps filter on."""
    return Snapshot(
        session_id=state.session_id,
        seq=state.seq,
        version=state.version,
        status=state.status,
        status_detail=state.status_detail,
        deadline=due_at - GRACE_MS if state.status == "in_progress" and (due_at := state.due_at) is not None else None,
        unseen_since=state.unseen_since,
        epoch=state.epoch,
        actor=state.actor,
        node=state.node,
        job_id=state.job_id,
        email=state.candidate.email.casefold(),
        created_at=state.created_at,
        expires_at=state.expires_at if state.status == "initialized" else None,
        scheduled_at=state.scheduled_at,
        end_reason=state.end_reason,
        duration=state.duration_ms,
        room=state.room_work,
        front_end=state.presence.front_end,
        report=state.report_work,
        words=words_of(state.candidate.email, state.candidate.name),
        ended_at=state.completed_at,
        started_at=state.started_at,
        score=state.report_score,
        state=dump_state(state),
    )


def dump_state(state: State) -> str:
    """The state as JSON text. (By `asdict` it takes three times as long, and it is made after every change.)"""
    return json.dumps(state, default=_fields, ensure_ascii=False, separators=(",", ":"))


def _fields(part: Any) -> dict[str, Any]:
    return {name: getattr(part, name) for name in part.__dataclass_fields__}


def load_state(text: str) -> State:
    """The inverse of dump_state."""
    doc: dict[str, Any] = json.loads(text)
    doc["candidate"] = known_of(Candidate, doc["candidate"])
    doc["questions"] = tuple(known_of(Question, q) for q in doc["questions"])
    doc["accommodations"] = known_of(Accommodations, doc["accommodations"])
    doc["open"] = known_of(OpenQuestion, doc["open"]) if doc["open"] else None
    doc["answers"] = tuple(known_of(ClosedAnswer, a) for a in doc["answers"])
    doc["ledger"] = tuple(known_of(LedgerLine, line) for line in doc["ledger"])
    doc["room"] = known_of(Room, doc.get("room", {}))
    recording = doc.get("recording", {})
    doc["recording"] = known_of(Recording, recording | {"files": tuple(recording.get("files", ()))})
    presence = doc.get("presence", {})
    here = tuple((source, connection) for source, connection in presence.pop("here", ()))
    gone, replaced = tuple(presence.pop("gone", ())), tuple(presence.pop("replaced", ()))
    doc["presence"] = known_of(Presence, presence | {"here": here, "gone": gone, "replaced": replaced})
    doc["proctoring"] = sightings.loaded(doc.get("proctoring", {}))
    doc["commands"] = tuple((key, body_hash, at) for key, body_hash, at in doc["commands"])
    return known_of(State, doc)


def with_command(state: State, key: str, body_hash: str, at: int) -> State:
    """The state that remembers one more command, and forgets those over the limits."""
    kept = tuple(c for c in state.commands if at - c[2] <= REMEMBERED_FOR_MS)[-(REMEMBERED_COMMANDS - 1) :]
    return replace(state, commands=(*kept, (key, body_hash, at)))
