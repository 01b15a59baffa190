"""Script that is stored where people write something, and the pages that show it, in a real Chromium."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from tests.attacks.closed_service import ClosedService
from tests.attacks.test_service import Interview, interview
from tests.attacks.world import bearer
from tests.browser.candidate_page import CandidatePage
from tests.browser.conftest import Desk, browser, camera, chromium  # noqa: F401  (fixtures)
from tests.chaos.conftest import until
from tests.cluster.candidate import checked

pytestmark = [pytest.mark.browser, pytest.mark.cluster, pytest.mark.timeout(120)]

PORT = "{port}"
PAYLOADS = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    '"><svg onload=window.pwned=1>',
    "'-window.pwned=1-'",
    f"<img src='http://127.0.0.1:{PORT}/image'><link rel=stylesheet href='http://127.0.0.1:{PORT}/style'>",
    f"<style>@import 'http://127.0.0.1:{PORT}/import'; p {{ background: url(http://127.0.0.1:{PORT}/css) }}</style>",
    f"<iframe src='http://127.0.0.1:{PORT}/frame'></iframe><object data='file:///etc/passwd'></object>",
    f"<meta http-equiv=refresh content='0;url=http://127.0.0.1:{PORT}/refresh'><base href='http://127.0.0.1:{PORT}/'>",
    "<a href='javascript:window.pwned=1'>x</a>",
    "{{ 7 * 7 }}${7*7}{% for x in [] %}#{7*7}",
    "</script></style></title></textarea></pre>--><script>window.pwned=1</script>",
)
STAFFS_KEY = "staff-key"
"""What the pages call the key in a browser's session."""


@dataclass
class Trap:
    """A server that nobody should ask for anything."""

    port: int = 0
    asked: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.read(1_000))
        writer.close()

    @property
    def everything(self) -> str:
        return " ".join(PAYLOADS).replace(PORT, str(self.port))


@pytest.fixture
async def trap() -> AsyncIterator[Trap]:
    trap = Trap()
    server = await asyncio.start_server(trap.serve, "127.0.0.1", 0)
    trap.port = server.sockets[0].getsockname()[1]
    yield trap
    server.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:  # noqa: F811
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    page = await context.new_page()
    page.set_default_timeout(20_000)
    yield page
    await context.close()


async def harmless(page: Page, trap: Trap) -> None:
    """Nothing that was written has become part of a page, or asked for anything."""
    assert await page.evaluate("window.pwned") is None
    assert await page.evaluate("document.querySelectorAll('iframe, object, base, svg[onload], img[src=x]').length") == 0
    assert await page.evaluate("[...document.scripts].filter(s => !s.src && s.type !== 'application/json').length") == 0
    assert trap.asked == []


async def hostile(http: httpx.AsyncClient, real: ClosedService, trap: Trap) -> Interview:
    """An interview in which everybody has written all of them, wherever they can."""
    text = trap.everything
    await http.put(
        "/jobs/default",
        json={"title": text[:200], "questions": [{"text": text}, {"text": text, "type": "coding"}]},
        headers=real.staff,
    )
    one = await interview(
        http,
        real,
        name=text[:200],
        phone=text[:50],
        job_id=text[:200],
        questions=[text, text, text],
        question_types=["text", "coding", "text"],
        metadata={text[:200]: text[:2_000]},
    )
    await one.start()
    events = [{"type": "paste", "detail": text[:500]}, {"type": "tab_hidden", "detail": {text[:200]: text[:500]}}]
    await one.call("POST", "/proctoring/events", json={"events": events})
    await one.answer(0, text)
    await one.call("POST", "/answer", json={"question_index": 1, "answer": text, "language": "html"})
    return one


async def ended(http: httpx.AsyncClient, real: ClosedService, one: Interview, text: str) -> None:
    more = {"seconds": 5, "reason": text[:500]}
    checked(await http.post(f"{one.url}/extend", json=more, headers={**real.staff, "Idempotency-Key": "k"}), 200)
    checked(await http.post(f"{one.url}/pause", json={"reason": text[:500]}, headers=real.staff), 200)
    checked(await http.post(f"{one.url}/end", json={"reason": text[:500]}, headers=real.staff), 200)
    seen = checked(await http.get(f"{one.url}/proctoring", headers=real.staff), 200)["proctoring"]["events"]
    if seen:
        await one.call("POST", f"/proctoring/events/{seen[0]['id']}/dispute", json={"statement": text[:2_000]})
    verdict = {"verdict": "cleared", "reason": text[:2_000]}
    checked(await http.post(f"{one.url}/proctoring/verdict", json=verdict, headers=real.staff), 200)
    report = f"{real.serve.url}/api/reports/{one.session_id}"
    review = {"verdict": "hold", "note": text[:4_000]}
    checked(await http.post(f"{report}/review", json=review, headers=real.staff), 200)

    async def there() -> bool:
        answer = await http.get(report, headers=real.staff)
        return answer.status_code == 200 and not answer.json()["report"]["outdated"]

    await until(there, 60, "the report")


async def test_what_is_stored_is_text_on_staffs_pages_and_in_the_pdf(
    http: httpx.AsyncClient, real: ClosedService, page: Page, trap: Trap
) -> None:
    one, text = await hostile(http, real, trap), trap.everything
    base = f"http://127.0.0.1:{real.serve.port}"
    await page.add_init_script(f"sessionStorage.setItem({STAFFS_KEY!r}, {real.key!r})")
    await page.goto(f"{base}/sessions/{one.session_id}/live")
    await expect(page.get_by_text("window.pwned=1").first).to_be_visible()
    await ended(http, real, one, text)
    await expect(page.get_by_text(re.compile("completed|ended", re.IGNORECASE)).first).to_be_visible()
    await harmless(page, trap)
    await page.goto(f"{base}/api/reports/{one.session_id}?format=html")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("<script>")
    await expect(page.locator("pre code")).to_contain_text("<iframe")
    await harmless(page, trap)
    made = await http.get(
        f"{real.serve.url}/api/reports/{one.session_id}", params={"format": "pdf"}, headers=real.staff, timeout=70
    )
    if made.status_code != 501:  # the system's Pango is not here
        assert made.status_code == 200 and made.content.startswith(b"%PDF")
        assert b"root:" not in made.content and b"/JavaScript" not in made.content and b"/Launch" not in made.content
    assert trap.asked == []


async def test_what_is_stored_is_text_on_the_candidates_page(
    http: httpx.AsyncClient, real: ClosedService, page: Page, trap: Trap
) -> None:
    text = trap.everything
    one = await interview(http, real, name=text[:200], questions=[text, text], question_types=["text", "coding"])
    await page.goto(f"http://127.0.0.1:{real.serve.port}/interview/{one.session_id}#{one.token}")
    candidate = CandidatePage(Desk(page, page.context, cast(Any, None)))
    await candidate.to_the_start()
    await candidate.start()
    await expect(page.get_by_text("window.pwned=1").first).to_be_visible()
    await candidate.write("<img src=x onerror=window.pwned=1>")
    await candidate.saved()
    await page.reload()
    await expect(candidate.editor).to_have_value("<img src=x onerror=window.pwned=1>")
    await harmless(page, trap)


@pytest.mark.parametrize("path", ["/interview/{}", "/sessions/{}/live"])
async def test_an_id_in_an_address_runs_nothing(real: ClosedService, page: Page, trap: Trap, path: str) -> None:
    for id in ("%3C%2Fscript%3E%3Cscript%3Ewindow.pwned=1%3C%2Fscript%3E", "%22-window.pwned=1-%22", "%E2%80%A8x"):
        await page.goto(f"http://127.0.0.1:{real.serve.port}" + path.format(id))
        await page.wait_for_load_state("networkidle")
        await harmless(page, trap)


async def test_a_picture_that_is_a_page_is_shown_by_nobody(
    http: httpx.AsyncClient, real: ClosedService, page: Page, trap: Trap
) -> None:
    """A page that begins like a JPEG: even if it is kept, a browser gets it as a picture, in a sandbox."""
    one = await interview(http, real)
    await one.start()
    polyglot = b"\xff\xd8\xff\xe0<!doctype html><script>window.pwned=1</script>"
    image = base64.b64encode(polyglot).decode()
    answer = await one.call("POST", "/proctoring/frame", json={"image": image})
    assert answer.status_code in (200, 400)
    headers = bearer(one.token) | {"Content-Type": "image/png"}
    answer = await http.post(f"{one.url}/proctoring/frame", content=b"<svg/>", headers=headers)
    assert answer.status_code == 415
    await page.set_extra_http_headers(real.staff)
    for what in ("reference", "evidence/1"):
        await page.goto(f"{real.serve.url}/api/parallel_interview{one.url}/proctoring/{what}")
        await harmless(page, trap)
