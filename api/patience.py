"""uvicorn's HTTP protocol with an end to patience: the head of a request must come soon, and be of a usual size.

Bodies have their limits in `api/limits.py`, WebSockets in `api/websockets.py`.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 15.0
"""From the first byte of a request, or from the connection, until its headers are there."""
HEAD_BYTES = 64 * 2**10


class PatientProtocol(HttpToolsProtocol):
    """Drops a connection whose next request does not get its headers together."""

    _too_late: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_a_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait_for_a_head()

    def data_received(self, data: bytes) -> None:
        if self._too_late is not None:
            self._head += len(data)
        super().data_received(data)
        if self._too_late is not None and self._head > HEAD_BYTES:
            self._drop()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_a_head(self) -> None:
        if self._too_late is None:
            self._too_late = self.loop.call_later(HEAD_SECONDS, self._drop)

    def _stop_waiting(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
        self._too_late, self._head = None, 0

    def _drop(self) -> None:
        self._stop_waiting()
        self.transport.abort()
