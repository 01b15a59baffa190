"""Lists by filters, and their export."""

from __future__ import annotations

import csv
import io
import json

import pytest

from api.routes.export import COLUMNS, PAGE
from orchestrator.interview.snapshot import searched_words, words_of
from orchestrator.storage.queries import Wanted
from tests.unit.api_world import BASE, MemoryClient, api, make

URL = f"{BASE}/sessions/export"


async def test_all_sessions_come_out_once_newest_first() -> None:
    async with api() as (http, client):
        count = 2 * PAGE + 7
        for _ in range(count):
            await make(http)
        rows = list(csv.DictReader(io.StringIO((await http.get(URL)).text)))
        assert [row["session_id"] for row in rows] == list(client.states)[::-1] and len(rows) == count
        lines = (await http.get(URL, params={"format": "jsonl"})).text.splitlines()
        assert [json.loads(line)["session_id"] for line in lines] == [row["session_id"] for row in rows]


async def test_a_row_has_the_figures_and_no_formula() -> None:
    async with api() as (http, _):
        body = {"name": "=1+1", "email": "a@b.co", "phone": "+44", "questions": ["Q1", "Q2"]}
        made = (await http.post(f"{BASE}/create", json=body)).json()
        await http.post(f"{BASE}/session/{made['session_id']}/start")
        await http.post(f"{BASE}/session/{made['session_id']}/answer", json={"question_index": 0, "answer": "x"})
        answer = await http.get(URL)
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        [row] = csv.DictReader(io.StringIO(answer.text))
        assert list(row) == COLUMNS
        assert (row["name"], row["phone"], row["answered"], row["questions"]) == ("'=1+1", "'+44", "1", "2")


async def test_an_export_of_nothing_has_a_head() -> None:
    async with api() as (http, _):
        assert list(csv.reader(io.StringIO((await http.get(URL)).text))) == [COLUMNS]
        assert (await http.get(URL, params={"format": "jsonl"})).text == ""


@pytest.mark.parametrize(
    "query",
    [
        "format=xls",
        "status=gone",
        "end_reason=boredom",
        "created_from=yesterday",
        "created_until=2026-11-25T10:00:00",
        "min_score=-1",
        "max_score=nan",
        "q=" + "x" * 201,
        "limit=3",
        "q=-",
        "status[$gt]=",
    ],
)
async def test_what_is_no_filter(query: str) -> None:
    async with api() as (http, _):
        assert (await http.get(f"{URL}?{query}")).status_code == 400


async def test_filters_reach_the_storage() -> None:
    client = MemoryClient()
    asked: list[Wanted] = []
    list_snapshots = client.store.list_snapshots

    async def listed(wanted: Wanted, **more: int) -> object:
        asked.append(wanted)
        return await list_snapshots(wanted, limit=1)

    client.store.list_snapshots = listed  # pyright: ignore[reportAttributeAccessIssue]
    query = "status=completed&job_id=dev&email=A@b.co&end_reason=finished&q=ada&min_score=50&max_score=90.5"
    times = "created_from=2026-11-25T10:00:00Z&created_until=2026-11-25T12:00:00%2B01:00"
    async with api(client) as (http, _):
        for path in (URL, f"{BASE}/sessions"):
            assert (await http.get(f"{path}?{query}&{times}")).status_code == 200
    since = 1_795_600_800_000
    expected = Wanted("completed", "dev", "A@b.co", "finished", since, since + 3_600_000, "ada", 50, 90.5)
    assert asked == [expected, expected]
    assert expected.query() == {
        "status": "completed",
        "job_id": "dev",
        "email": "a@b.co",
        "end_reason": "finished",
        "created_at": {"$gte": since, "$lt": since + 3_600_000},
        "score": {"$gte": 50, "$lte": 90.5},
        "$and": [{"words": {"$elemMatch": {"$regex": "^ada"}}}],
    }


async def test_exports_are_for_staff() -> None:
    async with api(key="k3y") as (http, _):
        assert (await http.get(URL)).status_code == 401
        made = (
            await http.post(f"{BASE}/create", json={"name": "A", "email": "a@b.co"}, headers={"X-API-Key": "k3y"})
        ).json()
        own = {"Authorization": f"Bearer {made['candidate_token']}"}
        assert (await http.get(URL, headers=own)).status_code == 403


def test_words() -> None:
    assert words_of("Ada King-Noel", "Ada.K@Example.com") == [
        "ada king-noel",
        "ada",
        "king",
        "noel",
        "ada.k@example.com",
        "k",
        "example",
        "com",
    ]
    assert searched_words("  KING  ada.k@ex noel-x ") == ["king", "ada.k@ex", "noel", "x"]
    assert len(words_of(" ".join(map(str, range(100))))) == 20
