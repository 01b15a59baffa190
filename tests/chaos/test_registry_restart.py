"""The Registry dies: it comes back, finds every live interview, and disturbs none."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.chaos import processes
from tests.chaos.conftest import say, until
from tests.chaos.driver import Driver
from tests.cluster.candidate import Candidate
from tests.servers import Serve

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

LIVE = int(os.environ.get("CHAOS_LIVE_AT_RESTART", "12"))
"""100 in the figures of docs/fault_injection.md."""


async def test_every_live_interview_is_re_attached_and_no_command_fails(
    service: Serve, http: httpx.AsyncClient, driver: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    candidates = [Candidate(http) for _ in range(LIVE)]
    for candidate in candidates:
        await candidate.create(200, text_question_timer=3600)
        await candidate.start()
    [registry] = processes.actors_of(service, "Registry")
    stop = asyncio.Event()
    failed: list[str] = []

    async def keep_answering(candidate: Candidate) -> None:
        for index in range(199):
            response = await candidate.request("POST", "/answer", json={"question_index": index, "answer": "x"})
            if response.status_code != 200:
                failed.append(response.text)
            else:
                candidate.acknowledged[index] = "x"
            if stop.is_set():
                return
            await asyncio.sleep(LIVE / 20)

    answering = [asyncio.create_task(keep_answering(candidate)) for candidate in candidates]
    await asyncio.sleep(1)
    os.kill(registry, signal.SIGKILL)
    killed_at = time.monotonic()
    ours = {candidate.session_id for candidate in candidates}

    async def all_attached() -> bool:
        status = await asyncio.to_thread(driver.ask, "status")
        return status is not None and ours <= set(status["placements"].values())

    await until(all_attached, 20, "all are attached")
    took = time.monotonic() - killed_at
    say(capsys, f"{LIVE} live interviews re-attached {took:.2f} s after the Registry was killed")
    await asyncio.sleep(1)
    stop.set()
    await asyncio.gather(*answering)
    assert failed == []
    assert took < (3.0 if LIVE >= 100 else 10.0)
    for candidate in candidates:
        session = await candidate.check_nothing_lost()
        assert session["placement"]["epoch"] == 1
        assert {line["cause"] for line in session["clock"]["ledger"]} <= {"storage_unavailable"}, "at most a slow write"
        await candidate.post("end")


async def test_interviews_that_nobody_holds_are_taken_up(service: Serve, http: httpx.AsyncClient) -> None:
    candidates = [Candidate(http) for _ in range(3)]
    actors = []
    for candidate in candidates:
        await candidate.create(3, text_question_timer=300)
        actors.append((await candidate.start())["placement"]["actor"])
    pids = processes.interview_actors(service)
    [registry] = processes.actors_of(service, "Registry")
    for pid in (registry, *(pids[actor] for actor in actors)):
        os.kill(pid, signal.SIGKILL)
    for candidate in candidates:
        await until(lambda c=candidate: _epoch(c, 2), 30, "taken up without a call")
        await candidate.answer(0, "x")
        session = await candidate.check_nothing_lost()
        assert session["clock"]["credited_seconds"] > 0
        await candidate.post("end")


async def _epoch(candidate: Candidate, epoch: int) -> bool:
    placement = (await candidate.session())["placement"]
    return placement is not None and placement["epoch"] == epoch


async def test_recover_shows_and_does_it_by_hand(service: Serve, candidate: Candidate, driver: Driver) -> None:
    shown = ""
    for _ in range(6):  # the Registry looks by itself every ten seconds, and may come first
        await candidate.create(3, text_question_timer=300)
        actor = driver.ask("start", candidate.session_id)
        os.kill(processes.interview_actors(service)[actor], signal.SIGKILL)
        shown = recover(service, "--dry-run")
        if candidate.session_id in shown:
            break
        await candidate.post("end")
    assert "held by nobody" in shown
    done = recover(service)
    assert candidate.session_id in done and "held now" in done
    assert "every interview in progress is held" in recover(service)
    await candidate.answer(0, "x")
    assert (await candidate.check_nothing_lost())["placement"]["epoch"] == 2


def recover(service: Serve, *options: str) -> str:
    command = [str(Path(sys.executable).parent / "parallel-interview"), "recover", "--url", service.url, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"COLUMNS": "120"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
