"""A cluster of several nodes: one dies, one hangs, one is drained, in the middle of interviews."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.conftest import say, until
from tests.chaos.driver import Driver
from tests.chaos.nodes import Node, RayCluster
from tests.cluster.candidate import Candidate
from tests.servers import Embedded, Serve, serving

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

LIVE_AT_DEATH = int(os.environ.get("CHAOS_LIVE_AT_NODE_DEATH", "6"))
LIVE_AT_DRAIN = int(os.environ.get("CHAOS_LIVE_AT_DRAIN", "6"))
"""40 and 50 in the figures of docs/fault_injection.md."""

HEAD_MB = 2 * 256 + 48
"""Room for the Registry and the Housekeeper, and for no interview."""


class Machines:
    """A Ray cluster of a head without interviews and workers, a database, and a front end that joined."""

    def __init__(self, ray: RayCluster, service: Serve) -> None:
        self.ray = ray
        self.service = service

    def add_worker(self, room: int) -> Node:
        """A node with room for so many interviews, beside its JournalActor."""
        return self.ray.add_node(cpus=2, memory=(256 + 64 * room + 32) * 2**20)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("nodes")
    database = Embedded(folder / "database")
    database.start()
    settings: dict[str, Any] = {"MONGODB_URL": database.url, "INTERVIEW_WARM_ACTORS": "4"}
    ray = RayCluster(folder / "ray", cpus=1, memory=HEAD_MB * 2**20, **settings)
    try:
        with serving(folder / "serve", None, **settings, **ray.environment) as service:
            yield Machines(ray, service)
    finally:
        ray.stop()
        database.stop()


@pytest.fixture
async def http(machines: Machines) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=machines.service.api, timeout=30) as http:
        yield http


@pytest.fixture
def driver(machines: Machines) -> Iterator[Driver]:
    driver = Driver(machines.ray.environment)
    yield driver
    driver.close()


class Answering(Candidate):
    """A candidate who answers every so often until told to stop, and counts what did not go well."""

    retries = 0
    most_retries = 0
    slowest = 0.0
    """Seconds that the slowest answer took that needed no retry."""
    answered_at = 0.0
    asked_at = 0.0
    """When the request was sent that was answered last: one that was under way when something died says nothing."""

    async def answer_until(self, stop: asyncio.Event, pause: float) -> None:
        index = len(self.acknowledged)
        while not stop.is_set():
            await self._answer(index)
            index += 1
            await asyncio.sleep(pause)

    async def _answer(self, index: int) -> None:
        body, headers = {"question_index": index, "answer": f"answer {index}"}, {"Idempotency-Key": f"a{index}"}
        retries = 0
        give_up = time.monotonic() + 90
        while True:
            sent_at = time.monotonic()
            response = await self.request("POST", "/answer", json=body, headers=headers)
            if response.status_code == 200:
                break
            assert response.status_code == 503 and time.monotonic() < give_up, response.text
            retries += 1
            await asyncio.sleep(0.2)
        self.acknowledged[index] = body["answer"]
        self.slowest = max(self.slowest, time.monotonic() - sent_at)
        self.answered_at, self.asked_at = time.monotonic(), sent_at
        self.retries += retries
        self.most_retries = max(self.most_retries, retries)


async def live_on(http: httpx.AsyncClient, node: Node, count: int) -> list[Answering]:
    """Interviews in progress, all on that node."""
    candidates = [Answering(http) for _ in range(count)]
    for candidate in candidates:
        await candidate.create(200, text_question_timer=3600)
        started = await candidate.start()
        assert started["placement"]["node"] == node.node_id
    return candidates


async def node_of(candidate: Candidate) -> str | None:
    placement = (await candidate.session())["placement"]
    return placement["node"] if placement is not None else None


async def end_all(candidates: list[Answering]) -> None:
    for candidate in candidates:
        await candidate.check_nothing_lost()
        await candidate.post("end")


async def test_a_node_dies_with_everything_on_it(
    machines: Machines, http: httpx.AsyncClient, driver: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    dying = machines.add_worker(LIVE_AT_DEATH + 4)
    candidates = await live_on(http, dying, LIVE_AT_DEATH)
    other = machines.add_worker(LIVE_AT_DEATH + 8)
    bare = LIVE_AT_DEATH / driver.ask("bare", LIVE_AT_DEATH, 2)
    stop = asyncio.Event()
    answering = [asyncio.create_task(c.answer_until(stop, LIVE_AT_DEATH / 10)) for c in candidates]
    await asyncio.sleep(2)
    dying.kill()
    killed_at = time.monotonic()

    def all_answer() -> bool:
        return all(c.asked_at > killed_at for c in candidates)

    await until(all_answer, 20 + LIVE_AT_DEATH, "all are answering again")
    took = max(c.answered_at for c in candidates) - killed_at
    stop.set()
    await asyncio.gather(*answering)
    say(
        capsys,
        f"{LIVE_AT_DEATH} interviews of a dead node answered again within {took:.1f} s: {LIVE_AT_DEATH / took:.2f} "
        f"a second; bare actors start at {bare:.2f} a second ({100 * LIVE_AT_DEATH / took / bare:.0f} %)",
    )
    for candidate in candidates:
        session = await candidate.session()
        assert session["placement"]["epoch"] >= 2 and session["placement"]["node"] == other.node_id
        assert {line["cause"] for line in session["clock"]["ledger"]} & {"crash", "recovered", "hung"}
        assert 0 < session["clock"]["credited_seconds"] < took + 5
    await end_all(candidates)
    other.kill()


async def test_a_node_that_hangs_loses_its_interviews_and_is_fenced(
    machines: Machines, http: httpx.AsyncClient
) -> None:
    hanging = machines.add_worker(6)
    candidates = await live_on(http, hanging, 2)
    other = machines.add_worker(8)
    await until(lambda: _warm(http, 2), 30, "there are warm actors elsewhere")
    hanging.send(signal.SIGSTOP)
    began = time.monotonic()
    try:
        for candidate in candidates:
            await candidate.answer_at_last(0, "x", "a0")
            assert await node_of(candidate) == other.node_id
        assert time.monotonic() - began < 20
    finally:
        hanging.send(signal.SIGCONT)
    await asyncio.sleep(3)
    for candidate in candidates:
        await candidate.answer(1, "y")
        assert await node_of(candidate) == other.node_id, "who came back takes nothing away"
    await end_all(candidates)
    hanging.kill()
    other.kill()


async def _warm(http: httpx.AsyncClient, count: int) -> bool:
    stats = (await http.get("/stats")).json()["stats"]
    return (stats["warm_actors"] or 0) >= count


async def test_a_node_is_drained_and_candidates_do_not_notice(
    machines: Machines, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    drained = machines.add_worker(LIVE_AT_DRAIN + 4)
    candidates = await live_on(http, drained, LIVE_AT_DRAIN)
    other = machines.add_worker(LIVE_AT_DRAIN + 8)
    stop = asyncio.Event()
    answering = [asyncio.create_task(c.answer_until(stop, LIVE_AT_DRAIN / 10)) for c in candidates]
    began = time.monotonic()
    shown = await asyncio.to_thread(drain, machines.service, drained)
    took = time.monotonic() - began
    assert shown.rstrip().endswith("0 live interviews left")
    stop.set()
    await asyncio.gather(*answering)
    retries = [c.most_retries for c in candidates]
    say(
        capsys,
        f"a node with {LIVE_AT_DRAIN} live interviews was drained in {took:.1f} s; "
        f"{sum(c.retries for c in candidates)} retries by {len(candidates)} candidates, {max(retries)} for one at most",
    )
    assert max(retries) <= 1
    for candidate in candidates:
        session = await candidate.session()
        assert session["placement"]["node"] == other.node_id
        assert session["placement"]["epoch"] == 2, [e for e in await candidate.events() if "activated" in e["type"]]
        assert session["clock"]["credited_seconds"] < 3
    await end_all(candidates)

    late = Answering(http)
    await late.create()
    started = await late.start()
    assert started["placement"]["node"] == other.node_id, "no new interview on a drained node"
    await late.post("end")
    drain(machines.service, drained, "--cancel")
    nodes: list[dict[str, Any]] = (await late.call("GET", "/cluster"))["cluster"]["nodes"]
    assert not any(node["draining"] for node in nodes)


def drain(service: Serve, node: Node, *options: str) -> str:
    """`parallel-interview drain`; what it printed."""
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "parallel-interview"), "drain", "--url", service.url),
            *("--node", node.node_id[:16], "--wait", "240", *options),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
