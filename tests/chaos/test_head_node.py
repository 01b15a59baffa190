"""The head is lost, with Ray's control plane and the Registry, and comes back with its memory in Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.holders import LEARN_SECONDS
from tests.chaos.conftest import say, until
from tests.chaos.front_end import front_end_at
from tests.chaos.nodes import Node, RayCluster
from tests.chaos.test_nodes import HEAD_MB, Answering, live_on
from tests.servers import Embedded, Redis, command_of, descendants

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

LIVE = 4
AWAY_SECONDS = 15.0
"""For how long there is no head at least."""
START_ANSWERS_WITHIN = 6.0
MOST_OF_A_CORE = 0.3


class Machines:
    """A head, a worker that holds the interviews, and two front ends that belong to the worker."""

    def __init__(self, ray: RayCluster, worker: Node, url: str, other_url: str) -> None:
        self.ray = ray
        self.worker = worker
        self.url = url
        self.other_url = other_url


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("head")
    redis, database = Redis(folder / "redis"), Embedded(folder / "database")
    redis.start()
    database.start()
    settings: dict[str, Any] = {
        "MONGODB_URL": database.url,
        "INTERVIEW_WARM_ACTORS": "2",
        "INTERVIEW_FACE_ACTORS": "0",
    }
    ray = RayCluster(
        folder / "ray",
        cpus=1,
        memory=HEAD_MB * 2**20,
        head_options=(f"--redis-password={redis.password}",),
        head_settings={"RAY_REDIS_ADDRESS": redis.address, "RAY_external_storage_namespace": "interviews"},
        **settings,
    )
    try:
        worker = ray.add_node(cpus=2, memory=(256 + 64 * 12 + 32) * 2**20)
        with (
            front_end_at(worker, folder / "front_end", **settings) as url,
            front_end_at(worker, folder / "other_front_end", **settings) as other_url,
        ):
            yield Machines(ray, worker, url, other_url)
    finally:
        ray.stop()
        database.stop()
        redis.stop()


@pytest.fixture
async def http(machines: Machines) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=machines.url, timeout=30) as http:
        yield http


@pytest.fixture
async def other(machines: Machines) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=machines.other_url, timeout=30) as http:
        yield http


def front_ends_cpu() -> float:
    """Seconds of processor time that the two front ends have taken."""
    pids = [pid for pid in descendants(os.getpid()) if "tests.chaos.front_end" in command_of(pid)]
    assert len(pids) == 2
    stats = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def kill_the_control_plane(head: Node) -> None:
    """`ray start --block` ends what is left of the head when its GCS has ended, as a supervisor of machines does."""
    head.pids()  # it notes what there is to be ended
    os.kill(head.pid_of("gcs_server"), signal.SIGKILL)
    head.launcher.wait(30)
    head.kill()


def kill_the_head(head: Node) -> None:
    head.kill()


@pytest.mark.parametrize("kill", [kill_the_control_plane, kill_the_head])
async def test_interviews_go_on_without_the_head(
    machines: Machines,
    http: httpx.AsyncClient,
    other: httpx.AsyncClient,
    capsys: pytest.CaptureFixture[str],
    kill: Callable[[Node], None],
) -> None:
    """Half of the candidates had their front end on the head's machine; they go on at one that has never had them."""
    candidates = await live_on(http, machines.worker, LIVE)
    late = Answering(http)
    await late.create()
    stop = asyncio.Event()
    answering = [asyncio.create_task(c.answer_until(stop, 0.5)) for c in candidates]
    await asyncio.sleep(LEARN_SECONDS + 2)
    before = [len(c.acknowledged) for c in candidates]
    began = time.monotonic()
    await asyncio.to_thread(kill, machines.ray.head)
    for candidate in candidates[: LIVE // 2]:
        candidate.http = other
    killed = time.monotonic()
    busy = front_ends_cpu()
    refused: list[float] = []
    while time.monotonic() < killed + AWAY_SECONDS:
        asked = time.monotonic()
        response = await late.request("POST", "/start")
        refused.append(time.monotonic() - asked)
        assert response.status_code == 503 and int(response.headers["Retry-After"]) >= 1, response.text
        await asyncio.sleep(1)
    meanwhile = [len(c.acknowledged) - had for c, had in zip(candidates, before, strict=True)]
    slowest = max(c.slowest for c in candidates)
    back = time.monotonic()
    busy = (front_ends_cpu() - busy) / (back - killed)
    await asyncio.to_thread(machines.ray.start_head)
    up = time.monotonic()

    async def starts() -> bool:
        response = await late.request("POST", "/start")
        assert response.status_code in (200, 503), response.text
        return response.status_code == 200

    await until(starts, 90, "starts work again")
    started = time.monotonic()
    stop.set()
    await asyncio.gather(*answering)
    say(
        capsys,
        f"{kill.__name__}: {LIVE} interviews took {min(meanwhile)} to {max(meanwhile)} answers each in "
        f"{back - began:.0f} s without a head, the slowest after {slowest:.2f} s, {sum(c.retries for c in candidates)} "
        f"retries; starts were refused after {max(refused):.1f} s at most, and worked {started - up:.1f} s after the "
        f"head was up again (which took {up - back:.1f} s); the front ends took {busy:.2f} of a core meanwhile",
    )
    assert busy < 2 * MOST_OF_A_CORE, "no front end is busy with looking for the head"
    assert min(meanwhile) >= AWAY_SECONDS / 2, "every one went on"
    assert not sum(c.retries for c in candidates)
    assert max(refused) < START_ANSWERS_WITHIN
    for candidate in (*candidates, late):
        session = await candidate.check_nothing_lost()
        assert session["placement"]["epoch"] == 1, "its actor has held it all the time"
        causes = {line["cause"] for line in session["clock"]["ledger"]}
        assert causes <= {"storage_unavailable"}, "no time was lost; only a busy machine may be slow with writing"
        await candidate.post("end")
