"""GroupCommit, and WarmPool with actors that are only names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors import cluster
from actors.interview import Holding
from actors.journal import MAX_BATCH, AppendResult, GroupCommit
from actors.pool import Warm, WarmPool
from orchestrator.errors import ClusterFull, OutcomeUnknown
from orchestrator.interview.entry import Entry, new_entry
from orchestrator.journal import Appended
from tests.unit.virtual import run_virtual


def entry(number: int) -> Entry:
    return new_entry("s1", number, 0, 0, [])


def test_appends_gather_while_a_batch_is_written() -> None:
    batches: list[list[int]] = []

    async def write(batch: list[tuple[Entry, str]]) -> list[AppendResult]:
        batches.append([e.seq for e, _ in batch])
        await asyncio.sleep(1)
        return [Appended(str(e.seq)) for e, _ in batch]

    async def scenario(_: Callable[[], int]) -> None:
        commit = GroupCommit(write)
        first = asyncio.create_task(commit.append(entry(1), ""))
        await asyncio.sleep(0.1)
        rest = [asyncio.create_task(commit.append(entry(n), "")) for n in range(2, MAX_BATCH + 12)]
        results = [await task for task in (first, *rest)]
        assert [r.mac for r in results if isinstance(r, Appended)] == [str(n) for n in range(1, MAX_BATCH + 12)]

    run_virtual(scenario)
    assert [len(b) for b in batches] == [1, MAX_BATCH, 10]


def test_a_failed_batch_is_of_unknown_outcome_and_the_next_goes_on() -> None:
    tries = iter([True, False])

    async def write(batch: list[tuple[Entry, str]]) -> list[AppendResult]:
        if next(tries):
            raise RuntimeError("broken")
        return [Appended("") for _ in batch]

    async def scenario(_: Callable[[], int]) -> None:
        commit = GroupCommit(write)
        assert isinstance(await commit.append(entry(1), ""), OutcomeUnknown)
        assert isinstance(await commit.append(entry(1), ""), Appended)

    run_virtual(scenario)


class Cluster:
    """Stands in for Ray: every actor is up after a second, unless it is named in `dead`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started = 0
        self.starting = 0
        self.most_at_once = 0
        self.dead: set[str] = set()
        self.killed: list[str] = []
        monkeypatch.setattr(cluster, "call", self.call)
        monkeypatch.setattr(cluster, "kill", self.killed.append)

    def start(self) -> tuple[str, Any]:
        self.started += 1
        self.starting += 1
        self.most_at_once = max(self.most_at_once, self.starting)
        return f"actor-{self.started}", f"actor-{self.started}"

    async def call(self, actor: str, method: str, **_: Any) -> Holding:
        assert method == "ping"
        await asyncio.sleep(1)
        self.starting = max(0, self.starting - 1)
        if actor in self.dead:
            raise cluster.ActorGone("gone")
        return Holding(None, 0, "node-1")


def test_the_pool_fills_one_by_one_and_each_actor_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Cluster(monkeypatch)

    async def scenario(_: Callable[[], int]) -> None:
        pool = WarmPool(ray.start, wanted=4, at_once=2)
        pool.refill()
        await asyncio.sleep(10)
        assert (pool.ready, pool.starting, ray.most_at_once) == (4, 0, 1)
        taken = [await pool.take(1) for _ in range(4)]
        assert len({warm.name for warm in taken}) == 4
        await asyncio.sleep(10)
        assert pool.ready == 4
        await asyncio.gather(*(pool.take(10) for _ in range(8)))
        assert ray.most_at_once == 2, "who waits is worth more than the calm of the others"

    run_virtual(scenario)


def test_who_waits_is_served_in_order_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Cluster(monkeypatch)

    async def scenario(_: Callable[[], int]) -> None:
        pool = WarmPool(ray.start, wanted=0, at_once=1)
        takes = [asyncio.create_task(pool.take(2.5)) for _ in range(4)]
        done = await asyncio.gather(*takes, return_exceptions=True)
        assert [d.name for d in done if isinstance(d, Warm)] == ["actor-1", "actor-2"]
        assert [type(d) for d in done[2:]] == [ClusterFull, ClusterFull]

    run_virtual(scenario)


def test_an_actor_that_died_while_warm_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Cluster(monkeypatch)

    async def scenario(_: Callable[[], int]) -> None:
        pool = WarmPool(ray.start, wanted=2, at_once=2)
        pool.refill()
        await asyncio.sleep(5)
        ray.dead.add("actor-1")
        await pool.check()
        assert pool.ready == 1 and ray.killed == ["actor-1"]
        pool.refill()
        await asyncio.sleep(5)
        assert pool.ready == 2

    run_virtual(scenario)
