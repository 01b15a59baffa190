"""Question banks: {job_id, title, questions: [{text, type, time_limit_seconds}], pick?, shuffle?, version, created_at,
updated_at}. What was replaced is kept, by its version."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

from pymongo.errors import DuplicateKeyError

from orchestrator.errors import CommandIdReused, OutcomeUnknown
from orchestrator.storage.connection import guarded

Job = dict[str, Any]


class JobStore:
    """The part of Store that keeps jobs. The content is one JSON text, so every server returns it as it was."""

    _db: Any
    _timeout: float

    async def put_job(self, job: Job, *, create: bool) -> bool:
        """Insert, or replace the version before it. False: it exists already (create), or that version is not there."""
        version = job.get("version", 1)
        document = _document(job["job_id"], job)
        async with guarded(self._timeout, writing=True):
            if not create:
                before = await self._db.jobs.find_one({"_id": job["job_id"]})
                if before is None:
                    return False
                known = json.loads(before["content"])
                if known.get("version", 1) != version - 1:
                    return False
                with contextlib.suppress(DuplicateKeyError):
                    await self._db.job_versions.insert_one(_document(_version_key(job["job_id"], version - 1), known))
                same = {"_id": job["job_id"], "content": before["content"]}
                return (await self._db.jobs.replace_one(same, document)).matched_count > 0
            try:
                await self._db.jobs.insert_one(document)
            except DuplicateKeyError:
                if await self._db.jobs.find_one({"_id": job["job_id"]}, {"_id": 1}) is None:
                    raise OutcomeUnknown("The job is just being stored; repeat the request.", retry_after=1) from None
                return False
        return True

    async def get_job_version(self, job_id: str, version: int) -> Job | None:
        """A job as it was in a version."""
        job = await self.get_job(job_id)
        if job is None or job.get("version", 1) == version:
            return job
        async with guarded(self._timeout, writing=False):
            found = await self._db.job_versions.find_one({"_id": _version_key(job_id, version)})
        return json.loads(found["content"]) if found else None

    async def remember_key(self, principal: str, key: str, body_hash: str, now: int) -> bool:
        """Keep an idempotency key of a call that makes no session. True: it was known, with this body.

        Raises CommandIdReused if it came with another one. `now` in ms; see forget_keys.
        """
        name = hashlib.sha256(f"{principal}\0{key}".encode()).hexdigest()
        async with guarded(self._timeout, writing=True):
            try:
                await self._db.keys.insert_one({"_id": name, "body": body_hash, "at": now})
            except DuplicateKeyError:
                known = await self._db.keys.find_one({"_id": name})
                if known is None:
                    raise OutcomeUnknown("The key is just being kept; repeat the request.", retry_after=1) from None
                if known["body"] != body_hash:
                    raise CommandIdReused("This Idempotency-Key was used with another body.") from None
                return True
        return False

    async def forget_keys(self, before: int) -> None:
        """Drop the keys kept since before a time (ms)."""
        async with guarded(self._timeout, writing=True):
            await self._db.keys.delete_many({"at": {"$lt": before}})

    async def get_job(self, job_id: str) -> Job | None:
        async with guarded(self._timeout, writing=False):
            found = await self._db.jobs.find_one({"_id": job_id})
        return json.loads(found["content"]) if found else None

    async def list_jobs(self) -> list[Job]:
        """All jobs, by their ids."""
        async with guarded(self._timeout, writing=False):
            found = await self._db.jobs.find({}).to_list(None)
        return sorted((json.loads(d["content"]) for d in found), key=lambda job: job["job_id"])

    async def delete_job(self, job_id: str) -> bool:
        job = await self.get_job(job_id)
        if job is None:
            return False
        versions = [_version_key(job_id, version) for version in range(1, job.get("version", 1) + 1)]
        async with guarded(self._timeout, writing=True):
            result = await self._db.jobs.delete_one({"_id": job_id})
            await self._db.job_versions.delete_many({"_id": {"$in": versions}})
        return result.deleted_count > 0


def _version_key(job_id: str, version: int) -> str:
    return f"{job_id}:{version}"


def _document(key: str, job: Job) -> dict[str, Any]:
    return {"_id": key, "content": json.dumps(job, ensure_ascii=False)}
