"""Arming faults at named steps of a service that runs with INTERVIEW_FAULTS=<folder> (see orchestrator/faults.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

Do = Literal["kill", "stop", "hang", "lose"]
STEPS = (
    "append.before",
    "append.after",
    "activate.before",
    "activate.after",
    "reply.before",
    "release.before",
    "release.after",
    "front_end.reply",
)


def arm(folder: Path, step: str, do: Do, seconds: float = 5.0, session: str | None = None, times: int = 1) -> None:
    """The next processes that reach the step (for that session, if given) do it. Forgets who did it before."""
    for before in folder.glob(f"{step}.taken-*"):
        before.unlink(missing_ok=True)
    fault: dict[str, object] = {"do": do, "seconds": seconds, "times": times}
    if session is not None:
        fault["session"] = session
    draft = folder / f".{step}.tmp"
    draft.write_text(json.dumps(fault))
    draft.rename(folder / step)


def taken(folder: Path, step: str) -> int | None:
    """The pid of the process that has done what was armed last."""
    return next((int(path.name.rsplit("-", 1)[1]) for path in folder.glob(f"{step}.taken-*")), None)


def disarm(folder: Path, step: str) -> None:
    """Take back what nobody has done yet."""
    (folder / step).unlink(missing_ok=True)
