"""What can be asked of an interview. A command is data; `decide` says what comes of it.

Commands from clients: Create, Update, Start, Answer, Pause, Resume, Extend, End, Consent, NewLink, Delete.
Commands from the system: Expire (a deadline has passed), Abandon (no sign of the candidate), Activate and
Deactivate (an actor takes or lets go of the session), Park (activation is given up), Credit (time that was
ours to answer for), NoteRoom, NoteRecording, NoteConnected and NoteDisconnected (what became of the room, of its
recording and of the connections), NoteSightings, NoteFrames, NoteReference, NoteErased and NoteHookFailure (what
proctoring has seen and done).
Commands about proctoring, from people: Dispute (by the candidate) and GiveVerdict (by staff).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from orchestrator.errors import CommandIdReused
from orchestrator.interview.entry import canonical_json
from orchestrator.interview.sightings import Sighting
from orchestrator.interview.wire import Wire

Role = Literal["staff", "candidate", "system"]
QuestionType = Literal["text", "coding"]
Source = Literal["livekit", "channel"]
"""Where a connection of the candidate is seen: in the LiveKit room, or as a live channel to a front end."""


@dataclass(frozen=True, slots=True)
class Caller(Wire):
    """Who asks: `principal` names the key or token (never its value), `role` decides what is allowed."""

    principal: str
    role: Role


SYSTEM = Caller("system", "system")


@dataclass(frozen=True, slots=True)
class Question(Wire):
    """A question as asked. Its own time limit, in seconds before the multiplier, wins over the timers."""

    text: str
    type: QuestionType = "text"
    time_limit_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Accommodations(Wire):
    """What a candidate is granted: more time (1-4 times), no camera, another proctoring sensitivity."""

    time_multiplier: float = 1.0
    camera_exempt: bool = False
    sensitivity: str | None = None


@dataclass(frozen=True, slots=True)
class Create(Wire):
    """A new session. Timers are in seconds, `scheduled_at` and `expires_at` in ms since the epoch."""

    name: str
    email: str
    questions: tuple[Question, ...]
    phone: str | None = None
    job_id: str | None = None
    max_questions: int | None = None
    text_question_timer: int = 120
    coding_question_timer: int = 300
    scheduled_at: int | None = None
    expires_at: int | None = None
    accommodations: Accommodations = Accommodations()
    metadata: dict[str, str] = field(default_factory=dict)
    drawn: dict[str, Any] | None = None
    """How the questions were taken from their job: {version, pick, shuffle, seed}; None: they are the session's own."""


@dataclass(frozen=True, slots=True)
class Update(Wire):
    """Changes before the start: values by the names of Create's fields, only those that change."""

    changes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Start(Wire):
    pass


@dataclass(frozen=True, slots=True)
class Answer(Wire):
    question_index: int
    answer: str
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Pause(Wire):
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Resume(Wire):
    pass


@dataclass(frozen=True, slots=True)
class Extend(Wire):
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class End(Wire):
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Consent(Wire):
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class NewLink(Wire):
    pass


@dataclass(frozen=True, slots=True)
class Delete(Wire):
    pass


@dataclass(frozen=True, slots=True)
class Expire(Wire):
    """A deadline has passed: close the open question, or end a session that was never started."""


@dataclass(frozen=True, slots=True)
class Activate(Wire):
    """An actor takes the session. `silent_since` (ms): the last proof of life of whoever held it before."""

    actor: str
    node: str
    cause: str
    silent_since: int | None = None
    retry: bool = False
    """Staff asked for it: a parked session is tried again."""
    dashboard_url: str | None = None
    """Where people see the actor, if they can."""


@dataclass(frozen=True, slots=True)
class Deactivate(Wire):
    """The actor that holds the session lets it go."""

    reason: str


@dataclass(frozen=True, slots=True)
class Abandon(Wire):
    """End a session whose candidate has given no sign for `after_ms` of running clock since the start."""

    after_ms: int


@dataclass(frozen=True, slots=True)
class Park(Wire):
    """Give up activating the session: its clock stops at `since` (ms) until staff retry or end it."""

    reason: str
    since: int


@dataclass(frozen=True, slots=True)
class Credit(Wire):
    """Nothing could be made durable from `since` until `until` (both ms; None: now): the open question gets that
    time back."""

    since: int
    cause: str
    until: int | None = None


@dataclass(frozen=True, slots=True)
class NoteRoom(Wire):
    """What became of the session's LiveKit room. `url` is where clients reach it, `reason` why there is none."""

    mode: Literal["live", "fallback", "closed"]
    url: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NoteConnected(Wire):
    """The candidate has joined: `connection` is LiveKit's participant sid, or the id of a live channel.

    `listed`: LiveKit has just said so when it was asked, so that it is no late news.
    """

    connection: str
    source: Source = "livekit"
    listed: bool = False


@dataclass(frozen=True, slots=True)
class NoteDisconnected(Wire):
    """A connection of the candidate has ended at `at` (ms), for a reason by LiveKit's name for it.

    `credit_ms` is the most that the clock may stand still for lost connections in one interview.
    """

    connection: str
    reason: str
    at: int
    credit_ms: int
    source: Source = "livekit"


@dataclass(frozen=True, slots=True)
class NoteRecording(Wire):
    """What became of the recording. `files`: {filename, location, size (bytes), duration_seconds} of each."""

    status: Literal["active", "ended", "failed"]
    egress_id: str | None = None
    reason: str | None = None
    files: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class NoteSightings(Wire):
    """What was seen, by whoever, received since `received_at` (ms; None: now). `keyed`: what came by calls with a key,
    as (key, hash, sightings); a call that was noted before adds nothing.
    """

    sightings: tuple[Sighting, ...]
    keyed: tuple[tuple[str, str, tuple[Sighting, ...]], ...] = ()
    received_at: int | None = None


@dataclass(frozen=True, slots=True)
class NoteFrames(Wire):
    """Stills that were looked at: when they were taken (`times`, ms), and what came of them.

    `batch` is an id: one that was noted before changes nothing. `late`: how many of `times` were looked at late.
    `dropped`: never looked at, as there were too many.
    `kept`: {id, at, sha256, because, verdict} of each that is kept as evidence; `thinned`: ids of those that are no
    longer kept, since there were too many.
    """

    batch: str
    times: tuple[int, ...]
    sightings: tuple[Sighting, ...] = ()
    late: int = 0
    dropped: int = 0
    unreadable: int = 0
    kept: tuple[dict[str, Any], ...] = ()
    thinned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NoteReference(Wire):
    """A reference face was captured. `quality` has the figures by which it was found good enough."""

    sha256: str
    engine: str
    engine_version: str
    quality: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NoteErased(Wire):
    """The reference face, so many stills kept as evidence, or what the candidate has answered were erased."""

    what: Literal["reference", "stills", "answers"]
    because: str
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NoteHookFailure(Wire):
    """A proctoring hook has failed; `off`: it is not called any more."""

    hook: str
    reason: str
    off: bool


@dataclass(frozen=True, slots=True)
class Dispute(Wire):
    """The candidate objects to an event of the timeline, by its id."""

    event_id: int
    statement: str


@dataclass(frozen=True, slots=True)
class GiveVerdict(Wire):
    """What a person makes of the session's proctoring, and why."""

    verdict: Literal["cleared", "escalated", "unavailable"]
    reason: str


@dataclass(frozen=True, slots=True)
class NoteReport(Wire):
    """A report was made of all events up to `as_of`. `sha256` is that of its JSON text, `score` the integrity score."""

    as_of: int
    sha256: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Review(Wire):
    """What a person decides about the candidate after reading the report."""

    verdict: Literal["advance", "hold", "reject"]
    note: str


Command = (
    Create
    | Update
    | Start
    | Answer
    | Pause
    | Resume
    | Extend
    | End
    | Consent
    | NewLink
    | Delete
    | Expire
    | Activate
    | Deactivate
    | Abandon
    | Park
    | Credit
    | NoteRoom
    | NoteConnected
    | NoteDisconnected
    | NoteRecording
    | NoteSightings
    | NoteFrames
    | NoteReference
    | NoteErased
    | NoteHookFailure
    | Dispute
    | GiveVerdict
    | NoteReport
    | Review
)

CLIENT_COMMANDS = (Update, Start, Answer, Pause, Resume, Extend, End, Consent, NewLink, Delete)


def command_name(command: Command) -> str:
    """The command's name in the journal, in logs and in Ray's call names: `answer`, `new_link`, ..."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(command).__name__).lower()


def command_hash(command: Command) -> str:
    """A hash of the command's content: the same id with another hash is an error, not a repeat.

    Questions that were drawn from a job are not the client's: the job may have changed since.
    """
    if isinstance(command, Create) and command.drawn is not None:
        command = replace(command, questions=(), drawn=None)
    return content_hash(asdict(command))


def content_hash(content: Any) -> str:
    """The same of what a call carried, where its command has times of ours in it."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:32]


def check_same_body(known: str, given: str) -> None:
    """Raises CommandIdReused if a key came with another body (by its hash) before."""
    if known != given:
        raise CommandIdReused(
            "This Idempotency-Key was used before with another body; use a new key for a new command."
        )


def command_key(caller: Caller, command: Command, command_id: str) -> str:
    """The identity of a command: principal, command and the client's id, shortened to 32 hex digits."""
    identity = "\0".join((caller.principal, command_name(command), command_id))
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]
