"""`python -m orchestrator.key_check`: whether a staff key was ever made. `serve` asks before it leaves loopback.

Exit code 0: there is one; 3: there is none; 1: the database does not answer.
"""

from __future__ import annotations

import asyncio
import sys

from orchestrator.errors import Retryable
from orchestrator.settings import Settings, get_settings
from orchestrator.storage.store import Store

NONE = 3


async def check(settings: Settings) -> int:
    """The exit code."""
    assert settings.mongodb_url is not None
    try:
        store = await Store.open(settings.mongodb_url, settings.mongodb_database)
        try:
            return 0 if await store.staff_keys() else NONE
        finally:
            await store.close()
    except Retryable as error:
        print(error.detail, file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(check(get_settings())))
