"""What can go wrong, as exceptions that carry what a caller needs to act. They survive pickling.

ClientError
├── ApiError                the service has answered, and the answer was no: status, code, detail, ...
│   ├── NotReady            202   a report is still being made, and the time to wait for it has run out
│   ├── BadRequest          400   `errors` names the fields
│   ├── Unauthorized        401
│   ├── Forbidden           403
│   ├── NotFound            404
│   ├── Conflict            409   the state does not allow it: `current_status`, `allowed_actions`
│   ├── StaleVersion        412   `if_match` names a version that is not the newest
│   ├── TooLarge            413
│   ├── NotAnImage          415
│   ├── KeyReused           422   the key came with another body before
│   ├── TooManyRequests     429   `retry_after`
│   └── ServerError         5xx
│       └── Unavailable     503   `retry_after`; the outcome may be unknown
├── Unreachable             no answer that settles the matter within the limit; `last` is the newest failure
├── UnexpectedAnswer        what answers there is not this service
└── ChannelClosed           the live channel is over: `why` (an Ended), `code`, `reason`
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypedDict, cast


class FieldError(TypedDict):
    """One thing that is wrong with what was sent. `pointer`: a JSON pointer into it."""

    pointer: str
    detail: str


class ClientError(Exception):
    """Base of everything that this package raises by itself."""


class ApiError(ClientError):
    """A refusal. `detail` is a sentence that a person can act on."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        request_id: str = "",
        current_status: str | None = None,
        allowed_actions: tuple[str, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, code, detail, errors, request_id, current_status, allowed_actions, retry_after)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.request_id = request_id
        self.current_status = current_status
        self.allowed_actions = allowed_actions
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.status} {self.detail}"


class NotReady(ApiError):
    pass


class BadRequest(ApiError):
    pass


class Unauthorized(ApiError):
    pass


class Forbidden(ApiError):
    pass


class NotFound(ApiError):
    pass


class Conflict(ApiError):
    pass


class StaleVersion(ApiError):
    pass


class TooLarge(ApiError):
    pass


class NotAnImage(ApiError):
    pass


class KeyReused(ApiError):
    pass


class TooManyRequests(ApiError):
    pass


class ServerError(ApiError):
    pass


class Unavailable(ServerError):
    pass


class Unreachable(ClientError):
    """Nobody knows whether a command that ended so has been done: send it again with the same `key`.

    `last`: the newest refusal; None if there was no answer at all then.
    """

    def __init__(self, problem: str, attempts: int, seconds: float, key: str | None, last: ApiError | None) -> None:
        super().__init__(problem, attempts, seconds, key, last)
        self.problem = problem
        self.attempts = attempts
        self.seconds = seconds
        self.key = key
        self.last = last

    def __str__(self) -> str:
        tries = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        return f"{self.problem} ({tries} in {self.seconds:.1f} s)"


class UnexpectedAnswer(ClientError):
    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail, status)
        self.detail = detail
        self.status = status

    def __str__(self) -> str:
        return self.detail


class Ended(Enum):
    """Why a live channel is over. The value is its close code."""

    COMPLETED = 1000
    BAD_FRAME = 4400
    UNAUTHORIZED = 4401
    UNKNOWN_SESSION = 4404
    REPLACED = 4409
    BY_US = 0
    """It was closed on this side."""
    UNREACHABLE = -1
    """There was no connection for longer than the limit."""


class ChannelClosed(ClientError):
    def __init__(self, why: Ended, code: int | None = None, reason: str = "") -> None:
        super().__init__(why, code, reason)
        self.why = why
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        said = f": {self.reason}" if self.reason else ""
        return f"the channel is closed ({self.why.name.lower().replace('_', ' ')}){said}"


BY_STATUS: dict[int, type[ApiError]] = {
    202: NotReady,
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: StaleVersion,
    413: TooLarge,
    415: NotAnImage,
    422: KeyReused,
    429: TooManyRequests,
    503: Unavailable,
}


def error_of(status: int, problem: object, retry_after: float | None = None) -> ApiError:
    """The error that a problem document, or an `error` frame of the live channel, stands for."""
    told = cast(Mapping[str, object], problem) if isinstance(problem, Mapping) else {}
    errors, actions = told.get("errors"), told.get("allowed_actions")
    current = told.get("current_status")
    kind = BY_STATUS.get(status) or (ServerError if status >= 500 else ApiError)
    return kind(
        status,
        str(told.get("code", "unknown")),
        str(told.get("detail") or f"The answer was {status}, without a reason."),
        tuple(cast(list[FieldError], errors)) if isinstance(errors, list) else (),
        str(told.get("request_id", "")),
        current if isinstance(current, str) else None,
        tuple(str(action) for action in cast(list[object], actions)) if isinstance(actions, list) else (),
        retry_after,
    )
