"""`serve`: a small supervisor. It imports neither ray nor a database driver; it starts and ends processes.

    embedded database   only without MONGODB_URL     started first, stopped last
    local Ray head      only without RAY_ADDRESS
    front ends          on one inherited socket      stopped first

Each child is restarted alone. SIGUSR1 replaces the front ends, one after another and without closing the socket, by
processes of the code that is installed now. Ctrl-C or SIGTERM ends everything within 10 s: every step has its own
limit, and whatever the children left behind is adopted (PR_SET_CHILD_SUBREAPER) and ended by its pid.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import secrets
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from orchestrator import policies
from orchestrator.errors import Forbidden, InvalidInput, NotFound, Unavailable
from orchestrator.settings import SECRET_BYTES, Settings
from orchestrator.storage.embedded import EmbeddedServer, die_with_parent, free_port

PR_SET_CHILD_SUBREAPER = 36
FRONT_END_STOP_SECONDS = 5.0
RAY_STOP_SECONDS = 3.0
READY_SECONDS = 90.0
DATABASE_PAUSE_SECONDS = 2.0
STABLE_SECONDS = 30.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")
OBJECT_STORE_BYTES = 128 * 2**20
NO_KEY = 3
"""What orchestrator/key_check.py ends with then."""
TARGETS = "prom_metrics_service_discovery.json"
METRICS_INTERVAL = "RAY_metrics_report_interval_ms"

console = Console(highlight=False)


def say(what: str, detail: str) -> None:
    console.print(f"[bold]{what:<12}[/bold] {detail}", soft_wrap=True)


@dataclass
class Child:
    """One supervised process: restarted after a pause that doubles while it keeps failing."""

    name: str
    start: Callable[..., subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause: float = 0.5
    restart_at: float = 0.0
    terminated: bool = False
    kill_at: float = float("inf")

    def ensure(self) -> bool:
        """Start it if it is not running and its pause is over. True if it was (re)started."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is None:
            if now - self.started_at > STABLE_SECONDS:
                self.pause = 0.5
            return False
        if self.process is not None and self.restart_at == 0.0:
            say("restart", f"{self.name} ended with code {self.process.returncode}; again in {self.pause:g} s")
            self.restart_at = now + self.pause
            self.pause = min(self.pause * 2, 10.0)
        if now < self.restart_at:
            return False
        self.process, self.started_at, self.restart_at, self.terminated = self.start(), now, 0.0, False
        return True

    def terminate(self, seconds: float = float("inf")) -> None:
        """Ask it to end, once. `seconds`: after which `has_ended` sees to it."""
        if self.process is not None and self.process.poll() is None and not self.terminated:
            self.terminated = True
            self.kill_at = time.monotonic() + seconds
            self.process.terminate()

    def has_ended(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            return True
        if time.monotonic() >= self.kill_at:
            self.process.kill()
        return False

    def stop(self, seconds: float) -> None:
        """SIGTERM, wait, SIGKILL."""
        process = self.process
        if process is None or process.poll() is not None:
            return
        self.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Successor:
    """A front end that takes another's place once it is ready."""

    child: Child
    process: subprocess.Popen[bytes]
    pipe: int
    """On which it says that it is ready."""
    give_up: float = field(default_factory=lambda: time.monotonic() + READY_SECONDS)

    def is_ready(self) -> bool | None:
        """None: not yet. False: it does not come up."""
        if select.select([self.pipe], [], [], 0)[0]:
            return bool(os.read(self.pipe, 1))  # nothing: it has ended
        return None if time.monotonic() < self.give_up else False


@dataclass
class Supervisor:
    """The processes of one `serve`, in the order in which they depend on each other."""

    settings: Settings
    host: str
    port: int
    workers: int = 1
    insecure: bool = False
    """Whether to listen beyond loopback even if there is no key."""
    stopping: bool = False
    children: list[Child] = field(default_factory=list)
    outdated: list[Child] = field(default_factory=list)
    """Front ends that are to be replaced, one after another."""
    successor: Successor | None = None
    leaving: list[Child] = field(default_factory=list)
    """What has been replaced and finishes its calls."""
    database: EmbeddedServer | None = None
    database_restart_at: float = 0.0
    ray: Child | None = None
    listener: socket.socket | None = None
    dashboard: str | None = None
    targets: Path | None = None
    """The file in which Prometheus finds the local Ray."""
    figures: tempfile.TemporaryDirectory[str] | None = None
    """Where the front ends keep what they count, so that each of them can tell for all."""
    environment: dict[str, str] = field(default_factory=dict)
    """What the children are given beside our own environment: where the database and Ray are."""

    def run(self) -> int:
        """Start everything, watch it, and stop it in order. Returns the exit code."""
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.signal(signal.SIGINT, self._ask_to_stop)
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        signal.signal(signal.SIGUSR1, self._ask_to_replace)
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._check_policy()
            if not self._needs_key:
                self.listener = _listen(self.host, self.port)
            self._start_database()
            if self._needs_key:
                self._require_key()
                self.listener = _listen(self.host, self.port)
            self._start_ray()
            self._say_livekit()
            self._start_front_ends()
            self._write_note()
            self._announce_when_ready()
            self._watch()
            return 0
        except (Forbidden, Unavailable, NotFound, InvalidInput) as error:
            console.print(f"[bold red]error[/bold red]        {error.detail}", soft_wrap=True)
            return 2 if isinstance(error, Forbidden) else 1
        finally:
            self._stop()

    @property
    def data_dir(self) -> Path:
        return self.settings.data_dir.absolute()

    @property
    def url(self) -> str:
        host = "localhost" if self.host in LOOPBACK or self.host in ("0.0.0.0", "::") else self.host  # nosec B104 # to show it
        return f"http://{host}:{self.port}"

    def _ask_to_stop(self, signum: int, frame: object) -> None:
        self.stopping = True

    def _ask_to_replace(self, signum: int, frame: object) -> None:
        self.outdated = list(self.children)

    @property
    def _stop_seconds(self) -> float:
        return FRONT_END_STOP_SECONDS + self.settings.stop_delay_seconds

    @property
    def _needs_key(self) -> bool:
        return self.host not in LOOPBACK and self.settings.api_key is None and not self.insecure

    def _require_key(self) -> None:
        """See that a key was made, before anybody else can reach us. Raises Forbidden or Unavailable."""
        self.environment["INTERVIEW_CLOSED"] = "1"  # nothing is open to everyone, even if the keys should be gone
        command = [sys.executable, "-P", "-m", "orchestrator.key_check"]
        found = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, check=False)
        if found.returncode == NO_KEY:
            raise Forbidden(
                f"There is no staff key, so anyone who reaches {self.host} could do anything. Set INTERVIEW_API_KEY, "
                "or make a key (`parallel-interview keys create`) while the service listens on 127.0.0.1, or give "
                "--insecure."
            )
        if found.returncode != 0:
            raise Unavailable(f"Cannot see whether there is a staff key: {found.stderr.strip()[-300:]}")

    def _check_policy(self) -> None:
        """See that new sessions can have their policy. Raises NotFound or InvalidInput."""
        if self.settings.policies_dir is not None:
            folder = str(self.settings.policies_dir.absolute())
            self.environment[policies.FOLDER] = os.environ[policies.FOLDER] = folder
        policies.policy(self.settings.proctoring_policy)

    def _say_livekit(self) -> None:
        """How interviews will have video, and what is wrong with the settings as far as it can be seen here."""
        if self.settings.livekit_problem is not None:
            say("livekit", f"[bold red]configuration error[/bold red]: {self.settings.livekit_problem}")
        elif self.settings.livekit_url is None:
            say("livekit", "not configured: interviews run without video (LIVEKIT_URL, _API_KEY, _API_SECRET)")
        else:
            say("livekit", self.settings.livekit_url)
        for name in self.settings.weak_secrets:
            say("warning", f"[bold yellow]{name} is shorter than {SECRET_BYTES} bytes[/bold yellow]; it can be guessed")

    def _start_database(self) -> None:
        if self.settings.mongodb_url is not None:
            say("database", "MongoDB at MONGODB_URL")
            return
        if self.settings.ray_address is not None:
            raise Unavailable(
                "RAY_ADDRESS is set but MONGODB_URL is not: actors on that cluster could not reach an embedded "
                "database. Set MONGODB_URL here and where Ray is started."
            )
        self.database = EmbeddedServer(self.data_dir)
        self.database.start()
        self.environment["MONGODB_URL"] = self.database.url
        say("database", f"embedded (nx-27017) at {self.database.url}, files in {self.database.folder}")

    def _start_ray(self) -> None:
        if self.settings.ray_address is not None:
            say("ray", f"joined the cluster at {self.settings.ray_address}")
            return
        port = free_port()
        dashboard = self.settings.dashboard_port if _is_free(self.settings.dashboard_port) else free_port()
        name = f"pi-{hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:10]}"
        temp = _private(Path("/tmp") / name) / "ray"  # nosec B108 # looked at there; sockets need a short path
        self.environment.update(
            RAY_ADDRESS=f"127.0.0.1:{port}",
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN_PATH=str(self._ray_token()),
            RAY_USAGE_STATS_ENABLED="0",
            RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # on every system: keep to loopback, take no other node in
            # Reading the figures of 200 processes stops them all for a moment; once a minute is enough for a dashboard.
            REPORTER_UPDATE_INTERVAL_MS="60000",
            RAY_metric_cardinality_level="low",  # the names of calls have sessions' ids in them
            RAY_metrics_report_interval_ms=os.environ.get(METRICS_INTERVAL, "60000"),
            RAY_task_events_report_interval_ms="3000",
            RAY_event_stats="0",  # counts each turn of each process's loops, an eighth of what an idle actor costs
            RAY_maximum_gcs_destroyed_actor_cached_count="1000",
        )
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        self.targets = temp / TARGETS
        if self.settings.ray_dashboard_url is None:
            self.environment["INTERVIEW_RAY_DASHBOARD_URL"] = self.dashboard
        self.ray = Child("ray", lambda: self._spawn(_ray_command(port, dashboard, temp, self.settings), "ray.log"))
        self.ray.ensure()
        say("ray", f"local, started at 127.0.0.1:{port}")
        say("dashboard", f"{self.dashboard} (token in {self._ray_token()})")

    def _ray_token(self) -> Path:
        path = self.data_dir / "ray-token"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        return path

    def _start_front_ends(self) -> None:
        assert self.listener is not None
        fd = self.listener.fileno()
        os.set_inheritable(fd, True)
        self.figures = tempfile.TemporaryDirectory(prefix="pi-figures-")
        command = [sys.executable, "-P", "-m", "api"]  # -P: whatever lies in the working directory is not ours
        for number in range(self.workers):
            start = functools.partial(self._spawn, command, None, fd)
            self.children.append(Child(f"front end {number + 1}", start))

    def _replace(self) -> None:
        """Replace outdated front ends, one at a time: the older one ends when the newer one is ready, and stays if that
        one does not come up. The socket stays open throughout."""
        self.leaving = [child for child in self.leaving if not child.has_ended()]
        if self.successor is None:
            if self.outdated:
                self.successor = self._start_successor(self.outdated.pop(0))
            return
        ready = self.successor.is_ready()
        if ready is None:
            return
        child, newer = self.successor.child, self.successor.process
        os.close(self.successor.pipe)
        self.successor = None
        if not ready:
            newer.kill()
            self.outdated.clear()
            say("restart", f"a new {child.name} does not come up; the old ones stay")
            return
        older = replace(child, name=f"old {child.name}")
        older.terminate(self._stop_seconds)
        self.leaving.append(older)
        child.process, child.started_at, child.restart_at = newer, time.monotonic(), 0.0
        say("restart", f"{child.name} is replaced" + ("" if self.outdated else "; that was the last"))

    def _give_up_replacing(self) -> None:
        """A successor that belongs to an older Ray takes nobody's place."""
        self.outdated.clear()
        if self.successor is not None:
            self.successor.process.kill()
            os.close(self.successor.pipe)
            self.successor = None

    def _start_successor(self, child: Child) -> Successor:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            return Successor(child, child.start(ready_fd=writing), reading)
        finally:
            os.close(writing)

    def _spawn(
        self, command: list[str], log_name: str | None, socket_fd: int | None = None, ready_fd: int | None = None
    ) -> subprocess.Popen[bytes]:
        given = [fd for fd in (socket_fd, ready_fd) if fd is not None]
        extra: dict[str, str] = {}
        if socket_fd is not None and self.figures is not None:
            extra = _front_end_environment(socket_fd) | {"PROMETHEUS_MULTIPROC_DIR": self.figures.name}
        if ready_fd is not None:
            extra["INTERVIEW_READY_FD"] = str(ready_fd)
        log = open(self.data_dir / log_name, "ab") if log_name else None  # noqa: SIM115 - the child's
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # not a session each: Linux may share time by session, and niceness counts within one
                preexec_fn=die_with_parent,
                pass_fds=given,
                env=os.environ | self.environment | extra,
            )
        finally:
            if log is not None:
                log.close()

    def _watch(self) -> None:
        while not self.stopping:
            self._look()
            time.sleep(0.2)

    def _look(self) -> None:
        """Restart what has ended. New front ends come with a new Ray, since theirs is gone."""
        self._restart_database()
        if self.ray is not None and self.ray.ensure():
            self._give_up_replacing()
            for child in self.children:
                child.stop(1.0)
        self._replace()
        for child in self.children:
            child.ensure()
        _reap(self._own_pids())

    def _restart_database(self) -> None:
        """Start the embedded database again if it has ended; one that does not come up is tried again."""
        if self.database is None or self.database.poll() is None or time.monotonic() < self.database_restart_at:
            return
        say("restart", "the embedded database ended; starting it again")
        try:
            self.database.start()
        except Unavailable as error:
            say("restart", error.detail)
            self.database_restart_at = time.monotonic() + DATABASE_PAUSE_SECONDS

    def _own_pids(self) -> set[int]:
        processes = [c.process for c in (*self.children, *self.leaving, self.ray) if c is not None]
        processes.append(self.successor.process if self.successor is not None else None)
        pids = {p.pid for p in processes if p is not None}
        return pids | ({self.database.pid} if self.database and self.database.pid else set())

    def _announce_when_ready(self) -> None:
        """Wait for the first front end to be ready, then say so; give up when that takes too long."""
        give_up = time.monotonic() + READY_SECONDS
        while not self.stopping and time.monotonic() < give_up:
            self._look()
            if _answers(f"http://127.0.0.1:{self.port}/readyz" if self.host in LOOPBACK else self.url + "/readyz"):
                say("ready", f"{self.url}  (API documentation at {self.url}/docs, Ctrl-C stops everything)")
                return
            time.sleep(0.2)
        if not self.stopping:
            say("waiting", f"the service is not ready after {READY_SECONDS:g} s; {self.url}/readyz says why")

    def _write_note(self) -> None:
        """What tools on this machine need to find the service; readable by its owner only."""
        note = {
            "pid": os.getpid(),
            "url": self.url,
            "dashboard": self.dashboard,
            "prometheus_targets": str(self.targets) if self.targets is not None else None,
            "environment": self.environment,
            "ray_pid": self.ray.process.pid if self.ray and self.ray.process else None,
            "database_pid": self.database.pid if self.database else None,
        }
        descriptor = os.open(self._note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(note, file)

    @property
    def _note(self) -> Path:
        return self.data_dir / "serve.json"

    def _stop(self) -> None:
        if self.children or self.ray or self.database:
            say("stopping", "front ends, then Ray, then the database")
        if self.settings.stop_delay_seconds == 0 and self.listener is not None:
            self.listener.close()  # else callers would wait for an answer until everything has ended
        self._give_up_replacing()
        for child in (*self.children, *self.leaving):
            child.terminate()
        for child in (*self.children, *self.leaving):
            child.stop(self._stop_seconds)
        if self.ray is not None:
            self.ray.stop(RAY_STOP_SECONDS)
            _end_descendants(keep={self.database.pid} if self.database else set())
        if self.database is not None:
            self.database.stop()
        _end_descendants(keep=set())
        if self.listener is not None:
            self.listener.close()
        if self.figures is not None:
            self.figures.cleanup()
        if self.ray is not None or self.database is not None:
            self._note.unlink(missing_ok=True)


def _front_end_environment(socket_fd: int) -> dict[str, str]:
    """Its many threads (Ray's, the driver's) would have a heap each, which would grow for days. One is enough."""
    heap = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"}
    return {name: os.environ.get(name, value) for name, value in heap.items()} | {"INTERVIEW_SOCKET_FD": str(socket_fd)}


def _ray_command(port: int, dashboard: int, temp: Path, settings: Settings) -> list[str]:
    cpus = settings.ray_num_cpus if settings.ray_num_cpus is not None else os.cpu_count() or 1
    memory = max(2**30, int(_available_memory() * 0.8) - OBJECT_STORE_BYTES)
    if settings.ray_memory_mb is not None:
        memory = settings.ray_memory_mb * 2**20
    return [
        str(Path(sys.executable).parent / "ray"),
        *("start", "--head", "--block", "--disable-usage-stats", "--log-style=record"),
        *("--node-ip-address=127.0.0.1", f"--port={port}", f"--ray-client-server-port={free_port()}"),
        f"--dashboard-agent-listen-port={free_port()}",  # Ray's fixed defaults allow one Ray a machine
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--include-dashboard=true"),
        *(f"--num-cpus={cpus:g}", f"--memory={memory}", f"--object-store-memory={OBJECT_STORE_BYTES}"),
        *("--include-log-monitor=false", f"--temp-dir={temp}"),
    ]


def _private(folder: Path) -> Path:
    """A folder that no other user of this machine can look into; Ray's own, within it, is open to all of them.

    Raises Unavailable if another user was there first.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Unavailable(f"{folder} is not ours; remove it, or use another data folder.")
    folder.chmod(0o700)
    return folder


def _available_memory() -> int:
    """Bytes that the machine has to give."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 4 * 2**30


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"Cannot listen on {host} port {port}: {error.strerror}. Stop what uses it, or give --port."
        ) from None
    listener.listen(2048)
    return listener


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.5) as response:  # nosec B310 # our own address
            return response.status == 200
    except OSError:
        return False


def _reap(own: set[int]) -> None:
    """Collect adopted processes that have ended; `own` are those that a Popen object waits for."""
    for pid in _children_of(os.getpid()):
        if pid in own:
            continue
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue


def _children_of(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for child in _children_of(pid):
        found += [child, *_descendants(child)]
    return found


def _end_descendants(keep: set[int | None]) -> None:
    """End every process below this one, by pid, except some; they are ours, since we adopted them."""
    give_up = time.monotonic() + 3.0
    kept = {k for k in keep if k is not None}
    for pid in list(kept):
        kept.update(_descendants(pid))
    while time.monotonic() < give_up:
        left = [pid for pid in _descendants(os.getpid()) if pid not in kept]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in left:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
        time.sleep(0.05)
