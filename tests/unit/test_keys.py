"""Staff keys: made, shown once, limited to their scopes, revoked, and counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest

from actors.clock import wall_ms
from api import keyring
from api.security import SCOPES_OF, scoped
from orchestrator import keys
from orchestrator.errors import Unavailable
from orchestrator.keys import Scope, StaffKey, new_key
from tests.unit.api_world import BASE, BODY, MemoryClient, api, make

KEYS = f"{BASE}/keys"
ADMIN = {"X-API-Key": "k3y"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are read again each time."""
    monkeypatch.setattr(keyring, "KNOWN_SECONDS", -1.0)
    monkeypatch.setattr("api.routes.keys.KNOWN_SECONDS", 0.0)


def bearing(client: MemoryClient, *scopes: Scope, name: str = "some", **changes: Any) -> dict[str, str]:
    """Headers with a fresh key of these scopes."""
    key, secret = new_key(name, scopes, wall_ms(), "open")
    client.store.staff[key.id] = replace(key, **changes)
    return {"X-API-Key": secret}


async def create(http: httpx.AsyncClient, headers: dict[str, str], **body: Any) -> httpx.Response:
    return await http.post(KEYS, json={"name": "ats", "scopes": ["manage"], **body}, headers=headers)


async def test_a_key_is_shown_once_and_kept_as_a_digest() -> None:
    async with api(key="k3y") as (http, client):
        made = (await create(http, ADMIN)).json()
        assert made["secret"].startswith(f"pik_{made['key']['key_id']}_")
        kept = repr(client.store.staff)
        assert made["secret"][17:] not in kept and keys.digest_of(made["secret"][17:]) in kept
        listed = await http.get(KEYS, headers=ADMIN)
        assert listed.json()["keys"] == [made["key"]] and made["secret"][17:] not in listed.text
        assert listed.headers["cache-control"] == "no-store"


async def test_what_a_key_does_has_its_name_in_the_journal() -> None:
    async with api(key="k3y") as (http, client):
        secret = (await create(http, ADMIN, name="Ada's ATS".replace("'", ""))).json()["secret"]
        session_id = (await make(http, **{"Authorization": f"Bearer {secret}"}))["session_id"]
        assert client.store.journal[session_id][0].content()["by"] == "key:Adas ATS"


async def test_a_revoked_key_opens_nothing_and_stays_listed() -> None:
    async with api(key="k3y") as (http, _):
        made = (await create(http, ADMIN)).json()
        mine = {"X-API-Key": made["secret"]}
        assert (await http.get(f"{BASE}/jobs", headers=mine)).status_code == 200
        for _ in range(2):
            gone = (await http.delete(f"{KEYS}/{made['key']['key_id']}", headers=ADMIN)).json()["key"]
            assert (gone["state"], gone["revoked_by"]) == ("revoked", "key:environment")
        assert (await http.get(f"{BASE}/jobs", headers=mine)).status_code == 401
        assert len((await http.get(KEYS, headers=ADMIN)).json()["keys"]) == 1
        assert (await http.delete(f"{KEYS}/nothing", headers=ADMIN)).status_code == 404


async def test_an_expired_key_opens_nothing() -> None:
    async with api(key="k3y") as (http, client):
        headers = bearing(client, "admin", expires_at=wall_ms() - 1)
        assert (await http.get(KEYS, headers=headers)).status_code == 401
        assert (await http.get(KEYS, headers=ADMIN)).json()["keys"][0]["state"] == "expired"


@pytest.mark.parametrize("changed", ["", "0" * 12, "secret"])
async def test_nearly_a_key_is_none(changed: str) -> None:
    async with api(key="k3y") as (http, client):
        good = bearing(client, "admin")["X-API-Key"]
        id, secret = good[4:16], good[17:]
        wrong = {"": f"pik_{id}_", "secret": f"pik_{id}_{secret[:-1]}{'A' if secret[-1] != 'A' else 'B'}"}
        text = wrong.get(changed, f"pik_{changed}_{secret}")
        answer = await http.get(KEYS, headers={"X-API-Key": text})
        assert answer.status_code == 401 and secret not in answer.text


async def test_the_first_key_closes_an_open_service_and_must_be_able_to_make_others() -> None:
    async with api() as (http, _):
        assert (await http.get(f"{BASE}/sessions")).status_code == 200
        assert (await create(http, {})).status_code == 400
        short = await create(http, {}, scopes=["admin"], expires_at="2199-01-01T00:00:00Z")
        assert short.status_code == 400 and short.json()["errors"][0]["pointer"] == "/scopes"
        made = (await create(http, {}, scopes=["admin"], name="root")).json()
        assert made["key"]["created_by"] == "open"
        assert (await http.get(f"{BASE}/sessions")).status_code == 401
        mine = {"X-API-Key": made["secret"]}
        assert (await http.get(f"{BASE}/sessions", headers=mine)).status_code == 200
        last = await http.delete(f"{KEYS}/{made['key']['key_id']}", headers=mine)
        assert last.status_code == 409 and last.json()["code"] == "state_conflict"
        other = (await create(http, mine, scopes=["admin"])).json()
        gone = await http.delete(f"{KEYS}/{made['key']['key_id']}", headers={"X-API-Key": other["secret"]})
        assert gone.status_code == 200


async def test_a_made_key_in_the_settings_opens_what_it_was_made_for() -> None:
    key, secret = new_key("ats", ("read",), wall_ms(), "open")
    async with api(key=secret) as (http, client):
        assert (await http.get(f"{BASE}/jobs", headers={"X-API-Key": secret})).status_code == 401
        client.store.staff[key.id] = key
        assert (await http.get(f"{BASE}/jobs", headers={"X-API-Key": secret})).status_code == 200
        assert (await create(http, {"X-API-Key": secret})).status_code == 403


async def test_revoking_every_key_opens_nothing_again() -> None:
    async with api() as (http, client):
        bearing(client, "admin", revoked_at=1)
        assert (await http.get(f"{BASE}/sessions")).status_code == 401


async def test_a_service_beyond_loopback_is_closed_even_without_keys() -> None:
    async with api(closed=True) as (http, _):
        assert (await http.get(f"{BASE}/sessions")).status_code == 401


async def test_a_repeated_call_makes_one_key_and_shows_it_to_nobody() -> None:
    async with api(key="k3y") as (http, client):
        headers = ADMIN | {"Idempotency-Key": "once"}
        first, again = await create(http, headers), await create(http, headers)
        assert again.json()["key"] == first.json()["key"] and again.json()["secret"] is None
        assert again.headers["idempotency-replayed"] == "true" and len(client.store.staff) == 1
        assert (await create(http, headers, name="another")).status_code == 422


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "environment"},
        {"name": "open"},
        {"name": "a\nb"},
        {"name": ""},
        {"scopes": []},
        {"scopes": ["root"]},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"secret": "mine"},
    ],
)
async def test_keys_that_cannot_be(wrong: dict[str, Any]) -> None:
    async with api(key="k3y") as (http, client):
        assert (await create(http, ADMIN, **wrong)).status_code == 400
        assert client.store.staff == {}


# What each scope opens

CALLS: dict[str, set[str]] = {
    "GET /sessions": {"read", "manage", "proctor", "admin"},
    "GET /stats": {"read", "manage", "proctor", "admin"},
    "GET /session/ID": {"read", "manage", "proctor", "admin"},
    "GET /session/ID/journal": {"read", "manage", "proctor", "admin"},
    "GET /session/ID/proctoring": {"read", "manage", "proctor", "admin"},
    "GET /jobs": {"read", "manage", "proctor", "admin"},
    "GET /sessions/export": {"read", "manage", "proctor", "admin"},
    "POST /create": {"manage", "admin"},
    "PATCH /session/ID": {"manage", "admin"},
    "POST /session/ID/start": {"manage", "admin"},
    "POST /session/ID/link": {"manage", "admin"},
    "POST /sessions/bulk": {"manage", "admin"},
    "POST /jobs": {"manage", "admin"},
    "DELETE /jobs/x": {"manage", "admin"},
    "DELETE /session/ID": {"manage", "admin"},
    "POST /session/ID/pause": {"manage", "proctor", "admin"},
    "POST /session/ID/end": {"manage", "proctor", "admin"},
    "GET /session/ID/proctoring/reference": {"proctor", "admin"},
    "POST /session/ID/proctoring/verdict": {"proctor", "admin"},
    "DELETE /session/ID/proctoring/pictures": {"proctor", "admin"},
    "GET /webhooks": {"admin"},
    "GET /keys": {"admin"},
    "POST /keys": {"admin"},
    "GET /candidates/erasures": {"admin"},
    "POST /cluster/drain": {"admin"},
}


@pytest.mark.parametrize("call", CALLS)
async def test_what_each_scope_opens(call: str) -> None:
    method, path = call.split()
    async with api(key="k3y") as (http, client):
        session_id = (await make(http, **ADMIN))["session_id"]
        refused: set[str] = set()
        for scope in keys.SCOPES:
            url = BASE + path.replace("ID", session_id)
            body = {} if method in ("POST", "PATCH") else None
            answer = await http.request(method, url, json=body, headers=bearing(client, scope))
            if answer.status_code == 403:
                refused.add(scope)
                assert "scope" in answer.json()["detail"]
            assert answer.status_code != 401
        assert set(keys.SCOPES) - refused == CALLS[call]


async def test_every_staff_call_says_what_it_needs() -> None:
    """No route forgets to ask who calls, except those that anyone may call."""
    open_to_all = {"/healthz", "/readyz", f"{BASE}/livekit/webhook"}
    async with api(key="k3y") as (http, _):
        paths = (await http.get("/openapi.json")).json()["paths"]
        assert len(paths) > 30
        for path, operations in paths.items():
            for method in operations:
                url = path.replace("{session_id}", "x").replace("{event_id}", "1")
                answer = await http.request(method, url.replace("{", "").replace("}", ""), json={})
                if path not in open_to_all:
                    assert answer.status_code == 401, (method, path)


def test_scopes_are_remembered_for_the_documentation() -> None:
    assert SCOPES_OF[scoped("read", candidate=True)] == (("read",), True)


def test_managing_does_not_imply_to_see_pictures() -> None:
    key = StaffKey("0" * 12, "x", ("manage",), "", 0, "open")
    assert key.opens == {"read", "manage"} and "proctor" not in key.opens


# Counting


async def test_a_caller_learns_what_it_has_left_and_then_429() -> None:
    async with api(key="k3y", key_requests_per_minute=18.0) as (http, client):
        answers = [await http.get(f"{BASE}/jobs", headers=ADMIN) for _ in range(4)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        assert answers[0].headers["ratelimit-policy"] == '"staff";q=3;w=10'
        assert [a.headers["ratelimit"].split(";")[1] for a in answers] == ["r=2", "r=1", "r=0", "r=0"]
        assert int(answers[3].headers["retry-after"]) >= 1 and answers[3].json()["code"] == "too_many_requests"
        other = await http.get(f"{BASE}/jobs", headers=bearing(client, "read"))
        assert other.status_code == 200, "another key has a rate of its own"


async def test_a_candidate_has_a_rate_of_its_own_session() -> None:
    async with api(key="k3y", candidate_requests_per_minute=12.0) as (http, _):
        mine, other = await make(http, **ADMIN), await make(http, **ADMIN)

        async def look(made: dict[str, Any]) -> int:
            url = f"{BASE}/session/{made['session_id']}"
            answer = await http.get(url, headers={"Authorization": f"Bearer {made['candidate_token']}"})
            assert answer.headers["ratelimit-policy"] == '"candidate";q=2;w=10'
            return answer.status_code

        assert [await look(mine) for _ in range(3)] == [200, 200, 429]
        assert await look(other) == 200


async def test_a_body_that_is_wrong_counts_once() -> None:
    async with api(key="k3y") as (http, _):
        answer = await http.post(f"{BASE}/create", json={**BODY, "nmae": "x"}, headers=ADMIN)
        assert (answer.status_code, answer.headers["ratelimit"]) == (400, '"staff";r=999;t=1')


async def test_wrong_keys_are_soon_429_and_right_ones_are_not() -> None:
    async with api(key="k3y") as (http, _):
        codes = [(await http.get(f"{BASE}/jobs", headers={"X-API-Key": f"guess{n}"})).status_code for n in range(40)]
        assert codes[:30] == [401] * 30 and set(codes[32:]) == {429}
        assert (await http.get(f"{BASE}/jobs", headers=ADMIN)).status_code == 200


# The keyring


class _Store:
    def __init__(self) -> None:
        self.key, self.secret = new_key("some", ("admin",), 0, "open")
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.away = False

    async def staff_keys(self) -> list[StaffKey]:
        self.reads += 1
        await self.gate.wait()
        if self.away:
            raise Unavailable("away")
        return [self.key]


async def test_keys_are_read_once_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "KNOWN_SECONDS", 60.0)
    store = _Store()
    ring = keyring.Keyring(store)
    found = await asyncio.gather(*(ring.find(store.secret, 1) for _ in range(20)))
    assert {key.name for key in found if key} == {"some"} and store.reads == 1
    ring.forget()
    await ring.find(store.secret, 1)
    assert store.reads == 2


async def test_while_the_database_is_away_known_keys_are_good_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    store = _Store()
    ring = keyring.Keyring(store)
    assert await ring.find(store.secret, 1)
    store.away = True
    assert await ring.find(store.secret, 1)
    store.gate.clear()
    assert await asyncio.wait_for(ring.find(store.secret, 1), 5), "it does not wait for a database that hangs"
    store.gate.set()
    monkeypatch.setattr(keyring, "STALE_SECONDS", -1.0)
    with pytest.raises(Unavailable):
        await ring.find(store.secret, 1)


async def test_without_ever_having_read_keys_nobody_comes_in() -> None:
    store = _Store()
    store.away = True
    with pytest.raises(Unavailable):
        await keyring.Keyring(store).holds_any()


async def test_what_was_being_read_before_a_change_is_not_believed_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "KNOWN_SECONDS", 60.0)
    store = _Store()
    ring = keyring.Keyring(store)
    store.gate.clear()
    early = asyncio.create_task(ring.find(store.secret, 1))
    await asyncio.sleep(0)
    ring.forget()
    store.gate.set()
    await early
    await ring.find(store.secret, 1)
    assert store.reads == 2
