"""Clients that are slow on purpose, over real sockets: they are dropped, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from api import patience
from api.patience import PatientProtocol
from orchestrator.storage.embedded import free_port

pytestmark = [pytest.mark.services, pytest.mark.timeout(30)]

LARGE = 2**26


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers shortly, or (at /large) with more than any buffer takes."""
    pieces = LARGE // 2**16 if scope["path"] == "/large" else 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(pieces):
        await send({"type": "http.response.body", "body": b"x" * 2**16, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(patience, "HEAD_SECONDS", 0.4)
    monkeypatch.setattr(patience, "STUCK_SECONDS", 0.4)
    port = free_port()
    config = uvicorn.Config(application, port=port, lifespan="off", log_level="error", http=PatientProtocol)
    server = uvicorn.Server(config)
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, server, "should_exit", True)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        yield port
    await serving


async def _until_dropped(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), 5)
    return b""


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n"])
async def test_a_head_that_does_not_come_is_not_waited_for(port: int, begun: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begun)
    assert await _until_dropped(reader) == b""
    writer.close()


async def test_a_head_that_comes_a_byte_at_a_time_is_not_waited_for(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    with contextlib.suppress(ConnectionError):
        for _ in range(40):
            writer.write(b"a: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)
    assert await _until_dropped(reader) == b""
    writer.close()


async def test_a_head_of_unusual_size_is_refused(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for n in range(200):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" if n == 0 else b"a: " + b"b" * 1000 + b"\r\n")
            await writer.drain()
    assert await _until_dropped(reader) == b""
    writer.close()


async def test_requests_on_a_kept_connection_have_their_own_time(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    for _ in range(3):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
        assert b"200 OK" in answer
        await asyncio.sleep(0.5)  # longer than a head may take: between requests there is more time
    writer.close()


async def test_an_answer_that_is_not_taken_in_is_given_up(port: int) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(1.5)
    took = 0
    with contextlib.suppress(ConnectionError):
        while data := await asyncio.wait_for(loop.sock_recv(sock, 2**20), 5):
            took += len(data)
    assert took < LARGE / 2, "what was on its way came, and then no more"
    sock.close()
