"""How journal entries, snapshots and drafts look as documents: flat, and of simple types."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from orchestrator.interview.entry import Entry
from orchestrator.interview.snapshot import Draft, Snapshot


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
    }
    if entry.tombstone:
        document["tombstone"] = 1
    if entry.deliver:
        document["deliver"] = entry.deliver
    if entry.redaction:
        document["redaction"] = entry.redaction
    return document


def entry_of(document: dict[str, Any]) -> Entry:
    """The inverse of entry_document; the body of an erased entry is ""."""
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
    """A snapshot; the one that create writes carries entry 1, so that it alone is the session."""
    document = {"_id": snapshot.session_id, **asdict(snapshot)}
    if creation is not None:
        document["creation"] = entry_document(creation)
    return document


_SNAPSHOT_FIELDS = tuple(Snapshot.__dataclass_fields__)


def snapshot_from(document: dict[str, Any]) -> Snapshot:
    return Snapshot(**{name: document.get(name) for name in _SNAPSHOT_FIELDS})  # type: ignore[arg-type]


def draft_document(draft: Draft) -> dict[str, Any]:
    return {"_id": draft_key(draft), **asdict(draft)}


def draft_key(draft: Draft) -> str:
    return f"{draft.session_id}:{draft.question_index}"


def draft_of(document: dict[str, Any]) -> Draft:
    return Draft(**{name: document[name] for name in Draft.__dataclass_fields__})
