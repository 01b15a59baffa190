"""The journal read once more, apart from the service: when each question closed, and when it was due to.

Nothing of the service's own rules is used here; the audit would only find what they find.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

GRACE_MS = 2_000

Event = dict[str, Any]


@dataclass(slots=True)
class Clock:
    """One question's clock, in ms: what was given, and how long it stood still."""

    index: int
    opened_at: int
    limit_ms: int
    extended_ms: int = 0
    credited_ms: int = 0
    paused_ms: int = 0
    paused_at: int | None = None
    parked: bool = False
    disturbed_at: int | None = None
    """When an actor last took the session, or time was last given back."""

    @property
    def deadline(self) -> int:
        return self.opened_at + self.limit_ms + self.extended_ms + self.credited_ms + self.paused_ms

    @property
    def due(self) -> int:
        """From when on the question may be closed for its time."""
        return self.deadline + GRACE_MS

    @property
    def runs(self) -> bool:
        return self.paused_at is None and not self.parked

    def stop_pause(self, at: int) -> None:
        if self.paused_at is not None:
            self.paused_ms += at - self.paused_at
            self.paused_at = None


@dataclass(frozen=True, slots=True)
class Closing:
    """How a question was closed. `by_timer`: its time was over; `late_ms` is then how much later than due."""

    index: int
    source: str
    answer: str
    at: int
    due: int
    paused: bool
    by_timer: bool
    explained: bool
    """An actor took the session, or time was given back, when the question was due or later."""

    @property
    def late_ms(self) -> int:
        return self.at - self.due


@dataclass(slots=True)
class Reading:
    """What a journal says of its questions."""

    closings: list[Closing]
    open: Clock | None
    """The question that is open at the end."""


def ms(text: str) -> int:
    """An ISO time as ms since the epoch."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def read(events: list[Event]) -> Reading:
    """Go through the events of one session, in order."""
    reading = Reading([], None)
    for position, event in enumerate(events):
        at, clock = ms(event["at"]), reading.open
        if event["type"] == "question_opened":
            reading.open = Clock(event["index"], at, event["limit_ms"])
        elif event["type"] == "question_closed":
            reading.closings.append(_closing(event, at, clock, _ends(events[position + 1 : position + 2])))
            reading.open = None
        elif event["type"] in ("completed", "deleted"):
            reading.open = None
        elif clock is not None:
            _turn(clock, event, at)
    return reading


def _turn(clock: Clock, event: Event, at: int) -> None:
    match event["type"]:
        case "extended":
            clock.extended_ms += event["ms"]
        case "clock_credited":
            clock.credited_ms += event["ms"]
            clock.disturbed_at = at
        case "paused":
            clock.paused_at = at
        case "resumed":
            clock.stop_pause(at)
        case "parked":
            clock.parked = True
        case "activated":
            clock.parked = False
            clock.disturbed_at = at


def _closing(event: Event, at: int, clock: Clock | None, ended: bool) -> Closing:
    index, source = event["index"], event["source"]
    by_timer = source == "timeout" or (source == "draft" and not ended)
    if clock is None or clock.index != index:  # it was not open; that it closed twice is found by the number of times
        return Closing(index, source, event["answer"], at, at, False, by_timer, True)
    paused = clock.paused_at is not None
    clock.stop_pause(at)
    explained = clock.disturbed_at is not None and clock.disturbed_at >= clock.due - 1_000
    return Closing(index, source, event["answer"], at, clock.due, paused, by_timer, explained)


def _ends(following: Iterable[Event]) -> bool:
    """Whether somebody ended the interview: then a draft becomes the answer before its time is over."""
    return any(e["type"] == "completed" and str(e["reason"]).startswith("ended_by") for e in following)
