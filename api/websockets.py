"""uvicorn's WebSocket protocol with ends that are told apart, and that come to an end.

The application learns whether a connection was lost (1006) or gave no answer to pings (1011), and one that takes
nothing in is dropped after a while, where its last bytes would else be kept until TCP gives up.
"""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from actors.channels import ANSWER_SECONDS, HEARTBEAT_SECONDS

LOST, NO_ANSWER = 1006, 1011
ABORT_SECONDS = 5.0
LATE_SECONDS = 1.0
UNREAD_BYTES = 2**18
MESSAGE_BYTES = 2**20
"""A larger message ends its connection; one that is only too large for us gets an error."""

OPTIONS = {
    "ws_max_size": MESSAGE_BYTES,
    "ws_ping_interval": HEARTBEAT_SECONDS,
    "ws_ping_timeout": ANSWER_SECONDS,
    "ws_per_message_deflate": False,  # it keeps a dictionary for every connection
}


class LiveProtocol(WebSocketsSansIOProtocol):
    def connection_lost(self, exc: Exception | None) -> None:
        if self.handshake_complete:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": LOST})
        super().connection_lost(exc)

    def handle_ping(self) -> None:
        if self.transport.get_write_buffer_size() > UNREAD_BYTES:
            self.transport.abort()  # it asks for answers that it does not take in
            return
        super().handle_ping()

    def keepalive_timeout(self) -> None:
        late = self.loop.time() - self.ping_sent_at - ANSWER_SECONDS
        if late > LATE_SECONDS or self.read_paused:
            # We were not there to read: an answer may be waiting. On a busy machine all would be dropped at once.
            self.ping_sent_at = self.loop.time()
            self.pong_timer = self.loop.call_later(ANSWER_SECONDS, self.keepalive_timeout)
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": NO_ANSWER})
        super().keepalive_timeout()
        self._drop_soon()

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self._drop_soon()

    def _drop_soon(self) -> None:
        if not self.disconnected:
            self.loop.call_later(ABORT_SECONDS, self.transport.abort)
