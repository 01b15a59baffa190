"""ReportKeeper: what is wanted is made, some at a time, and what fails is tried again ever more rarely."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from actors import cluster, report_keeper
from actors.report_keeper import A_TASK, FIRST_PAUSE_MS, LONGEST_PAUSE_MS, TASKS, ReportKeeper
from actors.report_maker import make_reports
from orchestrator.errors import Unavailable
from orchestrator.storage.store import Store


class World:
    """`wanted`: sessions without a report. Tasks end when `gate` is open; `problems` of sessions are what they say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wanted: list[str] = []
        self.deleted: set[str] = set()
        self.erased: list[str] = []
        self.problems: dict[str, str] = {}
        self.failure: Exception | None = None
        self.runs: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.now = 0
        self.keeper = ReportKeeper(cast(Store, self))
        self.patch = lambda run: monkeypatch.setattr(cluster, "run", run)
        self.patch(self.run)
        monkeypatch.setattr(report_keeper, "wall_ms", lambda: self.now)

    async def sessions_with_report(self, work: str, limit: int) -> list[str]:
        assert work == "wanted"
        return self.wanted[:limit]

    async def is_deleted(self, session_id: str) -> bool:
        return session_id in self.deleted

    async def erase_report(self, session_id: str) -> None:
        self.erased.append(session_id)

    async def run(self, work: Any, session_ids: list[str], **_: Any) -> dict[str, str | None]:
        assert work is make_reports
        self.runs.append(session_ids)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        done = {session_id: self.problems.get(session_id) for session_id in session_ids}
        self.wanted = [one for one in self.wanted if done.get(one, "") is not None]
        return done

    async def round(self) -> None:
        await self.keeper.make()
        await asyncio.sleep(0.01)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


async def test_all_that_are_wanted_are_made(world: World) -> None:
    world.wanted = [f"s{n}" for n in range(5 * A_TASK + 3)]
    for _ in range(4):
        await world.round()
    assert world.wanted == [] and max(map(len, world.runs)) == A_TASK
    await world.round()
    assert sum(map(len, world.runs)) == 5 * A_TASK + 3, "each once"


async def test_no_more_tasks_than_that_at_once_and_no_session_twice(world: World) -> None:
    world.wanted = [f"s{n}" for n in range(10 * A_TASK)]
    world.gate.clear()
    for _ in range(5):
        await world.round()
    assert len(world.runs) == TASKS and not set(world.runs[0]) & set(world.runs[1])


async def test_one_that_fails_is_tried_again_ever_more_rarely(world: World) -> None:
    world.wanted, world.problems = ["bad", "good"], {"bad": "unavailable"}
    await world.round()
    assert world.wanted == ["bad"]
    tried: list[int] = []
    for _ in range(4 * LONGEST_PAUSE_MS // 1000):
        world.now += 1_000
        before = len(world.runs)
        await world.keeper.make()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if len(world.runs) > before:
            tried.append(world.now)
    pauses = [later - earlier for earlier, later in zip([0, *tried], tried, strict=False)]
    assert pauses[:3] == [FIRST_PAUSE_MS, 2 * FIRST_PAUSE_MS, 4 * FIRST_PAUSE_MS] and pauses[-1] == LONGEST_PAUSE_MS
    world.problems.clear()
    world.now += LONGEST_PAUSE_MS
    await world.round()
    assert world.wanted == []


async def test_one_that_takes_its_process_down_does_so_to_no_other(world: World) -> None:
    world.wanted = ["poison", *(f"s{n}" for n in range(5))]
    real = world.run

    async def run(work: Any, session_ids: list[str], **more: Any) -> dict[str, str | None]:
        world.failure = Unavailable("it died") if "poison" in session_ids else None
        return await real(work, session_ids, **more)

    world.patch(run)
    await world.round()
    world.now = FIRST_PAUSE_MS
    for _ in range(6):
        await world.round()
    assert world.wanted == ["poison"]


async def test_a_task_that_dies_is_run_again_later(world: World) -> None:
    world.wanted, world.failure = ["s1"], Unavailable("it died")
    world.deleted = {"s1"}
    await world.round()
    await world.round()
    assert world.runs == [["s1"]] and world.erased == ["s1"], "if it was deleted meanwhile, nothing of it is left"
    world.failure, world.now = None, FIRST_PAUSE_MS
    await world.round()
    assert world.runs == [["s1"], ["s1"]] and world.wanted == []


async def test_many_that_fail_hide_no_other(world: World) -> None:
    world.wanted = [f"bad{n}" for n in range(15 * A_TASK)]
    world.problems = dict.fromkeys(world.wanted, "no")
    for _ in range(20):
        await world.round()
    world.wanted.append("good")
    for _ in range(3):
        await world.round()
    assert "good" not in world.wanted


async def test_one_that_hangs_takes_one_place_only(world: World) -> None:
    world.wanted, world.problems = ["a", "b"], {"a": "no", "b": "no"}
    await world.round()
    world.gate.clear()
    world.now += LONGEST_PAUSE_MS
    for _ in range(3):
        await world.round()
    assert world.runs[1:] == [["a"]]
    world.wanted.append("fresh")
    await world.round()
    assert world.runs[2:] == [["fresh"]]
