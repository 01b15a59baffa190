"""The candidate's page by keyboard: what a person does with it, and what they can see of it."""

from __future__ import annotations

import asyncio
import math
import re
from pathlib import Path

from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import SHOTS, Desk
from tests.chaos.conftest import until
from tests.cluster.candidate import Candidate

WIDTHS = (360, 768, 1440)


class CandidatePage:
    """Everything is done with keys; nothing is clicked."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.page: Page = desk.page

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def timer(self) -> Locator:
        return self.page.get_by_role("timer")

    async def heading(self, name: str | re.Pattern[str], seconds: float = 10) -> None:
        """The page's one heading, which has the focus."""
        heading = self.page.get_by_role("heading", level=1, name=name)
        await expect(heading).to_be_visible(timeout=seconds * 1000)
        await expect(heading).to_be_focused()
        await expect(self.page.get_by_role("heading", level=1)).to_have_count(1)

    async def tab_to(self, what: Locator) -> None:
        """Press Tab until it has the focus."""
        await expect(what).to_be_visible()
        for _ in range(40):
            if await what.evaluate(
                "element => element === document.activeElement || element.contains(document.activeElement)"
            ):
                return
            await self.page.keyboard.press("Tab")
        raise AssertionError(f"{what} cannot be reached with Tab")

    async def press(self, name: str) -> None:
        button = self.button(name)
        await expect(button).to_be_enabled()
        await self.tab_to(button)
        await self.page.keyboard.press("Enter")

    async def to_the_start(self, look: bool = False) -> None:
        """Consent, equipment, reference picture: up to the start of the interview."""
        await self.heading("Before we begin")
        if look:
            await self.look("1-consent")
        await self.tab_to(self.page.get_by_role("checkbox"))
        await self.page.keyboard.press("Space")
        await self.press("Agree and continue")
        await self.heading("Check your equipment")
        await expect(self.page.get_by_label("Your camera")).to_be_visible()
        await expect(self.button("Continue")).to_be_enabled()
        if look:
            await self.look("2-equipment")
        await self.press("Continue")
        await self.heading("Take a reference picture")
        await self.press("Take picture")
        await expect(self.button("Continue")).to_be_visible()
        if look:
            await self.look("3-reference")
        await self.press("Continue")
        await self.heading("Ready when you are")
        if look:
            await self.look("4-ready")

    async def start(self) -> None:
        await self.press("Start interview")
        await self.heading(re.compile("^Question 1 of"))

    @property
    def editor(self) -> Locator:
        return self.page.get_by_role("textbox", name="Your answer")

    async def write(self, text: str) -> None:
        await self.tab_to(self.editor)
        await self.page.keyboard.type(text, delay=10)

    async def saved(self) -> None:
        await expect(self.page.get_by_text("Saved", exact=True).first).to_be_visible()

    async def seconds_left(self) -> float | None:
        """What the countdown shows."""
        found = re.search(r"(?:(\d+):)?(\d+):(\d\d)", await self.timer.inner_text())
        if found is None:
            return None
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + seconds

    async def look(self, name: str) -> None:
        """See that the page fits at every width (and keep pictures of it, if somebody wants to look)."""
        size = self.page.viewport_size
        for width in WIDTHS:
            await self.page.set_viewport_size({"width": width, "height": 800})
            await asyncio.sleep(0.15)
            wide = await self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, f"{name} is {wide} px too wide at {width} px"
            if SHOTS:
                Path(SHOTS).mkdir(parents=True, exist_ok=True)
                await self.page.screenshot(path=f"{SHOTS}/{name}-{width}.png", full_page=True)
        if size is not None:
            await self.page.set_viewport_size(size)


async def clock_is_right(page: CandidatePage, candidate: Candidate) -> None:
    """See that the countdown shows what the service says, to one second, as soon as what has just happened is told."""

    async def is_right() -> bool:
        told = (await candidate.session())["current_question"]["remaining_seconds"]
        shown = await page.seconds_left()
        return shown is not None and abs(shown - math.ceil(told)) <= 1

    await until(is_right, 2, "the clock to be right")
