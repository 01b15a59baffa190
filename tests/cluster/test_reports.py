"""Reports of interviews that ran: made in the background, kept up to date, and gone with the session."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import httpx
import pytest

from tests.cluster.candidate import Candidate
from tests.servers import Serve, command_of, descendants

pytestmark = pytest.mark.cluster

PATIENCE = 60.0


async def report_of(candidate: Candidate, **expected: Any) -> dict[str, Any]:
    """The report, once it is there (and has these members), and how it was told to wait until then."""
    give_up = time.monotonic() + PATIENCE
    root = str(candidate.http.base_url).split("/api/")[0]
    async with httpx.AsyncClient(base_url=root, timeout=30) as http:
        while True:
            answer = await http.get(f"/api/reports/{candidate.session_id}")
            if answer.status_code == 200:
                report = answer.json()["report"]
                if all(report[name] == value for name, value in expected.items()):
                    return report
            else:
                assert answer.status_code == 202 and int(answer.headers["Retry-After"]) >= 1, answer.text
            assert time.monotonic() < give_up, answer.text[:300]
            await asyncio.sleep(0.2)


async def finished(candidate: Candidate) -> None:
    await candidate.create(questions=2, job_id="default", question_types=["text", "coding"])
    await candidate.start()
    await candidate.answer(0, "a first answer")
    await candidate.answer(1, "def f():\n    return 1")


async def test_a_report_is_there_soon_after_the_end(candidate: Candidate) -> None:
    await finished(candidate)
    ended = time.monotonic()
    report = await report_of(candidate, outdated=False)
    assert time.monotonic() - ended < 20
    assert [q["answer"] for q in report["questions"]] == ["a first answer", "def f():\n    return 1"]
    assert report["journal"]["verified"] is True and report["partial"] is False
    assert report["job"] == {"job_id": "default", "title": "General interview", "questions_drawn": None}
    assert report["questions"][0]["scores"][0]["evaluator"] == "completeness"
    assert "report_made" in [event["type"] for event in await candidate.events()]
    assert (await candidate.call("GET", f"/session/{candidate.session_id}/journal/verify"))["journal"]["ok"]


async def test_a_partial_interview_has_a_report_and_a_review_renews_it(candidate: Candidate) -> None:
    await candidate.create(questions=3)
    await candidate.start()
    await candidate.request("PUT", "/draft", json={"question_index": 0, "draft": "half a"})
    await candidate.post("end", {"reason": "a fire alarm"})
    report = await report_of(candidate)
    assert report["partial"] and report["interview"]["end_note"] == "a fire alarm"
    assert (report["questions"][0]["source"], report["questions"][0]["answer"]) == ("draft", "half a")
    root = str(candidate.http.base_url).split("/api/")[0]
    async with httpx.AsyncClient(base_url=root) as http:
        review = {"verdict": "hold", "note": "again next week"}
        assert (await http.post(f"/api/reports/{candidate.session_id}/review", json=review)).status_code == 200
        renewed = await report_of(candidate, outdated=False)
        assert [r["note"] for r in renewed["reviews"]] == ["again next week"]
        page = await http.get(f"/api/reports/{candidate.session_id}", headers={"Accept": "text/html"})
        assert page.status_code == 200 and "again next week" in page.text
        await candidate.call("DELETE", f"/session/{candidate.session_id}")
        assert (await http.get(f"/api/reports/{candidate.session_id}")).status_code == 404


async def test_a_report_is_made_although_its_process_is_killed(candidate: Candidate, service: Serve) -> None:
    """kill -9 of whatever process takes the task up, as soon as it is seen."""
    assert service.process is not None
    parent, killed = service.process.pid, 0

    async def kill_the_first() -> None:
        nonlocal killed
        while not killed:
            for pid in descendants(parent):
                if "reports:" in command_of(pid):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                    break
            await asyncio.sleep(0.002)

    killer = asyncio.create_task(kill_the_first())
    try:
        await finished(candidate)
        report = await report_of(candidate)
    finally:
        killer.cancel()
    assert report["questions"][0]["answer"] == "a first answer"
    events = [event["type"] for event in await candidate.events()]
    assert events.count("report_made") == 1


async def test_many_that_end_at_once_all_get_theirs(candidate: Candidate) -> None:
    """Interviews that staff end without an answer, one after another."""
    others = [Candidate(candidate.http) for _ in range(6)]
    for other in others:
        await other.create(questions=1)
        await other.start()
    await asyncio.gather(*(other.post("end") for other in others))
    reports = await asyncio.gather(*(report_of(other) for other in others))
    assert {r["session_id"] for r in reports} == {other.session_id for other in others}
