"""Which evaluators are installed: entry points of the group `parallel_interview.evaluators`; and what they say."""

from __future__ import annotations

import logging
import math
from importlib.metadata import entry_points
from typing import Any

from orchestrator.interview.evaluation import MAX_SCORE, Evaluator, Score
from orchestrator.interview.state import State

log = logging.getLogger(__name__)

GROUP = "parallel_interview.evaluators"
REASON_CHARACTERS = 2_000


def installed(names: str | None = None) -> list[Evaluator]:
    """New instances. `names`: only those, with commas between, or `none`; None: all that are installed.

    One that cannot be loaded is left out, and the log says so: a report without its scores is better than none.
    """
    wanted = None if names is None else {name.strip() for name in names.split(",")} - {"none", ""}
    found: list[Evaluator] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if wanted is not None and point.name not in wanted:
            continue
        try:
            found.append(point.load()())
        except Exception:
            log.exception("an evaluator cannot be loaded", extra={"evaluator": point.name})
    return found


def scores_of(state: State, evaluators: list[Evaluator]) -> list[dict[str, Any]]:
    """{question_index, evaluator, version, value, reason} of what each says of each answer. `value` is None if it
    failed, or could say nothing."""
    found: list[dict[str, Any]] = []
    for evaluator in evaluators:
        name, version = _text(evaluator.name), _text(evaluator.version)
        for answer in state.answers:
            try:
                score = evaluator.evaluate(state, answer)
                if score is None:
                    continue
                value, reason = _checked(score)
            except Exception as error:  # its message may hold an answer
                log.error("an evaluator failed", extra={"evaluator": name, "error": type(error).__name__})
                value, reason = None, f"the evaluator failed: {type(error).__name__}"
            head = {"question_index": answer.question_index, "evaluator": name, "version": version}
            found.append(head | {"value": value, "reason": reason})
    return found


def _checked(score: Score) -> tuple[float | None, str]:
    if score.value is None:
        return None, _text(score.reason)
    value = float(score.value)
    if not math.isfinite(value):
        raise ValueError("a score is a number")
    return round(min(MAX_SCORE, max(0.0, value)), 1), _text(score.reason)


def _text(value: object) -> str:
    """What can be kept of it."""
    return str(value)[:REASON_CHARACTERS].encode("utf-8", "replace").decode()
