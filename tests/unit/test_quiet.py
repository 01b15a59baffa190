"""A main thread that waits as a Ray worker's does: a short timer in an epoll set, armed anew each time it fires."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll and timerfd are Linux's")

LOOP = """
import asyncio, ctypes, json, os, select, threading, time
from actors import quiet

libc = ctypes.CDLL(None)
timer = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
called = os.eventfd(0, os.EFD_NONBLOCK)
waiting = select.epoll()
waiting.register(timer, select.EPOLLIN)
waiting.register(called, select.EPOLLIN | select.EPOLLET)
woken = {timer: 0, called: 0}
quiet.SIGNALS_SECONDS, quiet.RETRY_SECONDS = 0.1, 0.003

async def often(seconds):
    before, at = woken[timer], time.monotonic()
    await asyncio.sleep(seconds)
    return (woken[timer] - before) / (time.monotonic() - at)

async def watch():
    found = {"before": await often(0.5)}
    task = asyncio.create_task(quiet.sleep_well())
    await asyncio.sleep(0.2)
    found["meanwhile"] = await often(1.0)
    for _ in range(5):
        os.eventfd_write(called, 1)
        await asyncio.sleep(0.02)
    found["called"] = woken[called]
    task.cancel()
    await asyncio.sleep(0.1)
    found["afterwards"] = await often(0.5)
    print(json.dumps(found), flush=True)
    os._exit(0)

threading.Thread(target=asyncio.run, args=(watch(),), daemon=True).start()
arm = (ctypes.c_long * 4)(0, 0, 0, 10_000_000)
while True:
    libc.timerfd_settime(timer, 0, arm, None)
    for fd, _ in waiting.poll():
        woken[fd] += 1
"""

SLEEPING = """
import asyncio, os, threading, time
from actors import quiet

quiet.RETRY_SECONDS, quiet.TRIES = 0.01, 5

async def watch():
    await quiet.sleep_well()
    print("0", flush=True)
    os._exit(0)

threading.Thread(target=asyncio.run, args=(watch(),), daemon=True).start()
time.sleep(60)
"""


def run(script: str) -> Any:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_the_timer_wakes_the_main_thread_less_often_and_calls_wake_it_as_ever() -> None:
    found = run(LOOP)
    assert found["before"] > 40 and found["afterwards"] > 40
    assert 5 <= found["meanwhile"] <= 11, "every 0.1 s"
    assert found["called"] == 5


def test_a_main_thread_that_waits_for_something_else_is_left_alone() -> None:
    assert run(SLEEPING) == 0
