"""The client for asyncio: the same calls, awaited."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

import httpx

from parallel_interview_client import calls
from parallel_interview_client import types as t
from parallel_interview_client.calls import Call
from parallel_interview_client.channel import AsyncChannel
from parallel_interview_client.client import DEFAULT_URL, TIMEOUT_SECONDS, with_self
from parallel_interview_client.exchange import Answer, Exchange, address, credential
from parallel_interview_client.protocol import Role
from parallel_interview_client.retry import DEFAULT_RETRY, Failure, Retry

P = ParamSpec("P")
T = TypeVar("T")


def awaited(call: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """A method that makes this call."""

    @functools.wraps(call)
    async def method(self: AsyncClient, *args: P.args, **kwargs: P.kwargs) -> T:
        return (await self.send(call(*args, **kwargs))).value

    return with_self(method, call)


def of_candidate(
    call: Callable[Concatenate[str, P], Call[T]],
) -> Callable[Concatenate[AsyncCandidate, P], Coroutine[Any, Any, T]]:
    """A method that makes this call for the candidate's own session."""

    @functools.wraps(call)
    async def method(self: AsyncCandidate, *args: P.args, **kwargs: P.kwargs) -> T:
        return (await self.client.send(call(self.session_id, *args, **kwargs))).value

    return with_self(method, call, skipped=1)


class AsyncClient:
    """As `Client`, for asyncio."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        token: str | None = None,
        retry: Retry = DEFAULT_RETRY,
        timeout: float = TIMEOUT_SECONDS,
        http: httpx.AsyncClient | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.url = address(base_url)
        self._credential = credential(api_key, token)
        self._secret = api_key or token
        self._retry = retry
        self._timeout = timeout
        self._http = httpx.AsyncClient() if http is None else http
        self._owns_http = http is None
        self._clock = clock
        self._sleep = sleep
        self._chance = chance

    async def send(
        self, call: Call[T], *, retry: Retry | None = None, failed: Callable[[Failure], None] | None = None
    ) -> Answer[T]:
        """Make a call: what it returns, with the answer's status and headers. `failed` is told of each attempt that
        settled nothing. Raises ApiError, Unreachable, UnexpectedAnswer."""
        exchange = Exchange(
            call, self.url, self._credential, self._timeout, retry or self._retry, self._clock(), failed
        )
        while True:
            try:
                response = await self._http.request(**exchange.request(self._clock()))
            except httpx.RequestError as error:
                outcome = exchange.broke(error, self._clock(), self._chance())
            else:
                outcome = exchange.answered(response, self._clock(), self._chance())
            if isinstance(outcome, Answer):
                return outcome
            await self._sleep(outcome)

    async def close(self) -> None:
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def sessions(self, *, limit: int = 200, **filters: Unpack[t.Filters]) -> AsyncIterator[t.Session]:
        """All sessions, newest first. `limit`: how many are fetched at a time."""
        cursor: str | None = None
        while True:
            page = await self.session_page(limit=limit, cursor=cursor, **filters)
            for session in page["sessions"]:
                yield session
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def candidate(self, session_id: str, token: str) -> AsyncCandidate:
        """The candidate of a session, over the connections of this client."""
        return AsyncCandidate(
            session_id,
            AsyncClient(
                self.url,
                token=token,
                retry=self._retry,
                timeout=self._timeout,
                http=self._http,
                clock=self._clock,
                sleep=self._sleep,
                chance=self._chance,
            ),
        )

    def channel(
        self, session_id: str, role: Role = "observer", after: int | None = None, *, elsewhere: Sequence[str] = ()
    ) -> AsyncChannel:
        """The live channel of a session, for use in an `async with`. `after`: the seq of the last event seen before.
        `elsewhere`: addresses of other front ends, to try in turn when the connection is lost."""
        return AsyncChannel(self.url, session_id, self._secret, role, after, elsewhere=elsewhere)

    create = awaited(calls.create)
    create_many = awaited(calls.create_many)
    session_page = awaited(calls.session_page)
    session = awaited(calls.session)
    session_if_changed = awaited(calls.session_if_changed)
    update = awaited(calls.update)
    start = awaited(calls.start)
    answer = awaited(calls.answer)
    draft = awaited(calls.draft)
    end = awaited(calls.end)
    pause = awaited(calls.pause)
    resume = awaited(calls.resume)
    extend = awaited(calls.extend)
    link = awaited(calls.link)
    token = awaited(calls.token)
    consent = awaited(calls.consent)
    delete = awaited(calls.delete)
    journal = awaited(calls.journal)
    verify = awaited(calls.verify)
    stats = awaited(calls.stats)
    jobs = awaited(calls.jobs)
    job = awaited(calls.job)
    create_job = awaited(calls.create_job)
    replace_job = awaited(calls.replace_job)
    delete_job = awaited(calls.delete_job)
    report = awaited(calls.report)
    review = awaited(calls.review)
    capture_reference_face = awaited(calls.capture_reference_face)
    proctoring_events = awaited(calls.proctoring_events)
    proctoring = awaited(calls.proctoring)
    webhooks = awaited(calls.webhooks)
    add_webhook = awaited(calls.add_webhook)
    delete_webhook = awaited(calls.delete_webhook)
    keys = awaited(calls.keys)
    create_key = awaited(calls.create_key)
    revoke_key = awaited(calls.revoke_key)


class AsyncCandidate:
    """As `Candidate`, for asyncio."""

    def __init__(self, session_id: str, client: AsyncClient) -> None:
        self.session_id = session_id
        self.client = client

    def channel(self, after: int | None = None, *, elsewhere: Sequence[str] = ()) -> AsyncChannel:
        """The live channel as this candidate, for use in an `async with`. It replaces older ones."""
        return self.client.channel(self.session_id, "candidate", after, elsewhere=elsewhere)

    session = of_candidate(calls.session)
    session_if_changed = of_candidate(calls.session_if_changed)
    start = of_candidate(calls.start)
    answer = of_candidate(calls.answer)
    draft = of_candidate(calls.draft)
    end = of_candidate(calls.end)
    token = of_candidate(calls.token)
    consent = of_candidate(calls.consent)
    capture_reference_face = of_candidate(calls.capture_reference_face)
    proctoring_events = of_candidate(calls.proctoring_events)
    proctoring = of_candidate(calls.proctoring)
    report = of_candidate(calls.report)
