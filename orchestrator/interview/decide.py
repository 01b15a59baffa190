"""The rules: what comes of a command in a state. Nothing else in the system decides anything.

`decide` returns events, [] when the command has already happened, or raises a typed error.

    command     initialized            in_progress                       completed
    update      updated                409                               409
    start       started + opened       (nothing)                         409
    answer      409                    closed + opened | completed       409; the same again: (nothing)
    pause       409                    paused | (nothing)                409
    resume      409                    resumed | (nothing)               409
    extend      409                    extended                          409
    end         completed: cancelled   completed: ended_by_...           (nothing)
    consent     consent_given          consent_given | (nothing)         409
    new_link    link_renewed           link_renewed                      link_renewed
    delete      deleted                deleted                           deleted
    expire      completed: expired     closed + opened | completed       (nothing)
    abandon     (nothing)              completed | candidate_seen        (nothing)
    activate    409                    activated [+ credited] | parked   409
    deactivate  (nothing)              deactivated                       (nothing)
    park        (nothing)              parked                            (nothing)
    credit      (nothing)              clock_credited                    (nothing)
    note_room   livekit                livekit                           room_closed
    note_recording                     recording                         recording
    note_connected, note_disconnected: `presence.py`
    note_report (nothing)              (nothing)                         report_made | (nothing)
    review      409                    409                               review_decided; 409 if it never started
    note_sightings, note_frames, note_reference, note_erased, note_hook_failure, dispute, give_verdict: `proctoring.py`

While the clock stands still for a lost connection, any command of the candidate lets it go on first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.errors import InvalidInput, NotFound
from orchestrator.interview import presence, proctoring
from orchestrator.interview.allowed import conflict
from orchestrator.interview.commands import (
    Abandon,
    Activate,
    Answer,
    Caller,
    Command,
    Consent,
    Create,
    Credit,
    Deactivate,
    Delete,
    Dispute,
    End,
    Expire,
    Extend,
    GiveVerdict,
    NewLink,
    NoteConnected,
    NoteDisconnected,
    NoteErased,
    NoteFrames,
    NoteHookFailure,
    NoteRecording,
    NoteReference,
    NoteReport,
    NoteRoom,
    NoteSightings,
    Park,
    Pause,
    Resume,
    Review,
    Start,
    Update,
    check_same_body,
    command_hash,
    command_key,
)
from orchestrator.interview.entry import Entry
from orchestrator.interview.presence import Event
from orchestrator.interview.snapshot import Draft
from orchestrator.interview.state import GRACE_MS, MAX_FRUITLESS_ACTIVATIONS, ROOM_AHEAD_MS, State

NOT_A_SIGN = (NoteSightings, Dispute)
"""What a page sends by itself, perhaps some time after it was seen; and what has nothing to do with the clock."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command comes to: the events to append, and under which identity they are remembered."""

    events: list[Event]
    command: tuple[str, str] | None = None
    replayed: bool = False


def plan(
    state: State,
    command: Command,
    caller: Caller,
    command_id: str | None,
    now: int,
    draft: Draft | None = None,
) -> Plan:
    """`decide`, with the client's command id taken into account: a repeat changes nothing.

    Raises CommandIdReused if the id came before with another body, and whatever `decide` raises.
    """
    identity = None
    if command_id is not None:
        identity = (command_key(caller, command, command_id), command_hash(command))
        known = state.remembered(identity[0], now)
        if known is not None:
            check_same_body(known, identity[1])
            return Plan([], identity, replayed=True)
    return Plan(decide(state, command, caller, now, draft), identity)


def room_can_wait(scheduled_at: int | None, now: int) -> bool:
    """Whether a session that is created now gets its LiveKit room only when it is needed."""
    return scheduled_at is not None and scheduled_at - now > ROOM_AHEAD_MS


def decide(state: State, command: Command, caller: Caller, now: int, draft: Draft | None = None) -> list[Event]:
    """The events that `command` comes to at `now` (ms); [] if it has already happened.

    Raises StateConflict (with current_status and allowed_actions), InvalidInput, NotFound (deleted).
    """
    if state.status == "deleted":
        raise NotFound.session(state.session_id)
    now = max(now, state.at)
    events = _RULES[type(command)](state, command, caller, now, draft)
    if any(event["type"] == "clock_credited" and event["cause"] == presence.NETWORK for event in events):
        return events
    if isinstance(command, Answer) or (caller.role == "candidate" and not isinstance(command, NOT_A_SIGN)):
        return [*presence.sign(state, now), *events]
    return [*presence.clock_goes_on(state, now), *events] if isinstance(command, End) else events


def created(command: Create, room: Event | None = None, proctoring: Event | None = None) -> list[Event]:
    """The first entry of a session, with how it is proctored (policy, frame_seconds), and what is known of its LiveKit
    room by then."""
    return [{"type": "created", **asdict(command), "proctoring": proctoring or {}}, *([room] if room else [])]


def room_event(mode: str, url: str | None, reason: str | None, *, record: bool = False) -> Event:
    """What has become of the session's LiveKit room, and whether the candidate is to be recorded there."""
    event = {"type": "livekit", "mode": mode, "url": url, "reason": reason}
    return event | {"record": True} if record else event


def _update(state: State, command: Update, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    if state.status != "initialized":
        raise conflict(state, "A session can be changed only before it has started.")
    return [{"type": "updated", "changes": command.changes}] if command.changes else []


def _start(state: State, command: Start, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    if state.status == "in_progress":
        return []
    if state.status == "completed":
        raise conflict(state, "The interview has ended; it cannot be started again.")
    waits = presence.still_lost(state, now) if caller.role != "candidate" else []
    return [{"type": "started"}, _opened(state, 0), *waits]


def _answer(state: State, command: Answer, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    index = command.question_index
    if not 0 <= index < state.max_questions:
        raise InvalidInput.at(
            "/question_index", f"question_index is {index}; it must be from 0 to {state.max_questions - 1}."
        )
    for closed in state.answers:
        if closed.question_index == index:
            if closed.answer == command.answer and closed.language == command.language:
                return []
            raise conflict(state, f"Question {index} is closed; its answer can no longer change.")
    question = state.open
    if state.status != "in_progress" or question is None:
        raise conflict(state, "Answers are taken only while the interview is in progress.")
    if index != question.index:
        raise conflict(state, f"Question {index} is not open; the open question is {question.index}.")
    _require_not_parked(state)
    if question.paused_at is not None:
        raise conflict(state, "The interview is paused; answers are taken again when it goes on.")
    if question.deadline is not None and now > question.deadline + GRACE_MS:
        raise conflict(state, f"The time for question {index} has run out.")
    answer = {"answer": command.answer, "language": command.language, "source": "submitted"}
    return _close(state, now, question.elapsed_ms(now), answer, "finished")


def _pause(state: State, command: Pause, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    _require_in_progress(state, "paused")
    _require_not_parked(state)
    if state.paused:
        return []
    return [*presence.clock_goes_on(state, now, back=False), {"type": "paused", "reason": command.reason}]


def _resume(state: State, command: Resume, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    _require_in_progress(state, "resumed")
    _require_not_parked(state)
    return [{"type": "resumed"}, *presence.still_lost(state, now)] if state.paused else []


def _extend(state: State, command: Extend, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    _require_in_progress(state, "extended")
    if command.seconds <= 0:
        raise InvalidInput.at("/seconds", "seconds must be more than 0.")
    return [{"type": "extended", "ms": round(command.seconds * 1000), "reason": command.reason}]


def _end(state: State, command: End, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    if state.status == "completed":
        return []
    note = {"note": command.reason} if command.reason else {}
    if state.status == "initialized":
        return [{"type": "completed", "reason": "cancelled", **note}]
    reason = "ended_by_candidate" if caller.role == "candidate" else "ended_by_staff"
    completed = {"type": "completed", "reason": reason, **note}
    question = state.open
    if question is None or draft is None or draft.question_index != question.index or not draft.text:
        return [completed]
    return [
        {
            "type": "question_closed",
            "index": question.index,
            "answer": draft.text,
            "language": None,
            "source": "draft",
            "elapsed_ms": question.elapsed_ms(state.clock_time(now)),
        },
        completed,
    ]


def _consent(state: State, command: Consent, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    if state.status == "completed":
        raise conflict(state, "The interview has ended; consent is no longer asked for.")
    given = state.consent_at is not None and command.policy in (None, state.consent_policy)
    return [] if given else [{"type": "consent_given", "policy": command.policy}]


def _new_link(state: State, command: NewLink, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    return [{"type": "link_renewed", "generation": state.link_generation + 1}]


def _delete(state: State, command: Delete, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    return [{"type": "deleted"}]


def _expire(state: State, command: Expire, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    if not state.is_overdue(now):
        return []
    if state.status == "initialized":
        return [{"type": "completed", "reason": "expired"}]
    question = state.open
    assert question is not None
    if question.lost_at is not None:
        return presence.clock_goes_on(state, now, back=False)
    assert question.deadline is not None
    has_draft = draft is not None and draft.question_index == question.index and bool(draft.text)
    answer = {
        "answer": draft.text if has_draft and draft else "",
        "language": None,
        "source": "draft" if has_draft else "timeout",
        "late_by": now - question.deadline - GRACE_MS,
    }
    reason = "finished" if state.candidate_seen or has_draft else "abandoned"
    events = _close(state, now, question.limit_ms + question.extended_ms, answer, reason)
    opens = events[-1]["type"] == "question_opened"
    return [*events, *presence.lost_before(state, now)] if opens else events


def is_expiry(entry: Entry) -> bool:
    """Whether an entry closes a question whose time has run out, and nothing that anybody has asked for."""
    return any("late_by" in event for event in entry.content()["events"])


def _abandon(state: State, command: Abandon, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    since = state.unseen_since
    if since is None or now - since <= command.after_ms:
        return []
    if draft is not None and draft.text:
        return [{"type": "candidate_seen"}]
    return [{"type": "completed", "reason": "abandoned"}]


def _activate(state: State, command: Activate, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    _require_in_progress(state, "activated")
    silent_since = command.silent_since if command.silent_since is not None else now
    if state.parked is not None:
        if not command.retry:
            raise conflict(state, "The session is parked; staff can retry or end it.")
        silent_since = min(silent_since, state.parked_since or silent_since)
    elif state.fruitless_activations >= MAX_FRUITLESS_ACTIVATIONS and not command.retry:
        reason = f"{state.fruitless_activations} activations in a row came to nothing"
        return [_parked(reason, silent_since)]
    known_alive = state.at if state.parked_since is None else min(state.at, state.parked_since)
    credited = _credited(state, max(silent_since, known_alive), now, command.cause)
    waits = presence.still_lost(state, now) if state.parked is not None and not state.paused else []
    return [_activated(state, command), *credited, *waits, *proctoring.hooks_suspended(state, command.cause)]


def activation(state: State, command: Activate) -> Event:
    """The event by which an actor takes a session that is being started: part of the same entry."""
    return _activated(state, command)


def _activated(state: State, command: Activate) -> Event:
    page = {"dashboard_url": command.dashboard_url} if command.dashboard_url is not None else {}
    return {
        "type": "activated",
        "epoch": state.epoch + 1,
        "actor": command.actor,
        "node": command.node,
        "cause": command.cause,
        **page,
    }


def _deactivate(state: State, command: Deactivate, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    held = state.status == "in_progress" and state.actor is not None
    return [{"type": "deactivated", "reason": command.reason}] if held else []


def _park(state: State, command: Park, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    if state.status != "in_progress" or state.parked is not None:
        return []
    return [_parked(command.reason, command.since)]


def _parked(reason: str, since: int) -> Event:
    return {"type": "parked", "reason": reason, "since": since}


def _credit(state: State, command: Credit, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    return _credited(state, command.since, command.until if command.until is not None else now, command.cause)


def _credited(state: State, since: int, until: int, cause: str) -> list[Event]:
    """Give back the time from `since` to `until` in which the open question's clock ran and had not run out.

    Time before the question was opened, and time that has been dealt with before, is not given back (again).
    """
    question = state.open
    if question is None:
        return []
    if question.paused_at is not None:
        until = min(until, question.paused_at)
    deadline = question.deadline  # None while it is paused or a connection is lost; then no time has run out
    since = max(since, question.opened_at, state.clock_settled_at)
    if since >= until or (deadline is not None and since > deadline + GRACE_MS):
        return []
    return [{"type": "clock_credited", "ms": until - since, "cause": cause, "until": until}]


def _note_room(state: State, command: NoteRoom, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    if state.status == "completed":
        closes = command.mode == "closed" and state.room_work == "closing"
        return [{"type": "room_closed"}] if closes else []
    if command.mode == "closed" or state.room.is_noted(command.mode, command.url):
        return []
    return [room_event(command.mode, command.url, command.reason)]


def _note_recording(state: State, command: NoteRecording, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    known = state.recording
    not_ours = known.egress_id is not None and command.egress_id not in (None, known.egress_id)
    if known.status in ("off", "ended", command.status) or not_ours:
        return []
    event = {"type": "recording", "status": command.status, "egress_id": command.egress_id or known.egress_id}
    return [event | {"reason": command.reason, "files": list(command.files)}]


def _note_report(state: State, command: NoteReport, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    if state.status != "completed" or command.as_of <= state.report_made:
        return []
    made = {"as_of": command.as_of, "sha256": command.sha256, "score": command.score}
    return [{"type": "report_made", **made}]


def _review(state: State, command: Review, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    require_reportable(state)
    return [{"type": "review_decided", "verdict": command.verdict, "note": command.note}]


def require_reportable(state: State) -> None:
    """Raises StateConflict if there is no report, since the interview has not ended or never started."""
    if state.status != "completed":
        raise conflict(state, "There is a report once the interview is completed.")
    if state.started_at is None:
        raise conflict(state, f"The interview never started ({state.end_reason}); there is nothing to report.")


def _note_connected(state: State, command: NoteConnected, caller: Caller, now: int, draft: Draft | None) -> list[Event]:
    return presence.connected(state, command, now)


def _note_disconnected(
    state: State, command: NoteDisconnected, caller: Caller, now: int, draft: Draft | None
) -> list[Event]:
    return presence.disconnected(state, command, now, draft)


def _proctoring(rule: Callable[[State, Any, Caller, int], list[Event]]) -> Callable[..., list[Event]]:
    return lambda state, command, caller, now, draft: rule(state, command, caller, now)


def _require_in_progress(state: State, what: str) -> None:
    if state.status != "in_progress":
        raise conflict(state, f"Only an interview in progress can be {what}.")


def _require_not_parked(state: State) -> None:
    if state.parked is not None:
        raise conflict(state, "The interview is interrupted; its clock is stopped until it goes on.")


def _opened(state: State, index: int) -> Event:
    return {"type": "question_opened", "index": index, "limit_ms": state.limit_ms(index)}


def _close(state: State, now: int, elapsed_ms: int, answer: dict[str, Any], end_reason: str) -> list[Event]:
    assert state.open is not None
    index = state.open.index
    closed = {"type": "question_closed", "index": index, "elapsed_ms": elapsed_ms, **answer}
    following = index + 1
    if following < state.max_questions:
        return [closed, _opened(state, following)]
    return [closed, {"type": "completed", "reason": end_reason}]


_RULES: dict[type, Callable[..., list[Event]]] = {
    Update: _update,
    Start: _start,
    Answer: _answer,
    Pause: _pause,
    Resume: _resume,
    Extend: _extend,
    End: _end,
    Consent: _consent,
    NewLink: _new_link,
    Delete: _delete,
    Expire: _expire,
    Activate: _activate,
    Deactivate: _deactivate,
    Abandon: _abandon,
    Park: _park,
    Credit: _credit,
    NoteRoom: _note_room,
    NoteRecording: _note_recording,
    NoteConnected: _note_connected,
    NoteDisconnected: _note_disconnected,
    NoteSightings: _proctoring(proctoring.sightings_noted),
    NoteFrames: _proctoring(proctoring.frames_noted),
    NoteReference: _proctoring(proctoring.reference_noted),
    NoteErased: _proctoring(proctoring.erased),
    NoteHookFailure: _proctoring(proctoring.hook_failed),
    Dispute: _proctoring(proctoring.disputed),
    GiveVerdict: _proctoring(proctoring.verdict_given),
    NoteReport: _note_report,
    Review: _review,
}
