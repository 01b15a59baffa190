"""A service that can be made to fail at named steps, and what tests need to see of it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.driver import Driver
from tests.cluster.candidate import Candidate
from tests.servers import Serve, serving


@pytest.fixture(scope="session")
def faults_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def chaos_service(tmp_path_factory: pytest.TempPathFactory, faults_folder: Path) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("chaos")
    with serving(
        folder, INTERVIEW_WARM_ACTORS="3", INTERVIEW_FAULTS=str(faults_folder), RAY_metrics_report_interval_ms="5000"
    ) as service:
        yield service


@pytest.fixture
def service(chaos_service: Serve, faults_folder: Path) -> Iterator[Serve]:
    """The service of this folder's tests, ready, and with no fault armed before and after."""
    chaos_service.wait_ready()
    yield chaos_service
    for armed in faults_folder.iterdir():
        armed.unlink()


@pytest.fixture
async def http(service: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.api, timeout=30) as http:
        yield http


@pytest.fixture
async def candidate(http: httpx.AsyncClient) -> AsyncIterator[Candidate]:
    candidate = Candidate(http)
    yield candidate
    if candidate.session_id:
        await candidate.request("POST", "/end")


@pytest.fixture
def driver(service: Serve) -> Iterator[Driver]:
    """A driver in the service's Ray cluster."""
    driver = Driver(service.note["environment"])
    yield driver
    driver.close()


def say(capsys: pytest.CaptureFixture[str], figure: str) -> None:
    """Print a measured figure where the reader of a test run sees it."""
    with capsys.disabled():
        sys.stdout.write(f"\n{figure}\n")


async def until(condition: Callable[[], Awaitable[Any] | Any], seconds: float, what: str) -> Any:
    """Wait for a condition, with a bound; returns its first true value."""
    give_up = time.monotonic() + seconds
    while True:
        result = condition()
        value = await result if isinstance(result, Awaitable) else result
        if value:
            return value
        assert time.monotonic() < give_up, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.05)
