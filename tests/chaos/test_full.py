"""A service with little room: what happens when it is full, and to interviews that nobody starts or attends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.chaos import processes
from tests.chaos.conftest import say, until
from tests.cluster.candidate import Candidate, checked
from tests.servers import Serve, serving

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

FITS = 8
ACTOR_MB = 64
SYSTEM_ACTORS_MB = 3 * 256
ABANDON_AFTER = 6.0


@pytest.fixture(scope="module")
def small_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    settings = {
        "INTERVIEW_RAY_MEMORY_MB": str(SYSTEM_ACTORS_MB + FITS * ACTOR_MB),
        "INTERVIEW_ACTOR_MEMORY_MB": str(ACTOR_MB),
        "INTERVIEW_WARM_ACTORS": "2",
        "INTERVIEW_ABANDON_AFTER": str(ABANDON_AFTER),
    }
    with serving(tmp_path_factory.mktemp("small"), None, **settings) as service:
        yield service


@pytest.fixture
async def http(small_service: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=small_service.api, timeout=30) as http:
        yield http


async def test_twice_what_fits(
    small_service: Serve, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    candidates = [Candidate(http) for _ in range(2 * FITS)]
    for candidate in candidates:
        await candidate.create(3, text_question_timer=600)
    live = await _start_as_many_as_fit(candidates)
    assert FITS - 1 <= len(live) <= FITS, "one of the places is kept for interviews that lose their actor"
    refused = [c for c in candidates if c not in live]

    for candidate in refused[:3]:
        began = time.monotonic()
        response = await candidate.request("POST", "/start")
        took = time.monotonic() - began
        body = checked(response, 503)
        assert body["code"] == "cluster_full" and int(response.headers["retry-after"]) >= 1 and took < 1.0
    await Candidate(http).create()

    pids = processes.actors_of(small_service, "InterviewActor")
    used = sum(map(private_mb, pids))
    assert len(pids) <= FITS and used < FITS * ACTOR_MB
    say(capsys, f"asked for {len(candidates)}, {len(live)} live: {len(pids)} actors use {used:.0f} MiB of their own")

    await live[0].post("end")
    ended_at = time.monotonic()

    async def starts() -> bool:
        return (await refused[0].request("POST", "/start")).status_code == 200

    await until(starts, 15, "the place that came free is used")
    say(capsys, f"a place was used again {time.monotonic() - ended_at:.1f} s after an interview had ended")
    for candidate in live[1:]:
        await candidate.answer(1, "answer 1")
        session = await candidate.check_nothing_lost()
        assert session["placement"]["epoch"] == 1, "no process was ended by us or by the system"
    for candidate in candidates:
        await candidate.post("end")


async def _start_as_many_as_fit(candidates: list[Candidate]) -> list[Candidate]:
    """Start all of them at once, and again after 503s, until every place is taken but the one that is kept."""
    live: list[Candidate] = []

    async def is_full() -> bool:
        held = (await candidates[0].call("GET", "/cluster"))["cluster"]
        return held["live_actors"] >= FITS - 1 and held["starting_actors"] == 0

    async def start(candidate: Candidate) -> None:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up and not await is_full():
            response = await candidate.request("POST", "/start", timeout=30)
            if response.status_code == 200:
                live.append(candidate)
                await candidate.answer(0, "answer 0")  # a sign of the candidate
                return
            checked(response, 503)
            await asyncio.sleep(0.5)

    await asyncio.gather(*map(start, candidates))
    return live


def private_mb(pid: int) -> float:
    """Memory of its own, in MiB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) / 1024


async def test_a_session_that_is_never_started_expires(http: httpx.AsyncClient) -> None:
    candidate = Candidate(http)
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    await candidate.create(2, expires_at=soon)

    async def ended() -> bool:
        return (await candidate.session())["status"] == "completed"

    await until(ended, 10, "it ends by itself")
    session = await candidate.session()
    assert session["end_reason"] == "expired" and session["placement"] is None
    assert [e["type"] for e in await candidate.events()] == ["created", "completed"], "no actor was needed"
    assert (await candidate.post("start", status=409))["current_status"] == "completed"


async def test_an_interview_without_any_sign_of_the_candidate_is_abandoned(http: httpx.AsyncClient) -> None:
    silent, drafting, answering = [Candidate(http) for _ in range(3)]
    for candidate in (silent, drafting, answering):
        await candidate.create(2, text_question_timer=600)
        await candidate.start()
    began = time.monotonic()
    draft = {"question_index": 0, "draft": "I am thinking"}
    await drafting.call("PUT", f"/session/{drafting.session_id}/draft", json=draft)
    await answering.answer(0, "x")

    async def abandoned() -> bool:
        return (await silent.session())["end_reason"] == "abandoned"

    await until(abandoned, ABANDON_AFTER + 10, "nobody came")
    assert time.monotonic() - began >= ABANDON_AFTER - 1

    async def let_go() -> bool:
        cluster = (await silent.call("GET", "/cluster"))["cluster"]
        return cluster["live_actors"] <= 2

    await until(let_go, 10, "no actor is held for it")
    for candidate in (drafting, answering):
        assert (await candidate.session())["status"] == "in_progress"
        await candidate.post("end")


async def test_an_interview_whose_questions_all_time_out_completes_by_itself(http: httpx.AsyncClient) -> None:
    candidate = Candidate(http)
    await candidate.create(2, text_question_timer=5)
    await candidate.start()
    await candidate.call("PUT", f"/session/{candidate.session_id}/draft", json={"question_index": 0, "draft": "half"})

    async def ended() -> bool:
        return (await candidate.session())["status"] == "completed"

    await until(ended, 25, "both questions run out")
    session = await candidate.session()
    assert session["end_reason"] == "finished"
    assert [(a["source"], a["answer"]) for a in session["answers"]] == [("draft", "half"), ("timeout", "")]
