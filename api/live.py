"""One live channel: a WebSocket on which a session is followed and, by its candidate, led.

    reads     frames as they come, so that pings are never kept waiting; commands queue up
    works     runs the commands, one after another, and answers them
    follows   the journal, from where the client has seen it; a client that reads slowly is simply behind

What ends one of them ends the channel, with a close code that says what the client can do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from actors.buckets import Buckets
from actors.channels import Channels, Connection
from actors.client import InterviewClient
from actors.clock import wall_ms
from api.client_frames import Received
from api.errors import UNEXPECTED, log_unexpected, members, status_of
from api.schemas import SightingsBody
from orchestrator.errors import Forbidden, InvalidInput, NotFound, OrchestratorError, Retryable, TooManyRequests
from orchestrator.interview import commands
from orchestrator.interview.commands import Caller, Command
from orchestrator.interview.entry import Entry
from orchestrator.interview.fold import fold
from orchestrator.interview.frames import FrameMaker
from orchestrator.interview.state import State
from orchestrator.interview.view import iso
from orchestrator.policies import policy_of

log = logging.getLogger(__name__)

COMPLETED, ABNORMAL, POLICY, NO_ANSWER, RECONNECT = 1000, 1006, 1008, 1011, 1012
BAD_FRAME, BAD_TOKEN, UNKNOWN_SESSION, REPLACED = 4400, 4401, 4404, 4409
TAKEN_FOR_LOST = 4408
"""A client closes a connection so that it believes to be lost; as a rule that does not arrive."""

FRAMES_AT_ONCE, FRAMES_A_SECOND = 40.0, 10.0
MAX_BAD_FRAMES = 20
"""More than good ones."""
MAX_COMMANDS = 32
"""That wait for their turn."""
SEND_SECONDS = 5.0
"""A client that takes in nothing for so long comes back later, and gets then what it has missed."""
LOOK_AGAIN_SECONDS = 10.0
RETRY_SECONDS = 0.5
REVOKED_SECONDS = 5.0
"""How often it is seen whether staff's key is still good."""
TIMER_SECONDS = 0.05
"""How long after a timer of the session something should be in the journal."""
MISSED_AT_ONCE = 200
"""Entries that are read at a time for a client that comes back."""
REASON_BYTES = 123
"""What a close frame has room for."""


class Ended(Exception):
    """The channel is closed with this code, or (`by_peer`) was."""

    def __init__(self, code: int, reason: str = "", *, by_peer: bool = False) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason.encode()[:REASON_BYTES].decode("utf-8", "ignore")
        self.by_peer = by_peer


@dataclass(frozen=True, slots=True)
class Reader:
    """Who is at the other end: staff who look on (`observes`), or the candidate, by the link of this generation."""

    caller: Caller
    generation: int | None
    observes: bool
    page: str | None = None
    is_good: Callable[[], Awaitable[bool]] | None = None
    """Whether staff's key is still good; None: it need not be asked."""


class LiveChannel:
    """One WebSocket that has been let in. `after`: the last event that the client has seen; None: it starts anew."""

    def __init__(
        self,
        socket: WebSocket,
        client: InterviewClient,
        channels: Channels,
        state: State,
        reader: Reader,
        after: int | None,
    ) -> None:
        self._socket = socket
        self._client = client
        self._channels = channels
        self._state = state
        self._session_id = state.session_id
        self._reader = reader
        self._after = after
        self._maker = FrameMaker(reader.caller.role, client.settings.network_credit_ms, policy_of(state))
        self._follower = client.tail.follow(state.session_id, state.seq)
        self._connection: Connection | None = None
        self._commands: asyncio.Queue[Received] = asyncio.Queue(MAX_COMMANDS)
        self._answering: Received | None = None
        self._sending = asyncio.Lock()
        self._pumping = asyncio.Lock()
        self._frames = Buckets(FRAMES_AT_ONCE, FRAMES_A_SECOND)
        self._bad = 0
        self._replaced = asyncio.Event()
        self._greeted = asyncio.Event()
        self._caught_up = asyncio.Event()

    async def run(self, first: str | None = None) -> None:
        """Serve it until it ends. `first`: a frame that has come in already."""
        if not self._reader.observes and self._state.status != "completed":
            self._connection = self._channels.open(self._session_id, self._replaced.set, self._reader.page)
        with self._follower, self._channels.watching(self._session_id, self._reader.observes):
            work = [self._read(first), self._work(), self._follow(), self._until_replaced()]
            if self._reader.is_good is not None:
                work.append(self._until_revoked(self._reader.is_good))
            tasks = [asyncio.create_task(part) for part in work]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = _why([task for task in tasks if task.done()])
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._note_end(ended)
        if not ended.by_peer:
            await self._close(ended)

    def _note_end(self, ended: Ended) -> None:
        connection = self._connection
        if connection is None:
            return
        if ended.code == REPLACED:
            connection.give_way()
        elif ended.code in (NO_ANSWER, TAKEN_FOR_LOST) or (ended.code == RECONNECT and not ended.by_peer):
            connection.lost_sign()
        elif ended.by_peer:
            connection.end({RECONNECT: "server_shutdown", ABNORMAL: "signal_close"}.get(ended.code, "client_initiated"))
        else:
            connection.end("participant_removed")

    async def _close(self, ended: Ended) -> None:
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(RETRY_SECONDS):
                await self._socket.close(ended.code, ended.reason)

    # Reading

    async def _read(self, text: str | None) -> None:
        await self._greeted.wait()
        while True:
            if text is not None:
                await self._take(Received(text))
            text = None
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                code = message.get("code", ABNORMAL)
                if message.get("reason") is not None and code != TAKEN_FOR_LOST:
                    code = COMPLETED  # by a closing handshake: whatever the client says, it has left
                raise Ended(code, by_peer=True)
            text = message.get("text")
            if text is None:
                await self._take(Received(None))

    async def _take(self, received: Received) -> None:
        if self._connection is not None:
            self._connection.heard(ping=received.type == "ping")
        try:
            self._frames.take("")
            if received.error is not None:
                raise received.error
            if received.type == "ping":
                await self._send(self._reply("pong", received))
            elif received.type == "auth":
                raise InvalidInput.at("/type", "auth can only be the first frame, where no token came before it.")
            elif self._commands.full():
                raise TooManyRequests("Too many commands wait to be run; wait for their answers.", retry_after=1)
            else:
                self._commands.put_nowait(received)
            self._bad = max(0, self._bad - 1)
        except OrchestratorError as error:
            self._bad += 1
            await self._send(self._refusal(error, received))
            if self._bad >= MAX_BAD_FRAMES:
                too_many = isinstance(error, TooManyRequests)
                raise (Ended(POLICY, "too many frames") if too_many else Ended(BAD_FRAME, "bad frames")) from None

    # Working

    async def _work(self) -> None:
        await self._caught_up.wait()
        while True:
            received = await self._commands.get()
            self._answering = received
            try:
                reply = await self._run(received)
            except OrchestratorError as error:
                reply = self._refusal(error, received)
            except Exception as error:
                log_unexpected(error)
                reply = self._reply("error", received) | {"code": "internal_error", "detail": UNEXPECTED, "status": 500}
            with contextlib.suppress(OrchestratorError):
                await self._pump()  # what it caused comes before the answer
            await self._send(reply)
            self._answering = None

    async def _run(self, received: Received) -> dict[str, Any]:
        caller, frame = self._reader.caller, received.frame
        if self._reader.observes:
            raise Forbidden("Observers look on; commands of staff go by REST.")
        if received.type == "draft":
            saved = await self._client.draft(
                self._session_id, frame.question_index, frame.draft, frame.revision, caller
            )
            return self._reply("draft_saved", received) | {"question_index": frame.question_index, **saved}
        if isinstance(frame, SightingsBody):
            key = received.command_id
            identity = frame.identity(caller, key) if key is not None else None
            reply = await self._client.note(self._session_id, frame.seen("page", wall_ms()), caller, identity)
        else:
            command = _command(received)
            reply = await self._client.send(self._session_id, command, caller, received.command_id)
        more = {"command": received.type, "replayed": reply.replayed, "version": reply.version}
        return self._reply("ok", received) | more

    # Following

    async def _follow(self) -> None:
        draft = None if self._reader.observes else await self._draft()
        await self._send(self._maker.state(self._state, wall_ms()) | {"draft": draft})
        self._greeted.set()
        await self._send_missed()
        self._caught_up.set()
        while True:
            try:
                await self._pump()
            except Retryable as error:
                log.debug("a journal cannot be read", extra={"reason": error.code})
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if self._state.status == "completed":
                await self._until_idle()
                raise Ended(COMPLETED, "the interview is completed")
            await self._follower.wait(self._seconds_to_next_timer())

    async def _draft(self) -> dict[str, Any] | None:
        """What is kept of the open question's answer: another device, or this one before, may have sent it."""
        kept = await self._client.store.draft_of(self._session_id) if self._state.open is not None else None
        if kept is None or self._state.open is None or kept.question_index != self._state.open.index:
            return None
        return {"question_index": kept.question_index, "text": kept.text, "revision": kept.revision}

    async def _send_missed(self) -> None:
        """What came after the event that the client has seen last, up to where the state stands."""
        if self._after is None or self._after >= self._state.seq:
            return
        after = self._after
        while after < self._state.seq:
            entries = await self._client.store.entries_beyond(self._session_id, after, MISSED_AT_ONCE)
            for entry in entries:
                if entry.seq <= self._state.seq:
                    await self._tell(entry, after)
            after = entries[-1].last_seq if entries else self._state.seq

    async def _pump(self) -> None:
        """Send what the journal has got since it was read last."""
        async with self._pumping:
            self._follower.about_to_read()
            for entry in await self._client.store.entries(self._session_id, self._state.seq, 0):
                if entry.tombstone or entry.erased:
                    raise Ended(UNKNOWN_SESSION, "the session was deleted")
                self._state = fold(self._state, entry)
                self._follower.seq = self._state.seq
                await self._tell(entry)
                self._look_for_an_end(entry)
            if self._connection is not None and self._connection.name in self._state.presence.gone:
                raise Ended(RECONNECT, "taken for lost")  # under this name it would not be noticed to be lost again
            if self._state.status == "completed":
                self._follower.wake()  # whoever was the first to see it

    def _look_for_an_end(self, entry: Entry) -> None:
        """Somebody else may have come in the place of this connection, or its link may be good no more."""
        generation = self._reader.generation
        if generation is not None and generation != self._state.link_generation:
            raise Ended(BAD_TOKEN, "this link was replaced by a newer one")
        if self._connection is None:
            return
        opened = [e["connection"] for e in entry.content()["events"] if e["type"] == "channel_opened"]
        presence, name = self._state.presence, self._connection.name
        if opened and opened[-1] != name and name in (*presence.replaced, *presence.gone):
            raise Ended(REPLACED, "a newer connection took over")

    async def _tell(self, entry: Entry, after: int = 0) -> None:
        for frame in self._maker.frames(entry, self._state, wall_ms(), after):
            if frame["type"] == "answer_saved" and self._has_caused(entry):
                assert self._answering is not None
                frame["command_id"] = self._answering.command_id
            await self._send(frame)

    def _has_caused(self, entry: Entry) -> bool:
        """Whether an entry is of the command that is being answered here."""
        received = self._answering
        if received is None or received.command_id is None or received.type != "answer":
            return False
        command = entry.content()["command"]
        key = commands.command_key(self._reader.caller, _command(received), received.command_id)
        return command is not None and command[0] == key

    def _seconds_to_next_timer(self) -> float:
        due_at = self._state.due_at
        left = LOOK_AGAIN_SECONDS if due_at is None else (due_at - wall_ms()) / 1000 + TIMER_SECONDS
        return min(left, LOOK_AGAIN_SECONDS) if left > 0 else LOOK_AGAIN_SECONDS

    async def _until_idle(self) -> None:
        """Until the commands that have come in are answered."""
        while self._answering is not None or not self._commands.empty():
            await asyncio.sleep(0.01)

    async def _until_replaced(self) -> None:
        await self._replaced.wait()
        raise Ended(REPLACED, "a newer connection took over")

    async def _until_revoked(self, is_good: Callable[[], Awaitable[bool]]) -> None:
        while await is_good():
            await asyncio.sleep(REVOKED_SECONDS)
        raise Ended(BAD_TOKEN, "this key is good no more")

    # Sending

    async def _send(self, frame: dict[str, Any]) -> None:
        frame = {"server_time": iso(wall_ms()), **frame}
        text = json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
        try:
            async with asyncio.timeout(SEND_SECONDS), self._sending:
                await self._socket.send_text(text)
        except TimeoutError:
            raise Ended(RECONNECT, "too slow") from None
        except (WebSocketDisconnect, RuntimeError):
            return  # it has closed; why is what is read next

    def _reply(self, kind: str, received: Received) -> dict[str, Any]:
        reply = {"type": kind}
        return reply if received.command_id is None else reply | {"command_id": received.command_id}

    def _refusal(self, error: OrchestratorError, received: Received) -> dict[str, Any]:
        refusal = self._reply("error", received) | {
            "code": error.code,
            "detail": error.detail,
            **members(error),
        }
        if isinstance(error, Retryable):
            refusal["retry_after"] = error.retry_after
        return refusal | {"status": status_of(error)}


def _command(received: Received) -> Command:
    frame = received.frame
    if received.type == "start":
        return commands.Start()
    if received.type == "end":
        return commands.End()
    return commands.Answer(frame.question_index, frame.answer, frame.language)


def _why(done: list[asyncio.Task[None]]) -> Ended:
    """Why the channel ends: the first reason counts. What nobody has foreseen is ours, and the client comes back."""
    found = Ended(RECONNECT, "something went wrong here")
    for task in done:
        error = task.exception()
        if isinstance(error, Ended):
            return error
        if isinstance(error, NotFound):
            found = Ended(UNKNOWN_SESSION, "the session was deleted")
        elif error is not None and not isinstance(error, Retryable):
            log_unexpected(error)
    return found
