"""What receivers of webhooks are told of an entry: made before it is written, and stored with it.

So there is no entry of which they will not be told, and nothing is told that has not been entered. Notices are thin:
they name the session, and nobody's name, address or answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.interview.entry import Entry, canonical_json
from orchestrator.interview.fold import fold
from orchestrator.interview.integrity import Policy
from orchestrator.interview.presence import JOINED, LEFT, LOST
from orchestrator.interview.sightings import CAMERA
from orchestrator.interview.state import State
from orchestrator.interview.view import iso

Event = dict[str, Any]

FLAGGED = frozenset({"medium", "high"})
"""Severities, by the session's policy, of what is told as `proctoring.flagged`."""
COMES_OR_GOES = JOINED | LEFT | LOST | {"candidate_seen"}


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell: the event `seq` of the journal, under a name that receivers know."""

    seq: int
    type: str
    data: dict[str, Any]


def with_notices(entry: Entry, before: State | None, policy: Policy | None, events: list[Event] | None = None) -> Entry:
    """The entry with what is to be told of it. `before`: the state that it is written on; `policy`: the session's;
    `events`: those of the entry, if they are at hand."""
    told = [{"seq": n.seq, "type": n.type, "data": n.data} for n in notices(entry, before, policy, events)]
    return entry.to_deliver(canonical_json(told)) if told else entry


def notices(
    entry: Entry, before: State | None, policy: Policy | None, events: list[Event] | None = None
) -> list[Notice]:
    """In the order of the events; one at most of each."""
    told: list[Notice] = []
    of_the_entry: list[Event] = entry.content()["events"] if events is None else events
    for seq, event in enumerate(of_the_entry, entry.seq):
        kind = event["type"]
        plain = _PLAIN.get(kind)
        if plain is not None:
            name, data = plain
            told.append(Notice(seq, name, data(event)))
        elif kind == "proctoring_event" and (severity := _flagged(event, before, policy)) is not None:
            told.append(Notice(seq, "proctoring.flagged", _sighting(event, severity)))
        elif kind in COMES_OR_GOES and before is not None:
            told += _presence(entry, before, seq, event)
    return told


def _presence(entry: Entry, before: State, seq: int, event: Event) -> list[Notice]:
    """The candidate is not there any more, or there again. Who waits to start comes and goes untold."""
    after = fold(before, entry)
    if not before.status == after.status == "in_progress" or _away(before) == _away(after):
        return []
    stands = after.open is not None and after.open.lost_at is not None
    data = {"reason": event.get("reason"), "clock_stopped": stands} if _away(after) else {}
    return [Notice(seq, "interview.disconnected" if _away(after) else "interview.reconnected", data)]


def _away(state: State) -> bool:
    presence = state.presence
    return presence.noted > 0 and (presence.lost or not presence.here)


def _flagged(event: Event, before: State | None, policy: Policy | None) -> str | None:
    """The severity of what was seen, if it is one to tell of. The end of an interval is not."""
    exempt = before is not None and before.accommodations.camera_exempt and event["event"] in CAMERA
    if policy is None or exempt or event.get("phase") == "ended":
        return None
    severity = policy.weight(event["event"]).severity
    return severity if severity in FLAGGED else None


def _sighting(event: Event, severity: str) -> dict[str, Any]:
    seen_at = iso(event["at"]) if "at" in event else None
    return {"event": event["event"], "source": event["source"], "severity": severity, "seen_at": seen_at}


def _created(event: Event) -> dict[str, Any]:
    return {"job_id": event.get("job_id"), "scheduled_at": iso(event.get("scheduled_at"))}


_PLAIN: dict[str, tuple[str, Callable[[Event], dict[str, Any]]]] = {
    "created": ("interview.created", _created),
    "started": ("interview.started", lambda event: {}),
    "question_closed": (
        "interview.question_closed",
        lambda event: {"question_index": event["index"], "source": event["source"]},
    ),
    "paused": ("interview.paused", lambda event: {}),
    "resumed": ("interview.resumed", lambda event: {}),
    "completed": ("interview.completed", lambda event: {"end_reason": event["reason"]}),
    "deleted": ("interview.deleted", lambda event: {}),
    "report_made": ("report.ready", lambda event: {"as_of": event["as_of"], "integrity_score": event["score"]}),
    "review_decided": ("review.decided", lambda event: {"verdict": event["verdict"]}),
}

EVENT_TYPES = (
    "interview.created",
    "interview.started",
    "interview.question_closed",
    "interview.paused",
    "interview.resumed",
    "interview.disconnected",
    "interview.reconnected",
    "interview.completed",
    "interview.deleted",
    "report.ready",
    "proctoring.flagged",
    "review.decided",
)
"""All that there is to subscribe to."""
