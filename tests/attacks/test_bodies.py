"""Bodies made to exhaust or to be misread: a 4xx soon, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from api.bodies import check_json
from orchestrator.errors import InvalidInput
from tests.attacks.world import STAFF, UNKNOWN, bearer
from tests.unit.api_world import BASE, BODY

pytestmark = pytest.mark.services

HELD_SECONDS = 0.25
"""The longest that anybody else may wait for an answer meanwhile."""
ANSWER_SECONDS = 1.0
TRIES = 4
"""Somebody else may have the machine for a moment: the best counts."""
FIELDS = b'{"name":"A","email":"a@example.com"'
JSON = {"Content-Type": "application/json"}
Headers = dict[str, str] | httpx.Headers


def names(count: int, value: bytes = b"1") -> bytes:
    return b",".join(b'"k%d":%b' % (i, value) for i in range(count))


def create(rest: bytes) -> tuple[str, bytes]:
    return "/create", FIELDS + b"," + rest + b"}"


def bulk(sessions: bytes) -> tuple[str, bytes]:
    return "/sessions/bulk", b'{"sessions":' + sessions + b"}"


def wrong(count: int, events: int = 100) -> bytes:
    """Events with a detail of so many members, all of which are wrong."""
    return b",".join([b'{"type":"tab_hidden","detail":{' + names(count, b"[]") + b"}}"] * events)


def events(given: bytes) -> tuple[str, bytes]:
    return f"/session/{UNKNOWN}/proctoring/events", b'{"events":[' + given + b"]}"


BOMBS = {
    "a third of a million names": create(names(340_000)),
    "as many in metadata": create(b'"metadata":{' + names(340_000) + b"}"),
    "names just within the limit": create(b'"metadata":{' + names(5_900) + b"}"),
    "names just within that of a bulk call": bulk(b"[" + b",".join([b"{" + names(58_000) + b"}"]) + b",1]"),
    "two million numbers": create(b'"questions":[' + b",".join([b"1"] * 1_900_000) + b"]"),
    "a million lists": create(b'"questions":[' + b",".join([b"[]"] * 1_300_000) + b"]"),
    "lists just within the limit": create(b'"questions":[' + b",".join([b"[]"] * 5_900) + b"]"),
    "texts just within the limit": create(b'"questions":[' + b",".join([b'""'] * 19_000) + b"]"),
    "eight megabytes of objects": bulk(b"[" + b",".join([b"{}"] * 2_600_000) + b"]"),
    "one item with many names": bulk(b"[{" + names(550_000) + b"}]"),
    "events with many wrong details": events(wrong(64)),
    "events with as many as are looked at": events(wrong(16)),
    "sixty thousand lists for events": events(b",".join([b"[]"] * 59_000)),
    "questions with many wrong members": ("/jobs", b'{"job_id":"1","title":"x","questions":[' + wrong(9, 200) + b"]}"),
    "quotes without an end": create(b'"phone":"' + b'\\"' * 1_900_000 + b","),
    "ten thousand deep": ("/create", b"[" * 10_000 + b"]" * 10_000),
    "objects ten thousand deep": ("/create", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "four million deep": ("/create", b"[" * 4_000_000),
    "a number of five thousand digits": create(b'"max_questions":' + b"9" * 5_000),
    "a number of four million digits": create(b'"max_questions":' + b"9" * 4_000_000),
    "a gigantic exponent": create(b'"max_questions":1e999'),
    "a fraction": create(b'"max_questions":1.5'),
    "NaN": create(b'"max_questions":NaN'),
    "Infinity": create(b'"text_question_timer":-Infinity'),
    "NaN in metadata": create(b'"metadata":{"a":NaN}'),
    "a lone surrogate": create(b'"phone":"\\ud800"'),
    "a lone surrogate as bytes": create(b'"phone":"\xed\xa0\x80"'),
    "a lone surrogate as a name": create(b'"\\udfff":"x"'),
    "a lone surrogate as a name in metadata": create(b'"metadata":{"\\udfff":"x"}'),
    "NUL": create(b'"phone":"\\u0000"'),
    "NUL in a question": create(b'"questions":["a\\u0000b"]'),
    "NUL as it is": create(b'"phone":"\0"'),
    "NUL as a name in metadata": create(b'"metadata":{"a\\u0000":"x"}'),
    "a name twice": create(b'"name":"B"'),
    "a name twice further in": create(b'"metadata":{"a":"1","a":"2"}'),
    "a byte order mark": ("/create", b"\xef\xbb\xbf" + FIELDS + b"}"),
    "UTF-16": ("/create", (FIELDS + b"}").decode().encode("utf-16")),
    "UTF-16 without a mark": ("/create", (FIELDS + b"}").decode().encode("utf-16-be")),
    "UTF-32": ("/create", (FIELDS + b"}").decode().encode("utf-32")),
    "Latin-1": create('"phone":"\xe9"'.encode("latin-1")),
    "two documents": ("/create", FIELDS + b"}" + FIELDS + b"}"),
    "a comment": ("/create", FIELDS + b"/* x */}"),
    "a list": ("/create", b"[]"),
    "null": ("/create", b"null"),
    "nothing": ("/create", b""),
    "a gigantic email": ("/create", b'{"name":"A","email":"' + b"a" * 3_000_000 + b'@b.example"}'),
    "a domain of many labels": ("/create", b'{"name":"A","email":"a@' + b"x." * 155 + b'example"}'),
    "a gigantic time": create(b'"scheduled_at":"2026-05-01T09:00:00.' + b"0" * 3_000_000 + b'x"'),
}


async def watched(url: str, path: str, content: bytes, headers: Headers) -> tuple[httpx.Response, float, float]:
    """The answer, the seconds until it was there, and the longest that somebody else waited meanwhile."""
    async with (
        httpx.AsyncClient(base_url=url, timeout=30) as http,
        httpx.AsyncClient(base_url=url, timeout=30) as other,
    ):
        await other.get("/healthz")
        longest, done = 0.0, asyncio.Event()

        async def look() -> None:
            nonlocal longest
            while not done.is_set():
                began = time.perf_counter()
                await other.get("/healthz")
                longest = max(longest, time.perf_counter() - began)
                await asyncio.sleep(0.005)

        looking = asyncio.create_task(look())
        began = time.perf_counter()
        answer = await http.post(path, content=content, headers=headers)
        took = time.perf_counter() - began
        done.set()
        await looking
    return answer, took, longest


async def harmless(url: str, path: str, content: bytes, headers: Headers) -> httpx.Response:
    """The answer; it came soon, and nobody else had to wait for long."""
    tries = TRIES
    while True:
        answer, took, held = await watched(url, path, content, headers)
        tries -= 1
        if took < ANSWER_SECONDS and held < HELD_SECONDS:
            return answer
        assert tries, f"{answer.status_code} after {took:.2f} s; somebody else waited {held:.2f} s"


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_body_that_is_a_trap_is_refused_and_holds_up_nobody(url: str, bomb: str) -> None:
    path, content = BOMBS[bomb]
    answer = await harmless(url, BASE + path, content, STAFF | JSON)
    assert 400 <= answer.status_code < 500, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json" and answer.json()["detail"]
    assert len(answer.content) < 60_000


@pytest.mark.parametrize("bomb", BOMBS)
async def test_from_a_stranger_it_is_not_even_looked_into(url: str, bomb: str) -> None:
    path, content = BOMBS[bomb]
    answer = await harmless(url, BASE + path, content, JSON)
    assert answer.status_code == 401 and "pointer" not in answer.text


async def test_many_wrong_items_hold_up_nobody(url: str) -> None:
    items = b",".join([b"{" + names(60) + b"}"] * 900)
    answer = await harmless(url, f"{BASE}/sessions/bulk", b'{"sessions":[' + items + b"]}", STAFF | JSON)
    assert answer.status_code == 200 and answer.json()["failed"] == 900


async def test_the_largest_body_that_is_right_is_taken_and_holds_up_nobody(url: str) -> None:
    body = {**BODY, "questions": ["é" * 9_900] * 200}
    content = json.dumps(body, ensure_ascii=False).encode()
    assert 3_900_000 < len(content) < 4 * 2**20
    answer = await harmless(url, f"{BASE}/create", content, STAFF | JSON)
    assert answer.status_code == 200


async def test_a_large_number_that_is_right_means_what_it_says(url: str) -> None:
    content = FIELDS + b',"questions":["a"],"max_questions":' + b"9" * 4_000 + b"}"
    answer = await harmless(url, f"{BASE}/create", content, STAFF | JSON)
    assert answer.json()["session"]["max_questions"] == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_packed_body_is_not_unpacked(url: str, encoding: str) -> None:
    content = gzip.compress(b"[" + b"0," * 50_000_000 + b"0]")
    headers = {**STAFF, **JSON, "Content-Encoding": encoding}
    for path in (f"{BASE}/create", f"{BASE}/livekit/webhook", "/capture_reference_face"):
        answer = await harmless(url, path, content, headers)
        assert answer.status_code in (400, 401)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"])
async def test_what_another_sites_form_can_send_is_no_json(url: str, kind: str) -> None:
    """Such bodies a browser sends without asking us first."""
    answer = await harmless(url, f"{BASE}/create", FIELDS + b"}", STAFF | {"Content-Type": kind})
    assert answer.status_code == 400


TWO_TYPES = [("application/json", "text/plain"), ("text/plain", "application/json")]


@pytest.mark.parametrize("kinds", TWO_TYPES)
async def test_a_second_content_type_leads_around_nothing(url: str, kinds: tuple[str, str]) -> None:
    """One of us could go by the first, and another by the last."""
    twice, (path, large) = FIELDS + b',"name":"B"}', BOMBS["eight megabytes of objects"]
    both = [("Content-Type", kind) for kind in kinds]
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        answer = await http.post(f"{BASE}/create", content=twice, headers=[*both, *STAFF.items()])
        assert answer.status_code == 400
        assert ("more than once" in answer.text) == (kinds[0] == "application/json")
    stranger = await harmless(url, BASE + path, large, httpx.Headers(both))
    assert stranger.status_code == 401


FORMS = {
    "no end": b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + b"x" * 3_000_000,
    "a gigantic header": b"--b\r\nX-A: " + b"x" * 3_000_000,
    "many headers": b"--b\r\n" + b"X-A: b\r\n" * 300_000,
    "many parts": b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 60_000 + b"--b--",
    "nothing but boundaries": b"--b\r\n" * 600_000,
    "no parts": b"--b--",
    "names within names": b'--b\r\nContent-Disposition: form-data; name="image"; filename="../../x"\r\n\r\nx\r\n--b--',
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_form_that_is_a_trap_holds_up_nobody(url: str, form: str) -> None:
    headers = {**STAFF, "Content-Type": "multipart/form-data; boundary=b"}
    answer = await harmless(url, "/capture_reference_face", FORMS[form], headers)
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("bomb", ["a million lists", "ten thousand deep", "one item with many names", "UTF-16"])
async def test_a_picture_in_json_is_looked_into_in_the_same_way(url: str, bomb: str) -> None:
    answer = await harmless(url, "/capture_reference_face", BOMBS[bomb][1], STAFF | JSON)
    assert answer.status_code == 400


async def test_frames_that_are_traps_hold_up_nobody(url: str) -> None:
    """A candidate sends them as fast as they are taken."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        made = (await http.post(f"{BASE}/create", json=BODY, headers=STAFF)).json()
        where = f"{url.replace('http', 'ws')}/ws/interview?session_id={made['session_id']}"
        async with connect(where, additional_headers=bearer(made["candidate_token"]), proxy=None) as channel:
            for frame in (
                '{"type":"ping",' + names(20_000).decode() + "}",
                '{"type":"proctoring_event","event":{"type":"paste","detail":{' + names(20_000).decode() + "}}}",
                '{"type":' + "[" * 200_000,
                '{"type":"ping","command_id":[' + ",".join(["[]"] * 80_000) + "]}",
                '{"type":"proctoring_event","events":[' + wrong(64).decode() + "]}",
                '{"type":"proctoring_event","events":[' + wrong(16).decode() + "]}",
            ):
                waited: list[float] = []
                for _ in range(TRIES):
                    await channel.send(frame)
                    began = time.perf_counter()
                    assert (await http.get("/healthz")).status_code == 200
                    waited.append(time.perf_counter() - began)
                    while json.loads(await asyncio.wait_for(channel.recv(), 5))["type"] != "error":
                        pass
                    if waited[-1] < HELD_SECONDS:
                        break  # a channel ends after so many bad frames
                assert min(waited) < HELD_SECONDS


def test_commas_and_brackets_in_text_are_no_parts() -> None:
    text: dict[str, Any] = {"questions": ['[{:,\\"' * 1_000] * 200}
    check_json(json.dumps(text).encode())
    many = json.dumps({"questions": [[]] * 10_000}).encode()
    check_json(many, bulk=True)
    with pytest.raises(InvalidInput):
        check_json(many)
