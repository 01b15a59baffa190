"""Proctoring's pictures: stills that wait for their check or are kept as evidence, and reference faces.

    stills           {_id, session_id, at, received_at, sha256, media_type, size, attempts, thinned,
                     pending?, verdict?, kept?, leftover?, expires_at?}
                     pending 1: unchecked. kept: checked, and why it is kept. leftover 1: checked and not kept;
                     such a one has no expires_at, so that only those that have to expire are found by it.
    still_images     {_id: still id, session_id, image}: put there after its still, and deleted before it, so that
                     no image is left that nothing leads to
    reference_faces  {_id: session_id, image, media_type, sha256, template, engine, engine_version, at, expires_at}
                     (not `references`: that is a word of SQL, and nx-27017 names the table so, unquoted)

nx-27017 reads and decodes every document that a query does not rule out by an index, whatever fields are asked for,
and holds up all other calls meanwhile; hence the images apart. It uses an index for plain values and ranges of `find`,
and `_id` everywhere, but none to count or to delete by another field. Hence no `count_documents` and no `delete_many`
by such a field here.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from typing import Any

from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from orchestrator.storage.connection import guarded, unconfirmed

BATCH = 200
"""How many stills one call deletes at most."""


@dataclass(frozen=True, slots=True)
class Still:
    """A picture of a candidate, to be checked. Times in ms since the epoch."""

    id: str
    session_id: str
    at: int
    """When it was taken."""
    received_at: int
    sha256: str
    media_type: str
    image: bytes
    expires_at: int
    thinned: int = 0
    """How many unchecked stills before it were dropped."""
    attempts: int = 0
    """How many times its check was begun."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A still that is kept as evidence, without its bytes. Times in ms since the epoch."""

    id: str
    session_id: str
    at: int
    sha256: str
    media_type: str
    size: int
    """Of the image, in bytes."""
    because: str
    verdict: str | None
    expires_at: int


@dataclass(frozen=True, slots=True)
class Reference:
    """The face that a session's stills are compared with. Times in ms since the epoch."""

    session_id: str
    image: bytes
    media_type: str
    sha256: str
    template: bytes
    engine: str
    engine_version: str
    at: int
    expires_at: int


class EvidenceStore:
    """The part of Store that keeps pictures."""

    _db: Any
    _timeout: float

    # Stills that wait

    async def add_still(self, still: Still) -> None:
        """Insert a still, unchecked. One with this id that is there already stays as it is."""
        async with guarded(max(self._timeout, 5.0), writing=True):
            with contextlib.suppress(DuplicateKeyError):
                await self._db.stills.insert_one(_still_document(still))
            image = {"_id": still.id, "session_id": still.session_id, "image": still.image}
            with contextlib.suppress(DuplicateKeyError):
                await self._db.still_images.insert_one(image)
            stills = unconfirmed(self._db.stills)
            if await stills.find_one({"_id": still.id}, {"at": 1}) is None:  # it was dropped meanwhile
                await self._db.still_images.delete_one({"_id": still.id})

    async def still_sha256(self, still_id: str) -> str | None:
        """The digest of a still that is there, whatever its state."""
        async with guarded(self._timeout, writing=False):
            found = await self._db.stills.find_one({"_id": still_id}, {"sha256": 1})
        return found["sha256"] if found else None

    async def pending_of(self, session_id: str) -> list[tuple[str, int, int]]:
        """(id, at, thinned) of the session's unchecked stills, oldest first."""
        # $gt has nx-27017 take the session's index; by an equality it goes through all that is unchecked.
        query, fields = {"session_id": session_id, "pending": {"$gt": 0}}, {"at": 1, "thinned": 1}
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.stills.find(query, fields).to_list(None)
        return sorted(((d["_id"], d["at"], d["thinned"]) for d in found), key=lambda still: (still[1], still[0]))

    async def pending_sessions(self, limit: int) -> list[str]:
        """Ids of sessions with unchecked stills; who has waited longest comes first."""
        fields = {"session_id": 1, "received_at": 1}
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.stills.find({"pending": 1}, fields).to_list(None)
        found.sort(key=lambda document: document["received_at"])
        return list(dict.fromkeys(document["session_id"] for document in found))[:limit]

    async def count_pending(self) -> int:
        async with guarded(max(self._timeout, 5.0), writing=False):
            return len(await self._db.stills.find({"pending": 1}, {"_id": 1}).to_list(None))

    async def next_pending(self, session_id: str) -> Still | None:
        """The session's oldest unchecked still, this attempt counted.

        It is counted before the still is handed out, so that one that takes its checker down is known.
        Not by findAndModify: nx-27017 answers "none" if that fails, and reads all pictures to sort.
        """
        for still_id, _, _ in await self.pending_of(session_id):
            async with guarded(self._timeout, writing=True):
                await self._db.stills.update_one({"_id": still_id, "pending": 1}, {"$inc": {"attempts": 1}})
            async with guarded(max(self._timeout, 5.0), writing=False):
                found = await self._db.stills.find_one({"_id": still_id})
                image = await self._db.still_images.find_one({"_id": still_id})
            # Else it was dropped or checked meanwhile, or its image is still on its way.
            if found is not None and image is not None and found.get("pending"):
                return _still_of(found, bytes(image["image"]))
        return None

    async def drop_stills(self, ids: list[str]) -> int:
        """Delete these stills, whatever their state. Returns how many were there."""
        dropped = 0
        for start in range(0, len(ids), BATCH):
            these = {"_id": {"$in": ids[start : start + BATCH]}}
            async with guarded(max(self._timeout, 5.0), writing=True):
                await self._db.still_images.delete_many(these)
                result = await self._db.stills.delete_many(these)
            dropped += result.deleted_count
        return dropped

    # Checked stills

    async def finish_still(self, still_id: str, verdict: str, because: str | None, until: int | None = None) -> bool:
        """A still's check is done; it is kept for this reason, or not. False if the still is gone.

        `until`: the time (ms) at which one that is kept expires, if not when it would have. The first to finish a
        still decides; a repeat is a success that changes nothing.
        """
        kept = {"kept": because} if until is None else {"kept": because, "expires_at": until}
        change: dict[str, Any] = {"$set": {"verdict": verdict, **kept}, "$unset": {"pending": ""}}
        if because is None:
            change = {"$set": {"verdict": verdict, "leftover": 1}, "$unset": {"pending": "", "expires_at": ""}}
        async with guarded(self._timeout, writing=True):
            result = await self._db.stills.update_one({"_id": still_id, "pending": 1}, change)
            return result.matched_count > 0 or await self._db.stills.find_one({"_id": still_id}, {"at": 1}) is not None

    async def keep_still(self, still_id: str, because: str, expires_at: int) -> bool:
        """Keep a checked still until a time (ms). A reason that is there stays. False: it is gone or unchecked."""
        checked = {"_id": still_id, "pending": {"$exists": False}}
        new = {"$set": {"kept": because, "expires_at": expires_at}, "$unset": {"leftover": ""}}
        async with guarded(self._timeout, writing=True):
            result = await self._db.stills.update_one({**checked, "kept": {"$exists": False}}, new)
            if result.matched_count == 0:
                result = await self._db.stills.update_one(checked, {"$set": {"expires_at": expires_at}})
        return result.matched_count > 0

    async def kept_of(self, session_id: str) -> list[Kept]:
        """The session's evidence, oldest first."""
        fields = {"session_id", "at", "sha256", "media_type", "size", "kept", "verdict", "expires_at"}
        query = {"session_id": session_id, "kept": {"$exists": True}}
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.stills.find(query, dict.fromkeys(fields, 1)).to_list(None)
        return sorted((_kept_of(document) for document in found), key=lambda still: (still.at, still.id))

    async def kept_image(self, session_id: str, still_id: str) -> tuple[bytes, str] | None:
        """The bytes and the media type of a kept still of this session."""
        query = {"_id": still_id, "session_id": session_id, "kept": {"$exists": True}}
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.stills.find_one(query, {"media_type": 1})
            image = await self._db.still_images.find_one({"_id": still_id}) if found else None
        return (bytes(image["image"]), found["media_type"]) if found and image else None

    async def drop_leftovers(self, before: int) -> int:
        """Delete the checked stills that nobody kept and that came before a time (ms). Returns how many."""
        return await self._drop_found({"leftover": 1, "received_at": {"$lt": before}})

    async def expired_stills(self, now: int, limit: int) -> list[tuple[str, str]]:
        """(session id, still id) of kept or unchecked stills that expired before `now` (ms), the first first."""
        return [(d["session_id"], d["_id"]) for d in await self._expired(self._db.stills, now, limit)]

    # Reference faces

    async def save_reference(self, reference: Reference) -> None:
        """Insert a session's reference face, or replace the one it has.

        Not by replace_one: nx-27017 refuses bytes in a replacement, though not in an insert or a $set.
        """
        fields = asdict(reference)
        async with guarded(max(self._timeout, 5.0), writing=True):
            try:
                await self._db.reference_faces.insert_one({"_id": reference.session_id, **fields})
            except DuplicateKeyError:
                await self._db.reference_faces.update_one({"_id": reference.session_id}, {"$set": fields})

    async def reference_of(self, session_id: str) -> Reference | None:
        async with guarded(max(self._timeout, 5.0), writing=False):
            found = await self._db.reference_faces.find_one({"_id": session_id})
        return _reference_of(found) if found else None

    async def expired_references(self, now: int, limit: int) -> list[str]:
        """Ids of sessions whose reference face expired before `now` (ms), the first first."""
        return [d["_id"] for d in await self._expired(self._db.reference_faces, now, limit)]

    async def erase_reference(self, session_id: str) -> bool:
        """Delete a session's reference face. False if it has none."""
        async with guarded(self._timeout, writing=True):
            result = await self._db.reference_faces.delete_one({"_id": session_id})
        return result.deleted_count > 0

    async def erase_evidence(self, session_id: str) -> None:
        """Delete every picture of a session, the reference face first. Can be repeated."""
        await self.erase_reference(session_id)
        await self._drop_found({"session_id": session_id})
        async with guarded(max(self._timeout, 10.0), writing=True):  # those whose still never came, or went before them
            left = await self._db.still_images.find({"session_id": session_id}, {"_id": 1}).to_list(None)
            if left:
                await self._db.still_images.delete_many({"_id": {"$in": [image["_id"] for image in left]}})

    async def _drop_found(self, query: dict[str, Any]) -> int:
        """Delete stills that a one-field index finds: their ids are read first, see above."""
        dropped = 0
        while True:
            async with guarded(max(self._timeout, 10.0), writing=True):
                found = await self._db.stills.find(query, {"_id": 1}).limit(BATCH).to_list(None)
                if not found:
                    return dropped
                these = {"_id": {"$in": [document["_id"] for document in found]}}
                await self._db.still_images.delete_many(these)
                dropped += (await self._db.stills.delete_many(these)).deleted_count

    async def _expired(self, collection: Any, now: int, limit: int) -> list[dict[str, Any]]:
        query, fields = {"expires_at": {"$lt": now}}, {"session_id": 1}
        async with guarded(max(self._timeout, 5.0), writing=False):
            return await collection.find(query, fields).sort("expires_at", ASCENDING).limit(limit).to_list(None)


def _still_document(still: Still) -> dict[str, Any]:
    document = {name: getattr(still, name) for name in Still.__dataclass_fields__ if name not in ("id", "image")}
    return {"_id": still.id, **document, "size": len(still.image), "pending": 1}


def _still_of(document: dict[str, Any], image: bytes) -> Still:
    fields = {name: document[name] for name in Still.__dataclass_fields__ if name not in ("id", "image")}
    return Still(id=document["_id"], image=image, **fields)


def _kept_of(document: dict[str, Any]) -> Kept:
    return Kept(
        document["_id"],
        document["session_id"],
        document["at"],
        document["sha256"],
        document["media_type"],
        document["size"],
        document["kept"],
        document.get("verdict"),
        document["expires_at"],
    )


def _reference_of(document: dict[str, Any]) -> Reference:
    fields: dict[str, Any] = {name: document[name] for name in Reference.__dataclass_fields__}
    fields |= {name: bytes(fields[name]) for name in ("image", "template")}
    return Reference(**fields)
