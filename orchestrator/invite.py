"""`parallel-interview invite`: a CSV file of candidates becomes sessions with links; safe to run twice.

First the whole file is checked, here and by the service; only then is anything made.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from orchestrator.errors import InvalidInput
from orchestrator.tables import FORMULAS, columns_of, finite, read_text, rows_of

REQUIRED = ("name", "email")
OPTIONAL = ("phone", "scheduled_at", "expires_at", "time_multiplier", "camera_exempt", "key")
METADATA = "metadata."
A_CALL = 100
CALLS_SECONDS = 120.0
PATIENCE_SECONDS = 60.0
YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}

Row = tuple[int, dict[str, Any]]
"""The line of the file, and what is sent for it."""


def read_candidates(path: Path, job_id: str) -> list[Row]:
    """What is to be created. Raises InvalidInput, with the line."""
    text = read_text(path)
    extra = [column for column in columns_of(text) if column.startswith(METADATA)]
    found: list[Row] = []
    lines: dict[str, int] = {}
    for line, cells in rows_of(text, path.name, REQUIRED, (*REQUIRED, *OPTIONAL, *extra)):
        try:
            body = _body(cells, job_id)
        except ValueError as error:
            raise InvalidInput(f"{path.name}, line {line}: {error}") from None
        twin = lines.setdefault(body["idempotency_key"], line)
        if twin != line:
            raise InvalidInput(
                f"{path.name}, line {line}: {cells['email']} is in line {twin} already; for a second interview give "
                "each a value of its own in the column 'key'."
            )
        found.append((line, body))
    if not found:
        raise InvalidInput(f"{path.name}: there is no candidate in it.")
    return found


def _body(cells: dict[str, str], job_id: str) -> dict[str, Any]:
    for column in REQUIRED:
        if cells[column].startswith(FORMULAS):
            raise ValueError(f"the {column} begins like a formula: {cells[column][:40]!r}")
    if any(cell.startswith("=") for cell in cells.values()):
        raise ValueError("a cell has a formula in it; save the values")
    body: dict[str, Any] = {"name": cells["name"], "email": cells["email"], "job_id": job_id}
    body |= {name: cells[name] for name in ("phone", "scheduled_at", "expires_at") if cells.get(name)}
    granted: dict[str, Any] = {}
    if cells.get("time_multiplier"):
        try:
            granted["time_multiplier"] = finite(cells["time_multiplier"].replace(",", "."))
        except ValueError:
            raise ValueError(f"time_multiplier is {cells['time_multiplier'][:40]!r}, and no number") from None
    if cells.get("camera_exempt"):
        if cells["camera_exempt"].lower() not in YES_NO:
            raise ValueError(f"camera_exempt is {cells['camera_exempt'][:40]!r}; write yes or no")
        granted["camera_exempt"] = YES_NO[cells["camera_exempt"].lower()]
    if granted:
        body["accommodations"] = granted
    metadata = {n.removeprefix(METADATA): cell for n, cell in cells.items() if n.startswith(METADATA) and cell}
    if metadata:
        body["metadata"] = metadata
    return body | {"idempotency_key": invitation_key(job_id, cells["email"], cells.get("key", ""))}


def invitation_key(job_id: str, email: str, key: str) -> str:
    """The same for the same candidate and job, so that a second run finds what the first one made."""
    identity = "\0".join((job_id, email.casefold(), key))
    return f"invite-{hashlib.sha256(identity.encode()).hexdigest()[:40]}"


def check(http: httpx.Client, rows: list[Row], name: str) -> list[str]:
    """What the service finds wrong with them: a sentence each, with the line."""
    problems: list[str] = []
    for some in _chunks(rows):
        answer = _call(http, {"sessions": [body for _, body in some], "dry_run": True})
        problems += [
            f"{name}, line {some[r['index']][0]}: {r['detail']}" for r in answer["results"] if r["status"] == "error"
        ]
    return problems


def invite(
    http: httpx.Client, rows: list[Row], made: Callable[[int], None]
) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """(line, what was sent, the result) of each, as they are made. `made` is told how many more there are now."""
    for some in _chunks(rows):
        left = list(some)
        give_up = time.monotonic() + PATIENCE_SECONDS
        while left:
            answer = _call(http, {"sessions": [body for _, body in left]})
            again: list[Row] = []
            for result in answer["results"]:
                line, body = left[result["index"]]
                if "retry_after" in result and time.monotonic() < give_up:
                    again.append((line, body))
                    continue
                made(1)
                yield line, body, result
            if again:
                time.sleep(1.0)
            left = again


def _chunks(rows: list[Row]) -> Iterator[list[Row]]:
    return (rows[start : start + A_CALL] for start in range(0, len(rows), A_CALL))


def _call(http: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    """The answer, asked for again while the service is not there or says so. Raises InvalidInput for a refusal."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            answer = http.post("/sessions/bulk", json=body, timeout=CALLS_SECONDS)
            if answer.status_code not in (429, 502, 503, 504) or time.monotonic() > give_up:
                break
        except httpx.TransportError:
            if time.monotonic() > give_up:
                raise
        time.sleep(1.0)
    try:
        content: dict[str, Any] = answer.json()
    except ValueError:
        raise InvalidInput(f"What answers there is not the service: {answer.status_code}, and no JSON.") from None
    if answer.status_code != 200:
        raise InvalidInput(str(content.get("detail", f"The service answered {answer.status_code}.")))
    return content
