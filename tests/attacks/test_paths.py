"""Paths that lead elsewhere, for every part of a path that a caller can choose."""

from __future__ import annotations

import itertools

import pytest

from tests.attacks.test_slow_peers import Peer
from tests.attacks.world import KEY, closed
from tests.unit.api_world import BASE

TRICKS = [
    "..",
    "../..",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "%2e%2e%2fapp.py",
    "%252e%252e%252fapp.py",
    "..%5c..%5capp.py",
    "..\\app.py",
    "....//app.py",
    "%00",
    "interview.js%00.css",
    "%0d%0aSet-Cookie:%20x=1",
    "%ff%fe",
    "%c0%ae%c0%ae%c0%afapp.py",
    "/etc/passwd",
    "//evil.example/",
    "file:%2f%2f%2fetc%2fpasswd",
    "%7B%22$gt%22:%22%22%7D",
    "[$ne]",
    "%24where",
    ";ls",
    "%3Cscript%3Epwned%3C%2Fscript%3E",
    "*",
    "%u002e",
    "a" * 10_000,
]


async def test_assets_are_those_that_were_built() -> None:
    async with closed() as world:
        for trick, place in itertools.product(TRICKS, ("/assets/", "/assets/../", "/assets/chunk-", "//assets/")):
            answer = await world.http.get(place + trick)
            assert answer.status_code in (401, 404) or "content-security-policy" in answer.headers
            assert "root:" not in answer.text and "create_app" not in answer.text


async def test_a_page_shows_an_id_as_text_only() -> None:
    async with closed() as world:
        for trick, place in itertools.product(TRICKS, ("/interview/", "/sessions/x")):
            answer = await world.http.get(place + trick + ("/live" if place != "/interview/" else ""))
            assert answer.status_code in (200, 401, 404) and "<script>pwned" not in answer.text
            assert "set-cookie" not in answer.headers


@pytest.mark.services
@pytest.mark.parametrize("place", ["/assets/", f"{BASE}/session/", f"{BASE}/jobs/", f"{BASE}/session/x/journal/"])
async def test_over_a_socket_they_lead_nowhere_either(url: str, place: str) -> None:
    """httpx tidies paths before it sends them; here they go as they are."""
    for trick in TRICKS:
        peer = await Peer.at(url)
        head = f"GET {place}{trick} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nConnection: close\r\n\r\n"
        await peer.send(head.encode("latin-1"))
        answer = await peer.answer()
        assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), answer[:200]
        assert b"root:" not in answer and b"\r\nset-cookie" not in answer.lower()
        peer.close()
