"""The connection, its durability, and how the driver's failures become ours.

Every write is acknowledged by a majority and journaled, every read goes to the primary and sees only what a
majority has confirmed, and every call ends within the limit, whatever the URL says.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from bson.errors import BSONError, InvalidDocument
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ReadPreference
from pymongo.errors import (
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from orchestrator.errors import InvalidInput, OrchestratorError, OutcomeUnknown, Unavailable

log = logging.getLogger(__name__)

TRIES = 10
SAY_EVERY_SECONDS = 10.0
_said_at = float("-inf")
DURABLE = WriteConcern(w="majority", j=True)
CONFIRMED = ReadConcern("majority")
"""A failover takes back nothing that was read so; what was written and acknowledged is seen."""


def open_client(url: str, timeout_seconds: float) -> AsyncIOMotorClient[dict[str, Any]]:
    """A client for `url`; connects when it is first used."""
    limit = int(timeout_seconds * 1000)
    return AsyncIOMotorClient(
        url,
        serverSelectionTimeoutMS=min(limit, 2_500),
        connectTimeoutMS=min(limit, 2_500),
        socketTimeoutMS=limit,
        retryWrites=False,
        retryReads=True,
        appname="parallel-interview",
    )


def database(client: AsyncIOMotorClient[dict[str, Any]], name: str) -> Any:
    """A database in which nothing is acknowledged, or read, that a failover may take back."""
    return client.get_database(
        name, write_concern=DURABLE, read_concern=CONFIRMED, read_preference=ReadPreference.PRIMARY
    )


def unconfirmed(collection: Any) -> Any:
    """The same collection with all that is there, confirmed or not: for a reader who acts on what is missing."""
    return collection.with_options(read_concern=ReadConcern("local"))


async def changed(
    collection: Any, name: str, timeout_seconds: float, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """What a document {_id, content} was and has become, whoever else changes it meanwhile; None if there is none.

    Raises Unavailable if others change it all the time.
    """
    for _ in range(TRIES):
        async with guarded(timeout_seconds, writing=True):
            before = await collection.find_one({"_id": name})
            if before is None:
                return None
            after = change(before)
            if after["content"] == before["content"]:
                return before, before
            result = await collection.replace_one({"_id": name, "content": before["content"]}, after)
        if result.matched_count:
            return before, after
    raise Unavailable("It is being changed by others; try again.", retry_after=1)


def say_why(details: Mapping[str, Any] | None, kind: str) -> None:
    """Log why the database failed, once in a while: its own words, up to the first that may quote a document."""
    global _said_at
    now = time.monotonic()
    if now - _said_at < SAY_EVERY_SECONDS:
        return
    _said_at = now
    answered = {name: details[name] for name in ("code", "codeName") if name in details} if details else {}
    words = re.split(r"[\"'{\[:]", str(details.get("errmsg", "")))[0].strip()[:100] if details else ""
    log.warning("the database failed", extra={"kind": kind, "reason": words, **answered})


@asynccontextmanager
async def guarded(timeout_seconds: float, *, writing: bool) -> AsyncIterator[None]:
    """Bounds a call and turns the driver's errors into ours. Duplicate keys pass through."""
    try:
        async with asyncio.timeout(timeout_seconds):
            yield
    except (DuplicateKeyError, OrchestratorError):
        raise
    except (InvalidDocument, DocumentTooLarge, BSONError, OverflowError, UnicodeError) as error:
        raise InvalidInput(f"The content cannot be stored: {type(error).__name__}.") from error
    except ServerSelectionTimeoutError as error:
        raise Unavailable("The database cannot be reached; try again soon.", retry_after=1) from error
    except (PyMongoError, TimeoutError, OSError) as error:
        say_why(error.details if isinstance(error, OperationFailure) else None, type(error).__name__)
        if writing:
            raise OutcomeUnknown(
                "The write may or may not have landed; repeat the request with the same key.", retry_after=1
            ) from error
        raise Unavailable("The database did not answer; try again soon.", retry_after=1) from error
