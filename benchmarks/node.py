"""What one node needs: processor time, memory, open files and threads of each kind of process, from a running `serve`.

    INTERVIEW_WARM_ACTORS=30 parallel-interview serve
    python benchmarks/node.py --data-dir data --interviews 30

It starts interviews, leaves them alone for a while, then answers questions, and reads /proc meanwhile. Figures are
means of each kind; a start's and an answer's are what all processes of that kind have used for it, in an answer's
without what they use while idle. Nothing else should run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

TICKS = os.sysconf("SC_CLK_TCK")
SETTLE_SECONDS = 15.0
ANSWERS_AT_A_TIME = 16


@dataclass(frozen=True)
class Process:
    """cpu in seconds since its start, memory in MiB (rss counts shared pages each time, pss its part of them)."""

    kind: str
    cpu: float
    rss: float
    pss: float
    files: int
    threads: int


def kind_of(command: str) -> str | None:
    """What a process is, by its command line."""
    if found := re.match(r"ray::(\w+)", command):
        return found[1]
    known = {"gcs_server": "GCS", "/raylet": "raylet", "-m api": "front end", "nx-27017": "database"}
    for mark, name in known.items():
        if mark in command.split(" --")[0] or command.endswith(mark):
            return name
    return "Ray's helpers" if "/ray/" in command else None


def look(top: int) -> dict[int, Process]:
    """Every process below one, by pid."""
    found: dict[int, Process] = {}
    for pid in below(top):
        with contextlib.suppress(OSError, ValueError, IndexError):
            folder = Path(f"/proc/{pid}")
            command = folder.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            kind = kind_of(command)
            if kind is None:
                continue
            fields = folder.joinpath("stat").read_text().rpartition(")")[2].split()
            memory = dict(re.findall(r"^(Rss|Pss): +(\d+) kB", folder.joinpath("smaps_rollup").read_text(), re.M))
            cpu = (int(fields[11]) + int(fields[12])) / TICKS
            rss, pss = (int(memory[name]) / 1024 for name in ("Rss", "Pss"))
            found[pid] = Process(kind, cpu, rss, pss, len(os.listdir(folder / "fd")), int(fields[17]))
    return found


def below(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += [int(child), *below(int(child))]
    return found


def used(before: dict[int, Process], after: dict[int, Process]) -> dict[str, float]:
    """Processor seconds between two looks, by kind; what was started meanwhile is left out."""
    sums: defaultdict[str, float] = defaultdict(float)
    for pid, process in after.items():
        if pid in before and before[pid].kind == process.kind:
            sums[process.kind] += process.cpu - before[pid].cpu
    return sums


async def repeated(http: httpx.AsyncClient, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    for _ in range(120):
        answer = await http.post(path, json=body)
        if answer.status_code != 503:
            return answer.raise_for_status().json()
        await asyncio.sleep(float(answer.headers.get("Retry-After", 1)))
    raise SystemExit(f"{path}: no place; is INTERVIEW_WARM_ACTORS or the machine too small?")


async def quiet(http: httpx.AsyncClient) -> None:
    """Wait until no actor is being started any more, and what was started has settled."""
    while (await http.get("/cluster")).json()["cluster"]["starting_actors"]:
        await asyncio.sleep(1)
    await asyncio.sleep(SETTLE_SECONDS)


async def measure(url: str, top: int, interviews: int, answers: int, seconds: float) -> None:
    questions = [f"Question {number}?" for number in range(answers + 1)]
    person = {"name": "Load", "email": "load@example.com", "questions": questions, "text_question_timer": 7200}
    async with httpx.AsyncClient(base_url=f"{url}/api/parallel_interview", timeout=60) as http:
        made = [(await repeated(http, "/create", person))["session_id"] for _ in range(interviews)]
        before = look(top)
        for session in made:
            await repeated(http, f"/session/{session}/start")
        starting = used(before, look(top))
        await quiet(http)
        before = look(top)
        await asyncio.sleep(seconds)
        after = look(top)
        idle = used(before, after)
        limit = asyncio.Semaphore(ANSWERS_AT_A_TIME)

        async def answer_all(session: str) -> None:
            for index in range(answers):
                async with limit:
                    body = {"question_index": index, "answer": "An answer of some words. " * 8}
                    await repeated(http, f"/session/{session}/answer", body)

        before, began = look(top), time.monotonic()
        await asyncio.gather(*map(answer_all, made))
        answering, took = used(before, look(top)), time.monotonic() - began
        for kind in answering:
            answering[kind] -= idle[kind] / seconds * took
        show(after, idle, seconds, starting, interviews, answering, interviews * answers)
        for session in made:
            await http.post(f"/session/{session}/end")


def show(
    processes: dict[int, Process],
    idle: dict[str, float],
    seconds: float,
    starting: dict[str, float],
    starts: int,
    answering: dict[str, float],
    answers: int,
) -> None:
    print("| process | how many | idle, ms/s each | ms a start | ms an answer | RSS MiB | PSS MiB | files | threads |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in sorted({process.kind for process in processes.values()}):
        of = [process for process in processes.values() if process.kind == kind]
        mean = [sum(getattr(one, part) for one in of) / len(of) for part in ("rss", "pss", "files", "threads")]
        cells = [idle[kind] / seconds / len(of) * 1e3, starting[kind] / starts * 1e3, answering[kind] / answers * 1e3]
        print(f"| {kind} | {len(of)} | " + " | ".join([f"{x:.2f}" for x in cells] + [f"{x:.0f}" for x in mean]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="of the running serve")
    parser.add_argument("--interviews", type=int, default=30)
    parser.add_argument("--answers", type=int, default=20, help="of each interview")
    parser.add_argument("--seconds", type=float, default=30.0, help="for which interviews are left alone")
    options = parser.parse_args()
    note = json.loads((options.data_dir / "serve.json").read_text())
    asyncio.run(measure(note["url"], note["pid"], options.interviews, options.answers, options.seconds))


if __name__ == "__main__":
    main()
