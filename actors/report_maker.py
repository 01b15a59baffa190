"""make_reports: the Ray task that makes reports of completed interviews, in a process of its own.

It can be repeated and run twice at once: a report is kept only over an older one, and noted once in the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import traceback
from typing import Any

from actors.clock import wall_ms
from actors.storage import open_store
from orchestrator import __version__, evaluators, logs
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.interview.commands import SYSTEM, NoteReport
from orchestrator.interview.fold import fold_all
from orchestrator.interview.report import Extras, report_of, scores_in, without_details
from orchestrator.interview.state import State, snapshot_of
from orchestrator.jobs import DEFAULT_JOB_ID
from orchestrator.policies import policy_of
from orchestrator.session import Request, Session
from orchestrator.settings import get_settings
from orchestrator.storage.reports import StoredReport
from orchestrator.storage.store import Store

log = logging.getLogger(__name__)

MAX_BYTES = 13_500_000
"""Of JSON text: 200 answers of 64 KB. Packed, it fits into a document even if it cannot be made smaller."""


def make_reports(session_ids: list[str]) -> dict[str, str | None]:
    """What became of each: None, or the code of the error."""
    logs.configure()
    return asyncio.run(_make_all(session_ids))


async def _make_all(session_ids: list[str]) -> dict[str, str | None]:
    store = await open_store()
    try:
        return {session_id: await _made(store, session_id) for session_id in session_ids}
    finally:
        await store.close()


async def _made(store: Store, session_id: str) -> str | None:
    try:
        await make_report(store, session_id)
    except NotFound:  # it was deleted meanwhile, perhaps after a task that has died had kept a report
        with contextlib.suppress(OrchestratorError):
            await store.erase_report(session_id)
        return None
    except OrchestratorError as error:
        return error.code
    except Exception as error:
        where = "".join(traceback.format_tb(error.__traceback__))  # its message may hold an answer
        problem = type(error).__name__
        log.error("a report could not be made", extra={"session_id": session_id, "error": problem, "where": where})
        return problem
    return None


async def make_report(store: Store, session_id: str) -> StoredReport | None:
    """Make the report of all that is in the journal now, keep it, and note it. None: there is nothing to report.

    Raises NotFound, and what the store raises.
    """
    session = await Session.load(store, session_id)
    if session.state.report_work is None:
        await store.save_snapshot(snapshot_of(session.state))  # what was found by is old
        return None
    entries = await store.entries(session_id, 0, 0)
    if entries and entries[-1].tombstone:
        raise NotFound.session(session_id)
    chain = store.verified(entries)
    state = fold_all(None, entries)
    assert state is not None
    job = await store.get_job(state.job_id or DEFAULT_JOB_ID)
    extras = Extras(
        chain=chain,
        software=__version__,
        policy=policy_of(state),
        job_title=job["title"] if job else None,
        stills={still.id: still for still in await store.kept_of(session_id)},
        scores=await _scores(store, state),
    )
    content = report_of(entries, extras, wall_ms())
    text = _json(content)
    if len(text.encode()) > MAX_BYTES:
        content = without_details(content)
        text = _json(content)
    report = StoredReport(session_id, state.seq, text)
    await store.save_report(report)
    now = wall_ms()
    integrity = content["proctoring"]["integrity"]
    score = integrity["score"] if integrity else None
    note = NoteReport(state.seq, hashlib.sha256(text.encode()).hexdigest(), score)
    try:
        await session.execute(Request(note, SYSTEM, now), now)
    except NotFound:
        await store.erase_report(session_id)
        raise
    await store.save_snapshot(snapshot_of(session.state))
    return report


async def _scores(store: Store, state: State) -> list[dict[str, Any]]:
    """Of answers that were erased meanwhile those of the report before stay."""
    if state.answers_erased_at is None:
        return evaluators.scores_of(state, evaluators.installed(get_settings().evaluators))
    before = await store.report_of(state.session_id)
    return scores_in(before.content()) if before is not None else []


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
