"""Proctoring over HTTP: events, hooks, stills, evidence, and a score that is made again from the stored journal."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from benchmarks.faces import astronaut, jpeg, photograph
from orchestrator.interview.integrity import judged, timeline
from orchestrator.policies import policy
from orchestrator.storage.store import Store
from tests.chaos.conftest import until
from tests.cluster.candidate import Candidate, actor_pids, checked
from tests.servers import Serve

pytestmark = pytest.mark.cluster

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
async def store(service: Serve) -> AsyncIterator[Store]:
    store = await Store.open(service.note["environment"]["MONGODB_URL"], "parallel_interview")
    yield store
    await store.close()


@pytest.fixture(scope="module")
def face() -> bytes:
    return jpeg(astronaut())


@pytest.fixture(scope="module")
def nobody() -> bytes:
    return jpeg(photograph("coffee"))


class Watched(Candidate):
    """A candidate whose page tells what it sees."""

    async def see(self, *events: dict[str, Any], **more: Any) -> dict[str, Any]:
        return await self.post("proctoring/events", {"events": list(events)}, **more)

    async def still(self, image: bytes, status: int = 200) -> dict[str, Any]:
        response = await self.request("POST", "/proctoring/frame", content=image, headers=JPEG)
        return checked(response, status)

    async def proctoring(self, query: str = "") -> dict[str, Any]:
        return checked(await self.request("GET", f"/proctoring{query}"), 200)["proctoring"]

    async def capture(self, service: Serve, image: bytes, status: int = 200) -> dict[str, Any]:
        form = {"data": {"session_id": self.session_id}, "files": {"image": ("me.jpg", image, "image/jpeg")}}
        return checked(await self.http.post(f"{service.url}/capture_reference_face", **form), status)


@pytest.fixture
async def watched(http: httpx.AsyncClient) -> Watched:
    return Watched(http)


async def test_a_score_is_made_again_from_the_stored_journal(watched: Watched, store: Store) -> None:
    made = await watched.create(2, accommodations={"sensitivity": "high"})
    assert made["proctoring"]["session_id"] == f"proctoring-{watched.session_id}"
    assert made["proctoring"]["policy"] == "standard-1" and made["proctoring"]["watches"] == ["camera", "page"]
    await watched.start()
    began = ("tab_hidden", "focus_lost", "fullscreen_left", "second_display", "camera_off", "mic_muted", "noise")
    await watched.see(*({"type": kind, "phase": "began"} for kind in began), {"type": "paste", "detail": {"size": 9}})
    await watched.see({"type": "copy"}, {"type": "paste"}, {"type": "custom:phone_rings", "duration_seconds": 0.5})
    await asyncio.sleep(1)
    await watched.post("pause")
    await asyncio.sleep(3)
    await watched.post("resume")
    await watched.see(*({"type": kind, "phase": "ended"} for kind in began[:4]))
    await watched.answer(0, "one")
    done = (await watched.answer(1, "two"))["session"]

    told = await watched.proctoring()
    line = timeline(await store.entries(watched.session_id, 0, 0), 2**42)
    again = judged(line, policy("standard-1"))
    assert len({event["type"] for event in told["events"]}) >= 10
    assert again.score == told["integrity"]["score"] == done["proctoring"]["integrity"]["score"] < 100
    assert [(p.id, p.points) for p in again.points] == [(e["id"], e["points"]) for e in told["events"]]
    assert round(100 - sum(e["points"] for e in told["events"]), 2) == told["integrity"]["score"]
    assert told["coverage"]["page"] == line.coverage.page and told["coverage"]["camera"] == 0
    lasted = {e["type"]: e["duration_seconds"] for e in told["events"] if e["duration_seconds"]}
    assert all(1 <= lasted[kind] < 3 for kind in began[:4]), "the pause is not counted"
    strict = replace(policy("standard-1"), version="x", sensitivity={"high": 3})
    assert judged(line, strict).score < again.score
    checked(await watched.request("GET", "/proctoring?policy=standard-9"), 404)


async def test_stills_are_looked_at_and_what_they_show_is_kept(
    watched: Watched, service: Serve, store: Store, face: bytes, nobody: bytes
) -> None:
    await watched.create(2)
    refused = await watched.capture(service, nobody, 400)
    assert [problem["code"] for problem in refused["quality"]["problems"]] == ["no_face"]
    assert (await watched.capture(service, face))["quality"]["problems"] == []
    await watched.start()
    assert (await watched.still(face))["frame"]["verdict"] == "ok"
    await watched.still(nobody)
    shown = await watched.still(nobody)
    assert shown["frame"]["verdict"] == "face_absent" and shown["next_in_seconds"] == 5
    for _ in range(2):
        await watched.still(face)

    async def over() -> dict[str, Any] | None:
        told = await watched.proctoring()
        return next((e for e in told["events"] if e["type"] == "face_absent" and e["until"] is not None), None)

    absent = await until(over, 10, "the end of the absence, when its stills have been looked at")
    told = await watched.proctoring()
    assert absent["source"] == "frames" and absent["detail"]["engine"] == "lbp-chi2"
    assert told["reference"]["sha256"] == hashlib.sha256(face).hexdigest()
    reasons = [still["because"] for still in told["evidence"]]
    assert reasons[:3] == ["the first one", "it shows face_absent", "it shows face_absent"]
    for still in told["evidence"]:
        picture = await watched.http.get(f"{service.url}{still['url']}")
        assert hashlib.sha256(picture.content).hexdigest() == still["sha256"]
        assert picture.headers["x-content-type-options"] == "nosniff"
    await watched.post("end")
    await watched.still(face, 409)

    checked(await watched.request("DELETE", ""), 200)
    assert await store.reference_of(watched.session_id) is None and await store.kept_of(watched.session_id) == []
    images = await store._db.still_images.find({}).to_list(None)
    assert not {image["_id"] for image in images} & {still["id"] for still in told["evidence"]}


async def test_a_checker_that_is_killed_loses_no_still(
    watched: Watched, service: Serve, store: Store, face: bytes, nobody: bytes
) -> None:
    await watched.create(1, text_question_timer=600)
    await watched.start()
    await watched.still(face)
    os.kill((await actor_pids(service))["FaceActor-0-of-1"], signal.SIGKILL)
    sent = [await watched.still(image) for image in (nobody, nobody, face)]
    assert any(not still["frame"]["checked"] for still in sent)

    async def all_checked() -> bool:
        stills = (await watched.proctoring())["stills"]
        return stills["checked"] + stills["not_checked"] >= 4

    await until(all_checked, 60, "every still looked at")
    told = await watched.proctoring()
    assert any(event["type"] == "face_absent" and event["source"] == "frames" for event in told["events"])
    assert await store.pending_of(watched.session_id) == []
    await watched.post("end")


async def test_pictures_expire_and_the_journal_says_so(
    watched: Watched, service: Serve, store: Store, face: bytes
) -> None:
    await watched.create(1)
    await watched.capture(service, face)
    await watched.start()
    await watched.still(face)
    await watched.post("end")
    past = {"$set": {"expires_at": 1}}
    await store._db.reference_faces.update_one({"_id": watched.session_id}, past)
    await until(lambda: erased(watched, "reference"), 30, "the reference face erased")
    assert (await watched.session())["proctoring"]["reference_captured_at"] is None
    kept = await until(lambda: store.kept_of(watched.session_id), 30, "the still looked at, and kept")
    await until(lambda: evidence(watched), 30, "the journal says so")
    await store._db.stills.update_one({"_id": kept[0].id}, past)
    await until(lambda: erased(watched, "stills"), 30, "the still erased")
    assert (await watched.proctoring())["evidence"][0]["gone"] == "retention"
    assert await store.kept_image(watched.session_id, kept[0].id) is None
    assert checked(await watched.request("GET", "/journal/verify"), 200)["journal"]["ok"]


async def evidence(watched: Watched) -> list[Any]:
    return (await watched.proctoring())["evidence"]


async def erased(candidate: Candidate, what: str) -> bool:
    return any(event["type"] == "erased" and event["what"] == what for event in await candidate.events())


async def test_a_flood_of_events_is_counted_and_slows_no_answer(watched: Watched) -> None:
    await watched.create(3, text_question_timer=600)
    await watched.start()
    before = len(await watched.events())
    slots = asyncio.Semaphore(12)

    async def one(number: int) -> int:
        async with slots:
            response = await watched.request(
                "POST", "/proctoring/events", json={"events": [{"type": "paste", "detail": {"size": number}}] * 4}
            )
            return response.status_code

    flood = asyncio.gather(*(one(number) for number in range(150)))
    took: list[float] = []
    for index in range(2):
        await asyncio.sleep(1.5)
        began = time.monotonic()
        await watched.answer(index, "x")
        took.append(time.monotonic() - began)
    assert set(await flood) <= {200, 429}
    assert max(took) < 1.0, took
    pastes = [e for e in await watched.events() if e["type"] == "proctoring_event" and e["event"] == "paste"]
    assert sum(e["count"] for e in pastes) == 600 and len(pastes) < 40
    assert len(await watched.events()) - before < 60
    await watched.post("end")


async def epochs_of_the_hook(watched: Watched) -> list[int]:
    events = (await watched.proctoring())["events"]
    return [event["detail"]["epoch"] for event in events if event["type"] == "custom:was_here"]


@pytest.mark.parametrize("trouble", ["sleep", "raise", "memory", "kill"])
async def test_a_hook_in_trouble_harms_no_interview(watched: Watched, trouble: str) -> None:
    await watched.create(4, text_question_timer=600, metadata={"hook": trouble})
    await watched.start()
    await until(lambda: epochs_of_the_hook(watched), 10, "the hook to have begun")
    for index in range(4):
        await watched.see({"type": "paste"})
        await asyncio.sleep(1)
        await watched.answer_at_last(index, f"answer {index}", key=f"k{index}")
    done = await watched.check_nothing_lost()
    assert (done["status"], done["end_reason"]) == ("completed", "finished")
    told = await watched.proctoring()
    notes = [note for note in told["notes"] if note.get("hook") == "troublesome"]
    if trouble == "kill":
        assert [note["losses"] for note in told["notes"] if note["type"] == "hooks_suspended"] == [2]
        assert done["proctoring"]["hooks_suspended"] and len(done["clock"]["ledger"]) >= 2
        assert 3 not in await epochs_of_the_hook(watched), "suspended hooks are not called"
        return
    assert await epochs_of_the_hook(watched) == [1]
    reason = {
        "sleep": "it took longer than 0.5 s",
        "raise": "it raised RuntimeError",
        "memory": "it raised MemoryError",
    }
    assert notes and all(note["reason"] == reason[trouble] for note in notes)
    assert notes[-1]["off"] and len(notes) == (3 if trouble == "raise" else 1)
    assert done["clock"]["credited_seconds"] == 0


async def test_who_may_see_and_say_what(watched: Watched, service: Serve) -> None:
    made = await watched.create(1)
    await watched.start()
    mine = {"Authorization": f"Bearer {made['candidate_token']}"}
    at = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    await watched.see({"type": "tab_hidden", "phase": "began", "at": at}, headers=mine)
    await watched.post("end")
    seen = checked(await watched.request("GET", "/proctoring", headers=mine), 200)["proctoring"]
    assert "integrity" not in seen and "points" not in seen["events"][0] and seen["events"][0]["source"] == "page"
    event = seen["events"][0]["id"]
    dispute = {"statement": "I looked at the clock on the wall."}
    checked(await watched.request("POST", f"/proctoring/events/{event}/dispute", json=dispute, headers=mine), 200)
    verdict = {"verdict": "cleared", "reason": "Nothing there."}
    checked(await watched.request("POST", "/proctoring/verdict", json=verdict, headers=mine), 403)
    assert (await watched.post("proctoring/verdict", verdict))["session"]["proctoring"]["verdict"] == "cleared"
    told = await watched.proctoring()
    assert told["events"][0]["disputes"][0]["statement"] == dispute["statement"]
    assert told["verdict"]["reason"] == "Nothing there." and told["verdict"]["by"]
