"""The product guide's examples, verbatim, against a live service on the guide's port.

The files in `tests/fixtures/guide` are the guide's code blocks, unchanged. What the guide leaves to the
reader is done here: the placeholder SESSION_ID, the call of the JavaScript function, the end of the
monitoring loop.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.node_tools import node_modules
from tests.servers import ROOT, cannot_run, serving

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

GUIDE = ROOT / "tests" / "fixtures" / "guide"
PORT = 8005
URL = f"http://localhost:{PORT}"
API = f"{URL}/api/parallel_interview"
EXAMPLE_SECONDS = 60.0


def _port_taken() -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`parallel-interview serve` on the guide's port."""
    if _port_taken():
        cannot_run(f"port {PORT}, which the guide's examples use, is taken")
    with serving(tmp_path_factory.mktemp("guide"), PORT):
        yield URL


@pytest.fixture(scope="module")
def example_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Our Python as `python3`, and a curl that fails on an HTTP error, so that the scripts stay verbatim."""
    curl_home = tmp_path_factory.mktemp("curl")
    (curl_home / ".curlrc").write_text("fail-with-body\n")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return os.environ | {"CURL_HOME": str(curl_home), "PATH": path, "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def axios_modules() -> Path:
    """A node_modules folder with axios."""
    return node_modules("axios@1")


def _run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=EXAMPLE_SECONDS)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _bash(script: Path, env: dict[str, str]) -> list[dict[str, Any]]:
    """Run a script that must not fail anywhere; the JSON documents it printed."""
    if shutil.which("curl") is None or shutil.which("bash") is None:
        cannot_run("curl and bash are not installed, and the guide's shell examples need them")
    text = _run(["bash", "-e", "-o", "pipefail", str(script)], env).strip()
    documents: list[dict[str, Any]] = []
    while text:
        document, end = json.JSONDecoder().raw_decode(text)
        documents.append(document)
        text = text[end:].strip()
    assert all(document["status"] == "success" for document in documents)
    return documents


def _session(session_id: str) -> dict[str, Any]:
    response = httpx.get(f"{API}/session/{session_id}", timeout=10)
    assert response.status_code == 200, response.text
    return response.json()["session"]


def _create(**more: Any) -> str:
    body = {"name": "Test", "email": "test@example.com", "questions": ["Q1", "Q2"], **more}
    response = httpx.post(f"{API}/create", json=body, timeout=10)
    assert response.status_code == 200, response.text
    return response.json()["session_id"]


def test_quick_start(service: str, example_environment: dict[str, str]) -> None:
    stats, created = _bash(GUIDE / "quick_start.sh", example_environment)
    assert {"active_sessions", "completed_sessions", "total_sessions"} <= stats["stats"].keys()
    session = _session(created["session_id"])
    assert (session["status"], session["max_questions"]) == ("initialized", 3)
    assert session["candidate"]["name"] == "John Doe"


def test_curl_usage(service: str, example_environment: dict[str, str]) -> None:
    started, details, ended = _bash(GUIDE / "usage.sh", example_environment)
    assert details["session"]["status"] == "in_progress"
    assert started["session"]["session_id"] == details["session"]["session_id"]
    session = _session(details["session"]["session_id"])
    assert session["status"] == "completed"
    assert ended["status"] == "success"


def test_manual_testing(service: str, example_environment: dict[str, str], tmp_path: Path) -> None:
    session_id = _create()
    script = tmp_path / "manual.sh"
    script.write_text((GUIDE / "manual.sh").read_text().replace("session/SESSION_ID", f"session/{session_id}"))
    documents = _bash(script, example_environment)
    assert len(documents) == 6
    listed = documents[2]
    assert listed["sessions"]
    assert len(listed["sessions"]) == listed["count"] <= 5
    assert documents[3]["session"]["status"] == "initialized"
    assert _session(session_id)["status"] == "completed"


def test_placeholder_left_in_is_a_plain_404(service: str) -> None:
    response = httpx.get(f"{API}/session/SESSION_ID", timeout=10)
    assert response.status_code == 404
    assert response.json()["detail"]


def test_listing_active_sessions(service: str, example_environment: dict[str, str]) -> None:
    session_id = _create()
    httpx.post(f"{API}/session/{session_id}/start", timeout=30).raise_for_status()
    (listed,) = _bash(GUIDE / "list_active.sh", example_environment)
    assert session_id in [session["session_id"] for session in listed["sessions"]]
    assert {session["status"] for session in listed["sessions"]} == {"in_progress"}
    httpx.post(f"{API}/session/{session_id}/end", timeout=10).raise_for_status()


def test_python_usage(service: str, example_environment: dict[str, str]) -> None:
    output = _run([sys.executable, str(GUIDE / "usage.py")], example_environment)
    assert output.strip() == "Progress: 0/3"


def test_python_monitoring(service: str, example_environment: dict[str, str]) -> None:
    """The loop has no end: it is stopped after time for two rounds."""
    command = [sys.executable, str(GUIDE / "monitoring.py")]
    with pytest.raises(subprocess.TimeoutExpired) as stopped:
        subprocess.run(command, env=example_environment, capture_output=True, timeout=12, check=True)
    rounds = (stopped.value.stdout or b"").decode().split("\r")[1:]
    assert len(rounds) >= 2
    assert all("Active: " in line and "Completed: " in line and "Total: " in line for line in rounds)


def test_javascript_usage(
    service: str, example_environment: dict[str, str], axios_modules: Path, tmp_path: Path
) -> None:
    script = tmp_path / "usage.js"
    call = "createAndStartInterview().then((id) => console.log(`ID=${id}`));"
    script.write_text(f"{(GUIDE / 'usage.js').read_text()}\n{call}\n")
    output = _run(["node", str(script)], example_environment | {"NODE_PATH": str(axios_modules)})
    assert "Session details:" in output
    session = _session(output.rsplit("ID=", 1)[1].strip())
    assert (session["status"], session["max_questions"]) == ("in_progress", 3)
    assert session["current_question"]["text"] == "Q1"
