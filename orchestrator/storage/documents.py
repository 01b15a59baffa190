"""How journal entries, snapshots and drafts look as documents: flat, of simple types, and with their schema's version.

New fields and new kinds of events need no new version: whoever does not know them takes no notice of them. A change
that older processes would misread makes one. Every older version is read; a newer one is refused, since it was written
by a process that runs what this one is still to be upgraded to.

    1    without the number
    2    with the number, `schema`
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from orchestrator.errors import NewerSchema
from orchestrator.interview.entry import Entry
from orchestrator.interview.snapshot import Draft, Snapshot
from orchestrator.interview.wire import known_of

SCHEMA = 2
"""What this version writes."""


def entry_document(entry: Entry) -> dict[str, Any]:
    document = {
        "_id": entry.key,
        "session_id": entry.session_id,
        "seq": entry.seq,
        "epoch": entry.epoch,
        "at": entry.at,
        "body": entry.body,
        "digest": entry.digest,
        "mac": entry.mac,
        "schema": SCHEMA,
    }
    if entry.tombstone:
        document["tombstone"] = 1
    if entry.deliver:
        document["deliver"] = entry.deliver
    if entry.redaction:
        document["redaction"] = entry.redaction
    return document


def entry_of(document: dict[str, Any]) -> Entry:
    """The inverse of entry_document; the body of an erased entry is "". Raises NewerSchema."""
    _check(document)
    return Entry(
        document["session_id"],
        document["seq"],
        document["epoch"],
        document["at"],
        document.get("body") or "",
        document["digest"],
        document["mac"],
        bool(document.get("tombstone")),
        document.get("deliver") or "",
        document.get("redaction") or "",
    )


def snapshot_document(snapshot: Snapshot, creation: Entry | None = None) -> dict[str, Any]:
    """A snapshot; the one that create writes carries entry 1, so that it alone is the session.

    `changed_at` is when it is written (ms, by the clock of whoever writes it), for those who look for what is new.
    """
    document = {"_id": snapshot.session_id, **asdict(snapshot)}
    document |= {"schema": SCHEMA, "changed_at": round(time.time() * 1000)}
    if creation is not None:
        document["creation"] = entry_document(creation)
    return document


def snapshot_from(document: dict[str, Any]) -> Snapshot:
    """The inverse of snapshot_document. Raises NewerSchema."""
    _check(document)
    return known_of(Snapshot, {"unseen_since": None, **document})  # the first documents did not have it


def draft_document(draft: Draft) -> dict[str, Any]:
    return {"_id": draft_key(draft), **asdict(draft), "schema": SCHEMA}


def draft_key(draft: Draft) -> str:
    return f"{draft.session_id}:{draft.question_index}"


def draft_of(document: dict[str, Any]) -> Draft:
    """The inverse of draft_document. Raises NewerSchema."""
    _check(document)
    return known_of(Draft, document)


def _check(document: dict[str, Any]) -> None:
    if document.get("schema", 1) > SCHEMA:
        raise NewerSchema(
            f"What is stored has version {document['schema']} of the schema, and this process knows {SCHEMA} at most: "
            "it is to be upgraded.",
            retry_after=10,
        )
