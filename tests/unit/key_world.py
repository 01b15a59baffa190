"""Staff keys in memory."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.errors import NotFound
from orchestrator.keys import StaffKey


class MemoryKeys:
    """As KeyStore keeps them. `keys_read`: how often they were read. `keys_away`: reading raises it."""

    def __init__(self) -> None:
        self.staff: dict[str, StaffKey] = {}
        self.keys_read = 0
        self.keys_away: Exception | None = None

    async def staff_keys(self) -> list[StaffKey]:
        self.keys_read += 1
        if self.keys_away is not None:
            raise self.keys_away
        return list(self.staff.values())

    async def add_staff_key(self, key: StaffKey) -> bool:
        return self.staff.setdefault(key.id, key) is key

    async def change_staff_key(self, key_id: str, change: Callable[[StaffKey], StaffKey]) -> StaffKey:
        if key_id not in self.staff:
            raise NotFound(f"There is no key {key_id!r}.")
        self.staff[key_id] = change(self.staff[key_id])
        return self.staff[key_id]
