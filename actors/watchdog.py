"""Watchdog: restarts system actors that are hung. One that has died is restarted by Ray itself.

The Housekeeper watches the Registry and the nodes' JournalActors; the Registry watches the Housekeeper.
"""

from __future__ import annotations

import logging
from typing import Any

from actors import cluster
from orchestrator.errors import Retryable

log = logging.getLogger(__name__)

PING_SECONDS = 1.5
STRIKES = 2
START_SECONDS = 45.0
"""One that has not answered since it was (re)started may still be starting."""


class Watchdog:
    """Counts the pings in a row that an actor did not answer."""

    def __init__(self) -> None:
        self._silent: dict[str, int] = {}
        self._answered: set[str] = set()

    async def look(self, name: str, handle: Any) -> bool:
        """Ping a system actor; after two pings without an answer, end its process, so that Ray starts another.

        Whether it has answered.
        """
        answered = False
        try:
            await cluster.call(handle, "ping", timeout=PING_SECONDS)
        except cluster.ActorAway:
            self._forget(name)
        except cluster.ActorSilent:
            self._silent[name] = self._silent.get(name, 0) + 1
        except Retryable:
            self._forget(name)
        else:
            answered = True
            self._silent.pop(name, None)
            self._answered.add(name)
        strikes = STRIKES if name in self._answered else START_SECONDS / PING_SECONDS
        if self._silent.get(name, 0) >= strikes:
            log.warning("system actor hung", extra={"actor": name})
            self._forget(name)
            cluster.restart(handle)
        return answered

    def _forget(self, name: str) -> None:
        self._silent.pop(name, None)
        self._answered.discard(name)
