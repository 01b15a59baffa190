"""What consoles cost: `python benchmarks/console.py [--consoles 20] [--live 300]`.

Starts a database and a front end of its own. Stores interviews in progress and lets each of them change about every
30 s, by writing snapshots as their actors would: they have no actors, since only what consoles cost is measured, and no
Ray, so that what the cluster says is made up. Reads the CPU time of the front end and of the database for a while
without consoles, and for as long with them. Exit code 1: they cost 10 % of a core or more.

With `--data-dir` it is measured at a running `serve` and what goes on there, Ray included.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from orchestrator.errors import Retryable  # noqa: E402
from orchestrator.interview.commands import Answer, Caller, Create, Question, Start  # noqa: E402
from orchestrator.interview.decide import created, decide  # noqa: E402
from orchestrator.interview.entry import new_entry  # noqa: E402
from orchestrator.interview.fold import fold  # noqa: E402
from orchestrator.interview.state import State, snapshot_of  # noqa: E402
from orchestrator.settings import Settings, get_settings  # noqa: E402
from orchestrator.storage.embedded import EmbeddedServer, die_with_parent  # noqa: E402
from orchestrator.storage.store import Store  # noqa: E402
from tests.servers import command_of, descendants  # noqa: E402

EVENTS = "/api/parallel_interview/console/events"
CHANGE_SECONDS = 30.0
LIMIT = 0.10
TICKS = 100
STAFF = Caller("bench", "staff")
CANDIDATE = Caller("candidate", "candidate")


def an_interview(number: int, now: int) -> State:
    """One that has just started."""
    questions = tuple(Question(f"Question {n} of some words, as they are?", "text", 7_200) for n in range(200))
    state = None
    create = Create(f"Given{number} Surname{number}", f"n{number}@example.com", questions)
    session_id = str(uuid.uuid4())
    state = fold(None, new_entry(session_id, 1, 0, now, created(create)))
    return fold(state, new_entry(session_id, state.next_seq, 0, now, decide(state, Start(), CANDIDATE, now)))


def answered(state: State, now: int) -> State:
    """The same interview, one answer later."""
    index = state.open.index if state.open is not None else 0
    events = decide(state, Answer(index, "An answer of some words. " * 12), CANDIDATE, now)
    return fold(state, new_entry(state.session_id, state.next_seq, 0, now, events))


class Interviews:
    """Interviews in progress that nobody holds, as a database shows them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._states: list[State] = []
        self.changes = 0

    async def begin(self, live: int) -> None:
        now = round(time.time() * 1000)
        for number in range(live):
            state = an_interview(number, now)
            await self._store.insert_snapshot(replace(snapshot_of(state), deadline=None, unseen_since=None))
            self._states.append(state)

    async def go_on(self) -> None:
        """Each changes about every 30 s, for ever."""
        pause = CHANGE_SECONDS / len(self._states)
        while True:
            began = time.monotonic()
            number = random.randrange(len(self._states))
            state = self._states[number] = answered(self._states[number], round(time.time() * 1000))
            # Without a deadline no sweep looks for who holds them.
            with contextlib.suppress(Retryable):  # on a busy machine; they go on
                await self._store.save_snapshot(replace(snapshot_of(state), deadline=None, unseen_since=None))
                self.changes += 1
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@asynccontextmanager
async def consoles(url: str, number: int, headers: dict[str, str] | None = None) -> AsyncIterator[list[int]]:
    """Consoles that take in what they are told, once each was told everything. Yields the messages of each."""
    counts = [0] * number
    async with httpx.AsyncClient(base_url=url, timeout=60, headers=headers) as http:

        async def watch(index: int) -> None:
            async with http.stream("GET", EVENTS) as answer:
                answer.raise_for_status()
                async for piece in answer.aiter_raw():
                    counts[index] += piece.count(b"\ndata: ")

        tasks = [asyncio.create_task(watch(index)) for index in range(number)]
        try:
            async with asyncio.timeout(60):
                while min(counts) < 2:  # hello, and everything
                    for task in tasks:
                        if task.done():
                            task.result()
                    await asyncio.sleep(0.05)
            yield counts
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)


async def used(pids: list[int], seconds: float) -> list[float]:
    """The share of a core that each process uses for a while."""
    before, began = [cpu_seconds(pid) for pid in pids], time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    return [(cpu_seconds(pid) - was) / took for pid, was in zip(pids, before, strict=True)]


@contextmanager
def front_end(url: str, log: Path) -> Iterator[tuple[str, int]]:
    """A front end in a process of its own, on this database and without Ray: its URL and pid."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    os.set_inheritable(listener.fileno(), True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("INTERVIEW_", "LIVEKIT_"))}
    environment = inherited | {"MONGODB_URL": url, "INTERVIEW_SOCKET_FD": str(listener.fileno())}
    with log.open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, __file__, "--front-end"],
            cwd=log.parent,
            env=environment,
            pass_fds=(listener.fileno(),),
            stdout=said,
            stderr=said,
            preexec_fn=die_with_parent,
        )
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    try:
        yield address, process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def serve_without_ray() -> None:
    from actors.client import InterviewClient
    from api import __main__, app

    class Alone(InterviewClient):
        async def cluster(self) -> dict[str, Any]:
            """As with 300 actors on four nodes, and something new each time."""
            self.asked = getattr(self, "asked", 0) + 1
            figures = {"live_actors": 300, "warm_actors": self.asked % 5, "starting_actors": 0, "capacity": 400}
            node = {"address": "10.0.0.1", "alive": True, "cpu": 16.0, "memory_bytes": 2.0**36, "draining": False}
            nodes = [{"node": f"{number:056x}", **node, "live_on_draining": None} for number in range(4)]
            return {**figures, "sessions_held": 300, "parked": [], "nodes": nodes}

    async def connect(settings: Settings) -> InterviewClient:
        return Alone(settings, await Store.open(str(settings.mongodb_url), settings.mongodb_database))

    app._connect = connect
    get_settings()
    __main__.main()


@asynccontextmanager
async def going_on(folder: Path, live: int) -> AsyncIterator[tuple[str, list[int], Interviews]]:
    """Interviews that go on, at a front end of their own: its URL, its pid and its database's, and they themselves."""
    database = EmbeddedServer(folder / "data")
    database.start()
    assert database.pid is not None
    try:
        store = await Store.open(database.url, "parallel_interview")
        interviews = Interviews(store)
        await interviews.begin(live)
        with front_end(database.url, folder / "front_end.log") as (url, pid):
            going = asyncio.create_task(interviews.go_on())
            yield url, [pid, database.pid], interviews
            going.cancel()
        await store.close()
    finally:
        database.stop()


async def compare(url: str, pids: list[int], number: int, seconds: float) -> bool:
    async with consoles(url, 1):
        pass  # it is up, and has imported what it needs
    await asyncio.sleep(3)
    without = await used(pids, seconds)
    async with consoles(url, number) as counts:
        await asyncio.sleep(3)
        before = sum(counts)
        with_them = await used(pids, seconds)
        told = (sum(counts) - before) / number
    print(f"each of {number} consoles got {told:.0f} messages in {seconds:.0f} s\n")
    print("| share of a core | without | with | difference |\n|---|---|---|---|")
    for name, less, more in zip(("front end", "database"), without, with_them, strict=True):
        print(f"| {name} | {less:.1%} | {more:.1%} | {more - less:.1%} |")
    cost = sum(with_them) - sum(without)
    print(f"\n{number} consoles cost {cost:.1%} of a core (the limit: {LIMIT:.0%}).")
    return cost < LIMIT


async def run(given: argparse.Namespace) -> bool:
    if given.data_dir is None:
        with tempfile.TemporaryDirectory() as folder:
            async with going_on(Path(folder), given.live) as (url, pids, interviews):
                ok = await compare(url, pids, given.consoles, given.seconds)
                print(f"{given.live} interviews in progress; {interviews.changes} changes in all")
                return ok
    note: dict[str, Any] = json.loads((given.data_dir / "serve.json").read_text())
    commands = {pid: command_of(pid) for pid in descendants(note["pid"])}
    api = next(pid for pid, command in commands.items() if command.endswith("-m api"))
    database = next(pid for pid, command in commands.items() if "nx-27017" in command or "nx_27017" in command)
    return await compare(note["url"], [api, database], given.consoles, given.seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--consoles", type=int, default=20)
    parser.add_argument("--live", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--front-end", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.front_end:
        serve_without_ray()
        return 0
    return 0 if asyncio.run(run(given)) else 1


if __name__ == "__main__":
    sys.exit(main())
