"""A Store that fails on purpose around its inserts into the journal; used only where faults are armed."""

from __future__ import annotations

from orchestrator import faults
from orchestrator.errors import OrchestratorError
from orchestrator.interview.entry import Entry
from orchestrator.journal import Appended, Collision
from orchestrator.storage.store import Store


class FaultyStore(Store):
    """The steps `append.before` and `append.after`; a `lose` at the latter is a write whose reply never arrives."""

    async def append(self, entry: Entry, prev_mac: str) -> Appended | Collision:
        faults.step("append.before", entry.session_id)
        result = await super().append(entry, prev_mac)
        faults.step("append.after", entry.session_id)
        return result

    async def append_many(self, items: list[tuple[Entry, str]]) -> list[Appended | Collision | OrchestratorError]:
        for entry, _ in items:
            faults.step("append.before", entry.session_id)
        results = await super().append_many(items)
        return [_after(entry, result) for (entry, _), result in zip(items, results, strict=True)]


def _after(entry: Entry, result: Appended | Collision | OrchestratorError) -> Appended | Collision | OrchestratorError:
    try:
        faults.step("append.after", entry.session_id)
    except OrchestratorError as error:
        return error
    return result
