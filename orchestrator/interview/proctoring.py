"""The rules of proctoring: what is entered of what was seen, and what people may say about it.

    command              initialized, in_progress     completed
    note_sightings       events, gathered by kind     events, but 409 for the page and staff
    note_frames          frames [+ events]            frames [+ events]: stills are looked at late, too
    note_reference       [consent_given +] reference  409
    note_erased          erased                       erased
    note_hook_failure    hook_failed                  hook_failed
    dispute              event_disputed               event_disputed
    give_verdict         verdict_given                verdict_given

What was seen comes gathered: of one kind from one source an entry has at most four events, however many there were.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.errors import InvalidInput
from orchestrator.interview.allowed import conflict
from orchestrator.interview.commands import (
    Caller,
    Dispute,
    GiveVerdict,
    NoteErased,
    NoteFrames,
    NoteHookFailure,
    NoteReference,
    NoteSightings,
    check_same_body,
)
from orchestrator.interview.sightings import (
    CUSTOM,
    LOSSES,
    MAX_KINDS,
    MAX_LOSSES,
    OTHER,
    WITHDRAWN,
    Open,
    Proctoring,
    Sighting,
)
from orchestrator.interview.state import State

Event = dict[str, Any]
Key = tuple[str, str]
"""Kind and source."""
Spot = tuple[str, str, bool]
"""Kind, source, and whether it was over before the interview began."""

MAX_PAGE_EVENTS = 5_000
"""Of one session; what the page sends beyond it is not kept, and an event says so."""
MAX_DISPUTES = 50
NOTHING_MORE = "The interview has ended; nothing more is noted."
FROM_OUTSIDE = frozenset({"page", "staff"})


def sightings_noted(state: State, command: NoteSightings, caller: Caller, now: int) -> list[Event]:
    """The events of a batch. Those that the state knows already (it lasts, it is over) are left out.

    Raises StateConflict for what people send after the end.
    """
    fresh = [call for call in command.keyed if state.proctoring.call(call[0]) is None]
    sightings = (*command.sightings, *(sighting for call in fresh for sighting in call[2]))
    received_at = now if command.received_at is None else command.received_at
    late = state.completed_at is not None and received_at > state.completed_at
    if late and caller.role != "system":
        raise conflict(state, NOTHING_MORE)
    events = _within_bounds(state, _gathered(state, sightings, now))
    known = [[key, body_hash] for key, body_hash, _ in fresh]
    return [*events, {"type": "commands_noted", "commands": known}] if events and known else events


def is_repeat(state: State, identity: tuple[str, str] | None) -> bool:
    """Whether a call with this (key, hash) was noted before. Raises CommandIdReused if it had another body."""
    known = state.proctoring.call(identity[0]) if identity is not None else None
    if known is not None and identity is not None:
        check_same_body(known, identity[1])
    return known is not None


@dataclass(slots=True)
class _Whole:
    """Points and whole intervals of one kind from one source, as one. `spans`: (from, until) in watched time."""

    at: int
    until: int | None = None
    count: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)

    def ms(self, reached: int) -> int:
        """The watched time beyond `reached` that they cover, however they overlap."""
        covered = 0
        for begin, end in sorted(self.spans):
            covered += max(0, end - max(begin, reached))
            reached = max(reached, end)
        return covered

    def add(self, sighting: Sighting, until: int | None, p: Proctoring) -> None:
        self.at = min(self.at, sighting.at)
        if until is not None:
            self.until = max(until, self.until or 0)
            self.spans.append((p.position(sighting.at), p.position(until)))
        self.count += sighting.count
        if not self.detail or _size(sighting.detail) > _size(self.detail):
            self.detail = sighting.detail


def _size(detail: dict[str, Any]) -> float:
    size = detail.get("size", 0)
    return size if isinstance(size, int | float) else 0


def _gathered(state: State, sightings: tuple[Sighting, ...], now: int) -> list[Event]:
    p = state.proctoring
    lasting: dict[Key, Open] = {(o.kind, o.source): o for o in (*p.open_at_end, *p.open)}
    ended: dict[Key, tuple[Open, Sighting]] = {}
    begun: dict[Key, Sighting] = {}
    wholes: dict[Spot, _Whole] = {}
    kinds = {t.kind for t in p.tallies if CUSTOM.match(t.kind)}
    for given in sightings:
        sighting = _placed(state, given, kinds, now)
        key = (sighting.kind, sighting.source)
        if sighting.phase == "began":
            if key not in lasting:
                begun.setdefault(key, sighting)
        elif sighting.phase == "ended" and key in begun:
            _add(wholes, begun.pop(key), sighting.at, state)
        elif sighting.phase == "ended":
            if key in lasting:
                ended[key] = (lasting.pop(key), sighting)
        else:
            until = None if sighting.duration_ms is None else min(now, sighting.at + sighting.duration_ms)
            _add(wholes, sighting, until, state)
    return [
        *(_ended(interval, sighting) for interval, sighting in ended.values()),
        *(_whole(spot, whole, p) for spot, whole in wholes.items()),
        *(_event(s.kind, s.source, s.at, s.detail, phase="began") for s in begun.values()),
    ]


def _placed(state: State, sighting: Sighting, kinds: set[str], now: int) -> Sighting:
    """With a time that can be, and of a kind that there is room for."""
    kind = sighting.kind
    if CUSTOM.match(kind) and sighting.source in FROM_OUTSIDE:
        kind = kind if kind in kinds or len(kinds) < MAX_KINDS else OTHER
        kinds.add(kind)
    return replace(sighting, kind=kind, at=max(state.created_at, min(sighting.at, now)))


def _event(kind: str, source: str, at: int, detail: dict[str, Any], **more: Any) -> Event:
    event = {"type": "proctoring_event", "event": kind, "source": source, "at": at, **more}
    return event | {"detail": detail} if detail else event


def _ended(interval: Open, sighting: Sighting) -> Event:
    until = max(interval.at, sighting.at)
    return _event(interval.kind, interval.source, until, sighting.detail, phase="ended", of=interval.id, until=until)


def _add(wholes: dict[Spot, _Whole], first: Sighting, until: int | None, state: State) -> None:
    until = None if until is None else max(first.at, until)
    over_before = state.started_at is not None and (first.at if until is None else until) < state.started_at
    whole = wholes.setdefault((first.kind, first.source, over_before), _Whole(first.at))
    whole.add(first, until, state.proctoring)


def _whole(spot: Spot, whole: _Whole, p: Proctoring) -> Event:
    kind, source, _ = spot
    lasted = {} if whole.until is None else {"until": whole.until, "ms": whole.ms(p.tally(kind).reach)}
    return _event(kind, source, whole.at, whole.detail, count=whole.count, **lasted)


def _within_bounds(state: State, events: list[Event]) -> list[Event]:
    """What the page sends is bounded, but what it has begun may end; what others see is by what they are."""
    sent = [e for e in events if e["source"] == "page" and e.get("phase") != "ended"]
    left = MAX_PAGE_EVENTS - state.proctoring.page_events
    if len(sent) < left:
        return events
    others = [e for e in events if e not in sent]
    return others if left <= 0 else [*others, *sent[: left - 1], _full(sent[left - 1])]


def _full(last: Event) -> Event:
    return last | {"detail": {"note": "this page has sent so many events that no more of them are kept"}}


def frames_noted(state: State, command: NoteFrames, caller: Caller, now: int) -> list[Event]:
    """A batch of stills that were looked at, and what they show."""
    if command.batch in state.proctoring.batches:
        return []
    frames = {
        "type": "frames",
        "batch": command.batch,
        "times": list(command.times),
        "late": command.late,
        "dropped": command.dropped,
        "unreadable": command.unreadable,
    }
    events: list[Event] = [frames, *_gathered(state, command.sightings, now)]
    if command.kept:
        events.append({"type": "evidence_kept", "stills": list(command.kept)})
    if command.thinned:
        events.append({"type": "evidence_thinned", "stills": list(command.thinned), "because": "cap"})
    return events


def reference_noted(state: State, command: NoteReference, caller: Caller, now: int) -> list[Event]:
    """The face that stills are compared with from here on. Capturing it counts as consent where none was asked for."""
    check_pictures(state)
    check_replacement(state, caller)
    event = {
        "type": "reference_captured",
        "sha256": command.sha256,
        "engine": command.engine,
        "engine_version": command.engine_version,
        "quality": command.quality,
    }
    consent = [] if state.consent_at is not None else [{"type": "consent_given", "policy": None}]
    return [*consent, event]


def check_replacement(state: State, caller: Caller) -> None:
    """Whether this caller may capture a reference face now: somebody else could take the candidate's seat, and theirs
    be the face from then on. Raises StateConflict."""
    replaces = state.proctoring.references > 0 and state.started_at is not None
    if replaces and caller.role == "candidate":
        raise conflict(
            state, "The reference face cannot be replaced once the interview has begun; ask the people who invited you."
        )


def check_pictures(state: State, consent_to: str | None = None) -> None:
    """Whether pictures of the candidate may be taken. `consent_to`: a privacy policy that needs consent first.

    Raises StateConflict.
    """
    if state.status == "completed":
        raise conflict(state, "The interview has ended; no more pictures are taken.")
    if state.accommodations.camera_exempt:
        raise conflict(state, "This candidate is exempt from the camera; no pictures are taken.")
    if state.consent_withdrawn:
        raise conflict(state, "The candidate has withdrawn consent; no pictures are taken until it is given again.")
    if consent_to is not None and (state.consent_at is None or state.consent_policy != consent_to):
        raise conflict(state, "The candidate has to agree to the privacy policy before pictures are taken.")


def erased(state: State, command: NoteErased, caller: Caller, now: int) -> list[Event]:
    """Pictures or answers are gone; that they were there, and why they were erased, stays."""
    if command.what == "answers" and (state.status != "completed" or state.answers_erased_at or not state.answers):
        return []
    withdrawn = command.because == WITHDRAWN and state.consent_at is not None
    if command.what == "reference" and state.proctoring.reference_at is None and not withdrawn:
        return []
    event = {"type": "erased", "what": command.what, "because": command.because}
    return [event | {"stills": list(command.ids)} if command.ids else event]


def hook_failed(state: State, command: NoteHookFailure, caller: Caller, now: int) -> list[Event]:
    return [{"type": "hook_failed", "hook": command.hook, "reason": command.reason, "off": command.off}]


def hooks_suspended(state: State, cause: str) -> list[Event]:
    """What an activation for this cause comes to, beside what it is: a hook may be what has taken the actors down."""
    losses = state.proctoring.losses + (cause in LOSSES)
    if cause not in LOSSES or losses < MAX_LOSSES or state.proctoring.hooks_off:
        return []
    return [{"type": "hooks_suspended", "losses": losses}]


def disputed(state: State, command: Dispute, caller: Caller, now: int) -> list[Event]:
    """The candidate's objection to an event. It stands beside the event, and changes no points."""
    if state.proctoring.disputes >= MAX_DISPUTES:
        raise conflict(state, f"{MAX_DISPUTES} events were disputed; no more objections are taken here.")
    if not 0 < command.event_id <= state.seq:
        raise InvalidInput.at("/event_id", f"There is no event {command.event_id}.")
    return [{"type": "event_disputed", "of": command.event_id, "statement": command.statement}]


def verdict_given(state: State, command: GiveVerdict, caller: Caller, now: int) -> list[Event]:
    return [{"type": "verdict_given", "verdict": command.verdict, "reason": command.reason}]
