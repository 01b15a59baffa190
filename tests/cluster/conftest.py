"""One real service for all tests of this folder: embedded database, local Ray, front end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.cluster.candidate import Candidate
from tests.servers import ROOT, Serve, serving

HOOKS = ROOT / "tests" / "fixtures" / "hooks"
"""A distribution with a proctoring hook, as somebody else would install one."""


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("service")
    with serving(
        folder,
        INTERVIEW_WARM_ACTORS="2",
        INTERVIEW_WEBHOOK_PRIVATE_ADDRESSES="true",
        PYTHONPATH=str(HOOKS),
    ) as service:
        yield service


@pytest.fixture
async def http(service: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.api, timeout=30) as http:
        yield http


@pytest.fixture
def candidate(http: httpx.AsyncClient) -> Candidate:
    return Candidate(http)
