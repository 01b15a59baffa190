"""Any process may die in the middle of a load of answers: nothing acknowledged is lost or doubled, no timer either."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import httpx
import pytest

from tests.chaos.audit import audit
from tests.chaos.faults import KINDS, NoVictim, World
from tests.chaos.load import Load
from tests.servers import Serve

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

CANDIDATES = 4
KILLS = [kind for kind in KINDS if kind.startswith("kill ") and " at " not in kind]


@pytest.mark.parametrize("kind", KILLS)
async def test_under_load(service: Serve, http: httpx.AsyncClient, faults_folder: Path, kind: str) -> None:
    load = Load(http, CANDIDATES, seed=len(kind), pace_seconds=0.3)
    loading = asyncio.create_task(load.run())
    world = World(service, load, http, random.Random(len(kind)), faults_folder)
    try:
        at = await _do(world, kind)
        load.hurry()
        give_up = time.monotonic() + 60
        while not all(load.record.succeeded_after(at, told.session_id) for told in load.live):
            assert time.monotonic() < give_up, "not every interview went on"
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        load.stop()
        await loading
    finally:
        loading.cancel()
    findings = await audit(http, load)
    assert findings.checked > 0
    assert not findings.failed, findings


async def _do(world: World, kind: str) -> float:
    """The fault, as soon as interviews are under way. When it was."""
    give_up = time.monotonic() + 60
    while len(world.load.live) < CANDIDATES:
        assert time.monotonic() < give_up, "the load did not start"
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    while True:
        at = time.monotonic()
        try:
            await KINDS[kind].do(world)
            return at
        except NoVictim:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.2)
