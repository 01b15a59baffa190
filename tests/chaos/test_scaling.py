"""Ray's own autoscaler: a cluster grows for interviews that find no place, and shrinks without disturbing one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.chaos.conftest import say, until
from tests.chaos.fake_machines import ENVIRONMENT, write_config
from tests.chaos.nodes import LOOPBACK, OBJECT_STORE_BYTES, RayCluster
from tests.cluster.candidate import Candidate, checked
from tests.servers import Embedded, Serve, free_port, serving

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

INTERVIEWS = 60
PLACES = 10
"""Of a node."""
MOST_NODES = 8
MIB = 2**20
HEAD = {"CPU": 2, "memory": 1024 * MIB, "object_store_memory": OBJECT_STORE_BYTES}
WORKER = {"CPU": 2, "memory": 2048 * MIB, "object_store_memory": OBJECT_STORE_BYTES, "interviews": PLACES}
SETTINGS = {
    "INTERVIEW_RESOURCE": "interviews",
    "INTERVIEW_WARM_ACTORS": "2",
    "INTERVIEW_FACE_ACTORS": "0",
    "INTERVIEW_IDLE_NODE_SECONDS": "5",
}


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A front end that joined a cluster of a head and one worker, which Ray's autoscaler makes larger and smaller."""
    folder = tmp_path_factory.mktemp("scaling")
    database = Embedded(folder / "database")
    database.start()
    settings: dict[str, Any] = {"MONGODB_URL": database.url, **SETTINGS}
    port = free_port()
    config = write_config(folder / "cluster.json", f"{LOOPBACK}:{port}", HEAD, WORKER, (1, MOST_NODES), idle=5)
    ray = RayCluster(
        folder / "ray",
        cpus=HEAD["CPU"],
        memory=HEAD["memory"],
        port=port,
        head_options=(f"--autoscaling-config={config}",),
        head_settings=ENVIRONMENT,
        **settings,
    )
    try:
        with serving(folder / "serve", None, **settings, **ray.environment) as service:
            yield service
    finally:
        ray.stop()
        database.stop()


@pytest.fixture
async def http(growing: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=growing.api, timeout=60) as http:
        yield http


async def nodes_of(http: httpx.AsyncClient) -> list[str]:
    """Ids of the live nodes, without the head."""
    cluster = checked(await http.get("/cluster"), 200)["cluster"]
    return [node["node"] for node in cluster["nodes"] if node["alive"] and not node["node"].endswith("00000")]


async def start(candidate: Candidate) -> float:
    """Start as a good client does, which tries again when it is told to. The time at which it had started."""
    while True:
        response = await candidate.request("POST", "/start", headers={"Idempotency-Key": "start"})
        if response.status_code != 503:
            checked(response, 200)
            return time.monotonic()
        await asyncio.sleep(float(response.headers["Retry-After"]))


async def test_a_cluster_grows_for_sixty_interviews_and_shrinks_again(
    http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    async def one_worker() -> bool:
        return len(await nodes_of(http)) == 1

    await until(one_worker, 60, "the first worker is there")
    candidates = [Candidate(http) for _ in range(INTERVIEWS)]
    for candidate in candidates:
        await candidate.create(2, text_question_timer=3600)
    most, watching = 1, asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not watching.is_set():
            most = max(most, len(await nodes_of(http)))
            await asyncio.sleep(1)

    watcher = asyncio.create_task(watch())
    began = time.monotonic()
    live_at = await asyncio.gather(*map(start, candidates))
    watching.set()
    await watcher
    for candidate in candidates:
        await candidate.answer(0, "an answer")
    homes: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        homes.setdefault((await candidate.session())["placement"]["node"], []).append(candidate)
    assert len(homes) >= INTERVIEWS / PLACES and all(len(held) <= PLACES for held in homes.values())

    kept = min(homes.values(), key=len)[:2]
    stay = {candidate.session_id for candidate in kept}
    ending = time.monotonic()
    for candidate in candidates:
        if candidate.session_id not in stay:
            await candidate.answer(1, "the last")
    await until(one_worker, 150, "the idle nodes are gone")
    shrunk = time.monotonic()
    for candidate in kept:
        await candidate.answer(1, "the last")
    slow = 0
    for candidate in candidates:
        session = await candidate.check_nothing_lost()
        activated = [event for event in await candidate.events() if event["type"] == "activated"]
        assert len(activated) == 1, activated
        causes = {line["cause"] for line in session["clock"]["ledger"]}
        assert causes <= {"storage_unavailable"}, "nobody lost it; only a busy machine may be slow with writing"
        slow += bool(causes)
        assert session["end_reason"] == "finished"
    say(
        capsys,
        f"{INTERVIEWS} interviews on a cluster with room for {PLACES}: all live after {max(live_at) - began:.0f} s on "
        f"{most} nodes (half after {sorted(live_at)[INTERVIEWS // 2] - began:.0f} s); 1 node "
        f"{shrunk - ending:.0f} s after all but {len(kept)} had ended; {slow} "
        "were credited time in which the machine was too busy to write",
    )
