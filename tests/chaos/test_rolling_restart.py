"""Front ends are replaced under a load: nothing is lost, and live channels come back by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from orchestrator.storage.embedded import die_with_parent, free_port
from parallel_interview_client import AsyncChannel
from tests.chaos.audit import audit
from tests.chaos.conftest import say, until
from tests.chaos.load import Load
from tests.chaos.processes import front_ends
from tests.servers import ROOT, Serve, cannot_run, wait_for_port

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

CANDIDATES = 6
WATCHED = 4
STOP_DELAY = {"INTERVIEW_STOP_DELAY_SECONDS": "1.5"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A service with two front end processes on one socket."""
    service = Serve(tmp_path_factory.mktemp("rolling"), INTERVIEW_WARM_ACTORS="3")
    try:
        service.start("--workers", "2")
        yield service
    finally:
        service.stop()


@pytest.fixture
def joined(cluster: Serve, tmp_path: Path) -> Iterator[tuple[Serve, Serve]]:
    """Two more services, which join its cluster and have nothing but front ends, as on machines of their own."""
    environment = cluster.note["environment"] | STOP_DELAY
    address = environment.pop("RAY_ADDRESS")
    one, two = (Serve(tmp_path / name, **environment) for name in ("one", "two"))
    try:
        for service in (one, two):
            service.start("--join", address)
        yield one, two
    finally:
        for service in (one, two):
            service.stop()


@contextlib.contextmanager
def balanced(one: Serve, two: Serve) -> Iterator[str]:
    """deploy/haproxy.cfg before two services; its address."""
    haproxy = shutil.which("haproxy") or ("/usr/sbin/haproxy" if Path("/usr/sbin/haproxy").exists() else None)
    if haproxy is None:
        cannot_run("haproxy is not installed", "apt-get")
    port = free_port()
    settings = {
        "LISTEN": f"127.0.0.1:{port}",
        **{f"FRONT_END_{n}": f"127.0.0.1:{s.port}" for n, s in ((1, one), (2, two))},
    }
    command = [haproxy, "-db", "-f", str(ROOT / "deploy/haproxy.cfg")]
    process = subprocess.Popen(command, env=os.environ | settings, preexec_fn=die_with_parent)
    try:
        wait_for_port(port, 10)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class Watcher:
    """Follows one session's live channel from its first event."""

    def __init__(self, url: str, session_id: str) -> None:
        self._url, self._session_id = url, session_id
        self.seen: list[tuple[int, str]] = []

    async def run(self) -> None:
        self.seen = await self._read(after=0)

    async def again(self) -> list[tuple[int, str]]:
        """What somebody sees who was never interrupted."""
        return await self._read(after=0)

    async def _read(self, after: int) -> list[tuple[int, str]]:
        seen: list[tuple[int, str]] = []
        async with AsyncChannel(self._url, self._session_id, role="observer", after=after) as channel:
            async for frame in channel:
                if "seq" in frame:
                    seen.append((frame["seq"], frame["type"]))
                if frame["type"] == "completed":
                    break  # reports and the like may follow
        return seen


@contextlib.asynccontextmanager
async def loaded(url: str) -> AsyncIterator[tuple[Load, list[Watcher]]]:
    """A load that is under way, and channels that follow some of it; audited at the end."""
    timeout = httpx.Timeout(25.0, connect=5.0)
    async with httpx.AsyncClient(base_url=f"{url}/api/parallel_interview", timeout=timeout) as http:
        load = Load(http, CANDIDATES, seed=9, pace_seconds=0.3)
        loading = asyncio.create_task(load.run())
        watching: list[asyncio.Task[None]] = []
        try:
            await until(lambda: len(load.live) >= WATCHED, 60, "interviews under way")
            watchers = [Watcher(url, told.session_id) for told in load.live[:WATCHED]]
            watching = [asyncio.create_task(watcher.run()) for watcher in watchers]
            await asyncio.sleep(1)
            yield load, watchers
            load.stop()
            await loading
        finally:
            loading.cancel()
        findings = await audit(http, load)
        assert findings.checked > 0 and not findings.failed, findings
        for told in load.record.interviews:  # those that were left as they are
            await http.post(f"/session/{told.session_id}/end")
        await asyncio.wait_for(asyncio.gather(*watching), 60)
    for watcher in watchers:
        assert watcher.seen == await watcher.again() and watcher.seen[-1][1] == "completed"


async def test_serve_replaces_its_front_ends(cluster: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(front_ends(cluster))
    assert len(before) == 2
    async with loaded(cluster.url) as (load, _):
        at = time.monotonic()
        cluster.process.send_signal(signal.SIGUSR1)  # type: ignore[union-attr]
        await until(lambda: "that was the last" in cluster.log, 120, "every front end is replaced")
        took = time.monotonic() - at
        await until(lambda: not before & set(front_ends(cluster)), 30, "the old ones are gone")
        await asyncio.sleep(1)
    assert len(front_ends(cluster)) == 2
    say(capsys, f"two front ends on one socket replaced in {took:.1f} s under a load; {load.record.outcome(at)}")


async def test_front_ends_that_joined_are_restarted_one_after_another(
    cluster: Serve, joined: tuple[Serve, Serve], capsys: pytest.CaptureFixture[str]
) -> None:
    with balanced(*joined) as url:
        async with loaded(url) as (load, _):
            at = time.monotonic()
            for service in joined:
                service.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
                assert await asyncio.to_thread(service.process.wait, 30) == 0  # type: ignore[union-attr]
                await asyncio.to_thread(service.start, "--join", cluster.note["environment"]["RAY_ADDRESS"])
                await asyncio.sleep(1)  # the load balancer looks twice a second
            took = time.monotonic() - at
            await asyncio.sleep(1)
    say(capsys, f"two services behind a load balancer restarted in {took:.1f} s; {load.record.outcome(at)}")
