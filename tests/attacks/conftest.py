"""A front end in a process of its own for what comes over sockets, and a real service for what needs all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.attacks.closed_service import ClosedService, closed_service
from tests.attacks.front_end import HEAD_SECONDS, LEFTOVER_SECONDS, LONGEST_SECONDS, SLOW_SECONDS, front_end


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A front end with usual patience."""
    with front_end(tmp_path_factory.mktemp("front_end") / "log") as url:
        yield url


@pytest.fixture(scope="session")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that waits a second where others wait 15 to 30, and two where they wait 120."""
    short = {HEAD_SECONDS: "1", SLOW_SECONDS: "1", LEFTOVER_SECONDS: "1", LONGEST_SECONDS: "2"}
    with front_end(tmp_path_factory.mktemp("impatient") / "log", **short) as url:
        yield url


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClosedService]:
    """A real service that listens on every address."""
    with closed_service(tmp_path_factory.mktemp("real")) as service:
        yield service


@pytest.fixture
async def http(real: ClosedService) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=real.serve.api, timeout=30) as http:
        yield http
