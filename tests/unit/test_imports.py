"""Who may import whom. Checked on the source, and for the interview actor on what really gets loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("orchestrator", "actors", "api")
SOURCES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))
CLIENT = ROOT / "client" / "parallel_interview_client"
DRIVERS = {"motor", "pymongo", "bson"}


def imports_of(path: Path) -> set[str]:
    """Full names of what a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    relative = path.relative_to(ROOT)
    forbidden = {"orchestrator": {"actors", "api"}, "actors": {"api"}, "api": set()}[relative.parts[0]]
    assert not tops(path) & forbidden
    assert "ray" not in tops(path) or str(relative) == "actors/cluster.py"
    assert not tops(path) & DRIVERS or relative.is_relative_to("orchestrator/storage")


@pytest.mark.parametrize("path", sorted((ROOT / "orchestrator/interview").glob("*.py")), ids=lambda p: p.name)
def test_the_interview_is_pure(path: Path) -> None:
    ours = {name for name in imports_of(path) if name.split(".")[0] in OURS}
    assert all(name.startswith(("orchestrator.interview", "orchestrator.errors")) for name in ours)
    assert not tops(path) & {"asyncio", "time", "random", "socket", "os", "threading", "pydantic"}


@pytest.mark.parametrize("path", sorted(CLIENT.rglob("*.py")), ids=lambda p: p.name)
def test_the_client_needs_nothing_of_ours(path: Path) -> None:
    """Integrators install it alone: with httpx and websockets, as its pyproject.toml says."""
    assert tops(path) <= {*sys.stdlib_module_names, "httpx", "websockets", "parallel_interview_client"}


@pytest.mark.parametrize("name", ["calls", "protocol", "retry", "types", "errors"])
def test_the_clients_rules_are_pure(name: str) -> None:
    assert not tops(CLIENT / f"{name}.py") & {"asyncio", "threading", "time", "socket", "httpx", "websockets"}


def test_an_interview_actor_loads_no_driver_and_no_http() -> None:
    heavy = "motor pymongo bson livekit fastapi starlette uvicorn httpx pydantic_settings cv2"
    code = f"import sys, actors.interview, actors.journal; print(*(m for m in {heavy.split()!r} if m in sys.modules))"
    # What ray itself loads is not ours to choose.
    baseline = f"import sys, ray; print(*(m for m in {heavy.split()!r} if m in sys.modules))"
    assert loaded(code) <= loaded(baseline)


def loaded(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_supervisor_loads_neither_ray_nor_a_driver() -> None:
    code = f"import sys, orchestrator.serve; print(*(m for m in {['ray', *DRIVERS]!r} if m in sys.modules))"
    assert loaded(code) == set()
