"""Question banks: {job_id, title, questions: [{text, type, time_limit_seconds}], created_at, updated_at}."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pymongo.errors import DuplicateKeyError

from orchestrator.errors import CommandIdReused
from orchestrator.storage.connection import guarded

Job = dict[str, Any]


class JobStore:
    """The part of Store that keeps jobs. The content is one JSON text, so every server returns it as it was."""

    _db: Any
    _timeout: float

    async def put_job(self, job: Job, *, create: bool) -> bool:
        """Insert or replace. False: it exists already (create), or there is none (replace)."""
        document = {"_id": job["job_id"], "content": json.dumps(job, ensure_ascii=False)}
        async with guarded(self._timeout, writing=True):
            if not create:
                result = await self._db.jobs.replace_one({"_id": job["job_id"]}, document)
                return result.matched_count > 0
            try:
                await self._db.jobs.insert_one(document)
            except DuplicateKeyError:
                return False
        return True

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
                if known is not None and known["body"] != body_hash:
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
        async with guarded(self._timeout, writing=True):
            result = await self._db.jobs.delete_one({"_id": job_id})
        return result.deleted_count > 0
