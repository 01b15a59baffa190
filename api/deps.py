"""What routes ask for by annotation: the caller, the client, headers that carry a meaning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Header, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from api.security import CandidateTokens
from orchestrator.errors import InvalidInput, StaleVersion
from orchestrator.interview.commands import Caller
from orchestrator.interview.state import State

if TYPE_CHECKING:
    from actors.client import InterviewClient

CREDENTIALS = [
    Security(APIKeyHeader(name="X-API-Key", auto_error=False)),
    Security(HTTPBearer(auto_error=False)),
]
"""For the OpenAPI page only: who may call is decided in `security`, before the body is read."""

_BARE_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED_KEY = re.compile(r'"(?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"')
_ETAG = re.compile(r'(W/)?"([^"]*)"')


class Context:
    """One request: who calls, and the way to sessions."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.client: InterviewClient = request.app.state.client
        self.caller: Caller = request.state.caller
        self.known_state: State | None = request.state.session
        self.public_url: str = request.app.state.settings.public_url.rstrip("/")

    @property
    def now(self) -> int:
        return self.request.app.state.clock()

    @property
    def tokens(self) -> CandidateTokens:
        return CandidateTokens(self.client.store.secret)

    async def state(self, session_id: str) -> State:
        """The session as stored; already at hand if the caller's token had to be checked against it."""
        return self.known_state or await self.client.read(session_id)


def parse_idempotency_key(header: str | None) -> str | None:
    """The key of an Idempotency-Key header, quoted as the draft standard has it, or bare."""
    if header is None:
        return None
    key = header.strip()
    if _QUOTED_KEY.fullmatch(key):
        key = re.sub(r'\\(["\\])', r"\1", key[1:-1])
    if not _BARE_KEY.fullmatch(key):
        raise InvalidInput.at(
            "", "Idempotency-Key must be 1 to 255 visible ASCII characters without spaces, quoted or bare."
        )
    return key


def parse_if_match(header: str | None) -> int | None:
    """The version that an If-Match header asks for; None if any will do. Raises StaleVersion."""
    if header is None or header.strip() == "*":
        return None
    match = _ETAG.fullmatch(header.strip())
    if match is None:
        raise InvalidInput.at("", 'If-Match must be one ETag as it was answered, such as "3", or *.')
    weak, version = match.groups()
    if weak or not (version.isascii() and version.isdecimal() and len(version) < 16):
        raise StaleVersion(f"If-Match names {header.strip()[:64]}, which is no version of this session.")
    return int(version)


def etag_matches(if_none_match: str | None, version: int) -> bool:
    """Whether an If-None-Match header names this version."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return any(tag == str(version) for _, tag in _ETAG.findall(if_none_match))


def _context(request: Request) -> Context:
    return Context(request)


def _idempotency_key(
    idempotency_key: Annotated[
        str | None, Header(description="Repeating a request with the same key has the same outcome.")
    ] = None,
) -> str | None:
    return parse_idempotency_key(idempotency_key)


def _if_match(
    if_match: Annotated[str | None, Header(description="The ETag that the session must still have.")] = None,
) -> int | None:
    return parse_if_match(if_match)


ContextDep = Annotated[Context, Depends(_context)]
CommandId = Annotated[str | None, Depends(_idempotency_key)]
IfMatch = Annotated[int | None, Depends(_if_match)]
Content = dict[str, Any]
