"""What proctoring has seen, its evidence, and what the calls about it answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.answers.common import (
    Answer,
    Count,
    Score,
    Seconds,
    Seq,
    SessionId,
    Sha256,
    Share,
    StillId,
    Success,
    Time,
    sometimes,
)
from api.answers.sessions import CandidateSession, ProctoringForCandidates, Session, SessionAnswer, Verdict

Source = Literal["page", "frames", "livekit", "channel", "hook", "staff"]
Shown = Literal["ok", "face_absent", "multiple_faces", "face_mismatch", "camera_obscured", "unreadable"]


class QualityProblem(Answer):
    code: str
    advice: str


class Quality(Answer):
    """Figures of a reference picture; those of the face are null unless there is exactly one."""

    faces: Count
    face_share: Annotated[float, Field(ge=0)] | None
    sharpness: Annotated[float, Field(ge=0)] | None
    brightness: Annotated[float, Field(ge=0, le=255)] | None
    clipped: Share | None
    roll: float | None
    problems: list[QualityProblem]


class ReferenceCaptured(Success):
    session: Session | CandidateSession
    session_id: SessionId
    captured: Literal[True]
    quality: Quality


class EventsReceived(SessionAnswer):
    received: Annotated[int, Field(ge=0, le=100)]


class Frame(Answer):
    """`verdict` and `faces` are null while nobody has looked at it."""

    id: StillId
    at: Time
    sha256: Sha256
    checked: bool
    verdict: Shown | None
    faces: Count | None


class FrameAnswer(Success):
    """`next_in_seconds`: when the next still is wanted."""

    frame: Frame
    next_in_seconds: Seconds


class ReferenceFace(Answer):
    captured_at: Time
    sha256: Sha256


class Objection(Answer):
    statement: str
    at: Time


class SeenForCandidates(Answer):
    """`until` is null if it still lasts (`lasts`), or happened at once."""

    id: Seq
    type: str
    source: Source
    at: Time
    until: Time | None
    duration_seconds: Seconds | None
    lasts: bool
    count: Annotated[int, Field(ge=1)]
    detail: dict[str, Any]
    disputes: list[Objection]


class SeenEvent(SeenForCandidates):
    """With what the policy makes of it, where there is a policy."""

    severity: Literal["info", "low", "medium", "high"] = sometimes()
    points: float = sometimes()
    because: str = sometimes()


class EvidenceForCandidates(Answer):
    """A still. `gone`: why it is not there any more."""

    id: StillId
    at: Time
    sha256: Sha256
    because: str
    verdict: Shown
    available: bool
    expires_at: Time | None
    gone: str | None


class Evidence(EvidenceForCandidates):
    bytes: Count | None
    url: str | None


class Coverage(Answer):
    """Shares of the time in which the interview ran that were watched; null: not meant to be."""

    camera: Share | None
    page: Share | None
    video: Share | None
    confidence: Share
    because: list[str]


class Stills(Answer):
    checked: Count
    late: Count
    not_checked: Count
    unreadable: Count


class TimelineForCandidates(ProctoringForCandidates):
    """A session's proctoring as its candidate sees it."""

    as_of: Time
    reference: ReferenceFace | None
    events: list[SeenForCandidates]
    evidence: list[EvidenceForCandidates]
    coverage: Coverage
    stills: Stills


class Integrity(Answer):
    """`points`: what each type of event has taken off."""

    score: Score
    label: str
    policy: str
    confidence: Share
    points: dict[str, float]


class GivenVerdict(Answer):
    verdict: Verdict
    reason: str
    by: str
    at: Time


class Note(Answer):
    """Something that bears on how far the timeline can be relied on: a hook that failed, pictures that were erased."""

    type: Literal["hook_failed", "hooks_suspended", "erased", "reference_captured"]
    at: Time
    hook: str = sometimes()
    reason: str = sometimes()
    off: bool = sometimes()
    losses: Count = sometimes()
    what: Literal["reference", "stills", "answers"] = sometimes()
    because: str = sometimes()


class Timeline(TimelineForCandidates):
    """A session's proctoring as staff see it. `integrity` is null where its policy is not known."""

    events: list[SeenEvent]  # pyright: ignore[reportIncompatibleVariableOverride]
    evidence: list[Evidence]  # pyright: ignore[reportIncompatibleVariableOverride]
    integrity: Integrity | None
    verdict: GivenVerdict | None
    notes: list[Note]


class ProctoringAnswer(Success):
    proctoring: Timeline | TimelineForCandidates


class PicturesErased(Success):
    session_id: SessionId
    erased: Literal[True]
