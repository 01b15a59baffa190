"""What is stored beside the journal: snapshots, so that reading stays cheap, and drafts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session's state after event `seq`, and the fields that lists and sweeps filter on. Times in ms.

    `deadline` is set only while a clock runs or will go on by itself, `unseen_since` only while it runs without a
    sign of the candidate, `room` says what there is to do about the session's LiveKit room, `front_end` which front
    end holds the candidate's live channel, and `expires_at` is set only before the start, so that a sweep needs one
    field, and an index on it, to find what is due.
    """

    session_id: str
    seq: int
    version: int
    status: str
    status_detail: str
    deadline: int | None
    unseen_since: int | None
    epoch: int
    actor: str | None
    node: str | None
    job_id: str | None
    email: str
    created_at: int
    expires_at: int | None
    scheduled_at: int | None
    end_reason: str | None
    duration: int | None
    state: str
    """JSON text; only the interview package reads it."""
    room: str | None = None  # new fields come last, with a default: processes of two versions may meet
    front_end: str | None = None
    report: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """The text in progress of an open question. A lower revision never replaces a higher one."""

    session_id: str
    question_index: int
    epoch: int
    revision: int
    text: str
    at: int
