"""The embedded database is copied while it is written to, and the copy is a database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import InvalidInput, NotFound
from orchestrator.interview.commands import Answer, Start
from orchestrator.session import Request, Session
from orchestrator.settings import get_settings
from orchestrator.storage.embedded import EmbeddedServer, back_up
from orchestrator.storage.store import Store
from tests.services.test_storage_contract import created
from tests.unit.world import STAFF, T0

pytestmark = pytest.mark.services


@contextlib.contextmanager
def running(folder: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def test_a_copy_has_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        store = await Store.open(server.url, "parallel_interview")
        await created(store, questions=60)
        session = await Session.load(store, "s1")
        await session.execute(Request(Start(), STAFF, T0 + 1), T0 + 1)
        acknowledged = 0

        async def answer_all() -> None:
            nonlocal acknowledged
            for index in range(60):
                await session.execute(Request(Answer(index, f"answer {index}"), STAFF, T0 + 2 + index), T0 + 2 + index)
                acknowledged = index + 1

        answering = asyncio.create_task(answer_all())
        while acknowledged < 10:
            await asyncio.sleep(0.001)
        before = acknowledged
        await asyncio.to_thread(back_up, tmp_path / "data", tmp_path / "copy")
        await answering
        await store.close()
    with running(tmp_path / "copy") as server:
        store = await Store.open(server.url, "parallel_interview")
        copied = await Session.load(store, "s1")
        assert len(copied.state.answers) >= before and (await store.verify("s1"))["ok"]
        await store.close()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "data"):
        pass
    monkeypatch.setenv("INTERVIEW_DATA_DIR", str(tmp_path / "data"))
    get_settings.cache_clear()
    try:
        done = CliRunner().invoke(app, ["backup", str(tmp_path / "copy")])
        assert done.exit_code == 0 and "INTERVIEW_DATA_DIR=" in done.output
        again = CliRunner().invoke(app, ["backup", str(tmp_path / "copy")])
        assert again.exit_code == 1 and "there already" in again.output
    finally:
        get_settings.cache_clear()


def test_where_there_is_nothing_to_copy(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="with its own tools"):
        back_up(tmp_path, tmp_path / "copy")
    (tmp_path / "mongo").mkdir()
    (tmp_path / "mongo/a.db").touch()
    with pytest.raises(InvalidInput, match="already"):
        back_up(tmp_path, tmp_path)
