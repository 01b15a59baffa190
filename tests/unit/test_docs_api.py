"""The API's document names every call with what it needs, every error, every event; documents link to what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.routing import APIRoute

from api.app import ROUTES
from api.security import SCOPES_OF, Check
from orchestrator import errors
from tests.documents import DOCUMENTS, ROOT, blocks, commands, difference, read_as_data
from tests.unit.api_world import BASE, serving

API = (ROOT / "docs" / "PARALLEL_INTERVIEW_API.md").read_text()
CALL = re.compile(r"^\| `(GET|POST|PUT|PATCH|DELETE) (/[^` ?]*)` \| ([^|]+) \|", re.MULTILINE)
ASK_THEMSELVES = {
    "GET /api/reports/{}": "read, candidate",
    "POST /capture_reference_face": "manage or proctor, candidate",
    "POST /api/parallel_interview/livekit/webhook": "LiveKit's signature",
    "GET /healthz": "nobody",
    "GET /readyz": "nobody",
}
"""Calls whose routes do not say by a dependency who may make them."""


def documented() -> dict[str, str]:
    """What each call of the table needs."""
    start = API.index("## All calls")
    table = API[start : API.index("## Sessions", start)]
    return {call(method, path): needs.strip() for method, path, needs in CALL.findall(table)}


def call(method: str, path: str) -> str:
    own = path.startswith(("/api/", "/capture_reference_face", "/healthz", "/readyz", "/metrics"))
    return f"{method} {'' if own else BASE}{re.sub('{[^}]*}', '{}', path)}"


def needs(route: APIRoute) -> str | None:
    """In the words of the document."""
    for dependency in route.dependant.dependencies:
        asked = SCOPES_OF.get(cast(Check, dependency.call))
        if asked is not None:
            scopes, candidate = asked
            return " or ".join(scopes) + (", candidate" if candidate else "")
    return None


async def test_every_call_is_in_the_table() -> None:
    async with serving() as (_, http, _):
        paths: dict[str, Any] = (await http.get("/openapi.json")).json()["paths"]
    there = {call(method.upper(), path) for path, operations in paths.items() for method in operations}
    assert len(there) > 50
    assert documented().keys() == there


def test_the_table_says_what_each_call_needs() -> None:
    told = documented()
    routes = [route for module in ROUTES for route in module.router.routes if isinstance(route, APIRoute)]
    assert len(routes) == len(told)
    for route in routes:
        method = "".join(route.methods or ())
        name = call(method, route.path)
        assert told[name] == (needs(route) or ASK_THEMSELVES[name]), name


def test_every_error_code_is_in_the_document() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.code for kind in kinds if issubclass(kind, errors.OrchestratorError)} - {"error"}
    assert codes <= set(re.findall(r"`([a-z_]+)`", API))


@pytest.mark.parametrize("document", DOCUMENTS, ids=[document.name for document in DOCUMENTS])
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", document.read_text()):
        name, _, part = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        assert file.exists(), target
        if part:
            assert part in {_anchor(title) for title in re.findall(r"^#+ (.+)$", file.read_text(), re.M)}, target


def _anchor(title: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=[document.name for document in DOCUMENTS])
def test_blocks_of_data_can_be_read(document: Path) -> None:
    for block in blocks(document):
        read_as_data(block)


def test_what_is_left_out_of_an_answer_may_be_anything_and_the_rest_may_not() -> None:
    got = '{"id":"3f0c0db6-eac0-40bf-8656-a21b9709cb5c","name":"Ada","more":[1, 2],"end":null}'
    assert difference('{"id":"00000000-0000-4000-8000-000000000000",…"end":null}', got) is None
    assert difference('{\n    "id": …\n    "end": null\n}', got) is None
    assert difference('{"id":…"name":"Bob"', got) == '"name":"Bob"'
    assert difference('"name":"Ada"', got) == '"name":"Ada"', "an answer is shown from its beginning"
    assert difference('…"end":null,…"name"', got) == '"end":null,'


def test_a_command_goes_on_over_several_lines() -> None:
    assert commands("$ a \\\n>   b\none\ntwo\n$ c\n") == [("a \\\n  b", "one\ntwo\n"), ("c", "")]
