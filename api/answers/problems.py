"""Errors as they are answered: problem documents (RFC 9457)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.answers.common import Answer, sometimes, text
from api.answers.proctoring import Quality
from api.answers.sessions import BrokenRule, Status


class Problem(Answer):
    """A problem (RFC 9457). `detail` is a sentence that a person can act on; `code` is for programs."""

    type: Annotated[str, text(pattern="^urn:parallel-interview:problem:[a-z_]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    code: Annotated[str, text(pattern="^[a-z_]+$")]
    request_id: str


class InvalidInput(Problem):
    """`errors`: each rule that is broken, and where. `quality`: of a picture that cannot be the reference face."""

    errors: list[BrokenRule]
    quality: Quality = sometimes()


class Conflict(Problem):
    """`current_status`: the session's, if it is about one. `allowed_actions`: what its state allows."""

    current_status: Status | Literal["deleted"] | None = sometimes()
    allowed_actions: list[str] = sometimes()


MODELS: dict[int, type[Problem]] = {400: InvalidInput, 409: Conflict}
"""Those that have more than others."""
