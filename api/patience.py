"""uvicorn's HTTP protocol with an end to patience: the head of a request must come soon, and be of a usual size, and an
answer must be taken in.

Bodies have their limits in `api/limits.py`, WebSockets in `api/websockets.py`.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 15.0
"""From the first byte of a request, or from the connection, until its headers are there."""
HEAD_BYTES = 64 * 2**10
STUCK_SECONDS = 60.0
"""How long a client may take in next to nothing of its answer."""
LEFTOVER_SECONDS = 30.0
"""For what is still to come of a body once the request is answered."""


class PatientProtocol(HttpToolsProtocol):
    """Drops a connection whose next request does not get its headers together, whose last one does not end, or that
    takes in nothing."""

    _stuck: asyncio.TimerHandle | None = None
    _too_late: asyncio.TimerHandle | None = None
    _head = 0
    _unended: asyncio.TimerHandle | None = None
    _under_way = False
    """Whether a request has begun and not all of it is there."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_a_head()

    def on_message_begin(self) -> None:
        self._under_way = True
        super().on_message_begin()
        self._wait_for_a_head()

    def on_message_complete(self) -> None:
        self._under_way = False
        self._stop_waiting_for_the_end()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._under_way and self._too_late is None and self._unended is None:
            self._unended = self.loop.call_later(LEFTOVER_SECONDS, self._drop)

    def data_received(self, data: bytes) -> None:
        if not self._under_way:  # line ends between two requests begin none, and would keep the connection for ever
            self._wait_for_a_head()
        if self._too_late is not None:
            self._head += len(data)
        super().data_received(data)
        if self._too_late is not None and self._head > HEAD_BYTES:
            self._drop()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(STUCK_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        self._takes_in()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._takes_in()
        self._stop_waiting_for_the_end()
        super().connection_lost(exc)

    def _takes_in(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
        self._stuck = None

    def _wait_for_a_head(self) -> None:
        if self._too_late is None:
            self._too_late = self.loop.call_later(HEAD_SECONDS, self._drop)

    def _stop_waiting(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
        self._too_late, self._head = None, 0

    def _stop_waiting_for_the_end(self) -> None:
        if self._unended is not None:
            self._unended.cancel()
        self._unended = None

    def _drop(self) -> None:
        self._stop_waiting()
        self._stop_waiting_for_the_end()
        self.transport.abort()
