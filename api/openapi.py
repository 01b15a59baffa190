"""/openapi.json: each call with its answers, errors, headers and scopes, as they are.

What can be derived is derived from the route, so that a new one is documented by itself:

    it asks for a scope                    401, 403, 429, `security`, and what its description says of scopes
    an Idempotency-Key, If-Match           422, 412, Idempotency-Replayed
    a body                                 400, 408, 413
    a name in its path                     404
    it calls what is behind the front end  503
    its function's name                    `operationId`

What else a route answers it says itself, by `answers(...)`. Examples were recorded from a running service, by
`python -m tests.record_examples`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from api import links
from api.answers.common import SessionId, StillId
from api.answers.problems import MODELS, Problem
from api.answers.sessions import ExportedSession
from api.answers.work import JobId
from api.described import DESCRIBED, Described, Scopes
from api.headers import idempotency_key, if_match, required_key
from api.routes.sessions import client_of
from api.security import SCOPES_OF, authenticated

EXAMPLES = Path(__file__).with_name("examples.json")
REF = "#/components/schemas/{model}"
PROBLEM = "application/problem+json"
DESCRIPTION = """\
Timed interviews, many at once. A success is 200 with `"status": "success"` beside named members; an error is a problem
document (RFC 9457) whose `detail` is a sentence to act on. Times are ISO 8601 in UTC with milliseconds, durations are
seconds. Unknown fields and query parameters are refused.

Send an `Idempotency-Key` with every POST, and repeat it with the same key after a 503, a timeout or a broken
connection.
"""
TAGS = {
    "sessions": "Interviews: making, running and ending them, and what became of them.",
    "people's data": "Everything that is kept about one candidate: to be handed out, or erased.",
    "proctoring": "What was seen of an interview. It informs people, and decides nothing.",
    "reports": "What people need to judge a completed interview, and what they decide.",
    "livekit": "For LiveKit, which tells what happens in its rooms.",
    "jobs": "Question banks. The job `default` always exists.",
    "webhooks": "Who is told of what happens, and what became of each message.",
    "keys": "Staff keys, what each opens, and their end.",
    "operations": "Figures, nodes, and whether the service can do its work.",
}
SCHEMES: dict[str, dict[str, Any]] = {
    "StaffKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A staff key. What it opens is said by its scopes: read, manage, proctor, admin.",
    },
    "Bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A staff key, or a candidate's token, which opens the calls of its own session.",
    },
    "LiveKitSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "LiveKit's JWT over the body, without `Bearer`.",
    },
}
ERRORS = {
    400: ("BadRequest", "Bad JSON, an unknown or wrong field or parameter, a wrong value."),
    401: ("Unauthorized", "No key or token, or a wrong one."),
    403: ("Forbidden", "The key or token is right, but not for this call."),
    404: ("NotFound", "There is no such session, job, webhook, key, delivery or picture."),
    408: ("TooSlow", "The body came too slowly."),
    409: ("Conflict", "The state does not allow it."),
    412: ("StaleVersion", "If-Match names a version that is no longer current."),
    413: ("TooLarge", "The body, the picture or the text is too large."),
    415: ("NotAnImage", "It is no JPEG, PNG or WebP."),
    422: ("KeyReused", "This Idempotency-Key came with another body before."),
    429: ("TooManyRequests", "Too many calls; Retry-After says when to go on."),
    501: ("NotInstalled", "A part that this call needs is not installed."),
    503: (
        "Unavailable",
        "Full, or a part is away. The command may have run: repeat it with the same Idempotency-Key after Retry-After.",
    ),
}


def _header(description: str, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": "string", **schema}}


HEADERS = {
    "X-Request-Id": _header(
        "The request's own, if it had one, or a new one.", True, pattern=r"^[A-Za-z0-9_.:-]{1,100}$"
    ),
    "ETag": _header("The version of the session, for If-Match and If-None-Match.", True, pattern=r'^"\d+"$'),
    "Idempotency-Replayed": _header("It is the answer to a repeat, which has changed nothing.", enum=["true"]),
    "RateLimit-Policy": _header("The caller's quota q in w seconds.", pattern=r'^"(staff|candidate)";q=\d+;w=\d+$'),
    "RateLimit": _header(
        "What is left (r), all of it again in t seconds.", pattern=r'^"(staff|candidate)";r=\d+;t=\d+$'
    ),
    "Retry-After": _header("Seconds to wait.", True, pattern=r"^\d+$"),
    "WWW-Authenticate": _header("How to say who calls.", pattern="^Bearer$"),
    "Content-Disposition": _header("The name of the file.", pattern="^attachment; filename="),
}
PARTIAL = ("UpdateBody", "WebhookChanges")
"""Bodies of which only what was sent counts: what is left out has no default."""
PATH_SCHEMAS: dict[str, Any] = {"session_id": SessionId, "still_id": StillId, "job_id": JobId}


def install(app: FastAPI) -> None:
    """Have the application describe itself as it answers."""
    original = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(original(), list(iter_route_contexts(app.routes)))
        return app.openapi_schema

    app.openapi = described


@lru_cache
def examples() -> dict[str, Any]:
    """What was recorded: {request?, response?} of each operation, and `problems` by status."""
    return json.loads(EXAMPLES.read_text()) if EXAMPLES.exists() else {}


def _document(document: dict[str, Any], routes: list[RouteContext]) -> dict[str, Any]:
    document["info"]["description"] = DESCRIPTION
    document["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    document["servers"] = [
        {"url": "/", "description": "Where this document comes from"},
        {"url": "http://localhost:8005", "description": "A service with no settings of its own"},
    ]
    document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    components = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name in PARTIAL:
        for field in schemas[name]["properties"].values():
            field.pop("default", None)
    schemas |= _schemas_of_answers()
    components["securitySchemes"] = SCHEMES
    components["headers"] = HEADERS
    components["responses"] = {name: _problem(status) for status, (name, _) in ERRORS.items()}
    for route in routes:
        if isinstance(route.original_route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                _describe(document["paths"][route.path_format][method.lower()], route)
    links.add(document)
    return _tidied(document)


def _schemas_of_answers() -> dict[str, Any]:
    models: set[type[BaseModel]] = {Problem, ExportedSession, *MODELS.values()}
    for said in DESCRIBED.values():
        models |= {model for model in (said.model, *said.models.values()) if model is not None}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schema = models_json_schema([(model, "serialization") for model in ordered], ref_template=REF)
    return schema["$defs"]


def _describe(operation: dict[str, Any], route: RouteContext) -> None:
    endpoint: Any = route.endpoint
    said = DESCRIBED[endpoint]
    calls = set(_calls(route.dependant))
    scopes = said.scopes or next((SCOPES_OF[call] for call in calls if call in SCOPES_OF), None)
    name = endpoint.__name__
    operation["operationId"] = name
    operation["summary"] = name.replace("_", " ").capitalize()
    operation["security"] = _security(scopes, said)
    if scopes is not None:
        operation["x-scopes"] = list(scopes[0])
        operation["description"] = f"{operation['description']}\n\n{_needs(scopes)}"
    for parameter in operation.get("parameters", ()):
        _mend_parameter(parameter)
        parameter["required"] |= parameter["name"] == "Idempotency-Key" and required_key in calls
    shown = examples().get(name, {})
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        if "request" in shown and kind.endswith("json"):
            media["example"] = shown["request"]
    operation["responses"] = _responses(operation, calls, scopes, said, shown)


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    """What a route depends on."""
    for needed in dependant.dependencies:
        if needed.call is not None:
            yield needed.call
        yield from _calls(needed)


def _security(scopes: Scopes | None, said: Described) -> list[dict[str, list[str]]]:
    if said.signed:
        return [{"LiveKitSignature": []}]
    return [{"StaffKey": []}, {"Bearer": []}] if scopes is not None else []


def _needs(scopes: Scopes) -> str:
    wanted, candidate = scopes
    needs = "Needs the scope " + " or ".join(f"`{scope}`" for scope in wanted)
    return f"{needs}; or the session's candidate token." if candidate else f"{needs}."


def _mend_parameter(parameter: dict[str, Any]) -> None:
    """A parameter that is not given is not null; and ids are said to be what they are."""
    schema = parameter["schema"]
    if parameter["in"] != "path":
        kinds = [kind for kind in schema.pop("anyOf", ()) if kind.get("type") != "null"]
        if len(kinds) == 1:
            schema |= kinds[0]
    elif parameter["name"] in PATH_SCHEMAS:
        schema |= TypeAdapter(PATH_SCHEMAS[parameter["name"]]).json_schema()


def _responses(
    operation: dict[str, Any],
    calls: set[Callable[..., Any]],
    scopes: Scopes | None,
    said: Described,
    shown: dict[str, Any],
) -> dict[str, Any]:
    common = ["X-Request-Id"]
    if scopes is not None:
        common += ["RateLimit-Policy", "RateLimit"]
    headers = [*common, *said.headers]
    if idempotency_key in calls:
        headers.append("Idempotency-Replayed")
    if said.model is not None and "session" in said.model.model_fields:
        headers.append("ETag")
    found: dict[str, Any] = {"200": _success(said, headers, shown)}
    for status, model in said.models.items():
        found[str(status)] = _other(status, model, common)
        if status in said.pages:
            found[str(status)]["content"]["text/html"] = {"schema": said.media["text/html"]}
    for status in sorted(_statuses(operation, calls, scopes, said)):
        found[str(status)] = _error(status, said, found.get(str(status)))
    return dict(sorted(found.items()))


def _statuses(
    operation: dict[str, Any], calls: set[Callable[..., Any]], scopes: Scopes | None, said: Described
) -> set[int]:
    """Of all problems that the call may answer."""
    found = {400, *said.also}
    if scopes is not None or authenticated in calls:
        found |= {401, 403, 429, 503}
    if client_of in calls:
        found.add(503)
    if idempotency_key in calls:
        found.add(422)
    if if_match in calls:
        found.add(412)
    if "requestBody" in operation:
        found |= {408, 413}
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        found.add(404)
    return found - set(said.never)


def _success(said: Described, headers: list[str], shown: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if said.model is not None:
        content["application/json"] = {"schema": _ref(said.model)}
        if "response" in shown:
            content["application/json"]["example"] = shown["response"]
    content |= {kind: {"schema": schema} for kind, schema in said.media.items()}
    return {"description": "It is done." if said.model else "The file.", "headers": _refs(headers), "content": content}


def _other(status: int, model: type[BaseModel] | None, headers: list[str]) -> dict[str, Any]:
    if status == 304:
        return {"description": "It is the version that If-None-Match names.", "headers": _refs([*headers, "ETag"])}
    answer: dict[str, Any] = {
        "description": "It is being made; ask again after Retry-After.",
        "headers": _refs([*headers, "Retry-After"]),
    }
    return answer | ({"content": {"application/json": {"schema": _ref(model)}}} if model else {})


def _error(status: int, said: Described, other: dict[str, Any] | None) -> dict[str, Any]:
    """A reference to the problem, or what it is together with what else has that status."""
    if other is None and status not in said.pages:
        return {"$ref": f"#/components/responses/{ERRORS[status][0]}"}
    whole = _problem(status)
    if other is not None:
        whole["content"] |= other["content"]
    if status in said.pages:
        whole["content"]["text/html"] = {"schema": said.media["text/html"]}
    return whole


def _problem(status: int) -> dict[str, Any]:
    headers = ["X-Request-Id"]
    if status in (429, 503):
        headers.append("Retry-After")
    if status == 401:
        headers.append("WWW-Authenticate")
    if status not in (401, 408):
        headers += ["RateLimit-Policy", "RateLimit"]
    media: dict[str, Any] = {"schema": _ref(MODELS.get(status, Problem))}
    example = examples().get("problems", {}).get(str(status))
    if example is not None:
        media["example"] = example
    return {"description": ERRORS[status][1], "headers": _refs(headers), "content": {PROBLEM: media}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}


def _refs(headers: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def _tidied(part: Any) -> Any:
    """The same without the titles that pydantic makes of names (a member may be called title), and with names of
    members that are not as they have to be ruled out."""
    if isinstance(part, list):
        return [_tidied(one) for one in part]
    if not isinstance(part, dict):
        return part
    if "patternProperties" in part:
        part = {**part, "additionalProperties": False}
    return {
        name: one if name == "example" else _tidied(one)
        for name, one in part.items()
        if name != "title" or not isinstance(one, str) or "openapi" in part or "version" in part
    }


def main() -> None:
    """Write the document of this version to standard output."""
    from api.app import create_app
    from orchestrator.settings import Settings

    document = create_app(Settings(_env_file=None)).openapi()  # pyright: ignore[reportCallIssue]
    json.dump(document, sys.stdout, ensure_ascii=False, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
