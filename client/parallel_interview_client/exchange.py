"""One call from its first attempt to its outcome, without sending anything: what both clients have in common."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypedDict, TypeVar, cast

import httpx

from parallel_interview_client.calls import Call
from parallel_interview_client.errors import UnexpectedAnswer, error_of
from parallel_interview_client.retry import Attempts, Failure, Retry, retry_after
from parallel_interview_client.types import Json

T = TypeVar("T")

CONNECT_SECONDS = 5.0
OURS = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)
"""What will be wrong the next time too."""


class Request(TypedDict):
    """What httpx is asked for."""

    method: str
    url: str
    params: Mapping[str, str] | None
    headers: Mapping[str, str]
    content: bytes | None
    timeout: httpx.Timeout


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A call that has succeeded: `value` is what the client's method returns."""

    value: T
    status: int
    headers: httpx.Headers
    body: Json
    failures: tuple[Failure, ...]
    """The attempts before."""

    @property
    def replayed(self) -> bool:
        """Whether the call had been done before, with this key."""
        return self.headers.get("Idempotency-Replayed") == "true"

    @property
    def version(self) -> int | None:
        """The session's version, from the ETag."""
        tag = self.headers.get("ETag", "").strip('"')
        return int(tag) if tag.isascii() and tag.isdigit() else None


class Exchange(Generic[T]):
    """`request` says what to send; `answered` and `broke` say after how many seconds to send it again."""

    def __init__(
        self,
        call: Call[T],
        url: str,
        credential: Mapping[str, str],
        timeout: float,
        retry: Retry,
        now: float,
        failed: Callable[[Failure], None] | None = None,
    ) -> None:
        key = (call.key or str(uuid.uuid4())) if call.method == "POST" else None
        if call.waits_seconds is not None:
            retry = Retry(call.waits_seconds, retry.first_pause_seconds, retry.longest_pause_seconds, retry.statuses)
        self._call = call
        self._url = url + call.path
        self._timeout = timeout
        self._content = call.content
        self._headers = {**credential, **_headers(call, key)}
        self._attempts = Attempts(retry, now, key, repeatable=call.repeatable)
        self._failed = failed

    def request(self, now: float) -> Request:
        seconds = self._attempts.timeout(self._timeout, now)
        return {
            "method": self._call.method,
            "url": self._url,
            "params": self._call.params or None,
            "headers": self._headers,
            "content": self._content,
            "timeout": httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
        }

    def answered(self, response: httpx.Response, now: float, chance: float) -> Answer[T] | float:
        """The answer, or the seconds until the next attempt. Raises ApiError, Unreachable, UnexpectedAnswer."""
        status, body = response.status_code, _body(response)
        if status == 304 and self._call.if_none_match is not None:
            return self._answer(response, cast(T, None), {})
        if self._call.removes and status == 404 and any(one.status != 429 for one in self._attempts.failures):
            return self._answer(response, self._call.read({}), {})
        waits = status == 202 and self._call.waits_seconds is not None
        if response.is_success and not waits:
            if body is None:
                raise UnexpectedAnswer(f"What answers at {self._url} is not this service: {status}, no JSON.", status)
            return self._answer(response, self._call.read(body), body)
        error = error_of(status, body, retry_after(response.headers))
        if waits or self._attempts.repeats(status):
            return self._pause(Failure(now, status, str(error), error), chance)
        raise error

    def broke(self, error: httpx.RequestError, now: float, chance: float) -> float:
        """The seconds until the next attempt. Raises Unreachable."""
        if not isinstance(error, httpx.TransportError) or isinstance(error, OURS):
            raise UnexpectedAnswer(f"{self._url} cannot be used: {error}") from error
        problem = f"{type(error).__name__} {error}".strip()
        return self._pause(Failure(now, None, f"No answer from {self._url}: {problem}"), chance)

    def _pause(self, failure: Failure, chance: float) -> float:
        if self._failed is not None:
            self._failed(failure)
        return self._attempts.pause(failure, chance)

    def _answer(self, response: httpx.Response, value: T, body: Json) -> Answer[T]:
        failures = tuple(self._attempts.failures)
        return Answer(value, response.status_code, response.headers, body, failures)


def _headers(call: Call[T], key: str | None) -> dict[str, str]:
    headers = {"Accept": "application/json"}
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    if key is not None:
        headers["Idempotency-Key"] = key
    if call.if_match is not None:
        headers["If-Match"] = f'"{call.if_match}"'
    if call.if_none_match is not None:
        headers["If-None-Match"] = f'"{call.if_none_match}"'
    return headers


def _body(response: httpx.Response) -> Json | None:
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return cast(Json, found) if isinstance(found, dict) else None


def address(base_url: str) -> str:
    """Where the service is, whatever of its own path has been given with it. Raises ValueError."""
    url = str(base_url).rstrip("/").removesuffix("/api/parallel_interview")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{base_url!r} is no address: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{base_url!r} is no address; it looks like http://localhost:8005")
    return url


def credential(api_key: str | None, token: str | None) -> dict[str, str]:
    """The header that says who is calling. Raises ValueError if it is two at once."""
    if api_key and token:
        raise ValueError("give an api_key or a token, not both")
    if api_key:
        return {"X-API-Key": api_key}
    return {"Authorization": f"Bearer {token}"} if token else {}
