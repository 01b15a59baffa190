"""WarmPool and Capacity, with actors that are only names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors import cluster
from actors.capacity import Capacity
from actors.interview import Holding
from actors.pool import SURPLUS_AFTER_SECONDS, Warm, WarmPool
from actors.scaling import Amount, NodeRoom
from orchestrator.errors import ClusterFull
from tests.unit.virtual import VirtualLoop, run_virtual


class Cluster:
    """Stands in for Ray: every actor is up after a second, unless it is named in `dead`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started = 0
        self.starting = 0
        self.most_at_once = 0
        self.places = 1_000
        self.up: set[str] = set()
        self.dead: set[str] = set()
        self.nodes: dict[str, str] = {}
        self.killed: list[str] = []
        monkeypatch.setattr(cluster, "call", self.call)
        monkeypatch.setattr(cluster, "kill", self.killed.append)

    def start(self) -> tuple[str, Any]:
        self.started += 1
        self.starting += 1
        self.most_at_once = max(self.most_at_once, self.starting)
        return f"actor-{self.started}", f"actor-{self.started}"

    def room(self, starting: int) -> int:
        return max(0, self.places - len(self.up) - starting)

    async def call(self, actor: str, method: str, **_: Any) -> Holding:
        assert method == "ping"
        await asyncio.sleep(1)
        self.starting = max(0, self.starting - 1)
        if actor in self.dead:
            raise cluster.ActorGone("gone")
        self.up.add(actor)
        return Holding(None, 0, self.nodes.get(actor, "node-1"))


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def with_clock(_: Callable[[], int]) -> None:
        await scenario()

    run_virtual(with_clock)


async def order(*takes: Awaitable[Warm]) -> list[int]:
    """The order in which some are served."""
    served: list[int] = []

    async def one(number: int, take: Awaitable[Warm]) -> None:
        await take
        served.append(number)

    await asyncio.gather(*(one(n, take) for n, take in enumerate(takes)))
    return served


def test_the_pool_fills_one_by_one_and_each_actor_is_taken_once(ray: Cluster) -> None:
    async def scenario() -> None:
        pool = WarmPool(ray.start, wanted=4, at_once=lambda: 2)
        pool.refill()
        await asyncio.sleep(10)
        assert (pool.ready, pool.starting, ray.most_at_once) == (4, 0, 1)
        taken = [await pool.take(1) for _ in range(4)]
        assert len({warm.name for warm in taken}) == 4
        await asyncio.sleep(10)
        assert pool.ready == 4
        await asyncio.gather(*(pool.take(10) for _ in range(8)))
        assert ray.most_at_once == 2, "who waits is worth more than the calm of the others"

    run(scenario)


def test_who_waits_is_served_in_order_and_not_for_ever(ray: Cluster) -> None:
    async def scenario() -> None:
        pool = WarmPool(ray.start, wanted=0, at_once=lambda: 1)
        takes = [asyncio.create_task(pool.take(2.5)) for _ in range(4)]
        done = await asyncio.gather(*takes, return_exceptions=True)
        assert [d.name for d in done if isinstance(d, Warm)] == ["actor-1", "actor-2"]
        assert [type(d) for d in done[2:]] == [ClusterFull, ClusterFull]

    run(scenario)


def test_an_actor_that_comes_up_after_its_waiter_gave_up_is_kept(ray: Cluster) -> None:
    async def scenario() -> None:
        pool = WarmPool(ray.start, wanted=0, at_once=lambda: 1)
        with pytest.raises(ClusterFull):
            await pool.take(0.5)
        await asyncio.sleep(2)
        assert pool.ready == 1
        assert (await pool.take(0.1)).name == "actor-1"

    run(scenario)


def test_an_actor_that_comes_up_as_the_wait_ends_is_given(ray: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(asyncio, "wait_for", as_since_python_3_12)
        pool = WarmPool(ray.start, wanted=0, at_once=lambda: 0)
        take = asyncio.create_task(pool.take(1))
        loop = asyncio.get_running_loop()
        loop.call_later(1, pool.add, Warm("actor-9", "actor-9", "node-1"))
        await asyncio.sleep(0.5)
        assert isinstance(loop, VirtualLoop)
        loop.advance(1)  # the loop is held up: both are due in its next turn
        assert (await take).name == "actor-9" and pool.ready == 0

    run(scenario)


def test_an_actor_for_somebody_who_has_just_left_is_kept(ray: Cluster) -> None:
    async def scenario() -> None:
        pool = WarmPool(ray.start, wanted=0, at_once=lambda: 0)
        take = asyncio.create_task(pool.take(1))
        await asyncio.sleep(0.5)
        pool.add(Warm("actor-9", "actor-9", "node-1"))
        take.cancel()
        await asyncio.wait({take})
        assert take.cancelled() and pool.ready == 1

    run(scenario)


async def as_since_python_3_12(work: Awaitable[Any], seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await work


def test_an_actor_that_died_while_warm_is_thrown_away(ray: Cluster) -> None:
    async def scenario() -> None:
        pool = WarmPool(ray.start, wanted=2, at_once=lambda: 2)
        pool.refill()
        await asyncio.sleep(5)
        ray.dead.add("actor-1")
        await pool.check()
        assert pool.ready == 1 and ray.killed == ["actor-1"]
        pool.refill()
        await asyncio.sleep(5)
        assert pool.ready == 2

    run(scenario)


def test_an_actor_that_is_taken_while_it_is_checked_is_not_thrown_away(ray: Cluster) -> None:
    async def scenario() -> None:
        pool = WarmPool(ray.start, wanted=1, at_once=lambda: 1)
        pool.refill()
        await asyncio.sleep(5)
        ray.dead.add("actor-1")
        checking = asyncio.create_task(pool.check())
        await asyncio.sleep(0.5)
        assert (await pool.take(1)).name == "actor-1"
        await checking
        assert ray.killed == []

    run(scenario)


def test_actors_are_started_for_starts_to_come_and_ended_slowly_when_they_do_not_come(ray: Cluster) -> None:
    async def scenario() -> None:
        pool = WarmPool(ray.start, wanted=2, at_once=lambda: 3)
        pool.refill()
        await asyncio.sleep(5)
        pool.ahead = 6
        pool.refill()
        await asyncio.sleep(3.5)
        assert (pool.ready, ray.most_at_once) == (8, 3)
        pool.ahead = 0
        await pool.check()
        assert pool.ready == 8, "somebody may come back in a moment"
        await asyncio.sleep(SURPLUS_AFTER_SECONDS)
        for left in (7, 6, 5, 4, 3, 2, 2, 2):
            await pool.check()
            assert pool.ready == left

    run(scenario)


# Who comes first


def test_the_reserve_is_kept_for_the_urgent(ray: Cluster) -> None:
    async def scenario() -> None:
        ray.places = 3
        pool = WarmPool(ray.start, wanted=3, at_once=lambda: 1, reserve=1, room=ray.room)
        pool.refill()
        await asyncio.sleep(5)
        assert [(await pool.take(1)).name for _ in range(2)] == ["actor-1", "actor-2"]
        with pytest.raises(ClusterFull):
            await pool.take(5)
        assert (await pool.take(5, urgent=True)).name == "actor-3"

    run(scenario)


def test_the_urgent_are_served_first(ray: Cluster) -> None:
    async def scenario() -> None:
        pool = WarmPool(ray.start, wanted=0, at_once=lambda: 1)
        served = await order(pool.take(60), pool.take(60), pool.take(60, urgent=True), pool.take(60, urgent=True))
        assert served == [2, 3, 0, 1]

    run(scenario)


def test_who_waits_behind_the_reserve_is_served_when_more_is_up(ray: Cluster) -> None:
    async def scenario() -> None:
        pool = WarmPool(ray.start, wanted=2, at_once=lambda: 2, reserve=2)
        pool.refill()
        await asyncio.sleep(5)
        assert pool.ready == 2
        await pool.take(5)
        await asyncio.sleep(5)
        assert pool.ready >= 2

    run(scenario)


# No room


def test_without_room_a_start_is_refused_at_once(ray: Cluster) -> None:
    async def scenario() -> None:
        ray.places = 0
        pool = WarmPool(ray.start, wanted=4, at_once=lambda: 2, room=ray.room)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(ClusterFull):
            await pool.take(8)
        assert loop.time() == began and ray.started == 0

    run(scenario)


def test_the_one_waiter_too_many_is_refused_at_once_and_the_others_are_served(ray: Cluster) -> None:
    async def scenario() -> None:
        ray.places = 2
        pool = WarmPool(ray.start, wanted=0, at_once=lambda: 1, room=ray.room)
        takes = [asyncio.create_task(pool.take(8)) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert [task.done() for task in takes] == [False, False, True]
        assert isinstance(takes[2].exception(), ClusterFull)
        assert {(await task).name for task in takes[:2]} == {"actor-1", "actor-2"}

    run(scenario)


def test_the_urgent_count_against_the_room_of_starts(ray: Cluster) -> None:
    async def scenario() -> None:
        ray.places = 1
        pool = WarmPool(ray.start, wanted=0, at_once=lambda: 1, room=ray.room)
        urgent = asyncio.create_task(pool.take(8, urgent=True))
        await asyncio.sleep(0.1)
        with pytest.raises(ClusterFull):
            await pool.take(8)
        assert (await urgent).name == "actor-1"

    run(scenario)


def test_the_urgent_wait_for_room_and_get_it_when_it_comes_back(ray: Cluster) -> None:
    async def scenario() -> None:
        ray.places = 0
        pool = WarmPool(ray.start, wanted=2, at_once=lambda: 2, room=ray.room)
        urgent = asyncio.create_task(pool.take(60, urgent=True))
        for _ in range(10):
            pool.refill()
            await asyncio.sleep(1)
        assert not urgent.done() and ray.started == 0
        ray.places = 1
        pool.refill()
        assert (await urgent).name == "actor-1"
        with pytest.raises(ClusterFull):
            await pool.take(8)
        ray.places = 2
        assert (await pool.take(8)).name == "actor-2"

    run(scenario)


def test_no_more_is_started_than_there_is_room_for(ray: Cluster) -> None:
    async def scenario() -> None:
        ray.places = 3
        pool = WarmPool(ray.start, wanted=10, at_once=lambda: 4, room=ray.room)
        for _ in range(10):
            pool.refill()
            await asyncio.sleep(1)
        assert (pool.ready, ray.started) == (3, 3)

    run(scenario)


# Nodes that are not to be used


def test_actors_on_a_node_that_is_not_to_be_used_are_thrown_away(ray: Cluster) -> None:
    async def scenario() -> None:
        unusable: set[str] = set()
        ray.nodes = {"actor-2": "node-2"}
        pool = WarmPool(ray.start, wanted=2, at_once=lambda: 2, usable=lambda node: node not in unusable)
        pool.refill()
        await asyncio.sleep(5)
        assert pool.ready == 2
        unusable.add("node-2")
        await pool.check()
        assert pool.ready == 1 and ray.killed == ["actor-2"]
        pool.add(Warm("actor-9", "actor-9", "node-2"))
        assert pool.ready == 1 and ray.killed == ["actor-2", "actor-9"]

    run(scenario)


def test_an_actor_on_a_node_that_is_not_to_be_used_is_not_given_away(ray: Cluster) -> None:
    async def scenario() -> None:
        unusable: set[str] = set()
        pool = WarmPool(ray.start, wanted=0, at_once=lambda: 1, usable=lambda node: node not in unusable)
        pool.add(Warm("actor-a", "actor-a", "node-2"))
        pool.add(Warm("actor-b", "actor-b", "node-1"))
        unusable.add("node-2")
        assert (await pool.take(5, urgent=True)).name == "actor-b"

    run(scenario)


# Capacity

GIB = 2**30


def capacity_of(monkeypatch: pytest.MonkeyPatch, free: dict[str, tuple[float, float]]) -> Capacity:
    async def rooms(_: str | None) -> dict[str, NodeRoom]:
        await asyncio.sleep(0.1)
        return {node: NodeRoom(Amount(*amount), Amount(*amount)) for node, amount in free.items()}

    monkeypatch.setattr(cluster, "rooms", rooms)
    return Capacity(Amount(0.5, GIB))


def test_a_node_has_as_many_places_as_its_scarcer_resource_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        capacity = capacity_of(monkeypatch, {"a": (2.2, 100 * GIB), "b": (100, 3.9 * GIB), "c": (0.4, 9 * GIB)})
        assert capacity.room(0) == 0
        await capacity.look(())
        assert capacity.room(0) == 4 + 3
        await capacity.look({"a"})
        assert capacity.room(0) == 3

    run(scenario)


def test_what_was_started_is_subtracted_until_ray_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        free = {"a": (2.0, 100.0 * GIB)}
        capacity = capacity_of(monkeypatch, free)
        await capacity.look(())
        capacity.note_start()
        assert capacity.room(1) == 3 and capacity.room(0) == 3
        await asyncio.sleep(2.5)  # as old as Ray's figures may be
        looking = asyncio.create_task(capacity.look(()))
        await asyncio.sleep(0.05)
        capacity.note_start()
        free["a"] = (1.5, 100.0 * GIB)
        await looking
        assert capacity.room(1) == 2 and capacity.room(0) == 2
        assert capacity.room(2) == 1 and capacity.room(9) == 0

    run(scenario)


def test_looks_at_the_same_time_do_not_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        free = {"a": (2.0, 100.0 * GIB)}
        capacity = capacity_of(monkeypatch, free)
        await capacity.look(())
        for _ in range(2):
            capacity.note_start()
        free["a"] = (1.0, 100.0 * GIB)
        await asyncio.gather(capacity.look(()), capacity.look(()), capacity.look(()))
        for _ in range(2):
            capacity.note_start()
        assert capacity.room(0) == 0

    run(scenario)


def test_of_many_ready_actors_some_are_pinged_at_a_time_and_all_in_turn(ray: Cluster) -> None:
    async def scenario() -> None:
        pool = WarmPool(ray.start, wanted=0, at_once=lambda: 1)
        for number in range(120):
            pool.add(Warm(f"a{number}", f"a{number}", f"node-{number}"))
        ray.dead = {"a0", "a60", "a119"}
        counts = []
        for _ in range(3):
            await pool.check()
            counts.append(pool.ready)
        assert counts == [119, 118, 117]
        ray.dead = {"a1"}
        await pool.check()
        assert pool.ready == 116, "and then the first again"

    run(scenario)


def test_where_one_ready_actor_is_dead_the_others_of_its_node_are_pinged_next(ray: Cluster) -> None:
    async def scenario() -> None:
        pool = WarmPool(ray.start, wanted=0, at_once=lambda: 1)
        for number in range(200):
            node = "node-1" if number % 5 else "node-2"
            ray.nodes[f"a{number}"] = node
            pool.add(Warm(f"a{number}", f"a{number}", node))
        ray.dead = {f"a{number}" for number in range(0, 200, 5)}
        await pool.check()
        await pool.check()
        assert pool.ready == 160, "all 40 of that node are gone"

    run(scenario)
