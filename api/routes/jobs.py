"""Jobs, that is question banks: /api/parallel_interview/jobs."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from actors.clock import wall_ms
from api import schemas
from api.answers import work as views
from api.described import answers
from api.headers import CommandId
from api.routes.sessions import Client
from api.security import Manager, Reader
from orchestrator.errors import InvalidInput, NotFound, StateConflict, Unavailable
from orchestrator.interview.view import iso
from orchestrator.jobs import DEFAULT_JOB_ID

router = APIRouter(prefix="/api/parallel_interview/jobs", tags=["jobs"])

TRIES = 5


@router.post("")
@answers(views.JobAnswer, 409)
async def create_job(
    body: schemas.JobBody, client: Client, caller: Manager, key: CommandId, response: Response
) -> dict[str, Any]:
    """A new question bank. The same bank again is a success that changes nothing."""
    if key is not None and await client.store.remember_key(caller.principal, key, _hash(body), wall_ms()):
        response.headers["Idempotency-Replayed"] = "true"
    job = _job(body.job_id, body, iso(wall_ms()))
    if not await client.store.put_job(job, create=True):
        known = await client.store.get_job(body.job_id)
        if known is None or _said(known) != _said(job):
            raise StateConflict(f"There is a job {body.job_id!r} already; PUT replaces it.")
        job = known
    return {"status": "success", "job": job}


@router.get("")
@answers(views.JobList)
async def list_jobs(client: Client, caller: Reader) -> dict[str, Any]:
    """All question banks."""
    jobs = await client.store.list_jobs()
    return {"status": "success", "jobs": jobs, "count": len(jobs)}


@router.get("/{job_id}")
@answers(views.JobAnswer)
async def get_job(
    job_id: str, client: Client, caller: Reader, version: Annotated[int | None, Query(ge=1, le=2**31)] = None
) -> dict[str, Any]:
    """One question bank, as it is or as it was in an older version."""
    job = await (client.store.get_job(job_id) if version is None else client.store.get_job_version(job_id, version))
    if job is None:
        raise _unknown(job_id)
    return {"status": "success", "job": job}


@router.put("/{job_id}")
@answers(views.JobAnswer)
async def replace_job(job_id: str, body: schemas.JobUpdateBody, client: Client, caller: Manager) -> dict[str, Any]:
    """Replace a question bank; sessions keep the questions they were created with."""
    if body.job_id not in (None, job_id):
        raise InvalidInput.at("/job_id", "job_id must be the one in the address, or be left out.")
    for _ in range(TRIES):
        known = await client.store.get_job(job_id)
        if known is None:
            raise _unknown(job_id)
        job = _job(job_id, body, iso(wall_ms()))
        if _said(known) == _said(job):
            return {"status": "success", "job": known}
        job |= {"created_at": known.get("created_at"), "version": known.get("version", 1) + 1}
        if await client.store.put_job(job, create=False):
            return {"status": "success", "job": job}
    raise Unavailable("The job is being replaced by others; try again.", retry_after=1)


@router.delete("/{job_id}")
@answers(views.JobDeleted, 409)
async def delete_job(job_id: str, client: Client, caller: Manager) -> dict[str, Any]:
    """Remove a question bank. The job `default` always exists."""
    if job_id == DEFAULT_JOB_ID:
        raise StateConflict("The job 'default' cannot be removed; PUT replaces its questions.")
    if not await client.store.delete_job(job_id):
        raise _unknown(job_id)
    return {"status": "success", "job_id": job_id, "deleted": True}


def _said(job: dict[str, Any]) -> list[Any]:
    """What a client has said of a job, without what we have added."""
    return [job["title"], job["questions"], job.get("pick"), job.get("shuffle", False)]


def _job(job_id: str, body: schemas.JobFields, now: str | None) -> dict[str, Any]:
    questions = [q.model_dump(exclude_none=True) for q in body.questions]
    return {
        "job_id": job_id,
        "title": body.title,
        "questions": questions,
        "pick": body.pick,
        "shuffle": body.shuffle,
        "version": 1,
        "created_at": now,
        "updated_at": now,
    }


def _hash(body: schemas.JobBody) -> str:
    return hashlib.sha256(body.model_dump_json().encode()).hexdigest()


def _unknown(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id[:100]!r}.")
