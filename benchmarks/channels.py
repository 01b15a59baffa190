"""Many live channels at once: `python benchmarks/channels.py --data-dir ./data [--candidates 200 --minutes 5]`.

Against a running service with room for so many interviews. Each candidate has a channel, and questions that do not run
out, answers every `--every` s (staggered) and sends a draft every `--draft-every` s. Measured is the time from the
answer sent to its `answer_saved`. At the end each candidate's frames are held against the journal, as REST shows it.

Exit code 1: a frame was dropped or doubled or came out of order, an answer was lost, p99 is 300 ms or more, or the
front end took over 60 MB more than when it was idle. Sessions made here are deleted at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import os
import re
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.exceptions import InvalidHandshake

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.channel import Channel, Gone  # noqa: E402
from tests.servers import command_of, descendants  # noqa: E402

API = "/api/parallel_interview"
ANSWER = "A sentence of a usual answer, as a candidate would type it. " * 5
NEVER_SECONDS = 7_200
MAX_QUESTIONS = 200
START_SECONDS = 240.0
REPLY_SECONDS = 20.0
WARM_SECONDS = 60.0
SETTLE_SECONDS = 5.0
OVERTIME_SECONDS = 30.0
"""How long commands may take that were under way at the end."""
CHECK_SECONDS = 180.0
P99_MS = 300.0
MEMORY_MB = 60.0


@dataclass(frozen=True)
class Options:
    url: str
    candidates: int
    seconds: float
    every: float
    draft_every: float
    starts: int
    front_end: int | None
    api_key: str | None

    @property
    def questions(self) -> int:
        return min(MAX_QUESTIONS, math.ceil(self.seconds / self.every) + 3)


@dataclass
class Figures:
    """What was measured. Latencies in ms."""

    latencies: list[float] = field(default_factory=list)
    drafts: list[float] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    start_seconds: float = 0.0
    idle_mb: float = math.nan
    started_mb: float = math.nan
    peak_mb: float = math.nan
    after_mb: float = math.nan
    client_cpu: float = 0.0


class Candidate:
    """One interview and its channel, which is made again if it breaks."""

    def __init__(self, options: Options, http: httpx.AsyncClient, figures: Figures, number: int) -> None:
        self._options = options
        self._http = http
        self._figures = figures
        self._number = number
        self._revision = 0
        self._channels: list[Channel] = []
        self._connecting = asyncio.Lock()
        self._token = ""
        self.session_id = ""
        self.index = 0
        self.expected: dict[str, int] = {}
        """The index of the question that each acknowledged command answered."""

    @property
    def channel(self) -> Channel:
        return self._channels[-1]

    async def begin(self) -> bool:
        """Create the session, connect, and start over the channel. False if there is no room."""
        body = {
            "name": f"Channel {self._number}",
            "email": f"channel.{self._number}@example.com",
            "questions": [f"Question {n + 1}: how would you do it?" for n in range(self._options.questions)],
            "text_question_timer": NEVER_SECONDS,
            "metadata": {"source": "bench"},
        }
        response = await self._create(body)
        made = response.json()
        self.session_id, self._token = made["session_id"], made["candidate_token"]
        await self._connect_insistently()
        reply = await self._command("start", REPLY_SECONDS * 3, tries=60)
        return reply["type"] == "ok"

    async def live(self, began: float) -> None:
        """Answer and type until the time is over."""
        share, typing = self._number / self._options.candidates, self._options.draft_every
        try:
            async with asyncio.timeout(self._options.seconds + self._options.every + OVERTIME_SECONDS):
                await asyncio.gather(
                    self._at_intervals(began + self._options.every * share, self._options.every, self._answer),
                    self._at_intervals(began + typing * (share * 7 % 1), typing, self._draft),
                )
        except TimeoutError:
            self._problem("the commands of the given time were not done in time")

    async def check(self) -> None:
        """Hold what came against the journal."""
        await self.channel.close()
        frames = [frame for channel in self._channels for frame in channel.frames]
        seqs = [frame["seq"] for frame in frames if "seq" in frame]
        if any(b <= a for a, b in itertools.pairwise(seqs)):
            self._problem("frames came twice or out of order")
        saved = [frame for frame in frames if frame["type"] == "answer_saved"]
        closed = await self._closed()
        got = {frame["seq"]: frame["question_index"] for frame in saved}
        self._figures.count["answer_saved"] += len(saved)
        self._figures.count["doubled"] += len(saved) - len(got)
        self._figures.count["dropped"] += len(closed.keys() - got.keys())
        if got != closed:
            self._problem(f"frames say {len(got)} answers, the journal says {len(closed)}")
        if sorted(self.expected.values()) != sorted(closed.values()):
            self._problem(f"{len(self.expected)} answers were acknowledged, {len(closed)} are in the journal")
        ids = Counter(frame["command_id"] for frame in saved)
        if len(self._channels) == 1 and ids != Counter(self.expected):
            missing = [index for command_id, index in self.expected.items() if ids[command_id] != 1]
            if missing:
                self._problem(f"answers {missing} did not have exactly one answer_saved")

    async def leave(self) -> None:
        if self._channels:
            await self.channel.close()
        if self.session_id:
            with contextlib.suppress(httpx.HTTPError):
                await self._http.delete(f"{API}/session/{self.session_id}")

    # -- commands

    async def _create(self, body: dict[str, Any]) -> httpx.Response:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        response = await self._http.post(f"{API}/create", json=body, headers=headers)
        for _ in range(10):
            if response.status_code != 503:
                break
            await asyncio.sleep(float(response.headers.get("Retry-After", 1)))
            response = await self._http.post(f"{API}/create", json=body, headers=headers)
        response.raise_for_status()
        return response

    async def _answer(self) -> None:
        if self.index >= self._options.questions - 1:
            return
        index, command_id, sent = self.index, str(uuid.uuid4()), time.monotonic()
        reply = await self._command(
            "answer", REPLY_SECONDS, command_id=command_id, question_index=index, answer=f"{index}: {ANSWER}"
        )
        if reply["type"] != "ok":
            self._problem(f"an answer was refused: {reply.get('code')}")
            return
        self.expected[command_id] = index
        self.index += 1
        for channel in reversed(self._channels):
            for number in range(len(channel.frames) - 1, -1, -1):
                frame = channel.frames[number]
                if frame["type"] == "answer_saved" and frame["question_index"] == index:
                    self._figures.latencies.append((channel.came_at[number] - sent) * 1000)
                    return
        self._problem(f"ok came before answer_saved for question {index}")

    async def _draft(self) -> None:
        self._revision += 1
        index, sent = self.index, time.monotonic()
        text = f"{self._revision}: {ANSWER[: 60 + self._revision % 200]}"
        reply = await self._command("draft", REPLY_SECONDS, question_index=index, draft=text, revision=self._revision)
        if reply["type"] == "draft_saved":
            self._figures.drafts.append((time.monotonic() - sent) * 1000)
        elif reply.get("code") != "state_conflict":  # the question was answered meanwhile
            self._problem(f"a draft was refused: {reply.get('code')}")

    async def _command(self, type: str, seconds: float, tries: int = 5, **members: Any) -> dict[str, Any]:
        """Send it, again with the same id while that is what the service asks for or the channel breaks."""
        members.setdefault("command_id", str(uuid.uuid4()))
        reply: dict[str, Any] = {"type": "error", "code": "channel_broken"}
        for _ in range(tries):
            channel = self.channel
            try:
                reply = await channel.call(type, seconds, **members)
            except Gone as error:
                self._figures.count["broken channels"] += 1
                if channel.closed not in (1006, 1011, 1012):
                    raise
                self._figures.count[f"closed with {channel.closed}"] += 1
                print(f"candidate {self._number}: {error}"[:300], file=sys.stderr)
                await self._connect_again(channel)
                continue
            if "retry_after" not in reply:
                break
            self._figures.count[f"told to repeat ({type}: {reply['code']})"] += 1
            await asyncio.sleep(min(reply["retry_after"], 3.0))
        return reply

    async def _connect(self, after: int | None = None) -> None:
        channel = Channel(self._options.url, self.session_id, self._token, "candidate", after)
        await channel.connect()
        try:
            await channel.next("state", REPLY_SECONDS)
        except AssertionError:
            await channel.abort()
            raise
        self._channels.append(channel)

    async def _connect_again(self, broken: Channel) -> None:
        """Once for all who noticed, with what was missed."""
        async with self._connecting:
            if self.channel is broken:
                await self._connect_insistently(broken.last_seq)

    async def _connect_insistently(self, after: int | None = None) -> None:
        give_up = time.monotonic() + REPLY_SECONDS
        while True:
            try:
                return await self._connect(after)
            except (OSError, InvalidHandshake, TimeoutError, Gone):
                if time.monotonic() > give_up:
                    raise
                await asyncio.sleep(0.5)

    async def _closed(self) -> dict[int, int]:
        """Seqs and indices of what the journal says was answered."""
        events: list[dict[str, Any]] = []
        while True:
            after = events[-1]["seq"] if events else 0
            path = f"{API}/session/{self.session_id}/journal?limit=1000&after={after}"
            response = await self._http.get(path)
            response.raise_for_status()
            page = response.json()["events"]
            if not page:
                break
            events += page
        return {event["seq"]: event["index"] for event in events if event["type"] == "question_closed"}

    async def _at_intervals(self, due: float, every: float, what: Any) -> None:
        """Who is behind catches up without a pause, so that a slow service is not spared."""
        for _ in range(int(self._options.seconds / every)):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            try:
                await what()
            except (Gone, AssertionError, OSError, InvalidHandshake) as error:
                self._problem(str(error)[:200])
                return
            due += every

    def _problem(self, what: str) -> None:
        self._figures.problems.append(f"candidate {self._number}: {what}")


def resident_mb(pid: int) -> float:
    """What a process has in memory, in MB (10^6 bytes)."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)[0]) * 1024 / 1e6


async def watch_memory(pid: int, figures: Figures) -> None:
    """Keep the peak until cancelled."""
    figures.peak_mb = resident_mb(pid)
    while True:
        await asyncio.sleep(0.5)
        figures.peak_mb = max(figures.peak_mb, resident_mb(pid))


async def measure(options: Options) -> Figures:
    figures = Figures()
    headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else {}
    pid = options.front_end
    async with httpx.AsyncClient(base_url=options.url, headers=headers, timeout=30) as http:
        for _ in range(20):
            (await http.get(f"{API}/sessions")).raise_for_status()
        warm = await warm_actors(http)
        watching = reporting = None
        if pid is not None:
            figures.idle_mb = resident_mb(pid)
            watching = asyncio.create_task(watch_memory(pid, figures))
        candidates = [Candidate(options, http, figures, number) for number in range(options.candidates)]
        try:
            started = await start_all(options, candidates, figures)
            await wait_warm(http, warm)
            figures.started_mb = resident_mb(pid) if pid is not None else math.nan
            cpu, began = time.process_time(), time.monotonic()
            reporting = asyncio.create_task(say_how_it_goes(figures))
            await asyncio.gather(*(candidate.live(began) for candidate in started))
            figures.client_cpu = (time.process_time() - cpu) / (time.monotonic() - began)
            await all_in_time([candidate.check() for candidate in started], figures, "held against the journal")
        finally:
            if watching is not None:
                watching.cancel()
            if reporting is not None:
                reporting.cancel()
            await all_in_time([candidate.leave() for candidate in candidates], figures, "cleaned up")
        if pid is not None:
            await asyncio.sleep(SETTLE_SECONDS)
            figures.after_mb = resident_mb(pid)
    return figures


async def warm_actors(http: httpx.AsyncClient) -> int:
    response = await http.get(f"{API}/stats")
    return response.json()["stats"]["warm_actors"] if response.is_success else 0


async def wait_warm(http: httpx.AsyncClient, wanted: int) -> None:
    """Until the pool is as it was, so that no actor is starting on the same cores; a full cluster has no room."""
    give_up = time.monotonic() + WARM_SECONDS
    while time.monotonic() < give_up and await warm_actors(http) < wanted:
        await asyncio.sleep(2)
    await asyncio.sleep(SETTLE_SECONDS)


async def start_all(options: Options, candidates: list[Candidate], figures: Figures) -> list[Candidate]:
    """A few at a time, since each start makes a process. Returns those that were started."""
    gate, clock = asyncio.Semaphore(options.starts), time.monotonic()
    started: list[Candidate] = []

    async def begin(candidate: Candidate) -> None:
        if time.monotonic() - clock > START_SECONDS:
            return
        try:
            if await candidate.begin():
                started.append(candidate)
        except (httpx.HTTPError, AssertionError, OSError, InvalidHandshake) as error:
            print(f"\nnot started: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
        print(f"\rstarted {len(started)}/{len(candidates)}", end="", file=sys.stderr, flush=True)

    await asyncio.gather(*(gated(gate, begin(candidate)) for candidate in candidates))
    print(file=sys.stderr)
    figures.start_seconds = time.monotonic() - clock
    figures.count["started"] = len(started)
    return started


async def all_in_time(work: list[Any], figures: Figures, what: str) -> None:
    """A few at a time, and not for ever."""
    gate = asyncio.Semaphore(6)
    tasks = [asyncio.create_task(gated(gate, part)) for part in work]
    if not tasks:
        return
    done, pending = await asyncio.wait(tasks, timeout=CHECK_SECONDS)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    failed = [error for task in done if (error := task.exception()) is not None]
    if pending or failed:
        reasons = sorted({f"{type(error).__name__}: {error}"[:150] for error in failed})[:3]
        figures.problems.append(f"{len(pending) + len(failed)} of {len(tasks)} were not {what}: {reasons}")


async def say_how_it_goes(figures: Figures) -> None:
    while True:
        await asyncio.sleep(30)
        recent = figures.latencies[-500:]
        print(
            f"{len(figures.latencies)} answers, the last 500: p50 {percentile(recent, 0.5):.0f} ms, "
            f"p99 {percentile(recent, 0.99):.0f} ms; {len(figures.drafts)} drafts; {len(figures.problems)} problems",
            file=sys.stderr,
            flush=True,
        )


async def gated(gate: asyncio.Semaphore, work: Any) -> None:
    async with gate:
        await work


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan


def report(options: Options, figures: Figures) -> bool:
    """Print the table. True if everything is within its limits."""
    count, times = figures.count, figures.latencies
    grown = figures.peak_mb - figures.idle_mb
    rows: list[tuple[str, str, bool | None]] = [
        (f"candidates started, of {options.candidates}", str(count["started"]), count["started"] == options.candidates),
        ("seconds to start them", f"{figures.start_seconds:.0f} s", None),
        (f"answers, one every {options.every:g} s each, for {options.seconds:g} s", str(len(times)), len(times) > 0),
        ("answer to answer_saved, p50", f"{percentile(times, 0.5):.1f} ms", None),
        ("answer to answer_saved, p95", f"{percentile(times, 0.95):.1f} ms", None),
        ("answer to answer_saved, p99", f"{percentile(times, 0.99):.1f} ms", percentile(times, 0.99) < P99_MS),
        ("answer to answer_saved, max", f"{max(times, default=math.nan):.1f} ms", None),
        (f"drafts, one every {options.draft_every:g} s each", str(len(figures.drafts)), None),
        ("draft to draft_saved, p50", f"{percentile(figures.drafts, 0.5):.1f} ms", None),
        ("draft to draft_saved, p99", f"{percentile(figures.drafts, 0.99):.1f} ms", None),
        ("answer_saved frames dropped", str(count["dropped"]), count["dropped"] == 0),
        ("answer_saved frames doubled", str(count["doubled"]), count["doubled"] == 0),
        ("other problems", str(len(figures.problems)), not figures.problems),
        ("front end, idle", f"{figures.idle_mb:.1f} MB", None),
        ("front end, all connected and started", f"{figures.started_mb:.1f} MB", None),
        ("front end, peak", f"{figures.peak_mb:.1f} MB", None),
        ("front end, peak above idle", f"{grown:.1f} MB", None if math.isnan(grown) else grown <= MEMORY_MB),
        ("front end, after", f"{figures.after_mb:.1f} MB", None),
        ("this client's share of a core", f"{figures.client_cpu:.2f}", None),
    ]
    known = ("started", "answer_saved", "dropped", "doubled")
    rows += [(what, str(number), None) for what, number in sorted(count.items()) if what not in known]
    print("| figure | measured | verdict |\n|---|---|---|")
    for what, value, ok in rows:
        print(f"| {what} | {value} | {'' if ok is None else 'ok' if ok else '**over**'} |")
    for problem in figures.problems[:10]:
        print(problem, file=sys.stderr)
    return not any(ok is False for _, _, ok in rows)


def parse() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=None, help="base URL; default: from serve.json")
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("INTERVIEW_DATA_DIR", "./data")))
    parser.add_argument("--front-end-pid", type=int, default=None, help="default: found from serve.json")
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two answers of a candidate")
    parser.add_argument("--draft-every", type=float, default=2.0, help="seconds between two drafts of a candidate")
    parser.add_argument("--starts", type=int, default=3, help="interviews that are started at the same time")
    parser.add_argument("--api-key", default=os.environ.get("INTERVIEW_API_KEY"))
    given = parser.parse_args()
    if not (0 < given.candidates <= 1000 and 0 < given.minutes <= 30 and min(given.every, given.draft_every) >= 1):
        parser.error("at most 1000 candidates and 30 minutes, and at least a second between answers or drafts")
    note: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        note = json.loads((given.data_dir / "serve.json").read_text())
    url = (given.url or note.get("url") or "http://localhost:8005").rstrip("/")
    pid = given.front_end_pid
    if pid is None and "pid" in note:
        pid = next((one for one in descendants(note["pid"]) if command_of(one).endswith("-m api")), None)
    if pid is None:
        print("the front end's pid is not known: its memory is not measured", file=sys.stderr)
    seconds, every, draft_every = given.minutes * 60, given.every, given.draft_every
    return Options(url, given.candidates, seconds, every, draft_every, given.starts, pid, given.api_key)


def main() -> int:
    options = parse()
    return 0 if report(options, asyncio.run(measure(options))) else 1


if __name__ == "__main__":
    sys.exit(main())
