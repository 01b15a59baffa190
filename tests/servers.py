"""Real servers for tests: MongoDB-wire servers, `serve` itself, and a proxy that makes faults happen."""

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
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol

import httpx
import pytest

from orchestrator.storage.embedded import EmbeddedServer, die_with_parent, free_port

ROOT = Path(__file__).resolve().parents[1]
BINARIES = Path.home() / ".cache" / "parallel-interview" / "bin"
READY_SECONDS = 120.0
STOP_SECONDS = 20.0


def cannot_run(reason: str, needs: str | None = None) -> NoReturn:
    """Skip and say why; with CI=true fail where the tool that would make it possible exists."""
    if os.environ.get("CI") == "true" and (needs is None or shutil.which(needs)):
        pytest.fail(reason)
    pytest.skip(reason)


class MongoServer(Protocol):
    """A MongoDB-wire server over files that outlive a kill."""

    can_be_killed: bool

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def stop(self) -> None: ...


class Embedded:
    """nx-27017, as `serve` starts it."""

    can_be_killed = True

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedServer(folder)
        self.url = self._server.url

    def start(self) -> None:
        self._server.start()

    def kill(self) -> None:
        assert self._server.pid is not None
        os.kill(self._server.pid, signal.SIGKILL)
        give_up = time.monotonic() + 5
        while self._server.poll() is None and time.monotonic() < give_up:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.stop()


class FerretDB:
    """FerretDB over SQLite files."""

    can_be_killed = True

    def __init__(self, folder: Path) -> None:
        found = shutil.which("ferretdb", path=os.pathsep.join((str(BINARIES), os.environ.get("PATH", ""))))
        if found is None:
            cannot_run("ferretdb is not here; .ci/build-servers builds it", needs="go")
        self._binary = found
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"mongodb://127.0.0.1:{self._port}/"

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / "ferretdb.log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binary,
                    *("--handler=sqlite", f"--sqlite-url=file:{self._folder}/", f"--state-dir={self._folder}"),
                    *(f"--listen-addr=127.0.0.1:{self._port}", "--telemetry=disable", "--debug-addr=-"),
                ],
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        wait_for_port(self._port, 15)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()


class External:
    """A MongoDB that somebody else runs, at TEST_MONGODB_URL."""

    can_be_killed = False

    def __init__(self) -> None:
        url = os.environ.get("TEST_MONGODB_URL")
        if not url:
            pytest.skip("TEST_MONGODB_URL is not set")
        self.url = url

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def stop(self) -> None: ...


MONGO_SERVERS = ("embedded", "ferretdb", "mongodb")


def mongo_server(kind: str, folder: Path) -> MongoServer:
    """One of MONGO_SERVERS, not yet started; skips the test where there is none."""
    if kind == "embedded":
        return Embedded(folder)
    return FerretDB(folder) if kind == "ferretdb" else External()


class Proxy:
    """A TCP proxy on loopback in front of one server, with faults to switch on.

    `swallow_replies`: requests reach the server, its answers go nowhere.
    `hold_requests`: requests wait here, and reach the server after `release`, even if the client has left.
    """

    def __init__(self, target: str) -> None:
        self._target = int(target.rsplit(":", 1)[1].split("/")[0])
        self.swallow_replies = False
        self._go = asyncio.Event()
        self._go.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"mongodb://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/?directConnection=true"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold_requests(self) -> None:
        self._go.clear()

    def release(self) -> None:
        self._go.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError):
            up, down = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(self._requests(reader, down), self._replies(up, writer))
        self._tasks.discard(task)

    async def _requests(self, reader: asyncio.StreamReader, down: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._go.wait()
                down.write(data)
                await down.drain()
            await self._go.wait()
        down.close()

    async def _replies(self, up: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await up.read(65536):
                if not self.swallow_replies:
                    writer.write(data)
                    await writer.drain()
        writer.close()


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(url)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


class Serve:
    """A `parallel-interview serve` in a process of its own, on a free port, with its own data folder."""

    def __init__(self, folder: Path, port: int | None = None, **settings: str) -> None:
        self.data_dir = folder / "data"
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/api/parallel_interview"
        self._folder = folder
        self._settings = settings
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self._folder / "serve.log").read_text(errors="replace")

    @property
    def note(self) -> dict[str, Any]:
        """What serve wrote down for tools: pids, and the environment of its children."""
        return json.loads((self.data_dir / "serve.json").read_text())

    def environment(self) -> dict[str, str]:
        """Ours, without anything that would point the service at other servers or ask for a key."""
        ours = ("INTERVIEW_", "MONGODB_", "LIVEKIT_", "RAY_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return inherited | {
            "INTERVIEW_DATA_DIR": str(self.data_dir),
            "INTERVIEW_DASHBOARD_PORT": str(free_port()),
            **self._settings,
        }

    def spawn(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the process and return at once."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [str(Path(sys.executable).parent / "parallel-interview"), "serve", "--port", str(self.port), *options]
        with open(self._folder / "serve.log", "ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self.process

    def start(self, *options: str) -> None:
        """Start it and wait until it is ready, warm pool included."""
        self.spawn(*options)
        self.wait_ready()

    def wait_ready(self) -> None:
        assert self.process is not None
        give_up = time.monotonic() + READY_SECONDS
        while time.monotonic() < give_up and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=5).is_success:
                    return
            time.sleep(0.2)
        state = "ended" if self.process.poll() is not None else f"was not ready after {READY_SECONDS:.0f} s"
        pytest.fail(f"serve {state}:\n{self.log[-4000:]}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> float:
        """End it as Ctrl-C does. Returns the seconds it took."""
        assert self.process is not None
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return time.monotonic() - began


@contextlib.contextmanager
def serving(folder: Path, port: int | None = None, **settings: str) -> Iterator[Serve]:
    """A service that is ready, ended at the end."""
    service = Serve(folder, port, **settings)
    try:
        service.start()
        yield service
    finally:
        if service.process is not None:
            service.stop()


def wait_for_port(port: int, seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"nothing listens on port {port} after {seconds:g} s")


def descendants(pid: int) -> list[int]:
    """The pids of every process below one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def command_of(pid: int) -> str:
    """The command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


class Redis:
    """Debian's redis-server with a password, over a folder: what it has acknowledged outlives it."""

    password = "of-a-test"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"127.0.0.1:{self._port}"

    def start(self) -> None:
        if shutil.which("redis-server") is None:
            cannot_run("redis-server is not here; Debian has it", needs="redis-server")
        self._folder.mkdir(parents=True, exist_ok=True)
        options = {
            "port": str(self._port),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "requirepass": self.password,
            "appendonly": "yes",
            "appendfsync": "always",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with open(self._folder / "redis.log", "ab") as log:
            self._process = subprocess.Popen(
                ["redis-server", *words], stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        wait_for_port(self._port, 15)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
