"""Jobs, that is question banks: /api/parallel_interview/jobs."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import APIRouter, Response

from actors.clock import wall_ms
from api import schemas
from api.headers import CommandId
from api.routes.sessions import Client
from api.security import Staff
from orchestrator.errors import InvalidInput, NotFound, StateConflict
from orchestrator.interview.view import iso
from orchestrator.jobs import DEFAULT_JOB_ID

router = APIRouter(prefix="/api/parallel_interview/jobs", tags=["jobs"])


@router.post("")
async def create_job(
    body: schemas.JobBody, client: Client, caller: Staff, key: CommandId, response: Response
) -> dict[str, Any]:
    """A new question bank. The same bank again is a success that changes nothing."""
    if key is not None and await client.store.remember_key(caller.principal, key, _hash(body), wall_ms()):
        response.headers["Idempotency-Replayed"] = "true"
    job = _job(body.job_id, body, iso(wall_ms()))
    if not await client.store.put_job(job, create=True):
        known = await client.store.get_job(body.job_id)
        if known is None or (known["title"], known["questions"]) != (job["title"], job["questions"]):
            raise StateConflict(f"There is a job {body.job_id!r} already; PUT replaces it.")
        job = known
    return {"status": "success", "job": job}


@router.get("")
async def list_jobs(client: Client, caller: Staff) -> dict[str, Any]:
    """All question banks."""
    jobs = await client.store.list_jobs()
    return {"status": "success", "jobs": jobs, "count": len(jobs)}


@router.get("/{job_id}")
async def get_job(job_id: str, client: Client, caller: Staff) -> dict[str, Any]:
    """One question bank."""
    job = await client.store.get_job(job_id)
    if job is None:
        raise _unknown(job_id)
    return {"status": "success", "job": job}


@router.put("/{job_id}")
async def put_job(job_id: str, body: schemas.JobUpdateBody, client: Client, caller: Staff) -> dict[str, Any]:
    """Replace a question bank; sessions keep the questions they were created with."""
    if body.job_id not in (None, job_id):
        raise InvalidInput.at("/job_id", "job_id must be the one in the address, or be left out.")
    known = await client.store.get_job(job_id)
    if known is None:
        raise _unknown(job_id)
    job = {**_job(job_id, body, iso(wall_ms())), "created_at": known.get("created_at")}
    await client.store.put_job(job, create=False)
    return {"status": "success", "job": job}


@router.delete("/{job_id}")
async def delete_job(job_id: str, client: Client, caller: Staff) -> dict[str, Any]:
    """Remove a question bank. The job `default` always exists."""
    if job_id == DEFAULT_JOB_ID:
        raise StateConflict("The job 'default' cannot be removed; PUT replaces its questions.")
    if not await client.store.delete_job(job_id):
        raise _unknown(job_id)
    return {"status": "success", "job_id": job_id, "deleted": True}


def _job(job_id: str, body: schemas.JobFields, now: str | None) -> dict[str, Any]:
    questions = [q.model_dump(exclude_none=True) for q in body.questions]
    return {
        "job_id": job_id,
        "title": body.title,
        "questions": questions,
        "created_at": now,
        "updated_at": now,
    }


def _hash(body: schemas.JobBody) -> str:
    return hashlib.sha256(body.model_dump_json().encode()).hexdigest()


def _unknown(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id[:100]!r}.")
