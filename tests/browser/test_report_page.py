"""The report as people see it: on two screens, on paper, and with a key."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from playwright.async_api import Page, Route, expect
from skimage import data as pictures

from tests.browser.accessibility import violations
from tests.browser.conftest import SHOTS, Desk, World
from tests.chaos.conftest import until
from tests.cluster.candidate import Candidate
from tests.unit.api_world import api

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

ANSWER = """I kept a rota for the on-call week and wrote down every page that woke somebody.

After a month we fixed the three causes of most of them. The rest we turned off."""
CODE = '''def longest(sentence: str) -> str:
    """The longest word; the first of several."""
    best = ""
    for word in sentence.split():  # keeps the first
        if len(word) > len(best):
            best = word
    return best if best else "none" + str(0)
'''


async def interviewed(candidate: Candidate) -> dict[str, str]:
    """An interview in which a good deal happened. Its links."""
    questions = ["Tell us about a piece of work you are proud of. What was your part in it?", "Longest word?", "And?"]
    made = await candidate.create(
        questions, name="Ada Lovelace-Núñez", phone="+44 20 7946 0000", question_types=["text", "coding", "text"]
    )
    await candidate.start()
    events = [{"type": "tab_hidden", "duration_seconds": 1.5}, {"type": "paste", "detail": {"size": 420}}]
    await candidate.post("proctoring/events", {"events": events})
    face = cv2.cvtColor(pictures.astronaut()[:290, 40:430], cv2.COLOR_RGB2BGR)
    for picture in (face, np.full_like(face, 127)):
        image = base64.b64encode(cv2.imencode(".jpg", picture)[1].tobytes()).decode()
        await candidate.post("proctoring/frame", {"image": image})
    await candidate.answer(0, ANSWER)
    await candidate.post("pause", {"reason": "the doorbell"})
    await candidate.post("resume")
    await candidate.post("extend", {"seconds": 60, "reason": "the doorbell"}, headers={"Idempotency-Key": "doorbell"})
    await candidate.post("answer", {"question_index": 1, "answer": CODE, "language": "python"})
    await candidate.post("end", {"reason": "out of time"})
    return made["links"]


async def ready(world: World, candidate: Candidate) -> None:
    async with httpx.AsyncClient(base_url=world.service.url, timeout=20) as http:

        async def there() -> bool:
            answer = await http.get(f"/api/reports/{candidate.session_id}")
            return answer.status_code == 200 and not answer.json()["report"]["outdated"]

        review = {"verdict": "advance", "note": "Clear, honest, and the code is right.\nInvite to the team."}
        answer = await http.post(f"/api/reports/{candidate.session_id}/review", json=review)
        assert answer.status_code == 200, answer.text
        await until(there, 60, "the report")


async def look(page: Page, name: str) -> None:
    if SHOTS:
        await page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


async def test_a_report_is_something_to_forward(
    world: World, desk: Desk, candidate: Candidate, axe: Path, tmp_path: Path
) -> None:
    links = await interviewed(candidate)
    page = desk.page
    await desk.open(links["report"])  # it may still be being made; the page comes back by itself
    await expect(page.get_by_role("heading", level=1)).to_have_text("Ada Lovelace-Núñez", timeout=30_000)
    await ready(world, candidate)
    await page.reload()
    await expect(page.get_by_text("Partial interview.")).to_be_visible()
    await expect(page.get_by_text("Invite to the team.")).to_be_visible()
    assert await page.locator("pre code").inner_text() == CODE
    for width in (1280, 390):
        await page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            assert await violations(page, axe) == [], f"{width} px, {scheme}"
            await look(page, f"report-{width}-{scheme}")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    sheet = await page.pdf(path=tmp_path / "report.pdf", format="A4", print_background=False)
    assert sheet.startswith(b"%PDF") and len(sheet) < 2_000_000
    if SHOTS:
        os.replace(tmp_path / "report.pdf", Path(SHOTS) / "report.pdf")
    async with httpx.AsyncClient(base_url=world.service.url, timeout=60) as http:
        answer = await http.get(f"/api/reports/{candidate.session_id}", params={"format": "pdf"})
    assert answer.status_code == 200, answer.text  # Chromium has brought Pango with it
    assert answer.content.startswith(b"%PDF") and len(answer.content) < 2_000_000
    if SHOTS:
        (Path(SHOTS) / "report-by-us.pdf").write_bytes(answer.content)


async def test_staff_give_their_key_once(world: World, desk: Desk, candidate: Candidate) -> None:
    """What a service with a key answers to whoever has none is put before the real one, which has none."""
    links = await interviewed(candidate)
    async with api(key="k3y") as (http, _):
        refused = await http.get("/api/reports/x", headers={"Accept": "text/html"})
    asked: list[str | None] = []

    async def guarded(route: Route) -> None:
        key = await route.request.header_value("x-api-key")
        asked.append(key)
        if key == "right":
            await route.continue_()
        else:
            headers = {n: v for n, v in refused.headers.items() if n != "content-length"}
            await route.fulfill(status=401, headers=headers, body=refused.text)

    await desk.page.route("**/api/reports/**", guarded)
    await desk.open(links["report"])
    field = desk.page.get_by_label("Staff key")
    await field.fill("wrong")
    await desk.page.keyboard.press("Enter")
    await expect(desk.page.get_by_role("alert")).to_contain_text("not accepted")
    await field.fill("right")
    await desk.page.keyboard.press("Enter")
    await expect(desk.page.get_by_role("heading", level=1)).to_have_text("Ada Lovelace-Núñez", timeout=30_000)
    await desk.page.reload()
    await expect(desk.page.get_by_role("heading", level=1)).to_have_text("Ada Lovelace-Núñez", timeout=30_000)
    assert asked[:2] == [None, "wrong"] and asked[-2:] == [None, "right"]
