"""Buckets: how much at once, how much on average, and for how many sessions that is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from actors import buckets
from actors.buckets import Buckets
from orchestrator.errors import TooManyRequests
from tests.unit.virtual import run_virtual


def taken(bucket: Buckets, session_id: str = "s1", tries: int = 20) -> int:
    """How often something could be taken."""
    count = 0
    for _ in range(tries):
        try:
            bucket.take(session_id)
            count += 1
        except TooManyRequests:
            pass
    return count


def test_so_much_at_once_and_so_much_on_average() -> None:
    async def scenario(clock: Callable[[], int]) -> None:
        bucket = Buckets(3.0, 0.5)
        assert taken(bucket) == 3
        await asyncio.sleep(1.9)
        assert taken(bucket) == 0
        await asyncio.sleep(0.2)
        assert taken(bucket) == 1, "those that were refused took nothing"
        await asyncio.sleep(1_000)
        assert taken(bucket) == 3, "no more than the burst is saved up"

    run_virtual(scenario)


def test_each_session_has_its_own() -> None:
    async def scenario(clock: Callable[[], int]) -> None:
        bucket, another = Buckets(2.0, 1.0), Buckets(2.0, 1.0)
        assert [taken(bucket, "s1"), taken(bucket, "s2"), taken(bucket, "s1"), taken(another, "s1")] == [2, 2, 0, 2]

    run_virtual(scenario)


@pytest.mark.parametrize(("a_second", "expected"), [(0.5, 2.0), (0.1, 10.0), (1.0, 1.0), (20.0, 1.0)])
def test_whoever_is_refused_learns_when_to_come_again(a_second: float, expected: float) -> None:
    async def scenario(clock: Callable[[], int]) -> None:
        bucket = Buckets(1.0, a_second)
        bucket.take("s1")
        with pytest.raises(TooManyRequests) as caught:
            bucket.take("s1")
        assert caught.value.retry_after == pytest.approx(expected)
        await asyncio.sleep(expected + 0.001)
        bucket.take("s1")

    run_virtual(scenario)


def test_the_session_seen_longest_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "MAX_BUCKETS", 2)

    async def scenario(clock: Callable[[], int]) -> None:
        bucket = Buckets(6.0, 0.5)
        for session_id in ("a", "b", "a", "c"):
            bucket.take(session_id)
        assert list(bucket._levels) == ["a", "c"]

    run_virtual(scenario)
