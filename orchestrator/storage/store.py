"""Store: the journal, snapshots, drafts, jobs, pictures and proofs of life in one MongoDB database.

    journal      {_id: "<session>:<seq>", session_id, seq, epoch, at, body, digest, mac, tombstone?, deliver?, outbox?}
                 (tombstone 1: the session was deleted; 2: and what it left is removed)
    snapshots    one a session, only over an older seq; create's carries entry 1
    drafts       one an open question, by epoch and revision
    stills, reference_faces   pictures, see evidence.py
    reports, erasures   see reports.py
    webhook_endpoints, webhook_messages   see webhooks.py
    staff_keys   see keys.py
    jobs, job_versions, keys, alive, draining, marks, secrets

The unique key of the journal is the only lock in the system.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from typing import Any, Self

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import BulkWriteError, DuplicateKeyError

from orchestrator.errors import InvalidInput, NotFound, OrchestratorError, OutcomeUnknown, Unavailable
from orchestrator.interview.entry import Entry
from orchestrator.interview.snapshot import Draft, Snapshot
from orchestrator.journal import Appended, Collision, Loaded
from orchestrator.storage.connection import database, guarded, open_client, say_why
from orchestrator.storage.documents import (
    draft_document,
    draft_key,
    draft_of,
    entry_of,
    snapshot_document,
    snapshot_from,
)
from orchestrator.storage.evidence import EvidenceStore
from orchestrator.storage.jobs import JobStore
from orchestrator.storage.keys import KeyStore
from orchestrator.storage.queries import SnapshotQueries
from orchestrator.storage.reports import ReportStore
from orchestrator.storage.webhooks import WebhookStore

DUPLICATE_KEY = 11000
TAIL = 4


class Store(SnapshotQueries, JobStore, KeyStore, EvidenceStore, ReportStore, WebhookStore):
    """One connection to the database. Every call raises Unavailable or OutcomeUnknown when it is away."""

    def __init__(self, client: Any, name: str, timeout_seconds: float) -> None:
        self._client = client
        self._db = database(client, name)
        self._timeout = timeout_seconds
        self.secret = b""

    @classmethod
    async def open(cls, url: str, database: str, secret: str | None = None, *, timeout_seconds: float = 3.0) -> Self:
        """Connect, make the indexes, and load the secret (or make it, once). Raises Unavailable."""
        store = cls(open_client(url, timeout_seconds), database, timeout_seconds)
        try:
            await store._make_indexes()
            store.secret = secret.encode() if secret else await store._stored_secret()
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        self._client.close()

    async def ping(self) -> None:
        """Raises Unavailable if the database does not answer."""
        async with guarded(self._timeout, writing=False):
            await self._client.admin.command("ping")

    async def _make_indexes(self) -> None:
        wanted: list[tuple[str, list[tuple[str, int]], dict[str, Any]]] = [
            ("journal", [("session_id", ASCENDING), ("seq", ASCENDING)], {"unique": True}),
            # nx-27017 answers from one-field indexes only; without this one it reads the whole journal.
            ("journal", [("session_id", ASCENDING)], {}),
            ("journal", [("tombstone", ASCENDING)], {"sparse": True}),
            ("snapshots", [("created_at", DESCENDING), ("session_id", DESCENDING)], {}),
            ("snapshots", [("status", ASCENDING)], {}),
            ("snapshots", [("status_detail", ASCENDING)], {}),
            ("snapshots", [("deadline", ASCENDING)], {}),
            ("snapshots", [("unseen_since", ASCENDING)], {}),
            ("snapshots", [("expires_at", ASCENDING)], {}),
            ("snapshots", [("scheduled_at", ASCENDING)], {}),
            ("snapshots", [("job_id", ASCENDING)], {}),
            ("snapshots", [("email", ASCENDING)], {}),
            ("snapshots", [("room", ASCENDING)], {}),
            ("snapshots", [("front_end", ASCENDING)], {}),
            ("snapshots", [("report", ASCENDING)], {}),
            ("snapshots", [("words", ASCENDING)], {}),
            ("snapshots", [("ended_at", ASCENDING)], {}),
            ("snapshots", [("changed_at", ASCENDING)], {}),
            ("journal", [("outbox", ASCENDING)], {"sparse": True}),
            ("webhook_messages", [("lane", ASCENDING)], {}),
            ("webhook_messages", [("open", ASCENDING)], {"sparse": True}),
            ("webhook_messages", [("queue", ASCENDING)], {"sparse": True}),
            ("webhook_messages", [("position", ASCENDING)], {}),
            ("webhook_messages", [("expires_at", ASCENDING)], {}),
            ("drafts", [("session_id", ASCENDING)], {}),
            ("stills", [("session_id", ASCENDING)], {}),
            ("still_images", [("session_id", ASCENDING)], {}),
            ("stills", [("pending", ASCENDING)], {"sparse": True}),
            ("stills", [("leftover", ASCENDING)], {"sparse": True}),
            ("stills", [("expires_at", ASCENDING)], {}),
            ("reference_faces", [("expires_at", ASCENDING)], {}),
        ]
        async with guarded(max(self._timeout, 10.0), writing=False):
            for collection, keys, options in wanted:
                await self._db[collection].create_index(keys, **options)

    async def _stored_secret(self) -> bytes:
        """The deployment's secret: whoever inserts it first made it, and everybody reads it back."""
        async with guarded(self._timeout, writing=False):
            found = await self._db.secrets.find_one({"_id": "signing"})
            if found is None:
                with contextlib.suppress(DuplicateKeyError):
                    await self._db.secrets.insert_one({"_id": "signing", "value": secrets.token_hex(32)})
                found = await self._db.secrets.find_one({"_id": "signing"})
        if found is None:
            raise Unavailable("The secret is just being made; try again soon.", retry_after=1)
        return bytes.fromhex(found["value"])

    # Journal

    def mac(self, entry: Entry, prev_mac: str) -> str:
        """The entry's link in the chain: HMAC-SHA256 over the link before it and what identifies it."""
        key = hmac.digest(self.secret, f"journal:{entry.session_id}".encode(), hashlib.sha256)
        text = "|".join((prev_mac, entry.key, str(entry.epoch), str(entry.at), entry.digest))
        return hmac.digest(key, text.encode(), hashlib.sha256).hex()

    async def append(self, entry: Entry, prev_mac: str) -> Appended | Collision:
        """Write one entry by one insert. My own entry found in its place is a success."""
        mac = self.mac(entry, prev_mac)
        document = await self.journal_document(entry, mac)
        try:
            async with guarded(self._timeout, writing=True):
                await self._db.journal.insert_one(document)
        except DuplicateKeyError:
            return await self._collided(entry)
        return Appended(mac)

    async def append_many(self, items: list[tuple[Entry, str]]) -> list[Appended | Collision | OrchestratorError]:
        """Write a batch; each entry has its own outcome, and one bad entry spoils no other."""
        macs = [self.mac(entry, prev) for entry, prev in items]
        try:
            pairs = zip((entry for entry, _ in items), macs, strict=True)
            documents = [await self.journal_document(entry, mac) for entry, mac in pairs]
        except OrchestratorError as error:
            return [error] * len(items)
        failed: dict[int, dict[str, Any]] = {}
        confirmed = True
        try:
            async with guarded(self._timeout, writing=True):
                try:
                    await self._db.journal.insert_many(documents, ordered=False)
                except BulkWriteError as error:
                    failed = {e["index"]: e for e in error.details["writeErrors"]}
                    confirmed = not error.details.get("writeConcernErrors")
        except InvalidInput:
            return [await self._append_alone(entry, prev) for entry, prev in items]
        except OrchestratorError as error:
            return [error] * len(items)
        if not confirmed:  # inserted, but a majority has not said so: a failover may take it back
            return [OutcomeUnknown("The write may or may not have landed.", retry_after=1) for _ in items]
        return [
            await self._outcome_of(entry, failed[i]) if i in failed else Appended(macs[i])
            for i, (entry, _) in enumerate(items)
        ]

    async def _append_alone(self, entry: Entry, prev: str) -> Appended | Collision | OrchestratorError:
        try:
            return await self.append(entry, prev)
        except OrchestratorError as error:
            return error

    async def _outcome_of(self, entry: Entry, failure: dict[str, Any]) -> Appended | Collision | OrchestratorError:
        if failure.get("code") != DUPLICATE_KEY:
            say_why(failure, "WriteError")
            return OutcomeUnknown("The write may or may not have landed.", retry_after=1)
        try:
            return await self._collided(entry)
        except OrchestratorError as error:
            return error

    async def _collided(self, entry: Entry) -> Appended | Collision:
        """What stands in the entry's place. Raises OutcomeUnknown while no majority has confirmed it."""
        async with guarded(self._timeout, writing=True):
            found = await self._db.journal.find_one({"_id": entry.key})
        if found is None:
            raise OutcomeUnknown("The write may or may not have landed.", retry_after=1)
        stored = entry_of(found)
        return Appended(stored.mac) if stored.is_same_write(entry) else Collision(stored)

    async def create(self, entry: Entry, snapshot: Snapshot) -> Appended | Collision:
        """Entry 1 and the first snapshot, written side by side; either alone is the session.

        If entry 1 is already there, the snapshot that was just written for another one is corrected.
        """
        appended, inserted = await asyncio.gather(
            self.append(entry, ""), self._insert_snapshot(snapshot, entry), return_exceptions=True
        )
        if isinstance(appended, BaseException):
            raise appended
        if isinstance(appended, Collision) and inserted is True:
            async with guarded(self._timeout, writing=True):
                await self._db.snapshots.delete_one({"_id": snapshot.session_id, "seq": snapshot.seq})
        return appended

    async def insert_snapshot(self, snapshot: Snapshot) -> bool:
        """Put back a snapshot that a cut create left out; not that of a session deleted meanwhile."""
        inserted = await self._insert_snapshot(snapshot, None)
        if inserted and await self.is_deleted(snapshot.session_id):
            await self.erase(snapshot.session_id)
            return False
        return inserted

    async def _insert_snapshot(self, snapshot: Snapshot, creation: Entry | None) -> bool:
        try:
            async with guarded(self._timeout, writing=True):
                await self._db.snapshots.insert_one(snapshot_document(snapshot, creation))
        except DuplicateKeyError:
            return False
        return True

    async def save_snapshot(self, snapshot: Snapshot) -> bool:
        """Replace an older snapshot. False if there is none, or a newer one."""
        async with guarded(self._timeout, writing=True):
            result = await self._db.snapshots.replace_one(
                {"_id": snapshot.session_id, "seq": {"$lt": snapshot.seq}}, snapshot_document(snapshot)
            )
        return result.modified_count > 0

    async def load(self, session_id: str) -> Loaded | None:
        """A session's snapshot, the entries after it and its newest draft. None: unknown or deleted."""
        loaded = await self.load_without_draft(session_id)
        if loaded is None or not _may_have_draft(loaded):
            return loaded
        return Loaded(loaded.snapshot, loaded.entries, await self._draft(session_id))

    async def load_without_draft(self, session_id: str) -> Loaded | None:
        """What `load` gives, one read shorter, for those who only look."""
        async with guarded(self._timeout, writing=False):
            document, tail = await asyncio.gather(
                self._db.snapshots.find_one({"_id": session_id}), self._tail(session_id)
            )
        stored = await self._put_together(session_id, document, tail)
        return Loaded(*stored, None) if stored is not None else None

    async def _tail(self, session_id: str) -> list[Entry]:
        """The last few entries, in order: as a rule all that came after the snapshot."""
        cursor = self._db.journal.find({"session_id": session_id}).sort("seq", DESCENDING)
        return [entry_of(document) for document in reversed(await cursor.limit(TAIL).to_list(None))]

    async def _put_together(
        self, session_id: str, document: dict[str, Any] | None, tail: list[Entry]
    ) -> tuple[Snapshot | None, list[Entry]] | None:
        creation = entry_of(document["creation"]) if document and document.get("creation") else None
        snapshot = snapshot_from(document) if document else None
        after = 0 if snapshot is None or creation is not None else snapshot.seq
        if snapshot is not None and (len(tail) < TAIL or tail[0].seq <= after + 1):
            entries = [entry for entry in tail if entry.seq > after]
        else:
            entries = await self.entries(session_id, after, limit=0)
        if entries and entries[-1].tombstone:
            return None
        if snapshot is None and not entries:
            return None
        if creation is not None and snapshot is not None:
            snapshot, entries = await self._with_creation(snapshot, creation, entries)
        if snapshot is None and entries[0].erased:
            return None
        return snapshot, entries

    async def _with_creation(
        self, snapshot: Snapshot, creation: Entry, entries: list[Entry]
    ) -> tuple[Snapshot | None, list[Entry]]:
        """Create was perhaps cut between its two writes: make the missing one; the journal wins."""
        if not entries:
            result = await self.append(creation, "")
            if isinstance(result, Collision):
                return None, await self.entries(creation.session_id, 0, limit=0)
            return snapshot, []
        if not entries[0].is_same_write(creation):
            return None, entries
        return snapshot, [e for e in entries if e.seq > snapshot.seq]

    async def draft_of(self, session_id: str) -> Draft | None:
        """The newest draft of a session."""
        return await self._draft(session_id)

    async def _draft(self, session_id: str) -> Draft | None:
        async with guarded(self._timeout, writing=False):
            found = await self._db.drafts.find({"session_id": session_id}).to_list(None)
        return max((draft_of(d) for d in found), key=lambda d: d.question_index, default=None)

    async def entries(self, session_id: str, after: int = 0, limit: int = 500) -> list[Entry]:
        """The entries whose first event comes after `after`, in order. `limit` 0: all."""
        async with guarded(self._timeout, writing=False):
            cursor = self._db.journal.find({"session_id": session_id, "seq": {"$gt": after}})
            found = await cursor.sort("seq", ASCENDING).limit(limit).to_list(None)
        return [entry_of(document) for document in found]

    async def entries_beyond(self, session_id: str, after: int, limit: int) -> list[Entry]:
        """The entries that have events after event `after`, in order: the first may have begun before it."""
        within = {"session_id": session_id, "seq": {"$lte": after}}
        async with guarded(self._timeout, writing=False):
            found = await self._db.journal.find(within, {"seq": 1}).sort("seq", DESCENDING).limit(1).to_list(None)
        return await self.entries(session_id, found[0]["seq"] - 1 if found else 0, limit)

    async def grown(self, seqs: dict[str, int]) -> set[str]:
        """Which of these sessions have an entry after the event `seq` that is given for each."""
        keys = [f"{session_id}:{seq + 1}" for session_id, seq in seqs.items()]
        async with guarded(self._timeout, writing=False):
            found = await self._db.journal.find({"_id": {"$in": keys}}, {"session_id": 1}).to_list(None)
        return {document["session_id"] for document in found}

    async def verify(self, session_id: str) -> dict[str, Any]:
        """Recompute the chain. `broken_at` is the seq of the first entry that does not fit."""
        return self.verified(await self.entries(session_id, 0, limit=0))

    def verified(self, entries: list[Entry]) -> dict[str, Any]:
        """The same of a whole journal that was read already. Bodies are gone from deleted sessions only."""
        mac, deleted = "", bool(entries) and entries[-1].tombstone
        for entry in entries:
            if not self._body_fits(entry, deleted) or not hmac.compare_digest(self.mac(entry, mac), entry.mac):
                return {"ok": False, "entries": len(entries), "head": entries[-1].mac, "broken_at": entry.seq}
            mac = entry.mac
        return {"ok": True, "entries": len(entries), "head": mac, "broken_at": None}

    def _body_fits(self, entry: Entry, deleted: bool) -> bool:
        if entry.erased:
            return deleted
        if entry.redaction:
            return hmac.compare_digest(self._seal(entry), entry.redaction)
        return hashlib.sha256(entry.body.encode()).hexdigest() == entry.digest

    def _seal(self, entry: Entry) -> str:
        """What shows that a redacted body is ours, and belongs to this entry."""
        key = hmac.digest(self.secret, f"redaction:{entry.key}".encode(), hashlib.sha256)
        return hmac.digest(key, f"{entry.digest}|{entry.body}".encode(), hashlib.sha256).hex()

    # Deleting

    async def redact_answers(self, session_id: str) -> None:
        """Take what the candidate has answered out of the journal. The chain still verifies. Can be repeated."""
        entries = await self.entries(session_id, 0, limit=0)
        redacted = [new for entry in entries if (new := entry.without_answers()) is not None]
        async with guarded(max(self._timeout, 10.0), writing=True):
            for entry in redacted:
                change = {"body": entry.body, "redaction": self._seal(entry)}
                await self._db.journal.update_one({"_id": entry.key, "body": {"$ne": ""}}, {"$set": change})
            await self._db.drafts.delete_many({"session_id": session_id})

    async def is_deleted(self, session_id: str) -> bool:
        async with guarded(self._timeout, writing=False):
            return await self._db.journal.find_one({"session_id": session_id, "tombstone": {"$gt": 0}}) is not None

    async def erase(self, session_id: str) -> None:
        """Remove what a tombstoned session left, its pictures first. Bodies go; their keys stay, so that a
        stale owner still collides. Can be repeated."""
        await self.erase_evidence(session_id)
        await self.erase_report(session_id)
        await self.erase_messages(session_id)
        async with guarded(max(self._timeout, 10.0), writing=True):
            await self._db.snapshots.delete_one({"_id": session_id})
            await self._db.drafts.delete_many({"session_id": session_id})
            nothing = {"$set": {"body": ""}, "$unset": {"redaction": ""}}
            await self._db.journal.update_many({"session_id": session_id}, nothing)
            await self._db.journal.update_many({"session_id": session_id, "tombstone": 1}, {"$set": {"tombstone": 2}})

    async def tombstones_unfinished(self, limit: int) -> list[str]:
        """Deleted sessions whose erasure was cut short."""
        async with guarded(self._timeout, writing=False):
            found = await self._db.journal.find({"tombstone": 1}).limit(limit).to_list(None)
        return [document["session_id"] for document in found]

    # Drafts, proofs of life, and nodes that are being drained

    async def save_draft(self, draft: Draft) -> bool:
        """Write a draft unless a newer epoch or a higher revision is stored; False then."""
        key, document = draft_key(draft), draft_document(draft)
        async with guarded(self._timeout, writing=True):
            for _ in range(3):
                stored = await self._db.drafts.find_one({"_id": key})
                if stored is None:
                    try:
                        await self._db.drafts.insert_one(document)
                        return await self._is_not_of_a_deleted_session(draft)
                    except DuplicateKeyError:
                        continue
                if stored["epoch"] > draft.epoch or stored["revision"] > draft.revision:
                    return False
                seen = {"_id": key, "epoch": stored["epoch"], "revision": stored["revision"]}
                result = await self._db.drafts.replace_one(seen, document)
                if result.matched_count:
                    return True
        raise Unavailable("The draft is being written by others; try again.", retry_after=1)

    async def _is_not_of_a_deleted_session(self, draft: Draft) -> bool:
        """Take a draft back that was written after its session had been erased. Raises NotFound then."""
        if await self.is_deleted(draft.session_id):
            await self._db.drafts.delete_many({"session_id": draft.session_id})
            raise NotFound.session(draft.session_id)
        return True

    async def alive(self, holder: str, now: int) -> None:
        """Say that a node or the Registry was alive at `now` (ms)."""
        async with guarded(self._timeout, writing=True):
            with contextlib.suppress(DuplicateKeyError):
                await self._db.alive.replace_one({"_id": holder}, {"_id": holder, "at": now}, upsert=True)

    async def last_alive(self, holder: str) -> int | None:
        """When that was last said (ms); None if never."""
        async with guarded(self._timeout, writing=False):
            found = await self._db.alive.find_one({"_id": holder})
        return found["at"] if found else None

    async def proofs_of_life(self, prefix: str) -> dict[str, int]:
        """When holders whose names begin so were last alive (ms)."""
        async with guarded(self._timeout, writing=False):
            found = await self._db.alive.find({}).to_list(None)
        return {document["_id"]: document["at"] for document in found if document["_id"].startswith(prefix)}

    async def forget_alive(self, holder: str) -> None:
        async with guarded(self._timeout, writing=True):
            await self._db.alive.delete_one({"_id": holder})

    async def mark(self, name: str) -> int | None:
        """How far a sweep has come (ms)."""
        async with guarded(self._timeout, writing=False):
            found = await self._db.marks.find_one({"_id": name})
        return found["at"] if found else None

    async def set_mark(self, name: str, at: int) -> None:
        async with guarded(self._timeout, writing=True):
            await self._db.marks.replace_one({"_id": name}, {"_id": name, "at": at}, upsert=True)

    async def set_draining(self, node: str, draining: bool) -> None:
        """Remember that a node takes no new interviews (or does again), past a restart of the Registry."""
        async with guarded(self._timeout, writing=True):
            if not draining:
                await self._db.draining.delete_one({"_id": node})
                return
            with contextlib.suppress(DuplicateKeyError):
                await self._db.draining.insert_one({"_id": node})

    async def draining_nodes(self) -> set[str]:
        async with guarded(self._timeout, writing=False):
            return {document["_id"] for document in await self._db.draining.find({}).to_list(None)}


def _may_have_draft(loaded: Loaded) -> bool:
    """Only a session in progress has one; entries after the snapshot may have started it."""
    return loaded.snapshot is None or loaded.snapshot.status == "in_progress" or bool(loaded.entries)
