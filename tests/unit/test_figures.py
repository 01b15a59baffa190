"""Figures that take long to be counted are counted in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.figures import Figures
from orchestrator.errors import Unavailable
from tests.unit.virtual import run_virtual


class Counter:
    """Takes `seconds`, and counts how often it was asked."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked = 0

    async def __call__(self) -> dict[str, Any]:
        self.asked += 1
        number = self.asked
        await asyncio.sleep(self.seconds)
        return {"number": number}


def test_what_is_quick_is_counted_for_each() -> None:
    async def scenario(clock: Callable[[], int]) -> None:
        figures = Figures(Counter(0.1))
        assert [(await figures.get())["number"] for _ in range(3)] == [1, 2, 3]

    run_virtual(scenario)


def test_what_is_slow_is_counted_in_the_background_and_not_all_the_time() -> None:
    async def scenario(clock: Callable[[], int]) -> None:
        count = Counter(2.0)
        figures = Figures(count)
        assert (await figures.get())["number"] == 1
        for _ in range(19):
            began = clock()
            assert (await figures.get())["number"] == 1 and clock() == began
            await asyncio.sleep(1)
        await asyncio.sleep(2)
        await figures.get()
        await asyncio.sleep(2.1)
        assert (await figures.get())["number"] == 2 and count.asked == 2
        count.seconds = 0.1  # most were deleted
        await asyncio.sleep(30)
        await figures.get()
        await asyncio.sleep(1)
        assert (await figures.get())["number"] == 4

    run_virtual(scenario)


def test_who_asks_first_is_told_of_a_failure_and_the_next_one_tries_again() -> None:
    async def scenario(clock: Callable[[], int]) -> None:
        answers: list[Any] = [Unavailable("away"), {"number": 1}]

        async def count() -> dict[str, Any]:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        figures = Figures(count)
        with pytest.raises(Unavailable):
            await figures.get()
        assert await figures.get() == {"number": 1}

    run_virtual(scenario)
