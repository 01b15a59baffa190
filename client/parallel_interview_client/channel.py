"""The live channel: what `protocol.py` says is to be done is done here, on websockets.

`AsyncChannel` has three tasks: one holds the connection and reads, one writes, one wakes the machine in time. `Channel`
is the same for programs without asyncio: it runs an AsyncChannel in a thread of its own.

Frames wait in memory until they are taken. An interview has some hundreds of them.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from parallel_interview_client.errors import ChannelClosed, ClientError, Ended
from parallel_interview_client.protocol import Action, CommandType, Drop, Machine, Role, Send, Settle, Show
from parallel_interview_client.types import Frame, Reply, Sighting

T = TypeVar("T")

LIMIT_SECONDS = 120.0
OPEN_SECONDS = 10.0
CLOSE_SECONDS = 1.0
LARGEST_FRAME = 2**26
LOST = 1006
QUIET = (Ended.COMPLETED, Ended.BY_US)
"""Ends that are no error to whoever iterates."""


class Socket(Protocol):
    """What is needed of a connection of websockets."""

    @property
    def close_code(self) -> int | None: ...

    @property
    def close_reason(self) -> str | None: ...

    async def recv(self) -> str | bytes: ...

    async def send(self, message: str) -> None: ...

    async def close(self, code: int = 1000) -> None: ...


async def open_socket(address: str) -> Socket:
    return await connect(
        address,
        open_timeout=OPEN_SECONDS,
        close_timeout=CLOSE_SECONDS,
        ping_interval=None,  # the channel has a heartbeat of its own
        max_size=LARGEST_FRAME,
    )


class AsyncChannel:
    """One interview as it happens, for use in an `async with`; iterate over it for its frames.

    It comes back by itself when the connection is lost: every event is shown once, in order, and every command that was
    not answered is sent again under its own id. The iteration ends when the interview is completed, and raises
    ChannelClosed for any other end that is not ours. `elsewhere`: other front ends to try when one is lost.
    """

    def __init__(
        self,
        url: str,
        session_id: str,
        token: str | None = None,
        role: Role = "",
        after: int | None = None,
        *,
        elsewhere: Sequence[str] = (),
        limit_seconds: float = LIMIT_SECONDS,
        opening: Callable[[str], Awaitable[Socket]] = open_socket,
    ) -> None:
        self._begin = lambda now: Machine([url, *elsewhere], session_id, token, role, after, now, limit_seconds)
        self._opening = opening
        self._frames: deque[Frame] = deque()
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._socket: Socket | None = None
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._machine = self._begin(self._loop.time())
        self._news, self._changed = asyncio.Event(), asyncio.Event()
        self._tasks = [asyncio.create_task(self._connect()), asyncio.create_task(self._tick())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave, with a closing handshake. Commands that were not answered raise ChannelClosed."""
        self._do(self._machine.close())
        _, left = await asyncio.wait(self._tasks, timeout=2 * CLOSE_SECONDS)
        for task in left:
            task.cancel()

    @property
    def ended(self) -> ChannelClosed | None:
        """Why it is over; None while it is not."""
        return self._machine.ended

    # --- reading

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        try:
            return await self.receive()
        except ChannelClosed as closed:
            if closed.why in QUIET:
                raise StopAsyncIteration from None
            raise

    async def receive(self, timeout: float | None = None) -> Frame:
        """The next frame that is no reply to a command. Raises TimeoutError, or ChannelClosed after the last one."""
        async with asyncio.timeout(timeout):
            while not self._frames:
                if self._machine.ended is not None:
                    raise self._machine.ended
                self._news.clear()
                await self._news.wait()
        return self._frames.popleft()

    # --- commands: each returns when it is durable, however often it has to be sent

    async def start(self, *, command_id: str | None = None) -> Reply:
        return await self.command("start", command_id=command_id)

    async def answer(
        self, question_index: int, answer: str, language: str | None = None, *, command_id: str | None = None
    ) -> Reply:
        more = {} if language is None else {"language": language}
        return await self.command("answer", command_id, question_index=question_index, answer=answer, **more)

    async def draft(
        self, question_index: int, draft: str, revision: int | None = None, *, command_id: str | None = None
    ) -> Reply:
        more = {} if revision is None else {"revision": revision}
        return await self.command("draft", command_id, question_index=question_index, draft=draft, **more)

    async def proctoring_event(self, *events: Sighting, command_id: str | None = None) -> Reply:
        """At most 100 events."""
        return await self.command("proctoring_event", command_id, events=list(events))

    async def end(self, *, command_id: str | None = None) -> Reply:
        return await self.command("end", command_id)

    async def command(self, kind: CommandType, command_id: str | None = None, **members: object) -> Reply:
        """The reply. Raises ApiError if it was refused, Unreachable, or ChannelClosed."""
        name = command_id or str(uuid.uuid4())
        reply = self._loop.create_future()
        self._waiting[name] = reply
        self._do(self._machine.command(kind, members, name, self._loop.time()))
        return await reply

    # --- the tasks

    async def _connect(self) -> None:
        machine = self._machine
        while machine.ended is None:
            await self._until_time_to_connect()
            if machine.ended is not None:
                return
            try:
                socket = await self._opening(machine.address)
            except Exception as error:  # whatever it is, it is told when the limit has run out
                self._do(machine.closed(LOST, f"{type(error).__name__} {error}".strip(), self._loop.time()))
            else:
                await self._converse(socket)

    async def _until_time_to_connect(self) -> None:
        while self._machine.ended is None and (left := self._machine.connect_at - self._loop.time()) > 0:
            await asyncio.sleep(min(left, CLOSE_SECONDS))

    async def _converse(self, socket: Socket) -> None:
        """Read until the connection has ended."""
        self._outgoing = asyncio.Queue()
        writer = asyncio.create_task(_write(socket, self._outgoing))
        self._socket = socket
        self._do(self._machine.connected(self._loop.time()))
        try:
            while self._socket is socket:
                self._do(self._machine.received(await socket.recv(), self._loop.time()))
        except ConnectionClosed:
            pass
        finally:
            writer.cancel()
            if self._socket is socket:
                self._socket = None
                self._do(self._machine.closed(socket.close_code or LOST, socket.close_reason or "", self._loop.time()))
            await socket.close()

    async def _tick(self) -> None:
        while self._machine.ended is None:
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._machine.wake_at):
                    await self._changed.wait()
            except TimeoutError:
                self._do(self._machine.tick(self._loop.time()))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(text):
                    self._outgoing.put_nowait(text)
                case Show(frame):
                    self._frames.append(frame)
                case Settle(command_id, outcome):
                    self._settle(command_id, outcome)
                case Drop(code):
                    socket, self._socket = self._socket, None
                    if socket is not None:
                        self._tasks.append(asyncio.create_task(socket.close(code)))
        self._news.set()
        self._changed.set()

    def _settle(self, command_id: str, outcome: Reply | ClientError) -> None:
        waiting = self._waiting.pop(command_id, None)
        if waiting is None or waiting.done():
            return
        if isinstance(outcome, ClientError):
            waiting.set_exception(outcome)
        else:
            waiting.set_result(outcome)


async def _write(socket: Socket, outgoing: asyncio.Queue[str]) -> None:
    try:
        while True:
            await socket.send(await outgoing.get())
    except ConnectionClosed:
        pass  # whoever reads sees it too


class Channel:
    """As AsyncChannel, for programs without asyncio: for use in a `with`. May be used by many threads."""

    def __init__(
        self,
        url: str,
        session_id: str,
        token: str | None = None,
        role: Role = "",
        after: int | None = None,
        *,
        elsewhere: Sequence[str] = (),
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        self._make = lambda: AsyncChannel(
            url, session_id, token, role, after, elsewhere=elsewhere, limit_seconds=limit_seconds
        )

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="live channel", daemon=True)
        self._thread.start()
        self._channel = self._make()
        self._run(self._channel.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self._channel.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(OPEN_SECONDS)
            self._loop.close()

    @property
    def ended(self) -> ChannelClosed | None:
        """Why it is over; None while it is not."""
        return self._channel.ended

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        try:
            return self.receive()
        except ChannelClosed as closed:
            if closed.why in QUIET:
                raise StopIteration from None
            raise

    def receive(self, timeout: float | None = None) -> Frame:
        """The next frame that is no reply to a command. Raises TimeoutError, or ChannelClosed after the last one."""
        return self._run(self._channel.receive(timeout))

    def start(self, *, command_id: str | None = None) -> Reply:
        return self._run(self._channel.start(command_id=command_id))

    def answer(
        self, question_index: int, answer: str, language: str | None = None, *, command_id: str | None = None
    ) -> Reply:
        return self._run(self._channel.answer(question_index, answer, language, command_id=command_id))

    def draft(
        self, question_index: int, draft: str, revision: int | None = None, *, command_id: str | None = None
    ) -> Reply:
        return self._run(self._channel.draft(question_index, draft, revision, command_id=command_id))

    def proctoring_event(self, *events: Sighting, command_id: str | None = None) -> Reply:
        """At most 100 events."""
        return self._run(self._channel.proctoring_event(*events, command_id=command_id))

    def end(self, *, command_id: str | None = None) -> Reply:
        return self._run(self._channel.end(command_id=command_id))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()
            raise
