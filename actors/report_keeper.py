"""ReportKeeper: the Housekeeper's part for reports. Those that are wanted are made by Ray tasks until it is done."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from actors import cluster
from actors.clock import wall_ms
from actors.report_maker import make_reports
from orchestrator.errors import OrchestratorError
from orchestrator.storage.store import Store

log = logging.getLogger(__name__)

A_TASK = 20
"""Reports that one task makes."""
TASKS = 2
"""Tasks at a time."""
TASK_SECONDS = 300.0
FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 5_000, 600_000


class ReportKeeper:
    """A step for the Housekeeper to repeat."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: set[str] = set()
        self._alone: set[str] = set()
        """Those that run by themselves, one at a time, since they may take long or fail again."""
        self._pauses: dict[str, tuple[int, int]] = {}
        """When those that failed are tried again (ms), and how long they were made to wait. Each gets a task of its own
        then: one that takes its process down does so to no other."""

    async def make(self) -> None:
        """Have reports made that are wanted."""
        if len(self._tasks) >= TASKS:
            return
        now = wall_ms()
        known = len(self._pauses) + len(self._under_way)
        limit = 10 * A_TASK + known
        found = await self._store.sessions_with_report("wanted", limit)
        if len(found) < limit:  # those that are wanted no more were deleted
            self._pauses = {one: pause for one, pause in self._pauses.items() if one in found}
        wanted = [one for one in found if one not in self._under_way and self._pauses.get(one, (0, 0))[0] <= now]
        alone = [[one] for one in wanted if one in self._pauses]
        fresh = [one for one in wanted if one not in self._pauses]
        shares = [fresh[start : start + A_TASK] for start in range(0, len(fresh), A_TASK)]
        alone = alone[:1] if not self._alone & self._under_way else []
        self._alone.update(*alone)
        for some in [*shares, *alone][: TASKS - len(self._tasks)]:
            self._under_way.update(some)
            task = asyncio.create_task(self._run(some))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, session_ids: list[str]) -> None:
        try:
            label = f"reports: {session_ids[0]}, {len(session_ids)} in all"
            outcome = await cluster.run(make_reports, session_ids, label=label, timeout=TASK_SECONDS)
        except OrchestratorError as error:
            outcome = dict.fromkeys(session_ids, error.code)
            await self._erase_what_was_deleted(session_ids)
        finally:
            self._under_way.difference_update(session_ids)
            self._alone.difference_update(session_ids)
        for session_id in session_ids:
            self._note(session_id, outcome.get(session_id))

    async def _erase_what_was_deleted(self, session_ids: list[str]) -> None:
        """A task that has died may have kept the report of a session that was deleted meanwhile."""
        for session_id in session_ids:
            with contextlib.suppress(OrchestratorError):
                if await self._store.is_deleted(session_id):
                    await self._store.erase_report(session_id)

    def _note(self, session_id: str, problem: str | None) -> None:
        if problem is None:
            self._pauses.pop(session_id, None)
            return
        waited = self._pauses.get(session_id, (0, 0))[1]
        pause = min(max(FIRST_PAUSE_MS, 2 * waited), LONGEST_PAUSE_MS)
        self._pauses[session_id] = (wall_ms() + pause, pause)
        log.warning("a report was not made", extra={"session_id": session_id, "reason": problem})
