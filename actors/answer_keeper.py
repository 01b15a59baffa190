"""AnswerKeeper: retention of answers. What the candidate wrote is erased, the interview and its figures stay."""

from __future__ import annotations

import logging

from actors.client import InterviewClient
from actors.evidence_keeper import RETENTION, Each
from orchestrator.errors import NotFound
from orchestrator.interview.commands import SYSTEM, NoteErased
from orchestrator.interview.report import without_answers
from orchestrator.interview.state import snapshot_of
from orchestrator.session import Session

log = logging.getLogger(__name__)

BATCH = 200
MARK = "answers erased"
"""Up to which end of interviews (ms) it is done."""


class AnswerKeeper:
    """`each` does some work for every item, some at a time; one that fails does not stop the others."""

    def __init__(self, client: InterviewClient, each: Each) -> None:
        self._client = client
        self._store = client.store
        self._each = each

    async def erase(self, before: int) -> None:
        """Erase answers of interviews that ended before a time (ms). The mark stays where one has failed, so that it is
        tried again; those after it are erased all the same."""
        done: set[str] = set()
        failed: list[int] = []

        async def one(session_id: str) -> None:
            await self._erase(session_id)
            done.add(session_id)

        since = await self._store.mark(MARK) or 0
        if since >= before:
            return
        while found := await self._store.ended_between(since, before, BATCH):
            await self._each(one, [session_id for session_id, _ in found if session_id not in done])
            failed += [ended_at for session_id, ended_at in found if session_id not in done]
            if len(found) < BATCH:
                break
            # Others may have ended in the same moment as the last of a full round.
            since = max(found[-1][1], since + 1)
        if failed:
            log.warning("answers were not erased", extra={"sessions": len(failed)})
        await self._store.set_mark(MARK, min([before, *failed]))

    async def _erase(self, session_id: str) -> None:
        """The journal says it first; what a crash leaves is found again, since the mark is set last."""
        try:
            await self._client.send(session_id, NoteErased("answers", RETENTION), SYSTEM)
        except NotFound:
            return  # it was deleted, with everything
        session = await Session.load(self._store, session_id)
        await self._store.save_snapshot(snapshot_of(session.state))
        await self._store.redact_answers(session_id)
        report = await self._store.report_of(session_id)
        if report is not None:
            await self._store.save_report(report.with_content(without_answers(report.content())))
