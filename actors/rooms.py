"""SessionRooms: sessions and their LiveKit rooms, as a front end needs them: the first room, tokens, and webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from actors.clock import wall_ms
from orchestrator.errors import CommandIdReused, NotFound
from orchestrator.interview.allowed import conflict
from orchestrator.interview.commands import Caller, Command, NoteConnected, NoteDisconnected, NoteRoom
from orchestrator.interview.decide import Event, room_can_wait, room_event
from orchestrator.interview.state import State
from orchestrator.livekit import LiveKit, RoomEvent, RoomState, Ticket
from orchestrator.session import Reply

WEBHOOK_AGE_MS = 60_000
"""LiveKit gives up on a webhook sooner than this; an older time in one is a clock that is wrong."""
LIVEKIT = Caller("livekit", "system")


class Sessions(Protocol):
    """The part of InterviewClient that is needed here."""

    store: Any

    async def read(self, session_id: str) -> State: ...

    async def send(self, session_id: str, command: Command, caller: Caller, command_id: str | None = None) -> Reply: ...


class SessionRooms:
    """`credit_ms`: for how long in all a clock may stand still for lost connections."""

    def __init__(self, livekit: LiveKit, sessions: Sessions, credit_ms: int) -> None:
        self._livekit = livekit
        self._sessions = sessions
        self._credit_ms = credit_ms
        self._tasks: set[asyncio.Task[Any]] = set()

    async def first(self, session_id: str, scheduled_at: int | None) -> Event | None:
        """What is to be written about the room of a session that is being created; None without LiveKit."""
        if not self._livekit.configured:
            return None
        record = self._livekit.records
        if room_can_wait(scheduled_at, wall_ms()):
            return room_event("deferred", self._livekit.public_url, None, record=record)
        room = await self._livekit.open_room(session_id)
        return room_event(room.mode, room.url, room.reason, record=record)

    async def ticket(self, session_id: str, *, observer: bool) -> tuple[RoomState, Ticket | None]:
        """A fresh token for the room, which is made if it is not there; None, with the reason, while it cannot be.

        Raises StateConflict once the session is completed.
        """
        state = await self._sessions.read(session_id)
        if state.status == "completed":
            raise conflict(state, "The interview has ended; there is no room to join.")
        room = await self._livekit.open_room(session_id)
        never_had_one = state.room.mode == "none" and not self._livekit.configured
        if not never_had_one and not state.room.is_noted(room.mode, room.url):
            await self._sessions.send(session_id, NoteRoom(room.mode, room.url, room.reason), LIVEKIT)
        if room.mode == "fallback":
            return room, None
        if observer:
            return room, self._livekit.observer_ticket(session_id)
        return room, self._livekit.candidate_ticket(session_id, state.link_generation)

    async def note(self, event: RoomEvent) -> bool:
        """What LiveKit tells of a room becomes part of its session. False if it means nothing to us.

        Raises a Retryable while the session cannot be reached: LiveKit sends it again, or the Housekeeper sees it.
        """
        if event.session_id is None:
            return False
        try:
            if event.recording is not None:
                await self._sessions.send(event.session_id, event.recording, LIVEKIT, event.id or None)
                return True
            if event.connection is not None and event.type == "participant_joined":
                state = await self._sessions.read(event.session_id)
                if event.link != state.link_generation:
                    self.put_out_soon(event.session_id)
                    return False
            if event.connection is not None and event.type in ("participant_joined", "participant_left"):
                reply = await self._sessions.send(event.session_id, self._command(event), LIVEKIT, event.id or None)
                ended, noted = reply.session["status"] == "completed", True
            elif event.type in ("room_started", "participant_joined"):
                ended, noted = (await self._sessions.read(event.session_id)).status == "completed", False
            else:
                return False
        except NotFound:
            ended, noted = await self._sessions.store.is_deleted(event.session_id), False
        except CommandIdReused:
            return False
        if ended and event.type != "participant_left":
            self.close_soon(event.session_id)  # somebody has come in again with an old token
        return noted and not ended

    def _command(self, event: RoomEvent) -> Command:
        assert event.connection is not None
        if event.type == "participant_joined":
            return NoteConnected(event.connection)
        now = wall_ms()
        at = event.at if now - WEBHOOK_AGE_MS < event.at <= now else now
        return NoteDisconnected(event.connection, event.reason, at, self._credit_ms)

    def put_out_soon(self, session_id: str) -> None:
        """Remove whoever is in the room as the candidate by a link that was replaced."""
        if self._livekit.configured:
            self._spawn(self._livekit.put_out(session_id))

    def close_soon(self, session_id: str) -> None:
        """Try once to remove the room; the Housekeeper removes what is left."""
        if self._livekit.configured:
            self._spawn(self._livekit.close_room(session_id))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
