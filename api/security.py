"""Who calls: staff with a key and what it opens, the candidate of one session, or anyone while there is no key.

credential                          caller                  opens
INTERVIEW_API_KEY                   key:environment         everything
pik_…, made by `keys create`        key:<its name>          its scopes
a session's candidate token         candidate:<session>     that session's candidate calls
none, while no key was ever made    open                    everything, from this machine's own pages and programs
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import urlsplit

import jwt
from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from actors.clock import wall_ms
from orchestrator.errors import Forbidden, Retryable, Unauthorized
from orchestrator.interview.commands import Caller
from orchestrator.interview.state import State
from orchestrator.keys import ALL_SCOPES, ENVIRONMENT, Scope, parts_of, same_secret

TOKEN_SECONDS = 30 * 24 * 3600
OPEN = Caller("open", "staff")
STAFF_KEY = Caller(f"key:{ENVIRONMENT}", "staff")
LONGEST_CREDENTIAL = 4_096

Check = Callable[..., Coroutine[Any, Any, Caller]]
SCOPES_OF: dict[Check, tuple[tuple[Scope, ...], bool]] = {}
"""What a dependency asks for: one of these scopes, or (True) the session's own candidate. /docs shows it."""


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
    """The caller, with a candidate's session in the principal. Raises Unauthorized, or TooManyRequests."""
    known: Caller | None = getattr(request.state, "caller", None)
    return known if known is not None else await caller_by(request, presented(request))


async def caller_by(connection: HTTPConnection, credential: str | None) -> Caller:
    """Whom a key or token (None: neither) makes the caller. Raises Unauthorized, TooManyRequests, Retryable.

    What its key opens is in `connection.state.scopes`.
    """
    try:
        caller, scopes = await _known_as(connection, credential)
    except Unauthorized:
        if credential is not None:
            _was_wrong(connection)
        raise
    connection.state.scopes = scopes
    connection.app.state.rates.count(connection, caller)
    connection.state.caller = caller
    return caller


def _was_wrong(connection: HTTPConnection) -> None:
    """A key or token is not good (any more). Raises TooManyRequests."""
    connection.app.state.metrics.wrong_credentials.inc()
    connection.app.state.rates.failed(connection)


async def still_known(connection: HTTPConnection, credential: str | None) -> bool:
    """Whether what let a caller in would do so again. True while that cannot be told."""
    try:
        await _known_as(connection, credential)
    except Unauthorized:
        return False
    except Retryable:
        return True
    return True


async def _known_as(connection: HTTPConnection, credential: str | None) -> tuple[Caller, frozenset[Scope]]:
    api_key = connection.app.state.settings.api_key
    if credential is not None and len(credential) <= LONGEST_CREDENTIAL:
        if api_key is not None and _is_the_settings(credential, api_key.get_secret_value()):
            return STAFF_KEY, ALL_SCOPES
        if credential.count(".") == 2:
            return _candidate(connection, credential), frozenset()
        if parts_of(credential) is not None:
            key = await connection.app.state.keyring.find(credential, wall_ms())
            if key is None:
                raise Unauthorized("This key is not one of ours, has expired, or was revoked.")
            return Caller(f"key:{key.name}", "staff"), key.opens
    if await is_open(connection):
        if not is_from_here(connection):
            raise Unauthorized("Pages of other sites may not call a service that has no key.")
        if not is_for_us(connection):
            raise Unauthorized(
                "Without a key the service answers only to its address, to names without a dot, and to the name in "
                "INTERVIEW_PUBLIC_URL."
            )
        return OPEN, ALL_SCOPES
    raise Unauthorized("Give a staff key in X-API-Key, or a candidate's token as a Bearer token.")


def _is_the_settings(credential: str, api_key: str) -> bool:
    """Whether this is the key of the settings. A made one, which is there for the commands that call us, opens what it
    was made for and no more."""
    return parts_of(api_key) is None and same_secret(credential, api_key)


async def is_open(connection: HTTPConnection) -> bool:
    """Whether no key of either kind was ever made, and that may be so here. Raises Retryable."""
    settings = connection.app.state.settings
    if settings.api_key is not None or settings.closed:
        return False
    return not await connection.app.state.keyring.holds_any()


def is_from_here(connection: HTTPConnection) -> bool:
    """A browser says which page makes it call: only our own may, or one that the settings name, since another could
    use what this browser may."""
    origin = connection.headers.get("origin")
    if origin is None:
        return True
    settings = connection.app.state.settings
    if origin in settings.cors_origin_list:
        return True
    try:
        netloc = urlsplit(origin).netloc
        return netloc != "" and netloc in (connection.headers.get("host"), urlsplit(settings.public_url).netloc)
    except ValueError:
        return False


def is_for_us(connection: HTTPConnection) -> bool:
    """A name that somebody else has in the DNS may have been pointed at us, so that their page in a browser here counts
    as one of ours. Addresses, and names without a dot, are not theirs to point anywhere."""
    try:
        host = urlsplit(f"//{connection.headers.get('host', '')}").hostname or ""
        ours = urlsplit(connection.app.state.settings.public_url).hostname
    except ValueError:
        return False
    return "." not in host or host == ours or host.endswith(".localhost") or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def scoped(*scopes: Scope, candidate: bool = False) -> Check:
    """A dependency: staff whose key has one of these scopes, or the candidate of the session in the path.

    Raises Forbidden, Unauthorized, NotFound.
    """

    async def check(request: Request, caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
        if caller.role == "staff":
            require_scope(request, *scopes)
        elif candidate:
            await require_participant(request, caller, request.path_params["session_id"])
        else:
            raise Forbidden("This call is for staff; a candidate's token does not open it.")
        return caller

    SCOPES_OF[check] = scopes, candidate
    return check


def has_scope(connection: HTTPConnection, *scopes: Scope) -> bool:
    """Whether the caller's key opens one of these."""
    return not connection.state.scopes.isdisjoint(scopes)


def require_scope(connection: HTTPConnection, *scopes: Scope) -> None:
    """Raises Forbidden for staff whose key has none of these scopes."""
    if not has_scope(connection, *scopes):
        raise Forbidden(f"This key does not open this call; it needs the scope {' or '.join(scopes)}.")


async def require_participant(request: HTTPConnection, caller: Caller, session_id: str, *scopes: Scope) -> None:
    """Whether staff with one of these scopes, or the candidate of this very session, is calling.

    Raises Forbidden, Unauthorized, NotFound, TooManyRequests.
    """
    if caller.role == "staff":
        if scopes:
            require_scope(request, *scopes)
        return
    if caller.principal != f"candidate:{session_id}":
        raise Forbidden("This token belongs to another session.")
    state: State = await request.app.state.client.read(session_id)
    if request.state.token_generation != state.link_generation:
        _was_wrong(request)
        raise Unauthorized("This link was replaced by a newer one.")


AnyCaller = Annotated[Caller, Depends(authenticated)]
Reader = Annotated[Caller, Depends(scoped("read"))]
Manager = Annotated[Caller, Depends(scoped("manage"))]
Proctor = Annotated[Caller, Depends(scoped("proctor"))]
Supervisor = Annotated[Caller, Depends(scoped("manage", "proctor"))]
Admin = Annotated[Caller, Depends(scoped("admin"))]
ReadingParticipant = Annotated[Caller, Depends(scoped("read", candidate=True))]
ActingParticipant = Annotated[Caller, Depends(scoped("manage", candidate=True))]
PicturedParticipant = Annotated[Caller, Depends(scoped("proctor", candidate=True))]
SupervisedParticipant = Annotated[Caller, Depends(scoped("manage", "proctor", candidate=True))]


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
