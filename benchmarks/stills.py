"""What stills of the camera cost the interviews: `python benchmarks/stills.py [--live 200] [--data-dir ./data]`.

Without --data-dir it starts a `serve` of its own in a temporary folder, and ends it. N interviews run at once, each
with a reference face (but with --no-reference), and what comes is measured in this order:

    plain     --seconds        each interview answers every 10 s, as in bench.py --live
    stills    --still-seconds  the same, and each sends a JPEG of 20 to 30 kB every 15 s, spread evenly
    settle    --settle         nothing is sent; what waits is looked at
    account   --account        the same, until every still is accounted for; no figure but the sums is from there

Stills are variants of one photograph of one person, moved, leaning and lit otherwise; of 20, 3 show nobody and 2 show
two faces. They are sent as a candidate's page does, with its token and a key; answers as bench.py sends them.
The load comes from this one process, whose own share of the processors is printed, too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import signal
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from skimage import data as pictures

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import faces  # noqa: E402
from benchmarks.bench import (  # noqa: E402
    ANSWER,
    API,
    LIVE_EVERY_SECONDS,
    create_body,
    percentile,
    point_at_service,
)
from orchestrator.pictures import Pixels  # noqa: E402

STILL_EVERY_SECONDS = 15.0
REQUEST_SECONDS = 15.0
START_SECONDS = 300.0
QUIET_SECONDS = 30.0
SAMPLE_SECONDS = 5.0
NOTED_SECONDS = 36.0
"""What was looked at is in the journals after this: a batch waits 30 s, and is found by a sweep every 5 s."""
STILL_BYTES = 30_000
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
KINDS = {
    "ray::FaceActor": "FaceActor",
    "ray::InterviewActor": "interviews",
    "ray::JournalActor": "JournalActor",
    "ray::Registry": "Registry",
    "ray::Housekeeper": "Housekeeper",
    "-m api": "front end",
    "nx-27017": "database",
}
"""By a part of the command line; the rest is Ray itself."""


@dataclass(frozen=True)
class Options:
    data_dir: Path | None
    folder: Path | None
    live: int
    seconds: float
    still_seconds: float
    settle: float
    account: float
    reference: bool
    anyway: bool
    warm_actors: int
    settings: dict[str, str]
    api_key: str | None


# --- stills -----------------------------------------------------------------------------------------------------------


def photograph() -> Pixels:
    """One person as in front of a webcam, in colour, 640x480."""
    cut = cv2.cvtColor(pictures.astronaut(), cv2.COLOR_RGB2BGR)[:270, 50:410]
    return faces.clip(cv2.resize(cut, (faces.WIDTH, faces.HEIGHT), interpolation=cv2.INTER_CUBIC))


def colour(scene: Pixels) -> Pixels:
    return faces.clip(cv2.cvtColor(scene, cv2.COLOR_GRAY2BGR))


def jpeg(scene: Pixels) -> bytes:
    """As good as it gets within STILL_BYTES."""
    for quality in (95, 92, 88, 84, 80, 75, 70, 60, 50):
        made = faces.jpeg(scene, quality)
        if len(made) <= STILL_BYTES:
            break
    return made


def variants() -> list[bytes]:
    """20 stills; those that are not of one face stand together, so that they become flags."""
    one = photograph()
    two = [faces.paste(faces.astronaut(), faces.faces()[n], 180, 20, 30) for n in (1, 2)]
    scenes = [
        *(faces.warp(right=px)(one) for px in (-60, -30, 0, 30, 60)),
        *(faces.warp(scale=scale)(one) for scale in (0.7, 0.85, 1.1)),
        *map(colour, (faces.room(1), faces.room(2), faces.covered_lens(3))),
        *(faces.warp(degrees=degrees, right=5)(one) for degrees in (-8, -4, 4, 8)),
        *(faces.light(gain)(one) for gain in (0.6, 1.3)),
        *map(colour, two),
        faces.noise(4)(one),
    ]
    smaller = {n for n in range(len(scenes)) if n % 5 == 4}
    sized = [cv2.resize(scene, (480, 360)) if n in smaller else scene for n, scene in enumerate(scenes)]
    return [jpeg(faces.clip(np.asarray(scene))) for scene in sized]


# --- processes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Process:
    kind: str
    cpu: float
    """Seconds of processor time since it began."""
    rss: float
    """MB, what is shared with others included."""


@dataclass(frozen=True)
class Usage:
    """What the service's processes, the machine and this process have used by one moment. Seconds."""

    at: float
    busy: float
    own: float
    processes: dict[int, Process]

    def since(self, before: Usage) -> dict[str, float]:
        """Cores in use between two moments, by kind of process. One that ended in between is not counted."""
        seconds = self.at - before.at
        used: defaultdict[str, float] = defaultdict(float)
        for pid, process in self.processes.items():
            earlier = before.processes.get(pid)
            used[process.kind] += process.cpu - (earlier.cpu if earlier else 0.0)
        used["the service in all"] = sum(used.values())
        used["this load generator"] = self.own - before.own
        used["the whole machine"] = self.busy - before.busy
        return {kind: cpu / seconds for kind, cpu in used.items()}


def usage(root: int) -> Usage:
    """Of all processes below one, in one pass over /proc."""
    stats: dict[int, list[str]] = {}
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                stats[int(folder.name)] = fields
                children.setdefault(int(fields[1]), []).append(int(folder.name))
    found: dict[int, Process] = {}
    ahead = [root]
    while ahead:
        pid = ahead.pop()
        ahead += children.get(pid, [])
        if fields := stats.get(pid):
            cpu = (int(fields[11]) + int(fields[12])) / TICKS
            found[pid] = Process(kind_of(pid), cpu, int(fields[21]) * PAGE_MB)
    first = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _, _, irq, soft, steal = map(int, first)
    return Usage(time.perf_counter(), (user + nice + system + irq + soft + steal) / TICKS, time.process_time(), found)


def kind_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return next((kind for part, kind in KINDS.items() if part in command), "Ray and serve")
    return "Ray and serve"


# --- the run ----------------------------------------------------------------------------------------------------------


@dataclass
class Calls:
    """Calls of one kind in one part of the run: ms of those that succeeded, and what the others ended in."""

    ms: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    late_ms: list[float] = field(default_factory=list)
    """By how much this process sent them too late."""

    def row(self, name: str) -> list[object]:
        figures = [percentile(self.ms, share) for share in (0.5, 0.9, 0.99, 1.0)]
        late = percentile(self.late_ms, 0.99)
        return [name, len(self.ms), self.failures.total(), *(f"{ms:.1f}" for ms in figures), f"{late:.1f}"]


@dataclass
class Interview:
    number: int
    session_id: str
    token: str
    question: int = 0
    answer_key: str = field(default_factory=lambda: uuid.uuid4().hex)
    stills: int = 0


@dataclass(frozen=True)
class Seen:
    """One session's proctoring as staff see it. `covered`: seconds that its stills stand for."""

    camera: float
    covered: float
    checked: int
    late: int
    dropped: int
    unreadable: int
    events: int
    kept: int


class Run:
    def __init__(self, options: Options, http: httpx.AsyncClient, store: Any, root: int) -> None:
        self._options = options
        self._http = http
        self._store = store
        self._root = root
        self._interviews: list[Interview] = []
        self._created: list[str] = []
        self._images = variants()
        self._plain, self._with, self._frames = Calls(), Calls(), Calls()
        self._at_once: Counter[str] = Counter()
        self._unseen = 0
        self._sooner = 0
        self._backlog: list[int] = []
        self._face_rss: list[float] = []
        self._rss: dict[str, list[float]] = {}
        self._face_pids: set[int] = set()

    async def run(self) -> None:
        options = self._options
        try:
            clock = time.perf_counter()
            await self._begin_all()
            print(
                f"\n{len(self._interviews)} of {options.live} interviews started in {time.perf_counter() - clock:.0f} s"
            )
            if not self._interviews:
                raise SystemExit("No interview could be started.")
            captured = await self._capture_all() if options.reference else 0
            print(f"{captured} reference faces captured; {options.still_seconds:g} s of stills will follow")
            sizes = [len(image) for image in self._images]
            print(f"{len(sizes)} stills of {min(sizes)} to {max(sizes)} bytes, mean {statistics.mean(sizes):.0f}")
            await self._quiet()
            await self._measure()
        finally:
            await self._clean_up()

    async def _measure(self) -> None:
        options = self._options
        marks = [usage(self._root)]
        load = [os.getloadavg()[0]]
        _tell_time("answers alone")
        await self._answer_all(options.seconds, self._plain)
        marks.append(usage(self._root))
        load.append(os.getloadavg()[0])
        sampler = asyncio.create_task(self._sample())
        _tell_time("answers and stills")
        try:
            await asyncio.gather(self._answer_all(options.still_seconds, self._with), self._still_all())
            marks.append(usage(self._root))
            load.append(os.getloadavg()[0])
            at_end = await self._waiting()
            _tell_time(f"nothing is sent; {at_end} stills wait")
            settled, after = await self._settle(options.settle)
        except asyncio.CancelledError:
            print("Ended before its time. So far:\n")
            self._print_calls()
            raise
        finally:
            sampler.cancel()
        marks.append(usage(self._root))
        load.append(os.getloadavg()[0])
        soon = await self._look_at_all()
        accounted, _ = await self._settle(options.account)
        final = await self._look_at_all()
        left = await self._waiting()
        print(f"load of the machine at the start and after each part: {', '.join(f'{one:.2f}' for one in load)}\n")
        self._print_fates(at_end, after, left, settled, accounted, final)
        self._print_coverage({f"{settled:.0f} s after the last still": soon, "at the very end": final}, final)
        self._print_calls()
        self._print_usage(marks)

    # -- before

    async def _begin_all(self) -> None:
        gate = asyncio.Semaphore(4)
        give_up = time.monotonic() + START_SECONDS
        live = self._options.seconds + self._options.still_seconds
        questions = math.ceil(live / LIVE_EVERY_SECONDS) + 6

        async def begin(number: int) -> None:
            async with gate:
                response = await self._http.post(f"{API}/create", json=create_body(number, questions))
                if not response.is_success:
                    return
                made = response.json()
                session_id = made["session_id"]
                self._created.append(session_id)
                while time.monotonic() < give_up:
                    response = await self._http.post(f"{API}/session/{session_id}/start")
                    if response.status_code != 503:
                        break
                    await asyncio.sleep(min(float(response.headers.get("Retry-After", 1)), 3))
                if response.is_success:
                    self._interviews.append(Interview(number, session_id, made["candidate_token"]))

        results = await asyncio.gather(*map(begin, range(self._options.live)), return_exceptions=True)
        _tell("starting", results)

    async def _capture_all(self) -> int:
        gate = asyncio.Semaphore(4)
        image = faces.jpeg(photograph(), 92)

        async def capture(interview: Interview) -> bool:
            fields = {"session_id": interview.session_id}
            files = {"image": ("face.jpg", image, "image/jpeg")}
            async with gate:
                response = await self._http.post("/capture_reference_face", data=fields, files=files)
                for _ in range(4):
                    if response.status_code != 503:
                        break
                    await asyncio.sleep(3)
                    response = await self._http.post("/capture_reference_face", data=fields, files=files)
                if not response.is_success:
                    raise RuntimeError(response.text[:300])
                return True

        results = await asyncio.gather(*map(capture, self._interviews), return_exceptions=True)
        _tell("capturing a reference face", results)
        return results.count(True)

    async def _quiet(self) -> None:
        """Until the machine has little to do: no actor is starting any more. Bounded."""
        give_up = time.monotonic() + QUIET_SECONDS
        busy = math.inf
        while time.monotonic() < give_up and busy > 0.35:
            before = usage(self._root)
            await asyncio.sleep(3)
            busy = usage(self._root).since(before)["the whole machine"]
        cores = os.cpu_count() or 1
        print(f"idle: {busy:.2f} of {cores} cores in use")
        if busy > 0.95 * cores and not self._options.anyway:
            raise SystemExit(
                "The machine has nothing left even before the first answer; --anyway measures it all the same."
            )

    # -- the load

    async def _answer_all(self, seconds: float, calls: Calls) -> None:
        began, count = time.perf_counter(), len(self._interviews)

        async def answer(turn: int, interview: Interview) -> None:
            due = began + LIVE_EVERY_SECONDS * turn / count
            while due < began + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await self._answer(interview, due, calls)
                due += LIVE_EVERY_SECONDS

        await asyncio.gather(*(answer(turn, one) for turn, one in enumerate(self._interviews)))
        await asyncio.sleep(max(0.0, began + seconds - time.perf_counter()))

    async def _answer(self, interview: Interview, due: float, calls: Calls) -> None:
        """One of unknown outcome is repeated unchanged at the next turn."""
        body = {"question_index": interview.question, "answer": ANSWER}
        headers = {"Idempotency-Key": interview.answer_key}
        path = f"{API}/session/{interview.session_id}/answer"
        response = await _timed(calls, due, lambda: self._http.post(path, json=body, headers=headers))
        if response is not None and response.status_code < 500:
            interview.question += 1
            interview.answer_key = uuid.uuid4().hex

    async def _still_all(self) -> None:
        began, count = time.perf_counter(), len(self._interviews)
        seconds = self._options.still_seconds

        async def send(turn: int, interview: Interview) -> None:
            due = began + STILL_EVERY_SECONDS * turn / count
            while due < began + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await self._still(interview, due)
                due += STILL_EVERY_SECONDS

        await asyncio.gather(*(send(turn, one) for turn, one in enumerate(self._interviews)))

    async def _still(self, interview: Interview, due: float) -> None:
        image = self._images[(interview.number * 7 + interview.stills) % len(self._images)]
        interview.stills += 1
        headers = {
            "Content-Type": "image/jpeg",
            "Authorization": f"Bearer {interview.token}",
            "Idempotency-Key": uuid.uuid4().hex,
        }
        path = f"{API}/session/{interview.session_id}/proctoring/frame"
        response = await _timed(self._frames, due, lambda: self._http.post(path, content=image, headers=headers))
        if response is None or not response.is_success:
            return
        made = response.json()
        if made["frame"]["checked"]:
            self._at_once[made["frame"]["verdict"]] += 1
        else:
            self._unseen += 1
        self._sooner += made["next_in_seconds"] < STILL_EVERY_SECONDS

    # -- looking on

    async def _waiting(self) -> int:
        for _ in range(3):
            with contextlib.suppress(Exception):
                return await self._store.count_pending()
            await asyncio.sleep(1)
        return -1

    async def _sample(self) -> None:
        while True:
            self._backlog.append(await self._waiting())
            now = usage(self._root)
            totals: defaultdict[str, float] = defaultdict(float)
            for pid, process in now.processes.items():
                totals[process.kind] += process.rss
                if process.kind == "FaceActor":
                    self._face_pids.add(pid)
            for kind, total in totals.items():
                self._rss.setdefault(kind, []).append(total)
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _settle(self, seconds: float) -> tuple[float, int]:
        """Until nothing waits and all is in the journals: the seconds that it took, and how many wait still."""
        began = time.perf_counter()
        empty_at = math.inf
        while True:
            now, waiting = time.perf_counter(), await self._waiting()
            empty_at = min(empty_at, now) if waiting == 0 else math.inf
            if now - empty_at >= NOTED_SECONDS or now - began >= seconds:
                return now - began, waiting
            await asyncio.sleep(2)

    async def _look_at_all(self) -> list[Seen]:
        gate = asyncio.Semaphore(4)

        async def look(interview: Interview) -> Seen:
            async with gate:
                response = await self._http.get(f"{API}/session/{interview.session_id}/proctoring")
                response.raise_for_status()
            said = response.json()["proctoring"]
            ran = datetime.fromisoformat(said["as_of"]) - datetime.fromisoformat(said["started_at"])
            camera, stills = said["coverage"]["camera"], said["stills"]
            return Seen(
                camera,
                camera * ran.total_seconds(),
                stills["checked"],
                stills["late"],
                stills["not_checked"],
                stills["unreadable"],
                len(said["events"]),
                len(said["evidence"]),
            )

        results = await asyncio.gather(*map(look, self._interviews), return_exceptions=True)
        _tell("reading the proctoring", results)
        return [result for result in results if isinstance(result, Seen)]

    # -- tables

    def _print_fates(
        self, at_end: int, after: int, left: int, settled: float, accounted: float, final: list[Seen]
    ) -> None:
        sent, at_once = self._unseen + self._at_once.total(), self._at_once.total()
        dropped = sum(one.dropped for one in final)
        checked = sum(one.checked for one in final)
        unreadable = sum(one.unreadable for one in final)
        unaccounted = sent - checked - unreadable - dropped - left
        later = max(0, sent - at_once - dropped - after - unaccounted)

        def share(number: int) -> str:
            return f"{number / sent:.1%}" if sent else ""

        rows: list[list[object]] = [
            ["stills taken in", sent, ""],
            ["looked at at once, with a verdict in the answer", at_once, share(at_once)],
            [f"looked at later, by {settled:.0f} s after the last", later, share(later)],
            ["still waiting then", after, share(after)],
            ["dropped, since too many waited (thinned)", dropped, share(dropped)],
            ["unreadable", unreadable, share(unreadable)],
            [f"unaccounted for, {accounted:.0f} s later", unaccounted, share(unaccounted)],
            ["waiting at the very end", left, share(left)],
            ["looked at more than 30 s after they came", sum(one.late for one in final), ""],
            ["answers that asked for the next one sooner", self._sooner, share(self._sooner)],
            ["backlog, peak", max([*self._backlog, at_end]), ""],
            ["backlog when the last had been sent", at_end, ""],
        ]
        faces.show(["stills", "number", "share"], rows)
        print(f"Backlog every {SAMPLE_SECONDS:g} s: {' '.join(map(str, self._backlog))}\n")
        print(f"Verdicts at once: {dict(self._at_once.most_common())}\n")

    def _print_coverage(self, looks: dict[str, list[Seen]], final: list[Seen]) -> None:
        rows: list[list[object]] = []
        for when, look in looks.items():
            sent_for = self._options.still_seconds
            for name, shares in (
                (f"camera coverage, {when}", [one.camera for one in look]),
                ("the same, of the time in which stills were sent", [min(1, one.covered / sent_for) for one in look]),
            ):
                figures = (statistics.mean(shares), min(shares), statistics.median(shares), max(shares))
                rows.append([name, len(shares), *(f"{figure:.1%}" for figure in figures)])
        faces.show(["coverage", "sessions", "mean", "min", "median", "max"], rows)
        events, kept = sum(one.events for one in final), sum(one.kept for one in final)
        print(f"In all timelines: {events} events, {kept} stills kept as evidence.\n")

    def _print_calls(self) -> None:
        head = ["calls over HTTP", "succeeded", "failed", "p50 ms", "p90 ms", "p99 ms", "max ms", "sent late, p99 ms"]
        named = {"answer, without stills": self._plain, "answer, with stills": self._with, "a still": self._frames}
        faces.show(head, [calls.row(name) for name, calls in named.items()])
        for name, calls in named.items():
            for failure, times in calls.failures.most_common(5):
                print(f"{name}: {times} x {failure}")

    def _print_usage(self, marks: list[Usage]) -> None:
        parts = [later.since(earlier) for earlier, later in pairwise(marks)]
        kinds = sorted(set().union(*parts), key=lambda kind: -parts[1].get(kind, 0.0))
        rows: list[list[object]] = []
        for kind in kinds:
            memory = self._rss.get(kind)
            shown = [f"{memory[0]:.0f}", f"{memory[-1]:.0f}", f"{max(memory):.0f}"] if memory else ["", "", ""]
            rows.append([kind, *(f"{part.get(kind, 0.0):.3f}" for part in parts), *shown])
        head = ["cores in use", "plain", "stills", "settle", "RSS MB at first", "at last", "most"]
        faces.show(head, rows)
        for pid, process in marks[-1].processes.items():
            if process.kind == "FaceActor":
                before = marks[1].processes.get(pid)
                spent = process.cpu - (before.cpu if before else 0.0)
                print(
                    f"FaceActor {pid}: {spent:.1f} s of processor time since the first still, {process.rss:.0f} MB RSS"
                )
        print(f"FaceActor processes seen: {len(self._face_pids)}")

    # -- after

    async def _clean_up(self) -> None:
        if self._options.data_dir is None:
            return  # the service goes, and its folder
        gate = asyncio.Semaphore(8)

        async def delete(session_id: str) -> None:
            async with gate:
                with contextlib.suppress(httpx.HTTPError):
                    await self._http.delete(f"{API}/session/{session_id}")

        await asyncio.gather(*map(delete, self._created))


async def _timed(calls: Calls, due: float, call: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response | None:
    """The answer, also if it is a refusal; None if there was none."""
    sent = time.perf_counter()
    calls.late_ms.append((sent - due) * 1000)
    try:
        response = await call()
    except httpx.HTTPError as error:
        calls.failures[type(error).__name__] += 1
        return None
    if response.is_success:
        calls.ms.append((time.perf_counter() - sent) * 1000)
    else:
        calls.failures[f"{response.status_code} {response.text[:160]}"] += 1
    return response


def _tell_time(part: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {part}", flush=True)


def _tell(what: str, results: list[Any]) -> None:
    failures = Counter(repr(result)[:300] for result in results if isinstance(result, BaseException))
    for failure, times in failures.most_common(5):
        print(f"{what}: {times} x {failure}")


async def measure(options: Options, url: str, root: int) -> None:
    from actors.storage import open_store

    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200, keepalive_expiry=60)
    headers = {"X-API-Key": options.api_key} if options.api_key else {}
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    store = await open_store()
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=REQUEST_SECONDS, limits=limits) as http:
            await Run(options, http, store, root).run()
    finally:
        await store.close()


@contextlib.contextmanager
def service(options: Options) -> Iterator[Path]:
    """The data folder of the service to measure: one that runs, or one of our own."""
    if options.data_dir is not None:
        yield options.data_dir
        return
    from tests.servers import serving

    settings = {"INTERVIEW_WARM_ACTORS": str(options.warm_actors), **options.settings}
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pi-stills-")))
        yield stack.enter_context(serving(folder.resolve(), None, **settings)).data_dir


def parse() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="of a service that runs; default: one is started")
    parser.add_argument("--folder", type=Path, help="where the one that is started has its files, which stay there")
    parser.add_argument("--live", type=int, default=200, metavar="N", help="interviews at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="of answers alone")
    parser.add_argument("--still-seconds", type=float, default=180.0, help="of answers and stills")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds in which what waits may be looked at")
    parser.add_argument("--account", type=float, default=240.0, help="seconds more to learn what became of each still")
    parser.add_argument("--no-reference", action="store_true", help="nothing to compare faces with")
    parser.add_argument("--anyway", action="store_true", help="on a machine that is busy already, too")
    parser.add_argument("--warm-actors", type=int, default=8, help="of the service that is started")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of it")
    parser.add_argument("--api-key", default=os.environ.get("INTERVIEW_API_KEY"), help="of the service that runs")
    given = parser.parse_args()
    if given.live < 1 or given.still_seconds <= 0:
        parser.error("--live and --still-seconds must be more than 0")
    return Options(
        given.data_dir.resolve() if given.data_dir else None,
        given.folder,
        given.live,
        given.seconds,
        given.still_seconds,
        given.settle,
        given.account,
        not given.no_reference,
        given.anyway,
        given.warm_actors,
        dict(one.split("=", 1) for one in given.set),
        given.api_key if given.data_dir else None,
    )


def _stop(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    signal.signal(signal.SIGTERM, _stop)  # so that a service of our own is ended, too
    options = parse()
    with service(options) as data_dir:
        note = point_at_service(data_dir)
        sending = options.seconds + options.still_seconds
        limit = START_SECONDS * 2 + 2 * sending + options.settle + options.account + 300
        try:
            asyncio.run(asyncio.wait_for(measure(options, note["url"].rstrip("/"), note["pid"]), limit))
        except (asyncio.CancelledError, TimeoutError):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
