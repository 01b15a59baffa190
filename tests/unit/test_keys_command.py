"""`parallel-interview keys`: made, listed, revoked."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from api import keyring
from api.app import create_app
from orchestrator import cli
from orchestrator.keys import SCOPES
from orchestrator.settings import Settings
from tests.unit.api_world import BASE, MemoryClient


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryClient]:
    """A service that is open until it has a key."""
    monkeypatch.setattr(keyring, "KNOWN_SECONDS", -1.0)
    monkeypatch.setattr("api.routes.keys.KNOWN_SECONDS", 0.0)
    with warnings.catch_warnings(action="ignore"):  # it says that another library than httpx will do one day
        from starlette.testclient import TestClient
    client = MemoryClient()
    settings = Settings(_env_file=None, mongodb_url=None)  # pyright: ignore[reportCallIssue]
    with TestClient(create_app(settings, client), base_url=f"http://test{BASE}") as http:

        @contextmanager
        def connected(url: str, api_key: str | None) -> Iterator[Any]:
            http.headers.pop("X-API-Key", None)
            if api_key is not None:
                http.headers["X-API-Key"] = api_key
            yield http

        monkeypatch.setattr(cli, "_service", connected)
        yield client


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["keys", *arguments], env={"INTERVIEW_API_KEY": None, "COLUMNS": "200"})


def test_a_new_key_takes_the_place_of_an_old_one(service: MemoryClient) -> None:
    assert run("list").exit_code == 0, "nothing is closed yet"
    first = run("create", "root", "--scope", "admin")
    assert first.exit_code == 0 and "root, admin" in first.stderr, first.output
    root = first.stdout.strip()
    assert run("list").exit_code == 1 and "staff key" in run("list").output

    old, new = (
        run("create", "ats", "--scope", "manage", "--scope", "read", "--days", "30", "--api-key", root).stdout.strip()
        for _ in range(2)
    )
    twice = run("revoke", "ats", "--api-key", root)
    assert twice.exit_code == 1 and old[4:16] in twice.output and new[4:16] in twice.output
    assert "is revoked" in run("revoke", old[4:16], "--api-key", root).output
    listed = run("list", "--api-key", root).output
    assert listed.count("ats") == 2 and "revoked" in listed and "good" in listed and new not in listed
    assert "is revoked" in run("revoke", "ats", "--api-key", root).output, "by its name: only one is good"
    last = run("revoke", "root", "--api-key", root)
    assert last.exit_code == 1 and "last key" in last.output
    assert "admin" not in run("list", "--api-key", new).stdout, "a revoked key opens nothing"


def test_a_first_key_that_could_make_no_other_is_refused(service: MemoryClient) -> None:
    refused = run("create", "ats", "--scope", "read")
    assert refused.exit_code == 1 and "scope admin" in refused.output
    assert service.store.staff == {}


def test_a_key_that_was_not_copied_in_full_is_one_clear_line() -> None:
    result = run("list", "--api-key", "pik_…")
    assert result.exit_code == 1 and "copied in full" in result.output and "Traceback" not in result.output


def test_the_command_knows_every_scope() -> None:
    assert [scope.value for scope in cli.Opens] == list(SCOPES)
