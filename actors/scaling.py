"""What the Registry decides about the cluster's size: what to ask Ray's autoscaler for, and which node to empty.

Nothing here calls Ray or looks at a clock; times are seconds of any one clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

REFUSED_SECONDS = 60.0
"""A start that found no place is wanted for so long after its last try: clients try again within 5 s."""
HOLD_SECONDS = 60.0
"""What was asked for stays asked for so long after there was room: a node that has just come is not yet used."""
REPEAT_SECONDS = 60.0
"""The same is asked again after this, since whoever keeps it may have been restarted."""
MAX_BUNDLES = 200
"""Places are asked for in so many pieces at most: Ray packs each piece on each node."""
PIECES_PER_NODE = 10
"""One piece is no more than this part of a node, so that little is lost in packing."""


class Amount(NamedTuple):
    """Resources: cpu in cores, memory in bytes, and of the resource that only nodes for interviews declare."""

    cpu: float
    memory: float
    own: float = math.inf
    """Infinite where no such resource is configured."""

    def places(self, unit: Amount) -> int:
        """How many interviews fit, each of which takes a unit."""
        parts = [self.cpu / unit.cpu, self.memory / unit.memory]
        if unit.own != math.inf:
            parts.append(self.own / unit.own)
        return max(0, int(min(parts) + 1e-6))

    def minus(self, other: Amount) -> Amount:
        own = self.own - other.own if self.own != math.inf else math.inf
        return Amount(max(0.0, self.cpu - other.cpu), max(0.0, self.memory - other.memory), own)

    def times(self, factor: int) -> Amount:
        return Amount(self.cpu * factor, self.memory * factor, self.own * factor)


class NodeRoom(NamedTuple):
    """What one live node declares and what is free of it."""

    total: Amount
    free: Amount
    is_head: bool = False


Rooms = Mapping[str, NodeRoom]
"""By node id."""


class Refusals:
    """Sessions that found no place lately. Each counts once, however often it tries."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def note(self, session_id: str, now: float) -> None:
        self._last.pop(session_id, None)
        self._last[session_id] = now

    def settle(self, session_id: str) -> None:
        """It has a place now, or needs none any more."""
        self._last.pop(session_id, None)

    def count(self, now: float) -> int:
        while self._last and now - next(iter(self._last.values())) > REFUSED_SECONDS:
            del self._last[next(iter(self._last))]
        return len(self._last)


def bundles(rooms: Rooms, avoid: Collection[str], unit: Amount, missing: int) -> list[tuple[Amount, int]]:
    """The cluster's total that is to be asked for: what is used on each node, and so many places more.

    A node to avoid counts as full. Pieces as (amount, how often).
    """
    used = [
        room.total if node in avoid else room.total.minus(room.free)
        for node, room in rooms.items()
        if node in avoid or room.free != room.total
    ]
    most = max((room.total.places(unit) for room in rooms.values()), default=0)
    piece = min(math.ceil(missing / MAX_BUNDLES), max(1, most // PIECES_PER_NODE))
    missing = min(missing, MAX_BUNDLES * max(1, piece))  # more is asked for when these are there
    whole, rest = divmod(missing, max(1, piece))
    places = [(unit.times(piece), whole)] if whole else []
    return [(amount, 1) for amount in used] + places + ([(unit.times(rest), 1)] if rest else [])


class Ask:
    """How many places to ask for beyond what is used, round by round.

    Ray's newer autoscaler does nothing about a request that cannot be met in full, so one that is said to be
    infeasible is halved, and grows again once nobody says so.
    """

    def __init__(self) -> None:
        self._limit: int | None = None
        self._asked = 0
        self._last_missing = -math.inf
        self._sent: object = None
        self._sent_at = -math.inf

    def places(self, missing: int, infeasible: bool, now: float) -> int | None:
        """`missing` places, or as many of them as may be; None: nothing needs to be asked for."""
        if missing == 0:
            self._limit, self._asked = None, 0
            return 0 if now - self._last_missing < HOLD_SECONDS else None
        self._last_missing = now
        if infeasible and self._asked:
            self._limit = max(1, min(self._asked, missing) // 2)
        elif self._limit is not None and missing < self._asked:
            self._limit *= 2
        self._asked = missing if self._limit is None else min(missing, self._limit)
        return self._asked

    def is_news(self, request: object, now: float) -> bool:
        """Whether a request is to be sent: it is another one, or the last one was sent long ago."""
        if request == self._sent and (not request or now - self._sent_at < REPEAT_SECONDS):
            return False
        self._sent, self._sent_at = request, now
        return True

    def forget(self) -> None:
        """The last request did not arrive."""
        self._sent, self._sent_at = None, -math.inf


@dataclass(frozen=True, slots=True)
class Use:
    """What there is on the nodes that take interviews: live interviews and warm actors, by node id."""

    live: Mapping[str, int]
    warm: Mapping[str, int]


class Packing:
    """Which nodes to empty, so that Ray takes them away: those that were spare for `idle_seconds`.

    A node is spare if no interview is live on it and all that is wanted finds a place without it. None is disturbed.
    """

    def __init__(self, idle_seconds: float | None) -> None:
        self._idle_seconds = idle_seconds
        self._since: dict[str, float] = {}
        self.leaving: set[str] = set()
        """Nodes that get nothing new, until Ray has taken them away or they are needed."""

    def look(self, rooms: Rooms, gone: Collection[str], unit: Amount, use: Use, wanted: int, now: float) -> None:
        """Decide anew. `gone` are nodes that must not be used whatever is wanted, `wanted` the places that must be
        there beside the live interviews."""
        self.leaving = {node for node in self.leaving & rooms.keys() - gone if not use.live.get(node, 0)}
        if self._idle_seconds is None:
            return
        usable = rooms.keys() - gone - self.leaving
        have = sum(self._places(rooms, unit, use, usable).values())
        self._take_back(have, rooms, unit, use, wanted)
        spare = self._spare(rooms, rooms.keys() - gone - self.leaving, unit, use, wanted)
        self._since = {node: self._since.get(node, now) for node in spare}
        ripe = [node for node in spare if now - self._since[node] >= self._idle_seconds]
        self.leaving |= set(ripe[:1])

    def _take_back(self, have: int, rooms: Rooms, unit: Amount, use: Use, wanted: int) -> None:
        for node in sorted(self.leaving):
            if have >= wanted:
                return
            self.leaving.discard(node)
            have += self._places(rooms, unit, use, [node])[node]

    def _spare(self, rooms: Rooms, usable: Collection[str], unit: Amount, use: Use, wanted: int) -> list[str]:
        """Those that could all be missing at once, least used first."""
        places = self._places(rooms, unit, use, usable)
        have, spare = sum(places.values()), []
        candidates = [node for node in places if not rooms[node].is_head and not use.live.get(node, 0)]
        for node in sorted(candidates, key=lambda node: (use.warm.get(node, 0), node)):
            if places[node] and have - places[node] >= wanted:
                have -= places[node]
                spare.append(node)
        return spare

    @staticmethod
    def _places(rooms: Rooms, unit: Amount, use: Use, nodes: Iterable[str]) -> dict[str, int]:
        """Places that are free or have a warm actor in them."""
        return {node: rooms[node].free.places(unit) + use.warm.get(node, 0) for node in nodes}
