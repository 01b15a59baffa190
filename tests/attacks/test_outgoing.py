"""Webhooks as a way into our own network: addresses in every notation, by name, by redirect, by a name that changes."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.outbound import Caller, Refused, check_url
from tests.attacks.world import STAFF, closed
from tests.unit.api_world import BASE

METADATA = (
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "025177524776",
    "169.254.43518",
    "169.16689662",
    "169.254.169.254.",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b::169.254.169.254]",
    "[2002:a9fe:a9fe::1]",
    "[fd00:ec2::254]",
    "[fe80::a9fe:a9fe%25eth0]",
    "metadata.google.internal",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
)
OURSELVES = ("127.0.0.1", "127.1", "0", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "localhost", "LOCALHOST.")
"""With every port: our own front end, the embedded database, Ray and its dashboard."""
PORTS = ("", ":8005", ":27017", ":6379", ":8265", ":22")
ODD = (
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1#@example.com/",
    "https://127.0.0.1\\@example.com/",
    "https://example.com\\.127.0.0.1/",
    "https://127.0.0.1%2f@example.com/",
    "https://１２７.0.0.1/",
    "https://①②⑦.⓪.⓪.①/",
    "https://example.com\r\nHost: 127.0.0.1/",
    "https://example.com/ HTTP/1.1\r\nX: y",
    "http://127.0.0.1/",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "file:///etc/passwd",
    "unix:///var/run/docker.sock",
    "data:text/plain,x",
    "//127.0.0.1/",
    "https:127.0.0.1",
)


@pytest.mark.parametrize("host", [*METADATA, *OURSELVES])
def test_no_notation_of_a_private_address_is_taken(host: str) -> None:
    for port in PORTS:
        with pytest.raises(InvalidInput):
            check_url(f"https://{host}{port}/latest/meta-data/", private=False)


@pytest.mark.parametrize("url", ODD)
def test_what_two_readers_would_take_for_different_hosts_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_url(url, private=False)


@pytest.mark.parametrize("url", ["https://127%2e0%2e0%2e1/", "https://%31%32%37.0.0.1/", "https://example.com%00/"])
async def test_what_is_only_a_name_because_it_is_encoded_reaches_nothing(url: str) -> None:
    caller = Caller()
    with pytest.raises((Refused, OSError)):
        await caller.post(check_url(url, private=False), "{}", {})
    await caller.close()


async def test_the_api_refuses_them_when_they_are_added_and_when_they_are_changed() -> None:
    async with closed() as world:
        hooks = f"{BASE}/webhooks"
        for host in (*METADATA[:6], *OURSELVES):
            answer = await world.http.post(hooks, json={"url": f"https://{host}/"}, headers=STAFF)
            assert answer.status_code == 400 and answer.json()["errors"][0]["pointer"] == "/url"
        made = await world.http.post(hooks, json={"url": "https://93.184.215.14/"}, headers=STAFF)
        one = f"{hooks}/{made.json()['webhook']['webhook_id']}"
        for host in (*METADATA[:6], *OURSELVES):
            assert (await world.http.patch(one, json={"url": f"https://{host}/"}, headers=STAFF)).status_code == 400


class Door:
    """A server of ours that must not be reached."""

    def __init__(self) -> None:
        self.reached: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reached.append(await reader.read(65_536))
        writer.close()


async def door() -> tuple[Door, asyncio.Server]:
    found = Door()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    return found, server


async def test_a_redirect_to_ourselves_is_not_followed() -> None:
    """Private addresses are allowed here, so that the first request can be made at all."""
    private, server = await door()

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        where = f"http://127.0.0.1:{private.port}/".encode()
        writer.write(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: " + where + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    public = await asyncio.start_server(redirect, "127.0.0.1", 0)
    caller = Caller(private=True)
    answer = await caller.post(f"http://127.0.0.1:{public.sockets[0].getsockname()[1]}/", "{}", {})
    assert answer.status == 307 and private.reached == []
    await caller.close()
    for one in (server, public):
        one.close()


@pytest.mark.parametrize("then", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1"])
async def test_a_name_that_changes_between_the_check_and_the_call(monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    """What is judged is what is connected to: the name is asked for once for each connection, and not again."""
    private, server = await door()
    answers, asked = ["93.184.215.14", then], 0

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        nonlocal asked
        asked += 1
        address = answers[min(asked, len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, private.port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with closed() as world:
        hook = {"url": f"https://rebind.example:{private.port}/"}
        assert (await world.http.post(f"{BASE}/webhooks", json=hook, headers=STAFF)).status_code == 200
    caller = Caller()
    with pytest.raises(Refused, match="not a public address"):
        await caller.post(hook["url"], "{}", {})
    assert private.reached == [] and asked == 2
    await caller.close()
    server.close()


async def test_an_answer_without_end_is_read_only_at_its_beginning() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    caller = Caller(private=True)
    answer = await caller.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", "{}", {}, seconds=5)
    assert answer.status == 200 and len(answer.text) == 4096
    await caller.close()
    server.close()
