"""The demo's candidates against a service that is only a transport: retries, and what reading back finds."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any

import httpx
import pytest

from orchestrator.demo import Acknowledged, Demo, Findings, compare, percentile


class FakeService:
    """Sessions in a dict. `busy` answers that many calls with 503; `forgets` is the answer it drops."""

    def __init__(self, busy: int = 0, forgets: int | None = None) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.busy = busy
        self.forgets = forgets
        self.keys: dict[str, list[str]] = defaultdict(list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.keys[request.url.path].append(request.headers["Idempotency-Key"])
        if self.busy:
            self.busy -= 1
            return httpx.Response(503, headers={"Retry-After": "0"}, json={"detail": "full"})
        body = json.loads(request.content or b"{}")
        match request.url.path.split("/")[3:]:
            case ["create"]:
                session_id = f"s{len(self.sessions)}"
                self.sessions[session_id] = {
                    "status": "initialized",
                    "answers": [],
                    "n": len(body["questions"]),
                }
                return httpx.Response(200, json={"session_id": session_id, "candidate_token": "t"})
            case ["session", session_id, *call]:
                return self._session(self.sessions[session_id], call, body)
        return httpx.Response(404, json={"detail": "no such path"})

    def _session(self, session: dict[str, Any], call: list[str], body: dict[str, Any]) -> httpx.Response:
        if call == ["start"]:
            session["status"] = "in_progress"
        if call == ["answer"]:
            if body["question_index"] != self.forgets:
                session["answers"].append(body)
            if body["question_index"] == session["n"] - 1:
                session["status"] = "completed"
        return httpx.Response(200, json={"session": session})


async def _play(service: FakeService, candidates: int = 3) -> tuple[Demo, Findings]:
    transport = httpx.MockTransport(service)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
        demo = Demo(http, candidates, seed=1, think_seconds=0)
        await demo.interviews()
        return demo, await demo.read_back()


def test_whole_interviews_leave_nothing_lost() -> None:
    demo, findings = asyncio.run(_play(FakeService()))
    assert len(demo.acknowledged) == 3
    assert all(kept.finished for kept in demo.acknowledged)
    assert findings.checked == sum(len(kept.answers) for kept in demo.acknowledged) >= 9
    assert (findings.lost, findings.doubled, findings.unfinished, demo.tally.messages) == ([], [], [], [])


def test_a_busy_service_is_asked_again_with_the_same_key() -> None:
    service = FakeService(busy=2)
    demo, findings = asyncio.run(_play(service, candidates=1))
    assert demo.tally.retries["create"] == 2
    assert not demo.tally.errors
    keys = service.keys["/api/parallel_interview/create"]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert not findings.lost


def test_an_answer_the_service_forgot_is_found() -> None:
    _, findings = asyncio.run(_play(FakeService(forgets=1), candidates=2))
    assert findings.lost == ["s0 question 1", "s1 question 1"]


def test_a_refused_call_is_an_error_and_ends_the_interview() -> None:
    service = FakeService()
    service._session = lambda *_: httpx.Response(409, json={"detail": "no"})  # type: ignore[method-assign]
    demo, _ = asyncio.run(_play(service, candidates=1))
    assert demo.tally.errors["start"] == 1
    assert not demo.acknowledged[0].finished


def test_doubled_and_changed_answers_are_told_apart() -> None:
    findings = Findings()
    answers = [{"question_index": 0, "answer": "a"}] * 2 + [{"question_index": 1, "answer": "other"}]
    compare(Acknowledged("s", {0: "a", 1: "b"}, finished=True), {"answers": answers, "status": "x"}, findings)
    assert (findings.lost, findings.doubled, findings.unfinished) == (
        ["s question 1"],
        ["s question 0"],
        ["s"],
    )


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentile_is_nearest_rank(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected
