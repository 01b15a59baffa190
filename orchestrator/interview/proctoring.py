"""Proctoring: what was seen of an interview, and what a policy makes of it.

It informs people and decides nothing. What is kept is what was seen: points in time and intervals, by kind and source.
Points of a score are made from that when somebody asks, by a policy that has a version, so they can be made again, by
another policy too, and explained one by one.

    score = 100 - the points of all kinds; a kind's points are capped, so that one kind alone says only so much

Coverage says how much of the interview was watched at all. What was not watched lowers it, and not the score.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.errors import InvalidInput

Severity = Literal["info", "low", "medium", "high"]

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
        "network_lost",
    }
)
"""Kinds that begin and end; the others happen at one time."""
MOMENTARY = frozenset({"paste", "copy", "second_device"})
CUSTOM = re.compile(r"custom:[a-z0-9_]{1,40}\Z")
"""Kinds of an integrator's or a hook's own; they happen at one time, or begin and end as they are told."""


def check_kind(kind: str) -> None:
    """Raises InvalidInput for a kind that is in no catalogue and not `custom:...`."""
    if kind not in LASTING and kind not in MOMENTARY and not CUSTOM.match(kind):
        known = ", ".join(sorted(LASTING | MOMENTARY))
        raise InvalidInput.at("/events", f"{kind[:64]!r} is not a kind of event; known are {known}, and custom:<name>.")


@dataclass(frozen=True, slots=True)
class Seen:
    """One event as the journal has it: `id` is its seq. `until` is None if it still lasts, or happened at once."""

    id: int
    kind: str
    source: str
    at: int
    until: int | None = None
    lasts: bool = False
    count: int = 1
    detail: dict[str, Any] = field(default_factory=dict)

    def duration_ms(self, now: int) -> int:
        """How long it lasted, until `now` if it still does."""
        if not self.lasts:
            return 0
        return max(0, (self.until if self.until is not None else now) - self.at)


@dataclass(frozen=True, slots=True)
class Weight:
    """What a policy gives for a kind: points for each time, points for each minute that it lasted, and a cap."""

    severity: Severity = "info"
    each: float = 0.0
    minute: float = 0.0
    cap: float = 0.0


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


def read_policy(text: str) -> Policy:
    """A policy from its file. Raises InvalidInput if it is not one."""
    try:
        content: Any = json.loads(text)
        policy = Policy(
            version=content["version"],
            weights={kind: Weight(**weight) for kind, weight in content["events"].items()},
            other=Weight(**content["other"]),
            labels=tuple((float(score), label) for score, label in content["labels"]),
            sensitivity={name: float(factor) for name, factor in content["sensitivity"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"This is not a proctoring policy: {type(error).__name__}.") from None
    for kind in policy.weights:
        check_kind(kind)
    if [score for score, _ in policy.labels] != sorted((s for s, _ in policy.labels), reverse=True):
        raise InvalidInput("The labels of a policy go from the highest score to the lowest.")
    return policy


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
    """A score from 0 to 100 that can be argued with. `coverage` and `confidence` are from 0 to 1."""

    score: float
    label: str
    policy: str
    points: tuple[Points, ...]
    coverage: dict[str, float | None]
    confidence: float


def integrity(
    events: tuple[Seen, ...], policy: Policy, sensitivity: str | None, coverage: dict[str, float | None], now: int
) -> Integrity:
    """What a policy makes of what was seen by `now` (ms).

    Events count in their order until their kind's cap is reached, so that the points add up to what is taken off.
    """
    factor = policy.sensitivity.get(sensitivity or "standard", 1.0)
    left: dict[str, float] = {}
    found: list[Points] = []
    for event in events:
        weight = policy.weight(event.kind)
        minutes = event.duration_ms(now) / 60_000
        full = factor * (weight.each * event.count + weight.minute * minutes)
        room = left.get(event.kind, weight.cap)
        points = round(min(full, room), 2)
        left[event.kind] = room - points
        found.append(Points(event.id, event.kind, weight.severity, points, _because(event, weight, factor, full, room)))
    score = round(max(0.0, 100 - sum(p.points for p in found)), 2)
    label = next((label for least, label in policy.labels if score >= least), policy.labels[-1][1])
    watched = [share for share in coverage.values() if share is not None]
    confidence = round(sum(watched) / len(watched), 4) if watched else 0.0
    return Integrity(score, label, policy.version, tuple(found), coverage, confidence)


def _because(event: Seen, weight: Weight, factor: float, full: float, room: float) -> str:
    parts: list[str] = []
    if weight.each:
        parts.append(f"{weight.each:g} for each of {event.count}")
    if weight.minute and event.lasts:
        parts.append(f"{weight.minute:g} for each minute")
    if not parts:
        return "this policy gives no points for it"
    text = " and ".join(parts)
    if factor != 1:
        text += f", times {factor:g} for the sensitivity"
    return f"{text}; no more than {weight.cap:g} for this kind" if full > room else text
