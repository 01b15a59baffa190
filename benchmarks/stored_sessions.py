"""Lists, figures and exports with many stored sessions: `python benchmarks/stored_sessions.py --data-dir ./data`.

Against a running service with an empty database of its own (where it is, serve.json says). Stores 1,000 completed
sessions, measures, stores up to `--sessions`, and measures again. Exit code 1: the first page of the list, or stats,
takes more than twice as long at the end (p99). What it stores stays there: use a data folder to be thrown away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.channels import percentile, resident_mb  # noqa: E402
from orchestrator.interview.commands import SYSTEM, Answer, Caller, End, Start  # noqa: E402
from orchestrator.interview.decide import decide  # noqa: E402
from orchestrator.interview.entry import new_entry  # noqa: E402
from orchestrator.interview.fold import fold  # noqa: E402
from orchestrator.interview.state import State, snapshot_of  # noqa: E402
from orchestrator.storage.documents import snapshot_document  # noqa: E402
from orchestrator.storage.store import Store  # noqa: E402
from tests.servers import command_of, descendants  # noqa: E402
from tests.unit.world import T0, first_entry  # noqa: E402

API = "/api/parallel_interview"
FEW = 1_000
BATCH = 500
ROUNDS, FEW_ROUNDS = 200, 5
CALLS = {
    "first page": f"{API}/sessions?limit=50",
    "first page of the completed": f"{API}/sessions?limit=50&status=completed",
    "a candidate by email": f"{API}/sessions?email=n500@example.com",
    "stats": f"{API}/stats",
}
LIMITED = ("first page", "stats")


def an_interview() -> State:
    """One that has run, with three answers."""
    state = fold(None, first_entry(questions=3))
    candidate = Caller("candidate", "candidate")
    for at, (command, caller) in enumerate(
        [
            (Start(), candidate),
            *((Answer(n, "An answer of some words. " * 12), candidate) for n in range(2)),
            (End(), SYSTEM),
        ]
    ):
        now = T0 + 1_000 * at
        state = fold(state, new_entry("s1", state.next_seq, 0, now, decide(state, command, caller, now)))
    return state


async def fill(store: Store, start: int, end: int) -> None:
    """Store snapshots alone: reading a session needs no more."""
    state = an_interview()
    for first in range(start, end, BATCH):
        documents = []
        for number in range(first, min(first + BATCH, end)):
            who = replace(state.candidate, name=f"Given{number} Surname{number}", email=f"n{number}@example.com")
            one = replace(state, session_id=str(uuid.uuid4()), candidate=who, created_at=T0 + number)
            documents.append(snapshot_document(replace(snapshot_of(one), report=None)))
        await store._db.snapshots.insert_many(documents, ordered=False)
        print(f"\rstored {min(first + BATCH, end)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


async def measure(http: httpx.AsyncClient) -> dict[str, tuple[float, float]]:
    """(p50, p99) in ms of each call; infinite if it was not answered."""
    found: dict[str, tuple[float, float]] = {}
    for name, path in CALLS.items():
        times: list[float] = []
        for _ in range(ROUNDS if name in LIMITED else FEW_ROUNDS):
            began = time.perf_counter()
            answered = (await http.get(path)).is_success
            times.append((time.perf_counter() - began) * 1000 if answered else math.inf)
        found[name] = (percentile(times, 0.5), percentile(times, 0.99))
        print(f"{name}: p50 {found[name][0]:.1f} ms, p99 {found[name][1]:.1f} ms", file=sys.stderr, flush=True)
    return found


async def export(http: httpx.AsyncClient, pid: int, format: str) -> tuple[int, float, float]:
    """(lines, seconds, MB that the front end grew by at most)."""
    before, peak, lines, began = resident_mb(pid), 0.0, 0, time.perf_counter()
    async with http.stream("GET", f"{API}/sessions/export?format={format}", timeout=600) as answer:
        answer.raise_for_status()
        async for chunk in answer.aiter_bytes():
            lines += chunk.count(b"\n")
            peak = max(peak, resident_mb(pid))
    return lines, time.perf_counter() - began, peak - before


async def run(data_dir: Path, sessions: int) -> bool:
    note: dict[str, Any] = json.loads((data_dir / "serve.json").read_text())
    pid = next(one for one in descendants(note["pid"]) if command_of(one).endswith("-m api"))
    store = await Store.open(note["environment"]["MONGODB_URL"], "parallel_interview")
    async with httpx.AsyncClient(base_url=note["url"], timeout=60) as http:
        await fill(store, 0, FEW)
        few = await measure(http)
        await fill(store, FEW, sessions)
        many = await measure(http)
        ok = True
        print(f"| call | p50, p99 at {FEW} | p50, p99 at {sessions} | |\n|---|---|---|---|")
        for name in few:
            over = name in LIMITED and many[name][1] > 2 * few[name][1]
            ok &= not over
            (a, b), (c, d) = few[name], many[name]
            print(f"| {name} | {a:.1f}, {b:.1f} ms | {c:.1f}, {d:.1f} ms | {'**over**' if over else ''} |")
        for format in ("csv", "jsonl"):
            lines, seconds, grown = await export(http, pid, format)
            print(f"export as {format}: {lines} lines in {seconds:.0f} s; the front end grew by {grown:.1f} MB at most")
    await store.close()
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--sessions", type=int, default=100_000)
    given = parser.parse_args()
    if not FEW < given.sessions <= 1_000_000:
        parser.error(f"sessions: more than {FEW}, and a million at most")
    return 0 if asyncio.run(run(given.data_dir, given.sessions)) else 1


if __name__ == "__main__":
    sys.exit(main())
