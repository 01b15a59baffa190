"""apply and fold: how events change the state. They cannot fail, and they decide nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from orchestrator.interview import sightings
from orchestrator.interview.commands import Accommodations, Question
from orchestrator.interview.entry import Entry
from orchestrator.interview.presence import JOINED, LEFT, LOST, NETWORK
from orchestrator.interview.sightings import WITHDRAWN, Proctoring, Seen
from orchestrator.interview.state import (
    FRUITLESS_WITHIN_MS,
    Candidate,
    ClosedAnswer,
    LedgerLine,
    OpenQuestion,
    Presence,
    Recording,
    Room,
    State,
    with_command,
)
from orchestrator.interview.wire import known_of

INVISIBLE = frozenset(
    {
        "activated",
        "deactivated",
        "link_renewed",
        "candidate_seen",
        "room_closed",
        "frames",
        "commands_noted",
        "hook_failed",
        "event_disputed",
        "evidence_kept",
        "evidence_thinned",
        "report_made",
        "review_decided",
    }
)
"""Events that change nothing a client can see in the session (`placement` is not versioned)."""
REPORTED = frozenset(
    {
        "completed",
        "event_disputed",
        "erased",
        "evidence_kept",
        "evidence_thinned",
        "frames",
        "hook_failed",
        "proctoring_event",
        "recording",
        "review_decided",
        "verdict_given",
    }
)
"""Events that the report of a completed interview tells of."""
OF_A_LOSS = frozenset({"activated", "clock_credited", "hooks_suspended"})
"""What an entry of an activation has that was caused by nothing but the loss of the actor before."""

REMEMBERED_CONNECTIONS = 20
NEVER_BEGAN = Recording("failed", reason="The interview ended before a recording had begun.")


def fold(state: State | None, entry: Entry, seen: dict[int, Seen] | None = None) -> State:
    """The state after one journal entry. `state` is None only for entry 1, which creates the session.

    `seen` takes the proctoring timeline's events in, by their ids.
    """
    content = entry.content()
    events: list[dict[str, Any]] = content["events"]
    if state is None:
        state = _created(entry.session_id, events[0], entry.at)
        events = events[1:]
        state = replace(state, seq=1)
    before = state
    at = max(state.at, entry.at)
    state = replace(state, proctoring=state.proctoring.advanced(at, video=state.has_video))
    for event in events:
        state = replace(apply(state, event, entry.at), seq=state.seq + 1)
        if state.status == "completed" and state.started_at is not None and event["type"] in REPORTED:
            state = replace(state, report_due=state.seq)
        proctoring, news = sightings.step(
            state.proctoring, event, state.seq, at, started_at=state.started_at, lost=state.presence.lost
        )
        state = state if proctoring is state.proctoring else replace(state, proctoring=proctoring)
        if seen is not None:
            _enter(seen, news, event)
    proctoring = state.proctoring.settled(state.is_watched, at)
    types = {e["type"] for e in events}
    if "activated" in types:
        in_vain = types <= OF_A_LOSS and entry.at - before.activated_at < FRUITLESS_WITHIN_MS
        state = replace(state, activated_at=entry.at)
        fruitless = before.fruitless_activations + 1 if in_vain else 1
    else:
        fruitless = before.fruitless_activations if types <= {"clock_credited"} else 0
    visible = any(_is_visible(e, state) for e in events) or entry.seq == 1
    state = replace(
        state,
        at=at,
        mac=entry.mac,
        version=state.version + int(visible),
        fruitless_activations=fruitless,
        proctoring=proctoring,
    )
    command = content.get("command")
    return with_command(state, command[0], command[1], entry.at) if command else state


def _enter(seen: dict[int, Seen], news: Iterable[Seen], event: dict[str, Any]) -> None:
    """Put what is new into the timeline. An interval that has ended keeps what was known of its beginning."""
    if event["type"] == "started":
        for known in seen.values():
            seen[known.id] = replace(known, counts=known.lasts and known.until is None)
    for new in news:
        known = seen.get(new.id)
        seen[new.id] = replace(new, detail=new.detail | known.detail, counts=known.counts) if known else new


def _is_visible(event: dict[str, Any], after: State) -> bool:
    """Whether a client sees the session changed by it. Sightings are seen in its score, which comes with the end."""
    if event["type"] == "proctoring_event":
        return after.status == "completed"
    return event["type"] not in INVISIBLE


def fold_all(state: State | None, entries: Iterable[Entry]) -> State | None:
    """The state after some entries; None if there are none and there was no state."""
    for entry in entries:
        state = fold(state, entry)
    return state


def apply(state: State, event: dict[str, Any], at: int) -> State:
    """The state after one event written at `at` (ms). Unknown events change nothing."""
    change = _CHANGES.get(event["type"])
    return state if change is None else change(state, event, at)


def _created(session_id: str, event: dict[str, Any], at: int) -> State:
    return State(
        session_id=session_id,
        candidate=Candidate(event["name"], event["email"], event["phone"]),
        questions=tuple(known_of(Question, q) for q in event["questions"]),
        created_at=at,
        at=at,
        job_id=event["job_id"],
        requested_questions=event["max_questions"],
        text_question_timer=event["text_question_timer"],
        coding_question_timer=event["coding_question_timer"],
        scheduled_at=event["scheduled_at"],
        expires_at=event["expires_at"],
        accommodations=known_of(Accommodations, event["accommodations"]),
        metadata=event["metadata"],
        drawn=event.get("drawn"),
        proctoring=known_of(Proctoring, event.get("proctoring", {})),
    )


def _updated(state: State, event: dict[str, Any], at: int) -> State:
    changes: dict[str, Any] = dict(event["changes"])
    person = {k: changes.pop(k) for k in ("name", "email", "phone") if k in changes}
    if "questions" in changes:
        changes["questions"] = tuple(known_of(Question, q) for q in changes["questions"])
    if "accommodations" in changes:
        changes["accommodations"] = known_of(Accommodations, changes["accommodations"])
    if "max_questions" in changes:
        changes["requested_questions"] = changes.pop("max_questions")
    return replace(state, candidate=replace(state.candidate, **person), **changes)


def _started(state: State, event: dict[str, Any], at: int) -> State:
    seen = state.candidate_seen or bool(state.presence.here)
    return replace(state, status="in_progress", started_at=at, candidate_seen=seen)


def _question_opened(state: State, event: dict[str, Any], at: int) -> State:
    return replace(state, open=OpenQuestion(event["index"], at, event["limit_ms"]))


def _question_closed(state: State, event: dict[str, Any], at: int) -> State:
    answer = ClosedAnswer(event["index"], event["answer"], event["language"], at, event["elapsed_ms"], event["source"])
    state = _stop_pause(state, at)
    seen = state.candidate_seen or event["source"] != "timeout"
    return replace(state, open=None, answers=(*state.answers, answer), candidate_seen=seen)


def _paused(state: State, event: dict[str, Any], at: int) -> State:
    return replace(state, open=replace(state.open, paused_at=at)) if state.open else state


def _resumed(state: State, event: dict[str, Any], at: int) -> State:
    return _stop_pause(state, at)


def _extended(state: State, event: dict[str, Any], at: int) -> State:
    if state.open is None:
        return state
    question = replace(state.open, extended_ms=state.open.extended_ms + event["ms"])
    return replace(state, open=question, ledger=(*state.ledger, LedgerLine(event["ms"], "extended", at)))


def _clock_credited(state: State, event: dict[str, Any], at: int) -> State:
    if state.open is None:
        return state
    question, until = state.open, event.get("until", at)
    line = LedgerLine(event["ms"], event["cause"], at)
    if question.lost_at is not None and event["cause"] == NETWORK:
        state = replace(state, presence=replace(state.presence, lost=state.presence.lost and not event["back"]))
        question = replace(question, lost_at=None, lost_limit_ms=0)
    elif question.lost_at is not None:  # what was given back for another cause is not taken off the cap
        overlap = max(0, until - max(until - event["ms"], question.lost_at))
        question = replace(question, lost_at=question.lost_at + overlap)
    return replace(
        state,
        open=replace(question, stopped_ms=question.stopped_ms + event["ms"]),
        ledger=(*state.ledger, line) if event["ms"] else state.ledger,
        clock_settled_at=max(state.clock_settled_at, until),
    )


def _clock_stopped(state: State, event: dict[str, Any], at: int) -> State:
    if state.open is None:
        return state
    question = replace(state.open, lost_at=event["since"], lost_limit_ms=event["limit_ms"])
    stops = state.presence.stops + (0 if event.get("again") else 1)
    return replace(state, open=question, presence=replace(state.presence, stops=stops))


def _livekit(state: State, event: dict[str, Any], at: int) -> State:
    recording = Recording("wanted") if event.get("record") else state.recording
    return replace(state, room=Room(event["mode"], at, event["url"], event["reason"]), recording=recording)


def _recording(state: State, event: dict[str, Any], at: int) -> State:
    recording = Recording(event["status"], event["egress_id"], event["reason"], tuple(event["files"]))
    return replace(state, recording=recording)


def _room_closed(state: State, event: dict[str, Any], at: int) -> State:
    return replace(state, room=replace(state.room, closed=True))


def _connected(state: State, event: dict[str, Any], at: int) -> State:
    presence = state.presence
    source = "livekit" if event["type"] == "participant_joined" else "channel"
    # There is one connection of a kind at a time: a newer one takes the place of those we still believe in.
    kept = tuple(c for c in presence.here if c[0] != source)
    before = (c for c in presence.replaced if c != event["connection"])
    replaced = (*before, *(c[1] for c in presence.here if c not in kept))[-REMEMBERED_CONNECTIONS:]
    here = (*kept, (source, event["connection"]))
    presence = replace(presence, here=here, replaced=replaced, lost=False, noted=presence.noted + 1)
    return replace(state, presence=presence, candidate_seen=state.candidate_seen or state.status == "in_progress")


def _disconnected(state: State, event: dict[str, Any], at: int) -> State:
    presence, connection = state.presence, event["connection"]
    source = "channel" if event["type"].startswith("channel") else "livekit"
    here = tuple(c for c in presence.here if c[1] != connection)
    cut_off = event["type"] in LOST and not presence.others(source, connection)
    return replace(
        state,
        presence=Presence(
            here=here,
            gone=(*presence.gone, connection)[-REMEMBERED_CONNECTIONS:],
            replaced=tuple(c for c in presence.replaced if c != connection),
            lost=presence.lost if connection in presence.replaced else cut_off,
            stops=presence.stops,
            credit_ms=event.get("credit_ms", presence.credit_ms),
            noted=presence.noted + 1,
        ),
    )


def _completed(state: State, event: dict[str, Any], at: int) -> State:
    state = _stop_pause(state, at)
    return replace(
        state,
        status="completed",
        completed_at=at,
        end_reason=event["reason"],
        open=None,
        actor=None,
        node=None,
        parked=None,
        parked_since=None,
        presence=replace(state.presence, here=(), lost=False),
        recording=NEVER_BEGAN if state.recording.status == "wanted" else state.recording,
    )


def _stop_pause(state: State, at: int) -> State:
    question = state.open
    if question is None or question.paused_at is None:
        return state
    paused = max(0, at - question.paused_at)
    running = replace(question, paused_at=None, stopped_ms=question.stopped_ms + paused)
    settled_at = max(state.clock_settled_at, at)
    return replace(state, open=running, paused_total_ms=state.paused_total_ms + paused, clock_settled_at=settled_at)


def _consent_given(state: State, event: dict[str, Any], at: int) -> State:
    return replace(
        state,
        consent_at=at,
        consent_policy=event["policy"],
        consent_withdrawn=False,
        candidate_seen=state.candidate_seen or state.status == "in_progress",
    )


def _erased(state: State, event: dict[str, Any], at: int) -> State:
    """Whoever withdraws consent is asked again before more pictures are taken."""
    if event["what"] == "answers":
        blank = tuple(replace(answer, answer="") for answer in state.answers)
        return replace(state, answers=blank, answers_erased_at=at, commands=())  # hashes of commands tell of answers
    if event["because"] != WITHDRAWN:
        return state
    return replace(state, consent_at=None, consent_policy=None, consent_withdrawn=True)


def _candidate_seen(state: State, event: dict[str, Any], at: int) -> State:
    seen = state.candidate_seen or state.status == "in_progress"
    return replace(state, candidate_seen=seen, presence=replace(state.presence, lost=False))


def _link_renewed(state: State, event: dict[str, Any], at: int) -> State:
    return replace(state, link_generation=event["generation"])


def _activated(state: State, event: dict[str, Any], at: int) -> State:
    return replace(
        state,
        epoch=event["epoch"],
        actor=event["actor"],
        node=event["node"],
        dashboard_url=event.get("dashboard_url"),
        parked=None,
        parked_since=None,
        clock_settled_at=max(state.clock_settled_at, at),
    )


def _deactivated(state: State, event: dict[str, Any], at: int) -> State:
    return replace(state, actor=None, node=None)


def _parked(state: State, event: dict[str, Any], at: int) -> State:
    return replace(state, actor=None, node=None, parked=event["reason"], parked_since=event["since"])


def _report_made(state: State, event: dict[str, Any], at: int) -> State:
    return replace(state, report_made=event["as_of"], report_score=event["score"])


def _deleted(state: State, event: dict[str, Any], at: int) -> State:
    return replace(state, status="deleted", open=None, actor=None, node=None)


_CHANGES: dict[str, Callable[[State, dict[str, Any], int], State]] = {
    "updated": _updated,
    "started": _started,
    "question_opened": _question_opened,
    "question_closed": _question_closed,
    "paused": _paused,
    "resumed": _resumed,
    "extended": _extended,
    "clock_credited": _clock_credited,
    "completed": _completed,
    "consent_given": _consent_given,
    "candidate_seen": _candidate_seen,
    "link_renewed": _link_renewed,
    "activated": _activated,
    "deactivated": _deactivated,
    "parked": _parked,
    "deleted": _deleted,
    "clock_stopped": _clock_stopped,
    "livekit": _livekit,
    "recording": _recording,
    "room_closed": _room_closed,
    "report_made": _report_made,
    "erased": _erased,
    **dict.fromkeys(JOINED, _connected),
    **dict.fromkeys(LEFT | LOST, _disconnected),
}
