"""What a state allows, by the names of the API's calls, and the error that says so."""

from __future__ import annotations

from orchestrator.errors import StateConflict
from orchestrator.interview.state import State

ALLOWED_ACTIONS = {
    "initialized": ("update", "start", "end", "consent", "token", "link", "delete"),
    "in_progress": ("answer", "draft", "pause", "extend", "end", "consent", "token", "link", "delete"),
    "paused": ("draft", "resume", "extend", "end", "consent", "token", "link", "delete"),
    "parked": ("start", "extend", "end", "token", "link", "delete"),
    "completed": ("link", "delete"),
    "deleted": (),
}


def allowed_actions(state: State) -> list[str]:
    """What the state allows, by the names of the API's calls."""
    if state.status == "in_progress" and state.parked is not None:
        return list(ALLOWED_ACTIONS["parked"])
    return list(ALLOWED_ACTIONS["paused" if state.status == "in_progress" and state.paused else state.status])


def conflict(state: State, detail: str) -> StateConflict:
    """A 409 that says what the state is and what it allows."""
    return StateConflict(detail, current_status=state.status, allowed_actions=allowed_actions(state))
