"""Every error the system raises on purpose, and what a caller may do about it.

    OrchestratorError
    ├── InvalidInput          a value breaks a rule; says which one and where
    ├── NotFound              no such session or job (deleted ones included)
    ├── StateConflict         the session's state does not allow the command
    ├── CommandIdReused       the same command id came with another body
    ├── StaleVersion          If-Match names a version that is no longer current
    ├── Unauthorized          no key or token, or one that is not ours
    ├── Forbidden             the key or token is right, but not for this call
    ├── TooLarge              a body is over its limit
    ├── NotAnImage            the bytes are no JPEG, PNG or WebP
    ├── UnusableTemplate      what is known of a face is damaged, or of another engine or version
    ├── NotInstalled          a part that this call needs is not on this machine
    └── Retryable             nothing is wrong with the request; carries retry_after
        ├── TooManyRequests   this caller sends more than is taken
        ├── Unavailable       a part of the system is away; the command was not executed
        │   ├── ClusterFull   no place for one more live interview
        │   └── NewerSchema   what is stored was written by a newer version than this process has
        ├── OutcomeUnknown    a write may or may not have landed: repeat with the same id
        ├── Moved             this actor has let the session go; the command was not executed
        └── Fenced            a newer owner holds the session; the command was not executed

Errors cross process boundaries, so all their data is in `fields` and they pickle by it.
They become HTTP answers in one table, in `api/errors.py`.
"""

from __future__ import annotations

from typing import Any, Self


class OrchestratorError(Exception):
    """Base of all errors raised on purpose.

    `detail` is a sentence a person can act on; `fields` is what a program needs.
    """

    code = "error"

    def __init__(self, detail: str, **fields: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.detail, self.fields))


def _rebuild(cls: type[OrchestratorError], detail: str, fields: dict[str, Any]) -> OrchestratorError:
    return cls(detail, **fields)


class InvalidInput(OrchestratorError):
    """A value breaks a rule. `errors` is a list of {pointer, detail}; pointers are JSON pointers."""

    code = "invalid_input"

    @classmethod
    def at(cls, pointer: str, detail: str) -> Self:
        """One broken rule at one place."""
        return cls(detail, errors=[{"pointer": pointer, "detail": detail}])

    @property
    def errors(self) -> list[dict[str, str]]:
        return self.fields.get("errors", [])


class NotFound(OrchestratorError):
    code = "not_found"

    @classmethod
    def session(cls, session_id: str) -> Self:
        return cls(f"There is no session {session_id[:64]!r}.")


class StateConflict(OrchestratorError):
    """The state does not allow the command. Fields: current_status, allowed_actions."""

    code = "state_conflict"


class CommandIdReused(OrchestratorError):
    code = "idempotency_key_reused"


class StaleVersion(OrchestratorError):
    code = "stale_version"


class Unauthorized(OrchestratorError):
    code = "unauthorized"


class Forbidden(OrchestratorError):
    code = "forbidden"


class TooLarge(OrchestratorError):
    code = "too_large"


class NotAnImage(OrchestratorError):
    """The bytes are no JPEG, PNG or WebP."""

    code = "not_an_image"


class UnusableTemplate(OrchestratorError):
    """The template is damaged, or from another engine or version: a new reference picture is needed."""

    code = "unusable_template"


class NotInstalled(OrchestratorError):
    """A part that this call needs is not on this machine."""

    code = "not_installed"


class Retryable(OrchestratorError):
    """Try again after `retry_after` seconds; nothing is wrong with the request."""

    code = "unavailable"

    @property
    def retry_after(self) -> float:
        return float(self.fields.get("retry_after", 1.0))


class TooManyRequests(Retryable):
    code = "too_many_requests"


class Unavailable(Retryable):
    code = "unavailable"


class ClusterFull(Unavailable):
    code = "cluster_full"


class NewerSchema(Unavailable):
    code = "newer_schema"


class OutcomeUnknown(Retryable):
    code = "outcome_unknown"


class Moved(Retryable):
    code = "moved"


class Fenced(Retryable):
    code = "fenced"
