"""A bounded load of simulated candidates over HTTP, each in one interview at a time until the load is stopped.

Every candidate draws from a random generator of its own, seeded by the run's seed and its number, so a seed gives
the same plans again (not the same timing).
"""

from __future__ import annotations

import asyncio

import httpx

from tests.chaos.candidate import Candidate
from tests.chaos.record import Interview, Record

STOP_SECONDS = 150.0
"""A command may be repeated for a minute, and a stop may meet two of them."""


class Load:
    """`candidates` simulated candidates, who think for about `pace_seconds` before each command."""

    def __init__(self, http: httpx.AsyncClient, candidates: int, seed: int, pace_seconds: float = 1.0) -> None:
        self.record = Record()
        self.seconds_to_stop = STOP_SECONDS
        self._stopping = asyncio.Event()
        self._candidates = [
            Candidate(http, self.record, self._stopping, number, seed, pace_seconds) for number in range(candidates)
        ]

    async def run(self) -> None:
        """Interview after interview, until `stop`."""
        async with asyncio.TaskGroup() as group:
            for candidate in self._candidates:
                group.create_task(candidate.run())

    def stop(self) -> None:
        """Begin no more; interviews in progress are ended or left as they are, half of them each."""
        self._stopping.set()

    @property
    def live(self) -> list[Interview]:
        """The interviews that are in progress, as far as the candidates know."""
        return [c.interview for c in self._candidates if c.interview is not None and c.interview.started]

    def hurry(self, session_id: str | None = None) -> None:
        """Let a candidate (or all of them) act now: what nobody calls while it is away has no recovery time."""
        for candidate in self._candidates:
            if session_id is None or (candidate.interview and candidate.interview.session_id == session_id):
                candidate.hurry()
