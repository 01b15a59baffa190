"""Errors as answers: one table, problem documents, and nothing of our insides."""

from __future__ import annotations

import pytest

from api.errors import STATUS, status_of
from orchestrator import errors
from orchestrator.errors import OrchestratorError
from tests.unit.api_world import BASE, MemoryClient, api, make


def _all(cls: type[OrchestratorError]) -> list[type[OrchestratorError]]:
    return [cls, *(deeper for sub in cls.__subclasses__() for deeper in _all(sub))]


@pytest.mark.parametrize("cls", _all(OrchestratorError)[1:])
def test_every_error_has_a_status_in_the_table(cls: type[OrchestratorError]) -> None:
    assert status_of(cls("x")) in STATUS.values()


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (errors.InvalidInput("No."), 400, "invalid_input"),
        (errors.StaleVersion("No."), 412, "stale_version"),
        (errors.CommandIdReused("No."), 422, "idempotency_key_reused"),
        (errors.ClusterFull("No.", retry_after=2.2), 503, "cluster_full"),
        (errors.NewerSchema("No.", retry_after=10), 503, "newer_schema"),
        (errors.OutcomeUnknown("No."), 503, "outcome_unknown"),
        (errors.StateConflict("No."), 409, "state_conflict"),
        (KeyError("ada@example.com"), 500, "internal_error"),
    ],
)
async def test_problem_documents(raised: Exception, status: int, code: str) -> None:
    async with api(MemoryClient()) as (http, client):
        session_id = (await make(http))["session_id"]
        client.failure = raised
        url = f"{BASE}/session/{session_id}/start"
        answer = await http.post(url, headers={"X-Request-Id": "mine-1"})
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["request_id"] == answer.headers["x-request-id"] == "mine-1"
    assert {"type", "title", "detail"} <= body.keys()
    assert "ada@" not in answer.text
    assert (answer.headers.get("retry-after") is not None) == (status == 503)
    if status == 503 and code == "cluster_full":
        assert answer.headers["retry-after"] == "3"
    assert ("errors" in body) == (status == 400)
    assert ("current_status" in body and "allowed_actions" in body) == (status == 409)


async def test_unknown_calls_and_methods_are_problems_too() -> None:
    async with api() as (http, _):
        missing = await http.get("/nothing/here")
        wrong = await http.put(f"{BASE}/create")
        slash = await http.get(f"{BASE}/sessions/")
    assert (missing.status_code, wrong.status_code, slash.status_code) == (404, 405, 404)
    assert "POST" in wrong.headers["allow"]
    assert all(a.headers["content-type"] == "application/problem+json" for a in (missing, wrong))


@pytest.mark.parametrize("query", ["status=odd", "limit=0", "limit=201", "limit=x", "cursor=bad", "cursor=é"])
async def test_a_wrong_query_is_400(query: str) -> None:
    async with api() as (http, _):
        assert (await http.get(f"{BASE}/sessions?{query}")).status_code == 400


async def test_pages_follow_each_other_and_a_forged_cursor_does_not_work() -> None:
    async with api() as (http, _):
        made = [(await make(http))["session_id"] for _ in range(5)]
        seen: list[str] = []
        query = "limit=2"
        while True:
            page = (await http.get(f"{BASE}/sessions?{query}")).json()
            seen += [session["session_id"] for session in page["sessions"]]
            if not page["has_more"]:
                break
            query = f"limit=2&cursor={page['next_cursor']}"
        forged = ("B" if page["count"] else "A") + query.split("cursor=")[1][1:]
        changed = await http.get(f"{BASE}/sessions?cursor={forged}")
    assert seen == made[::-1]
    assert changed.status_code == 400 or forged == query.split("cursor=")[1]


async def test_etags_and_idempotency_keys() -> None:
    async with api() as (http, _):
        session_id = (await make(http))["session_id"]
        url = f"{BASE}/session/{session_id}"
        first = await http.get(url)
        same = await http.get(url, headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'})
        extend = {"seconds": 5, "reason": "noise"}
        without = await http.post(f"{url}/extend", json=extend)
        odd = await http.post(f"{url}/start", headers={"Idempotency-Key": "a b"})
    assert (first.headers["etag"], same.status_code, same.content) == ('"1"', 304, b"")
    assert (without.status_code, odd.status_code) == (400, 400)
    assert without.json()["errors"]
