"""Staff keys: {_id, content} in staff_keys. Revoked ones stay, so that the journal's names can be looked up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pymongo.errors import DuplicateKeyError

from orchestrator.errors import NotFound
from orchestrator.keys import StaffKey
from orchestrator.storage.connection import changed, guarded


class KeyStore:
    """The part of Store that keeps staff keys."""

    _db: Any
    _timeout: float

    async def staff_keys(self) -> list[StaffKey]:
        """All that were ever made, oldest first."""
        async with guarded(self._timeout, writing=False):
            found = await self._db.staff_keys.find({}).to_list(None)
        return sorted(map(_key, found), key=lambda key: (key.created_at, key.id))

    async def add_staff_key(self, key: StaffKey) -> bool:
        """False if there is one with this id."""
        async with guarded(self._timeout, writing=True):
            try:
                await self._db.staff_keys.insert_one(_document(key))
            except DuplicateKeyError:
                return False
        return True

    async def change_staff_key(self, key_id: str, change: Callable[[StaffKey], StaffKey]) -> StaffKey:
        """What has become of it. Raises NotFound."""
        found = await changed(self._db.staff_keys, key_id, self._timeout, lambda d: _document(change(_key(d))))
        if found is None:
            raise NotFound(f"There is no key {key_id[:100]!r}.")
        return _key(found[1])


def _document(key: StaffKey) -> dict[str, Any]:
    return {"_id": key.id, "content": json.dumps(asdict(key))}


def _key(document: dict[str, Any]) -> StaffKey:
    content = json.loads(document["content"])
    return StaffKey(**content | {"scopes": tuple(content["scopes"])})
