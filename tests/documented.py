"""Whether answers are as /openapi.json says: status, content type, headers and body."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import httpx
import jsonschema_rs

from api.app import create_app
from orchestrator.settings import Settings

UNEXPECTED = 500
"""Documented nowhere: it is always a fault."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call: its path as an expression, and what it may answer."""

    name: str
    method: str
    path: re.Pattern[str]
    responses: Mapping[str, Any]


class Documented:
    """A document, with a validator of each schema once it is needed."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.seen: set[tuple[str, int, str]] = set()
        self._validators: dict[str, jsonschema_rs.Validator] = {}
        found = [
            Operation(operation["operationId"], method.upper(), _expression(path), operation["responses"])
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        self.operations = sorted(found, key=lambda one: one.path.pattern.count("["))

    def check(self, response: httpx.Response) -> None:
        """Raises AssertionError where the answer, which was read, is not what the document says."""
        request = response.request
        operation = self._operation(request.method, request.url.path)
        if operation is None or response.status_code == UNEXPECTED:
            return
        where = f"{operation.name} answered {response.status_code}"
        described = operation.responses.get(str(response.status_code))
        assert described is not None, f"{where}, which is not documented: {response.text[:500]}"
        described = self._resolved(described)
        kind = response.headers.get("content-type", "").partition(";")[0]
        self.seen.add((operation.name, response.status_code, kind))
        self._check_headers(where, described.get("headers", {}), response.headers)
        content = described.get("content")
        if not content:
            assert not response.content, f"{where} with a body, and none is documented"
            return
        assert kind in content, f"{where} as {kind}, and documented are {', '.join(content)}"
        if kind.endswith("json"):
            self._check_body(where, content[kind]["schema"], response.json())

    def name_of(self, method: str, path: str) -> str | None:
        """The operation's id."""
        operation = self._operation(method, path)
        return operation.name if operation is not None else None

    def errors(self, schema: dict[str, Any], value: Any) -> list[str]:
        """What is wrong with a value."""
        name = json.dumps(schema, sort_keys=True)
        if name not in self._validators:
            whole = {**schema, "components": {"schemas": self.document["components"]["schemas"]}}
            self._validators[name] = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        found = self._validators[name].iter_errors(value)
        return [f"/{'/'.join(map(str, error.instance_path))}: {error.message[:600]}" for error in found]

    def _check_body(self, where: str, schema: dict[str, Any], body: Any) -> None:
        wrong = self.errors(schema, body)
        assert not wrong, f"{where} with {wrong[:3]}"

    def _check_headers(self, where: str, described: dict[str, Any], given: httpx.Headers) -> None:
        for name, header in described.items():
            header = self._resolved(header)
            value = given.get(name)
            assert value is not None or not header["required"], f"{where} without {name}"
            wrong = self.errors(header["schema"], value) if value is not None else []
            assert not wrong, f"{where} with {name}: {value}"

    def _operation(self, method: str, path: str) -> Operation | None:
        return next((one for one in self.operations if one.method == method and one.path.fullmatch(path)), None)

    def _resolved(self, part: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in part:
            return part
        found: Any = self.document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return found


def _expression(path: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(map(re.escape, re.split(r"{\w+}", path))))


@lru_cache
def documented() -> Documented:
    """Of the application as it is."""
    return Documented(create_app(Settings(_env_file=None)).openapi())  # pyright: ignore[reportCallIssue]


async def check_answer(response: httpx.Response) -> None:
    """For httpx's event hooks."""
    await response.aread()
    documented().check(response)
