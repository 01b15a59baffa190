"""The frames that clients send over the live channel: the bodies of the REST calls, with `type` and `command_id`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from api.bodies import check_parts
from api.errors import broken_rules
from api.schemas import AnswerBody, Body, DraftBody, SightingBody, Sightings, SightingsBody
from orchestrator.errors import InvalidInput, OrchestratorError

FRAME_BYTES = 256 * 2**10

CommandId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")]


class _Frame(Body):
    command_id: CommandId | None = None


class AuthFrame(_Frame):
    type: Literal["auth"]
    token: Annotated[str, Field(max_length=8_192)]
    page: CommandId | None = None
    """What this client calls itself, so that its own return is not taken for a second device."""


class PingFrame(_Frame):
    type: Literal["ping"]


class StartFrame(_Frame):
    type: Literal["start"]


class EndFrame(_Frame):
    type: Literal["end"]


class AnswerFrame(_Frame, AnswerBody):
    type: Literal["answer"]


class DraftFrame(_Frame, DraftBody):
    type: Literal["draft"]


class ProctoringFrame(_Frame):
    type: Literal["proctoring_event"]
    event: SightingBody | None = None
    events: Sightings | None = None
    sent_at: Any = None

    def body(self, given: dict[str, Any]) -> SightingsBody:
        """The body of the REST call. `given`: the frame as it came."""
        if (self.event is None) == (self.events is None):
            raise InvalidInput.at("/events", "Give event, or events.")
        events = given["events"] if self.events is not None else [given["event"]]
        return _validated(SightingsBody, {"events": events, "sent_at": given.get("sent_at")})


KINDS: dict[str, type[_Frame]] = {
    "auth": AuthFrame,
    "ping": PingFrame,
    "start": StartFrame,
    "end": EndFrame,
    "answer": AnswerFrame,
    "draft": DraftFrame,
    "proctoring_event": ProctoringFrame,
}


class Received:
    """A frame as far as it could be read: `type` and `command_id` are known even if the rest is wrong."""

    def __init__(self, text: str | None) -> None:
        self.type: str | None = None
        self.command_id: str | None = None
        self.frame: Any = None
        self.error: OrchestratorError | None = None
        try:
            self._read(text)
        except OrchestratorError as error:
            self.error = error

    def _read(self, text: str | None) -> None:
        if text is None:
            raise InvalidInput("Frames are text, not bytes.")
        if len(text) > FRAME_BYTES or len(sent := text.encode("utf-8", "replace")) > FRAME_BYTES:
            raise InvalidInput(f"The frame is larger than {FRAME_BYTES} bytes, the most that is taken.")
        check_parts(sent)
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidInput("The frame is not valid JSON.") from None
        if not isinstance(given, dict):
            raise InvalidInput("A frame is a JSON object with a type.")
        kind, command_id = given.get("type"), given.get("command_id")
        if isinstance(command_id, str) and len(command_id) <= 255 and command_id.isascii():
            self.command_id = command_id
        if not isinstance(kind, str) or kind not in KINDS:
            raise InvalidInput.at("/type", f"type must be one of {', '.join(KINDS)}.")
        self.type = kind
        frame = _validated(KINDS[kind], given)
        self.frame = frame.body(given) if isinstance(frame, ProctoringFrame) else frame


def _validated(model: Any, given: dict[str, Any]) -> Any:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise broken_rules(error.errors()) from None
