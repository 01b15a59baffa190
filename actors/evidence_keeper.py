"""EvidenceKeeper: retention of pictures. What has expired is erased, reference faces first, and the journal says so."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from actors.client import InterviewClient
from orchestrator.errors import NotFound
from orchestrator.interview.commands import SYSTEM, NoteErased

BATCH = 500
RETENTION = "retention"

Each = Callable[[Callable[[Any], Awaitable[Any]], Iterable[Any]], Awaitable[None]]


class EvidenceKeeper:
    """`each` does some work for every item, some at a time; one that fails does not stop the others."""

    def __init__(self, client: InterviewClient, each: Each) -> None:
        self._client = client
        self._store = client.store
        self._each = each

    async def erase_expired(self, now: int) -> None:
        """Erase what has expired by `now` (ms). What a crash cuts short is found again: the picture goes last."""
        await self._each(self._erase_reference, await self._store.expired_references(now, BATCH))
        stills: dict[str, list[str]] = defaultdict(list)
        for session_id, still_id in await self._store.expired_stills(now, BATCH):
            stills[session_id].append(still_id)
        await self._each(self._erase_stills, list(stills.items()))

    async def _erase_reference(self, session_id: str) -> None:
        await self._note(session_id, NoteErased("reference", RETENTION), None)
        await self._store.erase_reference(session_id)

    async def _erase_stills(self, found: tuple[str, list[str]]) -> None:
        session_id, still_ids = found
        # By the pictures' ids, so that doing the same again notes it once.
        digest = hashlib.sha256(",".join(still_ids).encode()).hexdigest()
        await self._note(session_id, NoteErased("stills", RETENTION, tuple(still_ids)), f"erased:{digest}")
        await self._store.drop_stills(still_ids)

    async def _note(self, session_id: str, command: NoteErased, command_id: str | None) -> None:
        try:
            await self._client.send(session_id, command, SYSTEM, command_id)
        except NotFound:
            return  # the session was deleted; what is left of it goes too
