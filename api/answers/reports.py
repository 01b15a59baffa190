"""Reports, for staff and for candidates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.answers.common import Answer, Count, Seconds, Seq, SessionId, Success, Time
from api.answers.proctoring import Timeline, TimelineForCandidates
from api.answers.sessions import (
    Accommodations,
    AccommodationsForCandidates,
    CandidateData,
    Clock,
    Kind,
    RecordingFile,
    RecordingStatus,
    StaffSessionAnswer,
)
from api.answers.work import Drawn
from orchestrator.interview.state import EndReason

ReviewVerdict = Literal["advance", "hold", "reject"]


class JobForCandidates(Answer):
    job_id: str | None
    title: str | None


class ReportJob(JobForCandidates):
    questions_drawn: Drawn | None


class InterviewForCandidates(Answer):
    created_at: Time
    scheduled_at: Time | None
    started_at: Time
    completed_at: Time
    duration_seconds: Seconds
    end_reason: EndReason
    max_questions: Annotated[int, Field(ge=1, le=200)]
    answered: Count
    answers_erased_at: Time | None
    consent_at: Time | None
    consent_policy: str | None
    accommodations: AccommodationsForCandidates


class ReportInterview(InterviewForCandidates):
    end_note: str | None
    ended_by: str
    accommodations: Accommodations  # pyright: ignore[reportIncompatibleVariableOverride]
    metadata: dict[str, str]


class QuestionForCandidates(Answer):
    """`late_by_seconds`: between the end of the time and the entry, for a question that ran out."""

    index: Count
    text: str
    type: Kind
    time_limit_seconds: Seconds
    opened_at: Time | None
    answer: str | None
    language: str | None
    submitted_at: Time | None
    elapsed_seconds: Seconds | None
    source: Literal["submitted", "draft", "timeout"] | None
    status: Literal["answered", "draft", "no_answer", "left_open", "not_reached"]
    late_by_seconds: Seconds | None


class EvaluatorScore(Answer):
    evaluator: str
    version: str
    value: float | None
    reason: str


class ReportQuestion(QuestionForCandidates):
    scores: list[EvaluatorScore]


class ReportClock(Clock):
    paused_seconds: Seconds


class TimelineSpan(Answer):
    lane: Literal["questions", "clock", "connection", "video", "machine", "proctoring"]
    kind: str
    label: str
    from_: Annotated[Time, Field(alias="from")]
    until: Time
    seconds: Seconds


class ReportRecording(Answer):
    status: RecordingStatus
    files: list[RecordingFile]


class EvaluatorMean(Answer):
    evaluator: str
    version: str
    mean: float | None
    scored: Count


class Evaluation(Answer):
    """An evaluator's score is not a person's."""

    scored_by_a_person: Literal[False]
    reviewed: bool
    note: str
    evaluators: list[EvaluatorMean]


class Review(Answer):
    verdict: ReviewVerdict
    note: str
    by: str
    at: Time


class ReportPlacement(Answer):
    """An actor that held the interview, and why it took it."""

    epoch: Count
    actor: str
    node: str | None
    cause: str
    at: Time


class ReportJournal(Answer):
    entries: Count
    head: str
    verified: bool
    broken_at: Seq | None


class Versions(Answer):
    report: Annotated[int, Field(ge=1)]
    software: str
    policy: str | None
    evaluators: list[str]


class CandidateReport(Answer):
    """A report as its candidate sees it. `outdated`: a newer one is being made."""

    session_id: SessionId
    made_at: Time
    as_of: Seq
    partial: bool
    candidate: CandidateData
    clock: ReportClock
    journal: ReportJournal
    job: JobForCandidates
    interview: InterviewForCandidates
    questions: list[QuestionForCandidates]
    timeline: list[TimelineSpan]
    proctoring: TimelineForCandidates
    versions: Versions
    outdated: bool


class Report(CandidateReport):
    """A report as staff see it."""

    job: ReportJob  # pyright: ignore[reportIncompatibleVariableOverride]
    interview: ReportInterview  # pyright: ignore[reportIncompatibleVariableOverride]
    questions: list[ReportQuestion]  # pyright: ignore[reportIncompatibleVariableOverride]
    proctoring: Timeline  # pyright: ignore[reportIncompatibleVariableOverride]
    recording: ReportRecording
    evaluation: Evaluation
    reviews: list[Review]
    placements: list[ReportPlacement]


class ReportAnswer(Success):
    report: Report | CandidateReport


class ReportPending(Answer):
    """It is being made; ask again after Retry-After."""

    status: Literal["pending"]
    session_id: SessionId
    detail: str


class GivenReview(Answer):
    verdict: ReviewVerdict
    note: str


class ReviewAnswer(StaffSessionAnswer):
    session_id: SessionId
    review: GivenReview
