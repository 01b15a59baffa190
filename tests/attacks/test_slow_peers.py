"""Connections that say little, slowly, or for ever; and requests that two readers would take for different ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time

import httpx
import pytest

from api.rates import LARGE_AT_ONCE
from tests.attacks.world import STAFF
from tests.unit.api_world import BASE

pytestmark = pytest.mark.services

DROPPED_SECONDS = 5.0
"""The front end here waits one or two seconds where others wait 15 to 120."""
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
KEYED = f"X-API-Key: {STAFF['X-API-Key']}\r\n".encode()


class Peer:
    """A bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def at(cls, url: str) -> Peer:
        return cls(*await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1])))

    async def send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def answer(self, seconds: float = 5.0) -> bytes:
        """What comes first; b"" if the connection is closed instead."""
        try:
            return await asyncio.wait_for(self._reader.read(65_536), seconds)
        except ConnectionError:
            return b""

    async def dropped(self, say: bytes = b"", every: float = 0.2) -> bool:
        """Whether it is closed soon, whatever it says every now and then."""
        give_up = time.monotonic() + DROPPED_SECONDS
        while time.monotonic() < give_up:
            with contextlib.suppress(TimeoutError):
                if await self.answer(every) == b"":
                    return True
            await self.send(say)
        return False

    def close(self) -> None:
        self._writer.close()


SLOW_HEADS = {
    "nothing": (b"", b""),
    "a letter at a time": (b"GET / HTTP/1.1\r\nX-A: ", b"a"),
    "a header at a time": (b"GET / HTTP/1.1\r\n", b"X-A: a\r\n"),
    "no method": (b"", b"\r\n"),
    "nothing after an answer, but line ends": (GET, b"\r\n"),
    "half a request after an answer": (GET + b"GET /", b"x"),
    "the rest of a body that was refused": (
        b"POST /capture_reference_face HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9999\r\n\r\n",
        b"a",
    ),
}


@pytest.mark.parametrize("how", SLOW_HEADS)
async def test_a_connection_on_which_no_request_comes_is_dropped(impatient: str, how: str) -> None:
    first, then = SLOW_HEADS[how]
    peer = await Peer.at(impatient)
    await peer.send(first)
    if first.startswith((b"GET /healthz", b"POST")):
        assert (await peer.answer()).startswith(b"HTTP/1.1 ")
    assert await peer.dropped(then)


@pytest.mark.parametrize("framing", ["Content-Length: 9999", "Transfer-Encoding: chunked"])
async def test_a_body_that_trickles_is_given_up(impatient: str, framing: str) -> None:
    peer = await Peer.at(impatient)
    head = f"POST {BASE}/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{framing}\r\n\r\n".encode()
    await peer.send(head + KEYED)
    piece, answer = (b"a" if framing.startswith("Content") else b"1\r\na\r\n"), b""
    give_up = time.monotonic() + DROPPED_SECONDS
    while time.monotonic() < give_up and not answer:
        await peer.send(piece)
        with contextlib.suppress(TimeoutError):
            answer = await peer.answer(0.2)
    assert answer.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400")), answer
    peer.close()


def post(path: str, rest: str) -> bytes:
    """The head of a request with JSON."""
    return f"POST {BASE}{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{rest}\r\n".encode()


KEYED_HEAD = KEYED.decode() + "Content-Length: 4000000\r\n"
A_CHUNK = b"4e20\r\n" + b"x" * 20_000 + b"\r\n"


@pytest.mark.parametrize("key", ["", "X-API-Key: wrong\r\n"])
async def test_a_strangers_large_body_is_not_read(url: str, key: str) -> None:
    """It would be held until the last of it is there."""
    for head, sent in (("Content-Length: 8000000\r\n", b"{"), ("Transfer-Encoding: chunked\r\n", A_CHUNK * 5)):
        peer = await Peer.at(url)
        await peer.send(post("/sessions/bulk", key + head) + sent)
        assert (await peer.answer()).startswith(b"HTTP/1.1 401")
        peer.close()


@pytest.mark.parametrize("what", ["/answer", "/proctoring/frame"])
async def test_a_candidate_has_few_large_bodies_under_way(url: str, what: str) -> None:
    """Each is held until the last of it is there."""
    async with httpx.AsyncClient(base_url=url, headers=STAFF) as staff:
        made = (await staff.post(f"{BASE}/create", json={"name": "Ada", "email": "a@example.com"})).json()
    bearer = f"Authorization: Bearer {made['candidate_token']}\r\n"
    head = post(f"/session/{made['session_id']}{what}", f"{bearer}Content-Length: 900000\r\n")

    async def sends() -> Peer:
        peer = await Peer.at(url)
        await peer.send(head + b"x" * 100_000)
        return peer

    waiting = [await sends() for _ in range(LARGE_AT_ONCE)]
    await asyncio.sleep(0.5)
    fifth = await sends()
    assert (await fifth.answer()).startswith(b"HTTP/1.1 429")
    waiting[0].close()
    await asyncio.sleep(0.5)
    waiting[0] = await sends()
    with pytest.raises(TimeoutError):
        await waiting[0].answer(0.5)
    for peer in (fifth, *waiting):
        peer.close()


async def test_a_body_that_stops_is_given_up_however_much_of_it_came(impatient: str) -> None:
    peer = await Peer.at(impatient)
    await peer.send(post("/create", KEYED_HEAD) + b"x" * 2_000_000)
    assert (await peer.answer()).startswith(b"HTTP/1.1 408")
    peer.close()


async def test_no_body_takes_for_ever_however_fast_it_comes(impatient: str) -> None:
    peer, answer = await Peer.at(impatient), b""
    await peer.send(post("/create", KEYED_HEAD))
    give_up = time.monotonic() + DROPPED_SECONDS
    while time.monotonic() < give_up and not answer:
        await peer.send(b"x" * 20_000)
        with contextlib.suppress(TimeoutError):
            answer = await peer.answer(0.1)
    assert answer.startswith(b"HTTP/1.1 408"), answer
    peer.close()


@pytest.mark.parametrize("head", [b"GET /" + b"a" * 200_000, b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 30_000])
async def test_a_head_beyond_all_measure_is_dropped(url: str, head: bytes) -> None:
    peer = await Peer.at(url)
    await peer.send(head)
    assert await peer.dropped(b"X-A: b\r\n")


async def test_many_idle_connections_keep_nobody_out(impatient: str) -> None:
    peers = await asyncio.gather(*(Peer.at(impatient) for _ in range(400)))
    async with httpx.AsyncClient(base_url=impatient) as http:
        began = time.monotonic()
        assert (await http.get("/healthz")).status_code == 200 and time.monotonic() - began < 1
        assert all(await asyncio.gather(*(peer.dropped() for peer in peers))), "and they are all let go"


async def test_a_client_that_takes_no_answer_is_let_go(url: str) -> None:
    """It asks for more and more, and reads nothing: what is written for it is bounded, and others are answered."""
    peer = await Peer.at(url)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(peer.send((b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n") * 200_000), 2)
    async with httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/healthz")).status_code == 200
    peer.close()


TWO_READINGS = {
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET,
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + GET,
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "a length with a sign": b"Content-Length: +5\r\n\r\nabcde",
    "a length in hexadecimal": b"Content-Length: 0x5\r\n\r\nabcde",
    "a length beyond numbers": b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\nabcde",
    "a length with a space": b"Content-Length : 5\r\n\r\nabcde",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"X-A: a\r\n b\r\n\r\n",
    "a bare CR": b"X-A: a\rSet-Cookie: b\r\n\r\n",
    "NUL in a header": b"X-A: a\0b\r\n\r\n",
    "bad chunks": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a negative chunk": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
}


@pytest.mark.parametrize("how", TWO_READINGS)
async def test_a_request_that_can_be_read_in_two_ways_is_refused(url: str, how: str) -> None:
    peer = await Peer.at(url)
    await peer.send(f"POST {BASE}/create HTTP/1.1\r\nHost: x\r\n".encode() + KEYED + TWO_READINGS[how])
    answer = await peer.answer()
    assert re.match(rb"HTTP/1\.1 4\d\d ", answer) and answer.count(b"HTTP/1.1") == 1, "nothing of it is a second one"
    assert await peer.dropped()


async def test_a_body_says_nothing_to_whoever_is_next_on_the_connection(url: str) -> None:
    peer = await Peer.at(url)
    body = b'{"a":"GET /sessions HTTP/1.1"}'
    head = f"POST {BASE}/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
    await peer.send(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body + GET)
    answers = b""
    while answers.count(b"HTTP/1.1 ") < 2 or not answers.endswith(b"}"):
        more = await peer.answer()
        assert more, answers
        answers += more
    first, second = answers.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"401") and second.startswith(b"200") and json.loads(second.split(b"\r\n\r\n")[1])
    peer.close()
