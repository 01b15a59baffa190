"""What test_partition.py runs within the first of its two hosts; OTHER_HOST is the second one's namespace."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.storage.embedded import die_with_parent, free_port
from tests.chaos.conftest import until
from tests.chaos.nodes import RayCluster
from tests.chaos.test_nodes import HEAD_MB, live_on, node_of
from tests.servers import serving, wait_for_port

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

HERE, THERE = "10.77.0.1", "10.77.0.2"
OTHER_HOST = os.environ.get("OTHER_HOST", "")
CUT_SECONDS = 15.0


def cable(state: str) -> None:
    subprocess.run(["ip", "-n", OTHER_HOST, "link", "set", "cable", state], check=True)


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """nx-27017 where both hosts reach it."""
    port = free_port()
    nx = str(Path(sys.executable).parent / "nx-27017")
    command = [nx, "--data-dir", str(folder), "--host", "0.0.0.0", "--port", str(port)]
    command += ["--pid-file", str(folder.with_suffix(".pid"))]  # else one in /tmp, and an old one there ends it
    process = subprocess.Popen(command, preexec_fn=die_with_parent, stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port, 15)
        yield f"mongodb://{HERE}:{port}/?directConnection=true"
    finally:
        process.kill()
        process.wait()


async def test_a_node_that_is_cut_off(tmp_path: Path) -> None:
    with database(tmp_path / "database") as url:
        settings: dict[str, Any] = {"MONGODB_URL": url, "INTERVIEW_WARM_ACTORS": "2"}
        ray = RayCluster(tmp_path / "ray", 1, HEAD_MB * 2**20, address=HERE, **settings)
        try:
            with serving(tmp_path / "serve", None, **settings, **ray.environment) as service:
                async with httpx.AsyncClient(base_url=service.api, timeout=30) as http:
                    await _cut_and_mend(ray, http)
        finally:
            ray.stop()


async def _cut_and_mend(ray: RayCluster, http: httpx.AsyncClient) -> None:
    memory = (256 + 64 * 8) * 2**20
    lost = ray.add_node(2, memory, THERE, ("ip", "netns", "exec", OTHER_HOST))
    candidates = await live_on(http, lost, 3)
    kept = ray.add_node(2, memory, HERE)
    stop = asyncio.Event()
    answering = [asyncio.create_task(c.answer_until(stop, 0.3)) for c in candidates]
    await asyncio.sleep(2)
    cable("down")
    cut_at = time.monotonic()

    def all_go_on() -> bool:
        return all(c.answered_at > cut_at + 1 for c in candidates)

    await until(all_go_on, 60, "the interviews go on elsewhere")
    await asyncio.sleep(max(0.0, cut_at + CUT_SECONDS - time.monotonic()))
    assert lost.pids(), "its processes have lived on, cut off"
    cable("up")
    await asyncio.sleep(5)
    stop.set()
    await asyncio.gather(*answering)
    for candidate in candidates:
        assert await node_of(candidate) == kept.node_id
        events = await candidate.events()
        epochs = [event["epoch"] for event in events]
        assert epochs == sorted(epochs) and epochs[-1] >= 2, "who was cut off has written nothing since"
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        session = await candidate.check_nothing_lost()
        assert session["clock"]["credited_seconds"] > 1
        await candidate.post("end")
