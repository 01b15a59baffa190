"""The bodies that clients send, and how they become commands. Unknown fields are refused, nothing is
silently converted, and whatever cannot be stored is refused here."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from api.limits import ANSWER_BYTES
from orchestrator.errors import InvalidInput, TooLarge
from orchestrator.interview.commands import (
    Accommodations,
    Caller,
    Create,
    NoteSightings,
    Question,
    Update,
    command_key,
    content_hash,
)
from orchestrator.interview.entry import canonical_json
from orchestrator.interview.outbox import EVENT_TYPES
from orchestrator.interview.sightings import LASTING, MOMENTARY, Sighting, check_kind
from orchestrator.keys import Scope

MOST_NAMES = 64
"""In one object."""
MOST_PAIRS = 16
"""In metadata, and in the detail of an event."""
_ISO = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d", re.ASCII)


def _storable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("it contains a lone surrogate, which is not a character") from None
    if "\0" in text:
        raise ValueError("it contains a NUL character, which cannot be kept")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it must not be blank")
    return text


def _email(text: str) -> str:
    try:
        validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise ValueError(f"it is not an email address: {error}") from None
    return text


def _iso_text(value: object) -> object:
    """Pydantic would also take seconds since the epoch, as a number or as text."""
    if not isinstance(value, str) or not _ISO.match(value):
        raise ValueError("send a time in ISO 8601 with its zone, for example 2026-05-01T09:00:00Z")
    return value


def _with_zone(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("give the time zone, for example 2026-05-01T09:00:00Z")
    if not 2000 <= moment.year < 2200:
        raise ValueError("the year must be from 2000 to 2199")
    return moment.astimezone(UTC)


def _answer_size(text: str) -> str:
    if len(text.encode("utf-8", "replace")) > ANSWER_BYTES:
        raise TooLarge(f"The text is larger than {ANSWER_BYTES} bytes of UTF-8, the most that is taken.")
    return text


def _few(value: object, most: int = MOST_NAMES) -> object:
    """Before each of them is looked at: to say what is wrong with very many takes very long."""
    if isinstance(value, dict) and len(value) > most:
        raise ValueError(f"it has {len(value)} members, and more than {most} are too many here")
    return value


def _few_pairs(value: object) -> object:
    return _few(value, MOST_PAIRS)


STORABLE = r"^[^\u0000]*$"
NOT_BLANK = r"^[^\u0000]*[^\s\u0000\u001c-\u001f\u0085][^\u0000]*$"
"""For /docs: some character that is not white space, and none that is NUL."""
EVENT_KINDS = f"^({'|'.join(sorted(LASTING | MOMENTARY))}|custom:[a-z0-9_]{{1,40}})$"
_QUAD, _CHARACTER = "([A-Za-z0-9+/]{4})", "[A-Za-z0-9+/]"
SIGNING_SECRET = f"^whsec_({_QUAD}{{8,21}}|{_QUAD}{{8,21}}{_CHARACTER}{{2}}==|{_QUAD}{{8,20}}{_CHARACTER}{{3}}=)$"
"""24 to 64 bytes."""
WEB_ADDRESS = r"^https?://[^\s\u0000]+$"
YEARS = r"^2[01]\d\d-\d\d-\d\d[Tt]\d\d:\d\d"


def _shown(**schema: Any) -> Any:
    """What /docs says of text beside its length."""
    return Field(json_schema_extra=schema)


ADDRESS = _shown(format="email", pattern=r"^[^\u0000@]+@([^\u0000@]+\.[^\u0000@]+|test)$")
Text = Annotated[str, AfterValidator(_storable), _shown(pattern=STORABLE)]
Written = Annotated[str, AfterValidator(_storable), AfterValidator(_not_blank), _shown(pattern=NOT_BLANK)]
Name = Annotated[Written, StringConstraints(min_length=1, max_length=200)]
Email = Annotated[Text, StringConstraints(min_length=3, max_length=320), AfterValidator(_email), ADDRESS]
Phone = Annotated[Text, StringConstraints(max_length=50)]
JobId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Label = Annotated[Text, StringConstraints(min_length=1, max_length=200)]
QuestionText = Annotated[Written, StringConstraints(min_length=1, max_length=10_000)]
Kind = Literal["text", "coding"]
Timer = Annotated[int, Field(ge=5, le=7_200)]
Moment = Annotated[
    datetime,
    Field(strict=False),
    BeforeValidator(_iso_text),
    AfterValidator(_with_zone),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": YEARS}),
]
AnswerText = Annotated[
    str, AfterValidator(_answer_size), AfterValidator(_storable), _shown(pattern=STORABLE, maxLength=ANSWER_BYTES)
]
Reason = Annotated[Text, StringConstraints(min_length=1, max_length=500)]
Index = Annotated[int, Field(ge=0, le=10_000)]
DetailText = Annotated[Text, StringConstraints(max_length=500)]
DetailValue = DetailText | int | float | bool | None
DETAIL_CHARACTERS = 2_000
FewPairs = BeforeValidator(_few_pairs)


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _has_few_members(cls, value: object) -> object:
        return _few(value)


class AccommodationsBody(Body):
    time_multiplier: Annotated[float, Field(ge=1, le=4)] = 1.0
    camera_exempt: bool = False
    sensitivity: Annotated[Text, StringConstraints(max_length=50)] | None = None


TYPES_NEED_QUESTIONS: dict[str, Any] = {
    "if": {"required": ["question_types"], "properties": {"question_types": {"type": "array"}}},
    "then": {"required": ["questions"], "properties": {"questions": {"type": "array"}}},
}


class SessionBody(Body):
    """What create takes; PATCH takes the same fields, all optional."""

    model_config = ConfigDict(json_schema_extra=TYPES_NEED_QUESTIONS)

    phone: Phone | None = None
    job_id: Label | None = None
    questions: Annotated[list[QuestionText], Field(min_length=1, max_length=200)] | None = None
    question_types: Annotated[list[Kind], Field(min_length=1, max_length=200)] | None = None
    max_questions: Annotated[int, Field(ge=1)] | None = None
    text_question_timer: Timer = 120
    coding_question_timer: Timer = 300
    scheduled_at: Moment | None = None
    expires_at: Moment | None = None
    accommodations: AccommodationsBody = AccommodationsBody()
    metadata: Annotated[
        dict[Label, Annotated[Text, StringConstraints(max_length=2_000)]], Field(max_length=MOST_PAIRS), FewPairs
    ] = {}

    @model_validator(mode="after")
    def _types_match_questions(self) -> SessionBody:
        if self.question_types is None:
            return self
        if self.questions is None:
            raise ValueError("question_types needs questions")
        if len(self.question_types) != len(self.questions):
            raise ValueError(
                f"question_types has {len(self.question_types)} entries and questions has "
                f"{len(self.questions)}; they must be equally many"
            )
        return self

    def own_questions(self) -> tuple[Question, ...] | None:
        if self.questions is None:
            return None
        types: list[Kind] = self.question_types or ["text"] * len(self.questions)
        return tuple(Question(text, kind) for text, kind in zip(self.questions, types, strict=True))


class CreateBody(SessionBody):
    name: Name
    email: Email

    def command(self, questions: tuple[Question, ...], drawn: dict[str, Any] | None) -> Create:
        return Create(
            name=self.name,
            email=self.email,
            questions=questions,
            phone=self.phone,
            job_id=self.job_id,
            max_questions=self.max_questions,
            text_question_timer=self.text_question_timer,
            coding_question_timer=self.coding_question_timer,
            scheduled_at=ms_of(self.scheduled_at),
            expires_at=ms_of(self.expires_at),
            accommodations=_accommodations(self.accommodations),
            metadata=self.metadata,
            drawn=drawn,
        )


class BulkItem(Body):
    """What an item of a bulk call has beside the fields of a creation."""

    idempotency_key: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")] | None = None


class BulkBody(Body):
    """`sessions`: bodies of POST /create, each with an `idempotency_key` of its own if it has one."""

    sessions: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1_000)]
    dry_run: bool = False


class UpdateBody(SessionBody):
    name: Name = ""
    email: Email = ""

    def command(self) -> Update:
        """Only what was sent; questions and their types go together."""
        changes: dict[str, Any] = {}
        for name in self.model_fields_set - {"questions", "question_types"}:
            value = getattr(self, name)
            if isinstance(value, datetime):
                value = ms_of(value)
            elif isinstance(value, AccommodationsBody):
                value = value.model_dump()
            changes[name] = value
        questions = self.own_questions()
        if questions is not None:
            changes["drawn"] = None
            changes["questions"] = [{"text": q.text, "type": q.type, "time_limit_seconds": None} for q in questions]
        return Update(changes)


class AnswerBody(Body):
    question_index: Index
    answer: AnswerText
    language: Annotated[Text, StringConstraints(max_length=50)] | None = None


class DraftBody(Body):
    question_index: Index
    draft: AnswerText
    revision: Annotated[int, Field(ge=0, le=2**53)] | None = None


class ReasonBody(Body):
    reason: Reason | None = None


class ExtendBody(Body):
    seconds: Annotated[float, Field(gt=0, le=86_400)]
    reason: Reason


class ConsentBody(Body):
    accepted: Literal[True]
    policy: Label | None = None


BOTH: dict[str, Any] = {
    "required": ["phase", "duration_seconds"],
    "properties": {"phase": {"type": "string"}, "duration_seconds": {"type": "number"}},
}


class SightingBody(Body):
    """`phase`: what lasts began or ended `at` that time. `duration_seconds`: it began then and lasted so long.

    With neither it has happened, for a time that nobody knows.
    """

    model_config = ConfigDict(json_schema_extra={"not": BOTH})

    type: Annotated[str, StringConstraints(max_length=60), _shown(pattern=EVENT_KINDS)]
    at: Moment | None = None
    phase: Literal["began", "ended"] | None = None
    duration_seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None
    detail: Annotated[dict[Label, DetailValue], Field(max_length=MOST_PAIRS), FewPairs] | DetailText | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> SightingBody:
        if self.phase is not None and self.duration_seconds is not None:
            raise ValueError("give phase or duration_seconds, not both")
        if (self.phase is not None or self.duration_seconds is not None) and self.type in MOMENTARY:
            raise ValueError(f"{self.type} happens at one time; it has neither phase nor duration_seconds")
        return self


Sightings = Annotated[list[SightingBody], Field(max_length=100, fail_fast=True)]
"""The first that is wrong is told of: all of them would be thousands of sentences, made by whoever sends them."""


class SightingsBody(Body):
    """`sent_at`: the sender's clock, so that the times of one that is wrong can be put right. `source`: whether staff
    pass on what a page has seen, or have seen it themselves."""

    events: Sightings
    sent_at: Moment | None = None
    source: Literal["page", "staff"] = "page"

    def identity(self, caller: Caller, key: str) -> tuple[str, str]:
        """What a call with this key is known by: the same on every way by which it may come."""
        return command_key(caller, NoteSightings(()), key), content_hash(self.model_dump(mode="json"))

    def seen(self, source: Literal["page", "staff"], now: int) -> tuple[Sighting, ...]:
        """The events as they were seen, with times by our clock. `now` in ms. Raises InvalidInput."""
        sent_at = ms_of(self.sent_at)
        skew = now - sent_at if sent_at is not None else 0
        found: list[Sighting] = []
        for number, event in enumerate(self.events):
            check_kind(event.type, f"/events/{number}/type")
            told = ms_of(event.at)
            detail = {"text": event.detail} if isinstance(event.detail, str) else event.detail or {}
            if len(canonical_json(detail)) > DETAIL_CHARACTERS:
                raise InvalidInput.at(
                    f"/events/{number}/detail", f"detail is over {DETAIL_CHARACTERS} characters of JSON."
                )
            duration = None if event.duration_seconds is None else round(event.duration_seconds * 1000)
            at = now - (duration or 0) if told is None else told + skew
            found.append(Sighting(event.type, source, at, event.phase, duration, detail=detail))
        return tuple(found)


class VerdictBody(Body):
    verdict: Literal["cleared", "escalated", "unavailable"]
    reason: Annotated[Written, StringConstraints(min_length=1, max_length=2_000)]


class DisputeBody(Body):
    statement: Annotated[Written, StringConstraints(min_length=1, max_length=2_000)]


class ReviewBody(Body):
    verdict: Literal["advance", "hold", "reject"]
    note: Annotated[Written, StringConstraints(min_length=1, max_length=4_000)]


class TokenBody(Body):
    role: Literal["candidate", "observer"] = "candidate"


class EmptyBody(Body):
    pass


class DrainBody(Body):
    node: Annotated[str, Field(min_length=4, max_length=100, pattern="^[0-9a-f]+$")]
    draining: bool = True


class RecoverBody(Body):
    dry_run: bool = False


WebhookUrl = Annotated[Text, Field(min_length=1, max_length=2_000), _shown(format="uri", pattern=WEB_ADDRESS)]
WebhookEvent = Annotated[str, Field(max_length=100), _shown(enum=list(EVENT_TYPES))]
WebhookSecret = Annotated[str, Field(max_length=200), _shown(pattern=SIGNING_SECRET)]


class JobQuestion(Body):
    text: QuestionText
    type: Kind = "text"
    time_limit_seconds: Annotated[float, Field(ge=5, le=7_200)] | None = None


class JobFields(Body):
    """`pick`: each session gets so many of the questions, by chance. `shuffle`: and in an order of its own."""

    title: Label
    questions: Annotated[list[JobQuestion], Field(min_length=1, max_length=200, fail_fast=True)]
    pick: Annotated[int, Field(ge=1, le=200)] | None = None
    shuffle: bool = False

    @model_validator(mode="after")
    def _has_so_many(self) -> JobFields:
        if self.pick is not None and self.pick > len(self.questions):
            raise ValueError(f"pick is {self.pick}, and there are {len(self.questions)} questions")
        return self


class JobBody(JobFields):
    job_id: JobId


class JobUpdateBody(JobFields):
    job_id: JobId | None = None


class KeyBody(Body):
    """A staff key to be made. `name`: who the journal says has acted."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.@-]{0,63}$")]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)]
    expires_at: Moment | None = None


class WebhookBody(Body):
    """An endpoint. `events`: the types that it is told of; none: all."""

    url: WebhookUrl
    events: Annotated[list[WebhookEvent], Field(max_length=100)] = []
    description: Annotated[Text, Field(max_length=500)] = ""
    secret: WebhookSecret | None = None


class WebhookChanges(Body):
    url: WebhookUrl = ""
    events: Annotated[list[WebhookEvent], Field(max_length=100)] = []
    description: Annotated[Text, Field(max_length=500)] = ""
    enabled: bool = True


class RotateBody(Body):
    secret: WebhookSecret | None = None


class ReplayBody(Body):
    """`since`: the time (ISO 8601) from which on events are sent again. `delivered`: those that were delivered too."""

    since: Annotated[str, _shown(format="date-time", pattern=YEARS)]
    delivered: bool = False


def moment_ms(text: str, pointer: str) -> int:
    """A time in ISO 8601 as ms. Raises InvalidInput."""
    try:
        return round(_MOMENT.validate_python(text).timestamp() * 1000)
    except ValidationError:
        raise InvalidInput.at(pointer, f"{pointer[1:]} must be a time in ISO 8601 with its zone.") from None


_MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)


def ms_of(moment: datetime | None) -> int | None:
    """A time in ms."""
    return None if moment is None else round(moment.timestamp() * 1000)


def _accommodations(body: AccommodationsBody) -> Accommodations:
    return Accommodations(body.time_multiplier, body.camera_exempt, body.sensitivity)
