"""Sessions for spreadsheets and other programs: /api/parallel_interview/sessions/export."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from actors.clock import wall_ms
from api.described import answers
from api.routes.sessions import Client, Filters
from api.security import Reader
from orchestrator.interview.snapshot import Snapshot
from orchestrator.interview.state import load_state
from orchestrator.interview.view import session_view
from orchestrator.policies import policy_of
from orchestrator.tables import table

router = APIRouter(prefix="/api/parallel_interview", tags=["sessions"])

PAGE = 50
CSV: dict[str, Any] = {"type": "string", "description": "A line of names, and one for each session."}
JSON_LINES: dict[str, Any] = {"type": "string", "description": "One JSON object a line: ExportedSession."}
COLUMNS = [
    "session_id",
    "status",
    "end_reason",
    "name",
    "email",
    "phone",
    "job_id",
    "created_at",
    "scheduled_at",
    "started_at",
    "completed_at",
    "duration_seconds",
    "answered",
    "questions",
    "credited_seconds",
    "integrity_score",
]


@router.get("/sessions/export")
@answers(None, media={"text/csv": CSV, "application/jsonl": JSON_LINES}, headers=("Content-Disposition",))
async def export_sessions(
    client: Client,
    caller: Reader,
    wanted: Filters,
    format: Annotated[Literal["csv", "jsonl"], Query()] = "csv",
) -> StreamingResponse:
    """All sessions that the filters leave, newest first: a row of figures each, or the whole session as staff see it.

    What is created meanwhile is left out; a connection that breaks in between is not resumed.
    """
    await client.catch_up()
    first = await client.store.list_snapshots(wanted, limit=PAGE)

    async def pages() -> AsyncIterator[list[Snapshot]]:
        page = first
        while page:
            yield page
            if len(page) < PAGE:
                return
            page = await client.store.list_snapshots(
                wanted, limit=PAGE, before=(page[-1].created_at, page[-1].session_id)
            )

    async def lines() -> AsyncIterator[str]:
        if format == "csv":
            yield "".join(table(COLUMNS, []))
        async for page in pages():
            yield await asyncio.to_thread(_lines, page, format)

    kind = "text/csv; charset=utf-8" if format == "csv" else "application/jsonl"
    headers = {"Content-Disposition": f'attachment; filename="sessions.{format}"', "Cache-Control": "private, no-store"}
    return StreamingResponse(lines(), media_type=kind, headers=headers)


def _lines(page: list[Snapshot], format: str) -> str:
    views = [_view(snapshot) for snapshot in page]
    if format == "csv":
        return "".join(list(table(COLUMNS, map(_row, views)))[1:])
    return "".join(json.dumps(view, ensure_ascii=False) + "\n" for view in views)


def _view(snapshot: Snapshot) -> dict[str, Any]:
    state = load_state(snapshot.state)
    duration = state.duration_ms
    view = session_view(state, wall_ms(), "staff", policy_of(state))
    return view | {"duration_seconds": None if duration is None else duration / 1000}


def _row(view: dict[str, Any]) -> list[Any]:
    candidate, integrity = view["candidate"], view["proctoring"]["integrity"]
    return [
        view["session_id"],
        view["status"],
        view["end_reason"],
        candidate["name"],
        candidate["email"],
        candidate["phone"],
        view["job_id"],
        view["created_at"],
        view["scheduled_at"],
        view["started_at"],
        view["completed_at"],
        view["duration_seconds"],
        sum(answer["source"] == "submitted" for answer in view["answers"]),
        view["max_questions"],
        view["clock"]["credited_seconds"],
        integrity["score"] if integrity else None,
    ]
