"""Buckets: how often something may be done for each session, in one front end."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from orchestrator.errors import TooManyRequests

MAX_BUCKETS = 10_000


class Buckets:
    """Token buckets by session, or by whatever else names a caller: `burst` at once, and `a_second` on average."""

    def __init__(self, burst: float, a_second: float) -> None:
        self._burst = burst
        self._a_second = a_second
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, session_id: str) -> float:
        """What is left then. Raises TooManyRequests if there is nothing left to take."""
        now = asyncio.get_running_loop().time()
        left, at = self._levels.pop(session_id, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._a_second)
        self._levels[session_id] = (left - 1 if left >= 1 else left, now)
        if len(self._levels) > MAX_BUCKETS:
            self._levels.popitem(last=False)
        if left < 1:
            wait = max(1.0, (1 - left) / self._a_second)
            raise TooManyRequests("Too many such calls for one session; slow down.", retry_after=wait)
        return left - 1
