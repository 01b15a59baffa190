"""A newer version takes an older one's place, node by node, under a load: nothing is lost, and both work together.

The newer version is a copy of this one in which what processes exchange and store has fields that this one does
not know, as the next release may have.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.audit import audit
from tests.chaos.conftest import say, until
from tests.chaos.load import Load
from tests.chaos.nodes import RayCluster
from tests.chaos.processes import front_ends
from tests.chaos.test_nodes import HEAD_MB, drain
from tests.servers import ROOT, Embedded, command_of, serving

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

CANDIDATES = 5
ROOM = 12
NEWER = "99.0.0"

NEW_FIELDS = {  # file, what is there, what comes after it
    "orchestrator/interview/commands.py": (
        ("    answer: str\n    language: str | None = None\n", "    keystrokes: int = 3\n"),
        ("    retry: bool = False\n", "    because: str = 'it is new'\n"),
    ),
    "orchestrator/interview/snapshot.py": (
        ("    ended_at: int | None = None\n", "    mood: str = 'good'\n"),
        ("    text: str\n    at: int\n", "    cursor: int = 0\n"),
    ),
    "orchestrator/interview/entry.py": (('    deliver: str = ""\n', '    colour: str = "red"\n'),),
    "orchestrator/interview/state.py": (
        ("    lost_at: int | None = None\n", "    weather: str = 'fine'\n"),
        ("    report_score: float | None = None\n", "    mood: str = 'good'\n"),
    ),
    "orchestrator/session.py": (
        ("    if_match: int | None = None\n", "    patience: float = 1.0\n"),
        ("    replayed: bool = False\n", "    warning: str = ''\n"),
    ),
    "actors/interview.py": (
        ("    epoch: int\n    node: str\n", "    version: str = 'new'\n"),
        ("    retry: bool = False\n", "    hurry: bool = True\n"),
    ),
    "actors/supervisor.py": (("    actor: str\n    reply: Reply | None\n", "    warm_for: float = 0.0\n"),),
}


class Code:
    """Where processes find the code: a link, so that what is installed can be replaced under those that run."""

    def __init__(self, folder: Path, older: Path) -> None:
        self.path = folder
        folder.symlink_to(older)

    def replace(self, newer: Path) -> None:
        link = self.path.with_suffix(".new")
        link.symlink_to(newer)
        link.replace(self.path)


def copied(to: Path) -> Path:
    for package in ("orchestrator", "actors", "api"):
        shutil.copytree(ROOT / package, to / package, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    return to


def newer_version(to: Path) -> Path:
    copied(to)
    for name, changes in NEW_FIELDS.items():
        text = (to / name).read_text()
        for before, field in changes:
            assert text.count(before) == 1, (name, before)
            text = text.replace(before, before + field)
        (to / name).write_text(text)
    init = to / "orchestrator/__init__.py"
    init.write_text(init.read_text().partition("__version__")[0] + f'__version__ = "{NEWER}"\n')
    return to


@pytest.fixture
def older(tmp_path: Path) -> Path:
    return copied(tmp_path / "older")


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    return newer_version(tmp_path / "newer")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[dict[str, Any]]:
    database = Embedded(tmp_path / "database")
    database.start()
    yield {"MONGODB_URL": database.url, "INTERVIEW_WARM_ACTORS": "3", "INTERVIEW_FACE_ACTORS": "0"}
    database.stop()


def actors_on_the_head(ray: RayCluster, class_name: str) -> list[int]:
    return [pid for pid in ray.nodes[0].pids() if command_of(pid).split(".")[0] == f"ray::{class_name}"]


async def test_nodes_and_front_ends_are_upgraded_one_by_one(
    tmp_path: Path, older: Path, newer: Path, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    head, front = Code(tmp_path / "head-code", older), Code(tmp_path / "front-code", older)
    ray = RayCluster(tmp_path / "ray", cpus=1, memory=HEAD_MB * 2**20, **settings, PYTHONPATH=str(head.path))
    with contextlib.ExitStack() as stack:
        stack.callback(ray.stop)
        memory = (256 + 64 * ROOM + 32) * 2**20
        first = ray.add_node(cpus=2, memory=memory, PYTHONPATH=str(older))
        environment = settings | ray.environment | {"PYTHONPATH": str(front.path)}
        service = stack.enter_context(serving(tmp_path / "serve", None, **environment))
        async with httpx.AsyncClient(base_url=service.api, timeout=httpx.Timeout(25.0, connect=5.0)) as http:
            load = Load(http, CANDIDATES, seed=4, pace_seconds=0.3)
            loading = asyncio.create_task(load.run())
            try:
                await until(lambda: len(load.live) == CANDIDATES, 60, "interviews are under way")
                began = time.monotonic()

                ray.add_node(cpus=2, memory=memory, PYTHONPATH=str(newer))
                await asyncio.to_thread(drain, service, first)
                first.kill()
                await asyncio.sleep(1)

                before = set(front_ends(service))
                front.replace(newer)
                service.process.send_signal(signal.SIGUSR1)  # type: ignore[union-attr]
                await until(lambda: before.isdisjoint(front_ends(service)), 60, "the front end is a new one")
                assert (await http.get(f"{service.url}/openapi.json")).json()["info"]["version"] == NEWER

                head.replace(newer)
                for name in ("Registry", "Housekeeper", "JournalActor"):
                    for pid in actors_on_the_head(ray, name):
                        os.kill(pid, signal.SIGKILL)
                await until(lambda: _registry_is_up(ray, NEWER), 60, "the Registry is a new one")
                took = time.monotonic() - began
                since = time.monotonic()
                load.hurry()
                await until(
                    lambda: all(load.record.succeeded_after(since, told.session_id) for told in load.live),
                    60,
                    "all go on",
                )
                load.stop()
                await loading
            finally:
                loading.cancel()
            findings = await audit(http, load)
    assert findings.checked > 0 and not findings.failed, findings
    say(capsys, f"upgraded in {took:.1f} s under a load; {load.record.outcome(began)}")


def _registry_is_up(ray: RayCluster, version: str) -> bool:
    """Whether the log of a Registry of this version says that it is up."""
    lines = (line for log in ray.temp.glob("*/session_latest/logs/worker-*") for line in log.read_text().splitlines())
    return any("registry is up" in line and version in line for line in lines)
