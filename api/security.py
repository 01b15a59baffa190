"""Who calls: staff with a key, the candidate of one session with its token, or anyone while no key is set."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Annotated

import jwt
from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from orchestrator.errors import Forbidden, Unauthorized
from orchestrator.interview.commands import Caller
from orchestrator.interview.state import State

TOKEN_SECONDS = 30 * 24 * 3600
OPEN = Caller("open", "staff")
STAFF_KEY = Caller("key:environment", "staff")


def token_key(secret: bytes) -> bytes:
    """The key that candidate tokens are signed with, derived from the deployment's secret."""
    return hmac.digest(secret, b"candidate-token", hashlib.sha256)


def candidate_token(secret: bytes, state_id: str, generation: int) -> str:
    """A token for one session's candidate calls. A new link makes those of older generations useless."""
    now = int(time.time())
    claims = {"sub": state_id, "gen": generation, "use": "candidate", "iat": now, "exp": now + TOKEN_SECONDS}
    return jwt.encode(claims, token_key(secret), "HS256")


def presented(request: HTTPConnection) -> str | None:
    """The key or token that came with a request."""
    key = request.headers.get("x-api-key")
    if key:
        return key
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() or None if scheme.lower() == "bearer" else None


async def authenticated(request: Request) -> Caller:
    """The caller, with a candidate's session in the principal. Raises Unauthorized."""
    return caller_by(request, presented(request))


def caller_by(connection: HTTPConnection, credential: str | None) -> Caller:
    """Whom a key or token (None: neither) makes the caller. Raises Unauthorized."""
    api_key = connection.app.state.settings.api_key
    if api_key is not None and credential is not None and _same(credential, api_key.get_secret_value()):
        return STAFF_KEY
    if credential is not None and credential.count(".") == 2:
        return _candidate(connection, credential)
    if api_key is None:
        return OPEN
    raise Unauthorized("Give a staff key in X-API-Key, or a candidate's token as a Bearer token.")


async def staff(caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
    """A staff caller. Raises Forbidden for candidates."""
    if caller.role != "staff":
        raise Forbidden("This call is for staff; a candidate's token does not open it.")
    return caller


async def participant(request: Request, caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
    """Staff, or the candidate of the session in the path. Raises Forbidden, Unauthorized, NotFound."""
    await require_participant(request, caller, request.path_params["session_id"])
    return caller


async def require_participant(request: HTTPConnection, caller: Caller, session_id: str) -> None:
    """Whether staff, or the candidate of this very session, is calling. Raises Forbidden, Unauthorized, NotFound."""
    if caller.role == "staff":
        return
    if caller.principal != f"candidate:{session_id}":
        raise Forbidden("This token belongs to another session.")
    state: State = await request.app.state.client.read(session_id)
    if request.state.token_generation != state.link_generation:
        raise Unauthorized("This link was replaced by a newer one.")


AnyCaller = Annotated[Caller, Depends(authenticated)]
Staff = Annotated[Caller, Depends(staff)]
Participant = Annotated[Caller, Depends(participant)]


def _candidate(request: HTTPConnection, token: str) -> Caller:
    try:
        claims = jwt.decode(
            token,
            token_key(request.app.state.client.store.secret),
            algorithms=["HS256"],
            options={"require": ["sub", "exp", "gen", "use"]},
        )
    except jwt.PyJWTError:
        raise Unauthorized("The token is not valid or has expired.") from None
    if claims["use"] != "candidate":
        raise Unauthorized("The token is not a candidate's token.")
    request.state.token_generation = claims["gen"]
    return Caller(f"candidate:{claims['sub']}", "candidate")


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
