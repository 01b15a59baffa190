"""ProctoringHook: what an integrator adds to watch an interview for something of their own. And two that ship.

A hook lives in the interview's own actor, one instance an activation: when the interview moves to another actor there
is a new one, so what has to last is to be read from the state. Methods are called one after another, in a thread beside
the interview, with the state as it was then; each may take BUDGET_SECONDS. What they return becomes events of source
`hook`. docs/proctoring.md has an example.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.interview.sightings import CAMERA, Seen
from orchestrator.interview.state import ClosedAnswer, State

BUDGET_SECONDS = 0.5
TICK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a hook has found: a kind of the catalogue or `custom:<name>`. `at` in ms; None: now."""

    kind: str
    detail: dict[str, Any] = field(default_factory=dict)
    at: int | None = None
    count: int = 1


class ProctoringHook:
    """Methods that are not overridden cost nothing."""

    def on_start(self, state: State) -> Iterable[Finding]:
        """An actor has taken the interview: at its start, and again whenever it has moved."""
        return ()

    def on_event(self, state: State, event: Seen) -> Iterable[Finding]:
        """Something was seen, by anybody but hooks; the state counts it already. An interval comes when it has begun
        and again when it is over."""
        return ()

    def on_answer(self, state: State, answer: ClosedAnswer) -> Iterable[Finding]:
        """A question was closed."""
        return ()

    def on_tick(self, state: State, now: int) -> Iterable[Finding]:
        """About TICK_SECONDS have passed. `now` in ms."""
        return ()

    def on_end(self, state: State) -> Iterable[Finding]:
        """The interview is completed."""
        return ()


CHARACTERS_A_SECOND = 40.0
"""Faster than anybody reads with understanding (about 25 at 300 words a minute)."""
LONG_ANSWER = 80
"""Characters from which on an answer is worth asking about."""


class PastedUnread(ProctoringHook):
    """An answer that was pasted sooner than its question can have been read."""

    def on_answer(self, state: State, answer: ClosedAnswer) -> Iterable[Finding]:
        question = state.questions[answer.question_index].text
        opened_at = answer.submitted_at - answer.elapsed_ms
        pasted = state.proctoring.tally("paste").last_at >= opened_at
        seconds = len(question) / CHARACTERS_A_SECOND
        if answer.source != "submitted" or len(answer.answer) < LONG_ANSWER or not pasted:
            return ()
        if answer.elapsed_ms >= seconds * 1000:
            return ()
        detail = {
            "question_index": answer.question_index,
            "elapsed_seconds": answer.elapsed_ms / 1000,
            "reading_seconds": round(seconds, 1),
            "characters": len(answer.answer),
        }
        return [Finding("custom:pasted_unread", detail)]


ABSENCES = 3
AWAY = ("face_absent", "tab_hidden", "camera_off")


class RepeatedAbsence(ProctoringHook):
    """Somebody who is away again and again: every third time of one kind."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def on_start(self, state: State) -> Iterable[Finding]:
        self._told = {kind: state.proctoring.tally(kind).count // ABSENCES for kind in AWAY}
        return ()

    def on_event(self, state: State, event: Seen) -> Iterable[Finding]:
        times = state.proctoring.tally(event.kind).count
        exempt = state.accommodations.camera_exempt and event.kind in CAMERA
        if exempt or event.kind not in AWAY or times // ABSENCES <= self._told.get(event.kind, 0):
            return ()
        self._told[event.kind] = times // ABSENCES
        return [Finding("custom:repeated_absence", {"kind": event.kind, "times": times})]
