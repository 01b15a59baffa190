"""The staff keys as one front end knows them: read again every second, so that a revoked one is soon no good.

While the database is away, what was known is good for five minutes more: whoever was let in just before goes on.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from orchestrator.keys import StaffKey, parts_of, proves

KNOWN_SECONDS = 1.0
WAIT_SECONDS = 0.25
"""How long a call waits for keys to be read again, while there is something to go by."""
STALE_SECONDS = 300.0


class Keys(Protocol):
    async def staff_keys(self) -> list[StaffKey]: ...


class Keyring:
    """Finds the key that a caller has shown."""

    def __init__(self, store: Keys) -> None:
        self._store = store
        self._keys: dict[str, StaffKey] | None = None
        self._read_at = 0.0
        self._reading: asyncio.Task[dict[str, StaffKey]] | None = None

    async def holds_any(self) -> bool:
        """Whether a key was ever made, even one that is good no more: then nothing is open. Raises Retryable."""
        return bool(await self._known())

    async def find(self, text: str, now: int) -> StaffKey | None:
        """The key that this is, if it is good at `now` (ms). Raises Retryable."""
        parts = parts_of(text)
        if parts is None:
            return None
        key = (await self._known()).get(parts[0])
        return key if proves(parts[1], key) and key is not None and key.is_good(now) else None

    def forget(self) -> None:
        """A key was made or revoked here: the next caller is judged by what is stored."""
        self._keys, self._reading = None, None

    async def _known(self) -> dict[str, StaffKey]:
        age = time.monotonic() - self._read_at
        if self._keys is not None and age <= KNOWN_SECONDS:
            return self._keys
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        reading = self._reading
        usable = self._keys is not None and age <= STALE_SECONDS
        await asyncio.wait({reading}, timeout=WAIT_SECONDS if usable else None)
        return self._keys if usable and self._keys is not None else reading.result()

    async def _read(self) -> dict[str, StaffKey]:
        began = time.monotonic()
        found = {key.id: key for key in await self._store.staff_keys()}
        if self._reading is asyncio.current_task():  # else it was told to forget meanwhile
            self._keys, self._read_at = found, began
        return found
