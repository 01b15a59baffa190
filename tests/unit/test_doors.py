"""What every answer carries, and what happens to clients that are slow or come from other sites."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api import limits
from api.limits import RequestLimits
from tests.unit.api_world import BASE, api, make


async def test_every_answer_has_the_headers_that_browsers_keep_us_safe_by() -> None:
    async with api() as (http, _):
        for answer in (
            await http.get("/healthz"),
            await http.get("/nothing"),
            await http.get(f"{BASE}/session/x"),
            await http.post(f"{BASE}/create", content=b"x" * 5_000_000),
        ):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "strict-transport-security" not in answer.headers
            assert "set-cookie" not in answer.headers and "server" not in answer.headers
            assert "access-control-allow-origin" not in answer.headers


async def test_an_answers_own_headers_stand() -> None:
    async with api() as (http, _):
        session_id = (await make(http))["session_id"]
        assert (await http.get(f"{BASE}/session/{session_id}")).headers["cache-control"] == "private, no-cache"


async def test_browsers_are_kept_to_https_where_there_is_https() -> None:
    async with api(public_url="https://interviews.example.com") as (http, _):
        assert "max-age" in (await http.get("/healthz")).headers["strict-transport-security"]


async def test_other_sites_may_call_only_if_the_settings_name_them() -> None:
    asked = {"Origin": "https://ats.example.com", "Access-Control-Request-Method": "POST"}
    async with api() as (http, _):
        assert (await http.options(f"{BASE}/create", headers=asked)).status_code == 405
    async with api(cors_origins="https://ats.example.com/, https://b.example.com") as (http, _):
        allowed = await http.options(f"{BASE}/create", headers=asked)
        assert allowed.headers["access-control-allow-origin"] == "https://ats.example.com"
        assert "access-control-allow-credentials" not in allowed.headers
        answer = await http.get("/healthz", headers={"Origin": "https://ats.example.com"})
        assert "ETag" in answer.headers["access-control-expose-headers"]
        foreign = await http.options(f"{BASE}/create", headers=asked | {"Origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "http://localhost.evil.example.com"])
async def test_pages_of_other_sites_get_nothing_of_an_open_service(origin: str) -> None:
    async with api() as (http, client):
        session_id = (await make(http))["session_id"]
        answer = await http.post(f"{BASE}/session/{session_id}/end", headers={"Origin": origin})
        assert answer.status_code == 401 and client.states[session_id].status == "initialized"
        for own in ("http://localhost:8005", "http://test"):
            answer = await http.get(f"{BASE}/sessions", headers={"Origin": own})
            assert answer.status_code == 200


async def _call(monkeypatch: pytest.MonkeyPatch, chunks: list[bytes | float], **headers: str) -> tuple[int, bytes]:
    """Send a body in pieces with pauses; the status, and what the application has read."""
    monkeypatch.setattr(limits, "SLOW_SECONDS", 0.2)
    read = b""
    sent: list[dict[str, Any]] = []
    pieces = iter(chunks)

    async def receive() -> dict[str, Any]:
        for piece in pieces:
            if isinstance(piece, bytes):
                return {"type": "http.request", "body": piece, "more_body": piece != b""}
            await asyncio.sleep(piece)
        return {"type": "http.disconnect"}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal read
        more = True
        while more:
            message = await receive()
            read += message.get("body", b"")
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/x",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }
    await RequestLimits(application)(scope, receive, send)  # pyright: ignore[reportArgumentType]
    return sent[0]["status"], read


async def test_a_body_that_comes_too_slowly_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    status, _ = await _call(monkeypatch, [b"a", 5.0, b"b", b""], **{"transfer-encoding": "chunked"})
    assert status == 408


async def test_a_large_body_on_a_slow_line_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [b"a" * 4096, 0.1, b"b", 0.1, b"c", 0.1, b""]
    status, read = await _call(monkeypatch, pieces, **{"transfer-encoding": "chunked"})
    assert status == 200 and len(read) == 4098


async def test_but_not_once_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    status, _ = await _call(monkeypatch, [b"a" * 60_000, 5.0, b"b", b""], **{"transfer-encoding": "chunked"})
    assert status == 408
