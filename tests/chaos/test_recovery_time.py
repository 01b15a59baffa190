"""How long a candidate waits whose interview's actor was killed, while a warm actor is there."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import httpx
import pytest

from orchestrator.demo import percentile
from tests.chaos import processes
from tests.chaos.conftest import say, until
from tests.cluster.candidate import Candidate
from tests.servers import Serve

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("CHAOS_KILLS", "5"))
"""40 in the figures of docs/fault_injection.md."""


async def test_from_the_kill_to_the_next_success(
    service: Serve, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    took = [await _kill_and_answer(service, Candidate(http), f"a{number}") for number in range(KILLS)]
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    say(capsys, f"{KILLS} kills: answered again after p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms")
    assert p99 < (1.0 if KILLS >= 20 else 3.0)
    assert p50 < (0.1 if KILLS >= 20 else 1.0)


async def _kill_and_answer(service: Serve, candidate: Candidate, key: str) -> float:
    await candidate.create(3, text_question_timer=100)
    actor = (await candidate.start())["placement"]["actor"]
    await candidate.answer(0, "before")

    async def warm() -> bool:
        return (await candidate.call("GET", "/stats"))["stats"]["warm_actors"] >= 2

    await until(warm, 60, "a warm actor is there")
    await asyncio.sleep(1)
    pid = processes.interview_actors(service)[actor]
    killed_at = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    await candidate.answer_at_last(1, "after", key)
    took = time.monotonic() - killed_at
    await candidate.check_nothing_lost()
    await candidate.post("end")
    return took
