"""RoomKeeper: the Housekeeper's part for LiveKit. Rooms are made and removed until it is done, and what webhooks did
not tell is found out.

    a session's room is ...   done here
    wanted                    made as soon as LiveKit can be used
    open, in progress         the candidate's connections compared with what the session believes
    open, LiveKit away        the session says so: fallback
    open, to be recorded      LiveKit's egress is asked to, once
    closing                   removed, and the session says so
    of no session             removed, if it is ours
"""

from __future__ import annotations

import asyncio
import logging
import random

from actors.channels import Each
from actors.client import InterviewClient
from actors.clock import wall_ms
from actors.rooms import LIVEKIT
from orchestrator.errors import OrchestratorError
from orchestrator.interview.commands import NoteConnected, NoteDisconnected, NoteRoom
from orchestrator.interview.state import State, load_state, snapshot_of
from orchestrator.livekit import LiveKitAway, RoomInfo

log = logging.getLogger(__name__)

BATCH = 200
ALL = 10_000
AWAY_SECONDS = 5.0
"""LiveKit is away for longer than a restart takes: sessions in progress say that they are without video."""
NEW_ROOM_MS = 120_000
"""A room that is younger may be of a session that is just being created."""
MISSING_MS = 15_000
"""How long LiveKit tries to deliver a webhook: one about a connection that is gone may be on the way until then."""
FULL_LOOK_EVERY = 6
"""Rounds in which rooms with the expected number of participants are looked at all the same."""


def _some(session_ids: list[str]) -> list[str]:
    """A batch of them, not always the same: some may fail for long."""
    return random.sample(session_ids, min(BATCH, len(session_ids)))  # nosec B311 # no secret


class RoomKeeper:
    """Steps for the Housekeeper to repeat. `each` does something for each session, some at a time."""

    def __init__(self, client: InterviewClient, each: Each) -> None:
        self._client = client
        self._livekit = client.livekit
        self._each = each
        self._missing: dict[tuple[str, str], int] = {}
        self._recordings: dict[str, asyncio.Task[None]] = {}
        self._round = 0

    @property
    def _can_be_used(self) -> bool:
        return self._livekit.away is None

    async def make(self) -> None:
        """Make the rooms that sessions want."""
        if self._can_be_used:
            await self._each(self._make, _some(await self._client.store.sessions_with_room("wanted", ALL)))

    async def _make(self, session_id: str) -> None:
        if not self._can_be_used or await self._as_of_now(session_id, "wanted") is None:
            return
        room = await self._livekit.open_room(session_id)
        if room.mode == "live":
            await self._client.send(session_id, NoteRoom("live", room.url), LIVEKIT)

    async def close(self) -> None:
        """Remove the rooms of sessions that have ended."""
        if self._can_be_used:
            await self._each(self._close, _some(await self._client.store.sessions_with_room("closing", ALL)))

    async def _close(self, session_id: str) -> None:
        state = await self._as_of_now(session_id, "closing")
        if state is None:
            return
        if state.recording.status == "active" and state.recording.egress_id is not None:
            await self._livekit.stop_recording(state.recording.egress_id)
        if await self._livekit.close_room(session_id):
            await self._client.send(session_id, NoteRoom("closed"), LIVEKIT)

    async def _as_of_now(self, session_id: str, work: str) -> State | None:
        """The session, if this work is still to be done; its snapshot is brought up to date if not."""
        state = await self._client.read(session_id)
        if state.room_work == work:
            return state
        await self._client.store.save_snapshot(snapshot_of(state))
        return None

    async def fall_back(self) -> None:
        """Sessions in progress say that they are without video, once LiveKit is away for a while."""
        away = self._livekit.away
        if not self._livekit.configured or away is None:
            return
        if asyncio.get_running_loop().time() - self._livekit.away_since < AWAY_SECONDS:
            return

        async def note(session_id: str) -> None:
            if await self._as_of_now(session_id, "open") is not None:
                await self._client.send(session_id, NoteRoom("fallback", reason=away), LIVEKIT)

        await self._each(note, [s.session_id for s in await self._client.store.open_rooms_in_progress(ALL)])

    async def compare(self) -> None:
        """Webhooks get lost: see who is there, and which rooms are nobody's."""
        if not self._livekit.configured:
            return
        sessions = {s.session_id: s.state for s in await self._client.store.open_rooms_in_progress(ALL)}
        try:
            rooms = {room.session_id: room for room in await self._livekit.rooms()}
        except LiveKitAway:
            return
        self._round += 1
        self._missing = {key: at for key, at in self._missing.items() if key[0] in sessions}
        await self._each(lambda s: self._compare(load_state(sessions[s]), rooms.get(s)), sessions)
        if self._round % FULL_LOOK_EVERY == 1:
            await self._remove_strays({s: room for s, room in rooms.items() if s not in sessions})

    async def _compare(self, state: State, room: RoomInfo | None) -> None:
        session_id = state.session_id
        if state.recording.status == "wanted" and room is not None and session_id not in self._recordings:
            self._recordings[session_id] = asyncio.get_running_loop().create_task(self._record(session_id))
        believed = {connection for source, connection in state.presence.here if source == "livekit"}
        missing = any((session_id, connection) in self._missing for connection in believed)
        if room is None:
            if await self._as_of_now(session_id, "open") is None:
                return
            await self._livekit.open_room(session_id)  # it was removed, or LiveKit has forgotten it
        elif (
            # An observer in the place of a candidate who has gone does not publish.
            room.participants == len(believed)
            and room.publishers >= len(believed)
            and self._round % FULL_LOOK_EVERY
            and not missing
        ):
            return
        there: set[str] = set()
        if room is not None:
            there = set(await self._livekit.connections(session_id, state.link_generation))
        for connection in there - believed if state.presence.takes_more else ():
            await self._client.send(session_id, NoteConnected(connection, listed=True), LIVEKIT)
        for connection in believed:
            key = (session_id, connection)
            if connection in there:
                self._missing.pop(key, None)
            elif wall_ms() - self._missing.setdefault(key, wall_ms()) > MISSING_MS:
                since = self._missing.pop(key)
                lost = NoteDisconnected(connection, "not_in_room", since, self._client.settings.network_credit_ms)
                await self._client.send(session_id, lost, LIVEKIT)

    async def _record(self, session_id: str) -> None:
        """Start a recording; what comes of it is the session's to say, and harms no interview."""
        try:
            await self._client.send(session_id, await self._livekit.start_recording(session_id), LIVEKIT)
        except OrchestratorError as error:
            log.info("a recording is noted later", extra={"session_id": session_id, "reason": error.code})
        finally:
            del self._recordings[session_id]

    async def _remove_strays(self, rooms: dict[str, RoomInfo]) -> None:
        """Remove rooms of sessions that have ended or are gone. One without our mark may be somebody else's."""
        work = await self._client.store.room_work(list(rooms))
        unsure = [s for s in rooms if s not in work or work[s] == ("completed", None)]
        await self._each(lambda s: self._remove_stray(rooms[s]), unsure)

    async def _remove_stray(self, room: RoomInfo) -> None:
        store, session_id = self._client.store, room.session_id
        loaded = await store.load_without_draft(session_id)
        if loaded is not None:
            state = await self._client.read(session_id)
            stray = state.status == "completed" and state.room_work is None
        else:
            unused = room.participants == 0 and wall_ms() - room.created_at > NEW_ROOM_MS
            stray = (room.ours and unused) or await store.is_deleted(session_id)
        if stray:
            log.info("stray room", extra={"session_id": session_id})
            await self._livekit.close_room(session_id)
