"""The client that blocks. Each method is one call of `calls.py`, with its parameters, and returns what that reads."""

from __future__ import annotations

import functools
import inspect
import random
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar, Unpack

import httpx

from parallel_interview_client import calls
from parallel_interview_client import types as t
from parallel_interview_client.calls import Call
from parallel_interview_client.channel import Channel
from parallel_interview_client.exchange import Answer, Exchange, address, credential
from parallel_interview_client.protocol import Role
from parallel_interview_client.retry import DEFAULT_RETRY, Failure, Retry

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
DEFAULT_URL = "http://localhost:8005"


def blocking(call: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """A method that makes this call."""

    @functools.wraps(call)
    def method(self: Client, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(call(*args, **kwargs)).value

    return with_self(method, call)


def of_candidate(call: Callable[Concatenate[str, P], Call[T]]) -> Callable[Concatenate[Candidate, P], T]:
    """A method that makes this call for the candidate's own session."""

    @functools.wraps(call)
    def method(self: Candidate, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.client.send(call(self.session_id, *args, **kwargs)).value

    return with_self(method, call, skipped=1)


M = TypeVar("M", bound=Callable[..., object])


def with_self(method: M, call: Callable[..., object], skipped: int = 0) -> M:
    """The method, for `help()`: `self` in the place of the parameters that are skipped."""
    signature = inspect.signature(call)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [own, *list(signature.parameters.values())[skipped:]]
    returned = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    shown = signature.replace(parameters=parameters, return_annotation=returned)
    setattr(method, "__signature__", shown)  # noqa: B010
    return method


class Client:
    """Calls in the name of staff (`api_key`) or of a candidate (`token`), repeated where repeating is safe.

    `http`: a client of httpx to use, which stays the caller's to close. `clock`, `sleep` and `chance` (from 0 to 1) are
    for tests. May be used by many threads.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        token: str | None = None,
        retry: Retry = DEFAULT_RETRY,
        timeout: float = TIMEOUT_SECONDS,
        http: httpx.Client | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.url = address(base_url)
        self._credential = credential(api_key, token)
        self._secret = api_key or token
        self._retry = retry
        self._timeout = timeout
        self._http = httpx.Client() if http is None else http
        self._owns_http = http is None
        self._clock = clock
        self._sleep = sleep
        self._chance = chance

    def send(
        self, call: Call[T], *, retry: Retry | None = None, failed: Callable[[Failure], None] | None = None
    ) -> Answer[T]:
        """Make a call: what it returns, with the answer's status and headers. `failed` is told of each attempt that
        settled nothing. Raises ApiError, Unreachable, UnexpectedAnswer."""
        exchange = Exchange(
            call, self.url, self._credential, self._timeout, retry or self._retry, self._clock(), failed
        )
        while True:
            try:
                response = self._http.request(**exchange.request(self._clock()))
            except httpx.RequestError as error:
                outcome = exchange.broke(error, self._clock(), self._chance())
            else:
                outcome = exchange.answered(response, self._clock(), self._chance())
            if isinstance(outcome, Answer):
                return outcome
            self._sleep(outcome)

    def close(self) -> None:
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def sessions(self, *, limit: int = 200, **filters: Unpack[t.Filters]) -> Iterator[t.Session]:
        """All sessions, newest first. `limit`: how many are fetched at a time."""
        cursor: str | None = None
        while True:
            page = self.session_page(limit=limit, cursor=cursor, **filters)
            yield from page["sessions"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def candidate(self, session_id: str, token: str) -> Candidate:
        """The candidate of a session, over the connections of this client."""
        return Candidate(
            session_id,
            Client(
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
    ) -> Channel:
        """The live channel of a session, for use in a `with`. `after`: the seq of the last event seen before.
        `elsewhere`: addresses of other front ends, to try in turn when the connection is lost."""
        return Channel(self.url, session_id, self._secret, role, after, elsewhere=elsewhere)

    create = blocking(calls.create)
    create_many = blocking(calls.create_many)
    session_page = blocking(calls.session_page)
    session = blocking(calls.session)
    session_if_changed = blocking(calls.session_if_changed)
    update = blocking(calls.update)
    start = blocking(calls.start)
    answer = blocking(calls.answer)
    draft = blocking(calls.draft)
    end = blocking(calls.end)
    pause = blocking(calls.pause)
    resume = blocking(calls.resume)
    extend = blocking(calls.extend)
    link = blocking(calls.link)
    token = blocking(calls.token)
    consent = blocking(calls.consent)
    delete = blocking(calls.delete)
    journal = blocking(calls.journal)
    verify = blocking(calls.verify)
    stats = blocking(calls.stats)
    jobs = blocking(calls.jobs)
    job = blocking(calls.job)
    create_job = blocking(calls.create_job)
    replace_job = blocking(calls.replace_job)
    delete_job = blocking(calls.delete_job)
    report = blocking(calls.report)
    review = blocking(calls.review)
    capture_reference_face = blocking(calls.capture_reference_face)
    proctoring_events = blocking(calls.proctoring_events)
    proctoring = blocking(calls.proctoring)
    webhooks = blocking(calls.webhooks)
    add_webhook = blocking(calls.add_webhook)
    delete_webhook = blocking(calls.delete_webhook)
    keys = blocking(calls.keys)
    create_key = blocking(calls.create_key)
    revoke_key = blocking(calls.revoke_key)


class Candidate:
    """One candidate, for their own session: what a candidate's token opens. `client` is what sends it."""

    def __init__(self, session_id: str, client: Client) -> None:
        self.session_id = session_id
        self.client = client

    def channel(self, after: int | None = None, *, elsewhere: Sequence[str] = ()) -> Channel:
        """The live channel as this candidate, for use in a `with`. It replaces older ones."""
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
