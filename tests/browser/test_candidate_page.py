"""The candidate's page in a real browser: a whole interview by keyboard, faults while they type, two windows, and what
an accessibility checker says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from livekit import api
from livekit.protocol.models import TrackType
from playwright.async_api import WebSocketRoute, expect

from tests.browser.accessibility import violations
from tests.browser.candidate_page import CandidatePage, clock_is_right
from tests.browser.conftest import Desk, World
from tests.chaos.conftest import until
from tests.cluster.candidate import Candidate, actor_pids
from tests.livekit_server import guest
from tests.servers import command_of, descendants

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


async def test_a_whole_interview_by_keyboard_with_video(world: World, desk: Desk, candidate: Candidate) -> None:
    questions = ["Why do you want this job?", "Reverse a list.", "What would you change?"]
    made = await candidate.create(questions, question_types=["text", "coding", "text"])
    page = CandidatePage(desk)
    await desk.open(made["links"]["candidate"])
    await page.to_the_start(look=True)
    await page.start()
    participant = await in_the_room(world, candidate.session_id)
    async with guest(
        world.livekit.url, world.livekit.token(f"interview-{candidate.session_id}", "watcher", hidden=True)
    ) as watcher:
        frame = await watcher.event("frame", timeout=30)
    assert frame["identity"] == f"candidate-{candidate.session_id}" and frame["width"] >= 320
    assert {track.type for track in participant.tracks} == {TrackType.VIDEO, TrackType.AUDIO}
    assert all(not track.muted for track in participant.tracks)

    await expect(page.page.get_by_text("Why do you want this job?")).to_be_visible()
    await page.write("I like engines.")
    await page.saved()
    await page.look("5-text")
    await page.press("Submit answer")
    await page.heading("Question 2 of 3")
    await page.write("def reverse(items):\nreturn items[::-1]")
    await page.look("6-code")
    code = await page.page.locator(".cm-content").inner_text()
    assert "    return items[::-1]" in code, "the editor indents"
    await page.page.keyboard.press("Escape")
    await page.press("Submit answer")
    await page.heading("Question 3 of 3")
    await page.write("Nothing.")
    await page.press("Submit and finish")
    await page.heading("Your interview is complete")
    await page.look("7-end")

    session = await candidate.session()
    assert [a["answer"] for a in session["answers"]] == [
        "I like engines.",
        "def reverse(items):\n    return items[::-1]",
        "Nothing.",
    ]
    assert session["answers"][1]["language"] == "python" and session["end_reason"] == "finished"
    assert session["consent_at"] and session["proctoring"]["reference_captured_at"]
    told = (await candidate.call("GET", f"/session/{candidate.session_id}/proctoring"))["proctoring"]
    assert told["stills"]["checked"] + told["stills"]["late"] >= 1
    types = {event["type"] for event in await candidate.events()}
    assert {"channel_opened", "participant_joined", "completed"} <= types and "channel_lost" not in types


async def in_the_room(world: World, session_id: str) -> Any:
    async def look() -> Any:
        async with world.livekit.api() as livekit:
            listed = await livekit.room.list_participants(api.ListParticipantsRequest(room=f"interview-{session_id}"))
        found = [p for p in listed.participants if p.identity == f"candidate-{session_id}"]
        return found[0] if found and len(found[0].tracks) == 2 else None

    return await until(look, 20, "the candidate's camera and microphone in the room")


async def test_what_dies_while_they_type(world: World, desk: Desk, candidate: Candidate) -> None:
    made = await candidate.create(2, text_question_timer=600)
    page = CandidatePage(desk)
    await desk.open(made["links"]["candidate"])
    await page.to_the_start()
    await page.start()
    await page.write("The actor")
    await page.saved()

    actor = (await candidate.session())["placement"]["actor"]
    os.kill((await actor_pids(world.service))[actor], signal.SIGKILL)
    await page.write(" dies,")
    await page.saved()
    await until(lambda: credited(candidate, "crash"), 10, "the crash to be credited")
    await clock_is_right(page, candidate)

    os.kill(front_end(world), signal.SIGKILL)
    await page.write(" the front end dies,")
    await expect(page.page.get_by_role("alert").filter(has_text="Connection lost")).to_be_visible()
    world.service.wait_ready()
    await expect(page.page.get_by_role("alert").filter(has_text="Connection lost")).to_have_count(0, timeout=30_000)
    await page.saved()
    await until(lambda: credited(candidate, "network"), 10, "the time without a front end to be credited")
    await clock_is_right(page, candidate)

    before = await candidate.session()
    desk.cable.cut()
    cut_at = asyncio.get_running_loop().time()
    await page.write(" and the network is gone.")
    await expect(page.page.get_by_role("alert").filter(has_text="Connection lost")).to_be_visible(timeout=12_000)
    await asyncio.sleep(max(0.0, cut_at + 10 - asyncio.get_running_loop().time()))
    desk.cable.mend()
    await expect(page.page.get_by_role("alert").filter(has_text="Connection lost")).to_have_count(0, timeout=30_000)
    await page.saved()
    session = await candidate.session()
    await clock_is_right(page, candidate)
    assert session["status_detail"] == "question_open"
    given = session["clock"]["credited_seconds"] - before["clock"]["credited_seconds"]
    assert 8 <= given <= 16, f"{given} s were given back for 10 s without network"

    await page.press("Submit answer")
    await page.heading("Question 2 of 2")
    session = await candidate.session()
    assert session["answers"][0]["answer"] == "The actor dies, the front end dies, and the network is gone."


async def credited(candidate: Candidate, cause: str) -> bool:
    return any(line["cause"] == cause for line in (await candidate.session())["clock"]["ledger"])


def front_end(world: World) -> int:
    assert world.service.process is not None
    return next(pid for pid in descendants(world.service.process.pid) if "-m api" in command_of(pid))


async def test_a_reload_comes_back_to_the_same_place(desk: Desk, candidate: Candidate) -> None:
    made = await candidate.create(2)
    page = CandidatePage(desk)
    await desk.open(made["links"]["candidate"])
    await page.to_the_start()
    await page.page.reload()
    await page.heading("Ready when you are")
    await page.start()
    await page.write("half a sen")
    await page.page.evaluate("window.onbeforeunload = null")
    desk.page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await page.page.reload()
    await page.heading("Question 1 of 2")
    await expect(page.editor).to_have_value("half a sen")
    await page.saved()


async def test_the_same_link_in_two_windows(desks: list[Desk], candidate: Candidate) -> None:
    made = await candidate.create(2)
    older, newer = (CandidatePage(desk) for desk in desks)
    await older.desk.open(made["links"]["candidate"])
    await older.heading("Before we begin")
    await newer.desk.open(made["links"]["candidate"])
    await newer.heading("Before we begin")
    await older.heading("This interview is open in another window")
    await older.look("8-another-window")
    await older.press("Use this window instead")
    await older.heading("Before we begin")
    await newer.heading("This interview is open in another window")


async def test_links_that_do_not_work(desk: Desk, candidate: Candidate) -> None:
    made = await candidate.create(1)
    page = CandidatePage(desk)
    link = made["links"]["candidate"]
    await desk.open(link.split("#")[0])
    await page.heading(re.compile("link"))
    await page.page.goto("about:blank")
    await candidate.post("link")
    await desk.open(link)
    await page.heading("This link does not work any more")
    await page.look("9-old-link")


async def test_an_accessibility_checker_finds_nothing(desk: Desk, candidate: Candidate, axe: Path) -> None:
    made = await candidate.create(["One?", "Two?"], question_types=["text", "coding"])
    page = CandidatePage(desk)
    found: dict[str, list[str]] = {}

    async def check(step: str) -> None:
        for scheme in ("light", "dark"):
            await page.page.emulate_media(color_scheme=scheme)
            await asyncio.sleep(0.3)
            found[f"{step}, {scheme}"] = await violations(page.page, axe)

    await desk.open(made["links"]["candidate"])
    await page.heading("Before we begin")
    await check("consent")
    await page.tab_to(page.page.get_by_role("checkbox"))
    await page.page.keyboard.press("Space")
    await page.press("Agree and continue")
    await page.heading("Check your equipment")
    await check("equipment")
    await page.press("Continue")
    await page.heading("Take a reference picture")
    await check("reference")
    await page.press("Take picture")
    await page.press("Continue")
    await page.heading("Ready when you are")
    await check("ready")
    await page.start()
    await page.write("x")
    await check("text")
    await page.press("End interview early")
    await check("dialog")
    await page.page.keyboard.press("Escape")
    await page.press("Submit answer")
    await page.heading("Question 2 of 2")
    await page.write("y = 1  # and")
    await check("code")
    await candidate.post("pause")
    await expect(page.page.get_by_text("The interview is paused")).to_be_visible()
    await check("paused")
    await candidate.post("resume")
    desk.cable.cut()
    await expect(page.page.get_by_role("alert").filter(has_text="Connection lost")).to_be_visible(timeout=30_000)
    await check("lost")
    desk.cable.mend()
    await candidate.post("end")
    await expect(page.page.get_by_role("heading", level=1, name=re.compile("complete|ended"))).to_be_visible()
    await check("end")
    assert {step: list_ for step, list_ in found.items() if list_} == {}


async def test_the_time_runs_out(desk: Desk, candidate: Candidate) -> None:
    made = await candidate.create(2, text_question_timer=8)
    page = CandidatePage(desk)
    await desk.open(made["links"]["candidate"])
    await page.to_the_start()
    await page.start()
    await page.write("as far as I came")
    await page.heading("Question 2 of 2", seconds=20)
    answers = (await candidate.session())["answers"]
    assert [(a["answer"], a["source"]) for a in answers] == [("as far as I came", "draft")]


async def test_the_end_comes_after_the_last_words(desk: Desk, candidate: Candidate) -> None:
    """Drafts are answered with "again later": the end waits for them, and asks before it goes without them."""
    made = await candidate.create(2, text_question_timer=600)
    page, refused, away = CandidatePage(desk), asyncio.Event(), asyncio.Event()
    away.set()

    def answer(socket: WebSocketRoute) -> None:
        def carry(text: str | bytes) -> None:
            frame = json.loads(text)
            if frame["type"] != "draft" or not away.is_set():
                server.send(text)
                return
            refused.set()
            socket.send(json.dumps(later | {"command_id": frame["command_id"]}))

        server = socket.connect_to_server()
        socket.on_message(carry)

    later = {"type": "error", "code": "outcome_unknown", "detail": "Again later.", "retry_after": 0.5}
    later["server_time"] = "2020-01-01T00:00:00Z"
    await page.page.route_web_socket(re.compile("/ws/interview"), answer)
    await desk.open(made["links"]["candidate"])
    await page.to_the_start()
    await page.start()
    await page.write("the last words")
    await page.press("End interview early")
    await page.press("End interview")
    asked = page.page.get_by_role("heading", name="What you wrote last is not saved")
    await expect(asked).to_be_visible(timeout=30_000)
    assert (await candidate.session())["status"] == "in_progress"
    await page.press("Keep going")
    await page.write(" of all")
    await page.press("End interview early")
    await page.press("End interview")
    await expect(page.button("Ending…")).to_be_visible()
    for _ in range(2):
        refused.clear()
        await asyncio.wait_for(refused.wait(), 10)
    assert (await candidate.session())["status"] == "in_progress"
    away.clear()
    await page.heading(re.compile("ended|complete"), seconds=20)
    session = await candidate.session()
    assert [(a["answer"], a["source"]) for a in session["answers"]] == [("the last words of all", "draft")]


async def test_what_the_page_sees_is_told(desk: Desk, candidate: Candidate) -> None:
    made = await candidate.create(1)
    page = CandidatePage(desk)
    await desk.open(made["links"]["candidate"])
    await page.to_the_start()
    await page.start()
    await page.tab_to(page.editor)
    await page.page.evaluate("navigator.clipboard?.writeText('abc').catch(() => {})")
    await page.page.keyboard.insert_text("typed ")
    await page.editor.evaluate(
        """editor => { const data = new DataTransfer(); data.setData('text/plain', 'pasted words');
        editor.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true})); }"""
    )
    other = await desk.context.new_page()
    await other.bring_to_front()
    await asyncio.sleep(1)
    await desk.page.bring_to_front()

    async def seen() -> bool:
        told = (await candidate.call("GET", f"/session/{candidate.session_id}/proctoring"))["proctoring"]
        pastes = [event for event in told["events"] if event["type"] == "paste"]
        return bool(pastes) and pastes[0]["detail"] == {"size": 12}

    await until(seen, 10, "the paste in the timeline, with its size and not its words")
    assert "pasted words" not in str(await candidate.events())


async def test_staff_see_it_live(desks: list[Desk], candidate: Candidate, axe: Path) -> None:
    made = await candidate.create(2, text_question_timer=600)
    at_desk, staff = desks
    page = CandidatePage(at_desk)
    await at_desk.open(made["links"]["candidate"])
    await page.to_the_start()
    await page.start()
    await staff.open(made["links"]["live"])
    looking = CandidatePage(staff)
    await expect(staff.page.get_by_text("Question 0?").first).to_be_visible()
    await looking.look("10-live")
    assert await violations(staff.page, axe) == []
    await looking.press("Pause")
    await expect(page.page.get_by_text("The interview is paused")).to_be_visible()
    await looking.press("Resume")
    await expect(page.page.get_by_text("The interview is paused")).to_have_count(0)
    left = (await candidate.session())["current_question"]["remaining_seconds"]
    await looking.press("Extend…")
    await staff.page.get_by_role("dialog").get_by_label(re.compile("Minutes")).fill("2")
    await staff.page.get_by_role("dialog").get_by_label(re.compile("[Rr]eason")).fill("A fire drill")
    await staff.page.keyboard.press("Enter")
    await until(lambda: longer(candidate, left + 60), 10, "two minutes more")
    await clock_is_right(page, candidate)
    await page.write("mine")
    await page.press("Submit answer")
    await expect(staff.page.get_by_text("Question 1?").first).to_be_visible()
    await page.heading("Question 2 of 2")
    await looking.press("End…")
    await staff.page.get_by_role("dialog").get_by_role("button", name="End the interview").press("Enter")
    await expect(page.page.get_by_role("heading", level=1, name=re.compile("ended|complete"))).to_be_visible()


async def longer(candidate: Candidate, seconds: float) -> bool:
    return (await candidate.session())["current_question"]["remaining_seconds"] > seconds


async def test_without_livekit_the_page_works_and_says_so(world: World, desk: Desk, candidate: Candidate) -> None:
    made = await candidate.create(1)
    page = CandidatePage(desk)
    world.livekit.pause()
    try:
        await desk.open(made["links"]["candidate"])
        await page.to_the_start()
        await page.start()
        await expect(page.page.get_by_text("Video is off")).to_be_visible(timeout=30_000)
        await page.write("Without video")
        await page.press("Submit and finish")
        await page.heading("Your interview is complete")
    finally:
        world.livekit.go_on()
    assert (await candidate.session())["answers"][0]["answer"] == "Without video"
