"""What is stored beside the journal: snapshots, so that reading stays cheap, and drafts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from orchestrator.interview.wire import Wire


@dataclass(frozen=True, slots=True)
class Snapshot(Wire):
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
    words: list[str] = field(default_factory=list)
    """Of the candidate's name and email, to search for by how they begin."""
    score: float | None = None
    ended_at: int | None = None
    started_at: int | None = None


MAX_WORDS = 20
_BETWEEN = re.compile(r"[\s@.,;:_+'\"()-]+")


def words_of(*texts: str) -> list[str]:
    """The words of some texts in the form in which they are searched for, each once."""
    found = (word for text in texts for word in (text, *_BETWEEN.split(text)))
    return list(dict.fromkeys(word.casefold()[:100] for word in found if word))[:MAX_WORDS]


def searched_words(text: str) -> list[str]:
    """What somebody searches for, in that form. An address is searched for as it is."""
    found = (word for part in text.split() for word in ([part] if "@" in part else _BETWEEN.split(part)))
    return [word.casefold()[:100] for word in found if word][:MAX_WORDS]


@dataclass(frozen=True, slots=True)
class Draft(Wire):
    """The text in progress of an open question. A lower revision never replaces a higher one."""

    session_id: str
    question_index: int
    epoch: int
    revision: int
    text: str
    at: int
