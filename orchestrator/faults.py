"""Faults on purpose, at named steps, for the fault-injection suite. Off unless INTERVIEW_FAULTS names a folder.

A test arms a fault by putting a file `<folder>/<step>` there, with {"do": ..., "seconds": ..., "session": ...}.
The first process that reaches the step (for that session, if one is given) claims the file by renaming it (and
leaves another one if `times` is above 1), and

    kill   ends itself by SIGKILL
    stop   stops itself by SIGSTOP
    hang   blocks its event loop for `seconds`
    lose   does its work, and then answers that the outcome is unknown

Steps: append.before, append.after (JournalActor, around the insert), activate.before, activate.after,
reply.before, release.before, release.after (InterviewActor), front_end.reply (front end).
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from orchestrator.errors import OutcomeUnknown

_folder = os.environ.get("INTERVIEW_FAULTS")


def armed() -> bool:
    """Whether this process may be asked to fail at all."""
    return bool(_folder)


def step(name: str, session_id: str = "") -> None:
    """Do what a test has armed for this step. Raises OutcomeUnknown for a reply that is to be lost."""
    fault = _claim(name, session_id) if _folder else None
    if fault is None:
        return
    if fault["do"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault["do"] == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault["do"] == "hang":
        time.sleep(fault.get("seconds", 5))
    elif fault["do"] == "lose":
        raise OutcomeUnknown("The reply was lost on purpose; repeat the request with the same key.", retry_after=1)


def _claim(name: str, session_id: str) -> dict[str, Any] | None:
    path = Path(_folder or "") / name
    try:
        fault = json.loads(path.read_text())
        if fault.get("session") not in (None, session_id):
            return None
        path.rename(path.with_name(f"{name}.taken-{os.getpid()}"))
        if fault.get("times", 1) > 1:
            draft = path.with_name(f".{name}.{os.getpid()}")
            draft.write_text(json.dumps(fault | {"times": fault["times"] - 1}))
            draft.rename(path)
    except (OSError, ValueError):
        return None
    return fault
