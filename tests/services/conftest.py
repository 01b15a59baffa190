"""What the storage tests share: every MongoDB-wire server there is, and a Store on it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from orchestrator.storage.store import Store
from tests.servers import MONGO_SERVERS, MongoServer, mongo_server


@pytest.fixture(scope="module", params=MONGO_SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    server = mongo_server(request.param, tmp_path_factory.mktemp(request.param))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def database() -> str:
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def store(server: MongoServer, database: str) -> AsyncIterator[Store]:
    store = await Store.open(server.url, database)
    yield store
    await drop(store)
    await store.close()


async def drop(store: Store) -> None:
    with contextlib.suppress(Exception):
        await store._client.drop_database(store._db.name)
