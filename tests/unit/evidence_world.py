"""Pictures in memory: what EvidenceStore promises, over dictionaries, with failures on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.interview.entry import Entry
from orchestrator.interview.flags import Verdict
from orchestrator.storage.evidence import Kept, Reference, Still
from orchestrator.vision import Face, FrameResult
from tests.unit.world import T0

FOREVER = T0 + 10**12
FACE = Face(10, 10, 90, 90, "frontal", 9)


@dataclass
class Row:
    """One still as it is stored. `expires_at` is None for what was checked and not kept."""

    still: Still
    pending: bool = True
    verdict: str | None = None
    kept: str | None = None
    leftover: bool = False
    expires_at: int | None = None


@dataclass
class MemoryEvidence:
    """EvidenceStore's methods. `failing`: errors that calls of a name raise, one a call; `calls`: the names."""

    rows: dict[str, Row] = field(default_factory=dict)
    faces: dict[str, Reference] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    failing: dict[str, list[Exception]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    journals: dict[str, list[Entry]] = field(default_factory=dict)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failing.get(name):
            raise self.failing[name].pop(0)

    async def is_deleted(self, session_id: str) -> bool:
        self._called("is_deleted")
        return session_id in self.deleted

    # Stills that wait

    async def add_still(self, still: Still) -> None:
        self._called("add_still")
        self.rows.setdefault(still.id, Row(still, expires_at=still.expires_at))

    async def still_sha256(self, still_id: str) -> str | None:
        self._called("still_sha256")
        return self.rows[still_id].still.sha256 if still_id in self.rows else None

    async def pending_of(self, session_id: str) -> list[tuple[str, int, int]]:
        self._called("pending_of")
        found = [row.still for row in self._pending() if row.still.session_id == session_id]
        return sorted(((s.id, s.at, s.thinned) for s in found), key=lambda still: (still[1], still[0]))

    async def pending_sessions(self, limit: int) -> list[str]:
        self._called("pending_sessions")
        found = sorted((row.still for row in self._pending()), key=lambda still: still.received_at)
        return list(dict.fromkeys(still.session_id for still in found))[:limit]

    async def count_pending(self) -> int:
        self._called("count_pending")
        return len(list(self._pending()))

    async def next_pending(self, session_id: str) -> Still | None:
        self._called("next_pending")
        for still_id, _, _ in await self.pending_of(session_id):
            row = self.rows[still_id]
            row.still = replace(row.still, attempts=row.still.attempts + 1)
            return row.still
        return None

    async def drop_stills(self, ids: list[str]) -> int:
        self._called("drop_stills")
        return sum(self.rows.pop(still_id, None) is not None for still_id in ids)

    async def entries(self, session_id: str, after: int = 0, limit: int = 500) -> list[Entry]:
        """Of the session's journal."""
        self._called("entries")
        return self.journals.get(session_id, [])

    # Checked stills

    async def finish_still(self, still_id: str, verdict: str, because: str | None, until: int | None = None) -> bool:
        self._called("finish_still")
        row = self.rows.get(still_id)
        if row is not None and row.pending:
            row.pending, row.verdict, row.kept, row.leftover = False, verdict, because, because is None
            row.expires_at = None if because is None else until or row.expires_at
        return row is not None

    async def keep_still(self, still_id: str, because: str, expires_at: int) -> bool:
        self._called("keep_still")
        row = self.rows.get(still_id)
        if row is None or row.pending:
            return False
        row.kept, row.leftover, row.expires_at = row.kept or because, False, expires_at
        return True

    async def kept_of(self, session_id: str) -> list[Kept]:
        self._called("kept_of")
        found: list[Kept] = []
        for row in self.rows.values():
            s = row.still
            if s.session_id == session_id and row.kept is not None and row.expires_at is not None:
                size = len(s.image)
                found.append(
                    Kept(s.id, session_id, s.at, s.sha256, s.media_type, size, row.kept, row.verdict, row.expires_at)
                )
        return sorted(found, key=lambda still: (still.at, still.id))

    async def kept_image(self, session_id: str, still_id: str) -> tuple[bytes, str] | None:
        self._called("kept_image")
        row = self.rows.get(still_id)
        if row is None or row.kept is None or row.still.session_id != session_id:
            return None
        return row.still.image, row.still.media_type

    async def drop_leftovers(self, before: int) -> int:
        self._called("drop_leftovers")
        return self._drop(row for row in self.rows.values() if row.leftover and row.still.received_at < before)

    async def expired_stills(self, now: int, limit: int) -> list[tuple[str, str]]:
        self._called("expired_stills")
        found = sorted(
            (row.expires_at, row.still.session_id, still_id)
            for still_id, row in self.rows.items()
            if row.expires_at is not None and row.expires_at < now
        )
        return [(session_id, still_id) for _, session_id, still_id in found][:limit]

    # Reference faces

    async def save_reference(self, reference: Reference) -> None:
        self._called("save_reference")
        self.faces[reference.session_id] = reference

    async def reference_of(self, session_id: str) -> Reference | None:
        self._called("reference_of")
        return self.faces.get(session_id)

    async def expired_references(self, now: int, limit: int) -> list[str]:
        self._called("expired_references")
        found = sorted((face.expires_at, s) for s, face in self.faces.items() if face.expires_at < now)
        return [session_id for _, session_id in found][:limit]

    async def erase_reference(self, session_id: str) -> bool:
        self._called("erase_reference")
        return self.faces.pop(session_id, None) is not None

    async def erase_evidence(self, session_id: str) -> None:
        self._called("erase_evidence")
        self.faces.pop(session_id, None)
        self._drop(row for row in self.rows.values() if row.still.session_id == session_id)

    def _pending(self) -> Iterable[Row]:
        return (row for row in self.rows.values() if row.pending)

    def _drop(self, rows: Iterable[Row]) -> int:
        going = [row.still.id for row in rows]
        for still_id in going:
            del self.rows[still_id]
        return len(going)


def a_still(id: str, at: int = T0, session_id: str = "s1", **more: Any) -> Still:
    still = Still(id, session_id, at, at, f"sha-{id}", "image/jpeg", b"ok", FOREVER)
    return replace(still, **more)


def a_reference(session_id: str = "s1", template: bytes = b"t1", **more: Any) -> Reference:
    reference = Reference(session_id, b"face", "image/jpeg", "sha", template, "lbp", "1", T0, FOREVER)
    return replace(reference, **more)


def a_result(verdict: Verdict, distance: float | None = None) -> FrameResult:
    """What a check comes to that has this verdict."""
    count = {Verdict.OK: 1, Verdict.FACE_MISMATCH: 1, Verdict.MULTIPLE_FACES: 2}.get(verdict, 0)
    result = FrameResult(verdict, [FACE] * count, (320, 240), 120.0)
    if distance is None:
        return result
    return replace(result, distance=distance, threshold=0.26, engine="lbp-chi2", engine_version="1")
