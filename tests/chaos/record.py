"""What the load did and was told: the only thing that the audit believes beside the journal.

Times are of the monotonic clock, so that they can be compared with the times at which faults were made.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

SLOW_SECONDS = 0.5
"""A call that took longer without failing has met a fault too: the front end repeated it inside."""

AT_ONCE_SECONDS = 0.5


@dataclass(slots=True)
class Call:
    """One command of one candidate with all its attempts, from the first until it was acknowledged or refused."""

    candidate: int
    session_id: str
    command: str
    key: str | None
    began: float
    done: float | None = None
    acknowledged: bool = False
    failures: list[tuple[int, float]] = field(default_factory=list)
    """Failed attempts: (status, time); status 0 is a connection that broke or timed out."""

    def met(self, start: float, until: float) -> bool:
        """Whether a fault at `start` was felt: under way at that time, or failed or slow before `until`."""
        if self.began <= start:
            return self.done is None or self.done > start
        if any(at < until for _, at in self.failures):
            return True
        ended = math.inf if self.done is None else self.done
        return min(ended, until) - self.began > SLOW_SECONDS


@dataclass(slots=True)
class Interview:
    """One simulated interview: what was sent and what the service said yes and no to."""

    session_id: str
    candidate: int
    kinds: list[str]
    """Of its questions: "long", or "short" for one whose clock may run out."""
    sent: dict[int, str] = field(default_factory=dict)
    sent_at: dict[int, int] = field(default_factory=dict)
    """When an answer was first sent, in ms of the wall clock (the service's, on one machine)."""
    acknowledged: dict[int, str] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    drafts: dict[int, list[str]] = field(default_factory=dict)
    """All drafts sent, by question; revision r is at r - 1."""
    drafts_acknowledged: dict[int, int] = field(default_factory=dict)
    """The highest acknowledged revision, by question."""
    extended: list[str] = field(default_factory=list)
    """Reasons of acknowledged extends; each is unique."""
    paused: list[str] = field(default_factory=list)
    resumed: int = 0
    started: bool = False
    completed: bool = False
    """The service said that it is completed."""
    ended: bool = False
    """By POST /end, acknowledged."""
    uncertain: bool = False
    """A command was given up, so it may or may not have happened."""
    version: int = 0
    """The highest version seen in an acknowledgement."""


@dataclass
class Record:
    """Everything that happened during a run. About 200 bytes a command, so twenty minutes are a few MB."""

    interviews: list[Interview] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Commands given up or refused although they had to work, and answers of the service that cannot be right."""
    counts: Counter[str] = field(default_factory=Counter)
    """Acknowledged commands by name, and what else is worth a line in the table."""

    def error(self, interview: Interview | None, problem: str) -> None:
        where = interview.session_id if interview else "no session"
        self.errors.append(f"{where}: {problem}")

    def outcome(self, since: float) -> str:
        """How many commands were acknowledged, and how many were sent again after `since`, in words."""
        again = sorted(status for call in self.calls for status, at in call.failures if at >= since)
        acknowledged = sum(call.acknowledged for call in self.calls)
        return f"{acknowledged} commands acknowledged, {len(again)} sent again {again or ''}".rstrip()

    def succeeded_after(self, at: float, session_id: str | None = None) -> bool:
        """Whether a command that was sent after `at` (to that session, if one is given) was acknowledged."""
        for call in reversed(self.calls):
            if call.began < at - 120.0:
                return False
            if call.acknowledged and call.began > at and session_id in (None, call.session_id):
                return True
        return False

    def recovery_after(self, start: float, until: float = math.inf, victim: str | None = None) -> list[float]:
        """Seconds from a fault at `start` until each candidate that felt it before `until` was served again.

        The candidate of the session that it was about has felt it, even if its next call was as fast as ever.
        """
        served: dict[int, float] = {}
        next_of_victim = self._next_call(start, victim) if victim else None
        for call in self.calls:
            if call.acknowledged and call.done is not None and (call.met(start, until) or call is next_of_victim):
                served[call.candidate] = max(served.get(call.candidate, 0.0), call.done - start)
        return list(served.values())

    def _next_call(self, start: float, session_id: str) -> Call | None:
        """The first call of a session after a fault, if it came at once."""
        later = (c for c in self.calls if c.session_id == session_id and start <= c.began < start + AT_ONCE_SECONDS)
        return next(later, None)
