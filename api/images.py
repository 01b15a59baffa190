"""Pictures in request bodies: raw bytes, base64 or a data URL in JSON, or a part of a multipart form.

They are read only when the caller is known, and nothing of them is decoded here.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from api.bodies import check_json
from api.schemas import YEARS
from orchestrator.errors import InvalidInput, NotAnImage, TooLarge
from orchestrator.media import MAX_BYTES

FIELDS = {
    "session_id": {"type": "string", "format": "uuid"},
    "at": {"type": "string", "format": "date-time", "pattern": YEARS},
}
RAW_TYPES = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture as it was sent, and the other fields that came with it, all text."""

    image: bytes
    fields: dict[str, str] = field(default_factory=dict)


async def upload(request: Request, known: tuple[str, ...]) -> Upload:
    """The picture in a request. `known`: names of fields that may come with it.

    Raises InvalidInput, TooLarge, TooManyRequests, or NotAnImage for a content type that carries none.
    """
    with request.app.state.large_bodies.one(request.state.caller):
        return await _upload(request, known)


async def _upload(request: Request, known: tuple[str, ...]) -> Upload:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in RAW_TYPES:
        return Upload(await request.body())
    if kind == "multipart/form-data":
        found = await _form(request)
    elif kind in ("application/json", ""):
        found = _json(await request.body())
    else:
        raise NotAnImage(
            "Send the image as JSON (base64), as a multipart form, or as image/jpeg, image/png, image/webp."
        )
    image = found.pop("image", None)
    if image is None:
        raise InvalidInput.at("/image", "image is required.")
    for name, value in found.items():
        if name not in known:
            raise InvalidInput.at(f"/{_shown(name)}", f"{_shown(name)} is not a known field.")
        if not isinstance(value, str):
            raise InvalidInput.at(f"/{name}", f"{name} must be text.")
    return Upload(_bytes_of(image), found)


def _json(body: bytes) -> dict[str, Any]:
    check_json(body)
    found = json.loads(body)
    if not isinstance(found, dict):
        raise InvalidInput("The body must be a JSON object.")
    return found


async def _form(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        async with request.form(max_files=1, max_fields=8, max_part_size=8 * 2**20) as form:
            for name, value in form.multi_items():
                if name in found:
                    raise InvalidInput.at(f"/{_shown(name)}", f"{_shown(name)} comes more than once.")
                found[name] = await value.read() if isinstance(value, UploadFile) else value
    except HTTPException:
        raise InvalidInput("The multipart form could not be read.") from None
    return found


def _bytes_of(image: Any) -> bytes:
    if isinstance(image, bytes):
        return image
    if not isinstance(image, str):
        raise InvalidInput.at("/image", "image must be text: base64, or a data URL.")
    text = image
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InvalidInput.at("/image", "The data URL of the image is not in base64.")
    if len(text) > MAX_BYTES * 4 // 3 + 8:
        raise TooLarge(f"The image has more than {MAX_BYTES // 1_000_000} MB.")
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput.at("/image", "The image is not valid base64.") from None


def _shown(name: str) -> str:
    return name.encode("utf-8", "replace").decode()[:100]


def documented(*required: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """What /docs says of such a body."""
    image = {"type": "string", "minLength": 1, "description": "base64, or a data URL; JPEG, PNG or WebP, 5 MB at most"}
    file = {"type": "string", "format": "binary", "minLength": 1, "description": "JPEG, PNG or WebP, 5 MB at most"}
    fields = {name: FIELDS[name] for name in (*required, *optional)}
    shape = {"type": "object", "required": [*required, "image"], "additionalProperties": False}
    content: dict[str, Any] = {
        "application/json": {"schema": shape | {"properties": {**fields, "image": image}}},
        "multipart/form-data": {"schema": shape | {"properties": {**fields, "image": file}}},
    }
    if not required:
        content |= {kind: {"schema": file} for kind in RAW_TYPES}
    return {"requestBody": {"required": True, "content": content}}
