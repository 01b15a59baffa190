"""One simulated candidate's calls by the Python client, with a record of what became of each attempt."""

from __future__ import annotations

import random
import time
from typing import TypeVar

import httpx

from parallel_interview_client import Answer, ApiError, AsyncClient, Call, ClientError, Failure, Retry, Unreachable
from tests.chaos.record import Call as Recorded
from tests.chaos.record import Interview, Record

T = TypeVar("T")

GIVE_UP_SECONDS = 60.0
UNTIL_SETTLED = Retry(GIVE_UP_SECONDS, longest_pause_seconds=1.0, statuses=frozenset({429, *range(500, 600)}))
ONCE = Retry(limit_seconds=0)


def is_parked(error: ApiError) -> bool:
    """Activation was given up: staff have to start the session again."""
    return error.current_status == "in_progress" and "start" in error.allowed_actions


class GaveUp(Exception):
    """No answer that settles the matter within a minute."""


class Caller:
    """Makes calls and writes down what became of them."""

    def __init__(self, http: httpx.AsyncClient, record: Record, candidate: int, rng: random.Random) -> None:
        self._client = AsyncClient(str(http.base_url), http=http, retry=UNTIL_SETTLED, timeout=25, chance=rng.random)
        self._record = record
        self._candidate = candidate

    async def command(self, name: str, call: Call[T], interview: Interview | None = None) -> Answer[T]:
        """The answer that acknowledged the command. Raises ApiError, or GaveUp (which is recorded as an error)."""
        session_id = interview.session_id if interview else ""
        made = Recorded(self._candidate, session_id, name, call.key, time.monotonic())
        self._record.calls.append(made)

        def failed(failure: Failure) -> None:
            made.failures.append((failure.status or 0, failure.at))
            if failure.status is not None and failure.status not in (429, 503):
                self._record.errors.append(f"{session_id}: {name}: {failure.problem}")

        try:
            answer = await self._client.send(call, failed=failed)
        except ClientError as error:
            made.done = time.monotonic()
            if not isinstance(error, Unreachable):
                raise
            problem = f"{name} was given up after {GIVE_UP_SECONDS:.0f} s: {made.failures[-3:]}"
            self._record.error(interview, problem)
            raise GaveUp(name) from None
        made.done = time.monotonic()
        made.acknowledged = True
        self._record.counts[name] += 1
        if interview:
            interview.version = max(interview.version, answer.version or 0)
        return answer

    async def once(self, call: Call[T]) -> Answer[T] | None:
        """One attempt; None if there was no good answer."""
        try:
            return await self._client.send(call, retry=ONCE)
        except ClientError:
            return None
