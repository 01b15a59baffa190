"""A journal entry: what one command did, written by one insert.

`seq` numbers events; an entry is keyed by the seq of its first event, and the next entry starts after
its last. The body is canonical JSON text, made (and refused, if it cannot be stored) before it goes near
the database:

    {"by": principal, "command": [key, hash] | null, "events": [{"type": ..., ...}, ...], "nonce": ...}

A body can be erased later: digest and mac stay, so the chain still verifies. Or what the candidate has answered is
taken out of it: it is redacted then, and sealed anew.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import InvalidInput
from orchestrator.interview.wire import Wire

MAX_BODY_BYTES = 12 * 2**20
"""Well under MongoDB's 16 MiB document limit; the largest legitimate entry is a create of 4 MB."""


@dataclass(frozen=True, slots=True)
class Entry(Wire):
    """One journal entry as it is stored. `at` is in ms since the epoch; `mac` is "" until stored."""

    session_id: str
    seq: int
    epoch: int
    at: int
    body: str
    digest: str
    mac: str = ""
    tombstone: bool = False
    deliver: str = ""
    """What receivers of webhooks are told of it: see outbox.py. No part of what is sealed by digest and mac."""
    redaction: str = ""
    """The seal of a body that is not the one that was written, since answers were taken out of it."""

    @property
    def key(self) -> str:
        """The unique key (session_id, seq): the only lock in the system."""
        return f"{self.session_id}:{self.seq}"

    @property
    def last_seq(self) -> int:
        """The seq of its last event."""
        return self.seq + len(self.content()["events"]) - 1 if not self.erased else self.seq

    @property
    def erased(self) -> bool:
        return self.body == ""

    def content(self) -> dict[str, Any]:
        """The parsed body."""
        return json.loads(self.body)

    def without_answers(self) -> Entry | None:
        """The entry without what the candidate has answered, still to be sealed; None if there is nothing in it.

        Without its nonce, and the hash of its command, the answer cannot be guessed from the digest either.
        """
        if self.erased:
            return None
        content = self.content()
        written = [e for e in content["events"] if e["type"] == "question_closed" and e.get("answer")]
        for event in written:
            event["answer"] = ""
        key = [content["command"][0], ""] if content.get("command") else None
        return replace(self, body=canonical_json(content | {"nonce": "", "command": key})) if written else None

    def to_deliver(self, deliver: str) -> Entry:
        """The same entry, with what is to be told of it."""
        return replace(self, deliver=deliver)

    def is_same_write(self, other: Entry) -> bool:
        """Whether both are one and the same write (bodies carry a nonce, so digests tell)."""
        return self.digest == other.digest


def new_entry(
    session_id: str,
    seq: int,
    epoch: int,
    at: int,
    events: list[dict[str, Any]],
    *,
    by: str = "",
    command: tuple[str, str] | None = None,
    tombstone: bool = False,
) -> Entry:
    """Build an entry ready to be appended. Raises InvalidInput if the body cannot be stored."""
    body = canonical_json({"by": by, "command": command, "events": events, "nonce": secrets.token_hex(16)})
    digest = hashlib.sha256(body.encode()).hexdigest()
    return Entry(session_id, seq, epoch, at, body, digest, tombstone=tombstone)


def canonical_json(value: Any) -> str:
    """Canonical JSON text: sorted keys, no spaces, UTF-8 as it is; NaN and lone surrogates are refused."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidInput("The text contains a lone surrogate, which is not a character.") from None
    except ValueError:
        raise InvalidInput("A number is not finite (NaN or Infinity).") from None
    if size > MAX_BODY_BYTES:
        raise InvalidInput(f"The content is {size} bytes; {MAX_BODY_BYTES} is the most that is kept.")
    return text
