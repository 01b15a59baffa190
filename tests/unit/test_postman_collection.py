"""The Postman collection has every call of the API, no other, and is what its script makes."""

from __future__ import annotations

import re
from typing import Any

from docs import make_postman
from tests.unit.api_world import serving

COLLECTION = make_postman.collection()
REQUESTS: list[dict[str, Any]] = [one for folder in COLLECTION["item"] for one in folder["item"]]


def called(one: dict[str, Any]) -> str:
    path = "/".join(one["request"]["url"]["path"])
    return f"{one['request']['method']} /{re.sub('{{[^}]*}}', '{}', path)}"


def test_the_file_is_what_the_script_makes() -> None:
    assert make_postman.FILE.read_text() == make_postman.text(), "run python docs/make_postman.py"


async def test_every_call_is_there_and_no_other() -> None:
    async with serving() as (_, http, _):
        paths: dict[str, Any] = (await http.get("/openapi.json")).json()["paths"]
    there = {
        f"{method.upper()} {re.sub('{[^}]*}', '{}', path)}"
        for path, operations in paths.items()
        for method in operations
    }
    assert {called(one) for one in REQUESTS} == there


def test_every_answer_is_looked_at() -> None:
    for one in REQUESTS:
        lines = next(event["script"]["exec"] for event in one["event"] if event["listen"] == "test")
        assert sum("pm.test(" in line for line in lines) >= 1, one["name"]


def test_what_a_user_sets_has_a_default() -> None:
    given = {variable["key"]: variable["value"] for variable in COLLECTION["variable"]}
    assert given["base_url"] == "http://localhost:8005"
    assert given["api_key"] == ""
