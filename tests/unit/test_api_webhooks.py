"""/webhooks: who may add which endpoints, what is shown of them, and sending again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from actors.webhook_keeper import Health
from orchestrator.interview.outbox import EVENT_TYPES
from orchestrator.interview.view import iso
from orchestrator.webhooks import (
    ENVIRONMENT,
    FIRST_PAUSE_MS,
    GIVE_UP_MS,
    LONGEST_PAUSE_MS,
    MAX_ENDPOINTS,
    Attempt,
    Endpoint,
    Message,
    headers_of,
    new_secret,
    pause_ms,
)
from tests.unit.api_world import BASE, BODY, MemoryClient, api
from tests.unit.world import T0

URL = f"{BASE}/webhooks"
PUBLIC = {"url": "https://93.184.215.14/hook"}
SECRET = new_secret()


def delivered(endpoint_id: str, seq: int = 1, session_id: str = "s1") -> Message:
    message = Message(endpoint_id, session_id, seq, "interview.created", T0 + seq, "{}", since=T0)
    return message.tried(Attempt(T0 + seq, 200, None, 12), 0)


async def test_an_endpoint_is_added_shown_changed_and_removed() -> None:
    async with api() as (http, _):
        answer = await http.post(URL, json=PUBLIC | {"events": ["interview.completed"], "description": "ours"})
        assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
        made = answer.json()["webhook"]
        assert made["events"] == ["interview.completed"] and made["enabled"] and made["secret"].startswith("whsec_")
        path = f"{URL}/{made['webhook_id']}"
        shown = (await http.get(path)).json()["webhook"]
        assert "secret" not in shown and shown["url"] == PUBLIC["url"] and shown["failing_since"] is None
        listed = (await http.get(URL)).json()
        assert listed["webhooks"] == [shown] and listed["event_types"] == list(EVENT_TYPES)
        assert (await http.get(f"{path}/secret")).json()["secret"] == made["secret"]
        changed = (await http.patch(path, json={"enabled": False, "events": []})).json()["webhook"]
        assert changed["enabled"] is False and changed["events"] == list(EVENT_TYPES)
        assert changed["description"] == "ours"
        assert (await http.delete(path)).json()["deleted"] is True
        assert (await http.get(path)).status_code == 404 and (await http.delete(path)).status_code == 404


async def test_a_repeated_call_makes_no_second_endpoint() -> None:
    async with api() as (http, client):
        key = {"Idempotency-Key": "k1"}
        first = (await http.post(URL, json=PUBLIC, headers=key)).json()
        again = await http.post(URL, json=PUBLIC, headers=key)
        assert again.json() == first and again.headers["Idempotency-Replayed"] == "true"
        assert (await http.post(URL, json=PUBLIC | {"description": "x"}, headers=key)).status_code == 422
        assert len(client.store.hooks) == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ({"url": "file:///etc/passwd"}, "/url"),
        ({"url": "http://example.com/"}, "/url"),
        ({"url": "https://127.0.0.1/"}, "/url"),
        ({"url": "https://169.254.169.254/latest/meta-data/"}, "/url"),
        ({"url": "https://localhost:9000/"}, "/url"),
        ({"url": 7}, "/url"),
        (PUBLIC | {"events": ["interview.finished"]}, "/events"),
        (PUBLIC | {"events": "interview.started"}, "/events"),
        (PUBLIC | {"secret": "short"}, "/secret"),
        (PUBLIC | {"secret": "whsec_" + "A" * 12}, "/secret"),
        (PUBLIC | {"secrets": "x"}, "/secrets"),
    ],
)
async def test_a_bad_endpoint_is_refused_with_the_reason(body: dict[str, Any], pointer: str) -> None:
    async with api() as (http, client):
        answer = await http.post(URL, json=body)
        assert answer.status_code in (400, 422), answer.text
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]
        assert client.store.hooks == {}


async def test_a_change_is_judged_as_a_new_one_is() -> None:
    async with api() as (http, _):
        path = f"{URL}/{(await http.post(URL, json=PUBLIC)).json()['webhook']['webhook_id']}"
        for bad in ({"url": "https://10.0.0.1/"}, {"events": ["nothing"]}, {"url": ""}, {"secret": SECRET}):
            assert (await http.patch(path, json=bad)).status_code in (400, 422), bad
        assert (await http.get(path)).json()["webhook"]["url"] == PUBLIC["url"]


async def test_for_development_private_addresses_are_taken() -> None:
    async with api() as (http, client):
        client.settings.webhook_private_addresses = True
        assert (await http.post(URL, json={"url": "http://127.0.0.1:9000/"})).status_code == 200
        assert (await http.post(URL, json={"url": "file:///etc/passwd"})).status_code == 400


async def test_there_is_a_limit_to_endpoints() -> None:
    async with api() as (http, _):
        for _ in range(MAX_ENDPOINTS):
            assert (await http.post(URL, json=PUBLIC)).status_code == 200
        assert (await http.post(URL, json=PUBLIC)).status_code == 409


async def test_webhooks_are_for_staff() -> None:
    async with api(key="k") as (http, client):
        client.store.hooks["wh"] = Endpoint("wh", PUBLIC["url"], SECRET, T0)
        made = (await http.post(f"{BASE}/create", json=BODY, headers={"X-API-Key": "k"})).json()
        token = {"Authorization": f"Bearer {made['candidate_token']}"}
        calls = [("POST", ""), ("GET", ""), ("GET", "/wh"), ("PATCH", "/wh"), ("DELETE", "/wh"), ("GET", "/wh/secret")]
        calls += [("POST", f"/wh/{name}") for name in ("rotate", "test", "replay", "deliveries/x/replay")]
        for method, path in [*calls, ("GET", "/wh/deliveries")]:
            body = None if method in ("GET", "DELETE") else {"url": "https://example.com", "since": "x"}
            assert (await http.request(method, URL + path, json=body)).status_code == 401, path
            assert (await http.request(method, URL + path, json=body, headers=token)).status_code == 403, path


async def test_a_secret_is_rotated() -> None:
    async with api() as (http, client):
        made = (await http.post(URL, json=PUBLIC | {"secret": SECRET})).json()["webhook"]
        assert made["secret"] == SECRET
        path = f"{URL}/{made['webhook_id']}"
        fresh = (await http.post(f"{path}/rotate")).json()["webhook"]["secret"]
        assert fresh != SECRET and client.store.hooks[made["webhook_id"]].old_secret == SECRET
        given = new_secret()
        assert (await http.post(f"{path}/rotate", json={"secret": given})).json()["webhook"]["secret"] == given


async def test_deliveries_come_in_pages_and_are_sent_again() -> None:
    async with api() as (http, client):
        name = (await http.post(URL, json=PUBLIC)).json()["webhook"]["webhook_id"]
        path = f"{URL}/{name}"
        failed = replace(delivered(name, 4), state="failed")
        await client.store.add_messages([*(delivered(name, seq) for seq in (1, 2, 3)), failed])
        first = (await http.get(f"{path}/deliveries?limit=3")).json()
        assert [d["delivery_id"].rsplit(":")[-1] for d in first["deliveries"]] == ["4", "3", "2"] and first["has_more"]
        rest = (await http.get(f"{path}/deliveries", params={"cursor": first["next_cursor"]})).json()
        assert [d["attempts"][0]["status"] for d in rest["deliveries"]] == [200] and not rest["has_more"]
        assert (await http.get(f"{path}/deliveries?cursor=other:1")).status_code == 400
        again = await http.post(f"{path}/deliveries/{failed.id}/replay")
        assert again.status_code == 200 and again.json()["delivery"]["state"] == "waiting"
        assert again.json()["delivery"]["message_id"] == failed.key
        assert (await http.post(f"{path}/deliveries/nothing/replay")).status_code == 404
        client.store.messages_by_id[failed.id] = failed
        only_failed = await http.post(f"{path}/replay", json={"since": iso(T0)})
        assert only_failed.json()["replayed"] == 1
        everything = await http.post(f"{path}/replay", json={"since": iso(T0 + 2), "delivered": True})
        assert everything.json()["replayed"] == 2, "4 waits already, 1 is older"
        assert (await http.post(f"{path}/replay", json={"since": "yesterday"})).status_code == 400


async def test_a_replay_queues_the_first_of_each_session_alone() -> None:
    async with api() as (http, client):
        name = (await http.post(URL, json=PUBLIC)).json()["webhook"]["webhook_id"]
        failed = [replace(delivered(name, seq, s), state="failed") for s in ("s1", "s2") for seq in (1, 2, 3)]
        await client.store.add_messages(failed)
        answer = (await http.post(f"{URL}/{name}/replay", json={"since": iso(T0)})).json()
        assert (answer["replayed"], answer["next_since"]) == (6, None)
        stored = client.store.messages_by_id.values()
        assert {m.key for m in stored if m.due_at is not None} == {"s1:1", "s2:1"}
        assert all(m.is_open for m in stored)


def test_rotating_twice_leaves_the_receiver_its_secret() -> None:
    endpoint = Endpoint("wh", "https://example.com", SECRET, T0).rotated(T0).rotated(T0 + 1000)
    assert endpoint.old_secret == SECRET
    assert endpoint.rotated(T0 + 25 * 3_600_000).old_secret == endpoint.secret


def test_a_receiver_that_asks_for_time_gets_it_whatever_else_it_answers() -> None:
    health = Health(asked_until=T0 + 10_000)
    health.failures, health.not_before = 0, 0  # as after a message that was taken
    assert health.room(T0) == 0 and health.room(T0 + 10_000) > 0


async def test_an_endpoint_can_be_tried() -> None:
    async with api() as (http, client):
        name = (await http.post(URL, json=PUBLIC)).json()["webhook"]["webhook_id"]
        assert (await http.post(f"{URL}/{name}/test")).status_code == 200
        [message] = client.store.messages_by_id.values()
        assert json.loads(message.body)["type"] == "webhook.test" and message.due_at is not None
        await http.patch(f"{URL}/{name}", json={"enabled": False})
        assert (await http.post(f"{URL}/{name}/test")).status_code == 409


async def test_the_settings_make_an_endpoint_and_take_it_back() -> None:
    client = MemoryClient()
    settings: dict[str, Any] = {"webhook_url": "https://example.com/a", "webhook_secret": SecretStr(SECRET)}
    client.settings.webhook_secret = settings["webhook_secret"]
    async with api(client, **settings) as (http, _):
        [shown] = (await http.get(URL)).json()["webhooks"]
        assert (shown["webhook_id"], shown["url"], shown["enabled"]) == (ENVIRONMENT, "https://example.com/a", True)
        assert client.store.hooks[ENVIRONMENT].secret == SECRET
        path = f"{URL}/{ENVIRONMENT}"
        assert (await http.delete(path)).status_code == 409 and (await http.post(f"{path}/rotate")).status_code == 409
        assert (await http.patch(path, json={"url": "https://example.com/b"})).status_code == 409
    async with api(client) as (http, _):
        [shown] = (await http.get(URL)).json()["webhooks"]
        assert not shown["enabled"] and "INTERVIEW_WEBHOOK_URL" in shown["disabled_because"]
    async with api(client, **settings) as (http, _):
        [shown] = (await http.get(URL)).json()["webhooks"]
        assert shown["enabled"] and shown["disabled_because"] is None
    async with api(client, **settings | {"webhook_url": "https://example.com/c"}) as (http, _):
        [shown] = (await http.get(URL)).json()["webhooks"]
        assert shown["url"] == "https://example.com/c"


def test_a_message_is_signed_so_that_the_library_verifies_it() -> None:
    import time

    now = round(time.time() * 1000)
    endpoint = Endpoint("wh", "https://example.com", SECRET, T0).rotated(now)
    message = replace(delivered("wh"), body='{"type":"x","text":"Ünïcödé 漢字"}')
    headers = headers_of(endpoint, message, now)
    for secret in (SECRET, endpoint.secret):
        assert Webhook(secret).verify(message.body, headers)["type"] == "x"


def test_pauses_grow_to_an_hour_and_tries_end_after_three_days() -> None:
    assert 0.8 * FIRST_PAUSE_MS <= pause_ms(1) <= 1.2 * FIRST_PAUSE_MS
    assert all(0.8 * LONGEST_PAUSE_MS <= pause_ms(n) <= 1.2 * LONGEST_PAUSE_MS for n in (8, 80, 8_000))
    message, now = Message("wh", "s1", 1, "x", T0, "{}", since=T0, due_at=T0), T0
    while message.is_open:
        now = message.due_at or 0
        message = message.tried(Attempt(now, 500, None, 0), pause_ms(message.tries + 1))
    assert message.state == "failed" and now <= T0 + GIVE_UP_MS
    assert 70 < message.tries < 90 and len(message.attempts) == 20
