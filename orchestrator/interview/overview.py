"""What operators see of many sessions at once: a short row for each, and the last hour minute by minute."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.interview.integrity import Policy, score_of
from orchestrator.interview.state import State
from orchestrator.interview.view import iso, seconds

MINUTE_MS = 60_000
MINUTES = 60

Span = tuple[int, int | None]
"""When an interview started and ended (ms); None: it is under way."""


def row_of(state: State, policy: Policy | None) -> dict[str, Any]:
    """A session in short. The same state gives the same row whenever it is made, so that only changes are news.

    Durations in seconds; `remaining_seconds` is there only while the clock stands still, else `deadline` is.
    """
    return {
        "session_id": state.session_id,
        "version": state.version,
        "seq": state.seq,
        "name": state.candidate.name,
        "email": state.candidate.email,
        "job_id": state.job_id,
        "status": state.status,
        "status_detail": state.status_detail,
        "end_reason": state.end_reason,
        "answered": len(state.answers),
        "questions": state.max_questions,
        "question": _question(state),
        "created_at": iso(state.created_at),
        "scheduled_at": iso(state.scheduled_at),
        "started_at": iso(state.started_at),
        "completed_at": iso(state.completed_at),
        "page": _page(state),
        "video": {
            "mode": "live" if state.room.mode in ("live", "deferred") else "fallback",
            "connected": any(source == "livekit" for source, _ in state.presence.here),
        },
        "integrity": _integrity(state, policy),
        "actor": state.actor,
        "node": state.node,
        "parked": state.parked,
    }


def _question(state: State) -> dict[str, Any] | None:
    question = state.open
    if question is None:
        return None
    stands = state.deadline is None
    return {
        "index": question.index,
        "type": state.questions[question.index].type,
        "deadline": iso(state.deadline),
        "remaining_seconds": seconds(question.remaining_ms(state.clock_time(state.at))) if stands else None,
    }


def _page(state: State) -> str:
    """Whether the candidate's page is connected: `here`, `lost`, `away`, or `unseen`."""
    presence = state.presence
    if any(source == "channel" for source, _ in presence.here):
        return "here"
    if presence.lost:
        return "lost"
    return "away" if presence.gone or state.candidate_seen else "unseen"


def _integrity(state: State, policy: Policy | None) -> dict[str, Any] | None:
    if policy is None or state.started_at is None:
        return None
    score = score_of(state, policy)
    return {"score": score, "label": policy.label(score)}


def last_hour(spans: Iterable[Span], now: int) -> list[tuple[int, int, int]]:
    """Of each of the last 60 minutes up to `now` (ms), oldest first: interviews under way at its end, and how many
    started and ended in it."""
    end = (now // MINUTE_MS + 1) * MINUTE_MS
    begin = end - MINUTES * MINUTE_MS
    starts, ends, before = [0] * MINUTES, [0] * MINUTES, 0
    for started, ended in spans:
        if ended is not None and ended < begin:
            continue
        if started < begin:
            before += 1
        elif started < end:
            starts[(started - begin) // MINUTE_MS] += 1
        if ended is not None and ended < end:
            ends[(ended - begin) // MINUTE_MS] += 1
    found: list[tuple[int, int, int]] = []
    for started, ended in zip(starts, ends, strict=True):
        before += started - ended
        found.append((before, started, ended))
    return found
