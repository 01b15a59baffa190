"""A real service beyond loopback: refused without a key, then started with one that is kept in its database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from actors.clock import wall_ms
from orchestrator.keys import new_key
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.store import Store
from tests.servers import Serve, command_of, descendants

EVERYWHERE = ("--host", "0.0.0.0")
START_SECONDS = 60.0
CREDIT_SECONDS = 3.0
"""For how long in all a clock stands still for lost connections."""


@dataclass
class ClosedService:
    """`refused`: how serve ended that was started without any key, and `said` what it said."""

    serve: Serve
    key: str
    refused: int
    said: str

    @property
    def staff(self) -> dict[str, str]:
        return {"X-API-Key": self.key}

    @property
    def ray_folder(self) -> Path:
        """Where its Ray has its sockets and logs."""
        assert self.serve.process is not None
        words = [word for pid in descendants(self.serve.process.pid) for word in command_of(pid).split()]
        return Path(next(word.split("=", 1)[1] for word in words if word.startswith("--temp-dir=")))

    def logs(self) -> str:
        """Everything that it and its Ray have written down."""
        folders = [self.serve.data_dir, self.ray_folder / "session_latest" / "logs"]
        files = [file for folder in folders for file in folder.resolve().rglob("*") if _is_log(file)]
        found = [self.serve.log]
        for file in files:
            with contextlib.suppress(OSError):
                found.append(file.read_text(errors="replace"))
        return "\n".join(found)


def _is_log(file: Path) -> bool:
    return file.is_file() and file.suffix in (".log", ".out", ".err") and "mongo" not in file.parts


@contextlib.contextmanager
def closed_service(folder: Path) -> Iterator[ClosedService]:
    """It is there for all tests that need a real one."""
    serve = Serve(
        folder,
        INTERVIEW_WARM_ACTORS="2",
        INTERVIEW_NETWORK_CREDIT_SECONDS=str(CREDIT_SECONDS),
        INTERVIEW_CANDIDATE_REQUESTS_PER_MINUTE="6000",
    )
    process = serve.spawn(*EVERYWHERE)
    try:
        refused = process.wait(START_SECONDS)
        said = serve.log
        key = asyncio.run(_key(serve.data_dir))
        serve.start(*EVERYWHERE)
        yield ClosedService(serve, key, refused, said)
    finally:
        serve.stop()


async def _key(data_dir: Path) -> str:
    """A key with the scope admin, put where `keys create` puts it."""
    database = EmbeddedServer(data_dir)
    database.start()
    try:
        store = await Store.open(database.url, "parallel_interview")
        key, secret = new_key("attacks", ("admin",), wall_ms(), "open")
        await store.add_staff_key(key)
        await store.close()
    finally:
        database.stop()
    return secret
