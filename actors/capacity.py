"""How many more interview actors fit, by what Ray last said and what was started since."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from actors import cluster

LAG_SECONDS = 2.0
"""Ray's figures may be that old."""


class Capacity:
    """Places on the nodes that take interviews. Every actor declares `cpus` (cores) and `memory` (bytes)."""

    def __init__(self, cpus: float, memory: int) -> None:
        self._cpus = cpus
        self._memory = memory
        self._free = 0
        self._starts: list[float] = []

    async def look(self, avoid: Collection[str]) -> None:
        """Ask Ray what is free on each node, except those to avoid."""
        asked_at = asyncio.get_running_loop().time()
        free = await cluster.free_resources()
        self._free = sum(self._places(*free[node]) for node in free if node not in avoid)
        self._starts = [at for at in self._starts if at >= asked_at - LAG_SECONDS]

    def note_start(self) -> None:
        """An actor was started; Ray's figures show it only after a while."""
        self._starts.append(asyncio.get_running_loop().time())

    def room(self, starting: int) -> int:
        """Actors that could be started besides those that are starting. Rather too few than too many: an actor
        that finds no place would keep somebody waiting for it."""
        return max(0, self._free - max(starting, len(self._starts)))

    def _places(self, cpus: float, memory: float) -> int:
        return int(min(cpus / self._cpus, memory / self._memory))
