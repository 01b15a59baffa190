"""Evaluator: what an integrator adds to score answers for reports. And one that ships.

Evaluators run when a report is made, never while a candidate waits. A score is a hint for whoever reads the report; no
outcome follows from it, and the report says which are by a person and which are not.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.interview.state import ClosedAnswer, State

MAX_SCORE = 100.0


@dataclass(frozen=True, slots=True)
class Score:
    """From 0 to 100, and why, in words that a reader can check. `value` None: nothing can be said."""

    value: float | None
    reason: str


class Evaluator:
    """One instance a report. `version` changes with whatever changes scores."""

    name = "evaluator"
    version = "0"

    def evaluate(self, state: State, answer: ClosedAnswer) -> Score | None:
        """The score of one closed question of a completed interview; None: this evaluator does not score it."""
        return None


WORDS = {"text": 40, "coding": 15}
"""From how many words on an answer counts as a whole one."""


class Completeness(Evaluator):
    """Whether there is a whole answer, and whether it was given in time. It knows nothing of what the answer says."""

    name = "completeness"
    version = "1"

    def evaluate(self, state: State, answer: ClosedAnswer) -> Score | None:
        kind = state.questions[answer.question_index].type
        words = len(answer.answer.split())
        if words == 0:
            return Score(0.0, "there is no answer")
        share = min(1.0, words / WORDS[kind])
        limit = state.limit_ms(answer.question_index)
        reason = f"{words} words of {WORDS[kind]} that count as whole"
        if answer.source == "submitted":
            return Score(round(MAX_SCORE * share, 1), f"{reason}, sent in {answer.elapsed_ms / limit:.0%} of the time")
        return Score(round(MAX_SCORE * share * 0.8, 1), f"{reason}, not sent before the time was over: times 0.8")
