"""Keys of staff and secrets of webhooks: who gets them, what they give to others, and how often they may be tried."""

from __future__ import annotations

import httpx
import pytest

from orchestrator.keys import SCOPES, Scope
from tests.attacks.world import KEY, STAFF, bearer, closed
from tests.unit.api_world import BASE, BODY
from tests.unit.test_keys import at_once, bearing  # noqa: F401  (keys are read again each time)

HOOK = {"url": "https://93.184.215.14/"}


async def everything(http: httpx.AsyncClient, session_id: str) -> str:
    """What every call that lists or exports says, to staff who may see everything."""
    paths = ["/keys", "/webhooks", "/sessions", "/sessions/export", "/sessions/export?format=jsonl", "/stats", "/jobs"]
    paths += [f"/session/{session_id}", f"/session/{session_id}/journal", f"/session/{session_id}/proctoring"]
    hooks = (await http.get(f"{BASE}/webhooks", headers=STAFF)).json()["webhooks"]
    paths += [f"/webhooks/{hook['webhook_id']}" for hook in hooks]
    paths += [f"/webhooks/{hook['webhook_id']}/deliveries" for hook in hooks]
    said = [await http.get(BASE + path, headers=STAFF) for path in paths]
    archive = await http.get(f"{BASE}/candidates/export?email=ada@example.com", headers=STAFF)
    return "\n".join(answer.text for answer in said) + archive.content.decode("latin-1")


async def test_no_list_and_no_export_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with closed() as world:
        key = (await world.http.post(f"{BASE}/keys", json={"name": "x", "scopes": ["read"]}, headers=STAFF)).json()
        hook = (await world.http.post(f"{BASE}/webhooks", json=HOOK, headers=STAFF)).json()["webhook"]
        rotated = await world.http.post(f"{BASE}/webhooks/{hook['webhook_id']}/rotate", headers=STAFF)
        secrets = [KEY, key["secret"], key["secret"][17:], hook["secret"], rotated.json()["webhook"]["secret"]]
        secrets += [world.mine["candidate_token"], world.client.store.secret.hex()]
        said = await everything(world.http, world.mine["session_id"]) + caplog.text
        assert [secret for secret in secrets if secret in said] == []
        assert [kept.digest for kept in world.client.store.staff.values() if kept.digest in said] == []


async def test_an_idempotency_key_of_one_caller_gives_nothing_to_another() -> None:
    """On every call that remembers keys: whoever else uses the key has made a call of their own."""
    async with closed() as world:
        one, other = bearing(world.client, "admin", name="one"), bearing(world.client, "admin", name="other")
        once = {"Idempotency-Key": "once"}
        for path, body in (("/webhooks", HOOK), ("/keys", {"name": "x", "scopes": ["read"]})):
            first = (await world.http.post(BASE + path, json=body, headers=one | once)).json()
            theirs = await world.http.post(BASE + path, json=body, headers=other | once)
            assert "idempotency-replayed" not in theirs.headers
            assert theirs.json() != first
        url = f"{BASE}/session/{world.mine['session_id']}/start"
        assert "idempotency-replayed" not in (await world.http.post(url, headers=one | once)).headers
        assert "idempotency-replayed" not in (await world.http.post(url, headers=world.token | once)).headers


@pytest.mark.parametrize("scope", ["read", "manage", "proctor"])
async def test_no_key_makes_itself_or_another_one_stronger(scope: Scope) -> None:
    async with closed() as world:
        mine = bearing(world.client, scope)
        before = dict(world.client.store.staff)
        for method, path, body in (
            ("POST", "/keys", {"name": "x", "scopes": ["admin"]}),
            ("DELETE", f"/keys/{next(iter(before))}", None),
            ("POST", "/webhooks", HOOK),
            ("GET", "/webhooks/environment/secret", None),
            ("GET", "/candidates/export?email=ada@example.com", None),
        ):
            assert (await world.http.request(method, BASE + path, json=body, headers=mine)).status_code == 403
        assert world.client.store.staff == before


@pytest.mark.parametrize(
    ("role", "scopes"),
    [("observer", {"proctor", "admin"}), ("candidate", {"manage", "admin"}), (None, {"manage", "admin"})],
)
async def test_only_who_may_see_pictures_looks_unseen_into_the_room(role: str | None, scopes: set[Scope]) -> None:
    async with closed() as world:
        url, body = f"{BASE}/session/{world.mine['session_id']}/token", {} if role is None else {"role": role}
        for scope in SCOPES:
            answer = await world.http.post(url, json=body, headers=bearing(world.client, scope))
            assert answer.status_code == (200 if scope in scopes else 403), scope
        assert (await world.http.post(url, json=body, headers=STAFF)).status_code == 200, "the settings' key opens all"


async def test_evidence_is_not_erased_by_a_key_that_may_not_see_it() -> None:
    async with closed() as world:
        url, id = f"{BASE}/session/{world.mine['session_id']}/proctoring/pictures", world.mine["session_id"]
        consent = await world.http.post(f"{BASE}/session/{id}/consent", json={"accepted": True}, headers=world.token)
        assert consent.status_code == 200
        for scope in ("read", "manage"):
            assert (await world.http.delete(url, headers=bearing(world.client, scope))).status_code == 403
        assert world.client.states[id].consent_at is not None
        assert (await world.http.delete(url, headers=bearing(world.client, "proctor", name="eve"))).status_code == 200
        content = world.client.store.journal[id][-1].content()
        assert content["by"] == "key:eve" and content["events"][0]["type"] == "erased", "and it says who it was"
        assert (await world.http.delete(url, headers=world.token)).status_code == 200


async def test_guessing_is_soon_stopped_and_stops_nobody_else() -> None:
    async with closed() as world:
        codes = [
            (await world.http.get(f"{BASE}/jobs", headers={"X-API-Key": f"pik_{n:012x}_" + "A" * 43})).status_code
            for n in range(60)
        ]
        assert codes[-1] == 429 and codes.count(401) <= 32
        assert (await world.http.get(f"{BASE}/jobs", headers=STAFF)).status_code == 200
        own = f"{BASE}/session/{world.mine['session_id']}"
        assert (await world.http.get(own, headers=world.token)).status_code == 200


async def test_a_candidate_who_floods_us_is_stopped_and_stops_nobody_else() -> None:
    async with closed(candidate_requests_per_minute=60.0) as world:
        own = f"{BASE}/session/{world.mine['session_id']}"
        codes = [(await world.http.get(own, headers=world.token)).status_code for _ in range(30)]
        assert codes[0] == 200 and codes[-1] == 429
        other = {"Authorization": f"Bearer {world.other['candidate_token']}"}
        theirs = f"{BASE}/session/{world.other['session_id']}"
        assert (await world.http.get(theirs, headers=other)).status_code == 200


async def test_who_has_an_older_link_takes_nothing_of_the_candidates_rate() -> None:
    async with closed(candidate_requests_per_minute=600.0) as world:
        own = f"{BASE}/session/{world.mine['session_id']}"
        fresh = (await world.http.post(f"{own}/link", headers=STAFF)).json()["candidate_token"]
        codes = [(await world.http.get(own, headers=world.token)).status_code for _ in range(130)]
        assert codes[0] == 401 and codes[-1] == 429, "it is a wrong token like others"
        assert codes.count(401) <= 32
        answer = await world.http.get(own, headers=bearer(fresh))
        assert answer.status_code == 200 and answer.headers["ratelimit"].startswith('"candidate";r=99;')


async def test_two_keys_of_one_name_are_one_in_the_journal_and_revoked_alone() -> None:
    async with closed() as world:
        one, other = bearing(world.client, "manage", name="ats"), bearing(world.client, "manage", name="ats")
        id = one["X-API-Key"][4:16]
        assert (await world.http.delete(f"{BASE}/keys/{id}", headers=STAFF)).status_code == 200
        assert (await world.http.post(f"{BASE}/create", json=BODY, headers=one)).status_code == 401
        assert (await world.http.post(f"{BASE}/create", json=BODY, headers=other)).status_code == 200
