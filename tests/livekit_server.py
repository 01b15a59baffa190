"""A real livekit-server for tests, an endpoint that takes its webhooks, and guests of its rooms."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from livekit import api
from livekit.protocol.webhook import WebhookEvent

from orchestrator.storage.embedded import die_with_parent, free_port
from tests.servers import BINARIES, ROOT, cannot_run, wait_for_port

KEY = "testkey"
SECRET = "a-secret-of-tests-that-is-long-enough-to-sign"
LOOPBACK = "127.0.0.1"
START_SECONDS = 15.0
STOP_SECONDS = 8.0
LEAVE_SECONDS = 10.0


class LiveKitServer:
    """One livekit-server on loopback, and on `bind` if that is another address. Its ports outlive restarts.

    Guests are told `node_ip` as the place to send media to; `guest_url` is the same server at that address.
    Without a `webhook_url` it sends no webhooks. Change `webhook_url` or `config` before start, and they hold.
    """

    def __init__(
        self,
        folder: Path,
        webhook_url: str | None = None,
        *,
        auto_create: bool = True,
        key: str = KEY,
        secret: str = SECRET,
        node_ip: str = LOOPBACK,
        bind: str = LOOPBACK,
    ) -> None:
        found = shutil.which("livekit-server", path=os.pathsep.join((str(BINARIES), os.environ.get("PATH", ""))))
        if found is None:
            cannot_run("livekit-server is not here; .ci/build-servers builds it", needs="go")
        self._binary = found
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.webhook_url = webhook_url
        self.key = key
        self.secret = secret
        self.url = f"ws://{LOOPBACK}:{self._port}"
        self.http_url = f"http://{LOOPBACK}:{self._port}"
        self.guest_url = f"ws://{node_ip}:{self._port}"
        self.log_file = folder / "livekit-server.log"
        self.config: dict[str, Any] = {
            "port": self._port,
            "bind_addresses": sorted({LOOPBACK, bind}),
            "rtc": {
                "tcp_port": free_port(),
                "udp_port": _free_udp_port(),
                "use_external_ip": False,
                "node_ip": node_ip,
                "enable_loopback_candidate": bind == LOOPBACK,
                "ips": {"includes": [f"{bind}/32"]},
            },
            "keys": {key: secret},
            "room": {"auto_create": auto_create},
            "logging": {"level": "info", "json": True},
        }

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def api(self) -> api.LiveKitAPI:
        """A client of the server's API, to be used as an async context manager."""
        return api.LiveKitAPI(self.http_url, self.key, self.secret)

    def token(self, room: str, identity: str, **grants: Any) -> str:
        """A guest's token for one room; `grants` are further fields of VideoGrants."""
        granted = api.VideoGrants(room_join=True, room=room, **grants)
        return api.AccessToken(self.key, self.secret).with_identity(identity).with_grants(granted).to_jwt()

    def start(self) -> None:
        """Start the process and wait until it takes connections."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = dict(self.config)
        if self.webhook_url is not None:
            config["webhook"] = {"api_key": self.key, "urls": [self.webhook_url]} | config.get("webhook", {})
        file = self._folder / "livekit-server.yaml"
        file.write_text(json.dumps(config, indent=2))  # JSON is YAML too
        with open(self.log_file, "ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "--config", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        wait_for_port(self._port, START_SECONDS)

    def terminate(self) -> None:
        """Ask it to end, once. It ends when the last guest has left."""
        assert self._process is not None
        self._process.terminate()

    def wait(self, seconds: float) -> int | None:
        """Wait until it has ended; its exit code, or None if it still runs."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """End it, guests or not: asked twice, it waits for no guest."""
        if self._process is None or self._process.poll() is not None:
            return
        self.go_on()
        for _ in range(2):
            self._process.terminate()
            if self.wait(0.5) is not None:
                return
        if self.wait(STOP_SECONDS) is None:
            self.kill()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(which)


@contextmanager
def livekit_server(folder: Path, webhook_url: str | None = None, **options: Any) -> Iterator[LiveKitServer]:
    """A server that runs, stopped at the end."""
    server = LiveKitServer(folder, webhook_url, **options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@dataclass(frozen=True)
class Webhook:
    """One webhook as it came in."""

    at: float  # by time.monotonic()
    event: WebhookEvent
    answered: int

    @property
    def name(self) -> str:
        return self.event.event

    @property
    def identity(self) -> str:
        return self.event.participant.identity

    @property
    def reason(self) -> str:
        """Why the participant has gone, by name."""
        return api.DisconnectReason.Name(self.event.participant.disconnect_reason)


class Webhooks:
    """Takes webhooks on loopback, checks their signatures and keeps them. `answer` is the status it gives."""

    def __init__(self, key: str = KEY, secret: str = SECRET) -> None:
        self._receiver = api.WebhookReceiver(api.TokenVerifier(key, secret))
        self._port = free_port()
        self._runner: web.AppRunner | None = None
        self.url = f"http://{LOOPBACK}:{self._port}/webhook"
        self.answer = 200
        self.received: list[Webhook] = []
        self.refused: list[str] = []

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/webhook", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self._port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def wait_for(self, name: str, identity: str | None = None, seconds: float = 10.0, skip: int = 0) -> Webhook:
        """The first webhook of that name, and about that participant if given, after the first `skip` of all."""
        give_up = time.monotonic() + seconds
        while True:
            for webhook in self.received[skip:]:
                if webhook.name == name and identity in (None, webhook.identity):
                    return webhook
            seen = [(webhook.name, webhook.identity) for webhook in self.received]
            assert time.monotonic() < give_up, f"no {name} within {seconds:g} s, but {seen}"
            await asyncio.sleep(0.02)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.text()
        try:
            event = self._receiver.receive(body, request.headers.get("Authorization", ""))
        except Exception as error:
            self.refused.append(repr(error))
            return web.Response(status=401)
        self.received.append(Webhook(time.monotonic(), event, self.answer))
        return web.Response(status=self.answer)


@asynccontextmanager
async def webhooks(key: str = KEY, secret: str = SECRET) -> AsyncIterator[Webhooks]:
    """An endpoint that takes webhooks, closed at the end."""
    endpoint = Webhooks(key, secret)
    await endpoint.start()
    try:
        yield endpoint
    finally:
        await endpoint.stop()


class Guest:
    """tests.livekit_guest in a process of its own, in the network namespace `namespace` if given.

    `events` is what it has printed so far. Each has `event`, `at`, by time.monotonic() as all processes here see
    it, and more.
    """

    def __init__(self, url: str, token: str, *, camera: bool = False, namespace: str | None = None) -> None:
        within = ["ip", "netns", "exec", namespace] if namespace else []
        options = ["--camera"] if camera else []
        self._command = [*within, sys.executable, "-m", "tests.livekit_guest", url, token, *options]
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self.events: list[dict[str, Any]] = []

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process is not None and self._process.returncode is not None

    async def start(self) -> None:
        """Start the process and return at once."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        self._reader = asyncio.create_task(self._read())

    async def connected(self, timeout: float = 15.0) -> str:
        """Wait until the guest is in the room; the participant sid it joined under."""
        return (await self.event("connected", timeout))["sid"]

    async def event(self, name: str, timeout: float = 15.0, skip: int = 0) -> dict[str, Any]:
        """Wait for an event of that name after the first `skip` events."""
        give_up = time.monotonic() + timeout
        while True:
            for event in self.events[skip:]:
                if event["event"] == name:
                    return event
            over = self._reader is not None and self._reader.done()
            assert not over, f"the guest has ended without {name!r}: {self.events}"
            assert time.monotonic() < give_up, f"no {name!r} within {timeout:g} s: {self.events}"
            await asyncio.sleep(0.02)

    async def leave(self, timeout: float = LEAVE_SECONDS) -> None:
        """Leave the room as one who closes the page does, and end."""
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(b"leave\n")
            await self._process.stdin.drain()
        await self.ended(timeout)

    async def ended(self, timeout: float = LEAVE_SECONDS) -> int:
        """Wait until the process has ended and its events are all read; its exit code."""
        assert self._process is not None and self._reader is not None
        code = await asyncio.wait_for(self._process.wait(), timeout)
        await asyncio.wait_for(self._reader, timeout)
        return code

    async def kill(self) -> None:
        """End the process with no goodbye."""
        self._signal(signal.SIGKILL)
        await self.ended()

    def pause(self) -> None:
        """Stop it in its tracks; its connections stay open."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(which)

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        async for line in self._process.stdout:
            self.events.append(json.loads(line))


@asynccontextmanager
async def guest(url: str, token: str, **options: Any) -> AsyncIterator[Guest]:
    """A guest that is in the room, killed at the end if it is still there."""
    one = Guest(url, token, **options)
    await one.start()
    try:
        await one.connected()
        yield one
    finally:
        if not one.has_ended:
            await one.kill()


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]
