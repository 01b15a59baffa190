"""A driver in the service's Ray cluster, as a process of its own: `python -m tests.chaos.driver`.

It reads one JSON list a line, `[command, argument, ...]`, and answers with one JSON value a line:

    ["take", session, since_ms]      start an actor behind the Registry's back and have it take the session
    ["start", session]               the same with a session that has not started
    ["release", session, reason]     have the Registry hand a session over; null, or the error's code
    ["status"]                       the Registry's status, null while it is away
    ["metrics"]                      what the nodes show to Prometheus
    ["bare", n, at_once]             seconds to start n bare actors, so many at a time
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from typing import Any

import httpx

from orchestrator.storage.embedded import die_with_parent
from tests.servers import ROOT


class Driver:
    """The process, as tests use it."""

    def __init__(self, environment: dict[str, str]) -> None:
        ray = {name: value for name, value in environment.items() if name.startswith("RAY_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.driver"],
            cwd=ROOT,
            env=os.environ | ray,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        self.ask("status")

    def ask(self, *command: Any) -> Any:
        """Do something and wait for what comes of it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the driver has ended"
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Bare:
    """The least that an async Ray actor can be."""

    async def ping(self) -> None:
        pass


async def _start(session_id: str) -> str:
    from orchestrator.interview.commands import Caller, Start
    from orchestrator.session import Request

    now = time.time_ns() // 1_000_000
    return await _take(session_id, now, Request(Start(), Caller("driver", "staff"), now))


async def _take(session_id: str, since: int, request: Any = None) -> str:
    from actors import cluster
    from actors.interview import Activation

    name = f"InterviewActor-{os.urandom(4).hex()}"
    actor = cluster.start_interview_actor(name, 0.005, 64 * 2**20)
    activation = Activation(session_id, None, "hung", request, silent_since=since)
    _keep.append(asyncio.ensure_future(cluster.call(actor, "run", activation, timeout=None)))
    await cluster.call(actor, "activated", session_id, timeout=30)
    return name


async def _release(session_id: str, reason: str) -> str | None:
    from actors import cluster
    from orchestrator.errors import OrchestratorError

    try:
        await cluster.call(await cluster.ensure_registry(), "release", session_id, reason, timeout=90)
    except OrchestratorError as error:
        return error.code
    return None


async def _status() -> Any:
    from actors import cluster

    try:
        return await cluster.call(await cluster.ensure_registry(), "status", timeout=10)
    except (cluster.ActorGone, cluster.ActorSilent):
        return None


async def _metrics() -> str:
    import ray

    ports = [node["MetricsExportPort"] for node in ray.nodes() if node["Alive"]]
    async with httpx.AsyncClient() as http:
        return "".join([(await http.get(f"http://127.0.0.1:{port}/metrics")).text for port in ports])


async def _bare(count: int, at_once: int) -> float:
    import ray

    from actors import cluster

    actor_class: Any = ray.remote(Bare)
    slots = asyncio.Semaphore(at_once)

    async def start() -> Any:
        async with slots:
            actor = actor_class.options(num_cpus=0.005, memory=64 * 2**20).remote()
            await cluster.call(actor, "ping", timeout=120)
            return actor

    began = time.monotonic()
    actors = await asyncio.gather(*(start() for _ in range(count)))
    took = time.monotonic() - began
    for actor in actors:
        cluster.kill(actor)
    return took


COMMANDS = {"take": _take, "start": _start, "release": _release, "status": _status, "metrics": _metrics, "bare": _bare}
_keep: list[Any] = []


async def _main() -> None:
    from actors import cluster

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray itself prints is no answer
    cluster.connect(os.environ["RAY_ADDRESS"], "parallel-interview")
    while line := await asyncio.to_thread(sys.stdin.readline):
        command, *arguments = json.loads(line)
        print(json.dumps(await COMMANDS[command](*arguments)), file=answers, flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
