"""Stills: which are kept as evidence and why, which go when there are too many, and how soon the next one is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from orchestrator.interview.entry import Entry
from orchestrator.interview.flags import Verdict

T = TypeVar("T")

UNREADABLE = "unreadable"
"""What is said in the place of a verdict of a still that nobody can look at."""
MAX_KEPT = 60
"""Stills kept as evidence of one session."""
MAX_PENDING = 6
"""Stills of one session that may wait to be looked at."""
BEFORE = "the last one before"
DENSER = 3
"""When something was seen, stills are wanted so many times as often."""


def reason_to_keep(verdict: str, *, first: bool, after_trouble: bool) -> str | None:
    """Why a still is kept: it is the first one, shows something, or comes after one that did; None if it is not.

    The one before a still that shows something is kept too (BEFORE), once that is known.
    """
    if verdict == UNREADABLE:
        return None
    if verdict != Verdict.OK:
        return f"it shows {verdict}"
    if after_trouble:
        return "the next one after something was seen"
    return "the first one" if first else None


def noted_as_kept(entries: Iterable[Entry]) -> set[str]:
    """The ids of the stills of which a journal says that they are kept, or were."""
    events = (event for entry in entries if not entry.erased for event in entry.content()["events"])
    return {still["id"] for event in events if event["type"] == "evidence_kept" for still in event["stills"]}


def thinned(kept: Sequence[str]) -> list[str]:
    """Which of the kept stills, oldest first, go: every second one, but never the first or the last."""
    return list(kept[1:-1:2]) if len(kept) > MAX_KEPT else []


def skipped(waiting: Sequence[T]) -> Sequence[T]:
    """Which of those that wait, oldest first, are never looked at when one more comes: every second one."""
    return waiting[1::2] if len(waiting) >= MAX_PENDING else ()


def next_seconds(frame_seconds: float, *, dense: bool) -> float:
    """How long until the next still is wanted."""
    return frame_seconds / DENSER if dense else frame_seconds
