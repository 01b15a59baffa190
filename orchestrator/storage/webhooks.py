"""Webhooks: who is to be told, and what is still to be sent.

    webhook_endpoints   {_id, content}: who is told of what, see orchestrator/webhooks.py
    webhook_messages    {_id: "<endpoint>:<session>:<seq>", lane, open?, queue?, position, expires_at, content}

An entry that has something to tell is marked in the journal as long as there is an endpoint (`outbox`), and the mark
goes once its messages are stored. Of each lane, that is of what one session tells one endpoint, only the first message
that is open is in the queue, so order is kept. Fields that are looked for are single and plain, as the embedded
server wants it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import BulkWriteError, DuplicateKeyError

from orchestrator.errors import NotFound, Unavailable
from orchestrator.interview.entry import Entry
from orchestrator.storage.connection import changed, guarded
from orchestrator.storage.documents import entry_document, entry_of
from orchestrator.webhooks import LONGEST_PAUSE_MS, Endpoint, Message

KNOWN_SECONDS = 1.0
"""For how long a process may believe that there is no endpoint."""
DUPLICATE_KEY = 11000


class WebhookStore:
    """The part of Store that keeps endpoints and messages."""

    _db: Any
    _timeout: float
    _delivers = False
    _delivers_until = 0.0

    # Endpoints

    async def endpoints(self) -> list[Endpoint]:
        """All of them, oldest first."""
        async with guarded(self._timeout, writing=False):
            found = await self._db.webhook_endpoints.find({}).to_list(None)
        return sorted((_endpoint(d) for d in found), key=lambda one: (one.created_at, one.id))

    async def endpoint(self, endpoint_id: str) -> Endpoint:
        """Raises NotFound."""
        async with guarded(self._timeout, writing=False):
            found = await self._db.webhook_endpoints.find_one({"_id": endpoint_id})
        if found is None:
            raise _unknown(endpoint_id)
        return _endpoint(found)

    async def add_endpoint(self, endpoint: Endpoint) -> bool:
        """Keep a new one; False if its id is taken. On return every process marks entries for it."""
        async with guarded(self._timeout, writing=True):
            try:
                await self._db.webhook_endpoints.insert_one(_endpoint_document(endpoint))
            except DuplicateKeyError:
                return False
        await asyncio.sleep(KNOWN_SECONDS)
        return True

    async def change_endpoint(self, endpoint_id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint:
        """What has become of it. Raises NotFound."""
        found = await changed(
            self._db.webhook_endpoints, endpoint_id, self._timeout, lambda d: _endpoint_document(change(_endpoint(d)))
        )
        if found is None:
            raise _unknown(endpoint_id)
        before, after = map(_endpoint, found)
        if after.enabled and not before.enabled:
            await asyncio.sleep(KNOWN_SECONDS)
        return after

    async def delete_endpoint(self, endpoint_id: str) -> bool:
        """Its messages go with it."""
        async with guarded(self._timeout, writing=True):
            result = await self._db.webhook_endpoints.delete_one({"_id": endpoint_id})
        while found := await self.messages(endpoint_id, 500):
            await self.forget_messages(message.id for message in found)
        return result.deleted_count > 0

    # The journal's marks

    async def journal_document(self, entry: Entry, mac: str) -> dict[str, Any]:
        """An entry as it is written: marked if there is something to tell, and somebody to be told."""
        document = entry_document(entry) | {"mac": mac}
        if entry.deliver:
            if await self._is_listened_to():
                document["outbox"] = 1
            else:
                del document["deliver"]
        return document

    async def _is_listened_to(self) -> bool:
        if time.monotonic() >= self._delivers_until:
            asked = time.monotonic()
            self._delivers = any(endpoint.enabled for endpoint in await self.endpoints())
            self._delivers_until = asked + 0.9 * KNOWN_SECONDS
        return self._delivers

    async def marked_entries(self, limit: int) -> list[Entry]:
        """Entries of which receivers are still to be told, in order per session."""
        async with guarded(self._timeout, writing=False):
            found = await self._db.journal.find({"outbox": 1}).limit(limit).to_list(None)
        return sorted((entry_of(document) for document in found), key=lambda e: (e.session_id, e.seq))

    async def unmark(self, entries: Iterable[Entry]) -> None:
        keys = [entry.key for entry in entries]
        async with guarded(max(self._timeout, 10.0), writing=True):
            await self._db.journal.update_many({"_id": {"$in": keys}}, {"$unset": {"outbox": "", "deliver": ""}})

    # Messages

    async def add_messages(self, messages: list[Message]) -> None:
        """Store those that are not there yet. They wait until `queue_heads`."""
        if not messages:
            return
        async with guarded(max(self._timeout, 10.0), writing=True):
            try:
                await self._db.webhook_messages.insert_many(map(_message_document, messages), ordered=False)
            except BulkWriteError as error:
                if any(e.get("code") != DUPLICATE_KEY for e in error.details["writeErrors"]):
                    raise Unavailable("Not all messages were stored.", retry_after=1) from error

    async def head(self, lane: str, after: int = -1) -> Message | None:
        """The first message of a lane that is open, with a seq over `after`."""
        between = {"$gt": _place(lane, after), "$lt": f"{lane};"}
        async with guarded(self._timeout, writing=False):
            cursor = self._db.webhook_messages.find({"open": between}).sort("open", ASCENDING).limit(1)
            found = await cursor.to_list(None)
        return _message(found[0]) if found else None

    async def queue_heads(self, lanes: Iterable[str], now: int) -> None:
        """See to it that the first open message of each lane is due."""
        for lane in dict.fromkeys(lanes):
            first = await self.head(lane)
            if first is not None and first.due_at is None:
                await self.change_message(first, first.due(now))

    async def wake(self, endpoint_id: str, now: int) -> None:
        """What is to be tried later is due now."""
        while waiting := await self.queued(endpoint_id, now + 1, now + 10 * LONGEST_PAUSE_MS, 200):
            for message in waiting:
                await self.change_message(message, message.due(now))

    async def erase_messages(self, session_id: str) -> None:
        """Forget what a session's receivers were told, and have answered. What waits is sent, and names nobody."""
        for endpoint in await self.endpoints():
            async with guarded(max(self._timeout, 10.0), writing=False):
                found = await self._db.webhook_messages.find({"lane": f"{endpoint.id}:{session_id}"}).to_list(None)
            await self.forget_messages(message.id for message in map(_message, found) if not message.is_open)

    async def change_message(self, before: Message, after: Message) -> bool:
        """Store what has become of it. False: somebody else has changed or deleted it meanwhile, and that stays."""
        same = {"_id": before.id, "content": _message_document(before)["content"]}
        async with guarded(self._timeout, writing=True):
            result = await self._db.webhook_messages.replace_one(same, _message_document(after))
        return result.matched_count > 0

    async def message(self, message_id: str) -> Message | None:
        async with guarded(self._timeout, writing=False):
            found = await self._db.webhook_messages.find_one({"_id": message_id})
        return _message(found) if found is not None else None

    async def queued(self, endpoint_id: str, since: int, until: int, limit: int) -> list[Message]:
        """Those of an endpoint that are due from `since` until `until` (ms), in that order."""
        between = {"$gte": _moment(endpoint_id, since), "$lte": _moment(endpoint_id, until)}
        async with guarded(self._timeout, writing=False):
            cursor = self._db.webhook_messages.find({"queue": between}).sort("queue", ASCENDING).limit(limit)
            return [_message(document) for document in await cursor.to_list(None)]

    async def messages(self, endpoint_id: str, limit: int, before: str | None = None) -> list[Message]:
        """Those of an endpoint, newest first. `before`: the `position` of the last one that is known."""
        between = {"$gte": f"{endpoint_id}:", "$lt": before or f"{endpoint_id};"}
        async with guarded(self._timeout, writing=False):
            cursor = self._db.webhook_messages.find({"position": between}).sort("position", DESCENDING).limit(limit)
            return [_message(document) for document in await cursor.to_list(None)]

    async def messages_since(self, endpoint_id: str, at: int, limit: int, after: str = "") -> list[Message]:
        """Those of what happened from a time on (ms), oldest first. `after`: the `position` of the last one known."""
        start = {"$gt": after} if after else {"$gte": _moment(endpoint_id, at)}
        between = start | {"$lt": f"{endpoint_id};"}
        async with guarded(self._timeout, writing=False):
            cursor = self._db.webhook_messages.find({"position": between}).sort("position", ASCENDING).limit(limit)
            return [_message(document) for document in await cursor.to_list(None)]

    async def expired_messages(self, now: int, limit: int) -> list[Message]:
        """Those whose time is over: open ones are given up, others are forgotten."""
        async with guarded(self._timeout, writing=False):
            found = self._db.webhook_messages.find({"expires_at": {"$lte": now}}).limit(limit)
            return [_message(document) for document in await found.to_list(None)]

    async def forget_messages(self, message_ids: Iterable[str]) -> None:
        async with guarded(max(self._timeout, 10.0), writing=True):
            await self._db.webhook_messages.delete_many({"_id": {"$in": list(message_ids)}})


def _moment(endpoint_id: str, at: int) -> str:
    return f"{endpoint_id}:{max(at, 0):013d}"


def _place(lane: str, seq: int) -> str:
    return f"{lane}:{max(seq, 0):08d}"


def _message_document(message: Message) -> dict[str, Any]:
    document: dict[str, Any] = {
        "_id": message.id,
        "lane": message.lane,
        "position": message.position,
        "expires_at": message.expires_at,
        "content": json.dumps(message.as_json(), ensure_ascii=False),
    }
    if message.is_open:
        document["open"] = _place(message.lane, message.seq)
    if message.due_at is not None:
        document["queue"] = _moment(message.endpoint_id, message.due_at)
    return document


def _message(document: dict[str, Any]) -> Message:
    return Message.from_json(json.loads(document["content"]))


def _endpoint_document(endpoint: Endpoint) -> dict[str, Any]:
    return {"_id": endpoint.id, "content": json.dumps(endpoint.as_json(), ensure_ascii=False)}


def _endpoint(document: dict[str, Any]) -> Endpoint:
    return Endpoint.from_json(json.loads(document["content"]))


def _unknown(endpoint_id: str) -> NotFound:
    return NotFound(f"There is no webhook {endpoint_id[:100]!r}.")
