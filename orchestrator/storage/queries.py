"""Lists, sweeps and figures over snapshots."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING, DESCENDING

from orchestrator.errors import NewerSchema
from orchestrator.interview.snapshot import Snapshot, searched_words
from orchestrator.storage.connection import guarded
from orchestrator.storage.documents import snapshot_from

log = logging.getLogger(__name__)

NEVER_STARTED = frozenset({"cancelled", "expired"})
"""End reasons of sessions that ended without having been started; others have a duration."""
COUNT_SECONDS = 30.0
SAME_MOMENT = 8
"""Sessions that are usually created in the same ms, at most."""
Position = tuple[int, str]
"""Where a page of a list ended: (created_at, session_id)."""


@dataclass(frozen=True, slots=True)
class Brief:
    """A session without its state. Times in ms."""

    session_id: str
    seq: int
    status: str
    started_at: int | None
    ended_at: int | None


BRIEF = {"seq": 1, "status": 1, "started_at": 1, "ended_at": 1}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sessions. Times in ms, `created_until` excluded. `text`: words, each the beginning of one in the
    candidate's name or email."""

    status: str | None = None
    job_id: str | None = None
    email: str | None = None
    end_reason: str | None = None
    created_from: int | None = None
    created_until: int | None = None
    text: str = ""
    least_score: float | None = None
    most_score: float | None = None

    def query(self) -> dict[str, Any]:
        plain = {
            "status": self.status,
            "job_id": self.job_id,
            "email": self.email.casefold() if self.email is not None else None,
            "end_reason": self.end_reason,
            "created_at": _between(self.created_from, self.created_until, "$lt"),
            "score": _between(self.least_score, self.most_score, "$lte"),
        }
        query: dict[str, Any] = {name: value for name, value in plain.items() if value is not None}
        # $elemMatch, since nx-27017 does not look into lists by itself
        words = [{"words": {"$elemMatch": {"$regex": f"^{re.escape(word)}"}}} for word in searched_words(self.text)]
        return query | ({"$and": words} if words else {})


def _between(least: float | None, most: float | None, most_by: str) -> dict[str, float] | None:
    limits = {by: value for by, value in (("$gte", least), (most_by, most)) if value is not None}
    return limits or None


ALL = Wanted()


class SnapshotQueries:
    """The part of Store that reads many sessions at once."""

    _db: Any
    _timeout: float

    async def list_snapshots(
        self, wanted: Wanted = ALL, *, limit: int = 50, before: Position | None = None
    ) -> list[Snapshot]:
        """Newest first, after the position where the last page ended."""
        query, order = wanted.query(), [("created_at", DESCENDING), ("session_id", DESCENDING)]
        if before is None:
            return await self._find(query, order, limit)
        # By one range and a few sessions too many, which every server answers from its index; by $or not all do.
        query["created_at"] = {**query.get("created_at", {}), "$lte": before[0]}
        more = SAME_MOMENT
        while True:
            found = await self._find(query, order, limit + more)
            rest = [snapshot for snapshot in found if (snapshot.created_at, snapshot.session_id) < before]
            if len(rest) >= limit or len(found) < limit + more:
                return rest[:limit]
            more *= 8

    async def versions(self, session_ids: list[str]) -> dict[str, int]:
        """The version that each session's snapshot has."""
        async with guarded(self._timeout, writing=False):
            found = await self._db.snapshots.find({"_id": {"$in": session_ids}}, {"version": 1}).to_list(None)
        return {document["_id"]: document["version"] for document in found}

    async def count_snapshots(self, wanted: Wanted = ALL) -> int:
        async with guarded(self._timeout, writing=False):
            return await self._db.snapshots.count_documents(wanted.query())

    async def overdue(self, now: int, limit: int) -> list[Snapshot]:
        """Sessions in progress whose deadline was before `now` (ms)."""
        query = {"deadline": {"$gt": 0, "$lt": now}}
        return await self._find(query, [("deadline", ASCENDING)], limit)

    async def unseen(self, before: int, limit: int) -> list[str]:
        """Ids of sessions in progress that began before `before` (ms) and whose candidate gave no sign."""
        query = {"unseen_since": {"$gt": 0, "$lt": before}}
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.snapshots.find(query, {"unseen_since": 1}).limit(limit).to_list(None)
        return [document["_id"] for document in found]

    async def parked(self, limit: int) -> list[Snapshot]:
        """Sessions whose activation was given up."""
        return await self._find({"status_detail": "parked"}, [("created_at", ASCENDING)], limit)

    async def in_progress(self, limit: int) -> list[str]:
        """Ids of sessions in progress that are not parked, soonest deadline first; those without one last."""
        fields = {"deadline": 1, "status_detail": 1}
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.snapshots.find({"status": "in_progress"}, fields).limit(limit).to_list(None)
        running = [s for s in found if s["status_detail"] != "parked"]
        running.sort(key=lambda s: (s["deadline"] is None, s["deadline"] or 0))
        return [s["_id"] for s in running]

    async def sessions_with_room(self, work: str, limit: int) -> list[str]:
        """Ids of sessions about whose LiveKit room there is something to do: `wanted` or `closing`."""
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.snapshots.find({"room": work}, {"room": 1}).limit(limit).to_list(None)
        return [document["_id"] for document in found]

    async def sessions_with_report(self, work: str, limit: int) -> list[str]:
        """Ids of completed sessions whose report is `wanted`."""
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.snapshots.find({"report": work}, {"report": 1}).limit(limit).to_list(None)
        return [document["_id"] for document in found]

    async def held_by_front_end(self, front_end: str, limit: int) -> list[str]:
        """Ids of sessions whose candidate's live channel is (or was) at this front end."""
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.snapshots.find({"front_end": front_end}, {"front_end": 1}).limit(limit).to_list(None)
        return [document["_id"] for document in found]

    async def changed_since(self, at: int, limit: int) -> list[Brief]:
        """Sessions whose snapshots were written at `at` (ms, by the clock of whoever wrote them) or after it."""
        return await self._briefs({"changed_at": {"$gte": at}}, limit, "changed_at")

    async def live(self, limit: int) -> list[Brief]:
        """Sessions in progress."""
        return await self._briefs({"status": "in_progress"}, limit)

    async def ended_since(self, at: int, limit: int) -> list[Brief]:
        """Sessions that were completed at `at` (ms) or later, the last ones first."""
        return await self._briefs({"ended_at": {"$gte": at}}, limit, "ended_at", DESCENDING)

    async def still_there(self, session_ids: list[str]) -> list[Brief]:
        """Those of these sessions that were not deleted."""
        return await self._briefs({"_id": {"$in": session_ids}}, len(session_ids))

    async def _briefs(self, query: dict[str, Any], limit: int, by: str = "", direction: int = ASCENDING) -> list[Brief]:
        async with guarded(max(self._timeout, 5.0), writing=False):
            cursor = self._db.snapshots.find(query, BRIEF).limit(limit)
            found = await (cursor.sort(by, direction) if by else cursor).to_list(None)
        return [
            Brief(one["_id"], one["seq"], one["status"], one.get("started_at"), one.get("ended_at")) for one in found
        ]

    async def snapshots_of(self, session_ids: list[str]) -> list[Snapshot]:
        """The snapshots of these sessions, in any order; unknown ones are left out."""
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.snapshots.find({"_id": {"$in": session_ids}}).to_list(None)
        return _known(found)

    async def room_work(self, session_ids: list[str]) -> dict[str, tuple[str, str | None]]:
        """The status of these sessions and what there is to do about their rooms; unknown ones are left out."""
        fields = {"status": 1, "room": 1}
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.snapshots.find({"_id": {"$in": session_ids}}, fields).to_list(None)
        return {document["_id"]: (document["status"], document.get("room")) for document in found}

    async def open_rooms_in_progress(self, limit: int) -> list[Snapshot]:
        """Sessions in progress whose LiveKit room is open."""
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.snapshots.find({"status": "in_progress", "room": "open"}).limit(limit).to_list(None)
        return _known(found)

    async def expired(self, now: int, limit: int) -> list[Snapshot]:
        """Sessions that were never started and should have been by `now` (ms)."""
        query = {"expires_at": {"$gt": 0, "$lt": now}}
        return await self._find(query, [("expires_at", ASCENDING)], limit)

    async def count_scheduled(self, since: int, until: int, limit: int = 10_000) -> int:
        """How many sessions that have not started are scheduled from `since` on and before `until` (ms)."""
        query = {"scheduled_at": {"$gte": since, "$lt": until}}
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.snapshots.find(query, {"status": 1}).limit(limit).to_list(None)
        return sum(document["status"] == "initialized" for document in found)

    async def ended_between(self, since: int, until: int, limit: int) -> list[tuple[str, int]]:
        """Ids of sessions that were completed from `since` on and before `until` (ms), and when, in that order."""
        query = {"ended_at": {"$gte": max(since, 1), "$lt": until}}
        async with guarded(max(self._timeout, 5.0), writing=False):
            cursor = self._db.snapshots.find(query, {"ended_at": 1}).sort("ended_at", ASCENDING).limit(limit)
            return [(document["_id"], document["ended_at"]) for document in await cursor.to_list(None)]

    async def stats(self) -> dict[str, Any]:
        """Counts by status and end reason, and the sum and number of durations (ms).

        It groups and does not count: the embedded server groups in its own database, and counts document by document.
        """
        by_status, by_detail, by_end_reason = [
            await self._count_by(field) for field in ("status", "status_detail", "end_reason")
        ]
        ends = {reason: count for reason, (count, _) in by_end_reason.items() if reason is not None}
        return {
            "by_status": {status: count for status, (count, _) in by_status.items()},
            "by_end_reason": ends,
            "duration_ms_sum": sum(ms for _, ms in by_status.values()),
            "duration_count": sum(count for reason, count in ends.items() if reason not in NEVER_STARTED),
            "parked": by_detail.get("parked", (0, 0))[0],
        }

    async def _count_by(self, field: str) -> dict[str | None, tuple[int, int]]:
        """How many sessions have which value of a plain field, and the sum of their durations (ms)."""
        group = {"_id": f"${field}", "n": {"$sum": 1}, "duration": {"$sum": "$duration"}}
        async with guarded(max(self._timeout, COUNT_SECONDS), writing=False):
            rows = await self._db.snapshots.aggregate([{"$group": group}]).to_list(None)
        return {row["_id"]: (row["n"], row["duration"] or 0) for row in rows}

    async def _find(self, query: dict[str, Any], order: list[tuple[str, int]], limit: int) -> list[Snapshot]:
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.snapshots.find(query).sort(order).limit(limit).to_list(None)
        return _known(found)


def _known(documents: list[dict[str, Any]]) -> list[Snapshot]:
    """Their snapshots, without those of a newer version than this process has: one must not stop all sweeps."""
    found: list[Snapshot] = []
    for document in documents:
        try:
            found.append(snapshot_from(document))
        except NewerSchema as error:
            log.warning("left out of a list", extra={"session_id": document["_id"], "reason": error.code})
    return found
