"""The embedded database's disk is full: nothing is acknowledged that was not written, and it goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.candidate import Candidate, checked
from tests.servers import Serve

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

DISK_MB = 48
FULL_SECONDS = 6.0
LONG = "after" * 2_000
KEY = {"Idempotency-Key": "a1"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write until there is no room, to the last byte."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        for size in (2**16, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


async def test_the_disk_is_full_for_a_while(disk: Path) -> None:
    service = Serve(disk, INTERVIEW_WARM_ACTORS="1")
    try:
        service.start()
        async with httpx.AsyncClient(base_url=service.api, timeout=30) as http:
            busy = Candidate(http)
            await busy.create(4, text_question_timer=600)
            await busy.start()
            await busy.answer(0, "before")
            filler = fill(disk)
            full_at = time.monotonic()
            calls = [
                busy.request("POST", "/answer", json={"question_index": 1, "answer": LONG}, headers=KEY),
                busy.request("PUT", "/draft", json={"question_index": 1, "draft": LONG}),
                http.post("/create", json={"name": "Eve", "email": "eve@example.com", "questions": ["Why?"]}),
            ]
            for response in [await call for call in calls]:
                checked(response, 503)
            await asyncio.sleep(FULL_SECONDS)
            checked(await busy.request("POST", "/answer", json={"question_index": 1, "answer": LONG}, headers=KEY), 503)
            filler.unlink()
            full = time.monotonic() - full_at

            await busy.answer_at_last(1, LONG, KEY["Idempotency-Key"])
            session = await busy.check_nothing_lost()
            assert full - 2.5 < session["clock"]["credited_seconds"] < full + 5
            await Candidate(http).create()
            assert "the database failed" in service.log and "full" in service.log
    finally:
        service.stop()
