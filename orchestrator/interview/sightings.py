"""What proctoring has seen of an interview: kinds, and what the journal's events add up to.

    a point      happened at one time, or for a time that nobody knows
    an interval  began and ended; it lasts in watched time, which stands still while the interview is paused or parked

The state keeps sums by kind and what still lasts. The same step, event by event, also gives the whole timeline
(`Seen`), so a score made from either is one and the same. Everything here informs people and decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from orchestrator.errors import InvalidInput
from orchestrator.interview.wire import Wire, known_of

Source = Literal["page", "frames", "livekit", "channel", "hook", "staff"]
"""Who has seen it: the candidate's page, the analysis of stills, LiveKit, the live channel, a hook, or somebody who
watched."""
Phase = Literal["began", "ended"]

NETWORK_LOST = "network_lost"
LASTING = frozenset(
    {
        "face_absent",
        "multiple_faces",
        "face_mismatch",
        "camera_off",
        "camera_obscured",
        "tab_hidden",
        "focus_lost",
        "fullscreen_left",
        "second_display",
        "screen_share_stopped",
        "mic_muted",
        "noise",
        NETWORK_LOST,
    }
)
"""Kinds that begin and end; the others happen at one time."""
MOMENTARY = frozenset({"paste", "copy", "second_device"})
CAMERA = frozenset({"face_absent", "multiple_faces", "face_mismatch", "camera_off", "camera_obscured"})
"""Kinds that say nothing of a candidate who is exempt from the camera."""
CUSTOM = re.compile(r"custom:[a-z0-9_]{1,40}\Z")
"""Kinds of an integrator's or a hook's own; they happen at one time, or begin and end as they are told."""
OTHER = "custom:other"
"""What further kinds count as, once a session has MAX_KINDS of them."""
MAX_KINDS = 40

STILL_REACH = 1.1
"""A still that was checked stands for the time since the one before, but for this many frame intervals at most."""
SIGN_REACH_MS = 60_000
"""A sign of the page stands for the time since the one before, but for this long at most."""
LOSSES = frozenset({"crash", "hung"})
"""Causes of an activation: the actor before was lost, perhaps to a hook."""
WITHDRAWN = "consent withdrawn"
"""Why pictures were erased that the candidate does not want to be kept."""
MAX_LOSSES = 2
"""After so many the session runs on with its hooks suspended."""


def check_kind(kind: str, pointer: str = "/events") -> None:
    """Raises InvalidInput for a kind that is in no catalogue and not `custom:...`."""
    if kind not in LASTING and kind not in MOMENTARY and not CUSTOM.match(kind):
        known = ", ".join(sorted(LASTING | MOMENTARY))
        raise InvalidInput.at(pointer, f"{kind[:64]!r} is not a kind of event; known are {known}, and custom:<name>.")


@dataclass(frozen=True, slots=True)
class Sighting(Wire):
    """Something that was seen, on its way to the journal. `at` and `duration_ms` in ms.

    With a `phase` it is one end of an interval. Without: a whole interval if `duration_ms` is given, else a point.
    """

    kind: str
    source: Source
    at: int
    phase: Phase | None = None
    duration_ms: int | None = None
    count: int = 1
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """One event of the timeline: `id` is its seq in the journal. `ms`: how long it lasted, in watched time.

    `until` is None if it still lasts, or happened at once. What was over before the interview began counts nothing.
    """

    id: int
    kind: str
    source: str
    at: int
    until: int | None = None
    ms: int = 0
    lasts: bool = False
    count: int = 1
    detail: dict[str, Any] = field(default_factory=dict)
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Tally:
    """What one kind adds up to since the start: times, ms of watched time, and when it was seen last.

    `reach`: up to this position time of whole intervals was counted; what is told again of it is not.
    """

    kind: str
    count: int = 0
    ms: int = 0
    last_at: int = 0
    reach: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """An interval that lasts. `position`: the watched time at which it began; `counted`: what the end of the interview
    has counted of it; both in ms."""

    id: int
    kind: str
    source: str
    at: int
    position: int
    counted: int = 0


@dataclass(frozen=True, slots=True)
class Cover:
    """How much watched time something stands for (`ms`), up to the position `until`."""

    ms: int = 0
    until: int = 0

    def reached(self, position: int, reach: int) -> Cover:
        if position <= self.until:
            return self
        return Cover(self.ms + min(position - self.until, reach), position)


Stretch = tuple[int, int, int]
"""Time without a break in which the interview ran: from, until, and the watched time before it; all in ms."""
MAX_STRETCHES = 50
MAX_BATCHES = 4
MAX_CALLS = 200


@dataclass(frozen=True, slots=True)
class Proctoring:
    """What is known of a session's proctoring. Times and sums in ms.

    `calls`: (key, hash) of the last calls that told what was seen. `compared`: stills were held against a reference.
    `stretches`: when the interview ran, without pauses. `batches`: ids of the last batches of stills that were entered.
    `page_events`: events that the page has sent. `open_at_end`: what stills showed when the interview ended; stills
    that are looked at later may say that it was over before.
    """

    policy: str | None = None
    frame_seconds: float = 15.0
    running: bool = False
    stretches: tuple[Stretch, ...] = ()
    video_ms: int = 0
    camera: Cover = Cover()
    page: Cover = Cover()
    page_by_stills: Cover = Cover()
    tallies: tuple[Tally, ...] = ()
    open: tuple[Open, ...] = ()
    open_at_end: tuple[Open, ...] = ()
    page_events: int = 0
    calls: tuple[tuple[str, str], ...] = ()
    batches: tuple[str, ...] = ()
    last_still_at: int = 0
    compared: bool = False
    stills_checked: int = 0
    stills_late: int = 0
    stills_dropped: int = 0
    stills_unreadable: int = 0
    reference_at: int | None = None
    reference_sha256: str | None = None
    references: int = 0
    losses: int = 0
    hooks_off: bool = False
    verdict: str | None = None
    disputes: int = 0

    def position(self, at: int) -> int:
        """The watched time at `at` (ms)."""
        last = len(self.stretches) - 1
        for number in range(last, -1, -1):
            began, until, before = self.stretches[number]
            if at >= began:
                goes_on = self.running and number == last
                return before + (at if goes_on else min(at, until)) - began
        return self.stretches[0][2] if self.stretches else 0

    def call(self, key: str) -> str | None:
        """The hash of an earlier call with this key, if it is still remembered."""
        return next((body_hash for known, body_hash in reversed(self.calls) if known == key), None)

    def lasts_until(self, interval: Open, at: int) -> int:
        """Until when an interval that is open has lasted by `at`. What stills show is not known for longer than they
        stand for."""
        if interval.source != "frames":
            return at
        return min(at, max(interval.at, self.last_still_at + self.still_reach_ms))

    def tally(self, kind: str) -> Tally:
        return next((t for t in self.tallies if t.kind == kind), Tally(kind))

    @property
    def still_reach_ms(self) -> int:
        return round(self.frame_seconds * 1000 * STILL_REACH)

    def advanced(self, at: int, *, video: bool) -> Proctoring:
        """Time has gone on to `at`, with the candidate in a LiveKit room (`video`) or not."""
        if not self.running or not self.stretches or at <= self.stretches[-1][1]:
            return self
        began, until, before = self.stretches[-1]
        video_ms = self.video_ms + (at - until if video else 0)
        return replace(self, stretches=(*self.stretches[:-1], (began, at, before)), video_ms=video_ms)

    def settled(self, running: bool, at: int) -> Proctoring:
        """From `at` on the interview runs, or not."""
        if running == self.running:
            return self
        if not running:
            return replace(self, running=False)
        stretches = (*self.stretches, (at, at, self.position(at)))[-MAX_STRETCHES:]
        return replace(self, running=True, stretches=stretches)


def loaded(doc: dict[str, Any]) -> Proctoring:
    """The inverse of `asdict`."""
    doc = dict(doc)
    for name in ("camera", "page", "page_by_stills"):
        doc[name] = known_of(Cover, doc.get(name, {}))
    doc["stretches"] = tuple((began, until, before) for began, until, before in doc.get("stretches", ()))
    doc["tallies"] = tuple(known_of(Tally, tally) for tally in doc.get("tallies", ()))
    doc["batches"] = tuple(doc.get("batches", ()))
    doc["calls"] = tuple((key, body_hash) for key, body_hash in doc.get("calls", ()))
    for name in ("open", "open_at_end"):
        doc[name] = tuple(known_of(Open, interval) for interval in doc.get(name, ()))
    return known_of(Proctoring, doc)


def step(
    p: Proctoring, event: dict[str, Any], seq: int, at: int, *, started_at: int | None, lost: bool
) -> tuple[Proctoring, tuple[Seen, ...]]:
    """What one event of the journal changes, and the events of the timeline that are new or have changed by it.

    By then the interview has started, or not (`started_at`, ms), and the candidate's last connection is `lost`, through
    no fault of theirs.
    """
    kind = event["type"]
    if kind == "proctoring_event":
        return _event(p, event, seq, at, started_at)
    if kind == "completed":
        return _completed(p, at)
    gone = [o for o in p.open if o.kind == NETWORK_LOST and o.source in _CONNECTIONS.values()]
    if lost and not gone and kind in _CONNECTIONS:
        return _began(p, NETWORK_LOST, _CONNECTIONS[kind], seq, at, {})
    if gone and not lost:
        return _all_ended(p, gone, at)
    change = _CHANGES.get(kind)
    return (p, ()) if change is None else (change(p, event, at), ())


_CONNECTIONS = {"connection_lost": "livekit", "channel_lost": "channel"}


def _event(
    p: Proctoring, event: dict[str, Any], seq: int, at: int, started_at: int | None
) -> tuple[Proctoring, tuple[Seen, ...]]:
    kind, source, when = event["event"], event["source"], event.get("at", at)
    detail, phase = event.get("detail", {}), event.get("phase")
    if source == "page":
        page_events = p.page_events + (phase != "ended")
        p = replace(p, page=p.page.reached(p.position(at), SIGN_REACH_MS), page_events=page_events)
    if phase == "began":
        return _began(p, kind, source, seq, when, detail)
    if phase == "ended":
        return _corrected(*_all_ended(p, [o for o in p.open if o.id == event["of"]], event["until"], detail), event, at)
    count, ms, until = event.get("count", 1), event.get("ms", 0), event.get("until")
    counts = started_at is None or started_at <= (when if until is None else until)
    seen = Seen(seq, kind, source, when, until, ms, until is not None, count, detail, counts)
    reach = 0 if until is None else p.position(until)
    return _added(p, kind, count, ms, when, reach) if counts else p, (seen,)


def _completed(p: Proctoring, at: int) -> tuple[Proctoring, tuple[Seen, ...]]:
    seen: list[Seen] = []
    at_end: list[Open] = []
    for interval in p.open:
        p, ended = _all_ended(p, [interval], p.lasts_until(interval, at))
        seen += ended
        if interval.source == "frames":
            at_end.append(replace(interval, counted=ended[0].ms))
    return replace(p, open_at_end=tuple(at_end)), tuple(seen)


def _corrected(
    p: Proctoring, seen: tuple[Seen, ...], event: dict[str, Any], at: int
) -> tuple[Proctoring, tuple[Seen, ...]]:
    """What the end of the interview had ended was over before, as a still shows that was looked at late."""
    interval = next((o for o in p.open_at_end if o.id == event["of"]), None)
    if seen or interval is None:
        return p, seen
    p = replace(p, open_at_end=tuple(o for o in p.open_at_end if o is not interval))
    p = _added(p, interval.kind, 0, -interval.counted, event["until"])
    return _all_ended(replace(p, open=(*p.open, interval)), [interval], event["until"], event.get("detail"))


def _began(
    p: Proctoring, kind: str, source: str, seq: int, at: int, detail: dict[str, Any]
) -> tuple[Proctoring, tuple[Seen, ...]]:
    p = replace(p, open=(*p.open, Open(seq, kind, source, at, p.position(at))))
    return _added(p, kind, 1, 0, at), (Seen(seq, kind, source, at, lasts=True, detail=detail),)


def _all_ended(
    p: Proctoring, intervals: Iterable[Open], until: int, detail: dict[str, Any] | None = None
) -> tuple[Proctoring, tuple[Seen, ...]]:
    seen: list[Seen] = []
    for interval in intervals:
        ms = max(0, p.position(until) - interval.position)
        p = _added(replace(p, open=tuple(o for o in p.open if o.id != interval.id)), interval.kind, 0, ms, until)
        ended = max(until, interval.at)
        seen.append(Seen(interval.id, interval.kind, interval.source, interval.at, ended, ms, True, 1, detail or {}))
    return p, tuple(seen)


def _added(p: Proctoring, kind: str, count: int, ms: int, at: int, reach: int = 0) -> Proctoring:
    known = p.tally(kind)
    tally = Tally(kind, known.count + count, known.ms + ms, max(known.last_at, at), max(known.reach, reach))
    return replace(p, tallies=(*(t for t in p.tallies if t.kind != kind), tally))


def _started(p: Proctoring, event: dict[str, Any], at: int) -> Proctoring:
    """From here on it counts: what was over before does not, and what lasts begins now."""
    p, lasting = replace(p, tallies=()), p.open
    for interval in lasting:
        p = _added(p, interval.kind, 1, 0, interval.at)
    return p


def _frames(p: Proctoring, event: dict[str, Any], at: int) -> Proctoring:
    camera, page = p.camera, p.page_by_stills
    for taken_at in event["times"]:
        camera = camera.reached(p.position(taken_at), p.still_reach_ms)
        page = page.reached(p.position(taken_at), SIGN_REACH_MS)
    return replace(
        p,
        camera=camera,
        page_by_stills=page,
        batches=(*p.batches, event["batch"])[-MAX_BATCHES:],
        last_still_at=max(p.last_still_at, *event["times"], 0),
        compared=p.compared or (p.reference_at is not None and bool(event["times"])),
        stills_checked=p.stills_checked + len(event["times"]),
        stills_late=p.stills_late + event["late"],
        stills_dropped=p.stills_dropped + event["dropped"],
        stills_unreadable=p.stills_unreadable + event["unreadable"],
    )


def _commands_noted(p: Proctoring, event: dict[str, Any], at: int) -> Proctoring:
    known = ((key, body_hash) for key, body_hash in event["commands"])
    return replace(p, calls=(*p.calls, *known)[-MAX_CALLS:])


def _reference_captured(p: Proctoring, event: dict[str, Any], at: int) -> Proctoring:
    return replace(p, reference_at=at, reference_sha256=event["sha256"], references=p.references + 1)


def _erased(p: Proctoring, event: dict[str, Any], at: int) -> Proctoring:
    return replace(p, reference_at=None, reference_sha256=None) if event["what"] == "reference" else p


def _activated(p: Proctoring, event: dict[str, Any], at: int) -> Proctoring:
    return replace(p, losses=p.losses + 1) if event.get("cause") in LOSSES else p


def _hooks_suspended(p: Proctoring, event: dict[str, Any], at: int) -> Proctoring:
    return replace(p, hooks_off=True)


def _disputed(p: Proctoring, event: dict[str, Any], at: int) -> Proctoring:
    return replace(p, disputes=p.disputes + 1)


def _verdict(p: Proctoring, event: dict[str, Any], at: int) -> Proctoring:
    return replace(p, verdict=event["verdict"])


_CHANGES = {
    "commands_noted": _commands_noted,
    "started": _started,
    "frames": _frames,
    "reference_captured": _reference_captured,
    "erased": _erased,
    "activated": _activated,
    "hooks_suspended": _hooks_suspended,
    "verdict_given": _verdict,
    "event_disputed": _disputed,
}
