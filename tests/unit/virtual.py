"""An event loop whose time jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tests.unit.world import T0

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout:
            self.loop.advance(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Deterministic, and instant however long the timers are. Nothing in it may wait for the outside."""

    def __init__(self) -> None:
        self._virtual = 0.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual

    def advance(self, seconds: float) -> None:
        self._virtual += seconds

    def wall_ms(self) -> int:
        """The wall clock that goes with it."""
        return T0 + round(self._virtual * 1000)


def run_virtual(scenario: Callable[[Callable[[], int]], Coroutine[Any, Any, T]]) -> T:
    """Run a scenario that is given the wall clock."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(scenario(loop.wall_ms))
    finally:
        loop.run_until_complete(_end_tasks())
        loop.close()


async def _end_tasks() -> None:
    """Cancel what the scenario has left running. (Python 3.11's `wait_for` may swallow a cancellation.)"""
    for _ in range(3):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1)
