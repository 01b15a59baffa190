"""The live channel's frames: what a client is told of a state, and of each event of the journal.

A frame that stands for an event carries its `seq` and `at`. Events that have no frame of their own, but change what a
candidate sees, come as the whole `state`; staff get every event, as `journal` if there is nothing better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.interview.commands import Role
from orchestrator.interview.entry import Entry
from orchestrator.interview.integrity import Policy
from orchestrator.interview.presence import JOINED, LEFT, LOST, credit_left_ms
from orchestrator.interview.state import State
from orchestrator.interview.view import answer_view, current_question, event_views, iso, livekit_view, session_view

Frame = dict[str, Any]
Event = dict[str, Any]

AS_STATE = frozenset(
    {"started", "updated", "consent_given", "reference_captured", "activated", "parked", "erased", "recording"}
)
"""What a candidate is shown as the whole session, without the event itself."""
SEEN = frozenset({"proctoring_event", "reference_captured", "evidence_kept", "verdict_given", "event_disputed"})


class FrameMaker:
    """Makes the frames of one session for one kind of reader.

    `credit_ms`: for how long in all the clock of an interview may stand still for lost connections.
    """

    def __init__(self, role: Role, credit_ms: int, policy: Policy | None = None) -> None:
        self._role: Role = role
        self._credit_ms = credit_ms
        self._policy = policy

    def state(self, state: State, now: int) -> Frame:
        """The whole session at `now` (ms)."""
        return {
            "type": "state",
            "server_time": iso(now),
            "as_of": state.seq,
            "session": session_view(state, now, self._role, self._policy),
            **self._credit(state),
        }

    def frames(self, entry: Entry, state: State, now: int, after: int = 0) -> list[Frame]:
        """The frames of an entry's events with a seq over `after`. `state` is that after the entry, or a later one."""
        events = [event for event in event_views([entry]) if event["seq"] > after]
        starts = any(event["type"] == "started" for event in events)
        frames: list[Frame] = []
        for event in events:
            if starts and event["type"] == "activated" and self._role == "candidate":
                continue  # the start itself says it
            shown = self._shown(event, state, now)
            if shown is not None:
                head = {"server_time": iso(now), "seq": event["seq"], "at": event["at"]}
                frames.append({**shown, **head, **self._for_staff(event)})
        return frames

    def _for_staff(self, event: Event) -> Frame:
        if self._role == "candidate":
            return {}
        return {"by": event["by"], "event": {k: v for k, v in event.items() if k not in ("seq", "at", "by")}}

    def _shown(self, event: Event, state: State, now: int) -> Frame | None:
        kind = event["type"]
        frame = _FRAMES.get(kind)
        if frame is not None:
            return frame(self, event, state, now)
        if kind in JOINED | LEFT | LOST:
            return self._connection(event, state, now)
        if self._role != "candidate":
            return {"type": "proctoring" if kind in SEEN else "journal"}
        if kind == "proctoring_event":
            return {"type": "proctoring", "event": _as_told(event)} if event["source"] == "page" else None
        return self.state(state, now) if kind in AS_STATE else None

    def _credit(self, state: State) -> Frame:
        return {"network_credit_left_seconds": credit_left_ms(state, self._credit_ms) / 1000}

    def _question(self, event: Event, state: State, now: int) -> Frame:
        index = event["index"]
        if state.open is not None and state.open.index == index:
            return {"type": "question", "question": current_question(state, now)}
        asked = state.questions[index]
        question = {
            "index": index,
            "text": asked.text,
            "type": asked.type,
            "time_limit_seconds": event["limit_ms"] / 1000,
            "opened_at": event["at"],
        }
        return {"type": "question", "question": question}

    def _closed(self, event: Event, state: State, now: int) -> Frame:
        index = event["index"]
        closed = next(answer for answer in state.answers if answer.question_index == index)
        return {
            "type": "question_expired" if "late_by" in event else "answer_saved",
            "question_index": index,
            "answer": answer_view(closed),
            "current_question_count": len(state.answers),
            "max_questions": state.max_questions,
        }

    def _clock(self, event: Event, state: State, now: int) -> Frame:
        frame: Frame = {"type": event["type"], "question": current_question(state, now)}
        if "ms" in event:
            frame["seconds"] = event["ms"] / 1000
        if event["type"] == "clock_credited":
            frame |= {"cause": event["cause"], **self._credit(state)}
        return frame

    def _connection(self, event: Event, state: State, now: int) -> Frame:
        kind = event["type"]
        if kind == "clock_stopped":
            source, what = None, kind
        else:
            source = "channel" if kind.startswith("channel") else "livekit"
            what = "opened" if kind in JOINED else "lost" if kind in LOST else "closed"
        question = current_question(state, now)
        return {"type": "connection", "source": source, "state": what, "question": question, **self._credit(state)}

    def _livekit(self, event: Event, state: State, now: int) -> Frame:
        return {"type": "livekit", "livekit": livekit_view(state)}

    def _completed(self, event: Event, state: State, now: int) -> Frame:
        session = session_view(state, now, self._role, self._policy)
        return {"type": "completed", "end_reason": event["reason"], "session": session}


def _as_told(event: Event) -> Event:
    """A sighting as its own page told it."""
    return {"type": event["event"], **{k: v for k, v in event.items() if k in ("phase", "count", "detail")}}


_FRAMES: dict[str, Callable[[FrameMaker, Event, State, int], Frame]] = {
    "question_opened": FrameMaker._question,
    "question_closed": FrameMaker._closed,
    "clock_credited": FrameMaker._clock,
    "extended": FrameMaker._clock,
    "paused": FrameMaker._clock,
    "resumed": FrameMaker._clock,
    "clock_stopped": FrameMaker._connection,
    "livekit": FrameMaker._livekit,
    "room_closed": FrameMaker._livekit,
    "completed": FrameMaker._completed,
}
