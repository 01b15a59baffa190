"""What clients see of a session's proctoring. Candidates see their timeline, without points and scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.interview.commands import Role
from orchestrator.interview.integrity import Coverage, Integrity, Points, Timeline
from orchestrator.interview.sightings import Seen
from orchestrator.interview.view import iso, proctoring_view, seconds


class KeptStill(Protocol):
    """What is needed of a still that is kept."""

    @property
    def expires_at(self) -> int: ...

    @property
    def size(self) -> int: ...


def proctoring_of(
    line: Timeline, integrity: Integrity | None, stored: Mapping[str, KeptStill], role: Role
) -> dict[str, Any]:
    """The contract's `proctoring`. `stored`: stills that are there now, by id. `integrity`: None where the policy
    is not."""
    staff = role == "staff"
    p = line.state.proctoring
    points = {one.id: one for one in integrity.points} if staff and integrity else {}
    view = {
        **proctoring_view(line.state),
        "as_of": iso(line.at),
        "reference": {"captured_at": iso(p.reference_at), "sha256": p.reference_sha256} if p.reference_at else None,
        "events": [_event(one, line, points.get(one.id)) for one in line.seen],
        "evidence": [_evidence(one, line.state.session_id, stored, staff) for one in line.evidence],
        "coverage": _coverage(line.coverage),
        "stills": {
            "checked": p.stills_checked,
            "late": p.stills_late,
            "not_checked": p.stills_dropped,
            "unreadable": p.stills_unreadable,
        },
    }
    if not staff:
        return view
    return view | {
        "integrity": _integrity(integrity) if integrity else None,
        "verdict": _told(line.verdict, "verdict", "reason", "by") if line.verdict else None,
        "notes": [_told(note, "type", "hook", "reason", "off", "losses", "what", "because") for note in line.notes],
    }


def _integrity(integrity: Integrity) -> dict[str, Any]:
    by_type: dict[str, float] = {}
    for one in integrity.points:
        by_type[one.kind] = round(by_type.get(one.kind, 0.0) + one.points, 2)
    return {
        "score": integrity.score,
        "label": integrity.label,
        "policy": integrity.policy,
        "confidence": integrity.confidence,
        "points": by_type,
    }


def _event(one: Seen, line: Timeline, points: Points | None) -> dict[str, Any]:
    lasts_still = one.lasts and one.until is None
    view: dict[str, Any] = {
        "id": one.id,
        "type": one.kind,
        "source": one.source,
        "at": iso(one.at),
        "until": iso(one.until),
        "duration_seconds": seconds(one.ms) if one.lasts else None,
        "lasts": lasts_still,
        "count": one.count,
        "detail": one.detail,
        "disputes": [_told(d, "statement") for d in line.disputes if d["of"] == one.id],
    }
    if points is not None:
        view |= {"severity": points.severity, "points": points.points, "because": points.because}
    return view


def _evidence(one: dict[str, Any], session_id: str, stored: Mapping[str, KeptStill], staff: bool) -> dict[str, Any]:
    kept = stored.get(one["id"])
    view: dict[str, Any] = {
        "id": one["id"],
        "at": iso(one["at"]),
        "sha256": one["sha256"],
        "because": one["because"],
        "verdict": one["verdict"],
        "available": kept is not None,
        "expires_at": iso(kept.expires_at) if kept else None,
        "gone": None if kept else one["gone"] or "erased",
    }
    if staff:
        url = f"/api/parallel_interview/session/{session_id}/proctoring/evidence/{one['id']}"
        view |= {"bytes": kept.size if kept else None, "url": url if kept else None}
    return view


def _coverage(coverage: Coverage) -> dict[str, Any]:
    return {
        "camera": coverage.camera,
        "page": coverage.page,
        "video": coverage.video,
        "confidence": coverage.confidence,
        "because": list(coverage.because),
    }


def _told(event: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**{name: event[name] for name in names if name in event}, "at": iso(event["at"])}
