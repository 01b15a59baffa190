"""ReportKeeper: the Housekeeper's part for reports. Those that are wanted are made by Ray tasks until it is done."""

from __future__ import annotations

import asyncio
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
        self._pauses: dict[str, tuple[int, int]] = {}
        """When those that failed are tried again (ms), and how long they were made to wait. Each gets a task of its own
        then: one that takes its process down does so to no other."""

    async def make(self) -> None:
        """Have reports made that are wanted."""
        if len(self._tasks) >= TASKS:
            return
        now = wall_ms()
        found = await self._store.sessions_with_report("wanted", 10 * A_TASK)
        wanted = [one for one in found if one not in self._under_way and self._pauses.get(one, (0, 0))[0] <= now]
        alone = [[one] for one in wanted if one in self._pauses]
        fresh = [one for one in wanted if one not in self._pauses]
        shares = [fresh[start : start + A_TASK] for start in range(0, len(fresh), A_TASK)]
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
        finally:
            self._under_way.difference_update(session_ids)
        for session_id in session_ids:
            self._note(session_id, outcome.get(session_id))

    def _note(self, session_id: str, problem: str | None) -> None:
        if problem is None:
            self._pauses.pop(session_id, None)
            return
        waited = self._pauses.get(session_id, (0, 0))[1]
        pause = min(max(FIRST_PAUSE_MS, 2 * waited), LONGEST_PAUSE_MS)
        self._pauses[session_id] = (wall_ms() + pause, pause)
        log.warning("a report was not made", extra={"session_id": session_id, "reason": problem})
