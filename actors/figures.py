"""Figures: what takes long to be counted is counted in the background, and may be some seconds old."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from orchestrator.errors import OrchestratorError

log = logging.getLogger(__name__)

LIVE_SECONDS = 0.5
"""What is counted in less is counted for each who asks."""
SHARE = 0.1
"""So much of the time at most goes into counting again."""


class Figures:
    """One process's count, made by `count`."""

    def __init__(self, count: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._count = count
        self._known: dict[str, Any] | None = None
        self._counted_at = 0.0
        self._took = 0.0
        self._counting: asyncio.Task[dict[str, Any]] | None = None

    async def get(self) -> dict[str, Any]:
        """Raises what counting raises, if nothing is known yet."""
        if self._known is None or self._took < LIVE_SECONDS:
            return await asyncio.shield(self._start())
        if asyncio.get_running_loop().time() - self._counted_at > self._took / SHARE:
            self._start()
        return self._known

    def _start(self) -> asyncio.Task[dict[str, Any]]:
        """Whoever asks while it is being counted slowly gets the same; a quick count is made anew for each."""
        if self._counting is None or self._counting.done() or self._took < LIVE_SECONDS:
            self._counting = asyncio.create_task(self._run())
            self._counting.add_done_callback(_say)
        return self._counting

    async def _run(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._known = await self._count()
        self._counted_at = loop.time()
        self._took = self._counted_at - began
        return self._known


def _say(task: asyncio.Task[dict[str, Any]]) -> None:
    if not task.cancelled() and isinstance(error := task.exception(), OrchestratorError):
        log.debug("not counted", extra={"reason": error.code})
