"""What consoles cost, by the CPU time of the front end and of the database, which a busy machine changes little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.console import LIMIT, consoles, going_on, used

pytestmark = [pytest.mark.services, pytest.mark.timeout(150)]

CONSOLES, LIVE = 20, 300
SECONDS = 20.0


async def test_twenty_consoles_on_three_hundred_interviews_cost_under_a_tenth_of_a_core(
    tmp_path: Path, record_property: Any
) -> None:
    async with going_on(tmp_path, LIVE) as (url, pids, interviews):
        async with consoles(url, 1):
            pass  # it is up
        without = await used(pids, SECONDS / 4)
        changes = interviews.changes
        async with consoles(url, CONSOLES) as messages:
            with_them = await used(pids, SECONDS)
            changes = interviews.changes - changes
    cost = sum(with_them) - sum(without)
    record_property("share of a core", round(cost, 4))
    assert min(messages) >= 2 + SECONDS / 10, "each was told what changed"
    assert changes > SECONDS, "they went on meanwhile"
    assert cost < LIMIT, f"{with_them} with, {without} without"
