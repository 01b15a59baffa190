"""A client of the live channel for tests and benchmarks, which can also be a bad peer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.typing import Origin

Found = TypeVar("Found")

OPEN_SECONDS = 15.0
REPLY_SECONDS = 15.0
REPLIES = frozenset({"ok", "error", "draft_saved", "pong"})


class Gone(AssertionError):
    """The channel was closed while something was waited for."""


class Peer(ClientConnection):
    """A connection that reads everything and, while it is deaf, answers no ping."""

    deaf = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        send = self.protocol.send_frame

        def send_unless_deaf(frame: Frame) -> None:
            if not (self.deaf and frame.opcode is Opcode.PONG):
                send(frame)

        setattr(self.protocol, "send_frame", send_unless_deaf)  # noqa: B010


class Channel:
    """One connection to `/ws/interview`. Everything that comes is kept, in order.

    `url`: of the service, with http or ws. `auth_frame`: the token goes in the first frame, else in the query.
    `receive_buffer`: bytes of SO_RCVBUF. `compress`: offer permessage-deflate.
    """

    def __init__(
        self,
        url: str,
        session_id: str,
        token: str | None = None,
        role: str = "",
        after: int | None = None,
        auth_frame: bool = True,
        *,
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        receive_buffer: int | None = None,
        compress: bool = True,
    ) -> None:
        query: dict[str, str] = {"session_id": session_id}
        query |= {"role": role} if role else {}
        query |= {"after": str(after)} if after is not None else {}
        query |= {"token": token} if token is not None and not auth_frame else {}
        self._uri = f"{url.rstrip('/').replace('http', 'ws', 1)}/ws/interview?{urlencode(query)}"
        self._first = {"type": "auth", "token": token} if token is not None and auth_frame else None
        self._after = after
        self._headers = dict(headers or {})
        self._origin = None if origin is None else Origin(origin)
        self._receive_buffer = receive_buffer
        self._compress = compress
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._looked_at = 0
        self.frames: list[dict[str, Any]] = []
        self.raw: list[str] = []
        """The text of each frame."""
        self.came_at: list[float] = []
        """When each frame came, by time.monotonic()."""
        self.closed: int | None = None
        """The close code; 1006 if it went without one. None while it is open."""
        self.reason = ""

    @property
    def seqs(self) -> list[int]:
        """The seqs of all events that came, in the order in which they came."""
        return [frame["seq"] for frame in self.frames if "seq" in frame]

    @property
    def last_seq(self) -> int:
        """What to come back with as `after`: the last event's seq; without one what this came with as `after`, and
        without that what the first state was made from."""
        if seqs := self.seqs:
            return seqs[-1]
        if self._after is not None:
            return self._after
        return next((frame["as_of"] for frame in self.frames if frame["type"] == "state"), 0)

    @property
    def connection(self) -> ClientConnection:
        assert self._connection is not None, "not connected"
        return self._connection

    async def connect(self) -> Self:
        """Open it and begin to read. Raises InvalidStatus if the handshake is refused."""
        more: dict[str, Any] = {}
        if self._receive_buffer is not None:
            more["sock"] = await self._small_socket(self._receive_buffer)
        self._connection = await connect(
            self._uri,
            origin=self._origin,
            additional_headers=self._headers,
            compression="deflate" if self._compress else None,
            create_connection=Peer,
            proxy=None,
            open_timeout=OPEN_SECONDS,
            close_timeout=2,
            ping_interval=None,
            max_size=None,
            max_queue=None,
            **more,
        )
        self._reader = asyncio.create_task(self._read())
        if self._first is not None:
            with contextlib.suppress(Gone):  # refused without having been asked who it is
                await self.send_text(json.dumps(self._first))
        return self

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, code: int = 1000) -> None:
        """Go with a closing handshake, if it is still open."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                await self._connection.close(code)
        await self._ended()

    async def abort(self) -> None:
        """Go without a closing handshake."""
        self.connection.transport.abort()
        await self._ended()

    def deafen(self) -> None:
        """From now on answer no pings, but read."""
        assert isinstance(self.connection, Peer)
        self.connection.deaf = True

    def freeze(self) -> None:
        """Read nothing more, so that pings find no answer either; TCP stays up."""
        self.connection.transport.pause_reading()

    def thaw(self) -> None:
        """Read on."""
        if self._connection is not None:
            with contextlib.suppress(RuntimeError):
                self._connection.transport.resume_reading()

    @property
    def ports(self) -> tuple[int, int]:
        """The server's and our port, by which /proc/net/tcp knows the connection."""
        own, peer = self.connection.local_address, self.connection.remote_address
        return peer[1], own[1]

    # -- sending

    async def send(self, type: str, **members: Any) -> str:
        """Send a command and return its id: the one that is given as `command_id`, else a fresh one."""
        members.setdefault("command_id", str(uuid.uuid4()))
        await self.send_text(json.dumps({"type": type, **members}))
        return members["command_id"]

    async def call(self, type: str, seconds: float = REPLY_SECONDS, **members: Any) -> dict[str, Any]:
        """Send a command and wait for its reply: `ok`, `draft_saved`, `pong` or `error`."""
        began = len(self.frames)
        command_id = await self.send(type, **members)
        return await self.reply(command_id, seconds, began)

    async def send_text(self, text: str) -> None:
        """A text frame, whatever is in it."""
        try:
            await self.connection.send(text)
        except ConnectionClosed as error:
            raise Gone(f"closed with {self.closed}: {self.reason}") from error

    async def send_bytes(self, data: bytes) -> None:
        """A binary frame."""
        try:
            await self.connection.send(data)
        except ConnectionClosed as error:
            raise Gone(f"closed with {self.closed}: {self.reason}") from error

    # -- waiting

    async def next(self, type: str, seconds: float = REPLY_SECONDS, **members: Any) -> dict[str, Any]:
        """The next frame of that type with those members, after the one that was waited for last."""

        def found() -> dict[str, Any] | None:
            for number in range(self._looked_at, len(self.frames)):
                frame = self.frames[number]
                if frame["type"] == type and all(frame.get(name) == value for name, value in members.items()):
                    self._looked_at = number + 1
                    return frame
            return None

        return await self.until(found, seconds, f"a frame {type} {members or ''}")

    async def reply(self, command_id: str, seconds: float = REPLY_SECONDS, began: int = 0) -> dict[str, Any]:
        """The reply to a command that was sent; frames before `began` are not looked at."""
        seen = began

        def found() -> dict[str, Any] | None:
            nonlocal seen
            while seen < len(self.frames):
                frame = self.frames[seen]
                seen += 1
                if frame["type"] in REPLIES and frame.get("command_id") == command_id:
                    return frame
            return None

        return await self.until(found, seconds, f"the reply to {command_id}")

    async def until(self, condition: Callable[[], Found | None], seconds: float, what: str) -> Found:
        """Wait until what has come makes the condition true. Raises Gone, or AssertionError after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while not (found := condition()):
                    if self.closed is not None:
                        raise Gone(f"closed with {self.closed} {self.reason!r} before {what} came; {self._tail()}")
                    self._news.clear()
                    await self._news.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"{what} did not come within {seconds:g} s; {self._tail()}") from None

    async def wait_closed(self, seconds: float) -> int:
        """The code with which it is closed."""
        assert self._reader is not None
        done, _ = await asyncio.wait([self._reader], timeout=seconds)
        assert done, f"not closed within {seconds:g} s; {self._tail()}"
        assert self.closed is not None
        return self.closed

    def of(self, *types: str) -> list[dict[str, Any]]:
        """All frames of these types."""
        return [frame for frame in self.frames if frame["type"] in types]

    def _tail(self) -> str:
        return f"the last of {len(self.raw)} frames: {[text[:300] for text in self.raw[-4:]]}"

    async def _read(self) -> None:
        connection = self.connection
        try:
            async for text in connection:
                assert isinstance(text, str), "a binary frame from the server"
                self.came_at.append(time.monotonic())
                self.raw.append(text)
                self.frames.append(json.loads(text))
                self._news.set()
        except ConnectionClosed:
            pass
        finally:
            self.closed = connection.close_code or 1006
            self.reason = connection.close_reason or ""
            self._news.set()

    async def _ended(self) -> None:
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=5)
            self._reader.cancel()

    async def _small_socket(self, size: int) -> socket.socket:
        """A connected socket whose buffer was small before its window was offered."""
        where = urlsplit(self._uri)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (where.hostname or "127.0.0.1", where.port or 80))
        return sock
