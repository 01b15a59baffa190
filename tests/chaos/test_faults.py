"""Each promise about faults, on a real service: one test, one fault."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos import processes
from tests.chaos.conftest import until
from tests.chaos.driver import Driver
from tests.chaos.steps import arm, taken
from tests.cluster.candidate import Candidate
from tests.servers import Serve

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]


async def started(candidate: Candidate, questions: int = 4, **changes: Any) -> str:
    """A session in progress with its first question answered; the name of its actor."""
    await candidate.create(questions, **{"text_question_timer": 100, **changes})
    actor = (await candidate.start())["placement"]["actor"]
    await candidate.answer(0, "answer 0")
    return actor


def pid_of(service: Serve, actor: str) -> int:
    return processes.interview_actors(service)[actor]


async def closed(candidate: Candidate, index: int) -> list[dict[str, Any]]:
    """The journal's closings of a question; more than one would be a doubled answer."""
    return [e for e in await candidate.events() if e["type"] == "question_closed" and e["index"] == index]


@pytest.mark.parametrize(
    ("step", "do"),
    [
        ("append.before", "kill"),
        ("append.after", "kill"),
        ("append.after", "lose"),
        ("reply.before", "kill"),
        ("reply.before", "lose"),
        ("front_end.reply", "kill"),
        ("front_end.reply", "lose"),
    ],
)
async def test_a_command_whose_reply_is_lost_succeeds_once(
    service: Serve, candidate: Candidate, faults_folder: Path, step: str, do: str
) -> None:
    await started(candidate)
    arm(faults_folder, step, do, session=candidate.session_id)  # type: ignore[arg-type]
    await answer_through_anything(candidate, 1, "answer 1", "a1")
    assert taken(faults_folder, step), "the fault has happened"
    again = await candidate.request(
        "POST", "/answer", json={"question_index": 1, "answer": "answer 1"}, headers={"Idempotency-Key": "a1"}
    )
    assert again.status_code == 200 and again.headers["idempotency-replayed"] == "true"
    assert len(await closed(candidate, 1)) == 1
    await candidate.check_nothing_lost()


async def answer_through_anything(candidate: Candidate, index: int, text: str, key: str) -> None:
    """As `answer_at_last`, through broken connections too."""
    give_up = time.monotonic() + 30
    while True:
        try:
            await candidate.answer_at_last(index, text, key)
            return
        except httpx.TransportError:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("step", ["activate.before", "activate.after"])
async def test_an_actor_dies_while_it_takes_a_session(
    service: Serve, candidate: Candidate, faults_folder: Path, step: str
) -> None:
    actor = await started(candidate)
    arm(faults_folder, step, "kill", session=candidate.session_id)
    os.kill(pid_of(service, actor), signal.SIGKILL)
    await candidate.answer_at_last(1, "answer 1", "a1")
    assert taken(faults_folder, step)
    session = await candidate.check_nothing_lost()
    assert session["status_detail"] == "question_open" and session["clock"]["credited_seconds"] > 0


async def test_a_start_whose_actor_dies_is_one_start(service: Serve, candidate: Candidate, faults_folder: Path) -> None:
    for step in ("activate.before", "activate.after"):
        await candidate.create(2)
        arm(faults_folder, step, "kill", session=candidate.session_id)
        session = await candidate.start(headers={"Idempotency-Key": "s"})
        assert taken(faults_folder, step) and session["status"] == "in_progress"
        assert sum(e["type"] == "started" for e in await candidate.events()) == 1
        await candidate.post("end")


async def test_an_actor_that_was_cut_off_writes_nothing_and_ends_itself(
    service: Serve, candidate: Candidate, driver: Driver
) -> None:
    """It is stopped, and another one takes its session behind the Registry's back, so that nobody kills it."""
    old = await started(candidate)
    old_pid = pid_of(service, old)
    os.kill(old_pid, signal.SIGSTOP)
    try:
        new = driver.ask("take", candidate.session_id, time.time_ns() // 1_000_000)
        entries = len(await candidate.events())
        await asyncio.sleep(4)
    finally:
        os.kill(old_pid, signal.SIGCONT)
    await until(lambda: not Path(f"/proc/{old_pid}").exists(), 15, "the old actor ended itself")
    events = await candidate.events()
    assert len(events) == entries, "it wrote nothing"
    assert "fenced" in actor_logs(service) and '"reason": "fenced"' not in str(events)
    await candidate.answer_at_last(1, "answer 1", "a1")
    session = await candidate.check_nothing_lost()
    assert session["placement"] == {**session["placement"], "actor": new, "epoch": 2}, "the new owner is not disturbed"
    counted = 'interview_deactivations_total{.*reason="fenced".*} [1-9]'
    await until(lambda: re.search(counted, driver.ask("metrics")), 30, "a metric says so")
    assert driver.ask("status")["placements"][new] == candidate.session_id, "and the Registry has found it"


def actor_logs(service: Serve) -> str:
    """What the workers of the service's Ray have logged."""
    [head] = processes.pids_of(service, lambda command: "/ray start --head" in command)
    from tests.servers import command_of

    temp = next(word for word in command_of(head).split() if word.startswith("--temp-dir=")).split("=")[1]
    logs = Path(temp) / "session_latest" / "logs"
    return "".join(path.read_text(errors="replace") for path in logs.glob("worker-*.err"))


async def test_a_stopped_actor_is_noticed_by_the_front_end(service: Serve, candidate: Candidate) -> None:
    actor = await started(candidate)
    pid = pid_of(service, actor)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    await candidate.answer_at_last(1, "answer 1", "a1")
    took = time.monotonic() - began
    assert took < 5
    session = await candidate.check_nothing_lost()
    assert session["placement"]["actor"] != actor
    [credit] = session["clock"]["ledger"]
    assert credit["cause"] == "hung" and took - 1.5 < credit["seconds"] < took + 0.5
    await until(lambda: not Path(f"/proc/{pid}").exists(), 15, "the hung actor is ended")


async def test_a_blocked_actor_is_noticed_by_the_front_end(
    service: Serve, candidate: Candidate, faults_folder: Path
) -> None:
    actor = await started(candidate)
    arm(faults_folder, "reply.before", "hang", seconds=20, session=candidate.session_id)
    began = time.monotonic()
    await candidate.answer_at_last(1, "answer 1", "a1")
    assert taken(faults_folder, "reply.before") and time.monotonic() - began < 5
    session = await candidate.check_nothing_lost()
    assert session["placement"]["actor"] != actor and len(await closed(candidate, 1)) == 1


async def test_a_stopped_actor_whose_timer_is_due_is_noticed_by_the_housekeeper(
    service: Serve, candidate: Candidate
) -> None:
    actor = await started(candidate, text_question_timer=5)
    deadline = (await candidate.session())["current_question"]["deadline"]
    os.kill(pid_of(service, actor), signal.SIGSTOP)
    session = await until(
        lambda: moved(candidate, actor), 5 + 2 + 5, "another actor has it 5 s after the timer was due"
    )
    assert session["clock"]["ledger"] == [], "the deadline had passed before the fault was felt: nothing to give back"
    [timeout] = await until(lambda: closed(candidate, 1), 5, "the timer has fired")
    assert timeout["source"] == "timeout" and timeout["at"] > deadline


async def moved(candidate: Candidate, actor: str) -> dict[str, Any] | None:
    session = await candidate.session()
    placement = session["placement"]
    return session if placement is not None and placement["actor"] != actor else None


async def test_a_stopped_actor_that_goes_on_by_itself_gives_the_time_back(service: Serve, candidate: Candidate) -> None:
    actor = await started(candidate)
    pid = pid_of(service, actor)
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(6)
    os.kill(pid, signal.SIGCONT)
    ledger = await until(lambda: credited(candidate), 5, "the stall is credited")
    assert (await candidate.session())["placement"]["actor"] == actor, "nobody had asked for it meanwhile"
    assert 2.5 < sum(line["seconds"] for line in ledger) < 8
    await candidate.answer(1, "answer 1")
    await candidate.check_nothing_lost()


async def credited(candidate: Candidate) -> list[dict[str, Any]]:
    return (await candidate.session())["clock"]["ledger"]


async def test_poison_is_parked_and_staff_can_retry_or_end_it(
    service: Serve, candidate: Candidate, faults_folder: Path, driver: Driver
) -> None:
    actor = await started(candidate)
    arm(faults_folder, "activate.after", "kill", session=candidate.session_id, times=100)
    os.kill(pid_of(service, actor), signal.SIGKILL)
    session = await until(lambda: parked(candidate), 30, "the session is parked")
    assert session["current_question"]["deadline"] is None and session["placement"] is None
    await until(lambda: re.search("interview_parked_sessions{.*} 1", driver.ask("metrics")), 40, "a metric says so")
    stats = (await candidate.call("GET", "/stats"))["stats"]
    cluster = (await candidate.call("GET", "/cluster"))["cluster"]
    assert stats["parked_sessions"] == 1
    [shown] = [s for s in cluster["parked"] if s["session_id"] == candidate.session_id]
    assert "activations" in shown["reason"] or "actors died" in shown["reason"]
    shown_by_cli = status(service)
    assert "Parked" in shown_by_cli and candidate.session_id in shown_by_cli
    await candidate.answer(1, "answer 1", status=409)

    (faults_folder / "activate.after").unlink(missing_ok=True)
    left = session["current_question"]["remaining_seconds"]
    session = (await candidate.post("start"))["session"]
    assert session["status_detail"] == "question_open"
    assert session["current_question"]["remaining_seconds"] == pytest.approx(left, abs=0.5)
    assert "retry" in {line["cause"] for line in session["clock"]["ledger"]}
    await candidate.answer(1, "answer 1")
    await candidate.check_nothing_lost()


def status(service: Serve) -> str:
    command = [str(Path(sys.executable).parent / "parallel-interview"), "status", "--url", service.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"COLUMNS": "140"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def parked(candidate: Candidate) -> dict[str, Any] | None:
    session = await candidate.session()
    return session if session["status_detail"] == "parked" else None


@pytest.mark.parametrize("victim", ["Registry", "JournalActor"])
async def test_a_hung_system_actor_is_restarted(service: Serve, candidate: Candidate, victim: str) -> None:
    await started(candidate)
    [pid] = processes.actors_of(service, victim)
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: is_replaced(service, victim, pid), 25, f"another {victim} is there")
    await candidate.answer_at_last(1, "answer 1", "a1")
    session = await candidate.check_nothing_lost()
    assert session["placement"]["epoch"] == 1, "its own actor was not disturbed"
    other = Candidate(candidate.http)
    await other.create()
    await other.start()
    await other.post("end")


def is_replaced(service: Serve, class_name: str, pid: int) -> bool:
    return bool(set(processes.actors_of(service, class_name)) - {pid}) and not Path(f"/proc/{pid}").exists()


async def test_a_front_end_that_is_asked_to_end_finishes_what_it_has_begun(
    service: Serve, http: httpx.AsyncClient
) -> None:
    candidates = [Candidate(http) for _ in range(4)]
    for candidate in candidates:
        await started(candidate, questions=41)
    retries = 0

    async def answer_all(candidate: Candidate) -> None:
        nonlocal retries
        for index in range(1, 40):
            body = {"question_index": index, "answer": f"answer {index}"}
            response = None
            while response is None:
                try:
                    response = await candidate.request(
                        "POST", "/answer", json=body, headers={"Idempotency-Key": str(index)}
                    )
                except httpx.TransportError:
                    retries += 1
                    assert retries < 100
                    await asyncio.sleep(0.1)
            assert response.status_code == 200, response.text
            candidate.acknowledged[index] = f"answer {index}"

    async def terminate() -> None:
        await asyncio.sleep(0.2)
        for pid in processes.front_ends(service):
            os.kill(pid, signal.SIGTERM)

    await asyncio.gather(*map(answer_all, candidates), terminate())
    for candidate in candidates:
        session = await candidate.check_nothing_lost()
        assert session["placement"]["epoch"] == 1
        assert {line["cause"] for line in session["clock"]["ledger"]} <= {"storage_unavailable"}, "at most a slow write"
        await candidate.post("end")
    assert retries <= len(candidates), "one retry for each at most"
