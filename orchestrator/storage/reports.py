"""Reports: {_id: session_id, as_of, content}, the newest of each session; and when candidates were erased.

The content is JSON text, compressed so that the longest interview's fits into a document, and as base64, since the
embedded server does not replace documents that have bytes in them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import zlib
from dataclasses import dataclass, replace
from typing import Any

from pymongo.errors import DuplicateKeyError

from orchestrator.storage.connection import guarded


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report of all events up to `as_of`."""

    session_id: str
    as_of: int
    text: str

    def content(self) -> dict[str, Any]:
        return json.loads(self.text)

    def with_content(self, content: dict[str, Any]) -> StoredReport:
        """The same report with another content."""
        return replace(self, text=json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


class ReportStore:
    """The part of Store that keeps reports."""

    _db: Any
    _timeout: float

    async def save_report(self, report: StoredReport) -> bool:
        """Keep it, unless one of more events is there; False then."""
        packed = await asyncio.to_thread(zlib.compress, report.text.encode())
        document = {
            "_id": report.session_id,
            "as_of": report.as_of,
            "content": base64.b64encode(packed).decode(),
        }
        async with guarded(max(self._timeout, 10.0), writing=True):
            try:
                await self._db.reports.insert_one(document)
            except DuplicateKeyError:
                older = {"_id": report.session_id, "as_of": {"$lte": report.as_of}}
                result = await self._db.reports.replace_one(older, document)
                return result.matched_count > 0
        return True

    async def report_of(self, session_id: str) -> StoredReport | None:
        """A session's newest report."""
        async with guarded(max(self._timeout, 10.0), writing=False):
            found = await self._db.reports.find_one({"_id": session_id})
        if found is None:
            return None
        text = await asyncio.to_thread(lambda: zlib.decompress(base64.b64decode(found["content"])).decode())
        return StoredReport(session_id, found["as_of"], text)

    async def note_erasure(self, at: int, by: str, sessions: int) -> None:
        """Keep that a candidate was erased: when (ms), by whom, and of how many sessions; not who it was."""
        async with guarded(self._timeout, writing=True):
            await self._db.erasures.insert_one({"_id": secrets.token_hex(12), "at": at, "by": by, "sessions": sessions})

    async def erasures(self) -> list[dict[str, Any]]:
        """Oldest first."""
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.erasures.find({}).to_list(None)
        return sorted(found, key=lambda one: one["at"])

    async def erase_report(self, session_id: str) -> None:
        async with guarded(self._timeout, writing=True):
            await self._db.reports.delete_one({"_id": session_id})
