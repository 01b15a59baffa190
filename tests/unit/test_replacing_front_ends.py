"""How `serve` replaces its front ends: the older one stays until the newer one says that it is ready."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.serve import Child, Supervisor
from orchestrator.settings import Settings

WAITS = "import time; time.sleep(60)"
READY = "import os, sys, time; os.write(int(sys.argv[1]), b'1'); time.sleep(60)"
FAILS = "raise SystemExit(1)"


class Programs:
    """Starts what stands for a front end: the first time one program, then another."""

    def __init__(self, *texts: str) -> None:
        self._texts = list(texts)
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, ready_fd: int = -1) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", self._texts.pop(0), str(ready_fd)]
        process = subprocess.Popen(command, pass_fds=[fd for fd in (ready_fd,) if fd >= 0], stderr=subprocess.DEVNULL)
        self.started.append(process)
        return process


@pytest.fixture
def programs() -> Iterator[Callable[..., Programs]]:
    made: list[Programs] = []

    def make(*texts: str) -> Programs:
        made.append(Programs(*texts))
        return made[-1]

    yield make
    for process in (process for programs in made for process in programs.started):
        process.kill()
        process.wait()


def supervisor(tmp_path: Path, *programs: Programs) -> Supervisor:
    settings = Settings(_env_file=None, data_dir=tmp_path)  # pyright: ignore[reportCallIssue]
    found = Supervisor(settings, "127.0.0.1", 0)
    for number, one in enumerate(programs):
        found.children.append(Child(f"front end {number + 1}", one.start))
        found.children[-1].ensure()
    return found


def look_until(found: Supervisor, condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        found._replace()
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_one_after_another_once_the_newer_is_ready(tmp_path: Path, programs: Callable[..., Programs]) -> None:
    one, two = programs(WAITS, READY), programs(WAITS, READY)
    found = supervisor(tmp_path, one, two)
    found._ask_to_replace(0, None)
    look_until(found, lambda: found.children[0].process is not one.started[0])
    assert len(two.started) == 1 and two.started[0].poll() is None, "the second waits for its turn"
    look_until(found, lambda: not found.leaving and found.children[1].process is not two.started[0])
    assert [p.poll() is None for p in (*one.started, *two.started)] == [False, True, False, True]


def test_the_older_stays_where_the_newer_does_not_come_up(tmp_path: Path, programs: Callable[..., Programs]) -> None:
    one, two = programs(WAITS, FAILS), programs(WAITS)
    found = supervisor(tmp_path, one, two)
    found._ask_to_replace(0, None)
    look_until(found, lambda: len(one.started) == 2 and found.successor is None)
    assert found.children[0].process is one.started[0] and one.started[0].poll() is None
    assert not found.outdated and len(two.started) == 1, "nor is any other replaced"


def test_one_that_does_not_end_is_killed(tmp_path: Path, programs: Callable[..., Programs]) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    one = programs(stubborn, READY)
    found = supervisor(tmp_path, one)
    time.sleep(0.5)
    found._ask_to_replace(0, None)
    look_until(found, lambda: bool(found.leaving))
    found.leaving[0].kill_at = time.monotonic()
    look_until(found, lambda: not found.leaving)
    assert one.started[0].poll() is not None and one.started[1].poll() is None
