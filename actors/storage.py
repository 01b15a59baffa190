"""Opens the storage by the settings, in the actors that are allowed to hold a connection."""

from __future__ import annotations

from orchestrator import faults
from orchestrator.errors import Unavailable
from orchestrator.settings import get_settings
from orchestrator.storage.faulty import FaultyStore
from orchestrator.storage.store import Store


async def open_store() -> Store:
    """Connect to MONGODB_URL. Raises Unavailable."""
    settings = get_settings()
    if settings.mongodb_url is None:
        raise Unavailable("MONGODB_URL is not set in this process.", retry_after=5)
    secret = settings.secret.get_secret_value() if settings.secret else None
    store = FaultyStore if faults.armed() else Store
    return await store.open(settings.mongodb_url, settings.mongodb_database, secret)
