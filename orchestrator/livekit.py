"""LiveKit: rooms, tokens and webhooks. The only module that imports livekit-api.

One `LiveKit` a process, shared by everything in it. A call to LiveKit never takes longer than CALL_SECONDS. After a
failed call a probe runs in the background; once that fails too, nobody waits for LiveKit any more (`away` says why)
until a probe succeeds.

    LiveKit ...                          a room is ...
    answers                              live
    refuses, answers 5xx, does not       fallback, with the reason
    refuses our key or secret            fallback, and `problem` says that it is a configuration error

Rooms carry the deployment's mark, so that nobody else's room on a shared server is ever removed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import logging
import re
import secrets
import time
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import aiohttp
import jwt
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError
from livekit import api

from orchestrator.errors import Retryable, Unauthorized
from orchestrator.interview.commands import NoteRecording
from orchestrator.interview.view import NO_LIVEKIT, participant_name, room_name
from orchestrator.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

CALL_SECONDS = 1.8
"""Create answers within 2 s of LiveKit's silence."""
PROBE_SECONDS = (0.5, 1.0, 2.0, 3.0)
"""Pauses between probes while LiveKit is away; the last one repeats."""
EGRESS_SECONDS = 30.0
"""LiveKit itself waits 21 s for an egress service that is not there."""
TOKEN_TTL = timedelta(hours=1)
EMPTY_SECONDS = 12 * 3600
"""A room that nobody has joined waits this long. (Making it again does not prolong it.)"""
DEPARTURE_SECONDS = 900
"""A room that everybody has left waits this long: much longer than a clock stands still for a lost connection."""
FAILURES = 3
COOLING_SECONDS = 10.0
"""After so many failed calls in a row nobody waits for so long, even if small questions are answered."""
REFUSALS_SECONDS = 60.0
MAX_PARTICIPANTS = 100
"""The candidate, a connection of theirs that is being replaced, and staff who watch."""
CANDIDATE_SOURCES = ["camera", "microphone", "screen_share"]
ROOM_NAME = re.compile(r"interview-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\Z")
REFUSED = {"unauthenticated", "permission_denied"}
LINK = "link"
"""The attribute in a token that says of which candidate link it is, if not of the first."""

warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)  # we say so ourselves, once


class LiveKitAway(Retryable):
    """LiveKit cannot be used just now; `detail` says why."""

    code = "livekit_away"


@dataclass(frozen=True, slots=True)
class RoomState:
    """What became of a room: `url` is where clients join it, `reason` why there is none."""

    mode: Literal["live", "fallback"]
    url: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """A token to join one room with. `expires_at` is in ms."""

    participant: str
    token: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class RoomInfo:
    """A room that LiveKit has. `ours`: it carries this deployment's mark. `created_at` is in ms."""

    session_id: str
    participants: int
    ours: bool
    created_at: int
    publishers: int = 0


@dataclass(frozen=True, slots=True)
class RoomEvent:
    """A verified webhook. `session_id` is None for a room that is no interview's; `at` is in ms, to the second.

    `connection` is the participant's sid if it is about the interview's candidate, else None; `recording` is set if it
    is about one. `link`: by which of the candidate's links they got their token.
    """

    id: str
    type: str
    session_id: str | None
    connection: str | None
    reason: str
    at: int
    link: int = 1
    recording: NoteRecording | None = None


class LiveKit:
    """The gateway. `secret` is the deployment's; without LIVEKIT_* everything is fallback."""

    def __init__(self, settings: Settings, secret: bytes) -> None:
        self._url = settings.livekit_url or ""
        self._key = settings.livekit_api_key or ""
        self._secret = settings.livekit_api_secret.get_secret_value() if settings.livekit_api_secret else ""
        self.public_url = _ws(settings.livekit_public_url or self._url)
        self.configured = bool(self._url and self._key and self._secret)
        self.problem = settings.livekit_problem
        self.away: str | None = None if self.configured else self.problem or NO_LIVEKIT
        self.away_since = 0.0
        self._recording = settings.recording
        self._mark = hmac.digest(secret, b"livekit-room", hashlib.sha256).hex()[:16]
        self._api: api.LiveKitAPI | None = None
        self._probing: asyncio.Task[None] | None = None
        self._failures = 0
        self._cooling_until = 0.0
        self._refusal_said_at: float | None = None

    def start(self) -> None:
        """See in the background whether LiveKit can be used, so that the first interview need not find out."""
        if self.configured:
            self._probe_soon()

    async def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
        if self._api is not None:
            await self._api.aclose()  # pyright: ignore[reportUnknownMemberType]
            self._api = None

    @property
    def status(self) -> str:
        """For /readyz: a word, or a sentence about what is wrong."""
        if not self.configured and self.problem is None:
            return "not configured"
        if self.problem is not None:
            return f"configuration error: {self.problem}"
        return "ok" if self.away is None else f"fallback: {self.away}"

    # Rooms

    async def open_room(self, session_id: str) -> RoomState:
        """Make a session's room, or find it there. Never raises, and takes CALL_SECONDS at most."""
        wanted = api.CreateRoomRequest(
            name=room_name(session_id),
            empty_timeout=EMPTY_SECONDS,
            departure_timeout=DEPARTURE_SECONDS,
            max_participants=MAX_PARTICIPANTS,
            metadata=json.dumps({"deployment": self._mark}),
        )
        try:
            await self._call(lambda livekit: livekit.room.create_room(wanted))
        except LiveKitAway as error:
            return RoomState("fallback", reason=error.detail)
        except api.TwirpError as error:
            return RoomState("fallback", reason=f"LiveKit did not make the room ({error.code}).")
        return RoomState("live", url=self.public_url)

    async def close_room(self, session_id: str) -> bool:
        """Remove a session's room, and everybody in it. True: it is gone, or there was none."""
        try:
            await self._call(
                lambda livekit: livekit.room.delete_room(api.DeleteRoomRequest(room=room_name(session_id)))
            )
        except LiveKitAway:
            return False
        except api.TwirpError as error:
            return error.code == api.TwirpErrorCode.NOT_FOUND
        return True

    async def rooms(self) -> list[RoomInfo]:
        """All interviews' rooms. Raises LiveKitAway."""
        found = await self._ask(lambda livekit: livekit.room.list_rooms(api.ListRoomsRequest()))
        rooms: list[RoomInfo] = []
        for room in found.rooms if found is not None else []:
            name = ROOM_NAME.match(room.name)
            if name is not None:
                ours = _mark_of(room.metadata) == self._mark
                at = room.creation_time * 1000
                rooms.append(RoomInfo(name[1], room.num_participants, ours, at, room.num_publishers))
        return rooms

    async def put_out(self, session_id: str) -> None:
        """Remove the candidate from the room: whoever it is came in by a link that was replaced."""
        request = api.RoomParticipantIdentity(room=room_name(session_id), identity=participant_name(session_id))
        with contextlib.suppress(LiveKitAway):
            await self._ask(lambda livekit: livekit.room.remove_participant(request))

    async def connections(self, session_id: str, link: int = 1) -> list[str]:
        """The sids under which the candidate is in the room, by this link; none if there is no room.

        Raises LiveKitAway.
        """
        request = api.ListParticipantsRequest(room=room_name(session_id))
        found = await self._ask(lambda livekit: livekit.room.list_participants(request))
        return [
            participant.sid
            for participant in (found.participants if found is not None else [])
            if _is_candidate(participant, session_id)
            and participant.state == api.ParticipantInfo.State.ACTIVE
            and _link(participant) == link
        ]

    # Recordings

    @property
    def records(self) -> bool:
        return self.configured and self._recording is not None

    async def start_recording(self, session_id: str) -> NoteRecording:
        """Have the candidate's camera and microphone recorded from when they are there. Never raises.

        It takes as long as the egress service does, up to EGRESS_SECONDS, and says nothing about LiveKit itself.
        """
        room = room_name(session_id)
        try:
            async with asyncio.timeout(EGRESS_SECONDS):
                egress = self._client().egress
                running = await egress.list_egress(api.ListEgressRequest(room_name=room, active=True))
                if running.items:
                    return NoteRecording("active", running.items[0].egress_id)
                path = (self._recording or "").replace("{session_id}", session_id)
                request = api.ParticipantEgressRequest(
                    room_name=room,
                    identity=participant_name(session_id),
                    screen_share=False,
                    file_outputs=[api.EncodedFileOutput(filepath=path)],
                )
                started = await egress.start_participant_egress(request)
        except api.TwirpError as error:
            return NoteRecording("failed", reason=f"LiveKit cannot record: {error.message or error.code}.")
        except Exception as error:  # whatever it is, the interview goes on
            return NoteRecording("failed", reason=f"LiveKit's egress cannot be used ({type(error).__name__}).")
        return NoteRecording("active", started.egress_id)

    async def stop_recording(self, egress_id: str) -> None:
        """Ask for the end of a recording; that of its room ends it too."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2 * CALL_SECONDS):
                await self._client().egress.stop_egress(api.StopEgressRequest(egress_id=egress_id))

    # Tokens

    def candidate_ticket(self, session_id: str, link: int = 1) -> Ticket:
        """A token for the session's candidate: camera, microphone and screen, for that room alone, for one hour."""
        attributes = {LINK: str(link)} if link > 1 else {}
        may = {"can_publish": True, "can_publish_data": True, "can_publish_sources": CANDIDATE_SOURCES}
        return self._ticket(participant_name(session_id), session_id, attributes, **may)

    def observer_ticket(self, session_id: str) -> Ticket:
        """A token for staff: hidden, and to look and listen only."""
        may = {"hidden": True, "can_publish": False, "can_publish_data": False}
        return self._ticket(f"observer-{secrets.token_hex(8)}", session_id, {}, **may)

    def _ticket(self, identity: str, session_id: str, attributes: dict[str, str], **may: Any) -> Ticket:
        """A token to see and hear one room with, and to do there what `may` says (fields of VideoGrants)."""
        grants = api.VideoGrants(room_join=True, room=room_name(session_id), can_subscribe=True, **may)
        access = api.AccessToken(self._key, self._secret).with_identity(identity).with_ttl(TOKEN_TTL)
        if attributes:
            access = access.with_attributes(attributes)
        token = access.with_grants(grants).to_jwt()
        expires = jwt.decode(token, options={"verify_signature": False})["exp"]
        return Ticket(identity, token, int(expires) * 1000)

    # Webhooks

    def receive(self, body: bytes, authorization: str) -> RoomEvent:
        """A webhook's event, once its signature over exactly this body holds. Raises Unauthorized."""
        refused = Unauthorized("This is not a webhook that was signed with our LiveKit key.")
        if not self.configured:
            raise refused
        try:
            claims = api.TokenVerifier(self._key, self._secret).verify(authorization.removeprefix("Bearer ").strip())
            signed = base64.b64decode(claims.sha256 or "", validate=True)
        except (jwt.PyJWTError, binascii.Error, ValueError, TypeError, AttributeError) as error:
            self._say_refused(type(error).__name__)
            raise refused from None
        if not hmac.compare_digest(signed, hashlib.sha256(body).digest()):
            self._say_refused("the signature is over another body")
            raise refused
        try:
            event = Parse(body, api.WebhookEvent(), ignore_unknown_fields=True)
        except (ParseError, ValueError):
            log.warning("a signed webhook could not be read")
            event = api.WebhookEvent()
        name = ROOM_NAME.match(event.room.name or event.egress_info.room_name)
        session_id = name[1] if name else None
        known = session_id is not None and _is_candidate(event.participant, session_id)
        return RoomEvent(
            id=event.id,
            type=event.event,
            session_id=session_id,
            connection=event.participant.sid if known and event.participant.sid else None,
            reason=_reason(event.participant),
            at=event.created_at * 1000,
            link=_link(event.participant),
            recording=_recording(event.egress_info) if event.event.startswith("egress_") else None,
        )

    def _say_refused(self, reason: str) -> None:
        """LiveKit does not send again what we refuse, so a wrong webhook.api_key there must not go unnoticed."""
        now = time.monotonic()
        if self._refusal_said_at is None or now - self._refusal_said_at > REFUSALS_SECONDS:
            self._refusal_said_at = now
            log.warning(
                "a webhook was refused; is LiveKit's webhook.api_key our key?",
                extra={"reason": reason},
            )

    # Calls, and what their failures mean

    async def _ask(self, what: Callable[[api.LiveKitAPI], Awaitable[T]]) -> T | None:
        """A question that has no answer where there is no such room. Raises LiveKitAway."""
        try:
            return await self._call(what)
        except api.TwirpError as error:
            if error.code == api.TwirpErrorCode.NOT_FOUND:
                return None
            raise LiveKitAway(f"LiveKit does not answer this ({error.code}).", retry_after=5) from error

    async def _call(self, what: Callable[[api.LiveKitAPI], Awaitable[T]]) -> T:
        """One call. Raises LiveKitAway, or TwirpError for an answer that is no failure of LiveKit's."""
        if self.away is not None:
            raise LiveKitAway(self.away, retry_after=5)
        try:
            result = await self._call_now(what)
        except LiveKitAway as error:
            self._failures += 1
            if self._failures >= FAILURES and self.away is None:
                self._cooling_until = asyncio.get_running_loop().time() + COOLING_SECONDS
                self._is_away(error)
            self._probe_soon()
            raise
        self._failures = 0
        return result

    async def _call_now(self, what: Callable[[api.LiveKitAPI], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await what(self._client())
        except api.TwirpError as error:
            if error.code in REFUSED or error.status in (401, 403):
                raise LiveKitAway(
                    "LiveKit refuses our key or secret; this is a configuration error.", refused=True, retry_after=5
                ) from error
            elsewhere = error.status == 404 and error.code != api.TwirpErrorCode.NOT_FOUND
            if error.status >= 500 or elsewhere or error.code == api.TwirpErrorCode.RESOURCE_EXHAUSTED:
                raise LiveKitAway(f"LiveKit answers {error.status} ({error.code}).", retry_after=5) from error
            raise
        except TimeoutError as error:
            raise LiveKitAway("LiveKit does not answer.", retry_after=5) from error
        except (aiohttp.ClientError, OSError, ValueError, DecodeError) as error:
            raise LiveKitAway("LiveKit cannot be reached.", cause=type(error).__name__, retry_after=5) from error
        except Exception as error:  # the SDK stumbles over answers of what is no LiveKit
            raise LiveKitAway("LiveKit cannot be used.", cause=type(error).__name__, retry_after=5) from error

    def _client(self) -> api.LiveKitAPI:
        if self._api is None:
            self._api = api.LiveKitAPI(self._url, self._key, self._secret)  # its own timeout does nothing (1.2.2)
        return self._api

    def _probe_soon(self) -> None:
        if self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    async def _probe(self) -> None:
        """Ask LiveKit something small until it answers. Every failure is what calls are told from then on."""
        pauses = iter(PROBE_SECONDS)
        pause = next(pauses)
        while True:
            try:
                await self._call_now(lambda livekit: livekit.room.list_rooms(api.ListRoomsRequest(names=["-"])))
            except LiveKitAway as error:
                self._is_away(error)
            except api.TwirpError as error:
                self._is_away(LiveKitAway(f"LiveKit answers {error.status} ({error.code})."))
            else:
                if asyncio.get_running_loop().time() >= self._cooling_until:
                    break
            await asyncio.sleep(pause)
            pause = next(pauses, pause)
        if self.away is not None:
            log.warning("livekit is back")
        self.away = self.problem = None

    def _is_away(self, error: LiveKitAway) -> None:
        refused = bool(error.fields.get("refused"))
        if self.away is None:
            self.away_since = asyncio.get_running_loop().time()
        if error.detail != self.away:
            say = log.error if refused else log.warning
            say("livekit is away", extra={"reason": error.detail, "cause": error.fields.get("cause")})
        self.away = error.detail
        self.problem = "LiveKit refuses LIVEKIT_API_KEY and LIVEKIT_API_SECRET." if refused else None


def _ws(url: str) -> str:
    """The address as clients take it: ws or wss."""
    return "ws" + url.removeprefix("http") if url.startswith(("http://", "https://")) else url


def _mark_of(metadata: str) -> str | None:
    try:
        content: Any = json.loads(metadata)
    except ValueError:
        return None
    return content.get("deployment") if isinstance(content, dict) else None


def _is_candidate(participant: api.ParticipantInfo, session_id: str) -> bool:
    standard = participant.kind == api.ParticipantInfo.Kind.STANDARD
    return standard and participant.identity == participant_name(session_id)


def _link(participant: api.ParticipantInfo) -> int:
    text = participant.attributes.get(LINK, "1")
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _recording(egress: api.EgressInfo) -> NoteRecording:
    """What a webhook says of a recording."""
    status = api.EgressStatus.Name(egress.status) if egress.status in api.EgressStatus.values() else ""
    if status in ("EGRESS_COMPLETE", "EGRESS_LIMIT_REACHED"):
        word = "ended"
    else:
        word = "failed" if status in ("EGRESS_FAILED", "EGRESS_ABORTED") else "active"
    files = tuple(
        {
            "filename": file.filename,
            "location": file.location,
            "size": file.size,
            "duration_seconds": file.duration / 1e9,
        }
        for file in egress.file_results
    )
    return NoteRecording(word, egress.egress_id or None, egress.error or None, files)


def _reason(participant: api.ParticipantInfo) -> str:
    """Why a participant left, by LiveKit's name in lower case."""
    try:
        return api.DisconnectReason.Name(participant.disconnect_reason).lower()
    except ValueError:
        return "unknown_reason"
