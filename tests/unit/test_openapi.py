"""The OpenAPI document: each call says what it answers, and what is written beside it is so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from api import openapi
from api.app import create_app
from api.described import answers, binary
from api.security import Manager
from orchestrator.settings import Settings
from tests.documented import Documented, documented
from tests.servers import ROOT
from tests.unit.api_world import BASE, BODY, api

FILES = {"get_metrics", "export_sessions", "export_candidate", "get_evidence", "get_reference_face"}
"""Calls that answer with something else than JSON."""
OPEN = {"check_health", "check_readiness"}


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for methods in documented().document["paths"].values():
        for operation in methods.values():
            yield operation["operationId"], operation


def test_every_call_has_a_name_of_its_own() -> None:
    names = [name for name, _ in operations()]
    assert len(names) == len(set(names)) == 60
    assert all(re.fullmatch("[a-z]+(_[a-z]+)+", name) for name in names)


def test_every_call_has_a_schema_and_an_example_that_fits_it() -> None:
    for name, operation in operations():
        content = operation["responses"]["200"]["content"]
        if name in FILES:
            assert "application/json" not in content
            continue
        shown = content["application/json"]
        assert documented().errors(shown["schema"], shown["example"]) == [], name


def test_the_example_of_a_body_fits_its_schema() -> None:
    shown = 0
    for name, operation in operations():
        for media in operation.get("requestBody", {}).get("content", {}).values():
            if "example" in media:
                shown += 1
                assert documented().errors(media["schema"], media["example"]) == [], name
    assert shown >= 20


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 413, 415, 422, 429])
def test_every_error_has_an_example_that_fits_its_schema(status: int) -> None:
    name, _ = openapi.ERRORS[status]
    media = documented().document["components"]["responses"][name]["content"]["application/problem+json"]
    assert media["example"]["status"] == status
    assert documented().errors(media["schema"], media["example"]) == []


def test_calls_without_a_key_are_those_that_anyone_may_make() -> None:
    assert {name for name, operation in operations() if operation["security"] == []} == OPEN
    scopes = {name: operation.get("x-scopes") for name, operation in operations()}
    assert scopes["create_key"] == ["admin"] and scopes["end_session"] == ["manage", "proctor"]


def test_a_description_says_what_opens_the_call() -> None:
    described = {name: operation["description"] for name, operation in operations()}
    assert described["answer_question"].endswith("Needs the scope `manage`; or the session's candidate token.")
    assert described["list_sessions"].endswith("Needs the scope `read`.")


def test_links_lead_to_calls_that_there_are() -> None:
    known = dict(operations())
    for name, operation in known.items():
        for link in operation["responses"]["200"].get("links", {}).values():
            target = known[link["operationId"]]
            names = {p["name"] for p in target["parameters"] if p["in"] == "path"}
            assert set(link["parameters"]) == names, name
    assert len(known["create_session"]["responses"]["200"]["links"]) >= 20


def test_no_error_is_promised_as_422_but_a_reused_key() -> None:
    for name, operation in operations():
        takes_key = any(p["name"] == "Idempotency-Key" for p in operation.get("parameters", ()))
        assert "default" not in operation["responses"]
        assert takes_key or "422" not in operation["responses"], name


def test_a_new_route_is_documented_by_itself() -> None:
    app = create_app(Settings(_env_file=None))  # pyright: ignore[reportCallIssue]

    @app.put("/thing/{thing_id}")
    @answers(None, 409, media={"text/plain": binary("A thing.")})
    async def put_thing(thing_id: str, caller: Manager) -> None:
        """Put a thing."""

    operation = app.openapi()["paths"]["/thing/{thing_id}"]["put"]
    assert operation["operationId"] == "put_thing"
    assert set(operation["responses"]) == {"200", "400", "401", "403", "404", "409", "429", "503"}
    assert operation["x-scopes"] == ["manage"]


def test_every_route_says_what_it_answers() -> None:
    app = create_app(Settings(_env_file=None))  # pyright: ignore[reportCallIssue]
    shown = [r for r in iter_route_contexts(app.routes) if isinstance(r.original_route, APIRoute)]
    assert all(route.endpoint in openapi.DESCRIBED for route in shown if route.include_in_schema)


def test_the_document_in_docs_is_the_one_that_is_served() -> None:
    stored = json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert stored == documented().document, "make openapi writes it again"


async def test_an_answer_that_is_not_as_documented_is_noticed() -> None:
    async with api() as (http, _):
        answer = await http.post(f"{BASE}/create", json=BODY)
        narrow = json.loads(json.dumps(documented().document))
        narrow["components"]["schemas"]["Created"]["properties"].pop("links")
        with pytest.raises(AssertionError, match="create_session answered 200 with"):
            Documented(narrow).check(answer)
        narrow["paths"][f"{BASE}/create"]["post"]["responses"].pop("200")
        with pytest.raises(AssertionError, match="which is not documented"):
            Documented(narrow).check(answer)


async def test_a_body_that_is_no_text_says_where() -> None:
    async with api() as (http, _):
        answer = await http.post(f"{BASE}/create", content=b"\xff{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["errors"]
