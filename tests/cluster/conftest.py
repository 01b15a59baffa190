"""One real service for all tests of this folder: embedded database, local Ray, front end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.cluster.candidate import Candidate
from tests.servers import Serve, serving


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with serving(tmp_path_factory.mktemp("service"), INTERVIEW_WARM_ACTORS="2") as service:
        yield service


@pytest.fixture
async def http(service: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.api, timeout=30) as http:
        yield http


@pytest.fixture
def candidate(http: httpx.AsyncClient) -> Candidate:
    return Candidate(http)
