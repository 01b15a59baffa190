"""What clients see of a session. Candidates never see questions that are not yet open."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from orchestrator.interview.commands import Role
from orchestrator.interview.entry import Entry
from orchestrator.interview.integrity import Policy, score_of
from orchestrator.interview.state import ClosedAnswer, State


def iso(ms: int | None) -> str | None:
    """A time in ms as ISO 8601 UTC with milliseconds and Z."""
    if ms is None:
        return None
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def seconds(ms: int) -> float:
    return ms / 1000


def session_view(state: State, now: int, role: Role = "staff", policy: Policy | None = None) -> dict[str, Any]:
    """The contract's `session` at `now` (ms), for staff or for the session's candidate.

    `policy` makes the integrity score that staff see, of what is over; without one there is none.
    """
    view: dict[str, Any] = {
        "session_id": state.session_id,
        "status": state.status,
        "status_detail": state.status_detail,
        "end_reason": state.end_reason,
        "version": state.version,
        "candidate": {
            "name": state.candidate.name,
            "email": state.candidate.email,
            "phone": state.candidate.phone,
        },
        "job_id": state.job_id,
        "current_question_count": len(state.answers),
        "max_questions": state.max_questions,
        "current_question": current_question(state, now),
        "answers": [answer_view(answer) for answer in state.answers],
        "clock": {
            "credited_seconds": seconds(sum(line.ms for line in state.ledger)),
            "ledger": [{"seconds": seconds(line.ms), "cause": line.cause, "at": iso(line.at)} for line in state.ledger],
        },
        "created_at": iso(state.created_at),
        "scheduled_at": iso(state.scheduled_at),
        "expires_at": iso(state.expires_at),
        "started_at": iso(state.started_at),
        "completed_at": iso(state.completed_at),
        "consent_at": iso(state.consent_at),
        "livekit": livekit_view(state),
        "recording": {"status": state.recording.status},
        "proctoring": proctoring_view(state),
        "accommodations": {
            "time_multiplier": state.accommodations.time_multiplier,
            "camera_exempt": state.accommodations.camera_exempt,
        },
    }
    if state.answers_erased_at is not None:
        view["answers_erased_at"] = iso(state.answers_erased_at)
    if role == "candidate":
        return view
    view["questions"] = [
        {"text": q.text, "type": q.type, "time_limit_seconds": seconds(state.limit_ms(i))}
        for i, q in enumerate(state.questions)
    ]
    view["proctoring"]["integrity"] = _integrity(state, policy)
    view["proctoring"]["verdict"] = state.proctoring.verdict
    view["recording"] |= {"reason": state.recording.reason, "files": list(state.recording.files)}
    view["accommodations"]["sensitivity"] = state.accommodations.sensitivity
    view["placement"] = _placement(state)
    view["metadata"] = state.metadata
    return view


def _placement(state: State) -> dict[str, Any] | None:
    """The actor that holds the session, and its page in Ray's dashboard."""
    if state.actor is None:
        return None
    return {
        "actor": state.actor,
        "node": state.node,
        "epoch": state.epoch,
        "dashboard_url": state.dashboard_url,
    }


def answer_view(answer: ClosedAnswer) -> dict[str, Any]:
    return {
        "question_index": answer.question_index,
        "answer": answer.answer,
        "language": answer.language,
        "submitted_at": iso(answer.submitted_at),
        "elapsed_seconds": seconds(answer.elapsed_ms),
        "source": answer.source,
    }


def current_question(state: State, now: int) -> dict[str, Any] | None:
    """The open question and its clock at `now` (ms); None if none is open."""
    question = state.open
    if question is None:
        return None
    asked = state.questions[question.index]
    return {
        "index": question.index,
        "text": asked.text,
        "type": asked.type,
        "time_limit_seconds": seconds(question.limit_ms),
        "opened_at": iso(question.opened_at),
        "deadline": iso(state.deadline),
        "remaining_seconds": seconds(question.remaining_ms(state.clock_time(now))),
    }


def room_name(session_id: str) -> str:
    return f"interview-{session_id}"


def participant_name(session_id: str) -> str:
    return f"candidate-{session_id}"


NO_LIVEKIT = "LiveKit is not configured; the interview runs without video."
DEFERRED = "The room is made at the start, or with the first token; ask for one then."


def livekit_view(state: State) -> dict[str, Any]:
    """The room, whether the candidate is in it, and where a token for it is to be had (none while there is no room)."""
    room, ended = state.room, state.status == "completed"
    live = room.mode in ("live", "deferred")
    return {
        "mode": "live" if live else "fallback",
        "url": room.url,
        "room": room_name(state.session_id),
        "participant": participant_name(state.session_id),
        "connected": any(source == "livekit" for source, _ in state.presence.here),
        "since": iso(room.since or None),
        "reason": {"none": NO_LIVEKIT, "deferred": DEFERRED}.get(room.mode, room.reason),
        "token_url": f"/api/parallel_interview/session/{state.session_id}/token" if live and not ended else None,
    }


def proctoring_view(state: State) -> dict[str, Any]:
    """The proctoring session that goes with an interview: what is watched, and what is not by accommodation."""
    p, exempt = state.proctoring, state.accommodations.camera_exempt
    watched = {"camera": not exempt, "page": True, "video": state.room.mode != "none"}
    return {
        "session_id": f"proctoring-{state.session_id}",
        "status": {"initialized": "initialized", "in_progress": "active"}.get(state.status, "ended"),
        "policy": p.policy,
        "watches": [what for what, is_watched in watched.items() if is_watched],
        "exemptions": ["camera"] if exempt else [],
        "frame_seconds": p.frame_seconds,
        "started_at": iso(state.started_at),
        "ended_at": iso(state.completed_at if state.started_at is not None else None),
        "reference_captured_at": iso(p.reference_at),
        "hooks_suspended": p.hooks_off,
    }


def _integrity(state: State, policy: Policy | None) -> dict[str, Any] | None:
    """The score, once the interview is completed. Until then the proctoring call has it: here it would make a new
    version of the session with everything that is seen."""
    if policy is None or state.started_at is None or state.status != "completed":
        return None
    score = score_of(state, policy)
    return {"score": score, "label": policy.label(score), "policy": policy.version}


def event_views(entries: Iterable[Entry], role: Role = "staff") -> list[dict[str, Any]]:
    """The events of some entries, each with its seq, for the journal call.

    Candidates see neither who acted nor where the session runs, nor what it was created with.
    """
    views: list[dict[str, Any]] = []
    for entry in entries:
        if entry.erased:
            continue
        content = entry.content()
        for offset, event in enumerate(content["events"]):
            if role == "candidate" and event["type"] in _STAFF_EVENTS:
                continue
            view = {"seq": entry.seq + offset, "epoch": entry.epoch, **event, "at": iso(entry.at)}
            if "at" in event:  # that of what was seen
                view["seen_at"] = iso(event["at"])
            if role == "staff":
                view["by"] = content.get("by", "")
            views.append(view)
    return views


_STAFF_EVENTS = frozenset(
    {
        "created",
        "updated",
        "activated",
        "deactivated",
        "link_renewed",
        "parked",
        "candidate_seen",
        "hook_failed",
        "hooks_suspended",
        "verdict_given",
        "report_made",
        "review_decided",
    }
)
