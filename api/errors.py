"""Errors as HTTP answers: one table, and RFC 9457 problem documents."""

from __future__ import annotations

import http
import logging
import math
import traceback
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from api.security import authenticated
from orchestrator import errors

log = logging.getLogger(__name__)

NOT_SAID_TO_BE_JSON = "Send JSON, with Content-Type: application/json."
MOST_SENTENCES = 100
_OURS = ("function-after[", "function-before[", "dict[")
"""What pydantic puts among the names of members for one of several types; addresses in our memory are in it."""
UNEXPECTED = "Something went wrong on our side; it has been logged."

STATUS: dict[type[errors.OrchestratorError], int] = {
    errors.InvalidInput: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.StateConflict: 409,
    errors.StaleVersion: 412,
    errors.TooLarge: 413,
    errors.NotAnImage: 415,
    errors.UnusableTemplate: 409,
    errors.CommandIdReused: 422,
    errors.NotInstalled: 501,
    errors.TooManyRequests: 429,
    errors.Retryable: 503,
}


def status_of(error: errors.OrchestratorError) -> int:
    """The HTTP status of an error: that of its nearest base in the table."""
    return next((STATUS[base] for base in type(error).__mro__ if base in STATUS), 500)


def problem(
    request: Request, status: int, detail: str, code: str, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    """A problem document. `detail` is a sentence that a person can act on."""
    body = {
        "type": f"urn:parallel-interview:problem:{code}",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request.scope.get("request_id", ""),
        **more,
    }
    return JSONResponse(body, status, headers, media_type="application/problem+json")


async def on_orchestrator_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.OrchestratorError)
    headers: dict[str, str] = {}
    if isinstance(error, errors.Retryable):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return problem(request, status_of(error), error.detail, error.code, headers, **members(error))


def members(error: errors.OrchestratorError) -> dict[str, Any]:
    """What a client is told of an error beside its detail and code."""
    shown = {k: v for k, v in error.fields.items() if k in ("errors", "quality", "current_status", "allowed_actions")}
    if isinstance(error, errors.InvalidInput):
        shown.setdefault("errors", [{"pointer": "", "detail": error.detail}])
    if isinstance(error, errors.StateConflict):
        shown = {"current_status": None, "allowed_actions": [], **shown}
    return shown


async def on_bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    try:
        await authenticated(request)  # a body is read before the caller is known
    except errors.OrchestratorError as refused:
        return await on_orchestrator_error(request, refused)
    if error.body is not None and not isinstance(error.body, dict | list) and "json" not in _content_type(request):
        return await on_orchestrator_error(request, errors.InvalidInput(NOT_SAID_TO_BE_JSON))
    invalid = broken_rules(error.errors())
    return problem(request, 400, invalid.detail, invalid.code, errors=invalid.errors)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").lower()


async def on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {
        404: "There is nothing at this address.",
        405: f"This address does not take {request.method}.",
        400: "The body could not be read; send valid JSON in UTF-8.",
    }
    code = http.HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    detail = details.get(error.status_code, str(error.detail))
    more = {"errors": [{"pointer": "", "detail": detail}]} if error.status_code == 400 else {}
    return problem(request, error.status_code, detail, code, dict(error.headers or {}), **more)


async def on_unexpected(request: Request, error: Exception) -> Response:
    log_unexpected(error)
    headers = {"X-Request-Id": request.scope.get("request_id", "")}
    return problem(request, 500, UNEXPECTED, "internal_error", headers)


def log_unexpected(error: BaseException) -> None:
    """Log a fault of ours. Its message may hold personal data, so only its type and place are logged."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("unexpected error", extra={"error": type(error).__name__, "where": where})


def install(app: FastAPI) -> None:
    """Have every error answered as a problem document."""
    app.add_exception_handler(errors.OrchestratorError, on_orchestrator_error)
    app.add_exception_handler(RequestValidationError, on_bad_request)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_unexpected)


def broken_rules(found: Sequence[Any]) -> errors.InvalidInput:
    """What pydantic found, as one error that a person can act on."""
    sentences = [_sentence(error) for error in found[:MOST_SENTENCES]]
    detail = " ".join(sentence["detail"] for sentence in sentences[:5]) or "The request is not valid."
    return errors.InvalidInput(detail, errors=sentences)


def _sentence(error: Any) -> dict[str, str]:
    """One broken rule as {pointer, detail}: the sentence names the field and the rule."""
    where = [str(part) for part in error["loc"] if part not in ("body", "query", "path", "header")]
    where = [part for part in where if not part.startswith(_OURS)]
    if error["type"] == "json_invalid":
        return {"pointer": "", "detail": "The body is not valid JSON."}
    name = ".".join(where) or "The body"
    if error["type"] == "missing":
        rule = "is required"
    elif error["type"] == "extra_forbidden":
        rule = "is not a known field"
    else:
        message = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
        rule = f"is not valid: {message[:1].lower()}{message[1:]}"
    pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in where)
    return {"pointer": _printable(pointer), "detail": _printable(f"{name} {rule}.")}


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:500]
