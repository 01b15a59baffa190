"""Reports: /api/reports/{session_id}, for programs as JSON and for people as a page."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from api import report_page, report_pdf, schemas
from api.answers import reports as views
from api.described import answers, binary
from api.errors import status_of
from api.headers import CommandId, IfMatch, session_answer
from api.routes import pages
from api.routes.sessions import VARY, Client
from api.security import Supervisor, authenticated, has_scope, require_participant
from orchestrator.errors import Forbidden, NotFound, StateConflict, Unauthorized
from orchestrator.interview import commands
from orchestrator.interview.decide import require_reportable
from orchestrator.interview.report import for_candidate

router = APIRouter(prefix="/api/reports", tags=["reports"])

RETRY_SECONDS = 2
PAGE = {"type": "string", "description": "A page for people."}
PICTURE_BYTES = 8 * 2**20
_pdfs = report_pdf.PdfMaker()
_renderer = ThreadPoolExecutor(1, "report")
"""One thread, so that a page that takes long holds up nothing but pages."""
HEADERS = {"Cache-Control": "private, no-store", "Vary": f"Accept, {VARY}", "Referrer-Policy": "no-referrer"}


@router.get("/{session_id}")
@answers(
    views.ReportAnswer,
    409,
    501,
    models={202: views.ReportPending},
    media={"text/html": PAGE, "application/pdf": binary("The page as a PDF.")},
    pages=(202, 401, 403, 404, 409),
    scopes=(("read",), True),
    headers=("Content-Disposition",),
)
async def get_report(
    session_id: str,
    request: Request,
    client: Client,
    format: Annotated[Literal["json", "html", "pdf"] | None, Query()] = None,
) -> Response:
    """The report of a completed interview. `outdated`: something has happened since, and a newer one is being made."""
    accepted = request.headers.get("accept", "")
    wants_pdf = format == "pdf" or (format is None and accepted.startswith("application/pdf"))
    wants_page = format == "html" or (format is None and "text/html" in accepted)
    try:
        caller = await authenticated(request)
        await require_participant(request, caller, session_id, "read")
        if caller.role == "candidate" and not client.settings.candidate_reports:
            raise Forbidden("Reports are for staff.")
        state = await client.read(session_id)
        require_reportable(state)
    except Unauthorized:
        if not wants_page:
            raise
        return pages.sign_in(request)
    except (Forbidden, NotFound, StateConflict) as error:
        if not wants_page:
            raise
        return _page(report_page.message(error.detail), status_of(error))
    stored = await client.store.report_of(session_id)
    if stored is None:
        headers = HEADERS | {"Retry-After": str(RETRY_SECONDS)}
        if wants_page:
            return _page(report_page.message("The report is being made.", again_in=RETRY_SECONDS), 202, headers)
        pending = {"status": "pending", "session_id": session_id, "detail": "The report is being made."}
        return JSONResponse(pending, 202, headers=headers)
    content = await asyncio.to_thread(stored.content)
    shown = content if caller.role == "staff" else for_candidate(content)
    shown["outdated"] = state.report_due > stored.as_of
    if not wants_page and not wants_pdf:
        return JSONResponse({"status": "success", "report": shown}, headers=HEADERS)
    staff = caller.role == "staff"
    pictures = await _pictures(client, session_id) if staff and has_scope(request, "proctor") else []
    work = functools.partial(report_page.render, shown, pictures, for_staff=staff)
    page = await asyncio.get_running_loop().run_in_executor(_renderer, work)
    if not wants_pdf:
        return _page(page)
    name = f'attachment; filename="interview-{session_id}.pdf"'
    headers = HEADERS | {"Content-Disposition": name, "X-Content-Type-Options": "nosniff"}
    return Response(await _pdfs.make(page), media_type="application/pdf", headers=headers)


@router.post("/{session_id}/review")
@answers(views.ReviewAnswer, 409)
async def review_report(
    session_id: str, body: schemas.ReviewBody, client: Client, caller: Supervisor, key: CommandId, version: IfMatch
) -> Response:
    """What a person decides, having read the report. The journal keeps who it was; the last decision counts."""
    reply = await client.send(session_id, commands.Review(body.verdict, body.note), caller, key, version)
    return session_answer(reply, session_id=session_id, review={"verdict": body.verdict, "note": body.note})


async def _pictures(client: Client, session_id: str) -> list[tuple[str, bytes, str]]:
    """(id, bytes, media type) of stills, spread over the interview if there are too many to show."""
    kept = await client.store.kept_of(session_id)
    step = max(1, -(-len(kept) // report_page.PICTURES))
    found: list[tuple[str, bytes, str]] = []
    left = PICTURE_BYTES
    for still in kept[::step]:
        left -= still.size
        image = await client.store.kept_image(session_id, still.id) if left >= 0 else None
        if image is not None:
            found.append((still.id, *image))
    return found


def _page(text: str, status: int = 200, headers: dict[str, str] = HEADERS) -> HTMLResponse:
    return HTMLResponse(text, status, headers=headers | report_page.HEADERS)
