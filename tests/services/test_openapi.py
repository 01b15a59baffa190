"""The service against its own OpenAPI document: schemathesis makes thousands of calls, and finds nothing.

What it is told is in `schemathesis.toml` and `openapi_checks.py`, both with the reasons for what is left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import ROOT, Serve, serving

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]

KEY = "a-key-that-the-calls-cannot-revoke"
CONFIG = Path(__file__).with_name("schemathesis.toml")
SETTINGS = {"INTERVIEW_API_KEY": KEY, "INTERVIEW_KEY_REQUESTS_PER_MINUTE": "1000000"}
ANY_ID = "0d3c1f7e-5b61-4a53-9f0e-7b1f2f7a9c11"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with serving(tmp_path_factory.mktemp("openapi"), None, **SETTINGS) as service:
        yield service


def run(service: Serve, folder: Path, phases: str, seconds: int) -> dict[str, Any]:
    """What schemathesis says of these phases: its report, with its output as `output`. It fuzzes on, one round after
    another, until the time is up."""
    report = folder / "report.json"
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "--no-color", "--config-file", str(CONFIG)),
        *("run", f"{service.url}/openapi.json", "-H", f"X-API-Key: {KEY}"),
        *("--phases", phases, "--max-time", str(seconds), "--report", "json", "--report-json-path", str(report)),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert report.exists(), done.stdout + done.stderr
    return json.loads(report.read_text()) | {"output": done.stdout}


@pytest.mark.parametrize(
    ("phases", "seconds", "least"), [("examples,coverage,fuzzing", 60, 1_500), ("stateful", 40, 30)]
)
def test_every_answer_is_as_documented(
    service: Serve, tmp_path: Path, record_property: Any, phases: str, seconds: int, least: int
) -> None:
    report = run(service, tmp_path, phases, seconds)
    record_property("operations", report["operations"]["tested"])
    record_property("cases", report["test_cases"]["generated"])
    assert report["failures"] == [] and report["errors"] == [], report["output"][-8000:]
    assert report["test_cases"]["generated"] >= least
    assert "unexpected error" not in service.log


def test_nothing_that_needs_a_key_is_open_without_one(service: Serve) -> None:
    document = httpx.get(f"{service.url}/openapi.json").json()
    called = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if not operation["security"]:
                continue
            called += 1
            address = service.url + path
            for name in operation.get("parameters", ()):
                address = address.replace(f"{{{name['name']}}}", "1" if name["name"] == "event_id" else ANY_ID)
            answer = httpx.request(method, address)
            assert answer.status_code == 401, f"{operation['operationId']} answered {answer.status_code}"
            assert answer.headers["www-authenticate"] == "Bearer"
    assert called == 58
