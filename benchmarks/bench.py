"""Benchmark by hand against a running service: `python benchmarks/bench.py --data-dir ./data [--check]`.

Every figure that is held against another is measured in the same run, in turns, on the same database and the
same Ray, so that a busy machine slows both sides. Medians, because one pause of the machine must not decide.

    create     POST /create                     / one motor write behind a bare FastAPI route        <= 2.0
    answer     a durable answer, in process     / two bare async Ray actor calls + one motor write   <= 1.4
    start      start into a warm actor          / a durable answer, both in process                  <= 2.5
    memory     private memory, live interview   / a bare async Ray actor                             <= 1.10
    live       --live N interviews at once, an answer every 10 s over HTTP: p99                      <= 250 ms

"In process" is `InterviewClient.send`: HTTP is in neither side of that ratio; its figure is printed too.
The service's addresses come from `serve.json` in its data folder. Sessions made here are deleted at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import re
import socket
import statistics
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

API = "/api/parallel_interview"
QUESTIONS = 20
ANSWER = "A sentence of a usual answer, as a candidate would type it. " * 5
WARM_SECONDS = 60.0
SETTLE_SECONDS = 0.4
STIR_ANSWERS = 3
LIVE_EVERY_SECONDS = 10.0
LIVE_SETTLE_SECONDS = 5.0
NEVER_SECONDS = 7200


@dataclass(frozen=True)
class Options:
    url: str
    data_dir: Path
    blocks: int
    live: int
    seconds: float
    check: bool
    api_key: str | None


@dataclass(frozen=True)
class Line:
    """A row of the table; `limit` None: for information only."""

    figure: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def over(self) -> bool:
        return self.limit is not None and not self.value <= self.limit

    def markdown(self) -> str:
        limit = "" if self.limit is None else f"{self.limit:g}{self.unit}"
        verdict = "" if self.limit is None else ("**over**" if self.over else "ok")
        digits = 0 if self.unit == "" and self.value == int(self.value) else 2
        return f"| {self.figure} | {self.value:.{digits}f}{self.unit} | {limit} | {verdict} |"


@dataclass
class Samples:
    """Measured values by name: milliseconds, except memory in MB."""

    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def median(self, name: str) -> float:
        return statistics.median(self.values[name]) if self.values[name] else math.nan

    async def timed(self, name: str, call: Callable[[], Awaitable[Any]], keep: bool = True) -> Any:
        began = time.perf_counter()
        result = await call()
        if keep:
            self.values[name].append((time.perf_counter() - began) * 1000)
        return result


def point_at_service(data_dir: Path) -> dict[str, Any]:
    """Read serve.json and set the environment as serve does for its children. Before ray is imported."""
    path = data_dir / "serve.json"
    try:
        serve = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"Cannot read {path}: {error}. Is `parallel-interview serve` running there?") from error
    os.environ.update(serve["environment"])
    os.environ["INTERVIEW_DATA_DIR"] = str(data_dir)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return serve


def private_mb(pid: int) -> float:
    """Private memory of a process in MB (10^6 bytes), from smaps_rollup."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE)) * 1024 / 1e6


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan


def create_body(number: int = 0, questions: int = QUESTIONS) -> dict[str, Any]:
    return {
        "name": f"Bench {number}",
        "email": f"bench.{number}@example.com",
        "questions": [f"Question {n + 1}: how would you do it?" for n in range(questions)],
        "text_question_timer": NEVER_SECONDS,
        "metadata": {"source": "bench"},
    }


@contextlib.asynccontextmanager
async def bare_app(database: str) -> AsyncIterator[httpx.AsyncClient]:
    """The yardstick app in a process of its own, with the same uvicorn as the service's front ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"MONGODB_DATABASE": database}
    command = [sys.executable, str(Path(__file__).with_name("bare_app.py")), str(port)]
    process = await asyncio.create_subprocess_exec(*command, env=env)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            for _ in range(150):
                with contextlib.suppress(httpx.TransportError):
                    await http.get("/docs")
                    break
                await asyncio.sleep(0.1)
            yield http
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 10)


class Bench:
    """One run. `client` is an InterviewClient in this process; `http` talks to the service's front ends."""

    def __init__(self, options: Options, client: Any, http: httpx.AsyncClient, bare: httpx.AsyncClient) -> None:
        from motor.motor_asyncio import AsyncIOMotorClient
        from pymongo import WriteConcern

        from orchestrator.settings import get_settings

        self._options = options
        self._client = client
        self._http = http
        self._bare = bare
        self._samples = Samples()
        self._sessions: list[str] = []
        self._motor = AsyncIOMotorClient(os.environ["MONGODB_URL"], retryWrites=False)
        self._database = self._motor[get_settings().mongodb_database]
        concern = WriteConcern(w="majority", j=True)
        self._writes = self._database.get_collection("bench_writes", write_concern=concern)
        self._warm_target = 1
        self._echoes: list[Any] = []
        self._companion: str | None = None
        self._stirred = 0

    async def run(self) -> list[Line]:
        self._warm_target = max(1, (await self._client.cluster())["warm_actors"])
        self._echoes = [self._echo_actor() for _ in range(2)]
        for echo in self._echoes:
            await echo.echo.remote("x")
        try:
            await self._block(keep=False)
            self._companion = await self._start_companion()
            for number in range(self._options.blocks):
                await self._block(memory=number % 5 == 0)
                print(f"\rblock {number + 1}/{self._options.blocks}", end="", file=sys.stderr, flush=True)
            print(file=sys.stderr)
            for echo in self._echoes:
                self._kill(echo)
            lines = self._lines()
            if self._options.live:
                lines += await self._live()
            return lines
        finally:
            await self._clean_up()

    # -- the interleaved part

    async def _block(self, keep: bool = True, memory: bool = False) -> None:
        """One session's life: create, a warm start, answers in turns with their yardsticks, end."""
        from orchestrator.interview.commands import Answer, Caller, End, Start

        caller = Caller("bench", "staff")
        timed = self._samples.timed
        session_id = await self._create(keep)

        async def send(command: Any, session_id: str = session_id) -> Any:
            return await self._client.send(session_id, command, caller, uuid.uuid4().hex)

        await self._wait_warm()
        if self._companion is not None:
            # Answers are timed in a busy loop, so a start must not be the first call after a pause.
            for index in range(STIR_ANSWERS):
                await send(Answer(self._stirred + index, ANSWER), self._companion)
            self._stirred += STIR_ANSWERS
        await timed("start", lambda: send(Start()), keep)
        await self._wait_warm()
        for index in range(QUESTIONS - 1):
            if index % 2:
                answer = Answer(index, ANSWER)
                turns = [("answer", lambda answer=answer: send(answer)), *self._yardsticks()]
            else:
                turns = [("answer http", lambda index=index: self._answer_http(session_id, index))]
                turns += [("write http", self._write_http), ("create", self._create_http)]
            random.shuffle(turns)
            for name, call in turns:
                await timed(name, call, keep)
        if memory:
            await self._memory(session_id)
        await send(End())

    async def _start_companion(self) -> str:
        """A second live interview, whose answers are not timed."""
        from orchestrator.interview.commands import Caller, Start

        body = create_body(questions=(self._options.blocks + 1) * STIR_ANSWERS)
        response = await self._http.post(f"{API}/create", json=body)
        response.raise_for_status()
        session_id = response.json()["session_id"]
        self._sessions.append(session_id)
        await self._client.send(session_id, Start(), Caller("bench", "staff"))
        return session_id

    def _yardsticks(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        first, second = self._echoes
        document = {
            "session_id": uuid.uuid4().hex,
            "seq": 1,
            "epoch": 1,
            "at": 0,
            "body": ANSWER,
            "mac": "0" * 64,
        }

        async def two_calls() -> None:
            await first.echo.remote(ANSWER)
            await second.echo.remote(ANSWER)

        async def write() -> None:
            await self._writes.insert_one({"_id": uuid.uuid4().hex, **document})

        async def call() -> None:
            await first.echo.remote(ANSWER)

        return [("call", call), ("two calls", two_calls), ("write", write)]

    async def _create_http(self) -> str:
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        response = await self._http.post(f"{API}/create", json=create_body(), headers=headers)
        response.raise_for_status()
        session_id = response.json()["session_id"]
        self._sessions.append(session_id)
        return session_id

    async def _write_http(self) -> None:
        (await self._bare.post("/write", json=create_body())).raise_for_status()

    async def _create(self, keep: bool) -> str:
        return await self._samples.timed("create", self._create_http, keep)

    async def _answer_http(self, session_id: str, index: int) -> None:
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        body = {"question_index": index, "answer": ANSWER}
        response = await self._http.post(f"{API}/session/{session_id}/answer", json=body, headers=headers)
        response.raise_for_status()

    async def _wait_warm(self) -> None:
        """Until the pool is full again, so that no actor is starting on the same cores; bounded."""
        give_up = time.monotonic() + WARM_SECONDS
        while time.monotonic() < give_up:
            if (await self._client.cluster())["warm_actors"] >= self._warm_target:
                await asyncio.sleep(SETTLE_SECONDS)
                return
            await asyncio.sleep(0.1)
        raise SystemExit(f"The warm pool was not full again within {WARM_SECONDS:.0f} s.")

    # -- bare actors and memory

    def _echo_actor(self) -> Any:
        """A bare async actor, made the way Ray's documentation makes one."""
        import ray

        class Echo:
            async def echo(self, value: str) -> str:
                return value

            async def pid(self) -> int:
                return os.getpid()

        return ray.remote(num_cpus=0.01)(Echo).remote()

    def _kill(self, actor: Any) -> None:
        import ray

        ray.kill(actor)

    async def _memory(self, session_id: str) -> None:
        """A live interview's process and a fresh bare actor's, after about as many calls."""
        response = await self._http.get(f"{API}/session/{session_id}")
        response.raise_for_status()
        name = response.json()["session"]["placement"]["actor"]
        pid = await asyncio.to_thread(actor_pid, name)
        if pid is None:
            return
        bare = self._echo_actor()
        bare_pid = await bare.pid.remote()
        for _ in range(QUESTIONS):
            await bare.echo.remote(ANSWER)
        self._samples.values["memory"].append(private_mb(pid))
        self._samples.values["bare memory"].append(private_mb(bare_pid))
        self._kill(bare)

    # -- many at once

    async def _live(self) -> list[Line]:
        """N interviews live at once, each answering every 10 s, started evenly over those 10 s."""
        count, seconds = self._options.live, self._options.seconds
        questions = int(seconds / LIVE_EVERY_SECONDS) + 3
        starts = asyncio.Semaphore(4)
        latencies: list[float] = []
        errors: list[str] = []

        async def begin(number: int) -> str | None:
            async with starts:
                response = await self._http.post(f"{API}/create", json=create_body(number, questions))
                if not response.is_success:
                    return None
                session_id = response.json()["session_id"]
                self._sessions.append(session_id)
                for _ in range(40):
                    response = await self._http.post(f"{API}/session/{session_id}/start")
                    if response.status_code != 503:
                        break
                    await asyncio.sleep(min(float(response.headers.get("Retry-After", 1)), 3))
                return session_id if response.is_success else None

        async def live(number: int, session_id: str, began: float) -> None:
            index = 0
            due = began + LIVE_EVERY_SECONDS * number / count
            while due < began + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                sent = time.perf_counter()
                try:
                    await self._answer_http(session_id, index)
                    latencies.append((time.perf_counter() - sent) * 1000)
                except httpx.HTTPError as error:
                    errors.append(str(error).splitlines()[0])
                index += 1
                due += LIVE_EVERY_SECONDS

        clock = time.perf_counter()
        started = [made for made in await asyncio.gather(*map(begin, range(count))) if made]
        start_seconds = time.perf_counter() - clock
        await self._wait_warm_or_go_on()
        began = time.perf_counter()
        await asyncio.gather(*(live(n, session_id, began) for n, session_id in enumerate(started)))
        for message in sorted(set(errors))[:5]:
            print(f"error: {message}", file=sys.stderr)
        return [
            Line(f"live: {count} wanted, not started", count - len(started), "", 0),
            Line(f"live: seconds to start {len(started)}", start_seconds, " s"),
            Line(f"live: errors in {len(latencies) + len(errors)} answers", len(errors), "", 0),
            Line("live: answer over HTTP, p50", percentile(latencies, 0.5), " ms"),
            Line("live: answer over HTTP, p99", percentile(latencies, 0.99), " ms", 250),
        ]

    async def _wait_warm_or_go_on(self) -> None:
        """A full cluster has no room for a warm pool: that is no reason not to measure it."""
        with contextlib.suppress(SystemExit):
            await self._wait_warm()
        await asyncio.sleep(LIVE_SETTLE_SECONDS)

    # -- results

    def _lines(self) -> list[Line]:
        median = self._samples.median
        floor = median("two calls") + median("write")
        return [
            Line("one motor write behind a bare FastAPI route", median("write http"), " ms"),
            Line("create over HTTP", median("create"), " ms"),
            Line("create / bare route", median("create") / median("write http"), "", 2.0),
            Line("bare async Ray actor call", median("call"), " ms"),
            Line("two of them, one after the other", median("two calls"), " ms"),
            Line("bare motor write", median("write"), " ms"),
            Line("two calls + write", floor, " ms"),
            Line("durable answer, in process", median("answer"), " ms"),
            Line("durable answer over HTTP", median("answer http"), " ms"),
            Line("durable answer / (two calls + write)", median("answer") / floor, "", 1.4),
            Line("start into a warm actor, in process", median("start"), " ms"),
            Line("start / durable answer", median("start") / median("answer"), "", 2.5),
            Line("private memory, bare async Ray actor", median("bare memory"), " MB"),
            Line("private memory, live interview", median("memory"), " MB"),
            Line("interview / bare actor", median("memory") / median("bare memory"), "", 1.10),
        ]

    async def _clean_up(self) -> None:
        gate = asyncio.Semaphore(8)

        async def delete(session_id: str) -> None:
            async with gate:
                with contextlib.suppress(httpx.HTTPError):
                    await self._http.delete(f"{API}/session/{session_id}")

        await asyncio.gather(*map(delete, self._sessions))
        await self._database.drop_collection("bench_writes")
        self._motor.close()


def actor_pid(name: str) -> int | None:
    """The pid of a live actor on this machine: from Ray's state API, else from the process titles."""
    from ray.util.state import list_actors

    with contextlib.suppress(Exception):
        actors: list[Any] = list_actors(filters=[("name", "=", name), ("state", "=", "ALIVE")])
        for actor in actors:
            if Path(f"/proc/{actor.pid}").exists():
                return int(actor.pid)
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and name.encode() in (process / "cmdline").read_bytes():
                return int(process.name)
    print(f"no process found for actor {name}", file=sys.stderr)
    return None


async def measure(options: Options) -> list[Line]:
    from actors.client import InterviewClient
    from orchestrator.settings import get_settings

    settings = get_settings()
    client = await InterviewClient.connect(settings)
    headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else {}
    limits = httpx.Limits(max_connections=200)
    try:
        async with (
            httpx.AsyncClient(base_url=options.url, headers=headers, timeout=30, limits=limits) as http,
            bare_app(settings.mongodb_database) as bare,
        ):
            return await Bench(options, client, http, bare).run()
    finally:
        await client.close()


def parse() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=None, help="base URL; default: from serve.json")
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("INTERVIEW_DATA_DIR", "./data")))
    parser.add_argument("--blocks", type=int, default=20, help="sessions measured; 9 answers of each kind in each")
    parser.add_argument("--live", type=int, default=0, metavar="N", help="also N interviews live at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long those answer every 10 s")
    parser.add_argument("--check", action="store_true", help="exit 1 when a figure is over its limit")
    parser.add_argument("--api-key", default=os.environ.get("INTERVIEW_API_KEY"))
    given = parser.parse_args()
    data_dir = given.data_dir.resolve()
    serve = point_at_service(data_dir)
    url = (given.url or serve["url"]).rstrip("/")
    return Options(url, data_dir, given.blocks, given.live, given.seconds, given.check, given.api_key)


def main() -> int:
    options = parse()
    lines = asyncio.run(measure(options))
    print("| figure | measured | limit | verdict |\n|---|---|---|---|")
    for line in lines:
        print(line.markdown())
    return 1 if options.check and any(line.over for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
