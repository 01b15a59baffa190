"""Who may call what: keys, candidates' tokens, and how they end."""

from __future__ import annotations

import jwt
import pytest

from api.security import candidate_token, token_key
from tests.unit.api_world import BASE, BODY, SECRET, api, make

KEY = {"X-API-Key": "k3y"}


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_without_a_key_set_everything_is_open() -> None:
    async with api() as (http, _):
        made = await make(http)
        assert "questions" in (await http.get(f"{BASE}/session/{made['session_id']}")).json()["session"]


async def test_a_token_makes_a_candidate_even_when_everything_is_open() -> None:
    async with api() as (http, _):
        made = await make(http)
        headers = _bearer(made["candidate_token"])
        answer = await http.get(f"{BASE}/session/{made['session_id']}", headers=headers)
        assert answer.status_code == 200
        assert "questions" not in answer.json()["session"]
        assert "Authorization" in answer.headers["vary"]


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong"}, _bearer("wrong"), _bearer("a.b.c")])
async def test_with_a_key_set_strangers_are_401(headers: dict[str, str]) -> None:
    async with api(key="k3y") as (http, _):
        answer = await http.post(f"{BASE}/create", json=BODY, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_key_is_taken_in_both_headers() -> None:
    async with api(key="k3y") as (http, _):
        for headers in (KEY, _bearer("k3y")):
            await make(http, **headers)


async def test_a_token_is_good_for_candidate_calls_of_its_session_only() -> None:
    async with api(key="k3y") as (http, _):
        mine, other = await make(http, **KEY), await make(http, **KEY)
        headers = _bearer(mine["candidate_token"])
        own = f"{BASE}/session/{mine['session_id']}"
        assert (await http.post(f"{own}/start", headers=headers)).status_code == 200
        assert (await http.post(f"{own}/pause", headers=headers)).status_code == 403
        assert (await http.get(f"{BASE}/sessions", headers=headers)).status_code == 403
        assert (await http.get(f"{BASE}/session/{other['session_id']}", headers=headers)).status_code == 403


async def test_a_new_link_ends_older_tokens() -> None:
    async with api(key="k3y") as (http, _):
        made = await make(http, **KEY)
        url = f"{BASE}/session/{made['session_id']}"
        renewed = (await http.post(f"{url}/link", headers=KEY)).json()
        assert (await http.get(url, headers=_bearer(made["candidate_token"]))).status_code == 401
        assert (await http.get(url, headers=_bearer(renewed["candidate_token"]))).status_code == 200


async def test_a_repeated_create_answers_with_a_token_that_works() -> None:
    async with api(key="k3y") as (http, client):
        headers = {**KEY, "Idempotency-Key": "once"}
        made = await make(http, **headers)
        await client.renew_link(made["session_id"])
        again = await http.post(f"{BASE}/create", json=BODY, headers=headers)
        assert again.headers["idempotency-replayed"] == "true"
        url = f"{BASE}/session/{made['session_id']}"
        assert (await http.get(url, headers=_bearer(again.json()["candidate_token"]))).status_code == 200


@pytest.mark.parametrize("change", [{"exp": 1}, {"use": "staff"}, {"gen": None}])
async def test_tokens_that_are_expired_or_for_something_else_are_401(change: dict[str, object]) -> None:
    async with api(key="k3y") as (http, _):
        made = await make(http, **KEY)
        claims = jwt.decode(made["candidate_token"], token_key(SECRET), algorithms=["HS256"]) | change
        url = f"{BASE}/session/{made['session_id']}"
        for token in (jwt.encode(claims, token_key(SECRET), "HS256"), jwt.encode(claims, "", "none")):
            assert (await http.get(url, headers=_bearer(token))).status_code == 401


def test_tokens_of_another_secret_are_not_ours() -> None:
    token = candidate_token(b"o" * 32, "id", 1)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, token_key(SECRET), algorithms=["HS256"])


async def test_an_observers_token_is_for_staff() -> None:
    async with api(key="k3y") as (http, _):
        made = await make(http, **KEY)
        url, observer = f"{BASE}/session/{made['session_id']}/token", {"role": "observer"}
        assert (await http.post(url, json=observer, headers=KEY)).status_code == 200
        assert (await http.post(url, json=observer, headers=_bearer(made["candidate_token"]))).status_code == 403
