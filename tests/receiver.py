"""A receiver of webhooks that can be told to fail, hang, redirect and come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


@dataclass
class Receiver:
    """What came. `mood`: what it does with the next messages; `secrets`: those that it verifies with."""

    url: str = ""
    mood: str = "takes"
    secrets: list[str] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    """Contents of those that were taken, with their `id`."""
    seen: int = 0
    forged: int = 0
    sent: int = 0
    """Bytes of the last answer."""
    headers: dict[str, str] = field(default_factory=dict)

    def of(self, session_id: str) -> list[dict[str, Any]]:
        return [one for one in self.taken if one["data"].get("session_id") == session_id]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                pairs = (line.split(": ", 1) for line in lines[1:] if line)
                self.headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(self.headers.get("content-length", 0)))
                self.seen += 1
                await self._answer(lines[0], body.decode(), writer)
        writer.close()

    async def _answer(self, line: str, body: str, writer: asyncio.StreamWriter) -> None:
        mood = "takes" if line.startswith("GET") else self.mood
        if mood == "hangs":
            await asyncio.sleep(60)
        elif mood == "drops":
            writer.close()
        elif mood == "floods":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
            self.sent = 0
            while not writer.is_closing():
                writer.write(b"x" * 65536)
                await writer.drain()
                self.sent += 65536
        elif mood == "redirects":
            await self._say(writer, "302 Found", f"location: {self.url}/elsewhere\r\n")
        elif mood == "takes":
            self._take(body)
            await self._say(writer, "200 OK")
        else:
            await self._say(writer, mood)

    def _take(self, body: str) -> None:
        for secret in self.secrets:
            with contextlib.suppress(WebhookVerificationError):
                content = Webhook(secret).verify(body, self.headers)
                self.taken.append({"id": self.headers["webhook-id"], **content})
                return
        self.forged += 1

    async def _say(self, writer: asyncio.StreamWriter, status: str, headers: str = "") -> None:
        text = json.dumps({"said": status})
        writer.write(f"HTTP/1.1 {status}\r\n{headers}content-length: {len(text)}\r\n\r\n{text}".encode())
        await writer.drain()


@asynccontextmanager
async def receiving(**changes: Any) -> AsyncIterator[Receiver]:
    """A receiver on a port of this machine."""
    receiver = Receiver(**changes)
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(receiver.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
