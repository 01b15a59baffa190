"""The integrity score: what a policy makes of what was seen. It informs people, and no outcome follows from it.

    journal ──timeline──> Timeline: what was seen, how much of the interview was watched, what people said
    (Timeline, Policy) ──judged──> Integrity: score, label, the points of each event, confidence

Both are pure, so whoever has the journal can make the figures again, by another policy too, and explain each of them.

    score = 100 - the points of all kinds; a kind's points are capped, so that one kind alone says only so much

Coverage says how much of the interview was watched at all. What was not watched lowers it, and not the score.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from orchestrator.errors import InvalidInput
from orchestrator.interview.commands import Accommodations
from orchestrator.interview.entry import Entry
from orchestrator.interview.fold import fold
from orchestrator.interview.sightings import CAMERA, SIGN_REACH_MS, Seen, check_kind
from orchestrator.interview.state import State

Severity = Literal["info", "low", "medium", "high"]
MAX_SCORE = 100.0
MAX_FACTOR = 10
NOTES = frozenset({"hook_failed", "hooks_suspended", "erased", "reference_captured"})

# --- policies ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weight:
    """What a policy gives for a kind: points for each time, points for each minute that it lasted, and a cap."""

    severity: Severity = "info"
    each: float = 0.0
    minute: float = 0.0
    cap: float = 0.0

    def points(self, count: int, ms: int, factor: float) -> float:
        """For so many times and so long in all, to two decimals."""
        return round(min(self.cap, factor * (self.each * count + self.minute * ms / 60_000)), 2)


@dataclass(frozen=True, slots=True)
class Policy:
    """How sightings become points. `labels`: from which score on a label holds, highest first."""

    version: str
    weights: dict[str, Weight]
    other: Weight
    labels: tuple[tuple[float, str], ...]
    sensitivity: dict[str, float]

    def weight(self, kind: str) -> Weight:
        return self.weights.get(kind, self.other)

    def factor(self, sensitivity: str | None) -> float:
        """What an accommodation multiplies points with; 1 for one that the policy does not know."""
        return self.sensitivity.get(sensitivity or "standard", 1.0)

    def label(self, score: float) -> str:
        return next((label for least, label in self.labels if score >= least), self.labels[-1][1])


def read_policy(text: str) -> Policy:
    """A policy from its file. Raises InvalidInput if it is not one."""
    try:
        content: Any = json.loads(text)
        policy = Policy(
            version=str(content["version"]),
            weights={kind: Weight(**weight) for kind, weight in content["events"].items()},
            other=Weight(**content["other"]),
            labels=tuple((score, str(label)) for score, label in content["labels"]),
            sensitivity=dict(content["sensitivity"]),
        )
        weights = (*policy.weights.values(), policy.other)
        numbers = [n for w in weights for n in (w.each, w.minute, w.cap)] + [score for score, _ in policy.labels]
        sane = all(type(n) in (int, float) and 0 <= n <= MAX_SCORE for n in numbers)
        sane &= all(type(f) in (int, float) and 0 <= f <= MAX_FACTOR for f in policy.sensitivity.values())
        sane &= all(w.severity in get_args(Severity) for w in weights)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"This is not a proctoring policy: {type(error).__name__}.") from None
    if not sane:
        raise InvalidInput(
            f"Points and scores of a policy are numbers from 0 to 100, its factors from 0 to {MAX_FACTOR}, and a "
            f"severity is one of {', '.join(get_args(Severity))}."
        )
    for kind in policy.weights:
        check_kind(kind)
    if not policy.labels or list(policy.labels) != sorted(policy.labels, key=lambda label: -label[0]):
        raise InvalidInput("The labels of a policy go from the highest score to the lowest.")
    return policy


# --- the timeline -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Coverage:
    """Shares of the watched time, 0 to 1, that stills, the page and a LiveKit room stand for. None: not meant to be.

    `because` says in words what is missing.
    """

    camera: float | None
    page: float | None
    video: float | None
    because: tuple[str, ...] = ()

    @property
    def confidence(self) -> float:
        """The mean of what was meant to be watched; 0 if nothing was."""
        shares = [share for share in (self.camera, self.page, self.video) if share is not None]
        return round(sum(shares) / len(shares), 4) if shares else 0.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """What a journal says of a session's proctoring at one time (`at`, ms). Lists are in the journal's order.

    `evidence`: stills that were kept, {id, at, sha256, because, verdict}, and `gone` for those that are not any more.
    `notes`: failures of hooks, erasures. `disputes`: {of, statement, at}. `verdict`: {verdict, reason, at, by}.
    """

    state: State
    at: int
    seen: tuple[Seen, ...]
    coverage: Coverage
    evidence: tuple[dict[str, Any], ...] = ()
    disputes: tuple[dict[str, Any], ...] = ()
    notes: tuple[dict[str, Any], ...] = ()
    verdict: dict[str, Any] | None = None


def timeline(entries: Iterable[Entry], now: int) -> Timeline:
    """Read a whole journal. What still lasts has lasted until `now` (ms)."""
    state: State | None = None
    seen: dict[int, Seen] = {}
    told: list[dict[str, Any]] = []
    for entry in entries:
        content = entry.content()
        told += [{**event, "at": entry.at, "by": content["by"]} for event in content["events"]]
        state = fold(state, entry, seen)
    assert state is not None
    p = state.proctoring
    for interval in p.open:
        known = seen[interval.id]
        seen[interval.id] = replace(known, ms=max(0, p.position(p.lasts_until(interval, now)) - interval.position))
    gone = {still: event["because"] for event in told for still in event.get("stills", ()) if isinstance(still, str)}
    kept = [still for event in told if event["type"] == "evidence_kept" for still in event["stills"]]
    verdicts = [event for event in told if event["type"] == "verdict_given"]
    return Timeline(
        state=state,
        at=now,
        seen=tuple(sorted(seen.values(), key=lambda one: one.id)),
        coverage=coverage(state, now),
        evidence=tuple(still | {"gone": gone.get(still["id"])} for still in kept),
        disputes=tuple(event for event in told if event["type"] == "event_disputed"),
        notes=tuple(event for event in told if event["type"] in NOTES),
        verdict=verdicts[-1] if verdicts else None,
    )


def coverage(state: State, now: int) -> Coverage:
    """How much of the time in which the interview ran was watched, by `now` (ms)."""
    p = state.proctoring
    watched = p.position(now)
    because: list[str] = []
    camera = _share(p.camera.reached(watched, p.still_reach_ms).ms if p.camera.until else 0, watched)
    if state.accommodations.camera_exempt:
        because.append(EXEMPT)
    elif not p.stills_checked:
        because.append("no still of the camera was looked at")
    elif camera < 0.95:
        because.append(f"stills that were looked at stand for {camera:.0%} of the time")
    if p.stills_checked and not p.compared and not state.accommodations.camera_exempt:
        because.append("the face was not compared, since there was no reference face")
    for number, what in (
        (p.stills_dropped, "were not looked at, since there were too many to look at"),
        (p.stills_late, "were looked at late"),
        (p.stills_unreadable, "could not be read"),
    ):
        if number:
            because.append(f"{number} stills {what}")
    signs = (p.page, p.page_by_stills)
    page = _share(max(c.reached(watched, SIGN_REACH_MS).ms if c.until else 0 for c in signs), watched)
    if page < 0.95:
        because.append(f"the page gave signs for {page:.0%} of the time")
    video = None if state.room.mode == "none" else _share(p.advanced(now, video=state.has_video).video_ms, watched)
    if video is not None and video < 0.95:
        because.append(f"there was video for {video:.0%} of the time")
    return Coverage(camera, page, video, tuple(because))


def _share(part: int, whole: int) -> float:
    return round(min(1.0, part / whole), 4) if whole > 0 else 0.0


# --- the score --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Points:
    """What one event is worth by a policy, and how that comes about."""

    id: int
    kind: str
    severity: str
    points: float
    because: str


@dataclass(frozen=True, slots=True)
class Integrity:
    """A score from 0 to 100 that can be argued with. `confidence` is from 0 to 1; `policy` is a version."""

    score: float
    label: str
    policy: str
    points: tuple[Points, ...]
    confidence: float


def judged(line: Timeline, policy: Policy) -> Integrity:
    """What a policy makes of a timeline.

    Events count in their order until their kind's cap is reached, so that the points add up to what is taken off.
    """
    accommodations = line.state.accommodations
    factor = policy.factor(accommodations.sensitivity)
    sums: dict[str, tuple[int, int]] = {}
    found: list[Points] = []
    for event in line.seen:
        weight = _weight(policy, event.kind, accommodations)
        count, ms = sums.get(event.kind, (0, 0))
        before = weight.points(count, ms, factor)
        if event.counts:
            count, ms = count + event.count, ms + event.ms
        sums[event.kind] = (count, ms)
        points = round(weight.points(count, ms, factor) - before, 2)
        because = EXEMPT if weight is EXEMPTION else _because(event, weight, factor, points)
        found.append(Points(event.id, event.kind, weight.severity, points, because))
    score = _score(sum(p.points for p in found))
    return Integrity(score, policy.label(score), policy.version, tuple(found), line.coverage.confidence)


def score_of(state: State, policy: Policy) -> float:
    """The same score from the sums that a state keeps; intervals that still last count as begun."""
    granted = state.accommodations
    factor = policy.factor(granted.sensitivity)
    tallies = state.proctoring.tallies
    return _score(sum(_weight(policy, t.kind, granted).points(t.count, t.ms, factor) for t in tallies))


EXEMPT = "the candidate is exempt from the camera"
EXEMPTION = Weight()


def _weight(policy: Policy, kind: str, granted: Accommodations) -> Weight:
    return EXEMPTION if granted.camera_exempt and kind in CAMERA else policy.weight(kind)


def _score(points: float) -> float:
    return round(max(0.0, MAX_SCORE - points), 2)


def _because(event: Seen, weight: Weight, factor: float, points: float) -> str:
    if not event.counts:
        return "it was over before the interview began"
    parts: list[str] = []
    if weight.each:
        parts.append(f"{weight.each:g} for each of {event.count}" if event.count > 1 else f"{weight.each:g} for it")
    if weight.minute and event.lasts:
        parts.append(f"{weight.minute:g} for each minute of {event.ms / 60_000:.2f}")
    if not parts:
        return "this policy gives no points for it"
    text = " and ".join(parts)
    if factor != 1:
        text += f", times {factor:g} for the sensitivity"
    full = factor * (weight.each * event.count + weight.minute * event.ms / 60_000)
    return f"{text}; no more than {weight.cap:g} for this kind" if full - points > 0.02 else text
