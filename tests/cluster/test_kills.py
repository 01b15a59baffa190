"""Processes die in the middle of interviews, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import httpx
import pytest

from tests.cluster.candidate import Candidate, actor_pids
from tests.servers import Serve

pytestmark = pytest.mark.cluster


async def test_the_actor_of_an_interview_is_killed(service: Serve, candidate: Candidate) -> None:
    await candidate.create(questions=3, text_question_timer=60)
    started = await candidate.start()
    await candidate.answer(0, "before")
    actor = started["placement"]["actor"]
    os.kill((await actor_pids(service))[actor], signal.SIGKILL)
    await candidate.answer_at_last(1, "after", "a1")
    session = await candidate.check_nothing_lost()
    assert session["placement"]["epoch"] == 2 and session["placement"]["actor"] != actor
    assert session["clock"]["credited_seconds"] > 0, "the time without a holder is ours"
    assert {entry["cause"] for entry in session["clock"]["ledger"]} == {"crash"}


async def test_an_idle_interview_is_taken_up_without_a_call(service: Serve, candidate: Candidate) -> None:
    await candidate.create(questions=2, text_question_timer=60)
    actor = (await candidate.start())["placement"]["actor"]
    os.kill((await actor_pids(service))[actor], signal.SIGKILL)
    assert await epoch_reached(candidate, 2, 20)
    await candidate.answer(0, "x")
    await candidate.check_nothing_lost()


async def epoch_reached(candidate: Candidate, epoch: int, seconds: float) -> bool:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if (await candidate.session())["placement"]["epoch"] >= epoch:
            return True
        await asyncio.sleep(0.2)
    return False


@pytest.mark.parametrize("victim", ["JournalActor-", "Registry", "Housekeeper"])
async def test_a_system_actor_is_killed_under_load(service: Serve, http: httpx.AsyncClient, victim: str) -> None:
    candidates = [Candidate(http) for _ in range(3)]
    for candidate in candidates:
        await candidate.create(questions=41)
        await candidate.start()
    pids = await actor_pids(service)
    pid = next(pid for name, pid in pids.items() if name.startswith(victim))

    async def answer_all(candidate: Candidate) -> None:
        for index in range(40):
            await candidate.answer_at_last(index, f"answer {index}", f"a{index}")

    async def kill() -> None:
        await asyncio.sleep(0.15)
        os.kill(pid, signal.SIGKILL)

    await asyncio.gather(*map(answer_all, candidates), kill())
    for candidate in candidates:
        session = await candidate.check_nothing_lost()
        assert session["placement"]["epoch"] == 1, "its own actor was not disturbed"
        await candidate.post("end")
    await Candidate(http).create()


async def test_a_start_works_while_the_registry_restarts(service: Serve, candidate: Candidate) -> None:
    await candidate.create()
    os.kill((await actor_pids(service))["Registry"], signal.SIGKILL)
    started = await candidate.start()
    assert started["status"] == "in_progress"
    await candidate.answer(0, "x")


async def test_the_front_end_is_killed(service: Serve, candidate: Candidate) -> None:
    await candidate.create(questions=3)
    before = await candidate.start()
    await candidate.answer(0, "x")
    front_end = next(p for p in front_ends(service))
    os.kill(front_end, signal.SIGKILL)
    give_up = time.monotonic() + 40
    while True:
        try:
            await candidate.answer_at_last(1, "y", "a1")
            break
        except httpx.TransportError:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.2)
    session = await candidate.check_nothing_lost()
    assert session["placement"] == before["placement"]


def front_ends(service: Serve) -> list[int]:
    from tests.servers import command_of, descendants

    assert service.process is not None
    return [pid for pid in descendants(service.process.pid) if command_of(pid).endswith("-m api")]
