"""What all answers are made of: times, ids, and an object that has exactly the members it says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"


class Answer(BaseModel):
    """An object with these members and no others. All of them are there, but for those made with `sometimes()`."""

    model_config = ConfigDict(extra="forbid")


class Success(Answer):
    status: Literal["success"]


def sometimes() -> Any:
    """A member that is not always there."""
    return Field(default_factory=dict)


def text(**schema: Any) -> WithJsonSchema:
    """Text with a schema of its own."""
    return WithJsonSchema({"type": "string", **schema})


Time = Annotated[str, text(format="date-time", pattern=TIME, description="ISO 8601 in UTC, with milliseconds and Z.")]
SessionId = Annotated[str, text(format="uuid", pattern=f"^{UUID}$")]
Sha256 = Annotated[str, text(pattern="^[0-9a-f]{64}$")]
StillId = Annotated[str, text(pattern="^[0-9a-f]{32}$")]
Url = Annotated[str, text(format="uri")]
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Seq = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=0, le=100)]
Milliseconds = Annotated[int, Field(description="A time in ms since 1970, or a number of ms.")]


class Deleted(Success):
    deleted: Literal[True]
