"""Simulated candidates, for `parallel-interview demo`: interviews over HTTP, then a check of what was kept.

Each candidate creates a session, starts it, writes drafts and answers every question; the last answer
completes the session. The client repeats a call that meets a 429, a 503 or a broken connection under the
same Idempotency-Key. Afterwards every session is read back: an answer that was acknowledged must be
there, once, with the text that was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from parallel_interview_client import AsyncClient, Call, ClientError, Retry, calls
from parallel_interview_client.types import Kind

T = TypeVar("T")

CALLS = ("create", "start", "draft", "answer", "read back")
MAX_AT_ONCE = 64
CALL_SECONDS = 90.0
"""How long one call may be repeated before it counts as an error."""

QUESTIONS: tuple[tuple[str, Kind], ...] = (
    ("Tell us about a system you are proud of.", "text"),
    ("How do you find out why a service became slow?", "text"),
    ("Write a function that merges two sorted lists.", "coding"),
    ("Which trade-off in your last project would you make differently?", "text"),
    ("Write a function that finds the first repeated word in a text.", "coding"),
    ("What makes a code review useful?", "text"),
)
WORDS = (
    "latency",
    "queue",
    "index",
    "retry",
    "cache",
    "measure",
    "team",
    "deadline",
    "journal",
    "merge",
    "test",
)


@dataclass
class Acknowledged:
    """What the service said yes to, for one session."""

    session_id: str
    answers: dict[int, str] = field(default_factory=dict)
    finished: bool = False


@dataclass
class Tally:
    """Everything counted during a run. Latencies are in seconds, from first attempt to acknowledgement."""

    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    retries: Counter[str] = field(default_factory=Counter)
    """Attempts that settled nothing."""
    errors: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)

    def error(self, call: str, message: str) -> None:
        self.errors[call] += 1
        self.messages.append(f"{call}: {message}")


@dataclass
class Findings:
    """The result of reading back: acknowledged answers that are missing or changed, and ones kept twice."""

    checked: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile of `values` (not empty); `share` between 0 and 1."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def compare(kept: Acknowledged, session: Mapping[str, Any], findings: Findings) -> None:
    """Hold what was acknowledged against the session as the service has it, into `findings`."""
    stored: dict[int, list[str]] = defaultdict(list)
    for answer in session["answers"]:
        stored[answer["question_index"]].append(answer["answer"])
    for index, text in kept.answers.items():
        findings.checked += 1
        where = f"{kept.session_id} question {index}"
        if text not in stored[index]:
            findings.lost.append(where)
        if len(stored[index]) > 1:
            findings.doubled.append(where)
    if kept.finished and session["status"] != "completed":
        findings.unfinished.append(kept.session_id)


def _text(rng: random.Random, kind: str) -> str:
    words = " ".join(rng.choices(WORDS, k=rng.randint(8, 40)))
    return f"def answer():\n    return {words!r}\n" if kind == "coding" else f"{words.capitalize()}."


class Demo:
    """A run: `candidates` interviews, at most `at_once` of them live at a time."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        candidates: int,
        seed: int,
        api_key: str | None = None,
        at_once: int = MAX_AT_ONCE,
        think_seconds: float = 0.4,
    ) -> None:
        self._staff = AsyncClient(str(http.base_url), api_key, http=http, retry=Retry(CALL_SECONDS))
        self._candidates = candidates
        self._seed = seed
        self._places = asyncio.Semaphore(max(1, at_once))
        self._think_seconds = think_seconds
        self.tally = Tally()
        self.acknowledged: list[Acknowledged] = []

    async def interviews(self, progress: Progress | None = None) -> None:
        """Run all interviews. Bounded: what is not over by then counts as an error."""
        task = progress.add_task("interviews", total=self._candidates) if progress else None
        limit = 2 * CALL_SECONDS + 2.0 * self._candidates

        async def one(number: int) -> None:
            async with self._places:
                with contextlib.suppress(ClientError):  # counted where it happened
                    await self._interview(number)
            if progress and task is not None:
                progress.advance(task)

        try:
            async with asyncio.timeout(limit):
                async with asyncio.TaskGroup() as group:
                    for number in range(self._candidates):
                        group.create_task(one(number))
        except TimeoutError:
            self.tally.error("answer", f"the interviews were not over after {limit:.0f} s")

    async def _interview(self, number: int) -> None:
        rng = random.Random(f"{self._seed}:{number}")  # nosec B311 # a run that can be repeated
        questions = rng.sample(QUESTIONS, k=rng.randint(3, len(QUESTIONS)))
        create = calls.create(
            f"Demo Candidate {number + 1}",
            f"candidate.{number + 1}@example.com",
            questions=[text for text, _ in questions],
            question_types=[kind for _, kind in questions],
            metadata={"source": "demo"},
        )
        created = await self._call("create", self._staff, create)
        session_id = created["session_id"]
        kept = Acknowledged(session_id)
        self.acknowledged.append(kept)
        candidate = self._staff.candidate(session_id, created["candidate_token"]).client
        await self._call("start", candidate, calls.start(session_id))
        for index, (_, kind) in enumerate(questions):
            text = _text(rng, kind)
            await self._think(rng)
            await self._call("draft", candidate, calls.draft(session_id, index, text[: len(text) // 2], revision=1))
            await self._think(rng)
            language = "python" if kind == "coding" else None
            await self._call("answer", candidate, calls.answer(session_id, index, text, language))
            kept.answers[index] = text
        kept.finished = True

    async def _call(self, name: str, client: AsyncClient, call: Call[T]) -> T:
        """Make a call, timed and counted. Raises ClientError, already counted."""
        began = time.monotonic()
        try:
            answer = await client.send(call, failed=lambda _: self.tally.retries.update([name]))
        except ClientError as error:
            self.tally.error(name, str(error))
            raise
        self.tally.latencies[name].append(time.monotonic() - began)
        return answer.value

    async def _think(self, rng: random.Random) -> None:
        await asyncio.sleep(self._think_seconds * rng.uniform(0.25, 1.75))

    async def read_back(self, progress: Progress | None = None) -> Findings:
        """Read every session and compare. One that cannot be read is an error, and its answers are lost."""
        findings = Findings()
        task = progress.add_task("read back", total=len(self.acknowledged)) if progress else None

        async def one(kept: Acknowledged) -> None:
            async with self._places:
                try:
                    session = await self._call("read back", self._staff, calls.session(kept.session_id))
                except ClientError:
                    session = {"answers": [], "status": "unreadable"}
                compare(kept, session, findings)
            if progress and task is not None:
                progress.advance(task)

        async with asyncio.TaskGroup() as group:
            for kept in self.acknowledged:
                group.create_task(one(kept))
        return findings


def report(console: Console, demo: Demo, findings: Findings, seconds: float) -> int:
    """Print the table and the check; the exit code: 0, or 1 after any error or lost or doubled answer."""
    tally = demo.tally
    table = Table(title=f"{len(demo.acknowledged)} interviews in {seconds:.1f} s")
    for heading in ("call", "done", "p50 ms", "p99 ms", "retries", "errors"):
        table.add_column(heading, justify="left" if heading == "call" else "right")
    for call in CALLS:
        values = tally.latencies.get(call, [])
        p50, p99 = (f"{percentile(values, share) * 1000:.1f}" if values else "-" for share in (0.5, 0.99))
        table.add_row(call, str(len(values)), p50, p99, str(tally.retries[call]), str(tally.errors[call]))
    console.print(table)
    for message, count in Counter(tally.messages).most_common(10):
        console.print(f"error ({count}x) {message}", style="red", markup=False)
    for name, places in (
        ("lost", findings.lost),
        ("doubled", findings.doubled),
        ("open", findings.unfinished),
    ):
        for place in places[:20]:
            console.print(f"{name}: {place}", style="red", markup=False)
    bad = bool(findings.lost or findings.doubled or findings.unfinished or tally.messages)
    console.print(
        f"{findings.checked} acknowledged answers read back: "
        f"{len(findings.lost)} lost, {len(findings.doubled)} doubled, {sum(tally.errors.values())} errors.",
        style="red" if bad else "green",
    )
    return 1 if bad else 0


async def _places_free(http: httpx.AsyncClient, api_key: str | None) -> int:
    """How many candidates to have at once. Raises ClientError."""
    client = AsyncClient(str(http.base_url), api_key, http=http, retry=Retry(limit_seconds=0))
    stats = await client.stats()
    if not stats["capacity"]:
        return MAX_AT_ONCE
    return max(1, min(MAX_AT_ONCE, stats["capacity"] - (stats["live_actors"] or 0)))


async def _run(url: str, candidates: int, seed: int | None, api_key: str | None) -> int:
    console = Console()
    chosen = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    limits = httpx.Limits(max_connections=MAX_AT_ONCE + 8, keepalive_expiry=30)
    timeout = httpx.Timeout(30.0, connect=5.0)
    async with httpx.AsyncClient(base_url=url.rstrip("/"), limits=limits, timeout=timeout) as http:
        try:
            at_once = await _places_free(http, api_key)
        except (ClientError, ValueError) as error:
            console.print(str(error), style="red", markup=False)
            return 2
        console.print(f"{candidates} candidates, at most {at_once} at once, seed {chosen}")
        demo = Demo(http, candidates, chosen, api_key, at_once)
        columns = (
            TextColumn("{task.description:10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        began = time.monotonic()
        with Progress(*columns, console=console) as progress:
            await demo.interviews(progress)
            seconds = time.monotonic() - began
            findings = await demo.read_back(progress)
        return report(console, demo, findings, seconds)


def run_demo(url: str, candidates: int, seed: int | None = None, api_key: str | None = None) -> int:
    """Run the demo against the service at `url`; the process's exit code.

    0: every acknowledged answer is there and nothing failed. 1: an error or a lost or doubled answer.
    2: the service could not be used at all. The same `seed` gives the same candidates and answers.
    """
    return asyncio.run(_run(url, candidates, seed, api_key))
