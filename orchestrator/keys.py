"""Staff keys: what each opens, and how it is kept, which is as a digest: nobody can read a key out of the database.

    pik_<id>_<secret>     the id finds it, 256 random bits prove it

    read      look at everything that is no picture of a candidate
    manage    read; create, change and delete sessions and question banks; what a candidate may do, but for erasing
              pictures alone
    proctor   read; pictures, the unseen look into the room, verdicts, the clock of live interviews, the end of one
    admin     everything: keys, webhooks, nodes, and what is kept about a person

A key's name is who the journal says has acted. Keys may share one: a new key takes an old one's place by having its
name, until the old one is revoked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal["read", "manage", "proctor", "admin"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
ALL_SCOPES: frozenset[Scope] = frozenset(SCOPES)
ENVIRONMENT = "environment"
"""The name of the key that the settings give."""
RESERVED = (ENVIRONMENT, "open")
MAX_KEYS = 200
"""Of those that are not revoked."""
SECRET_BYTES = 32
_IMPLIED: dict[Scope, frozenset[Scope]] = {
    "read": frozenset({"read"}),
    "manage": frozenset({"read", "manage"}),
    "proctor": frozenset({"read", "proctor"}),
    "admin": ALL_SCOPES,
}
_KEY = re.compile(r"pik_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_NOBODYS = hashlib.sha256(secrets.token_bytes(SECRET_BYTES)).hexdigest()
"""Compared with where no key has the id, so that it takes as long."""


@dataclass(frozen=True, slots=True)
class StaffKey:
    """A key as it is kept. Times in ms; `digest` is the SHA-256 of its secret part, in hexadecimal."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    digest: str
    created_at: int
    created_by: str
    expires_at: int | None = None
    revoked_at: int | None = None
    revoked_by: str | None = None

    @property
    def opens(self) -> frozenset[Scope]:
        """Its scopes with all that they imply."""
        return opened_by(self.scopes)

    def is_good(self, now: int) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def makes_others(self, now: int) -> bool:
        """Whether other keys can be made with it, for ever: one such key must be left."""
        return "admin" in self.scopes and self.is_good(now) and self.expires_at is None


def opened_by(scopes: tuple[Scope, ...]) -> frozenset[Scope]:
    return frozenset[Scope]().union(*(_IMPLIED[scope] for scope in scopes))


def new_key(
    name: str, scopes: tuple[Scope, ...], now: int, by: str, *, expires_at: int | None = None, id: str | None = None
) -> tuple[StaffKey, str]:
    """A fresh key as it is kept, and as its owner must have it: the only time that anybody sees it."""
    id, secret = id or secrets.token_hex(6), secrets.token_urlsafe(SECRET_BYTES)
    ordered: tuple[Scope, ...] = tuple(scope for scope in SCOPES if scope in scopes)
    return StaffKey(id, name, ordered, digest_of(secret), now, by, expires_at), f"pik_{id}_{secret}"


def digest_of(secret: str) -> str:
    """Secrets are 256 random bits, so that a plain digest cannot be turned back by guessing."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def parts_of(text: str) -> tuple[str, str] | None:
    """The id and the secret of what looks like a key."""
    found = _KEY.fullmatch(text)
    return (found[1], found[2]) if found else None


def proves(secret: str, key: StaffKey | None) -> bool:
    """Whether this is the key's secret, in a time that does not depend on either."""
    return hmac.compare_digest(digest_of(secret), key.digest if key is not None else _NOBODYS) and key is not None


def same_secret(given: str, expected: str) -> bool:
    """In a time that depends on neither what they are nor how long the expected one is."""
    return hmac.compare_digest(digest_of(given), digest_of(expected))
