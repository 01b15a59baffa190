"""`serve`: starting, refusing to start, ending without a trace, and going on where it stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.cluster.candidate import Candidate
from tests.servers import Serve, command_of, descendants

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


async def test_stop_and_start_with_interviews_in_progress(tmp_path: Path) -> None:
    service = Serve(tmp_path, INTERVIEW_WARM_ACTORS="1")
    try:
        service.start()
        async with httpx.AsyncClient(base_url=service.api, timeout=30) as http:
            one, two = Candidate(http), Candidate(http)
            for candidate in (one, two):
                await candidate.create(questions=3, text_question_timer=100)
                await candidate.start()
            await one.answer(0, "before")
            left = (await two.session())["current_question"]["remaining_seconds"]
        assert service.process is not None
        pids = [service.process.pid, *descendants(service.process.pid)]
        assert any("nx-27017" in command_of(pid) for pid in pids)
        stopped_at = time.time()
        took = service.stop()
        assert took < 10
        assert service.process.returncode == 0
        assert [command_of(pid) for pid in pids if command_of(pid)] == []
        assert "Traceback" not in service.log and "SIGTERM received" not in service.log

        time.sleep(2)
        service.start()
        down = time.time() - stopped_at
        async with httpx.AsyncClient(base_url=service.api, timeout=30) as http:
            one.http = two.http = http
            await one.answer_at_last(1, "after", "a1")
            assert (await one.check_nothing_lost())["status"] == "in_progress"
            session = await two.session()
            assert session["status_detail"] == "question_open" and session["placement"]["epoch"] >= 2
            assert session["current_question"]["remaining_seconds"] > left - 15, "clocks stood still meanwhile"
            assert session["clock"]["credited_seconds"] > down - 15
    finally:
        service.stop()


def test_a_second_service_on_the_same_data_says_so(tmp_path: Path) -> None:
    from orchestrator.storage.embedded import EmbeddedServer

    first = EmbeddedServer(tmp_path / "data")
    first.start()
    try:
        second = Serve(tmp_path)
        assert ended(second.spawn()) == 1
        assert "in use by another service" in second.log
    finally:
        first.stop()


def test_a_taken_port_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        service = Serve(tmp_path, taken.getsockname()[1])
        assert ended(service.spawn()) == 1
    assert "Cannot listen on" in service.log and "--port" in service.log


def test_an_open_service_stays_on_loopback(tmp_path: Path) -> None:
    service = Serve(tmp_path)
    assert ended(service.spawn("--host", "0.0.0.0")) != 0
    assert "INTERVIEW_API_KEY" in service.log and "--insecure" in service.log


def test_a_ctrl_c_while_starting_leaves_nothing(tmp_path: Path) -> None:
    service = Serve(tmp_path)
    process = service.spawn()
    give_up = time.monotonic() + 30
    while "dashboard" not in service.log and time.monotonic() < give_up:
        time.sleep(0.1)
    time.sleep(1)
    pids = descendants(process.pid)
    assert service.stop() < 10
    assert [command_of(pid) for pid in pids if command_of(pid)] == []


def test_the_embedded_database_is_started_again(tmp_path: Path) -> None:
    service = Serve(tmp_path, INTERVIEW_WARM_ACTORS="1")
    try:
        service.start()
        os.kill(service.note["database_pid"], signal.SIGKILL)
        give_up = time.monotonic() + 20
        while "starting it again" not in service.log and time.monotonic() < give_up:
            time.sleep(0.1)
        service.wait_ready()
        body = {"name": "A", "email": "a@example.com", "questions": ["q"]}
        assert httpx.post(f"{service.api}/create", json=body, timeout=10).status_code == 200
    finally:
        service.stop()


def ended(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(30)
    finally:
        process.kill()
