"""The Postman collection runs from top to bottom, without a key and with one, by Postman's own newman."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from docs import make_postman
from tests.node_tools import node_modules
from tests.servers import Serve, serving

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

RUN_SECONDS = 120
KEY = "k" * 32


@pytest.fixture(scope="module")
def newman() -> Path:
    return node_modules("newman@6") / ".bin" / "newman"


def run(newman: Path, service: Serve, folder: Path, key: str = "") -> dict[str, Any]:
    """One run of the collection: what newman reports of it."""
    report = folder / "newman.json"
    command = [str(newman), "run", str(make_postman.FILE), "--reporters", "json", "--reporter-json-export", str(report)]
    given = ["--env-var", f"base_url={service.url}", "--env-var", f"api_key={key}", "--timeout-request", "30000"]
    done = subprocess.run([*command, *given], capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert report.exists(), done.stdout + done.stderr
    told: dict[str, Any] = json.loads(report.read_text())["run"]
    assert not told["failures"], [_failure(one) for one in told["failures"]]
    assert done.returncode == 0, done.stdout + done.stderr
    return told


def _failure(one: dict[str, Any]) -> str:
    return f"{one['source'].get('name')}: {one['error'].get('test', '')} {one['error']['message']}"


def asserted(told: dict[str, Any]) -> int:
    return told["stats"]["assertions"]["total"]


def test_without_a_key_and_then_with_one(newman: Path, tmp_path: Path) -> None:
    """One service, whose operator sets a key in between: the second run meets what the first one has left."""
    folder = tmp_path / "service"
    with serving(folder, INTERVIEW_WARM_ACTORS="2") as service:
        without = run(newman, service, tmp_path)
    assert asserted(without) > 120
    with serving(folder, INTERVIEW_WARM_ACTORS="2", INTERVIEW_API_KEY=KEY) as service:
        with_key = run(newman, service, tmp_path, KEY)
    assert asserted(with_key) > asserted(without), "keys are made only where there is one already"
