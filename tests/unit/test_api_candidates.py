"""Everything about one candidate: handed out as an archive, and erased."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest

from orchestrator.errors import Unavailable
from tests.unit.api_world import BASE, BODY, api
from tests.unit.evidence_world import a_reference
from tests.unit.test_api_reports import interviewed, make_report

URL = f"{BASE}/candidates"
KEY = "k3y"
STAFF = {"X-API-Key": KEY}
ADA = {"email": "ada@example.com"}


async def test_an_archive_has_everything() -> None:
    async with api(key="a staff key") as (http, client):
        http.headers["X-API-Key"] = "a staff key"
        made = await interviewed(http, client)
        session_id = made["session_id"]
        await make_report(client, session_id)
        client.store.faces[session_id] = a_reference(session_id)
        waiting = (await http.post(f"{BASE}/create", json=BODY)).json()["session_id"]
        await http.post(f"{BASE}/create", json=BODY | {"email": "other@example.com"})
        answer = await http.get(f"{URL}/export", params=ADA)
        assert answer.headers["Content-Type"] == "application/zip"
        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        assert archive.testzip() is None
        names = {name.partition("/")[2] for name in archive.namelist() if name.startswith(session_id)}
        assert names == {"session.json", "journal.json", "report.json", "reference.jpg"}
        assert {name.partition("/")[0] for name in archive.namelist()} == {session_id, waiting}
        session = json.loads(archive.read(f"{session_id}/session.json"))
        assert session["candidate"]["name"] == "Ada" and len(session["answers"]) == 2


async def test_who_is_erased_is_gone_and_only_that_it_happened_is_known() -> None:
    async with api(key=KEY) as (http, client):
        http.headers["X-API-Key"] = KEY
        for email in ("ada@example.com", "ADA@example.com", "other@example.com"):
            await http.post(f"{BASE}/create", json=BODY | {"email": email})
        answer = await http.delete(URL, params={"email": "Ada@Example.com".lower()})
        assert answer.json()["erased_sessions"] == 2
        assert [s.candidate.email for s in client.states.values()] == ["other@example.com"]
        assert (await http.get(f"{URL}/export", params=ADA)).status_code == 404
        again = await http.delete(URL, params=ADA)
        assert again.json()["erased_sessions"] == 0
        [known] = (await http.get(f"{URL}/erasures")).json()["erasures"]
        assert known.keys() == {"at", "by", "sessions"} and (known["by"], known["sessions"]) == ("key:environment", 2)


@pytest.mark.parametrize(("method", "path"), [("DELETE", ""), ("GET", "/export"), ("GET", "/erasures")])
async def test_peoples_data_is_for_staff(method: str, path: str) -> None:
    async with api(key=KEY) as (http, client):
        assert (await http.request(method, URL + path, params=ADA if path != "/erasures" else {})).status_code == 401
        made = (await http.post(f"{BASE}/create", json=BODY, headers=STAFF)).json()
        own = {"Authorization": f"Bearer {made['candidate_token']}"}
        answer = await http.request(method, URL + path, params=ADA if path != "/erasures" else {}, headers=own)
        assert answer.status_code == 403 and len(client.states) == 1


async def test_nobody_is_erased_by_mistake() -> None:
    async with api() as (http, client):
        await http.post(f"{BASE}/create", json=BODY)
        for query in ("", "?email=", "?mail=ada@example.com", "?email[$ne]=x"):
            assert (await http.delete(URL + query)).status_code == 400
        assert (await http.delete(URL, params={"email": "ada@example.co"})).json()["erased_sessions"] == 0
        assert len(client.states) == 1


async def test_one_that_cannot_be_erased_keeps_no_other() -> None:
    async with api() as (http, client):
        ids = [(await http.post(f"{BASE}/create", json=BODY)).json()["session_id"] for _ in range(3)]
        delete = client.delete

        async def stubborn(session_id: str, *args: Any) -> None:
            if session_id == ids[1]:
                raise Unavailable("away", retry_after=1)
            await delete(session_id, *args)

        client.delete = stubborn  # pyright: ignore[reportAttributeAccessIssue]
        assert (await http.delete(URL, params=ADA)).status_code == 503
        assert list(client.states) == [ids[1]] and [one["sessions"] for one in client.store.erased] == [2]
        client.delete = delete  # pyright: ignore[reportAttributeAccessIssue]
        assert (await http.delete(URL, params=ADA)).json()["erased_sessions"] == 1
