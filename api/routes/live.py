"""/ws/interview: who comes in, and as what. What happens then is in `api/live.py`."""

from __future__ import annotations

import asyncio
import functools

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.client_frames import AuthFrame, Received
from api.live import BAD_FRAME, BAD_TOKEN, RECONNECT, UNKNOWN_SESSION, Ended, LiveChannel, Reader
from api.security import caller_by, is_from_here, is_open, presented, require_participant, still_known
from orchestrator.errors import Forbidden, InvalidInput, NotFound, Retryable, Unauthorized

router = APIRouter()

AUTH_SECONDS = 10.0
NO_TOKEN_IN_TIME = "no token came in time"  # nosec B105 # a sentence
"""Clients know it: on a slow network the token may come in time when they try again."""
OPEN_SECONDS = 0.2
"""While no key is set nobody has to say who they are, but a client that means to does so at once."""
MAX_SEQ = 2**53


@router.websocket("/ws/interview")
async def interview(socket: WebSocket) -> None:
    """The live channel of a session."""
    if not is_from_here(socket):
        await socket.close()  # before it is accepted: 403
        return
    await socket.accept()
    try:
        channel, first = await _let_in(socket)
    except Ended as ended:
        if not ended.by_peer:
            await socket.close(ended.code, ended.reason)
        return
    await channel.run(first)


async def _let_in(socket: WebSocket) -> tuple[LiveChannel, str | None]:
    """The channel, and a frame that has come in already, if any. Raises Ended."""
    app = socket.app
    try:
        session_id, role, after = _asked(socket)
        credential, page, first = await _credential(socket, role)
        caller = await caller_by(socket, credential)
        observes = role == "observer"
        if observes and caller.role != "staff":
            raise Forbidden("Observers are staff.")
        if role == "candidate" and caller.role != "candidate":
            raise Unauthorized("Give the candidate's token.")
        await require_participant(socket, caller, session_id, "read" if observes else "manage")
        app.state.channels.admit(session_id, observes)
        state = await app.state.client.read(session_id)
    except InvalidInput as error:
        raise Ended(BAD_FRAME, error.detail) from None
    except (Unauthorized, Forbidden) as error:
        raise Ended(BAD_TOKEN, error.detail) from None
    except NotFound:
        raise Ended(UNKNOWN_SESSION, "there is no such session") from None
    except Retryable as error:
        raise Ended(RECONNECT, error.code) from None
    generation = socket.state.token_generation if caller.role == "candidate" else None
    is_good = functools.partial(still_known, socket, credential) if caller.role == "staff" else None
    reader = Reader(caller, generation, observes, page, is_good)
    return LiveChannel(socket, app.state.client, app.state.channels, state, reader, after), first


def _asked(socket: WebSocket) -> tuple[str, str, int | None]:
    """session_id, role and after. Raises InvalidInput."""
    given = socket.query_params
    for name in given:
        if name not in ("session_id", "token", "after", "role"):
            raise InvalidInput(f"{name[:40]} is not a parameter of the channel.")
    session_id, role, after = given.get("session_id", ""), given.get("role", ""), given.get("after")
    if not session_id:
        raise InvalidInput("session_id is required.")
    if role not in ("", "candidate", "observer"):
        raise InvalidInput("role is observer, candidate or not given.")
    if after is not None and not (after.isascii() and after.isdigit() and len(after) <= 16 and int(after) <= MAX_SEQ):
        raise InvalidInput("after is the seq of an event.")
    return session_id, role, None if after is None else int(after)


async def _credential(socket: WebSocket, role: str) -> tuple[str | None, str | None, str | None]:
    """The key or token, what the client calls itself, and the first frame if it was not that.

    Raises Ended or Unauthorized.
    """
    given = socket.query_params.get("token") or presented(socket)
    if given is not None:
        return given, None, None
    open_to_all = role != "candidate" and await is_open(socket)
    try:
        async with asyncio.timeout(OPEN_SECONDS if open_to_all else AUTH_SECONDS):
            text = await socket.receive_text()
    except TimeoutError:
        if open_to_all:
            return None, None, None
        raise Unauthorized(NO_TOKEN_IN_TIME) from None
    except WebSocketDisconnect as gone:
        raise Ended(gone.code, by_peer=True) from None
    except KeyError:
        raise Ended(BAD_FRAME, "frames are text") from None
    frame = Received(text).frame
    if isinstance(frame, AuthFrame):
        return frame.token, frame.page, None
    if open_to_all:
        return None, None, text
    raise Unauthorized("The first frame must be auth, with a token.")
