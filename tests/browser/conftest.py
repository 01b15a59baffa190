"""A real Chromium with a camera that shows a face, the real service, and a real LiveKit server."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from skimage import data as pictures

from orchestrator.storage.embedded import free_port
from tests.browser import accessibility
from tests.browser.cable import Cable, cable_to
from tests.cluster.candidate import Candidate
from tests.livekit_server import KEY, SECRET, LiveKitServer, livekit_server
from tests.servers import Serve, cannot_run, serving

CAMERA = (640, 480)
SHOTS = os.environ.get("INTERVIEW_SCREENSHOTS")
"""A folder to keep screenshots in; not set: none are made."""


@dataclass
class World:
    livekit: LiveKitServer
    service: Serve


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, port = tmp_path_factory.mktemp("browser"), free_port()
    webhook = f"http://127.0.0.1:{port}/api/parallel_interview/livekit/webhook"
    with (
        livekit_server(folder / "livekit", webhook) as livekit,
        serving(
            folder,
            port,
            INTERVIEW_WARM_ACTORS="2",
            INTERVIEW_FRAME_SECONDS="3",
            LIVEKIT_URL=livekit.url,
            LIVEKIT_API_KEY=KEY,
            LIVEKIT_API_SECRET=SECRET,
        ) as service,
    ):
        yield World(livekit, service)


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        cannot_run("chromium is not here; .ci/run installs Debian's", needs="apt-get")
    return found


@pytest.fixture(scope="session")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fake camera shows: a photograph of a person that moves a little, as Motion JPEG."""
    portrait = np.asarray(cv2.cvtColor(pictures.astronaut()[:290, 40:430], cv2.COLOR_RGB2BGR))
    file = tmp_path_factory.mktemp("camera") / "face.mjpeg"
    with file.open("wb") as film:
        for shift in (0, 1, 2, 3, 2, 1):
            picture = cv2.resize(np.roll(portrait, shift, axis=1), CAMERA, interpolation=cv2.INTER_CUBIC)
            film.write(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return file


@pytest.fixture
async def browser(chromium: str, camera: Path) -> AsyncIterator[Browser]:
    quiet = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update")
    fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-sync", *quiet, *fake, f"--use-file-for-fake-video-capture={camera}"],
        )
        yield browser
        await browser.close()


@dataclass
class Desk:
    """Where a candidate sits: a browser of their own, behind a cable of their own."""

    page: Page
    context: BrowserContext
    cable: Cable

    async def open(self, link: str) -> None:
        """Open the candidate's link, as if the service were at the other end of the cable."""
        path = link.split("/", 3)[3]
        await self.page.goto(f"http://127.0.0.1:{self.cable.port}/{path}")


@pytest.fixture
async def desks(browser: Browser, world: World) -> AsyncIterator[list[Desk]]:
    """Two desks."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(2):
            cable = await stack.enter_async_context(cable_to(world.service.port))
            context = await browser.new_context(viewport={"width": 1440, "height": 900})
            page = await context.new_page()
            page.set_default_timeout(20_000)
            found.append(Desk(page, context, cable))
        yield found


@pytest.fixture
async def desk(desks: list[Desk]) -> Desk:
    return desks[0]


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=world.service.api, timeout=30) as http:
        yield http


@pytest.fixture
async def candidate(http: httpx.AsyncClient) -> AsyncIterator[Candidate]:
    candidate = Candidate(http)
    yield candidate
    if candidate.session_id:
        await candidate.request("POST", "/end")


@pytest.fixture
def axe() -> Path:
    return accessibility.script()
