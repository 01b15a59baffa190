"""The documentation of the API in a browser: it shows, it can be tried, and nothing comes from elsewhere."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import SHOTS, Desk, World

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


async def test_a_call_is_read_about_and_tried(desk: Desk, world: World) -> None:
    page, asked, complaints = desk.page, list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    await page.goto(f"{world.service.url}/docs")
    await expect(page.get_by_text("Parallel Interview").first).to_be_visible()
    stats = page.locator(".opblock").filter(has_text="/api/parallel_interview/stats")
    await stats.locator(".opblock-summary").first.click()
    await stats.get_by_role("button", name="Execute").click()
    await expect(stats.get_by_text("total_sessions").first).to_be_visible()
    if SHOTS:
        await page.screenshot(path=f"{SHOTS}/docs.png")
    assert complaints == []
    assert {url for url in asked if not url.startswith((world.service.url, "data:", "blob:"))} == set()
