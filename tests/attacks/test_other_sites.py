"""Pages of other sites, opened by staff or a candidate: what their browsers can be made to do to us."""

from __future__ import annotations

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from tests.attacks.world import STAFF, bearer, closed
from tests.unit.api_world import BASE, BODY, api, make

EVIL = "https://evil.example"
SIMPLE = {
    "text/plain": b'{"name": "A", "email": "a@example.com"}',
    "application/x-www-form-urlencoded": b'{"name": "A", "email": "a@example.com", "x": "=1"}',
    "multipart/form-data; boundary=b": b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nA\r\n--b--',
}
"""What a form of another site can send without our being asked first."""


@pytest.mark.parametrize("origin", [EVIL, "null", "https://localhost.evil.example", "http://127.0.0.1:9999", "http://"])
@pytest.mark.parametrize("call", ["POST /create", "GET /sessions", "DELETE /candidates?email=ada@example.com"])
async def test_a_page_of_another_site_gets_nothing_of_an_open_service(origin: str, call: str) -> None:
    method, path = call.split()
    async with api() as (http, client):
        await make(http)
        body = BODY if method == "POST" else None
        answer = await http.request(method, BASE + path, json=body, headers={"Origin": origin})
        assert answer.status_code == 401 and "ada@" not in answer.text
        assert "access-control-allow-origin" not in answer.headers and len(client.states) == 1


@pytest.mark.parametrize("kind", SIMPLE)
async def test_a_form_of_another_site_makes_nothing_even_without_an_origin(kind: str) -> None:
    async with api() as (http, client):
        answer = await http.post(f"{BASE}/create", content=SIMPLE[kind], headers={"Content-Type": kind})
        assert answer.status_code == 400 and client.states == {}


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8005", "127.0.0.1.evil.example", "localhost.evil.example"]
)
async def test_a_name_of_somebody_else_that_points_at_us_opens_nothing(host: str) -> None:
    """DNS rebinding: for the browser the page is at home here, so no Origin gives it away."""
    async with api() as (http, client):
        await make(http)
        for more in ({}, {"Origin": f"http://{host}"}):
            answer = await http.get(f"{BASE}/sessions", headers={"Host": host, **more})
            assert answer.status_code == 401 and "ada@" not in answer.text
            answer = await http.post(f"{BASE}/create", json=BODY, headers={"Host": host, **more})
            assert answer.status_code == 401 and len(client.states) == 1


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8005", "127.0.0.1", "[::1]:8005", "10.0.0.7", "interviews", "a.localhost"]
)
async def test_our_own_addresses_and_names_are_answered(host: str) -> None:
    async with api() as (http, _):
        assert (await http.get(f"{BASE}/sessions", headers={"Host": host})).status_code == 200
    async with api(public_url="https://interviews.example.com") as (http, _):
        named = {"Host": "interviews.example.com"}
        assert (await http.get(f"{BASE}/sessions", headers=named)).status_code == 200


async def test_there_is_nothing_that_a_browser_sends_by_itself() -> None:
    """No cookie, and no credentials across origins: another site's page has nothing of whoever looks at it."""
    async with closed(cors_origins="https://ats.example.com") as world:
        for path in ("/healthz", f"{BASE}/sessions", f"/interview/{world.mine['session_id']}"):
            answer = await world.http.get(path, headers={**STAFF, "Origin": "https://ats.example.com"})
            assert "set-cookie" not in answer.headers
            assert "access-control-allow-credentials" not in answer.headers
        asked = {"Origin": EVIL, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
        answer = await world.http.options(f"{BASE}/create", headers=asked)
        assert "access-control-allow-origin" not in answer.headers


async def test_pages_cannot_be_framed_and_tell_no_one_where_one_came_from() -> None:
    async with closed() as world:
        session_id = world.mine["session_id"]
        for path in (
            f"/interview/{session_id}",
            f"/sessions/{session_id}/live",
            f"/api/reports/{session_id}?format=html",
        ):
            headers = (await world.http.get(path)).headers
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "script-src 'unsafe" not in headers["content-security-policy"]
            assert headers["referrer-policy"] == "no-referrer" and headers["x-content-type-options"] == "nosniff"


@pytest.mark.services
@pytest.mark.parametrize("origin", [EVIL, "null", "http://127.0.0.1:1"])
async def test_a_live_channel_from_another_sites_page_is_refused(url: str, origin: str) -> None:
    """Whatever the token: the page of the other site may have been given it."""
    async with httpx.AsyncClient(base_url=url) as http:
        made = (await http.post(f"{BASE}/create", json=BODY, headers=STAFF)).json()
    where = f"{url.replace('http', 'ws')}/ws/interview?session_id={made['session_id']}"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            where, origin=Origin(origin), additional_headers=bearer(made["candidate_token"]), proxy=None
        ):
            pass
    assert refused.value.response.status_code == 403


@pytest.mark.services
@pytest.mark.parametrize(
    "sent", [None, "x", '{"type": "auth", "token": "x"}', '{"type": "start"}', b"\0", "[" * 100_000]
)
async def test_a_live_channel_without_a_token_says_nothing(url: str, sent: str | bytes | None) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        made = (await http.post(f"{BASE}/create", json=BODY, headers=STAFF)).json()
    where = f"{url.replace('http', 'ws')}/ws/interview?session_id={made['session_id']}"
    async with connect(where, proxy=None) as channel:
        if sent is not None:
            await channel.send(sent)
        with pytest.raises(ConnectionClosed):
            await channel.recv()
        assert channel.close_code in (4400, 4401)


@pytest.mark.services
async def test_the_live_channel_takes_the_tokens_of_its_own_session_only(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        mine, other = [(await http.post(f"{BASE}/create", json=BODY, headers=STAFF)).json() for _ in range(2)]
    for query, code in (
        (f"session_id={other['session_id']}&token={mine['candidate_token']}", 4401),
        (f"session_id=00000000-0000-4000-8000-000000000000&token={mine['candidate_token']}", 4401),
        (f"session_id={mine['session_id']}&token={mine['candidate_token']}&role=observer", 4401),
        (f"session_id={mine['session_id']}&token=x.y.z", 4401),
        (f"session_id={mine['session_id']}&role=observer&token=wrong", 4401),
        (f"session_id[$ne]=x&token={mine['candidate_token']}", 4400),
        (f"session_id={mine['session_id']}&token={mine['candidate_token']}&after[$gt]=0", 4400),
    ):
        async with connect(f"{url.replace('http', 'ws')}/ws/interview?{query}", proxy=None) as channel:
            with pytest.raises(ConnectionClosed):
                await channel.recv()
            assert channel.close_code == code, query
