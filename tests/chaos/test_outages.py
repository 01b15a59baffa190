"""The storage is away: commands say so in time, actors keep their state, and everybody gets the time back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos import processes
from tests.chaos.conftest import until
from tests.cluster.candidate import Candidate, checked
from tests.servers import Embedded, Serve, serving

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

AWAY_SECONDS = 60.0
LIMIT_SECONDS = 600


async def in_progress(http: httpx.AsyncClient) -> Candidate:
    candidate = Candidate(http)
    await candidate.create(4, text_question_timer=LIMIT_SECONDS)
    await candidate.start()
    await candidate.answer(0, "before")
    return candidate


async def credited_seconds(candidate: Candidate) -> float:
    return (await candidate.session())["clock"]["credited_seconds"]


async def given_back(candidate: Candidate, least: float, most: float) -> None:
    """See that so many seconds are credited soon. (It can come in two parts, one just after the other.)"""

    async def enough() -> bool:
        return await credited_seconds(candidate) > least

    await until(enough, 10, f"more than {least} s are given back")
    await asyncio.sleep(1)
    assert least < await credited_seconds(candidate) < most


async def test_mongodb_is_away_for_a_minute(tmp_path: Path) -> None:
    database = Embedded(tmp_path / "database")
    database.start()
    try:
        with serving(tmp_path / "serve", MONGODB_URL=database.url, INTERVIEW_WARM_ACTORS="2") as service:
            async with httpx.AsyncClient(base_url=service.api, timeout=30) as http:
                busy, idle, paused, waiting = [await in_progress(http) for _ in range(3)] + [Candidate(http)]
                await paused.post("pause")
                await waiting.create()
                before = {c.session_id: await c.session() for c in (busy, idle, paused)}
                database.kill()
                went_at = time.monotonic()
                await _commands_say_so(busy, waiting, went_at + AWAY_SECONDS)
                database.start()
                away = time.monotonic() - went_at

                await busy.answer_at_last(1, "after", "a1")
                for candidate in (busy, idle):
                    await given_back(candidate, away - 2.5, away + 5)
                assert await credited_seconds(paused) == 0
                left = before[idle.session_id]["current_question"]["remaining_seconds"]
                assert left - 6 < (await idle.session())["current_question"]["remaining_seconds"] <= left
                await paused.post("resume")
                await waiting.start()
                for candidate in (busy, idle, paused):
                    session = await candidate.check_nothing_lost()
                    assert session["placement"] == before[candidate.session_id]["placement"], "no actor was lost"
    finally:
        database.stop()


async def _commands_say_so(busy: Candidate, waiting: Candidate, until_time: float) -> None:
    """While the storage is away: every call is answered within 4 s, by 503 and when to come again."""
    answer = {"json": {"question_index": 1, "answer": "after"}, "headers": {"Idempotency-Key": "a1"}}
    calls: list[tuple[Candidate, str, str, dict[str, Any]]] = [
        (busy, "POST", "/answer", answer),
        (busy, "PUT", "/draft", {"json": {"question_index": 1, "draft": "x"}}),
        (busy, "GET", "", {}),
        (waiting, "POST", "/start", {}),
        (waiting, "PATCH", "", {"json": {"name": "Eve"}}),
    ]
    while time.monotonic() < until_time:
        began = time.monotonic()
        responses = await asyncio.gather(*(c.request(method, path, **more) for c, method, path, more in calls))
        took = time.monotonic() - began
        for response in responses:
            checked(response, 503)
            assert int(response.headers["retry-after"]) >= 1
        assert took < 4.0 + 0.5, "all five at once, with half a second for the client"
        await asyncio.sleep(1)


async def test_the_embedded_database_hangs_for_a_while(service: Serve, http: httpx.AsyncClient) -> None:
    busy, idle = [await in_progress(http) for _ in range(2)]
    [pid] = processes.databases(service)
    os.kill(pid, signal.SIGSTOP)
    stopped_at = time.monotonic()
    try:
        await asyncio.sleep(1)
        response = await busy.request(
            "POST", "/answer", json={"question_index": 1, "answer": "x"}, headers={"Idempotency-Key": "a1"}
        )
        checked(response, 503)
        assert time.monotonic() - stopped_at < 1 + 4.0 + 0.5
        await asyncio.sleep(max(0, stopped_at + 8 - time.monotonic()))
    finally:
        os.kill(pid, signal.SIGCONT)
    away = time.monotonic() - stopped_at
    await busy.answer_at_last(1, "x", "a1")
    for candidate in (busy, idle):
        await given_back(candidate, away - 2.5, away + 4)
        await candidate.check_nothing_lost()
        await candidate.post("end")
