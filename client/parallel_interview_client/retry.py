"""When a call is sent again, and after which pause. Pure: time and chance are given.

    refused with 429 or 503           again: after Retry-After, if the answer has one, else after a growing pause
    no connection, or it broke        again: the command may have been done, and its key makes the repeat harmless
    202 where a result is waited for  again
    anything else                     that is the answer

All within one limit, counted from the first attempt. A PATCH under `if_match` is not repeated: should the first one
have been done after all, the second would find its own work and take it for somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from parallel_interview_client.errors import ApiError, Unreachable

SHORTEST_ATTEMPT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Retry:
    """`limit_seconds`: for all attempts of one call; 0: there is one attempt only.

    Pauses double from the first to the longest, which Retry-After cannot exceed either.
    """

    limit_seconds: float = 60.0
    first_pause_seconds: float = 0.2
    longest_pause_seconds: float = 10.0
    statuses: frozenset[int] = frozenset({429, 503})

    def pause(self, failed: int, asked: float | None, chance: float) -> float:
        """Seconds to wait after so many failed attempts. `chance`: from 0 to 1, so that clients do not come at once."""
        if asked is not None:
            return min(asked * (1 + 0.25 * chance), self.longest_pause_seconds)
        growing = min(self.first_pause_seconds * 2 ** min(failed - 1, 16), self.longest_pause_seconds)
        return growing * (0.5 + chance / 2)


DEFAULT_RETRY = Retry()


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that settled nothing. `status`: of the answer; None: the connection could not be made, or broke."""

    at: float
    status: int | None
    problem: str
    error: ApiError | None = None


class Attempts:
    """The attempts of one call. `now`: seconds of a clock that does not go back."""

    def __init__(self, retry: Retry, now: float, key: str | None, *, repeatable: bool = True) -> None:
        self._retry = retry
        self._began = now
        self._key = key
        self._repeatable = repeatable
        self.failures: list[Failure] = []

    def repeats(self, status: int) -> bool:
        return status in self._retry.statuses

    def timeout(self, timeout: float, now: float) -> float:
        """How long the next attempt may take."""
        if not self.failures:
            return timeout
        return min(timeout, max(SHORTEST_ATTEMPT_SECONDS, self._began + self._retry.limit_seconds - now))

    def pause(self, failure: Failure, chance: float) -> float:
        """Seconds until the next attempt. Raises Unreachable, or the error that means "not yet", if there is none."""
        self.failures.append(failure)
        asked = failure.error.retry_after if failure.error is not None else None
        seconds = self._retry.pause(len(self.failures), asked, chance)
        spent = failure.at - self._began
        if self._repeatable and spent + seconds <= self._retry.limit_seconds:
            return seconds
        if failure.status == 202 and failure.error is not None:
            raise failure.error
        raise Unreachable(failure.problem, len(self.failures), spent, self._key, failure.error)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer asks to wait; None if it does not say (or names a date)."""
    asked = headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else None
