"""People's data: everything about one candidate, to be handed out or erased. /api/parallel_interview/candidates"""

from __future__ import annotations

import asyncio
import json
import tempfile
import zipfile
from collections.abc import Iterator
from typing import IO, Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from actors.clock import wall_ms
from api.answers import sessions as views
from api.described import answers, binary
from api.routes.sessions import Client
from api.security import Admin
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.interview.snapshot import Snapshot
from orchestrator.interview.view import event_views, iso, session_view
from orchestrator.policies import policy_of
from orchestrator.storage.queries import Wanted

router = APIRouter(prefix="/api/parallel_interview/candidates", tags=["people's data"])

Email = Annotated[str, Query(min_length=3, max_length=320)]
PAGE = 200
IN_MEMORY_BYTES = 8 * 2**20
CHUNK_BYTES = 2**18
EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


@router.delete("")
@answers(views.Erased)
async def erase_candidate(email: Email, client: Client, caller: Admin) -> dict[str, Any]:
    """Erase everything about a candidate: each session as DELETE does it, ending those that are live.

    What stays is that it happened: when, by whose key, and how many sessions. After an error, repeat it: what could be
    erased is.
    """
    erased, failure = 0, None
    for snapshot in await _sessions_of(email, client):
        try:
            await client.delete(snapshot.session_id, caller)
            erased += 1
        except NotFound:
            continue  # by somebody else, meanwhile
        except OrchestratorError as error:
            failure = error
    if erased:
        await client.store.note_erasure(wall_ms(), caller.principal, erased)
    if failure is not None:
        raise failure
    return {"status": "success", "erased_sessions": erased}


@router.get("/erasures")
@answers(views.Erasures)
async def list_erasures(client: Client, caller: Admin) -> dict[str, Any]:
    """When candidates were erased, by whose key, and how many sessions each had; nothing that identifies them."""
    found = await client.store.erasures()
    return {
        "status": "success",
        "erasures": [{"at": iso(one["at"]), "by": one["by"], "sessions": one["sessions"]} for one in found],
    }


@router.get("/export")
@answers(None, 404, media={"application/zip": binary("A ZIP archive.")}, headers=("Content-Disposition",))
async def export_candidate(email: Email, client: Client, caller: Admin) -> StreamingResponse:
    """Everything that is kept about a candidate, as a ZIP archive: sessions, journals, reports and pictures
    (but not stills that nobody has looked at yet, and not what a face was turned into for comparing)."""
    sessions = await _sessions_of(email, client)
    if not sessions:
        raise NotFound("There is no session of a candidate with this address.")
    file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - closed when it has been sent
    try:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for snapshot in sessions:
                await _add_session(archive, snapshot.session_id, client)
    except BaseException:
        file.close()
        raise
    headers = {"Content-Disposition": 'attachment; filename="candidate.zip"', "Cache-Control": "private, no-store"}
    return StreamingResponse(_chunks(file), media_type="application/zip", headers=headers)


async def _sessions_of(email: str, client: Client) -> list[Snapshot]:
    await client.catch_up()
    found: list[Snapshot] = []
    before: tuple[int, str] | None = None
    while page := await client.store.list_snapshots(Wanted(email=email), limit=PAGE, before=before):
        found += page
        before = (page[-1].created_at, page[-1].session_id)
    return found


async def _add_session(archive: zipfile.ZipFile, session_id: str, client: Client) -> None:
    try:
        state = await client.read(session_id)
    except NotFound:
        return
    entries = await client.store.entries(session_id, 0, 0)
    parts: dict[str, Any] = {
        "session.json": session_view(state, wall_ms(), "staff", policy_of(state)),
        "journal.json": event_views(entries),
    }
    report = await client.store.report_of(session_id)
    if report is not None:
        parts["report.json"] = await asyncio.to_thread(report.content)
    draft = await client.store.draft_of(session_id)
    if draft is not None:
        parts["draft.json"] = {"question_index": draft.question_index, "text": draft.text, "at": iso(draft.at)}
    for name, content in parts.items():
        text = await asyncio.to_thread(json.dumps, content, ensure_ascii=False, indent=2)
        await asyncio.to_thread(archive.writestr, f"{session_id}/{name}", text)
    reference = await client.store.reference_of(session_id)
    if reference is not None:
        await _add_picture(archive, f"{session_id}/reference", reference.image, reference.media_type)
    for still in await client.store.kept_of(session_id):
        image = await client.store.kept_image(session_id, still.id)
        if image is not None:
            await _add_picture(archive, f"{session_id}/stills/{still.id}", *image)


async def _add_picture(archive: zipfile.ZipFile, name: str, image: bytes, kind: str) -> None:
    await asyncio.to_thread(archive.writestr, f"{name}.{EXTENSIONS.get(kind, 'bin')}", image, zipfile.ZIP_STORED)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
