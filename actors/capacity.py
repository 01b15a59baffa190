"""How many more interview actors fit, by what Ray last said and what was started since."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from actors import cluster
from actors.scaling import Amount, Rooms

LAG_SECONDS = 2.0
"""Ray's figures may be that old."""


class Capacity:
    """Places on the nodes that take interviews. Every actor declares a `unit`, part of which may be a resource."""

    def __init__(self, unit: Amount, resource: str | None = None) -> None:
        self.unit = unit
        self.rooms: Rooms = {}
        """As Ray last said."""
        self._resource = resource
        self._free: list[int] = []
        self._starts: list[float] = []

    async def look(self, avoid: Collection[str]) -> None:
        """Ask Ray what is free on each node, except those to avoid."""
        asked_at = asyncio.get_running_loop().time()
        self.rooms = await cluster.rooms(self._resource)
        self._free = [room.free.places(self.unit) for node, room in self.rooms.items() if node not in avoid]
        self._starts = [at for at in self._starts if at >= asked_at - LAG_SECONDS]

    def note_start(self) -> None:
        """An actor was started; Ray's figures show it only after a while."""
        self._starts.append(asyncio.get_running_loop().time())

    def room(self, starting: int) -> int:
        """Actors that could be started besides those that are starting. Rather too few than too many: an actor
        that finds no place would keep somebody waiting for it."""
        return max(0, sum(self._free) - max(starting, len(self._starts)))

    def room_for(self, per_node: int) -> int:
        """How many fit if no node takes more than so many."""
        return sum(min(places, per_node) for places in self._free)
