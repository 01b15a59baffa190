"""An idle interview sleeps."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest

from actors import quiet
from tests.chaos.conftest import until
from tests.cluster.candidate import Candidate, actor_pids
from tests.servers import Serve

pytestmark = pytest.mark.cluster


def wakes(pid: int) -> int:
    """How often the main thread of a process has gone to sleep."""
    status = Path(f"/proc/{pid}/task/{pid}/status").read_text()
    return int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)[0])


async def test_an_idle_interview_wakes_a_few_times_a_second(service: Serve, candidate: Candidate) -> None:
    await candidate.create(questions=2, text_question_timer=600)
    actor = (await candidate.start())["placement"]["actor"]
    pid = (await actor_pids(service))[actor]

    async def sleeps() -> bool:
        before = wakes(pid)
        await asyncio.sleep(2)
        return wakes(pid) - before < 40  # of 200, if Ray looked for signals every 10 ms

    await until(sleeps, quiet.TRIES * quiet.RETRY_SECONDS + 10, "an interview that sleeps")
    began = time.monotonic()
    await candidate.answer(0, "x")
    assert time.monotonic() - began < 0.5, "a call does not wait for it to wake by itself"
    await candidate.answer(1, "y")
    await candidate.check_nothing_lost()
