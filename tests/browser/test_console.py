"""The operators' console as they use it: real interviews, real nodes, a real Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.browser.accessibility import violations
from tests.browser.conftest import SHOTS, Desk
from tests.cluster.candidate import Candidate
from tests.unit.api_world import api

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

SCRIPT = "Mallory <img src=x onerror=document.title='taken'>"
NAMES = ["Ada Lovelace-Núñez", "Grace Hopper", SCRIPT]


@pytest.fixture
async def three(http: httpx.AsyncClient) -> AsyncIterator[list[Candidate]]:
    """Interviews in progress, of candidates with these names."""
    found = [Candidate(http) for _ in NAMES]
    for number, (candidate, name) in enumerate(zip(found, NAMES, strict=True)):
        await candidate.create(
            ["Why?", "Reverse a list.", "And?"],
            name=name,
            email=f"candidate{number}@example.com",
            job_id="backend",
            question_types=["text", "coding", "text"],
        )
        await candidate.start()
    yield found
    for candidate in found:
        await candidate.request("DELETE", "")


async def opened(desk: Desk, *, width: int = 1440) -> Page:
    await desk.page.set_viewport_size({"width": width, "height": 900})
    await desk.page.goto(f"http://127.0.0.1:{desk.cable.port}/")
    await expect(desk.page.locator(".feed-state")).to_have_text("live", timeout=20_000)
    return desk.page


def live_row(page: Page, name: str) -> Locator:
    return page.get_by_role("table", name="In progress").get_by_role("row").filter(has_text=name)


async def nothing_sticks_out(page: Page) -> bool:
    return await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def look(page: Page, name: str, *, full: bool = True) -> None:
    if SHOTS:
        await page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=full)


async def test_operators_see_and_lead_interviews(
    desk: Desk, three: list[Candidate], http: httpx.AsyncClient, axe: Path
) -> None:
    page = await opened(desk)
    for name in NAMES:
        await expect(live_row(page, name)).to_be_visible()
    assert await page.title() == "Interviews", "what is in a name is text"
    ada, grace, mallory = (live_row(page, name) for name in NAMES)
    await expect(ada).to_contain_text("1 of 3")
    await expect(ada).to_contain_text(re.compile(r"[12]:\d\d"))

    await ada.get_by_role("button", name="Pause").click()
    await expect(ada.get_by_text("paused", exact=True)).to_be_visible()
    assert (await three[0].session())["status_detail"] == "paused"
    await ada.get_by_role("button", name="Resume").click()
    await expect(ada.get_by_text("paused", exact=True)).to_have_count(0)

    before = (await three[1].session())["current_question"]["deadline"]
    await grace.get_by_role("button", name="Extend").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Extend").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Give a reason")
    await dialog.get_by_label("Minutes").fill("10")
    await dialog.get_by_label("Reason").fill("the doorbell")
    await dialog.get_by_role("button", name="Extend").click()
    await expect(dialog).to_have_count(0)
    await expect(grace).to_contain_text(re.compile(r"1[12]:\d\d"))
    assert (await three[1].session())["current_question"]["deadline"] > before

    await three[1].answer(0, "Because.")  # by the candidate: the feed tells it
    await expect(grace).to_contain_text("2 of 3")
    await three[0].post("pause")
    await expect(ada.get_by_text("paused", exact=True)).to_be_visible()
    await page.get_by_role("group", name="Show").get_by_role("button", name="Paused").click()
    await expect(grace).to_have_count(0)
    await page.get_by_role("group", name="Show").get_by_role("button", name="All").click()

    await mallory.get_by_role("button", name=f"End {SCRIPT}", exact=True).click()
    await dialog.get_by_role("button", name="End the interview").click()
    await expect(mallory).to_have_count(0)
    ended = page.get_by_role("table", name="Recently ended").get_by_role("row").filter(has_text=SCRIPT)
    await expect(ended).to_contain_text("by staff")
    report = ended.get_by_role("link", name="Report of")
    assert three[2].session_id in (await report.get_attribute("href") or "")

    await ada.get_by_role("button", name=NAMES[0], exact=True).click()
    await expect(dialog).to_contain_text(three[0].session_id)
    await expect(dialog).to_contain_text("InterviewActor-")
    await look(page, "console-details", full=False)
    await page.keyboard.press("Escape")
    waiting = Candidate(http)
    await waiting.create(2, name="Later", email="later@example.com", scheduled_at="2099-05-01T09:00:00Z")
    await expect(page.get_by_role("table", name="Waiting").get_by_text("Later", exact=True)).to_be_visible()
    for width in (360, 768, 1440):
        await page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            assert await violations(page, axe) == [], f"{width} px, {scheme}"
            await look(page, f"console-{width}-{scheme}")
        assert await nothing_sticks_out(page), f"{width} px"
    await waiting.request("DELETE", "")


async def test_interviews_are_made_and_found(desk: Desk, http: httpx.AsyncClient, axe: Path) -> None:
    page = await opened(desk)
    await page.get_by_role("button", name="New interview").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Name").fill("Zoë Newcomer")
    await dialog.get_by_label("Email").fill("zoe@example.com")
    assert await violations(page, axe) == []
    await dialog.get_by_role("button", name="Create").click()
    link = await dialog.get_by_label("Candidate’s link", exact=True).input_value()
    session_id = link.split("/interview/")[1].split("#")[0]
    await dialog.get_by_role("button", name="Close").click()
    await expect(page.get_by_role("table", name="Waiting").get_by_text("Zoë Newcomer")).to_be_visible()

    await page.get_by_role("button", name="Invite several").click()
    rows = "name,email\n" + "".join(f'"Invited, {n}",invited{n}@example.com\n' for n in range(3))
    await dialog.get_by_role("textbox", name="Candidates").fill(rows + "Nobody,nowhere\n")
    await expect(dialog).to_contain_text("Line 5: nowhere is no email address.")
    await look(page, "console-invite", full=False)
    await dialog.get_by_role("textbox", name="Candidates").fill(rows)
    await dialog.get_by_role("button", name="Create 3 interviews").click()
    await expect(dialog).to_contain_text("3 interviews are ready")
    links = [await field.input_value() for field in await dialog.get_by_role("textbox").all()]
    assert len(links) == len(set(links)) == 3 and all("/interview/" in one for one in links)
    assert await violations(page, axe) == []
    await look(page, "console-invited", full=False)
    await dialog.get_by_role("button", name="Close").click()

    for text, found in (("zoë", "Zoë Newcomer"), ("invited2@example.com", "Invited, 2"), (session_id, "Zoë Newcomer")):
        await page.get_by_role("searchbox").fill(text)
        await expect(page.get_by_role("heading", name="1 session found")).to_be_visible()
        await expect(page.get_by_role("table", name="Sessions found")).to_contain_text(found)
    await page.get_by_role("searchbox").fill("default")
    await expect(page.get_by_role("table", name="Sessions found")).to_contain_text("Invited, 1")
    assert await violations(page, axe) == []
    await page.get_by_role("searchbox").fill("")
    answer = await http.get("/sessions", params={"q": "example.com", "status": "initialized"})
    for session in answer.json()["sessions"]:
        await http.delete(f"/session/{session['session_id']}")


async def test_everything_goes_by_the_keyboard(desk: Desk, three: list[Candidate]) -> None:
    page = await opened(desk)
    keys = page.keyboard
    await expect(live_row(page, NAMES[1])).to_be_visible()
    await keys.press("/")
    await expect(page.get_by_role("searchbox")).to_be_focused()
    await keys.type("grace")
    found = page.get_by_role("table", name="Sessions found").get_by_role("row").filter(has_text="Grace")
    await expect(found).to_be_visible()
    await keys.press("Escape")
    await expect(page.get_by_role("searchbox")).to_have_value("")
    extend = live_row(page, NAMES[1]).get_by_role("button", name="Extend")
    for _ in range(60):
        if await extend.evaluate("button => button === document.activeElement"):
            break
        await keys.press("Tab")
    await expect(extend).to_be_focused()
    outline = await extend.evaluate("button => getComputedStyle(button).outlineStyle")
    assert outline != "none", "where one is can be seen"
    await keys.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_label("Minutes")).to_be_focused()
    for _ in range(12):
        await keys.press("Tab")
        inside = "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
        assert await page.evaluate(inside), "the focus stays in the dialog"
    await keys.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(extend).to_be_focused()
    colours = page.get_by_role("button", name="Colours")
    await colours.focus()
    background = "getComputedStyle(document.body).backgroundColor"
    seen = set()
    for _ in range(2):
        await keys.press("Enter")
        seen.add(await page.evaluate(background))
    assert len(seen) == 2, "light and dark"
    await page.reload()
    assert await page.evaluate(background) in seen
    assert await page.evaluate("document.documentElement.dataset.theme") == "dark", "it is kept"


async def test_a_node_is_drained_and_taken_back(desk: Desk, http: httpx.AsyncClient) -> None:
    page = await opened(desk)
    nodes = page.get_by_role("table", name="Nodes")
    await nodes.get_by_role("button", name="Drain").click()
    await page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    try:
        await expect(nodes).to_contain_text("draining")
        cluster = (await http.get("/cluster")).json()["cluster"]
        assert [node["draining"] for node in cluster["nodes"]] == [True]
    finally:
        await nodes.get_by_role("button", name="Take back").click()
        await expect(nodes).to_contain_text("in use")
    cluster = (await http.get("/cluster")).json()["cluster"]
    assert [node["draining"] for node in cluster["nodes"]] == [False]


async def test_staff_give_their_key_and_see_what_it_opens(desk: Desk) -> None:
    """What a service with a key answers to whoever has none is put before the real one, which has none."""
    path = "/api/parallel_interview/console/events"
    async with api(key="k3y") as (guarded_service, _):
        refused = await guarded_service.get(path)
    asked: list[str | None] = []

    async def guarded(route: Route) -> None:
        key = await route.request.header_value("x-api-key")
        asked.append(key)
        if key != "right":
            headers = {n: v for n, v in refused.headers.items() if n != "content-length"}
            return await route.fulfill(status=refused.status_code, headers=headers, body=refused.text)
        data: dict[str, Any] = {"rows": [], "live": 0, "waiting": 0, "server_time": "2026-01-01T00:00:00.000Z"}
        hello = 'event: hello\ndata: {"principal": "key:x", "scopes": ["read"]}\n\n'
        body = hello + f"id: 1\nevent: all\ndata: {json.dumps(data)}\n\n"
        await route.fulfill(status=200, headers={"Content-Type": "text/event-stream"}, body=body)

    await desk.page.route(f"**{path}", guarded)
    await desk.page.goto(f"http://127.0.0.1:{desk.cable.port}/")
    field = desk.page.get_by_label("Staff key")
    await field.fill("wrong")
    await desk.page.keyboard.press("Enter")
    await expect(desk.page.get_by_role("alert")).to_contain_text("not accepted")
    await field.fill("right")
    await desk.page.keyboard.press("Enter")
    await expect(desk.page.get_by_text("Nobody is being interviewed.")).to_be_visible()
    await expect(desk.page.get_by_role("button", name="New interview")).to_have_count(0)
    assert asked[:3] == [None, "wrong", "right"]
    assert "right" not in desk.page.url


async def test_it_comes_back_by_itself(desk: Desk, three: list[Candidate]) -> None:
    page = await opened(desk)
    desk.cable.cut()
    await desk.cable.close()  # what is there breaks, and what is new gets nowhere
    await expect(page.get_by_role("alert")).to_contain_text("The connection is lost")
    await three[0].post("pause")
    desk.cable.mend()
    await expect(page.locator(".feed-state")).to_have_text("live", timeout=20_000)
    await expect(live_row(page, NAMES[0]).get_by_text("paused", exact=True)).to_be_visible()
