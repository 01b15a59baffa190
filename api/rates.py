"""How often a caller may call: each key, and each candidate, in one front end. Answers say how much is left.

    RateLimit-Policy: "staff";q=1000;w=10     1,000 calls at once, and as many again within 10 s
    RateLimit: "staff";r=997;t=1              997 left, all of them again in 1 s

Sixty seconds' worth is the setting, ten seconds' worth the quota. While there is no key, staff are not counted. Wrong
keys and tokens, those of replaced links too, count for the address that they come from. Whoever has an older link of a
candidate takes nothing of what the candidate has left.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import HTTPConnection

from actors.buckets import Buckets
from orchestrator.errors import TooManyRequests
from orchestrator.interview.commands import Caller
from orchestrator.settings import Settings

WINDOW_SECONDS = 10
FAILED_AT_ONCE, FAILED_A_SECOND = 30.0, 1.0
LARGE_AT_ONCE = 4


class LargeBodies:
    """Pictures and other large bodies that candidates are sending just now: what waits for the rest of one is held."""

    def __init__(self) -> None:
        self._now: Counter[str] = Counter()

    @contextmanager
    def one(self, caller: Caller) -> Iterator[None]:
        """While one is being read and served. Raises TooManyRequests if there are many."""
        if caller.role != "candidate":
            yield
            return
        if self._now[caller.principal] >= LARGE_AT_ONCE:
            raise TooManyRequests(f"More than {LARGE_AT_ONCE} large bodies at once; send them in turn.", retry_after=1)
        self._now[caller.principal] += 1
        try:
            yield
        finally:
            self._now[caller.principal] -= 1
            if not self._now[caller.principal]:
                del self._now[caller.principal]


class Rate:
    """One kind of caller's quota."""

    def __init__(self, name: str, a_minute: float) -> None:
        self.a_second = a_minute / 60
        self.quota = max(1, round(self.a_second * WINDOW_SECONDS))
        self.name = name
        self.buckets = Buckets(self.quota, self.a_second)

    def headers(self, left: float) -> list[tuple[bytes, bytes]]:
        full_in = math.ceil((self.quota - left) / self.a_second)
        return [
            (b"ratelimit-policy", f'"{self.name}";q={self.quota};w={WINDOW_SECONDS}'.encode()),
            (b"ratelimit", f'"{self.name}";r={math.floor(left)};t={full_in}'.encode()),
        ]


class Rates:
    """What every caller has left."""

    def __init__(self, settings: Settings) -> None:
        self._staff = Rate("staff", settings.key_requests_per_minute)
        self._candidate = Rate("candidate", settings.candidate_requests_per_minute)
        self._failed = Buckets(FAILED_AT_ONCE, FAILED_A_SECOND)

    def count(self, connection: HTTPConnection, caller: Caller) -> None:
        """One call more of this caller. Raises TooManyRequests."""
        if caller.principal == "open" or connection.scope["type"] != "http":
            return  # a live channel counts its frames itself
        rate, who = self._staff, caller.principal
        if caller.role == "candidate":
            rate, who = self._candidate, f"{who}#{connection.state.token_generation}"
        try:
            left = rate.buckets.take(who)
        except TooManyRequests as error:
            connection.state.rate_headers = rate.headers(0)
            raise TooManyRequests(
                f"More than {rate.quota} calls in {WINDOW_SECONDS} s; slow down.", retry_after=error.retry_after
            ) from None
        connection.state.rate_headers = rate.headers(left)

    def failed(self, connection: HTTPConnection) -> None:
        """A wrong key or token came from there. Raises TooManyRequests once that happens too often."""
        address = connection.client.host if connection.client is not None else ""
        try:
            self._failed.take(address)
        except TooManyRequests as error:
            detail = "Too many wrong keys or tokens came from this address; try again later."
            raise TooManyRequests(detail, retry_after=error.retry_after) from None
