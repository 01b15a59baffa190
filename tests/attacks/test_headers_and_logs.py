"""What we echo, and what we log: nothing that is sent begins a line or a header of its own, or is found in a log."""

from __future__ import annotations

import io
import itertools
import logging

import httpx
import pytest

from orchestrator.logs import FieldsFormatter
from tests.attacks.test_slow_peers import Peer
from tests.attacks.world import KEY, STAFF, bearer, closed
from tests.unit.api_world import BASE, BODY

LINES = ["a\r\nSet-Cookie: x=1", "a\nb", "a\rb", "a\u2028b", "a\x85b", "a\x00b", "a\x1b[2Jb", "\u202eabc", "x" * 5_000]


def raw(**headers: str) -> list[tuple[bytes, bytes]]:
    """Headers as they are, with whatever is in them."""
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def test_a_request_id_with_anything_odd_in_it_is_not_echoed() -> None:
    async with closed() as world:
        for value in LINES:
            answer = await world.http.get(f"{BASE}/jobs", headers=raw(**{**STAFF, "X-Request-Id": value}))
            assert len(answer.headers["x-request-id"]) == 16 and "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "header", ["Idempotency-Key", "If-Match", "If-None-Match", "Origin", "Accept", "Host", "Authorization"]
)
async def test_no_header_comes_back_as_two(header: str) -> None:
    async with closed() as world:
        calls = (("POST", f"{BASE}/create"), ("GET", f"{BASE}/session/{world.mine['session_id']}"))
        for value, (method, path) in itertools.product(LINES, calls):
            headers = raw(**{**STAFF, "Content-Type": "application/json", header: value})
            answer = await world.http.request(method, path, headers=headers, json=BODY if method == "POST" else None)
            assert answer.status_code < 500
            shown = [text for pair in answer.headers.raw for text in pair]
            assert not any(b"\r" in text or b"\n" in text or b"Set-Cookie" in text for text in shown)


async def test_names_do_not_get_into_headers_of_downloads() -> None:
    async with closed() as world:
        body = {**BODY, "name": 'A"\r\nSet-Cookie: x=1', "email": "b@example.com"}
        assert (await world.http.post(f"{BASE}/create", json=body, headers=STAFF)).status_code == 200
        for path in ("/sessions/export", "/sessions/export?format=jsonl", "/candidates/export?email=ada@example.com"):
            answer = await world.http.get(BASE + path, headers=STAFF)
            named = answer.headers["content-disposition"]
            assert named in ('attachment; filename="sessions.csv"', 'attachment; filename="sessions.jsonl"') or (
                named == 'attachment; filename="candidate.zip"'
            )


async def test_links_come_from_the_settings_whatever_host_is_asked() -> None:
    async with closed() as world:
        headers = {
            **STAFF,
            "Host": "evil.example",
            "X-Forwarded-Host": "evil.example",
            "Forwarded": "host=evil.example",
        }
        answer = await world.http.post(f"{BASE}/create", json=BODY, headers=headers)
        assert "evil" not in answer.text and answer.json()["links"]["candidate"].startswith("http://localhost:8005/")


@pytest.mark.services
async def test_an_address_that_is_only_told_is_not_believed(impatient: str) -> None:
    """Wrong keys count for the address that they come from, whatever X-Forwarded-For says."""
    codes: list[int] = []
    async with httpx.AsyncClient(base_url=impatient) as http:
        for number in range(45):
            headers = {
                "X-API-Key": f"guess-{number}",
                "X-Forwarded-For": f"10.0.0.{number}",
                "X-Real-IP": f"10.1.0.{number}",
            }
            codes.append((await http.get(f"{BASE}/jobs", headers=headers)).status_code)
        assert codes[0] == 401 and codes[-1] == 429
        assert (await http.get(f"{BASE}/jobs", headers=STAFF)).status_code == 200


@pytest.mark.services
async def test_a_raw_request_id_with_a_line_end_in_it_is_no_request(url: str) -> None:
    peer = await Peer.at(url)
    await peer.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\nSet-Cookie: x=1\r\n\r\n")
    answer = await peer.answer()
    assert answer.startswith(b"HTTP/1.1 ") and b"set-cookie" not in answer.lower()
    peer.close()


@pytest.mark.parametrize("value", LINES[:-2])
def test_no_value_begins_a_line_of_its_own_in_a_log(value: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(FieldsFormatter())
    record = logging.LogRecord("api.x", logging.INFO, "x", 1, "not %s", (value,), None)
    record.reason = value
    handler.emit(record)
    text = stream.getvalue()
    assert text.count("\n") == 1 and len(text.splitlines()) == 1
    assert all(c.isprintable() for c in text[:-1])


async def test_no_log_line_holds_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong is logged without the values, on every way that there is."""
    caplog.set_level(logging.DEBUG)
    secret = "Personal-Datum-4711"
    async with closed() as world:
        url = f"{BASE}/session/{world.mine['session_id']}"
        world.client.failure = RuntimeError(f"stumbled over {secret}")
        answer = await world.http.post(f"{url}/start", headers=world.token)
        assert answer.status_code == 500 and secret not in answer.text
        world.client.failure = None
        for wrong in ({"name": secret, "email": secret}, {**BODY, secret: secret}, {**BODY, "phone": f"{secret}\0"}):
            await world.http.post(f"{BASE}/create", json=wrong, headers=STAFF)
        await world.http.get(f"{BASE}/sessions", params={"q": secret, "email": secret}, headers=STAFF)
        await world.http.get(f"{BASE}/session/{secret}", headers=STAFF)
        await world.http.get(f"{BASE}/jobs", headers=bearer(f"{secret}.{secret}.{secret}"))
        await world.http.get(f"{BASE}/jobs", headers={"X-API-Key": secret})
        tokens = [world.mine["candidate_token"], KEY, secret, "ada@example.com", "grace@example.com"]
    own = [r for r in caplog.records if r.name.split(".")[0] in ("api", "actors", "orchestrator", "uvicorn")]
    text = "\n".join(FieldsFormatter().format(record) for record in own)
    assert "unexpected error" in text and [one for one in tokens if one in text] == []
