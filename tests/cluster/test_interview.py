"""A whole interview through REST, and everything that clients rely on around it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.cluster.candidate import Candidate, checked

pytestmark = pytest.mark.cluster


async def test_a_whole_interview(candidate: Candidate) -> None:
    made = await candidate.create(
        questions=2, question_types=["text", "coding"], phone="+1", metadata={"ref": "A-1"}, text_question_timer=60
    )
    assert made["links"]["candidate"].endswith(f"/interview/{candidate.session_id}#{made['candidate_token']}")
    assert made["livekit"]["mode"] == "fallback" and made["livekit"]["room"] == f"interview-{candidate.session_id}"
    waiting = made["session"]
    assert (waiting["status"], waiting["status_detail"], waiting["version"]) == ("initialized", "waiting", 1)
    assert waiting["placement"] is None and waiting["current_question"] is None

    started = await candidate.start()
    assert (started["status"], started["status_detail"]) == ("in_progress", "question_open")
    question = started["current_question"]
    assert (question["index"], question["type"], question["time_limit_seconds"]) == (0, "text", 60)
    assert 55 < question["remaining_seconds"] <= 60
    assert started["placement"]["actor"].startswith("InterviewActor-") and started["placement"]["epoch"] == 1

    second = (await candidate.answer(0, "first"))["session"]
    assert second["current_question_count"] == 1 and second["current_question"]["time_limit_seconds"] == 300
    done = (await candidate.answer(1, "def f():\n\treturn '✓'", headers={"Idempotency-Key": "k"}))["session"]
    assert (done["status"], done["status_detail"], done["end_reason"]) == ("completed", "ended", "finished")
    assert [a["answer"] for a in done["answers"]] == ["first", "def f():\n\treturn '✓'"]
    assert done["placement"] is None and done["current_question"] is None
    await candidate.check_nothing_lost()
    types = [event["type"] for event in await candidate.events()]
    assert types[0] == "created" and types[-1] == "completed" and "activated" in types


async def test_any_script_comes_back_as_it_went_in(candidate: Candidate) -> None:
    name, text = "نور 李雷 👩🏽‍🚀", "\u202eשלום\u202c\r\n\ttab \u0000"[:-1] + " 𝔘𝔫𝔦 e\u0301 é 🇺🇳"
    await candidate.create(name=name, email="δοκιμή@παράδειγμα.gr", questions=1)
    await candidate.start()
    done = (await candidate.answer(0, text))["session"]
    assert done["candidate"]["name"] == name and done["candidate"]["email"] == "δοκιμή@παράδειγμα.gr"
    assert (await candidate.session())["answers"][0]["answer"] == text


async def test_repeats_change_nothing(candidate: Candidate) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"name": "A", "email": "a@example.com", "questions": ["q1", "q2"]}
    answers = await asyncio.gather(*(candidate.http.post("/create", json=body, headers=key) for _ in range(5)))
    assert len({checked(a, 200)["session_id"] for a in answers}) == 1
    assert sum("idempotency-replayed" in a.headers for a in answers) == 4
    candidate.session_id = answers[0].json()["session_id"]
    checked(await candidate.http.post("/create", json={**body, "name": "B"}, headers=key), 422)

    first = await candidate.start(headers={"Idempotency-Key": "start"})
    again = await candidate.start()
    assert again["version"] == first["version"], "a start while in progress changes nothing"

    send = {"json": {"question_index": 0, "answer": "x"}, "headers": {"Idempotency-Key": "a0"}}
    tries = await asyncio.gather(*(candidate.request("POST", "/answer", **send) for _ in range(5)))
    assert {checked(t, 200)["session"]["version"] for t in tries} == {first["version"] + 1}
    assert sum("idempotency-replayed" in t.headers for t in tries) == 4
    same = await candidate.answer(0, "x")
    assert same["session"]["version"] == first["version"] + 1
    await candidate.answer(0, "another", status=409)
    reused = {"json": {"question_index": 1, "answer": "x"}, "headers": {"Idempotency-Key": "a0"}}
    checked(await candidate.request("POST", "/answer", **reused), 422)
    candidate.acknowledged = {0: "x"}
    await candidate.check_nothing_lost()


async def test_the_wrong_state_is_409_and_says_what_is_allowed(candidate: Candidate) -> None:
    await candidate.create(questions=1)
    early = await candidate.answer(0, "x", status=409)
    assert early["current_status"] == "initialized" and "start" in early["allowed_actions"]
    await candidate.post("pause", status=409)
    await candidate.start()
    await candidate.answer(1, "x", status=400)
    patch = checked(await candidate.request("PATCH", "", json={"name": "B"}), 409)
    assert patch["current_status"] == "in_progress"
    await candidate.answer(0, "x")
    late = await candidate.answer(0, "y", status=409)
    assert late["current_status"] == "completed" and isinstance(late["allowed_actions"], list)
    await candidate.post("start", status=409)


async def test_versions_and_conditions(candidate: Candidate) -> None:
    await candidate.create()
    seen = await candidate.request("GET", "")
    assert seen.headers["etag"] == '"1"'
    same = await candidate.request("GET", "", headers={"If-None-Match": '"1"'})
    assert same.status_code == 304 and same.content == b""
    changed = await candidate.request("PATCH", "", json={"name": "Grace"}, headers={"If-Match": '"1"'})
    assert checked(changed, 200)["session"]["candidate"]["name"] == "Grace" and changed.headers["etag"] == '"2"'
    checked(await candidate.request("PATCH", "", json={"name": "Eve"}, headers={"If-Match": '"1"'}), 412)
    await candidate.start(headers={"If-Match": '"2"'})
    checked(await candidate.request("POST", "/pause", headers={"If-Match": '"2"'}), 412)
    checked(await candidate.request("DELETE", "", headers={"If-Match": '"2"'}), 412)


async def test_the_clock_stops_and_goes_on(candidate: Candidate) -> None:
    await candidate.create(text_question_timer=30)
    await candidate.start()
    paused = (await candidate.post("pause", {"reason": "fire alarm"}))["session"]
    assert paused["status_detail"] == "paused" and paused["current_question"]["deadline"] is None
    await candidate.answer(0, "x", status=409)
    await asyncio.sleep(2.5)
    resumed = (await candidate.post("resume"))["session"]["current_question"]
    left = paused["current_question"]["remaining_seconds"]
    assert abs(resumed["remaining_seconds"] - left) < 1.5
    more = {"seconds": 45, "reason": "alarm"}
    await candidate.post("extend", more, status=400)
    extended = await candidate.post("extend", more, headers={"Idempotency-Key": "e1"})
    again = await candidate.post("extend", more, headers={"Idempotency-Key": "e1"})
    assert extended["session"]["version"] == again["session"]["version"]
    assert again["session"]["current_question"]["remaining_seconds"] == pytest.approx(left + 45, abs=2)


async def test_a_question_that_runs_out_takes_its_draft(candidate: Candidate) -> None:
    await candidate.create(questions=3, text_question_timer=5)
    await candidate.start()
    body: dict[str, Any] = {"question_index": 0, "draft": "half an ans", "revision": 3}
    assert checked(await candidate.request("PUT", "/draft", json=body), 200)["saved"] is True
    lower = checked(await candidate.request("PUT", "/draft", json={**body, "revision": 2}), 200)
    assert (lower["saved"], lower["revision"]) == (False, 3)
    session = await candidate.session()
    while session["current_question_count"] == 0:
        await asyncio.sleep(0.1)
        session = await candidate.session()
    [expired] = session["answers"]
    assert (expired["answer"], expired["source"], expired["elapsed_seconds"]) == ("half an ans", "draft", 5)
    assert session["current_question"]["index"] == 1
    checked(await candidate.request("PUT", "/draft", json=body), 409)


async def test_ends(candidate: Candidate) -> None:
    await candidate.create()
    assert (await candidate.post("end"))["session"]["end_reason"] == "cancelled"
    assert (await candidate.post("end"))["session"]["status"] == "completed"
    await candidate.create()
    await candidate.start()
    ended = (await candidate.post("end", {"reason": "enough"}))["session"]
    assert (ended["end_reason"], ended["placement"]) == ("ended_by_staff", None)
    await candidate.create()
    await candidate.start()
    checked(await candidate.request("DELETE", ""), 200)
    checked(await candidate.request("GET", ""), 404)
    await candidate.answer(0, "x", status=404)


async def test_expiry_before_the_start(candidate: Candidate) -> None:
    await candidate.create(expires_at="2020-01-01T00:00:00Z")
    answer = await candidate.request("POST", "/start")
    assert answer.status_code == 409
    assert (await candidate.session())["end_reason"] == "expired"


async def test_lists_are_paged_and_filtered(candidate: Candidate) -> None:
    job = f"job-{uuid.uuid4().hex[:8]}"
    made = [(await candidate.create(job_id=job))["session_id"] for _ in range(5)]
    await candidate.start()
    pages: list[str] = []
    query: dict[str, Any] = {"job_id": job, "limit": 2, "include": "total"}
    while True:
        page = await candidate.call("GET", "/sessions", params=query)
        assert page["total"] == 5 and page["count"] == len(page["sessions"])
        pages += [s["session_id"] for s in page["sessions"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert pages == made[::-1]
    live = await candidate.call("GET", "/sessions", params={"job_id": job, "status": "in_progress"})
    assert [s["session_id"] for s in live["sessions"]] == [made[-1]]
    for bad in ({"limit": 0}, {"limit": 201}, {"status": "running"}, {"cursor": "x"}, {"stauts": "completed"}):
        await candidate.call("GET", "/sessions", status=400, params=bad)


async def test_a_list_shows_what_was_just_done(candidate: Candidate) -> None:
    job = {"job_id": f"job-{uuid.uuid4().hex[:8]}"}
    await candidate.create(job_id=job["job_id"])
    for index in range(3):
        await (candidate.start() if index == 0 else candidate.answer(index - 1, "x"))
        [shown] = (await candidate.call("GET", "/sessions", params={**job, "status": "in_progress"}))["sessions"]
        assert shown["current_question_count"] == index
    await candidate.answer(2, "x")
    assert (await candidate.call("GET", "/sessions", params={**job, "status": "completed"}))["count"] == 1


async def test_jobs(candidate: Candidate) -> None:
    job_id = f"bank-{uuid.uuid4().hex[:8]}"
    bank = {"job_id": job_id, "title": "Bank", "questions": [{"text": "Q", "type": "coding", "time_limit_seconds": 45}]}
    await candidate.call("POST", "/jobs", json=bank)
    await candidate.call("POST", "/jobs", json=bank)
    await candidate.call("POST", "/jobs", status=409, json={**bank, "title": "Other"})
    made = await candidate.create(questions=0, job_id=job_id)
    await candidate.start()
    assert (await candidate.session())["current_question"]["time_limit_seconds"] == 45
    assert made["session"]["job_id"] == job_id
    await candidate.call("PUT", f"/jobs/{job_id}", json={"title": "B2", "questions": [{"text": "Q2"}]})
    assert (await candidate.call("GET", f"/jobs/{job_id}"))["job"]["title"] == "B2"
    await candidate.call("DELETE", f"/jobs/{job_id}")
    await candidate.call("GET", f"/jobs/{job_id}", status=404)
    await candidate.call("DELETE", "/jobs/default", status=409)
    assert (await candidate.call("GET", "/jobs/default"))["job"]["questions"]


async def test_a_job_key_is_one_job(candidate: Candidate) -> None:
    job_id, key = f"bank-{uuid.uuid4().hex[:8]}", {"Idempotency-Key": uuid.uuid4().hex}
    bank = {"job_id": job_id, "title": "Bank", "questions": [{"text": "Q"}]}
    first = await candidate.http.post("/jobs", json=bank, headers=key)
    again = await candidate.http.post("/jobs", json=bank, headers=key)
    assert checked(first, 200) == checked(again, 200) and again.headers["idempotency-replayed"] == "true"
    await candidate.call("POST", "/jobs", status=422, json={**bank, "job_id": job_id + "x"}, headers=key)


async def test_stats_cluster_and_health(candidate: Candidate) -> None:
    await candidate.create()
    await candidate.start()
    stats = (await candidate.call("GET", "/stats"))["stats"]
    assert stats["active_sessions"] >= 1 and stats["live_actors"] >= 1 and stats["capacity"] > 0
    assert stats["total_sessions"] == sum(stats[f"{s}_sessions"] for s in ("initialized", "active", "completed"))
    cluster = (await candidate.call("GET", "/cluster"))["cluster"]
    assert cluster["nodes"][0]["alive"] is True
    root = str(candidate.http.base_url).split("/api/")[0]
    async with httpx.AsyncClient(base_url=root) as http:
        assert (await http.get("/healthz")).status_code == 200
        ready = (await http.get("/readyz")).json()
        assert ready == {"status": "success", "mongodb": True, "ray": True, "livekit": "not configured"}
        document = (await http.get("/openapi.json")).json()
    for operation in (o for path in document["paths"].values() for o in path.values()):
        takes_a_key = any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ()))
        assert "422" not in operation["responses"] or takes_a_key, "it is for a key that is used again"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"null", 400),
        (b'{"question_index": 0}', 400),
        (b'{"question_index": 0, "answer": 5}', 400),
        (b'{"question_index": -1, "answer": "x"}', 400),
        (b'{"question_index": 1e400, "answer": "x"}', 400),
        (b'{"question_index": 0, "answer": "\\ud800"}', 400),
        (b'{"question_index": 0, "answer": "x", "extra": 1}', 400),
        (b'{"question_index": 0, "answer": "' + b"x" * 65_537 + b'"}', 413),
        (b'{"question_index": 0, "answer": "' + b"x" * 2**20 + b'"}', 413),
    ],
)
async def test_bad_answers_are_refused(candidate: Candidate, body: bytes, status: int) -> None:
    await candidate.create()
    answer = await candidate.request("POST", "/answer", content=body, headers={"Content-Type": "application/json"})
    checked(answer, status)


async def test_unknown_things_are_404(candidate: Candidate) -> None:
    for session_id in ("nobody", str(uuid.uuid4()), "x" * 300, "%00", "..%2f"):
        candidate.session_id = session_id
        for method, what in (("GET", ""), ("POST", "/start"), ("GET", "/journal"), ("DELETE", ""), ("POST", "/end")):
            answer = await candidate.request(method, what)
            assert answer.status_code in (404, 405), (session_id, what, answer.text)
    await candidate.call("GET", "/jobs/nothing", status=404)
    await candidate.call("POST", "/create", status=404, json={"name": "A", "email": "a@b.co", "job_id": "no-such-job"})


async def test_a_body_that_never_ends_is_413(candidate: Candidate) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(96):
            yield b"x" * 2**16

    checked(await candidate.http.post("/create", content=chunks()), 413)
    checked(await candidate.http.post("/create", content=b"x" * (5 * 2**20)), 413)
